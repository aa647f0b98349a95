"""Ten pages of a running project, open in a browser: `python -m benchmarks.pages URL` says `open` when they are, and holds them until its stdin ends.

The browser takes only the processor time that nobody else wants: a person's stands on a machine of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PAGES = (
    "/",
    "/decisions",
    "/features",
    "/models",
    "/performance",
    "/drift",
    "/alerts",
    "/dead-letters",
    "/jobs",
    "/system",
)
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


@contextmanager
def ten_pages(url: str) -> Iterator[None]:
    """The pages, open in another process."""
    command = [sys.executable, "-m", "benchmarks.pages", url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline().strip() != "open":
            raise SystemExit("the pages did not open: is Chromium there?")
        try:
            yield
        finally:
            process.stdin.close()


def main(url: str) -> None:
    """Open the pages and wait."""
    from playwright.sync_api import sync_playwright

    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        _make_way()
        for path in PAGES:
            page = browser.new_context().new_page()
            page.goto(url + path)
            page.wait_for_selector(".q-page")
        print("open", flush=True)
        sys.stdin.read()
        browser.close()


def _make_way() -> None:
    """Sessions share processors fairly, however low the priority of what is in them, where Linux groups processes by session."""
    for session in {os.getsid(one.pid) for one in psutil.Process().children(recursive=True)} - {os.getsid(0)}:
        with suppress(OSError):
            Path(f"/proc/{session}/autogroup").write_text("19")


if __name__ == "__main__":
    main(sys.argv[1])
