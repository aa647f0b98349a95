"""Keys are made, listed and revoked with a row in the audit log each, by hand too."""

import json
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from penstock.app.api_keys import CREATED, REVOKED, create_key, key_store_of, revoke_key
from penstock.app.runtime import audit_log_of
from penstock.cli.main import app
from penstock.core.errors import InputError, NotFoundError
from penstock.stores.keys import split_key
from penstock.testing.clock import ManualClock

CLOCK = ManualClock(1_760_000_000_000_000)
WHO = {"actor": "ada", "reason": "the shop scores", "clock": CLOCK}


def _secret(text):
    return split_key(text)[1]  # which may itself hold the "_" that parts a key


def test_each_change_has_one_row(tmp_path):
    key, text = create_key(tmp_path, "shop", ["score", "read"], expires_in=timedelta(days=90), rate=50, **WHO)
    with pytest.raises(NotFoundError, match=key.key_id):
        revoke_key(tmp_path, "nobody", **WHO)
    revoke_key(tmp_path, key.key_id, **WHO | {"reason": "it leaked"})
    with pytest.raises(InputError, match="already"):
        revoke_key(tmp_path, key.key_id, **WHO)
    log = audit_log_of(tmp_path, clock=CLOCK)
    assert log.verify() == 2
    made, ended = log.rows()
    assert (made.action, made.subject, made.actor, made.reason) == (
        CREATED,
        key.key_id,
        "ada",
        "the shop scores",
    )
    assert made.values() == {
        "name": "shop",
        "scopes": ["read", "score"],
        "expires": "2026-01-07T08:53:20+00:00",
        "rate": 50,
    }
    assert (ended.action, ended.subject, ended.reason) == (REVOKED, key.key_id, "it leaked")
    assert _secret(text).encode() not in (tmp_path / ".penstock/audit.db").read_bytes()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"name": ""}, "its name is ''"),
        ({"name": "a\nb"}, "its name is"),
        ({"name": "x" * 65}, "its name is"),
        ({"scopes": []}, "its scope is none"),
        ({"scopes": ["read", "root"]}, "its scope is 'root'; allowed are read, score, write, admin"),
        ({"expires_in": timedelta(0)}, "it is to expire in 0:00:00"),
        ({"expires_in": timedelta(days=9999)}, "it is to expire in"),
        ({"rate": 0.0}, "rate is 0"),
        ({"rate": float("nan")}, "rate is nan"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_kept(tmp_path, changes, found):
    values = {"name": "shop", "scopes": ["read"]} | changes
    with pytest.raises(InputError, match=found):
        create_key(tmp_path, values.pop("name"), values.pop("scopes"), **values, **WHO)
    assert not (tmp_path / ".penstock").exists()


def test_the_commands(tmp_path):
    (tmp_path / "penstock.toml").write_text("")
    here = ["--project", str(tmp_path)]

    def run(*arguments):
        result = CliRunner().invoke(app, ["keys", *arguments, *here])
        assert result.exit_code == 0, result.output
        return result.stdout

    text = run("create", "shop", "--scope", "score", "--expires", "90d", "--rate", "20").split()[0]
    assert text.startswith("pst_")
    (listed,) = json.loads(run("list", "--json"))
    assert (listed["name"], listed["scopes"], listed["state"], listed["rate"]) == (
        "shop",
        ["score"],
        "live",
        20.0,
    )
    assert _secret(text) not in run("list")
    assert "is revoked" in run("revoke", listed["id"], "--reason", "lost")
    assert json.loads(run("list", "--json"))[0]["state"] == "revoked"
    assert key_store_of(tmp_path).key(listed["id"]).revoked_us is not None
    assert [row.reason for row in audit_log_of(tmp_path).rows()] == ["a key for shop", "lost"]
