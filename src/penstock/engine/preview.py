"""Trying a view's function on a frame, as the engine would call it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.core.errors import InputError
from penstock.core.types import Bool, Field, Timestamp
from penstock.definitions.sources import RequestSource
from penstock.definitions.views import FeatureReference, FeatureView, StreamFeatureView, source_schema
from penstock.engine.frames import table_columns, to_arrow, to_table
from penstock.engine.transform import by_name, call_realtime, call_view
from penstock.kernel.columns import Columns


def run_view(view: FeatureView, input_data: Any) -> Any:
    """The pyarrow Table that `view`'s function makes of `input_data`.

    Parameters
    ----------
    input_data
        A frame with the source's columns; for a realtime view one frame a source, in order.
    """
    owner = f"feature view {view.name!r}"
    if isinstance(view, StreamFeatureView):
        fields = source_schema(view.source)
        columns = table_columns(to_table(input_data, owner=owner), fields, owner=owner)
        wanted = {f.name: f for f in (*view.join_keys, Field(view.timestamp_field, Timestamp))}
        wanted |= {a.input_column.name: a.input_column for a in view.features}
        wanted |= {a.where: Field(a.where, Bool) for a in view.features if a.where}
        made = call_view(
            view.function, view.mode, columns, by_name(fields), list(wanted.values()), owner=owner
        )
        return _table(made.columns, list(wanted.values()))
    frames = list(input_data) if isinstance(input_data, list | tuple) else [input_data]
    if len(frames) != len(view.sources):
        raise InputError(
            f"{owner}: {len(frames)} frames were given for {len(view.sources)} sources; give one each."
        )
    arguments = []
    for frame, source in zip(frames, view.sources, strict=True):
        fields = _fields(source)
        arguments.append((table_columns(to_table(frame, owner=owner), fields, owner=owner), by_name(fields)))
    attributes = [Field(a.name, a.dtype) for a in view.features]
    return _table(call_realtime(view.function, view.mode, arguments, attributes, owner=owner), attributes)


def inputs_by_name(view: FeatureView, frames: Mapping[str, Any]) -> Any:
    """What `run_view` takes, from frames by the names of the view's sources.

    Raises `InputError` where one is missing, or a name is no source of the view.
    """
    stream = isinstance(view, StreamFeatureView)
    names = [view.source.name] if isinstance(view, StreamFeatureView) else [one.name for one in view.sources]
    if set(frames) != set(names):
        raise InputError(
            f"feature view {view.name!r}: mock_inputs has {', '.join(map(repr, frames)) or 'nothing'}; its sources are "
            f"{', '.join(map(repr, names))}. Give one frame each."
        )
    return frames[names[0]] if stream else [frames[name] for name in names]


def _fields(source: RequestSource | FeatureReference) -> tuple[Field, ...]:
    if isinstance(source, RequestSource):
        return source.schema
    return tuple(Field(name, dtype, optional=True) for name, dtype in source.feature_types.items())


def _table(columns: Columns, fields: Sequence[Field]) -> Any:
    import pyarrow as pa

    return pa.table({f.name: to_arrow(columns[f.name], f.dtype) for f in fields})
