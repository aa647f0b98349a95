"""The audit: every logged feature vector compared, bit for bit, with its recomputation from the log."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from penstock.core.errors import InputError
from penstock.engine.admission import same_values
from penstock.engine.decisions import Decisions, Flag
from penstock.engine.features import FeatureState
from penstock.engine.given import FAILED
from penstock.engine.kernel_rows import FloatMatrix
from penstock.engine.ports import LogReader
from penstock.engine.recovery import Progress, no_progress
from penstock.engine.replay import Replayed, replay
from penstock.kernel.columns import BoolArray, Column, IntArray, Numeric, Text
from penstock.plan.nodes import EndpointNode, Plan, ServiceNode

OTHER_DEFINITIONS = "served by other definitions"
"""Why a vector was skipped whose service has another fingerprint now."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A logged value that recomputation does not give."""

    position: int
    feature: str
    served: float
    recomputed: float


@dataclass(slots=True)
class AuditReport:
    """What an audit found.

    Attributes
    ----------
    vectors, values
        How many were compared.
    differing
        Values whose bits differ; 0 is the promise.
    missing
        Accepted events of an endpoint's source without a decision, from its first decision on; 0 is the promise.
    skipped
        Vectors that cannot be compared: erased, touched by an erasure, or served by other definitions; and events that
        are history, loaded before the endpoint decided for the first time.
    examples
        The first differing values.
    """

    vectors: int = 0
    values: int = 0
    differing: int = 0
    missing: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    examples: list[Mismatch] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every comparison agreed and no decision is missing."""
        return not self.differing and not self.missing


def audit(
    store: LogReader,
    plan: Plan,
    *,
    stop: int | None = None,
    progress: Progress = no_progress,
) -> AuditReport:
    """Fold the whole log again and compare each decision's vector with the recomputed one."""
    report = AuditReport()
    end = store.next_position if stop is None else min(stop, store.next_position)
    services = [plan.services[e.service] for e in plan.endpoints.values()]
    deciding_from = {name: first_decision(store, endpoint, end) for name, endpoint in plan.endpoints.items()}
    exact = plan.carried is not None
    services += [] if plan.carried is None else [plan.carried]
    for replayed in replay(store, FeatureState(plan), stop=end, services=services, exact=exact):
        if plan.carried is not None:
            compare_carried(plan.carried, replayed, report)
        for name, endpoint in plan.endpoints.items():
            compare(store, plan, endpoint, replayed, report, deciding_from=deciding_from[name])
        progress(replayed.chunk.stop, end)
    return report


def compare(
    store: LogReader,
    plan: Plan,
    endpoint: EndpointNode,
    replayed: Replayed,
    report: AuditReport,
    *,
    deciding_from: int,
) -> None:
    """Compare the decisions of `endpoint` in a replayed stretch, which decided first at `deciding_from`, into `report`."""
    rows = replayed.chunk.rows.get(endpoint.source)
    if rows is None:
        return
    recomputed = replayed.features[endpoint.service].values
    found = np.zeros(len(rows.positions), np.bool_)
    service = plan.services[endpoint.service]
    for batch in store.read_decisions(replayed.chunk.start, replayed.chunk.stop, endpoints={endpoint.name}):
        decisions = Decisions.from_bytes(batch.payload)
        inside = np.isin(batch.positions, rows.positions)
        at = np.searchsorted(rows.positions, batch.positions[inside])
        found[at] = True
        decisions = decisions.take(inside)
        if decisions.service != service.fingerprint:
            _skip(report, OTHER_DEFINITIONS, len(decisions))
            continue
        unverifiable = (decisions.flags & (Flag.ERASED | Flag.UNVERIFIABLE)) > 0
        _skip(report, "touched by an erasure", int(unverifiable.sum()))
        _count(
            report,
            positions=batch.positions[inside],
            decisions=decisions,
            recomputed=recomputed[at],
            comparable=~unverifiable,
            names=service.feature_names,
        )
    history = rows.positions < deciding_from
    _skip(report, "history, loaded before the first decision", int((~found & history).sum()))
    report.missing += int((~found & ~history).sum())


def compare_carried(service: ServiceNode, replayed: Replayed, report: AuditReport) -> None:
    """Compare what a stage handed on with its events in a replayed stretch, into `report`."""
    rows = replayed.chunk.rows.get(service.source)
    if rows is None:
        return
    failed = rows.columns[FAILED].values.astype(np.bool_)  # type: ignore[union-attr]
    _skip(report, "handed on without features", int(failed.sum()))
    report.vectors += int((~failed).sum())
    for at, output in enumerate(service.outputs):
        served, again = rows.columns[output.name], replayed.features[service.name].columns[at]
        different = np.flatnonzero(~same_values(_as_bits(served), _as_bits(again)) & ~failed)
        report.values += int((~failed).sum())
        report.differing += len(different)
        for row in different[: 10 - len(report.examples)].tolist():
            two = [float("nan") if isinstance(c, Text) else float(c.values[row]) for c in (served, again)]
            report.examples.append(Mismatch(int(rows.positions[row]), output.name, *two))


def _as_bits(column: Column) -> Column:
    if isinstance(column, Text) or column.values.dtype.kind != "f":
        return column
    return Numeric(column.values.view(np.int64), column.valid)


def first_decision(store: LogReader, endpoint: EndpointNode, end: int) -> int:
    """The position of the first event on which `endpoint` decided; `end` where there is none."""
    batches = store.read_decisions(0, end, endpoints={endpoint.name})
    return next((int(batch.positions[0]) for batch in batches), end)


def _count(
    report: AuditReport,
    *,
    positions: IntArray,
    decisions: Decisions,
    recomputed: FloatMatrix,
    comparable: BoolArray,
    names: tuple[str, ...],
) -> None:
    served, again = decisions.vectors[comparable], recomputed[comparable]
    if served.shape != again.shape:
        raise InputError(f"audit: vectors have {served.shape[1]} features, the plan {again.shape[1]}.")
    report.vectors += len(served)
    report.values += served.size
    differing = differing_bits(served, again)
    report.differing += int(differing.sum())
    for row, column in np.argwhere(differing)[: 10 - len(report.examples)].tolist():
        report.examples.append(
            Mismatch(
                int(positions[comparable][row]),
                names[column],
                float(served[row, column]),
                float(again[row, column]),
            )
        )


def differing_bits(left: FloatMatrix, right: FloatMatrix) -> BoolArray:
    """Which values are not the same float64; null (NaN) equals null, whatever its bits.

    >>> differing_bits(np.array([[0.0, np.nan]]), np.array([[-0.0, np.nan]])).tolist()
    [[True, False]]
    """
    same = np.ascontiguousarray(left).view(np.int64) == np.ascontiguousarray(right).view(np.int64)
    out: BoolArray = ~(same | (np.isnan(left) & np.isnan(right)))
    return out


def _skip(report: AuditReport, why: str, count: int) -> None:
    if count:
        report.skipped[why] = report.skipped.get(why, 0) + count
