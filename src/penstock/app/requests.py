"""What definitions do when they are called: ingest, point-in-time features, trying a function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from penstock.app.batch_tables import with_tables
from penstock.app.runtime import Runtime, active, spill_folder
from penstock.core.errors import InputError, ProjectError
from penstock.core.time import to_us
from penstock.definitions.batch_sources import BatchSource
from penstock.definitions.batch_views import BatchFeatureView
from penstock.definitions.sources import EventSource, StreamSource
from penstock.definitions.views import FeatureReference, FeatureView
from penstock.engine.answers import Answer
from penstock.engine.asked_events import features_over_log
from penstock.engine.card_numbers import CardTokens, with_tokens
from penstock.engine.contract import Contract, Decoded
from penstock.engine.feature_frame import FeatureFrame
from penstock.engine.feature_stream import logged_stream
from penstock.engine.frames import to_table
from penstock.engine.history import check_as_of
from penstock.engine.logged_history import features_for_logged, history_of
from penstock.engine.online import OnlineFeatures
from penstock.engine.preview import inputs_by_name, run_view
from penstock.engine.ranges import features_in_range as in_range
from penstock.engine.training_set import batch_sources_of, driving_source, features_for_frame, source_names
from penstock.engine.value_ranges import ranges_of
from penstock.plan.compile import Demand, compile_demands, source_node
from penstock.stores.spill import SpillFile


def ingest(
    source: EventSource, events: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, dry_run: bool = False
) -> list[Answer]:
    """Push events into the open project; with `dry_run` only check them against the source's schema."""
    rows = [events] if isinstance(events, Mapping) else list(events)
    if dry_run:
        return _checked(source, rows)
    runtime = _with_log_of(source)
    if runtime is None:
        raise ProjectError(
            f"source {source.name!r}: no project that has it is open in this process. Open it first: "
            'with penstock.app.Runtime.open("path/to/project"): ...'
        )
    return runtime.ingest(source.name, rows)


def _checked(source: EventSource, rows: Sequence[Mapping[str, Any]]) -> list[Answer]:
    tokens = CardTokens(lambda: bytes(32))  # a verdict shows none
    return verdicts(Contract(source_node(source), tokens=tokens).decode_dicts(rows))


def verdicts(decoded: Decoded) -> list[Answer]:
    """The contract's verdict on each row of an input: ``"valid"``, or ``"rejected"`` and why."""
    refused = {r.row: Answer("rejected", reason=r.reason, detail=r.detail) for r in decoded.refused}
    return [refused.get(i, Answer("valid")) for i in range(decoded.received)]


def features_for_events(
    references: Sequence[FeatureReference],
    events: Any = None,
    *,
    history: Mapping[str, Any] | None = None,
    mock_inputs: Mapping[str, Any] | None = None,
    timestamp_key: str | None = None,
    as_of: str = "corrected",
) -> FeatureFrame:
    """Point-in-time features for a frame of events; see `FeatureService.get_features_for_events`."""
    if mock_inputs is not None:
        if history is not None:
            raise InputError("history= and mock_inputs= are both given; allowed is one. Leave one out.")
        history = mock_inputs
    check_as_of(as_of)
    batch = batch_sources_of(references)
    if source_names(references) == set(batch):
        return _profiles_for_events(references, events, history, timestamp_key, as_of)
    source = driving_source(references)
    if events is None:
        return features_of_log(
            references, source, as_of=as_of, alone=history is None and timestamp_key is None
        )
    runtime = _with_log_of(source) if history is None else None
    if as_of == "served" and runtime is None:
        raise InputError(_not_logged(source, given=history is not None))
    if runtime is not None:
        runtime.engine.flush()
        events = _as_logged(events, source, runtime)
        if as_of == "served":
            return features_for_logged(runtime.store, references, events)
        if _is_all_logged(runtime, references, source):
            with SpillFile(spill_folder(runtime.project.root)) as shelf:
                return features_over_log(
                    runtime.store, references, source, events, timestamp_key=timestamp_key, shelf=shelf
                )
        history = history_of(runtime.store, runtime.plan, sources=source_names(references))
    history = with_tables(history, batch.values())
    return features_for_frame(references, events, history=history, timestamp_key=timestamp_key)


def _as_logged(events: Any, source: StreamSource, runtime: Runtime) -> Any:
    """`events` as the log has them: with tokens where it holds those in place of card numbers."""
    tokens = runtime.engine.tokens
    if source.card_numbers != "tokenise" or tokens is None:
        return events
    return with_tokens(to_table(events, owner="events"), tokens)


def online_features(
    name: str,
    join_keys: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    request_data: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
) -> OnlineFeatures:
    """The features of a service or view of the open project by key, now; see `penstock.engine.online.OnlineReader`."""
    runtime = active()
    if runtime is None:
        raise ProjectError(
            f"online features of {name!r}: no project is open in this process. Open it first: "
            'with penstock.app.Runtime.open("path/to/project"): ...'
        )
    return runtime.online.read(name, join_keys, request_data)


