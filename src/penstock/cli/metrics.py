"""``penstock metrics``: how good decisions were, as far as labels tell, and what can be expected where they do not yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, number, print_facts, print_json, print_table, progress_bar, say
from penstock.cli.shadows import print_shadows
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.app.measuring import Metrics
    from penstock.monitoring.board import Window

Endpoint = Annotated[
    str | None,
    typer.Argument(metavar="[ENDPOINT]", help="The endpoint; default: the only one.", show_default=False),
]


def metrics(
    endpoint: Endpoint = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by", help="version, arm, day, or segment:NAME of the endpoint's monitor.", show_default=False
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            help="Only events up to this time and labels known by then, like 2026-01-31T12:00; UTC.",
            show_default=False,
        ),
    ] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Print how good an endpoint's decisions were.

    Made from the stored decisions and the labels that are known. A decision without a label is pending, never negative. Windows
    end so long before the newest event as labels take; beside the truth stands what scores alone let one expect.
    """
    from penstock.app.anomalies import stored_anomalies
    from penstock.app.measuring import metrics_of, monitor_of, stored_board
    from penstock.app.runtime import open_reader, plan_of, registry_of, shadow_path
    from penstock.app.shadow_comparison import compare_shadows
    from penstock.app.version_thresholds import VersionThresholds
    from penstock.definitions.project import load_project

    root = project_root(project)
    loaded = load_project(root)
    monitor = monitor_of(loaded, endpoint)
    with open_reader(root) as store, progress_bar("metrics") as progress:
        plan, anomalies = plan_of(loaded), None
        thresholds = VersionThresholds(plan.endpoints[monitor.endpoint.name], registry_of(root))
        moment = None if as_of is None else _moment(as_of)
        board = stored_board(
            store,
            plan,
            monitor,
            thresholds=thresholds,
            as_of_us=moment,
            keep_all=by == "day",
            progress=progress,
        )
        if monitor.endpoint.model.task == "anomaly":
            anomalies = stored_anomalies(
                store, plan, monitor, thresholds=thresholds.in_force, as_of_us=moment
            )
        shadows = compare_shadows(store, plan, monitor, registry=registry_of(root), shadows=shadow_path(root))
    found = metrics_of(board, monitor, by=by, anomalies=anomalies)
    if as_json:
        print_json(found.to_dict() | {"shadows": [one.to_dict() for one in shadows]})
    elif found.newest_us is None:
        say(f"endpoint {found.endpoint}: nothing was decided yet.")
        hint("penstock run")
    elif found.total.unscored and not found.total.labelled + found.total.pending:
        say(f"endpoint {found.endpoint}: {number(found.total.unscored)} decisions, all made without a model.")
        hint(
            f"penstock train {monitor.endpoint.model.name}, penstock registry promote {monitor.endpoint.model.name} 1"
        )
    else:
        _print(found)
        print_shadows(shadows)
        hint(f"penstock drift {found.endpoint}")


def _moment(text: str) -> int:
    from datetime import datetime

    from penstock.core.time import to_us

    try:
        return to_us(datetime.fromisoformat(text))
    except ValueError as error:
        raise InputError(
            f"metrics: --as-of is {text!r}; allowed is a time like 2026-01-31T12:00. Correct it."
        ) from error


def _print(found: Metrics) -> None:
    from penstock.cli.anomalies import print_alarms
    from penstock.core.time import format_duration, from_us

    total = found.total
    say(f"endpoint {found.endpoint}, newest event {from_us(found.newest_us or 0):%Y-%m-%d %H:%M}Z")
    say(f"labels take {format_duration(found.delay_us)}; pending decisions count nowhere")
    say()
    if found.task == "anomaly" and found.anomalies is not None:
        print_facts([("decided", f"{number(found.anomalies.rows)}{_unscored(total)}")])
        print_alarms(found.anomalies)
    elif found.task == "regression":
        print_facts(_regression_facts(total))
    else:
        print_facts(_binary_facts(total))
        _print_points(total)
    say()
    heads, cells = _columns(found.task)
    rows = []
    for window in found.windows:
        rows += _window_rows(window, cells)
    print_table(rows, head=("events of", "", *heads), right=range(2, 2 + len(heads)))
    if found.rows:
        say()
        table = [(value or "–", *cells(quality)) for _, value, quality in found.rows]
        print_table(table, head=(found.rows[0][0], *heads), right=range(1, 1 + len(heads)))


