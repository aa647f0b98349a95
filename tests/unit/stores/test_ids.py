from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import CorruptionError, InputError, StoreError
from penstock.core.records import EventIds
from penstock.stores.id_kernel import first_of_duplicates
from penstock.stores.id_runs import Run, RunWriter
from penstock.stores.ids import IdIndex, claimed

STORE = "5a" * 16


class Log:
    """The ids beside a log, as a store gives them."""

    def __init__(self):
        self.commits: list[EventIds] = []

    @property
    def next_position(self):
        return int(self.commits[-1].positions[-1]) + 1 if self.commits else 0

    def append(self, hashes, positions):
        ids = EventIds(np.array(hashes, np.uint64), np.array(positions, np.int64))
        self.commits.append(ids)
        return ids

    def event_ids(self, start):
        for ids in self.commits:
            keep = ids.positions >= start
            if keep.any():
                yield EventIds(ids.hashes[keep], ids.positions[keep])

    def all_of(self, wanted):
        return [
            int(p)
            for ids in self.commits
            for h, p in zip(ids.hashes, ids.positions, strict=True)
            if h == wanted
        ]


def opened(directory, log, *, store_id=STORE, next_position=None, run_size=8):
    return IdIndex.open(
        directory,
        store_id=store_id,
        next_position=log.next_position if next_position is None else next_position,
        event_ids=log.event_ids,
        run_size=run_size,
    )


def filled(index, log, count, *, commit=5, seed=1):
    """Add `count` ids, some of them twice, with gaps between the positions."""
    random = np.random.default_rng(seed)
    position = log.next_position
    for _ in range(0, count, commit):
        hashes = random.integers(0, 2**64, commit, dtype=np.uint64)
        if log.commits:
            hashes[0] = log.commits[random.integers(len(log.commits))].hashes[0]
        positions = position + np.cumsum(random.integers(1, 3, commit))
        position = int(positions[-1]) + 1
        index.add(*log.append(hashes, positions))


def assert_finds_everything(index, log):
    every = np.concatenate([ids.hashes for ids in log.commits])
    assert index.lookup(every).tolist() == [log.all_of(h)[0] for h in every]
    for wanted in every[::3]:
        assert index.candidates(int(wanted)).tolist() == log.all_of(wanted)
    absent = np.random.default_rng(9).integers(0, 2**64, 2000, dtype=np.uint64)
    assert (index.lookup(absent) == -1).all()
    assert index.candidates(1).tolist() == log.all_of(1)


@pytest.mark.parametrize("count", [5, 40, 500, 1005])
def test_everything_added_is_found_before_and_after_sealing_and_reopening(tmp_path, count):
    log = Log()
    with opened(tmp_path, log) as index:
        filled(index, log, count)
        assert_finds_everything(index, log)
        index.settle()
        assert_finds_everything(index, log)
        assert index.runs == (count // 8).bit_count()  # like the digits of a binary counter
        assert len(list(tmp_path.iterdir())) == index.runs  # what was merged is gone
    with opened(tmp_path, log) as again:
        assert_finds_everything(again, log)
        filled(again, log, 50, seed=2)
        assert_finds_everything(again, log)


def test_runs_larger_than_a_piece_are_merged_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("penstock.stores.id_runs._PIECE", 16)
    log = Log()
    with opened(tmp_path, log, run_size=64) as index:
        filled(index, log, 64 * 8)
        index.settle()
        assert index.runs == 1
        assert_finds_everything(index, log)


def test_extreme_and_equal_hashes(tmp_path):
    log = Log()
    with opened(tmp_path, log) as index:
        hashes = [0, 2**64 - 1, 0, 1, 2**63, 2**64 - 1, 0, 0] * 4
        index.add(*log.append(hashes, range(32)))
        index.settle()
        assert index.lookup(np.array([0, 2**64 - 1, 2**63, 5], np.uint64)).tolist() == [0, 1, 4, -1]
        assert index.candidates(0).tolist() == log.all_of(0)


def test_what_was_never_committed_is_dropped_on_opening(tmp_path):
    log, lost = Log(), Log()
    with opened(tmp_path, log) as index:
        filled(index, log, 24)
        lost.commits = list(log.commits)
        filled(index, lost, 48, seed=3)
        index.settle()
    with opened(tmp_path, log) as again:
        assert_finds_everything(again, log)
        gone = np.concatenate([ids.hashes for ids in lost.commits[len(log.commits) :]])
        known = {int(h) for ids in log.commits for h in ids.hashes}
        assert all((p == -1) == (int(h) not in known) for h, p in zip(gone, again.lookup(gone), strict=True))


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "foreign", "remove", "temporary"])
def test_harmed_runs_are_made_again_from_the_log(tmp_path, harm):
    log = Log()
    with opened(tmp_path, log) as index:
        filled(index, log, 120)
        index.settle()
        assert index.runs > 1
    for path in sorted(tmp_path.glob("*.run"))[:1]:
        data = bytearray(path.read_bytes())
        if harm == "flip":
            data[-300] ^= 1
        path.write_bytes({"cut": data[:-1], "empty": b"", "temporary": data}.get(harm, data))
        if harm == "temporary":
            path.rename(path.with_suffix(".tmp"))
        if harm == "remove":
            path.unlink()
    with opened(tmp_path, log, store_id="77" * 16 if harm == "foreign" else STORE) as again:
        assert_finds_everything(again, log)
        again.settle()
        assert {path.suffix for path in tmp_path.iterdir()} == {".run"}


