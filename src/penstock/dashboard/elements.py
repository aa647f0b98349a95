"""What pages are made of: plain HTML elements, and four components of our own. Text is always text, never markup."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

from nicegui import ui
from nicegui.element import Element

PAUSE_S = 0.25

Handler = Callable[[], Awaitable[None] | None]


class Grid(Element, component="components/grid.js"):
    """A table of data."""


class Spark(Element, component="components/spark.js"):
    """The course of a figure."""


class Field(Element, component="components/field.js"):
    """One labelled input; `value` is what it holds."""

    value: Any = ""


class Modal(Element, component="components/modal.js"):
    """A dialog."""

    def show(self) -> None:
        """Open it."""
        self.run_method("show")

    def hide(self) -> None:
        """Close it."""
        self.run_method("hide")


class Column(NamedTuple):
    """A column of a table; `kind` is one of text, code, time, number, chip, score, delta."""

    label: str
    kind: str = "text"


Cell = dict[str, Any]


def cell(value: object, **more: Any) -> Cell:
    """A cell: a text, with its tone, its share of a bar, or what a pointer over it is told."""
    return {"text": "" if value is None else str(value)} | more


def row(
    key: object, cells: Iterable[Cell | str], *, href: str = "", pick: bool = False, on: bool = False
) -> Cell:
    """A row of a table: a link where it has `href`, a button where it can be picked."""
    found = [one if isinstance(one, dict) else cell(one) for one in cells]
    return {"key": str(key), "cells": found, "href": href, "pick": pick, "on": on}


def el(tag: str, classes: str = "", text: object = None, **attributes: Any) -> Element:
    """An HTML element. An attribute's underscores are hyphens; one that is None is left out."""
    made = Element(tag)
    if classes:
        made.classes(classes)
    if text is not None:
        made._text = str(text)  # noqa: SLF001 - elements take their text so
    for name, value in attributes.items():
        if value is not None:
            made.props[name.strip("_").replace("_", "-")] = value
    return made


def set_text(element: Element, text: object) -> None:
    """Change an element's text, where it is another."""
    if element._text != str(text):  # noqa: SLF001 - as above
        element._text = str(text)  # noqa: SLF001
        element.update()


def set_props(element: Element, **props: Any) -> None:
    """Change an element's properties, where they are others; what stays is not sent again."""
    if any(element.props.get(name) != value for name, value in props.items()):
        element.props.update(props)
        element.update()


def link(text: object, href: str, classes: str = "") -> Element:
    """A link to another page."""
    return el("a", classes, text, href=href)


def stack(classes: str = "stack") -> Element:
    """A column, or any other box of the style sheet."""
    return el("div", classes)


def card(title: str = "", note: str = "", classes: str = "card") -> Element:
    """A surface with a title. Use it as a context manager; `flush` tables reach its edges."""
    made = el("section", classes, aria_label=title or None)
    if title:
        with made, el("header"):
            el("h2", "", title)
            if note:
                el("span", "note", note)
    return made


def chip(text: object, tone: str = "plain") -> Element:
    """A word on a coloured ground."""
    return el("span", f"chip {tone}", text)


def button(text: str, handler: Handler | None = None, classes: str = "", **attributes: Any) -> Element:
    """A button."""
    made = el("button", f"act {classes}", text, type="button", **attributes)
    if handler is not None:
        made.on("click", handler, [])
    return made


def field(
    label: str,
    *,
    kind: str = "text",
    value: Any = "",
    options: Sequence[tuple[str, str]] = (),
    placeholder: str = "",
    hint: str = "",
    quiet: bool = False,
    changed: Callable[[Any], Awaitable[None] | None] | None = None,
) -> Field:
    """A labelled input; `kind` is text, number, secret, choice, long or switch."""
    made = Field()
    made.value = value
    made.props.update(
        label=label,
        kind=kind,
        value=value,
        options=[list(one) for one in options],
        placeholder=placeholder,
        hint=hint,
        quiet=quiet,
    )

    def said(event: Any) -> Awaitable[None] | None:
        made.value = event.args
        return changed(event.args) if changed is not None else None

    # Where something is looked up with it, only when the typing pauses; else at once, so that a click finds all that was typed.
    made.on("change", said, throttle=0.0 if changed is None else PAUSE_S, leading_events=changed is None)
    return made


def table(
    label: str,
    columns: Sequence[Column],
    rows: Sequence[Cell] = (),
    *,
    empty: str = "Nothing here.",
    fresh: bool = False,
    picked: Callable[[str], Awaitable[None] | None] | None = None,
) -> Grid:
    """A table. New rows are lit up for a moment where it is `fresh`; `picked` is told the key of a row that is clicked."""
    made = Grid()
    shown = [{"key": str(at), "label": one.label, "kind": one.kind} for at, one in enumerate(columns)]
    made.props.update(columns=shown, rows=list(rows), label=label, empty=empty, fresh=fresh)
    if picked is not None:
        made.on("pick", lambda event: picked(str(event.args)))
    return made


def facts(pairs: Iterable[tuple[str, object]]) -> Element:
    """Names and what stands behind them; those without a value are left out."""
    with el("dl", "facts") as made:
        for name, value in pairs:
            if value not in (None, ""):
                el("dt", "", name)
                el("dd", "", value)
    return made


def blank(title: str, text: str, command: str = "") -> Element:
    """What stands where there is nothing yet: why, and the command that changes it."""
    with el("div", "blank") as made:
        el("h2", "", title)
        el("p", "", text)
        if command:
            el("code", "command", command)
    return made


def notice(title: str, text: str, tone: str = "warn") -> Element:
    """Something that a reader should know before all else."""
    with el("div", f"problem {tone}", role="status") as made:
        el("b", "", title)
        el("span", "", text)
    return made


def chart(label: str, options: dict[str, Any], classes: str = "chart") -> ui.echart:
    """A chart; `label` is what a screen reader says."""
    made = ui.echart(options, renderer="svg").classes(classes)
    made.props.update({"role": "img", "aria-label": label})
    return made


def set_chart(made: ui.echart, options: dict[str, Any]) -> None:
    """Change a chart, where it is another."""
    set_props(made, options=options)


def tabs(label: str, choices: Iterable[tuple[str, str]], chosen: str, href: Callable[[str], str]) -> Element:
    """Links between views of one page."""
    with el("nav", "tabs", aria_label=label) as made:
        for value, text in choices:
            el("a", "", text, href=href(value), aria_current="page" if value == chosen else None)
    return made
