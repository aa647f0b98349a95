"""Batch tables as inputs: each row once, whatever happens to the files; rows wait for their time; looks are on schedule."""

import re
from datetime import UTC, datetime, timedelta
from threading import Event

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.app.batch_inputs import batch_inputs
from penstock.app.inputs import inputs_of
from penstock.app.materializing import chosen_inputs, materialize_one
from penstock.app.running import Runner
from penstock.app.runtime import Runtime
from penstock.core.errors import InputError, NotFoundError
from penstock.core.time import to_us
from penstock.testing.clock import ManualClock

NOON = to_us(datetime(2026, 1, 10, 12, tzinfo=UTC))
DAY = timedelta(days=1)
HOUR_US = 3_600_000_000

DEFINITIONS = """
from datetime import timedelta
from penstock import *
from penstock.types import Field, Float64, Int64, String, Timestamp

user = Entity("user", [Field("user_id", String)])
users = BatchSource(
    "users",
    {config},
    schema=[Field("user_id", String), Field("changed", Timestamp), Field("age", Int64, optional=True)],
)
profile = BatchFeatureView(
    "profile", sources=[users], entities=[user], features=[Attribute("age", Int64)], batch_schedule={schedule}
)
rows = BatchFeatureView(
    "rows",
    sources=[users],
    entities=[user],
    features=[Aggregate(Field("age", Int64), "count", time_window=timedelta(days=1000), name="count")],
    batch_schedule=timedelta(days=365),
)
payments = StreamSource(
    "payments",
    FileConfig("payments.ndjson", "ndjson"),
    schema=[Field("id", String), Field("time", Timestamp), Field("user_id", String), Field("amount", Float64)],
    event_id_field="id",
)
totals = StreamFeatureView(
    "totals", source=payments, entities=[user],
    features=[Aggregate(Field("amount", Float64), "sum", time_window=timedelta(days=1), name="sum")],
)
service = FeatureService("service", features=[totals, profile, rows])
"""
CSV = 'FileConfig("users.csv", "csv", data_delay=timedelta(hours=1))'


def project_in(folder, config=CSV, schedule="timedelta(hours=6)"):
    (folder / "penstock.toml").write_text("")
    (folder / "definitions.py").write_text(DEFINITIONS.format(config=config, schedule=schedule))
    (folder / "payments.ndjson").write_text("")
    return folder


def csv(path, *rows):
    """Rows like ``a,2026-01-01,30``; a date is midnight."""
    timed = [re.sub(r"(\d{4}-\d\d-\d\d),", r"\1T00:00:00,", row) for row in rows]
    path.write_text("user_id,changed,age\n" + "".join(f"{row}\n" for row in timed))


@pytest.fixture
def opened(tmp_path):
    made = []

    def open_project(folder=tmp_path, *, now_us=NOON, **options):
        runtime = Runtime.open(project_in(folder, **options), clock=ManualClock(now_us))
        made.append(runtime)
        return runtime

    yield open_project
    for runtime in made:
        runtime.close()


def taken(runtime):
    (one,) = batch_inputs(runtime)
    found = materialize_one(runtime, one, stop=Event())
    return found.logged, found.duplicate, found.rejected, found.waiting


def ages(runtime, user="a", at_us=NOON):
    """The profile's age, and how many rows its key has."""
    frame = runtime.project.services["service"].get_features_for_events(
        [{"id": "asking", "time": at_us, "user_id": user, "amount": 0.0}],
        history={"payments": [{"id": "x", "time": at_us, "user_id": user, "amount": 0.0}]}
        | {"users": logged_rows(runtime)},
    )
    row = frame.to_arrow().to_pylist()[0]
    return row["profile__age"], row["rows__count"]


def logged_rows(runtime):
    from penstock.engine.logged_history import history_of

    return history_of(runtime.store, runtime.plan, sources=["users"])["users"]


def test_every_row_is_taken_once(opened, tmp_path):
    csv(tmp_path / "users.csv", "a,2026-01-01,30", "a,2026-01-02,31", "b,2026-01-02,50")
    runtime = opened()
    assert taken(runtime) == (3, 0, 0, 0)
    assert taken(runtime) == (0, 0, 0, 0)  # nothing changed: nothing is read
    assert ages(runtime) == (31, 2)


