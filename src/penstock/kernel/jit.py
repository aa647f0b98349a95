"""How the kernel's functions are compiled: once, for one set of types, and kept on disk.

`entry` functions are called from Python. Each has one explicit signature, so that nothing is ever compiled for a
second combination of types, and its machine code is cached. `inner` functions are only called by entries and become
part of their code.

What keeps the first compilation short:

- Few functions: each costs 50 ms for Numba's passes alone, however short it is, so do not split what is called once.
- Inner functions are neither optimised nor made executable on their own, only within the entries that take them in
  (`_PartCompiler`). So every entry pays for all that it reaches: few entries, too.
- One specialisation each: give all callers the same types (`int64` and `uint64` are two, and so are `bool` and `int64`;
  constants are no types of their own here), and pass addresses instead of arrays (`bits.pointer`).
- What few events need says `stay_apart`: it is compiled once, instead of once for each place that calls it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

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
# As above, to write to.
WRITE_I8_2D = types.Array(types.int64, 2, "A")
WRITE_B1_2D = types.Array(types.boolean, 2, "A")
READ_B1_2D = types.Array(types.boolean, 2, "C", readonly=True)

# The kernel allocates nothing, so it needs no reference counts. Without this option every call between inner
# functions would count each array up and down, atomically: ten times the work itself, and three times the code.
# (`_nrt` and the wrappers are options of Numba that its type stubs do not list.)
_njit: Any = njit
_compiler = partial(_njit, nogil=True, error_model="numpy", _nrt=False, no_cfunc_wrapper=True)


class _PartLibrary(JITCodeLibrary):
    """The code of an inner function as it was lowered: entries take it in, optimise it with theirs, and run it."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, _name: str) -> int:
        return 0

    @property
    def codegen(self) -> _Unrun:
        return _Unrun()


class _Unrun:
    """Gives no environment to what is never run by itself."""

    def set_env(self, _name: str, _environment: Any) -> None:
        pass


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(NativeLowering):
    _name = "part_lowering"

    def run_pass(self, state: Any) -> Any:
        state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        return super().run_pass(state)


class _PartCompiler(CompilerBase):
    """Numba's own passes, but that nothing is made executable: half of the time would go into that."""

    def define_pipelines(self) -> list[Any]:
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [
            (_PartLowering if step is NativeLowering else step, why) for step, why in passes.passes
        ]
        passes.finalize()
        return [passes]


_part_compiler = partial(_compiler, no_cpython_wrapper=True, pipeline_class=_PartCompiler)


def inner(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` as a part of the entries that call it."""
    return _part(_part_compiler(forceinline=False)(_own_name(function)))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` into each place that calls it: for the few that every event passes, as a call is dearer."""
    return _part(_part_compiler(forceinline=True)(_own_name(function)))


def _own_name(function: Callable[P, R]) -> Callable[P, R]:
    """Name a function that closes over others after them, too.

    Cached machine code finds its parts by name and number, and each process numbers anew. Two closures that one function made would have
    the same name; compiled in two processes they may get the same number, and then one of them runs as the other.
    """
    held = [cell.cell_contents for cell in cast("Any", function).__closure__ or ()]
    names = [one.__qualname__ for one in held if callable(one)]
    function.__qualname__ = "_of_".join([function.__qualname__, *names])
    return function


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
        _stamp(dispatcher, Path(function.__code__.co_filename))
        with _no_collection():
            dispatcher.compile(result(*arguments))
        dispatcher.disable_compile()
        return cast("Callable[P, R]", dispatcher)

    return compiled


def unchecked(compiled: Callable[P, R]) -> Callable[P, R]:
    """Return what an entry compiled to, without the look at its arguments' types, which takes longer than one row's work.

    Only for C-contiguous arrays of exactly the entry's types: others would be read as if they were.
    """
    (only,) = cast("Any", compiled).overloads.values()
    return cast("Callable[P, R]", only.entry_point)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Leave cyclic garbage for later: the compiler makes many objects and little of it, and a tenth of the time went there."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def _stamp(dispatcher: Any, file: Path) -> None:
    """Make the cache depend on every file of this folder, and on the entry's own.

    Numba looks only at the file that holds the entry; a change in a file of inner functions would go unseen, and the
    old code would keep running.
    """
    files = [path.stat() for path in {*Path(__file__).parent.glob("*.py"), file}]
    stamp = (max(f.st_mtime for f in files), sum(f.st_size for f in files))
    # An older or newer Numba without this attribute keeps its own rule.
    cache_file = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if cache_file is not None:
        cache_file._source_stamp = stamp  # noqa: SLF001 - there is no public way
