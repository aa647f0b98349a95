"""Gates: may a version decide? Challenger and champion on the same later rows, rule by rule.

Each rule passes, fails, or is inconclusive; so does the whole: it fails if one rule fails, and passes if all pass. Nothing
here reads or writes: `penstock.app.gating` gathers rows and models, and keeps the report.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import InputError
from penstock.core.time import format_duration, from_us
from penstock.models.bootstrap import (
    Difference,
    RankedScores,
    mean_difference,
    precision_difference,
    share_difference,
)
from penstock.models.gate_alarms import unlabelled_rules
from penstock.models.gate_rules import Rule, Verdict
from penstock.models.gate_segments import error_compared, recall_compared, segments_rule
from penstock.models.latency import row_latency_ms
from penstock.models.manifest import Feature, Manifest, json_value, sha256
from penstock.models.segments import segment_masks
from penstock.models.training_rows import row_hashes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.definitions.gates import Gate
    from penstock.kernel.columns import Column
    from penstock.models.gate_segments import Compare
    from penstock.models.runtimes import ScoringModel


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A version at the gate.

    Parameters
    ----------
    label, digest, manifest
        As registered.
    model
        Loaded and verified.
    threshold
        The score from which on it raises an alarm where it serves; None for a regression.
    trained_rows
        Hashes of a sample of the rows that it was trained on (`training_rows`); None where it has none.
    unseen_scores
        Of a version that goes on learning: its score of each row of the holdout from before it learned the label, NaN where
        there is none. None: it was trained once, and scores the rows now.
    """

    label: str
    digest: str
    manifest: Manifest
    model: ScoringModel
    threshold: float | None
    trained_rows: NDArray[np.uint64] | None = None
    unseen_scores: NDArray[np.float64] | None = None

    def scores(self, holdout: Holdout) -> NDArray[np.float64]:
        """Scores of the holdout, none of which it made knowing the label."""
        return self.model.score(holdout.vectors) if self.unseen_scores is None else self.unseen_scores


@dataclass(frozen=True, slots=True, eq=False)
class Holdout:
    """Labelled rows that both are judged on.

    Parameters
    ----------
    vectors, labels, times_us
        As in `TrainingData`, without rows that have no label; of a detector of anomalies all, where none has one.
    features, service_fingerprint
        What the vectors are.
    gap_us
        How long labels take: the least time between the end of training and the first row.
    digest
        SHA-256 of the rows (`data_digest`).
    columns
        Columns of the events by which the gate asks for segments, each with its type's name.
    """

    vectors: NDArray[np.float64]
    labels: NDArray[np.float64]
    times_us: NDArray[np.int64]
    features: tuple[Feature, ...]
    service_fingerprint: str
    gap_us: int
    digest: str
    columns: Mapping[str, tuple[Column, str]] = field(default_factory=dict)

    @property
    def is_unlabelled(self) -> bool:
        """Whether nobody has said what was wrong."""
        return bool(np.isnan(self.labels).all())


@dataclass(frozen=True, slots=True)
class GateReport:
    """The verdict on a version, and all that it rests on. `to_bytes` is what is kept; its digest names it.

    Examples
    --------
    >>> report = GateReport("fail", "fraud:2", "d2", None, None, {}, {}, {}, (), 0)
    >>> GateReport.from_bytes(report.to_bytes()) == report
    True
    """

    verdict: Verdict
    challenger: str
    challenger_digest: str
    champion: str | None
    champion_digest: str | None
    thresholds: Mapping[str, float | None]
    holdout: Mapping[str, Any]
    gate: Mapping[str, Any]
    rules: tuple[Rule, ...]
    created_us: int

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return (
            json.dumps(json_value(asdict(self)), sort_keys=True, ensure_ascii=False, indent=1) + "\n"
        ).encode()

    @property
    def digest(self) -> str:
        """SHA-256 of `to_bytes`."""
        return sha256(self.to_bytes())

    @staticmethod
    def from_bytes(data: bytes) -> GateReport:
        """The report of `to_bytes`."""
        values = json.loads(data)
        return GateReport(**values | {"rules": tuple(Rule(**rule) for rule in values["rules"])})


