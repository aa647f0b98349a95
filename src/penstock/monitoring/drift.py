"""Drift: whether values come from the distribution that the model was trained on. Pure statistics over counts.

No number says "drift" at every sample size: PSI above 0.1 is what 50 rows show in most cases without any drift. So every
measure has a threshold that follows from the sample sizes, and what decides is a p-value. Of each column:

1. the largest distance between the distribution functions (Kolmogorov-Smirnov, two samples),
2. Pearson's chi-square over up to ten bins of equal mass, or over the values: shapes that the first does not see,
3. the share of missing values (Fisher's exact test),
4. of a column of values, the share of values never seen before (against how often new values were to be expected),

joined by Bonferroni's correction to one p-value a column. Rows that resemble their neighbours count for fewer: all sizes are
divided by how much more the training data differed from stretch to stretch than independent rows do (`clustering`). Over the columns of a report the false discoveries are bounded
(Benjamini-Hochberg or -Yekutieli), so that without drift a report alarms with at most the probability asked for, however
many columns it has. A difference that is certain but smaller than `min_effect` is no alarm: with a million rows every
difference is certain.

PSI is asymptotically chi-square over ``n m / (n + m)``, and Jensen-Shannon an eighth of it; for KS the two-sample
distribution is used at that effective size; for Wasserstein the null distribution is drawn (Brownian bridges over the bins).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from penstock.monitoring.profile import ColumnProfile, Role, Sample

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Method = Literal["bh", "by"]

COARSE_BINS = 10
ROWS_A_BIN = 10
LEAST_EXPECTED = 5.0
MIN_ROWS = 30
"""With fewer rows a column is not judged."""
BRIDGES = 2_000


@dataclass(frozen=True, slots=True)
class Measure:
    """A distance between two distributions, and what it does not exceed without drift."""

    value: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Bin:
    """A stretch of values, or a value, for drawing: shares of the reference and of now."""

    label: str
    reference: float
    now: float


@dataclass(frozen=True, slots=True)
class Tests:
    """The tests of one column: p-values by name, the joined one, and how large the largest difference of shares is."""

    p_values: dict[str, float]
    p_value: float
    effect: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one column among others: its tests and adjusted p-value, None where there were too few rows."""

    tests: Tests | None
    adjusted_p_value: float | None
    drifted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrift:
    """One column of a report.

    Attributes
    ----------
    rows, reference_rows
        Rows with a value, now and in the reference.
    missing, reference_missing, unseen
        Shares.
    psi, ks, wasserstein, jensen_shannon
        Wasserstein's distance in standard deviations of the reference; Jensen-Shannon's with base 2, 0 to 1.
    p_values
        By test.
    p_value, adjusted_p_value
        Joined over the tests, and adjusted for the number of columns; None where there were too few rows to judge.
    effect
        The largest difference of the distribution functions, or of the shares of a value, missing or unseen ones.
    drifted
        Whether it is an alarm.
    """

    name: str
    role: Role
    is_discrete: bool
    rows: int
    reference_rows: int
    missing: float
    reference_missing: float
    unseen: float
    mean: float | None
    reference_mean: float
    psi: Measure
    ks: Measure
    wasserstein: Measure
    jensen_shannon: Measure
    p_values: dict[str, float]
    p_value: float | None
    adjusted_p_value: float | None
    effect: float
    drifted: bool
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The drift of all columns at one time; `drifted` names those that alarm."""

    columns: tuple[ColumnDrift, ...]
    false_alarms: float
    method: Method
    min_effect: float

    @property
    def drifted(self) -> tuple[str, ...]:
        """The columns that alarm."""
        return tuple(column.name for column in self.columns if column.drifted)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"drifted": list(self.drifted), **asdict(self)}


def measure_drift(
    samples: Sequence[Sample],
    *,
    false_alarms: float = 0.05,
    method: Method = "bh",
    min_effect: float = 0.02,
) -> Drift:
    """Compare samples with their references.

    Parameters
    ----------
    samples
        One a column.
    false_alarms
        With which probability at most a report alarms without drift.
    method
        ``"bh"`` (Benjamini-Hochberg), or ``"by"`` (Benjamini-Yekutieli), which holds for any dependence between columns.
    min_effect
        Differences below are no alarm.

    Examples
    --------
    >>> from penstock.monitoring.profile import Sample, profile_column
    >>> draw = np.random.default_rng(0)
    >>> sample = Sample(profile_column("amount", draw.normal(size=20_000)))
    >>> sample.add(draw.normal(size=5_000) + 0.25)
    >>> measure_drift([sample]).drifted
    ('amount',)
    """
    verdicts = judge(samples, false_alarms=false_alarms, method=method, min_effect=min_effect)
    level = false_alarms / max(sum(verdict.tests is not None for verdict in verdicts), 1)
    return Drift(
        columns=tuple(
            _column(sample, verdict, level=level) for sample, verdict in zip(samples, verdicts, strict=True)
        ),
        false_alarms=false_alarms,
        method=method,
        min_effect=min_effect,
    )


def judge(
    samples: Sequence[Sample], *, false_alarms: float, method: Method = "bh", min_effect: float = 0.0
) -> list[Verdict]:
    """The verdict on each column; what `measure_drift` decides by."""
    judged = [i for i, sample in enumerate(samples) if _enough(sample)]
    tests = {i: test_column(samples[i]) for i in judged}
    adjusted = dict(zip(judged, adjust([tests[i].p_value for i in judged], method=method), strict=True))
    return [
        Verdict(
            tests.get(i),
            adjusted.get(i),
            drifted=i in tests and adjusted[i] <= false_alarms and tests[i].effect >= min_effect,
        )
        for i in range(len(samples))
    ]


def adjust(p_values: Sequence[float], *, method: Method = "bh") -> list[float]:
    """P-values adjusted for how many there are, so that those at most alpha bound false discoveries by alpha."""
    from scipy.stats import false_discovery_control

    return list(map(float, false_discovery_control(p_values, method=method))) if p_values else []


def test_column(sample: Sample) -> Tests:
    """Test whether a sample is from the distribution of its reference."""
    reference = sample.reference
    distance = ks_distance(sample)
    now, before = coarse_counts(sample)
    parts = (sample.missing, sample.rows, reference.missing, reference.rows)
    found = {
        "ks": _ks_p_value(distance, _effective(sample)),
        "chi-square": _chi_square_p_value(now, before, clustering=reference.clustering),
        "missing": _fisher_p_value(*(round(part / reference.clustering) for part in parts)),
    }
    effect = max(
        distance, abs(_share(sample.missing, sample.rows) - _share(reference.missing, reference.rows))
    )
    if reference.is_discrete:
        found["unseen"] = _unseen_p_value(sample)
        shares = np.abs(sample.known / max(sample.rows, 1) - np.array(reference.counts) / reference.rows)
        effect = max(effect, float(shares.max(initial=0.0)), sample.unseen / max(sample.rows, 1))
    return Tests(found, min(1.0, len(found) * min(found.values())), effect)


test_column.__test__ = False  # type: ignore[attr-defined] # no test of ours, though its name begins like one


def ks_distance(sample: Sample) -> float:
    """The largest distance between the two distribution functions at the cuts of the reference."""
    reference = sample.reference
    if not sample.rows:
        return 0.0
    now = np.cumsum(sample.counts[:-1]) / sample.rows
    before = np.cumsum(reference.counts) / reference.rows
    return float(np.abs(now - before).max(initial=0.0))


def coarse_counts(sample: Sample) -> tuple[IntArray, IntArray]:
    """Counts now and in the reference over few bins, so that each is expected to hold ten rows or more.

    Bins of numbers have nearly equal mass in the reference. Rare values, and those never seen, share one bin.
    """
    reference = sample.reference
    before = np.array([*reference.counts, 0])
    if reference.is_discrete:
        return _with_rare_together(np.append(sample.known, sample.unseen), before)
    bins = int(np.clip(sample.rows // ROWS_A_BIN, 2, COARSE_BINS))
    # A bin belongs where its middle lies, so that a value that makes up much of the mass does not tip its neighbours.
    middles = (np.cumsum(before) - before / 2) / reference.rows
    place = np.minimum((middles * bins).astype(np.int64), bins - 1)
    now_coarse = np.bincount(place, sample.counts, minlength=bins).astype(np.int64)
    before_coarse = np.bincount(place, before, minlength=bins).astype(np.int64)
    return _with_rare_together(now_coarse, before_coarse)


def population_stability(now: IntArray, before: IntArray) -> float:
    """PSI: the symmetric relative entropy of two tables of counts, each smoothed by half a row a bin."""
    p = (now + 0.5) / (now.sum() + 0.5 * len(now))
    q = (before + 0.5) / (before.sum() + 0.5 * len(before))
    return float(((p - q) * np.log(p / q)).sum())


def wasserstein(sample: Sample) -> float:
    """How far mass has to be moved, in standard deviations of the reference; inside a bin nothing is known to move."""
    reference = sample.reference
    if not sample.rows or not reference.spread:
        return 0.0
    now = np.cumsum(sample.counts[:-1]) / sample.rows
    before = np.cumsum(reference.counts) / reference.rows
    gaps = np.abs(now - before)[:-1] @ np.diff(reference.cuts)
    return float((gaps + sample.excess / sample.rows) / reference.spread)


def _column(sample: Sample, verdict: Verdict, *, level: float) -> ColumnDrift:
    reference, tests = sample.reference, verdict.tests
    now, before = coarse_counts(sample)
    size = _effective(sample)
    each = level / (4 if reference.is_discrete else 3)
    return ColumnDrift(
        name=reference.name,
        role=reference.role,
        is_discrete=reference.is_discrete,
        rows=sample.rows,
        reference_rows=reference.rows,
        missing=_share(sample.missing, sample.rows),
        reference_missing=_share(reference.missing, reference.rows),
        unseen=sample.unseen / max(sample.rows, 1),
        mean=sample.total / sample.rows if sample.rows else None,
        reference_mean=reference.mean,
        psi=Measure(population_stability(now, before), _chi_square_threshold(len(now), each) / size),
        ks=Measure(ks_distance(sample), _ks_threshold(size, each)),
        wasserstein=Measure(wasserstein(sample), _wasserstein_threshold(reference, size, each)),
        jensen_shannon=Measure(
            _jensen_shannon(now, before),
            float(np.sqrt(min(_chi_square_threshold(len(now), each) / (8 * size * np.log(2)), 1.0))),
        ),
        p_values={} if tests is None else tests.p_values,
        p_value=None if tests is None else tests.p_value,
        adjusted_p_value=verdict.adjusted_p_value,
        effect=0.0 if tests is None else tests.effect,
        drifted=verdict.drifted,
        bins=_drawn(sample),
    )


def _enough(sample: Sample) -> bool:
    return min(sample.rows + sample.missing, sample.reference.rows) >= MIN_ROWS


def _effective(sample: Sample) -> float:
    """The size of one sample of independent rows that says as much as the two."""
    rows, reference_rows = sample.rows, sample.reference.rows
    return max(rows * reference_rows / max(rows + reference_rows, 1) / sample.reference.clustering, 1.0)


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part + rest else 0.0


def _with_rare_together(now: IntArray, before: IntArray) -> tuple[IntArray, IntArray]:
    """Bins whose expected count is small are one; if that is small, too, it joins the smallest of the others."""
    together = now + before
    expected = together * min(now.sum(), before.sum()) / max(together.sum(), 1)
    rare = expected < LEAST_EXPECTED
    if rare.any() and not rare.all() and expected[rare].sum() < LEAST_EXPECTED:
        rare[np.argmin(np.where(rare, np.inf, expected))] = True
    if not rare.any():
        return now, before
    return np.append(now[~rare], now[rare].sum()), np.append(before[~rare], before[rare].sum())


def _ks_p_value(distance: float, size: float) -> float:
    from scipy.stats import kstwo

    return float(kstwo.sf(distance, max(round(size), 1)))


def _ks_threshold(size: float, level: float) -> float:
    from scipy.stats import kstwo

    return float(kstwo.isf(level, max(round(size), 1)))


def _chi_square_p_value(now: IntArray, before: IntArray, *, clustering: float) -> float:
    from scipy.stats import chi2

    if len(now) < 2 or not now.sum() or not before.sum():
        return 1.0
    shares = (now + before) / (now.sum() + before.sum())
    statistic = sum(
        float(((counts - counts.sum() * shares) ** 2 / (counts.sum() * shares)).sum())
        for counts in (now, before)
    )
    return float(chi2.sf(statistic / clustering, len(now) - 1))


def _chi_square_threshold(bins: int, level: float) -> float:
    from scipy.stats import chi2

    return float(chi2.isf(level, bins - 1)) if bins > 1 else 0.0


def _fisher_p_value(part: int, rest: int, other_part: int, other_rest: int) -> float:
    from scipy.stats import fisher_exact

    if not part and not other_part:
        return 1.0
    return float(fisher_exact([[part, rest], [other_part, other_rest]]).pvalue)


def _unseen_p_value(sample: Sample) -> float:
    """How likely so many new values are, where every value that occurred once says that another one was missed.

    The chance that the next row has a new value is about the number of values seen once, over all rows (Good and Turing);
    two of its standard deviations and three are added, since it is an estimate, and zero would forbid all new values.
    """
    from scipy.stats import binom

    once = sum(count == 1 for count in sample.reference.counts)
    chance = min((once + 2 * once**0.5 + 3) / max(sample.reference.rows, 1), 1.0)
    rows, unseen = (round(count / sample.reference.clustering) for count in (sample.rows, sample.unseen))
    return float(binom.sf(unseen - 1, max(rows, 1), chance))


def _jensen_shannon(now: IntArray, before: IntArray) -> float:
    from scipy.spatial.distance import jensenshannon

    if not now.sum() or not before.sum():
        return 0.0
    return float(np.nan_to_num(jensenshannon(now, before, base=2)))


def _wasserstein_threshold(reference: ColumnProfile, size: float, level: float) -> float:
    if len(reference.cuts) < 2 or not reference.spread:
        return 0.0
    shares = np.array(reference.counts) / reference.rows
    steps = np.random.default_rng(0).standard_normal((BRIDGES, len(shares))) * np.sqrt(shares)
    walks = np.cumsum(steps, axis=1)
    bridges = walks - np.cumsum(shares) * walks[:, -1:]
    areas = np.abs(bridges[:, :-1]) @ np.diff(reference.cuts) / reference.spread
    return float(np.quantile(areas, 1 - max(level, 2 / BRIDGES)) / np.sqrt(size))


def _drawn(sample: Sample) -> tuple[Bin, ...]:
    """Shares in a few bins or values, as they are drawn."""
    reference = sample.reference
    if not reference.rows or not sample.rows:
        return ()
    if reference.is_discrete:
        order = np.sort(np.argsort(-np.array(reference.counts), kind="stable")[: 2 * COARSE_BINS])
        found = [
            Bin(f"{reference.cuts[i]:g}", reference.counts[i] / reference.rows, sample.known[i] / sample.rows)
            for i in order.tolist()
        ]
        return (*found, Bin("unseen", 0.0, sample.unseen / sample.rows)) if sample.unseen else tuple(found)
    edges = np.linspace(0, len(reference.cuts), 2 * COARSE_BINS + 1).round().astype(np.int64)
    found = []
    for first, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if first < stop:
            last = stop == len(reference.cuts)
            found.append(
                Bin(
                    f"≤ {reference.cuts[stop - 1]:.3g}",
                    sum(reference.counts[first:stop]) / reference.rows,
                    float(sample.counts[first : stop + last].sum()) / sample.rows,
                )
            )
    return tuple(found)
