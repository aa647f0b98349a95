"""Dead letters over HTTP: listed, looked up, replayed through the engine, dropped; never lost and never doubled."""

import base64
import threading
from datetime import timedelta

import pytest

import penstock
from penstock.app.runtime import audit_log_of
from penstock.core.errors import InputError, NotFoundError
from tests.unit.serving.shop import payments

GOOD = payments()[0]
NO_AMOUNT = {name: value for name, value in GOOD.items() if name != "amount"}


def refuse(client, *events):
    """The numbers of the letters that these events become."""
    answers = client.ingest("payments", list(events))
    assert {one["status"] for one in answers} == {"rejected"}
    return [one["id"] for one in client.dead_letters(limit=len(events))["items"]][::-1]


def test_listed_newest_first_with_filters_and_counts(asking):
    page = asking.dead_letters()
    assert [one["reason"] for one in page["items"]] == ["missing_field", "wrong_type"]
    assert page["counts"] == [
        {"source": "payments", "reason": "missing_field", "count": 1},
        {"source": "payments", "reason": "wrong_type", "count": 1},
    ]
    (one,) = asking.dead_letters(reason="wrong_type")["items"]
    assert one["excerpt"] == '{"payment_id": "bad", "card_id": 7}'
    assert one["size"] == len(one["excerpt"])
    assert asking.dead_letters(source="chargebacks")["items"] == []


def test_pages(asking):
    first = asking.dead_letters(limit=1)
    second = asking.dead_letters(limit=1, cursor=first["next"])
    assert [p["items"][0]["reason"] for p in (first, second)] == ["missing_field", "wrong_type"]
    assert asking.dead_letters(limit=1, cursor=second["next"])["items"] == []


def test_bytes_that_are_no_text_come_whole(client):
    raw = b'{"payment_id": "\xff\x00", "x": "<script>alert(1)</script>"}'
    client.ingest("payments", raw)
    (row,) = client.dead_letters()["items"]
    one = client.dead_letter(row["id"])
    assert base64.b64decode(one["base64"]) == raw
    assert one["text"].startswith('{"payment_id": "\\xff')
    assert one["reason"] == "invalid_unicode"


def test_a_corrected_letter_is_decided_and_gone(client, served):
    (letter,) = refuse(client, NO_AMOUNT)
    done = client.replay_dead_letter(
        letter, corrected={**NO_AMOUNT, "amount": 9.5}, reason="the shop forgot it"
    )
    assert done["removed"]
    assert done["answer"]["status"] == "scored"
    assert client.event("payments", GOOD["payment_id"])["event"]["amount"] == 9.5
    assert client.dead_letters()["items"] == []
    (row,) = audit_log_of(served.platform.root).rows(action="dead_letters.replay")
    assert (row.actor, row.reason, row.subject) == ("local", "the shop forgot it", "payments")
    assert row.values()["letters"] == {"payments": [letter]}
    assert len(row.values()["corrected_sha256"]) == 64
    counters = served.runtime.store.counters()
    assert (counters["received"], counters["scored"], counters["rejected"]) == (2, 1, 1)


def test_a_letter_that_is_refused_again_stays_and_makes_no_other(client):
    (letter,) = refuse(client, NO_AMOUNT)
    before = client.dead_letter(letter)
    done = client.replay_dead_letter(letter, reason="perhaps now")
    assert not done["removed"]
    assert done["answer"]["reason"] == "missing_field"
    done = client.replay_dead_letter(letter, corrected="{", reason="wrong correction")
    assert done["answer"]["reason"] == "malformed_json"
    assert client.dead_letters()["items"] == [{k: before[k] for k in client.dead_letters()["items"][0]}]