def judge(
    gate: Gate, challenger: Candidate, champion: Candidate | None, holdout: Holdout, *, created_us: int
) -> GateReport:
    """Hold `challenger` against `champion` (None: there is none yet) on `holdout`.

    Raises
    ------
    InputError
        When the holdout has no rows.
    """
    if not len(holdout.labels):
        raise InputError(
            f"gate: there is no labelled row to judge {challenger.label} on. Wait for labels of events after its training "
            "period, or give events and labels."
        )
    known = [challenger] if champion is None else [challenger, champion]
    rules = [
        _holdout_rule(known, holdout),
        _schema_rule(challenger, champion, holdout),
        *_unseen_rule(known, holdout),
    ]
    # Vectors of another schema cannot be scored, and figures on rows that were trained on say nothing.
    if all(rule.verdict == "pass" for rule in rules):
        if challenger.manifest.task == "regression":
            rules += _error_rules(gate, known, holdout)
        else:
            rules += _alarm_rules(gate, known, holdout)
        rules.append(_latency_rule(gate, challenger, holdout))
    return GateReport(
        verdict=whole_verdict(rules),
        challenger=challenger.label,
        challenger_digest=challenger.digest,
        champion=None if champion is None else champion.label,
        champion_digest=None if champion is None else champion.digest,
        thresholds={one.label: one.threshold for one in known},
        holdout=_described(holdout, counted=challenger.manifest.task != "regression"),
        gate=asdict(gate),
        rules=tuple(rules),
        created_us=created_us,
    )


def whole_verdict(rules: Sequence[Rule]) -> Verdict:
    """The verdict of all rules together.

    >>> whole_verdict([Rule("a", "pass", "", {}), Rule("b", "inconclusive", "", {})])
    'inconclusive'
    """
    verdicts = {rule.verdict for rule in rules}
    return "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"


def _described(holdout: Holdout, *, counted: bool) -> dict[str, Any]:
    return {
        "start_us": int(holdout.times_us.min()),
        "end_us": int(holdout.times_us.max()) + 1,
        "rows": len(holdout.labels),
        "positives": int(holdout.labels.sum()) if counted and not holdout.is_unlabelled else None,
        "gap_us": holdout.gap_us,
        "digest": holdout.digest,
    }


def _holdout_rule(known: Sequence[Candidate], holdout: Holdout) -> Rule:
    """Whether the rows are later than what either was trained on, by the manifests and by the rows themselves."""
    hashes = row_hashes(holdout.times_us, holdout.vectors)
    numbers: dict[str, Any] = {"rows": len(holdout.labels)}
    early, trained = 0, 0
    same = False
    for one in known:
        before = int((holdout.times_us < one.manifest.data.end_us + holdout.gap_us).sum())
        seen = 0 if one.trained_rows is None else int(np.isin(hashes, one.trained_rows).sum())
        numbers[one.label] = {"before_end_of_gap": before, "sampled_training_rows": seen}
        early, trained = max(early, before), max(trained, seen)
        same = same or one.manifest.data.digest == holdout.digest
    if not (early or trained or same):
        first = f"{from_us(int(holdout.times_us.min())):%Y-%m-%d %H:%M}"
        gap = format_duration(holdout.gap_us)
        after = "registration of the one that learns on" if _learners(known) else "either's training"
        return Rule("holdout", "pass", f"all rows from {first} on, at least {gap} after {after}", numbers)
    found = [
        f"{early:,} of {len(holdout.labels):,} rows lie in or before a training period or the gap after it"
        if early
        else "",
        f"{trained:,} are rows that a version was trained on" if trained else "",
        "they are the training data" if same else "",
    ]
    text = "; ".join(filter(None, found)) + ". Judge on later events; a random split leaks."
    return Rule("holdout", "fail", text, numbers)


def _unseen_rule(known: Sequence[Candidate], holdout: Holdout) -> Iterator[Rule]:
    """Whether those that go on learning have a score of every row from before they knew its label."""
    for one in _learners(known):
        assert one.unseen_scores is not None
        learned = int(np.isnan(one.unseen_scores).sum())
        numbers = {one.label: {"rows": len(holdout.labels), "learned": learned}}
        if learned:
            text = (
                f"{one.label} goes on learning, and has learned {learned:,} of {len(holdout.labels):,} rows without a score "
                "from before; it cannot be judged on them. Wait for labels of events that it decides on, or of later ones."
            )
            yield Rule("unseen rows", "inconclusive", text, numbers)
        else:
            text = f"{one.label} goes on learning: each row has the score from before it knew the label"
            yield Rule("unseen rows", "pass", text, numbers)


def _learners(known: Sequence[Candidate]) -> list[Candidate]:
    return [one for one in known if one.unseen_scores is not None]


