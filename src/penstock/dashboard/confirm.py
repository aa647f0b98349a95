"""Asking before something changes: what will change, and why it should."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from penstock.core.errors import PenstockError
from penstock.dashboard.elements import Field, Modal, button, el, field, notice, stack
from penstock.dashboard.view import View

Do = Callable[[str, dict[str, Any]], Awaitable[None]]
"""Does it, for a reason and with what else was filled in."""


class Confirm:
    """A dialog that names a change, asks for the reason, and makes it.

    Parameters
    ----------
    view
        The page.
    title, text
        What will change, in a few words and in a sentence.
    do
        Makes the change; what it raises is shown in the dialog, which stays open.
    verb
        What the button says.
    more
        Fields besides the reason: name and arguments of `field`.
    needs_reason
        Whether it cannot be done without saying why.
    danger
        Whether the button warns.
    """

    def __init__(
        self,
        view: View,
        title: str,
        text: str,
        do: Do,
        *,
        verb: str,
        more: Sequence[tuple[str, dict[str, Any]]] = (),
        needs_reason: bool = True,
        danger: bool = False,
    ) -> None:
        self._view, self._do, self._needs_reason = view, do, needs_reason
        self._fields: dict[str, Field] = {}
        with view.client.content:
            self._modal = Modal()
        self._modal.props["label"] = title
        self._modal.on("close", self._modal.delete)
        with self._modal, stack():
            el("h2", "", title)
            el("p", "", text)
            for name, how in more:
                self._fields[name] = field(**how)
            self._reason = field("Reason", hint="Kept in the history, with your name.")
            self._wrong = stack("problems")
            with stack("row end"):
                button("Cancel", self._modal.hide)
                self._button = button(verb, self._confirmed, "danger" if danger else "main")

    def show(self) -> None:
        """Open it."""
        self._modal.show()

    async def _confirmed(self) -> None:
        reason = str(self._reason.value).strip()
        if self._needs_reason and not reason:
            self._say("Say why: the history keeps it.")
            return
        self._button.props["disabled"] = True
        try:
            await self._do(reason, {name: one.value for name, one in self._fields.items()})
        except PenstockError as error:
            self._say(str(error))
            return
        finally:
            self._button.props.pop("disabled", None)
            self._button.update()
        self._modal.hide()

    def _say(self, text: str) -> None:
        self._wrong.clear()
        with self._wrong:
            notice("Not done", text, "bad")
