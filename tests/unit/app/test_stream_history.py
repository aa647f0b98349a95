"""The batch history of a stream: in the log once, before its first event, without decisions; no gap and no double count."""

from datetime import UTC, datetime, timedelta
from threading import Event

import pytest

from penstock import FileConfig, PushConfig, StreamSource
from penstock.app.inputs import inputs_of
from penstock.app.running import Runner
from penstock.app.runtime import Runtime
from penstock.app.stream_history import load_histories
from penstock.core.errors import DefinitionError, InputError
from penstock.core.time import to_us
from penstock.testing.clock import ManualClock
from penstock.types import Field, Timestamp

NOON = to_us(datetime(2026, 1, 10, 12, tzinfo=UTC))
DEFINITIONS = """
from datetime import timedelta
from penstock import *
from penstock.types import Field, Float64, Int64, String, Timestamp

user = Entity("user", [Field("user_id", String)])
users = BatchSource(
    "users", FileConfig("users.csv", "csv"), schema=[Field("user_id", String), Field("at", Timestamp), Field("age", Int64)]
)
profile = BatchFeatureView("profile", sources=[users], entities=[user], features=[Attribute("age", Int64)])
payments = StreamSource(
    "payments",
    FileConfig("payments.csv", "csv"),
    batch_config=FileConfig("history", "csv"),
    schema=[Field("id", Int64), Field("time", Timestamp), Field("user_id", String), Field("amount", Float64)],
    event_id_field={id_field},
)
totals = StreamFeatureView(
    "totals", source=payments, entities=[user],
    features=[Aggregate(Field("amount", Float64), "sum", time_window=timedelta(days=365), name="sum")],
)
service = FeatureService("service", features=[totals, profile])
"""


def row(number, amount=1):
    """An event every hour, at its number; the id is the number."""
    day, hour = divmod(number, 24)
    return f"{number},2026-01-{day + 1:02}T{hour:02}:00:00,a,{amount}\n"


def write(path, numbers):
    path.parent.mkdir(exist_ok=True)
    path.write_text("id,time,user_id,amount\n" + "".join(map(row, numbers)))


@pytest.fixture(params=['"id"', "None"], ids=["ids", "no ids"])
def project(tmp_path, request):
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "definitions.py").write_text(DEFINITIONS.format(id_field=request.param))
    (tmp_path / "users.csv").write_text(
        "user_id,at,age\na,2026-01-01T10:30:00,30\na,2026-01-02T10:30:00,31\n"
    )
    write(tmp_path / "history/2.csv", range(49, 9, -1))
    write(tmp_path / "history/1.csv", range(10))
    write(tmp_path / "payments.csv", range(60))
    return tmp_path


def opened(folder):
    return Runtime.open(folder, clock=ManualClock(NOON))


def run(runtime, *, stop=None):
    stop = stop or Event()
    load_histories(runtime, stop=stop)
    return Runner(runtime, inputs_of(runtime, {}), stop=stop).run()


def logged(runtime):
    """The ids of the payments in log order, and the features of each."""
    made = runtime.features("service")
    assert runtime.plan.services["service"].feature_names == ("totals.sum", "profile.age")
    return made.events["id"].values.tolist(), made.features.values.tolist()


def test_history_and_stream_meet_without_gap_or_double_count(project):
    with opened(project) as runtime:
        run(runtime)
        ids, features = logged(runtime)
        counters = runtime.store.counters()
    assert ids == list(range(60))
    assert [row[0] for row in features] == [float(n + 1) for n in range(60)]
    ages = [None if n < 11 else 30.0 if n < 35 else 31.0 for n in range(60)]
    assert [None if row[1] != row[1] else row[1] for row in features] == ages
    assert counters.get("duplicate", 0) + counters.get("rejected", 0) == 50


def test_a_second_run_and_a_restart_load_nothing_again(project):
    with opened(project) as runtime:
        run(runtime)
    write(project / "history/3.csv", range(1))
    write(project / "payments.csv", range(62))
    with opened(project) as runtime:
        assert not load_histories(runtime, stop=Event())
        assert run(runtime).logged == 2
        assert logged(runtime)[0] == list(range(62))


class StopAfter:
    """Asks to stop when it has been looked at so many times."""

    def __init__(self, looks):
        self._left = looks

    def is_set(self):
        self._left -= 1
        return self._left < 0


@pytest.mark.parametrize("looks", [4, 6, 9])
def test_loading_goes_on_where_it_was_stopped(project, looks, monkeypatch):
    monkeypatch.setenv("PENSTOCK_ENGINE__BATCH_ROWS", "7")
    with opened(project) as runtime:
        load_histories(runtime, stop=StopAfter(looks))
        assert 0 < runtime.engine.position < 52
    with opened(project) as runtime:
        assert load_histories(runtime, stop=Event())
        run(runtime)
        assert logged(runtime)[0] == list(range(60))


def test_a_history_that_changes_while_it_is_loaded_is_refused(project, monkeypatch):
    monkeypatch.setenv("PENSTOCK_ENGINE__BATCH_ROWS", "7")
    with opened(project) as runtime:
        load_histories(runtime, stop=StopAfter(6))
    write(project / "history/0.csv", range(5))
    with opened(project) as runtime, pytest.raises(InputError, match="changed while it was being loaded"):
        load_histories(runtime, stop=Event())


def test_a_history_that_comes_after_events_is_not_loaded(project):
    with opened(project) as runtime:
        Runner(runtime, inputs_of(runtime, {}), stop=Event()).run()
        assert not load_histories(runtime, stop=Event())
        assert "is not loaded" in runtime.problems["payments"]


def test_without_ids_events_that_may_be_in_the_history_are_refused(project):
    with opened(project) as runtime:
        load_histories(runtime, stop=Event())
        source = runtime.project.sources["payments"]
        known, later = (
            {"id": n + 1000, "time": f"2026-01-03T0{n}:00:00", "user_id": "a", "amount": 1.0} for n in (1, 2)
        )
        answers = runtime.ingest("payments", [known, later])
        if source.event_id_field is None:
            assert [(a.status, a.reason) for a in answers] == [("rejected", "in_history"), ("logged", None)]
        else:
            assert [a.status for a in answers] == ["logged", "logged"]


def test_a_history_with_a_delay_is_refused():
    with pytest.raises(DefinitionError, match="data_delay"):
        StreamSource(
            "s",
            PushConfig(),
            schema=[Field("t", Timestamp)],
            batch_config=FileConfig("h", "csv", data_delay=timedelta(hours=1)),
        )
