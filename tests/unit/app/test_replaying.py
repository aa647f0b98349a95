"""Recomputing a stretch of the log to a file: exact features, lists among them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from penstock.app.replaying import recompute
from penstock.app.runtime import open_reader, plan_of
from penstock.definitions.project import load_project
from penstock.engine.history import features_from_log
from tests.unit.app.offline_project import fill, project, steps


def test_a_stretch_is_written_with_its_lists(tmp_path):
    root = fill(project(tmp_path / "p"), steps(2))
    plan = plan_of(load_project(root))
    service = plan.services["arrays"]
    with open_reader(root) as store:
        logged = features_from_log(store, plan, service)
    start, stop = int(logged.positions[20]), int(logged.positions[60])
    out = tmp_path / "x.parquet"
    done = recompute(root, "arrays", start=start, stop=stop, out=out)
    table = pq.read_table(out)
    part = logged.take(np.arange(20, 60))
    assert done.rows == len(table) == 40
    assert table.column("position").to_pylist() == part.positions.tolist()
    assert table.column("id").to_pylist() == part.events["id"].to_strings()
    for at, lists in part.features.arrays.items():
        output = service.outputs[at]
        column = table.column(output.name.replace(".", "__"))
        assert pa.types.is_list(column.type)
        assert column.to_pylist() == lists.to_lists(output.dtype)
    assert len(part.features.arrays) == 3
