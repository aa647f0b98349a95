"""What the pages cost: how long until the first one stands, until news are on it, and how much memory ten of them take.

python -m tests.e2e.page_times [FOLDER]    # FOLDER keeps the project that is copied
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.made_once import made_once
from tests.e2e.watched_pages import CHROMIUM, FLAGS, Served, Watched, serving

PAGES = (
    "/",
    "/decisions",
    "/features",
    "/models/fraud",
    "/performance",
    "/drift",
    "/experiments",
    "/dead-letters",
    "/lists",
    "/lists/blocked_cards",
    "/jobs",
    "/system",
)
TIMES = 7
SETTLE_S = 10.0
MIB = 1 << 20


def main(kept: Path | None) -> None:
    """Measure, and print the figures."""
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        template = made_once(kept or Path(scratch), "shop", "tests.e2e.dashboard_project", "--small")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with serving(_copied(template, scratch, "without"), PENSTOCK_SERVE__DASHBOARD="false") as served:
            time.sleep(SETTLE_S)
            without = _memory(served)
        with serving(_copied(template, scratch, "with")) as served:
            time.sleep(SETTLE_S)
            figures = {"first_page_s": _first_pages(browser, served), "update_s": _updates(browser, served)}
            opened = [Watched(browser, served) for _ in PAGES]
            for one, path in zip(opened, PAGES, strict=True):
                one.open(path)
            time.sleep(SETTLE_S)
            figures["ten_pages_mib"] = [_memory(served) - without]
        browser.close()
    print(json.dumps({name: _told(values) for name, values in figures.items()}, indent=2))  # noqa: T201


def _copied(template: Path, scratch: str, name: str) -> Path:
    folder: Path = shutil.copytree(template, Path(scratch) / name / "shop")
    return folder


def _memory(served: Served) -> float:
    """What the server holds, and who makes its pages: a part of what they share with others. What else it starts comes and goes."""
    server = psutil.Process(served.process.pid)
    pages = [one for one in server.children() if "penstock.dashboard.process" in one.cmdline()]
    return sum(one.memory_full_info().pss for one in (server, *pages)) / MIB


def _first_pages(browser: Browser, served: Served) -> list[float]:
    """A browser that was never here opens the overview: until its figures stand."""
    found = []
    for _ in range(TIMES):
        opened = Watched(browser, served)
        begun = time.perf_counter()
        opened.page.goto(served.url + "/", wait_until="commit")
        opened.page.wait_for_selector(".tile .figure")
        found.append(time.perf_counter() - begun)
        opened.close()
    return found


def _updates(browser: Browser, served: Served) -> list[float]:
    """From the answer to an event until it stands on the page."""
    opened, found = Watched(browser, served), []
    opened.open("/decisions")
    for number in range(TIMES):
        served.score(payment_id=f"seen-{number}")
        begun = time.perf_counter()
        opened.page.wait_for_selector(f"text=seen-{number}")
        found.append(time.perf_counter() - begun)
        time.sleep(0.37)
    opened.close()
    return found


def _told(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "most": round(max(values), 3)}


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
