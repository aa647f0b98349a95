"""Figures that a job makes: shown with their age, and while they are made what there is to wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penstock.core.errors import PenstockError
from penstock.dashboard.elements import blank, el, link, set_text, stack
from penstock.dashboard.texts import duration, moment
from penstock.dashboard.view import View, part

MAX_AGE_S = 300.0
WAITING_S, STANDING_S = 2.0, 10.0
"""How often is looked, while figures are being made, and while there is nothing to wait for."""


async def show_kept(
    view: View, path: str, show: Callable[[Any], None], *, empty: str, command: str = "", note: bool = True
) -> None:
    """Show the newest figures, and newer ones when there are.

    Parameters
    ----------
    path
        A route that answers with kept figures.
    show
        Builds what is shown of them.
    empty, command
        What to say, and what to do, where there can be none yet.
    note
        Whether to say how old they are.
    """
    box = stack()
    age = el("p", "hatch", "") if note else None
    shown: list[str] = []

    def change(found: Any) -> None:
        if "result" not in found:
            if not shown:
                _waiting(box, found)
            return
        newer = ", newer ones are being made" if found["refreshing"] else ""
        if age is not None:
            set_text(age, f"Made {moment(found['made'])} UTC, {duration(found['age_s'])} ago{newer}.")
        if shown != [found["job"]]:
            shown[:] = [found["job"]]
            box.clear()
            with box:
                show(found["result"])

    joint = "&" if "?" in path else "?"
    wanted = f"{path}{joint}max_age_s={MAX_AGE_S:.0f}"
    try:
        await view.watch(wanted, _pace, change)
    except PenstockError as error:
        with box:
            blank("Nothing to show yet", f"{empty} ({error})", command)


def _pace(found: Any) -> float:
    """Without figures there is no answer, or one that says which job makes them."""
    return STANDING_S if found is not None and "result" in found and not found["refreshing"] else WAITING_S


def _waiting(box: Any, job: dict[str, Any]) -> None:
    box.clear()
    with box, el("div", "blank", role="status"):
        el("h2", "", "These figures are being made")
        progress = job["progress"]
        done = (
            f" {progress['done'] / progress['total']:.0%} done."
            if progress["done"] < progress["total"]
            else ""
        )
        el("p", "", f"A job of its own reads the stored decisions; the engine goes on.{done}")
        link("Watch the job →", f"/jobs/{part(job['id'])}")
