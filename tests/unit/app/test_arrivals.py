"""Labels of several streams in one log: each model counts and learns those of its own."""

from __future__ import annotations

from datetime import timedelta

from penstock.app import Runtime
from penstock.app.arrivals import Arrivals
from penstock.app.retraining import Retrainer
from penstock.core.clock import SystemClock
from tests.unit.app.arms import DEFINITIONS, START, events, write_project

TWO_STREAMS = DEFINITIONS.replace(
    "model = Model(",
    """
logins = StreamSource(
    "logins", PushConfig(),
    schema=[Field("id", String), Field("card_id", String, optional=True), Field("at", Timestamp), AMOUNT],
    event_id_field="id", max_future_skew=timedelta(days=10_000),
)
takeovers = LabelSource("takeovers", of=logins, label=Field("taken", Bool), known_at="known_at")
seen = StreamFeatureView(
    "seen", source=logins, entities=[card], features=[Aggregate(AMOUNT, "count", time_window=timedelta(hours=1), name="n")],
)
logged = FeatureService("logged", features=[seen])
of_logins = Model(
    "takeover", features=logged, label=takeovers, estimator=LogisticRegression(),
    split=TimeSplit(day, day, day), retraining=Retraining(new_labels=30, min_positives=1),
)
model = Model(""",
    1,
).replace(
    "label=frauds, estimator=LogisticRegression(), split=TimeSplit(day, day, day))\ncheckout",
    "label=frauds, estimator=LogisticRegression(), split=TimeSplit(day, day, day), "
    "retraining=Retraining(new_labels=30, min_positives=1))\ncheckout",
)


def label(rows, name, value):
    return [{"id": row["id"], name: value, "known_at": START + timedelta(days=1)} for row in rows]


def test_a_models_labels_are_those_of_its_stream(tmp_path):
    root = write_project(tmp_path, TWO_STREAMS)
    with Runtime.open(root) as runtime:
        payments, logins = events(0, 40), events(0, 60)
        for at in range(0, 40, 10):
            runtime.ingest("payments", payments[at : at + 10])
            runtime.ingest("logins", logins[at : at + 10])
        runtime.ingest("logins", logins[40:])
        runtime.ingest("takeovers", label(logins, "taken", value=True))
        runtime.ingest("frauds", label(payments[:7], "fraud", value=False))
        models = runtime.project.models
        end = runtime.store.next_position
        for name, count, truth in (("fraud", 7, 0.0), ("takeover", 60, 1.0)):
            arrivals = Arrivals(runtime.store, runtime.plan, models[name])
            whole = arrivals.labels(0, end)
            pieces = [arrivals.labels(at, at + 7).values for at in range(0, end, 7)]
            assert whole.values.tolist() == [truth] * count
            assert sum(map(len, pieces)) == count
            assert len(arrivals.between(0, end)) == count
        retrainer = Retrainer(
            runtime.project,
            runtime.store,
            registry=runtime.registry,
            audit=runtime.routes.audit,
            clock=SystemClock(),
        )
        assert retrainer.due("fraud") is None
        assert retrainer.seen("fraud").labels == 7
        assert retrainer.due("takeover").text == "60 new labels, 60 of them positive"
