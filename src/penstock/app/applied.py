"""Which definitions a project runs: an append-only history of what was applied, one file a version.

A version is whole or not there. Nothing is ever rewritten: what ran at a time is the newest version applied before it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penstock.core.errors import CorruptionError, StoreError
from penstock.plan.describe import Description
from penstock.plan.diff import Change
from penstock.stores.directories import sync_directory

FOLDER = "applied"
VERSIONED = ("view", "service")


@dataclass(frozen=True, slots=True)
class Applied:
    """One applied version of the definitions.

    Attributes
    ----------
    version
        1, 2, …
    applied_us, actor, reason
        When, by whom, why.
    description
        The plan as `penstock.plan.describe.describe` gives it.
    versions
        ``{"view": {name: number}, "service": {name: number}}``: how often the meaning of each was changed, from 1.
    changes
        What this version changed.
    """

    version: int
    applied_us: int
    actor: str
    reason: str
    description: Description
    versions: dict[str, dict[str, int]]
    changes: list[dict[str, Any]]

    @property
    def fingerprint(self) -> str:
        """The plan's fingerprint."""
        return str(self.description["fingerprint"])


class AppliedHistory:
    """The versions that were applied in a project's state folder."""

    def __init__(self, state_folder: Path) -> None:
        self._folder = state_folder / FOLDER

    def newest(self) -> Applied | None:
        """The version in force; None where nothing was ever applied."""
        files = self._files()
        return _read(files[-1]) if files else None

    def newest_version(self) -> int:
        """The number of the version in force, 0 where there is none; cheap enough to ask often."""
        files = self._files()
        return int(files[-1].stem) if files else 0

    def all(self) -> list[Applied]:
        """All versions, oldest first."""
        return [_read(file) for file in self._files()]

    def append(
        self,
        before: Applied | None,
        description: Description,
        changes: Sequence[Change],
        *,
        applied_us: int,
        actor: str,
        reason: str,
    ) -> Applied:
        """Make `description` the version in force, after `before`, from which it differs by `changes`.

        Raises
        ------
        StoreError
            `before` is not in force any more: somebody else applied another version meanwhile.
        """
        version = 1 if before is None else before.version + 1
        applied = Applied(
            version,
            applied_us,
            actor,
            reason,
            description,
            _versions(before, description, changes),
            [{**asdict(change), "details": list(change.details)} for change in changes],
        )
        self._write(applied)
        return applied

    def _files(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(file for file in self._folder.glob("*.json") if file.stem.isdigit())

    def _write(self, applied: Applied) -> None:
        target = self._folder / f"{applied.version:06d}.json"
        aside = target.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with aside.open("w", encoding="utf-8") as file:
                json.dump(asdict(applied), file, indent=1, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            os.link(aside, target)  # fails where the version is there: two cannot both be the next
            sync_directory(self._folder)
            sync_directory(self._folder.parent)
        except FileExistsError as error:
            raise StoreError(
                f"apply: version {applied.version} was applied by somebody else meanwhile. Look at `penstock plan` again."
            ) from error
        except OSError as error:
            raise StoreError(
                f"apply: version {applied.version} cannot be written to {self._folder} ({error}). Nothing is in force that was "
                "not before."
            ) from error
        finally:
            aside.unlink(missing_ok=True)


def _versions(
    before: Applied | None, description: Description, changes: Sequence[Change]
) -> dict[str, dict[str, int]]:
    touched = {(change.kind, change.name) for change in changes if change.action != "remove"}
    found: dict[str, dict[str, int]] = {}
    for kind in VERSIONED:
        known = {} if before is None else before.versions[kind]
        found[kind] = {
            **known,
            **{
                item["name"]: known.get(item["name"], 0) + ((kind, item["name"]) in touched)
                for item in description[f"{kind}s"]
            },
        }
    return found


def _read(file: Path) -> Applied:
    try:
        return Applied(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CorruptionError(
            f"applied definitions: {file} cannot be read ({error}); it was changed or damaged outside Penstock. Restore it "
            "from a backup, or remove it to go back to the version before."
        ) from error
