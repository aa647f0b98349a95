"""To which segment a row belongs, by the values of a feature or a column: the one rule of metrics and of gates.

Texts, truth values and whole numbers (``Int32``, ``Int64``) are segments by value. Numbers with a fraction (``Float32``, ``Float64``)
are segments by range: in a stream, whose rows nobody knows beforehand, by steps of 1, 2, 5, 10, 20, ...; in rows that are all
there (the holdout of a gate) by quarters, or by value where there are few. Null is a segment of its own.

How many segments there are is bounded: of rows that are all there, the values with the most rows are told apart; of stored decisions
those with the most in the windows that are asked for (`penstock.monitoring.segment_counts`). The others count together as ``(other)``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.core.errors import InputError
from penstock.kernel.columns import Numeric, Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.kernel.columns import BoolArray, Column
    from penstock.models.manifest import Feature

FloatArray = npt.NDArray[np.float64]

NONE = "(none)"
OTHER = "(other)"
MOST_SEGMENTS = 20
"""Segments of one feature in rows that are all there."""

_FEW_VALUES = 8
_QUARTERS = (0.25, 0.5, 0.75)
_RANGES = frozenset({"Float32", "Float64"})
_LARGEST_EXPONENT = 15  # numbers from 1e15 on, and those below 1e-15, are one step each


class Coded(NamedTuple):
    """The segment of each row: row i is in ``names[codes[i]]``."""

    codes: npt.NDArray[np.int64]
    names: tuple[str, ...]


def segments_of(column: Column, dtype: str, *, most: int | None = None) -> Coded:
    """The segment of each row of a column.

    Parameters
    ----------
    column
        A feature (NaN is null, too) or a column of the event, n rows.
    dtype
        Its type's name, like ``"String"`` or ``"Float64"``.
    most
        Given: the rows are all that there are, and at most so many values are told apart, by their number of rows. None: they
        are a part of a stream; each row's segment depends on that row alone.

    Examples
    --------
    >>> segments_of(Numeric(np.array([2.0, np.nan, 2.0])), "Int64")
    Coded(codes=array([0, 1, 0]), names=('2', '(none)'))
    >>> segments_of(Numeric(np.array([0.3, 17.0, 19.9, 0.0])), "Float64").names
    ('0', '0.2…0.5', '10…20')
    >>> segments_of(Text.from_strings(["DE", "FR", "DE", "IT"]), "String", most=1)
    Coded(codes=array([0, 1, 0, 1]), names=('DE', '(other)'))
    """
    if isinstance(column, Text):
        found = _of_texts(column.to_strings())
    else:
        valid = np.ones(len(column), np.bool_) if column.valid is None else column.valid
        if column.values.dtype.kind == "f":
            valid = valid & ~np.isnan(column.values)
        if dtype in _RANGES:
            found = _of_ranges(column.values.astype(np.float64), valid, all_there=most is not None)
        else:
            found = _of_values(column.values, valid)
    return found if most is None else most_frequent(found, most)


def most_frequent(segments: Coded, most: int) -> Coded:
    """The `most` segments with the most rows (of equal ones the first by name); all others are ``(other)``. Null stays.

    >>> most_frequent(Coded(np.array([0, 1, 2, 1, 2]), ("a", "b", "c")), 2)
    Coded(codes=array([2, 0, 1, 0, 1]), names=('b', 'c', '(other)'))
    """
    counts = np.bincount(segments.codes, minlength=len(segments.names)).tolist()
    real = [i for i, name in enumerate(segments.names) if name != NONE]
    if len(real) <= most:
        return segments
    kept = sorted(sorted(real, key=lambda i: (-counts[i], segments.names[i]))[:most])
    kept += [i for i, name in enumerate(segments.names) if name == NONE]
    places = np.full(len(segments.names), len(kept), np.int64)
    places[kept] = np.arange(len(kept))
    return Coded(places[segments.codes], (*(segments.names[i] for i in kept), OTHER))


def segment_masks(
    vectors: FloatArray,
    features: Sequence[Feature],
    names: Sequence[str] | None,
    *,
    columns: Mapping[str, tuple[Column, str]] | None = None,
    most: int = MOST_SEGMENTS,
) -> dict[str, BoolArray]:
    """The rows of each segment, bool of shape [n], by a name that says which: of rows that are all there.

    Parameters
    ----------
    vectors, features
        float64[n, features], and what its columns are.
    names
        Features to group by, by full name or by what follows its last dot, or of `columns`; None: every Bool feature.
    columns
        Further columns by name (those of the event, like texts, of which models have none), each with its type's name.
    most
        Segments of one feature that are told apart.

    Raises
    ------
    InputError
        When a name is no feature, or several.

    Examples
    --------
    >>> from penstock.models.manifest import Feature
    >>> rows = np.array([[0.0], [1.0], [1.0], [np.nan]])
    >>> masks = segment_masks(rows, [Feature("payment.night", "Bool")], None)
    >>> {name: int(mask.sum()) for name, mask in masks.items()}
    {'payment.night = 0': 1, 'payment.night = 1': 2, 'payment.night is null': 1}
    """
    known = columns or {}
    chosen = [f.name for f in features if f.dtype == "Bool"] if names is None else names
    masks: dict[str, BoolArray] = {}
    for asked in chosen:
        at = _index(asked, features, known)
        name = asked if at is None else features[at].name
        column, dtype = known[asked] if at is None else (Numeric(vectors[:, at]), features[at].dtype)
        masks |= _masks(name, segments_of(column, dtype, most=most))
    return masks


def _index(name: str, features: Sequence[Feature], columns: Mapping[str, tuple[Column, str]]) -> int | None:
    """Which feature a name means; None: a column. A feature's whole name goes before the column of that name."""
    found = [i for i, feature in enumerate(features) if name == feature.name]
    if not found and name in columns:
        return None
    found = found or [i for i, feature in enumerate(features) if name == feature.name.rpartition(".")[2]]
    if len(found) == 1:
        return found[0]
    allowed = [feature.name for feature in features] + list(columns)
    raise InputError(
        f"gate: the segment {name!r} names {len(found)} features; allowed are {', '.join(allowed)}. Name one of these."
    )


