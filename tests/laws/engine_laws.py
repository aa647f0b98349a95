"""What holds of an engine over any plan: live in any batches, replayed, restored and read by key it equals the oracle."""

from __future__ import annotations

import operator
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path

from penstock import FeatureService
from penstock.core.time import to_us
from penstock.engine.features import FeatureState
from penstock.engine.history import features_from_log
from penstock.engine.online import OnlineReader
from penstock.engine.recovery import decode_state, encode_state
from penstock.engine.replica import Borrowed, Replica
from penstock.plan.nodes import Plan
from penstock.testing.clock import ManualClock
from penstock.testing.reference_engine import ReferenceEngine
from penstock.testing.streams import START_US, Step
from tests.blobs import DictBlobs, publish, publisher_of
from tests.laws.parity import (
    answers_of,
    assert_same_vectors,
    engine_of,
    run_live,
    store_in,
    typed_rows,
)

Batches = Sequence[Sequence[Step]]


@dataclass(frozen=True)
class EngineLaws:
    """The laws of one plan.

    `numbers` is the service of its endpoint, `everything` another with what no vector can hold; `oracle` makes an engine of
    `everything` that has seen nothing; `same` says whether a value is the oracle's.
    """

    plan: Plan
    numbers: FeatureService
    everything: FeatureService
    oracle: Callable[[], ReferenceEngine]
    same: Callable[[object, object], bool] = operator.eq

    def live(self, batches: Batches, *cuts: Batches) -> None:
        """However the log of `batches` is cut, decisions are made on the oracle's answers."""
        answers = answers_of(self.oracle(), batches, self.numbers)
        for cut in (batches, *cuts):
            with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
                engine = engine_of(self.plan, store, ids, FeatureState(self.plan))
                vectors = run_live(engine, cut)
                engine.close()
            assert_same_vectors(vectors, answers)

    def replayed(self, batches: Batches) -> None:
        """What is computed from the log again is what the oracle says, integers and texts exact."""
        with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
            engine = engine_of(self.plan, store, ids, FeatureState(self.plan))
            run_live(engine, batches)
            engine.close()
            replayed = features_from_log(store, self.plan, self.plan.services[self.everything.name])
        found = typed_rows(replayed.features, self.everything)
        self.assert_same_rows(found, answers_of(self.oracle(), batches, self.everything))

    def resumed(self, batches: Batches, stop: int) -> None:
        """A state that was saved after `stop` batches goes on as if nothing had happened, and is saved to the same bytes."""
        with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
            before = engine_of(self.plan, store, ids, FeatureState(self.plan))
            vectors = run_live(before, batches[:stop])
            before.close()
            saved = encode_state(before.features)
            restored = decode_state(self.plan, saved)
            assert encode_state(restored) == saved
            after = engine_of(self.plan, store, ids, restored)
            vectors += run_live(after, batches[stop:])
            after.close()
        assert_same_vectors(vectors, answers_of(self.oracle(), batches, self.numbers))

    def read(self, batches: Batches, moments: Sequence[int], *, source: str, columns: Sequence[str]) -> None:
        """Between batches, asked for by key, features are what the oracle says of then; asking changes nothing."""
        told, vectors = self.oracle(), []
        records = [step.record for batch in batches for step in batch if step.source == source]
        asked = [{name: record.get(name) for name in columns} for record in records[:3]]
        with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
            engine = engine_of(self.plan, store, ids, FeatureState(self.plan))
            clock = ManualClock(START_US)
            reader = OnlineReader(engine, clock)
            for batch, moment in zip(batches, cycle(moments), strict=False):
                vectors += run_live(engine, [batch])
                for step in batch:
                    if not step.is_duplicate:
                        told.accept(step.source, step.record)
                clock.advance(timedelta(microseconds=START_US + moment - clock.now_us()))
                found = reader.read(self.everything.name, asked).to_dicts() if asked else []
                rows = [{name: comparable(value) for name, value in row.items()} for row in found]
                self.assert_same_rows(rows, [told.ask(record, START_US + moment) for record in asked])
            engine.close()
        assert_same_vectors(vectors, answers_of(self.oracle(), batches, self.numbers))

    def lent(self, batches: Batches, moments: Sequence[int], *, source: str, columns: Sequence[str]) -> None:
        """Who has only what was published of keys says of the next event, and of keys, what the oracle says."""
        told, answers = self.oracle(), iter(answers_of(self.oracle(), batches, self.numbers))
        records = [step.record for batch in batches for step in batch if step.source == source]
        asked = [{name: record.get(name) for name in columns} for record in records[:3]]
        with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
            engine = engine_of(self.plan, store, ids, FeatureState(self.plan))
            clock, blobs = ManualClock(START_US), DictBlobs()
            publisher = publisher_of(engine, store, blobs, clock)
            replica = Replica(self.plan, blobs, namespace="p", clock=clock, fresh_s=1e9)
            reader = OnlineReader(replica, clock)
            publish(publisher)
            for batch, moment in zip(batches, cycle(moments), strict=False):
                decided = [s for s in batch if s.source == source and not s.is_duplicate]
                expected = [next(answers) for _ in decided]
                if batch and batch[0] in decided[:1]:
                    events = engine.decode(source, [batch[0].record]).columns
                    borrowed, features = replica.features(self.plan.services[self.numbers.name], events)
                    assert borrowed == Borrowed(store.next_position, ())
                    assert_same_vectors(features.values.tolist(), expected[:1])
                run_live(engine, [batch])
                publish(publisher)
                for step in batch:
                    if not step.is_duplicate:
                        told.accept(step.source, step.record)
                clock.advance(timedelta(microseconds=START_US + moment - clock.now_us()))
                found = reader.read(self.everything.name, asked)
                assert not found.degraded
                rows = [{name: comparable(value) for name, value in row.items()} for row in found.to_dicts()]
                self.assert_same_rows(rows, [told.ask(record, START_US + moment) for record in asked])
            engine.close()

    def assert_same_rows(
        self, found: Sequence[dict[str, object]], answers: Sequence[dict[str, object]]
    ) -> None:
        """Rows are the oracle's answers."""
        assert len(found) == len(answers)
        for row, answer in zip(found, answers, strict=True):
            assert row.keys() == answer.keys()
            different = {
                name: (row[name], answer[name]) for name in answer if not self.same(row[name], answer[name])
            }
            assert not different


def comparable(value: object) -> object:
    """A value that was read, as the oracle has it: times as microseconds."""
    if isinstance(value, list):
        return [comparable(one) for one in value]
    return to_us(value) if isinstance(value, datetime) else value


def ones(batches: Batches) -> list[list[Step]]:
    """The same log, one record a batch."""
    return [[step] for batch in batches for step in batch]
