"""``penstock retrain``: a model trained again, by hand or when it is due, and what came of it each time."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, moment, number, print_facts, print_json, print_table, say, tell
from penstock.core.errors import InputError, StoreError

if TYPE_CHECKING:
    from penstock.app.retraining import Retrainer
    from penstock.app.retraining_journal import Attempt
    from penstock.definitions.models import Model

SHOWN = 10


def retrain(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")],
    now: Annotated[bool, typer.Option("--now", help="Train whether or not it is due.")] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Train nothing; print what it waits for, and earlier attempts.")
    ] = False,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Train a model again if it is due.

    The new version is judged, and promoted as the model's retraining says. Works beside a running engine, which takes over what is promoted. Exit code 1 if an attempt failed.
    """
    from penstock.app.retraining import Retrainer
    from penstock.app.runtime import audit_log_of, open_reader, registry_of
    from penstock.app.training import model_named
    from penstock.core.clock import SystemClock
    from penstock.definitions.project import load_project
    from penstock.models.triggers import Trigger

    if now and status:
        raise InputError("retrain: --now and --status are given; allowed is one. Leave one out.")
    root = project_root(project)
    loaded = load_project(root)
    chosen = model_named(loaded, model)
    if chosen.learning is not None:
        raise InputError(
            f"retrain: model {model!r} goes on learning, so there is nothing to train again. Run it: penstock run."
        )
    with open_reader(root) as store:
        retrainer = Retrainer(
            loaded,
            store,
            registry=registry_of(root),
            audit=audit_log_of(root),
            clock=SystemClock(),
            tell=tell,
        )
        if status:
            _print_status(chosen, retrainer, audit_log_of(root), as_json=as_json)
            return
        attempt = retrainer.attempt(model, Trigger("hand", "by hand")) if now else retrainer.look(model)
        if attempt is None and now:
            raise StoreError("retrain: another process trains in this project; wait until it has ended.")
    _print_attempt(model, attempt, as_json=as_json)
    if attempt is not None and attempt.outcome == "failed":
        raise typer.Exit(ExitCode.CHECK_FAILED)


def _print_attempt(model: str, attempt: Attempt | None, *, as_json: bool) -> None:
    if as_json:
        print_json({"model": model, "attempt": None if attempt is None else asdict(attempt)})
        return
    if attempt is None:
        say(f"{model}: nothing is due.")
        hint(f"penstock retrain {model} --status, or --now to train all the same")
        return
    facts = [("why", attempt.why), ("outcome", attempt.outcome)]
    facts += [
        (name, str(attempt.detail[name]))
        for name in ("version", "rows", "verdict", "error")
        if name in attempt.detail
    ]
    seconds = attempt.detail.get("seconds", {})
    facts.append(("seconds", ", ".join(f"{name} {number(value, 1)}" for name, value in seconds.items())))
    print_facts(facts)
    hint("penstock registry list")


def _print_status(model: Model, retrainer: Retrainer, audit: Any, *, as_json: bool) -> None:
    from penstock.app.retraining_journal import Journal
    from penstock.models.triggers import is_cooling, next_scheduled_us

    state, seen = retrainer.state(model.name), retrainer.seen(model.name)
    attempts = Journal(audit, model.name).attempts()
    rules = model.retraining
    cooling = rules is not None and is_cooling(rules, state, seen.now_us)
    due_us = None if rules is None or rules.schedule is None else next_scheduled_us(rules.schedule, state)
    if as_json:
        print_json(
            {
                "model": model.name,
                "rules": None if rules is None else {**asdict(rules), "cooldown": str(rules.cooldown), "shadow_for": _text(rules.shadow_for)},
                "state": asdict(state),
                "seen": asdict(seen),
                "is_cooling": cooling,
                "next_scheduled_us": due_us,
                "attempts": [asdict(one) for one in attempts],
            }
        )  # fmt: skip
        return
    wanted = "" if rules is None or rules.new_labels is None else f" of {number(rules.new_labels)}"
    least = "" if rules is None else f" of {number(rules.min_positives)}"
    print_facts(
        [
            ("trained", "by hand only" if rules is None else "without a hand, while the project runs"),
            ("new labels", f"{number(seen.labels)}{wanted}"),
            ("positives", f"{number(seen.positives)}{least}"),
            ("schedule", "none" if due_us is None else f"next {moment(due_us)}"),
            ("cooldown", "holds" if cooling else "over"),
        ]
    )
    say()
    rows = [
        (
            moment(one.started_us),
            one.why,
            str(one.detail.get("version", "–")),
            str(one.detail.get("verdict", "–")),
            one.outcome or "no outcome",
        )
        for one in attempts[-SHOWN:]
    ]
    print_table(rows, head=("when", "why", "version", "gate", "outcome"))
    hint(f"penstock retrain {model.name} --now")


def _text(value: object) -> str | None:
    return None if value is None else str(value)
