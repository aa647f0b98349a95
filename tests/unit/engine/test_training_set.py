"""Training frames: checked as events are, each event counted once, and told what is missing."""

from datetime import UTC, datetime, timedelta

import pytest

from penstock import Aggregate, Entity, FeatureService, PushConfig, StreamFeatureView, StreamSource
from penstock.core.errors import InputError
from penstock.engine.training_set import features_for_frame
from penstock.types import Field, Float64, String, Timestamp

HOUR = timedelta(hours=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[
        Field("id", String),
        Field("card_id", String),
        Field("at", Timestamp),
        Field("amount", Float64),
        Field("tip", Float64, optional=True),
    ],
    event_id_field="id",
)
SUM = Aggregate(Field("amount", Float64), "sum", time_window=HOUR, name="sum")
totals = StreamFeatureView(
    "totals", source=payments, entities=[Entity("card", [Field("card_id", String)])], features=[SUM]
)
by_owner = StreamFeatureView(
    "owners",
    source=payments,
    entities=[Entity("owner", [Field("owner", String)])],
    features=[SUM],
    function=lambda rows: {"owner": rows["card_id"], "at": rows["at"], "amount": rows["amount"]},
)


def payment(number, second=0, amount=1.0, **more):
    at = START + timedelta(seconds=second)
    return {"id": str(number), "card_id": "c", "at": at, "amount": amount, "tip": None, **more}


def sums(view, events, **options):
    made = features_for_frame(FeatureService("s", features=[view]).features, events, **options).to_arrow()
    assert made.num_rows == len(events)
    return made.column(f"{view.name}__sum").to_pylist()


def test_an_event_given_twice_counts_once():
    assert sums(totals, [payment(1), payment(1), payment(2, 5)]) == [1.0, 1.0, 2.0]


def test_an_event_that_history_has_twice_counts_once():
    history = {"payments": [payment(1), payment(2, 5), payment(1)]}
    assert sums(totals, [payment(2, 5), payment(1), payment(2, 5)], history=history) == [2.0, 1.0, 2.0]


@pytest.mark.parametrize("history", [None, {"payments": [payment(1), payment(2), payment(1, amount=7.0)]}])
def test_one_id_with_two_contents_is_refused(history):
    events = [payment(1), payment(2), payment(1, amount=7.0)] if history is None else [payment(1)]
    with pytest.raises(InputError, match=r"row 2 has the id '1' of row 0"):
        sums(totals, events, history=history)


FAR = datetime(1700, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"at": FAR}, r"column 'at', row 1: time_out_of_range"),
        ({"at": None}, r"column 'at', row 1: null_field"),
        ({"amount": None}, r"column 'amount', row 1: null_field"),
        ({"amount": float("nan")}, r"column 'amount', row 1: null_field"),
        ({"tip": float("inf")}, r"column 'tip', row 1: not_finite"),
        ({"card_id": None}, r"column 'card_id', row 1: null_field"),
        ({"card_id": "x" * 70_000}, r"column 'card_id', row 1: too_long"),
    ],
)
@pytest.mark.parametrize("as_history", [True, False])
def test_a_frame_is_held_to_the_contract(wrong, found, as_history):
    frame = [payment(1), payment(2, 1, **wrong)]
    events = [payment(3, 2)] if as_history else frame
    with pytest.raises(InputError, match=found):
        sums(totals, events, history={"payments": frame} if as_history else None)


def test_rows_that_only_look_up_are_held_to_it_too():
    with pytest.raises(InputError, match=r"events: column 'at', row 0: null_field"):
        sums(totals, [{"card_id": "c", "at": None}], history={"payments": [payment(1)]})


def test_an_optional_column_may_be_left_out():
    whole = [payment(1), payment(2, 5)]
    frame = [{name: value for name, value in row.items() if name != "tip"} for row in whole]
    assert sums(totals, frame) == sums(totals, whole)


def test_where_the_function_makes_the_key_events_are_found_by_id():
    history = {"payments": [payment(1), payment(2, 5)]}
    assert sums(by_owner, [payment(2, 5), payment(1)], history=history) == [2.0, 1.0]


def test_where_the_function_makes_the_key_a_stranger_cannot_be_looked_up():
    with pytest.raises(InputError, match=r"events: row 1 is not in the history of 'payments'.*owner"):
        sums(by_owner, [payment(1), payment(9)], history={"payments": [payment(1)]})
