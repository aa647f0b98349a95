"""``penstock drift``: whether what an endpoint is asked is still what its model was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, moment, number, print_json, print_table, progress_bar, say
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.app.drift_live import LiveDrift
    from penstock.app.drifting import DriftReport
    from penstock.monitoring.drift import ColumnDrift, Measure

Endpoint = Annotated[
    str | None,
    typer.Argument(metavar="[ENDPOINT]", help="The endpoint; default: the only one.", show_default=False),
]


def drift(
    endpoint: Endpoint = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Compare with this version; default: the one in Production.", show_default=False
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the report as a page.", show_default=False)
    ] = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="What the watch beside the run has found, without reading decisions."),
    ] = False,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Compare what is asked with the training data.

    The newest week (drift_window of the monitor) of features, scores and labels against the version's training data. Thresholds
    follow from the number of rows, so that a report without drift alarms in at most 5 of 100 cases (false_alarms).
    """
    from penstock.app.drift_live import live_drift
    from penstock.app.drift_page import drift_page
    from penstock.app.drifting import drift_report, reference_of
    from penstock.app.measuring import monitor_of
    from penstock.app.runtime import open_reader, plan_of, registry_of
    from penstock.definitions.project import load_project

    root = project_root(project)
    loaded = load_project(root)
    if live:
        if model is not None or html is not None:
            raise InputError("drift: --live goes with neither --model nor --html; leave them out.")
        _print_live(live_drift(loaded, endpoint), as_json=as_json)
        return
    monitor = monitor_of(loaded, endpoint)
    reference = reference_of(registry_of(root), monitor.endpoint.model.name, model)
    with open_reader(root) as store, progress_bar("drift") as progress:
        report = drift_report(store, plan_of(loaded), monitor, reference=reference, progress=progress)
    if html is not None:
        html.write_text(drift_page(report), encoding="utf-8")
    if as_json:
        print_json(report.to_dict())
        return
    _print(report)
    if html is not None:
        say(f"page: {html}")
    hint(f"penstock train {monitor.endpoint.model.name}" if report.drift.drifted else "penstock metrics")


def _print(report: DriftReport) -> None:
    columns = report.drift.columns
    say(f"endpoint {report.endpoint} against {report.version}: {number(report.rows)} decisions")
    say(f"events of {moment(report.start_us)} to {moment(report.end_us)}")
    if report.warning:
        say(f"note: {report.warning}")
    drifted = report.drift.drifted
    say(f"{len(drifted)} of {len(columns)} columns drifted{': ' if drifted else ''}{', '.join(drifted)}")
    say()
    ranked = sorted(columns, key=lambda c: (not c.drifted, 2.0 if c.p_value is None else c.p_value))
    print_table(
        [_cells(column) for column in ranked],
        head=("column", "PSI", "KS", "missing", "p", ""),
        right=(1, 2, 3, 4),
    )
    say("*: more than it is without drift (other measures and thresholds: --json)")
    for point in report.change_points[-10:]:
        say(
            f"{point.stream}: {point.method} at {moment(point.time_us)}, {point.before:.4g} to {point.after:.4g}"
        )
    if report.note:
        say(report.note)


def _print_live(found: LiveDrift, *, as_json: bool) -> None:
    if as_json:
        print_json(found.to_dict())
        return
    if found.version is None:
        why = "nothing was seen yet" if found.watched else "nothing is watched while it runs"
        say(f"endpoint {found.endpoint}: {why}")
        hint('Monitor(..., live=["score", "error"]), or Retraining(on_drift=True), then penstock run')
        return
    say(
        f"endpoint {found.endpoint} against {found.version}, seen up to log position {number(found.position)}"
    )
    if found.drifted is None or found.rows is None:
        say("no look yet")
    else:
        what = f"{len(found.drifted)} columns drifted" if found.drifted else "as trained"
        say(f"newest look, {number(found.rows)} rows: {what}")
        for name in found.drifted:
            say(f"  {name}")
    say()
    streams = [
        (
            one.name,
            "listening" if one.listening else f"learning, {one.steps} of {one.wanted} blocks",
            "–" if one.value is None else f"{one.value:.4g}",
        )
        for one in found.streams
    ]
    print_table(streams, head=("stream", "", "newest mean"), right=(2,))
    for point in found.change_points[-10:]:
        at = moment(point["time_us"])
        say(f"{point['stream']}: {point['method']} at {at}, {point['before']:.4g} to {point['after']:.4g}")
    if found.note:
        say(found.note)


def _cells(column: ColumnDrift) -> tuple[str, ...]:
    return (
        column.name,
        *("–" if column.p_value is None else _measure(m) for m in (column.psi, column.ks)),
        f"{column.missing:.1%}",
        "–" if column.adjusted_p_value is None else f"{column.adjusted_p_value:.1g}",
        "DRIFT" if column.drifted else "",
    )


def _measure(measure: Measure) -> str:
    return f"{measure.value:.3f}{'*' if measure.value > measure.threshold else ' '}"
