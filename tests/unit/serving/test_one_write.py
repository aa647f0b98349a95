"""An answer leaves in one piece; what nothing follows leaves by itself, and nothing is kept from who hangs up."""

import asyncio
import contextlib
import socket
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

from penstock.serving.one_write import OneWrite


class Sink:
    """A transport that notes what it is told."""

    def __init__(self):
        self.calls, self.closed = [], False

    def write(self, data):
        self.calls.append(data)

    def writelines(self, parts):
        self.calls.append(b"".join(parts))

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    def get_extra_info(self, name):
        return name


def written(talk):
    """What reached the transport when `talk` had been called, and when the loop had come round."""

    async def go():
        sink = Sink()
        talk(OneWrite(sink, asyncio.get_running_loop()), sink)
        at_once = list(sink.calls)
        await asyncio.sleep(0)
        return at_once, sink.calls

    return asyncio.run(go())


def test_a_head_goes_with_its_body():
    def talk(transport, _):
        transport.write(b"head ")
        transport.write(b"body")
        transport.write(b"next ")
        transport.write(b"")

    assert written(talk) == ([b"head body", b"next "], [b"head body", b"next "])


def test_what_nothing_follows_goes_by_itself():
    assert written(lambda transport, _: transport.write(b"head")) == ([], [b"head"])


def test_what_is_kept_goes_before_the_end():
    def talk(transport, sink):
        transport.write(b"head")
        transport.close()
        assert sink.closed

    assert written(talk) == ([b"head"], [b"head"])


def test_nothing_is_written_to_who_has_gone():
    def talk(transport, sink):
        transport.write(b"head")
        sink.closed = True

    assert written(talk) == ([], [])


def test_the_rest_is_the_transports():
    written(lambda transport, _: transport.get_extra_info("peername")[0])
    assert OneWrite(Sink(), None).get_extra_info("x") == "x"


def received(url, request):
    """What comes back for a request, read by read."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        connection.sendall(request.replace(b"HOST", place.netloc.encode()))
        return list(iter(lambda: connection.recv(1 << 20), b""))


@pytest.mark.parametrize(("method", "end"), [(b"GET", b"}"), (b"HEAD", b"\r\n\r\n")])
def test_an_answer_comes_in_one_piece(shop, monkeypatch, method, end):
    kept, write = [], OneWrite.write
    monkeypatch.setattr(OneWrite, "write", lambda self, data: (kept.append(data), write(self, data)))
    request = method + b" /v1/version HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"
    (piece,) = received(shop.url, request)
    assert piece == b"".join(kept), "all that is written passes through it"
    assert piece.startswith(b"HTTP/1.1 ")
    assert piece.endswith(end)


def test_an_answer_that_goes_on_comes_as_it_is_made(shop):
    place = urlsplit(shop.url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        connection.sendall(
            b"GET /v1/decisions/stream HTTP/1.1\r\nHost: " + place.netloc.encode() + b"\r\n\r\n"
        )
        assert connection.recv(1 << 20).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_socket_is_given_away_as_it_came(shop):
    """Nobody answers sockets here: what matters is that the refusal arrives."""
    with pytest.raises(Exception, match="403"), contextlib.closing(connect(f"ws{shop.url[4:]}/nothing")):
        pass
