"""``penstock status``: what there is, beside a running engine or without one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import (
    hint,
    moment,
    number,
    print_facts,
    print_json,
    print_table,
    printable,
    say,
    size,
)

if TYPE_CHECKING:
    from penstock.app.overview import Overview


def status(project: Project = None, as_json: AsJson = False) -> None:
    """Print what the project holds.

    Log, counters, labels, dead letters, champions, sizes. Works beside a running engine.
    """
    from penstock.app.overview import overview

    found = overview(project_root(project))
    if as_json:
        print_json(found.to_dict())
        return
    _print(found)


def _print(found: Overview) -> None:
    say(f"project {found.name} in {found.root}")
    if not found.ran:
        say("It has never run.")
        hint("penstock run")
        return
    counters = found.counters
    received, parts = found.identity
    say(f"log     {number(found.log_length)} events and labels")
    say(
        f"events  {number(received)} received = "
        + " + ".join(f"{number(n)} {name}" for name, n in parts.items())
    )
    if not found.adds_up:
        say("        These do not add up: a defect of Penstock; please report it.")
    facts = [
        ("late", f"{number(counters.get('late', 0))} late, {number(counters.get('too_late', 0))} too late")
    ]
    facts += [("actions", ", ".join(f"{number(n)} {action}" for action, n in found.actions.items()))]
    facts += [("labels", ", ".join(f"{number(n)} {name}" for name, n in found.labels.items()))]
    facts += [("audit", _audit(found))]
    print_facts([fact for fact in facts if fact[1]])
    _print_endpoints(found.champions)
    _print_running(found.root)
    _print_letters(found)
    say()
    kept = ", ".join(f"at {number(position)}" for position in found.snapshots)
    print_facts(
        [
            ("snapshots", kept or "none yet"),
            ("sizes", ", ".join(f"{n} {size(b)}" for n, b in found.sizes.items())),
        ]
    )
    if found.erasures:
        say(f"forgotten keys: {found.erasures}")
    hint(_next(found))


def _audit(found: Overview) -> str:
    """What was recomputed while the project ran, and how far that has come."""
    if found.audit is None:
        return ""
    jumped = f", {number(found.audit.jumped)} passed over" if found.audit.jumped else ""
    reached = f"up to position {number(found.audit.position)} of {number(found.log_length)}{jumped}"
    return f"{found.audit.text().removeprefix('audit ')}; {reached}"


def _print_endpoints(champions: dict[str, Any]) -> None:
    if champions:
        say()
        rows = [
            (name, one["model"], one["champion"] or "none: events are logged without a score")
            for name, one in champions.items()
        ]
        print_table(rows, head=("endpoint", "model", "champion"))


def _print_running(root: Path) -> None:
    """What a running engine has in its arms, and what does not work though it runs."""
    from penstock.app.route_watch import running_notes

    notes = running_notes(root)
    if notes is None:
        return
    say()
    for endpoint, arms in notes.routes.items():
        serving = ", ".join(f"{version} in {arm}" for arm, version in arms.items())
        say(f"running, {endpoint}: {serving or 'without a model'}")
    for what, counts in notes.shadows.items():
        say(f"shadows, {what}: {', '.join(f'{number(n)} events of {name}' for name, n in counts.items())}")
    for what, why in notes.problems.items():
        say(f"problem, {what}: {why}")


def _print_letters(found: Overview) -> None:
    if not found.dead_letters:
        return
    say()
    rows = [(source, reason, number(count)) for (source, reason), count in found.dead_letters.items()]
    print_table(rows, head=("dead letters of", "reason", "count"), right=(2,))
    for letter in found.newest_letters:
        say(
            f"  {moment(letter.received_us)} {letter.source}: {letter.reason}, {printable(letter.detail.encode(), 120)}"
        )


def _next(found: Overview) -> str:
    idle = [one["model"] for one in found.champions.values() if not one["champion"]]
    return f"penstock train {idle[0]}" if idle else "penstock audit"
