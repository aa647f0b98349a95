"""Pages come from a process beside: what is asked for them is handed on as it is, but for what shows who asks."""

import json
import shutil
import socket
import tempfile
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.routing import Mount
from websockets.sync.client import connect
from websockets.sync.server import unix_serve

from penstock.serving import pages_proxy
from penstock.serving.api import create_app
from penstock.serving.inside import AS
from penstock.serving.pages_proxy import PagesProxy
from penstock.serving.server import Server


class Told(BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        size = int(self.headers.get("content-length", 0))
        seen = {
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": self.rfile.read(size).decode(),
        }
        body = json.dumps(seen).encode()
        self.send_response(418)
        self.send_header("content-type", "text/html")
        self.send_header("connection", "close")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the name that the class above calls

    def address_string(self):
        return "a socket"

    def log_message(self, *_):
        pass


class Pages(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="penstock-"))
    yield made
    shutil.rmtree(made)


@contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(5)
        if isinstance(server, Pages):
            server.server_close()


@contextmanager
def front(shop, path, mend=lambda: None):
    """The API of `shop` once more, with pages that are served at `path`."""
    app = create_app(shop.platform)
    shop.platform.close, close = lambda: None, shop.platform.close
    app.router.routes.append(Mount("/", PagesProxy(path, mend)))
    try:
        with Server(app, shop.platform.settings.model_copy(update={"port": 0})) as server:
            yield server.url
    finally:
        shop.platform.close = close


def test_a_request_is_handed_on(shop, folder):
    with running(Pages(str(folder / "s"), Told)), front(shop, folder / "s") as url:
        secret = {"cookie": "penstock=x", "x-penstock-as": "{}", "x-of-mine": "1"}
        answer = httpx.post(f"{url}/a%2Fb/c?d=%20", headers=secret, content="hello")
    seen = answer.json()
    assert answer.status_code == 418
    assert answer.headers["content-security-policy"].startswith("default-src 'self'"), "as every page"
    assert (seen["path"], seen["body"]) == ("/a%2Fb/c?d=%20", "hello")
    assert seen["headers"]["x-of-mine"] == "1"
    assert "cookie" not in seen["headers"], "who asks is said, not shown"
    assert json.loads(seen["headers"][AS.decode()])["name"] == "local"


def test_the_api_s_paths_are_no_pages(shop, folder):
    with front(shop, folder / "nobody") as url:
        answer = httpx.get(f"{url}/v1/nothing", headers={"accept": "text/html"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_page_waits_for_who_makes_it_and_then_says_so(shop, folder, monkeypatch):
    starts = []

    def start():
        starts.append(Pages(str(folder / "s"), Told))
        threading.Thread(target=starts[0].serve_forever, daemon=True).start()

    with front(shop, folder / "s", lambda: None if starts else start()) as url:
        assert httpx.get(f"{url}/").status_code == 418
        starts[0].shutdown()
        starts[0].server_close()
        monkeypatch.setattr(pages_proxy, "START_S", 0.2)
        answer = httpx.get(f"{url}/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "Events are taken all the while" in answer.json()["detail"]


def test_a_socket_is_a_tunnel(shop, folder):
    def echo(connection):
        for message in connection:
            connection.send(message * 2)

    with (
        unix_serve(echo, str(folder / "s")) as server,
        running(server),
        front(shop, folder / "s") as url,
        connect(f"ws{url[4:]}/socket?x=1") as client,
    ):
        client.send("hello")
        assert client.recv(5) == "hellohello"
        client.send(b"x" * 300_000)
        assert client.recv(5) == b"x" * 600_000


def test_a_socket_that_nobody_answers_is_refused(shop, folder):
    mended = []
    with front(shop, folder / "s", lambda: mended.append(1)) as url:
        with pytest.raises(Exception, match="403"):
            connect(f"ws{url[4:]}/socket")
        assert mended
        began = time.monotonic()
    assert time.monotonic() - began < 2


def test_open_sockets_do_not_hold_up_the_end(shop, folder):
    with unix_serve(lambda one: one.recv(), str(folder / "s")) as server, running(server):
        with front(shop, folder / "s") as url:
            place = urlsplit(url)
            connection = socket.create_connection((place.hostname, place.port), timeout=5)
            connection.sendall(
                b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
                b"sec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
            )
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 101")
            began = time.monotonic()
        assert time.monotonic() - began < 2
        connection.close()
