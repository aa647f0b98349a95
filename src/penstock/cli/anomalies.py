"""How a detector of anomalies did, for ``penstock train`` and ``penstock metrics``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.cli.output import number, print_facts, print_table, say

if TYPE_CHECKING:
    from penstock.models.evaluation_anomaly import AlarmReport, AnomalyReport


def print_alarms(report: AnomalyReport) -> None:
    """Print ranking, evenness, and what each threshold came to."""
    labelled = (
        f"{number(report.labelled)}, {number(report.positives)} of anomalies" if report.labelled else "none"
    )
    print_facts(
        [
            ("labelled", labelled),
            ("ROC AUC", number(report.roc_auc)),
            ("average precision", number(report.average_precision)),
            ("unevenness of scores", number(report.unevenness)),
        ]
    )
    if report.alarms:
        say()
        rows = [_row(alarm) for alarm in report.alarms]
        head = ("action", "a day", "of all", "NAB", "found", "precision", "false alarms")
        print_table(rows, head=head, right=range(1, len(head)))


def _row(alarm: AlarmReport) -> tuple[str, ...]:
    found = f"{number(alarm.found)} of {number(alarm.windows)}" if alarm.windows else "–"
    return (
        f"{alarm.action} ≥ {alarm.threshold:.5g}",
        number(alarm.per_day, 1),
        f"{alarm.share:.3%}",
        number(alarm.nab, 1),
        found,
        number(alarm.precision),
        number(alarm.false_positive_rate, 4),
    )
