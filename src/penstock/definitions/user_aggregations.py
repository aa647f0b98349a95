"""Aggregations written in Python: what a class of one's own, or a sketch of a library, says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from penstock.core.errors import DefinitionError
from penstock.core.types import ArrayType, DataType, check_name
from penstock.definitions.aggregate_functions import AggregationFunction, FunctionTraits

USER_DEFINED = "user_defined"
"""What a class of one's own is called where functions are listed by name."""
_GIVEN_KINDS = frozenset({"int", "float", "bool", "text", "time"})


class UserAggregation:
    """A function of a window's values, written in Python. Make a class of your own from it, and give `Aggregate` one of its objects.

    The value is ``value(add(... add(add(init(), v1), v2) ..., vn))`` over the window's values in row order, the earliest first:
    nulls and rows whose `where=` column is not true are left out. This fold is the meaning; without more it is done anew for
    each event, at a call of `add` for each row in the window. A class may promise more, and is then asked for less:

    * with `merge`, folds of neighbouring rows are kept and put together: about two calls of `merge` an event;
    * with `remove`, one state goes along with its window: a call for each row that enters and for each that leaves.

    Either is a promise that the value is the same to the last bit as the fold's; sums of floats cannot promise it, counts, sets,
    extremes and whole numbers can. Where both are there, `remove` is used.

    Values come as ``float``, ``int``, ``bool``, ``str`` and, of Timestamp columns, aware ``datetime``. The result is None for null, or
    what `gives` says; NaN and infinity are null, and what is not of the type is a failure. A value on which the class fails when it is
    alone is refused with its event, as one is on which a view's function fails. Where a window as a whole fails, the feature
    is null and the event is flagged as degraded.

    Attributes
    ----------
    name
        Its part of a feature's default name.
    takes
        The types of the columns that it takes.
    gives
        The type of its value, or an `Array` of one.

    Examples
    --------
    >>> from penstock.types import Float64, Int64
    >>> class Spread(UserAggregation):
    ...     name, takes, gives = "spread", (Float64, Int64), Float64
    ...
    ...     def init(self):
    ...         return None
    ...
    ...     def add(self, state, value):
    ...         low, high = state or (value, value)
    ...         return min(low, value), max(high, value)
    ...
    ...     def value(self, state):
    ...         return None if state is None else state[1] - state[0]
    >>> spread = Spread()
    >>> spread.value(spread.fold([3.0, 1.0, 2.5]))
    2.0
    """

    name: ClassVar[str] = ""
    takes: ClassVar[tuple[DataType, ...]] = ()
    gives: ClassVar[DataType | None] = None

    def init(self) -> Any:
        """The state of no values."""
        raise NotImplementedError

    def add(self, state: Any, value: Any) -> Any:
        """The state with one more value behind its others; `state` itself may be changed and returned."""
        raise NotImplementedError

    def remove(self, state: Any, value: Any) -> Any:
        """Optional: the state without its earliest value; `state` itself may be changed and returned."""
        raise NotImplementedError

    def merge(self, left: Any, right: Any) -> Any:
        """Optional: a new state of the values of `left`, then those of `right`; neither may be changed."""
        raise NotImplementedError

    def value(self, state: Any) -> Any:
        """The feature's value; `state` may not be changed."""
        raise NotImplementedError

    def fold(self, values: Sequence[Any]) -> Any:
        """The state of `values`, one after another."""
        state = self.init()
        for value in values:
            state = self.add(state, value)
        return state

    def has(self, method: str) -> bool:
        """Whether the class brings a method of its own."""
        return getattr(type(self), method) is not getattr(UserAggregation, method)


@dataclass(frozen=True, slots=True, repr=False)
class FoldFunction(AggregationFunction):
    """A `UserAggregation` as the function of an aggregate.

    `known` are the traits of one that is shipped, and `suffix` its part of a default name; of a user's, the class says both.
    """

    aggregation: UserAggregation = field(kw_only=True)
    parameters: str = field(kw_only=True, default="")
    known: FunctionTraits | None = field(kw_only=True, default=None)
    suffix: str = field(kw_only=True, default="")

    def __post_init__(self) -> None:
        if self.known is None:
            _check(self.aggregation)

    def __repr__(self) -> str:
        return f"{self.name}({self.parameters})"

    __str__ = __repr__

    @property
    def is_users(self) -> bool:
        """Whether it is a class of the user's, which may fail."""
        return self.known is None

    @property
    def signature(self) -> str:
        """How it is written."""
        return repr(self)

    @property
    def traits(self) -> FunctionTraits:
        """What is known of it."""
        if self.known is not None:
            return self.known
        aggregation = self.aggregation
        kinds = frozenset(dtype.kind for dtype in aggregation.takes)
        gives = "array" if isinstance(aggregation.gives, ArrayType) else str(aggregation.gives)
        return FunctionTraits(kinds, gives, "a class of one's own", lifetime=False)

    @property
    def label(self) -> str:
        """Its part of a default feature name."""
        return self.parameters if self.is_users else self.name + self.suffix

    def gives(self, column: DataType) -> DataType:  # noqa: ARG002 - of others it depends on the column
        """The type of its value."""
        assert self.aggregation.gives is not None, "checked when it was made"
        return self.aggregation.gives


def user_defined(aggregation: UserAggregation) -> FoldFunction:
    """An object of a class of one's own as the function of an aggregate."""
    return FoldFunction(USER_DEFINED, aggregation=aggregation, parameters=str(aggregation.name))


def _check(aggregation: UserAggregation) -> None:
    cls = type(aggregation).__name__
    check_name(aggregation.name, what=f"aggregation {cls}")
    for method in ("init", "add", "value"):
        if not aggregation.has(method):
            raise DefinitionError(
                f"aggregation {cls}: it has no method {method!r}; needed are init(self), add(self, state, value) and "
                "value(self, state); remove and merge are optional. Write it."
            )
    takes: object = aggregation.takes
    if not isinstance(takes, tuple) or not takes or not all(_is_scalar(dtype) for dtype in takes):
        raise DefinitionError(
            f"aggregation {cls}: takes is {takes!r}; allowed is a tuple of types of penstock.types. Write for example "
            "takes = (Float64, Int64)."
        )
    gives: object = aggregation.gives
    if not _is_scalar(gives.elem if isinstance(gives, ArrayType) else gives):
        raise DefinitionError(
            f"aggregation {cls}: gives is {gives!r}; allowed is a type of penstock.types, or an Array of one. Write for "
            "example gives = Float64."
        )


def _is_scalar(dtype: object) -> bool:
    return isinstance(dtype, DataType) and dtype.kind in _GIVEN_KINDS
