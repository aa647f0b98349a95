"""A project that has lived for weeks: three versions of a model, an experiment, drift, alerts. Made anew for tests and for screenshots.

python -m tests.e2e.dashboard_project FOLDER [--small]
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from penstock.cli.main import app

CARDS, SHOPS = 300, 40
DELAY = timedelta(days=3)

MORE = """

from penstock import Alert, Arm, KeyList, Monitor, OnMetric, Rule, Webhook

blocked_cards = KeyList("blocked_cards", card, description="cards reported stolen")
card_policy = Policy(
    "card_policy",
    actions={"block": 0.8, "review": 0.3},
    costs=CostMatrix(false_positive=5.0, false_negative="amount"),
    rules=[Rule("blocked card", when=blocked_cards, action="block")],
)

checkout = Endpoint(
    "checkout",
    source=payments,
    model=fraud,
    policy=card_policy,
    arms=[Arm("champion", weight=4), Arm("challenger", version="challenger", weight=1)],
    sticky=card,
    guard=None,
)
watch = Monitor("watch", endpoint=checkout, segments=["payment.night"], live=["score", "error"])
too_many = Alert(
    "too_many_blocks",
    on=OnMetric(checkout, "alert_rate", above=0.2, for_=timedelta(minutes=1)),
    to=[Webhook("http://127.0.0.1:9/", secret_env="TEST_SECRET")],
    owner="risk",
)
"""


class World:
    """Payments of cards at shops, some of which leak; always the same for a seed."""

    def __init__(self, start: datetime, *, a_day: int, seed: int = 7, first: int = 0) -> None:
        self.start, self.a_day = start, a_day
        self._draw = random.Random(seed)
        self._usual = [self._draw.uniform(8, 80) for _ in range(CARDS)]
        self._leaking = sorted(self._draw.sample(range(SHOPS), 4))
        self._misused: dict[int, int] = {}
        self._count = first

    def day(self, day: int) -> Iterator[tuple[dict[str, Any], bool]]:
        """The payments of a day, and whether each is fraud."""
        for second in sorted(self._draw.uniform(0, 86_400) for _ in range(self.a_day)):
            yield self.payment(self.start + timedelta(days=day, seconds=second), day)

    def payment(self, at: datetime, day: int) -> tuple[dict[str, Any], bool]:
        """One payment at a time."""
        draw = self._draw
        card = draw.randrange(CARDS)
        fraud = self._misused.get(card) == day and draw.random() < 0.7
        shop = draw.choice(self._leaking) if fraud and draw.random() < 0.6 else draw.randrange(SHOPS)
        if not fraud and shop in self._leaking and draw.random() < 0.25:
            self._misused[card] = day + 1
        usual = self._usual[card] * (1.35 if day >= 38 else 1.0)  # prices rise: drift
        amount = usual * (draw.uniform(1.6, 5) if fraud else draw.lognormvariate(0, 0.45))
        self._count += 1
        row = {
            "payment_id": f"pay-{self._count:06d}",
            "card_id": f"card-{card:03d}",
            "shop_id": f"shop-{shop:02d}",
            "paid_at": at.isoformat(),
            "amount": round(amount, 2),
        }
        return row, fraud


def label_of(row: dict[str, Any], *, fraud: bool) -> dict[str, Any]:
    """The label that becomes known of a payment, days later."""
    known = datetime.fromisoformat(row["paid_at"]) + DELAY
    return {"payment_id": row["payment_id"], "is_fraud": fraud, "reported_at": known.isoformat()}


def make(
    folder: Path, *, a_day: int, stages: tuple[int, ...], promoted: tuple[int, ...], staged: int | None = None
) -> World:
    """Make the project; it ends now.

    Parameters
    ----------
    a_day
        Payments a day.
    stages
        The days after which a version is trained, and at last how many days there are.
    promoted, staged
        The versions that are put into use as soon as they are trained, and the one that is tried on a third of the keys.
    """
    penstock("init", str(folder))
    project = "--project", str(folder)
    definitions = folder / "definitions.py"
    head, _, _ = definitions.read_text("utf-8").partition('checkout = Endpoint("checkout"')
    definitions.write_text(head + MORE, "utf-8")
    world = World(datetime.now(UTC) - timedelta(days=stages[-1]), a_day=a_day)  # noqa: TID251 - a live stream follows
    files = folder / "data" / "payments.ndjson", folder / "data" / "chargebacks.ndjson"
    for path in files:
        path.write_text("", "utf-8")
    labels: list[dict[str, Any]] = []
    first = 0
    for number, last in enumerate(stages, start=1):
        rows = [one for day in range(first, last) for one in world.day(day)]
        labels += [label_of(row, fraud=fraud) for row, fraud in rows]
        known_by = (world.start + timedelta(days=last)).isoformat()
        due = [one for one in labels if one["reported_at"] <= known_by]
        labels = [one for one in labels if one["reported_at"] > known_by]
        for path, lines in zip(files, ([row for row, _ in rows], due), strict=True):
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
        penstock("run", *project)
        first = last
        if number == len(stages):
            break
        penstock("train", "fraud", *project)
        if number in promoted:
            given = "--skip-gate", "better on the last week"
            penstock("registry", "promote", "fraud", str(number), *given, *project)
        if number == staged:
            given = "--reason", "to be tried on a third", *project
            penstock("registry", "promote", "fraud", str(number), "--stage", "Staging", *given)
            penstock("route", "checkout", "challenger=2", *given)
    return world


def penstock(*arguments: str) -> None:
    """Run a command, in this process: starting one would take longer than what it does."""
    code = app([*arguments], standalone_mode=False)
    if code:
        raise RuntimeError(f"penstock {' '.join(arguments)}: {code}")


FULL: dict[str, Any] = {"a_day": 800, "stages": (25, 32, 39, 45), "promoted": (1, 2), "staged": 3}
SMALL: dict[str, Any] = {"a_day": 150, "stages": (25, 26, 27), "promoted": (1, 2)}

if __name__ == "__main__":
    make(Path(sys.argv[1]).resolve(), **(SMALL if "--small" in sys.argv[2:] else FULL))
