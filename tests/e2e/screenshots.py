"""The pictures of the pages in docs/images, made again: a project that has lived for weeks, a live stream, a browser.

python -m tests.e2e.screenshots [--all FOLDER [NAME ...]]

With ``--all`` every page, or those that are named, is taken, light and dark, wide and narrow, into a folder of its own. Takes some minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import httpx
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.dashboard_project import FULL, World, make
from tests.e2e.watched_pages import CHROMIUM, FLAGS

IMAGES = Path(__file__).parents[2] / "docs" / "images"
RATE, STREAM_S = 25, 150
COMPARED = "/compare?model=fraud:1&model=fraud:2&model=fraud:3"
PAGES = {
    "overview": "/",
    "decisions": "/decisions",
    "features": "/features",
    "distributions": "/features?show=distributions",
    "lineage": "/features?show=lineage",
    "models": "/models/fraud",
    "performance": "/performance",
    "comparison": COMPARED,
    "drift": "/drift",
    "experiments": "/experiments",
    "alerts": "/alerts",
    "dead-letters": "/dead-letters",
    "lists": "/lists/blocked_cards",
    "jobs": "/jobs",
    "system": "/system",
    "login": "/login",
}
FIGURES = ("metrics", "drift", "distributions", "experiment")


def main(everything: Path | None, names: Sequence[str]) -> None:
    """Make the pictures."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "shop"
        world = make(folder, **FULL)
        command = [sys.executable, "-c", "from penstock.cli.main import app; app()", "up", "--port", "8199"]
        environment = os.environ | {"PENSTOCK_LOG__FORMAT": "json", "TEST_SECRET": "whsec_" + "c2VjcmV0" * 4}
        process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, env=environment)
        try:
            url = "http://127.0.0.1:8199"
            event = stream(url, world)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                take_all(browser, url, pages_of(url, event), everything, names)
                browser.close()
        finally:
            process.terminate()
            process.wait(30)


def stream(url: str, world: World) -> str:
    """Let payments come for a while; returns the id of one that was blocked."""
    http, blocked = httpx.Client(base_url=url, timeout=30), ""
    while True:
        try:
            if http.get("/health/ready").status_code == httpx.codes.OK:
                break
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    for kind in FIGURES:
        http.get(f"/v1/endpoints/checkout/{kind}")
    started, sent = time.monotonic(), 0
    while (gone := time.monotonic() - started) < STREAM_S:
        while sent < gone * RATE:
            row, fraud = world.payment(datetime.now(UTC), 100 + int(gone // 20))  # noqa: TID251 - a live stream
            row["amount"] = "12,50" if sent % 700 == 9 else row["amount"]
            answer = http.post("/v1/endpoints/checkout/score", json=row).json()
            sent += 1
            if fraud and answer.get("action") == "block":
                blocked = row["payment_id"]
        time.sleep(0.05)
    return blocked


def pages_of(url: str, event: str) -> dict[str, str]:
    """All pages, with those of one decision, one dead letter and jobs that ended well and badly."""
    http = httpx.Client(base_url=url, timeout=30)
    (letter, *_) = http.get("/v1/dead-letters").json()["items"]
    asked = {"kind": "backtest", "params": {"endpoint": "checkout", "thresholds": {"nothing": 0.5}}}
    bad = http.post("/v1/jobs", json=asked).json()["id"]
    good = http.get("/v1/jobs?state=succeeded").json()["items"][0]["id"]
    return PAGES | {
        "decision": f"/decisions/payments/{quote(event, safe='')}",
        "dead-letter": f"/dead-letters/{letter['id']}",
        "job": f"/jobs/{good}",
        "failed-job": f"/jobs/{bad}",
    }


def take_all(
    browser: Browser, url: str, pages: Mapping[str, str], everything: Path | None, names: Sequence[str]
) -> None:
    """Take the pictures of the documentation, or all others where a folder is given."""
    if everything is None:
        IMAGES.mkdir(parents=True, exist_ok=True)
        for name in ("overview", "decision", "comparison"):
            take(browser, url + pages[name], IMAGES / f"{name}.png", width=1280)
        return
    everything.mkdir(parents=True, exist_ok=True)
    for name, path in pages.items():
        if names and name not in names:
            continue
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                take(
                    browser,
                    url + path,
                    everything / f"{name}-{width}-{scheme}.png",
                    width=width,
                    scheme=scheme,
                )


def take(browser: Browser, url: str, path: Path, *, width: int, scheme: str = "light") -> None:
    """One picture, in few colours so that it stays small."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(url)
    page.wait_for_timeout(2500)
    page.screenshot(path=path, full_page=True)
    context.close()
    from PIL import Image

    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[2]) if sys.argv[1:2] == ["--all"] else None, sys.argv[3:])
