"""Forgetting a key: nothing of it is left, nothing else is changed, and nobody can bring it back."""

import json
import unicodedata

import pytest

from penstock.app.changing import apply, plan_change
from penstock.app.forgetting import forget
from penstock.app.runtime import Runtime, open_reader, plan_of, state_folder
from penstock.core.errors import InputError, NotFoundError
from penstock.definitions.project import load_project
from penstock.engine.audit import audit
from penstock.engine.decisions import Decisions, Flag
from penstock.engine.history import features_from_log
from penstock.engine.recovery import catch_up, encode_state
from penstock.testing.clock import ManualClock

KEY = "Zoë-7f3a9c"
DEFINITIONS = """
from datetime import timedelta
from penstock import *
from penstock.types import Bool, Field, Float64, Int64, String, Timestamp

class Estimator:
    def fit(self): ...
    def predict(self): ...
    def get_params(self): ...

card = Entity("card", join_keys=[Field("card_id", String)])
shop = Entity("shop", join_keys=[Field("shop_id", Int64)])
pair = Entity("pair", join_keys=[Field("card_id", String), Field("shop_id", Int64)])
nothing = Entity("nothing", join_keys=[Field("nowhere", String)])
tx = StreamSource("tx", PushConfig(), event_id_field="id", schema=[
    Field("id", String), Field("card_id", String), Field("payee", String), Field("shop_id", Int64),
    Field("at", Timestamp), Field("amount", Float64), Field("note", String, optional=True)])
frauds = LabelSource("frauds", of=tx, label=Field("is_fraud", Bool), known_at="known")
day = timedelta(days=1)
amount = Field("amount", Float64)
spending = StreamFeatureView("spending", source=tx, entities=[card],
    features=[Aggregate(amount, f, time_window=day) for f in ("count", "mean")])
takings = StreamFeatureView("takings", source=tx, entities=[shop], features=[Aggregate(amount, "sum", time_window=day)])
risk = StreamFeatureView("risk", source=frauds, entities=[shop],
    features=[Aggregate(Field("is_fraud", Bool), f, time_window=day) for f in ("count", "mean")])
paid = spending.with_join_key_map({"card_id": "payee"}).with_name("paid")
features = FeatureService("features", features=[spending, takings, risk, paid])
model = Model("m", features=features, label=frauds, estimator=Estimator(),
    split=TimeSplit(train=day, delay=day, test=day))
checkout = Endpoint("checkout", source=tx, model=model, policy=Policy("p", actions={"block": 0.9}))
"""
START = 1_700_000_000_000_000
MINUTE = 60_000_000


def event(i, card, *, payee="nobody", **more):
    return {
        "id": f"e{i}",
        "card_id": card,
        "payee": payee,
        "shop_id": i % 3,
        "at": START + i * MINUTE,
        "amount": 10.0 + i,
        **more,
    }


def label(i, fraud, after=5):
    return {"id": f"e{i}", "is_fraud": fraud, "known": START + (i + after) * MINUTE}


def batches(key):
    """(source, events); `key` is left out where it is None. One early label, one late, a correction, a duplicate."""
    nfd = unicodedata.normalize("NFD", KEY)
    mine = {1: KEY, 4: nfd, 9: KEY, 22: KEY}
    first = [event(i, mine.get(i, f"card-{i % 2}"), payee=KEY if i == 6 else "nobody") for i in range(12)]
    second = [event(i, mine.get(i, f"card-{i % 2}"), note=KEY if i == 22 else None) for i in range(12, 30)]
    steps = [
        ("frauds", [label(22, fraud=True, after=1), label(23, fraud=True, after=1)]),
        ("tx", first),
        (
            "frauds",
            [
                label(1, fraud=True),
                label(2, fraud=False),
                label(3, fraud=True),
                label(1, fraud=False, after=6),
            ],
        ),
        ("frauds", [label(1, fraud=True), label(99, fraud=True)]),
        ("tx", second),
        ("tx", [event(40, f"card-{c}") | {"id": f"last{c}"} for c in range(2)]),
    ]
    if key:
        return steps
    gone = {"e1", "e4", "e6", "e9", "e22"}
    return [(source, [e for e in events if e["id"] not in gone]) for source, events in steps]


