"""The oracle, part three: what every event's features are, given the records accepted before it.

`ReferenceEngine.accept` takes accepted records one at a time, in log order, and answers each event of the driving
source with its features. Nothing is incremental but the lists of rows in `penstock.testing.reference`.

1. An event first enters the views over its own stream, each by that view's function. Then its features are read.
   A view that kept it answers with what it saw on entering. A view that dropped it, or a view over another source,
   is asked for the event's key at the event's time. So is a view with a join key map, after the event has entered.
2. A label waits for its event, and an event for its label: whichever comes later brings the row (the event's
   columns, the label, and the time at which it was known) into the views over the labels. An event that comes
   second is answered first, so it never sees its own label. Only the first label of an event enters.
3. A row of a batch source enters the views over it, at its timestamp plus the source's delay; none answers it.
4. An event with a null in a key has no key: it enters nothing and is answered the empty values.

Where the design is silent, this is decided:

* A view answers an event that it kept as of the time in the view's `timestamp_field`; look-ups are made as of the
  source's time field. A row whose time in the view is null is treated as one whose key is null.
* All texts of a record are in NFC once it is accepted; so are the keys that a view's function makes.
* A dropped event is looked up by the key columns of the source; where the source has none of that name, the key is
  null. A label row whose function drops it, or whose key is null, does not enter; the label is used up all the same.
* A Float32 column of a source keeps the value that was accepted; a Float32 attribute is rounded to Float32.
* A view's function must return every key, the time, and every column that is aggregated, in its type. A realtime
  view must return every attribute and may not drop the event. Otherwise the oracle raises.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.core.errors import InputError, NotFoundError
from penstock.core.time import to_us
from penstock.core.types import Bool, DataType, Field, Float64, Timestamp
from penstock.definitions.batch_sources import BatchSource
from penstock.definitions.batch_views import BatchFeatureView
from penstock.definitions.sources import EventSource, LabelSource, RequestSource, StreamSource
from penstock.definitions.views import RealtimeFeatureView, StreamFeatureView, source_schema
from penstock.testing.reference import Feature, ReferenceView, Value
from penstock.testing.reference_rows import call_on_row, cast
from penstock.testing.reference_secondary import ReferenceSecondaryView

if TYPE_CHECKING:
    from penstock.definitions.views import FeatureReference

Record = dict[str, Value]
Features = dict[str, Feature]


class ReferenceEngine:
    """The features of every event of one stream.

    Parameters
    ----------
    references
        The features wanted, in order.
    source
        The stream whose events are answered.
    max_keys
        The bound on keys of every view; None for no bound.
    """

    def __init__(
        self, references: Sequence[FeatureReference], *, source: StreamSource, max_keys: int | None = None
    ) -> None:
        self.references = tuple(references)
        self.source = source
        self.views = {view.name: view for view in stream_views(references)}
        self.sources = {s.name: s for s in needed_sources(source, self.views.values())}
        self.states = {view.name: state_of(view, max_keys=max_keys) for view in self.views.values()}
        self._events: dict[str, dict[Hashable, Record]] = {name: {} for name in self.sources}
        self._labels: dict[str, dict[Hashable, Record]] = {name: {} for name in self.sources}

    def accept(self, source_name: str, record: Mapping[str, Any]) -> Features | None:
        """Take the next accepted record; the features of an event of the driving source, by ``view.feature``.

        Times are microseconds since 1970-01-01 UTC. Columns that are left out are null.
        """
        if source_name not in self.sources:
            raise NotFoundError(
                f"ReferenceEngine: source {source_name!r} feeds none of its features; there are "
                f"{', '.join(self.sources)}. Give it records of these."
            )
        source = self.sources[source_name]
        if isinstance(source, LabelSource):
            self._accept_label(source, typed(record, source.schema))
            return None
        if isinstance(source, BatchSource):
            self._accept_batch_row(source, typed(record, source.schema))
            return None
        return self._accept_event(source, typed(record, source.schema))

    def ask(self, record: Mapping[str, Any], time_us: int) -> Features:
        """What a key is answered that is no event: everything accepted so far, as of a time.

        `record` holds the keys and the request's columns.
        """
        asked = {name: as_accepted(value, self._type_of(name)) for name, value in record.items()}
        return self._answer({**asked, self.source.time_field: time_us}, {})

    def _type_of(self, name: str) -> DataType:
        keys = {key.name: key.dtype for view in self.views.values() for key in view.join_keys}
        return (keys | {field.name: field.dtype for field in self.source.schema})[name]

    def _accept_batch_row(self, source: BatchSource, row: Record) -> None:
        for view in self.views.values():
            if view.source.name == source.name:
                self._enter(view, row)

    # --- events ---------------------------------------------------------------------------------

    def _accept_event(self, source: StreamSource, event: Record) -> Features | None:
        own = {
            view.name: self._enter(view, event)
            for view in self.views.values()
            if view.source.name == source.name
        }
        answer = self._answer(event, own) if source.name == self.source.name else None
        self._meet_waiting_labels(source, event)
        return answer

    def _enter(self, view: StreamFeatureView, row: Record) -> Features | None:
        """Bring a row into a view; the features that it sees there, None where the view drops it."""
        made = transformed(view, row)
        if made is None:
            return None
        key, time_us = key_of(view, made), made[view.timestamp_field]
        if key is None or not isinstance(time_us, int) or before_start(view, time_us):
            return self.states[view.name].empty()
        if isinstance(view.source, BatchSource):
            time_us += to_us(view.source.data_delay)
        return self.states[view.name].apply(key, time_us, made).features

    def _answer(self, event: Record, own: Mapping[str, Features | None]) -> Features:
        answer: Features = {}
        for reference in self.references:
            if isinstance(reference.view, RealtimeFeatureView):
                features = self._realtime(reference.view, event, own)
            else:
                features = self._windowed(reference, event, own)
            answer.update({f"{reference.name}.{name}": features[name] for name in reference.features})
        return answer

    def _windowed(
        self, reference: FeatureReference, event: Record, own: Mapping[str, Features | None]
    ) -> Features:
        view = self.views[reference.view.name]
        entered = own.get(view.name)
        if entered is not None and not reference.join_key_map:
            return entered
        key = key_of(view, event, join_key_map=dict(reference.join_key_map))
        if key is None:
            return self.states[view.name].empty()
        time_us = event[self.source.time_field]
        assert isinstance(time_us, int), "an accepted event has a time"
        return self.states[view.name].lookup(key, time_us)

    def _realtime(
        self, view: RealtimeFeatureView, event: Record, own: Mapping[str, Features | None]
    ) -> Features:
        arguments: list[tuple[Sequence[Field], Mapping[str, Any]]] = []  # no array is an argument
        for source in view.sources:
            if isinstance(source, RequestSource):
                arguments.append((self._requested(source), event))
            else:
                fields = [Field(n, dtype, optional=True) for n, dtype in source.feature_types.items()]
                arguments.append((fields, self._windowed(source, event, own)))
        made = call_on_row(view.function, view.mode, arguments)
        if made is None:
            raise InputError(
                f"realtime feature view {view.name!r}: the function dropped the event; allowed is one value for each "
                "attribute. Return nulls instead."
            )
        return {
            name: wanted(made, name, dtype, owner=view.name) for name, dtype in view.feature_types.items()
        }

    def _requested(self, request: RequestSource) -> list[Field]:
        """The request's columns as the event has them: optional where the event's schema says so."""
        columns = {field.name: field for field in self.source.schema}
        return [columns.get(field.name, field) for field in request.schema]

    # --- labels ---------------------------------------------------------------------------------

    def _accept_label(self, source: LabelSource, label: Record) -> None:
        event_id = comparable(label[source.event_id_field])
        if event_id in self._labels[source.name]:
            return  # a duplicate or a correction: for training and metrics only
        self._labels[source.name][event_id] = label
        event = self._events[source.of.name].get(event_id)
        if event is not None:
            self._enter_label(source, event, label)

    def _meet_waiting_labels(self, source: StreamSource, event: Record) -> None:
        if source.event_id_field is None:
            return
        event_id = comparable(event[source.event_id_field])
        self._events[source.name].setdefault(event_id, event)
        for labels in self.sources.values():
            if isinstance(labels, LabelSource) and labels.of.name == source.name:
                label = self._labels[labels.name].get(event_id)
                if label is not None:
                    self._enter_label(labels, event, label)

    def _enter_label(self, source: LabelSource, event: Record, label: Record) -> None:
        row = {**event, source.label.name: label[source.label.name], source.known_at: label[source.known_at]}
        for view in self.views.values():
            if view.source.name == source.name:
                self._enter(view, row)


def stream_views(references: Sequence[FeatureReference]) -> Iterator[StreamFeatureView]:
    """The windowed views that the features need, directly or through realtime views."""
    for reference in references:
        if isinstance(reference.view, StreamFeatureView):
            yield reference.view
        else:
            inner = [source for source in reference.view.sources if not isinstance(source, RequestSource)]
            yield from stream_views(inner)


def needed_sources(driving: StreamSource, views: Iterable[StreamFeatureView]) -> Iterator[EventSource]:
    """The driving source, the sources of the views, and the streams that labels are of."""
    yield driving
    for view in views:
        yield view.source
        if isinstance(view.source, LabelSource):
            yield view.source.of


def state_of(view: StreamFeatureView, *, max_keys: int | None) -> ReferenceView | ReferenceSecondaryView:
    """The empty state of a view."""
    lateness_us = to_us(view.source.allowed_lateness)
    if view.aggregation_secondary_key is None:
        return ReferenceView(view.features, lateness_us, max_keys=max_keys)
    key = view.aggregation_secondary_key
    return ReferenceSecondaryView(view.features, key, lateness_us, max_keys=max_keys)


def before_start(view: StreamFeatureView, time_us: int) -> bool:
    """Whether a row is older than what the view takes in."""
    start = view.feature_start_time if isinstance(view, BatchFeatureView) else None
    return start is not None and time_us < to_us(start)


def typed(record: Mapping[str, Any], schema: Sequence[Field]) -> Record:
    """The schema's columns of a record as the log holds them: missing ones are null, times microseconds."""
    return {field.name: as_accepted(record.get(field.name), field.dtype) for field in schema}


