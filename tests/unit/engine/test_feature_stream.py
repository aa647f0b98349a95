"""Features of a whole log as a stream: the same rows whichever way they are cut, and little memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.engine import ordered_log, replay
from penstock.engine.feature_stream import logged_stream
from penstock.engine.history import feature_parts, features_from_log
from penstock.stores.reader import ProjectReader
from penstock.stores.spill import SpillFile
from tests.unit.engine import large_log

MiB = 1 << 20


@pytest.fixture(scope="module")
def small_log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    with ProjectReader.open_reader(large_log.write(folder, 30_000)) as store:
        yield store, folder


def stream_of(store, folder, as_of):
    return logged_stream(
        store,
        large_log.plan,
        large_log.plan.services["features"],
        as_of=as_of,
        shelves=lambda: SpillFile(folder / "tmp", memory_bytes=MiB),
    )


@pytest.mark.parametrize("as_of", ["served", "corrected"])
def test_the_stream_is_the_features_of_the_log(small_log, monkeypatch, as_of, tmp_path):
    store, folder = small_log
    service = large_log.plan.services["features"]
    logged = features_from_log(store, large_log.plan, service, as_of=as_of)
    assert (logged.positions == np.arange(30_000)).all()
    for module, name, rows in ((ordered_log, "_BLOCK_ROWS", 100), (ordered_log, "_SORTED_ROWS", 1000)):
        monkeypatch.setattr(module, name, rows)
    parts = list(feature_parts(store, large_log.plan, service, as_of=as_of))
    positions = np.concatenate([part.positions for part in parts])
    values = np.concatenate([part.features.values for part in parts])
    assert np.array_equal(values, logged.features.values[positions], equal_nan=True)
    table = stream_of(store, folder, as_of).to_arrow()
    times = table.column("time").cast(pa.int64()).to_numpy()
    assert (np.diff(times) >= 0).all() == (as_of == "corrected")
    assert table.column("id").to_pylist() == positions.tolist()
    stream = stream_of(store, folder, as_of)
    assert [len(b) for b in stream.batches(rows=20_000)] == [20_000, 10_000]
    assert stream.to_parquet(tmp_path / "x.parquet") == len(stream) == 30_000
    assert pq.read_table(tmp_path / "x.parquet").equals(table)
    assert stream.to_numpy().shape == (30_000, 7)


def test_rows_come_in_the_order_of_time_labels_first_then_the_log(small_log, monkeypatch):
    store, _ = small_log
    monkeypatch.setattr(ordered_log, "_BLOCK_ROWS", 40)
    monkeypatch.setattr(ordered_log, "_SORTED_ROWS", 1000)
    found, places, parts = [], [], 0
    for part in ordered_log.rows_by_event_time(store, large_log.plan, stop=30_000, chunk_rows=200):
        parts += 1
        for name, rows in part.rows.items():
            times = rows.columns["known" if name == "frauds" else "time"].values
            found += [(t, name != "frauds", p) for t, p in zip(times, part.logged[name], strict=True)]
            places += rows.positions.tolist()
    assert parts > 50
    assert sorted(places) == list(range(len(found)))
    ordered = [found[i] for i in np.argsort(places)]
    assert ordered == sorted(found)
    assert len(found) > 30_000, "labels are among them"
    assert len({t for t, _, _ in found}) < len(found) // 10, "and many times are equal"


def test_a_failing_stream_leaves_no_file(small_log, monkeypatch, tmp_path):
    store, folder = small_log
    stream = stream_of(store, folder, "served")
    monkeypatch.setattr(replay, "_merge", lambda _parts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stream.to_parquet(tmp_path / "x.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("as_of", ["served", "corrected", "given"])
def test_memory_does_not_grow_with_the_log(tmp_path, as_of):
    """Two million events, four times as many as at first, and no more memory; ninety bytes each would show as 130 MiB."""
    held = []
    for count in (500_000, 2_000_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        large_log.write(folder, count)
        command = [
            sys.executable,
            "-m",
            "tests.unit.engine.large_log",
            str(folder),
            as_of,
            str(folder / "out.parquet"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows, memory = map(int, done.stdout.split())
        assert (
            rows
            == (1_000 if as_of == "given" else count)
            == pq.read_metadata(folder / "out.parquet").num_rows
        )
        held.append(memory)
    assert held[1] - held[0] < 64 * MiB
    assert held[1] < 700 * MiB
