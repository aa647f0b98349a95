"""A runtime that lives through a part of the feed, and the verdict on what it left behind."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np

from penstock.app import runtime as runtime_module
from penstock.app.runtime import Runtime, plan_of
from penstock.app.settings import EngineSettings, Settings, load_settings
from penstock.definitions.project import load_project
from penstock.engine.audit import audit
from penstock.engine.decisions import Decisions
from penstock.engine.recovery import catch_up, encode_state
from penstock.kernel.columns import Columns
from penstock.kernel.program import Program
from penstock.plan import compile as compile_module
from penstock.stores.ids import IdIndex
from penstock.testing.clock import ManualClock
from tests.crash.feed import BATCH_SIZES, Expected, Feed

PROJECT = Path(__file__).parent / "cards"
OFFSET = "feed"
MAX_KEYS = 60  # of 80 cards: keys leave and come back
RUN_SIZE = 64
SNAPSHOT_ROWS = 40


class Scorer:
    """A model whose score of a row depends on that row's bits alone."""

    version, digest = "model:1", ""
    digest = ""

    def __init__(self, feature_names):
        self.feature_names = feature_names

    def score(self, vectors):
        total = np.zeros(len(vectors))
        for column in np.nan_to_num(vectors).T:
            total = np.mod(total * 7.7 + column * 0.6180339887498949, 1.0)
        return total


def index_with_runs_of(run_size):
    """The index of event ids, sealing and merging runs all the time."""

    class SmallRuns(IdIndex):
        @classmethod
        def open(cls, directory, **arguments):
            return super().open(directory, **arguments, run_size=run_size)

    return SmallRuns


@functools.cache
def project():
    return load_project(PROJECT)


@contextmanager
def small_parts(*, run_size=RUN_SIZE, max_keys=MAX_KEYS) -> Iterator[None]:
    """What takes millions of events to happen happens here after dozens."""

    def program(**given):
        return Program(**{**given, "max_keys": max_keys})

    index = index_with_runs_of(run_size)
    with patch.object(runtime_module, "IdIndex", index), patch.object(compile_module, "Program", program):
        yield


def open_runtime(root: Path, feed: Feed, *, durability="process", with_model=True, **more) -> Runtime:
    """The project over the state in `root`, at the end of the feed's time, so that only the far future is refused."""
    engine = EngineSettings(durability=durability, snapshot_rows=SNAPSHOT_ROWS)
    settings = Settings(engine=engine, store=load_settings(root).store)
    with small_parts():
        runtime = Runtime.open(
            root, project=project(), settings=settings, clock=ManualClock(feed.end_us), **more
        )
    if with_model:
        endpoint = runtime.plan.endpoints["checkout"]
        names = runtime.plan.services[endpoint.service].feature_names
        runtime.routes.serve(endpoint.name, Scorer(names))
    return runtime


def the_plan():
    with small_parts():
        return plan_of(project())


def live(
    runtime: Runtime,
    feed: Feed,
    chance,
    acknowledge: Callable[[int], None],
    *,
    sizes=BATCH_SIZES,
    overlap=0.7,
) -> None:
    """Go on with the feed to its end in micro-batches of any size, acknowledging what is durable."""
    at = int(runtime.store.offsets().get(OFFSET, 0))
    under_way = deque()
    while at < len(feed.units):
        stop = feed.next_stop(at, chance.choice(sizes))
        inputs = [(source, runtime.engine.decode(source, data)) for source, data in feed.inputs(at, stop)]
        processed = runtime.process(
            inputs, by_time=len(inputs) > 1, offsets={OFFSET: str(stop)}, overlap=chance.random() < overlap
        )
        under_way.append((stop, processed))
        at = stop
        while len(under_way) > chance.choice((0, 1, 3)):
            done, processed = under_way.popleft()
            processed.wait()
            acknowledge(done)
    for done, processed in under_way:
        processed.wait()
        acknowledge(done)


