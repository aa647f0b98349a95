"""``penstock score``: events in, one answer each."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, number, print_line, printable, say
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.app.inputs import Input
    from penstock.engine.answers import Answer
    from penstock.engine.contract import Contract, Decoded

_HEAD = f"{'event':<20} {'status':<9} {'score':>7}  {'action':<10} notes"


def score(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The stream or label source that the events are of.")
    ],
    events: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-|JSON", help="A file, - for NDJSON from stdin, or one event or a list as JSON."
        ),
    ] = "-",
    features: Annotated[bool, typer.Option("--features", help="Add the feature values.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check the events; exit code 1 if any is refused.")
    ] = False,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Score events and print the answers.

    Events go through the engine; each answer is printed once it is durable. --json prints one line an answer.
    """
    root = project_root(project)
    place = _input(source, events)
    refused, first = 0, True
    batches = _checked(root, source, place) if dry_run else _scored(root, source, place, features=features)
    for answers in batches:
        refused += sum(answer.status == "rejected" for answer in answers)
        _print(answers, as_json=as_json, first=first)
        first = False
    if not as_json:
        hint("penstock status" if not dry_run else f"penstock score {source} without --dry-run")
    if dry_run and refused:
        raise typer.Exit(ExitCode.CHECK_FAILED)


def _scored(root: Path, source: str, place: bytes | Path | None, *, features: bool) -> Iterator[list[Answer]]:
    from penstock.app.runtime import Runtime
    from penstock.engine.answers import answers_of

    with Runtime.open(root) as runtime:
        contract = runtime.engine.contract(runtime.plan.sources[runtime.source_name(source)])
        for decoded in _blocks(root, contract, place, rows=runtime.settings.engine.batch_rows):
            processed = runtime.process([(source, decoded)], overlap=False).wait()
            yield answers_of(processed.outcomes[0], runtime.plan, runtime.engine.rows, with_features=features)


def _checked(root: Path, source: str, place: bytes | Path | None) -> Iterator[list[Answer]]:
    from penstock.app.requests import verdicts
    from penstock.app.runtime import card_tokens_of, plan_of
    from penstock.definitions.project import load_project
    from penstock.engine.contract import Contract

    plan = plan_of(load_project(root))
    if source not in plan.sources:
        raise InputError(
            f"source {source!r} is not in the plan; there are {', '.join(plan.sources)}. Name one of these."
        )
    contract = Contract(plan.sources[source], tokens=card_tokens_of(root))
    for decoded in _blocks(root, contract, place, rows=4096):
        yield verdicts(decoded)


def _blocks(root: Path, contract: Contract, place: bytes | Path | None, *, rows: int) -> Iterator[Decoded]:
    from penstock.app.inputs import PipeInput, given_inputs

    if isinstance(place, bytes):
        yield contract.decode_json(place)
        return
    name = contract.source.name
    one: Input = PipeInput(name, sys.stdin.buffer)
    if place is not None:
        one = given_inputs({name: place}, {name: contract.source}, root=root)[0]
    for decoded, _ in one.read(contract, None, rows=rows, final=True, stop=Event()):
        yield decoded


def _input(source: str, events: str) -> bytes | Path | None:
    """NDJSON given on the command line, a file, or None for stdin."""
    from penstock.app.event_lines import elements, one_line

    if events == "-":
        return None
    text = events.strip()
    written = text.encode("utf-8", "surrogateescape")
    if text.startswith("["):
        parts = elements(written)
        return one_line(written) if parts is None else b"\n".join(parts)
    if text.startswith("{") or not Path(events).exists():
        if not text.startswith("{"):
            raise InputError(
                f"score {source}: there is no file {events!r}, and it is no JSON either. Give a file, - or JSON."
            )
        return one_line(written)
    return Path(events)


def _print(answers: Sequence[Answer], *, as_json: bool, first: bool) -> None:
    if first and not as_json:
        say(_HEAD)
    for answer in answers:
        if as_json:
            print_line(answer.to_dict())
        else:
            _print_row(answer)


def _print_row(answer: Answer) -> None:
    notes = ", ".join(answer.flags)
    if answer.reason:
        notes = f"{answer.reason}: {answer.detail}"
    name = printable((answer.event_id or "").encode("utf-8", "backslashreplace"), 20)
    value = number(answer.score) if answer.score is not None else ""
    row = f"{name:<20} {answer.status:<9} {value:>7}  {answer.action or '':<10} {printable(notes.encode(), 160)}"
    say(row.rstrip())
    for feature, one in (answer.features or {}).items():
        say(f"    {feature:<56} {'null' if one is None else f'{one:.6g}':>14}")
