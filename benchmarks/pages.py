"""Ten pages of a running project, open: `python -m benchmarks.pages URL HOW` says `open` when they are, and holds them until its stdin ends.

HOW is `held` or `drawn`. A held page is got, connected and sent all that changes, as to a browser on a machine of its own: nobody draws it here.
A drawn one is in a browser on this machine, which takes only the processor time that nobody else wants.
"""

from __future__ import annotations

import ast
import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
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
QUERY = re.compile(r"query: (\{.*?\}),\n")
"""What a page connects with."""

FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


@contextmanager
def ten_pages(url: str, how: str = "held") -> Iterator[None]:
    """The pages, open in another process."""
    command = [sys.executable, "-m", "benchmarks.pages", url, how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline().strip() != "open":
            raise SystemExit("the pages did not open: is Chromium there, where they are drawn?")
        try:
            yield
        finally:
            process.stdin.close()


def held(url: str) -> None:
    """Open the pages as a browser does, and take what comes."""
    asyncio.run(_held(url))


async def _held(url: str) -> None:
    from urllib.parse import urlencode

    import httpx
    import socketio

    clients: list[socketio.AsyncClient] = []
    pieces: Counter[str] = Counter()
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        for path in PAGES:
            page = await http.get(path, headers={"accept": "text/html"})
            page.raise_for_status()
            asked = ast.literal_eval(_found(QUERY, page.text)) | {
                "tab_id": path,
                "document_id": path,
                "implicit_handshake": "true",
            }
            client = socketio.AsyncClient()
            client.on("*", lambda *_, path=path: pieces.update([path]))
            await client.connect(
                f"{url}?{urlencode(asked)}", socketio_path="/_nicegui_ws/socket.io", transports=["websocket"]
            )
            clients.append(client)
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for client in clients:
        await client.disconnect()
    if not pieces["/"]:
        raise SystemExit("nothing came for the overview: no page was open")


def _found(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    if found is None:
        raise SystemExit(
            f"{pattern.pattern} is not in a page: does NiceGUI write its pages in another way now?"
        )
    return found[1]


def drawn(url: str) -> None:
    """Open the pages in a browser."""
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
    {"held": held, "drawn": drawn}[sys.argv[2]](sys.argv[1])
