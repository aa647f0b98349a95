"""The enriched fraud features tell more than the published ones, by the same protocol, in a small world."""

import pytest

from examples.fraud.definitions import fraud_features
from examples.fraud.enriched_definitions import enriched_features
from examples.fraud.enriched_run import PUBLISHED_SETTINGS, weeks_of
from examples.fraud.world import SMALL, World


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(SMALL, tmp_path_factory.mktemp("enriched"))


def test_more_features_rank_frauds_higher(world):
    plain, enriched = (
        weeks_of(world, service, world.protocol).score(PUBLISHED_SETTINGS)
        for service in (fraud_features, enriched_features)
    )
    assert enriched.average_precision > plain.average_precision + 0.03
