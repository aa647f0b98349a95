"""Looks at drift while rows come: the share of windows that alarm without drift is held, however rows are cut and however many there are."""

import msgspec
import numpy as np
import pytest

from penstock.monitoring.drift import judge
from penstock.monitoring.drift_looks import FIRST_LOOK, LookRules, Looks, LooksState
from penstock.monitoring.profile import Sample, profile_column

RULES = LookRules(window_us=1_000, false_alarms=0.05, min_effect=0.0)


def references(draw, count=3):
    return [profile_column(f"x{i}", draw.normal(size=5_000)) for i in range(count)]


def test_looks_are_few_and_their_levels_add_up_to_what_is_allowed():
    draw = np.random.default_rng(0)
    looks = Looks(references(draw, 1), RULES)
    times = np.append(np.linspace(0, 999, 9_000).astype(np.int64), np.full(20, 1_000))
    found = looks.add(times, [(draw.normal(size=9_020), None)])
    assert [look.rows for _, look in found] == [500, 1_000, 2_000, 4_000, 8_000, 9_000]
    assert [row for row, _ in found] == [499, 999, 1_999, 3_999, 7_999, 9_010], "no single row ends a window"
    assert [look.is_last for _, look in found] == [False] * 5 + [True]
    assert sum(look.level for _, look in found) < 0.05
    assert found[-1][1].level == 0.025


def test_without_drift_the_share_of_windows_that_alarm_is_held_and_asking_every_time_would_not_hold_it():
    draw, windows, rows, alarmed, asked = np.random.default_rng(1), 70, 1_000, 0, 0
    given = references(draw, 2)
    for _ in range(windows):
        columns = [(np.append(draw.normal(size=rows + 1), np.zeros(19)), None) for _ in given]
        times = np.append(np.zeros(rows, np.int64), np.full(20, 1_000))
        found = Looks(given, RULES).add(times, columns)
        alarmed += any(look.drifted for _, look in found)
        often = [Sample(one) for one in given]
        hit = False
        for start in range(0, rows, 100):
            for sample, (values, _) in zip(often, columns, strict=True):
                sample.add(values[start : start + 100])
            hit |= any(verdict.drifted for verdict in judge(often, false_alarms=0.05))
        asked += hit
    assert alarmed / windows <= 0.05 + 2 * (0.05 * 0.95 / windows) ** 0.5
    assert asked / windows > 0.06


def test_a_shift_is_found_at_the_first_look_that_can_show_it():
    draw = np.random.default_rng(2)
    values = draw.normal(size=2_000) + 0.3
    found = Looks(references(draw, 1), RULES).add(np.zeros(2_000, np.int64), [(values, None)])
    assert found[0][0] == FIRST_LOOK - 1
    assert found[0][1].drifted == ("x0",)


@pytest.mark.parametrize("pieces", [1, 7, 613])
def test_it_does_not_matter_how_rows_are_cut_and_how_often_it_begins_again(pieces):
    draw = np.random.default_rng(3)
    given, count = references(draw), 5_000
    times = np.sort(draw.integers(0, 3_500, count)) + draw.integers(-300, 1, count)  # some are late
    columns = [draw.normal(size=count) + 0.1 for _ in given]
    columns[0][::9] = np.nan
    counts = draw.random(count) < 0.5
    straight = Looks(given, RULES)
    found = straight.add(times, list(zip(columns, (counts, None, None), strict=True)))
    kept, got = None, []
    for part in np.array_split(np.arange(count), pieces):
        looks = Looks(given, RULES, None if kept is None else msgspec.json.decode(kept, type=LooksState))
        part_of = [(values[part], None if i else counts[part]) for i, values in enumerate(columns)]
        got += [(int(part[row]), look) for row, look in looks.add(times[part], part_of)]
        kept = msgspec.json.encode(looks.state)
    assert got == found
    assert len(found) >= 6
    assert kept == msgspec.json.encode(straight.state)
