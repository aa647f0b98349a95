"""Metrics of an endpoint from its stored decisions and labels, for `penstock metrics` and for a restart.

Decisions are read in log order, a batch at a time, each with its events and with the labels that are known: once, and once more where the most
frequent values of a segment turned out to be others than those that came first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.app.anomalies import AnomalyRows
from penstock.app.scored import Describer
from penstock.core.errors import NotFoundError, PlanError
from penstock.core.records import DecisionBatch
from penstock.core.time import to_us
from penstock.definitions.monitors import Monitor
from penstock.definitions.project import Project
from penstock.engine.decisions import Decisions
from penstock.engine.lookup import RowReader
from penstock.engine.ports import LogReader
from penstock.models.dataset import labels_at
from penstock.monitoring.anomalies import PrequentialAnomalies
from penstock.monitoring.board import ALL, Board, Group, Periods, Scored, Window
from penstock.monitoring.prequential import BINS, Prequential, Quality
from penstock.monitoring.regression import PrequentialRegression, RegressionQuality
from penstock.monitoring.segment_counts import SegmentCounts, Told
from penstock.plan.nodes import Plan

if TYPE_CHECKING:
    from penstock.app.version_thresholds import VersionThresholds
    from penstock.models.evaluation_anomaly import AlarmReport, AnomalyReport

FloatArray = npt.NDArray[np.float64]
Cell = Prequential | PrequentialRegression
Progress = Callable[[int, int], None]
Batches = Iterator[tuple[Scored, FloatArray, Decisions]]
Counting = tuple[Board, Callable[[Scored, FloatArray, Decisions], None]]
"""A board that has counted nothing yet, and what takes a batch of decisions."""

SLOT_BINS = 1 << 11
"""Slots tell scores apart by 0.018 in logit; totals ten times finer."""
ROW_SLICE = 65_536


def monitor_of(project: Project, endpoint: str | None = None) -> Monitor:
    """The monitor of an endpoint, the one written or the default; of the only endpoint where none is named.

    Raises
    ------
    NotFoundError
        There is no such endpoint, or none is named and there is not exactly one.
    PlanError
        Two monitors watch the endpoint.
    """
    names = ", ".join(project.endpoints) or "none"
    if endpoint is None and len(project.endpoints) != 1:
        raise NotFoundError(f"project {project.name!r} defines the endpoints {names}; name one of them.")
    name = next(iter(project.endpoints)) if endpoint is None else endpoint
    if name not in project.endpoints:
        raise NotFoundError(f"Endpoint {name!r}: the project defines {names}. Choose one of these.")
    written = [monitor for monitor in project.monitors.values() if monitor.endpoint.name == name]
    if len(written) > 1:
        raise PlanError(
            f"Endpoint {name!r}: it is watched by the monitors {', '.join(m.name for m in written)}; allowed is one. "
            "Put all into one, and remove the other."
        )
    return written[0] if written else Monitor(endpoint=project.endpoints[name])


def empty_board(
    monitor: Monitor,
    *,
    thresholds: Sequence[float] | None = None,
    keep_all: bool = False,
    slot_us: int | None = None,
    told: Told | None = None,
) -> Board:
    """A board for what `monitor` watches, at these `thresholds` (None: the policy's own).

    With `slot_us` on a grid of its own, to which windows are lengthened; with `told` the values of segments that are told apart.
    """
    model, policy = monitor.endpoint.model, monitor.endpoint.policy

    def cell(bins: int) -> Cell:
        if model.task == "regression":
            return PrequentialRegression(quantile=monitor.quantile)
        actions = dict(policy.actions)
        if thresholds is not None:
            actions = dict(zip(actions, thresholds, strict=True))
        kind = PrequentialAnomalies if model.task == "anomaly" else Prequential
        return kind(actions, costs=policy.costs, bins=bins)

    return Board(
        lambda: cell(BINS),
        lambda: cell(SLOT_BINS),
        periods=periods_of(monitor, slot_us=slot_us),
        max_values=monitor.max_segments,
        top_k=monitor.top_k,
        keep_all=keep_all,
        told=told,
    )


def periods_of(monitor: Monitor, *, slot_us: int | None = None) -> Periods:
    """How a monitor cuts event time; see `empty_board`."""
    slot = slot_us or monitor.slot_us
    return Periods(
        slot_us=slot,
        windows_us=tuple(-(-to_us(window) // slot) * slot for window in monitor.windows),
        delay_us=to_us(monitor.delay),
    )


def counted(
    monitor: Monitor, begin: Callable[[Told | None], Counting], batches: Callable[[], Batches]
) -> SegmentCounts:
    """Count all decisions so that of each segment the most frequent values of each window are told apart.

    Which those are shows only at the end. Where values came that were not told apart, and are among the most frequent, everything is
    counted once more, with these.

    Parameters
    ----------
    begin
        Begins to count, with the values that are to be told apart (None: those that come first); gives the board, and what takes a batch.
    batches
        The decisions, anew each time.
    """
    board, take = begin(None)
    counts = SegmentCounts(board.periods)
    for batch in batches():
        take(*batch)
        counts.add(batch[0])
    told = board.unsettled(counts.frequent(monitor.max_segments))
    if told:  # never so where no segment has more values than may be told apart
        _, take = begin(told)
        for batch in batches():
            take(*batch)
    return counts


def stored_board(
    store: LogReader,
    plan: Plan,
    monitor: Monitor,
    *,
    thresholds: VersionThresholds | None = None,
    as_of_us: int | None = None,
    keep_all: bool = False,
    only: Group | None = None,
    progress: Progress | None = None,
) -> Board:
    """Quality by group and period, from what is stored.

    Parameters
    ----------
    thresholds
        At which decisions are judged, each by its version's; default: all by the policy's own.
    as_of_us
        Only events up to this time, and labels that were known by then; None: all.
    keep_all
        Keep every slot, for figures by day.
    only
        The one group that is told apart, however many others come before it.
    """
    return counted_board(
        store,
        plan,
        monitor,
        thresholds=thresholds,
        as_of_us=as_of_us,
        keep_all=keep_all,
        only=only,
        progress=progress,
    )[0]


def counted_board(
    store: LogReader,
    plan: Plan,
    monitor: Monitor,
    *,
    thresholds: VersionThresholds | None = None,
    as_of_us: int | None = None,
    keep_all: bool = False,
    only: Group | None = None,
    progress: Progress | None = None,
) -> tuple[Board, SegmentCounts]:
    """`stored_board`, with how often each value of a segment came."""
    in_force = None if thresholds is None else thresholds.in_force
    made: list[Board] = []

    def begin(told: Told | None) -> Counting:
        board = empty_board(monitor, thresholds=in_force, keep_all=keep_all, told=told)
        made.append(board)
        return board, lambda scored, labels, _: count(board, scored, labels)

    def batches() -> Batches:
        found = scored_batches(
            store, plan, monitor, thresholds=thresholds, as_of_us=as_of_us, progress=progress
        )
        for scored, labels, decisions in found:
            yield (scored if only is None else scored.apart(only)), labels, decisions

    counts = counted(monitor, begin, batches)
    return made[-1], counts


def anomaly_rows(
    monitor: Monitor, board: Board, *, thresholds: VersionThresholds | None = None
) -> AnomalyRows | None:
    """What keeps the decisions of a detector of anomalies; None for another model."""
    if monitor.endpoint.model.task != "anomaly":
        return None
    own = [threshold for _, threshold in monitor.endpoint.policy.actions]
    return AnomalyRows(monitor, board, thresholds=own if thresholds is None else thresholds.in_force)


def stored_metrics(
    store: LogReader,
    plan: Plan,
    monitor: Monitor,
    *,
    by: str | None = None,
    thresholds: VersionThresholds | None = None,
    as_of_us: int | None = None,
    progress: Progress | None = None,
) -> Metrics:
    """What `penstock metrics` shows, from what is stored; see `stored_board` and `metrics_of` for the parameters."""
    made: list[tuple[Board, AnomalyRows | None]] = []

    def begin(told: Told | None) -> Counting:
        in_force = None if thresholds is None else thresholds.in_force
        board = empty_board(monitor, thresholds=in_force, keep_all=by == "day", told=told)
        anomalies = anomaly_rows(monitor, board, thresholds=thresholds)
        made.append((board, anomalies))
        return board, taker(board, anomalies)

    def batches() -> Batches:
        return scored_batches(
            store, plan, monitor, thresholds=thresholds, as_of_us=as_of_us, progress=progress
        )

    counted(monitor, begin, batches)
    board, anomalies = made[-1]
    return metrics_of(board, monitor, by=by, anomalies=anomalies)


def taker(board: Board, anomalies: AnomalyRows | None) -> Callable[[Scored, FloatArray, Decisions], None]:
    """What counts a batch on a board, and keeps the decisions of a detector."""

    def take(scored: Scored, labels: FloatArray, decisions: Decisions) -> None:
        count(board, scored, labels)
        if anomalies is not None:
            anomalies.add(scored, labels, decisions)

    return take


def count(board: Board, scored: Scored, labels: FloatArray) -> None:
    """Count decisions and the labels that are known of them (NaN: not known)."""
    board.decide(scored)
    known = np.flatnonzero(~np.isnan(labels))
    if len(known):
        board.learn(scored.take(known), labels[known])


def scored_batches(
    store: LogReader,
    plan: Plan,
    monitor: Monitor,
    *,
    thresholds: VersionThresholds | None = None,
    as_of_us: int | None = None,
    labelled: bool = True,
    start: int = 0,
    progress: Progress | None = None,
) -> Batches:
    """The decisions of an endpoint in log order: described, with their labels (NaN: not known), and as stored.

    `start` is the log position from which on they are read; batches come whole.
    """
    describe = Describer(plan, monitor, thresholds=thresholds)
    rows = RowReader(store, plan.sources)
    total = store.next_position
    for decided, stored in _slices(store.read_decisions(start, endpoints={describe.endpoint.name})):
        positions, decisions, scored = describe.part(rows, decided, stored)
        if as_of_us is not None:
            past = np.flatnonzero(scored.times_us <= as_of_us)
            positions, decisions, scored = positions[past], decisions.take(past), scored.take(past)
        if not len(positions):
            continue
        labels = np.full(len(positions), np.nan)
        if labelled:
            known = store.latest_labels(int(positions[0]), int(positions[-1]) + 1, as_of_us=as_of_us)
            labels, _ = labels_at(positions, known)
        yield scored, labels, decisions
        if progress is not None:
            progress(int(positions[-1]) + 1, total)


def _slices(batches: Iterator[DecisionBatch]) -> Iterator[tuple[npt.NDArray[np.int64], Decisions]]:
    """Decision batches cut to at most `ROW_SLICE` rows."""
    for batch in batches:
        decisions = Decisions.from_bytes(batch.payload)
        for first in range(0, len(batch.positions), ROW_SLICE):
            chosen = np.arange(first, min(first + ROW_SLICE, len(batch.positions)))
            yield batch.positions[chosen], decisions.take(chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMetrics:
    """What decisions of a version, an arm or a segment were worth.

    Attributes
    ----------
    dimension, value
        Such as ``version`` and ``fraud:3``, or ``country`` and ``DE``.
    quality
        Since the beginning.
    windows
        The same windows as of all decisions.
    alarms
        Of a detector of anomalies: what each action came to, since the beginning.
    """

    dimension: str
    value: str
    quality: Quality | RegressionQuality
    windows: tuple[Window, ...]
    alarms: tuple[AlarmReport, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What `penstock metrics` shows: all decisions, the newest windows, and the same of each group, or each day."""

    endpoint: str
    task: str
    newest_us: int | None
    delay_us: int
    total: Any
    windows: tuple[Window, ...]
    groups: tuple[GroupMetrics, ...] = ()
    days: tuple[Window, ...] = ()
    anomalies: AnomalyReport | None = None
    """Of a detector of anomalies."""

    def to_dict(self) -> dict[str, Any]:
        """The metrics as JSON values."""
        return asdict(self)


def metrics_of(
    board: Board, monitor: Monitor, *, by: str | None = None, anomalies: AnomalyRows | None = None
) -> Metrics:
    """The figures of a board; `by` is ``version``, ``arm``, ``segment:NAME`` or ``day``.

    `anomalies` are the decisions that the board counted, of a detector.

    Raises
    ------
    NotFoundError
        `by` names nothing that is watched.
    """
    windows = tuple(board.windows())
    return Metrics(
        endpoint=monitor.endpoint.name,
        task=monitor.endpoint.model.task,
        newest_us=board.newest_us,
        delay_us=to_us(monitor.delay),
        total=board.total().summary(),
        windows=windows if anomalies is None else anomalies.with_alarms(ALL, windows),
        groups=tuple(group_metrics(board, group, anomalies) for group in _groups(board, monitor, by)),
        days=tuple(board.days()) if by == "day" else (),
        anomalies=None if anomalies is None else anomalies.report(),
    )


def group_metrics(board: Board, group: Group, anomalies: AnomalyRows | None = None) -> GroupMetrics:
    """The figures of one group of a board."""
    windows = tuple(board.windows(group))
    return GroupMetrics(
        dimension=group.dimension,
        value=group.value,
        quality=board.total(group).summary(),
        windows=windows if anomalies is None else anomalies.with_alarms(group, windows),
        alarms=() if anomalies is None else anomalies.alarms(group),
    )


def _groups(board: Board, monitor: Monitor, by: str | None) -> Sequence[Group]:
    if by is None or by == "day":
        return ()
    name = by.removeprefix("segment:")
    allowed = ["version", "arm", *monitor.segments]
    if name not in allowed:
        raise NotFoundError(
            f"Monitor {monitor.name!r}: by {by!r} found; allowed are version, arm, day and segment:NAME of "
            f"{', '.join(monitor.segments) or 'its segments, of which there are none'}. Choose one, or add the segment: "
            f"Monitor(endpoint=..., segments=[{name!r}])."
        )
    return [group for group in board.groups if group.dimension == name and group != ALL]
