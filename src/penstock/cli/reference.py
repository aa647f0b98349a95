"""The reference of all commands, made from the commands themselves: ``python -m penstock.cli.reference > docs/cli.md``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

from typer import Context
from typer.main import get_command

from penstock.cli.exits import EXIT_TEXTS
from penstock.cli.main import app

HEAD = """# Commands

<!-- Made by `python -m penstock.cli.reference > docs/cli.md`; a test checks that it is current. -->

Commands work on the project that you stand in: the nearest folder with a `penstock.toml`; `--project DIR` names another.
Data go to stdout, everything else to stderr; with `--json` stdout holds one JSON document (`score`: one line an event).
Positions, counts and codes are stable, the layout of tables is not. `PENSTOCK_DEBUG=1` shows the traceback of an error.
"""


def reference() -> str:
    """The page, in Markdown."""
    parts = [HEAD, "\n".join(_exit_codes())]
    parts += ["\n".join(_command(path, command)) for path, command in _commands("penstock", get_command(app))]
    return "\n".join(parts)


def _exit_codes() -> Iterator[str]:
    yield "| exit code | meaning |"
    yield "|---|---|"
    for code, text in EXIT_TEXTS.items():
        yield f"| {code.value} | {text} |"
    yield ""


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command that does something, depth first."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, child in command.commands.items():
        yield from _commands(f"{path} {name}", child)


def _command(path: str, command: Any) -> Iterator[str]:
    context = Context(command, info_name=path)
    yield f"## {path}"
    yield ""
    yield inspect.cleandoc(command.help)
    yield ""
    usage = command.get_usage(context).removeprefix("Usage: ")
    yield f"```\n{' '.join(usage.split())}\n```"
    yield ""
    yield "| argument or option | meaning |"
    yield "|---|---|"
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None and parameter.name != "help":
            name, text = (" ".join(part.split()).replace("|", "\\|") for part in record)
            yield f"| `{name}` | {text} |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(reference())
