"""Schemas that change: what is accepted, what is refused and why, and events of all versions side by side."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from penstock.app import open_reader, plan_of
from penstock.app.agreements import agreements
from penstock.app.contracts import read_history
from penstock.cli.main import app
from penstock.core.errors import CorruptionError, PlanError, StoreError
from penstock.definitions.project import load_project
from penstock.engine.audit import audit
from penstock.engine.contract import Contract
from penstock.engine.unknown_fields import EVERY, MOST_NAMES, UnknownFields
from penstock.plan.compile import source_node
from tests.unit.app.shop import DEFINITIONS, feed, open_project, payments, write_project

AMOUNT = 'Field("amount", Float64, optional=True),'
COLOUR = 'Field("colour", String, optional=True), Field("weight", Float32, optional=True),'
WITH_COLOUR = DEFINITIONS.replace(AMOUNT, AMOUNT + COLOUR)
assert WITH_COLOUR != DEFINITIONS
USING_COLOUR = (
    WITH_COLOUR
    + """
colours = StreamFeatureView(
    "colours", source=payments, entities=[card],
    features=[Aggregate(Field("colour", String), "count_distinct", time_window=24 * HOUR, name="n")],
)
coloured = FeatureService("coloured", features=[colours, spending[["n", "s"]]])
"""
)


@pytest.fixture
def project(tmp_path):
    folder = write_project(tmp_path / "shop")
    with open_project(folder) as runtime:
        feed(runtime, 60)
    return folder


def redefine(folder, text):
    write_project(folder, text)
    return folder


def change(old, new, text=DEFINITIONS):
    assert old in text
    return text.replace(old, new)


def opened(folder):
    with open_project(folder) as runtime:
        return runtime.contract_changes


def versions(folder, source="payments"):
    return [(v.version, v.since) for v in read_history(folder / ".penstock").sources[source]]


def test_a_source_has_a_first_version_and_opening_again_adds_none(project):
    assert versions(project) == [(1, 0)]
    assert opened(project) == ()
    assert versions(project) == versions(project, "frauds") == [(1, 0)]


def test_an_optional_field_is_a_new_version_and_events_of_both_flow_side_by_side(project):
    redefine(project, USING_COLOUR)
    with open_project(project) as runtime:
        assert runtime.contract_changes == (
            "payments version 2: colour String added, optional; weight Float32 added, optional",
        )
        since = runtime.engine.position
        old, new = payments(20, seed=3, first=60), payments(20, seed=4, first=80)
        runtime.ingest(
            "payments",
            [row | {"colour": "red", "weight": 1.5} if i % 2 else row for i, row in enumerate(old)],
        )
        runtime.ingest("payments", [row | {"colour": None} for row in new])
        served = runtime.features("coloured").features.values
        corrected = runtime.features("coloured", as_of="corrected").features.values
        asked = runtime.project.services["coloured"].get_features_for_events(new)
    assert versions(project) == [(1, 0), (2, since)]
    assert served.shape == corrected.shape == (100, 3)
    assert (served[:60, 0] == 0).all()
    assert served[60:, 0].max() == 1
    assert asked.to_numpy().shape == (20, 3)
    plan = plan_of(load_project(project))
    with open_reader(project) as store:
        report = audit(store, plan)
    assert (report.vectors, report.differing, report.missing) == (100, 0, 0)
    assert not report.skipped


def test_state_is_what_it_would_be_had_the_schema_always_been_so(project, tmp_path):
    other = write_project(tmp_path / "other", USING_COLOUR)
    late = payments(30, seed=9, first=60)
    vectors = []
    redefine(project, USING_COLOUR)
    with open_project(other) as runtime:
        feed(runtime, 60)
    for folder in (project, other):
        with open_project(folder) as runtime:
            runtime.ingest("payments", late)
            vectors.append(runtime.features("coloured").features.values)
    np.testing.assert_array_equal(*vectors)


def test_a_field_may_come_and_go_while_nothing_needs_it(project):
    redefine(project, WITH_COLOUR)
    opened(project)
    redefine(project, DEFINITIONS)
    assert opened(project) == ("payments version 3: colour String dropped; weight Float32 dropped",)
    redefine(project, change(AMOUNT, AMOUNT + 'Field("colour", Int64, optional=True),'))
    with pytest.raises(PlanError, match="colour changed from String to Int64"):
        opened(project)
    assert [v for v, _ in versions(project)] == [1, 2, 3]


def test_widening_keeps_values(project):
    redefine(project, WITH_COLOUR)
    with open_project(project) as runtime:
        runtime.ingest("payments", [row | {"weight": 0.1} for row in payments(5, seed=5, first=60)])
    redefine(project, change('"weight", Float32', '"weight", Float64', WITH_COLOUR))
    with open_project(project) as runtime:
        assert runtime.contract_changes == ("payments version 3: weight widened from Float32 to Float64",)
        runtime.ingest("payments", [row | {"weight": 0.1} for row in payments(5, seed=6, first=65)])
        logged = runtime.features("features").events["weight"]
    known = logged.values[-10:]
    assert known[:5].tolist() == [float(np.float32(0.1))] * 5
    assert known[5:].tolist() == [0.1] * 5


REFUSED = {
    # what changes: (definitions, what is said)
    "retype a used field": (
        change('Field("id", String), ', 'Field("id", Int64), ').replace(
            'Field("id", String)', 'Field("id", Int64)'
        ),
        r"id changed from String to Int64, but events accepted before are not so\..*model model.*Keep id String",
    ),
    "required": (
        change(AMOUNT, AMOUNT + 'Field("colour", String),'),
        r"colour String added, required, but.*Write Field\('colour', String, optional=True\)",
    ),
    "no longer optional": (
        change(AMOUNT, 'Field("amount", Float64),'),
        r"amount was optional and is required.*breaks view spending, received, ratio; service features;.*optional=True",
    ),
    "drop what a function reads": (
        change(" SHOP,\n", "\n").replace(
            'by_shop = Entity("by_shop", [SHOP])', 'by_shop = Entity("by_shop", [Field("id", String)])'
        ),
        r"shop String dropped, and is needed\. It breaks view spending; service features; model model;.*Keep shop",
    ),
    "make optional what a view needs": (
        change(" SHOP,\n", ' Field("shop", String, optional=True),\n'),
        r"shop was required and is optional, and is needed\. It breaks view spending, risk.*Keep shop required",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_break_is_refused_with_what_breaks_and_nothing_is_touched(project, what):
    text, said = REFUSED[what]
    before = sorted((p.name, p.stat().st_mtime_ns) for p in (project / ".penstock" / "snapshots").iterdir())
    redefine(project, text)
    with pytest.raises(PlanError, match=re.compile(said, re.DOTALL)):
        opened(project)
    assert versions(project) == [(1, 0)]
    after = sorted((p.name, p.stat().st_mtime_ns) for p in (project / ".penstock" / "snapshots").iterdir())
    assert after == before
    found = CliRunner().invoke(app, ["contracts", "payments", "--project", str(project)])
    assert found.exit_code == 1
    assert "refused" in found.stdout
    assert max(map(len, found.stdout.splitlines())) <= 80
    redefine(project, DEFINITIONS)
    assert opened(project) == ()


def test_a_reader_that_cannot_read_what_was_accepted_says_so(project):
    """Readers do not open the project for writing, so they meet the log with whatever schema there is."""
    redefine(project, REFUSED["required"][0])
    plan = plan_of(load_project(project))
    with (
        open_reader(project) as store,
        pytest.raises(StoreError, match=r"'colour' \(String\) is missing.*optional"),
    ):
        audit(store, plan)


def test_without_events_anything_goes(tmp_path):
    folder = write_project(tmp_path / "new")
    opened(folder)
    redefine(folder, REFUSED["required"][0])
    assert opened(folder) == ("payments version 2: colour String added, required",)


def test_a_crash_between_snapshots_and_history_is_made_good(project, monkeypatch):
    from penstock.app import contracts

    redefine(project, USING_COLOUR)
    with monkeypatch.context() as broken:
        broken.setattr(contracts, "record", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            opened(project)
    assert versions(project) == [(1, 0)]
    assert len(opened(project)) == 1
    assert opened(project) == ()


def test_a_damaged_history_is_no_empty_one(project):
    (project / ".penstock" / "contracts.json").write_bytes(b"{")
    with pytest.raises(CorruptionError, match=r"contracts: .* cannot be read"):
        opened(project)


def test_unknown_fields_are_counted_and_never_fatal(project):
    with open_project(project) as runtime:
        rows = [row | {"colour": "red", "nested": {"a": 1}} for row in payments(3 * EVERY, seed=2, first=60)]
        answers = runtime.ingest("payments", rows[:200])
        answers += runtime.ingest(
            "payments", b"\n".join(json.dumps(r, default=str).encode() for r in rows[200:])
        )
    assert {answer.status for answer in answers} == {"scored"}
    (found,) = agreements(project, "payments")
    assert found.unknown == {"colour": 3, "nested": 3}
    result = CliRunner().invoke(app, ["contracts", "--project", str(project)])
    assert f"colour in about {3 * EVERY}, nested in about {3 * EVERY}" in " ".join(result.stdout.split())
    assert agreements(project, "frauds")[0].unknown == {}


def looked(counting, decoded):
    """What one more batch of payments adds to the counts."""
    found = {}
    counting.look([("payments", decoded)], found)
    return found


def test_the_names_of_unknown_fields_are_bounded(project):
    source = source_node(load_project(project).sources["payments"])
    counting = UnknownFields({"payments": source}, {"unknown.payments.before": 7})
    contract = Contract(source)
    totals = {}
    for i, row in enumerate(payments(EVERY * 40)[::EVERY]):
        sent = [row | {f"x{i}" + "y" * 100: 1}] * EVERY
        for name, count in looked(counting, contract.decode_dicts(sent)).items():
            totals[name] = totals.get(name, 0) + count
    assert sum(totals.values()) == 40
    assert len(totals) == MOST_NAMES  # one was known before, and one stands for all others
    assert totals["unknown.payments.(others)"] == 40 - (MOST_NAMES - 1)
    assert max(map(len, totals)) <= len("unknown.payments.") + 64


@pytest.mark.parametrize("sizes", [[1] * 400, [7] * 60, [EVERY] * 4, [1000], [3, 300, 1, 128, 5]])
def test_one_in_so_many_is_looked_at_whatever_the_batches(project, sizes):
    source = source_node(load_project(project).sources["payments"])
    counting, contract, row = UnknownFields({"payments": source}, {}), Contract(source), payments(1)[0]
    found = sum(sum(looked(counting, contract.decode_dicts([row | {"more": 1}] * n)).values()) for n in sizes)
    assert found == -(-sum(sizes) // EVERY)


def test_lines_of_other_formats_are_left_alone(project):
    source = source_node(load_project(project).sources["payments"])
    header = ",".join(f.name for f in source.fields)
    decoded = Contract(source).decode_csv(f"{header},more\np1,1,1,a,2026-01-01T00:00:00Z,1.5,x\n".encode())
    assert looked(UnknownFields({"payments": source}, {}), decoded) == {}


def test_a_project_that_never_ran(tmp_path):
    folder = write_project(tmp_path / "new")
    assert [one.versions for one in agreements(folder)] == [(), ()]
    assert not (folder / ".penstock").exists()


def statuses(runtime, rows):
    return [answer.status for answer in runtime.ingest("payments", rows)]


def test_an_event_that_is_sent_again_is_a_duplicate_under_the_schema_of_then(project):
    first = payments(2, seed=5, first=60)
    carrying = [row | {"colour": "red", "weight": 0.1} for row in first]
    with open_project(project) as runtime:
        assert statuses(runtime, carrying) == ["scored"] * 2
    redefine(project, WITH_COLOUR)
    second = [row | {"colour": "red", "weight": 0.1} for row in payments(2, seed=6, first=62)]
    with open_project(project) as runtime:
        assert statuses(runtime, carrying) == statuses(runtime, first) == ["duplicate"] * 2
        assert statuses(runtime, second) == ["scored"] * 2
        assert statuses(runtime, [second[0] | {"colour": "blue"}]) == ["rejected"], "this one it knows"
        assert statuses(runtime, [carrying[0] | {"to_card": -1}]) == ["rejected"]
    redefine(project, change('"weight", Float32', '"weight", Float64', WITH_COLOUR))
    third = [row | {"weight": 0.1} for row in payments(2, seed=7, first=64)]
    with open_project(project) as runtime:
        assert statuses(runtime, [*carrying, *second]) == ["duplicate"] * 4
        assert statuses(runtime, third) == ["scored"] * 2
        near = float(np.float32(0.1))
        assert statuses(runtime, [second[0] | {"weight": near}]) == ["duplicate"]
        assert statuses(runtime, [third[0] | {"weight": near}]) == ["rejected"]


def test_a_running_engine_takes_repeats_under_the_schema_of_then(project):
    first, second = payments(1, seed=5, first=60), payments(1, seed=6, first=61)
    with open_project(project) as runtime:
        statuses(runtime, first)
        redefine(project, WITH_COLOUR)
        runtime.adopt(runtime.prepare(load_project(project)))
        assert statuses(runtime, [first[0] | {"colour": "red"}]) == ["duplicate"]
        assert statuses(runtime, second) == ["scored"]
        assert statuses(runtime, [second[0] | {"colour": "red"}]) == ["rejected"]
