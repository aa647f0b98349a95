"""A view that holds its most keys lets the one go that was seen longest ago, and counts it."""

from datetime import timedelta

import numpy as np
import pytest

from penstock import Aggregate, Entity, FeatureService, PushConfig, StreamFeatureView, StreamSource
from penstock.core.errors import DefinitionError
from penstock.engine.features import FeatureState
from penstock.engine.kernel_rows import Rows
from penstock.kernel.columns import Columns, Numeric, Text
from penstock.plan.compile import compile_plan
from penstock.types import Field, Float64, String, Timestamp

CARD, AMOUNT = Field("card", String), Field("amount", Float64)
payments = StreamSource("payments", PushConfig(), schema=[CARD, Field("timestamp", Timestamp), AMOUNT])


def by_card(max_keys):
    return StreamFeatureView(
        "by_card",
        source=payments,
        entities=[Entity("card", [CARD])],
        features=[Aggregate(AMOUNT, "count", time_window=timedelta(hours=1))],
        max_keys=max_keys,
    )


def counts(cards, max_keys):
    service = FeatureService("service", features=[by_card(max_keys)])
    plan = compile_plan([(service, payments)])
    state = FeatureState(plan)
    columns = {
        "card": Text.from_strings(cards),
        "timestamp": Numeric(np.arange(len(cards))),
        "amount": Numeric(np.ones(len(cards))),
    }
    rows = Rows(Columns(len(cards), columns), np.arange(len(cards)))
    made = state.advance({"payments": rows}, services=[plan.services["service"]])
    return made["service"].values[:, 0].tolist(), state.evicted_keys


def test_the_key_seen_longest_ago_leaves_and_starts_afresh():
    assert counts(["a", "b", "a", "c", "b", "a"], max_keys=2) == ([1, 1, 2, 1, 1, 1], 3)
    assert counts(["a", "b", "a", "c", "b", "a"], max_keys=3) == ([1, 1, 2, 1, 2, 3], 0)


@pytest.mark.parametrize("count", [0, -1, 1.5, True, None])
def test_a_bound_that_bounds_nothing_is_refused(count):
    with pytest.raises(DefinitionError, match=r"by_card.*max_keys is .*allowed is a whole number"):
        by_card(count)
