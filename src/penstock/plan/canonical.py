"""One digest for equal code and equal data: in every process, on every machine, for every seed of Python's hashes.

A function is its syntax, its defaults, what it closes over, and the globals that it names: own functions and classes by
their code, in turn, and data by value. Nothing is taken from `repr` of what has no order or shows an address.

What it cannot see: libraries are known by name, not by version, so that an upgrade does not retire every model; what
cannot be copied (locks, files, connections) by its type; names that are looked up at run time (``getattr`` on a module,
an import inside a function); and globals are taken as they stand when the plan is compiled.
"""

from __future__ import annotations

import copyreg
import dataclasses
import dis
import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, ClassVar

import numpy as np

from penstock.plan.syntax import syntax_of

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...))
_GLOBAL_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_ATTRIBUTE_LOADS = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_LIBRARY_FOLDERS = frozenset({"site-packages", "dist-packages"})
_LIBRARY_ROOTS = (Path(sysconfig.get_path("stdlib")), Path(__file__).resolve().parents[1])
_ABSENT = object()


def canonical_digest(value: object) -> str:
    """64 hexadecimal digits that are equal for equal values and for functions of equal meaning.

    >>> canonical_digest({"b": {2, 1}, "a": 1}) == canonical_digest({"a": 1, "b": {1, 2}})
    True
    """
    return _Encoder({}, {}).digest(value)


