"""Drift day by day: each day's features and scores against what a version was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.app.measuring import Progress, scored_batches
from penstock.core.time import DAY_US, from_us
from penstock.monitoring.drift import measure_drift
from penstock.monitoring.hours import HOUR_US
from penstock.monitoring.profile import Sample

if TYPE_CHECKING:
    from penstock.app.drifting import Reference
    from penstock.definitions.monitors import Monitor
    from penstock.engine.ports import LogReader
    from penstock.plan.nodes import Plan

DAYS = 28


def daily_drift(
    store: LogReader,
    plan: Plan,
    monitor: Monitor,
    *,
    reference: Reference,
    days: int = DAYS,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """The newest `days` days (UTC, of event time) that have decisions, oldest first, as JSON values.

    Of each column the PSI, what it does not exceed without drift, and whether it drifted that day, false alarms bounded as in a report. Of a
    day of which hours are missing (`is_whole`), such as the newest, nothing is said to have drifted: its hours are no sample of a day.
    """
    held: dict[int, list[Sample]] = {}
    reach: dict[int, tuple[int, int]] = {}
    name, profile = monitor.endpoint.name, [one.of_days() for one in reference.profile.columns]
    columns = [one for one in profile if one.role == "feature"]
    score = next((one for one in profile if one.role == "score"), None)
    for scored, _, decisions in scored_batches(store, plan, monitor, labelled=False, progress=progress):
        logged = plan.columns_of(name, logged=decisions.service, wanted=reference.service)
        if logged is None:
            continue
        of_day = scored.times_us // DAY_US
        own = decisions.of_version(reference.version)
        for day in np.unique(of_day).tolist():
            if len(held) >= days and day < min(held):
                continue
            samples = held.setdefault(
                day, [Sample(one) for one in (*([] if score is None else [score]), *columns)]
            )
            now = of_day == day
            first, last = reach.get(day, (2**62, -(2**62)))
            times = scored.times_us[now]
            reach[day] = min(first, int(times.min())), max(last, int(times.max()))
            if score is not None:
                samples[0].add(scored.scores[now & own])
            for i, sample in zip(logged, samples[len(samples) - len(columns) :], strict=True):
                sample.add(decisions.vectors[now, i])
        for old in sorted(held)[:-days]:
            del held[old]
    return [
        _day(day, samples, monitor, is_whole=_is_whole(day, *reach[day]))
        for day, samples in sorted(held.items())
    ]


def _is_whole(day: int, first_us: int, last_us: int) -> bool:
    """Whether the rows of a day reach from its first hour to its last."""
    begin = day * DAY_US
    return first_us < begin + HOUR_US and last_us >= begin + DAY_US - HOUR_US


def _day(day: int, samples: list[Sample], monitor: Monitor, *, is_whole: bool) -> dict[str, Any]:
    from penstock.app.drifting import METHODS

    found = measure_drift(
        samples,
        false_alarms=monitor.false_alarms,
        method=METHODS[monitor.false_discovery],
        min_effect=monitor.min_effect,
    ).to_dict()
    return {
        "day": f"{from_us(day * DAY_US):%Y-%m-%d}",
        "is_whole": is_whole,
        "columns": [
            {
                "name": one["name"],
                "rows": one["rows"],
                "psi": one["psi"]["value"],
                "threshold": one["psi"]["threshold"],
                "drifted": is_whole and one["name"] in found["drifted"],
            }
            for one in found["columns"]
        ],
    }
