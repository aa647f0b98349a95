"""The simulator against a second writing of the same recipe: one draw after the other, no arrays."""

import hashlib
import random

import numpy as np
import pyarrow as pa
import pytest

from examples.fraud.simulator import SCHEMA, SimulatorConfig, cache_path, simulate, transactions

SMALL = SimulatorConfig(customers=50, terminals=100, days=30, radius=20.0)
SMALL_DIGEST = "64c43f3802bb7d123ba80e366ba13823"
CROWDED = SimulatorConfig(customers=600, terminals=200, days=5, radius=20.0)  # many rows share their second


def digest(columns):
    """SHA-256 of the columns' values, eight bytes each."""
    whole = hashlib.sha256()
    for values in columns:
        whole.update(np.asarray(values, np.float64 if isinstance(values[0], float) else np.int64).tobytes())
    return whole.hexdigest()[:32]


def naive(config):
    """Rows of (second, customer, terminal, amount, scenario) by the published recipe, in plain Python."""
    np.random.seed(0)  # noqa: NPY002 - the published data is a path through this very generator
    u = np.random.uniform
    customers = [(u(0, 100), u(0, 100), u(5, 100), u(0, 4)) for _ in range(config.customers)]
    np.random.seed(1)  # noqa: NPY002
    terminals = [(u(0, 100), u(0, 100)) for _ in range(config.terminals)]
    rows = [row for c, who in enumerate(customers) for row in naive_customer(c, who, terminals, config)]
    order = introsort([row[0] for row in rows])
    return naive_frauds([rows[i] for i in order], config)


def naive_customer(c, who, terminals, config):
    x, y, mean, rate = who
    near = [i for i, (a, b) in enumerate(terminals) if ((a - x) ** 2 + (b - y) ** 2) ** 0.5 < config.radius]
    np.random.seed(c)  # noqa: NPY002
    random.seed(c)
    for day in range(config.days):
        for _ in range(np.random.poisson(rate)):  # noqa: NPY002
            t = int(np.random.normal(43_200, 20_000))  # noqa: NPY002
            if not 0 < t < 86_400:
                continue
            amount = np.random.normal(mean, mean / 2)  # noqa: NPY002
            if amount < 0:
                amount = np.random.uniform(0, 2 * mean)  # noqa: NPY002
            if near:
                yield [t + 86_400 * day, c, random.choice(near), float(np.round(amount, 2)), 0]


def naive_frauds(rows, config):
    last = max(row[0] for row in rows) // 86_400
    for row in rows:
        row[4] = 1 if row[3] > 220 else 0
    for d in range(last):
        hit = set(np.random.RandomState(d).choice(config.terminals, 2, replace=False).tolist())
        for row in rows:
            if row[2] in hit and d <= row[0] // 86_400 < d + 28:
                row[4] = 2
    for d in range(last):
        hit = set(np.random.RandomState(d).choice(config.customers, 3, replace=False).tolist())
        own = [i for i, row in enumerate(rows) if row[1] in hit and d <= row[0] // 86_400 < d + 14]
        random.seed(d)
        for i in random.sample(own, len(own) // 3):
            rows[i][3] *= 5
            rows[i][4] = 3
    return rows


def introsort(keys):  # noqa: C901 - one algorithm, in its textbook shape
    """Argsort by the classic introsort: median of three, insertion sort of up to 16, larger part later. Its heap
    sort against bad luck is left out: these keys never need it."""
    a = list(range(len(keys)))
    todo = [(0, len(a) - 1)]
    while todo:
        low, high = todo.pop()
        while high - low > 15:
            middle = low + (high - low) // 2
            for i, j in ((middle, low), (high, middle), (middle, low)):
                if keys[a[i]] < keys[a[j]]:
                    a[i], a[j] = a[j], a[i]
            pivot = keys[a[middle]]
            i, j = low, high - 1
            a[middle], a[j] = a[j], a[middle]
            while True:
                i += 1
                while keys[a[i]] < pivot:
                    i += 1
                j -= 1
                while pivot < keys[a[j]]:
                    j -= 1
                if i >= j:
                    break
                a[i], a[j] = a[j], a[i]
            a[i], a[high - 1] = a[high - 1], a[i]
            if i - low < high - i:
                todo.append((i + 1, high))
                high = i - 1
            else:
                todo.append((low, i - 1))
                low = i + 1
        for i in range(low + 1, high + 1):
            moving, j = a[i], i
            while j > low and keys[moving] < keys[a[j - 1]]:
                a[j] = a[j - 1]
                j -= 1
            a[j] = moving
    return a


def columns_of(table):
    names = ("time_seconds", "customer_id", "terminal_id", "amount", "fraud_scenario")
    return [table[name].to_pylist() for name in names]


@pytest.fixture(scope="module")
def small():
    return simulate(SMALL)


def test_equals_the_naive_version_bit_for_bit_and_the_pinned_digest(small):
    expected = [list(column) for column in zip(*naive(SMALL), strict=True)]
    assert columns_of(small) == expected
    assert digest(columns_of(small)) == SMALL_DIGEST


def test_rows_of_one_second_come_in_the_published_order():
    table = simulate(CROWDED)
    seconds = table["time_seconds"].to_numpy()
    assert len(seconds) - len(np.unique(seconds)) > 50
    assert columns_of(table) == [list(column) for column in zip(*naive(CROWDED), strict=True)]


def test_derived_columns_follow_from_the_seconds(small):
    assert small.schema == SCHEMA
    assert small["transaction_id"].to_pylist() == list(range(small.num_rows))
    seconds = small["time_seconds"].to_numpy()
    assert (np.diff(seconds) >= 0).all()
    assert (small["time_days"].to_numpy() == seconds // 86_400).all()
    start_us = 1_522_540_800_000_000
    assert (small["timestamp"].cast(pa.int64()).to_numpy() == start_us + seconds * 1_000_000).all()
    assert small["is_fraud"].to_pylist() == [s > 0 for s in small["fraud_scenario"].to_pylist()]


def test_numpy_sorts_datetimes_by_the_classic_introsort():
    """The published order of rows of one second rests on it; see `simulator._numbered_by_time`."""
    for seed, size in enumerate([0, 1, 16, 17, 18, 500, 5_000]):
        keys = np.random.RandomState(seed).randint(0, max(size // 8, 1), size)
        assert np.argsort(keys.view("datetime64[s]"), kind="quicksort").tolist() == introsort(keys.tolist())


def test_a_world_in_which_nobody_can_pay_is_empty_not_an_error():
    table = simulate(SimulatorConfig(customers=3, terminals=2, days=2, radius=1e-9))
    assert table.num_rows == 0
    assert table.schema == SCHEMA


def test_progress_is_told_of_each_customer():
    done = []
    simulate(SimulatorConfig(customers=5, terminals=10, days=2), lambda: done.append(1))
    assert len(done) == 5


def test_the_cache_is_read_and_leaves_no_unfinished_file(tmp_path, monkeypatch):
    first = transactions(SMALL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [cache_path(SMALL, tmp_path).name]
    monkeypatch.setattr("examples.fraud.simulator.simulate", lambda *_: pytest.fail("simulated again"))
    assert transactions(SMALL, tmp_path).equals(first)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"customers": 2}, "customers=2, must be at least 3"),
        ({"terminals": 1}, "terminals=1, must be at least 2"),
        ({"days": 0}, "days=0, must be at least 1"),
        ({"radius": float("nan")}, "radius=nan, must be above 0"),
    ],
)
def test_an_impossible_world_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SimulatorConfig(**wrong)
