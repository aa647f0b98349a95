"""Which callables may compute a view's columns."""

import functools

import numpy as np
import pytest

from penstock import (
    Attribute,
    FeatureService,
    PushConfig,
    RealtimeFeatureView,
    RequestSource,
    StreamSource,
    realtime_feature_view,
)
from penstock.core.errors import DefinitionError
from penstock.definitions.view_checks import check_function
from penstock.plan.compile import compile_plan
from penstock.types import Field, Float64, Timestamp

AMOUNT = Field("amount", Float64)
OPTIONS = {"sources": [RequestSource([AMOUNT])], "features": [Attribute("x", Float64)]}


def scaled(request, factor=2.0):
    """Scales it."""
    return {"x": request["amount"] * factor}


class Scaled:
    """Scales by its factor."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, request):
        return scaled(request, self.factor)

    def method(self, request):
        return scaled(request, self.factor)


def filled(function):
    @functools.wraps(function)
    def of_one(request):
        return function(request, 3.0)

    return of_one


@filled
def of_two(request, factor):
    return scaled(request, factor)


WRITTEN_IN_PYTHON = {
    "function": lambda: scaled,
    "lambda": lambda: lambda request: request,
    "any number": lambda: lambda *requests: requests,
    "partial": lambda: functools.partial(scaled, factor=3.0),
    "partial of a method": lambda: functools.partial(Scaled(2.0).method),
    "object": lambda: Scaled(2.0),
    "method": lambda: Scaled(2.0).method,
    "cached": lambda: functools.cache(scaled),
    "decorated, of fewer arguments than what it wraps": lambda: of_two,
}


@pytest.mark.parametrize("make", WRITTEN_IN_PYTHON.values(), ids=WRITTEN_IN_PYTHON)
def test_what_is_written_in_python_is_allowed_and_can_be_planned(make):
    view = RealtimeFeatureView("v", function=make(), **OPTIONS)
    events = StreamSource("events", PushConfig(), schema=[Field("at", Timestamp), AMOUNT])
    plan = compile_plan([(FeatureService("s", features=[view]), events)])
    assert plan.services["s"].realtime[0].code


@pytest.mark.parametrize("function", [np.abs, len, {}.get, dict, Scaled, functools.partial(max, 1), 3])
def test_what_is_not_is_refused(function):
    with pytest.raises(DefinitionError, match=r"view 'v': function is .*; allowed is a function.*Write one"):
        check_function(function, 1, owner="view 'v'")


@pytest.mark.parametrize(
    "function",
    [
        functools.partial(scaled, 1, 2),
        Scaled.method,
        lambda *, a=1: {},
        lambda a, *, b: {},
    ],
)
def test_another_number_of_arguments_is_refused(function):
    with pytest.raises(DefinitionError, match=r"there are 1 sources; allowed is one argument a source"):
        check_function(function, 1, owner="view 'v'")


def test_a_partial_with_arguments_that_its_function_lacks_is_refused():
    with pytest.raises(DefinitionError, match=r"view 'v': partial object .*; allowed are.*Correct"):
        check_function(functools.partial(scaled, other=2.0), 1, owner="view 'v'")


def test_a_partial_needs_a_name():
    partial = functools.partial(scaled, factor=3.0)
    with pytest.raises(DefinitionError, match=r"realtime feature view: .*has no name.*Give it one"):
        realtime_feature_view(**OPTIONS)(partial)
    view = realtime_feature_view(name="tripled", **OPTIONS)(partial)
    assert (view.name, view.description) == ("tripled", "")


def test_a_function_names_and_describes_its_view():
    view = realtime_feature_view(**OPTIONS)(scaled)
    assert (view.name, view.description) == ("scaled", "Scales it.")
