"""A project that is trained again without a hand, and a stream of payments whose frauds change their pattern in the middle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

START = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(minutes=2)
DELAY = timedelta(hours=12)
DEFINITIONS = """
from datetime import timedelta
from sklearn.linear_model import LogisticRegression
from penstock import *
from penstock.types import Bool, Field, Float64, String, Timestamp

hour = timedelta(hours=1)
first, second = Field("first", Float64), Field("second", Float64)
card = Entity("card", [Field("card_id", String)])
payments = StreamSource(
    "payments", PushConfig(), event_id_field="id", max_future_skew=timedelta(days=100_000),
    schema=[Field("id", String), Field("card_id", String), Field("at", Timestamp), first, second],
)
frauds = LabelSource("frauds", of=payments, label=Field("fraud", Bool), known_at="known_at")

@realtime_feature_view(sources=[RequestSource([first, second])],
    features=[Attribute("first", Float64), Attribute("second", Float64)])
def payment(request):
    return {"first": request["first"], "second": request["second"]}

spending = StreamFeatureView("spending", source=payments, entities=[card],
    features=[Aggregate(first, "count", time_window=hour, name="n")])
service = FeatureService("service", features=[payment, spending])
model = Model(
    "fraud", features=service, label=frauds, estimator=LogisticRegression(),
    split=TimeSplit(train=24 * hour, delay=12 * hour, test=12 * hour),
    gate=Gate(max_false_positive_rate=0.2, resamples=200, min_positives=20),
    retraining=Retraining(RULES),
)
checkout = Endpoint("checkout", source=payments, model=model, policy=Policy("card", actions={"block": 0.3}))
monitor = Monitor(endpoint=checkout, windows=[24 * hour], drift_window=24 * hour)
"""


def write_project(folder, rules="cooldown=timedelta(0)", *, monitor=""):
    (folder / "penstock.toml").write_text(
        "[project]\nname = 'fraud_shop'\n[engine]\ndurability = 'process'\n[audit]\nrate = 0\n[offline]\nexport = false\n"
    )
    (folder / "definitions.py").write_text(
        DEFINITIONS.replace("RULES", rules).replace("Monitor(endpoint", f"Monitor({monitor}endpoint")
    )
    return folder


def stream(first, count, *, changed=False, seed=0, shift=0.0):
    """Payments and their labels; frauds are those with much of `first`, after the change those with much of `second`.

    `shift` is added to `first` of every payment.
    """
    draw = np.random.default_rng([seed, first])
    values = draw.normal(size=(count, 2))
    score = values[:, 1] if changed else values[:, 0]
    fraud = draw.random(count) < 1 / (1 + np.exp(-(4 * score - 5)))
    events, labels = [], []
    for i, number in enumerate(range(first, first + count)):
        at = START + number * STEP
        event_id = f"e{number}"
        row = {"id": event_id, "card_id": f"c{number % 97}", "at": at}
        events.append(row | {"first": float(values[i, 0]) + shift, "second": float(values[i, 1])})
        labels.append({"id": event_id, "fraud": bool(fraud[i]), "known_at": at + DELAY})
    return events, labels


class Feed:
    """Sends payments to a running project, and each label when it is known."""

    def __init__(self, runtime, *, seed=0):
        self.runtime, self.seed, self.sent = runtime, seed, 0
        self._waiting = []

    def send(self, count, *, changed=False, step=360, shift=0.0):
        """Send the next payments, in micro-batches."""
        for start in range(self.sent, self.sent + count, step):
            size = min(step, self.sent + count - start)
            events, labels = stream(start, size, changed=changed, seed=self.seed, shift=shift)
            self.runtime.ingest("payments", events)
            self._waiting += labels
            now = events[-1]["at"]
            known = [one for one in self._waiting if one["known_at"] <= now]
            self._waiting = self._waiting[len(known) :]
            if known:
                self.runtime.ingest("frauds", known)
        self.sent += count
