"""``penstock train``: a version of a model, judged on later data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.options import Actor, AsJson, Project, Reason, actor_name, project_root
from penstock.cli.output import hint, number, print_facts, print_json, print_table, progress_bar, say, tell
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.app.training import TrainingRun
    from penstock.definitions.models import Model
    from penstock.definitions.project import Project as Definitions
    from penstock.models.evaluation import BinaryReport, RegressionReport
    from penstock.models.thresholds import ChosenThreshold
    from penstock.models.training import TrainingData
    from penstock.plan.origins import Origin

REPORTS = "reports"


def train(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")],
    events: Annotated[
        Path | None, typer.Option("--events", help="Events to train on; default: the project's log.")
    ] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="Their labels; goes with --events.")] = None,
    as_of: Annotated[
        str,
        typer.Option(
            "--as-of", help="served: as when each event was scored; corrected: late events in their places."
        ),
    ] = "served",
    reason: Reason = "trained on the command line",
    actor: Actor = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Train, judge and register a model.

    It is judged on data after its training period, drawn, verified, and registered; promoting it is another step.
    """
    from penstock.app.origins import origin_in_files
    from penstock.app.runtime import registry_of
    from penstock.app.training import model_named, train_model
    from penstock.core.clock import SystemClock
    from penstock.definitions.project import load_project

    root = project_root(project)
    loaded = load_project(root)
    chosen = model_named(loaded, model)
    if (events is None) != (labels is None):
        raise InputError(
            "train: --events and --labels go together; give both, or neither to train on the log."
        )
    if as_of not in {"served", "corrected"}:
        raise InputError(f"train: --as-of is {as_of!r}; allowed are served and corrected.")
    if chosen.learning is not None:
        if events is not None:
            raise InputError(
                f"train: model {model!r} goes on learning, and what it learns is the project's log; --events and --labels are "
                "not allowed. Take the files in first: penstock run."
            )
        run = _from_labels(root, loaded, chosen, actor=actor_name(actor), reason=reason)
        print_json(_json(run)) if as_json else _print(run)
        return
    if events is not None and labels is not None:
        data, dataset = _from_files(loaded, chosen, events, labels), None
        origin = origin_in_files(loaded, chosen, (events, labels))
    else:
        data, dataset, origin = _from_log(root, loaded, chosen, as_of)
    run = train_model(
        loaded,
        chosen,
        data,
        registry=registry_of(root),
        clock=SystemClock(),
        reports=root / REPORTS,
        actor=actor_name(actor),
        reason=reason,
        tell=tell,
        dataset=dataset,
        origin=origin,
    )
    if as_json:
        print_json(_json(run))
    else:
        _print(run)


def _from_log(
    root: Path, loaded: Definitions, model: Model, as_of: str
) -> tuple[TrainingData, str | None, Origin]:
    """The training data, the id of the data set under which it was recorded, and what it was made from."""
    from penstock.app.origins import origin_in_log
    from penstock.app.recording import recorded
    from penstock.app.runtime import open_reader, plan_of
    from penstock.app.training import data_from_log, policy_of
    from penstock.engine.history import features_from_log

    plan = plan_of(loaded)
    with open_reader(root) as store, progress_bar("features") as progress:
        service, stop = plan.services[model.features.name], store.next_position
        logged = features_from_log(store, plan, service, as_of=as_of, stop=stop, progress=progress)
        dataset = recorded(loaded, plan, model, logged, log=store, as_of=as_of, stop=stop, tell=tell)
        data = data_from_log(store, plan, model, logged, policy=policy_of(loaded, model), stop=stop)
        origin = origin_in_log(loaded, model, log=store.store_id, position=stop, dataset=dataset)
        return data, dataset, origin


def _from_files(loaded: Definitions, model: Model, events: Path, labels: Path) -> TrainingData:
    from penstock.app.runtime import plan_of
    from penstock.app.training import data_from_files

    return data_from_files(loaded, plan_of(loaded), model, events, labels)


