"""Retraining: when a model is trained again without a hand, and how far the new version goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from penstock.core.cron import Cron
from penstock.core.errors import DefinitionError
from penstock.definitions.sources import check_not_negative

TARGETS = ("Production", "Staging")
FLOORS: dict[str, bool] = {
    "average_precision": True,
    "roc_auc": True,
    "log_loss": False,
    "brier": False,
    "mae": False,
    "rmse": False,
}
"""The figures that may have a floor, and whether more is better; of the others the limit is a ceiling."""


@dataclass(frozen=True, slots=True, init=False)
class Retraining:
    """When a model is trained again while the project runs, and how far the new version goes.

    Any one of the reasons suffices. A label counts once: an attempt that ended has used the labels that were there, whatever
    became of it. Labels, drift and floor wait for `min_positives` new positives (of a regression: labels), since the same data
    would give the same model. The new version must pass its model's gate.

    Parameters
    ----------
    new_labels
        So many labels that joined their events since the last attempt; None: labels alone are no reason.
    min_positives
        So many of them must be positive.
    schedule
        A cron text in UTC, such as ``"0 3 * * *"``; a time that passed while nothing ran is made up for once.
    on_drift
        Whether a drift alarm of the model's endpoint is a reason (see `Monitor`).
    metric_floor
        ``{figure: limit}`` over the newest window whose labels had their time: average_precision and roc_auc must not fall below,
        log_loss, brier, mae and rmse not rise above.
    cooldown
        The least time from the start of one attempt to the start of the next, by the clock.
    to
        The stage that a version reaches which passes its gate: ``"Production"`` or ``"Staging"``.
    shadow_for
        For Production: so long, in event time, the version is in Staging first, where shadow arms score it; then it is judged
        again on the events since.

    Examples
    --------
    >>> Retraining(schedule="0 3 * * *", cooldown=timedelta(hours=12)).new_labels
    500
    """

    new_labels: int | None
    min_positives: int
    schedule: str | None
    on_drift: bool
    metric_floor: tuple[tuple[str, float], ...]
    cooldown: timedelta
    to: str
    shadow_for: timedelta | None

    def __init__(
        self,
        *,
        new_labels: int | None = 500,
        min_positives: int = 20,
        schedule: str | None = None,
        on_drift: bool = False,
        metric_floor: Mapping[str, float] | None = None,
        cooldown: timedelta = timedelta(hours=1),
        to: str = "Production",
        shadow_for: timedelta | None = None,
    ) -> None:
        if new_labels is not None:
            _check_count("new_labels", new_labels)
        _check_count("min_positives", min_positives, least=0)
        if schedule is not None:
            Cron.parse(schedule, owner="Retraining, schedule")
        check_not_negative(cooldown, owner="Retraining", argument="cooldown")
        _check_target(to, shadow_for)
        for attribute, value in (
            ("new_labels", new_labels),
            ("min_positives", min_positives),
            ("schedule", schedule),
            ("on_drift", bool(on_drift)),
            ("metric_floor", _floors(metric_floor)),
            ("cooldown", cooldown),
            ("to", to),
            ("shadow_for", shadow_for),
        ):
            object.__setattr__(self, attribute, value)


def check_retraining(retraining: object, *, learns: bool, start: object, owner: str) -> None:
    """Raise `DefinitionError` unless a model can be trained again as `retraining` says."""
    if retraining is None:
        return
    if not isinstance(retraining, Retraining):
        raise DefinitionError(
            f"{owner}: retraining is {retraining!r}; allowed are a Retraining and None. Write for example "
            "retraining=Retraining(new_labels=500)."
        )
    if learns:
        raise DefinitionError(
            f"{owner}: it has learning and retraining; allowed is one. A model with learning=Online(...) takes up every label "
            "as it is: leave retraining out."
        )
    if start is not None:
        raise DefinitionError(
            f"{owner}: its split starts at {start}, so that training again would give the same model; allowed with retraining is a "
            "split without start. Leave start out: the periods then end where labels had their time."
        )


def _check_count(name: str, value: object, *, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DefinitionError(
            f"Retraining: {name} is {value!r}; allowed is a whole number of at least {least}. Write for example {name}=500."
        )


def _check_target(to: object, shadow_for: object) -> None:
    if to not in TARGETS:
        raise DefinitionError(
            f"Retraining: to is {to!r}; allowed are {', '.join(TARGETS)}. Choose one of these."
        )
    if shadow_for is None:
        return
    if not isinstance(shadow_for, timedelta) or shadow_for <= timedelta(0) or to != "Production":
        raise DefinitionError(
            f"Retraining: shadow_for is {shadow_for!r} and to {to!r}; allowed is a timedelta longer than zero on the way to "
            'Production. Write for example shadow_for=timedelta(days=1), or leave it out for to="Staging".'
        )


def _floors(floors: object) -> tuple[tuple[str, float], ...]:
    if floors is None:
        return ()
    if not isinstance(floors, Mapping) or not floors or not set(floors) <= set(FLOORS):
        raise DefinitionError(
            f"Retraining: metric_floor is {floors!r}; allowed is a dict of {', '.join(FLOORS)} and their limits. Write for "
            'example metric_floor={"average_precision": 0.5}.'
        )
    for name, limit in floors.items():
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit < float("inf"):
            raise DefinitionError(
                f"Retraining: the limit of {name} is {limit!r}; allowed is a finite number of at least 0. Write for example 0.5."
            )
    return tuple((name, float(limit)) for name, limit in floors.items())
