"""Profiles in all that looks at a project: trials, explanations, the catalog, changes, contracts, a running engine."""

import json
import random
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from penstock.app import state_folder
from penstock.app.catalog import catalog
from penstock.app.changing import plan_change
from penstock.app.contracts import read_history
from penstock.app.explaining import as_json, explain_event
from penstock.app.proving import prove
from penstock.cli.main import app
from penstock.core.errors import PlanError
from penstock.definitions.project import load_project
from penstock.engine.audit import audit
from tests.unit.app.shop import DEFINITIONS, START, open_project, payments, write_project

HOLDERS = """
holders = BatchSource(
    "holders", FileConfig("holders.csv", "csv", data_delay=HOUR),
    schema=[
        Field("card_id", Int64), Field("changed", Timestamp), Field("limit", Float64, optional=True), Field("age", Int64),
    ],
    allowed_lateness=2 * HOUR, tags={"team": "crm"},
)
profile = BatchFeatureView(
    "profile", sources=[holders], entities=[card], features=[Attribute("limit", Float64), Attribute("age", Int64)],
    tags={"level": "gold"},
)
lately = BatchFeatureView(
    "lately", sources=[holders], entities=[card], features=[Attribute("limit", Float64)], ttl=3 * HOUR,
)
"""
SERVICE = '    features=[spending[["n", "s", "most", "before", "shops"]], risk,'
WITH_PROFILE = DEFINITIONS.replace(
    "features = FeatureService(", HOLDERS + "features = FeatureService("
).replace(
    SERVICE,
    SERVICE + ' profile, lately, profile[["age"]].with_name("to").with_join_key_map({"card_id": "to_card"}),',
)
ALL_TRIALS = ["later events", "other keys", "one by one", "same again", "row times"]


def holders(rows, seed=0):
    """Rows of the table about as often as payments, some late, some of one time, some with nulls."""
    draw = random.Random(seed)
    return [
        {
            "card_id": draw.randrange(1, 4),
            "changed": row["at"].replace(minute=0) - timedelta(hours=draw.choice([1, 1, 2, 5])),
            "limit": draw.choice([None, 100.0, 250.5]),
            "age": draw.randrange(90),
        }
        for row in rows
    ]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = write_project(tmp_path_factory.mktemp("profiles"), WITH_PROFILE)
    assert WITH_PROFILE.count("profile") > 3
    rows = payments(140)
    with open_project(folder) as runtime:
        for i in range(0, 140, 7):
            runtime.ingest("holders", holders(rows[i : i + 7], i))
            runtime.ingest("payments", rows[i : i + 7])
    return folder


def test_profiles_pass_the_trials_on_logged_and_on_generated_rows(project, tmp_path):
    logged, made = prove(project), prove(write_project(tmp_path / "new", WITH_PROFILE))
    for proof in (logged, made):
        assert {t.name: t.passed for t in proof.trials} == dict.fromkeys(ALL_TRIALS, True)
    assert (logged.generated, made.generated) == (False, True)


@pytest.mark.parametrize("number", range(1, 140, 3))
def test_one_row_stands_behind_the_value_of_an_attribute(project, number):
    found = explain_event(project, f"p{number}")
    assert found.differing == 0
    looked = [one for one in found.features if one.behind is not None and one.behind.function == "latest"]
    assert len(looked) == 4
    for one in looked:
        assert one.recomputed == (
            float(one.behind.values[0]) if one.behind.values and one.behind.values[0] is not None else None
        )
        assert len(one.behind.positions) == len(one.behind.values) <= 1


def test_of_attributes_there_are_nulls_values_and_nothing(project):
    """Or the test above says little."""
    kinds = set()
    for number in range(140):
        for one in as_json(explain_event(project, f"p{number}"))["features"]:
            if one["name"] in {"profile.limit", "lately.limit"}:
                kinds.add((one["name"], one["count"], one["recomputed"] is None))
    assert kinds >= {(n, 1, null) for n in ("profile.limit", "lately.limit") for null in (True, False)}
    assert ("lately.limit", 0, True) in kinds


def test_a_row_counts_from_its_timestamp_and_delay_on(project):
    for one in explain_event(project, "p100").features:
        if one.name == "profile.age":
            (time_us,) = one.behind.times_us.tolist()
    with open_project(project) as runtime:
        runtime.engine.flush()
        table = runtime.store.read_log(sources={"holders"})
        changed = {int(t) for batch in table for t in _times(runtime, batch)}
    assert time_us - 3_600_000_000 in changed


def _times(runtime, batch):
    return runtime.engine.rows.events("holders", batch.positions)["changed"].values


def test_replay_and_audit_agree(project):
    with open_project(project) as runtime:
        runtime.engine.flush()
        assert audit(runtime.store, runtime.plan).differing == 0