def features_of_log(
    references: Sequence[FeatureReference], source: StreamSource, *, as_of: str, alone: bool
) -> FeatureFrame:
    """The features of every event in the open project's log, as a stream."""
    runtime = _with_log_of(source)
    if runtime is None or not alone:
        found = (
            f"no open project has the source {source.name!r}"
            if alone
            else "history= or timestamp_key= is given"
        )
        raise InputError(
            f"get_features_for_events: without events it takes those of the open project's log, and {found}. Give events, "
            'or open the project (with penstock.app.Runtime.open("path/to/project"): ...) and give nothing else.'
        )
    runtime.engine.flush()
    plan = compile_demands([Demand("logged", tuple(references), source)])
    root = runtime.project.root
    return logged_stream(
        runtime.store,
        plan,
        plan.services["logged"],
        as_of=as_of,
        shelves=lambda: SpillFile(spill_folder(root)),
    )


def _profiles_for_events(
    references: Sequence[FeatureReference],
    events: Any,
    history: Mapping[str, Any] | None,
    timestamp_key: str | None,
    as_of: str,
) -> FeatureFrame:
    """Features of batch views alone, which are looked up for any rows with keys and times."""
    if events is None or as_of == "served":
        raise InputError(
            "get_features_for_events: the features come from batch views alone, which were served to no stream of their own; "
            'allowed are events with keys and times, and as_of="corrected". Or ask the service that a model uses.'
        )
    sources = list(batch_sources_of(references).values())
    given = dict(history) if history is not None else _logged(sources)
    return features_for_frame(
        references, events, history=with_tables(given, sources), timestamp_key=timestamp_key
    )


def features_in_range(
    references: Sequence[FeatureReference], start_time: datetime, end_time: datetime, *, entities: Any = None
) -> FeatureFrame:
    """The intervals in which features stay the same; see `FeatureService.get_features_in_range`."""
    source = driving_source(references)
    runtime = _with_log_of(source)
    if runtime is None:
        raise InputError(
            f"get_features_in_range: no open project has the source {source.name!r}, and features in a range come from a "
            'project\'s log. Open it: with penstock.app.Runtime.open("path/to/project"): ...'
        )
    runtime.engine.flush()
    root = runtime.project.root
    return in_range(
        runtime.store,
        references,
        start_us=to_us(start_time),
        end_us=to_us(end_time),
        entities=entities,
        shelves=lambda: SpillFile(spill_folder(root)),
    )


def profiles_in_range(
    view: BatchFeatureView,
    start_time: datetime,
    end_time: datetime,
    *,
    entities: Any = None,
    history: Mapping[str, Any] | None = None,
) -> FeatureFrame:
    """The intervals in which the values of `view` stay the same; see `BatchFeatureView.get_features_in_range`."""
    source = view.source
    assert isinstance(source, BatchSource), "a batch view has no other"
    tables = with_tables(dict(history) if history is not None else _logged([source]), [source])
    bounds = {"start_us": to_us(start_time), "end_us": to_us(end_time)}
    return ranges_of(view, tables[source.name], **bounds, entities=entities)


def _logged(sources: Sequence[BatchSource]) -> dict[str, Any]:
    """What the log of the open project holds of those of `sources` that are its own."""
    found: dict[str, Any] = {}
    for source in sources:
        runtime = _with_log_of(source)
        if runtime is not None:
            runtime.engine.flush()
            found |= history_of(runtime.store, runtime.plan, sources=[source.name])
    return found


def _is_all_logged(runtime: Runtime, references: Sequence[FeatureReference], source: StreamSource) -> bool:
    """Whether the log has the history of all that the features come from: events of `source`, and rows of each batch source."""
    needed = compile_demands([Demand("all", tuple(references), source)]).sources
    counts = runtime.store.row_counts()
    own = all(runtime.plan.sources.get(name) == node for name, node in needed.items())
    return own and all(name in counts for name in [source.name, *batch_sources_of(references)])


def _with_log_of(source: EventSource) -> Runtime | None:
    """The open project, if this very source is one of its own: a name alone says little."""
    runtime = active()
    known = None if runtime is None else runtime.plan.sources.get(source.name)
    return runtime if known == source_node(source) else None


def _not_logged(source: EventSource, *, given: bool) -> str:
    found = "history= is given" if given else f"no open project has the source {source.name!r}"
    advice = (
        "Leave history= out"
        if given
        else 'Open the project (with penstock.app.Runtime.open("path/to/project"): ...)'
    )
    return (
        f'as_of="served": {found}; only the log of an open project knows in which order events arrived. '
        f'{advice}, or use as_of="corrected".'
    )


def run_transformation(
    view: FeatureView, input_data: Any = None, *, mock_inputs: Mapping[str, Any] | None = None
) -> Any:
    """What the function of `view` makes of a frame (or, for a realtime view, of one frame a source), as a table.

    `mock_inputs` gives the frames by the names of the sources.
    """
    if mock_inputs is None:
        return run_view(view, input_data)
    if input_data is not None:
        raise InputError(
            f"feature view {view.name!r}: input_data and mock_inputs= are both given; allowed is one. Leave one out."
        )
    return run_view(view, inputs_by_name(view, mock_inputs))
