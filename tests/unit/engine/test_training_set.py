"""Training frames: checked as events are, each event counted once, and told what is missing."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from penstock import Aggregate, Entity, FeatureService, PushConfig, StreamFeatureView, StreamSource
from penstock.core.errors import InputError
from penstock.engine import training_set
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


@pytest.mark.parametrize("chunk_rows", [1, 3, 7])
def test_in_however_many_chunks_the_rows_are_worked_through_the_features_are_the_same(
    monkeypatch, chunk_rows
):
    last = Aggregate(Field("card_id", String), "last", time_window=HOUR, name="card")
    view = StreamFeatureView(
        "cards",
        source=payments,
        entities=[Entity("card", [Field("card_id", String)])],
        features=[SUM, last, Aggregate(Field("tip", Float64), "mean", time_window=HOUR, name="tip")],
    )
    service = FeatureService("s", features=[view]).features
    history = [
        payment(i, (i * 37) % 11, i / 7, card_id="cde"[i % 3], tip=None if i % 4 else 1.0) for i in range(20)
    ]
    asked = [*history[5:15], payment(90, 6), payment(91, 6, card_id="x")]
    frames = [(history, None), (asked, {"payments": history})]
    whole = [features_for_frame(service, events, history=given).to_arrow() for events, given in frames]
    monkeypatch.setattr(training_set, "CHUNK_ROWS", chunk_rows)
    for (events, given), expected in zip(frames, whole, strict=True):
        found = features_for_frame(service, events, history=given).to_arrow()
        assert found.combine_chunks().equals(expected.combine_chunks())


def test_an_empty_frame_has_the_features_as_empty_columns():
    empty = pa.Table.from_pylist([payment(1)]).slice(0, 0)
    made = features_for_frame(FeatureService("s", features=[totals]).features, empty).to_arrow()
    assert made.num_rows == 0
    assert made.schema.field("totals__sum").type == pa.float64()
