"""Dead letters over HTTP: listed, looked up, replayed through the engine, dropped; never lost and never doubled."""

import base64
import threading
import time
from datetime import timedelta

import httpx
import pytest

import penstock
from penstock.app.api_keys import create_key
from penstock.app.runtime import audit_log_of
from penstock.core.errors import InputError, NotFoundError, OverloadError
from penstock.testing.serving import serving_project
from tests.unit.serving.shop import CLOCK, payments

GOOD = payments()[0]
NO_AMOUNT = {name: value for name, value in GOOD.items() if name != "amount"}


WITHOUT_IDS = """
from datetime import timedelta
from penstock import Aggregate, Entity, FeatureService, PushConfig, StreamFeatureView, StreamSource
from penstock.types import Field, Float64, String, Timestamp

card, amount = Entity("card", join_keys=[Field("card_id", String)]), Field("amount", Float64)
payments = StreamSource(
    "payments", PushConfig(), schema=[Field("card_id", String), Field("paid_at", Timestamp), amount]
)
spending = StreamFeatureView(
    "spending", source=payments, entities=[card], features=[Aggregate(amount, "sum", time_window=timedelta(hours=1))]
)
service = FeatureService("service", features=[spending])
"""


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


def test_two_who_replay_a_letter_without_an_id_store_it_once(tmp_path, monkeypatch):
    """The engine is held up until both wait, so that they come in one micro-batch; then one after another."""
    (tmp_path / "penstock.toml").write_text("[engine]\ndurability = 'process'\n")
    (tmp_path / "definitions.py").write_text(WITHOUT_IDS)
    with serving_project(tmp_path, clock=CLOCK) as served, penstock.Client(served.url) as client:
        letters = refuse(client, NO_AMOUNT, NO_AMOUNT)
        turn, serve = threading.Event(), served.platform.answering.serve
        monkeypatch.setattr(served.platform.answering, "serve", lambda note: turn.is_set() and serve(note))
        found = []

        def ask(letter):
            with penstock.Client(served.url, retries=False) as other:
                try:
                    found.append(
                        other.replay_dead_letter(letter, corrected=GOOD, reason="x")["answer"]["status"]
                    )
                except NotFoundError:
                    found.append("gone")

        threads = [threading.Thread(target=ask, args=(letters[0],)) for _ in range(4)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 10
        while len(served.platform.queue) < 4 and time.monotonic() < until:
            time.sleep(0.01)
        turn.set()
        for thread in threads:
            thread.join()
        assert sorted(found) == ["gone", "gone", "gone", "logged"]
        assert served.runtime.store.next_position == 1
        assert [one["id"] for one in client.dead_letters()["items"]] == letters[1:]


def test_of_letters_of_several_sources_what_could_not_be_asked_is_told(client, served, monkeypatch):
    (one,) = refuse(client, {**GOOD, "amount": "x"})
    client.ingest("chargebacks", [{"payment_id": "p"}])
    other = client.dead_letters(source="chargebacks")["items"][0]["id"]
    ask, full = served.platform.asker.ask, {"chargebacks"}

    async def asked(source, *arguments, **options):
        if source in full:
            raise OverloadError("20000 events wait", retry_after_s=1.0)
        return await ask(source, *arguments, **options)

    monkeypatch.setattr(served.platform.asker, "ask", asked)
    done = client.replay_dead_letters([other, one], reason="again")["results"]
    assert [(row["id"], row["removed"], row["answer"]["reason"]) for row in done] == [
        (other, False, "overloaded"),
        (one, False, "wrong_type"),
    ]
    full.add("payments")
    with penstock.Client(served.url, retries=False) as once, pytest.raises(OverloadError):
        once.replay_dead_letters([other, one], reason="again")


def test_a_card_number_in_a_reason_is_masked(client, served):
    letters = refuse(client, NO_AMOUNT, NO_AMOUNT)
    client.drop_dead_letters(letters[:1], reason="of the card 4111 1111 1111 1111, by mistake")
    client.delete(f"/v1/dead-letters/{letters[1]}", reason="4111111111111111")
    rows = audit_log_of(served.platform.root).rows(action="dead_letters.drop")
    assert [row.reason for row in rows] == [
        "of the card **** **** **** 1111, by mistake",
        "************1111",
    ]


def test_who_acts_may_say_so_as_long_as_there_are_no_keys(client, served):
    (letter,) = refuse(client, NO_AMOUNT)
    with penstock.Client(served.url, actor="Ané B.") as named:
        named.drop_dead_letters([letter], reason="a test")
    (row,) = audit_log_of(served.platform.root).rows(action="dead_letters.drop")
    assert row.actor == "Ané B."
    (letter,) = refuse(client, NO_AMOUNT)
    _, key = create_key(
        served.platform.root, "shop", ["admin"], actor="ann", reason="x", clock=served.runtime.clock
    )
    until = time.monotonic() + 5  # keys are looked for twice a second
    while httpx.get(f"{served.url}/v1/version").status_code == 200:
        assert time.monotonic() < until
        time.sleep(0.05)
    with (
        penstock.Client(served.url, key=key, actor="somebody else") as named,
        pytest.raises(InputError, match="the key does, too"),
    ):
        named.drop_dead_letters([letter], reason="a test")
