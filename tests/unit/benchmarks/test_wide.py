"""The wide benchmark asks for a hundred features, and its check finds a wrong one."""

import sys

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import wide
from benchmarks.environments import PEERS


@pytest.fixture(scope="module")
def names():
    sys.path.insert(0, str(PEERS / "shared"))
    try:
        import wide_work
    finally:
        sys.path.remove(str(PEERS / "shared"))
    yield wide_work
    del sys.modules["wide_work"]


def test_a_hundred_features_of_payments_that_are_alike_every_time(names):
    assert len(set(names.ALL)) == 100
    assert (len(names.COMMON), names.ALL[:86]) == (86, names.COMMON)
    table = wide.payments_table(1_000)
    assert table.equals(wide.payments_table(1_000))
    found = wide.run_penstock(table, names.ALL)
    assert (found.column_names, found.num_rows) == (names.ALL, 1_000)
    card, amount = table["card_id"].to_numpy(), table["amount"].to_numpy()
    time = table["timestamp"].cast(pa.int64()).to_numpy()
    for row in (0, 500, 999):
        inside = (card == card[row]) & (time <= time[row]) & (time > time[row] - 30 * wide.DAY_US)
        assert found["card_count_30d"][row].as_py() == inside.sum()
        assert found["card_mean_30d"][row].as_py() == pytest.approx(amount[inside].mean(), rel=1e-14)
        others = len(np.unique(table["terminal_id"].to_numpy()[inside]))
        assert found["card_distinct_30d"][row].as_py() == others
        before = np.flatnonzero(inside)[:-1]
        assert found["card_previous"][row].as_py() == (amount[before[-1]] if len(before) else None)


@pytest.mark.parametrize(("change", "differing"), [(0.0, 0), (1e-12, 0), (1e-6, 1)])
def test_the_check_finds_a_wrong_value_in_any_column(monkeypatch, tmp_path, change, differing):
    monkeypatch.setattr(wide, "_output_of", lambda name: tmp_path / name)
    for name, value in (("ours", 2.0 + change), ("theirs", 2.0)):
        table = pa.table({"a": [1, 2, 3], "b": [None, 1.0, value]})
        with pa.OSFile(str(tmp_path / name), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    assert wide.compare("ours", "theirs").differing == differing


def test_each_peer_is_compared_over_the_same_features():
    figures = [
        wide.Figure.median(name, "/s", [speed], peak_mb=peak)
        for name, speed, peak in (("Penstock", 10.0, 3.0), ("Polars", 5.0, 2.0), ("DuckDB, common", 1.0, 1.0))
    ]
    bars = {bar.what: bar.value for bar in wide._bars(figures)}
    assert bars["100 features, times Polars"] == 2.0
    assert bars["100 features, peak memory over Polars's"] == 1.5
    assert bars["86 common features, times DuckDB"] is None
    assert bars["86 common features, peak memory over DuckDB's"] is None