def _schema_rule(challenger: Candidate, champion: Candidate | None, holdout: Holdout) -> Rule:
    """Whether both take the features that are served now: the same names and types, computed the same way."""
    differing: dict[str, list[str]] = {}
    for one in (challenger, champion):
        if one is None:
            continue
        own, given = set(one.manifest.features), set(holdout.features)
        differing[one.label] = sorted(feature.name for feature in own ^ given)
        same = one.manifest.features == holdout.features
        if not same or one.manifest.service_fingerprint != holdout.service_fingerprint:
            what = ", ".join(differing[one.label][:5]) or "the definitions behind the same names"
            text = f"{one.label} was trained on other features than are served now: {what}. Train it again."
            return Rule("schema", "fail", text, {"differing": differing})
    text = f"{len(holdout.features)} features, the same as are served now"
    return Rule("schema", "pass", text, {"features": len(holdout.features)})


def _alarm_rules(gate: Gate, known: Sequence[Candidate], holdout: Holdout) -> list[Rule]:
    scores = [one.scores(holdout) for one in known]
    alarms = [_alarms(one, found) for one, found in zip(known, scores, strict=True)]
    if holdout.is_unlabelled:
        return unlabelled_rules(gate, scores, alarms)
    truth = holdout.labels > 0
    positives = int(truth.sum())
    rules = [
        _recall_rule(gate, truth, alarms),
        _false_alarm_rule(gate, truth, alarms),
        _precision_rule(gate, truth, scores),
    ]
    if len(known) > 1:
        compare, least = recall_compared(gate, alarms), gate.min_positives
        rules += _segment_rules(gate, holdout, counted=truth, compare=compare, least=least, what="recall")
    if positives >= gate.min_positives:
        return rules
    text = f"the holdout has {positives:,} positives; at least {gate.min_positives:,} are needed to say"
    return [Rule(rule.name, "inconclusive", text, rule.numbers) for rule in rules]


