"""Loading a project folder: what counts, what is refused, and what the refusal says."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent

import pytest

from penstock.core.errors import DefinitionError, ProjectError, SettingsError
from penstock.definitions.loading import run_files
from penstock.definitions.project import find_project, load_project

ENTITIES = """
    from penstock import Entity
    from penstock.types import Field, String

    card = Entity(name="card", join_keys=[Field("card_id", String)])
"""
FEATURES = """
    from datetime import timedelta

    from penstock import (
        Aggregate, Attribute, FeatureService, LabelSource, Policy, PushConfig, RequestSource, StreamFeatureView,
        StreamSource, realtime_feature_view,
    )
    from penstock.types import Bool, Field, Float64, Int64, String, Timestamp

    from .entities import card

    payments = StreamSource(
        name="payments",
        stream_config=PushConfig(),
        event_id_field="payment_id",
        schema=[
            Field("payment_id", Int64), Field("card_id", String), Field("time", Timestamp), Field("amount", Float64)
        ],
    )
    chargebacks = LabelSource("chargebacks", of=payments, label=Field("is_fraud", Bool), known_at="reported_at")
    totals = StreamFeatureView(
        "totals",
        source=payments,
        entities=[card],
        features=[Aggregate(Field("amount", Float64), "sum", time_window=timedelta(hours=1))],
    )

    @realtime_feature_view(
        sources=[RequestSource([Field("amount", Float64)])], features=[Attribute("big", Bool)], mode="python"
    )
    def size(request):
        return {"big": request["amount"] > 100}

    service = FeatureService("service", features=[totals, size])
    policy = Policy("policy", actions={"block": 0.9})
