"""A project whose events have a card and a shop, as one engine and as a chain of stages; a topic in memory stands between."""

import numpy as np

from penstock.app.merging import Feed, Resume, by_source, merged
from penstock.app.runtime import Runtime, plan_of
from penstock.app.stage_inputs import StageInput
from penstock.app.stage_sending import Sent, StageSender
from penstock.connectors.kafka import Partition
from penstock.definitions.project import load_project
from penstock.engine.decisions import Decisions
from penstock.engine.lookup import RowReader
from penstock.plan.stages import stages_of
from penstock.testing.clock import ManualClock

START_US, SECOND = 1_767_225_600_000_000, 1_000_000
PARTITIONS = 3
DEFINITIONS = """
import numpy as np
from datetime import timedelta
from penstock import *
from penstock.types import Bool, Field, Float64, Int64, String, Timestamp

card, shop, device = Field("card", String), Field("shop", Int64), Field("device", String)
amount = Field("amount", Float64)
payments = StreamSource("payments", KafkaConfig("localhost:1", "payments", key_field="card"), schema=[
    Field("id", String), card, shop, device, Field("at", Timestamp), amount, Field("note", String, optional=True)],
    event_id_field="id")
HOUR = timedelta(hours=1)
totals = [Aggregate(amount, f, time_window=w) for w in (HOUR, 24 * HOUR) for f in ("sum", "count", "stddev_samp")]
by_card = StreamFeatureView("by_card", source=payments, entities=[Entity("card", [card])],
    features=[*totals, Aggregate(Field("note", String), "last", time_window=HOUR)])
by_shop = StreamFeatureView("by_shop", source=payments, entities=[Entity("shop", [shop])], features=totals)
frauds = LabelSource("frauds", of=payments, label=Field("is_fraud", Bool), known_at="known_at")
risk = StreamFeatureView("risk", source=frauds, entities=[Entity("shop", [shop])],
    features=[Aggregate(Field("is_fraud", Bool), f, time_window=48 * HOUR) for f in ("count", "mean")])


@realtime_feature_view(sources=[by_card, by_shop], mode="python",
    features=[Attribute("ratio", Float64), Attribute("noted", Float64)])
def compared(card, shop):
    note = next(value for name, value in card.items() if name.startswith("note"))
    sums = [next(value for name, value in one.items() if "sum_1h" in name) for one in (card, shop)]
    return {"ratio": sums[0] / sums[1], "noted": None if note is None else float(note[1:])}


numbers = by_card[[name for name in by_card.feature_types if not name.startswith("note")]]
by_device = StreamFeatureView("by_device", source=payments, entities=[Entity("device", [device])], features=totals)
features = FeatureService("features", features=[by_shop, numbers, compared, risk{more}])


class NoEstimator:
    def fit(self): ...

    def predict(self): ...

    def get_params(self): ...


model = Model("fraud", features=features, label=frauds, estimator=NoEstimator(),
    split=TimeSplit(train=HOUR, delay=timedelta(0), test=HOUR))
checkout = Endpoint("checkout", source=payments, model=model, policy=Policy("card", actions={"block": 0.5}))
"""


class Topic:
    """A topic in memory, with as many partitions as asked for; what `KafkaReader` and a producer are to a stage."""

    def __init__(self, partitions):
        self.messages = [[] for _ in range(partitions)]
        self.at = [0] * partitions
        self.now_ms = 0

    def send(self, partition, value):
        self.messages[partition].append(Message(value, len(self.messages[partition]), self.now_ms))

    def read_from(self, partition, offset):
        self.at[partition.number] = offset or 0

    def take(self, partition, most):
        start = self.at[partition.number]
        found = self.messages[partition.number][start : start + most]
        self.at[partition.number] += len(found)
        return found


class Message:
    def __init__(self, value, offset, sent_ms):
        self._value, self._offset, self._sent_ms = value, offset, sent_ms

    def value(self):
        return self._value

    def offset(self):
        return self._offset

    def timestamp(self):
        return 2, self._sent_ms


