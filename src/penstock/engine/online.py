"""Reading features by key, now: what an event of that key would be answered that is not itself part of the history.

1. A request is held to a contract: the key columns of the service's look-ups and the columns of its request sources.
2. The store looks up every view for its key at the time of the request: a window that has expired since the key's last
   event is found expired, without a new event.
3. Realtime views run on the request and on what was looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.clock import Clock
from penstock.core.errors import InputError, NotFoundError
from penstock.core.time import from_us
from penstock.core.types import Field
from penstock.definitions.sources import CardNumbers
from penstock.engine.assembly import LookedUp
from penstock.engine.card_numbers import CardTokens
from penstock.engine.contract import Contract
from penstock.engine.feature_frame import FeatureFrame
from penstock.engine.kernel_rows import FloatMatrix
from penstock.engine.ports import OnlineStore
from penstock.kernel.columns import Columns, IntArray, Numeric
from penstock.kernel.state import NO_EVENT
from penstock.plan.nodes import Lookup, Plan, Selected, ServiceNode, SourceNode

if TYPE_CHECKING:
    import pyarrow as pa

Row = Mapping[str, Any]
AT = "@at"
"""The column of a request's time; no field can have this name."""


@dataclass(frozen=True, slots=True, eq=False)
class OnlineFeatures:
    """The features of one or several requests, in their order.

    Attributes
    ----------
    at
        The time as of which they are, UTC.
    position
        The length of the log that they take into account.
    names
        ``view.feature``, in the order of the service.
    """

    at: datetime
    position: int
    names: tuple[str, ...]
    _outputs: tuple[Selected, ...]
    _found: LookedUp
    _newest_us: IntArray

    def __len__(self) -> int:
        return self._found.length

    @property
    def degraded(self) -> bool:
        """Whether the store did not know all that was accepted: what it did not know is null."""
        return self._found.degraded

    def to_dict(self) -> dict[str, Any]:
        """The values of the only request by ``view.feature``; raises `InputError` where there were several."""
        if len(self) != 1:
            raise InputError(
                f"online features: there are {len(self)} rows; to_dict() is for one. Use to_dicts()."
            )
        return self.to_dicts()[0]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict of values by ``view.feature`` a request; null is None, a Timestamp an aware datetime."""
        rows = self._found.rows()
        for at in (i for i, output in enumerate(self._outputs) if output.dtype.kind == "time"):
            for row in rows:
                row[at] = None if row[at] is None else from_us(row[at])
        return [dict(zip(self.names, row, strict=True)) for row in rows]

    def to_arrow(self) -> pa.Table:
        """A pyarrow Table with one typed column a feature."""
        import pyarrow as pa

        arrays = [self._found.to_arrow(i) for i in range(len(self._outputs))]
        return pa.table(arrays, names=list(self.names))

    def to_numpy(self) -> FloatMatrix:
        """float64[n, F], NaN for null; text features are not numbers and raise `InputError`."""
        return FeatureFrame(self.to_arrow(), self.names).to_numpy()

    def metadata(self, row: int = 0) -> list[dict[str, Any]]:
        """What is known about each feature of a request.

        ``name``, ``dtype``, ``status`` (``"present"`` or ``"missing"``: null), ``effective_time`` (the time of the newest row
        that its view holds for the key, the request's own for a realtime feature; None where there is none) and
        ``freshness`` (how long before `at` that was).
        """
        values = self._found.rows()[row]
        return [self._metadata(row, v, output) for v, output in zip(values, self._outputs, strict=True)]

    def _metadata(self, row: int, value: object, output: Selected) -> dict[str, Any]:
        effective: datetime | None = self.at
        if output.kind == "lookup":
            newest = int(self._newest_us[row, output.index])
            effective = None if newest == NO_EVENT else from_us(newest)
        freshness: timedelta | None = None if effective is None else self.at - effective
        return {
            "name": output.name,
            "dtype": str(output.dtype),
            "status": "missing" if value is None else "present",
            "effective_time": effective,
            "freshness": freshness,
        }


class OnlineReader:
    """Reads the features of services, and of views, from a store of the latest state; safe for several threads.

    Parameters
    ----------
    store, clock
        Where from, and what "now" is.
    tokens
        What takes the place of card numbers, where a source asks for that.
    """

    def __init__(self, store: OnlineStore, clock: Clock, *, tokens: CardTokens | None = None) -> None:
        self._tokens = tokens
        self._store = store
        self._clock = clock
        self._requests: dict[str, _Request] = {}

    def read(
        self,
        name: str,
        join_keys: Row | Sequence[Row],
        request_data: Row | Sequence[Row] | None = None,
    ) -> OnlineFeatures:
        """The features of service or view `name` for one request, or for several at once.

        Parameters
        ----------
        join_keys
            ``{column: key}``, or a list of them; with a join key map the columns that it names.
        request_data
            The columns of the service's request sources; as many as there are keys. The stream's own time may be left
            out: it is now.

        Raises
        ------
        NotFoundError
            The plan has no such service or view.
        InputError
            A key or column is missing, unknown, or of another type.
        """
        while True:
            plan = self._store.plan
            request = self._requests.get(name)
            if request is None or request.plan is not plan:
                request = self._requests[name] = _Request(plan, name, self._tokens)
            now_us = self._clock.now_us()
            columns = request.columns(_merged(join_keys, request_data, owner=request.owner), now_us)
            looked_up = self._store.look_up(plan, request.service, columns)
            if looked_up is not None:  # else other definitions came into force meanwhile: ask as they want it
                break
        position, found, newest = looked_up
        at = from_us(now_us)
        return OnlineFeatures(at, position, request.names, request.service.outputs, found, newest)


class _Request:
    """How one service is asked: its look-ups by key alone, and the contract of what must be given."""

    def __init__(self, plan: Plan, name: str, tokens: CardTokens | None) -> None:
        self.plan = plan
        service = plan.services.get(name) or _view_service(plan, name)
        self.owner = f"online features of {name!r}"
        self.service = replace(
            service,
            name=f"{service.name}@online",
            lookups=tuple(replace(lookup, own=False) for lookup in service.lookups),
        )
        fields = _fields(plan, service)
        source = plan.sources.get(service.source)
        self._time = source.time_field if source is not None and source.time_field in fields else None
        self.names = service.feature_names
        self._given = frozenset(fields)
        # What is asked is not kept, so nothing is refused; where events hold tokens, requests do.
        cards: CardNumbers = "tokenise" if _has_tokens(plan) else "keep"
        node = SourceNode("request", tuple(fields.values()), AT, None, 0, 0, card_numbers=cards)
        self._contract = Contract(node, tokens=tokens)

    def columns(self, requests: Sequence[dict[str, Any]], now_us: int) -> Columns:
        """The requests as columns, with their time."""
        for request in requests:
            if self._time is not None:
                request.setdefault(self._time, now_us)
            if request.keys() != self._given:
                self._refuse(request)
        decoded = self._contract.decode_dicts(requests)
        if decoded.refused:
            first = decoded.refused[0]
            raise InputError(f"{self.owner}: request {first.row}: {first.detail}.")
        at = Numeric(np.full(decoded.columns.length, now_us, np.int64))
        return decoded.columns.with_columns({AT: at})

    def _refuse(self, request: Row) -> None:
        missing, unknown = sorted(self._given - request.keys()), sorted(request.keys() - self._given)
        found = f"{missing[0]!r} is missing" if missing else f"{unknown[0]!r} is not asked for"
        raise InputError(
            f"{self.owner}: {found}; allowed are {', '.join(sorted(self._given))}, each once: keys in join_keys, the others "
            "in request_data."
        )


def _has_tokens(plan: Plan) -> bool:
    return any(source.card_numbers == "tokenise" for source in plan.sources.values())


def _merged(
    join_keys: Row | Sequence[Row], request_data: Row | Sequence[Row] | None, *, owner: str
) -> list[dict[str, Any]]:
    keys = [join_keys] if isinstance(join_keys, Mapping) else list(join_keys)
    if request_data is None:
        return [dict(key) for key in keys]
    data = [request_data] if isinstance(request_data, Mapping) else list(request_data)
    if len(data) != len(keys):
        raise InputError(
            f"{owner}: {len(keys)} join_keys and {len(data)} request_data were given; allowed is one request_data for each "
            "of the join_keys."
        )
    return [{**key, **more} for key, more in zip(keys, data, strict=True)]


def _fields(plan: Plan, service: ServiceNode) -> dict[str, Field]:
    """What a request must give: the keys of all look-ups, and the columns that realtime views ask for.

    They are as in the events, whose place the request takes: a key that may be null there may be null here.
    """
    source = plan.sources.get(service.source)
    known = {} if source is None else {field.name: field for field in source.fields}
    fields: dict[str, Field] = {}
    for lookup in service.lookups:
        for column, key in zip(lookup.key_columns, plan.views[lookup.view].keys, strict=True):
            fields[column] = known.get(column, Field(column, key.dtype))
    for realtime in service.realtime:
        for argument in realtime.arguments:
            fields |= {item.name: item for item in argument if isinstance(item, Field)}
    return fields


def _view_service(plan: Plan, name: str) -> ServiceNode:
    """A view alone as a service: all of its features that the plan computes."""
    for i, view in enumerate(plan.views):
        if view.name == name:
            outputs = tuple(
                Selected(
                    kind="lookup",
                    index=0,
                    column=node.output,
                    name=f"{name}.{node.name}",
                    dtype=node.dtype,
                    width=view.width(node),
                    is_series=node.is_series,
                )
                for node in view.aggregates
            )
            lookup = Lookup(i, tuple(key.name for key in view.keys), own=False)
            return ServiceNode(f"view {name}", "", (lookup,), (), outputs, (), "")
    known = [*plan.services, *(view.name for view in plan.views)]
    raise NotFoundError(
        f"online features: {name!r} is no feature service and no feature view that runs; there are "
        f"{', '.join(known)}. A view runs when a service, model or endpoint uses it."
    )
