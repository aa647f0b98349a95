"""``penstock dead-letters``: what was refused, and sending it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.options import Actor, AsJson, Project, actor_name, project_root, served_at, without_cards
from penstock.cli.output import hint, moment, number, print_facts, print_json, print_table, printable, say
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.core.records import DeadLetter

commands = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="What was refused, and sending it again."
)

Ids = Annotated[
    list[int] | None, typer.Argument(metavar="[ID]...", help="The letters' numbers.", show_default=False)
]
Source = Annotated[str | None, typer.Option("--source", help="Only of this source.", show_default=False)]
ReasonCode = Annotated[
    str | None, typer.Option("--refused-for", help="Only refused for this reason.", show_default=False)
]
All = Annotated[
    bool, typer.Option("--all", help="All that --source and --refused-for leave, in place of numbers.")
]
Why = Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.", callback=without_cards)]


@commands.command("list")
def list_letters(
    source: Source = None,
    refused_for: ReasonCode = None,
    limit: Annotated[int, typer.Option(help="How many, the newest first.", min=1)] = 20,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """List what was refused, the newest first. Works beside a running engine."""
    from penstock.app.runtime import open_reader

    with open_reader(project_root(project)) as store:
        letters = store.newest_dead_letters(limit, source=source, reason=refused_for)
        counts = store.dead_letter_counts()
    if as_json:
        print_json([_described(letter) for letter in letters])
        return
    print_table(
        [
            (
                number(one.letter_id),
                one.source,
                one.reason,
                moment(one.received_us),
                printable(one.payload, 60),
            )
            for one in letters
        ],
        head=("letter", "source", "reason", "received", "bytes"),
        right=(0,),
    )
    for (name, reason), count in counts.items():
        say(f"{number(count)} of {name}: {reason}")
    hint("penstock dead-letters show ID, replay ID --reason WHY" if letters else "penstock status")


@commands.command("show")
def show(
    letter: Annotated[int, typer.Argument(metavar="ID", help="The letter's number.")],
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Print a refused input whole, and why it was refused."""
    (found,) = _letters(project_root(project), [letter])
    if as_json:
        print_json(_described(found))
        return
    facts = [("source", found.source), ("received", moment(found.received_us)), ("reason", found.reason)]
    print_facts([*facts, ("found", printable(found.detail.encode(), 1000))])
    say(printable(found.payload, len(found.payload)))
    hint(
        f"penstock dead-letters replay {letter} --reason WHY, with --corrected FILE where it is to be another"
    )


