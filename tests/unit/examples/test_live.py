"""The live generator: deterministic, in order, every payment labelled once and on time, anomalies as described."""

import json
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import typer
from typer.testing import CliRunner

from examples.fraud import live
from examples.fraud.daily import (
    BURST,
    BURST_US,
    DAY_US,
    DEVICES,
    HIGH,
    STOLEN,
    TERMINAL,
    TRAVEL,
    TRAVEL_US,
    WEB,
    Anomalies,
    LiveWorld,
)
from examples.fraud.live import EVENT_SCHEMA, LABEL_SCHEMA, Batch, LiveStream, ndjson, paced, take
from examples.fraud.merchants import CATEGORIES, COUNTRIES
from examples.fraud.simulator import SimulatorConfig, daily_picks

CONFIG = SimulatorConfig(customers=400, terminals=2_000, days=20)
FREQUENT = Anomalies(bursts=0.02, travels=0.05)


@pytest.fixture(scope="module")
def world():
    return LiveWorld(CONFIG, anomalies=FREQUENT)


@pytest.fixture(scope="module")
def days(world):
    return [world.day(number) for number in range(20, 30)]


def first_days(stream, rows, last):
    """Events and labels of a stream's batches up to and including a day."""
    end = datetime(2018, 4, 1, tzinfo=UTC) + timedelta(days=last + 1)
    batches = []
    for batch in stream.batches(rows):
        if batch.events["timestamp"][0].as_py() >= end:
            break
        batches.append(batch)
    return Batch(*(pa.concat_tables(tables).combine_chunks() for tables in zip(*batches, strict=True)))


def times(column):
    return column.cast(pa.int64()).to_numpy()


def test_the_same_seed_gives_the_same_stream_and_another_seed_another(world):
    again = LiveWorld(CONFIG, anomalies=FREQUENT)
    other = LiveWorld(CONFIG, 1, FREQUENT)
    assert take(LiveStream(world), rows=500).equals(take(LiveStream(again), rows=500))
    assert not take(LiveStream(world), rows=500).equals(take(LiveStream(other), rows=500))


def test_the_size_of_the_batches_changes_nothing(world):
    stream = LiveStream(world, timedelta(hours=30))
    small, large = first_days(stream, 7, 22), first_days(stream, 100_000, 22)
    assert small.events.equals(large.events)
    assert small.labels.equals(large.labels.slice(0, small.labels.num_rows))


def test_a_stream_may_start_at_any_day(world):
    later = take(LiveStream(world, first_day=21), rows=50)
    whole = take(LiveStream(world), rows=5_000)
    start = pc.index(whole["transaction_id"], later["transaction_id"][0]).as_py()
    assert start > 0
    assert whole.slice(start, 50).combine_chunks().equals(later.combine_chunks())


def test_events_continue_the_history_in_order_with_ids_of_their_own(world):
    events = first_days(LiveStream(world), 1_000, 24).events
    assert events.schema == EVENT_SCHEMA
    assert events["timestamp"][0].as_py() >= datetime(2018, 4, 21, tzinfo=UTC)
    assert (np.diff(times(events["timestamp"])) >= 0).all()
    assert (np.diff(events["transaction_id"].to_numpy()) > 0).all()
    assert not any(column.null_count for column in events.columns)
    assert set(events["merchant_category"].to_pylist()) <= set(CATEGORIES)
    assert set(events["device"].to_pylist()) == set(DEVICES)
    assert set(events["country"].to_pylist()) == set(COUNTRIES)
    assert pc.min(events["amount"]).as_py() >= 0
    assert pc.max(events["customer_id"]).as_py() < CONFIG.customers