def _masks(name: str, segments: Coded) -> dict[str, BoolArray]:
    masks = {}
    for code, value in enumerate(segments.names):
        mask = segments.codes == code
        if mask.any():
            masks[f"{name} is null" if value == NONE else f"{name}{_relation(value)}"] = mask
    return masks


def _relation(value: str) -> str:
    """``= DE``, ``in (1, 2]``, ``> 2``."""
    return f" {value}" if value.startswith(("> ", "in (")) else f" = {value}"


def _of_texts(texts: Sequence[str | None]) -> Coded:
    numbers: dict[str | None, int] = {}
    codes = np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)
    return Coded(codes, tuple(NONE if text is None else text for text in numbers))


def _of_values(values: npt.NDArray[Any], valid: BoolArray) -> Coded:
    """By value; null, where there is one, comes last."""
    distinct, codes = np.unique(values[valid], return_inverse=True)
    return _with_nulls(codes, tuple(_name(value) for value in distinct.tolist()), valid)


def _of_ranges(values: FloatArray, valid: BoolArray, *, all_there: bool) -> Coded:
    if not all_there:
        return _of_steps(values, valid)
    known = values[valid]
    if len(np.unique(known)) <= _FEW_VALUES:
        return _of_values(values, valid)
    cuts = np.unique(np.quantile(known, _QUARTERS, method="inverted_cdf"))
    edges = [-np.inf, *cuts.tolist(), np.inf]
    names = [f"> {low:g}" if high == np.inf else f"in ({low:g}, {high:g}]" for low, high in pairwise(edges)]
    return _with_nulls(np.searchsorted(cuts, known, side="left"), tuple(names), valid)


def _of_steps(values: FloatArray, valid: BoolArray) -> Coded:
    """By steps of 1, 2, 5, 10, ... away from 0: which step a number is in does not depend on any other number."""
    steps = _steps()
    signed = np.sign(values[valid]) * np.searchsorted(steps, np.abs(values[valid]), side="right")
    distinct, codes = np.unique(signed.astype(np.int64), return_inverse=True)
    return _with_nulls(codes, tuple(map(_step_name, distinct.tolist())), valid)


def _steps() -> FloatArray:
    exponents = range(-_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    return np.array([float(f"{lead}e{exponent}") for exponent in exponents for lead in (1, 2, 5)])


def _step_name(step: int) -> str:
    """How a step is said; steps below 0 are those above it, mirrored. The innermost one, around 0, is ``0``."""
    edges, place = _steps(), abs(step)
    if place == 0:
        return "0"
    low = f"{edges[place - 1]:g}"
    high = f"{edges[place]:g}" if place < len(edges) else None
    if step > 0:
        return f"from {low}" if high is None else f"{low}…{high}"
    return f"to -{low}" if high is None else f"-{high}…-{low}"


def _with_nulls(codes: npt.NDArray[Any], names: tuple[str, ...], valid: BoolArray) -> Coded:
    """The segments of all rows, of which the `valid` ones have these codes; a segment with nulls comes last."""
    if valid.all():
        return Coded(codes.astype(np.int64), names)
    every = np.full(len(valid), len(names), np.int64)
    every[valid] = codes
    return Coded(every, (*names, NONE))


def _name(value: Any) -> str:
    """A value as short as it can be said without becoming another's."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)
