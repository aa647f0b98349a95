"""Versions, arms and segments side by side: in the same windows, over time, and one of them in full."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from penstock.dashboard import charts
from penstock.dashboard.client import query
from penstock.dashboard.elements import Column, card, cell, chart, el, row, stack, table, tabs
from penstock.dashboard.texts import figure, percent, when, whole
from penstock.dashboard.theme import SERIES

Figures = dict[str, Any]

SINCE = "all"
"""What the choice of no window is called: since the beginning."""

_CLASSES = {
    "average_precision": "PR-AUC",
    "roc_auc": "ROC-AUC",
    "log_loss": "Log loss",
    "brier": "Brier",
    "calibration_error": "Calibration error",
}
_POINTS = {
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "false_positive_rate": "False alarms",
    "cost": "Cost",
}
_NUMBERS = {"mae": "MAE", "rmse": "RMSE", "bias": "Bias", "pinball": "Pinball"}
MEASURES: Mapping[str, Mapping[str, str]] = {
    "binary": _CLASSES | _POINTS,
    "regression": _NUMBERS,
    "anomaly": {
        "average_precision": "PR-AUC",
        "roc_auc": "ROC-AUC",
        "unevenness": "Unevenness",
        "precision": "Precision",
        "recall": "Recall",
        "false_positive_rate": "False alarms",
    },
}
"""What can be drawn of each task, and how it is called."""

_CHOICES = "display: flex; flex-wrap: wrap; gap: 8px"
_SCORE_COLUMNS = 9
_SHARES = frozenset({"average_precision", "roc_auc", "precision", "recall", "f1"})


class Chosen(NamedTuple):
    """What a page's address asks for; empty where it does not say."""

    endpoint: str
    by: str
    window: str = ""
    measure: str = ""
    action: str = ""
    group: str = ""

    def href(self, **other: str) -> str:
        """The address of the same page with another choice."""
        return query("/performance", **self._replace(**other)._asdict())


def show_parts(found: Figures, chosen: Chosen) -> None:
    """Build it of the answer of ``/v1/endpoints/{endpoint}/metrics?by=...``."""
    with stack():
        _side_by_side(found, chosen)
        if not found["groups"]:
            return
        _over_time(found, chosen)
        one = next((group for group in found["groups"] if group["value"] == chosen.group), None)
        if one is not None:
            _in_full(found, one, _dimension(chosen.by))


def _side_by_side(found: Figures, chosen: Chosen) -> None:
    with card("By part", "each in the same window of events", classes="card flush"):
        dimensions = list(dict.fromkeys([*found["dimensions"], chosen.by]))
        windows = [(SINCE, "since the beginning")] + [
            (
                str(at),
                window_text(window) if window["mature"] else f"{window_text(window)}, labels still come",
            )
            for at, window in enumerate(found["windows"])
        ]
        at = chosen.window if chosen.window in dict(windows) else SINCE
        with el("div", "", style=f"{_CHOICES}; padding: 0 18px 12px"):
            tabs(
                "By", [(one, _dimension(one)) for one in dimensions], chosen.by, lambda one: _of(chosen, one)
            )
            tabs("Window", windows, at, lambda one: chosen.href(window=one))
        columns, cells = _table_of(found["task"])
        rows = [
            row(
                group["value"],
                [group["value"] or "none", *cells(_looked_at(group, at))],
                href=chosen.href(group=group["value"]),
                on=group["value"] == chosen.group,
            )
            for group in found["groups"]
        ]
        table(
            "Quality by part",
            [Column(_dimension(chosen.by).capitalize()), *columns],
            rows,
            empty="No decisions of this part yet.",
        )


def _of(chosen: Chosen, by: str) -> str:
    return chosen.href(by=by, group="")


def _looked_at(group: Figures, at: str) -> Figures:
    """A window of a group, or what it was since the beginning in the same form."""
    if at != SINCE and int(at) < len(group["windows"]):
        found: Figures = group["windows"][int(at)]
        return found
    return {
        "quality": group["quality"], "estimate": None, "card_precision": None, "alarms": group["alarms"],
    }  # fmt: skip


