"""What every model registry must do: inherit `RegistryConformance` in a pytest module and give the fixtures it names."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from penstock.core.errors import CorruptionError, InputError, ModelError, NotFoundError
from penstock.models.gates import GateReport, Verdict
from penstock.models.manifest import ModelFiles, sha256
from penstock.models.versions import report_title

if TYPE_CHECKING:
    from penstock.models.registry import ModelRegistry
    from penstock.testing.clock import ManualClock

WHO: dict[str, Any] = {"actor": "ada", "reason": "tested"}


def passed(
    files: ModelFiles, version: int, *, champion: int | None = None, verdict: Verdict = "pass"
) -> bytes:
    """A gate's report on a version with these files, of which the champion is another one."""
    name = files.manifest.name
    live = None if champion is None else f"{name}:{champion}"
    digest = None if champion is None else files.digest
    label = f"{name}:{version}"
    report = GateReport(verdict, label, files.digest, live, digest, {}, {}, {}, (), 0)
    return report.to_bytes()


def renamed(files: ModelFiles, name: str) -> ModelFiles:
    """The same version under another name."""
    manifest = replace(files.manifest, name=name)
    return ModelFiles(manifest, sha256(manifest.to_bytes()), files.contents)


class RegistryConformance:
    """The suite. Fixtures: `registry`, empty; `clock`, the one that it was made with; `files`, of a version; their name, and what begins with it, nobody else may have in the registry."""

    def _three(self, registry: ModelRegistry, files: ModelFiles) -> None:
        for _ in range(3):
            registry.register(files, **WHO)

    def test_versions_are_numbered_and_complete(self, registry: ModelRegistry, files: ModelFiles) -> None:
        """Each name counts by itself, and every byte comes back."""
        name = files.manifest.name
        self._three(registry, files)
        assert registry.register(renamed(files, f"{name}_b"), **WHO).label == f"{name}_b:1"
        assert [v.label for v in registry.versions(files.manifest.name)] == [f"{name}:{i}" for i in (1, 2, 3)]
        assert registry.names() == (name, f"{name}_b")
        assert registry.get(files.manifest.name, 2).files().contents == files.contents
        assert registry.get(files.manifest.name, "2").digest == files.digest

    def test_one_version_is_live(self, registry: ModelRegistry, files: ModelFiles) -> None:
        """Stages and aliases after promotions, an archive and rollbacks."""
        self._three(registry, files)
        registry.promote(files.manifest.name, 1, **WHO)
        registry.promote(files.manifest.name, 2, **WHO)
        registry.promote(files.manifest.name, 3, stage="Staging", **WHO)
        assert {v.version: (v.stage, *v.aliases) for v in registry.versions(files.manifest.name)} == {
            1: ("Archived", "previous"),
            2: ("Production", "champion"),
            3: ("Staging", "challenger"),
        }
        assert registry.get(files.manifest.name, "champion").manifest() == files.manifest
        assert registry.rollback(files.manifest.name, **WHO).version == 1
        assert registry.rollback(files.manifest.name, **WHO).version == 2
        assert registry.archive(files.manifest.name, "challenger", **WHO).stage == "Archived"
        assert registry.verify() == 9

    def test_the_past_can_be_asked(
        self, registry: ModelRegistry, files: ModelFiles, clock: ManualClock
    ) -> None:
        """Which version was live at any time."""
        start = clock.now_us()
        self._three(registry, files)
        for version in (1, 2):
            clock.advance(timedelta(seconds=10))
            registry.promote(files.manifest.name, version, **WHO)
        clock.advance(timedelta(seconds=10))
        registry.archive(files.manifest.name, 2, **WHO)
        live = [
            registry.live_at(files.manifest.name, start + seconds * 1_000_000)
            for seconds in (9, 10, 19, 20, 29, 30)
        ]
        assert [v and v.version for v in live] == [None, 1, 1, 2, 2, None]

    def test_history_says_who_what_when_why_and_by_which_gate(
        self, registry: ModelRegistry, files: ModelFiles, clock: ManualClock
    ) -> None:
        """Rows as they were written, and the report that a row names."""
        registry.register(files, **WHO)
        data = passed(files, 1)
        registry.attach(files.manifest.name, 1, report_title(sha256(data)), data)
        clock.advance(timedelta(seconds=5))
        registry.promote(files.manifest.name, 1, actor="grace", reason="better recall", gate=sha256(data))
        first, row = registry.history(files.manifest.name)
        assert (row.actor, row.action, row.version, row.stage, row.reason, row.time_us, row.digest) == (
            "grace", "promote", 1, "Production", "better recall", clock.now_us(), files.digest,
        )  # fmt: skip
        assert (first.action, first.stage, first.sequence, row.sequence) == ("register", "None", 1, 2)
        assert registry.report(row) == data
        assert registry.report(first) is None
        registry.attach(files.manifest.name, 1, report_title(sha256(data)), b'{"verdict": "fail"}')
        with pytest.raises(CorruptionError, match="report that its history names was changed"):
            registry.verify()

    @pytest.mark.parametrize(
        ("report", "said"),
        [
            ({"version": 2, "champion": 1, "verdict": "fail"}, "is fail; asked is pass"),
            ({"version": 3, "champion": 1}, "is about .*:3"),
            ({"version": 2}, "judged against no champion, and .*:1 is live now"),
            ({"version": 2, "champion": 3}, "judged against .*:3, and .*:1 is live now"),
        ],
    )
    def test_a_report_that_does_not_allow_it_promotes_nothing(
        self, registry: ModelRegistry, files: ModelFiles, report: dict[str, Any], said: str
    ) -> None:
        """No pass, of another version, or against a champion that is no longer live."""
        self._three(registry, files)
        registry.promote(files.manifest.name, 1, **WHO)
        data = passed(files, **report)
        registry.attach(files.manifest.name, 2, report_title(sha256(data)), data)
        with pytest.raises(ModelError, match=said):
            registry.promote(files.manifest.name, 2, gate=sha256(data), **WHO)
        assert registry.get(files.manifest.name, "champion").version == 1
        with pytest.raises(NotFoundError, match="is kept with it"):
            registry.promote(files.manifest.name, 2, gate="f" * 64, **WHO)

    def test_skipping_the_gate_is_kept(self, registry: ModelRegistry, files: ModelFiles) -> None:
        """The reason stands where the digest would."""
        registry.register(files, **WHO)
        registry.promote(files.manifest.name, 1, gate="skipped: first demo", **WHO)
        assert registry.history()[-1].gate == "skipped: first demo"
        assert registry.report(registry.history()[-1]) is None

    def test_repeating_adds_nothing(self, registry: ModelRegistry, files: ModelFiles) -> None:
        """Promoting what is live changes neither history nor head."""
        registry.register(files, **WHO)
        registry.promote(files.manifest.name, 1, **WHO)
        before = registry.history(), registry.head()
        registry.promote(files.manifest.name, 1, **WHO)
        assert (registry.history(), registry.head()) == before

    def test_attachments_come_back(self, registry: ModelRegistry, files: ModelFiles) -> None:
        """Byte for byte, the newest of a title."""
        registry.register(files, **WHO)
        for data in (b"old", bytes(range(256))):
            registry.attach(files.manifest.name, 1, "roc.png", data)
        assert registry.attachment(files.manifest.name, 1, "roc.png") == bytes(range(256))
        assert registry.attachments(files.manifest.name, 1) == ("roc.png",)
        with pytest.raises(NotFoundError, match=r"there is roc\.png"):
            registry.attachment(files.manifest.name, 1, "nothing.png")
        with pytest.raises(InputError, match="a plain file name"):
            registry.attach(files.manifest.name, 1, "../roc.png", b"")

    def test_mistakes_are_answered(self, registry: ModelRegistry, files: ModelFiles) -> None:
        """What does not exist, what has no author, and what is no stage."""
        with pytest.raises(NotFoundError, match="registered are: none yet"):
            registry.get(files.manifest.name, 1)
        assert registry.versions(files.manifest.name) == ()
        assert registry.live_at(files.manifest.name, 10**18) is None
        registry.register(files, **WHO)
        with pytest.raises(NotFoundError, match="no version 9; it has 1"):
            registry.get(files.manifest.name, 9)
        with pytest.raises(NotFoundError, match="no version 'previous'"):
            registry.rollback(files.manifest.name, **WHO)
        with pytest.raises(ModelError, match="Say who acts and why"):
            registry.promote(files.manifest.name, 1, actor=" ", reason="x")
        with pytest.raises(ModelError, match="allowed are Staging and Production"):
            registry.promote(files.manifest.name, 1, stage="None", **WHO)
        assert len(registry.history()) == 1

    def test_time_never_runs_backwards(
        self, registry: ModelRegistry, files: ModelFiles, clock: ManualClock
    ) -> None:
        """Even where the machine's clock does."""
        registry.register(files, **WHO)
        clock.advance(timedelta(seconds=-60))
        registry.promote(files.manifest.name, 1, **WHO)
        first, second = registry.history()
        assert first.time_us == second.time_us
