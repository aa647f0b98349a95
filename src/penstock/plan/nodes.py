"""The nodes of a plan: frozen values that say what the engine does, with every name resolved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from penstock.core.types import DataType, Field
from penstock.definitions.policies import Policy
from penstock.definitions.sources import CardNumbers
from penstock.definitions.user_aggregations import UserAggregation
from penstock.kernel.program import LaneKind, Program


@dataclass(frozen=True, slots=True)
class SourceNode:
    """A source: its contract and its clock rules.

    `label_of` names the labelled stream where the source is a `LabelSource`. `is_batch` says that it is a `BatchSource`,
    whose rows count `data_delay_us` after their timestamps. `card_numbers` is no part of a fingerprint: what the log holds, it means.
    Nor is `given`: names and types of the features that stages have put beside the source's own columns; nor `is_list`: whether its rows
    are the changes of a `KeyList`.
    """

    name: str
    fields: tuple[Field, ...]
    time_field: str
    id_field: str | None
    allowed_lateness_us: int
    max_future_skew_us: int
    label_of: str | None = None
    label_field: str | None = None
    is_batch: bool = False
    data_delay_us: int = 0
    card_numbers: CardNumbers = field(default="refuse", repr=False)
    given: tuple[tuple[str, DataType], ...] = field(default=(), repr=False)
    is_list: bool = field(default=False, repr=False)

    @property
    def comes_first(self) -> bool:
        """Whether at equal times its rows come before events: what is known by then, the event knows."""
        return self.is_batch or self.label_of is not None


@dataclass(frozen=True, slots=True)
class LaneNode:
    """A column as the kernel stores it: values of `column` where `where` is true, null elsewhere."""

    column: str
    where: str | None
    dtype: DataType


@dataclass(frozen=True, slots=True)
class AggregateNode:
    """A windowed feature and its type: over one window or a series of them, from program output `output` on."""

    name: str
    function: str
    lane: int
    windows: tuple[int, ...]
    dtype: DataType
    output: int
    is_series: bool


@dataclass(frozen=True, slots=True)
class FoldNode:
    """An output that is folded in Python from the rows of a window, where the kernel gives how many there are.

    `code` is a digest of what the aggregation does; `may_fail` says that a user wrote it.
    """

    output: int
    lane: int
    window: int
    dtype: DataType
    code: str
    may_fail: bool
    aggregation: UserAggregation = field(compare=False)


@dataclass(frozen=True, slots=True)
class SecondaryNode:
    """A view's secondary key: its column and lane. Output w of the program is how many rows window w holds."""

    column: Field
    lane: int


@dataclass(frozen=True, slots=True)
class ViewNode:
    """A stream or batch feature view: function, key, lanes and the kernel's program.

    `reads` are the source columns that the function reads; the others are not given to it. Rows count `delay_us` after
    their time; those before `start_us` do not enter. `folds` are made beside the kernel; with a `secondary` key the kernel's keys are
    those of the view and it, and all values are lists. The values of a view that is `given` come with the events, from a stage before.
    """

    name: str
    source: str
    mode: str
    function: Callable[..., Any] | None = field(compare=False)
    code: str
    columns: tuple[Field, ...]
    keys: tuple[Field, ...]
    time_field: str
    reads: tuple[str, ...]
    lanes: tuple[LaneNode, ...]
    aggregates: tuple[AggregateNode, ...]
    program: Program
    delay_us: int = 0
    start_us: int | None = None
    folds: tuple[FoldNode, ...] = ()
    secondary: SecondaryNode | None = None
    given: bool = False

    @property
    def output_kinds(self) -> tuple[LaneKind, ...]:
        """What the bits of each output mean, folds among them."""
        kinds = list(self.program.output_kinds)
        for fold in self.folds:
            kinds[fold.output] = LaneKind.FLOAT if fold.dtype.kind == "float" else LaneKind.INT
        return tuple(kinds)

    def width(self, node: AggregateNode) -> int:
        """How many of the program's outputs an aggregate has."""
        starts = [*(other.output for other in self.aggregates), len(self.program.output_kinds)]
        return next(start for start in starts if start > node.output) - node.output

    def aggregate_at(self, output: int) -> AggregateNode:
        """The aggregate that begins at an output of the program."""
        return next(node for node in self.aggregates if node.output == output)


@dataclass(frozen=True, slots=True)
class Lookup:
    """The features of a view for the key that an event holds in `key_columns`.

    `own` says that the event's own row of the view is what emits (the event sees itself); otherwise the view's state
    is read at the event's time.
    """

    view: int
    key_columns: tuple[str, ...]
    own: bool


@dataclass(frozen=True, slots=True)
class Selected:
    """One value of a row: output `column` of look-up `index`, or attribute `column` of realtime view `index`.

    An array is made of `width` outputs from `column` on; of a series (`is_series`) nulls are values of it, of others they
    are not there.
    """

    kind: str
    index: int
    column: int
    name: str
    dtype: DataType
    width: int = 1
    is_series: bool = False


@dataclass(frozen=True, slots=True)
class RealtimeNode:
    """A realtime feature view: for each argument either request columns or values of look-ups."""

    name: str
    mode: str
    function: Callable[..., Any] = field(compare=False)
    code: str
    arguments: tuple[tuple[Field, ...] | tuple[Selected, ...], ...]
    attributes: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class ServiceNode:
    """The features of a service for the events of one source: look-ups, realtime views, then the ordered row."""

    name: str
    source: str
    lookups: tuple[Lookup, ...]
    realtime: tuple[RealtimeNode, ...]
    outputs: tuple[Selected, ...]
    request_columns: tuple[str, ...]
    fingerprint: str

    @property
    def feature_names(self) -> tuple[str, ...]:
        """``view.feature``, in the order of the model's inputs."""
        return tuple(output.name for output in self.outputs)


@dataclass(frozen=True, slots=True)
class ArmNode:
    """An arm of an endpoint: a version (alias or number) of a model, which reads these columns of the endpoint's rows."""

    name: str
    model: str
    service: str
    version: str
    weight: float
    shadow: bool
    columns: tuple[int, ...] | None
    """None: all of them, in order."""


@dataclass(frozen=True, slots=True)
class RuleNode:
    """A rule beside the score: where `column` of the endpoint's rows holds, the action of code `action` is taken."""

    name: str
    feature: str
    column: int
    action: int


@dataclass(frozen=True, slots=True)
class CapNode:
    """At most `per_day` decisions a day with one of the codes `actions`; the others get the code `instead`."""

    per_day: int
    actions: tuple[int, ...]
    instead: int


@dataclass(frozen=True, slots=True)
class EndpointNode:
    """An endpoint: the service whose rows its arms score, and the policy's thresholds, ascending.

    `model` is the one that it is named for; `sticky` are the key columns by which arms share the events. `actions` are the
    default, one for each threshold, then those that only rules take. `explore` is the share of each of them that gets the
    default instead (empty: nothing is explored); `chosen` are the actions whose thresholds versions bring along.
    """

    name: str
    source: str
    service: str
    model: str
    policy: str
    actions: tuple[str, ...]
    thresholds: tuple[float, ...]
    arms: tuple[ArmNode, ...] = ()
    sticky: tuple[str, ...] = ()
    rules: tuple[RuleNode, ...] = ()
    explore: tuple[float, ...] = ()
    chosen: tuple[str, ...] = ()
    policy_version: str = ""
    """A digest of what the policy means."""
    lists: tuple[str, ...] = ()
    """The lists among its features: decisions name their versions."""
    cap: CapNode | None = None
    terms: Policy | None = field(default=None, compare=False, repr=False)
    """The policy as it is defined."""

    @property
    def steps(self) -> tuple[tuple[str, float], ...]:
        """The actions of the score and their thresholds, ascending; where versions bring their own, those until then."""
        return tuple(zip(self.actions[1:], self.thresholds, strict=False))


@dataclass(frozen=True)
class Plan:
    """What the engine executes: immutable, and equal for equal definitions."""

    sources: Mapping[str, SourceNode]
    views: tuple[ViewNode, ...]
    services: Mapping[str, ServiceNode]
    endpoints: Mapping[str, EndpointNode]
    pruned: tuple[str, ...]
    fingerprint: str
    carried: ServiceNode | None = None
    """Whose features the log keeps beside the events, for the stages behind."""

    @cached_property
    def endpoint_of(self) -> dict[str, EndpointNode]:
        """The endpoint that decides on each source's events."""
        return {endpoint.source: endpoint for endpoint in self.endpoints.values()}

    def columns_of(self, endpoint: str, *, logged: str, wanted: str) -> tuple[int, ...] | None:
        """Which columns of rows that an endpoint logged are the features of another service, both named by fingerprint.

        None where that cannot be said: the rows were logged, or the other service used, under other definitions.
        """
        node = self.endpoints[endpoint]
        service = self.services[node.service]
        every = tuple(range(len(service.outputs)))
        if logged != service.fingerprint:
            return every if logged == wanted else None
        found = [arm for arm in node.arms if self.services[arm.service].fingerprint == wanted]
        return None if not found else found[0].columns or every