class _Encoder:
    """Feeds a hash with tagged parts.

    `seen` numbers functions and classes in the order of their first visit, so that each is written once and cycles end;
    `within` holds the values that are being written, for cycles of data. Both refer by number, never by address.
    """

    def __init__(self, seen: dict[int, int], within: dict[int, int]) -> None:
        self._hash = hashlib.sha256()
        self._seen = seen
        self._within = within

    def digest(self, value: object) -> str:
        """The digest of `value`; the encoder is spent."""
        self._add(value)
        return self._hash.hexdigest()

    def _apart(self, value: object) -> str:
        """The digest of a member of something without order: its siblings leave no trace in it."""
        return _Encoder(dict(self._seen), dict(self._within)).digest(value)

    def _put(self, tag: str, text: str) -> None:
        payload = text.encode("utf-8", "surrogatepass")
        self._hash.update(f"{tag} {len(payload)}:".encode())
        self._hash.update(payload)

    def _add(self, value: object) -> None:
        if type(value) in _PLAIN:
            self._put("plain", repr(value))
            return
        name = _library_name(value)
        if name is not None:
            self._put("library", name)
            return
        for kind, write in self._WRITERS:
            if isinstance(value, kind):
                write(self, value)
                return

    def _once(self, definition: object, write: Callable[[Any], None]) -> None:
        number = self._seen.get(id(definition))
        if number is not None:
            self._put("again", str(number))
            return
        self._seen[id(definition)] = len(self._seen)
        write(definition)

    def _open(self, value: object, write: Callable[[Any], None]) -> None:
        depth = self._within.get(id(value))
        if depth is not None:
            self._put("cycle", str(depth))
            return
        self._within[id(value)] = len(self._within)
        write(value)
        del self._within[id(value)]

    # --- code -----------------------------------------------------------------------------------
    def _function(self, function: FunctionType) -> None:
        self._once(function, self._function_anew)

    def _function_anew(self, function: FunctionType) -> None:
        code = function.__code__
        if _is_library_file(code.co_filename):
            self._put("library function", f"{Path(code.co_filename).stem}.{code.co_qualname}")
            self._cells(function)
            return
        syntax = syntax_of(function)
        if syntax is None:
            self._code(code)
        else:
            self._put("syntax", syntax)
        self._add(function.__defaults__)
        self._add(function.__kwdefaults__)
        self._cells(function)
        for name, value in _globals_of(function):
            self._put("global", name)
            self._add(value)
        self._add({name: value for name, value in vars(function).items() if name != "__wrapped__"})

    def _cells(self, function: FunctionType) -> None:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._put("cell", name)
            try:
                content = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            self._add(content)

    def _code(self, code: CodeType) -> None:
        """Code without source. Its form differs between versions of Python."""
        self._put("bytecode", f"{code.co_code.hex()} {code.co_names} {code.co_varnames}")
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._code(constant)
            else:
                self._add(constant)

    def _method(self, method: MethodType) -> None:
        self._put("method", "")
        self._add(method.__func__)
        self._add(method.__self__)

    def _builtin_method(self, method: BuiltinFunctionType) -> None:
        self._put("built-in", method.__qualname__)
        if not isinstance(method.__self__, ModuleType):
            self._add(method.__self__)

    def _partial(self, function: partial[Any]) -> None:
        self._put("partial", "")
        self._sequence((function.func, function.args, function.keywords))

    def _wrapper(self, wrapper: property | staticmethod[..., Any] | classmethod[Any, ..., Any]) -> None:
        self._put("wrapper", type(wrapper).__name__)
        self._add((wrapper.fget, wrapper.fset) if isinstance(wrapper, property) else wrapper.__func__)

    def _module(self, module: ModuleType) -> None:
        """An own module by its name inside its package: the package's name depends on the project's folder."""
        name = module.__name__
        self._put("module", name if _is_library(name) else name.partition(".")[2] or name)

    def _class(self, cls: type) -> None:
        self._once(cls, self._class_anew)

    def _class_anew(self, cls: type) -> None:
        if _is_library(cls.__module__):
            self._put("library class", f"{cls.__module__}.{cls.__qualname__}")
            return
        self._put("class", cls.__qualname__)
        self._sequence(cls.__bases__)
        if issubclass(cls, Enum):
            self._add({name: member.value for name, member in cls.__members__.items()})
        if dataclasses.is_dataclass(cls):
            self._add([(f.name, f.default, f.default_factory) for f in dataclasses.fields(cls)])
        for name, value in sorted(vars(cls).items()):
            if _is_written(cls, name, value):
                self._put("attribute", name)
                self._add(value)

    # --- data -----------------------------------------------------------------------------------
    def _array(self, array: np.ndarray[Any, Any] | np.generic) -> None:
        values = np.asarray(array)
        if isinstance(array, np.ma.MaskedArray):
            self._add(np.ma.getmaskarray(array))
        self._put("array", f"{type(array).__name__} {values.dtype} {values.shape}")
        if values.dtype.hasobject:
            self._add(values.tolist())
        else:
            self._put("bytes", hashlib.sha256(values.tobytes()).hexdigest())

    def _mapping(self, mapping: Mapping[Any, Any]) -> None:
        self._put("mapping", f"{type(mapping).__name__} {len(mapping)}")
        self._add(getattr(mapping, "default_factory", None))
        self._open(mapping, self._pairs)

    def _pairs(self, mapping: Mapping[Any, Any]) -> None:
        named = [(repr(key) if type(key) in _PLAIN else self._apart(key), key) for key in mapping]
        for name, key in sorted(named, key=lambda pair: pair[0]):
            self._put("key", name)
            self._add(mapping[key])

    def _set(self, members: AbstractSet[Any]) -> None:
        self._put("set", type(members).__name__)
        self._open(members, self._members)

    def _members(self, members: AbstractSet[Any]) -> None:
        names = sorted(repr(item) if type(item) in _PLAIN else self._apart(item) for item in members)
        self._put("members", "\n".join(names))

    def _sequence(self, items: list[Any] | tuple[Any, ...]) -> None:
        self._put("sequence", f"{type(items).__name__} {len(items)}")
        self._open(items, self._items)

    def _items(self, items: Iterable[Any]) -> None:
        if all(type(item) in _PLAIN for item in items):
            self._put("items", "\n".join(map(repr, items)))
            return
        for item in items:
            self._add(item)

    def _enum(self, member: Enum) -> None:
        self._put("enum", member.name)
        self._add(type(member))
        self._add(member.value)

    def _object(self, value: object) -> None:
        self._put("object", "")
        self._add(type(value))
        self._open(value, self._state)

    def _state(self, value: object) -> None:
        if dataclasses.is_dataclass(value):
            self._add({f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)})
            return
        wrapped = getattr(value, "__wrapped__", None)
        if callable(wrapped):  # a cached or jitted function: what it remembers is not part of it
            self._add(wrapped)
            return
        self._parts(_parts_of(value))

    def _parts(self, parts: str | tuple[Any, ...] | None) -> None:
        if not isinstance(parts, tuple):
            self._put("name", parts or "")
            return
        for part in parts[:3]:
            self._add(part)
        for listed in parts[3:4]:
            self._add(list(listed or ()))
        for pairs in parts[4:5]:
            self._add(dict(pairs or ()))

    # The first kind that fits writes a value.
    _WRITERS: ClassVar[tuple[tuple[Any, Callable[[Any, Any], None]], ...]] = (
        (FunctionType, _function),
        (MethodType, _method),
        (BuiltinFunctionType, _builtin_method),
        (partial, _partial),
        (property | staticmethod | classmethod, _wrapper),
        (ModuleType, _module),
        (type, _class),
        (Enum, _enum),
        (np.ndarray | np.generic, _array),
        (Mapping, _mapping),
        (AbstractSet, _set),
        (list | tuple, _sequence),
        (object, _object),
    )


