"""The protocol against its definition, row by row, and at its edges."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from examples.fraud.protocol import Protocol, split
from examples.fraud.simulator import SimulatorConfig, simulate

SHORT = Protocol(train_start=date(2018, 4, 10), train_days=3, delay_days=4, test_days=5)


def table_of(*rows):
    """Rows of (days after the start of the default training week, customer, is_fraud)."""
    start = datetime(2018, 7, 25, tzinfo=UTC)
    return pa.table(
        {
            "timestamp": pa.array([start + timedelta(days=d) for d, _, _ in rows], pa.timestamp("us", "UTC")),
            "customer_id": [customer for _, customer, _ in rows],
            "is_fraud": [fraud for _, _, fraud in rows],
        }
    )


def test_equals_the_day_by_day_definition():
    table = simulate(SimulatorConfig(customers=60, terminals=100, days=25, radius=30.0))
    rows = table.select(["time_days", "customer_id", "is_fraud"]).to_pylist()
    start, test = 9, 16
    expected = []
    for row in rows:
        day = row["time_days"]
        known = {r["customer_id"] for r in rows if r["is_fraud"] and start <= r["time_days"] <= day - 4 - 1}
        expected.append(test <= day < test + 5 and row["customer_id"] not in known)
    masks = split(table, SHORT)
    assert masks.train.tolist() == [start <= row["time_days"] < start + 3 for row in rows]
    assert masks.test.tolist() == expected
    assert sum(expected) < sum(test <= row["time_days"] < test + 5 for row in rows)


def test_the_weeks_are_whole_days_up_to_their_last_microsecond():
    microsecond = 1 / 86_400_000_000
    days = (-microsecond, 0, 7 - microsecond, 7, 14 - microsecond, 14, 21 - microsecond, 21)
    train, test = split(table_of(*((d, 1, False) for d in days)))
    assert train.tolist() == [False, True, True, False, False, False, False, False]
    assert test.tolist() == [False, False, False, False, False, True, True, False]


def test_a_card_leaves_the_day_after_the_delay_has_passed():
    _, test = split(table_of((8, 1, True), (15, 1, False), (16, 1, False), (16, 2, False)))
    assert test.tolist() == [False, True, False, True]


def test_frauds_before_the_training_week_block_nobody():
    _, test = split(table_of((-1, 1, True), (14, 1, False)))
    assert test.tolist() == [False, True]


def test_an_empty_week_is_refused():
    with pytest.raises(ValueError, match="test_days=0"):
        Protocol(test_days=0)
