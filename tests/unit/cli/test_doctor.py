"""`penstock doctor` finds each thing that may be wrong, says what to do, and is quiet where nothing is."""

import json
import os
import socket
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from penstock.app.api_keys import create_key
from penstock.cli import doctor_checks
from penstock.cli.doctor_checks import examine
from penstock.cli.main import app
from penstock.testing.clock import ManualClock
from tests.unit.app.observed import feed, observed, serve
from tests.unit.app.shop import CLOCK, write_project


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Without the variables of this test run."""
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def folder(tmp_path):
    root = write_project(tmp_path)
    setting(root, "serve", "port = 0")
    return root


@pytest.fixture
def ran(folder):
    with observed(folder) as (runtime, observing):
        serve(runtime)
        feed(runtime, observing, 20)
    return folder


def setting(root, section, line):
    with (root / "penstock.toml").open("a") as file:
        file.write(f"\n[{section}]\n{line}\n")


def about(root, name, clock=CLOCK):
    found = [one for one in examine(root, clock=clock) if one.name == name]
    return [(one.state, one.found, one.advice) for one in found]


def test_a_project_that_runs_well_has_nothing_wrong(ran):
    found = examine(ran, clock=CLOCK)
    assert Counter(one.state for one in found)["wrong"] == 0, found
    assert about(ran, "store") == [("well", "33 events and labels, its structure is whole", "")]


def test_every_check_has_something_to_say(ran):
    names = {one.name for one in examine(ran, clock=CLOCK)}
    assert set(doctor_checks.CHECKS) - names <= {"alerts"}


def test_a_wrong_setting_is_found_and_the_rest_still_looked_at(ran):
    setting(ran, "engine", 'durability = "hope"')
    state, text, _ = about(ran, "settings")[0]
    assert state == "wrong"
    assert "engine.durability is 'hope'" in text
    assert about(ran, "store")[0][0] == "note"
    assert about(ran, "disk")[0][0] == "well"


def test_a_definition_that_cannot_be_loaded_is_found(ran):
    (ran / "definitions.py").write_text("1 / 0\n")
    state, text, _ = about(ran, "definitions")[0]
    assert state == "wrong"
    assert "ZeroDivisionError" in text


def test_a_misspelt_variable_is_found(folder, monkeypatch):
    monkeypatch.setenv("PENSTOCK_SERVE__PROT", "9")
    assert about(folder, "variables") == [
        ("note", "PENSTOCK_SERVE__PROT: no such setting", "docs/settings.md lists all names")
    ]


def test_an_old_library_and_a_missing_one_are_found(folder, monkeypatch):
    monkeypatch.setattr(
        doctor_checks, "requires", lambda _: ["numpy>=99", "no-such-thing>=1", "no-such>=1; extra == 'x'"]
    )
    state, text, _ = about(folder, "libraries")[0]
    assert state == "wrong"
    assert "needed is >=99" in text
    assert "no-such-thing is missing" in text
    assert "no-such is" not in text, "an extra may be away"


def test_a_full_disk_is_found(folder, monkeypatch):
    full = SimpleNamespace(total=100 << 30, free=100 << 20)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    assert about(folder, "disk")[0][:2] == ("wrong", "0.1 GB free, 0%")
    full.total, full.free = 1000 << 30, 20 << 30
    assert about(folder, "disk")[0][:2] == ("note", "21.5 GB free, 2%")


def test_a_folder_that_cannot_be_written_is_found(folder, monkeypatch):
    def refused(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refused)
    state, text, advice = about(folder, "folder")[0]
    assert state == "wrong"
    assert "cannot write there (Permission denied)" in text
    assert advice.startswith("chown")


def test_a_clock_that_went_back_is_found(ran):
    early = ManualClock(CLOCK.now_us() - 3_600_000_000)
    assert ("wrong", "the newest event was taken 1h in the future: the clock went back") in [
        one[:2] for one in about(ran, "store", early)
    ]


def test_a_damaged_store_is_found(ran):
    path = ran / ".penstock" / "penstock.db"
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 3 + 2000] = b"\xff" * 2000
    path.write_bytes(data)
    assert "wrong" in {one[0] for one in about(ran, "store")}


def test_a_project_that_never_ran_is_no_fault(folder):
    assert about(folder, "store") == [("note", "the project has never run", "penstock run, or penstock up")]


def test_mlflow_that_is_away_is_found_soon(folder):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    setting(folder, "registry", f'uri = "http://127.0.0.1:{port}"')
    state, text, _ = about(folder, "registry")[0]
    assert state == "wrong"
    assert "Connection refused" in text


def test_an_open_api_without_keys_is_found(folder):
    text = (folder / "penstock.toml").read_text().replace("port = 0", 'port = 0\nhost = "0.0.0.0"')
    (folder / "penstock.toml").write_text(text)
    state, text, _ = about(folder, "keys")[0]
    assert state == "wrong"
    assert "penstock keys create" in text


def test_keys_that_end_are_found(folder):
    create_key(folder, "shop", ["score"], expires_in=timedelta(days=3), actor="t", reason="t", clock=CLOCK)
    assert about(folder, "keys")[0][0] == "note"
    late = ManualClock(CLOCK.now_us() + 4 * 86_400_000_000)
    assert about(folder, "keys", late)[0][:2] == ("wrong", "no key works any more: every request is refused")


def test_a_port_that_is_taken_is_a_note(folder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        text = (folder / "penstock.toml").read_text().replace("port = 0", f"port = {port}")
        (folder / "penstock.toml").write_text(text)
        assert about(folder, "server")[0][0] == "note"
    assert about(folder, "server")[0] == ("well", f"127.0.0.1:{port} is free", "")


def test_a_certificate_that_is_not_there_is_found(folder):
    text = (
        (folder / "penstock.toml")
        .read_text()
        .replace("port = 0", 'port = 0\ntls_cert = "a.pem"\ntls_key = "b.pem"')
    )
    (folder / "penstock.toml").write_text(text)
    assert [one[1] for one in about(folder, "server") if one[0] == "wrong"] == [
        "a.pem cannot be read",
        "b.pem cannot be read",
    ]


def test_a_secret_that_is_not_set_is_found(folder, monkeypatch):
    with (folder / "definitions.py").open("a") as file:
        file.write(
            "\nfrom penstock import Alert, OnDecision, Webhook\n"
            'big = Alert("big", on=OnDecision(endpoint, action="block"), owner="risk",\n'
            '            to=[Webhook("http://127.0.0.1:9/", secret_env="BIG_SECRET")])\n'
        )
    monkeypatch.delenv("BIG_SECRET", raising=False)
    assert about(folder, "alerts")[0][:2] == ("wrong", "big: the variable BIG_SECRET is not set here")
    monkeypatch.setenv("BIG_SECRET", "x")
    assert about(folder, "alerts") == [("well", "1 receivers have their secrets", "")]


def test_the_command_prints_and_its_code_tells(ran, monkeypatch):
    monkeypatch.setattr(doctor_checks, "SystemClock", lambda: CLOCK)
    run = CliRunner()
    good = run.invoke(app, ["doctor", "--project", str(ran)])
    assert good.exit_code == 0, good.output
    assert "0 wrong" in good.output
    setting(ran, "engine", 'durability = "hope"')
    bad = run.invoke(app, ["doctor", "--project", str(ran), "--json"])
    assert bad.exit_code == 1
    answer = json.loads(bad.output)
    assert not answer["well"]
    assert {"name", "state", "found", "advice"} == set(answer["checks"][0])
    assert os.environ.get("PENSTOCK_DEBUG") is None
