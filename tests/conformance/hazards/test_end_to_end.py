"""The hazard corpus through the engine and through the commands: dead letters keep bytes and reason, and work goes on."""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from penstock.core.limits import KEPT_BYTES, MAX_EVENT_BYTES
from penstock.engine.card_numbers import masked
from penstock.engine.features import FeatureState
from penstock.engine.local import LocalEngine
from penstock.engine.routing import Route
from penstock.plan.compile import compile_plan
from penstock.stores.ids import IdIndex
from penstock.stores.reader import ProjectReader
from penstock.stores.sqlite import ProjectStore
from penstock.testing.clock import ManualClock
from tests.conformance.hazards.corpus import CASES, DICT, GOOD, JSON, NOW_US, Case
from tests.conformance.hazards.definitions import checkout

BOM = b"\xef\xbb\xbf"
PLAN = compile_plan([], [checkout])
LIMIT = 10_000


@pytest.fixture
def store(tmp_path):
    with ProjectStore.open(tmp_path / "penstock.db", durability="process") as opened:
        yield opened


@pytest.fixture
def engine(store, tmp_path):
    ids = IdIndex.open(
        tmp_path / "ids",
        store_id=store.store_id,
        next_position=store.next_position,
        event_ids=store.event_ids,
    )
    engine = LocalEngine(
        PLAN,
        store=store,
        ids=ids,
        clock=ManualClock(NOW_US),
        features=FeatureState(PLAN),
        routes={"checkout": lambda: Route("checkout")},
    )
    yield engine
    engine.close()
    ids.close()


def next_good(case):
    return {**GOOD, "id": f"after {case.name}"}


def kept(case):
    """The bytes that a dead letter should hold."""
    line = masked(case.json_line.strip().removeprefix(BOM).strip())
    return line[:KEPT_BYTES] if len(line) > MAX_EVENT_BYTES else line


def check_case(engine, store, case, events):
    """The case and the next good event in one micro-batch: one verdict, one decision more than accepted cases."""
    before = store.dead_letter_count()
    outcome = engine.process([("payments", engine.decode("payments", events))]).wait().outcomes[0]
    assert outcome.decisions is not None
    expected = [] if case.verdict_when_live is None else [case.verdict_when_live]
    assert [r.reason for r in outcome.admitted.refused] == expected
    assert len(outcome.positions) == len(outcome.decisions) == 2 - len(expected)
    assert store.dead_letter_count() == before + len(expected)
    return outcome.admitted.refused


def check_counters(store, cases):
    refused = Counter(case.verdict_when_live for case in cases if case.verdict_when_live is not None)
    counters = store.counters()
    assert counters["received"] == 2 * len(cases)
    assert counters["rejected"] == refused.total()
    assert counters["received"] == counters["scored"] + counters["rejected"] + counters.get("duplicate", 0)
    assert Counter(letter.reason for letter in store.dead_letters(LIMIT)) == refused


def test_lines_through_the_engine(engine, store):
    cases = [case for case in CASES if JSON in case.ways]
    for case in cases:
        good = Case("good", None, event=next_good(case)).json_line
        check_case(engine, store, case, case.json_line + b"\n" + good)
    check_counters(store, cases)
    letters = store.dead_letters(LIMIT)
    assert [letter.payload for letter in letters] == [
        kept(c) for c in cases if c.verdict_when_live is not None
    ]
    assert all(letter.detail and letter.source == "payments" for letter in letters)


def test_dicts_through_the_engine(engine, store):
    cases = [case for case in CASES if DICT in case.ways]
    for case in cases:
        for refused in check_case(engine, store, case, [case.event, next_good(case)]):
            assert refused.payload
            assert len(refused.payload) <= MAX_EVENT_BYTES
    check_counters(store, cases)


def test_a_repeated_id_is_a_duplicate_or_a_conflict(engine, store):
    lines = [GOOD, GOOD, {**GOOD, "amount": 1.0}]
    for _ in range(2):
        data = b"\n".join(json.dumps(event).encode() for event in lines)
        engine.process([("payments", engine.decode("payments", data))]).wait()
    assert store.counters()["duplicate"] == 3
    assert [letter.reason for letter in store.dead_letters()] == ["conflict", "conflict"]
    assert [json.loads(letter.payload) for letter in store.dead_letters()] == [lines[2]] * 2


def test_a_planted_wrong_verdict_is_caught(engine, store):
    planted = Case("planted", None, event={**GOOD, "amount": True})
    with pytest.raises(AssertionError):
        check_case(engine, store, planted, [planted.event, next_good(planted)])


def project_with_corpus(folder):
    """A project folder, and a file with every case followed by a good event; what is in the future is left out."""
    shutil.copy(Path(__file__).with_name("definitions.py"), folder / "definitions.py")
    (folder / "penstock.toml").write_text('[project]\nname = "hazards"\n\n[engine]\nfuture_check = false\n')
    cases = [case for case in CASES if JSON in case.ways]
    lines = []
    for case in cases:
        lines += [case.json_line, Case("good", None, event=next_good(case)).json_line]
    (folder / "hazards.ndjson").write_bytes(b"\n".join(lines))
    return cases


@pytest.mark.parametrize("command", ["score", "run"])
def test_the_corpus_through_a_command(tmp_path, command):
    if importlib.util.find_spec(f"penstock.cli.{command}") is None:
        pytest.skip(f"there is no command penstock {command} yet")
    cases = project_with_corpus(tmp_path)
    events = ["payments", "hazards.ndjson"] if command == "score" else ["payments=hazards.ndjson"]
    program = "import sys; from penstock.cli.main import app; app(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", program, command, *events, "--json"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    with ProjectReader.open_reader(tmp_path / ".penstock" / "penstock.db") as reader:
        counters, letters = reader.counters(), reader.dead_letters(LIMIT)
    refused = [case for case in cases if case.reason is not None]
    assert [(letter.reason, letter.payload) for letter in letters] == [(c.reason, kept(c)) for c in refused]
    assert (counters["received"], counters["rejected"]) == (2 * len(cases), len(refused))
    assert counters["scored"] == 2 * len(cases) - len(refused)


def test_the_corpus_through_kafka(tmp_path, kafka):
    pytest.importorskip("confluent_kafka")
    from tests.kafka_topics import new_topic, produce

    cases = project_with_corpus(tmp_path)
    topic = new_topic(kafka.address)
    text = (tmp_path / "definitions.py").read_text()
    config = f'KafkaConfig("{kafka.address}", "{topic}")'
    text = text.replace("stream_config=PushConfig()", f"stream_config={config}").replace(
        "    PushConfig,", "    KafkaConfig,"
    )
    (tmp_path / "definitions.py").write_text(text)
    messages = []
    for case in cases:
        messages += [case.json_line, Case("good", None, event=next_good(case)).json_line]
    produce(kafka.address, topic, [(b"k", value) for value in messages], **{"message.max.bytes": 10_000_000})
    program = "import sys; from penstock.cli.main import app; app(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", program, "run", "--json"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    with ProjectReader.open_reader(tmp_path / ".penstock" / "penstock.db") as reader:
        counters, letters = reader.counters(), reader.dead_letters(LIMIT)
    refused = [case for case in cases if case.reason is not None]
    assert [(letter.reason, letter.payload) for letter in letters] == [(c.reason, kept(c)) for c in refused]
    assert counters["received"] == 2 * len(cases)
