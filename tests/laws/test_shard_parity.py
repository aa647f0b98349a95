"""A plan that is cut by key says what one machine says, bit for bit, wherever the keys are and however the rows are batched."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.engine.feature_stream import part_table
from penstock.engine.features import FeatureState
from penstock.engine.history import features_from_log
from penstock.engine.kernel_rows import Rows
from penstock.engine.replay import read_chunks
from penstock.engine.shards import check_keys, shard_plan
from tests.laws import test_engine_parity as engine
from tests.laws import test_fold_parity as folds
from tests.laws import test_profile_parity as profiles
from tests.laws.parity import engine_of, run_live, store_in
from tests.laws.shard_laws import sharded_features


def check(plan, service, batches, *, parts, batch_rows):
    with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
        one = engine_of(plan, store, ids, FeatureState(plan))
        run_live(one, batches)
        one.close()
        (chunk,) = read_chunks(store, plan, start=0, stop=store.next_position, chunk_rows=1 << 20)
        if service.source not in chunk.rows:
            return
        logged = features_from_log(store, plan, service)
    wanted = part_table(logged, plan.sources[service.source], service)
    rows = {name: Rows(r.columns, r.positions) for name, r in chunk.rows.items()}
    refusal, found = "", None
    try:
        found = sharded_features(shard_plan(plan, [service]), rows, parts=parts, batch_rows=batch_rows)
    except InputError as error:
        refusal = str(error)
    if found is None:  # more keys than one machine remembers
        assert any(f"{view.name!r}" in refusal for view in plan.views if view.program.max_keys <= 3)
        return
    assert found["_lateness"].to_pylist() == logged.features.lateness.tolist()
    assert found["_degraded"].to_pylist() == logged.features.degraded.tolist()
    for name in wanted.column_names:
        assert repr(found[name].to_pylist()) == repr(wanted[name].to_pylist()), name


@settings(max_examples=60, deadline=None)
@given(engine.batched(), st.integers(1, 5), st.integers(1, 9))
def test_streams_and_labels(batches, parts, batch_rows):
    plan = engine.PLAN
    check(plan, plan.services["everything"], batches, parts=parts, batch_rows=batch_rows)


@settings(max_examples=40, deadline=None)
@given(profiles.batched(), st.integers(1, 5), st.integers(1, 9))
def test_profiles(batches, parts, batch_rows):
    plan = profiles.PLAN
    check(plan, plan.services["everything"], batches, parts=parts, batch_rows=batch_rows)


@settings(max_examples=30, deadline=None)
@given(folds.batched(), st.integers(1, 5), st.integers(1, 9), st.booleans())
def test_aggregations_beside_the_kernel(batches, parts, batch_rows, limited):
    plan = folds.PLAN if limited else replace(folds.PLAN, views=tuple(map(unlimited, folds.PLAN.views)))
    check(plan, plan.services["everything"], batches, parts=parts, batch_rows=batch_rows)


def unlimited(view):
    return replace(view, program=replace(view.program, max_keys=1_000_000))


def test_more_keys_than_are_allowed_are_refused():
    plan = folds.PLAN
    view = next(i for i, one in enumerate(plan.views) if one.name == "by_device")
    keys = [3 if i == view else 0 for i in range(len(plan.views))]
    check_keys(plan, keys)
    keys[view] += 1
    with pytest.raises(InputError, match=r"'by_device': 4 keys found; max_keys=3 are allowed"):
        check_keys(plan, keys)
