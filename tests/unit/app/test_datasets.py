"""Data sets: recorded without a copy, made again bit for bit, refused where that cannot be."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from penstock.app import forgetting, offline_erasure
from penstock.app.dataset_rows import DatasetDigest
from penstock.app.datasets import DatasetFolder, rebuild_dataset, record_dataset
from penstock.app.forgetting import forget
from penstock.app.offline import compact, store_of, sync, vacuum
from penstock.app.recording import recorded
from penstock.app.runtime import open_reader, plan_of
from penstock.core.errors import CorruptionError, InputError, NotFoundError, PlanError, StoreError
from penstock.core.time import from_us
from penstock.definitions.project import load_project
from penstock.engine.history import features_from_log
from penstock.models.dataset import labels_at
from penstock.testing.clock import ManualClock
from tests.unit.app.offline_project import DAY, DEFINITIONS, START, fill, open_runtime, project, steps

BATCHES = steps(3, count=14)
HALF = len(BATCHES) // 2


def record(runtime, **asked):
    return runtime.dataset("features", label="frauds", **asked)


def asked_by_everyone(runtime):
    """A data set of each kind."""
    middle = from_us(START + DAY)
    return [
        record(runtime),
        record(runtime, as_of="corrected"),
        record(runtime, start_time=middle, end_time=middle + timedelta(hours=20)),
        record(runtime, as_of="corrected", label_delay=timedelta(hours=2)),
        runtime.dataset("numbers"),
        runtime.dataset("arrays", label="frauds", as_of="corrected"),
    ]


@pytest.fixture(scope="module")
def recorded_early(tmp_path_factory):
    """A project, its data sets recorded at half of its life, and their rows as they were then."""
    root = project(tmp_path_factory.mktemp("recorded") / "p", "[offline]\nblock_rows = 40\n")
    with open_runtime(root) as runtime:
        for source, events in BATCHES[:HALF]:
            runtime.ingest(source, events)
        found = asked_by_everyone(runtime)
        rows = [rebuild_dataset(root, one.id).to_arrow() for one in found]
        for source, events in BATCHES[HALF:]:
            runtime.ingest(source, events)
    sync(root)
    return root, found, rows


def test_the_rows_are_those_of_the_log(recorded_early):
    root, found, rows = recorded_early
    plan = plan_of(load_project(root))
    with open_reader(root) as store:
        for dataset, table in zip(found[:2], rows[:2], strict=True):
            asked = dataset.question
            service = plan.services["features"]
            logged = features_from_log(store, plan, service, as_of=asked.as_of, stop=asked.position)
            order = np.argsort(table.column("_position").to_numpy())
            assert (table.column("_position").to_numpy()[order] == logged.positions).all()
            names = [n for n in table.column_names if "__" in n and "note" not in n]
            found_values = np.column_stack([table.column(n).cast("float64").to_numpy()[order] for n in names])
            numeric = [i for i, o in enumerate(service.outputs) if o.dtype.kind != "text"]
            expected = logged.features.values[:, numeric]
            assert np.array_equal(found_values, expected, equal_nan=True)
    times = rows[1].column("at").cast(pa.int64()).to_numpy()
    assert (np.diff(times) >= 0).all()
    assert not (np.diff(rows[0].column("at").cast(pa.int64()).to_numpy()) >= 0).all(), "events must come late"


def test_arrays_are_lists_of_their_types(recorded_early):
    root, found, rows = recorded_early
    table = rows[-1]
    service = plan_of(load_project(root)).services["arrays"]
    with open_reader(root) as store:
        logged = features_from_log(
            store,
            plan_of(load_project(root)),
            service,
            as_of="corrected",
            stop=found[-1].question.position,
        )
    order = np.argsort(table.column("_position").to_numpy())
    lists = {at: output for at, output in enumerate(service.outputs) if output.dtype.kind == "array"}
    assert [str(o.dtype) for o in lists.values()] == ["Array(String)", "Array(Int32)", "Array(Float64)"]
    for at, output in lists.items():
        column = table.column(output.name.replace(".", "__")).combine_chunks()
        assert column.type == pa.list_(
            {"S": pa.string(), "I": pa.int32(), "F": pa.float64()}[str(output.dtype)[6]]
        )
        assert column.take(order).to_pylist() == logged.features.arrays[at].to_lists(output.dtype)
        assert any(value is None for value in column.flatten().to_pylist()) == output.is_series
    assert len({len(one) for one in table.column("lists__note_last_3_1d_continuous").to_pylist()}) > 1


def test_labels_are_those_known_then(recorded_early, tmp_path):
    _, found, rows = recorded_early
    root = fill(project(tmp_path / "p"), BATCHES[:HALF])
    with open_reader(root) as store:
        assert store.next_position == found[0].question.position
        values, known = labels_at(rows[0].column("_position").to_numpy(), store.latest_labels())
    expected = [None if np.isnan(v) else bool(v) for v in values]
    assert rows[0].column("_label").to_pylist() == expected
    assert expected.count(None) not in {0, len(expected)}
    times = rows[0].column("_label_known_at").cast(pa.int64()).to_pylist()
    assert times == [None if e is None else k for e, k in zip(expected, known.tolist(), strict=True)]
    delayed = rows[3]
    late = (
        delayed.column("_label_known_at").cast(pa.int64()).to_numpy()
        - delayed.column("at").cast(pa.int64()).to_numpy()
    )
    assert np.nanmax(late) <= timedelta(hours=2) / timedelta(microseconds=1)
    assert delayed.column("_label").null_count > rows[1].column("_label").null_count
    assert 0 < len(rows[2]) < len(rows[0])


def test_more_data_compaction_and_vacuum_change_nothing(recorded_early, tmp_path):
    root, found, rows = recorded_early
    files = [rebuilt_file(root, one.id, tmp_path / f"{i}.parquet") for i, one in enumerate(found)]
    compact(root)
    removed = vacuum(root, retention_hours=0)
    assert sum(removed.values()) > 0
    for i, (one, table, before) in enumerate(zip(found, rows, files, strict=True)):
        assert rebuild_dataset(root, one.id).to_arrow().equals(table)
        assert rebuilt_file(root, one.id, tmp_path / f"again-{i}.parquet") == before
        assert pq.read_table(tmp_path / f"again-{i}.parquet").equals(table)


def rebuilt_file(root, dataset, path):
    rebuild_dataset(root, dataset).to_parquet(path)
    return path.read_bytes()


def test_what_the_log_held_later_is_not_seen(recorded_early):
    root, found, rows = recorded_early
    for one, table in zip(found, rows, strict=True):
        later = record_dataset(root, one.service, one.question, clock=ManualClock(START))
        assert later.id == one.id
        assert max(at.exported for at in later.tables.values()) > one.question.position
        assert rebuild_dataset(root, one.id).to_arrow().equals(table)
        DatasetFolder(root).save(one)


def test_the_same_set_has_the_same_id_and_another_another(recorded_early, tmp_path):
    _, found, _ = recorded_early
    again = project(tmp_path / "p")
    with open_runtime(again) as runtime:
        for source, events in BATCHES[:HALF]:
            runtime.ingest(source, events)
        assert [one.id for one in asked_by_everyone(runtime)] == [one.id for one in found]
    assert len({one.id for one in found}) == len(found)
    assert [one.id for one in DatasetFolder(again).all()] == sorted(one.id for one in found)


def test_the_features_of_training_give_the_same_record(recorded_early, tmp_path):
    root = fill(project(tmp_path / "p"), BATCHES)
    loaded = load_project(root)
    plan, model = plan_of(loaded), loaded.models["m"]
    with open_reader(root) as store:
        for as_of in ("served", "corrected"):
            logged = features_from_log(store, plan, plan.services["numbers"], as_of=as_of)
            stop, told = store.next_position, []
            made = recorded(loaded, plan, model, logged, log=store, as_of=as_of, stop=stop, tell=told.append)
            assert not told
            assert len(rebuild_dataset(root, made).to_arrow()) == len(logged.positions)


def test_changed_definitions_are_refused(recorded_early, tmp_path):
    root, found, _ = recorded_early
    copy = shutil.copytree(root, tmp_path / "p")
    (copy / "definitions.py").write_text(DEFINITIONS.replace("offset=-hour", "offset=-2*hour"))
    with pytest.raises(PlanError, match="made by definitions with the fingerprints"):
        rebuild_dataset(copy, found[0].id)
    (copy / "definitions.py").write_text(DEFINITIONS.replace('"features", features', '"renamed", features'))
    with pytest.raises(NotFoundError, match="'features' does not exist"):
        rebuild_dataset(copy, found[0].id)


def test_missing_files_and_changed_rows_are_told(recorded_early, tmp_path):
    root, found, _ = recorded_early
    copy = shutil.copytree(root, tmp_path / "p")
    store, _ = store_of(copy)
    DeltaTable(f"{store.uri}/events/tx").update(updates={"amount": "1.5"}, predicate="shop_id = 1")
    now = store.table("events/tx").at()
    record_ = found[0]
    DatasetFolder(copy).save(replace(record_, tables={**record_.tables, "events/tx": now}))
    with pytest.raises(CorruptionError, match="A table was changed by someone else"):
        rebuild_dataset(copy, record_.id).to_parquet(tmp_path / "x.parquet")
    assert not list(tmp_path.glob("x*")), "what is wrong is not left behind"
    for file in (copy / ".penstock/offline/events/tx").rglob("*.parquet"):
        file.unlink()
    with pytest.raises(CorruptionError, match=r"a file of its version \d+ is gone"):
        rebuild_dataset(copy, found[1].id).to_arrow()
    with pytest.raises(NotFoundError, match=r"ds-nothing.*penstock dataset list"):
        rebuild_dataset(copy, "ds-nothing")


def test_what_is_asked_wrongly_is_refused(tmp_path):
    with open_runtime(fill(project(tmp_path / "p"), BATCHES[:4])) as runtime:
        with pytest.raises(InputError, match="as_of is 'now'"):
            runtime.dataset("features", as_of="now")
        with pytest.raises(
            NotFoundError, match="label source 'chargebacks' is none of 'tx'; there are frauds"
        ):
            runtime.dataset("features", label="chargebacks")
        with pytest.raises(
            NotFoundError, match="'nothing' does not exist; there are features, arrays, numbers"
        ):
            runtime.dataset("nothing")


def test_a_forgotten_key_leaves_the_tables_and_marks_the_sets_that_held_it(tmp_path):
    key = "dora-the-forgotten"
    root = project(tmp_path / "p", "[offline]\nblock_rows = 10\n")
    clean = [(s, [{**e, "card_id": "a"} if e.get("card_id") == key else e for e in es]) for s, es in BATCHES]
    fill(root, clean[:HALF])
    with open_runtime(root) as runtime:
        before = record(runtime)
    table = rebuild_dataset(root, before.id).to_arrow()
    fill(root, BATCHES[HALF:])
    sync(root)
    compact(root)
    with open_runtime(root) as runtime:
        after = record(runtime)
    fill(
        root, [("tx", [{**BATCHES[1][1][0], "id": "last", "card_id": key, "at": START + 10 * DAY}])]
    )  # not exported
    assert holders(root, key)
    done = forget(root, "card", [key], clock=ManualClock(START))
    assert done.events > 1
    assert done.offline_rows > done.events
    assert done.datasets == (after.id,)
    assert not holders(root, key)
    sync(root)
    assert not holders(root, key)
    assert rebuild_dataset(root, before.id).to_arrow().equals(table)
    with pytest.raises(StoreError, match="cannot be made again: a key that it held was forgotten"):
        rebuild_dataset(root, after.id)
    with open_runtime(root) as runtime:
        again = record(runtime)
    rebuilt = rebuild_dataset(root, again.id).to_arrow()
    assert key not in rebuilt.column("card_id").to_pylist()
    assert forget(root, "card", [key], clock=ManualClock(START)).offline_rows == 0


@pytest.mark.parametrize("at", ["_saved", "_vacuumed", "_erased"])
def test_forgetting_that_was_cut_off_is_run_again(tmp_path, monkeypatch, at):
    key = "dora-the-forgotten"
    root = fill(project(tmp_path / "p"), BATCHES)
    with open_runtime(root) as runtime:
        dataset = record(runtime)
    place, name = {
        "_saved": (DatasetFolder, "mark_forgotten"),
        "_vacuumed": (offline_erasure, "vacuum_tables"),
        "_erased": (forgetting, "_erase"),
    }[at]
    monkeypatch.setattr(place, name, lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        forget(root, "card", [key], clock=ManualClock(START))
    monkeypatch.undo()
    assert forget(root, "card", [key], clock=ManualClock(START)).events > 1
    sync(root)
    assert not holders(root, key)
    with pytest.raises(StoreError, match="cannot be made again"):
        rebuild_dataset(root, dataset.id)


def holders(root, key):
    """Files of the offline tables in which the key is: in a column, or anywhere in a file that is no Parquet."""
    found = []
    for path in (root / ".penstock/offline").rglob("*"):
        if path.suffix == ".parquet" and "_delta_log" not in path.parts:
            table = pq.ParquetFile(path).read()
            texts = [c for c in table.column_names if pa.types.is_string(table.schema.field(c).type)]
            held = any(key in table.column(c).to_pylist() for c in texts)
        else:
            held = path.is_file() and key.encode() in path.read_bytes()
        found += [path] * held
    return found


def test_the_digest_knows_values_not_chunks():
    schema = pa.schema([("a", pa.int32()), ("b", pa.string()), ("c", pa.float64()), ("d", pa.bool_())])
    whole = pa.table(
        {"a": [1, None, 3], "b": ["x", "", None], "c": [0.5, None, 2.0], "d": [True, None, False]}, schema
    )

    def digest(*tables):
        made = DatasetDigest(schema)
        for table in tables:
            made.update(table)
        return made.hexdigest()

    assert digest(whole) == digest(whole.slice(0, 1), whole.slice(1)) == digest(whole.slice(0, 0), whole)
    for column, other in (
        ("a", [1, 0, 3]),
        ("b", ["x", None, None]),
        ("b", ["", "x", None]),
        ("c", [0.5, 0.0, 2.0]),
    ):
        i = schema.get_field_index(column)
        changed = whole.set_column(i, schema.field(i), pa.array(other, schema.field(i).type))
        assert digest(changed) != digest(whole), column
    assert digest(whole.slice(0, 2)) != digest(whole)