def test_a_file_that_was_written_anew_brings_only_its_new_rows(opened, tmp_path):
    csv(tmp_path / "users.csv", "a,2026-01-01,30", "b,2026-01-02,50")
    runtime = opened()
    taken(runtime)
    csv(tmp_path / "users.csv", "b,2026-01-02,50", "c,2025-06-01,9", "a,2026-01-01,30", "a,2026-01-03,31")
    assert taken(runtime) == (2, 2, 0, 0)
    assert ages(runtime) == (31, 2)


def test_a_corrected_row_counts_from_now_on(opened, tmp_path):
    csv(tmp_path / "users.csv", "a,2026-01-01,30")
    runtime = opened()
    taken(runtime)
    csv(tmp_path / "users.csv", "a,2026-01-01,33")
    assert taken(runtime) == (1, 0, 0, 0)
    assert ages(runtime) == (33, 2)


def test_equal_rows_of_a_file_are_several_rows(opened, tmp_path):
    csv(tmp_path / "users.csv", "a,2026-01-01,30", "a,2026-01-01,30")
    runtime = opened()
    assert taken(runtime) == (2, 0, 0, 0)
    csv(tmp_path / "users.csv", "a,2026-01-01,30", "a,2026-01-01,30", "a,2026-01-01,30")
    assert taken(runtime) == (1, 2, 0, 0)


def test_a_row_waits_for_its_time(opened, tmp_path):
    csv(tmp_path / "users.csv", "a,2026-01-10T10:59:59,1", "a,2026-01-10T11:30:00,2", "a,2026-01-11,3")
    runtime = opened()
    assert taken(runtime) == (1, 0, 0, 2)
    assert taken(runtime) == (0, 0, 0, 2)
    runtime.clock.advance(timedelta(minutes=30))
    assert taken(runtime) == (1, 1, 0, 1)
    assert ages(runtime, at_us=NOON + HOUR_US) == (2, 2)


def test_rows_that_break_the_contract_are_dead_letters(opened, tmp_path):
    csv(tmp_path / "users.csv", "a,2026-01-01,30", "a,never,30", "b,2026-01-01,old")
    runtime = opened()
    assert taken(runtime) == (1, 0, 2, 0)
    letters = list(runtime.store.dead_letters())
    assert sorted(letter.payload for letter in letters) == [b"a,never,30", b"b,2026-01-01T00:00:00,old"]


def test_a_row_on_which_a_view_fails_keeps_its_own_bytes(opened, tmp_path):
    csv(tmp_path / "users.csv", "a,2026-01-02,30", "b,2026-01-01,31")
    folder = project_in(tmp_path)
    with (folder / "definitions.py").open("a") as file:
        file.write(
            "\ndef fails(row):\n    assert row['age'] != 30\n    return row\n"
            "strict = BatchFeatureView('strict', sources=[users], entities=[user], mode='python', function=fails,"
            " features=[Attribute('age', Int64)])\nmore = FeatureService('more', features=[totals, strict])\n"
        )
    with Runtime.open(folder, clock=ManualClock(NOON)) as runtime:
        assert taken(runtime) == (1, 0, 1, 0)
        assert [letter.payload for letter in runtime.store.dead_letters()] == [b"a,2026-01-02T00:00:00,30"]


def test_of_a_folder_only_new_files_are_read(opened, tmp_path):
    (tmp_path / "users").mkdir()
    csv(tmp_path / "users/1.csv", "a,2026-01-01,30")
    csv(tmp_path / "users/2.csv", "a,2026-01-02,31")
    runtime = opened(config='FileConfig("users", "csv")')
    assert taken(runtime) == (2, 0, 0, 0)
    csv(tmp_path / "users/0.csv", "a,2026-01-03,32", "a,2026-01-01,30")
    assert taken(runtime) == (1, 1, 0, 0)  # the row that another file has as well is the same row
    assert ages(runtime) == (32, 3)