@pytest.mark.parametrize(
    "delay", [timedelta(0), timedelta(seconds=1), timedelta(hours=36), timedelta(days=2)]
)
def test_each_payment_gets_one_label_exactly_when_it_is_due(world, delay):
    all_events, all_labels = [], []
    for batch in islice(LiveStream(world, delay).batches(64), 60):
        all_events.append(batch.events)
        all_labels.append(batch.labels)
        now = times(batch.events["timestamp"])[-1]
        known = pa.concat_tables(all_labels)
        happened = np.concatenate([times(events["timestamp"]) for events in all_events])
        assert known.num_rows == (happened + delay // timedelta(microseconds=1) <= now).sum()
    events, labels = pa.concat_tables(all_events), pa.concat_tables(all_labels)
    assert labels.schema == LABEL_SCHEMA
    assert labels.num_rows > 0
    first = events.slice(0, labels.num_rows)
    assert labels["transaction_id"].to_pylist() == first["transaction_id"].to_pylist()
    assert (
        times(labels["reported_at"]) - times(first["timestamp"]) == delay // timedelta(microseconds=1)
    ).all()


def test_labels_name_the_scenario_and_events_do_not(world, days):
    labels = first_days(LiveStream(world, timedelta(0)), 1_000, 29).labels
    expected = np.concatenate([day.scenario for day in days])
    assert labels["fraud_scenario"].to_numpy().tolist() == expected.tolist()
    assert labels["is_fraud"].to_pylist() == (expected > 0).tolist()
    assert (
        set(expected.tolist()) == {0, HIGH, TERMINAL, STOLEN, BURST, TRAVEL} or not (expected == HIGH).any()
    )
    assert not {"is_fraud", "fraud_scenario"} & set(EVENT_SCHEMA.names)


def test_what_was_compromised_in_the_history_still_is(world):
    assert set(daily_picks(CONFIG.terminals, 2, 5)) <= set(world.compromised_terminals(32).tolist())
    assert not set(daily_picks(CONFIG.terminals, 2, 5)) <= set(world.compromised_terminals(33).tolist())
    assert set(daily_picks(CONFIG.customers, 3, 19)) <= set(world.compromised_customers(32).tolist())
    assert len(world.compromised_terminals(0)) == 2


def test_the_scenarios_of_the_simulator_hold(world, days):
    for number, day in enumerate(days, start=20):
        at_bad = np.isin(day.terminal, world.compromised_terminals(number))
        assert np.isin(day.scenario[at_bad], (TERMINAL, STOLEN, BURST)).all()
        assert at_bad[day.scenario == TERMINAL].all()
        assert np.isin(day.customer[day.scenario == STOLEN], world.compromised_customers(number)).all()
        assert (day.amount[day.scenario == 0] <= 220).all()
        assert (day.amount[day.scenario == HIGH] > 220).all()


def test_a_burst_is_many_web_payments_of_one_card_within_minutes(days):
    seen = 0
    for day in days:
        burst = day.scenario == BURST
        assert (day.device[burst] == WEB).all()
        for customer in np.unique(day.customer[burst]):
            own = day.time_us[burst & (day.customer == customer)]
            inside = np.searchsorted(own, own + BURST_US) - np.arange(len(own))
            assert inside.max() >= 6
            seen += 1
    assert seen > 10


def test_an_impossible_traveller_was_at_home_minutes_before(world, days):
    seen = 0
    for day in days:
        for row in np.flatnonzero(day.scenario == TRAVEL):
            assert world.merchants.country[day.terminal[row]] > 0
            before = (
                (day.customer == day.customer[row])
                & (day.time_us >= day.time_us[row] - TRAVEL_US[1])
                & (day.time_us <= day.time_us[row] - TRAVEL_US[0])
                & (day.device != WEB)
                & (world.merchants.country[day.terminal] == 0)
            )
            assert before.any()
            seen += 1
        assert day.time_us.max() < DAY_US
    assert seen > 10


def test_genuine_cards_also_pay_abroad_but_only_on_the_web(world, days):
    abroad = [(day.device, day.scenario, world.merchants.country[day.terminal] > 0) for day in days]
    genuine = np.concatenate([device[(scenario == 0) & away] for device, scenario, away in abroad])
    assert len(genuine) > 20
    assert (genuine == WEB).all()


def test_ndjson_says_what_the_table_says(world):
    events = take(LiveStream(world), rows=300)
    read = [json.loads(line) for line in ndjson(events).splitlines()]
    for line in read:
        line["timestamp"] = datetime.fromisoformat(line["timestamp"])
    assert read == events.to_pylist()
    labels = next(iter(LiveStream(world, timedelta(0)))).labels
    assert [json.loads(line)["fraud_scenario"] for line in ndjson(labels).splitlines()] == labels[
        "fraud_scenario"
    ].to_pylist()


def test_pacing_waits_until_each_batch_is_due(world, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(live.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(live.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    moments = [now[0] for _ in islice(paced(LiveStream(world).batches(50), 100), 5)]
    assert [round(later - earlier, 9) for earlier, later in pairwise(moments)] == [0.5] * 4


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="label_delay=-1 day"):
        LiveStream(LiveWorld(CONFIG), timedelta(days=-1))
    with pytest.raises(ValueError, match="none of 3 customers has a terminal within 1e-09"):
        LiveWorld(SimulatorConfig(customers=3, terminals=2, radius=1e-9))


def test_the_command_writes_payments_and_labels(tmp_path):
    app = typer.Typer()
    app.command()(live.main)
    payments, labels = tmp_path / "payments.ndjson", tmp_path / "labels.ndjson"
    options = (
        f"--rate 0 --events 1000 --customers 400 --label-delay-hours 1 --output {payments} --labels {labels}"
    )
    result = CliRunner().invoke(app, options.split())
    assert result.exit_code == 0, result.output
    ids = [json.loads(line)["transaction_id"] for line in payments.read_text().splitlines()]
    known = [json.loads(line)["transaction_id"] for line in labels.read_text().splitlines()]
    assert len(set(ids)) == 1_000
    assert known == ids[: len(known)]  # above all, no label of a payment that was not written
    assert 0 < len(known) < 1_000
