"""The API as strangers and browsers meet it, over real sockets: uvicorn, the edge, the engine."""

import json
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from itertools import islice

import httpx
import pytest

from penstock.app import Runtime
from penstock.app.api_keys import create_key, revoke_key
from penstock.app.running import Runner
from penstock.core.clock import SystemClock
from penstock.core.errors import SettingsError
from penstock.serving.api import create_app
from penstock.serving.authentication import check_exposure
from penstock.serving.platform import Platform
from penstock.serving.server import Server
from tests.e2e.test_card_numbers import START, card_numbers, found_in, payment, project
from tests.services import needs

EVENTS = "/v1/sources/payments/events"
WHO = {"actor": "test", "reason": "a test", "clock": SystemClock()}


@contextmanager
def served(folder, **settings):
    """The project, served from a thread, with its engine in another; gives the address."""
    stop = threading.Event()
    with Runtime.open(folder) as runtime:
        platform = Platform(runtime)
        platform.settings = platform.settings.model_copy(update={"port": 0, **settings})
        runner = Runner(runtime, [], stop=stop, watch=platform.saw, answering=platform.answering)
        engine = threading.Thread(target=runner.follow)
        with Server(create_app(platform), platform.settings) as server:
            engine.start()
            try:
                while platform.live is None:
                    time.sleep(0.01)
                yield server.url
            finally:
                stop.set()
                engine.join()


@pytest.fixture
def folder(tmp_path):
    return project(tmp_path / "shop", "refuse")


def good(i, **more):
    return {"id": f"e{i}", "card": "c", "amount": 1.0, "at": START + i, **more}


def spoken(url, text, *pauses):
    """What a server answers to raw text; pieces of it are sent after pauses."""
    host, port = url.rpartition("//")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(text)
        for pause, piece in pauses:
            time.sleep(pause)
            try:
                connection.sendall(piece)
            except OSError:
                break
        answer = b""
        while b"\r\n\r\n" not in answer or len(answer.partition(b"\r\n\r\n")[2]) < 20:
            try:
                piece = connection.recv(65536)
            except ConnectionError:
                break
            if not piece:
                break
            answer += piece
        return answer


def test_attacks_over_the_wire(folder):
    with served(folder, body_timeout_s=0.5) as url, httpx.Client(base_url=url) as client:
        assert client.get("/health/ready").status_code == 200
        assert client.post(EVENTS, json=good(1)).json()["status"] == "logged"
        rebound = client.post(EVENTS, json=good(2), headers={"host": "evil.example"})
        assert (rebound.status_code, "evil" in rebound.text) == (421, False)
        foreign = client.post(EVENTS, content=json.dumps(good(3)), headers={"origin": "https://evil.example"})
        assert foreign.status_code == 403
        slow = spoken(
            url,
            f"POST {EVENTS} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n{{".encode(),
            (0.2, b'"'),
        )
        assert slow.startswith(b"HTTP/1.1 408 ")
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        greedy = spoken(
            url,
            f"POST {EVENTS} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n".encode(),
            *[(0, chunk)] * 300,
        )
        assert greedy.startswith(b"HTTP/1.1 413 ")
        many = "".join(f"x-{i}: y\r\n" for i in range(10_000))
        assert (
            b" 431 "
            in spoken(url, f"GET /v1/version HTTP/1.1\r\nhost: localhost\r\n{many}\r\n".encode())[:40]
        )
        twice = spoken(url, b"GET /v1/version HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n")
        assert b" 400 " in twice[:40]
        assert client.get("/v1/version").status_code == 200, "it goes on"


def test_keys_over_the_wire(folder):
    with served(folder) as url, httpx.Client(base_url=url) as client:
        assert client.post(EVENTS, json=good(1)).status_code == 200
        reader, read = create_key(folder, "reader", ["read"], **WHO)
        _, write = create_key(folder, "writer", ["write"], **WHO)
        time.sleep(1)
        assert client.post(EVENTS, json=good(2)).status_code == 401
        assert (
            client.post(EVENTS, json=good(2), headers={"authorization": f"Bearer {read}"}).status_code == 403
        )
        assert client.post(EVENTS, json=good(2), headers={"x-api-key": write}).status_code == 200
        assert client.get("/v1/version", headers={"authorization": f"Tecton-key {read}"}).status_code == 200
        assert client.get("/health/live").status_code == 200
        assert client.post("/login", data={"key": "pst_0_wrong"}).status_code == 401
        assert (
            client.post("/login", data={"key": read}, headers={"origin": "http://evil.example"}).status_code
            == 403
        )
        entered = client.post("/login", data={"key": read})
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        assert client.get("/v1/version").status_code == 200, "by the session"
        revoke_key(folder, reader.key_id, **WHO)
        time.sleep(1)
        assert client.get("/v1/version").status_code == 401
        assert client.get("/v1/version", headers={"x-api-key": read}).status_code == 401
        left = client.post("/logout")
        assert "Max-Age=0" in left.headers["set-cookie"]
        form = client.get("/login")
        assert "default-src 'none'" in form.headers["content-security-policy"]


def test_card_numbers_over_the_wire(folder, caplog):
    numbers = list(islice(card_numbers(4), 2000))
    events = [payment(i, number) for i, number in enumerate(numbers)]
    said = []
    with served(folder) as url, httpx.Client(base_url=url) as client:
        said.extend(client.post(EVENTS, json=events[i : i + 100]) for i in range(0, 2000, 100))
        said += [client.post(EVENTS, json=event) for event in events[:40]]
        said += [client.post(EVENTS, json=event, params={"dry_run": True}) for event in events[:20]]
        said.append(client.get(f"/v1/endpoints/{numbers[0]}/score"))
        said.append(client.post(f"/v1/endpoints/{numbers[0]}/score", json={}))
        said.append(client.post(EVENTS, json={}, params={"timeout_ms": numbers[0]}))
    assert {one.status_code for one in said} <= {200, 401, 404, 405, 422}
    texts = [one.text for one in said] + [str(dict(one.headers)) for one in said] + [caplog.text]
    assert found_in("\n".join(texts).encode(), numbers) == []
    assert sum("card_number" in one.text for one in said) > 40
    files = [path for path in (folder / ".penstock").rglob("*") if path.is_file()]
    assert {path.name for path in files if found_in(path.read_bytes(), numbers)} == set()


@needs("openssl")
def test_https(folder, tmp_path):
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", tmp_path / "k.pem", "-out", tmp_path / "c.pem"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    files = {"tls_cert": str(tmp_path / "c.pem"), "tls_key": str(tmp_path / "k.pem")}
    with served(folder, **files) as url:
        assert url.startswith("https://")
        trusted = ssl.create_default_context(cafile=str(tmp_path / "c.pem"))
        assert httpx.get(f"{url}/v1/version", verify=trusted).status_code == 200


def test_nobody_else_is_let_in_without_keys(folder):
    with Runtime.open(folder) as runtime:
        platform = Platform(runtime)
        check_exposure("127.0.0.1", platform.keyring)
        for host in ("0.0.0.0", "192.168.1.5", "penstock.example"):
            with pytest.raises(SettingsError, match="penstock keys create"):
                check_exposure(host, platform.keyring)
        create_key(folder, "admin", ["admin"], **WHO)
        time.sleep(0.6)
        check_exposure("0.0.0.0", platform.keyring)
