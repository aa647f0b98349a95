"""The frame of a page: the way to all others, what is wrong, and the page's own headline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nicegui import ui

from penstock.dashboard.elements import el, link

if TYPE_CHECKING:
    from nicegui.element import Element

PLACES = (
    (
        "Watch",
        (
            ("Overview", "/"),
            ("Decisions", "/decisions"),
            ("Alerts", "/alerts"),
            ("Dead letters", "/dead-letters"),
        ),
    ),
    (
        "Understand",
        (
            ("Features", "/features"),
            ("Models", "/models"),
            ("Performance", "/performance"),
            ("Drift", "/drift"),
            ("Experiments", "/experiments"),
        ),
    ),
    ("Operate", (("Lists", "/lists"), ("Jobs", "/jobs"), ("System", "/system"))),
)
_UNDER = {"/compare": "/performance"}
_THEMES = (("auto", "Auto"), ("light", "Light"), ("dark", "Dark"))


@contextmanager
def frame(path: str, version: dict[str, Any] | None, *, who: str) -> Iterator[None]:
    """A page's frame; what is built inside is the page's own. `who` is signed in; empty where nobody needs to be."""
    link("Skip to content", "#content", "skip")
    with el("div", "frame"):
        with el("div", "top"):
            mark()
            out = el("button", "act small", "Menu", type="button", aria_controls="side")
        with el("aside", "side", id_="side"):
            with el("div", "row", style="justify-content:space-between"):
                mark()
                shut = el("button", "act small shut", "Close", type="button")
            with el("nav", aria_label="Pages"):
                for title, places in PLACES:
                    with el("div"):
                        el("h2", "", title)
                        for name, target in places:
                            el(
                                "a",
                                "",
                                name,
                                href=target,
                                aria_current="page" if _is_here(path, target) else None,
                            )
            _foot(version, who=who)
        toggle = "() => document.getElementById('side').classList.toggle('out')"
        out.on("click", js_handler=toggle)
        shut.on("click", js_handler=toggle)
        with el("div", "page", id_="content", tabindex="-1"):
            yield


@contextmanager
def headline(title: str, sub: str = "", *, back: tuple[str, str] | None = None) -> Iterator[Element]:
    """A page's title, a sentence about it, and tools, which are built inside."""
    with el("div", "headline"):
        with el("div"):
            if back is not None:
                link(f"← {back[0]}", back[1], "back")
            el("h1", "", title)
            if sub:
                el("p", "sub", sub)
        with el("div", "tools") as tools:
            yield tools
    ui.page_title(f"{title} – Penstock")


def mark() -> None:
    """The name, and its sign: a pipe that falls, and a drop."""
    with el("a", "mark", href="/", aria_label="Penstock, overview"):
        with el("svg", viewBox="0 0 24 24", aria_hidden="true"):
            el("path", "pipe", d="M3 4h5l8 12h5")
            el("path", "pipe", d="M3 9h2.4l8 12H21", opacity="0.45")
            el("circle", "drop", cx="19", cy="7", r="2.6")
        el("span", "", "Penstock")


def _foot(version: dict[str, Any] | None, *, who: str) -> None:
    with el("div", "foot"):
        if version is not None:
            with el("div", "who"):
                el("span", "", version["project"])
                el("span", "", version["version"])
        with el("div", "themes", role="group", aria_label="Colours"):
            for mode, name in _THEMES:
                choice = el("button", "", name, type="button", data_mode=mode, aria_pressed="false")
                choice.on(
                    "click",
                    js_handler=f"() => {{ window.penstockTheme('{mode}'); window.penstockThemes(); }}",
                )
        if who:
            with el("form", method="post", action="/logout"):
                el("button", "act small", f"Sign out {who}", type="submit")
    ui.add_body_html(
        "<script>window.penstockThemes = () => document.querySelectorAll('[data-mode]').forEach("
        "(b) => b.setAttribute('aria-pressed', String(b.dataset.mode === penstockThemeIs())));"
        "document.addEventListener('DOMContentLoaded', () => setTimeout(penstockThemes, 0));</script>"
    )


def _is_here(path: str, target: str) -> bool:
    for under, place in _UNDER.items():
        if path.startswith(under):
            path = place
    return path == target if target == "/" else path == target or path.startswith(f"{target}/")
