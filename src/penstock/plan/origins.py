"""What a model version was made from, as it is kept with the version: it answers for itself when the definitions of then are gone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ViewOrigin:
    """A view as it was: its fingerprint, and by the ids of the lineage graph what it read, ``column:SOURCE.COLUMN`` or ``view:NAME``."""

    fingerprint: str
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """What a version was made from.

    Attributes
    ----------
    views
        Those that made its features, realtime ones among them.
    sources
        By name of what the views read, and of the labels, the fingerprint of its schema and of its rules about time.
    tables
        Versions of the offline tables that held its data; empty where no data set was recorded.
    log, position
        The id of the log that it learned from, and the log's length then; empty and None where it was not made from a log.
    files
        By name the SHA-256 of the files that it was trained on in place of a log.
    """

    views: Mapping[str, ViewOrigin]
    sources: Mapping[str, str]
    tables: Mapping[str, int] = field(default_factory=dict)
    log: str = ""
    position: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
