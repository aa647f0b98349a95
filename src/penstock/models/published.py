"""Published copies of learners: what scores, as values that never change. Data where possible, sealed objects where not.

A linear model is its numbers, boosted trees are XGBoost's bytes. Trees of River and whatever else only its library can
evaluate travels as bytes of `online_state.dump`, and is opened only after its seal was checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numba import types

from penstock.core.errors import ModelError
from penstock.kernel.jit import entry
from penstock.models.links import LINKS, LinkName
from penstock.models.runtimes import check_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS = types.Array(types.float64, 2, "C", readonly=True)
_NUMBERS = types.Array(types.float64, 1, "C", readonly=True)
_SURE = 30.0
"""From these log-odds on River says 0 or 1."""

Scores = Callable[["NDArray[np.float64]"], "NDArray[np.float64]"]


class Linear(msgspec.Struct, frozen=True, tag=True):
    """``link(sum((x - mean) / scale * weight) + intercept)``; a null, and a feature of scale 0, counts as its mean.

    Each field but the last two holds float64 bytes, one number a feature.
    """

    mean: bytes
    scale: bytes
    weights: bytes
    intercept: float
    logistic: bool


class Boosted(msgspec.Struct, frozen=True, tag=True):
    """Trees of XGBoost, as UBJ."""

    ubj: bytes
    link: LinkName


class Object(msgspec.Struct, frozen=True, tag=True):
    """A learner that scores by its own library, as bytes of `online_state.dump`, and whether its score can be taken apart."""

    learner: bytes
    has_reasons: bool = False


class Mean(msgspec.Struct, frozen=True, tag=True):
    """The mean of the scores of several."""

    members: tuple[Linear | Boosted | Object | Constant | Mean | Near | Tailed, ...]


class Constant(msgspec.Struct, frozen=True, tag=True):
    """The same score for everything: of a learner that has learned nothing yet."""

    score: float


class Near(msgspec.Struct, frozen=True, tag=True):
    """How far a row is from the nearest `neighbours` of `rows`, which are whitened: see `penstock.models.neighbours`.

    Each other field holds float64 bytes: one number a feature, one a pair of features, one a row and feature.
    """

    mean: bytes
    whitener: bytes
    rows: bytes
    neighbours: int


class TailNumbers(msgspec.Struct, frozen=True):
    """Past raw scores, ascending float64, and the distribution of those beyond `start`: see `penstock.models.tails`."""

    past: bytes
    start: float
    shape: float
    scale: float


class Tailed(msgspec.Struct, frozen=True, tag=True):
    """How few of its past scores were as high as a detector's."""

    detector: Linear | Boosted | Object | Constant | Mean | Near | Tailed
    tail: TailNumbers


Form = Linear | Boosted | Object | Mean | Constant | Near | Tailed


class Published(msgspec.Struct, frozen=True):
    """A published copy and where in the log it stands.

    Attributes
    ----------
    form
        What scores.
    labels
        How many labels it has learned.
    position
        The position in the log at which the last of them was known and joined to its event.
    definition
        Fingerprint of what is learned and how.
    log, erasures
        The id of the log, and how many keys had been forgotten in it.
    """

    form: Form
    labels: int
    position: int
    definition: str = ""
    log: str = ""
    erasures: int = 0

    @property
    def learns(self) -> tuple[str, str, int]:
        """What, and from which log: copies of the same follow each other by their labels."""
        return self.definition, self.log, self.erasures

    def replaces(self, other: Published | None) -> bool:
        """Whether this one is to serve after `other`: not while it is behind, as when all is learned anew."""
        return other is None or self.learns != other.learns or self.labels >= other.labels


_ENCODER, _DECODER = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Published)


def encode(copy: Published) -> bytes:
    """The copy as bytes."""
    return _ENCODER.encode(copy)


def decode(data: bytes) -> Published:
    """The copy of `encode`, whose seal has been checked."""
    return _DECODER.decode(data)


