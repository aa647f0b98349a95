"""Impressions and clicks, always the same: ads, sites and users with hidden tastes, and an hour of the day."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS, ADS, SITES, USERS = 6, 800, 200, 5_000
DELAY = timedelta(minutes=30)


def simulate(count: int, seed: int = 4) -> dict[str, np.ndarray]:
    """`count` impressions over `DAYS` days: seconds, ids, the true probability of a click, and whether there was one."""
    draw = np.random.default_rng(seed)
    seconds = np.sort(draw.random(count)) * DAYS * 86_400
    ads = (ADS * draw.random(count) ** 2).astype(np.int64)  # few ads have most of the impressions
    sites = (SITES * draw.random(count) ** 2).astype(np.int64)
    users = draw.integers(0, USERS, count)
    taste = {
        name: draw.normal(0, spread, size) for name, spread, size in (("ad", 0.8, ADS), ("site", 0.5, SITES))
    }
    habit = draw.normal(0, 0.5, USERS)
    fits = draw.normal(0, 0.5, (8, 8))  # kinds of ads do better on some kinds of sites
    hour = np.sin((seconds % 86_400) / 86_400 * 2 * np.pi)
    logit = (
        -3.4 + taste["ad"][ads] + taste["site"][sites] + habit[users] + fits[ads % 8, sites % 8] - 0.3 * hour
    )
    chance = 1 / (1 + np.exp(-logit))
    clicked = draw.random(count) < chance
    return {
        "seconds": seconds,
        "ad_id": ads,
        "site_id": sites,
        "user_id": users,
        "chance": chance,
        "clicked": clicked,
    }


def write(folder: Path, count: int) -> None:
    """Write impressions.ndjson and clicks.ndjson."""
    folder.mkdir(parents=True, exist_ok=True)
    world = simulate(count)
    with (folder / "impressions.ndjson").open("w") as events, (folder / "clicks.ndjson").open("w") as labels:
        for i in range(count):
            at = START + timedelta(seconds=float(world["seconds"][i]))
            ids = {name: int(world[name][i]) for name in ("ad_id", "site_id", "user_id")}
            events.write(json.dumps({"id": i, "at": at.isoformat(), **ids}) + "\n")
            known = (at + DELAY).isoformat()
            labels.write(
                json.dumps({"id": i, "clicked": bool(world["clicked"][i]), "known_at": known}) + "\n"
            )
