"""Export to the offline tables: all that is committed, exactly once, whatever happens on the way."""

from __future__ import annotations

import re
from pathlib import Path
from time import sleep

import deltalake
import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from penstock.app.changing import apply, ensure_applied, plan_change
from penstock.app.exporting import exporter_of, offline_uri
from penstock.app.exporting_beside import ExportBeside, export_rest, exported, exports, follow
from penstock.app.offline import compact, status, store_of, sync, vacuum
from penstock.app.offline_rows import gathered
from penstock.app.runtime import open_reader, plan_of
from penstock.app.settings import load_settings
from penstock.core.errors import StoreError
from penstock.definitions.project import load_project
from penstock.engine.decisions import Decisions
from penstock.kernel.columns import Columns, Text
from tests.unit.app.offline_project import DEFINITIONS, fill, open_runtime, project, steps

SMALL = "[offline]\nblock_rows = 20\n"
TABLES = {"events/tx", "events/logins", "labels/frauds", "decisions/checkout", "features/checkout"}


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A log, exported in one go."""
    root = fill(project(tmp_path_factory.mktemp("history") / "p"), steps(1))
    sync(root)
    return root


def content(root):
    """All rows of all tables."""
    store, position = store_of(root)
    return {name: store.table(name).read(0, position) for name in store.names()}


def same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].equals(right[name]), name


def listed(column):
    values = column.to_strings() if isinstance(column, Text) else column.values.tolist()
    return (
        values
        if column.valid is None
        else [v if ok else None for v, ok in zip(values, column.valid, strict=True)]
    )


def test_events_are_those_of_the_log(history):
    tables = content(history)
    assert tables.keys() == TABLES
    with open_reader(history) as store:
        for name in ("tx", "logins"):
            positions, columns = [], {}
            for batch in store.read_log(sources={name}):
                positions += batch.positions.tolist()
                for field, column in Columns.from_bytes(batch.payload).columns.items():
                    columns.setdefault(field, []).extend(listed(column))
            table = tables[f"events/{name}"]
            assert table.column("_position").to_pylist() == positions
            for field, values in columns.items():
                found = table.column(field)
                if pa.types.is_timestamp(found.type):
                    found = found.cast(pa.int64())
                if pa.types.is_float32(found.type):
                    found = found.cast(pa.float64())
                assert found.to_pylist() == values, field


def test_vectors_and_decisions_are_those_that_were_served(history):
    tables = content(history)
    features, decisions = tables["features/checkout"], tables["decisions/checkout"]
    names = [n for n in features.column_names if "__" in n]
    assert [str(features.schema.field(n).type) for n in names] == ["int64", "double", "int64", "double"]
    found = np.column_stack([features.column(n).cast("float64").to_numpy() for n in names])
    with open_reader(history) as store:
        batches = [(b.positions, Decisions.from_bytes(b.payload)) for b in store.read_decisions()]
    served = np.concatenate([d.vectors for _, d in batches])
    assert found.tobytes() == served.tobytes()
    positions = np.concatenate([p for p, _ in batches]).tolist()
    assert features.column("_position").to_pylist() == decisions.column("_position").to_pylist() == positions
    flags = np.concatenate([d.flags for _, d in batches])
    for name, bit in (("late", 1), ("too_late", 2), ("degraded", 4), ("no_model", 8)):
        assert decisions.column(name).to_pylist() == ((flags & bit) > 0).tolist()
    assert decisions.column("_event_id").to_pylist() == tables["events/tx"].column("id").to_pylist()
    assert set(decisions.column("action").to_pylist()) == {"approve"}
    assert decisions.column("model").null_count == len(decisions)
    assert (flags & 3).any(), "the history must have late events"


def test_labels_are_every_version_of_the_truth(history):
    table = content(history)["labels/frauds"]
    with open_reader(history) as store:
        records = store.labels_of(np.arange(store.next_position))
    found = {
        (e, p, v, k)
        for e, p, v, k in zip(
            table.column("_event_position").to_pylist(),
            table.column("_label_position").to_pylist(),
            table.column("is_fraud").cast("float64").to_pylist(),
            table.column("known").cast(pa.int64()).to_pylist(),
            strict=True,
        )
    }
    kept = set(
        zip(
            records.event_positions.tolist(),
            records.label_positions.tolist(),
            records.values.tolist(),
            records.known_at_us.tolist(),
            strict=True,
        )
    )
    assert kept <= found
    versions = {(e, v, k) for e, _, v, k in kept}
    assert all((e, v, k) in versions for e, _, v, k in found - kept), "the rest repeats what is known"
    early = (records.label_positions < records.event_positions).sum()
    assert early, "the history must have early labels"
    assert len(kept) > len({e for e, _, _, _ in kept}), "and corrections"


def test_the_page_lists_the_columns(history):
    page = (Path(__file__).parents[3] / "docs" / "offline.md").read_text("utf-8")
    listed = {}
    for line in page.splitlines():
        if line.startswith("| `"):
            kind, _, columns = (cell.strip() for cell in line.strip("|").split("|"))
            listed[kind.strip("`").split("/")[0]] = {
                c for c in re.findall(r"`(\w+)`", columns) if "__" not in c
            }
    fields = {
        "tx",
        "id",
        "card_id",
        "shop_id",
        "at",
        "amount",
        "small",
        "kind",
        "abroad",
        "note",
        "is_fraud",
        "known",
    }
    for name, table in content(history).items():
        own = {c for c in table.column_names if "__" not in c} - {"_position"} - fields
        assert own == listed[name.split("/")[0]], name


def test_exporting_again_adds_nothing(history):
    before = status(history)
    assert sync(history).rows == {}
    assert status(history) == before


def test_blocks_and_rounds_make_no_difference(history, tmp_path):
    root = project(tmp_path / "p", SMALL)
    for one in steps(1):
        fill(root, [one])
        sync(root)
    same(content(root), content(history))
    assert status(root).tables[0].version > status(history).tables[0].version


class Crash(BaseException):
    """Nobody catches it."""


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", range(0, 14, 3))
def test_a_crash_beside_any_commit_neither_doubles_nor_loses(history, tmp_path, monkeypatch, call, after):
    root = fill(project(tmp_path / "p", SMALL), steps(1))
    write, calls = deltalake.write_deltalake, []

    def crashing(*arguments, **options):
        calls.append(1)
        if len(calls) == call + 1:
            if after:
                write(*arguments, **options)
            raise Crash
        return write(*arguments, **options)

    monkeypatch.setattr(deltalake, "write_deltalake", crashing)
    with pytest.raises(Crash):
        sync(root)
    monkeypatch.undo()
    sync(root)
    same(content(root), content(history))


def test_of_two_that_append_the_same_one_wins(tmp_path):
    root = fill(project(tmp_path / "p"), steps(1))
    with exporter_of(root, plan_of(load_project(root))):
        pass
    store, _ = store_of(root)
    rows = pa.table({"_position": [0, 1]})
    first, second = store.table("events/x"), store.table("events/x")
    first.append(rows, start=0, upto=2)
    assert second.exported() == 2
    first.append(rows, start=2, upto=4)
    with pytest.raises(StoreError, match="changed it meanwhile"):
        second.append(rows, start=2, upto=4)
    with pytest.raises(StoreError, match="complete up to position 4, and rows from 2"):
        first.append(rows, start=2, upto=4)
    assert store.table("events/x").status().rows == 4


def test_a_table_of_another_project_is_left_alone(history, tmp_path):
    uri = offline_uri(history, load_settings(history).offline)
    root = fill(project(tmp_path / "p", f"[offline]\nuri = '{uri}'\n"), steps(2))
    before = content(history)
    with pytest.raises(StoreError, match="holds rows of another project"):
        sync(root)
    same(content(history), before)


def test_a_new_field_is_a_new_column_and_a_retyped_one_is_refused(tmp_path):
    root = project(tmp_path / "p")
    batches = steps(1)
    fill(root, batches[:4])
    sync(root)
    more = DEFINITIONS.replace(
        'Field("note", String, optional=True)',
        'Field("note", String, optional=True), Field("new", Int64, optional=True)',
    )
    (root / "definitions.py").write_text(more)
    source, events = batches[4]
    fill(
        root,
        [(source, [{**e, "new": 7} if source == "tx" else e for e in events]), *batches[5:]],
        rebuild=True,
    )
    sync(root)
    table = content(root)["events/tx"]
    assert set(table.column("new").to_pylist()) <= {None, 7}
    assert len(table) == sum(len(e) for s, e in batches if s == "tx")
    store, position = store_of(root)
    with pytest.raises(StoreError, match="column 'id' is string there and int64 now"):
        store.table("events/tx").append(
            pa.table({"_position": [position], "id": [1]}), start=position, upto=position + 1
        )


def test_a_widened_field_is_widened_in_the_whole_table(tmp_path):
    root = project(tmp_path / "p", SMALL)
    batches = steps(1)
    fill(root, batches[:4])
    sync(root)
    store, _ = store_of(root)
    before, narrow = content(root)["events/tx"], store.table("events/tx").at()
    wider = DEFINITIONS.replace('Field("kind", Int32', 'Field("kind", Int64').replace(
        'Field("small", Float32)', 'Field("small", Float64)'
    )
    (root / "definitions.py").write_text(wider)
    fill(root, batches[4:], rebuild=True)
    sync(root)
    table = content(root)["events/tx"]
    assert table.schema.field("kind").type == pa.int64()
    assert table.schema.field("small").type == pa.float64()
    assert len(table) == sum(len(e) for s, e in batches if s == "tx")
    assert table.slice(0, len(before)).cast(before.schema).equals(before)
    old = store.table("events/tx").read(0, narrow.exported, version=narrow.version)
    assert old.equals(before), "older versions keep their types"
    assert sync(root).rows == {}
    again, (_, position) = store.table("events/tx"), store_of(root)
    with pytest.raises(
        StoreError, match=r"column 'small' is double there and float now; allowed is .* to widen"
    ):
        again.append(before, start=again.exported(), upto=position + 1)


def test_vectors_served_by_earlier_definitions_have_the_names_of_those(tmp_path):
    root = project(tmp_path / "p")
    batches = steps(1)
    ensure_applied(load_project(root), actor="ann")
    fill(root, batches[:4])
    other = DEFINITIONS.replace('"numbers", features=[', '"numbers", features=[entries, ')
    (root / "definitions.py").write_text(other)
    change = plan_change(load_project(root))
    apply(change, root, actor="ann", reason="more features")
    fill(root, batches[4:])
    done = sync(root)
    assert done.problem is None
    tables = content(root)
    vectors = tables["features/checkout"]
    assert len(vectors) == len(tables["decisions/checkout"])
    assert len(set(vectors.column("_service").to_pylist())) == 2
    new = vectors.column("entries__card_id_count_1d_continuous")
    assert new.null_count >= sum(len(e) for s, e in batches[:4] if s == "tx")
    assert new.null_count < len(new)


def test_vectors_of_lost_definitions_are_counted_and_left_out(tmp_path):
    root = project(tmp_path / "p")
    batches = steps(1)
    fill(root, batches[:4])
    other = DEFINITIONS.replace('"numbers", features=[', '"numbers", features=[entries, ')
    (root / "definitions.py").write_text(other)
    fill(root, batches[4:])
    done = sync(root)
    lost = sum(len(e) for s, e in batches[:4] if s == "tx")
    assert f"{lost} vectors were served by definitions" in done.problem
    tables = content(root)
    assert len(tables["decisions/checkout"]) == len(tables["features/checkout"]) + lost


def test_many_small_files_are_compacted_and_old_versions_stay(tmp_path):
    root = project(tmp_path / "p", "[offline]\nblock_rows = 5\ncompact_files = 8\n")
    compacted = {}
    for one in steps(1):
        fill(root, [one])
        compacted |= sync(root).compacted
    assert "events/tx" in compacted
    store, position = store_of(root)
    table = store.table("events/tx")
    assert table.status().files < 20
    before = content(root)
    assert len(table.read(0, position, version=2)) > 0
    compact(root)
    same(content(root), before)
    assert sum(vacuum(root, retention_hours=0, dry_run=True).values()) > 0
    assert sum(vacuum(root, retention_hours=0).values()) > 0
    same(content(root), before)
    assert sync(root).rows == {}, "compaction and vacuum keep the position"


def test_a_failing_export_is_counted_and_stops_nothing(tmp_path):
    place = tmp_path / "file"
    place.write_text("no folder")
    root = project(tmp_path / "p", f"[offline]\nuri = '{place}/tables'\ninterval_s = 0.01\n")
    fill(root, steps(1))
    seen = []

    def look(seconds):
        done = exported(root)
        seen.append(done)
        if done.failures == 2 and place.is_file():
            place.unlink()
        return seconds > 0 and done.rows > 0  # not in the middle of an export

    follow(root, wait=look)
    failed = [done.problem for done in seen if done.failures == 1]
    assert failed
    assert "export failed 1 times" in failed[0]
    assert seen[-1].problem == ""
    assert seen[-1].rows == sum(table.rows for table in status(root).tables)


def test_it_exports_in_a_process_beside_the_engine(tmp_path):
    root = project(tmp_path / "p", "[offline]\ninterval_s = 0.01\n")
    with open_runtime(root) as runtime, ExportBeside(runtime, start_after_s=0.0) as beside:
        for source, events in steps(1):
            runtime.ingest(source, events)
        for _ in range(600):
            beside.look()
            if exported(root).rows:
                break
            sleep(0.05)
        assert exported(root).rows
        assert runtime.problems.get("offline") is None
        export_rest(runtime)
    assert runtime.problems.get("offline") is None
    same(content(root), content(fill_and_sync(tmp_path / "q")))


def test_small_batches_are_gathered_and_large_ones_left_alone():
    groups = list(gathered([1, 2, 5000, 3, 4], most=10, rows=lambda n: n))
    assert groups == [[1, 2], [5000], [3, 4]]
    assert list(gathered("aab", most=10, rows=lambda _: 1, by=str)) == [["a", "a"], ["b"]]


def fill_and_sync(folder):
    root = fill(project(folder), steps(1))
    sync(root)
    return root


def test_the_settings_turn_it_off(tmp_path):
    root = project(tmp_path / "p", "[offline]\nexport = false\n")
    with open_runtime(root) as runtime, ExportBeside(runtime, start_after_s=0.0) as beside:
        beside.look()
        assert not exports(runtime)
        assert beside._child is None


def test_duckdb_polars_and_pandas_read_the_tables(history):
    place = f"{history}/.penstock/offline/events/tx"
    expected = content(history)["events/tx"]
    total = float(np.nansum(expected.column("amount").to_numpy()))
    with duckdb.connect() as connection:
        connection.register("payments", DeltaTable(place).to_pyarrow_dataset())
        (found,) = connection.sql("SELECT count(*), sum(amount) FROM payments").fetchall()
    assert found == (len(expected), pytest.approx(total))
    lazy = pl.scan_delta(place).filter(pl.col("card_id") == "Zoë").collect()
    assert len(lazy) == expected.column("card_id").to_pylist().count("Zoë")
    frame = DeltaTable(place, version=1).to_pandas()
    assert sorted(frame["_position"]) == expected.column("_position").to_pylist()