def table(*rows):
    users, times, ages_ = zip(*rows, strict=True)
    at = [datetime.fromisoformat(time).replace(tzinfo=UTC) for time in times]
    return pa.table({"user_id": users, "changed": pa.array(at, pa.timestamp("us", "UTC")), "age": ages_})


def test_parquet(opened, tmp_path):
    pq.write_table(table(("a", "2026-01-01", 30), ("b", "2026-01-02", None)), tmp_path / "users.parquet")
    runtime = opened(config='FileConfig("users.parquet", "parquet")')
    assert taken(runtime) == (2, 0, 0, 0)
    assert ages(runtime) == (30, 1)
    assert ages(runtime, "b") == (None, 0)


def test_a_delta_table_grows_is_deleted_from_and_compacted(opened, tmp_path):
    deltalake = pytest.importorskip("deltalake")
    place = str(tmp_path / "users")
    deltalake.write_deltalake(place, table(("a", "2026-01-01", 30), ("b", "2026-01-02", 50)))
    runtime = opened(config='DeltaConfig("users")')
    assert taken(runtime) == (2, 0, 0, 0)
    deltalake.write_deltalake(place, table(("a", "2026-01-03", 31)), mode="append")
    assert taken(runtime) == (1, 0, 0, 0)
    deltalake.DeltaTable(place).optimize.compact()
    assert taken(runtime) == (0, 3, 0, 0)
    deltalake.DeltaTable(place).delete("user_id = 'b'")
    assert taken(runtime)[0] == 0
    assert ages(runtime) == (31, 2)


def test_a_duckdb_query_is_read_again_only_where_its_result_changed(opened, tmp_path):
    pytest.importorskip("duckdb")
    csv(tmp_path / "users.csv", "a,2026-01-01,30", "b,2026-01-02,50")
    sql = "SELECT user_id, changed::TIMESTAMP AS changed, age + 1 AS age FROM 'users.csv' ORDER BY random()"
    runtime = opened(config=f'DuckDBConfig("{sql}")')
    assert taken(runtime) == (2, 0, 0, 0)
    assert taken(runtime) == (0, 0, 0, 0)
    csv(tmp_path / "users.csv", "a,2026-01-01,30", "b,2026-01-02,50", "a,2026-01-03,31")
    assert taken(runtime) == (1, 2, 0, 0)
    assert ages(runtime) == (32, 2)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CSV, "there is no file or folder"),
        ('DeltaConfig("nowhere")', "not a Delta table"),
        ("DuckDBConfig(\"SELECT * FROM 'nowhere.csv'\")", "its query failed"),
        ('DuckDBConfig("SET threads = 1")', "its query"),
    ],
)
def test_a_table_that_cannot_be_read_is_an_error(opened, config, message):
    runtime = opened(config=config)
    with pytest.raises(InputError, match=message):
        taken(runtime)


def test_names_of_views_and_sources_choose_a_table(opened, tmp_path):
    csv(tmp_path / "users.csv", "a,2026-01-01,30")
    runtime = opened()
    for name in ("users", "profile", "rows", None):
        assert [one.source for one in chosen_inputs(runtime, name)] == ["users"]
    with pytest.raises(NotFoundError, match="it has users, profile, rows"):
        chosen_inputs(runtime, "payments")


class Script:
    """A `Stop` for a runner that follows: each wait moves the clock and does one step of a script, and the last ends it."""

    def __init__(self, runtime, steps):
        self._runtime, self._steps, self._set = runtime, iter(steps), False

    def is_set(self):
        return self._set

    def wait(self, _timeout):
        step = next(self._steps, None)
        if step is None:
            self._set = True
        else:
            duration, action = step
            self._runtime.clock.advance(duration)
            action()


def lengths_while_following(runtime, steps):
    found = []
    noted = [
        (duration, lambda a=action: (found.append(runtime.store.next_position), a()))
        for duration, action in steps
    ]
    Runner(runtime, inputs_of(runtime, {}), stop=Script(runtime, noted)).follow()
    return [*found, runtime.store.next_position]


def nothing():
    pass


