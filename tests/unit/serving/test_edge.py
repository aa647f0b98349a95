"""The edge under attack: what browsers, strangers and slow or greedy clients may not do."""

import json
import time

import pytest

from penstock.serving.access import LOCAL
from penstock.stores.keys import Scope
from tests.unit.serving.asgi import Door, ask, talk

MIB = 1 << 20
SCORE = "/v1/endpoints/checkout/score"
GONE = {"type": "http.disconnect"}


@pytest.fixture
def door(tmp_path):
    return Door(tmp_path)


def problem(answer, status, code):
    """The answer is a problem of this kind, small, and with safe headers."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.body) < 2048
    body = json.loads(answer.body)
    assert body["type"] == f"urn:penstock:problem:{code}"
    assert body["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    return body


# --- host and origin --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:1", "[::1]:8000", "localhost."]
)
def test_own_hosts_are_served(door, host):
    assert door.ask(headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "localhost@evil.example", "127.0.0.1.nip.io", "", "localhost:x",
     "[::1]evil", "localhost:80:80", "0.0.0.0"],
)  # fmt: skip
def test_a_rebound_name_reaches_nothing(door, host):
    answer = door.ask(headers={"host": host})
    problem(answer, 421, "foreign_host")
    assert "evil" not in answer.body.decode()
    assert talk(door.edge, "hello", headers={"host": host}) == [
        {"type": "websocket.close", "code": 1008, "reason": ""}
    ]
    assert not door.calls


def test_two_hosts_are_none(door):
    problem(door.ask(raw_headers=[(b"host", b"evil.example")]), 400, "bad_headers")


def test_more_hosts_can_be_allowed(tmp_path):
    door = Door(tmp_path, allowed_hosts=["penstock.example"], host="10.0.0.7")
    assert door.ask(headers={"host": "penstock.example:443"}).status == 200
    assert door.ask(headers={"host": "10.0.0.7:8000"}).status == 200


FOREIGN = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost:9999"},
    {"origin": "http://localhost:8000.evil.example"},
    {"origin": "file://localhost:8000"},
    {"origin": ""},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "http://localhost:8000", "sec-fetch-site": "cross-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
def test_a_foreign_page_changes_nothing(door, method, headers):
    _, text = door.key(Scope.ADMIN)
    cookie = door.sessions.log_in(door.keyring.authenticate(text), is_secure=False).partition(";")[0]
    problem(door.ask(method, headers={**headers, "cookie": cookie}), 403, "foreign_origin")
    assert not door.calls


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_foreign_page_opens_no_socket(door, headers):
    assert (
        talk(door.edge, "hi", headers={"host": "localhost:8000", **headers})[0]["type"] == "websocket.close"
    )
    assert not door.calls


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://localhost:8000"},
        {"origin": "https://LOCALHOST:8000", "sec-fetch-site": "same-origin"},
    ],
)
def test_own_pages_and_programs_may_change_things(door, headers):
    assert door.ask("POST", headers=headers).status == 200
    assert talk(door.edge, "hi", headers={"host": "localhost:8000", **headers})[1]["text"] == "hi"


def test_a_foreign_page_may_link_here_and_not_ask(door):
    headers = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    problem(door.ask(headers={**headers, "sec-fetch-mode": "no-cors"}), 403, "foreign_origin")
    problem(door.ask(headers=headers), 403, "foreign_origin")
    assert not door.calls
    assert door.ask(headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}).status == 200


def test_a_foreign_page_that_only_reads_is_told_nothing_by_its_browser(door):
    answer = door.ask(headers={"origin": "https://evil.example"})  # of a browser that says no more
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


# --- who asks ---------------------------------------------------------------------------------------


def test_without_keys_this_machine_may_everything_and_others_nothing(door):
    door.ask()
    assert door.calls[-1]["identity"].name == "local"
    assert door.calls[-1]["identity"].may(Scope.ADMIN)
    for stranger in (("10.0.0.9", 5), None):
        door.ask(client=stranger)
        assert door.calls[-1]["identity"] is None
    door.ask(headers={"x-forwarded-for": "10.0.0.9"})
    assert door.calls[-1]["identity"] is None, "behind a proxy everybody would be local"


def test_with_a_key_everybody_needs_one_for_good(door):
    key, _ = door.key()
    door.ask()
    assert door.calls[-1]["identity"] is None
    door.revoke(key)
    door.later(1)
    door.ask()
    assert door.calls[-1]["identity"] is None, "ending the last key opens nothing"


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("authorization", "Bearer {}"),
        ("authorization", "bearer  {}"),
        ("authorization", "Tecton-key {}"),
        ("x-api-key", "{}"),
    ],
)
def test_a_key_may_be_shown_in_three_ways(door, header, form):
    key, text = door.key(Scope.SCORE)
    door.ask(headers={header: form.format(text)})
    identity = door.calls[-1]["identity"]
    assert (identity.name, identity.key_id, identity.scopes) == ("shop", key.key_id, {Scope.SCORE})


@pytest.mark.parametrize(
    "form", ["Bearer {}x", "Basic {}", "Bearer", "Bearer pst_x_y", "{}", "Bearer pst_{}", "Bearer \xff"]
)
def test_a_wrong_key_is_told_so_and_not_repeated(door, form):
    _, text = door.key()
    answer = door.ask(headers={"authorization": form.format(text)})
    problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert text.encode() not in answer.body
    assert not door.calls


def test_a_wrong_key_beside_a_good_session_is_still_wrong(door):
    _, text = door.key()
    cookie = door.sessions.log_in(door.keyring.authenticate(text), is_secure=False).partition(";")[0]
    problem(door.ask(headers={"authorization": "Bearer no", "cookie": cookie}), 401, "unauthenticated")


def test_an_answer_that_goes_on_ends_with_its_key(tmp_path):
    given = []

    async def endless(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            given.append(len(given))
            if len(given) == 3:
                door.revoke(key)
                door.later(2)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})

    door = Door(tmp_path, endless)
    key, text = door.key(Scope.READ)
    answer = door.ask(headers={"authorization": f"Bearer {text}"})
    assert (answer.status, answer.body) == (200, b"xx")
    assert len(given) == 3


def test_expired_and_revoked_keys_are_refused_within_a_second(door):
    short, brief = door.key(expires_us=door.clock.now_us() + 10_000_000)
    long, lasting = door.key()
    headers = [{"x-api-key": brief}, {"x-api-key": lasting}]
    assert [door.ask(headers=h).status for h in headers] == [200, 200]
    door.later(9)
    assert [door.ask(headers=h).status for h in headers] == [401, 200]
    door.revoke(long)
    door.later(0.6)
    assert [door.ask(headers=h).status for h in headers] == [401, 401]
    assert (short.state(door.clock.now_us()), door.store.key(long.key_id).state(0)) == ("expired", "revoked")


def test_a_session_ends_with_its_key(door):
    key, text = door.key(Scope.READ)
    header = door.sessions.log_in(door.keyring.authenticate(text), is_secure=False)
    assert "HttpOnly" in header
    assert "SameSite=Strict" in header
    assert "Max-Age=43200" in header
    cookie = {"cookie": f"theme=dark; {header.partition(';')[0]}"}
    door.ask(headers=cookie)
    assert door.calls[-1]["identity"].key_id == key.key_id
    door.revoke(key)
    door.later(1)
    door.ask(headers=cookie)
    assert door.calls[-1]["identity"] is None


def test_a_session_ends_by_itself_and_cannot_be_forged(door):
    key, _ = door.key(Scope.READ)
    name, _, value = door.sessions.log_in(key, is_secure=False).partition(";")[0].partition("=")
    for wrong in (
        value[:-1] + ("0" if value[-1] != "0" else "1"),
        value.replace(".", ".9", 1),
        "",
        ".",
        "..",
        "a.b.c",
        "\xff",
    ):
        door.ask(headers={"cookie": f"{name}={wrong}"})
        assert door.calls[-1]["identity"] is None
    door.later(12 * 3600 - 2)
    door.ask(headers={"cookie": f"{name}={value}"})
    assert door.calls[-1]["identity"] is not None
    door.later(3)
    door.ask(headers={"cookie": f"{name}={value}"})
    assert door.calls[-1]["identity"] is None


def test_behind_tls_the_cookie_is_bound_to_host_and_https(tmp_path):
    door = Door(tmp_path, tls_cert="c.pem", tls_key="k.pem")
    header = door.sessions.log_in(door.key()[0], is_secure=True)
    assert header.startswith("__Host-penstock=")
    assert header.endswith("; Secure")
    assert "Domain" not in header


def test_a_socket_ends_with_its_key(door):
    key, text = door.key(Scope.READ)

    def revoke_after_the_first(heard=[]):  # noqa: B006 - it counts
        heard.append(1)
        if len(heard) == 1:
            door.revoke(key)
            door.later(1)

    sent = talk(door.edge, "one", "two", headers={"x-api-key": text}, between=revoke_after_the_first)
    assert [m["type"] for m in sent] == ["websocket.accept", "websocket.send"]
    sent = talk(door.edge, "one", headers={"x-api-key": text})
    assert [m["type"] for m in sent] == ["websocket.close"]


@pytest.mark.parametrize("kind", ["socket", "stream"])
def test_what_stays_open_ends_with_its_session(tmp_path, kind):
    async def going_on(scope, receive, send):
        if scope["type"] == "websocket":
            await door.echo(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        door.later(13 * 3600)
        await send({"type": "http.response.body", "body": b"two", "more_body": True})

    door = Door(tmp_path, going_on if kind == "stream" else None)
    cookie = {"cookie": door.sessions.log_in(door.key(Scope.READ)[0], is_secure=False).partition(";")[0]}
    if kind == "stream":
        answer = door.ask(headers=cookie)
        assert (answer.status, answer.body) == (200, b"one")
        return
    sent = talk(door.edge, "one", "two", headers=cookie, between=lambda: door.later(13 * 3600))
    assert [m["type"] for m in sent] == ["websocket.accept", "websocket.send"], (
        "the second came after its end"
    )


def test_a_page_that_was_begun_comes_whole(tmp_path):
    """The first key is made while a page is on its way to somebody on this machine: half of it would leave the browser waiting."""

    async def page(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        door.key(Scope.READ)
        door.later(5)
        for piece in (b"one", b"two"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    door = Door(tmp_path, page)
    answer = door.ask()
    assert (answer.status, answer.body) == (200, b"onetwo")
    assert not door.edge._authentication.alive(LOCAL)(), "and who asks again needs the key"


def test_two_sessions_of_a_key_are_the_same_caller(door):
    key, _ = door.key(Scope.READ)
    for _ in range(2):
        cookie = door.sessions.log_in(key, is_secure=False).partition(";")[0]
        door.later(5)
        door.ask(headers={"cookie": cookie})
    first, second = (call["identity"] for call in door.calls)
    assert first == second
    assert hash(first) == hash(second)
    assert first.ends_us < second.ends_us


@pytest.mark.parametrize(
    ("trusted", "proto", "more", "is_secure"),
    [
        ([], "https", {}, False),
        (["127.0.0.1"], "https", {}, True),
        (["127.0.0.0/8"], "http, https", {}, True),
        (["127.0.0.1"], "https, http", {}, False),
        (["10.0.0.0/8"], "https", {}, False),
        (["127.0.0.1"], None, {}, False),
        ([], None, {"scheme": "https"}, True),
    ],
)
def test_only_the_proxy_that_is_trusted_says_that_it_was_https(tmp_path, trusted, proto, more, is_secure):
    door = Door(tmp_path, trusted_proxies=trusted)
    key, _ = door.key(Scope.READ)
    shown = {} if proto is None else {"x-forwarded-proto": proto}
    for secure in (True, False):
        cookie = door.sessions.log_in(key, is_secure=secure).partition(";")[0]
        door.ask(headers={**shown, "cookie": cookie}, **more)
        assert (door.calls[-1]["identity"] is not None) == (secure == is_secure)


def test_somebody_inside_the_process_says_who_asks(door):
    from penstock.serving.access import Identity

    door.key()
    page = Identity("page", frozenset({Scope.READ}), "k")
    door.ask(headers={"host": "inside"}, identity=page)
    assert door.calls[-1]["identity"] is page


def test_when_keys_cannot_be_read_nobody_gets_in(door, tmp_path):
    _, text = door.key()
    assert door.ask(headers={"x-api-key": text}).status == 200
    (tmp_path / "keys.db").write_bytes(b"no database, but as long as one" * 100)
    door.later(1)
    assert door.ask(headers={"x-api-key": text}).status == 200, "for a moment what was read is believed"
    door.later(6)
    problem(door.ask(headers={"x-api-key": text}), 503, "store")
    (tmp_path / "keys.db").unlink()
    door.later(6)
    problem(door.ask(), 503, "store")


# --- how much and how often -------------------------------------------------------------------------


def test_a_key_has_its_rate_and_is_told_when_to_come_back(door):
    _, slow = door.key(name="slow", rate=2.0)
    _, free = door.key(name="free")
    ask_slow = {"x-api-key": slow}
    assert [door.ask(headers=ask_slow).status for _ in range(3)] == [200, 200, 429]
    answer = door.ask(headers=ask_slow)
    problem(answer, 429, "rate_limited")
    assert answer.headers["retry-after"] == "1"
    assert all(door.ask(headers={"x-api-key": free}).status == 200 for _ in range(50))
    door.later(1)
    assert [door.ask(headers=ask_slow).status for _ in range(3)] == [200, 200, 429]


def test_ten_thousand_headers_are_too_many(door):
    problem(door.ask(raw_headers=[(b"x-%d" % i, b"y") for i in range(10_000)]), 431, "headers_too_large")
    problem(door.ask(headers={"x-long": "y" * 40_000}), 431, "headers_too_large")
    assert not door.calls


@pytest.mark.parametrize(("path", "most"), [("/v1/version", MIB), (SCORE, 2 * MIB)])
def test_a_body_is_bounded_whatever_it_announces(tmp_path, path, most):
    door = Door(tmp_path, max_body_bytes=2 * MIB)
    exact = [b"x" * (most // 2)] * 2
    assert door.ask("POST", path, body=exact).body == b"%d" % most
    answer = door.ask("POST", path, body=[*exact, b"x"])
    problem(answer, 413, "body_too_large")
    assert answer.headers["connection"] == "close"
    count = len(door.calls)
    problem(door.ask("POST", path, {"content-length": most + 1}, b""), 413, "body_too_large")
    problem(door.ask("POST", path, {"content-length": "-1"}, b""), 400, "bad_headers")
    problem(door.ask("POST", path, {"content-length": "9" * 30}, b""), 400, "bad_headers")
    assert len(door.calls) == count, "what announces too much is not even read"
    assert door.edge._held.count == 0


def test_a_slow_body_is_not_waited_for(tmp_path):
    door = Door(tmp_path, body_timeout_s=0.05)
    began = time.monotonic()
    answer = door.ask("POST", SCORE, body=[b"{", 0.02, b'"a"', 0.02, b":", 5.0, b"1}"])
    problem(answer, 408, "body_too_slow")
    problem(door.ask("POST", SCORE, body=[5.0, b"{}"]), 408, "body_too_slow")
    assert time.monotonic() - began < 2


def test_who_hangs_up_while_sending_is_no_error_of_ours(door):
    read = []

    async def receive():
        read.append(1)
        return {"type": "http.request", "body": b"{", "more_body": True} if len(read) == 1 else GONE

    async def hang_up(scope, _, send):
        await door.edge(scope, receive, send)

    problem(ask(hang_up, "POST", SCORE), 400, "connection_closed")
    assert len(read) == 2, "what closed is not read again"
    assert door.edge._held.count == 0


def test_an_application_that_hides_the_reason_does_not_change_the_answer(tmp_path):
    async def app(scope, receive, send):
        try:
            await receive()
        except Exception:  # noqa: BLE001 - as applications do
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"bad"})
        raise RuntimeError

    door = Door(tmp_path, app, body_timeout_s=0.02)
    problem(door.ask("POST", SCORE, body=[1.0, b""]), 408, "body_too_slow")


def test_an_error_of_the_application_is_its_own(tmp_path):
    async def app(scope, receive, send):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        Door(tmp_path, app).ask()


def test_all_bodies_together_are_bounded(door, monkeypatch):
    monkeypatch.setattr("penstock.serving.exchange.MOST_HELD", 3000)
    problem(door.ask("POST", SCORE, body=[b"x" * 2000, b"x" * 2000]), 503, "busy")
    assert door.ask("POST", SCORE, body=b"x" * 2000).status == 200


# --- what goes back ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("0af7651916cd43dd", True),
        ("short", False),
        ("a b c d e f g h", False),
        ("x" * 65, False),
        ("<script>alert(1)", False),
    ],
)
def test_a_sane_request_id_is_kept(door, given, kept):
    answer = door.ask(headers={"x-request-id": given})
    assert (answer.headers["x-request-id"] == given) is kept
    assert door.calls[-1]["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        ("application/json", "default-src 'none'"),
        ("text/html; charset=utf-8", "default-src 'self'"),
        ("text/css", None),
        ("image/png", None),
        ("image/svg+xml", None),
    ],
)
def test_answers_carry_safe_headers(tmp_path, kind, policy):
    async def app(scope, receive, send):
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind.encode())]}
        )
        await send({"type": "http.response.body", "body": b""})

    headers = Door(tmp_path, app).ask().headers
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
    assert headers.get("content-security-policy", "").startswith(policy or "")
    assert (policy is None) == ("content-security-policy" not in headers)


def test_lifespan_passes():
    import asyncio

    from penstock.app.settings import ServeSettings
    from penstock.serving.edge import Edge

    passed = []

    async def app(scope, receive, send):
        passed.append(scope["type"])

    asyncio.run(Edge(app, ServeSettings(), None)({"type": "lifespan"}, None, None))
    assert passed == ["lifespan"]
