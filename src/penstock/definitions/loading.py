"""Running the Python files of a project folder as one package, and explaining what goes wrong."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import threading
import traceback
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.errors import DefinitionError, ProjectError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import CodeType, ModuleType

SETTINGS_FILE = "penstock.toml"
_PACKAGE = "penstock_project_"
_one_at_a_time = threading.RLock()


class _AsWritten(importlib.machinery.SourceFileLoader):
    """Compiles a file as it is now. Python's cache tells files apart by second and size only: a threshold changed twice in one second is not seen."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the protocol of loaders
        return self.source_to_code(self.get_data(self.path), self.path)


class _Projects:
    """Finds the modules of projects."""

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(_PACKAGE):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = _AsWritten(spec.loader.name, spec.loader.path)
            spec.cached = None
        return spec


sys.meta_path.insert(0, _Projects)


def run_files(root: Path, files: Sequence[Path]) -> list[tuple[Path, ModuleType]]:
    """Run `files` of the folder `root` anew, in this order; each with the module that it became.

    The package is named after the folder's whole path, so that two projects of one process never mix. Threads take turns: each runs the files
    as modules of the same names.
    """
    package = f"{_PACKAGE}{zlib.crc32(str(root).encode()):08x}"
    with _one_at_a_time:
        _forget(package)
        importlib.invalidate_caches()
        complete = False
        try:
            top = _run_package(root, package)
            modules = [
                (file, top if file == root / "__init__.py" else _run_file(root, package, file))
                for file in files
            ]
            complete = True
        finally:
            if not complete:
                _forget(package)  # nobody should find half a project
    return modules


def shown(file: Path, root: Path) -> str:
    """A file as messages name it: relative to the project's folder, where it lies inside."""
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if name == package or name.startswith(package + ".")]:
        del sys.modules[name]


def _run_package(root: Path, package: str) -> ModuleType:
    spec = importlib.machinery.ModuleSpec(package, None, is_package=True)
    init = root / "__init__.py"
    if init.is_file():
        loader = _AsWritten(package, str(init))
        spec = importlib.machinery.ModuleSpec(package, loader, origin=str(init), is_package=True)
        spec.has_location = True
    spec.submodule_search_locations = [str(root)]
    module = importlib.util.module_from_spec(spec)
    sys.modules[package] = module
    if spec.loader is not None:
        with _explained(root, init):
            spec.loader.exec_module(module)
    return module


def _run_file(root: Path, package: str, file: Path) -> ModuleType:
    parts = file.relative_to(root).with_suffix("").parts
    if not all(part.isidentifier() for part in parts):
        raise ProjectError(
            f"{shown(file, root)}: a file of this name cannot be imported; allowed are letters, digits and "
            f'underscores. Rename it, or name the files that count: definitions = ["..."] in [project] of '
            f"{SETTINGS_FILE}."
        )
    with _explained(root, file):
        return importlib.import_module(".".join((package, *parts)))


@contextmanager
def _explained(root: Path, file: Path) -> Iterator[None]:
    """Say where in the project an error arose; the user's own exception stays chained."""
    try:
        yield
    except (Exception, SystemExit) as error:  # a user's file may raise anything, and all of it is re-raised
        where = _place_of(error, root, file)
        if isinstance(error, DefinitionError):
            raise DefinitionError(f"{where}: {error}") from error
        raise ProjectError(
            f"{where}: {type(error).__name__}: {error}; allowed are Python files that can be imported. Correct this "
            f'line, or, if the file holds no definitions, name those that do: definitions = ["..."] in [project] '
            f"of {SETTINGS_FILE}."
        ) from error


def _place_of(error: BaseException, root: Path, file: Path) -> str:
    """The innermost line of the project that the error passed through: file, line and what stands there."""
    if isinstance(error, SyntaxError) and _is_own(error.filename, root):
        return _line(Path(str(error.filename)), error.lineno, error.text, root=root)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename, root)]
    if not frames:
        return shown(file, root)
    return _line(Path(frames[-1].filename), frames[-1].lineno, frames[-1].line, root=root)


def _is_own(filename: str | None, root: Path) -> bool:
    """Whether a file is the project's: not of a library, not even where its environment lies in the folder."""
    if filename is None or not Path(filename).is_relative_to(root):
        return False
    parts = Path(filename).relative_to(root).parts
    return not any(part.startswith(".") or part == "site-packages" for part in parts)


def _line(file: Path, number: int | None, text: str | None, *, root: Path) -> str:
    written = f" ({text.strip()})" if text and text.strip() else ""
    return f"{shown(file, root)}, line {number}{written}"
