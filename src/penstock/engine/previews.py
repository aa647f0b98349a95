"""What a replica answers about events: what the engine would decide, if they came now; nothing of it is recorded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import structs

from penstock.engine.answers import Answer, decided_answers
from penstock.engine.contract import Refused
from penstock.engine.decisions import Flag, decide
from penstock.engine.replica import Borrowed, Replica
from penstock.engine.routing import Route
from penstock.kernel.columns import Columns
from penstock.plan.nodes import EndpointNode


class Preview(Answer, frozen=True, omit_defaults=True, gc=False, kw_only=True):
    """What would become of one event; its `status` is ``"preview"`` or ``"rejected"``.

    Attributes
    ----------
    recorded
        False: there is no decision on the event before the engine has it.
    log_position
        All that the log had accepted before it is in the features; None where the online store did not tell.
    """

    recorded: bool
    log_position: int | None = None


def previews(
    replica: Replica, endpoint: EndpointNode, route: Route, events: Columns, *, with_features: bool = False
) -> list[Preview]:
    """One preview for each event of an endpoint's stream; each sees those before it.

    Raises
    ------
    TransformError
        A view's function failed.
    StoreError
        The online store does not answer, and the replica does not go on without it.
    """
    plan = replica.plan
    service = plan.services[endpoint.service]
    borrowed, features = replica.features(service, events)
    positions = max(borrowed.position, 0) + np.arange(events.length)
    decisions = decide(endpoint, features, route, service.fingerprint, lambda: (events, positions))
    if borrowed.flags:
        decisions = decisions.replacing(flags=decisions.flags | np.uint8(Flag.DEGRADED))
    answers = decided_answers(
        "preview",
        events,
        plan.sources[endpoint.source],
        positions,
        decisions=decisions,
        features=service.feature_names if with_features else (),
    )
    return [_preview(answer, borrowed) for answer in answers]


def with_refused(made: Sequence[Preview], rows: Sequence[int], refused: Sequence[Refused]) -> list[Preview]:
    """Previews of the events in `rows`, and what is said of those that break their contract, in order of input."""
    found = dict(zip(rows, made, strict=True))
    for one in refused:
        found[one.row] = Preview("rejected", reason=one.reason, detail=one.detail, recorded=False)
    return [found[row] for row in sorted(found)]


def _preview(answer: Answer, borrowed: Borrowed) -> Preview:
    values = structs.asdict(answer) | {"position": None, "flags": (*answer.flags, *borrowed.flags)}
    return Preview(
        **values, recorded=False, log_position=borrowed.position if borrowed.position >= 0 else None
    )
