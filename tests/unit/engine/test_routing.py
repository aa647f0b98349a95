from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.routing import Route, RouteArm, choose_arms, rendezvous
from penstock.kernel.columns import Columns, Text
from tests.unit.app.arms import Constant

HASHES = np.random.default_rng(3).integers(0, 2**64, 20_000, np.uint64)
weights = st.lists(st.floats(0.01, 100), min_size=2, max_size=5)


@settings(max_examples=40, deadline=None)
@given(weights)
def test_every_arm_has_its_share(drawn):
    chosen = rendezvous(HASHES, [(f"arm{i}", w) for i, w in enumerate(drawn)])
    shares = np.bincount(chosen, minlength=len(drawn)) / len(HASHES)
    wanted = np.array(drawn) / sum(drawn)
    assert np.all(np.abs(shares - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / len(HASHES)) + 1e-3)


@settings(max_examples=40, deadline=None)
@given(weights, st.data())
def test_a_growing_weight_only_adds_keys(drawn, data):
    grown = data.draw(st.integers(0, len(drawn) - 1))
    factor = data.draw(st.floats(1, 20))
    before = rendezvous(HASHES, [(f"arm{i}", w) for i, w in enumerate(drawn)])
    after = rendezvous(HASHES, [(f"arm{i}", w * factor if i == grown else w) for i, w in enumerate(drawn)])
    moved = before != after
    assert np.all(after[moved] == grown)


def test_an_arm_that_leaves_moves_its_own_keys_only():
    three = [("a", 50.0), ("b", 30.0), ("c", 20.0)]
    before = rendezvous(HASHES, three)
    after = rendezvous(HASHES, three[:2])
    assert np.all(after[before < 2] == before[before < 2])


def test_endpoints_divide_the_same_keys_independently():
    one = rendezvous(HASHES, [("x/a", 1), ("x/b", 1)])
    other = rendezvous(HASHES, [("y/a", 1), ("y/b", 1)])
    assert abs(np.mean(one == other) - 0.5) < 0.02


def test_events_of_a_key_share_an_arm_and_those_without_a_key_are_spread():
    arms = [RouteArm("a", 1.0, Constant("m:1", 0.1)), RouteArm("b", 1.0, Constant("m:2", 0.2))]
    route = Route("checkout", arms, sticky=("card",))
    names = ["ann", "bob", "cid", "dot"] * 50 + [None] * 200
    columns = Columns(len(names), {"card": Text.from_strings(names)})
    chosen = choose_arms(route, columns, np.arange(len(names)))
    for name in ("ann", "bob", "cid", "dot"):
        assert len({int(arm) for arm, other in zip(chosen, names, strict=True) if other == name}) == 1
    assert 60 < int(chosen[200:].sum()) < 140
    again = choose_arms(route, columns.take(slice(1, 2)), np.array([999]))
    assert again[0] == chosen[1], "alone or in a batch, the same"
