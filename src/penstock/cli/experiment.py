"""``penstock experiment``: the arms of an endpoint side by side, with intervals that may be looked at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, number, print_json, print_table, say
from penstock.cli.shadows import print_shadows

if TYPE_CHECKING:
    from penstock.app.experimenting import Experiment
    from penstock.monitoring.experiments import Difference, Ratio


def experiment(
    endpoint: Annotated[
        str | None, typer.Argument(metavar="ENDPOINT", help="Which endpoint; default: the only one.")
    ] = None,
    start: Annotated[
        int | None,
        typer.Option(
            "--from", help="Only decisions from this log position on; default: since weights were set."
        ),
    ] = None,
    error: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="How often equal arms may be told apart, at most.")
    ] = 0.05,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Compare the arms of an endpoint while they run.

    Each metric is compared over keys, not events, with an interval that holds however often one looks. Keys that changed arms are left
    out. If the division of the keys does not fit the weights, it says so. Shadow arms are compared with what decided on the same events.
    """
    from penstock.app.experimenting import experiment as compared
    from penstock.app.measuring import monitor_of
    from penstock.app.routing import arm_shares, endpoint_named, weights_since
    from penstock.app.runtime import audit_log_of, open_reader, plan_of, registry_of, shadow_path
    from penstock.app.shadow_comparison import compare_shadows
    from penstock.definitions.project import load_project

    root = project_root(project)
    loaded = load_project(root)
    plan = plan_of(loaded)
    node = endpoint_named(plan, endpoint)
    audit = audit_log_of(root)
    shares = arm_shares(node, registry_of(root), audit)
    weights = {one["arm"]: one["weight"] for one in shares if one["share"]}
    begin = weights_since(node, audit) if start is None else start
    with open_reader(root) as store:
        found = compared(store, plan, node, weights=weights, start=begin, error=error)
        shadows = compare_shadows(
            store,
            plan,
            monitor_of(loaded, node.name),
            registry=registry_of(root),
            shadows=shadow_path(root),
            start=begin,
        )
    if as_json:
        print_json(found.to_dict() | {"shadows": [one.to_dict() for one in shadows]})
        return
    if not found.arms:
        say(f"{node.name} has decided nothing yet.")
        hint("penstock run")
        return
    _print(found, error)
    print_shadows(shadows)
    hint(f"penstock route {found.endpoint}")


def _print(found: Experiment, error: float) -> None:
    cells = [
        (one.arm, ", ".join(one.versions), number(one.keys), number(one.decisions), number(one.labelled))
        for one in found.arms
    ]
    print_table(cells, head=("arm", "versions", "keys", "decisions", "labelled"), right=(2, 3, 4))
    over = [f"{number(one.over_budget)} of {one.arm}" for one in found.arms if one.over_budget]
    if over:
        say(f"Over the day's budget, and counted as alerts all the same: {', '.join(over)}.")
    first = found.arms[0]
    rows = [
        (name, one.arm, _ratio(first.ratios[name]), _ratio(one.ratios[name]), *_difference(difference, name))
        for one in found.arms[1:]
        for name, difference in one.differences.items()
    ]
    if rows:
        head = ("metric", "arm", first.arm, "its own", "difference", "verdict")
        print_table(rows, head=head, right=(2, 3, 4))
        say(f"Intervals hold at every look, with {1 - error:.0%} for each metric.")
    if found.moved or found.unkeyed:
        say(
            f"Left out: {number(found.moved)} keys that changed arms, {number(found.unkeyed)} events without a key."
        )
    if found.suspicious:
        say("The keys are not divided as the weights say: do not trust these figures before you know why.")


def _ratio(found: Ratio) -> str:
    return "-" if found.value is None else f"{found.value:.4f}"


def _difference(found: Difference, name: str) -> tuple[str, str]:
    if found.low is None or found.high is None:
        return "-", found.verdict
    verdict = found.verdict
    if name in {"alert_rate", "positive_rate"}:  # neither direction is better
        verdict = "undecided" if found.verdict == "undecided" else "different"  # type: ignore[assignment]
    return f"{found.low:+.4f} … {found.high:+.4f}", verdict