def test_several_at_once_each_with_its_answer(client, served):
    future = {**GOOD, "payment_id": "f", "paid_at": "2031-01-01T00:00:00Z"}
    letters = refuse(client, NO_AMOUNT, future, {**GOOD, "amount": "x"})
    reasons = {letter: client.dead_letter(letter)["reason"] for letter in letters}
    served.runtime.clock.advance(timedelta(days=3650))
    try:
        done = client.replay_dead_letters(letters, reason="the clock was wrong")["results"]
    finally:
        served.runtime.clock.advance(timedelta(days=-3650))
    assert [one["id"] for one in done] == letters
    assert {reasons[one["id"]]: one["removed"] for one in done} == {
        "missing_field": False,
        "in_future": True,
        "wrong_type": False,
    }
    assert {one["reason"] for one in client.dead_letters()["items"]} == {"missing_field", "wrong_type"}


def test_of_labels_too(client):
    client.score("checkout", GOOD)
    label = {"payment_id": GOOD["payment_id"], "is_fraud": "yes", "reported_at": "2025-03-04T00:00:00Z"}
    client.ingest("chargebacks", [label])
    (letter,) = client.dead_letters(source="chargebacks")["items"]
    done = client.replay_dead_letter(letter["id"], corrected={**label, "is_fraud": True}, reason="a text")
    assert done["removed"]
    assert [one["value"] for one in client.event("payments", GOOD["payment_id"])["labels"]] == [1.0]


def test_a_replay_of_what_was_accepted_meanwhile_is_a_duplicate_and_gone(client):
    (letter,) = refuse(client, NO_AMOUNT)
    client.score("checkout", GOOD)
    done = client.replay_dead_letter(letter, corrected=GOOD, reason="mended by both")
    assert done["answer"]["status"] == "duplicate"
    assert done["removed"]


def test_two_who_replay_one_letter_decide_once(client, served):
    (letter,) = refuse(client, NO_AMOUNT)
    found = []

    def ask():
        with penstock.Client(served.url) as other:
            try:
                found.append(
                    other.replay_dead_letter(letter, corrected=GOOD, reason="both")["answer"]["status"]
                )
            except NotFoundError:
                found.append("gone")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count("scored") == 1
    assert set(found) <= {"scored", "duplicate", "gone"}
    assert served.runtime.store.dead_letter_count() == 0


def test_one_whose_bytes_were_cut_off_needs_a_correction(client):
    (letter,) = refuse(client, {**GOOD, "more": "x" * (1 << 20)})
    with pytest.raises(InputError, match="only its beginning was kept"):
        client.replay_dead_letter(letter, reason="again")
    assert client.replay_dead_letter(letter, corrected=GOOD, reason="without more")["removed"]


def test_dropped(client, served):
    letters = refuse(client, NO_AMOUNT, NO_AMOUNT, NO_AMOUNT)
    assert client.drop_dead_letters(letters[:2], reason="tests") == {"dropped": 2}
    assert client.delete(f"/v1/dead-letters/{letters[2]}", reason="tests") == {"dropped": 1}
    assert client.dead_letters()["items"] == []
    rows = audit_log_of(served.platform.root).rows(action="dead_letters.drop")
    assert [row.values()["letters"]["payments"] for row in rows] == [letters[:2], letters[2:]]
    assert served.runtime.store.dead_letter_count() == 0


def test_a_letter_that_is_not_there(client):
    for ask in (
        lambda: client.dead_letter(99),
        lambda: client.replay_dead_letter(99, reason="x"),
        lambda: client.drop_dead_letters([99], reason="x"),
    ):
        with pytest.raises(NotFoundError, match="dead letter 99 does not exist"):
            ask()


@pytest.mark.parametrize("reason", ["", "   ", "x" * 2000])
def test_a_reason_is_needed(client, reason):
    with pytest.raises(InputError, match="reason"):
        client.replay_dead_letter(1, reason=reason)
    with pytest.raises(InputError, match="reason"):
        client.delete("/v1/dead-letters/1", reason=reason)


@pytest.mark.parametrize("letter", ["x", "-1", "0", str(1 << 63), "1.5", "%00"])
def test_a_number_that_is_none_is_refused(client, letter):
    with pytest.raises((InputError, NotFoundError)):
        client.get(f"/v1/dead-letters/{letter}")