"""


@pytest.fixture
def project(tmp_path):
    """Write files into a project folder of their own."""

    def write(files: dict[str, str], *, settings: str = ""):
        root = tmp_path / "shop"
        root.mkdir(exist_ok=True)
        (root / "penstock.toml").write_text(settings)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(dedent(text))
        return root

    yield write
    for name in [name for name in sys.modules if name.startswith("penstock_project_")]:
        del sys.modules[name]


def test_objects_are_gathered_by_kind_and_name(project):
    root = project({"entities.py": ENTITIES, "features.py": FEATURES})
    loaded = load_project(root)
    assert loaded.root == root
    assert loaded.name == "shop"
    assert list(loaded.entities) == ["card"]
    assert list(loaded.sources) == ["payments"]
    assert list(loaded.label_sources) == ["chargebacks"]
    assert list(loaded.views) == ["totals", "size"]
    assert list(loaded.services) == ["service"]
    assert list(loaded.policies) == ["policy"]
    assert loaded.models == {}
    assert loaded.endpoints == {}


def test_an_object_imported_by_another_file_is_one_object(project):
    loaded = load_project(project({"entities.py": ENTITIES, "features.py": FEATURES}))
    assert loaded.views["totals"].entities[0] is loaded.entities["card"]


def test_files_load_in_the_order_of_their_names(project):
    files = {f"{name}.py": ENTITIES.replace('"card"', f'"{name}"') for name in ("b", "c", "a")}
    assert list(load_project(project(files)).entities) == ["a", "b", "c"]


def test_tests_hidden_files_and_main_are_not_definitions(project):
    broken = "raise RuntimeError"
    names = ("__main__.py", "test_features.py", "conftest.py", ".hidden.py")
    root = project({"entities.py": ENTITIES, **dict.fromkeys(names, broken)})
    assert list(load_project(root).entities) == ["card"]


def test_only_listed_files_count_where_a_list_is_given(project):
    root = project(
        {
            "entities.py": ENTITIES,
            "setup.py": "raise RuntimeError",
            "more/extra.py": ENTITIES.replace('"card"', '"x"'),
        },
        settings='[project]\nname = "my_shop"\ndefinitions = ["more/extra.py", "entities.py"]\n',
    )
    loaded = load_project(root)
    assert loaded.name == "my_shop"
    assert list(loaded.entities) == ["card", "x"]
    assert loaded.settings["project"]["name"] == "my_shop"


def test_the_package_file_may_define_too(project):
    root = project({"__init__.py": ENTITIES, "more.py": "from . import card"})
    assert list(load_project(root).entities) == ["card"]


def test_loading_again_sees_changed_files(project):
    root = project({"entities.py": ENTITIES})
    first = load_project(root)
    project({"entities.py": ENTITIES.replace('"card"', '"terminal"')})
    assert list(load_project(root).entities) == ["terminal"]
    assert list(first.entities) == ["card"]


def test_two_projects_with_the_same_file_names_do_not_mix(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "penstock.toml").write_text("")
        (tmp_path / name / "entities.py").write_text(dedent(ENTITIES).replace('"card"', f'"{name}"'))
    loaded = [load_project(tmp_path / name) for name in ("one", "two")]
    assert [list(p.entities) for p in loaded] == [["one"], ["two"]]


def test_two_objects_of_a_name_are_refused_with_both_files(project):
    root = project({"entities.py": ENTITIES, "more.py": ENTITIES})
    with pytest.raises(
        DefinitionError, match=r"(?s)entity 'card'.*entities\.py and in more\.py.*allowed.*Rename"
    ):
        load_project(root)


def test_two_objects_of_a_name_in_one_file_are_refused(project):
    root = project({"entities.py": ENTITIES + ENTITIES.replace("card =", "other =")})
    with pytest.raises(DefinitionError, match=r"twice in entities\.py"):
        load_project(root)


def test_a_stream_and_a_label_source_may_not_share_a_name(project):
    root = project({"entities.py": ENTITIES, "features.py": FEATURES.replace('"chargebacks"', '"payments"')})
    with pytest.raises(DefinitionError, match="source 'payments'"):
        load_project(root)


def test_bad_syntax_names_file_and_line(project):
    root = project({"features.py": "x = 1\ny = = 2\n"})
    with pytest.raises(
        ProjectError, match=r"features\.py, line 2 \(y = = 2\): SyntaxError.*allowed"
    ) as caught:
        load_project(root)
    assert isinstance(caught.value.__cause__, SyntaxError)


def test_a_bad_definition_names_file_line_and_object(project):
    root = project({"entities.py": "\n" + dedent(ENTITIES).replace("String)", "str)")})
    with pytest.raises(
        DefinitionError, match=r"entities\.py, line 6 \(card = .*Field 'card_id'.*allowed"
    ) as caught:
        load_project(root)
    assert isinstance(caught.value.__cause__, DefinitionError)


def test_an_error_in_an_imported_file_names_that_file(project):
    root = project({"features.py": "from .zones import x", "zones.py": "\nx = 1 / 0"})
    with pytest.raises(ProjectError, match=r"zones\.py, line 2 \(x = 1 / 0\): ZeroDivisionError"):
        load_project(root)


def test_a_file_that_exits_is_an_error(project):
    with pytest.raises(ProjectError, match="SystemExit"):
        load_project(project({"features.py": "raise SystemExit(0)"}))


def test_a_failed_load_leaves_no_module_behind(project):
    with pytest.raises(ProjectError):
        load_project(project({"a.py": "x = 1", "b.py": "1 / 0"}))
    assert not [name for name in sys.modules if name.startswith("penstock_project_")]


def test_a_file_name_that_cannot_be_imported_is_refused(project):
    with pytest.raises(ProjectError, match=r"my-features\.py.*allowed.*Rename"):
        load_project(project({"my-features.py": ""}))


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ("[project", "Expected"),
        ("project = 3", "project is 3"),
        ("[project]\nname = 3", "name of .project. is 3"),
        ('[project]\ndefinitions = "a.py"', "definitions of .project. is 'a.py'"),
        ('[project]\ndefinitions = ["b.py"]', r"lists b\.py; allowed.*a\.py"),
        ('[project]\ndefinitions = ["../a.py"]', r"lists .*a\.py; allowed"),
    ],
)
def test_bad_settings_name_the_file_and_what_was_found(project, settings, found):
    root = project({"a.py": ""}, settings=settings)
    with pytest.raises(SettingsError, match=f"(?s)penstock.toml.*{found}"):
        load_project(root)


def test_a_folder_without_settings_is_no_project(tmp_path):
    with pytest.raises(ProjectError, match=r"penstock\.toml.*penstock init"):
        load_project(tmp_path)


def test_the_project_is_found_from_inside(project):
    root = project({"deep/er/x.py": ""})
    assert find_project(root / "deep" / "er") == root
    assert find_project(root) == root


def test_outside_of_any_project_the_way_to_make_one_is_told(tmp_path):
    with pytest.raises(ProjectError, match="penstock init"):
        find_project(tmp_path)


def test_files_are_read_as_they_are_even_when_changed_twice_in_a_second(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for name in ("__init__.py", "definitions.py"):
        file = tmp_path / name
        for source in (
            "first",
            "other",
        ):  # of one length, and of one second: Python's cache takes one for the other
            file.write_text(f"WHO = '{source}'\n")
            os.utime(file, (1, 1))
            ((_, module),) = run_files(tmp_path, [file])
            assert source == module.WHO
    assert not list(tmp_path.rglob("*.pyc"))


def test_threads_that_load_a_project_at_once_each_get_all_of_it(project):
    root = project({"entities.py": ENTITIES, "features.py": FEATURES})
    with ThreadPoolExecutor(8) as threads:
        loaded = list(threads.map(lambda _: load_project(root), range(40)))
    assert {len(one.sources) for one in loaded} == {1}
    assert len({id(one.sources["payments"]) for one in loaded}) == 40, "each has run the files for itself"
