"""``python -m services install|start|stop|status [NAME ...]``: all servers, or those that are named."""

from __future__ import annotations

import argparse
import sys

from services import SERVICES
from services.base import Service, ServiceError
from services.debian import install_programs

TOOLS = ("chromium", "promtool")  # no servers: tests run them


def _install(chosen: list[Service]) -> None:
    needed = [program for service in chosen for program in service.programs]
    install_programs([*needed, *TOOLS] if len(chosen) == len(SERVICES) else needed)
    for service in chosen:
        service.install()


def _start(chosen: list[Service]) -> None:
    for service in chosen:
        service.start()
        print(f"{service.name:<16} {service.address}")


def _stop(chosen: list[Service]) -> None:
    for service in reversed(chosen):
        if service.running():
            service.stop()
            print(f"{service.name:<16} stopped")


def _status(chosen: list[Service]) -> None:
    for service in chosen:
        print(f"{service.name:<16} {service.address if service.running() else 'not running'}")


COMMANDS = {"install": _install, "start": _start, "stop": _stop, "status": _status}


def main() -> None:
    """Run one command; a server that cannot be had ends it with status 1 and what to do."""
    parser = argparse.ArgumentParser(prog="python -m services", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SERVICES)}; default: all")
    given = parser.parse_args()
    if unknown := set(given.names) - set(SERVICES):
        parser.error(f"no service {', '.join(sorted(unknown))}; there are {', '.join(SERVICES)}")
    try:
        COMMANDS[given.command]([SERVICES[name] for name in given.names or SERVICES])
    except ServiceError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
