"""A sample of card payments with their chargebacks, always the same: ``python sample.py`` writes it to data/.

Cards pay usual amounts at usual shops. Some shops leak: cards used there are misused the day after, with larger
amounts, often at night. Three days after each payment it is known whether it was fraud.
"""

from __future__ import annotations

import json
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

START = datetime(2025, 3, 1, tzinfo=UTC)
DAYS, NEXT_DAYS = 28, 7
CARDS, SHOPS, PAYMENTS_A_DAY = 120, 40, 150
DELAY = timedelta(days=3)

Row = dict[str, object]


def payments(seed: int = 7) -> list[tuple[Row, bool]]:
    """Every payment in the order of its time, and whether it is fraud."""
    draw = random.Random(seed)  # noqa: S311 - a simulation
    usual = [round(draw.uniform(8, 80), 2) for _ in range(CARDS)]
    leaking = set(draw.sample(range(SHOPS), 4))
    misused: dict[int, int] = {}
    rows: list[tuple[Row, bool]] = []
    for day in range(DAYS + NEXT_DAYS):
        for second in sorted(draw.randrange(86_400) for _ in range(PAYMENTS_A_DAY)):
            card = draw.randrange(CARDS)
            fraud = misused.get(card) == day and draw.random() < 0.7
            shop = draw.choice(sorted(leaking)) if fraud and draw.random() < 0.6 else draw.randrange(SHOPS)
            if not fraud and shop in leaking and draw.random() < 0.35:
                misused[card] = day + 1
            amount = (
                usual[card] * draw.uniform(2.5, 6) if fraud else usual[card] * draw.lognormvariate(0, 0.4)
            )
            row: Row = {
                "payment_id": f"p{len(rows):05d}",
                "card_id": f"card-{card:03d}",
                "shop_id": f"shop-{shop:02d}",
                "paid_at": (START + timedelta(days=day, seconds=second)).isoformat(),
                "amount": round(amount, 2),
            }
            rows.append((row, fraud))
    return rows


def write(folder: Path) -> None:
    """Write payments.ndjson, chargebacks.ndjson, and next_week.ndjson with the payments that come after."""
    folder.mkdir(parents=True, exist_ok=True)
    end = START + timedelta(days=DAYS)
    past: list[Row] = []
    coming: list[Row] = []
    labels: list[Row] = []
    for row, fraud in payments():
        paid_at = datetime.fromisoformat(str(row["paid_at"]))
        (past if paid_at < end else coming).append(row)
        reported_at = paid_at + DELAY
        if reported_at < end:
            labels.append(
                {"payment_id": row["payment_id"], "is_fraud": fraud, "reported_at": reported_at.isoformat()}
            )
    for name, rows in (("payments", past), ("chargebacks", labels), ("next_week", coming)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.ndjson").write_text(lines, "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data")
