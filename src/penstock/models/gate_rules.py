"""What a rule of a gate found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["pass", "fail", "inconclusive"]
Numbers = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """What one rule found, in words and in numbers."""

    name: str
    verdict: Verdict
    text: str
    numbers: Numbers
