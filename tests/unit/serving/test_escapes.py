"""No name in a path leads out of where it belongs: nothing outside is read, written or made."""

import http.client
import json
import re
from contextlib import closing

import pytest

from penstock.serving.api import create_app
from tests.unit.serving.shop_server import WHY, asking, copied, template

SECRET = "the secret of another folder"
NAMES = [
    "..",
    "../secret",
    "../../secret.png",
    "..%2F..%2Fsecret",
    "%2e%2e%2fsecret",
    "%2Fetc%2Fpasswd",
    "....//secret",
    "..\\secret",
    "secret%00.png",
    "%00",
    "%E2%80%AE",
    "%ED%A0%80",
    "CON",
    "~root",
    "file:%2F%2F%2Fetc%2Fpasswd",
    "http:%2F%2F127.0.0.1:9%2F",
    "$(id)",
    "{name}",
    "x" * 3000,
    "'%20OR%201=1%20--",
    "%3Cscript%3Ealert(1)%3C%2Fscript%3E",
]
GOOD = {
    "model": "fraud",
    "version": "1",
    "name": "roc.png",
    "digest": "0" * 16,
    "endpoint": "checkout",
    "alert": "busy",
    "source": "payments",
    "dataset": "ds-000000000000",
    "job": "job-000000000000000000000000",
}
BODIES = {
    "promote": WHY | {"force": True},
    "silence": WHY | {"for_s": 1},
    "weights": WHY | {"weights": {"champion": 2}},
}
OWN = re.compile(r"^/v1/(models|endpoints|alerts|catalog|datasets|jobs|sources/\{source\}$)")


def routes():
    """Every path of ours with names in it, once a name that is attacked."""
    for path, methods in create_app(None).openapi()["paths"].items():
        names = re.findall(r"\{(\w+)\}", path)
        if names and OWN.match(path) and not path.endswith("/score"):
            for method in methods:
                for name in names:
                    yield method.upper(), path, name


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("escapes")
    root = copied(template(), folder)
    for path in (folder / "secret", folder / "secret.png", root / ".penstock" / "secret.json"):
        path.write_text(SECRET)
    with asking(root) as (served, client):
        served.platform.jobs.close()  # what gets through to a job would be refused with 429
        with closing(http.client.HTTPConnection(client.base_url.host, client.base_url.port)) as connection:
            yield folder, connection


def asked(connection, method, url, body):
    """As it stands: a client that tidies paths would hide what is tried."""
    data = b"" if body is None else json.dumps(body).encode()
    connection.request(method, url, data, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def listing(folder):
    own = {"running", "live"}  # what a running project writes now and then
    found = (path for path in folder.rglob("*") if ".db" not in path.name)
    return {str(path.relative_to(folder)) for path in found if path.with_suffix("").name not in own}


def test_there_are_names_to_attack():
    attacked = list(routes())
    assert len(attacked) > 40
    assert {name for _, _, name in attacked} == set(GOOD)


def test_no_name_leads_out(shop):
    folder, connection = shop
    before = listing(folder)
    for method, path, name in routes():
        for bad in NAMES:
            values = GOOD | {name: bad}
            url = re.sub(r"\{(\w+)\}", lambda found, values=values: values[found[1]], path)
            body = BODIES.get(path.rsplit("/", 1)[-1], WHY) if method in {"POST", "PUT"} else None
            status, text = asked(connection, method, url + ("?reason=x" if method == "DELETE" else ""), body)
            assert status in {400, 404, 405, 422}, (method, url[:200], status, text[:300])
            assert SECRET.encode() not in text
            assert b"root:" not in text
            assert len(text) < 4096
    assert listing(folder) == before
