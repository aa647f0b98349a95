"""What the parity laws have in common: batches of a stream, the engine over them, and answers compared bit for bit."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np

from penstock import Endpoint, FeatureService, LabelSource, Model, Policy, StreamSource, TimeSplit
from penstock.core.types import ArrayType
from penstock.engine.arrays import Lists
from penstock.engine.features import FeatureRows, FeatureState
from penstock.engine.local import LocalEngine
from penstock.engine.routing import Route
from penstock.kernel.columns import Text
from penstock.plan.nodes import Plan
from penstock.stores.ids import IdIndex
from penstock.stores.sqlite import ProjectStore
from penstock.stores.writing import WritableStore
from penstock.testing.clock import ManualClock
from penstock.testing.reference_engine import ReferenceEngine
from penstock.testing.streams import START_US, Step
from penstock.types import Array, Int64, Timestamp

HOUR = timedelta(hours=1)


class NoEstimator:
    """The features are looked at, nothing is trained."""

    def fit(self): ...

    def predict(self): ...

    def get_params(self): ...


def endpoint_of(features: FeatureService, source: StreamSource, label: LabelSource) -> Endpoint:
    """The endpoint ``endpoint`` that decides on `source` by `features`."""
    split = TimeSplit(train=HOUR, delay=HOUR, test=HOUR)
    model = Model("model", features=features, label=label, estimator=NoEstimator(), split=split)
    return Endpoint("endpoint", source=source, model=model, policy=Policy("policy", actions={"block": 0.9}))


def in_batches(steps: Sequence[Step], sizes: Sequence[int]) -> list[list[Step]]:
    """A stream cut into batches, each ordered as the engine takes it: one source after another."""
    ends = iter(steps)
    batches = [[next(ends) for _ in range(size)] for size in sizes]
    return [sorted(batch, key=lambda step: _order_of(step, batch)) for batch in batches]


def _order_of(step: Step, batch: Sequence[Step]) -> int:
    return list(dict.fromkeys(other.source for other in batch)).index(step.source)


def answers_of(
    oracle: ReferenceEngine, batches: Sequence[Sequence[Step]], service: FeatureService
) -> list[dict[str, object]]:
    """The answers of an oracle that has seen nothing, cut down to the features of `service`."""
    names = list(service.feature_types)
    answers = [oracle.accept(s.source, s.record) for batch in batches for s in batch if not s.is_duplicate]
    return [{name: answer[name] for name in names} for answer in answers if answer is not None]


def _in_a_file(folder: Path) -> WritableStore:
    return ProjectStore.open(folder / "store.sqlite", durability="process")


_opening = [_in_a_file]


@contextmanager
def stores_from(opened: Callable[[Path], WritableStore]) -> Iterator[None]:
    """While open, stores are made by `opened`, which is given an empty folder."""
    _opening.append(opened)
    try:
        yield
    finally:
        _opening.pop()


@contextmanager
def store_in(folder: Path) -> Iterator[tuple[WritableStore, IdIndex]]:
    """A store and its index of event ids."""
    store = _opening[-1](folder)
    ids = IdIndex.open(
        folder / "ids", store_id=store.store_id, next_position=store.next_position, event_ids=store.event_ids
    )
    try:
        yield store, ids
    finally:
        ids.close()
        store.close()


def engine_of(plan: Plan, store: WritableStore, ids: IdIndex, state: FeatureState) -> LocalEngine:
    """An engine without a model, which takes events of any time."""
    return LocalEngine(
        plan,
        store=store,
        ids=ids,
        clock=ManualClock(START_US),
        features=state,
        routes={"endpoint": lambda: Route("endpoint")},
        live=False,
    )


def run_live(engine: LocalEngine, batches: Sequence[Sequence[Step]]) -> list[list[float]]:
    """The vectors that the engine decided on, in log order."""
    vectors: list[list[float]] = []
    for batch in batches:
        by_source: dict[str, list[dict[str, object]]] = {}
        for step in batch:
            by_source.setdefault(step.source, []).append(step.record)
        inputs = [(name, engine.decode(name, records)) for name, records in by_source.items()]
        for outcome in engine.process(inputs).wait().outcomes:
            assert not outcome.admitted.refused, outcome.admitted.refused[0]
            if outcome.decisions is not None:
                vectors += outcome.decisions.vectors.tolist()
    return vectors


def bits(number: float) -> bytes:
    """A number's bits; all nulls are alike."""
    return b"null" if math.isnan(number) else struct.pack("<d", number)


def as_number(value: object) -> float:
    """A value of the oracle as a vector has it."""
    return math.nan if value is None else float(value)  # type: ignore[arg-type]


def assert_same_vectors(found: Sequence[Sequence[float]], answers: Sequence[dict[str, object]]) -> None:
    """Vectors are the oracle's answers, bit for bit."""
    assert len(found) == len(answers)
    for at, (row, answer) in enumerate(zip(found, answers, strict=True)):
        different = {
            name: (value, answer[name])
            for name, value in zip(answer, row, strict=True)
            if bits(value) != bits(as_number(answer[name]))
        }
        assert not different, f"event {at}: (found, expected) {different}"


def typed_rows(features: FeatureRows, service: FeatureService) -> list[dict[str, object]]:
    """Rows of `service` with integers and texts exact, as the oracle gives them."""
    types = service.feature_types
    columns: list[list[object]] = []
    for at, name in enumerate(types):
        if at in features.arrays:
            columns.append(plain_lists(features.arrays[at], types[name]))
            continue
        column = features.columns[at]
        if isinstance(column, Text):
            columns.append(list(column.to_strings()))
            continue
        valid = np.ones(len(column), bool) if column.valid is None else column.valid
        pairs = zip(column.values.tolist(), valid.tolist(), strict=True)
        columns.append([value if ok else None for value, ok in pairs])
    return [dict(zip(types, row, strict=True)) for row in zip(*columns, strict=True)]


def plain_lists(column: Lists, dtype: ArrayType) -> list[list[object]]:
    """Lists as the oracle gives them: times as microseconds."""
    if dtype.elem is Timestamp:
        dtype = Array(Int64)
    return column.to_lists(dtype)