def write_project(root, *, devices=False):
    """The project; with features by device, too, there are three stages."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "penstock.toml").write_text('[project]\nname = "shop"\n[engine]\ndurability = "process"\n')
    more = ", by_device" if devices else ""
    (root / "definitions.py").write_text(DEFINITIONS.replace("{more}", more))
    return load_project(root)


def opened(project, shard="", plan=None):
    planned = plan_of if plan is None else (lambda _: plan)
    return Runtime.open(
        project.root, project=project, shard=shard, planned=planned, clock=ManualClock(START_US + 10**13)
    )


def history(count, seed, *, late=0.0):
    """By partition events and labels: three at a time, in the order of time but for a share of events that come late."""
    draw = np.random.default_rng(seed)
    events, labels = [[] for _ in range(PARTITIONS)], [[] for _ in range(PARTITIONS)]
    for i in range(count):
        card, at = int(draw.integers(0, 40)), START_US + 60 * SECOND * (i // 3)
        if draw.random() < late:
            at -= int(draw.integers(1, 1800)) * SECOND
        event = {"id": f"e{i}", "card": f"c{card}", "shop": int(draw.integers(0, 9)), "at": at}
        event["device"] = f"d{draw.integers(0, 15)}"
        event |= {"amount": float(draw.gamma(2.0, 30.0)), "note": None if i % 5 else f"n{i}"}
        events[card % PARTITIONS].append(event)
        if draw.random() < 0.4:
            known = (
                at + (draw.random() < 0.9) * int(draw.integers(0, 7200)) * SECOND
            )  # some at once: these come first
            label = {"id": f"e{i}", "is_fraud": bool(draw.random() < 0.3), "known_at": known}
            labels[card % PARTITIONS].append(label)
    for some in labels:
        some.sort(key=lambda label: label["known_at"])
    return events, labels


def rows_of(runtime, events, labels):
    """Micro-batches of partitions merged by event time, as a run has them."""
    feeds = []
    for source, parts in (("payments", events), ("frauds", labels)):
        node = runtime.plan.sources[source]
        for rows in parts:
            decoded = runtime.decode(source, rows)
            feeds.append(
                Feed(node, iter([(decoded, "1")] if rows else []), resume=Resume(), order=len(feeds))
            )
    for parts in merged(feeds):
        inputs = by_source(parts)
        yield inputs, len(inputs) > 1


def process(runtime, events, labels):
    for inputs, by_time in rows_of(runtime, events, labels):
        runtime.process(inputs, by_time=by_time)
    runtime.engine.flush()


def decided(runtime):
    """By event id the vector, as bits, and the flags; each event is decided once."""
    found, rows = {}, RowReader(runtime.store, runtime.plan.sources)
    for batch in runtime.store.read_decisions():
        one = Decisions.from_bytes(batch.payload)
        ids = rows.events("payments", batch.positions)["id"].to_strings()
        bits = np.where(np.isnan(one.vectors), np.nan, one.vectors).view(np.int64).tolist()
        assert not found.keys() & set(ids)
        found |= {i: (bits[n], int(one.flags[n])) for n, i in enumerate(ids)}
    return found


def chain(project, *columns):
    """The stages."""
    return stages_of(plan_of(project), "payments", columns or ["card", "shop"])


class Sender(StageSender):
    """One whose messages are there at once."""

    def step(self, *, rest_at):
        moved = self.send_next(rest_at=rest_at)
        self.settle()
        return moved


def sender(runtime, stage, number, topic, sent=None, *, now_s=lambda: 0.0):
    return Sender(
        runtime.store,
        stage,
        "payments",
        shard=number,
        partitions=PARTITIONS,
        sent=sent or Sent(),
        send=lambda partition, value, there: (topic.send(partition, value), there()),
        now_s=now_s,
    )


def reading(runtime, topic, number, *, before=None, now_s=lambda: 0.0):
    return StageInput(
        "payments",
        Partition("t", number),
        topic,
        nodes=(before or chain(runtime.project)[0]).plan.sources,
        shards=PARTITIONS,
        problems=runtime.problems,
        now_s=now_s,
    )