def _columns(task: str) -> tuple[tuple[str, ...], Any]:
    """Heads of the columns of windows and groups, and what makes their cells."""
    if task == "regression":
        return ("labelled", "MAE", "RMSE", "bias", "pinball"), _regression_cells
    if task == "anomaly":
        return ("decided", "labelled", "positive", "AP", "ROC AUC", "uneven"), _anomaly_cells
    return ("labelled", "positive", "AP", "ROC AUC", "ECE", "Card P@k"), _binary_cells


def _binary_facts(total: Any) -> list[tuple[str, str]]:
    facts = [
        (
            "labelled",
            f"{number(total.labelled)}, {number(total.positives)} positive; {number(total.pending)} pending{_unscored(total)}",
        ),
        ("average precision", number(total.average_precision)),
        ("ROC AUC", number(total.roc_auc)),
        ("log loss, Brier", f"{number(total.log_loss, 4)}, {number(total.brier, 4)}"),
        ("calibration error", number(total.calibration_error, 4)),
    ]
    if total.idle_cost is not None:
        facts.append(("cost of doing nothing", number(total.idle_cost, 2)))
    return facts


def _regression_facts(total: Any) -> list[tuple[str, str]]:
    return [
        ("labelled", f"{number(total.labelled)}; {number(total.pending)} pending{_unscored(total)}"),
        ("MAE, RMSE", f"{number(total.mae)}, {number(total.rmse)}"),
        ("bias", number(total.bias)),
        (f"pinball at {total.quantile:g}", number(total.pinball)),
    ]


def _unscored(total: Any) -> str:
    return f"; {number(total.unscored)} made without a model" if total.unscored else ""


def _print_points(total: Any) -> None:
    if not total.points:
        return
    say()
    rows = [
        (
            f"{p.action} ≥ {p.threshold:g}{'' if p.highest is None else f'…{p.highest:g}'}",
            number(p.precision),
            number(p.recall),
            number(p.f1),
            number(p.false_positive_rate, 4),
            number(p.cost, 2),
        )
        for p in total.points
    ]
    head = ("action", "precision", "recall", "F1", "false alarms", "cost")
    print_table(rows, head=head, right=(1, 2, 3, 4, 5))


def _window_rows(window: Window, cells: Any) -> list[tuple[str, ...]]:
    """What is known of a window, and under it what scores let one expect."""
    from penstock.core.time import from_us

    start, end = from_us(window.start_us), from_us(window.end_us)
    days = (window.end_us - window.start_us) % 86_400_000_000 == 0
    pattern = "%m-%d" if days and start.hour == 0 else "%m-%d %H:%M"
    period = f"{start:{pattern}}…{end:{pattern}}"
    rows = [(period, "truth" if window.mature else "so far", *cells(window))]
    if window.estimate is not None:
        estimate = window.estimate
        label = "estimate" if estimate.calibrated_on else "raw scores"
        rows.append(
            (
                "",
                label,
                number(estimate.decided),
                number(round(estimate.positives)),
                number(estimate.average_precision),
                number(estimate.roc_auc),
                "",
                "",
            )
        )
    return rows


def _binary_cells(found: Any) -> tuple[str, ...]:
    """Of a window, or of a quality alone."""
    quality = getattr(found, "quality", found)
    ranked = getattr(found, "card_precision", None)
    return (
        number(quality.labelled),
        number(quality.positives),
        number(quality.average_precision),
        number(quality.roc_auc),
        number(quality.calibration_error, 4),
        "–" if ranked is None else number(ranked.value),
    )


def _anomaly_cells(found: Any) -> tuple[str, ...]:
    quality = getattr(found, "quality", found)
    return (
        number(quality.labelled + quality.pending),
        number(quality.labelled),
        number(quality.positives),
        number(quality.average_precision),
        number(quality.roc_auc),
        number(quality.unevenness),
    )


def _regression_cells(found: Any) -> tuple[str, ...]:
    quality = getattr(found, "quality", found)
    return (
        number(quality.labelled),
        number(quality.mae),
        number(quality.rmse),
        number(quality.bias),
        number(quality.pinball),
    )
