"""``penstock gate``: whether a version of a model may decide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.options import AsJson, Project, project_root
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

Events = Annotated[
    Path | None, typer.Option("--events", help="Events to judge on; default: the project's log.")
]
Labels = Annotated[Path | None, typer.Option("--labels", help="Their labels; goes with --events.")]
Html = Annotated[Path | None, typer.Option("--html", help="Write the report as a page to this file.")]


def gate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")],
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="A number, or champion, challenger, previous.")
    ],
    events: Events = None,
    labels: Labels = None,
    html: Html = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Judge a version against the champion.

    Both score the labelled events that came after either's training and the time that labels take. Exit code 1 unless every
    rule of the model's gate passes. The report is kept with the version.
    """
    report = judged(project_root(project), model, version, events=events, labels=labels)
    if as_json:
        print_json(report_json(report))
    else:
        print_report(report)
    write_page(report, html)
    if report.verdict != "pass":
        if not as_json:
            hint(f"penstock registry promote {model} {version} --skip-gate REASON, if it must be")
        raise typer.Exit(ExitCode.CHECK_FAILED)
    if not as_json:
        hint(f"penstock registry promote {model} {version}")


def judged(
    root: Path, model: str, version: str, *, events: Path | None = None, labels: Path | None = None
) -> GateReport:
    """The report on a version, with progress on stderr."""
    from penstock.app.gating import Given, judge_version
    from penstock.app.runtime import registry_of
    from penstock.core.clock import SystemClock
    from penstock.definitions.project import load_project

    if (events is None) != (labels is None):
        raise InputError(
            "gate: --events and --labels go together; give both, or neither to judge on the log."
        )
    given = None if events is None or labels is None else Given(events, labels)
    with progress_bar("features") as progress:
        return judge_version(
            load_project(root),
            model,
            version,
            registry=registry_of(root),
            clock=SystemClock(),
            given=given,
            tell=tell,
            progress=progress,
        )


def report_json(report: GateReport) -> dict[str, Any]:
    """The report and the digest under which it is kept."""
    from dataclasses import asdict

    return {"digest": report.digest, **asdict(report)}


def print_report(report: GateReport) -> None:
    """The verdict, what it rests on, each rule, and each segment."""
    from penstock.app.gating import SEGMENT_HEAD, segment_rows

    holdout = report.holdout
    positives = holdout["positives"]
    rows = f"{number(holdout['rows'])} rows" + (
        "" if positives is None else f", {number(positives)} positives"
    )
    say(f"{report.challenger}: {report.verdict}")
    say()
    print_facts(
        [
            ("champion", report.champion or "none yet: only the absolute rules hold"),
            ("holdout", f"{rows}, {moment(holdout['start_us'])} to {moment(holdout['end_us'])}"),
            (
                "alarm",
                ", ".join(f"{label} from {t:g}" for label, t in report.thresholds.items() if t is not None)
                or "none",
            ),
            ("report", report.digest[:16]),
        ]
    )
    say()
    print_table(
        [(rule.name, rule.verdict, rule.text) for rule in report.rules], head=("rule", "verdict", "found")
    )
    segments = segment_rows(report)
    if segments:
        say()
        print_table(segments, head=SEGMENT_HEAD)


def write_page(report: GateReport, path: Path | None) -> None:
    """Write the report as HTML, where a file is named."""
    if path is None:
        return
    from penstock.app.gating import report_page
    from penstock.monitoring.report import render_html

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_html(report_page(report)), "utf-8")
    tell(f"written to {path}")
