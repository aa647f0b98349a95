"""Hash chains: each row carries a hash of itself and of the row before, so that a change anywhere breaks the chain there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

GENESIS = "0" * 64
"""What the first row follows."""


def hash_after(previous: str, values: Mapping[str, object]) -> str:
    """The SHA-256 of a row of JSON values that follows the row with hash `previous`.

    >>> first = hash_after(GENESIS, {"reason": "a", "sequence": 1})
    >>> (
    ...     first == hash_after(GENESIS, {"sequence": 1, "reason": "a"}),
    ...     first == hash_after(first, {"sequence": 1, "reason": "a"}),
    ... )
    (True, False)
    """
    content = json.dumps(values, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(f"{previous}\n{content}".encode()).hexdigest()