def _table_of(task: str) -> tuple[Sequence[Column], Callable[[Figures], list[Any]]]:
    """The columns of a table of windows, and what makes the cells of one."""
    if task == "regression":
        heads = ("Labelled", "Pending", *_NUMBERS.values())
        return [Column(head, "number") for head in heads], _regression_cells
    if task == "anomaly":
        heads = ("Decided", "Labelled", "PR-AUC", "ROC-AUC", "Unevenness", "Alarms a day", "NAB", "Found")
        return [Column(head, "number") for head in heads], _anomaly_cells
    columns = [Column(head, "number") for head in ("Labelled", "Pending", "Positive")]
    columns += [Column("PR-AUC", "score"), Column("Expected", "number")]
    heads = ("ROC-AUC", "Log loss", "ECE", "Card P@k", "Precision", "Recall", "F1", "False alarms", "Cost")
    return columns + [Column(head, "number") for head in heads], _binary_cells


def _binary_cells(window: Figures) -> list[Any]:
    quality, estimate = window["quality"], window["estimate"] or {}
    point: Figures = next(iter(quality["points"]), {})
    ranked = window["card_precision"] or {}
    area = quality["average_precision"]
    return [
        whole(quality["labelled"]),
        whole(quality["pending"]),
        whole(quality["positives"]),
        cell(figure(area), share=area, tone="accent"),
        figure(estimate.get("average_precision")),
        figure(quality["roc_auc"]),
        figure(quality["log_loss"]),
        figure(quality["calibration_error"]),
        figure(ranked.get("value")),
        percent(point.get("precision")),
        percent(point.get("recall")),
        figure(point.get("f1")),
        percent(point.get("false_positive_rate"), 2),
        figure(point.get("cost")),
    ]


def _regression_cells(window: Figures) -> list[Any]:
    quality = window["quality"]
    counts = [whole(quality["labelled"]), whole(quality["pending"])]
    return counts + [figure(quality[name]) for name in _NUMBERS]


def _anomaly_cells(window: Figures) -> list[Any]:
    quality = window["quality"]
    alarm: Figures = next(iter(window["alarms"]), {})
    anomalies = alarm.get("windows")
    return [
        whole(quality["labelled"] + quality["pending"]),
        whole(quality["labelled"]),
        figure(quality["average_precision"]),
        figure(quality["roc_auc"]),
        figure(quality["unevenness"]),
        figure(alarm.get("per_day")),
        figure(alarm.get("nab")),
        f"{whole(alarm['found'])} of {whole(anomalies)}" if anomalies else "–",
    ]


def _over_time(found: Figures, chosen: Chosen) -> None:
    names = MEASURES[found["task"]]
    measure = chosen.measure if chosen.measure in names else next(iter(names))
    actions = [point["action"] for point in found["total"]["points"]]
    action = chosen.action if chosen.action in actions else next(iter(actions), "")
    groups = drawn(found["groups"], chosen.group)
    left = len(found["groups"]) - len(groups)
    note = "windows that end with each day; those whose labels are still to come are left open"
    with card("Over time", f"{note}; {left} smaller ones are not drawn" if left else note):
        with el("div", "", style=f"{_CHOICES}; padding-bottom: 12px"):
            tabs("Measure", list(names.items()), measure, lambda one: chosen.href(measure=one))
            if measure in _POINTS and len(actions) > 1:
                tabs("Action", [(one, one) for one in actions], action, lambda one: chosen.href(action=one))
        chart(f"{names[measure]} over time", course_chart(found, groups, measure, action=action))


def drawn(groups: Sequence[Figures], chosen: str) -> list[Figures]:
    """The groups of which there are lines: as many as there are colours, less one for all; the chosen one is among them."""
    ranked = sorted(
        groups,
        key=lambda one: (one["value"] != chosen, -one["quality"]["labelled"] - one["quality"]["pending"]),
    )
    kept = [one["value"] for one in ranked[: len(SERIES) - 1]]
    return [one for one in groups if one["value"] in kept]


def course_chart(found: Figures, groups: Sequence[Figures], measure: str, *, action: str) -> charts.Options:
    """A measure of all decisions and of groups, over windows whose labels have had their time.

    >>> moments = [{"end": "2026-01-02T00:00:00Z", "mature": True, "mae": 2.0, "points": []}]
    >>> groups = [{"value": "a", "course": moments}]
    >>> options = course_chart({"course": moments}, groups, "mae", action="")
    >>> [one["name"] for one in options["series"]]
    ['all decisions', 'a']
    """
    times = [_us(one["end"]) for one in found["course"]]
    lines = {"all decisions": _line(found["course"], measure, action)}
    for group in groups:
        values = dict(
            zip(
                (_us(one["end"]) for one in group["course"]),
                _line(group["course"], measure, action),
                strict=True,
            )
        )
        name = group["value"] or "none"
        lines[name if name not in lines else f"{name} "] = [values.get(time) for time in times]
    return charts.over_time(times, lines, top=1.0 if measure in _SHARES else None)