@commands.command("replay")
def replay(
    reason: Why,
    letters: Ids = None,
    every: All = False,
    source: Source = None,
    refused_for: ReasonCode = None,
    corrected: Annotated[
        Path | None,
        typer.Option(
            "--corrected", help="A file with the corrected event, for one letter.", show_default=False
        ),
    ] = None,
    actor: Actor = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Send refused inputs again; exit code 1 if any is refused again.

    What is accepted leaves the dead letters in the transaction that stores its event. Asks `penstock up` where that runs.
    """
    root = project_root(project)
    chosen = _chosen(root, letters, every=every, source=source, reason=refused_for)
    data = None if corrected is None else corrected.read_bytes()
    answers = [
        one for part in _parts(chosen) for one in _replayed(root, part, data, actor=actor, reason=reason)
    ]
    refused = [one for one in answers if one["answer"]["status"] == "rejected"]
    if as_json:
        print_json(answers)
    else:
        for one in refused:
            answer = one["answer"]
            say(
                f"letter {one['id']} is refused again: {answer['reason']}: {printable(answer['detail'].encode(), 200)}"
            )
        say(f"{number(len(answers) - len(refused))} of {number(len(answers))} accepted.")
    if refused:
        raise typer.Exit(ExitCode.CHECK_FAILED)


@commands.command("drop")
def drop(
    reason: Why,
    letters: Ids = None,
    every: All = False,
    source: Source = None,
    refused_for: ReasonCode = None,
    actor: Actor = None,
    project: Project = None,
) -> None:
    """Remove refused inputs for good. Asks `penstock up` where that runs."""
    root = project_root(project)
    chosen = _chosen(root, letters, every=every, source=source, reason=refused_for)
    for part in _parts(chosen):
        _dropped(root, part, actor=actor, reason=reason)
    say(f"{number(len(chosen))} dropped.")


def _chosen(
    root: Path, letters: list[int] | None, *, every: bool, source: str | None, reason: str | None
) -> list[int]:
    from penstock.app.runtime import open_reader

    if bool(letters) == every:
        raise InputError(
            "dead-letters: allowed are numbers, or --all for all that the filters leave. Give one of both."
        )
    if letters:
        return letters
    with open_reader(root) as store:
        return [one.letter_id for one in store.newest_dead_letters(-1, source=source, reason=reason)][::-1]


def _parts(letters: Sequence[int]) -> list[list[int]]:
    from penstock.app.dead_letters import MOST

    return [list(letters[i : i + MOST]) for i in range(0, len(letters), MOST)]


def _replayed(
    root: Path, letter_ids: list[int], corrected: bytes | None, *, actor: str | None, reason: str
) -> list[dict[str, Any]]:
    from penstock.app.dead_letters import attempts, note_replay
    from penstock.app.dead_letters import replay as replayed
    from penstock.app.runtime import Runtime, audit_log_of

    url = served_at(root)
    if url is not None:
        return _asked(url, letter_ids, corrected, actor=actor, reason=reason)
    letters = _letters(root, letter_ids)
    attempts(letters, corrected=corrected)
    with Runtime.open(root) as runtime:
        note_replay(audit_log_of(root), letters, corrected=corrected, actor=actor_name(actor), reason=reason)
        answers = replayed(runtime, letters, corrected=corrected)
    return [{"id": letter, "answer": answer.to_dict()} for letter, answer in answers.items()]


def _asked(
    url: str, letter_ids: list[int], corrected: bytes | None, *, actor: str | None, reason: str
) -> list[dict[str, Any]]:
    from penstock.client import Client

    with Client(url, actor=actor) as client:
        if corrected is not None and len(letter_ids) == 1:
            return [client.replay_dead_letter(letter_ids[0], corrected=corrected, reason=reason)]
        if corrected is not None:
            raise InputError("dead-letters: --corrected is for one letter. Correct them one by one.")
        results: list[dict[str, Any]] = client.replay_dead_letters(letter_ids, reason=reason)["results"]
        return results


def _dropped(root: Path, letter_ids: list[int], *, actor: str | None, reason: str) -> None:
    from penstock.app.dead_letters import drop as dropped
    from penstock.app.dead_letters import note_drop
    from penstock.app.runtime import Runtime, audit_log_of
    from penstock.client import Client

    url = served_at(root)
    if url is not None:
        with Client(url, actor=actor) as client:
            client.drop_dead_letters(letter_ids, reason=reason)
        return
    letters = _letters(root, letter_ids)
    with Runtime.open(root) as runtime:
        note_drop(audit_log_of(root), letters, actor=actor_name(actor), reason=reason)
        dropped(runtime, letters)


def _letters(root: Path, letter_ids: list[int]) -> list[DeadLetter]:
    from penstock.app.dead_letters import letters_with
    from penstock.app.runtime import open_reader

    with open_reader(root) as store:
        return letters_with(store, letter_ids)


def _described(letter: DeadLetter) -> dict[str, Any]:
    from penstock.app.dead_letters import text_of
    from penstock.core.time import from_us

    return {
        "id": letter.letter_id,
        "source": letter.source,
        "received_at": from_us(letter.received_us).isoformat(),
        "reason": letter.reason,
        "detail": letter.detail,
        "text": text_of(letter.payload),
    }