def _from_labels(root: Path, loaded: Definitions, model: Model, *, actor: str, reason: str) -> TrainingRun:
    """The first version of a model that goes on learning, with what the log teaches so far."""
    from penstock.app.online_training import learn_from_log, register_learning
    from penstock.app.runtime import learned_path, open_reader, plan_of, registry_of
    from penstock.core.clock import SystemClock

    plan = plan_of(loaded)
    with open_reader(root) as store, progress_bar("features") as progress:
        erasures = len(store.erasures())
        learned = learn_from_log(plan, loaded, model, store, progress=progress)
    return register_learning(
        plan,
        model,
        learned,
        registry=registry_of(root),
        clock=SystemClock(),
        states=learned_path(root),
        reports=root / REPORTS,
        actor=actor,
        reason=reason,
        erasures=erasures,
    )


def _json(run: TrainingRun) -> dict[str, object]:
    return {
        "version": run.version.label,
        "digest": run.version.digest,
        "dataset": run.version.manifest().dataset,
        "folder": str(run.version.folder),
        "split": str(run.trained.split),
        "report": run.trained.report.to_dict(),
        "pictures": {name: str(path) for name, path in run.pictures.items()},
    }


def _print(run: TrainingRun) -> None:
    from penstock.cli.anomalies import print_alarms
    from penstock.models.evaluation import BinaryReport
    from penstock.models.evaluation_anomaly import AnomalyReport

    report, learning = run.trained.report, run.version.manifest().engine == "online"
    before = "it" if isinstance(report, AnomalyReport) else "its label"
    counted = f"each before {before} was learned" if learning else "after its training period"
    say(f"{run.version.label}, tested on {number(report.rows)} events, {counted}")
    for part in str(run.trained.split).split(", gap"):
        say(part if part.startswith("train") else f"gap{part}")
    say()
    if isinstance(report, AnomalyReport):
        print_alarms(report)
    elif isinstance(report, BinaryReport):
        _print_binary(report)
        _print_chosen(run.trained.chosen.values())
    else:
        _print_regression(report)
    say()
    if run.pictures:
        folder = next(iter(run.pictures.values())).parent
        say(f"plots       {folder}: {', '.join(run.pictures)}")
    if (dataset := run.version.manifest().dataset) is not None:
        say(f"data set    {dataset}")
    say(f"registered  {run.version.label}, digest {run.version.digest[:12]}")
    hint(f"penstock registry promote {run.version.name} {run.version.version}")


def _print_binary(report: BinaryReport) -> None:
    facts = [
        ("positives", f"{number(report.positives)} ({report.base_rate:.2%})"),
        ("ROC AUC", number(report.roc_auc)),
        ("average precision", number(report.average_precision)),
    ]
    if report.card_precision is not None:
        ranked = report.card_precision
        facts.append(
            (f"card precision@{ranked.k}", f"{number(ranked.value)} of at most {number(ranked.ceiling)}")
        )
    if report.idle_cost is not None:
        facts.append(("cost of doing nothing", number(report.idle_cost, 2)))
    print_facts(facts)
    if report.thresholds:
        say()
        rows = [
            (
                f"{t.action} ≥ {t.threshold:g}",
                number(t.precision),
                number(t.recall),
                number(t.f1),
                number(t.false_positive_rate, 4),
                number(t.cost, 2),
            )
            for t in report.thresholds
        ]
        head = ("action", "precision", "recall", "F1", "false alarms", "cost")
        print_table(rows, head=head, right=(1, 2, 3, 4, 5))


def _print_chosen(chosen: Iterable[ChosenThreshold]) -> None:
    """The thresholds that were chosen by cost, against the policy's own and doing nothing."""
    rows = [
        (
            f"{one.action} ≥ {one.threshold:.4g}",
            number(one.cost, 2),
            number(one.until_cost, 2),
            number(one.idle_cost, 2),
            number(one.alerts_per_day, 1),
        )
        for one in chosen
    ]
    if rows:
        say("\nchosen by cost, on a validation period before the end of training")
        head = ("action", "cost", "at the default", "doing nothing", "alerts a day")
        print_table(rows, head=head, right=(1, 2, 3, 4))


def _print_regression(report: RegressionReport) -> None:
    print_facts([("MAE", number(report.mae)), ("RMSE", number(report.rmse)), ("R²", number(report.r2))])