def _globals_of(function: FunctionType) -> Iterator[tuple[str, object]]:
    """The globals that a function names, by name; of the project's own modules the attributes that it names."""
    found: dict[str, object] = {}
    for chain in _chains(function.__code__):
        value = function.__globals__.get(chain[0], _ABSENT)
        used = 1
        while used < len(chain) and isinstance(value, ModuleType) and not _is_library(value.__name__):
            value = getattr(value, chain[used], _ABSENT)
            used += 1
        if value is not _ABSENT:
            found[".".join(chain[:used])] = value
    yield from sorted(found.items(), key=lambda item: item[0])


def _chains(code: CodeType) -> set[tuple[str, ...]]:
    """Every global that `code` and the code inside it load, with the attributes that are taken from it."""
    chains: set[tuple[str, ...]] = set()
    chain: tuple[str, ...] = ()
    for instruction in dis.get_instructions(code):
        if chain and instruction.opname in _ATTRIBUTE_LOADS:
            chain = (*chain, instruction.argval)
            continue
        chains.add(chain)
        chain = (instruction.argval,) if instruction.opname in _GLOBAL_LOADS else ()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            chains |= _chains(constant)
    return chains - {()}


def _is_written(cls: type, name: str, value: object) -> bool:
    """Whether somebody wrote an attribute of a class; the rest is made by Python, its dataclasses and tuples."""
    if not isinstance(value, FunctionType):
        return not (name.startswith("_") and (name.endswith("__") or issubclass(cls, Enum)))
    generated = dataclasses.is_dataclass(cls) or hasattr(cls, "_fields")
    return not (generated and not Path(value.__code__.co_filename).is_file())


def _parts_of(value: object) -> str | tuple[Any, ...] | None:
    """What a copy of `value` would be made of; None where it cannot be copied."""
    reduce = copyreg.dispatch_table.get(type(value))
    try:
        return value.__reduce_ex__(4) if reduce is None else reduce(value)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return None


def _library_name(value: object) -> str | None:
    """Where a library has `value`, if it can be imported from there."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or not _is_library(module):
        return None
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}.{name}" if found is value else None


def _is_library(module: str) -> bool:
    """Whether a module is Python's, Penstock's or an installed library's, rather than the project's own."""
    top = module.partition(".")[0]
    if top != "__main__" and (top in sys.stdlib_module_names or top == "penstock"):
        return True
    file = getattr(sys.modules.get(module) or sys.modules.get(top), "__file__", None)
    return file is not None and _is_library_file(file)


def _is_library_file(file: str) -> bool:
    path = Path(file)
    return (
        file.startswith("<frozen ")
        or not _LIBRARY_FOLDERS.isdisjoint(path.parts)
        or any(path.is_relative_to(root) for root in _LIBRARY_ROOTS)
    )
