"""Exit codes, and the one place where errors become a message and a code.

Scripts may rely on the codes; a new meaning gets a new number.
"""

from __future__ import annotations

import os
import sys
from enum import IntEnum
from typing import Any

from typer import Exit
from typer.core import TyperGroup

from penstock.core.errors import (
    ContractError,
    DefinitionError,
    InputError,
    NotFoundError,
    PenstockError,
    ProjectError,
    SettingsError,
)

DEBUG_VARIABLE = "PENSTOCK_DEBUG"
_USERS = (ContractError, DefinitionError, InputError, NotFoundError, ProjectError, SettingsError)


class ExitCode(IntEnum):
    """What the code of a command that ended says."""

    OK = 0
    CHECK_FAILED = 1
    USAGE = 2
    FAILED = 3
    INTERRUPTED = 130


EXIT_TEXTS = {
    ExitCode.OK: "done; nothing to complain about",
    ExitCode.CHECK_FAILED: "a check failed: the audit or the registry found differences, `score --dry-run` refused an event",
    ExitCode.USAGE: "the command, the settings, a definition or a file given is wrong: correct it and try again",
    ExitCode.FAILED: "the store, a model or the system failed: the message says what to do",
    ExitCode.INTERRUPTED: "interrupted; what was acknowledged is kept, and running again continues",
}


def exit_code_of(error: BaseException) -> ExitCode:
    """The exit code for an error: `USAGE` where the user can mend it, else `FAILED`."""
    return ExitCode.USAGE if isinstance(error, _USERS) else ExitCode.FAILED


class Commands(TyperGroup):
    """The command group; an error of ours ends the command with one message on stderr and its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (PenstockError, OSError) as error:
            if isinstance(error, BrokenPipeError):  # whoever read our output has had enough
                _close_stdout()
                raise Exit(ExitCode.OK) from error
            if os.environ.get(DEBUG_VARIABLE):
                raise
            print(f"penstock: {error}", file=sys.stderr)  # noqa: T201 - the command's voice
            raise Exit(exit_code_of(error)) from error
        except KeyboardInterrupt as error:
            print("penstock: interrupted", file=sys.stderr)  # noqa: T201 - the command's voice
            raise Exit(ExitCode.INTERRUPTED) from error


def _close_stdout() -> None:
    """Keep the interpreter from complaining about a closed pipe when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
