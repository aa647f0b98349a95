"""Offline tables after a power cut: of what was synced alone a table is complete up to its last commit."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from penstock.core.errors import StoreError
from penstock.stores import offline_sync
from penstock.stores.offline import EVENT_DATE, POSITION, OfflineStore


class Disk:
    """What of a folder is durable: contents as of each file's last sync, names as of each directory's."""

    def __init__(self, root: Path, monkeypatch) -> None:
        self.root = root
        self._contents: dict[int, bytes] = {}
        self._names: dict[Path, dict[str, int]] = {}
        self._pins: dict[int, int] = {}  # open files, so that no inode is given to another
        sync = os.fsync

        def noted(descriptor):
            sync(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if path.is_dir():
                self._names[path] = {one.name: self._pinned(one) for one in path.iterdir()}
            else:
                self._pinned(path)
                self._contents[path.stat().st_ino] = path.read_bytes()

        monkeypatch.setattr(os, "fsync", noted)

    def close(self) -> None:
        for descriptor in self._pins.values():
            os.close(descriptor)

    def _pinned(self, path: Path) -> int:
        inode = path.stat().st_ino
        if inode not in self._pins:
            self._pins[inode] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return inode

    def restore(self, folder: Path, at: Path | None = None) -> Path:
        """Write what a power cut now would leave for certain."""
        folder.mkdir()
        for name, inode in self._names.get(at or self.root, {}).items():
            inside = (at or self.root) / name
            if inside in self._names:
                self.restore(folder / name, inside)
            elif not inside.is_dir():
                (folder / name).write_bytes(self._contents.get(inode, b""))
        return folder


@pytest.fixture
def disk(tmp_path, monkeypatch):
    (tmp_path / "offline").mkdir()
    disk = Disk(tmp_path / "offline", monkeypatch)
    yield disk
    disk.close()


def rows(start, stop, day="2026-01-01", **more):
    count = stop - start
    columns = {POSITION: list(range(start, stop)), "amount": [0.5] * count, EVENT_DATE: [day] * count}
    return pa.table(columns | {name: [value] * count for name, value in more.items()})


def table_of(folder):
    return OfflineStore(str(folder), store_id="s").table("events/tx")


def positions(folder):
    return table_of(folder).read(0, 1_000).column(POSITION).to_pylist()


def test_what_an_append_returned_for_survives(disk, tmp_path):
    table = table_of(disk.root)
    for number, more in enumerate(({}, {}, {"shop": "a"})):
        table.append(
            rows(10 * number, 10 * number + 10, f"2026-01-0{number + 1}", **more),
            start=10 * number,
            upto=10 * number + 10,
        )
        left = disk.restore(tmp_path / f"left{number}")
        assert positions(left) == list(range(10 * number + 10))
        assert table_of(left).exported() == 10 * number + 10


def test_so_does_a_compaction_a_deletion_and_a_widening(disk, tmp_path):
    table = table_of(disk.root)
    for start in (0, 5):
        table.append(rows(start, start + 5), start=start, upto=start + 5)
    assert table.compact() == 2
    assert positions(disk.restore(tmp_path / "compacted")) == list(range(10))
    assert table.delete([f"{POSITION} = 3"]) == 1
    assert 3 not in positions(disk.restore(tmp_path / "deleted"))
    gone = table.vacuum(retention_hours=0)
    left = disk.restore(tmp_path / "vacuumed")
    table.append(rows(10, 12).append_column("n", pa.array([1, 2], pa.int32())), start=10, upto=12)
    table.append(rows(12, 14).append_column("n", pa.array([3, 1 << 40], pa.int64())), start=12, upto=14)
    widened = table_of(disk.restore(tmp_path / "widened")).read(10, 14)
    assert widened.column("n").to_pylist() == [1, 2, 3, 1 << 40]
    assert gone
    assert not any((left / "events" / "tx" / name).exists() for name in gone)


def test_what_a_killed_process_left_is_made_good_by_the_next(disk, tmp_path, monkeypatch):
    table_of(disk.root).append(rows(0, 5), start=0, upto=5)
    with monkeypatch.context() as killed:
        killed.setattr("penstock.stores.offline.sync_commits", lambda *_, **__: None)
        table_of(disk.root).append(rows(5, 9), start=5, upto=9)
    table_of(disk.root).append(rows(9, 12), start=9, upto=12)
    assert positions(disk.restore(tmp_path / "left")) == list(range(12))


def test_a_disk_that_fails_is_an_error_and_is_synced_again(disk, tmp_path, monkeypatch):
    table = table_of(disk.root)
    table.append(rows(0, 5), start=0, upto=5)
    with monkeypatch.context() as broken:
        broken.setattr(offline_sync, "_sync_file", lambda _: (_ for _ in ()).throw(OSError("no space")))
        with pytest.raises(StoreError, match="no space"):
            table.append(rows(5, 9), start=5, upto=9)
    table.refresh()
    table.append(rows(9, 12), start=table.exported(), upto=12)
    assert positions(disk.restore(tmp_path / "left")) == list(range(12))
