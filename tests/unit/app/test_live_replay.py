"""A recorded stream moved to now: order, pace, times, ids, labels in their places."""

import json
from datetime import timedelta
from itertools import islice, pairwise

import pytest

from penstock.app.inputs import given_inputs
from penstock.app.live_replay import Even, LiveReplay, Poisson, Recorded
from penstock.app.runtime import plan_of
from penstock.core.errors import InputError
from penstock.core.time import to_us
from penstock.definitions.project import load_project
from tests.unit.app.shop import DEFINITIONS, START, labels, payments, write_project

NOW_US = to_us(START + timedelta(days=900))
SEED = NOW_US // 1_000_000


def as_lines(rows):
    return "".join(json.dumps(row, default=lambda at: at.isoformat()) + "\n" for row in rows)


@pytest.fixture
def world(tmp_path):
    """A project, its recorded payments and their labels in the order in which they became known."""
    write_project(tmp_path)
    events = payments(200)
    known = sorted(labels(events), key=lambda row: row["known_at"])
    (tmp_path / "payments.ndjson").write_text(as_lines(events))
    (tmp_path / "frauds.ndjson").write_text(as_lines(known))
    return tmp_path, events, known


def replayed(root, pace, **options):
    sources = plan_of(load_project(root)).sources
    files = {name: root / f"{name}.ndjson" for name in options.pop("names", ("payments", "frauds"))}
    inputs = given_inputs(files, sources, root=root)
    options = {"start_us": NOW_US, "seed": SEED} | options
    return LiveReplay(inputs, sources, pace=pace, **options)


def decoded(rows):
    found = [(row.due_s, row.source, json.loads(row.data)) for row in rows]
    events = [(due, values) for due, source, values in found if source == "payments"]
    known = [(due, values) for due, source, values in found if source == "frauds"]
    return events, known


def test_events_keep_order_and_values_and_come_at_an_even_pace(world):
    root, recorded, _ = world
    events, _ = decoded(replayed(root, Even(50.0)))
    assert [due for due, _ in events] == [pytest.approx(i / 50) for i in range(200)]
    for (_, found), before in zip(events, recorded, strict=True):
        assert found["id"] == f"{before['id']}-{SEED:x}"
        assert {k: found[k] for k in ("card_id", "shop", "amount")} == {
            k: before[k] for k in ("card_id", "shop", "amount")
        }


def test_times_are_those_at_which_rows_are_due_and_late_ones_stay_late(world):
    root, recorded, _ = world
    events, known = decoded(replayed(root, Recorded(60.0)))
    newest = recorded[0]["at"]
    late = 0
    for (due_s, found), before in zip(events, recorded, strict=True):
        newest = max(newest, before["at"])
        behind_us = to_us(newest - before["at"])
        late += behind_us > 0
        assert found["at"] - NOW_US - due_s * 1e6 == pytest.approx(
            -behind_us / 60, abs=max(behind_us / 60 * 0.2, 2)
        )
        assert due_s == pytest.approx((newest - recorded[0]["at"]).total_seconds() / 60)
    assert late > 10
    for due_s, found in known:
        assert found["known_at"] == pytest.approx(NOW_US + due_s * 1e6, abs=2)


def test_labels_come_after_their_delay_sped_up(world):
    root, recorded, before = world
    speed = 600.0
    events, known = decoded(replayed(root, Recorded(speed)))
    when = {values["id"]: due for due, values in events}
    assert len(known) == len(before)
    delays = {f"{row['id']}-{SEED:x}": row["known_at"] - recorded[int(row["id"][1:])]["at"] for row in before}
    for due_s, found in known:
        expected = delays[found["id"]].total_seconds() / speed
        assert due_s - when[found["id"]] == pytest.approx(expected, abs=300 * 60 / speed)


def test_rows_are_due_in_order(world):
    root, _, _ = world
    for pace in (Even(10.0), Poisson(10.0, 3), Recorded(100.0)):
        due = [row.due_s for row in islice(replayed(root, pace, loop=True), 1_500)]
        assert due == sorted(due)


def test_each_pass_has_new_ids_and_goes_on_in_time(world):
    root, _, before = world
    rows = list(islice(replayed(root, Even(100.0), loop=True), 1_400))
    events, known = decoded(rows)
    ids = [values["id"] for _, values in events]
    assert len(ids) > 600
    assert len(set(ids)) == len(ids)
    assert len({values["id"] for _, values in known} - set(ids)) == 0
    assert len(known) / len(events) == pytest.approx(len(before) / 200, rel=0.1)


def test_another_run_has_other_ids_and_the_same_seed_the_same(world):
    root, _, _ = world
    one, other = (decoded(replayed(root, Even(10.0), seed=seed))[0] for seed in (SEED, SEED + 1))
    assert not {values["id"] for _, values in one} & {values["id"] for _, values in other}
    assert list(replayed(root, Poisson(10.0, 7))) == list(replayed(root, Poisson(10.0, 7)))


def test_a_random_pace_has_the_rate_and_varies(world):
    root, _, _ = world
    due = [row.due_s for row in replayed(root, Poisson(20.0, 1), names=("payments",))]
    gaps = [b - a for a, b in pairwise(due)]
    assert len(due) / due[-1] == pytest.approx(20, rel=0.2)
    assert max(gaps) > 4 * min(gap for gap in gaps if gap)


def test_recorded_times_are_left_where_asked(world):
    root, recorded, before = world
    events, known = decoded(replayed(root, Even(10.0), shift=False))
    assert [values["at"] for _, values in events] == [to_us(row["at"]) for row in recorded]
    assert [values["known_at"] for _, values in known] == [to_us(row["known_at"]) for row in before]


def test_numbers_as_ids_are_moved_behind_those_of_earlier_runs(tmp_path):
    text = DEFINITIONS.replace('Field("id", String)', 'Field("id", Int64)')
    write_project(tmp_path, text)
    rows = [row | {"id": 5_000 + i} for i, row in enumerate(payments(30))]
    (tmp_path / "payments.ndjson").write_text(as_lines(rows))
    known = [row | {"id": int(row["id"])} for row in labels(rows)]
    (tmp_path / "frauds.ndjson").write_text(as_lines(sorted(known, key=lambda row: row["known_at"])))
    events, found = decoded(islice(replayed(tmp_path, Even(10.0), loop=True), 150))
    ids = [values["id"] for _, values in events]
    assert len(set(ids)) == len(ids)
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert ids[0] == (SEED - 1_700_000_000) * 10_000
    assert {values["id"] for _, values in found} <= set(ids)


def test_labels_alone_set_no_pace(world):
    root, _, _ = world
    with pytest.raises(InputError, match="no stream of events"):
        replayed(root, Even(1.0), names=("frauds",))


def test_files_without_an_event_that_is_accepted_are_told(world):
    root, _, _ = world
    (root / "payments.ndjson").write_text('{"id": 5}\n')
    with pytest.raises(InputError, match="no event that its source accepts"):
        list(replayed(root, Even(1.0), loop=True))