def as_accepted(value: Any, dtype: DataType) -> Value:
    """A value in its column's type, but not rounded to a narrower one."""
    made = cast(value, Float64 if dtype.kind == "float" else dtype)
    return unicodedata.normalize("NFC", made) if isinstance(made, str) else made


def transformed(view: StreamFeatureView, row: Record) -> Record | None:
    """What the view's function makes of a row; None where it drops it."""
    if view.function is None:
        return row
    made = call_on_row(view.function, view.mode, [(source_schema(view.source), row)])
    if made is None:
        return None
    row = {name: wanted(made, name, dtype, owner=view.name) for name, dtype in columns_of(view).items()}
    secondary = view.aggregation_secondary_key
    return row if secondary is None else {**row, secondary.name: in_nfc(row[secondary.name])}


def columns_of(view: StreamFeatureView) -> dict[str, DataType]:
    """The columns that a view's function must return."""
    columns = {field.name: field.dtype for field in view.join_keys} | {view.timestamp_field: Timestamp}
    columns |= {aggregate.input_column.name: aggregate.input_column.dtype for aggregate in view.features}
    columns |= {aggregate.where: Bool for aggregate in view.features if aggregate.where is not None}
    return columns


def wanted(made: Mapping[str, Any], name: str, dtype: DataType, *, owner: str) -> Value:
    """One column of what a function returned, in its type."""
    if name not in made:
        raise InputError(
            f"feature view {owner!r}: the function did not return {name!r}; it returned {', '.join(made)}. "
            "Return it, or take it out of the definition."
        )
    return cast(made[name], dtype)


def key_of(
    view: StreamFeatureView, row: Record, *, join_key_map: Mapping[str, str] | None = None
) -> tuple[Hashable, ...] | None:
    """The view's key in a row, None where a part of it is null; `join_key_map` names the row's own columns."""
    columns = [(join_key_map or {}).get(field.name, field.name) for field in view.join_keys]
    parts = [row.get(column) for column in columns]
    return None if None in parts else tuple(comparable(part) for part in parts)


def comparable(part: Value) -> Hashable:
    """A part of a key as it is compared."""
    return in_nfc(part)


def in_nfc(value: Value) -> Value:
    """A text in NFC; anything else as it is."""
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value
