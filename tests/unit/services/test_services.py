"""Servers of development: each starts, answers, freezes, stops and starts again; what is wrong is said."""

import contextlib
import socket
import sys

import pytest

from services.base import Service, ServiceError

LISTENER = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    server.accept()[0].close()
"""


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A service of one's own making, that listens and does nothing else."""
    monkeypatch.setattr("services.base.FOLDER", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]

    class Listener(Service):
        name = "listener"
        default_port = number
        port = number
        script = LISTENER

        def command(self):
            return [sys.executable, "-c", self.script, str(self.port)]

    service = Listener()
    yield service
    with contextlib.suppress(ServiceError):
        service.stop()


def test_it_starts_is_found_again_and_stops(made):
    assert not made.running()
    made.start()
    first = made.pid_file.read_text()
    made.start()
    assert made.pid_file.read_text() == first, "a second start begins no second server"
    assert type(made)().running(), "another process of this clone finds it"
    made.stop()
    assert not made.running()
    assert not made.ready()


def test_a_server_that_ends_says_why(made):
    made.script = "raise SystemExit('no licence')"
    with pytest.raises(ServiceError, match=r"listener ended while it started[\s\S]*no licence"):
        made.start()


def test_a_server_that_never_answers_is_given_up_and_stopped(made):
    made.script, made.start_seconds = "print('thinking', flush=True); import time; time.sleep(60)", 0.5
    with pytest.raises(ServiceError, match=r"does not answer on 127.0.0.1:\d+ after 0.5 s[\s\S]*thinking"):
        made.start()
    assert not made.running()


def test_a_port_that_another_holds_is_named(made):
    taken = pytest.raises(ServiceError, match=rf"port {made.port} is taken.*PENSTOCK_SERVICES_OFFSET")
    with socket.create_server(("127.0.0.1", made.port)), taken:
        made.start()


def test_a_program_that_is_missing_is_named(made):
    made.programs = ("no-such-program",)
    with pytest.raises(ServiceError, match="no-such-program is not installed: run `make services`"):
        made.start()


def test_a_process_with_the_same_number_is_not_taken_for_the_server(made):
    made.start()
    number, created = made.pid_file.read_text().split()
    made.pid_file.write_text(f"{number} {float(created) - 100}")
    assert not made.running()
    made.pid_file.write_text(f"{number} {created}")


def test_a_frozen_server_answers_nobody_until_it_goes_on(redis):
    redis.freeze()
    try:
        assert not redis.ready()
    finally:
        redis.thaw()
    assert redis.ready()


def test_postgres_answers(postgres):
    assert postgres.ready()
    assert postgres.address.startswith("postgresql://postgres@127.0.0.1:")


def test_kafka_answers(kafka):
    assert kafka.ready()