def test_the_catalog_says_what_a_batch_source_and_its_views_are(project):
    graph = catalog(project)
    source, view = graph.nodes["source:holders"], graph.nodes["view:profile"]
    assert (source.type, dict(source.tags)) == ("batch, csv file", {"team": "crm"})
    assert (view.type, dict(view.tags)) == ("batch, by card_id", {"level": "gold"})
    assert graph.nodes["feature:profile.age"].description == "latest of age over up to t"
    assert graph.nodes["feature:lately.limit"].description == "latest of limit over (t - 3h, t]"
    after = graph.around("column:holders.age", upstream=False).nodes
    assert {"feature:profile.age", "service:features", "endpoint:endpoint"} <= set(after)
    assert "feature:lately.limit" not in after


def test_commands_show_them(project):
    for command in (
        ["catalog", "list"],
        ["lineage", "profile"],
        ["contracts"],
        ["explain"],
        ["explain-event", "p77"],
    ):
        result = CliRunner().invoke(app, [*command, "--project", str(project)])
        assert result.exit_code == 0, (command, result.output)
        assert "holders" in result.stdout, command


def test_a_change_of_delay_or_start_is_shown_and_folds_the_views_anew(project, tmp_path):
    CliRunner().invoke(app, ["apply", "--yes", "--project", str(project)])
    for old, new, wanted in (
        ("data_delay=HOUR", "data_delay=2 * HOUR", "data delay: 1h → 2h"),
        ("ttl=3 * HOUR,", "ttl=3 * HOUR, feature_start_time=START,", "feature start time: none → 2026-01-01"),
    ):
        text = WITH_PROFILE.replace(old, new)
        text = text.replace("HOUR =", "from datetime import datetime\nSTART = datetime(2026, 1, 1)\nHOUR =")
        write_project(project, text)
        change = plan_change(load_project(project))
        write_project(project, WITH_PROFILE)
        details = [line for one in change.changes for line in one.details]
        assert any(line.startswith(wanted) for line in details), details
        assert "lately" in {one.view for one in change.recomputed}
        assert all(one.rows > 0 and one.state_bytes for one in change.recomputed)


def test_a_column_may_be_added_to_a_batch_source_and_its_type_not_be_narrowed(tmp_path):
    folder = write_project(tmp_path / "shop", WITH_PROFILE)
    rows = holders(payments(30))
    with open_project(folder) as runtime:
        runtime.ingest("holders", rows)
        known = runtime.engine.position
    write_project(
        folder,
        WITH_PROFILE.replace(
            'Field("age", Int64),', 'Field("age", Int64), Field("k", String, optional=True),'
        ),
    )
    with open_project(folder) as runtime:
        runtime.ingest("holders", rows)
        assert runtime.engine.position == known, "nulls of a new column do not make new rows of them"
    history = read_history(state_folder(folder))
    assert [one.version for one in history.sources["holders"]] == [1, 2]
    write_project(
        folder,
        WITH_PROFILE.replace('Field("limit", Float64', 'Field("limit", Int64').replace(
            'Attribute("limit", Float64)', 'Attribute("limit", Int64)'
        ),
    )
    with pytest.raises(PlanError, match=r"(?s)holders.*view profile"), open_project(folder):
        pass


def test_a_running_engine_takes_a_profile_over_and_goes_on_refusing_what_history_covers(project, tmp_path):
    folder = write_project(tmp_path / "shop")
    write_project(folder, WITH_PROFILE.replace("profile, lately, ", "lately, "))
    rows = payments(60)
    with open_project(folder) as runtime:
        runtime.ingest("holders", holders(rows))
        runtime.ingest("payments", rows)
        runtime.engine.covered["payments"] = 5
        write_project(folder, WITH_PROFILE)
        runtime.adopt(runtime.prepare(load_project(folder)))
        assert runtime.engine.covered == {"payments": 5}
        assert runtime.engine._stepper._admission._covered is runtime.engine.covered
        live = runtime.online.read("profile", {"card_id": 1}).to_dict()
        runtime.engine.flush()
        assert live == runtime.online.read("profile", {"card_id": 1}).to_dict()
    with open_project(folder, rebuild=True) as runtime:
        assert runtime.online.read("profile", {"card_id": 1}).to_dict() == live


def test_json_of_an_explanation_is_whole(project):
    result = CliRunner().invoke(app, ["explain-event", "p100", "--json", "--project", str(project)])
    found = {one["name"]: one for one in json.loads(result.stdout)["features"]}
    assert found["profile.age"]["function"] == "latest"
    assert found["profile.age"]["from"] < START.isoformat()


def test_a_column_that_row_ids_are_made_of_stays(tmp_path):
    noted = WITH_PROFILE.replace(
        'Field("age", Int64),', 'Field("age", Int64), Field("note", String, optional=True),'
    )
    folder = write_project(tmp_path / "shop", noted)
    with open_project(folder) as runtime:
        runtime.ingest("holders", [{**row, "note": "x"} for row in holders(payments(30))])
    write_project(folder, WITH_PROFILE)
    with (
        pytest.raises(PlanError, match=r"note gone.* a second time"),
        open_project(folder),
    ):
        pass
