"""Routes: which arm decides on which event. Pure.

Arms share the keys by weighted rendezvous hashing: each arm draws an exponential waiting time with its weight as rate from the
hash of key and arm, and the shortest wins. So a key stays with its arm while the weights stay; a weight that grows moves keys to
its arm and none between the others; and experiments on other endpoints divide the same keys independently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.engine.ports import Scorer
from penstock.kernel.columns import Columns, IntArray
from penstock.kernel.hashing import encode_keys, hash_text

HashArray = npt.NDArray[np.uint64]
FloatArray = npt.NDArray[np.float64]
ByteArray = npt.NDArray[np.uint8]

Events = tuple[Columns, IntArray]
"""The columns of events, and where they stand in the log."""

_TO_UNIT = 2.0**-53


class DecidedBy(msgspec.Struct, array_like=True, frozen=True):
    """Who decided: an arm, the model version in it and that version's digest; empty texts where there was none."""

    arm: str = ""
    version: str = ""
    digest: str = ""


_NOBODY = (DecidedBy(),)


class RouteArm:
    """An arm in force.

    Parameters
    ----------
    name, weight
        As defined, or as set since.
    scorer
        Its model.
    columns
        int64: which columns of an endpoint's row the model reads; None: all of them.
    thresholds
        Those that its version brings along, one for each of the endpoint's; None: the endpoint's.
    """

    __slots__ = ("_named", "columns", "name", "scorer", "thresholds", "weight")

    def __init__(
        self,
        name: str,
        weight: float,
        scorer: Scorer,
        columns: IntArray | None = None,
        *,
        thresholds: tuple[float, ...] | None = None,
    ) -> None:
        self.name, self.weight, self.scorer, self.columns = name, weight, scorer, columns
        self.thresholds = thresholds
        self._named = DecidedBy(name, scorer.version, scorer.digest)

    @property
    def named(self) -> DecidedBy:
        """How decisions name it: the version with which this thread scored last, for one that learns is many."""
        scorer, named = self.scorer, self._named
        if named.version != scorer.version or named.digest != scorer.digest:
            self._named = named = DecidedBy(self.name, scorer.version, scorer.digest)
        return named

    def score(self, vectors: FloatArray) -> FloatArray:
        """The model's scores of float64[n, F] rows of the endpoint's features."""
        return self.scorer.score(vectors if self.columns is None else vectors[:, self.columns])


class Route:
    """The arms of an endpoint that have a model, at one moment; another route replaces it as a whole.

    Parameters
    ----------
    endpoint
        The endpoint's name; part of what is hashed.
    serving
        The arms that decide, with weights above 0.
    shadows
        Those that only look on.
    sticky
        The key columns by which arms share the events.
    """

    __slots__ = ("endpoint", "serving", "shadows", "sticky")

    def __init__(
        self,
        endpoint: str,
        serving: Sequence[RouteArm] = (),
        *,
        shadows: Sequence[RouteArm] = (),
        sticky: tuple[str, ...] = (),
    ) -> None:
        self.endpoint, self.sticky = endpoint, sticky
        self.serving, self.shadows = tuple(serving), tuple(shadows)

    @property
    def named(self) -> tuple[DecidedBy, ...]:
        """How decisions name the arms that serve."""
        return tuple([arm.named for arm in self.serving]) or _NOBODY


def choose_arms(route: Route, columns: Columns, positions: IntArray) -> ByteArray:
    """For each event the index of its arm among those that serve; an event without a key is taken by its position."""
    keys = encode_keys([columns[name] for name in route.sticky])
    hashes = hash_text(keys, 0)
    if keys.valid is not None:
        hashes = np.where(keys.valid, hashes, _mixed(positions.astype(np.uint64)))
    return rendezvous(hashes, [(f"{route.endpoint}/{arm.name}", arm.weight) for arm in route.serving])


def rendezvous(hashes: HashArray, weights: Sequence[tuple[str, float]]) -> ByteArray:
    """For each hash the index of the winner among named weights.

    Examples
    --------
    >>> hashes = np.arange(100_000, dtype=np.uint64)
    >>> before = rendezvous(hashes, [("a", 90), ("b", 10)])
    >>> after = rendezvous(hashes, [("a", 90), ("b", 30)])
    >>> round(float(np.mean(before == 1)), 2), round(float(np.mean(after == 1)), 2)
    (0.1, 0.25)
    >>> bool(np.all(after[before == 1] == 1))
    True
    """
    waits = np.empty((len(weights), len(hashes)))
    for i, (name, weight) in enumerate(weights):
        waits[i] = -np.log1p(-unit_draws(hashes, name)) / weight
    winners: ByteArray = waits.argmin(axis=0).astype(np.uint8)
    return winners


def unit_draws(hashes: HashArray, name: str) -> FloatArray:
    """For each hash a number in [0, 1), always the same for the same name, and independent between names.

    >>> unit_draws(np.arange(3, dtype=np.uint64), "a").round(3).tolist()
    [0.658, 0.181, 0.759]
    """
    return (_mixed(hashes ^ _seed(name)) >> np.uint64(11)).astype(np.float64) * _TO_UNIT


@cache
def _seed(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))


def _mixed(values: HashArray) -> HashArray:
    """Each bit of the result depends on every bit of the value (the finalizer of SplitMix64)."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
