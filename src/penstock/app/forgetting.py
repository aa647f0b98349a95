"""Forgetting a key: its events, labels, decisions, state and dead letters, so that nothing of it is left on the disk.

1. The snapshots and what learners know go first: from then on a crash can only lead to state folded from the log.
2. The rows leave the offline tables, old versions and their files among them (see `offline_erasure`), the shadow scores and the alerts.
3. Events, labels, decisions, dead letters and the record of the erasure change in one transaction.
4. The database is rebuilt, so that the old bytes leave the files.
5. State is folded from the log without the key, and written to a new snapshot.

Every step may be repeated: a run that was cut off is simply run again.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.app.alerting import alerts_path
from penstock.app.applied import Applied, AppliedHistory
from penstock.app.list_index import discard_index
from penstock.app.offline_erasure import OfflineErasure
from penstock.app.runtime import card_tokens_of, learned_path, plan_of, shadow_path, state_folder
from penstock.app.settings import load_settings
from penstock.app.snapshotting import Snapshots
from penstock.app.storing import open_store, snapshots_of
from penstock.core.clock import Clock
from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import DeadLetter, Erasure, LogBatch
from penstock.definitions.entities import Entity
from penstock.definitions.project import Project, load_project
from penstock.engine.card_numbers import CardTokens
from penstock.engine.decision_rows import rows_of
from penstock.engine.erasure import ErasedLog, changed_decisions
from penstock.engine.labels import EVENT
from penstock.engine.lookup import ERASED
from penstock.engine.recovery import Progress, catch_up, encode_state, no_progress, schema_hash
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric, Text
from penstock.models.learning_model import discard_learned
from penstock.plan.nodes import Plan
from penstock.stores.alerts import AlertStore
from penstock.stores.shadows import ShadowStore
from penstock.stores.snapshots import Snapshot
from penstock.stores.writing import WritableStore

if TYPE_CHECKING:
    from penstock.core.types import Field

Value = str | int
_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """How much of a key was found and removed, and which data sets cannot be made again without it."""

    entity: str
    events: int
    labels: int
    pending_labels: int
    dead_letters: int
    offline_rows: int = 0
    datasets: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether there was anything to remove."""
        return bool(self.events or self.labels or self.pending_labels or self.dead_letters)


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What is to go."""

    positions: dict[str, IntArray]
    events: IntArray
    labels: int
    pending: list[int]
    letters: list[int]

    @property
    def all_positions(self) -> IntArray:
        """The positions of events and labels, ascending."""
        return np.sort(np.concatenate([np.zeros(0, np.int64), *self.positions.values()]))


def forget(
    root: Path,
    entity: str,
    key: Sequence[str],
    *,
    clock: Clock,
    progress: Progress = no_progress,
) -> Forgotten:
    """Remove the key of an entity from the project in `root`; no other process may be writing to it.

    Parameters
    ----------
    entity
        Name of the entity.
    key
        One text for each of its join keys.

    Raises
    ------
    NotFoundError
        There is no such entity.
    InputError
        The key does not fit, or no source has the entity's join keys as columns.
    StoreError
        The project is in use, or a reader kept the old bytes from leaving the files; run it again then.
    """
    project = load_project(root)
    plan = plan_of(project)
    applied = AppliedHistory(state_folder(root)).all()
    wanted = _Key(_entity(project, entity), _as_kept(key, plan, card_tokens_of(root)), plan, applied)
    settings = load_settings(root)
    store = open_store(root, settings)
    store.describe_decisions(rows_of(plan))
    try:
        found = _find(store, plan, wanted)
        snapshots = snapshots_of(root, settings, store_id=store.store_id)
        snapshots.clear()
        discard_learned(learned_path(root))
        discard_index(root)
        with OfflineErasure(root, settings.offline, store_id=store.store_id) as tables:
            offline = tables.erase(found.all_positions)
            forgotten = Forgotten(
                entity=entity,
                events=len(found.events),
                labels=found.labels,
                pending_labels=len(found.pending),
                dead_letters=len(found.letters),
                offline_rows=offline.rows,
                datasets=offline.datasets,
            )
            if shadow_path(root).exists():
                with closing(ShadowStore(shadow_path(root))) as shadows:
                    shadows.erase(found.all_positions)
            if alerts_path(root).exists():
                with closing(AlertStore(alerts_path(root))) as alerts:
                    alerts.erase(found.all_positions.tolist())
            if forgotten.anything:
                _erase(store, plan, wanted, found, clock=clock, progress=progress)
        store.purge()
        discard_learned(learned_path(root))  # a learner that outlived its run may have written once more
        discard_index(root)  # or somebody looked at a list
        _save_state(store, plan, snapshots)
    finally:
        store.close()
    return forgotten


def _erase(
    store: WritableStore, plan: Plan, key: _Key, found: _Found, *, clock: Clock, progress: Progress
) -> None:
    after = ErasedLog(store, found.positions)
    erasure = Erasure(
        entity=key.entity.name,
        key_hash=key.digest(store.hash_seed),
        position=store.next_position,
        erased_us=clock.now_us(),
    )
    store.erase(
        [erasure],
        log=after.changed(),
        decisions=changed_decisions(after, plan, progress=progress),
        labels_of=found.events,
        pending=found.pending,
        letters=found.letters,
    )


def _save_state(store: WritableStore, plan: Plan, snapshots: Snapshots) -> None:
    position = store.next_position
    if position:
        snapshots.save(
            Snapshot(
                position=position,
                fingerprint=plan.fingerprint,
                schema_hash=schema_hash(plan),
                state=encode_state(catch_up(store, plan)),
            )
        )


def _entity(project: Project, name: str) -> Entity:
    if name not in project.entities:
        raise NotFoundError(
            f"entity {name!r} does not exist; there are {', '.join(project.entities) or 'none'}. Choose one: --entity NAME."
        )
    return project.entities[name]


def _as_kept(key: Sequence[str], plan: Plan, tokens: CardTokens) -> list[str]:
    """The key as events hold it: where a source keeps tokens of card numbers, with those."""
    if all(source.card_numbers != "tokenise" for source in plan.sources.values()):
        return list(key)
    return [tokens.in_place_of(unicodedata.normalize("NFC", text)) for text in key]


class _Key:
    """One key of an entity, and where events hold it."""

    def __init__(
        self, entity: Entity, texts: Sequence[str], plan: Plan, applied: Sequence[Applied] = ()
    ) -> None:
        self.entity = entity
        if len(texts) != len(entity.join_keys):
            names = ", ".join(f.name for f in entity.join_keys)
            raise InputError(
                f"forget: {len(texts)} values were given; entity {entity.name!r} has {len(entity.join_keys)} join keys: {names}. "
                "Give one value each, in that order."
            )
        self.values = [_value(text, f) for text, f in zip(texts, entity.join_keys, strict=True)]
        self.columns = _columns_with(entity, plan, applied)
        if not any(self.columns.values()):
            names = ", ".join(f.name for f in entity.join_keys)
            raise InputError(
                f"forget: no source of the plan has {names} as columns, so events of entity {entity.name!r} cannot be found. Make "
                "the join key a column of the source instead of computing it in a view."
            )

    def digest(self, seed: int) -> bytes:
        """A keyed hash that recognises the key without telling it."""
        text = json.dumps([self.entity.name, *self.values]).encode()
        return hashlib.blake2b(text, key=seed.to_bytes(8, "little"), digest_size=16).digest()

    def rows(self, source: str, columns: Columns) -> BoolArray:
        """Which rows of `source` hold the key."""
        held = np.zeros(columns.length, np.bool_)
        for names in self._columns_of(source, columns):
            held |= np.logical_and.reduce(
                [_equal(columns[name], value) for name, value in zip(names, self.values, strict=True)]
            )
        return held

    def _columns_of(self, source: str, columns: Columns) -> tuple[tuple[str, ...], ...]:
        """Where rows of `source` hold the key: in what they have of the join keys' own names, and of those mapped to them."""
        if EVENT in columns:  # labels
            return ()
        own = tuple(f.name for f in self.entity.join_keys)
        wanted = {own, *self.columns.get(source, ())}
        return tuple(sorted(names for names in wanted if all(name in columns for name in names)))

    def in_letter(self, letter: DeadLetter) -> bool:
        """Whether a dead letter holds the key: as a value of its columns, or anywhere in its bytes or its detail."""
        raw = letter.payload + b"\0" + letter.detail.encode()
        if all(_in_bytes(value, raw) for value in self.values):
            return True
        event = _as_object(letter.payload)
        return any(
            all(_normal(event.get(name)) == value for name, value in zip(names, self.values, strict=True))
            for names in self.columns.get(letter.source, ())
        )


