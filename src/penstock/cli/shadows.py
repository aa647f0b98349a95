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
    regression = any(one.error is not None for one in found)
    heads = ("error",) if regression else ("average precision", "ROC AUC", "cost an event")
    rows = [
        (
            f"{one.arm} {one.version}",
            number(one.events),
            number(one.labelled),
            number(one.pending),
            "–" if one.differ is None else f"{one.differ:.2%}",
            *(
                map(_shown, (one.error,))
                if regression
                else map(_shown, (one.average_precision, one.roc_auc, one.cost))
            ),
        )
        for one in found
    ]
    head = ("shadow", "events", "labelled", "pending", "would differ", *heads)
    print_table(rows, head=head, right=range(1, len(head)))
    say("Shadow less what decided, on the same events; in parentheses the interval, 95 %.")


def _shown(difference: Difference | None) -> str:
    return "–" if difference is None else str(difference)
