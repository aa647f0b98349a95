"""Versions of models, and the moves between their stages, as the registry's history says.

A registry keeps files and an append-only history; everything else follows from the history, so that the two cannot
disagree. What follows is said here once, for every registry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from penstock.core.errors import CorruptionError, ModelError, NotFoundError
from penstock.models.allowed import check_allowed
from penstock.models.history import HistoryRow
from penstock.models.manifest import Manifest, ModelFiles, read_files, sha256

Stage = Literal["None", "Staging", "Production", "Archived"]
Alias = Literal["champion", "challenger", "previous"]

STAGES: tuple[Stage, ...] = ("None", "Staging", "Production", "Archived")
ALIASES: tuple[Alias, ...] = ("champion", "challenger", "previous")
SKIPPED = "skipped: "
"""How a history row begins its `gate` where somebody promoted without one; the reason follows."""

Decide: TypeAlias = Callable[[Sequence[HistoryRow], int], HistoryRow | None]


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One registered version: where its files lie and which stage it is in."""

    name: str
    version: int
    stage: Stage
    aliases: tuple[Alias, ...]
    digest: str
    created_us: int
    folder: Path

    @property
    def label(self) -> str:
        """How decisions and people name it.

        >>> ModelVersion("fraud", 3, "None", (), "", 0, Path()).label
        'fraud:3'
        """
        return f"{self.name}:{self.version}"

    def files(self) -> ModelFiles:
        """Manifest and files, every byte checked."""
        return read_files(self.folder, digest=self.digest)

    def manifest(self) -> Manifest:
        """The manifest, checked together with its files."""
        return self.files().manifest


class VersionsByHistory(ABC):
    """A registry's queries and moves, over a history that a subclass keeps.

    Notes
    -----
    One version a name is in Production: promoting another archives it. ``champion`` is the version in Production,
    ``challenger`` the newest in Staging, ``previous`` the one that was in Production before the champion.
    """

    away = ""
    """Why `versions` and `get` went by what this machine has seen last; empty where the registry answered."""

    @abstractmethod
    def history(self, name: str | None = None) -> tuple[HistoryRow, ...]:
        """What happened, oldest first: to one model or to all."""

    @abstractmethod
    def attachment(self, name: str, version: int, title: str) -> bytes:
        """What `attach` kept; raises `NotFoundError` where there is nothing of that title."""

    @abstractmethod
    def _append(self, decide: Decide) -> None:
        """Add the row that `decide` makes of the rows so far and the time now, if any, before anybody adds another."""

    @abstractmethod
    def _folder_of(self, name: str, version: int) -> Path:
        """Where a version's files lie, or will lie when they are needed."""

    def get(self, name: str, version: int | str) -> ModelVersion:
        """The version with number or alias `version`.

        Raises
        ------
        NotFoundError
            When there is none; the message lists what exists.
        """
        return choose(name, version, self.versions(name), known=self.names)

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """All versions of `name`, oldest first; none when the name is unknown."""
        return replayed(self.history(name), self._folder_of)

    def names(self) -> tuple[str, ...]:
        """The names that have versions, sorted."""
        return tuple(sorted({row.name for row in self.history()}))

    def promote(
        self,
        name: str,
        version: int | str,
        *,
        stage: Stage = "Production",
        actor: str,
        reason: str,
        gate: str = "",
    ) -> ModelVersion:
        """Move a version to `stage` (Production or Staging); the version in Production before is archived.

        Parameters
        ----------
        gate
            The digest of the gate's report, which is kept with the version, or ``skipped:`` and why.

        Raises
        ------
        ModelError
            Where the report is of another version, is no pass, or, for Production, was made against another champion.
        """
        if stage not in {"Production", "Staging"}:
            raise ModelError(
                f"Model {name!r}: cannot promote to {stage!r}; allowed are Staging and Production. Use archive()."
            )
        return self._move(name, version, action="promote", stage=stage, actor=actor, reason=reason, gate=gate)

    def archive(self, name: str, version: int | str, *, actor: str, reason: str) -> ModelVersion:
        """Take a version out of use; its files and history stay."""
        return self._move(name, version, action="archive", stage="Archived", actor=actor, reason=reason)

    def rollback(self, name: str, *, actor: str, reason: str) -> ModelVersion:
        """Put ``previous`` back in Production, archiving the champion; a second rollback returns to that one."""
        return self._move(name, "previous", action="rollback", stage="Production", actor=actor, reason=reason)

    def live_at(self, name: str, time_us: int) -> ModelVersion | None:
        """The version in Production at `time_us`, as it stood then; None when there was none."""
        until = (row for row in self.history(name) if row.time_us <= time_us)
        return next((v for v in replayed(until, self._folder_of) if v.stage == "Production"), None)

    def report(self, row: HistoryRow) -> bytes | None:
        """The gate's report by which a row's promotion was decided, its digest checked; None where there is none."""
        try:
            return self._report(row)
        except NotFoundError as error:
            raise CorruptionError(
                f"Model {row.name}:{row.version}: the gate's report that its history names is missing; expected is "
                f"{report_title(row.gate)}. Restore it from a backup."
            ) from error

    def _report(self, row: HistoryRow) -> bytes | None:
        if not row.gate or row.gate.startswith(SKIPPED):
            return None
        data = self.attachment(row.name, row.version, report_title(row.gate))
        if sha256(data) != row.gate:
            raise CorruptionError(
                f"Model {row.name}:{row.version}: the gate's report that its history names was changed; expected is "
                f"SHA-256 {row.gate}. Restore it from a backup."
            )
        return data

    def _move(
        self,
        name: str,
        version: int | str,
        *,
        action: str,
        stage: Stage,
        actor: str,
        reason: str,
        gate: str = "",
    ) -> ModelVersion:
        """Append one row that moves a version to `stage`, unless it is there already."""
        chosen: list[ModelVersion] = []

        def decide(rows: Sequence[HistoryRow], now_us: int) -> HistoryRow | None:
            own = replayed((row for row in rows if row.name == name), self._folder_of)
            chosen[:] = [choose(name, version, own, known=self.names)]
            if chosen[0].stage == stage:
                return None
            row = next_row(
                rows,
                now_us,
                name,
                chosen[0].version,
                action=action,
                stage=stage,
                actor=actor,
                reason=reason,
                digest=chosen[0].digest,
                gate=gate,
            )
            if (report := self._report(row)) is not None:
                live = next((one for one in own if one.stage == "Production"), None)
                check_allowed(report, row, live)
            return row

        self._append(decide)
        return self.get(name, chosen[0].version)


