"""Which views need a column of their source: found by trying their functions without it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from penstock.core.errors import TransformError
from penstock.core.types import Bool, Field, Timestamp
from penstock.definitions.sources import LabelSource, RequestSource
from penstock.definitions.views import FeatureView, StreamFeatureView, source_schema
from penstock.engine.generated import generated_column
from penstock.engine.transform import call_view
from penstock.kernel.columns import Columns


def views_needing(views: Iterable[FeatureView], source: str, column: Field) -> list[str]:
    """The names of those `views` that do not work without `column` of `source`.

    A function needs it if it fails on a few made-up rows without it. One that fails on any made-up rows counts as needing
    every column, since more cannot be told.
    """
    return [view.name for view in views if _needs(view, source, column)]


def _needs(view: FeatureView, source: str, column: Field) -> bool:
    if not isinstance(view, StreamFeatureView):
        requests = (one for one in view.sources if isinstance(one, RequestSource))
        return any(field.name == column.name for one in requests for field in one.schema)
    of = view.source.of.name if isinstance(view.source, LabelSource) else ""
    if source not in {view.source.name, of}:
        return False
    if view.function is None:
        return column.name in {field.name for field in view.columns}
    others = tuple(f for f in source_schema(view.source) if f.name != column.name)
    return not _works(view, others)


def _works(view: StreamFeatureView, fields: tuple[Field, ...]) -> bool:
    draw = np.random.default_rng(0)
    times = np.arange(4) * 1_000_000
    rows = Columns(4, {f.name: generated_column(Field(f.name, f.dtype), draw, times) for f in fields})
    wanted = {f.name: f for f in (*view.join_keys, Field(view.timestamp_field, Timestamp))}
    wanted |= {a.input_column.name: a.input_column for a in view.features}
    wanted |= {a.where: Field(a.where, Bool) for a in view.features if a.where}
    try:
        call_view(
            view.function,
            view.mode,
            rows,
            {f.name: f for f in fields},
            list(wanted.values()),
            owner=view.name,
        )
    except TransformError:
        return False
    return True
