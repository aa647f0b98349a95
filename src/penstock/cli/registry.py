"""``penstock registry``: versions of models, which one is live, and who decided that."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.gate import Events, Html, Labels, judged, print_report, report_json, write_page
from penstock.cli.options import Actor, AsJson, Project, Reason, actor_name, project_root, without_cards
from penstock.cli.output import (
    hint,
    moment,
    number,
    print_facts,
    print_json,
    print_table,
    progress_bar,
    say,
    tell,
)
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.models.gates import GateReport
    from penstock.models.history import HistoryRow
    from penstock.models.registry import ModelRegistry, ModelVersion

Name = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]
Version = Annotated[
    str, typer.Argument(metavar="VERSION", help="A number, or champion, challenger, previous.")
]

commands = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Versions of models, and which one is live."
)


def _registry(project: Any) -> ModelRegistry:
    from penstock.app.runtime import registry_of

    return registry_of(project_root(project))


@commands.command("list")
def list_versions(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Only this model.")] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """List versions with their stages."""
    registry = _registry(project)
    names = registry.names() if model is None else (model,)
    versions = [version for name in names for version in registry.versions(name)]
    _tell_away(registry)
    if as_json:
        print_json([_summary(version) for version in versions])
        return
    if not versions:
        say("No model is registered.")
        hint("penstock train MODEL")
        return
    rows = [(v.label, v.stage, ", ".join(v.aliases), moment(v.created_us), v.digest[:12]) for v in versions]
    print_table(rows, head=("version", "stage", "alias", "registered", "digest"))
    hint(f"penstock registry show {versions[-1].name} {versions[-1].version}")


@commands.command("show")
def show(
    model: Name, version: Version = "champion", project: Project = None, as_json: AsJson = False
) -> None:
    """Show one version: where its files are, what it was trained on, how it did. Checks every byte."""
    registry = _registry(project)
    found = registry.get(model, version)
    _tell_away(registry)
    manifest = found.manifest()
    if as_json:
        print_json({**_summary(found), "manifest": asdict(manifest)})
        return
    print_facts(
        [
            ("version", found.label),
            ("stage", f"{found.stage} {', '.join(found.aliases)}".strip()),
            ("registered", moment(found.created_us)),
            ("digest", found.digest),
            ("folder", str(found.folder)),
            ("features", f"{len(manifest.features)}, fingerprint {manifest.service_fingerprint}"),
            (
                "trained on",
                f"{number(manifest.data.rows)} rows, {moment(manifest.data.start_us)} to {moment(manifest.data.end_us)}",
            ),
            *((name, number(value)) for name, value in _figures(manifest.metrics)),
        ]
    )
    hint(f"penstock registry promote {model} {found.version}")


@commands.command("promote")
def promote(
    model: Name,
    version: Version,
    stage: Annotated[str, typer.Option(help="Production or Staging.")] = "Production",
    reason: Reason = "promoted on the command line",
    skip_gate: Annotated[
        str | None,
        typer.Option(
            "--skip-gate",
            metavar="REASON",
            help="Promote without a verdict; why is kept in the history.",
            callback=without_cards,
        ),
    ] = None,
    events: Events = None,
    labels: Labels = None,
    actor: Actor = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Make a version live (Production) or a candidate (Staging).

    Production is behind the model's gate (see penstock gate): without a pass nothing changes, and the exit code is 1.
    """
    if stage not in {"Production", "Staging"}:
        raise InputError(
            f"registry promote: --stage is {stage!r}; allowed are Production and Staging. To take a version out of use: "
            "penstock registry archive."
        )
    if skip_gate is not None and not skip_gate.strip():
        raise InputError("registry promote: --skip-gate has no reason. Say why: it is kept in the history.")
    registry = _registry(project)
    digest = "" if skip_gate is None else f"skipped: {skip_gate}"
    chosen = registry.get(model, version)  # from here on a number: an alias may move while it is judged
    judged_version = str(chosen.version)
    if stage == "Production" and skip_gate is None and chosen.stage != "Production":
        report = judged(project_root(project), model, judged_version, events=events, labels=labels)
        if report.verdict != "pass":
            _print_refused(report, as_json=as_json)
            raise typer.Exit(ExitCode.CHECK_FAILED)
        digest = report.digest
    moved = registry.promote(
        model,
        judged_version,
        stage=stage,  # type: ignore[arg-type] # checked above
        actor=actor_name(actor),
        reason=reason,
        gate=digest,
    )
    _print_moved(moved, as_json=as_json)


