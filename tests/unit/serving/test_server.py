"""The web server: where it says that it listens, and that it says so when it cannot."""

import socket
import threading

import httpx
import pytest
from fastapi import FastAPI
from typer.testing import CliRunner

from penstock.app.api_keys import create_key
from penstock.app.settings import ServeSettings
from penstock.cli.main import app as cli
from penstock.core.errors import SettingsError
from penstock.serving.server import Server, _url
from penstock.testing.serving import serving_project
from tests.unit.serving.shop import CLOCK


@pytest.mark.parametrize(
    ("host", "given", "url"),
    [
        ("127.0.0.1", {}, "http://127.0.0.1:8000"),
        ("::1", {}, "http://[::1]:8000"),
        ("0.0.0.0", {}, "http://127.0.0.1:8000"),
        ("::", {}, "http://127.0.0.1:8000"),
        ("0.0.0.0", {"allowed_hosts": ["shop.example", "other"]}, "http://shop.example:8000"),
        ("0.0.0.0", {"tls_cert": "c", "tls_key": "k"}, "https://127.0.0.1:8000"),
    ],
)
def test_the_address_is_one_that_can_be_opened(host, given, url):
    assert _url(ServeSettings(**given), host, 8000) == url


@pytest.mark.parametrize("given", [{"tls_cert": "no.pem", "tls_key": "no.pem"}])
def test_a_server_that_does_not_start_is_told_and_leaves_nothing(given):
    before = threading.active_count()
    with (
        pytest.raises(SettingsError, match=r"did not start .*tls_cert"),
        Server(FastAPI(), ServeSettings(port=0, **given)),
    ):
        pass
    assert threading.active_count() == before


def test_an_application_that_fails_at_its_start_is_told():
    def broken():
        raise RuntimeError("no wheels")

    app = FastAPI()
    app.build_middleware_stack = broken
    with pytest.raises(SettingsError, match="did not start"), Server(app, ServeSettings(port=0)):
        pass


def test_a_port_that_is_taken_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1 port {port}"):
            Server(FastAPI(), ServeSettings(port=port))


def test_while_histories_are_loaded_it_is_not_ready(project, monkeypatch):
    """What is shown of them meanwhile does not count."""
    (project / "penstock.toml").write_text(
        "[serve]\ndashboard = false\n[audit]\nrate = 0\n[offline]\nexport = false\n"
    )
    told = []

    def load(runtime, *, stop, watch):
        watch(object())
        told.append((httpx.get(f"{runtime.url}/health/live"), httpx.get(f"{runtime.url}/health/ready")))
        told.append(httpx.post(f"{runtime.url}/v1/endpoints/checkout/score", json={}))
        stop.set()
        return False

    monkeypatch.setattr("penstock.app.stream_history.load_histories", load)
    done = CliRunner().invoke(cli, ["up", "--port", "0", "--project", str(project)])
    assert done.exit_code == 0, done.output
    (live, ready), scored = told
    assert (live.status_code, ready.status_code, scored.status_code) == (200, 503, 503)
    assert "starting" in ready.json()["detail"]


@pytest.mark.parametrize("trusted", [True, False])
def test_who_logs_in_through_a_proxy_that_ends_tls_gets_a_secure_cookie(project, trusted):
    proxies = ["127.0.0.1"] if trusted else []
    (project / "penstock.toml").write_text(f"[serve]\ntrusted_proxies = {proxies}\n")
    _, key = create_key(project, "ana", ["read"], actor="ann", reason="x", clock=CLOCK)
    with (
        serving_project(project, clock=CLOCK) as served,
        httpx.Client(base_url=served.url, headers={"x-forwarded-proto": "https"}) as http,
    ):
        cookie = http.post("/login", data={"key": key}).headers["set-cookie"]
        assert cookie.startswith("__Host-penstock=") == cookie.endswith("; Secure") == trusted
        shown = {"cookie": cookie.partition(";")[0]}
        assert http.get("/v1/version", headers=shown).status_code == 200
        assert http.post("/logout", headers=shown).headers["set-cookie"].endswith("; Secure") == trusted
