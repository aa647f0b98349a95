"""What a project holds at this moment, for `penstock status`: reads only, beside a running engine or without one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from penstock.app.auditing import AuditTotals, read_totals
from penstock.app.runtime import open_reader, registry_of, state_folder
from penstock.app.settings import load_settings
from penstock.app.storing import has_run, snapshots_of
from penstock.core.records import DeadLetter
from penstock.definitions.project import Project, load_project
from penstock.stores.reader import ProjectReader

NEWEST_LETTERS = 3
ACTION = "action."
_PARTS = ("scored", "logged", "duplicate", "rejected")
_LABELS = ("received", "joined", "pending", "corrected", "repeated", "rejected", "too_late")
_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A project at one moment.

    Attributes
    ----------
    ran
        Whether it has a store; without one everything below is empty.
    counters
        The store's totals.
    champions
        By endpoint: its model and the version in Production, None where there is none.
    dead_letters
        How many are kept, by (source, reason).
    newest_letters
        The newest few.
    snapshots
        The log positions of the snapshots, newest first.
    sizes
        Bytes on disk by part.
    erasures
        How many keys were forgotten.
    audit
        What the audit beside running commands has found; None where none ran. Its counts are among the counters.
    """

    name: str
    root: Path
    ran: bool
    log_length: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    champions: dict[str, dict[str, str | None]] = field(default_factory=dict)
    dead_letters: dict[tuple[str, str], int] = field(default_factory=dict)
    newest_letters: tuple[DeadLetter, ...] = ()
    snapshots: tuple[int, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    erasures: int = 0
    audit: AuditTotals | None = None

    @property
    def identity(self) -> tuple[int, dict[str, int]]:
        """Events received, and what became of them."""
        return self.counters.get("received", 0), {name: self.counters.get(name, 0) for name in _PARTS}

    @property
    def adds_up(self) -> bool:
        """Whether every event received is accounted for."""
        received, parts = self.identity
        return received == sum(parts.values())

    @property
    def actions(self) -> dict[str, int]:
        """Decisions by action."""
        return {n.removeprefix(ACTION): c for n, c in sorted(self.counters.items()) if n.startswith(ACTION)}

    @property
    def labels(self) -> dict[str, int]:
        """Labels by what became of them."""
        found = {name: self.counters.get(f"labels_{name}", 0) for name in _LABELS}
        return found if found["received"] else {}

    def to_dict(self) -> dict[str, Any]:
        """The overview as JSON values; dead letters' bytes are left out, since they may hold anything."""
        letters = [
            {"source": source, "reason": reason, "count": count}
            for (source, reason), count in self.dead_letters.items()
        ]
        newest = [
            {name: value for name, value in asdict(letter).items() if name != "payload"}
            for letter in self.newest_letters
        ]
        return {
            "name": self.name,
            "root": str(self.root),
            "ran": self.ran,
            "log_length": self.log_length,
            "counters": self.counters,
            "adds_up": self.adds_up,
            "champions": self.champions,
            "dead_letters": letters,
            "newest_dead_letters": newest,
            "snapshots": list(self.snapshots),
            "bytes": self.sizes,
            "erasures": self.erasures,
            "audit": None if self.audit is None else asdict(self.audit),
        }


def overview(root: Path) -> Overview:
    """What the project in `root` holds."""
    project = load_project(root)
    if not has_run(root):
        return Overview(name=project.name, root=root, ran=False)
    with open_reader(root) as store:
        counts, newest = _letters(store)
        audit = read_totals(root)
        return Overview(
            name=project.name,
            root=root,
            ran=True,
            log_length=store.next_position,
            counters=store.counters() | ({} if audit is None else audit.counters()),
            champions=_champions(project),
            dead_letters=counts,
            newest_letters=newest,
            snapshots=snapshots_of(root, load_settings(root), store_id=store.store_id).positions(),
            sizes=sizes_of(root) | {"database": store.size_bytes()},
            erasures=len(store.erasures()),
            audit=audit,
        )


def _champions(project: Project) -> dict[str, dict[str, str | None]]:
    registry = registry_of(project.root)
    found: dict[str, dict[str, str | None]] = {}
    for endpoint in project.endpoints.values():
        versions = registry.versions(endpoint.model.name)
        champion = next((v.label for v in versions if v.stage == "Production"), None)
        found[endpoint.name] = {"model": endpoint.model.name, "champion": champion}
    return found


def _letters(store: ProjectReader) -> tuple[dict[tuple[str, str], int], tuple[DeadLetter, ...]]:
    counts: dict[tuple[str, str], int] = {}
    newest: list[DeadLetter] = []
    after = 0
    while page := store.dead_letters(_PAGE, after=after):
        for letter in page:
            counts[letter.source, letter.reason] = counts.get((letter.source, letter.reason), 0) + 1
        newest = [*newest, *page][-NEWEST_LETTERS:]
        after = page[-1].letter_id
    return dict(sorted(counts.items(), key=lambda item: -item[1])), tuple(reversed(newest))


def sizes_of(root: Path) -> dict[str, int]:
    """Bytes by part: the database with its write-ahead log, and each folder beside it."""
    folder = state_folder(root)
    sizes: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            first = path.relative_to(folder).parts[0]
            part = "database" if first.startswith("penstock.db") else first
            sizes[part] = sizes.get(part, 0) + path.stat().st_size
    return sizes