def _line(moments: Sequence[Figures], measure: str, action: str) -> list[float | None]:
    return [_value(one, measure, action) if one["mature"] else None for one in moments]


def _value(moment: Figures, measure: str, action: str) -> float | None:
    if measure not in _POINTS:
        found: float | None = moment.get(measure)
        return found
    return next((one.get(measure) for one in moment["points"] if one["action"] == action), None)


def _in_full(found: Figures, group: Figures, dimension: str) -> None:
    """One group: each window, what is known of it, and what scores let one expect."""
    columns, cells = _table_of(found["task"])
    columns = columns[:_SCORE_COLUMNS]  # what thresholds are worth follows below
    title = f"{dimension.capitalize()} {group['value'] or 'none'}"
    with card(title, "the truth as far as it is known", classes="card flush"):
        rows = [
            row(
                at,
                [
                    window_text(window),
                    "truth" if window["mature"] else "so far",
                    *cells(window)[:_SCORE_COLUMNS],
                ],
            )
            for at, window in enumerate(group["windows"])
        ]
        table(title, [Column("Events of"), Column(""), *columns], rows)
    if found["task"] == "anomaly":
        with card("Alarms", "each decision as it was decided", classes="card flush"):
            show_alarms([(window_text(one), alarm) for one in group["windows"] for alarm in one["alarms"]])
    elif found["total"]["points"]:
        with card("At the thresholds, and as scores let one expect", classes="card flush"):
            heads = ("Precision", "expected", "Recall", "expected", "False alarms", "expected")
            named = [Column("Events of"), Column("Action"), *(Column(head, "number") for head in heads)]
            table("At the thresholds", named, list(_compared(group["windows"])))


def show_alarms(alarms: Sequence[tuple[str, Figures]]) -> None:
    """A table of what actions of a detector came to, each under what it is of."""
    heads = ("From", "A day", "NAB", "Found", "Precision", "Recall", "False alarms")
    columns = [Column("Events of"), Column("Action"), *(Column(head, "number") for head in heads)]
    rows = [
        row(
            f"{name} {one['action']}",
            [
                name,
                one["action"],
                figure(one["threshold"]),
                figure(one["per_day"]),
                figure(one["nab"]),
                f"{whole(one['found'])} of {whole(one['windows'])}" if one["windows"] else "–",
                percent(one["precision"]),
                percent(one["recall"]),
                percent(one["false_positive_rate"], 2),
            ],
        )
        for name, one in alarms
    ]
    table("Alarms", columns, rows, empty="The policy has no thresholds.")


def _compared(windows: Sequence[Figures]) -> Iterator[dict[str, Any]]:
    for at, window in enumerate(windows):
        expected = {one["action"]: one for one in (window["estimate"] or {}).get("points", ())}
        for point in window["quality"]["points"]:
            guess = expected.get(point["action"], {})
            cells = [
                percent(one.get(name), 2 if name == "false_positive_rate" else 1)
                for name in ("precision", "recall", "false_positive_rate")
                for one in (point, guess)
            ]
            yield row(f"{at} {point['action']}", [window_text(window), point["action"], *cells])


def window_text(window: Figures) -> str:
    """When a window begins and ends, by days where it does.

    >>> window_text({"start": "2026-01-01T00:00:00Z", "end": "2026-01-08T00:00:00Z"})
    '1 Jan – 8 Jan'
    >>> window_text({"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T06:00:00Z"})
    '1 Jan 00:00 – 1 Jan 06:00'
    """
    ends = [moment for moment in (when(window["start"]), when(window["end"])) if moment is not None]
    whole_days = all((moment.hour, moment.minute, moment.second) == (0, 0, 0) for moment in ends)
    texts = [
        f"{moment.day} {moment:%b}" if whole_days else f"{moment.day} {moment:%b %H:%M}" for moment in ends
    ]
    return " – ".join(texts)


def _dimension(by: str) -> str:
    return by.removeprefix("segment:")


def _us(text: str) -> int:
    found = when(text)
    return 0 if found is None else round(found.timestamp() * 1_000_000)
