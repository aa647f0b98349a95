"""How the kernel's functions are compiled: once, for one set of types, and kept on disk.

`entry` functions are called from Python. Each has one explicit signature, so that nothing is ever compiled for a
second combination of types, and its machine code is cached. `inner` functions are only called by entries and become
part of their code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit, types

P = ParamSpec("P")
R = TypeVar("R")

ByteArray = npt.NDArray[np.uint8]
WordArray = npt.NDArray[np.uint64]
# Inside jitted code an unsigned machine word; Numba knows its type, a type checker cannot follow it.
Word = Any

I8 = types.int64[::1]
U1 = types.uint8[::1]
U8 = types.uint64[::1]
B1 = types.boolean[::1]
I8_2D = types.int64[:, ::1]
B1_2D = types.boolean[:, ::1]
# Arguments that are only read also accept arrays that may not be written, such as views of bytes.
READ_I8 = types.Array(types.int64, 1, "C", readonly=True)
READ_U1 = types.Array(types.uint8, 1, "C", readonly=True)
READ_B1 = types.Array(types.boolean, 1, "C", readonly=True)
READ_I8_2D = types.Array(types.int64, 2, "C", readonly=True)
# Row by row or column by column.
ANY_I8_2D = types.Array(types.int64, 2, "A", readonly=True)
ANY_F8_2D = types.float64[:, :]
ANY_B1_2D = types.Array(types.boolean, 2, "A", readonly=True)
READ_B1_2D = types.Array(types.boolean, 2, "C", readonly=True)

# The kernel allocates nothing, so it needs no reference counts. Without this option every call between inner
# functions would count each array up and down, atomically: ten times the work itself, and three times the code.
# (`_nrt` and the wrappers are options of Numba that its type stubs do not list.)
_njit: Any = njit
_compiler = partial(_njit, nogil=True, error_model="numpy", _nrt=False, no_cfunc_wrapper=True)


def inner(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` as a part of the entries that call it."""
    return _part(_compiler(no_cpython_wrapper=True, forceinline=False)(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` into each place that calls it: for the few that every event passes, as a call is dearer."""
    return _part(_compiler(no_cpython_wrapper=True, forceinline=True)(function))


def _part(dispatcher: Any) -> Any:
    """Let a function be compiled once, and not once more for each constant that a caller gives it."""
    template_of = dispatcher.get_call_template
    plain: Any = types.unliteral

    def get_call_template(arguments: Any, keywords: Any) -> Any:
        return template_of(tuple(plain(argument) for argument in arguments), keywords)

    dispatcher.get_call_template = get_call_template
    return dispatcher


def entry(result: Any, *arguments: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a function for exactly these types, releasing the GIL, or load it from the cache."""

    def compiled(function: Callable[P, R]) -> Callable[P, R]:
        dispatcher: Any = _compiler(cache=True)(function)
        _stamp(dispatcher)
        dispatcher.compile(result(*arguments))
        dispatcher.disable_compile()
        return cast("Callable[P, R]", dispatcher)

    return compiled


def _stamp(dispatcher: Any) -> None:
    """Make the cache depend on every file of this folder.

    Numba looks only at the file that holds the entry; a change in a file of inner functions would go unseen, and the
    old code would keep running.
    """
    files = [path.stat() for path in Path(__file__).parent.glob("*.py")]
    stamp = (max(f.st_mtime for f in files), sum(f.st_size for f in files))
    # An older or newer Numba without this attribute keeps its own rule.
    cache_file = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if cache_file is not None:
        cache_file._source_stamp = stamp  # noqa: SLF001 - there is no public way
