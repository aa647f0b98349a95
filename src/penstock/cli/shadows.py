"""Shadow arms beside those that decided, for ``penstock experiment`` and ``penstock metrics``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.cli.output import number, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.app.shadow_comparison import ShadowComparison
    from penstock.models.bootstrap import Difference


def print_shadows(found: Sequence[ShadowComparison]) -> None:
    """Print what each version in a shadow arm would have done; nothing where there was none."""
    if not found:
        return
    say()
    sizes = [
        (
            f"{one.arm} {one.version}",
            number(one.events),
            number(one.labelled),
            number(one.pending),
            "–" if one.differ is None else f"{one.differ:.2%}",
        )
        for one in found
    ]
    head = ("shadow", "events", "labelled", "pending", "would differ")
    print_table(sizes, head=head, right=range(1, len(head)))
    rows = [
        (f"{one.arm} {one.version}", name, str(difference))
        for one in found
        for name, difference in _differences(one)
        if difference is not None
    ]
    if rows:
        print_table(rows, head=("shadow", "metric", "difference, and its interval (95 %)"))
        say("Differences are the shadow's less what decided, on the same events.")


def _differences(one: ShadowComparison) -> tuple[tuple[str, Difference | None], ...]:
    return (
        ("average precision", one.average_precision),
        ("ROC AUC", one.roc_auc),
        ("cost an event", one.cost),
        ("mean absolute error", one.error),
    )
