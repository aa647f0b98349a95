"""What `penstock doctor` looks at. Each check reads, changes nothing, and ends within seconds whatever hangs."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

from penstock.app.api_keys import key_store_of, keys_path
from penstock.app.registries import is_mlflow
from penstock.app.runtime import open_reader, plan_of, registry_of, state_folder, store_path
from penstock.app.settings import PREFIX, Settings, load_settings
from penstock.app.settings_page import variables
from penstock.app.storing import has_run
from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import PenstockError
from penstock.core.time import format_duration, from_us, to_us
from penstock.definitions.project import Project, load_project
from penstock.serving.authentication import check_exposure
from penstock.serving.keyring import Keyring
from penstock.stores.copies import held

LEAST_FREE_BYTES, LEAST_FREE_SHARE = 1 << 30, 0.05
CLOCKS_APART_US = 5_000_000
SOON = timedelta(days=14)
CONNECT_S = 3.0
LARGE_BYTES = 4 << 30  # checking the structure of a larger store takes minutes


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: all well, something to note, or something wrong, and then what to do."""

    name: str
    state: Literal["well", "note", "wrong"]
    found: str
    advice: str = ""


class Patient(NamedTuple):
    """What the checks look at; settings and definitions are None where they cannot be read."""

    root: Path
    settings: Settings | None
    project: Project | None
    clock: Clock


def examine(root: Path, *, clock: Clock | None = None) -> list[Finding]:
    """All findings about the project in `root`; a check that fails in a way it does not know is a finding, too."""
    settings, about_settings = _tried("settings", lambda: load_settings(root))
    project, about_definitions = _tried("definitions", lambda: _compiled(root))
    patient = Patient(root, settings, project, clock or SystemClock())
    found = [about_settings, about_definitions]
    for name, check in CHECKS.items():
        try:
            found += [Finding(name, *rest) for rest in check(patient)]
        except (PenstockError, OSError) as error:
            found.append(Finding(name, "wrong", str(error)))
    return found


T = TypeVar("T")
Found = tuple[Literal["well", "note", "wrong"], str, str]


def _tried(name: str, read: Callable[[], T]) -> tuple[T | None, Finding]:
    try:
        return read(), Finding(name, "well", "can be read")
    except (PenstockError, OSError) as error:
        return None, Finding(name, "wrong", str(error))


def _compiled(root: Path) -> Project:
    project = load_project(root)
    plan_of(project)
    return project


def _variables(_: Patient) -> Iterator[Found]:
    """Variables that look like settings and are none: a misspelt one has no effect, and nobody else would say so."""
    unknown = sorted(
        name for name in os.environ if name.startswith(PREFIX) and name.upper() not in variables()
    )
    if unknown:
        yield "note", f"{', '.join(unknown)}: no such setting", "docs/settings.md lists all names"
    else:
        yield "well", "no misspelt variable", ""


def _libraries(_: Patient) -> Iterator[Found]:
    """Whether what is installed is new enough, of what is needed and of the extras that there are."""
    from packaging.requirements import Requirement

    old = []
    for text in requires("penstock") or ():
        needed = Requirement(text)
        extra = needed.marker is not None and not needed.marker.evaluate({"extra": ""})
        try:
            there = version(needed.name)
        except PackageNotFoundError:
            if not extra:
                old.append(f"{needed.name} is missing")
            continue
        if not needed.specifier.contains(there, prereleases=True):
            old.append(f"{needed.name} is {there}, needed is {needed.specifier}")
    if old:
        yield "wrong", "; ".join(sorted(set(old))), "pip install --upgrade penstock"
    else:
        yield "well", f"Python {sys.version.split()[0]}, and all libraries are new enough", ""


def _folder(patient: Patient) -> Iterator[Found]:
    """Whether this user may write where the project keeps its state."""
    folder = state_folder(patient.root)
    place = folder if folder.exists() else patient.root
    try:
        with tempfile.NamedTemporaryFile(dir=place) as probe:
            apart = abs(int(Path(probe.name).stat().st_mtime * 1e6) - patient.clock.now_us())
    except OSError as error:
        who = f"user {os.getuid()}"
        yield (
            "wrong",
            f"{place}: {who} cannot write there ({error.strerror})",
            f"chown -R {os.getuid()} {place}",
        )
        return
    yield "well", f"{place} can be written", ""
    if apart > CLOCKS_APART_US:
        text = f"the clock of the file system is {format_duration(apart)} apart from this machine's"
        yield "note", text, "synchronise both (chrony, systemd-timesyncd)"


def _disk(patient: Patient) -> Iterator[Found]:
    disk = shutil.disk_usage(patient.root)
    share = disk.free / disk.total
    text = f"{disk.free / 1e9:.1f} GB free, {share:.0%}"
    room = "make room: without it nothing is committed (docs/operations.md)"
    if disk.free < LEAST_FREE_BYTES:
        yield "wrong", text, room
    elif share < LEAST_FREE_SHARE:
        yield "note", text, room
    else:
        yield "well", text, ""