def project(folder):
    folder.mkdir()
    (folder / "definitions.py").write_text(DEFINITIONS, "utf-8")
    (folder / "penstock.toml").write_text("[project]\nname='p'\n", "utf-8")
    return folder


def fill(folder, *, key):
    clock = ManualClock(START + 10_000 * MINUTE)
    for half in (batches(key)[:3], batches(key)[3:]):  # two snapshots
        with Runtime.open(folder, clock=clock) as runtime:
            for source, events in half:
                runtime.ingest(source, events)
    with Runtime.open(folder, clock=clock) as runtime:
        if key:
            runtime.ingest(
                "tx", [{"id": "bad", "card_id": KEY, "amount": "much"}, {"id": "other", "card_id": "card-1"}]
            )
            runtime.ingest("tx", b'{"id": "broken", "card_id": "' + KEY.encode() + b'", \n')
            escaped = json.dumps({"id": "e1", "card_id": unicodedata.normalize("NFD", KEY)}).encode()
            runtime.ingest("tx", escaped)
    return folder


def hits(folder):
    forms = [unicodedata.normalize(form, KEY) for form in ("NFC", "NFD")]
    wanted = [w for f in forms for w in (f.encode(), json.dumps(f)[1:-1].encode())]
    files = [p for p in state_folder(folder).rglob("*") if p.is_file()]
    return {str(p) for p in files if any(w in p.read_bytes() for w in wanted)}


@pytest.fixture
def forgotten(tmp_path):
    folder = fill(project(tmp_path / "with"), key=KEY)
    assert hits(folder), "the key must be there before"
    done = forget(folder, "card", [KEY], clock=ManualClock(START))
    return folder, done


def last_features(folder):
    """The features of the last two events, of other keys."""
    plan = plan_of(load_project(folder))
    with open_reader(folder) as store:
        found = features_from_log(store, plan, plan.services["features"])
    return repr(found.features.values[-2:].tolist())


def test_what_was_found_is_counted(forgotten):
    _, done = forgotten
    assert (done.events, done.labels, done.pending_labels, done.dead_letters) == (5, 4, 0, 3)


def test_no_byte_of_the_key_is_left(forgotten):
    folder, _ = forgotten
    assert hits(folder) == set()


def test_no_byte_is_left_beside_an_open_reader(tmp_path):
    folder = fill(project(tmp_path / "p"), key=KEY)
    with open_reader(folder) as store:
        store.counters()
        forget(folder, "card", [KEY], clock=ManualClock(START))
        assert hits(folder) == set()


def test_the_audit_stays_clean_and_says_what_it_skipped(forgotten):
    folder, _ = forgotten
    with open_reader(folder) as store:
        report = audit(store, plan_of(load_project(folder)))
    assert report.clean
    assert report.vectors > 0
    assert report.skipped["touched by an erasure"] > 0


def test_decisions_of_the_key_are_empty_and_those_that_saw_it_are_marked(forgotten):
    folder, _ = forgotten
    flags = {}
    with open_reader(folder) as store:
        for batch in store.read_decisions():
            decisions = Decisions.from_bytes(batch.payload)
            for i, position in enumerate(batch.positions.tolist()):
                flags[position] = int(decisions.flags[i])
                if flags[position] & Flag.ERASED:
                    assert decisions.vectors[i].tolist() != decisions.vectors[i].tolist()
    erased = [p for p, f in flags.items() if f & Flag.ERASED]
    marked = [p for p, f in flags.items() if f & Flag.UNVERIFIABLE]
    assert len(erased) == 5
    assert marked
    assert min(marked) > min(erased)
    assert len(marked) < len(flags) - 5


def test_other_keys_are_as_if_it_had_never_been(forgotten, tmp_path):
    folder, _ = forgotten
    without = fill(project(tmp_path / "without"), key=None)
    assert last_features(folder) == last_features(without)


def test_state_equals_recomputation_and_replay_brings_nothing_back(forgotten):
    folder, _ = forgotten
    clock = ManualClock(START + 10_000 * MINUTE)
    with Runtime.open(folder, clock=clock) as runtime:
        assert runtime.skipped_snapshots == ()
        assert encode_state(runtime.engine.features) == encode_state(catch_up(runtime.store, runtime.plan))
    with Runtime.open(folder, clock=clock, rebuild=True):
        pass
    assert hits(folder) == set()