@dataclass(frozen=True, eq=False)
class Found:
    """What a store holds, in log order."""

    ids: list[str]
    event_positions: np.ndarray
    decided: np.ndarray
    scores: np.ndarray
    taken: np.ndarray
    flags: np.ndarray
    vectors: np.ndarray

    @classmethod
    def of(cls, store) -> Found:
        ids, positions = [], [np.zeros(0, np.int64)]
        for batch in store.read_log(sources={"payments"}):
            ids += Columns.from_bytes(batch.payload)["id"].to_strings()
            positions.append(batch.positions)
        batches = list(store.read_decisions())
        made = [Decisions.from_bytes(batch.payload) for batch in batches]
        decided = np.concatenate([np.zeros(0, np.int64), *(batch.positions for batch in batches)])
        columns = len(made[0].vectors[0]) if made else 0
        return cls(
            [str(one) for one in ids],
            np.concatenate(positions),
            decided,
            *(
                np.concatenate([np.zeros(0), *(getattr(d, n) for d in made)])
                for n in ("scores", "taken", "flags")
            ),
            np.concatenate([np.zeros((0, columns)), *(d.vectors for d in made)]),
        )

    def check_begins(self, whole: Found) -> None:
        """Assert that this is a beginning of `whole`, bit for bit."""
        n = len(self.ids)
        assert self.ids == whole.ids[:n], "other events, or in another order"
        for name in ("event_positions", "decided", "scores", "taken", "flags", "vectors"):
            mine, its = getattr(self, name), getattr(whole, name)[:n]
            assert mine.tobytes() == its.tobytes(), f"{name} differ from those of an uninterrupted run"


@dataclass(frozen=True, eq=False)
class Uninterrupted:
    """What the feed comes to when nothing happens."""

    found: Found
    counters: dict[str, int]
    state: bytes


def run_through(root: Path, feed: Feed, chance, **more) -> Uninterrupted:
    """The whole feed in one life."""
    runtime = open_runtime(root, feed, **more)
    live(runtime, feed, chance, lambda done: None, sizes=(100,))
    whole = Uninterrupted(
        Found.of(runtime.store), runtime.store.counters(), encode_state(runtime.engine.features)
    )
    check_store(runtime.store, feed)
    check_state(runtime)
    runtime.close()
    return whole


def check_store(store, feed: Feed, whole: Uninterrupted | None = None) -> int:
    """Assert that a store holds a beginning of the feed, all of it, once; returns how many units that is."""
    stop = int(store.offsets().get(OFFSET, 0))
    expected = feed.expected(stop)
    found = Found.of(store)
    assert sorted(found.ids) == sorted(expected.ids), (
        "events lost, doubled, or of another commit than the offset"
    )
    assert found.decided.tolist() == found.event_positions.tolist(), "an event has no decision, or two"
    _check_counters(store, expected)
    _check_labels(store, expected, found)
    if whole is not None:
        found.check_begins(whole.found)
        if stop == len(feed.units):
            assert store.counters() == whole.counters
    return stop


def _check_counters(store, expected: Expected) -> None:
    found = store.counters()
    assert {name: found.get(name, 0) for name in expected.counters} == expected.counters, (
        "counters of another commit than the offset"
    )
    assert found.get("received", 0) == sum(
        found.get(n, 0) for n in ("scored", "logged", "duplicate", "rejected")
    )
    assert store.next_position == expected.rows, "the log holds another number of rows"
    assert store.dead_letter_count() == expected.dead_letters


def _check_labels(store, expected: Expected, found: Found) -> None:
    labels = store.labels_of(found.event_positions)
    id_at = dict(zip(found.event_positions.tolist(), found.ids, strict=True))
    joined: dict[str, list[tuple[float, int]]] = {}
    for event, value, known in zip(
        labels.event_positions.tolist(), labels.values.tolist(), labels.known_at_us.tolist(), strict=True
    ):
        joined.setdefault(id_at[event], []).append((value, known))
    assert joined == expected.labels, "labels lost, joined twice, or to other events"
    assert len(store.pending_labels()) == expected.waiting


def check_state(runtime: Runtime, whole: Uninterrupted | None = None) -> None:
    """Assert that state equals the fold of the whole log, and every logged vector its recomputation."""
    state = encode_state(runtime.engine.features)
    assert state == encode_state(catch_up(runtime.store, runtime.plan)), "state is not the fold of the log"
    report = audit(runtime.store, runtime.plan)
    assert (report.differing, report.missing, report.skipped) == (0, 0, {}), report
    if whole is not None:
        assert state == whole.state, "state differs from that of an uninterrupted run"


def check_again(runtime: Runtime, feed: Feed) -> None:
    """Send all of the feed's payments again: nothing is accepted."""
    before = runtime.store.counters()
    lines = [u.line for u in feed.units if u.kind in {"new", "duplicate"}]
    outcome = runtime.process([("payments", runtime.engine.decode("payments", b"\n".join(lines)))]).wait()
    assert not len(outcome.outcomes[0].positions), "the index of event ids has forgotten events"
    after = runtime.store.counters()
    assert after["duplicate"] - before["duplicate"] == len(lines)