def test_a_running_project_looks_on_schedule(opened, tmp_path):
    csv(tmp_path / "users.csv", "a,2026-01-01,30")
    runtime = opened()

    def grow():
        csv(tmp_path / "users.csv", "a,2026-01-01,30", "a,2026-01-02,31")

    steps = [(timedelta(0), grow), (timedelta(hours=5), nothing), (timedelta(hours=1), nothing)]
    assert lengths_while_following(runtime, steps) == [1, 1, 1, 2]


def test_cron_schedules(opened, tmp_path):
    csv(tmp_path / "users.csv", "a,2026-01-01,30")
    runtime = opened(schedule='"30 12 * * *"')

    def grow():
        csv(tmp_path / "users.csv", "a,2026-01-01,30", "a,2026-01-02,31")

    steps = [(timedelta(minutes=29), grow), (timedelta(minutes=1), nothing)]
    assert lengths_while_following(runtime, steps) == [1, 1, 2]


def test_a_waiting_row_is_taken_when_it_is_due_before_the_schedule(opened, tmp_path):
    csv(tmp_path / "users.csv", "a,2026-01-01,30", "a,2026-01-10T11:30:00,31")
    steps = [(timedelta(minutes=29), nothing), (timedelta(minutes=1), nothing)]
    assert lengths_while_following(opened(), steps) == [1, 1, 2]


def test_a_table_that_is_gone_for_a_while_does_not_end_a_running_project(opened, tmp_path):
    csv(tmp_path / "users.csv", "a,2026-01-01,30")
    runtime = opened()
    problems = []

    def remove():
        (tmp_path / "users.csv").unlink()

    def bring_back():
        problems.append(runtime.problems.get("users"))
        csv(tmp_path / "users.csv", "a,2026-01-01,30", "a,2026-01-02,31")

    steps = [(timedelta(hours=6), remove), (timedelta(minutes=1), bring_back)]
    assert lengths_while_following(runtime, steps) == [1, 1, 2]
    assert "there is no file" in problems[0]
    assert runtime.problems == {}


def test_events_see_the_profile_as_of_their_time(opened, tmp_path):
    csv(tmp_path / "users.csv", "a,2026-01-01,30", "a,2026-01-03,31")
    project_in(tmp_path)
    runtime = Runtime.open(tmp_path, clock=ManualClock(NOON))
    lines = [
        f'{{"id":"{day}","time":"2026-01-0{day}T{hour}:00:00","user_id":"a","amount":1}}\n'
        for day, hour in ((1, "00"), (2, "00"), (3, "00"), (4, "01"))
    ]
    (tmp_path / "payments.ndjson").write_text("".join(lines))
    with runtime:
        Runner(runtime, inputs_of(runtime, {}), stop=Event()).run()
        for as_of in ("served", "corrected"):
            made = runtime.features("service", as_of=as_of).features
            column = runtime.plan.services["service"].feature_names.index("profile.age")
            assert made.values[:, column].tolist()[1:] == [30.0, 30.0, 31.0]


def test_a_file_given_by_hand_takes_the_place_of_the_table(opened, tmp_path):
    csv(tmp_path / "other.csv", "a,2026-01-01,7")
    runtime = opened()
    inputs = inputs_of(runtime, {"users": tmp_path / "other.csv"})
    Runner(runtime, inputs, stop=Event()).run()
    assert ages(runtime) == (7, 1)


def test_training_sets_read_the_table_where_no_history_is_given(opened, tmp_path, monkeypatch):
    csv(tmp_path / "users.csv", "a,2026-01-01,30", "a,2026-01-03,31")
    project = opened().project
    events = {"user_id": ["a", "b"], "at": pa.array([NOON, NOON], pa.timestamp("us", "UTC"))}
    frame = project.views["profile"].get_features_for_events(events)
    assert frame.to_arrow().column("profile__age").to_pylist() == [31, None]
    csv(tmp_path / "users.csv", "a,2026-01-01,x")
    with pytest.raises(InputError, match="1 of its rows break the contract"):
        project.views["profile"].get_features_for_events(events)