def _alarms(one: Candidate, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    assert one.threshold is not None, "what raises alarms has a threshold"
    return scores >= one.threshold


def _recall_rule(gate: Gate, truth: NDArray[np.bool_], alarms: Sequence[NDArray[np.bool_]]) -> Rule:
    """Against a champion the recall must rise: the whole interval lies above zero."""
    recalls = [_share(found[truth]) for found in alarms]
    numbers: dict[str, Any] = {
        "challenger": recalls[0],
        "positives": int(truth.sum()),
        "least": gate.min_recall,
    }
    if not recalls[0] or recalls[0] < gate.min_recall:
        asked = f"at least {gate.min_recall:.1%} is asked" if gate.min_recall else "it finds nothing"
        text = f"{_percent(recalls[0])}; {asked}"
        return Rule("recall", "fail", text, numbers)
    if len(alarms) == 1:
        return Rule("recall", "pass", f"{_percent(recalls[0])} of the positives are found", numbers)
    gained = share_difference(alarms[0][truth], alarms[1][truth], **_drawing(gate))
    numbers |= {"champion": recalls[1], "difference": asdict(gained)}
    text = f"{_percent(recalls[0])}, champion {_percent(recalls[1])}: {gained}"
    if gained.lower > 0:
        return Rule("recall", "pass", text, numbers)
    if gained.upper <= 0:
        return Rule("recall", "fail", f"{text}; it must rise", numbers)
    return Rule("recall", "inconclusive", f"{text}; a gain is not shown", numbers)


def _false_alarm_rule(gate: Gate, truth: NDArray[np.bool_], alarms: Sequence[NDArray[np.bool_]]) -> Rule:
    rates = [_share(found[~truth]) for found in alarms]
    numbers: dict[str, Any] = {"challenger": rates[0], "most": gate.max_false_positive_rate}
    numbers |= {"champion": rates[1]} if len(rates) > 1 else {}
    if rates[0] is None:
        return Rule("false alarms", "inconclusive", "the holdout has no negatives", numbers)
    text = f"{rates[0]:.2%} of the negatives; at most {gate.max_false_positive_rate:.2%} is allowed"
    return Rule("false alarms", "pass" if rates[0] <= gate.max_false_positive_rate else "fail", text, numbers)


def _precision_rule(gate: Gate, truth: NDArray[np.bool_], scores: Sequence[NDArray[np.float64]]) -> Rule:
    """Not worse than the champion's; without a champion better than chance.

    A fall that the interval shows fails, however small. Where the interval holds zero it can show neither gain nor fall; then the whole
    of it must lie above minus the margin, so that no larger fall can be (a test of non-inferiority).
    """
    name, whole = "average precision", np.ones(len(truth))
    other = scores[1] if len(scores) > 1 else np.zeros(len(truth))  # equal scores: chance
    values = [RankedScores(truth, found).average_precision(whole) for found in (scores[0], other)]
    gained = precision_difference(truth, scores[0], other, **_drawing(gate))
    numbers: dict[str, Any] = {"challenger": values[0], "difference": asdict(gained)}
    if len(scores) == 1:
        text = f"{values[0]:.4f}, chance {values[1]:.4f}: {gained}"
        return Rule(name, "pass" if gained.lower > 0 else "fail", text, numbers | {"chance": values[1]})
    margin = gate.average_precision_margin
    numbers |= {"champion": values[1], "margin": margin}
    text = f"{values[0]:.4f}, champion {values[1]:.4f}: {gained}"
    if gained.upper < 0:
        return Rule(name, "fail", f"{text}; it is worse", numbers)
    if gained.lower >= -margin:
        return Rule(name, "pass", text, numbers)
    return Rule(name, "inconclusive", f"{text}; it may be worse by more than {margin:g}", numbers)


def _segment_rules(
    gate: Gate, holdout: Holdout, *, counted: NDArray[np.bool_], compare: Compare, least: int, what: str
) -> Iterator[Rule]:
    masks = segment_masks(holdout.vectors, holdout.features, gate.segments, columns=holdout.columns)
    return segments_rule(masks, counted, compare, gate=gate, least=least, what=what)


def _error_rules(gate: Gate, known: Sequence[Candidate], holdout: Holdout) -> list[Rule]:
    """Of a regression: the mean absolute error, over all and by segment."""
    errors, rows = [np.abs(one.scores(holdout) - holdout.labels) for one in known], len(holdout.labels)
    rules = [_error_rule(gate, errors, holdout)]
    if len(known) > 1:
        every, compare = np.ones(rows, np.bool_), error_compared(gate, errors)
        rules += _segment_rules(
            gate, holdout, counted=every, compare=compare, least=gate.min_rows, what="the error"
        )
    if rows >= gate.min_rows:
        return rules
    text = f"the holdout has {rows:,} rows; at least {gate.min_rows:,} are needed to say"
    return [Rule(rule.name, "inconclusive", text, rule.numbers) for rule in rules]


def _error_rule(gate: Gate, errors: Sequence[NDArray[np.float64]], holdout: Holdout) -> Rule:
    """A regression's mean absolute error must fall; without a champion it must beat the mean."""
    values = [float(error.mean()) for error in errors]
    numbers: dict[str, Any] = {"challenger": values[0]}
    if len(errors) == 1:
        idle = float(np.abs(holdout.labels - holdout.labels.mean()).mean())
        text = f"{values[0]:.4g}; always saying the mean gives {idle:.4g}"
        return Rule("error", "pass" if values[0] < idle else "fail", text, numbers | {"idle": idle})
    gained: Difference = mean_difference(errors[0] - errors[1], **_drawing(gate))
    numbers |= {"champion": values[1], "difference": asdict(gained)}
    text = f"{values[0]:.4g}, champion {values[1]:.4g}: {gained}"
    if gained.upper < 0:
        return Rule("error", "pass", text, numbers)
    if gained.lower >= 0:
        return Rule("error", "fail", f"{text}; it must fall", numbers)
    return Rule("error", "inconclusive", f"{text}; a gain is not shown", numbers)


def _latency_rule(gate: Gate, challenger: Candidate, holdout: Holdout) -> Rule:
    took = row_latency_ms(challenger.model, holdout.vectors)
    text = f"{took:.3f} ms of processor for one row (p99); at most {gate.max_latency_ms:g} ms is allowed"
    numbers = {"p99_ms": took, "most_ms": gate.max_latency_ms}
    return Rule("latency", "pass" if took <= gate.max_latency_ms else "fail", text, numbers)


def _drawing(gate: Gate) -> dict[str, Any]:
    """How the bootstrap draws: the same each time, so that a verdict can be had again."""
    return {
        "confidence": gate.confidence,
        "resamples": gate.resamples,
        "rng": np.random.default_rng(0),
    }


def _share(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if len(flags) else None


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