def report_title(digest: str) -> str:
    """Under which title a gate's report is kept with its version.

    >>> report_title("ab12" * 16)
    'gate-ab12ab12ab12ab12.json'
    """
    return f"gate-{digest[:16]}.json"


def next_row(
    rows: Sequence[HistoryRow],
    now_us: int,
    name: str,
    version: int,
    *,
    action: str,
    stage: Stage,
    actor: str,
    reason: str,
    digest: str,
    gate: str = "",
) -> HistoryRow:
    """The row that comes after `rows`. Time never runs backwards in it, even where the machine's clock does.

    Raises
    ------
    ModelError
        When nobody or no reason is named.
    """
    for what, text in (("actor", actor), ("reason", reason)):
        if not text.strip():
            raise ModelError(f"Model {name!r}: {action} needs {what}; found {text!r}. Say who acts and why.")
    time_us = max(now_us, rows[-1].time_us) if rows else now_us
    sequence = rows[-1].sequence + 1 if rows else 1
    return HistoryRow(sequence, time_us, actor, action, name, version, stage, reason, digest, gate)


def replayed(rows: Iterable[HistoryRow], folder_of: Callable[[str, int], Path]) -> tuple[ModelVersion, ...]:
    """The versions of one model as its history leaves them."""
    registered: dict[int, HistoryRow] = {}
    stages: dict[int, Stage] = {}
    lived: list[int] = []  # versions in the order in which they entered Production
    staged: list[int] = []
    for row in rows:
        registered.setdefault(row.version, row)
        if row.stage == "Production":
            stages.update({version: "Archived" for version, stage in stages.items() if stage == "Production"})
            lived.append(row.version)
        elif row.stage == "Staging":
            staged.append(row.version)
        stages[row.version] = _stage(row.stage)
    champion = next((version for version, stage in stages.items() if stage == "Production"), None)
    chosen: dict[Alias, int | None] = {
        "champion": champion,
        "challenger": next((v for v in reversed(staged) if stages[v] == "Staging"), None),
        "previous": next((v for v in reversed(lived) if v != champion), None),
    }
    return tuple(
        ModelVersion(
            name=row.name,
            version=version,
            stage=stages[version],
            aliases=tuple(alias for alias in ALIASES if chosen[alias] == version),
            digest=row.digest,
            created_us=row.time_us,
            folder=folder_of(row.name, version),
        )
        for version, row in registered.items()
    )


def choose(
    name: str, version: int | str, found: tuple[ModelVersion, ...], *, known: Callable[[], tuple[str, ...]]
) -> ModelVersion:
    """The one of `found` with a number or alias; `NotFoundError` lists what exists."""
    for candidate in found:
        if str(candidate.version) == str(version) or version in candidate.aliases:
            return candidate
    if not found:
        names = ", ".join(known()) or "none yet"
        raise NotFoundError(
            f"Model {name!r}: nothing is registered under this name; registered are: {names}. Train it with "
            f"`penstock train {name}`, or choose one of these."
        )
    listed = ", ".join(str(v.version) + "".join(f" ({alias})" for alias in v.aliases) for v in found)
    raise NotFoundError(
        f"Model {name!r}: it has no version {version!r}; it has {listed}. Choose a number or one of the aliases "
        f"{', '.join(ALIASES)}, where set."
    )


def _stage(text: str) -> Stage:
    for stage in STAGES:
        if stage == text:
            return stage
    raise CorruptionError(
        f"Model history: stage is {text!r}; allowed are {', '.join(STAGES)}. Restore a backup."
    )
