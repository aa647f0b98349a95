"""What replicas cost: the time of a preview over Redis on the same machine, and what publishing takes from the engine.

Run: ``python -m benchmarks.replica``, with a Redis at REDIS_URL (default: that of `make services`).
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np

from penstock import Aggregate, Entity, FeatureService, PushConfig, StreamFeatureView, StreamSource
from penstock.app import Runtime
from penstock.app.publishing import TIMEOUT_S
from penstock.app.settings import Settings
from penstock.core.clock import SystemClock
from penstock.core.time import from_us
from penstock.definitions.project import Project
from penstock.engine.publishing import Publisher
from penstock.engine.replica import Replica
from penstock.stores.redis_blobs import RedisBlobs
from penstock.types import Field, Float64, String, Timestamp

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:16379/0")
EVENTS, KEYS, BATCH, REQUESTS = 100_000, 10_000, 1_000, 3_000
START = from_us(SystemClock().now_us()) - timedelta(hours=2)
AMOUNT = Field("amount", Float64)
NAMES = ("card", "shop")

payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[Field("id", String), *(Field(name, String) for name in NAMES), Field("at", Timestamp), AMOUNT],
    event_id_field="id",
)
views = [
    StreamFeatureView(
        f"by_{name}",
        source=payments,
        entities=[Entity(name, [Field(name, String)])],
        features=[
            Aggregate(AMOUNT, function, time_window=timedelta(minutes=minutes))
            for minutes in (10, 60, 1440)
            for function in ("count", "sum", "mean")
        ],
    )
    for name in NAMES
]
service = FeatureService("service", features=views)


def events() -> list[bytes]:
    """NDJSON of micro-batches."""
    draw = np.random.default_rng(0)
    cards, shops = draw.integers(0, KEYS, EVENTS), draw.integers(0, KEYS // 10, EVENTS)
    rows = [
        msgspec.json.encode(
            {"id": f"e{i}", "card": f"c{c}", "shop": f"s{s}", "at": (START + timedelta(milliseconds=50 * i)).isoformat(), "amount": i % 97 + 0.5}
        )
        for i, (c, s) in enumerate(zip(cards.tolist(), shops.tolist(), strict=True))
    ]  # fmt: skip
    return [b"\n".join(rows[at : at + BATCH]) for at in range(0, EVENTS, BATCH)]


def fed(runtime: Runtime, batches: list[bytes], publisher: Publisher | None) -> float:
    """Seconds for all events, with all that changed published behind every tenth micro-batch."""
    began = time.perf_counter()
    for number, batch in enumerate(batches):
        runtime.process([("payments", runtime.decode("payments", batch))], overlap=False)
        while publisher is not None and number % 10 == 9 and publisher.step():
            pass
    return time.perf_counter() - began


def opened(folder: Path) -> Runtime:
    """An empty project."""
    project = Project(folder, "bench", {}, sources={"payments": payments}, services={"service": service})
    return Runtime.open(folder, project=project, settings=Settings())


def main() -> None:
    """Print the figures."""
    batches = events()
    blobs = RedisBlobs(URL, timeout_s=TIMEOUT_S)
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as runtime:
        alone = fed(runtime, batches, None)
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as runtime:
        name = f"bench-{secrets.token_hex(8)}"
        publisher = Publisher(
            runtime.engine,
            store_id=runtime.store.store_id,
            wait_until_durable=lambda _: None,
            blobs=blobs,
            namespace=name,
            clock=runtime.clock,
        )
        with_states = fed(runtime, batches, publisher)
        replica = Replica(runtime.plan, blobs, namespace=name, clock=runtime.clock, fresh_s=1e9)
        took = previewed(replica, batches[-1])
    print(f"engine alone: {1e6 * alone / EVENTS:.1f} µs an event")
    print(f"with all states published, each key once in 10,000 events: {1e6 * with_states / EVENTS:.1f} µs")
    print(f"preview of one event, features of {len(NAMES)} keys: p50 {took[0]:.2f} ms, p99 {took[1]:.2f} ms")
    for names in blobs.names(f"penstock:{name}:".encode()):
        blobs.delete(names, 1 << 52)
    blobs.close()


def previewed(replica: Replica, batch: bytes) -> tuple[float, float]:
    """Milliseconds of a preview's features: median and 99th percentile."""
    from penstock.engine.contract import Contract

    contract = Contract(replica.plan.sources["payments"])
    rows = batch.split(b"\n")
    took = []
    for number in range(REQUESTS):
        began = time.perf_counter()
        decoded = contract.decode_json(rows[number % len(rows)])
        borrowed, _ = replica.features(replica.plan.services["service"], decoded.columns)
        took.append(time.perf_counter() - began)
        assert not borrowed.flags, borrowed
    p50, p99 = np.percentile(np.array(took[REQUESTS // 10 :]) * 1e3, [50, 99])
    return float(p50), float(p99)


if __name__ == "__main__":
    main()
