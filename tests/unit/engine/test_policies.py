"""Rules and exploration beside the score: against a plain reading of what they mean, event by event."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.definitions.policies import CostMatrix, CostOptimal, Policy, Rule
from penstock.engine.assembly import FeatureRows
from penstock.engine.decisions import Decisions, Flag, decide
from penstock.engine.routing import Route, RouteArm, unit_draws
from penstock.plan.nodes import EndpointNode
from penstock.plan.policies import policy_digest, with_policy

FEATURES = ("v.vip", "v.blocked", "v.fast", "v.score")
BARE = EndpointNode("checkout", "payments", "service", "model", "", (), ())
RULES = [
    Rule("vip", when="v.vip", action="approve"),
    Rule("blocked card", when="v.blocked", action="block"),
    Rule("velocity", when="v.fast", action="step_up"),
]


class LastColumn:
    """A model whose score is the last feature."""

    version, digest, feature_names = "m:1", "digest", FEATURES

    def score(self, vectors):
        return vectors[:, 3].copy()


def node(**policy):
    given_ = {"actions": {"review": 0.5, "block": 0.9}} | policy
    return with_policy(BARE, Policy("card", **given_), FEATURES)


def decided(endpoint, vectors, first=0, thresholds=None):
    rows = np.asarray(vectors, np.float64).reshape(-1, 4)
    n = len(rows)
    features = FeatureRows(rows, {}, np.zeros(n, np.uint8), np.zeros(n, np.bool_))
    route = Route("checkout", [RouteArm("champion", 1, LastColumn(), thresholds=thresholds)])
    return decide(endpoint, features, route, "service", lambda: (None, np.arange(first, first + n)))


def action_of(policy, row, draw, name):
    """What the policy says about one event, read aloud: action, rule and what its score meant where it was explored."""
    for rule in policy.rules:
        if row[FEATURES.index(rule.when)] == 1:
            return rule.action, rule.name, None
    meant = policy.default
    for action, threshold in policy.actions:
        if row[3] >= threshold:
            meant = action
    if meant != policy.default and draw < dict(policy.explore).get(meant, 0):
        return policy.default, None, meant
    return meant, None, None


FLAGS = st.sampled_from([0.0, 1.0, math.nan])
ROWS = st.lists(
    st.tuples(FLAGS, FLAGS, FLAGS, st.sampled_from([0.1, 0.5, 0.89, 0.9, math.nan])), min_size=1, max_size=40
)


@given(
    rows=ROWS,
    order=st.permutations(RULES),
    used=st.integers(0, 3),
    explore=st.sampled_from([0, 0.3, {"block": 0.5}]),
)
def test_decisions_are_what_the_policy_says_event_by_event(rows, order, used, explore):
    policy = Policy("card", actions={"review": 0.5, "block": 0.9}, rules=order[:used], explore=explore)
    endpoint = with_policy(BARE, policy, FEATURES)
    draws = unit_draws(np.arange(7, 7 + len(rows), dtype=np.uint64), "checkout/explore")
    whole = decided(endpoint, rows, first=7)
    for i, row in enumerate(rows):
        alone = decided(endpoint, [row], first=7 + i)
        for found, at in ((whole, i), (alone, 0)):
            action, rule, meant = action_of(policy, row, draws[i], "checkout")
            assert found.actions[found.taken[at]] == action
            assert found.rule(at) == rule
            assert bool(found.flags[at] & Flag.EXPLORED) is (meant is not None)
            assert found.propensity(at) == (None if meant is None else dict(policy.explore)[meant])


@given(rows=ROWS)
def test_what_was_stored_comes_back(rows):
    before = decided(node(rules=RULES, explore=0.5), rows)
    after = Decisions.from_bytes(before.to_bytes())
    for i in range(len(rows)):
        assert (after.rule(i), after.propensity(i), after.policy) == (
            before.rule(i),
            before.propensity(i),
            before.policy,
        )
    assert after.taken.tobytes() == before.taken.tobytes()
    assert after.label_weights().tolist() == before.label_weights().tolist()
    assert [after.take(np.array([i])).rule(0) for i in range(len(rows))] == [
        before.rule(i) for i in range(len(rows))
    ]


def test_decisions_of_before_there_were_rules_can_be_read():
    import msgspec

    whole = msgspec.msgpack.decode(decided(node(), [[0, 0, 0, 0.95]]).to_bytes())
    old = Decisions.from_bytes(msgspec.msgpack.encode(whole[:10]))
    assert (old.rule(0), old.propensity(0), old.label_weights().tolist()) == (None, None, [1.0])


def test_an_earlier_rule_wins_and_null_does_not_fire():
    both = [[1, 1, 0, 0.99]]
    assert decided(node(rules=RULES), both).taken.tolist() == [0]
    assert decided(node(rules=RULES[::-1]), both).rule(0) == "blocked card"
    assert decided(node(rules=RULES), [[math.nan] * 3 + [0.1]]).rule(0) is None


def test_rules_decide_without_a_score():
    endpoint = node(actions={}, rules=RULES)
    found = decided(endpoint, [[0, 1, 0, math.nan], [0, 0, 0, 0.99]])
    assert [found.actions[code] for code in found.taken] == ["block", "approve"]


def test_a_version_brings_its_thresholds_along():
    rows = [[0, 0, 0, 0.6], [0, 0, 0, 0.8]]
    assert decided(node(), rows).taken.tolist() == [1, 1]
    assert decided(node(), rows, thresholds=(0.7, 0.75)).taken.tolist() == [0, 2]


def test_arms_keep_their_own_thresholds():
    from penstock.kernel.columns import Columns, Numeric

    rows = np.tile([0, 0, 0, 0.6], (400, 1)).astype(float)
    features = FeatureRows(rows, {}, np.zeros(400, np.uint8), np.zeros(400, np.bool_))
    arms = [RouteArm("a", 1, LastColumn()), RouteArm("b", 1, LastColumn(), thresholds=(0.7, 0.8))]
    events = Columns(400, {"card": Numeric(np.arange(400))})
    route = Route("checkout", arms, sticky=("card",))
    found = decide(node(), features, route, "service", lambda: (events, np.arange(400)))
    assert set(found.by.tolist()) == {0, 1}
    assert (found.taken == np.where(found.by == 0, 1, 0)).all()


def test_labels_weighted_by_propensity_recover_the_truth():
    """Blocked events have no label. The rate of frauds among all, and among those that would be blocked, is recovered all the same."""
    rng = np.random.default_rng(3)
    n = 400_000
    scores = rng.random(n)
    fraud = rng.random(n) < scores**3
    rows = np.zeros((n, 4))
    rows[:, 3] = scores
    rows[rng.random(n) < 0.01, 1] = 1  # blocked by a rule: never explored, so never labelled
    found = decided(node(rules=RULES, explore=0.05), rows)
    labelled = found.taken == 0
    weights = found.label_weights() * labelled
    reachable = rows[:, 1] == 0
    for part in (reachable, reachable & (scores >= 0.9), reachable & (scores < 0.5)):
        truth = fraud[part].mean()
        estimate = (weights * fraud)[part].sum() / weights[part].sum()
        assert estimate == pytest.approx(truth, abs=0.02)
        assert weights[part].sum() == pytest.approx(part.sum(), rel=0.05)
    naive = fraud[labelled & reachable].mean()
    assert naive < 0.5 * fraud[reachable].mean()  # what one would learn without weights
    assert (found.label_weights()[(found.taken == 2) & (found.fired == 0)] == 0).all()


def test_exploration_is_drawn_anew_for_other_endpoints_and_nests_as_it_grows():
    rows = np.tile([0, 0, 0, 0.95], (20_000, 1))
    few, many = (decided(node(explore=share), rows) for share in (0.02, 0.1))
    other = decided(replace(node(explore=0.1), name="refunds"), rows)
    explored = [(found.flags & Flag.EXPLORED) > 0 for found in (few, many, other)]
    assert explored[0].mean() == pytest.approx(0.02, abs=0.005)
    assert (explored[0] <= explored[1]).all()
    assert (explored[1] & explored[2]).mean() == pytest.approx(0.01, abs=0.004)


def test_the_policys_version_is_what_it_means():
    policy = Policy("card", actions={"block": 0.9}, rules=RULES)
    assert policy_digest(policy) == policy_digest(
        Policy("other", actions={"block": 0.9}, rules=RULES, costs=CostMatrix(1, 2))
    )
    others = [
        Policy("card", actions={"block": 0.9}, rules=RULES[::-1]),
        Policy("card", actions={"block": 0.9}, rules=RULES, explore=0.1),
        Policy("card", actions={"block": CostOptimal(0.9)}, rules=RULES, costs=CostMatrix(1, 2)),
        Policy("card", actions={"block": 0.9}, default="accept", rules=RULES),
    ]
    assert len({policy_digest(one) for one in (policy, *others)}) == 5
