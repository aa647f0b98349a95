"""Tests of the features: ``penstock test`` runs them, and tries the features themselves for leakage."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from penstock.definitions.project import load_project

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)


def view(name):
    return load_project(Path(__file__).parents[1]).views[name]


def paid(number, amount, after):
    return {
        "payment_id": f"p{number}",
        "card_id": "card-1",
        "shop_id": "shop-1",
        "paid_at": NOON + after,
        "amount": amount,
    }


def test_spending_counts_the_last_hour():
    rows = [
        paid(1, 10.0, timedelta()),
        paid(2, 30.0, timedelta(minutes=59)),
        paid(3, 5.0, timedelta(hours=2)),
    ]
    made = view("card_spending").get_features_for_events(rows, mock_inputs={"payments": rows}).to_arrow()
    assert made.column("card_spending__amount_count_1h_continuous").to_pylist() == [1, 2, 1]
    assert made.column("card_spending__amount_mean_1h_continuous").to_pylist() == [10.0, 20.0, 5.0]


def test_a_payment_at_night_of_twice_the_usual():
    made = view("payment").run_transformation(
        mock_inputs={
            "request": [{"amount": 50.0, "paid_at": NOON.replace(hour=3)}],
            "card_spending": [{"amount_mean_7d_continuous": 25.0}],
        }
    )
    assert made.to_pylist() == [{"amount": 50.0, "night": 1.0, "times_usual": 2.0}]
