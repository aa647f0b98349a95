"""Safe change: planned, refused where a model in use would break, applied, and taken over by a running engine."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from penstock.app import Runtime, changing, state_folder
from penstock.app.adopting import Adoption
from penstock.app.applied import AppliedHistory
from penstock.app.changing import ensure_applied, plan_change
from penstock.core.errors import CorruptionError, ProjectError, StoreError
from penstock.definitions.project import load_project
from penstock.engine.recovery import schema_hash
from penstock.stores.snapshots import SnapshotStore

START = datetime(2026, 1, 1, tzinfo=UTC)
DEFINITIONS = """
from datetime import timedelta
from penstock import *
from penstock.types import Bool, Field, Float64, String, Timestamp

AMOUNT = Field("amount", Float64)
card = Entity("card", [Field("card_id", String)])
shop = Entity("shop", [Field("shop_id", String)])
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[Field("id", String), Field("card_id", String), Field("shop_id", String), Field("at", Timestamp), AMOUNT],
    event_id_field="id",
    max_future_skew=timedelta(days=10_000),
)
frauds = LabelSource("frauds", of=payments, label=Field("fraud", Bool), known_at="known_at")
spending = StreamFeatureView(
    "spending", source=payments, entities=[card],
    features=[Aggregate(AMOUNT, "sum", time_window=timedelta(hours=1), name="sum")],
)
"""
SHOPS = """
shops = StreamFeatureView(
    "shops", source=payments, entities=[shop],
    features=[Aggregate(AMOUNT, f, time_window=timedelta(days=1), name=f) for f in ("mean", "max", "count_distinct")],
)
risk = StreamFeatureView(
    "risk", source=frauds, entities=[shop],
    features=[Aggregate(Field("fraud", Bool), "mean", time_window=timedelta(days=1), name="share")],
)
"""
BEFORE = DEFINITIONS + 'service = FeatureService("service", features=[spending])\n'
AFTER = BEFORE + SHOPS + 'more = FeatureService("more", features=[spending, shops, risk])\n'


@pytest.fixture
def root(tmp_path):
    (tmp_path / "penstock.toml").write_text("[engine]\ndurability = 'process'\n")
    write(tmp_path, BEFORE)
    return tmp_path


def write(root, text):
    (root / "definitions.py").write_text(text)


def applied(root):
    return changing.apply(plan_change(load_project(root)), root, actor="ann", reason="test")


def events(start, count):
    return [
        {
            "id": f"e{i}",
            "card_id": f"c{i % 7}",
            "shop_id": f"s{i % 5}",
            "at": START + timedelta(seconds=i),
            "amount": float(i % 90) + 0.1,
        }
        for i in range(start, start + count)
    ]


def labels(start, count):
    return [
        {"id": f"e{i}", "fraud": i % 3 == 0, "known_at": START + timedelta(seconds=i)}
        for i in range(start, start + count, 10)
    ]


def send(runtime, start, count):
    runtime.ingest("payments", events(start, count))
    if "frauds" in runtime.plan.sources:
        runtime.ingest("frauds", labels(start, count))


def test_the_first_run_applies_and_a_change_must_be_applied(root):
    first = ensure_applied(load_project(root), actor="ann")
    assert (first.version, first.actor, first.reason) == (1, "ann", "first run")
    assert ensure_applied(load_project(root), actor="bob") == first
    write(root, AFTER)
    with pytest.raises(
        ProjectError, match=r"differ from version 1, which is in force \(source frauds, view shops"
    ):
        ensure_applied(load_project(root), actor="ann")
    second = applied(root)
    assert second.version == 2
    assert second.versions == {
        "view": {"spending": 1, "shops": 1, "risk": 1},
        "service": {"service": 1, "more": 1},
    }
    assert ensure_applied(load_project(root), actor="ann").version == 2
    write(root, AFTER.replace("hours=1", "hours=2"))
    assert applied(root).versions["view"] == {"spending": 2, "shops": 1, "risk": 1}


def test_a_plan_predicts_rows_time_and_size(root):
    with Runtime.open(root) as runtime:
        for start in range(0, 40_000, 4_000):
            send(runtime, start, 4_000)
    applied(root)
    write(root, AFTER.replace('"amount"', '"amount"'))
    change = plan_change(load_project(root))
    found = {one.view: one for one in change.recomputed}
    assert set(found) == {"shops", "risk"}
    assert found["shops"].rows == 40_000
    assert found["risk"].rows == 0, "its labels were never taken in"
    applied(root)
    with Runtime.open(root) as runtime:
        (actual,) = [
            state.stats.nbytes
            for node, state in zip(runtime.plan.views, runtime.engine.features.views, strict=True)
            if node.name == "shops"
        ]
    assert actual / 2 < found["shops"].state_bytes < actual * 2
    assert found["shops"].seconds > 0


@pytest.fixture
def live(root, monkeypatch):
    """A model version in Production that was trained on `service` as it is."""
    ensure_applied(load_project(root), actor="ann")
    fingerprint = plan_change(load_project(root)).plan.services["service"].fingerprint
    version = SimpleNamespace(
        name="fraud",
        label="fraud:3",
        stage="Production",
        manifest=lambda: SimpleNamespace(service_fingerprint=fingerprint),
    )
    registry = SimpleNamespace(names=lambda: ("fraud",), versions=lambda _: (version,))
    monkeypatch.setattr(changing, "registry_of", lambda _: registry)
    return root


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BEFORE.replace("hours=1", "hours=2"), "needs the features as they are in 'service'"),
        (
            AFTER.replace('service = FeatureService("service", features=[spending])', ""),
            "loses its feature service 'service'",
        ),
    ],
)
def test_what_a_model_in_use_needs_is_not_taken_away(live, text, why):
    write(live, text)
    change = plan_change(load_project(live))
    assert [t.version for t in change.touched] == ["fraud:3"]
    with pytest.raises(ProjectError, match=why):
        changing.apply(change, live, actor="ann", reason="test")
    assert AppliedHistory(state_folder(live)).newest_version() == 1


def test_what_it_does_not_need_may_change(live):
    write(live, AFTER)
    assert applied(live).version == 2
    write(live, AFTER.replace("days=1", "days=2"))
    assert applied(live).version == 3


def test_of_two_that_planned_upon_the_same_version_only_one_applies(root):
    history = AppliedHistory(state_folder(root))
    first, second = plan_change(load_project(root)), plan_change(load_project(root))
    changing.apply(first, root, actor="ann", reason="test")
    with pytest.raises(StoreError, match="by somebody else meanwhile"):
        changing.apply(second, root, actor="bob", reason="test")
    assert history.newest().actor == "ann"
    assert [file.name for file in (state_folder(root) / "applied").iterdir()] == ["000001.json"]


def test_a_damaged_version_says_so(root):
    applied(root)
    file = state_folder(root) / "applied" / "000001.json"
    file.write_text(file.read_text()[:50])
    with pytest.raises(CorruptionError, match=r"000001\.json cannot be read"):
        plan_change(load_project(root))


def state_bytes(runtime):
    return {
        node.name: state.snapshot()
        for node, state in zip(runtime.plan.views, runtime.engine.features.views, strict=True)
    }


def test_a_new_view_has_the_full_history_at_once(root, tmp_path_factory):
    with Runtime.open(root) as runtime:
        runtime.ingest("payments", events(0, 3000))
        write(root, AFTER)
        prepared = runtime.prepare(load_project(root))
        runtime.ingest("payments", events(3000, 500))
        kept = runtime.engine.features.views[0]
        runtime.adopt(prepared)
        assert runtime.engine.features.views[0] is kept, "what did not change keeps its state"
        send(runtime, 3500, 500)
        found = state_bytes(runtime)
        read = runtime.online.read("shops", {"shop_id": "s1"}).to_dict()
    other = tmp_path_factory.mktemp("from_the_start")
    (other / "penstock.toml").write_text("")
    write(other, AFTER)
    with Runtime.open(other) as runtime:
        runtime.ingest("payments", events(0, 3500))
        send(runtime, 3500, 500)
        assert state_bytes(runtime) == found
        assert (
            read["shops.count_distinct"]
            == runtime.online.read("shops", {"shop_id": "s1"}).to_dict()["shops.count_distinct"]
        )


def test_after_a_restart_the_new_views_are_there(root):
    with Runtime.open(root) as runtime:
        runtime.ingest("payments", events(0, 300))
        write(root, AFTER)
        runtime.adopt(runtime.prepare(load_project(root)))
        before = state_bytes(runtime)
    with Runtime.open(root) as runtime:
        assert state_bytes(runtime) == before
        assert not runtime.skipped_snapshots


def test_definitions_applied_while_nothing_ran_keep_the_state_that_they_share(root):
    with Runtime.open(root) as runtime:
        runtime.ingest("payments", events(0, 300))
    write(root, AFTER)
    for _ in range(2):  # the second time from a snapshot of its own
        with Runtime.open(root) as runtime:
            assert runtime.engine.position == 300
            before = state_bytes(runtime)
    with Runtime.open(root, rebuild=True) as runtime:
        assert state_bytes(runtime) == before


def test_a_running_project_takes_over_what_is_applied(root):
    seconds = iter(range(1000))
    with Runtime.open(root) as runtime:
        ensure_applied(runtime.project, actor="ann")
        runtime.ingest("payments", events(0, 300))
        adoption = Adoption(runtime, now_s=lambda: float(next(seconds)))
        assert adoption.ready() is None
        write(root, AFTER)
        assert adoption.ready() is None, "written, but not applied"
        applied(root)
        prepared = wait_for(adoption)
        runtime.adopt(prepared)
        assert set(runtime.plan.services) == {"service", "more"}
        write(root, AFTER.replace("hours=1", "hours=1").replace('"mean", "max"', '"mean", "nothing"'))
        broken = AppliedHistory(state_folder(root)).newest()
        AppliedHistory(state_folder(root)).append(
            broken, broken.description, (), applied_us=0, actor="bob", reason="by hand"
        )
        wait_until(lambda: adoption.ready() is None and "definitions" in runtime.problems)
        assert "version 3 is not taken over: definitions.py" in runtime.problems["definitions"]
        runtime.ingest("payments", events(300, 10))
        adoption.close()


def wait_for(adoption):
    found = []
    wait_until(lambda: found.append(adoption.ready()) or found[-1] is not None)
    return found[-1]


def wait_until(true, *, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came to it"
        threading.Event().wait(0.01)


def test_a_schema_that_earlier_events_do_not_allow_is_refused_before_it_is_in_force(root):
    with Runtime.open(root) as runtime:
        ensure_applied(runtime.project, actor="ann")
        runtime.ingest("payments", events(0, 10))
    write(
        root,
        BEFORE.replace('Field("shop_id", String)', 'Field("shop_id", Int64)').replace(
            "Float64, String", "Float64, Int64, String"
        ),
    )
    change = plan_change(load_project(root))
    assert "shop_id" in change.refused[0]
    assert change.to_dict()["refused_schemas"] == list(change.refused)
    with pytest.raises(ProjectError, match="shop_id"):
        changing.apply(change, root, actor="ann", reason="test")
    assert AppliedHistory(state_folder(root)).newest_version() == 1


def test_a_reader_made_for_old_definitions_asks_as_the_new_ones_want_it(root):
    with Runtime.open(root) as runtime:
        send(runtime, 0, 100)
        reader, keys = runtime.online, {"card_id": "c1"}
        before = reader.read("service", keys).names
        write(
            root,
            DEFINITIONS + SHOPS + 'service = FeatureService("service", features=[shops, spending])\n',
        )
        runtime.adopt(runtime.prepare(load_project(root)))
        found = reader.read("service", {**keys, "shop_id": "s1"})
        assert found.names[:3] == ("shops.mean", "shops.max", "shops.count_distinct")
        assert found.names[3:] == before
        alone = runtime.online.read("shops", {"shop_id": "s1"}).to_dict()
        assert {n: found.to_dict()[n] for n in alone} == alone


ENDPOINT = """
from sklearn.linear_model import LogisticRegression
from penstock import Endpoint, Model, Policy, TimeSplit
days = timedelta(days=1)
model = Model(
    "fraud", features=service, label=frauds, estimator=LogisticRegression(), split=TimeSplit(days, days, days)
)
checkout = Endpoint("checkout", source=payments, model=model, policy=Policy("card", actions={"block": 0.9}))
"""


def test_a_snapshot_under_way_is_of_the_definitions_of_its_state(root):
    with Runtime.open(root) as runtime:
        send(runtime, 0, 100)
        before, committed = runtime.plan, Future()
        runtime.snapshot(committed)
        write(root, AFTER)
        runtime.adopt(runtime.prepare(load_project(root)))
        committed.set_result(None)
        runtime._snapshots.finish()
        saved = SnapshotStore(state_folder(root) / "snapshots", store_id=runtime.store.store_id).newest_good(
            fingerprint=before.fingerprint, schema_hash=schema_hash(before), next_position=1_000
        )
        assert saved.snapshot.fingerprint == before.fingerprint


def test_preparing_leaves_the_models_of_the_running_engine_alone(root, monkeypatch):
    write(root, BEFORE + ENDPOINT)
    with Runtime.open(root) as runtime:
        names = runtime.plan.services["service"].feature_names
        serving = SimpleNamespace(version="fraud:1", digest="", feature_names=names)
        runtime.routes.serve("checkout", serving)
        write(root, AFTER)
        prepared = runtime.prepare(load_project(root))
        assert "checkout" not in prepared.routes.readers(), "it is not in the new plan"
        assert [arm.scorer for arm in runtime.routes["checkout"].serving] == [serving]
