"""A small project with all kinds of views, and a stream of events for it with late, null and labelled ones."""

import random
from datetime import UTC, datetime, timedelta

from penstock.app import Runtime
from penstock.core.time import to_us
from penstock.testing.clock import ManualClock

START = datetime(2026, 1, 1, tzinfo=UTC)
CLOCK = ManualClock(to_us(START + timedelta(days=400)))

DEFINITIONS = """
from datetime import timedelta
from sklearn.linear_model import LogisticRegression
from penstock import *
from penstock.types import Bool, Field, Float32, Float64, Int64, String, Timestamp

HOUR = timedelta(hours=1)
AMOUNT, SHOP, BIG = Field("amount", Float64), Field("shop", String), Field("big", Bool)
card = Entity("card", [Field("card_id", Int64)])
by_shop = Entity("by_shop", [SHOP])
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[
        Field("id", String), Field("card_id", Int64, optional=True), Field("to_card", Int64), SHOP,
        Field("at", Timestamp), Field("amount", Float64, optional=True),
    ],
    event_id_field="id",
    allowed_lateness=2 * HOUR,
)
frauds = LabelSource("frauds", of=payments, label=Field("fraud", Bool), known_at="known_at", allowed_lateness=48 * HOUR)


@stream_feature_view(
    source=payments,
    entities=[card],
    features=[
        Aggregate(AMOUNT, "count", time_window=24 * HOUR, name="n"),
        Aggregate(AMOUNT, "sum", time_window=3 * HOUR, name="s"),
        Aggregate(AMOUNT, "max", time_window=24 * HOUR, where=BIG.name, name="most"),
        Aggregate(AMOUNT, "sum", time_window=TimeWindow(window_size=5 * HOUR, offset=-1 * HOUR), name="before"),
        Aggregate(SHOP, "count_distinct", time_window=6 * HOUR, name="shops"),
    ],
)
def spending(rows):
    keep = rows["amount"] != 13.0
    found = {name: rows[name][keep] for name in ("_row", "card_id", "at", "amount", "shop")}
    return found | {"big": rows["amount"][keep] > 50}


received = StreamFeatureView(
    "received", source=payments, entities=[card],
    features=[Aggregate(AMOUNT, "mean", time_window=24 * HOUR, name="usual")],
)
risk = StreamFeatureView(
    "risk", source=frauds, entities=[by_shop],
    features=[Aggregate(Field("fraud", Bool), "sum", time_window=72 * HOUR, name="known")],
)


@realtime_feature_view(
    sources=[RequestSource([AMOUNT]), received.with_join_key_map({"card_id": "to_card"})[["usual"]]],
    features=[Attribute("ratio", Float64)],
)
def ratio(request, usual):
    return {"ratio": request["amount"] / usual["usual"]}


features = FeatureService(
    "features",
    features=[spending[["n", "s", "most", "before", "shops"]], risk, received.with_join_key_map({"card_id": "to_card"}), ratio],
)
model = Model(
    "model", features=features, label=frauds, estimator=LogisticRegression(),
    split=TimeSplit(train=24 * HOUR, delay=HOUR, test=24 * HOUR),
)
endpoint = Endpoint("endpoint", source=payments, model=model, policy=Policy("policy", actions={"block": 0.5}))
"""


def write_project(folder, definitions=DEFINITIONS, settings=""):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "definitions.py").write_text(definitions)
    (folder / "penstock.toml").write_text(
        '[project]\nname = "shop"\ndefinitions = ["definitions.py"]\n' + settings
    )
    return folder


def payments(count, seed=0, first=0):
    draw = random.Random(seed)
    rows, at = [], START + timedelta(minutes=11 * first)
    for number in range(first, first + count):
        at += timedelta(minutes=draw.randrange(22))
        late = timedelta(minutes=draw.choice([0, 0, 0, 30, 119, 300]))
        rows.append(
            {
                "id": f"p{number}",
                "card_id": draw.choice([1, 2, 3, None]),
                "to_card": draw.randrange(1, 4),
                "shop": draw.choice("ab"),
                "at": at - late,
                "amount": draw.choice([None, 1.5, 13.0, 60.0, 99.25]),
            }
        )
    return rows


def labels(rows, seed=0):
    draw = random.Random(seed)
    return [
        {
            "id": row["id"],
            "fraud": draw.random() < 0.3,
            "known_at": row["at"] + timedelta(hours=draw.randrange(1, 30)),
        }
        for row in rows
        if draw.random() < 0.7
    ]


def open_project(folder, **options):
    return Runtime.open(folder, clock=CLOCK, **options)


def feed(runtime, count, *, seed=0, first=0, step=7):
    """Send payments in small batches, with the labels of earlier and of coming ones between them."""
    rows = payments(count, seed, first)
    batches = [rows[i : i + step] for i in range(0, count, step)]
    known = [labels(batch, seed + i) for i, batch in enumerate(batches)]
    for i, batch in enumerate(batches):
        if i % 3 == 0:
            runtime.ingest("frauds", known[i][:2])  # before their events
        runtime.ingest("payments", batch)
        if i > 2:
            runtime.ingest("frauds", known[i - 2])
    return rows
