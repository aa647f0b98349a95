"""A project whose endpoint is watched, with a model whose score is the amount, and a stream of payments with late labels."""

import random
from datetime import UTC, datetime, timedelta
from textwrap import dedent

from penstock.app import Runtime
from penstock.core.time import to_us
from penstock.testing.clock import ManualClock

START = datetime(2026, 1, 1, tzinfo=UTC)
CLOCK = ManualClock(to_us(START + timedelta(days=400)))
HOUR = timedelta(hours=1)
DEFINITIONS = dedent("""
    from datetime import timedelta
    from sklearn.linear_model import LogisticRegression
    from penstock import *
    from penstock.types import Bool, Field, Float64, Int64, String, Timestamp

    amount, day = Field("amount", Float64), timedelta(days=1)
    card = Entity("card", [Field("card_id", Int64)])
    payments = StreamSource("payments", PushConfig(), event_id_field="id", allowed_lateness=day, schema=[
        Field("id", String), Field("t", Timestamp), Field("card_id", Int64, optional=True), amount,
        Field("country", String, optional=True)])
    charges = LabelSource("charges", of=payments, label=Field("is_fraud", Bool), known_at="reported_at")

    @realtime_feature_view(sources=[RequestSource([amount])],
        features=[Attribute("amount", Float64), Attribute("large", Bool)])
    def payment(request):
        return {"amount": request["amount"], "large": request["amount"] > 0.5}

    spending = StreamFeatureView("spending", source=payments, entities=[card],
        features=[Aggregate(amount, "count", time_window=day, name="n")])
    service = FeatureService("service", features=[payment, spending])
    model = Model("model", features=service, label=charges, estimator=LogisticRegression(),
        split=TimeSplit(train=10 * day, delay=3 * day, test=7 * day))
    checkout = Endpoint("checkout", source=payments, model=model, policy=Policy("policy",
        actions={"review": 0.5, "block": 0.9}, costs=CostMatrix(false_positive=5.0, false_negative="amount")))
    monitor = Monitor(endpoint=checkout, segments=["country", "payment.large"], max_segments=3,
        windows=[2 * day, 6 * day], top_k=3)
""")


class AmountIsScore:
    feature_names = ("payment.amount", "payment.large", "spending.n")
    digest = ""

    def __init__(self, version):
        self.version = version

    def score(self, vectors):
        return vectors[:, 0].copy()


def write(folder, definitions=DEFINITIONS):
    (folder / "penstock.toml").write_text('[project]\nname = "watched"\n')
    (folder / "definitions.py").write_text(definitions)
    return folder


def open_watched(folder, version="amount:1"):
    runtime = Runtime.open(folder, clock=CLOCK)
    runtime.routes.serve("checkout", AmountIsScore(version))
    return runtime


def payments(count, *, first=0, seed=0, step=HOUR, shift=0.0):
    draw = random.Random(seed + first)
    rows = []
    for number in range(first, first + count):
        late = timedelta(hours=draw.choice([0, 0, 0, 5]))
        rows.append(
            {
                "id": f"p{number}",
                "t": START + number * step - late,
                "card_id": draw.choice([1, 2, 3, 4, 5, 6, 7, None]),
                "amount": min(max(draw.betavariate(1, 3) + shift, 0.001), 0.999),
                "country": draw.choice(["DE", "FR", "IT", "ES", None]),
            }
        )
    return rows


def labels(rows, seed=0, share=0.8, wrong=0.0, delay=timedelta(days=2)):
    draw = random.Random(seed)
    return [
        {
            "id": row["id"],
            "is_fraud": (draw.random() < row["amount"]) ^ (draw.random() < wrong),
            "reported_at": row["t"] + delay + draw.random() * HOUR,
        }
        for row in rows
        if draw.random() < share
    ]
