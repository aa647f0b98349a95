"""The hazard corpus through dicts, NDJSON, CSV, Arrow tables and files: one verdict, and the next good event is taken."""

import pyarrow.parquet as pq
import pytest

from penstock.engine.contract import REASONS, Contract
from penstock.plan.compile import compile_plan
from tests.conformance.hazards.corpus import CASES, CSV, DICT, GOOD, JSON, TABLE, Case, values
from tests.conformance.hazards.definitions import checkout
from tests.conformance.hazards.ways import (
    csv_of,
    table_of,
    through_csv,
    through_dicts,
    through_file,
    through_json,
    through_messages,
    through_table,
)

GOOD_LINE = Case("good", None, event=GOOD).json_line
CONTRACT = Contract(compile_plan([], [checkout]).sources["payments"])


def cases(way):
    return [pytest.param(case, id=case.name) for case in CASES if way in case.ways]


def check_json(case):
    assert through_json(CONTRACT, [case.json_line]) == [case.reason]
    assert through_json(CONTRACT, [GOOD_LINE, case.json_line, GOOD_LINE]) == [None, case.reason, None]


def test_the_corpus_is_large_and_its_names_are_unique():
    assert len({case.name for case in CASES}) == len(CASES) >= 60
    assert {case.reason for case in CASES} - {None} <= set(REASONS)


@pytest.mark.parametrize("case", cases(JSON))
def test_lines_of_json(case):
    check_json(case)


@pytest.mark.parametrize("case", cases(JSON))
def test_messages(case):
    assert through_messages(CONTRACT, [case.json_line]) == [case.reason]
    assert through_messages(CONTRACT, [GOOD_LINE, case.json_line, GOOD_LINE]) == [None, case.reason, None]


@pytest.mark.parametrize("case", cases(DICT))
def test_dicts(case):
    assert through_dicts(CONTRACT, [case.event]) == [case.reason]
    assert through_dicts(CONTRACT, [GOOD, case.event, GOOD]) == [None, case.reason, None]


@pytest.mark.parametrize("case", cases(CSV))
def test_csv(case):
    if set(case.event) < set(GOOD):  # CSV leaves a column out for all rows alike
        assert through_csv(CONTRACT, [case.event or {"other": 1}]) == [case.reason]
    else:
        assert through_csv(CONTRACT, [case.event]) == [case.reason]
        assert through_csv(CONTRACT, [GOOD, case.event, GOOD]) == [None, case.reason, None]


@pytest.mark.parametrize("case", cases(TABLE))
def test_tables(case):
    assert through_table(CONTRACT, case.event) == [case.reason]
    assert CONTRACT.decode_table(table_of(case.event)).original(0)
    assert through_table(CONTRACT, GOOD) == [None]


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_a_file_of_json(tmp_path, rows):
    path = tmp_path / "events.ndjson"
    chosen = [case for case in CASES if JSON in case.ways]
    path.write_bytes(b"".join(case.json_line + b"\n" + GOOD_LINE + b"\n" for case in chosen))
    expected = [verdict for case in chosen for verdict in (case.reason, None)]
    assert through_file(CONTRACT, path, "ndjson", rows) == expected


@pytest.mark.parametrize("rows", [1, 1000])
def test_a_file_of_csv(tmp_path, rows):
    path = tmp_path / "events.csv"
    chosen = [case for case in CASES if CSV in case.ways and set(GOOD) <= set(case.event)]
    path.write_bytes(csv_of([event for case in chosen for event in (case.event, GOOD)]))
    expected = [verdict for case in chosen for verdict in (case.reason, None)]
    assert through_file(CONTRACT, path, "csv", rows) == expected


def test_files_of_parquet(tmp_path):
    for case in CASES:
        if TABLE in case.ways:
            pq.write_table(table_of(case.event), tmp_path / "case.parquet")
            assert through_file(CONTRACT, tmp_path / "case.parquet", "parquet", 1000) == [case.reason], (
                case.name
            )


def test_unicode_twins_are_the_same_key():
    twins = {case.name: case for case in CASES if case.name in {"card_nfc", "card_nfd"}}
    decoded = CONTRACT.decode_json(b"\n".join(case.json_line for case in twins.values()))
    first, second = decoded.columns["card"].to_strings()
    assert first == second == "Zo\u00eb"


def test_a_planted_wrong_verdict_is_caught():
    with pytest.raises(AssertionError):
        check_json(values("planted", None, amount=True))
