"""Requests to an ASGI application, as they come from a web server: every byte and every pause is in the test's hand."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace

from penstock.app.settings import ServeSettings
from penstock.serving.authentication import Authentication
from penstock.serving.edge import Edge
from penstock.serving.keyring import Keyring
from penstock.serving.proxies import Proxies
from penstock.serving.sessions import Sessions
from penstock.stores.keys import KeyStore, Scope, new_key
from penstock.testing.clock import ManualClock

NOW_US = 1_760_000_000_000_000
SECRET = bytes(range(32))


class Door:
    """An application behind the edge, its keys, and a clock to set."""

    def __init__(self, folder, app=None, **settings):
        self.clock = ManualClock(NOW_US)
        self.seconds = 1000.0
        self.store = KeyStore(folder / "keys.db")
        self.settings = ServeSettings(**settings)
        self.keyring = Keyring(folder / "keys.db", clock=self.clock, now_s=lambda: self.seconds)
        self.sessions = Sessions(
            self.keyring,
            lambda: SECRET,
            clock=self.clock,
            hours=self.settings.session_hours,
        )
        self.proxies = Proxies(self.settings.trusted_proxies)
        self.calls = []
        self.app = app or self.echo
        self.edge = Edge(
            self.app,
            self.settings,
            Authentication(self.keyring, self.sessions, self.proxies),
            now_s=lambda: self.seconds,
        )

    async def echo(self, scope, receive, send):
        """Notes who came and reads the body to its end; a socket sends back what it gets."""
        self.calls.append(scope)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
            return
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"%d" % size})

    def key(self, *scopes, name="shop", **more):
        """A new key: what is known of it, and its text."""
        key, text = new_key(name, scopes or (Scope.READ,), now_us=self.clock.now_us(), **more)
        self.store.add(key)
        self.later(1)
        return key, text

    def revoke(self, key):
        self.store.revoke(key.key_id, self.clock.now_us())

    def later(self, seconds):
        self.seconds += seconds
        self.clock.advance(timedelta(seconds=seconds))

    def ask(self, method="GET", path="/v1/version", headers=None, body=b"", **more):
        return ask(self.edge, method, path, headers, body, **more)


def ask(app, method="GET", path="/", headers=None, body=b"", *, client=("127.0.0.1", 5000), **more):
    """One request; `body` is bytes, or chunks, of which numbers are pauses in seconds."""
    return asyncio.run(_ask(app, method, path, headers, body, client, more))


async def _ask(app, method, path, headers, body, client, more):
    given = {"host": "localhost:8000"} | dict(headers or {})
    raw = [(name.lower().encode(), str(value).encode("latin-1")) for name, value in given.items()]
    raw += more.pop("raw_headers", [])
    chunks = list(body) if isinstance(body, list) else [body]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
             "headers": raw, "client": client, "scheme": "http", "server": ("127.0.0.1", 8000), "http_version": "1.1",
             "root_path": "", **more}  # fmt: skip
    sent = []

    async def receive():
        if chunks and isinstance(chunks[0], float):
            await asyncio.sleep(chunks.pop(0))
        if not chunks:
            return {"type": "http.disconnect"}
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    start = sent[0]
    return SimpleNamespace(
        status=start["status"],
        headers={name.decode(): value.decode() for name, value in start["headers"]},
        body=b"".join(message.get("body", b"") for message in sent[1:]),
    )


def talk(app, *texts, headers=None, between=None, **more):
    """Open a socket and say something; what came back, one message each."""
    raw = [
        (name.lower().encode(), value.encode())
        for name, value in ({"host": "localhost"} | (headers or {})).items()
    ]
    scope = {"type": "websocket", "path": "/", "headers": raw, "client": ("127.0.0.1", 5000), "scheme": "ws",
             "query_string": b"", "root_path": "", "subprotocols": [], **more}  # fmt: skip
    waiting = [
        {"type": "websocket.connect"},
        *({"type": "websocket.receive", "text": text} for text in texts),
    ]
    sent = []

    async def receive():
        if not waiting:
            return {"type": "websocket.disconnect", "code": 1000}
        if between is not None and len(sent) > 1:
            between()
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent
