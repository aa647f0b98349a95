"""`get_features_for_events` with an open project: what of the log is read, and which labels count."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from penstock import (
    Aggregate,
    Entity,
    FeatureService,
    LabelSource,
    PushConfig,
    StreamFeatureView,
    StreamSource,
)
from penstock.app import Runtime
from penstock.app.settings import Settings
from penstock.core.errors import InputError
from penstock.core.time import to_us
from penstock.definitions.project import Project
from penstock.testing.clock import ManualClock
from penstock.types import Bool, Field, Float64, String, Timestamp

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
card = Entity("card", [Field("card_id", String)])
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[Field("id", String), Field("card_id", String), Field("at", Timestamp), Field("amount", Float64)],
    event_id_field="id",
)
frauds = LabelSource(
    "frauds", of=payments, label=Field("fraud", Bool), known_at="known_at", allowed_lateness=30 * DAY
)
totals = StreamFeatureView(
    "totals",
    source=payments,
    entities=[card],
    features=[Aggregate(Field("amount", Float64), "sum", time_window=DAY, name="sum")],
)
proven = StreamFeatureView(
    "proven",
    source=frauds,
    entities=[card],
    features=[
        Aggregate(Field("fraud", Bool), "sum", time_window=30 * DAY, name="sum"),
        Aggregate(Field("fraud", Bool), "last", time_window=30 * DAY, name="last"),
    ],
)
plain = FeatureService("plain", features=[totals])
with_labels = FeatureService("with_labels", features=[proven])


def payment(number, at=timedelta(), amount=1.0):
    return {"id": str(number), "card_id": "c", "at": START + at, "amount": amount}


def label(number, at, *, fraud):
    return {"id": str(number), "fraud": fraud, "known_at": START + at}


@pytest.fixture
def runtime(tmp_path):
    definitions = {
        "sources": {"payments": payments},
        "label_sources": {"frauds": frauds},
        "services": {"plain": plain, "with_labels": with_labels},
    }
    project = Project(Path(tmp_path), "p", {}, **definitions)
    clock = ManualClock(to_us(START + 100 * DAY))
    with Runtime.open(tmp_path, project=project, settings=Settings(), clock=clock) as opened:
        yield opened


def column(frame, name):
    return frame.to_arrow().column(name).to_pylist()


def test_the_log_of_other_sources_is_left_alone(runtime):
    payments.ingest([payment(1), payment(2, timedelta(seconds=1))])
    frauds.ingest([label(1, DAY, fraud=True)])
    asked = [{"card_id": "c", "at": START + timedelta(seconds=5)}]
    assert column(plain.get_features_for_events(asked), "totals__sum") == [2.0]


@pytest.mark.parametrize("given", [None, {"payments": [payment(1)]}])
def test_an_unknown_order_is_refused(given):
    with pytest.raises(InputError, match=r"as_of is 'bogus'.*served.*corrected"):
        plain.get_features_for_events([payment(1)], history=given, as_of="bogus")


@pytest.mark.parametrize("given", [None, {"payments": [payment(1)]}])
def test_frames_have_no_order_of_arrival(given):
    with pytest.raises(InputError, match=r'as_of="served".*log.*corrected'):
        plain.get_features_for_events([payment(1)], history=given, as_of="served")


def test_history_given_is_never_taken_as_served(runtime):
    payments.ingest([payment(1)])
    with pytest.raises(InputError, match=r'as_of="served".*history='):
        plain.get_features_for_events([payment(1)], history={"payments": [payment(1)]}, as_of="served")


def test_served_is_the_order_of_arrival(runtime):
    arrived = [payment(1, timedelta(minutes=10)), payment(2, amount=2.0)]
    payments.ingest(arrived)
    assert column(plain.get_features_for_events(arrived, as_of="served"), "totals__sum") == [1.0, 2.0]
    assert column(plain.get_features_for_events(arrived, as_of="corrected"), "totals__sum") == [3.0, 2.0]


FIRST, SECOND, SAME = label(1, DAY, fraud=False), label(1, 2 * DAY, fraud=True), label(1, DAY, fraud=True)
ASKED = payment(9, 3 * DAY)


@pytest.mark.parametrize("before_their_event", [0, 1, 2])
@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([FIRST, SECOND], False),
        ([SECOND, FIRST], False),
        ([FIRST, SAME], False),
        ([SAME, FIRST], True),
        ([SECOND, SAME, FIRST], True),
    ],
)
def test_corrected_takes_the_label_known_first_on_every_way(runtime, labels, expected, before_their_event):
    for one in labels[:before_their_event]:
        frauds.ingest([one])
    payments.ingest([payment(1)])
    for one in labels[before_their_event:]:
        frauds.ingest([one])
    payments.ingest([ASKED])
    logged = runtime.features("with_labels", as_of="corrected").features.values[-1]
    np.testing.assert_array_equal(logged, [expected, expected])
    asked = with_labels.get_features_for_events([ASKED])
    assert column(asked, "proven__last") == [expected]
    frames = {"payments": [payment(1), ASKED], "frauds": labels}
    given = with_labels.get_features_for_events([ASKED], history=frames)
    assert column(given, "proven__last") == [expected]
    served = runtime.features("with_labels", as_of="served").features.values[-1]
    np.testing.assert_array_equal(served, [labels[0]["fraud"]] * 2)
