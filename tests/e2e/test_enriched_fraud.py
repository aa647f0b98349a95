"""The enriched fraud features tell more than the published ones, by the same protocol, in a small world."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from examples.fraud.definitions import fraud_features
from examples.fraud.enriched_definitions import (
    FASTEST_KMH,
    GROUPS,
    REACH,
    category_risk,
    customers,
    enriched_features,
    person,
    profile,
    travel,
)
from examples.fraud.enriched_run import (
    PUBLISHED_SETTINGS,
    QUICK_SETTINGS,
    columns_of,
    group_table,
    weeks_of,
)
from examples.fraud.enrichment import Enrichment
from examples.fraud.online_definitions import logistic_online, trees_online
from examples.fraud.online_run import FIRST_DAY, features_of
from examples.fraud.protocol import utc_days
from examples.fraud.world import SMALL, World, events_of, labels_of
from penstock import FeatureService

DAY_S = 86_400


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(SMALL, tmp_path_factory.mktemp("enriched"))


@pytest.fixture(scope="module")
def extra(world):
    return Enrichment(world.config)


@pytest.fixture(scope="module")
def weeks(world, extra):
    return weeks_of(world, extra, world.protocol)


def test_more_features_rank_frauds_higher(weeks):
    plain, enriched = (
        part.score(PUBLISHED_SETTINGS) for part in (weeks.only(columns_of("published")), weeks)
    )
    assert enriched.average_precision > plain.average_precision + 0.03


def test_the_published_features_of_the_richer_stream_are_the_published_ones(world, weeks):
    rows = world.between(world.protocol.train_start, world.live_start)
    past = world.between(world.protocol.train_start - REACH, world.live_start)
    history = {"transactions": events_of(past), "chargebacks": labels_of(past)}
    frame = fraud_features.get_features_for_events(events_of(rows), history=history)
    own = weeks.only(columns_of("published"))
    assert own.names == frame.feature_names
    np.testing.assert_array_equal(own.features, frame.to_numpy())


@pytest.mark.parametrize(
    ("model", "features"), [(logistic_online, fraud_features), (trees_online, enriched_features)]
)
def test_models_that_go_on_learning_get_their_features(world, model, features):
    table = world.between(FIRST_DAY, FIRST_DAY + timedelta(days=5))
    vectors = features_of(model, world, table)
    assert model.features is features
    assert vectors.shape == (table.num_rows, 15 if features is fraud_features else 65)
    assert np.isfinite(vectors[:, 0]).all()


def test_every_feature_is_in_one_group(weeks):
    assert [name for group in GROUPS for name in columns_of(group)] == list(weeks.names)


def test_the_table_shows_what_each_group_gives(monkeypatch, weeks):
    monkeypatch.setitem(QUICK_SETTINGS, "n_estimators", 20)
    rows = {group: cells for group, *cells in group_table(weeks, weeks).rows}
    assert list(rows) == [group for group in GROUPS if group != "published"]
    count, gain, loss = rows["terminal compromise"]
    assert int(count) == len(columns_of("terminal compromise"))
    assert min(float(cell.split()[0]) for cell in (gain, loss)) > 0.005


# What the features should be, by plain Python over the last payments of a small share of the customers.


@pytest.fixture(scope="module")
def asked(world, extra):
    rows = extra.located(world.between(world.protocol.test_start, world.live_start))
    return rows.filter(pc.less(rows["customer_id"], 40))


@pytest.fixture(scope="module")
def found(world, extra, asked):
    service = FeatureService("checked", features=[travel, person, category_risk])
    past = world.between(world.protocol.test_start - REACH, world.live_start)
    history = {
        "located_transactions": extra.located(events_of(past)),
        "located_chargebacks": labels_of(past),
        "customers": extra.profiles(),
    }
    return service.get_features_for_events(asked.drop_columns(["is_fraud"]), history=history).to_arrow()


def kilometres(a, b):
    """The spherical law of cosines: another formula."""
    (y, x), (v, u) = [[math.radians(part) for part in place] for place in (a, b)]
    cosine = math.sin(y) * math.sin(v) + math.cos(y) * math.cos(v) * math.cos(x - u)
    return 6371.0088 * math.acos(min(cosine, 1.0))


def test_travel_is_from_the_last_payment(world, extra, asked, found):
    past = extra.located(world.between(world.protocol.test_start - timedelta(days=30), world.live_start))
    by_id = {row["transaction_id"]: row for row in past.to_pylist()}
    before = {}
    last = {}
    for row in by_id.values():
        before[row["transaction_id"]] = last.get(row["customer_id"])
        last[row["customer_id"]] = row
    checked = impossible = 0
    for row in found.to_pylist():
        previous = before[row["transaction_id"]]
        if previous is None:
            continue
        here, there = ((r["latitude"], r["longitude"]) for r in (row, previous))
        seconds = (row["timestamp"] - previous["timestamp"]).total_seconds()
        assert row["travel__distance_km"] == pytest.approx(kilometres(here, there), abs=1e-3)
        if seconds:
            speed = row["travel__distance_km"] / (seconds / 3600)
            assert row["travel__speed_kmh"] == pytest.approx(speed, rel=1e-12)
            assert row["travel__is_impossible"] is (speed > FASTEST_KMH)
        checked += 1
        impossible += row["travel__is_impossible"]
    assert checked > 200
    assert impossible < checked


def test_the_profile_is_that_of_the_time_of_the_payment(extra, found):
    history = {}
    for row in extra.profiles().to_pylist():
        history.setdefault(row["customer_id"], []).append(row)
    for row in found.to_pylist():
        (known,) = (
            p
            for p in history[row["customer_id"]]
            if p["valid_from"] <= row["timestamp"]
            and (p["valid_to"] is None or row["timestamp"] < p["valid_to"])
        )
        home = kilometres(
            (row["latitude"], row["longitude"]), (known["home_latitude"], known["home_longitude"])
        )
        assert row["person__km_from_home"] == pytest.approx(home, abs=1e-3)
        age_days = (row["timestamp"] - known["born"]).total_seconds() / DAY_S
        assert row["person__age_years"] == pytest.approx(age_days / 365.25)
        account_days = (row["timestamp"] - known["opened"]).total_seconds() / DAY_S
        assert row["person__account_days"] == pytest.approx(account_days)


def test_the_risk_of_a_trade_is_what_was_reported_by_then(world, extra, found):
    past = extra.located(world.between(world.protocol.test_start - REACH, world.live_start))
    category = past["merchant_category"].to_numpy(zero_copy_only=False)
    fraud = past["is_fraud"].to_numpy(zero_copy_only=False)
    reported = past["timestamp"].cast(pa.int64()).to_numpy() + 7 * DAY_S * 10**6
    for row in found.slice(0, 200).to_pylist():
        now = round(row["timestamp"].timestamp() * 10**6)
        known = (
            (category == row["merchant_category"]) & (reported <= now) & (reported > now - 30 * DAY_S * 10**6)
        )
        assert row["category_risk__share_30d"] == fraud[known].mean()


def test_the_profiles_history_comes_back_with_its_validity(extra):
    """What `get_features_in_range` says of the profile is the table that was written, valid_to included."""
    table = extra.profiles()
    start, end = datetime(1990, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)
    frame = profile.get_features_in_range(start, end, history={customers.name: table}).to_arrow()
    order = [("customer_id", "ascending"), ("valid_from", "ascending")]
    found = frame.rename_columns([name.removeprefix("_") for name in frame.column_names]).sort_by(order)
    expected = table.sort_by(order)
    assert found["valid_from"].to_pylist() == expected["valid_from"].to_pylist()
    assert found["valid_to"].to_pylist() == [at or end for at in expected["valid_to"].to_pylist()]
    assert found["home_latitude"].to_pylist() == expected["home_latitude"].to_pylist()


def test_profiles_are_alike_every_time_and_know_nothing_of_payments(world, extra):
    again = Enrichment(world.config)
    assert again.profiles().equals(extra.profiles())
    movers = extra.profiles().num_rows - world.config.customers
    assert 0.05 < movers / world.config.customers < 0.15
    rows = world.between(world.protocol.test_start, world.live_start)
    assert extra.located(rows).select(rows.column_names).equals(rows)
    assert len(set(utc_days(rows).tolist())) == 7
    assert enriched_features.feature_types["travel.is_impossible"].name == "Bool"