def _store(patient: Patient) -> Iterator[Found]:
    """Whether the store opens, is whole, and accounts for every event; and whether the clock went back since."""
    path = store_path(patient.root)
    if patient.settings is None:
        yield "note", "not looked at: settings say where it is", ""
        return
    if not has_run(patient.root):
        yield "note", "the project has never run", "penstock run, or penstock up"
        return
    with open_reader(patient.root) as store:
        counters, length = store.counters(), store.next_position
        newest = max((batch.ingest_time_us for batch in store.read_log(max(length - 1, 0))), default=0)
    parts = sum(counters.get(name, 0) for name in ("scored", "logged", "duplicate", "rejected"))
    if counters.get("received", 0) != parts:
        yield "wrong", "the counters do not add up", "penstock audit, and report it as a defect"
    if not path.exists():
        yield "well", f"{length:,} events and labels, in PostgreSQL", ""
    elif path.stat().st_size > LARGE_BYTES:
        yield "well", f"{length:,} events and labels; its structure is too large to check here", ""
    elif held(path):
        yield "well", f"{length:,} events and labels, its structure is whole", ""
    else:
        yield "wrong", f"{path} is damaged", "restore the newest backup: penstock restore"
    ahead = newest - patient.clock.now_us()
    if ahead > CLOCKS_APART_US:
        text = f"the newest event was taken {format_duration(ahead)} in the future: the clock went back"
        yield "wrong", text, "synchronise the clock (chrony, systemd-timesyncd)"


def _registry(patient: Patient) -> Iterator[Found]:
    """Whether the registry answers, and every endpoint has a version that decides."""
    if patient.settings is None or patient.project is None:
        return
    uri = patient.settings.registry.uri
    away = _unreachable(uri) if is_mlflow(uri) else ""
    if away:
        yield "wrong", f"MLflow at {uri}: {away}", "start it, or correct [registry] uri"
        return
    registry = registry_of(patient.root)
    for endpoint in patient.project.endpoints.values():
        live = [one.label for one in registry.versions(endpoint.model.name) if one.stage == "Production"]
        if live:
            yield "well", f"{endpoint.name}: {live[0]} decides", ""
        else:
            train = f"penstock train {endpoint.model.name}"
            yield "note", f"{endpoint.name}: no version of {endpoint.model.name} is in Production", train


def _unreachable(uri: str) -> str:
    """Why nothing can be reached at an address; empty where it can."""
    parts = urlsplit(uri)
    if parts.hostname is None:
        return ""
    port = parts.port or {"http": 80, "https": 443, "postgresql": 5432}.get(parts.scheme.partition("+")[0], 0)
    try:
        with closing(socket.create_connection((parts.hostname, port), timeout=CONNECT_S)):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _keys(patient: Patient) -> Iterator[Found]:
    """Whether the API is closed to strangers, and keys go on working."""
    if patient.settings is None:
        return
    check_exposure(patient.settings.serve.host, Keyring(keys_path(patient.root), clock=patient.clock))
    now = patient.clock.now_us()
    keys = key_store_of(patient.root).all() if keys_path(patient.root).exists() else []
    live = [key for key in keys if key.revoked_us is None and (key.expires_us or now + 1) > now]
    ending = [key for key in live if key.expires_us is not None and key.expires_us < now + to_us(SOON)]
    for key in ending:
        assert key.expires_us is not None
        yield (
            "note",
            f"the key {key.name!r} ends at {from_us(key.expires_us):%Y-%m-%d}",
            "penstock keys create",
        )
    if keys and not live:
        yield (
            "wrong",
            "no key works any more: every request is refused",
            "penstock keys create NAME --scope admin",
        )
    elif not ending:
        yield "well", f"{len(live)} keys" if live else "none: only this machine is let in", ""


def _server(patient: Patient) -> Iterator[Found]:
    """Whether the API can listen, and its certificate is there."""
    if patient.settings is None:
        return
    serve = patient.settings.serve
    for path in (serve.tls_cert, serve.tls_key):
        if path is not None and not os.access(patient.root / path, os.R_OK):
            yield "wrong", f"{path} cannot be read", "correct tls_cert and tls_key in [serve]"
    if serve.port == 0:
        yield "well", "any port", ""
        return
    family = socket.AF_INET6 if ":" in serve.host else socket.AF_INET
    try:
        with closing(socket.socket(family)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((serve.host, serve.port))
        yield "well", f"{serve.host}:{serve.port} is free", ""
    except OSError as error:
        text = f"{serve.host}:{serve.port}: {error.strerror}"
        yield "note", text, "right if the project runs; else choose another port"


def _alerts(patient: Patient) -> Iterator[Found]:
    """Whether the secrets of alerts' receivers are there."""
    from penstock.definitions.alert_lists import AddTo

    alerts = () if patient.project is None else patient.project.alerts.values()
    pairs = [(alert.name, receiver) for alert in alerts for receiver in alert.to]
    needed = {(name, receiver.variable) for name, receiver in pairs if not isinstance(receiver, AddTo)}
    missing = sorted((name, variable) for name, variable in needed if not os.environ.get(variable))
    for name, variable in missing:
        yield "wrong", f"{name}: the variable {variable} is not set here", "set it where the project runs"
    if needed and not missing:
        yield "well", f"{len(needed)} receivers have their secrets", ""


CHECKS: dict[str, Callable[[Patient], Iterator[Found]]] = {
    "variables": _variables,
    "libraries": _libraries,
    "folder": _folder,
    "disk": _disk,
    "store": _store,
    "registry": _registry,
    "keys": _keys,
    "server": _server,
    "alerts": _alerts,
}