def _columns_with(
    entity: Entity, plan: Plan, applied: Sequence[Applied]
) -> dict[str, tuple[tuple[str, ...], ...]]:
    """By stream the columns that hold the entity's join keys: those of its names, and those ever mapped to them."""
    keys = tuple(f.name for f in entity.join_keys)
    found: dict[str, set[tuple[str, ...]]] = {}
    for source in plan.sources.values():
        if source.label_of is None and set(keys) <= {f.name for f in source.fields}:
            found.setdefault(source.name, set()).add(keys)
    for service in plan.services.values():
        names = {f.name for f in plan.sources[service.source].fields}
        for lookup in service.lookups:
            same = tuple(f.name for f in plan.views[lookup.view].keys) == keys
            if same and set(lookup.key_columns) <= names:
                found.setdefault(service.source, set()).add(lookup.key_columns)
    for version in applied:
        keys_of = {v["name"]: tuple(k["name"] for k in v["keys"]) for v in version.description["views"]}
        for described in version.description["services"]:
            for mapped in described["lookups"]:
                if keys_of.get(mapped["view"]) == keys:
                    found.setdefault(described["source"], set()).add(tuple(mapped["key_columns"]))
    return {source: tuple(sorted(columns)) for source, columns in found.items()}


def _find(store: WritableStore, plan: Plan, key: _Key) -> _Found:
    """Everything that holds the key, in two passes over the log: events, then the labels of those events."""
    positions: dict[str, list[IntArray]] = {}
    ids: dict[str, set[Value]] = {}
    for batch, columns in _rows(store):
        held = np.flatnonzero(key.rows(batch.source, columns) & ~_erased_before(columns))
        if len(held):
            positions.setdefault(batch.source, []).append(batch.positions[held])
            node = plan.sources.get(batch.source)
            if node is not None and node.id_field is not None:
                ids.setdefault(node.name, set()).update(_list(columns[node.id_field].take(held)))
    events = np.sort(
        np.concatenate([np.zeros(0, np.int64), *(p for found in positions.values() for p in found)])
    )
    labels = _labels(store, plan, events, ids) if len(events) else {}
    return _Found(
        positions={source: np.concatenate(found) for source, found in (positions | labels).items()},
        events=events,
        labels=sum(len(found) for parts in labels.values() for found in parts),
        pending=_pending(store, ids),
        letters=_letters(store, key),
    )


