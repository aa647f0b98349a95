"""What a benchmark found: figures, the bars they have to clear, and where it was measured."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    """One contestant's figure: the median of its repetitions."""

    contestant: str
    unit: str
    value: float
    repetitions: tuple[float, ...]
    events: int | None = None
    peak_mb: float | None = None
    note: str = ""

    @classmethod
    def median(cls, contestant: str, unit: str, values: list[float], **more: Any) -> Figure:
        """The median of repeated measurements."""
        return cls(contestant, unit, statistics.median(values), tuple(values), **more)


@dataclass(frozen=True, slots=True)
class Bar:
    """A measured value beside what the project asks of it.

    `limit` is a lower bound, or an upper one where `at_most` is set. A value that could not be measured is None and
    clears nothing.
    """

    what: str
    value: float | None
    limit: float
    unit: str = ""
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the value clears the bar."""
        if self.value is None:
            return False
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def as_json(self) -> dict[str, Any]:
        """The bar with its verdict."""
        return asdict(self) | {"met": self.met}


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a contestant's output is from the reference contestant's."""

    contestant: str
    reference: str
    rows: int
    differing: int
    largest_difference: float


@dataclass(frozen=True, slots=True)
class Result:
    """All that one benchmark found in one run."""

    benchmark: str
    what: str
    figures: tuple[Figure, ...]
    bars: tuple[Bar, ...]
    agreements: tuple[Agreement, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    scale: float = 1.0
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether every bar is met, every contestant ran, and all agree."""
        agreed = all(a.rows and not a.differing for a in self.agreements)
        return agreed and not self.failed and all(bar.met for bar in self.bars)

    def figure(self, contestant: str) -> Figure | None:
        """A contestant's figure, or None where it did not run."""
        return find(self.figures, contestant)

    def write(self, folder: Path = RESULTS) -> Path:
        """Write NAME.json."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.benchmark}.json"
        document = asdict(self) | {"bars": [bar.as_json() for bar in self.bars], "good": self.good}
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def find(figures: tuple[Figure, ...] | list[Figure], contestant: str) -> Figure | None:
    """A contestant's figure among others, or None."""
    return next((figure for figure in figures if figure.contestant == contestant), None)


def ratio(figures: list[Figure], ours: str, theirs: str) -> float | None:
    """Our figure over theirs; None where either is missing."""
    our, their = find(figures, ours), find(figures, theirs)
    return None if our is None or their is None else our.value / their.value
