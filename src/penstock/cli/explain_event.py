"""``penstock explain-event``: the events, windows, versions and numbers behind a decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, moment, number, print_facts, print_json, print_table, progress_bar, say

if TYPE_CHECKING:
    from penstock.app.reasons import Explained
    from penstock.engine.provenance import Behind, Provenance, Traced

SHOWN = 5
"""How many rows behind a view's features are printed; --json has all."""


def explain_event(
    event_id: Annotated[
        str, typer.Argument(metavar="ID", help="The event's id, or position:N for its place in the log.")
    ],
    source: Annotated[
        str | None, typer.Option("--source", help="The stream; needed where several have the id.")
    ] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Show what is behind a decision.

    Score, model and thresholds; how much each feature added to the score; each feature as served, its window, the events that it was computed from, and its value
    recomputed from the log; exit code 1 if any differs. Works beside a running engine.
    """
    from penstock.app.explaining import as_json as described
    from penstock.app.explaining import explain_event as explain
    from penstock.app.reasons import reasons_for

    root = project_root(project)
    with progress_bar("reading the log") as progress:
        found = explain(root, event_id, source=source, progress=progress)
    reasons, why = reasons_for(root, found)
    if as_json:
        print_json(
            {**described(found), "reasons": None if reasons is None else reasons.to_dict(), "no_reasons": why}
        )
    else:
        _print(found, reasons, why)
    if found.differing:
        raise typer.Exit(ExitCode.CHECK_FAILED)


def _print(found: Provenance, reasons: Explained | None, why: str) -> None:
    say(
        f"event {found.event_id if found.event_id is not None else ''} of {found.source} at position {found.position}"
    )
    print_facts(
        [
            ("happened", moment(found.time_us)),
            ("accepted", moment(found.ingest_time_us)),
            ("columns", ", ".join(f"{name} {_shown(value)}" for name, value in found.event.items())),
            *_decision(found),
            *(("note", note) for note in found.notes),
        ]
    )
    _print_reasons(reasons, why)
    windowed: dict[tuple[str, str], list[Traced]] = {}
    for one in found.features:
        if one.behind is not None:
            windowed.setdefault((one.name.rpartition(".")[0], one.behind.source), []).append(one)
    for (name, source), features in windowed.items():
        _print_view(name, source, features, event_us=found.time_us)
    _print_realtime([one for one in found.features if one.behind is None])
    compared = sum(one.same is not None for one in found.features)
    say(f"\n{compared} values compared with their recomputation from the log, {found.differing} differ")
    hint("penstock audit" if found.differing else "penstock explain-event ID --json has every event")


def _print_reasons(reasons: Explained | None, why: str) -> None:
    """The weightiest parts of the score; they and the rest add up to it."""
    if reasons is None:
        say(f"\nno reasons: {why}")
        return
    say(f"\nreasons, in {reasons.space}: from {reasons.base:.4f} for an average event to {reasons.total:.4f}")
    shown, rest = reasons.reasons[:SHOWN], reasons.reasons[SHOWN:]
    rows = [(f"{one.contribution:+.4f}", one.text) for one in shown]
    if rest:
        rows.append((f"{sum(one.contribution for one in rest):+.4f}", f"{len(rest)} other features"))
    print_table(rows, head=("part", "reason"), right=(0,))
    if reasons.note:
        say(reasons.note)


def _decision(found: Provenance) -> list[tuple[str, str]]:
    decision, endpoint = found.decision, found.endpoint
    if decision is None:
        return []
    rules = [f"{action} from {threshold:g}" for action, threshold in endpoint.steps]
    score = float(decision.scores[0])
    facts = [
        (
            "endpoint",
            f"{endpoint.name}, policy {endpoint.policy}: {', '.join([endpoint.actions[0], *rules])}",
        ),
        ("policy", f"digest {decision.policy}" if decision.policy else ""),
        ("model", decision.decided_by(0).version or "none was in production"),
        ("score", number(score, 6)),
        ("action", decision.actions[decision.taken[0]]),
    ]
    if (rule := decision.rule(0)) is not None:
        facts.append(("rule", rule))
    if lists := decision.versions_of_lists(0):
        facts.append(("lists", ", ".join(f"{name} version {n}" for name, n in lists.items())))
    if (propensity := decision.propensity(0)) is not None:
        facts.append(("propensity", f"{propensity:g} to be let through in spite of its score"))
    facts += [("flags", ", ".join(found.flags))] if found.flags else []
    return [fact for fact in facts if fact[1]]


def _print_view(name: str, source: str, features: Sequence[Traced], *, event_us: int) -> None:
    """The features of one view, then the newest rows behind the one that has most."""
    say(f"\n{name}, from {source}")
    rows = []
    for one in features:
        assert one.behind is not None
        until = "event" if one.behind.to_us == event_us else moment(one.behind.to_us)[:16]
        rows.append(
            (
                one.name.rpartition(".")[2],
                _value(one),
                number(len(one.behind.positions)),
                moment(one.behind.from_us)[:16],
                until,
            )
        )
    print_table(rows, head=("feature", "value", "of", "after", "up to"), right=(1, 2))
    longest = max((one.behind for one in features if one.behind is not None), key=lambda b: len(b.positions))
    _print_rows(longest)


def _print_rows(behind: Behind) -> None:
    count = len(behind.positions)
    if not count:
        return
    where = f" where {behind.where}" if behind.where else ""
    newest = f", the newest {SHOWN}" if count > SHOWN else ""
    say(f"  {number(count)} of the longest window{newest}:")
    rows = [
        (
            number(int(behind.positions[i])),
            str(behind.ids[i] if behind.ids[i] is not None else ""),
            moment(int(behind.times_us[i])),
            _shown(behind.values[i]),
        )
        for i in range(max(count - SHOWN, 0), count)
    ]
    print_table(rows, head=("position", "event", "time", f"{behind.column}{where}"), right=(0, 3))


def _print_realtime(features: Sequence[Traced]) -> None:
    groups: dict[tuple[str, str], list[Traced]] = {}
    for one in features:
        inputs = ", ".join(f"{name} = {_shown(value)}" for name, value in one.inputs.items())
        groups.setdefault((one.name.rpartition(".")[0], inputs), []).append(one)
    for (view, inputs), members in groups.items():
        say(f"\n{view}, computed when the event was scored")
        rows = [(one.name.rpartition(".")[2], _value(one)) for one in members]
        print_table(rows, head=("feature", "value"), right=(1,))
        print_facts([("  from", inputs)])


def _value(one: Traced) -> str:
    if one.same is False:
        return f"{_shown(one.served)} served, {_shown(one.recomputed)} now"
    return _shown(one.recomputed if one.served is None else one.served)


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
