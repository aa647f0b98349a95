"""Lists of keys with members that somebody gives, for a backtest: what a block list would have done last month.

Members are those of a file, or of another list as it was before the period. They count by the event's own time: from ``changed_at``
where the file has one, else from the beginning, until ``expires_at``. Nothing is written; features that say whether an event's key is
listed are made anew, and all other features stay as they are.
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.app.key_lists import Key, changes_of, key_names, members, typed
from penstock.app.logged_decisions import LoggedBlock, Vectors
from penstock.app.runtime import card_tokens_of
from penstock.core.errors import InputError
from penstock.core.time import to_us
from penstock.definitions.key_lists import CHANGED_AT, EXPIRES_AT, LISTED, is_membership
from penstock.engine.contract import Contract, Decoded
from penstock.engine.list_versions import COUNTER
from penstock.engine.values import to_list, to_rows
from penstock.kernel.columns import BoolArray, Columns, Numeric

if TYPE_CHECKING:
    from penstock.engine.ports import LogReader
    from penstock.plan.nodes import Plan, ServiceNode, SourceNode

FloatArray = npt.NDArray[np.float64]

Computed = tuple["Plan", "ServiceNode"]
"""A service of a plan, which computes its rows."""

_ALWAYS, _FOREVER, _NEVER = -(2**62), 2**62, -(2**62)
_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True, eq=False)
class TriedList:
    """A list with given members.

    Parameters
    ----------
    name, told
        The list, and where its members are from.
    entries
        By key from when on which entry counts, and until when: two ascending lists of microseconds, as events' times are.
    """

    name: str
    told: str
    entries: dict[Key, tuple[list[int], list[int]]] = field(default_factory=dict)
    dated: bool = False
    events: int = 0
    """How many events of the period it held."""

    def add(self, key: Key, from_us: int, until_us: int) -> None:
        """A key's next entry; those of one key are added in the order of their times."""
        starts, ends = self.entries.setdefault(key, ([], []))
        starts.append(from_us)
        ends.append(until_us)

    def holds(self, keys: Sequence[Key], times_us: Sequence[int]) -> BoolArray:
        """Of each event whether its key is listed at its time."""
        entries = self.entries
        found = [entries.get(key) for key in keys]
        return np.fromiter(
            (one is not None and _counts(*one, at) for one, at in zip(found, times_us, strict=True)),
            np.bool_,
            len(found),
        )

    def to_dict(self) -> dict[str, Any]:
        """What a report says of it."""
        return {
            "name": self.name,
            "members": self.told,
            "keys": len(self.entries),
            "dated": self.dated,
            "events": self.events,
        }

    def __str__(self) -> str:
        since = "each from its changed_at" if self.dated else "from the beginning"
        return f"{len(self.entries):,} keys of {self.told}, {since}: {self.events:,} events"


def _counts(starts: list[int], ends: list[int], at: int) -> bool:
    entry = bisect_right(starts, at) - 1
    return entry >= 0 and at < ends[entry]


def lists_to_try(
    root: Path, store: LogReader, plan: Plan, service: str, given: Mapping[str, Path | str], *, before: int
) -> dict[str, TriedList]:
    """The lists that `given` has members for.

    Parameters
    ----------
    plan, service
        What is tried: the lists are sources of the plan, and features of the service say who is on them.
    before
        The place in the log before which changes of another list count.

    Raises
    ------
    InputError
        None of the features is about such a list, the other list or the file is not there, or a key breaks the list's contract; or a list
        was never in force, and no members are given.
    """
    used = {one.name for one in memberships(plan, service)}
    for name in given:
        if name not in used:
            raise InputError(
                f"backtest: --list names {name!r}; the rules and features that are tried look at the lists {', '.join(sorted(used)) or 'of nobody'}. "
                "Name one of these, or a policy that has it: --policy NAME."
            )
    counters = store.counters()
    for name in sorted(used - set(given)):
        if not counters.get(f"{COUNTER}{name}", 0):
            _check_in_force(root, name)
    return {
        name: _from_file(root, plan.sources[name], one)
        if isinstance(one, Path)
        else _from_list(root, store, plan.sources[name], one, before=before)
        for name, one in given.items()
    }


def _check_in_force(root: Path, name: str) -> None:
    """A list that nobody has changed yet is empty where it is in force; elsewhere nobody knows its members."""
    if name not in _plan(root).sources:
        raise InputError(
            f"backtest: list {name!r} is not in force, so the log has none of its members. Give them: --list {name}=FILE.csv, "
            "--list NAME=OTHER_LIST, or an empty file to try without any."
        )


