"""A project that runs as a process of its own, and does all that there is a metric of: for what reads metrics."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from penstock.cli import init
from tests.e2e.dashboard_project import World, label_of, penstock

DAYS, UNSCORED, A_DAY = 25, 15, 150
PATIENCE_S = 120.0

MORE = """

from penstock import Alert, Arm, OnDecision, Retraining, Rule, Webhook


@realtime_feature_view(sources=[RequestSource([AMOUNT])], features=[Attribute("huge", Bool)])
def size(request):
    if (request["amount"] == 77_777).any():
        raise ValueError("a fault, to be seen")
    return {"huge": request["amount"] > 120}


fraud = Model(
    "fraud",
    features=fraud_features,
    label=chargebacks,
    estimator=XGBClassifier(n_estimators=20, max_depth=3, n_jobs=1, random_state=0),
    split=TimeSplit(train=9 * DAY, delay=3 * DAY, test=3 * DAY),
    retraining=Retraining(new_labels=1_000_000),
)
card_policy = Policy(
    "card_policy", actions={"block": 0.8, "review": 0.0001}, rules=[Rule("huge", when="size.huge", action="block")],
    explore=0.5,
)
checkout = Endpoint(
    "checkout", source=payments, model=fraud, policy=card_policy,
    features=FeatureService("checkout_features", features=[payment, card_spending, shop_risk, size]),
    arms=[Arm("champion", weight=1), Arm("challenger", version="challenger", shadow=True)], guard=None,
)
blocked = Alert(
    "blocked", on=OnDecision(checkout, action="block"), to=[Webhook("http://127.0.0.1:9/", secret_env="TEST_SECRET")],
    owner="risk", give_up_after=timedelta(seconds=1),
)
"""


def make(folder: Path) -> World:
    """A project of 25 days with a version that decides from the 16th on, one in the shadow, an attempt at a third, and a problem."""
    init.write_project(folder)
    definitions = folder / "definitions.py"
    head, _, _ = definitions.read_text("utf-8").partition("fraud = Model(")
    definitions.write_text(head + MORE, "utf-8")
    world = World(datetime.now(UTC) - timedelta(days=DAYS), a_day=A_DAY)  # noqa: TID251 - a live stream follows
    project = ("--project", str(folder))
    for stage, days, mode in (("Production", range(UNSCORED), "w"), ("Staging", range(UNSCORED, DAYS), "a")):
        _write(folder, [one for day in days for one in world.day(day)], mode=mode)
        penstock("run", *project)
        penstock("train", "fraud", *project)
        number = "1" if stage == "Production" else "2"
        skip = ["--skip-gate", "a first version"] if stage == "Production" else []
        penstock("registry", "promote", "fraud", number, "--stage", stage, "--reason", "try", *skip, *project)
    penstock("retrain", "fraud", "--now", *project)
    (folder / ".penstock" / "live.bin").write_bytes(b"damaged")
    return world


def _write(folder: Path, rows: list, *, mode: str) -> None:
    """Payments and what is known of them by now."""
    _append(folder / "data" / "payments.ndjson", [row for row, _ in rows], mode=mode)
    labels = [label_of(row, fraud=fraud) for row, fraud in rows]
    now = datetime.now(UTC).isoformat()  # noqa: TID251
    _append(
        folder / "data" / "chargebacks.ndjson",
        [one for one in labels if one["reported_at"] <= now],
        mode=mode,
    )


class Traffic:
    """Payments over HTTP and files, with all that can be wrong with them."""

    def __init__(self, folder: Path, http: httpx.Client, world: World) -> None:
        self._folder, self._world, self._http = folder, world, http
        self._draw = random.Random(3)

    def send(self, seconds: float) -> None:
        """Ten payments a second, for a while."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            row, fraud = self._world.payment(datetime.now(UTC), 100)  # noqa: TID251
            row["payment_id"] = f"live-{self._draw.getrandbits(60):x}"
            self._score(row, 200)
            self._score(row, 200)  # a duplicate
            self._score(row | {"payment_id": row["payment_id"] + "x", "amount": "much"}, 422)
            self._score(row | {"payment_id": row["payment_id"] + "fault", "amount": 77_777}, 200)
            late = datetime.fromisoformat(row["paid_at"]) - timedelta(days=3)
            self._score(row | {"payment_id": row["payment_id"] + "late", "paid_at": late.isoformat()}, 200)
            label = label_of(row, fraud=fraud) | {"reported_at": row["paid_at"]}
            _append(self._folder / "data" / "chargebacks.ndjson", [label], mode="a")
            time.sleep(0.1)

    def _score(self, row: dict, status: int) -> None:
        answer = self._http.post("/v1/endpoints/checkout/score", json=row)
        assert answer.status_code == status, answer.text


@contextmanager
def running(folder: Path):
    """The project as `penstock up` serves it; its address."""
    command = [sys.executable, "-c", "from penstock.cli.main import app; app()", "up", "--port", "0"]
    path = folder.parent / "up.log"
    environment = os.environ | {
        "PENSTOCK_LOG__FORMAT": "json",
        "TEST_SECRET": "whsec_" + "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0",
    }
    with path.open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stderr=log, stdout=log, env=environment)
        try:
            yield _listening(path, process)
        finally:
            process.terminate()
            process.wait(60)


def _listening(path: Path, process: subprocess.Popen) -> str:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        found = re.search(
            r"http://127\.0\.0\.1:\d+", path.read_text("utf-8").partition("the API listens at")[2]
        )
        if found and httpx.get(f"{found[0]}/health/ready", timeout=PATIENCE_S).status_code == 200:
            return found[0]
        time.sleep(0.1)
    raise AssertionError(path.read_text("utf-8"))


def _append(path: Path, lines: list[dict], *, mode: str) -> None:
    with path.open(mode, encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