@commands.command("report")
def report(
    model: Name,
    version: Version = "champion",
    html: Html = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Print the gate's report by which a version was promoted last, as it was kept."""
    from penstock.models.gates import GateReport

    registry = _registry(project)
    found = registry.get(model, version)
    rows = [row for row in registry.history(model) if row.version == found.version and row.gate]
    data = registry.report(rows[-1]) if rows else None
    if data is None:
        why = f"its gate was {rows[-1].gate}" if rows else "it never passed a gate"
        raise InputError(
            f"registry report: {found.label} has no report: {why}. Judge it now: penstock gate {model} {found.version}"
        )
    kept = GateReport.from_bytes(data)
    if as_json:
        print_json(report_json(kept))
    else:
        print_report(kept)
    write_page(kept, html)


@commands.command("live-at")
def live_at(
    model: Name,
    time: Annotated[
        str, typer.Argument(metavar="TIME", help="For example 2026-03-01 or 2026-03-01T12:00:00Z.")
    ],
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Print which version was live at a time, and since when."""
    from penstock.core.time import to_us

    try:
        at_us = to_us(datetime.fromisoformat(time))
    except ValueError as error:
        raise InputError(
            f"registry live-at: TIME is {time!r}; allowed is ISO 8601. Write for example 2026-03-01T12:00:00Z."
        ) from error
    registry = _registry(project)
    live = registry.live_at(model, at_us)
    row = None if live is None else _entered(registry, live, at_us)
    if as_json:
        print_json(
            {
                "model": model,
                "time_us": at_us,
                "version": None if live is None else _summary(live),
                "since": None if row is None else asdict(row),
            }
        )
    elif live is None or row is None:
        say(f"No version of {model} was live at {moment(at_us)}.")
    else:
        say(f"{live.label} was live at {moment(at_us)}")
        since = f"{moment(row.time_us)}, {row.action} by {row.actor}"
        print_facts(
            [("since", since), ("why", row.reason), ("gate", row.gate or "none"), ("digest", live.digest)]
        )


@commands.command("lineage")
def lineage(
    model: Name, version: Version = "champion", project: Project = None, as_json: AsJson = False
) -> None:
    """Print where a version comes from and what it decided.

    From versions of tables and the log over the data set and the features' definitions to the version, its gates and decisions.
    """
    from penstock.app.model_lineage import model_lineage

    with progress_bar("decisions") as progress:
        found = model_lineage(project_root(project), model, version, progress=progress)
    if as_json:
        print_json(found.to_dict())
        return
    tables = ", ".join(f"{name} version {at}" for name, at in found.tables.items())
    files = ", ".join(f"{name} {digest[:12]}" for name, digest in found.files.items())
    log = "not recorded" if found.log_position is None else f"up to position {number(found.log_position)}"
    sources, views = (
        ", ".join(f"{name} {fingerprint[:12]}" for name, fingerprint in some.items())
        for some in (found.sources, found.views)
    )
    now = "computed so now, too" if found.in_force else "of other definitions than those in force"
    decided = ", ".join(f"{number(count)} at {endpoint}" for endpoint, count in found.decisions.items())
    print_facts(
        [
            *([("files", files)] if files else [("tables", tables or "not recorded"), ("log", log)]),
            ("data set", found.dataset or "not recorded"),
            ("sources", sources or "not recorded"),
            ("views", views or "not recorded"),
            ("features", f"fingerprint {found.service_fingerprint}, {now}"),
            ("trained on", f"values with digest {found.training_digest}"),
            ("parent", found.parent or "none"),
            ("version", f"{found.version}, digest {found.digest}"),
            *(("life", _life(row)) for row in found.life),
            ("decisions", decided or "none"),
        ]
    )
    hint(f"penstock dataset show {found.dataset}" if found.dataset else f"penstock registry show {model}")


def _life(row: HistoryRow) -> str:
    gate = f", gate {_gate_cell(row.gate)}" if row.gate else ""
    return f"{moment(row.time_us)} {row.action} to {row.stage} by {row.actor}: {row.reason}{gate}"


def _entered(registry: ModelRegistry, live: ModelVersion, at_us: int) -> HistoryRow | None:
    """The row by which a version that was live at a time had come there."""
    rows = registry.history(live.name)
    moves = [r for r in rows if r.version == live.version and r.stage == "Production" and r.time_us <= at_us]
    return moves[-1] if moves else None


@commands.command("archive")
def archive(
    model: Name,
    version: Version,
    reason: Reason = "archived on the command line",
    actor: Actor = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Take a version out of use."""
    moved = _registry(project).archive(model, version, actor=actor_name(actor), reason=reason)
    _print_moved(moved, as_json=as_json)


@commands.command("rollback")
def rollback(
    model: Name,
    reason: Reason = "rolled back on the command line",
    actor: Actor = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Put the version that was live before back."""
    moved = _registry(project).rollback(model, actor=actor_name(actor), reason=reason)
    _print_moved(moved, as_json=as_json)


@commands.command("history")
def history(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Only this model.")] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Print who did what to which version, when and why."""
    rows = _registry(project).history(model)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    cells = [
        (moment(r.time_us), f"{r.name}:{r.version}", r.action, r.stage, r.actor, r.reason, _gate_cell(r.gate))
        for r in rows
    ]
    print_table(cells, head=("when", "version", "action", "stage", "who", "why", "gate"))
    hint("penstock registry verify")


@commands.command("verify")
def verify(project: Project = None, as_json: AsJson = False) -> None:
    """Check the chain of the history and every file of every version; exit code 1 if anything was changed."""
    from penstock.app.runtime import audit_log_of
    from penstock.core.errors import ArtifactError, CorruptionError

    registry = _registry(project)
    try:
        changes = audit_log_of(project_root(project)).verify()
        rows = registry.verify()
    except (ArtifactError, CorruptionError) as error:
        if as_json:
            print_json({"clean": False, "error": str(error)})
        else:
            tell(f"penstock: {error}")
        raise typer.Exit(ExitCode.CHECK_FAILED) from error
    if as_json:
        print_json({"clean": True, "rows": rows, "head": registry.head(), "audit_rows": changes})
        return
    say(f"{number(rows)} rows of history and the files of all versions are as they were written.")
    say(f"{number(changes)} rows of the audit log (weights, guard) follow from each other.")
    say(f"head {registry.head()}")
    hint("penstock registry list")


def _tell_away(registry: ModelRegistry) -> None:
    if registry.away:
        tell(f"penstock: {registry.away} Shown is what this machine has seen last.")


def _gate_cell(gate: str) -> str:
    """A digest's beginning, or why there is none."""
    return gate if gate.startswith("skipped") else gate[:12]


def _print_refused(report: GateReport, *, as_json: bool) -> None:
    if as_json:
        print_json({"promoted": False, "report": report_json(report)})
        return
    print_report(report)
    say()
    say(f"{report.challenger} is not promoted: the gate's verdict is {report.verdict}.")
    hint("wait for labels or train again; --skip-gate REASON promotes all the same")


def _print_moved(moved: ModelVersion, *, as_json: bool) -> None:
    if as_json:
        print_json(_summary(moved))
        return
    say(f"{moved.label} is in stage {moved.stage}")
    say("A running engine takes it over within a second.")
    hint("penstock run" if moved.stage == "Production" else f"penstock registry list {moved.name}")


def _summary(version: ModelVersion) -> dict[str, Any]:
    return {**asdict(version), "folder": str(version.folder), "label": version.label}


def _figures(metrics: Any) -> list[tuple[str, float]]:
    """The plain numbers of a report."""
    return [(k, v) for k, v in metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)]
