"""Lists with given members in a backtest: what a new list would have decided, whether it is in force or not."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from penstock.app import Runtime
from penstock.app.backtesting import Asked, backtest
from penstock.app.key_lists import Wanted
from penstock.app.list_changes import change
from penstock.app.runtime import audit_log_of, card_tokens_of, open_reader
from penstock.cli.main import app
from penstock.core.errors import DefinitionError, InputError
from penstock.core.time import to_us
from penstock.testing.clock import ManualClock

EXAMPLE = Path("examples/fraud/rules_project")
START = datetime(2026, 3, 2, 10, tzinfo=UTC)
CLOCK = ManualClock(to_us(START + timedelta(days=30)))
NUMBER = "4539578763621486"
STRICTER = """
stricter = Policy("stricter", actions={"block": 0.9}, rules=[Rule("blocked card", when=blocked_cards, action="block")])
"""


def payment(i, card="c1"):
    at = START + timedelta(hours=i)
    return {"payment_id": f"p{i}", "card_id": card, "email": "a@x.org", "paid_at": at, "amount": 10.0}


def project_in(folder, *, listed):
    """Payments of c1 at hours 0 to 9, and of c2 at 10 to 19; `listed`: whether the policy in force names the list of blocked cards."""
    root = shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".penstock", "__pycache__"))
    text = (root / "definitions.py").read_text()
    if not listed:
        text = text.replace('        Rule("blocked card", when=blocked_cards, action="block"),\n', "")
    (root / "definitions.py").write_text(text + STRICTER)
    (root / "penstock.toml").write_text(
        '[project]\ndefinitions = ["definitions.py"]\n[engine]\ndurability = "process"\n'
    )
    with Runtime.open(root, clock=CLOCK) as runtime:
        runtime.ingest("payments", [payment(i) for i in range(7)])
        runtime.ingest("payments", [payment(i, "c1" if i < 10 else "c2") for i in range(7, 20)])
    return root


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    return project_in(tmp_path_factory.mktemp("tried") / "rules", listed=False)


@pytest.fixture
def root(tmp_path):
    return project_in(tmp_path / "rules", listed=True)


def members(folder, text, name="stolen.csv"):
    (folder / name).write_text(text)
    return folder / name


def tried(root, file, policy="stricter", **asked):
    found = backtest(root, "checkout", Asked(policy=policy, lists={"blocked_cards": file}, **asked))
    return found, found.sides[1].actions


def test_a_policy_whose_list_is_not_in_force_is_tried_with_given_members(without, tmp_path):
    found, actions = tried(without, members(tmp_path, "card_id\nc1\n"))
    assert actions == {"approve": 10, "block": 10}
    assert found.sides[0].actions == {"approve": 20}
    assert not found.recomputed  # the logged rows have all other features
    assert [one.to_dict() for one in found.lists] == [
        {"name": "blocked_cards", "members": "stolen.csv", "keys": 1, "dated": False, "events": 10}
    ]
    with open_reader(without) as store:
        assert store.next_position == 20  # nothing was written


def test_members_count_from_changed_at_until_they_expire_or_are_removed(without, tmp_path):
    def at(hours):
        return (START + timedelta(hours=hours)).isoformat()

    text = (
        "changed_at,card_id,listed,expires_at\n"
        f"{at(5)},c1,false,\n"  # the file need not be in the order of times
        f"{at(2)},c1,,\n"
        f"{at(8)},c1,true,{at(9)}\n"
        f"{at(12)},c2,,{at(14)}\n"
    )
    found, actions = tried(without, members(tmp_path, text))
    assert actions["block"] == 3 + 1 + 2  # hours 2, 3, 4; 8; 12, 13
    assert found.lists[0].dated


def test_a_list_in_force_gets_other_members(root, tmp_path):
    with Runtime.open(root, clock=CLOCK) as runtime:
        log = audit_log_of(root)
        change(runtime, "blocked_cards", [Wanted({"card_id": "c1"})], actor="a", reason="r", log=log)
        runtime.ingest("payments", [payment(20), payment(21, "c2")])
    _, actions = tried(root, members(tmp_path, "c2\n", "keys.txt"), policy=None)
    assert actions == {"approve": 11, "block": 11}
    assert backtest(root, "checkout", Asked()).sides[1].actions == {"approve": 21, "block": 1}


def test_another_lists_members_are_those_before_the_period(root):
    text = (root / "definitions.py").read_text()
    new = 'suspects = KeyList("suspects", card, card_numbers="tokenise")\n' + STRICTER.replace(
        "stricter", "new"
    ).replace("blocked_cards", "suspects")
    (root / "definitions.py").write_text(text + new)
    with Runtime.open(root, clock=CLOCK) as runtime:
        log = audit_log_of(root)
        change(runtime, "blocked_cards", [Wanted({"card_id": "c2"})], actor="a", reason="r", log=log)
        runtime.ingest("payments", [payment(i, "c2") for i in range(20, 24)])
        change(runtime, "blocked_cards", [Wanted({"card_id": "c1"})], actor="a", reason="r", log=log)
        runtime.ingest("payments", [payment(24)])

    def asked(hours):
        start = to_us(START + timedelta(hours=hours))
        found = backtest(
            root, "checkout", Asked(policy="new", lists={"suspects": "blocked_cards"}, start_us=start)
        )
        return found.sides[1].actions

    assert asked(20) == {"approve": 1, "block": 4}
    assert asked(24) == {"block": 1}
    with pytest.raises(InputError, match="had no members where the period begins"):
        asked(0)


def test_other_definitions_with_a_new_list(without, root, tmp_path):
    file = members(tmp_path, "c1\n", "keys")
    text = (root / "definitions.py").read_text()  # without thresholds no model is needed
    (root / "definitions.py").write_text(
        text.replace('"card",\n    actions={"block": 0.9, "review": 0.4}', '"card",\n    actions={}')
    )
    _, actions = tried(without, file, policy=None, definitions=root)
    assert actions == {"approve": 10, "block": 10}
    with pytest.raises(InputError, match=r"not in force.*--list blocked_cards="):
        backtest(without, "checkout", Asked(definitions=root))
    with pytest.raises(InputError, match="not in force"):
        backtest(without, "checkout", Asked(policy="stricter"))
    _, actions = tried(without, members(tmp_path, "", "none.csv"))
    assert actions == {"approve": 20}


def test_card_numbers_in_the_file_are_tokens_as_in_the_log(without, tmp_path):
    spaced = f"{NUMBER[:4]} {NUMBER[4:8]} {NUMBER[8:12]} {NUMBER[12:]}"
    found, _ = tried(without, members(tmp_path, f"card_id\n{spaced}\n"))
    assert list(found.lists[0].entries) == [(card_tokens_of(without).of(NUMBER),)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("card,changed_at\nc1,2026-03-01\n", "first line is 'card,changed_at'.*card_id"),
        ("card_id,since\nc1,2026-03-01\n", "allowed is a line with the columns card_id"),
        ("card_id,changed_at\nc1,yesterday\n", "row 1"),
    ],
)
def test_what_a_file_may_not_be(without, tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        tried(without, members(tmp_path, text))


def test_a_list_that_nothing_looks_at_is_refused(without, tmp_path):
    with pytest.raises(InputError, match="look at the lists trusted"):
        backtest(without, "checkout", Asked(lists={"blocked_cards": members(tmp_path, "card_id\n")}))
    with pytest.raises(InputError, match="No such file"):
        tried(without, tmp_path / "missing.csv")
    with pytest.raises(InputError, match="no list of that name"):
        tried(without, "suspects")


def test_a_rule_about_no_feature_is_named_with_its_policy(without, tmp_path):
    folder = shutil.copytree(without, tmp_path / "wrong")
    text = (folder / "definitions.py").read_text()
    (folder / "definitions.py").write_text(
        text.replace(
            '"stricter", actions', '"odd", rules=[Rule("x", when="a.b", action="block")], actions'
        ).replace(', rules=[Rule("blocked card", when=blocked_cards, action="block")])\n', ")\n")
    )
    with pytest.raises(DefinitionError, match="'odd'"):
        backtest(folder, "checkout", Asked(policy="odd"))


def test_the_command_says_whose_members_were_tried(without, tmp_path):
    file = members(tmp_path, "card_id,changed_at\nc1,2026-03-02T12:00:00Z\n")
    arguments = [
        "backtest",
        "--policy",
        "stricter",
        "--list",
        f"blocked_cards={file}",
        "--project",
        str(without),
    ]
    done = CliRunner().invoke(app, [*arguments, "--html", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    assert "list blocked_cards" in done.stdout
    assert "1 keys of stolen.csv, each from its changed_at: 8 events" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "Lists that were tried" in (tmp_path / "page.html").read_text()
    said = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert said["lists"][0]["events"] == said["sides"][1]["actions"]["block"] == 8
