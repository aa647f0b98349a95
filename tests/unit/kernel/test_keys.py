from __future__ import annotations

import random

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.kernel.columns import Numeric, Text
from penstock.kernel.hashing import encode_keys, hash_text
from penstock.kernel.keys import BUCKET_MASK, KeyTable


def texts(*strings):
    return Text.from_strings(strings)


def rows_of(text):
    return [text.data[a:b].tobytes() for a, b in zip(text.offsets[:-1], text.offsets[1:], strict=True)]


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_a_table_is_a_dictionary(seed):
    table, model, rng = KeyTable(seed=seed), {}, random.Random(seed)
    for _ in range(200):
        keys = [str(rng.randrange(400)) * rng.randrange(1, 4) for _ in range(20)]
        for key, slot in zip(keys, table.assign(texts(*keys)).tolist(), strict=True):
            assert model.setdefault(key, slot) == slot
        for key in rng.sample(sorted(model), len(model) // 5):
            table.remove(model.pop(key))
        assert len(table) == len(model) == len(set(model.values()))
    known = list(model)
    assert table.find(texts(*known)).tolist() == list(model.values())
    assert table.find(texts("absent", "")).tolist() == [-1, -1]
    assert [table.key_bytes(s).decode() for s in model.values()] == known


def test_keys_of_one_bucket_are_told_apart_and_deleted_rightly():
    table = KeyTable(seed=5)
    names = [str(i) for i in range(3000)]
    mask = int(table.meta[BUCKET_MASK])
    home = hash_text(texts(*names), 5) & np.uint64(mask)
    same = [n for n, h in zip(names, home.tolist(), strict=True) if h == mask][:10]  # they wrap around
    slots = table.assign(texts(*same)).tolist()
    for gone in range(10):
        table.remove(slots[gone])
        assert table.find(texts(*same)).tolist() == [-1] * (gone + 1) + slots[gone + 1 :]


def test_composite_keys_differ_where_their_parts_do():
    first = encode_keys([texts("a", "ab", "", "x"), texts("bc", "c", "abc", "y")])
    assert len(set(rows_of(first))) == 4
    assert rows_of(first)[3] == b"\x01\0\0\0x\x01\0\0\0y"


def test_numbers_are_keys():
    assert rows_of(encode_keys([Numeric(np.array([1, -1]))])) == [b"\x01" + b"\0" * 7, b"\xff" * 8]
    floats = encode_keys([Numeric(np.array([0.0, -0.0, np.nan]))])
    assert rows_of(floats)[0] == rows_of(floats)[1]
    assert floats.valid.tolist() == [True, True, False]
    assert rows_of(encode_keys([Numeric(np.array([True, False]))])) == [b"\x01", b"\0"]
    mixed = encode_keys([Numeric(np.array([1, 2])), texts("a", None)])
    assert mixed.valid.tolist() == [True, False]


def test_columns_of_a_slice_encode_like_the_slice():
    whole = texts("aa", "b", "ccc")
    part = Text(whole.offsets[1:], whole.data)
    assert rows_of(encode_keys([part, part])) == rows_of(encode_keys([whole.take(slice(1, 3))] * 2))
    assert hash_text(part, 3).tolist() == hash_text(whole, 3).tolist()[1:]


def test_columns_must_fit():
    with pytest.raises(InputError, match="lengths"):
        encode_keys([texts("a"), texts("a", "b")])
    with pytest.raises(InputError, match="at least one"):
        encode_keys([])
