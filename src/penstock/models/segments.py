"""Groups of rows by the values of a feature, in which a model must not be worse."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from penstock.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from penstock.models.manifest import Feature

_FEW_VALUES = 8
_QUARTERS = (0.25, 0.5, 0.75)


def segment_masks(
    vectors: NDArray[np.float64], features: Sequence[Feature], names: Sequence[str] | None
) -> dict[str, NDArray[np.bool_]]:
    """The rows of each group, bool of shape [n], by a name that says which.

    A feature of few values has a group for each of them, others have quarters; nulls are a group.

    Parameters
    ----------
    names
        Features to group by, by full name or by what follows its last dot; None: every Bool feature.

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
    chosen = [f.name for f in features if f.dtype == "Bool"] if names is None else names
    masks: dict[str, NDArray[np.bool_]] = {}
    for name in chosen:
        at = _index(name, features)
        masks |= _groups(features[at].name, vectors[:, at])
    return masks


def _index(name: str, features: Sequence[Feature]) -> int:
    found = [
        i for i, feature in enumerate(features) if name in {feature.name, feature.name.rpartition(".")[2]}
    ]
    if len(found) == 1:
        return found[0]
    raise InputError(
        f"gate: the segment {name!r} names {len(found)} features; the model has "
        f"{', '.join(feature.name for feature in features)}. Name one of these."
    )


def _groups(name: str, values: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    there = ~np.isnan(values)
    distinct = np.unique(values[there])
    masks = {}
    if len(distinct) <= _FEW_VALUES:
        masks = {f"{name} = {value:g}": values == value for value in distinct}
    else:
        cuts = np.unique(np.quantile(values[there], _QUARTERS, method="inverted_cdf"))
        edges = [-np.inf, *cuts.tolist(), np.inf]
        for low, high in pairwise(edges):
            text = f"{name} > {low:g}" if high == np.inf else f"{name} in ({low:g}, {high:g}]"
            masks[text] = (values > low) & (values <= high)
    if not there.all():
        masks[f"{name} is null"] = ~there
    return {text: mask for text, mask in masks.items() if mask.any()}
