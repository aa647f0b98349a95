"""Bars of the fraud benchmark, through the platform: the definitions give the published features and the published table."""

import numpy as np
import pytest

from examples.fraud.training import agrees, train_all, training_set
from examples.fraud.world import HERE, World
from penstock.definitions.project import load_project
from tests.e2e.published_features import published_features


@pytest.fixture(scope="module")
def project():
    return load_project(HERE)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    (HERE / "data").mkdir(exist_ok=True)
    (folder / "data").symlink_to(HERE / "data")
    return World(folder=folder)


def test_the_definitions_give_the_published_features(world, project):
    rows, frame = training_set(world, project)
    past = world.with_history(world.protocol.train_start, world.live_start)
    expected = published_features(past).to_numpy(np.float64)[-rows.num_rows :]
    assert frame.to_numpy().shape == (201_295, 15)
    np.testing.assert_allclose(frame.to_numpy(), expected, rtol=0, atol=1e-9)


def test_the_four_models_reach_the_published_table(world, project):
    found = train_all(world, project, lambda line: None)
    assert [row.name for row in found if not agrees(row)] == []
    assert {(row.train_rows, row.train_frauds, row.test_rows, row.test_frauds) for row in found} == {
        (67_240, 598, 58_264, 385)
    }
    assert {round(row.ceiling, 3) for row in found} == {0.397}
    assert len(found) == 4