class OnlineModel:
    """A published copy, ready to score: see `penstock.models.runtimes.ScoringModel`.

    Parameters
    ----------
    copy
        What was published.
    version
        The version's name; decisions record it with the number of labels: ``fraud:1+12800``.
    digest
        SHA-256 of the copy.
    """

    __slots__ = ("_columns", "_scores", "digest", "feature_names", "labels", "version")

    def __init__(self, copy: Published, *, version: str, digest: str, feature_names: tuple[str, ...]) -> None:
        self._columns = len(feature_names)
        self._scores = scores_of(copy.form, features=self._columns)
        self.labels = copy.labels
        self.version, self.digest, self.feature_names = f"{version}+{copy.labels}", digest, feature_names

    def score(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `ScoringModel.score`."""
        return self._scores(check_vectors(vectors, columns=self._columns))


def scores_of(form: Form, *, features: int) -> Scores:
    """The function that scores rows by `form`."""
    match form:
        case Linear():
            return _linear(form)
        case Boosted():
            return _boosted(form, features)
        case Mean(members):
            return _mean([scores_of(member, features=features) for member in members])
        case Constant(score):
            return lambda vectors: np.full(len(vectors), score)
        case Near() | Tailed():
            return _detected(form, features)
        case Object(learner, _):
            from penstock.models.online_state import load

            own: Scores = load(learner).score
            return _guarded(own)


def linear(
    mean: list[float], scale: list[float], weights: list[float], *, intercept: float, logistic: bool
) -> Linear:
    """A linear form of numbers, one a feature."""
    packed = tuple(np.array(numbers, np.float64).tobytes() for numbers in (mean, scale, weights))
    return Linear(packed[0], packed[1], packed[2], float(intercept), logistic)


def is_finite(form: Linear) -> bool:
    """Whether all of its numbers are."""
    arrays = [np.frombuffer(data) for data in (form.mean, form.scale, form.weights)]
    return math.isfinite(form.intercept) and all(np.isfinite(array).all() for array in arrays)


def _linear(form: Linear) -> Scores:
    mean, scale, weights = (np.frombuffer(data) for data in (form.mean, form.scale, form.weights))
    intercept, logistic = form.intercept, int(form.logistic)

    def scores(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        out = np.empty(len(vectors))
        _weigh(vectors, mean, scale, weights, intercept, logistic, out)
        return out

    return scores


@entry(types.void, _ROWS, _NUMBERS, _NUMBERS, _NUMBERS, types.float64, types.int64, types.float64[::1])
def _weigh(  # noqa: PLR0917 - compiled
    vectors: NDArray[np.float64],
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    weights: NDArray[np.float64],
    intercept: float,
    logistic: int,
    out: NDArray[np.float64],
) -> None:
    """Feature after feature, as River adds them up, so that the sum has its bits."""
    for i in range(len(out)):
        total = 0.0
        for j in range(len(weights)):
            x = vectors[i, j]
            if x - x == 0.0 and scale[j] != 0.0:  # neither null nor infinite
                total += (x - mean[j]) / scale[j] * weights[j]
        total += intercept
        if logistic == 0 or total != total:
            out[i] = total
        elif total < -_SURE:
            out[i] = 0.0
        elif total > _SURE:
            out[i] = 1.0
        else:
            out[i] = 1.0 / (1.0 + math.exp(-total))


def _boosted(form: Boosted, features: int) -> Scores:
    from penstock.models.booster import Booster
    from penstock.models.verification import forest_of

    booster = Booster(form.ubj, features=features)
    forest, link = forest_of(booster), LINKS[form.link]
    return lambda vectors: link(forest.sums(vectors))


def _mean(members: list[Scores]) -> Scores:
    def scores(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        total = members[0](vectors)
        for member in members[1:]:
            total = total + member(vectors)
        return total / len(members)

    return scores


def _detected(form: Near | Tailed, features: int) -> Scores:
    if isinstance(form, Near):
        from penstock.models.neighbours import near_scores

        return near_scores(form)
    from penstock.models.tails import below

    raw, tail = scores_of(form.detector, features=features), form.tail
    return lambda vectors: below(tail, raw(vectors))


def _guarded(own: Scores) -> Scores:
    """The library's scores; what it raises is a `ModelError`, so that the decision is degraded and not lost."""

    def scores(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        try:
            return own(vectors)
        except (ArithmeticError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"Published copy: its library failed on {len(vectors)} rows ({error}). The copy before it can be put back: "
                "penstock registry rollback."
            ) from error

    return scores
