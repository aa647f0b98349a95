from __future__ import annotations

import random

import numpy as np
import pytest

from penstock.engine.row_ids import RowIds, with_row_ids
from penstock.engine.schema_versions import in_force
from penstock.kernel.columns import Columns, Numeric
from penstock.types import Field, Float64, Int64

FIELDS = [Field(name, Int64, optional=True) for name in ("key", "a", "b", "c")]


def test_numbers_that_are_equal_make_the_same_row():
    quiet, signed = np.array([0x7FF8000000000000, 0xFFF8000000000001], np.uint64).view(np.float64)
    ids = [_id_of(value) for value in (0.0, -0.0, quiet, signed, 1.0)]
    assert ids[0] == ids[1]
    assert ids[2] == ids[3]
    assert len(set(ids)) == 3


def _id_of(value: float) -> int:
    columns = Columns(1, {"amount": Numeric(np.array([value]))})
    return int(with_row_ids(columns, [Field("amount", Float64)], "id")["id"].values[0])


@pytest.mark.parametrize("seed", range(60))
def test_each_row_of_a_growing_table_is_logged_once_whatever_its_order_and_schema(seed: int):
    chance = random.Random(seed)
    table: list[tuple[int | None, ...]] = []
    log: dict[int, int] = {}
    schemas: list[tuple[int, list[Field]]] = []
    for _ in range(12):
        if not schemas or (chance.random() < 0.4 and len(schemas[-1][1]) < len(FIELDS)):
            schemas.append((len(log), FIELDS[: len(schemas[-1][1]) + 1 if schemas else 2]))
        table += [tuple(chance.choice([None, 1, 2]) for _ in FIELDS) for _ in range(chance.randrange(5))]
        chance.shuffle(table)
        ids = _ids(table, schemas, log)
        assert len(set(ids)) == len(table)
        for one in ids:
            log.setdefault(one, len(log))
        assert len(log) == len(table)


def _ids(table: list[tuple[int | None, ...]], schemas: list[tuple[int, list[Field]]], log: dict[int, int]):
    def known(ids):
        return np.array([log.get(one, -1) for one in ids.values.tolist()], np.int64)

    columns = Columns(
        len(table),
        {
            field.name: Numeric(
                np.array([row[i] or 0 for row in table], np.int64),
                np.array([row[i] is not None for row in table], np.bool_),
            )
            for i, field in enumerate(FIELDS)
        },
    )
    return RowIds("row_id", in_force(schemas), known).given_to(columns)["row_id"].values.tolist()
