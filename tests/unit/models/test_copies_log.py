"""The kept copies on disk: what is new is appended, whatever a kill or a power cut leaves is a beginning of them, bit by bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from penstock.models import learned_copies
from penstock.models.copies_log import KEPT_NAME, CopiesLog, kept_copies
from penstock.models.published import Boosted, Published, encode, linear


def copy_of(labels, *, form=None, log="a", width=3):
    numbers = np.random.default_rng(labels).normal(size=width).tolist()
    return Published(
        form or linear(numbers, [1.0] * width, numbers, intercept=0.5, logistic=True),
        labels=labels,
        position=2 * labels,
        definition="d",
        log=log,
        erasures=1,
    )


def trees(number):
    return Boosted(np.random.default_rng(number).bytes(5_000), "logit")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "online" / "m" / "1"


def kept(folder, labels):
    return {n: encode(found) for n in labels if (found := kept_copies(folder).of(n)) is not None}


def written(folder, copies, *, each=3):
    log = CopiesLog(folder)
    for at, copy in enumerate(copies, 1):
        log.add(copy)
        if at % each == 0:
            log.save()
    log.save()
    return log


def test_what_was_saved_is_read_with_all_its_bits_by_the_next_process(folder):
    copies = [copy_of(n) for n in range(20)]
    written(folder, copies[:11])
    written(folder, copies[11:])
    assert kept(folder, range(20)) == {copy.labels: encode(copy) for copy in copies}


def test_only_what_is_new_is_written_and_a_model_that_stayed_is_not_written_again(folder):
    log = written(folder, [copy_of(n) for n in range(100)], each=10)
    path, before = folder / KEPT_NAME, (folder / KEPT_NAME).stat().st_size
    log.add(copy_of(100))
    log.save()
    one = path.stat().st_size - before
    assert one < 400
    log.save()
    assert path.stat().st_size == before + one, "nothing new, nothing written"
    log.add(copy_of(101, form=trees(1)))
    log.save()
    grown = path.stat().st_size
    for number in range(102, 152):
        log.add(copy_of(number, form=trees(1)))
        log.save()
    assert path.stat().st_size - grown < 50 * 200, "the same trees fifty times are written once"
    assert kept_copies(folder).of(151).form == trees(1)


def test_the_file_is_written_anew_when_most_of_it_is_of_copies_that_left(folder, monkeypatch):
    monkeypatch.setattr(learned_copies, "MOST_BYTES", 20_000)
    log, sizes = CopiesLog(folder), []
    for number in range(60):
        log.add(copy_of(number, form=trees(number)))
        log.save()
        sizes.append((folder / KEPT_NAME).stat().st_size)
        newest = {n: encode(copy_of(n, form=trees(n))) for n in range(max(0, number - 3), number + 1)}
        assert kept(folder, range(60)) == newest
    assert max(sizes) < 2 * 20_000 + (1 << 16) + 12_000
    assert sum(now < before for before, now in itertools.pairwise(sizes)) >= 2
    assert not list(folder.glob(".*")), "nothing is left aside"


@pytest.mark.parametrize("tail", [b"", b"\0" * 4_096, b"\xff" * 64])
def test_cut_anywhere_it_is_a_beginning_of_what_was_written_and_goes_on_from_there(folder, tail):
    copies = [copy_of(n, width=1) for n in range(4)]
    copies[2] = copy_of(2, form=copies[1].form)
    written(folder, copies)
    path = folder / KEPT_NAME
    whole, seen = path.read_bytes(), set()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut] + (tail if cut < len(whole) else b""))
        found = kept(folder, range(4))
        assert found == {n: encode(copies[n]) for n in range(len(found))}, "a beginning, as it was published"
        seen.add(len(found))
        if cut % 5:
            continue
        log = CopiesLog(folder)
        log.add(copy_of(9))
        log.save()
        assert kept(folder, range(10)) == found | {9: encode(copy_of(9))}, "what comes after is not hidden"
    assert seen == {0, 1, 2, 3, 4}


def test_a_flipped_bit_is_found(folder):
    written(folder, [copy_of(n, width=1) for n in range(3)])
    path = folder / KEPT_NAME
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        found = kept(folder, range(3))
        assert len(found) < 3
        assert found == {n: encode(copy_of(n, width=1)) for n in range(len(found))}


def test_copies_of_another_log_or_definition_take_the_place_of_all(folder):
    written(folder, [copy_of(n) for n in range(5)])
    before = (folder / KEPT_NAME).read_bytes()
    written(folder, [copy_of(2, log="b")])
    assert kept_copies(folder).all() == [copy_of(2, log="b")]
    assert before not in (folder / KEPT_NAME).read_bytes(), (
        "nothing of them stays, as when a key was forgotten"
    )


def test_what_is_no_file_of_ours_is_no_copy(folder, tmp_path):
    assert kept_copies(folder).all() == []
    written(folder, [copy_of(1)])
    theirs = tmp_path / "other" / "m" / "1"
    theirs.mkdir(parents=True)
    (theirs / KEPT_NAME).write_bytes((folder / KEPT_NAME).read_bytes())
    assert kept_copies(theirs).all() == [], "sealed by another project"
    (theirs / KEPT_NAME).write_bytes(b"nothing of ours")
    assert kept_copies(theirs).all() == []
    (folder / "copies.bin").write_bytes(b"of an earlier version")
    (folder / KEPT_NAME).unlink()
    log = CopiesLog(folder)
    log.add(copy_of(1))
    log.save()
    assert kept_copies(folder).all() == [copy_of(1)]