def _plan(root: Path) -> Plan:
    from penstock.app.runtime import plan_of
    from penstock.definitions.project import load_project

    return plan_of(load_project(root))


def _from_list(root: Path, store: LogReader, source: SourceNode, other: str, *, before: int) -> TriedList:
    """The members that another list had at a place in the log."""
    sources = _plan(root).sources
    lists = [name for name, node in sources.items() if node.is_list]
    if other not in lists:
        raise InputError(
            f"backtest: --list {source.name}={other}: there is no such file, and no list of that name in force; lists are "
            f"{', '.join(lists) or '(none)'}. Name one, or a file."
        )
    if _key_types(sources[other]) != _key_types(source):
        raise InputError(
            f"backtest: --list {source.name}={other}: list {other!r} has the keys {_shown(sources[other])}, and {source.name!r} "
            f"{_shown(source)}; allowed are lists of keys of the same types. Name another."
        )
    found = TriedList(source.name, f"list {other}")
    for key, change in members(c for c in changes_of(store, sources[other]) if c.position < before).items():
        found.add(key, _ALWAYS, _FOREVER if change.expires_at is None else to_us(change.expires_at))
    if not found.entries:
        raise InputError(
            f"backtest: --list {source.name}={other}: list {other!r} had no members where the period begins; allowed is a list that had "
            "some. Begin later, with --from, or give a file."
        )
    return found


def _key_types(source: SourceNode) -> list[str]:
    names = key_names(source)
    return [one.dtype.name for one in source.fields if one.name in names]


def _shown(source: SourceNode) -> str:
    return ", ".join(key_names(source))


def _from_file(root: Path, source: SourceNode, file: Path) -> TriedList:
    """The keys of a file: of ``.csv`` the columns of a list's changes, of which only the key is needed; else a key a line."""
    try:
        data = file.read_bytes().removeprefix(_BOM)
    except OSError as error:
        raise InputError(f"backtest: --list {source.name}={file}: {error.strerror}. Name a file.") from error
    undated = tuple(replace(one, optional=True) if one.name == CHANGED_AT else one for one in source.fields)
    contract = Contract(replace(source, fields=undated), tokens=card_tokens_of(root))
    is_table = file.suffix == ".csv"
    decoded = _table(contract, data, file) if is_table else _lines(contract, data, file)
    if decoded.refused:
        first = decoded.refused[0]
        raise InputError(
            f"backtest: --list {source.name}={file}: {len(decoded.refused)} of {decoded.received} rows cannot be listed, the first, row "
            f"{first.row + 1}, because of {first.reason} ({first.detail}). Correct it."
        )
    return _tried(source, decoded.columns, file.name)


def _table(contract: Contract, data: bytes, file: Path) -> Decoded:
    source = contract.source
    first = data.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    head = next(csv.reader([first]), [])
    allowed = [one.name for one in source.fields if one.name != source.id_field]
    missing = [name for name in key_names(source) if name not in head]
    unknown = [name for name in head if name not in allowed]
    if data.strip() and (missing or unknown):
        raise InputError(
            f"backtest: --list {source.name}={file}: its first line is {first[:80]!r}; allowed is a line with the columns {_shown(source)}, and if "
            f"there are any {', '.join(name for name in allowed if name not in key_names(source))}. Correct it; a plain list of keys is not "
            "called .csv."
        )
    return contract.decode_csv(data) if data.strip() else contract.decode_dicts([])


def _lines(contract: Contract, data: bytes, file: Path) -> Decoded:
    names = key_names(contract.source)
    if len(names) > 1:
        raise InputError(
            f"backtest: --list {contract.source.name}={file}: its keys have the columns {', '.join(names)}; allowed is a .csv file with "
            "these. Write one."
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"backtest: --list {contract.source.name}={file}: byte {error.start} is no UTF-8 ({error.reason}); allowed is a text file "
            "in UTF-8, a key a line. Convert it, with iconv."
        ) from error
    kind = next(one.dtype.kind for one in contract.source.fields if one.name == names[0])
    lines = [line.strip() for line in text.splitlines()]
    return contract.decode_dicts([{names[0]: typed(line, kind)} for line in lines if line])


