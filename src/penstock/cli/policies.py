"""``penstock policies``: the policies that endpoints decided by, by the digests that decisions name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, moment, print_facts, print_json, print_table, say

if TYPE_CHECKING:
    from penstock.app.policies_then import InForce, KnownPolicy


def policies(
    digest: Annotated[
        str | None,
        typer.Argument(
            metavar="[DIGEST]", help="Show this policy; its first characters do.", show_default=False
        ),
    ] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """List the policies that endpoints decided by, or show one.

    A decision names the digest of the policy that made it (penstock explain-event, GET /v1/decisions); this says what that policy was:
    thresholds, rules, lists, cap, costs, and when it was in force. Works beside a running engine.
    """
    from penstock.app.policies_then import known_policies, policy_of_digest

    root = project_root(project)
    if digest is not None:
        found = policy_of_digest(root, digest)
        if as_json:
            print_json(found.to_dict())
        else:
            _print(found)
        return
    known = known_policies(root)
    if as_json:
        print_json([one.to_dict() for one in known])
        return
    if not known:
        say("No definitions were applied since policies are kept.")
        hint("penstock plan")
        return
    rows = [(one.digest, one.terms["name"], *_newest(one)) for one in known]
    print_table(rows, head=("digest", "policy", "endpoints", "from", "until"))
    hint(f"penstock policies {known[0].digest}")


def _newest(one: KnownPolicy) -> tuple[str, str, str]:
    """Endpoints, and since and until when the policy was last in force."""
    last = max(one.times, key=lambda time: (time.until_us is None, time.from_us))
    return (", ".join(dict.fromkeys(time.endpoint for time in one.times)), *_span(last))


def _span(time: InForce) -> tuple[str, str]:
    return moment(time.from_us)[:16], "in force" if time.until_us is None else moment(time.until_us)[:16]


def _print(found: KnownPolicy) -> None:
    terms = found.terms
    say(f"policy {terms['name']}, digest {found.digest}")
    facts = [("below all thresholds", terms["default"])]
    facts += [(one["action"], _threshold(one)) for one in terms["actions"]]
    facts += [
        (f"explore {action}", f"{share:g} get the default") for action, share in terms["explore"].items()
    ]
    if cap := terms["cap"]:
        facts.append(
            (
                "cap",
                f"{cap['per_day']:,} a day of {', '.join(cap['actions'])}, then {cap['instead'] or terms['default']}",
            )
        )
    if costs := terms["costs"]:
        facts.append(("costs", _costs(costs)))
    print_facts(facts)
    if terms["rules"]:
        say("\nrules, the first that holds decides:")
        rows = [
            (one["rule"], f"list {one['list']}" if one["list"] else one["when"], one["action"])
            for one in terms["rules"]
        ]
        print_table(rows, head=("rule", "when", "action"))
    say("\nin force:")
    times = [(time.endpoint, f"version {time.version}", *_span(time), time.actor) for time in found.times]
    print_table(times, head=("endpoint", "definitions", "from", "until", "by"))


def _threshold(action: dict[str, Any]) -> str:
    chosen = action["chosen"]
    if chosen is None:
        return f"score from {action['threshold']:g}"
    budget = "" if chosen["alerts_per_day"] is None else f", at most {chosen['alerts_per_day']:g} a day"
    how = f"least cost ({_costs(chosen['costs'])})" if chosen["by"] == "cost" else "the rarest scores"
    return f"score from what each version brings: {how}{budget}; {action['threshold']:g} until then"


def _costs(costs: dict[str, Any]) -> str:
    return f"false positive {costs['false_positive']}, false negative {costs['false_negative']}, alert {costs['alert']:g}"