def test_another_stores_run_is_refused(tmp_path):
    writer = RunWriter(tmp_path, store_id=STORE, span=range(3, 9), level=0, count=1)
    writer.write(np.array([5], np.uint64), np.array([3]))
    writer.finish()
    with pytest.raises(CorruptionError, match="another store"):
        Run.open(writer.path, "77" * 16)


def test_every_flipped_byte_of_a_run_is_noticed(tmp_path):
    writer = RunWriter(tmp_path, store_id=STORE, span=range(3, 9), level=0, count=2)
    writer.write(np.array([5, 6], np.uint64), np.array([3, 8]))
    writer.finish()
    whole = writer.path.read_bytes()
    assert Run.open(writer.path, STORE).positions.tolist() == [3, 8]
    arrays = range(4096, len(whole))
    for i in [*range(76), *arrays]:
        harmed = bytearray(whole)
        harmed[i] ^= 0x10
        writer.path.write_bytes(harmed)
        with pytest.raises(CorruptionError):
            Run.open(writer.path, STORE)


def test_positions_must_ascend(tmp_path):
    with opened(tmp_path, Log()) as index:
        index.add(np.array([1], np.uint64), np.array([4]))
        with pytest.raises(InputError, match="positions below 5 are known already"):
            index.add(np.array([2], np.uint64), np.array([4]))


def test_a_failure_in_the_background_is_raised_and_made_good(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    log = Log()
    with opened(tmp_path, log) as index:
        with monkeypatch.context() as patched:
            patched.setattr("penstock.stores.id_runs.os.pwrite", full_disk)
            index.add(*log.append(range(10), range(10)))
            with pytest.raises(StoreError, match="No space left"):
                index.settle()
        assert index.runs == 0
        assert list(tmp_path.iterdir()) == []
        assert_finds_everything(index, log)
        index.add(*log.append(range(20, 30), range(10, 20)))  # tries again
        index.settle()
        assert index.runs == 1
        assert_finds_everything(index, log)


@given(st.lists(st.integers(0, 5) | st.integers(0, 2**64 - 1), max_size=40))
@settings(max_examples=50, deadline=None)
def test_first_of_duplicates(hashes):
    first = first_of_duplicates(np.array(hashes, np.uint64))
    assert first.tolist() == [hashes.index(h) for h in hashes]


def test_a_writer_goes_on_with_the_folder_of_the_one_before_which_has_it_no_more(tmp_path):
    log, before = Log(), claimed(tmp_path / "ids", 4)
    frozen = opened(before, log)
    filled(frozen, log, 40)
    frozen.settle()
    own = claimed(tmp_path / "ids", 5)
    assert not before.exists()
    with opened(own, log) as index:
        assert index.runs == 2
        assert_finds_everything(index, log)
    files = sorted(own.iterdir())
    frozen.add(np.arange(8, dtype=np.uint64), np.arange(1000, 1008))
    with pytest.raises(StoreError, match="could not be written"):
        frozen.settle()
    frozen.close()
    assert sorted(own.iterdir()) == files


def test_a_folder_of_an_earlier_writer_is_not_believed(tmp_path):
    for stale in (3, 7):
        path = tmp_path / "ids" / str(stale)
        path.mkdir(parents=True)
        (path / "0-1.run").touch()
    (tmp_path / "ids" / "0-1.run").touch()
    own = claimed(tmp_path / "ids", 7)
    assert not own.exists()
    assert [path.name for path in (tmp_path / "ids").iterdir()] == []


def test_a_writer_leaves_the_folder_of_a_later_one_alone(tmp_path):
    later = claimed(tmp_path, 9)
    later.mkdir()
    claimed(tmp_path, 8)
    assert later.is_dir()
