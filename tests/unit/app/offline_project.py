"""A small project with everything that the offline store must keep: late events, nulls, labels early, late, corrected."""

from __future__ import annotations

import random

from penstock.app.runtime import Runtime
from penstock.testing.clock import ManualClock

START = 1_700_000_000_000_000
MINUTE = 60_000_000
DAY = 1440 * MINUTE
DEFINITIONS = """
from datetime import timedelta
from penstock import *
from penstock.aggregation_functions import last
from penstock.types import Bool, Field, Float32, Float64, Int32, Int64, String, Timestamp

class Estimator:
    def fit(self): ...
    def predict(self): ...
    def get_params(self): ...

card = Entity("card", join_keys=[Field("card_id", String)])
shop = Entity("shop", join_keys=[Field("shop_id", Int64)])
tx = StreamSource("tx", PushConfig(), event_id_field="id", allowed_lateness=timedelta(hours=2), schema=[
    Field("id", String), Field("card_id", String, optional=True), Field("shop_id", Int64), Field("at", Timestamp),
    Field("amount", Float64, optional=True), Field("small", Float32), Field("kind", Int32, optional=True),
    Field("abroad", Bool), Field("note", String, optional=True)])
logins = StreamSource("logins", PushConfig(), schema=[Field("card_id", String), Field("at", Timestamp)])
frauds = LabelSource("frauds", of=tx, label=Field("is_fraud", Bool), known_at="known")
hour = timedelta(hours=1)
day = timedelta(days=1)
amount = Field("amount", Float64)
spending = StreamFeatureView("spending", source=tx, entities=[card],
    features=[Aggregate(amount, f, time_window=hour) for f in ("count", "sum", "mean")]
        + [Aggregate(Field("note", String), "last", time_window=day)])
entries = StreamFeatureView("entries", source=logins, entities=[card],
    features=[Aggregate(Field("card_id", String), "count", time_window=day)])
risk = StreamFeatureView("risk", source=frauds, entities=[shop],
    features=[Aggregate(Field("is_fraud", Bool), f, time_window=TimeWindow(day, offset=-hour)) for f in ("count", "mean")])
lists = StreamFeatureView("lists", source=tx, entities=[card],
    features=[Aggregate(Field("note", String), last(3), time_window=day), Aggregate(Field("kind", Int32), last(2), time_window=hour),
        Aggregate(amount, "mean", time_window=TimeWindowSeries(-4 * hour, hour))])
features = FeatureService("features", features=[spending, entries, risk])
arrays = FeatureService("arrays", features=[lists, spending])
numbers = FeatureService("numbers", features=[spending[["amount_count_1h_continuous", "amount_sum_1h_continuous"]], risk])
model = Model("m", features=numbers, label=frauds, estimator=Estimator(), split=TimeSplit(train=day, delay=day, test=day))
checkout = Endpoint("checkout", source=tx, model=model, policy=Policy("p", actions={"block": 0.9}))
"""


def project(folder, settings=""):
    folder.mkdir(exist_ok=True)
    (folder / "definitions.py").write_text(DEFINITIONS, "utf-8")
    (folder / "penstock.toml").write_text(f"[project]\nname='p'\n{settings}", "utf-8")
    return folder


def steps(seed, count=12):
    """`count` micro-batches: (source, events)."""
    chance = random.Random(seed)
    made, unlabelled, number = [], [], 0
    for step in range(count):
        now = START + step * DAY // 6
        events = []
        for _ in range(chance.randrange(5, 25)):
            number += 1
            late = chance.choice([0, 0, 0, 30, 110, 300])
            events.append(
                {
                    "id": f"e{number}",
                    "card_id": chance.choice([None, "a", "b", "Zoë", "dora-the-forgotten"]),
                    "shop_id": chance.randrange(3),
                    "at": now + chance.randrange(200) * MINUTE - late * MINUTE,
                    "amount": chance.choice([None, 0.1, 1e15, chance.random()]),
                    "small": chance.random(),
                    "kind": chance.choice([None, chance.randrange(5)]),
                    "abroad": chance.random() < 0.5,
                    "note": chance.choice([None, "", "x", "höher"]),
                }
            )
        early = [e["id"] for e in chance.sample(events, 3)]
        later = [e["id"] for e in events if e["id"] not in early and chance.random() < 0.4]
        made.append(("frauds", labels_for(early, now, chance)))
        made.append(("tx", events))
        logins = chance.randrange(4)
        if logins:
            made.append(
                ("logins", [{"card_id": chance.choice("ab"), "at": now + i * MINUTE} for i in range(logins)])
            )
        due = [i for i in unlabelled if chance.random() < 0.7]
        unlabelled = [i for i in unlabelled if i not in due] + later
        if due:
            again = chance.sample(due, min(2, len(due)))
            made.append(("frauds", labels_for([*due, *again, *again], now, chance)))
    return made


def labels_for(ids, now, chance):
    return [
        {"id": i, "is_fraud": chance.random() < 0.3, "known": now + chance.randrange(300) * MINUTE}
        for i in ids
    ]


def fill(root, batches, **options):
    """Feed `batches` through the engine."""
    with open_runtime(root, **options) as runtime:
        for source, events in batches:
            runtime.ingest(source, events)
    return root


def open_runtime(root, **options):
    return Runtime.open(root, clock=ManualClock(START + 100 * DAY), **options)
