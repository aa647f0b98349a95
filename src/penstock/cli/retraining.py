"""``penstock retraining``: a retraining in steps, for an orchestrator such as Airflow; ``penstock retrain`` does them all at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import print_facts, print_json, tell

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.app.retraining_steps import Step, SteppedRetrainer

commands = typer.Typer(help="Retrain a model in steps, as an orchestrator runs them.", no_args_is_help=True)

Model = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]
Attempt = Annotated[int, typer.Option("--attempt", help="The attempt's number, which the cut gave.")]
Version = Annotated[int, typer.Option("--version", help="The version's number, which the training gave.")]


@commands.command()
def cut(
    model: Model,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the journal.")] = "by an orchestrator",
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Begin an attempt: fix where the log ends for it, and record the training set."""
    with _retrainer(project) as retrainer:
        _print(retrainer.cut(model, why=reason), as_json=as_json)


@commands.command()
def train(
    model: Model,
    attempt: Attempt,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="The training set that the cut recorded.")
    ] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Train and register a version."""
    with _retrainer(project) as retrainer:
        _print(retrainer.train(model, attempt, dataset=dataset), as_json=as_json)


@commands.command()
def gate(
    model: Model, attempt: Attempt, version: Version, project: Project = None, as_json: AsJson = False
) -> None:
    """Judge a version; whatever the verdict, the exit code is 0."""
    with _retrainer(project) as retrainer:
        _print(retrainer.gate(model, attempt, version), as_json=as_json)


@commands.command()
def promote(
    model: Model,
    attempt: Attempt,
    version: Version,
    report: Annotated[str, typer.Option("--gate", help="The digest of the gate's report.")],
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Put a version where its gate and the model's retraining say, and end the attempt."""
    with _retrainer(project) as retrainer:
        _print(retrainer.promote(model, attempt, version, report), as_json=as_json)


@commands.command("give-up")
def give_up(
    model: Model,
    attempt: Attempt,
    reason: Annotated[str, typer.Option("--reason", help="What went wrong; kept in the journal.")],
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """End an attempt of which a step failed for good."""
    with _retrainer(project) as retrainer:
        _print(retrainer.give_up(model, attempt, why=reason), as_json=as_json)


@commands.command()
def reload(
    version: Annotated[str, typer.Argument(metavar="MODEL:VERSION", help="For example fraud:3.")],
    url: Annotated[str, typer.Option("--url", help="Where the engine is served.")] = "http://127.0.0.1:8000",
    seconds: Annotated[float, typer.Option("--seconds", help="How long to wait.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Wait until the running engine decides with a version that was promoted.

    An engine takes over what is promoted by itself; this makes sure of it. The environment variable PENSTOCK_API_KEY holds a key, if one is needed.
    """
    from penstock.app.retraining_steps import wait_until_live

    arms = wait_until_live(url, version, seconds=seconds, key=os.environ.get("PENSTOCK_API_KEY"))
    if as_json:
        print_json({"version": version, "arms": arms})
        return
    print_facts([("version", version), ("decides in", ", ".join(arms))])


@contextmanager
def _retrainer(project: Path | None) -> Iterator[SteppedRetrainer]:
    from penstock.app.retraining_steps import SteppedRetrainer
    from penstock.app.runtime import audit_log_of, open_reader, registry_of
    from penstock.core.clock import SystemClock
    from penstock.definitions.project import load_project

    root = project_root(project)
    with open_reader(root) as store:
        yield SteppedRetrainer(
            load_project(root),
            store,
            registry=registry_of(root),
            audit=audit_log_of(root),
            clock=SystemClock(),
            tell=tell,
        )


def _print(step: Step, *, as_json: bool) -> None:
    if as_json:
        print_json({"attempt": step.attempt, **step.detail})
        return
    print_facts(
        [("attempt", str(step.attempt)), *((name, str(value)) for name, value in step.detail.items())]
    )
