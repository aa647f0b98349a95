"""Loading a project: a folder of Python files with definitions, and ``penstock.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from penstock.core.errors import DefinitionError, ProjectError, SettingsError
from penstock.definitions.alerts import Alert
from penstock.definitions.batch_sources import BatchSource
from penstock.definitions.endpoints import Endpoint
from penstock.definitions.entities import Entity
from penstock.definitions.key_lists import KeyList
from penstock.definitions.loading import SETTINGS_FILE, run_files, shown
from penstock.definitions.models import Model
from penstock.definitions.monitors import Monitor
from penstock.definitions.policies import Policy
from penstock.definitions.services import FeatureService
from penstock.definitions.sources import LabelSource, StreamSource
from penstock.definitions.views import FeatureView, RealtimeFeatureView, StreamFeatureView

_NOT_DEFINITIONS = ("__main__.py", "conftest.py")

# What a module-level object of each type is called in messages, and where it goes in a `Project`. Sources share
# one set of names, as their events share one log.
_PLACES: tuple[tuple[type, str, str], ...] = (
    (Entity, "entity", "entities"),
    (StreamSource, "source", "sources"),
    (LabelSource, "source", "label_sources"),
    (BatchSource, "source", "batch_sources"),
    (StreamFeatureView, "feature view", "views"),
    (RealtimeFeatureView, "feature view", "views"),
    (FeatureService, "feature service", "services"),
    (Model, "model", "models"),
    (KeyList, "list", "lists"),
    (Policy, "policy", "policies"),
    (Endpoint, "endpoint", "endpoints"),
    (Monitor, "monitor", "monitors"),
    (Alert, "alert", "alerts"),
)


@dataclass(frozen=True, slots=True)
class Project:
    """The definitions of a project folder, by name, in the order in which its files define them.

    Parameters
    ----------
    root
        The folder.
    name
        ``name`` of ``[project]`` in the settings; default: the folder's name.
    settings
        What ``penstock.toml`` holds.
    """

    root: Path
    name: str
    settings: dict[str, Any]
    entities: dict[str, Entity] = field(default_factory=dict)
    sources: dict[str, StreamSource] = field(default_factory=dict)
    label_sources: dict[str, LabelSource] = field(default_factory=dict)
    batch_sources: dict[str, BatchSource] = field(default_factory=dict)
    views: dict[str, FeatureView] = field(default_factory=dict)
    services: dict[str, FeatureService] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    lists: dict[str, KeyList] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    monitors: dict[str, Monitor] = field(default_factory=dict)
    alerts: dict[str, Alert] = field(default_factory=dict)


def find_project(start: Path | str) -> Path:
    """The nearest folder at or above `start` that holds ``penstock.toml``; `ProjectError` if there is none."""
    begin = Path(start).resolve()
    for folder in (begin, *begin.parents):
        if (folder / SETTINGS_FILE).is_file():
            return folder
    raise ProjectError(
        f"project: {begin} and the folders above it hold no {SETTINGS_FILE}; a project is a folder with that file. "
        "Go into a project, or make one: penstock init NAME."
    )


def load_project(path: Path | str) -> Project:
    """Run the Python files of a project folder and gather their module-level definitions.

    The folder becomes a package with a name of its own, so that its files can import each other (``from .entities
    import card``). Files run in the order of their names: all ``*.py`` of the folder but ``__main__.py``,
    ``conftest.py``, ``test_*.py`` and hidden ones, or those that ``definitions = ["features.py", ...]`` of
    ``[project]`` lists. Every call runs them anew.

    Raises
    ------
    ProjectError
        The folder holds no ``penstock.toml``, or a file cannot be run.
    SettingsError
        ``penstock.toml`` is not TOML, or ``[project]`` is not as described.
    DefinitionError
        A definition means nothing, or two objects of a kind have the same name. The message names the file.
    """
    root = Path(path).resolve()
    settings = _read_settings(root)
    section = _project_section(settings, root)
    project = Project(root, section.get("name", root.name), settings)
    files = _listed_files(root, section["definitions"]) if "definitions" in section else _own_files(root)
    seen: dict[tuple[str, str], tuple[object, Path]] = {}
    for file, module in run_files(root, files):
        for value in vars(module).values():
            _place(project, value, file=file, seen=seen)
    return project


def _read_settings(root: Path) -> dict[str, Any]:
    file = root / SETTINGS_FILE
    if not file.is_file():
        raise ProjectError(
            f"project: {root} holds no {SETTINGS_FILE}; a project is a folder with that file. "
            "Make a project with: penstock init NAME."
        )
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{SETTINGS_FILE} of {root}: {error}; allowed is TOML in UTF-8. Correct that line."
        ) from error


def _project_section(settings: dict[str, Any], root: Path) -> dict[str, Any]:
    section = settings.get("project", {})
    if not isinstance(section, dict):
        raise SettingsError(
            f"{SETTINGS_FILE} of {root}: project is {section!r}; allowed is a table. Write [project]."
        )
    name, files = section.get("name", root.name), section.get("definitions", [])
    if not isinstance(name, str) or not name:
        raise SettingsError(
            f"{SETTINGS_FILE} of {root}: name of [project] is {name!r}; allowed is a text. Correct it or leave it out."
        )
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise SettingsError(
            f"{SETTINGS_FILE} of {root}: definitions of [project] is {files!r}; allowed is a list of file names. "
            'Write for example definitions = ["features.py"].'
        )
    return section


def _own_files(root: Path) -> list[Path]:
    return sorted(
        file
        for file in root.glob("*.py")
        if file.name not in _NOT_DEFINITIONS and not file.name.startswith(("test_", "."))
    )


def _listed_files(root: Path, names: list[str]) -> list[Path]:
    files = sorted((root / name).resolve() for name in names)
    for file in files:
        if not file.is_file() or file.suffix != ".py" or not file.is_relative_to(root):
            raise SettingsError(
                f"{SETTINGS_FILE} of {root}: definitions of [project] lists {shown(file, root)}; allowed are Python "
                f"files of the folder: {', '.join(f.name for f in _own_files(root)) or 'there is none yet'}. "
                "Correct the list, or remove it to take all of them."
            )
    return files


def _place(
    project: Project, value: object, *, file: Path, seen: dict[tuple[str, str], tuple[object, Path]]
) -> None:
    for kind, called, place in _PLACES:
        if isinstance(value, kind):
            name: str = value.name  # type: ignore[attr-defined]
            first, first_file = seen.setdefault((called, name), (value, file))
            if first is not value:
                _refuse_second(called, name, files=(first_file, file), root=project.root)
            getattr(project, place)[name] = value
    if isinstance(value, KeyList):
        for part in (value.source, value.entries):
            _place(project, part, file=file, seen=seen)


def _refuse_second(called: str, name: str, *, files: tuple[Path, Path], root: Path) -> NoReturn:
    first, second = (shown(file, root) for file in files)
    places = f"twice in {first}" if first == second else f"in {first} and in {second}"
    raise DefinitionError(
        f"{called} {name!r}: two different objects have this name, defined {places}; allowed is one {called} of a "
        f"name in a project. Rename one, or import it: from .{files[0].stem} import ..."
    )