def _rows(store: WritableStore) -> Iterator[tuple[LogBatch, Columns]]:
    """The whole log, sources that the definitions no longer have among it."""
    for batch in store.read_log():
        yield batch, Columns.from_bytes(batch.payload)


def _labels(
    store: WritableStore, plan: Plan, events: IntArray, ids: Mapping[str, set[Value]]
) -> dict[str, list[IntArray]]:
    """The positions of the events' labels, by label source: those joined to them, and those that name them."""
    found: dict[str, list[IntArray]] = {}
    for batch, columns in _rows(store):
        if EVENT not in columns:
            continue
        held = np.isin(columns[EVENT].values, events)  # type: ignore[union-attr]
        node = plan.sources.get(batch.source)
        named = set() if node is None else ids.get(str(node.label_of), set())
        if node is not None and named:
            listed = _list(columns[str(node.id_field)])
            held |= np.fromiter((one in named for one in listed), np.bool_, columns.length)
        held &= ~_erased_before(columns)
        if held.any():
            found.setdefault(batch.source, []).append(batch.positions[held])
    return found


def _pending(store: WritableStore, ids: Mapping[str, set[Value]]) -> list[int]:
    found: list[int] = []
    after = -1
    texts = {source: {str(one) for one in known} for source, known in ids.items()}
    while page := store.pending_labels(_PAGE, after=after):
        found += [one.label_position for one in page if one.event_id in texts.get(one.source, ())]
        after = page[-1].label_position
    return found


def _letters(store: WritableStore, key: _Key) -> list[int]:
    found: list[int] = []
    after = 0
    while page := store.dead_letters(_PAGE, after=after):
        found += [letter.letter_id for letter in page if key.in_letter(letter)]
        after = page[-1].letter_id
    return found


def _erased_before(columns: Columns) -> BoolArray:
    if ERASED not in columns:
        return np.zeros(columns.length, np.bool_)
    return columns[ERASED].values.astype(np.bool_)  # type: ignore[union-attr]


def _value(text: str, field: Field) -> Value:
    if field.dtype.kind == "text":
        return unicodedata.normalize("NFC", text)
    try:
        return int(text)
    except ValueError as error:
        raise InputError(
            f"forget: {text!r} is no {field.dtype}, which join key {field.name!r} is. Give a whole number."
        ) from error


def _equal(column: Column, value: Value) -> BoolArray:
    if isinstance(column, Numeric) != isinstance(value, int):  # a column of this name, but of another type
        return np.zeros(len(column), np.bool_)
    if isinstance(column, Numeric):
        equal: BoolArray = column.values == value
        return equal if column.valid is None else equal & column.valid
    return np.fromiter((one == value for one in column.to_strings()), np.bool_, len(column))


def _list(column: Column) -> list[Any]:
    return column.to_strings() if isinstance(column, Text) else column.values.tolist()


def _in_bytes(value: Value, raw: bytes) -> bool:
    """Whether bytes hold a key, in either Unicode form or with JSON's escapes; a number only as a whole one."""
    if isinstance(value, int):
        return re.search(rb"(?<![0-9])" + str(value).encode() + rb"(?![0-9])", raw) is not None
    forms = {value, unicodedata.normalize("NFD", value)}
    lower = raw.lower()  # JSON's escapes may have capital digits
    return any(one.encode() in raw or json.dumps(one)[1:-1].lower().encode() in lower for one in forms)


def _as_object(payload: bytes) -> dict[str, Any]:
    try:
        event = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _normal(value: Any) -> Any:
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value