def test_a_forgotten_event_is_refused_and_leaves_nothing(forgotten):
    folder, _ = forgotten
    with Runtime.open(folder, clock=ManualClock(START + 10_000 * MINUTE)) as runtime:
        answers = runtime.ingest("tx", [event(1, KEY), event(2, "card-0")])
        assert [(a.status, a.reason) for a in answers] == [("rejected", "erased"), ("duplicate", None)]
        assert runtime.ingest("frauds", [label(1, fraud=True, after=50)])
        counters = runtime.store.counters()
    assert counters["received"] == sum(
        counters.get(n, 0) for n in ("scored", "logged", "duplicate", "rejected")
    )
    assert hits(folder) == set()


def test_training_no_longer_sees_it(forgotten):
    folder, _ = forgotten
    with open_reader(folder) as store:
        events = store.latest_labels().event_positions.tolist()
        plan = plan_of(load_project(folder))
        logged = features_from_log(store, plan, plan.services["features"], as_of="corrected")
    assert len(events) == 3
    assert KEY not in logged.events["card_id"].to_strings()
    assert None not in logged.events["card_id"].to_strings()


def test_the_erasure_is_noted_without_the_key(forgotten):
    folder, _ = forgotten
    with open_reader(folder) as store:
        (erasure,) = store.erasures()
    assert erasure.entity == "card"
    assert KEY.encode() not in erasure.key_hash


def test_forgetting_again_finds_nothing(forgotten):
    folder, _ = forgotten
    again = forget(folder, "card", [KEY], clock=ManualClock(START))
    assert not again.anything
    with open_reader(folder) as store:
        assert len(store.erasures()) == 1


def test_keys_of_numbers_and_of_two_columns(tmp_path):
    folder = fill(project(tmp_path / "p"), key=KEY)
    assert forget(folder, "pair", ["card-1", "1"], clock=ManualClock(START)).events == 5
    assert forget(folder, "shop", ["2"], clock=ManualClock(START)).events == 10
    with open_reader(folder) as store:
        assert audit(store, plan_of(load_project(folder))).clean


@pytest.mark.parametrize(
    ("entity", "key", "error", "message"),
    [
        ("cart", ["x"], NotFoundError, "there are card, shop"),
        ("card", ["x", "y"], InputError, "2 values were given"),
        ("shop", ["seven"], InputError, "'seven' is no Int64"),
        ("nothing", ["x"], InputError, "no source of the plan has nowhere"),
    ],
)
def test_mistakes_say_what_is_allowed(tmp_path, entity, key, error, message):
    folder = fill(project(tmp_path / "p"), key=KEY)
    with pytest.raises(error, match=message):
        forget(folder, entity, key, clock=ManualClock(START))


def test_what_the_definitions_no_longer_have_is_forgotten_too(tmp_path):
    folder = fill(project(tmp_path / "p"), key=KEY)
    text = DEFINITIONS[: DEFINITIONS.index("checkout =")]
    text = text.replace('StreamSource("tx"', 'StreamSource("tx2"').replace(
        'LabelSource("frauds"', 'LabelSource("frauds2"'
    )
    (folder / "definitions.py").write_text(text, "utf-8")
    done = forget(folder, "card", [KEY], clock=ManualClock(START))
    assert (done.events, done.labels) == (4, 3)  # the mapped column went with the definitions
    with open_reader(folder) as store:
        flags = [
            f for batch in store.read_decisions() for f in Decisions.from_bytes(batch.payload).flags.tolist()
        ]
        assert sum(f == Flag.ERASED for f in flags) == 4
        erased = [b for b in store.read_log(sources={"tx"}) if b"_erased" in b.payload]
    assert erased


def test_what_definitions_mapped_to_the_key_before_is_forgotten_too(tmp_path):
    folder = project(tmp_path / "p")
    apply(plan_change(load_project(folder)), folder, actor="ann", reason="test")
    fill(folder, key=KEY)
    text = DEFINITIONS.replace(
        "features=[spending, takings, risk, paid]", "features=[spending, takings, risk]"
    )
    (folder / "definitions.py").write_text(text, "utf-8")
    done = forget(folder, "card", [KEY], clock=ManualClock(START))
    assert done.events == 5
    assert hits(folder) == set()
