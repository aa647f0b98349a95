from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.dashboard import charts

EVIL = ":alert(1)"

ALL = {
    "over_time": charts.over_time([0, 1_000_000], {EVIL: [1.0, None]}, stacked=True),
    "curves": charts.curves({EVIL: [(0.0, 1.0)]}, x="x", y="y", diagonal=True, points={EVIL: [(0.5, 0.5)]}),
    "histogram": charts.histogram([0, 0.5, 1], {EVIL: [1, 2], "b": [0, 1]}, marks={EVIL: 0.3}, log=True),
    "bars": charts.bars([EVIL, "b"], {EVIL: [1.0, None]}),
    "heat": charts.heat([EVIL], [EVIL, "b"], [[0.5, None]], [[True, False]]),
    "network": charts.network([("a", "source", EVIL), ("b", "view", "b")], [("a", "b")]),
    "intervals": charts.intervals([EVIL, "b"], [(0.1, 0.2, 0.3), (None, None, None)]),
}


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from keys(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from keys(one)


@pytest.mark.parametrize("name", ALL)
def test_data_are_values_and_never_keys(name):
    code = [key for key in keys(ALL[name]) if key.startswith(":")]
    assert set(code) <= {":valueFormatter", ":formatter"}
    assert EVIL in json.dumps(ALL[name])


@pytest.mark.parametrize("name", ALL)
def test_code_is_ours(name):
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for key, one in value.items():
                if key.startswith(":"):
                    assert one in charts.UNITS.values()
                walk(one)
        elif isinstance(value, list | tuple):
            for one in value:
                walk(one)

    walk(ALL[name])


@pytest.mark.parametrize("name", ALL)
def test_colours_are_variables(name):
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for key, one in value.items():
                if key in {"color", "borderColor", "backgroundColor"}:
                    assert str(one).startswith("var(--"), (name, one)
                walk(one)
        elif isinstance(value, list | tuple):
            for one in value:
                walk(one)

    walk(ALL[name])


def test_a_wide_gap_breaks_the_line():
    second = 1_000_000
    options = charts.over_time([0, second, 60 * second], {"a": [1, 2, 3]}, step_us=second)
    assert options["series"][0]["data"] == [[0, 1], [1000, 2], [1001, None], [60_000, 3]]


def test_a_histogram_needs_an_edge_more_than_counts():
    with pytest.raises(ValueError, match="zip"):
        charts.histogram([0, 1], {"a": [1, 2]})


def test_short_cuts_are_left_out():
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "d")]
    assert charts.direct(edges) == [("a", "b"), ("b", "c"), ("c", "d")]


def test_a_cycle_ends():
    assert charts.direct([("a", "b"), ("b", "a")]) == [("a", "b"), ("b", "a")]
