"""Profiles and batch aggregates against the oracle: live in any batches, replayed, restored, in training sets; bit for bit."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import (
    Aggregate,
    Attribute,
    BatchFeatureView,
    BatchSource,
    Entity,
    FeatureService,
    FileConfig,
    LabelSource,
    PushConfig,
    RequestSource,
    StreamFeatureView,
    StreamSource,
    batch_feature_view,
    realtime_feature_view,
)
from penstock.core.time import from_us, to_us
from penstock.engine.features import FeatureState
from penstock.engine.history import features_from_log
from penstock.engine.local import LocalEngine
from penstock.engine.recovery import decode_state, encode_state
from penstock.engine.training_set import features_for_frame
from penstock.plan.compile import compile_plan
from penstock.stores.ids import IdIndex
from penstock.stores.sqlite import ProjectStore
from penstock.testing.reference_engine import ReferenceEngine
from penstock.testing.streams import START_US, Step
from penstock.types import Bool, Field, Float64, Int64, String, Timestamp
from tests.laws.engine_laws import EngineLaws
from tests.laws.parity import (
    answers_of,
    assert_same_vectors,
    endpoint_of,
    engine_of,
    in_batches,
    run_live,
    store_in,
    typed_rows,
)
from tests.laws.strategies import cuts, event_streams

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
AMOUNT = Field("amount", Float64, optional=True)

user = Entity("user", [Field("user_id", String)])
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[
        Field("id", String),
        Field("time", Timestamp),
        Field("user_id", String, optional=True),
        Field("payee_id", String, optional=True),
        AMOUNT,
    ],
    event_id_field="id",
    allowed_lateness=timedelta(seconds=10),
)
chargebacks = LabelSource("chargebacks", of=payments, label=Field("fraud", Bool), known_at="known_at")
users = BatchSource(
    "users",
    FileConfig("users.csv", "csv", data_delay=timedelta(seconds=7)),
    schema=[
        Field("user_id", String),
        Field("changed", Timestamp),
        Field("age", Int64, optional=True),
        Field("home", String, optional=True),
        Field("limit", Float64, optional=True),
    ],
    allowed_lateness=timedelta(seconds=20),
)
balances = BatchSource(
    "balances",
    FileConfig("balances.csv", "csv"),
    schema=[Field("user_id", String), Field("day", Timestamp), Field("amount", Float64, optional=True)],
    allowed_lateness=MINUTE,
)

COLUMNS = [Attribute("age", Int64), Attribute("home", String), Attribute("limit", Float64)]
endless = BatchFeatureView("endless", sources=[users], entities=[user], features=COLUMNS)
fading = BatchFeatureView("fading", sources=[users], entities=[user], features=COLUMNS, ttl=MINUTE)
started = BatchFeatureView(
    "started",
    sources=[users],
    entities=[user],
    features=COLUMNS[:1],
    feature_start_time=from_us(START_US + 20_000_000),
)


@batch_feature_view(sources=[users], entities=[user], features=[Attribute("older", Float64)], ttl=HOUR)
def made(rows):
    keep = rows["home"] != "key1"
    return {
        "user_id": rows["user_id"][keep],
        "changed": rows["changed"][keep],
        "_row": rows["_row"][keep],
    } | {"older": 1.0 + rows["age"][keep]}


spent = BatchFeatureView(
    "spent",
    sources=[balances],
    entities=[user],
    features=[
        Aggregate(Field("amount", Float64), function, time_window=window)
        for function in ("sum", "count", "last", "max", "time_since_last")
        for window in (MINUTE, HOUR)
    ],
)
totals = StreamFeatureView(
    "totals", source=payments, entities=[user], features=[Aggregate(AMOUNT, "sum", time_window=HOUR)]
)


@realtime_feature_view(
    sources=[RequestSource([AMOUNT]), endless[["limit"]], totals],
    features=[Attribute("share", Float64), Attribute("over", Bool)],
)
def ratio(request, profile, totals):
    return {
        "share": request["amount"] / profile["limit"],
        "over": totals["amount_sum_1h_continuous"] > profile["limit"],
    }


PAYEE = {"user_id": "payee_id"}
numbers = FeatureService(
    "numbers",
    features=[
        totals,
        endless[["age", "limit"]],
        fading[["limit", "age"]],
        started,
        made,
        spent,
        ratio,
        endless[["age"]].with_name("payee").with_join_key_map(PAYEE),
        spent[["amount_sum_1h_continuous"]].with_name("received").with_join_key_map(PAYEE),
    ],
)
everything = FeatureService(
    "everything",
    features=[*numbers.features, endless[["home"]].with_name("a"), fading[["home"]].with_name("b")],
)
PLAN = compile_plan([(everything, payments)], [endpoint_of(numbers, payments, chargebacks)])


@st.composite
def batched(draw: st.DrawFn) -> list[list[Step]]:
    """A log cut into batches, each ordered as the engine takes it; no batch row comes twice."""
    steps = draw(
        event_streams(source=payments, others=[users, balances], windows_us=(60_000_000,), max_size=30)
    )
    seen = set()
    unique = []
    for step in steps:
        content = content_of(step)
        if step.source == "payments" or content not in seen:
            unique.append(step)
        seen.add(content)
    return in_batches(unique, draw(cuts(len(unique))))


def content_of(step: Step) -> str:
    """What makes a batch row the same row: its values, of which -0.0 and 0.0 are one."""
    values = {k: v + 0.0 if isinstance(v, float) else v for k, v in step.record.items()}
    return repr((step.source, values))


def in_pieces(batches: Sequence[Sequence[Step]], size: int) -> list[list[Step]]:
    """The same log in batches of one source and up to `size` records."""
    pieces: list[list[Step]] = []
    for step in (step for batch in batches for step in batch):
        if not pieces or len(pieces[-1]) == size or pieces[-1][-1].source != step.source:
            pieces.append([])
        pieces[-1].append(step)
    return pieces


LAWS = EngineLaws(
    PLAN, numbers, everything, oracle=lambda: ReferenceEngine(everything.features, source=payments)
)


def expected(batches: Sequence[Sequence[Step]], service: FeatureService) -> list[dict[str, object]]:
    return answers_of(LAWS.oracle(), batches, service)


def engine_on(store: ProjectStore, ids: IdIndex, state: FeatureState) -> LocalEngine:
    return engine_of(PLAN, store, ids, state)


@settings(max_examples=120, deadline=None)
@given(batched())
def test_live_in_any_batches_equals_the_oracle(batches):
    LAWS.live(batches, *(in_pieces(batches, size) for size in (1, 7, 1000)))


@settings(max_examples=120, deadline=None)
@given(batched(), st.integers(0, 8))
def test_replay_and_going_on_from_a_snapshot_equal_the_oracle(batches, stop):
    answers = expected(batches, everything)
    with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
        before = engine_on(store, ids, FeatureState(PLAN))
        vectors = run_live(before, batches[:stop])
        before.close()
        resumed = engine_on(store, ids, decode_state(PLAN, encode_state(before.features)))
        vectors += run_live(resumed, batches[stop:])
        resumed.close()
        if not answers:
            return
        replayed = features_from_log(store, PLAN, PLAN.services["everything"])
    assert_same_vectors(vectors, expected(batches, numbers))
    found = typed_rows(replayed.features, everything)
    assert found == answers


def row_time(step: Step) -> int:
    source = {"payments": payments, "users": users, "balances": balances}[step.source]
    delay = to_us(source.data_delay) if isinstance(source, BatchSource) else 0
    return step.record[source.time_field] + delay


@settings(max_examples=120, deadline=None)
@given(batched(), st.booleans())
def test_training_sets_equal_the_oracle_in_the_order_of_time(batches, bare):
    steps = [s for batch in batches for s in batch if not s.is_duplicate]
    ordered = sorted(steps, key=lambda s: (row_time(s), s.source == "payments"))
    events = [s.record for s in ordered if s.source == "payments"]
    if not events:
        return
    frames = {name: [s.record for s in ordered if s.source == name] for name in ("users", "balances")}
    service = FeatureService(
        "asked", features=[r for r in everything.features if r.view not in {totals, ratio}]
    )
    references = service.features if bare else everything.features
    history = {
        name: table_of(rows, source)
        for name, rows, source in zip(frames, frames.values(), (users, balances), strict=True)
    }
    answers = expected([ordered], service if bare else everything)
    table = table_of(events, payments)
    frame = features_for_frame(references, table, history=history, timestamp_key="time").to_arrow()
    for name in answers[0]:
        found = frame.column(name.replace(".", "__")).to_pylist()
        assert repr(found) == repr([answer[name] for answer in answers]), name


def table_of(rows, source):
    import pyarrow as pa

    types = {"String": pa.string(), "Int64": pa.int64(), "Float64": pa.float64(), "Timestamp": pa.int64()}
    schema = pa.schema([(f.name, types[f.dtype.name]) for f in source.schema])
    return pa.Table.from_pylist(
        [{f.name: row.get(f.name) for f in source.schema} for row in rows], schema=schema
    )


@settings(max_examples=60, deadline=None)
@given(batched(), st.integers(1, 5))
def test_batch_rows_that_come_again_change_nothing(batches, again):
    rows = [step for batch in batches for step in batch if step.source != "payments"]
    with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
        engine = engine_on(store, ids, FeatureState(PLAN))
        run_live(engine, [[row] for row in rows])
        length, state = engine.position, encode_state(engine.features)
        run_live(engine, [[row] for row in rows[::again]])
        assert (engine.position, encode_state(engine.features)) == (length, state)
        engine.close()
