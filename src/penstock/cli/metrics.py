"""``penstock metrics``: how good decisions were, as far as labels tell, and what can be expected where they do not yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.metrics_windows import columns_of, print_groups, print_points, print_windows
from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, number, print_facts, print_json, print_table, progress_bar, say
from penstock.cli.shadows import print_shadows
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.app.measuring import Metrics

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
    end so long before the newest event as labels take; beside the truth stands what scores alone let one expect. With --by each
    version, arm or value of a segment is shown in the same windows.
    """
    from penstock.app.measuring import monitor_of, stored_metrics
    from penstock.app.runtime import open_reader, plan_of, registry_of, shadow_path
    from penstock.app.shadow_comparison import compare_shadows
    from penstock.app.version_thresholds import VersionThresholds
    from penstock.definitions.project import load_project

    root = project_root(project)
    loaded = load_project(root)
    monitor = monitor_of(loaded, endpoint)
    with open_reader(root) as store, progress_bar("metrics") as progress:
        plan = plan_of(loaded)
        found = stored_metrics(
            store,
            plan,
            monitor,
            by=by,
            thresholds=VersionThresholds(plan.endpoints[monitor.endpoint.name], registry_of(root)),
            as_of_us=None if as_of is None else _moment(as_of),
            progress=progress,
        )
        shadows = compare_shadows(store, plan, monitor, registry=registry_of(root), shadows=shadow_path(root))
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
        profiles = {alarm.nab_profile for alarm in found.anomalies.alarms}
        decided = f"{number(found.anomalies.rows)}{_unscored(total)}"
        print_facts([("decided", decided), *(("NAB profile", name) for name in profiles)])
        print_alarms(found.anomalies)
    elif found.task == "regression":
        print_facts(_regression_facts(total))
    else:
        print_facts(_binary_facts(total))
        if total.points:
            say()
            print_points([("", point) for point in total.points])
    say()
    print_windows(found)
    if found.groups:
        print_groups(found)
    if found.days:
        say()
        _print_days(found)


def _print_days(found: Metrics) -> None:
    from penstock.core.time import from_us

    heads, cells = columns_of(found.task)
    rows = [(f"{from_us(day.start_us):%Y-%m-%d}", *cells(day)) for day in found.days]
    print_table(rows, head=("day", *heads), right=range(1, 1 + len(heads)))


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