def _tried(source: SourceNode, columns: Columns, told: str) -> TriedList:
    names = [*key_names(source), CHANGED_AT, LISTED, EXPIRES_AT]
    fields = [one for one in source.fields if one.name in names]
    rows = to_rows(columns.select([one.name for one in fields]), fields)
    keys = key_names(source)
    found = TriedList(source.name, told, dated=any(row[CHANGED_AT] is not None for row in rows))
    for row in sorted(rows, key=_from_us):
        expires = row[EXPIRES_AT]
        until = _NEVER if row[LISTED] is False else _FOREVER if expires is None else to_us(expires)
        found.add(tuple(row[name] for name in keys), _from_us(row), until)
    return found


def _from_us(row: Mapping[str, Any]) -> int:
    return _ALWAYS if row[CHANGED_AT] is None else to_us(row[CHANGED_AT])


@dataclass(frozen=True, slots=True)
class Membership:
    """A feature that says whether an event's key is on a list: its column among a service's, and the events' key columns."""

    name: str
    column: int
    key_columns: tuple[str, ...]


def memberships(plan: Plan, service: str) -> Iterator[Membership]:
    """The features of a service that say who is on a list.

    Raises `InputError` for a feature that a project computes itself from a list's entries: it could not be made anew.
    """
    node = plan.services[service]
    for column, output in enumerate(node.outputs):
        if output.kind == "lookup":
            looked_up, is_one = [output.index], False
        else:
            realtime = node.realtime[output.index]
            looked_up = [
                one.index for argument in realtime.arguments for one in argument if hasattr(one, "index")
            ]
            is_one = is_membership(realtime.function)
        for index in dict.fromkeys(looked_up):
            lookup = node.lookups[index]
            name = plan.views[lookup.view].source
            if not plan.sources[name].is_list:
                continue
            if not is_one:
                raise InputError(
                    f"backtest: feature {output.name!r} is computed from the entries of list {name!r}; allowed with lists to try are features "
                    f"that say whether a key is listed. Write {name}.on(stream)."
                )
            yield Membership(name, column, lookup.key_columns)


class TriedVectors:
    """Rows of a service, of which those features that are about tried lists are made anew.

    Parameters
    ----------
    service
        Whose rows they are.
    store, computed
        The plan and the service of it whose rows are logged, or computed from the log.
    columns
        Which column of those each feature is; -1: none, since it is made anew.
    made
        The features that are made anew, and by which list.
    """

    def __init__(
        self,
        service: ServiceNode,
        store: LogReader,
        computed: Computed,
        columns: Sequence[int],
        made: Sequence[tuple[Membership, TriedList]],
    ) -> None:
        self.service, self.computed = service, computed
        self._rows = Vectors(store, *computed)
        self._columns, self._made = np.array(columns, np.int64), made
        self._events = computed[0].sources[service.source]

    @property
    def recomputed(self) -> int:
        """How many rows were not logged under these definitions."""
        return self._rows.recomputed

    def of(self, block: LoggedBlock) -> FloatArray:
        """float64[n, features]."""
        rows = self._rows.of(block)
        if not self._made:
            return rows
        found: FloatArray = rows[:, np.maximum(self._columns, 0)]
        times = _times(block.events, self._events)
        held: dict[str, BoolArray] = {}
        for one, tried in self._made:
            found[:, one.column] = listed = tried.holds(_keys(block.events, self._events, one), times)
            held[one.name] = held[one.name] | listed if one.name in held else listed
        for tried in {tried.name: tried for _, tried in self._made}.values():
            tried.events += int(np.count_nonzero(held[tried.name]))
        return found


def _times(events: Columns, source: SourceNode) -> list[int]:
    column = events[source.time_field]
    assert isinstance(column, Numeric)
    found: list[int] = column.values.tolist()
    return found


def _keys(events: Columns, source: SourceNode, one: Membership) -> list[Key]:
    types = {item.name: item.dtype for item in source.fields}
    return list(zip(*(to_list(events[name], types[name]) for name in one.key_columns), strict=True))


def tried_vectors(
    store: LogReader, tried: Mapping[str, TriedList], *, asked: Computed, known: Computed
) -> TriedVectors:
    """The rows of the service that is `asked` for, with the tried lists; what else it has is taken from the `known` one where that has it.

    A policy that is tried brings features of lists beside the endpoint's own: where all of these are tried, the logged rows have the rest.
    """
    plan, service = asked
    made = [(one, tried[one.name]) for one in memberships(plan, service.name) if one.name in tried]
    anew = {one.column for one, _ in made}
    names = known[1].feature_names
    columns = [names.index(name) if name in names else -1 for name in service.feature_names]
    if any(at < 0 and column not in anew for column, at in enumerate(columns)):
        return TriedVectors(service, store, asked, range(len(columns)), made)
    return TriedVectors(service, store, known, columns, made)
