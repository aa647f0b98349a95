"""What features are called where people read reasons: their descriptions, or phrases made of their definitions."""

from __future__ import annotations

from penstock.core.time import format_duration, to_us
from penstock.core.types import Bool
from penstock.definitions.aggregates import Aggregate, windows_of
from penstock.definitions.services import FeatureService
from penstock.definitions.views import Attribute
from penstock.definitions.windows import LifetimeWindow
from penstock.models.reasons import Words

_FUNCTIONS = {
    "count": "number of {} values",
    "sum": "total {}",
    "mean": "average {}",
    "min": "smallest {}",
    "max": "largest {}",
    "count_distinct": "number of different {} values",
    "first": "first {}",
    "last": "last {}",
    "stddev": "spread of {}",
    "variance": "spread (squared) of {}",
}

_OF_BOOLS = {"count": "number of known {}", "sum": "number of {}", "mean": "share of {}"}


def words_of(service: FeatureService) -> dict[str, Words]:
    """How each feature of a service (``view.feature``) is called: its description, or made of its definition."""
    found: dict[str, Words] = {}
    for reference in service.features:
        of_view = {feature.name: feature for feature in reference.view.features}
        for name, dtype in reference.feature_types.items():
            feature = of_view.get(name)
            phrase = name if feature is None else phrase_of(feature)
            found[f"{reference.name}.{name}"] = Words(phrase, is_bool=dtype is Bool)
    return found


def phrase_of(feature: Aggregate | Attribute) -> str:
    """How a feature is called where people read it.

    >>> from datetime import timedelta
    >>> from penstock.types import Field, Float64
    >>> phrase_of(Aggregate(Field("amount", Float64), "mean", time_window=timedelta(hours=1)))
    'average amount in the last 1h'
    >>> phrase_of(Attribute("ratio", Float64, description="amount against the card's usual one"))
    "amount against the card's usual one"
    """
    if feature.description:
        return feature.description
    if isinstance(feature, Attribute):
        return feature.name.replace("_", " ")
    column = feature.input_column.name.replace("_", " ")
    known = _FUNCTIONS | _OF_BOOLS if feature.input_column.dtype is Bool else _FUNCTIONS
    what = known.get(str(feature.function), f"{str(feature.function).replace('_', ' ')} of {{}}").format(
        column
    )
    where = f" where {feature.where.replace('_', ' ')}" if feature.where else ""
    return f"{what}{where} {_when(feature)}"


def _when(feature: Aggregate) -> str:
    if isinstance(feature.time_window, LifetimeWindow):
        return "ever"
    longest = windows_of(feature.time_window)[-1]
    until = f", up to {format_duration(-to_us(longest.offset))} ago" if longest.offset else ""
    return f"in the last {format_duration(to_us(longest.window_size))}{until}"
