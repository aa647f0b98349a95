"""Server-sent events, line by line."""

from __future__ import annotations

import json
from typing import Any

from penstock.core.errors import OverloadError


class Lines:
    """Puts the lines of a stream together again.

    >>> lines = Lines()
    >>> [lines.event(one) for one in ("event: decisions", 'data: {"left_out":0}', "")]
    [None, None, {'left_out': 0}]
    """

    def __init__(self) -> None:
        self._name, self._data = "", ""

    def event(self, line: str) -> dict[str, Any] | None:
        """The event that this line ends; None where it ends none, or one that is no news.

        Raises `OverloadError` where the server dropped this client for reading too slowly.
        """
        name, _, value = line.partition(":")
        if name == "event":
            self._name = value.strip()
        elif name == "data":
            self._data = value.strip()
        elif not line and self._data:
            kind, data = self._name, self._data
            self._name, self._data = "", ""
            if kind == "dropped":
                raise OverloadError(
                    f"the stream of decisions was ended: {json.loads(data).get('detail', '')}."
                )
            if kind == "decisions":
                found: dict[str, Any] = json.loads(data)
                return found
        return None
