"""``penstock alerts``: who is told when, what was told, and what waits."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.options import Actor, AsJson, Project, actor_name, duration_of, project_root, without_cards
from penstock.cli.output import hint, moment, number, print_json, print_table, printable, say

if TYPE_CHECKING:
    from penstock.app.alerting import AlertStatus

commands = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Who is told when, and what was told."
)

Name = Annotated[str, typer.Argument(metavar="ALERT", help="The alert's name.")]


@commands.command("list")
def list_alerts(project: Project = None, as_json: AsJson = False) -> None:
    """List alerts, how they stand, and how many messages wait, were sent, or were given up.

    Works beside a running engine.
    """
    from penstock.app.alerting import statuses
    from penstock.definitions.project import load_project

    found = statuses(load_project(project_root(project)))
    if as_json:
        print_json([asdict(one) for one in found])
        return
    print_table(
        [(one.name, one.on, "\n".join(one.to), _state(one), *_counts(one)) for one in found],
        head=("alert", "when", "to", "state", "waiting", "sent", "dead"),
        right=(4, 5, 6),
    )
    for one in found:
        for problem in one.problems:
            say(f"{one.name}: {problem}")
    hint("penstock alerts log" if found else "define one: Alert(...), see docs/alerts.md")


def _state(one: AlertStatus) -> str:
    value = f" ({number(one.value)})" if one.value is not None else ""
    silenced = f"\nsilenced until {moment(one.silenced_until_us)}" if one.silenced_until_us else ""
    return f"{one.state}{value}{silenced}"


def _counts(one: AlertStatus) -> tuple[str, ...]:
    return tuple(number(one.messages.get(state, 0)) for state in ("waiting", "sent", "dead"))


@commands.command("test")
def try_alert(name: Name, project: Project = None, as_json: AsJson = False) -> None:
    """Send a test message to each receiver of an alert, once, and print what became of it."""
    from penstock.app.alerting import alert_named, try_out
    from penstock.definitions.project import load_project

    outcomes = try_out(alert_named(load_project(project_root(project)), name))
    failed = [one for one in outcomes.values() if not one.delivered]
    if as_json:
        print_json({receiver: asdict(one) for receiver, one in outcomes.items()})
    else:
        for receiver, one in outcomes.items():
            say(f"{receiver}: {'taken' if one.delivered else printable(one.error.encode())}")
    if failed:
        raise typer.Exit(ExitCode.CHECK_FAILED)


@commands.command("silence")
def silence_alert(
    name: Name,
    lasting: Annotated[str, typer.Option("--for", help="How long: 30m, 1h, 2d; 0s ends a silence.")],
    reason: Annotated[
        str, typer.Option("--reason", help="Why; kept in the audit log.", callback=without_cards)
    ],
    actor: Actor = None,
    project: Project = None,
) -> None:
    """Tell nobody of an alert for a while; what it has to tell is noted.

    A running engine takes it over at once. A metric that is still out of bounds at the end is told then.
    """
    from penstock.app.alerting import silence
    from penstock.definitions.project import load_project

    loaded = load_project(project_root(project))
    until = silence(
        loaded, name, duration_of(lasting, option="--for"), actor=actor_name(actor), reason=reason
    )
    say(f"{name} is silenced until {moment(until)}.")


@commands.command("log")
def log(
    name: Annotated[str | None, typer.Argument(metavar="[ALERT]", help="Only of this alert.")] = None,
    state: Annotated[
        str | None, typer.Option(help="Only those waiting, sent, silenced or dead.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="How many, the newest first.", min=1)] = 20,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Print messages and what became of them, the newest first."""
    from penstock.app.alerting import logged

    rows = logged(project_root(project), alert=name, state=state, limit=limit)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    print_table(
        [
            (moment(row.created_us), f"{row.alert}: {row.kind}", row.target, f"{row.state}, {row.attempts} tried",
             printable(row.error.encode(), 80))
            for row in rows
        ],
        head=("when", "what", "to", "state", "lately"),
    )  # fmt: skip
    if any(row.state == "dead" for row in rows):
        hint("penstock alerts retry ALERT")


@commands.command("retry")
def retry(name: Name, project: Project = None) -> None:
    """Let messages that were given up wait again, for a running engine or the next run."""
    from penstock.app.alerting import revive
    from penstock.definitions.project import load_project

    say(f"{revive(load_project(project_root(project)), name)} messages of {name} wait again.")
