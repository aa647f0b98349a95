"""What a run reads: the files of sources, as configured or given by hand, and a pipe."""

from __future__ import annotations

import select
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import IO, TYPE_CHECKING, Protocol

from penstock.app.batch_inputs import batch_inputs
from penstock.app.kafka_inputs import kafka_inputs
from penstock.app.table_inputs import table_inputs
from penstock.connectors.files import SUFFIXES, FileReader, decode
from penstock.core.errors import InputError
from penstock.core.limits import MAX_EVENT_BYTES
from penstock.definitions.batch_configs import FileConfig
from penstock.definitions.project import Project
from penstock.definitions.sources import LabelSource, StreamSource
from penstock.plan.nodes import Plan, SourceNode

if TYPE_CHECKING:
    from penstock.app.merging import Behind
    from penstock.app.runtime import Runtime
    from penstock.engine.contract import Contract, Decoded

PIPE_BYTES = 1 << 20
_PIPE_POLL_S = 0.1


class Input(Protocol):
    """Where the events of one source come from."""

    @property
    def source(self) -> str:
        """Whose events they are."""

    @property
    def key(self) -> str | None:
        """Under which name its offset is kept; None where reading cannot be resumed."""

    def read(
        self, contract: Contract, offset: str | None, *, rows: int, final: bool, stop: Event
    ) -> Iterator[tuple[Decoded, Behind]]:
        """Decoded blocks from `offset` to the present end, each with the offset behind it.

        An unfinished last line is left for later unless reading is `final`.
        """


@dataclass(frozen=True, slots=True)
class FileInput:
    """A file, or the files of a folder; paths of `config` start at `root`."""

    source: str
    key: str
    config: FileConfig
    root: Path

    def read(
        self, contract: Contract, offset: str | None, *, rows: int, final: bool, stop: Event
    ) -> Iterator[tuple[Decoded, str | None]]:
        """See `Input.read`."""
        reader = FileReader(self.config, self.root, contract.source)
        steps = reader.batches(offset, rows) if final else reader.follow(offset, rows, stop=_OnePass(stop))
        for block, behind in steps:
            yield decode(contract, block), behind


@dataclass(frozen=True, slots=True)
class PipeInput:
    """NDJSON from a pipe: what is there is processed at once, so that little waits for more."""

    source: str
    stream: IO[bytes]
    key: str | None = field(default=None, init=False)

    def read(
        self,
        contract: Contract,
        offset: str | None,  # noqa: ARG002 - a pipe has no offsets
        *,
        rows: int,  # noqa: ARG002 - what is there is taken
        final: bool,  # noqa: ARG002 - a pipe ends when it ends
        stop: Event,
    ) -> Iterator[tuple[Decoded, str | None]]:
        """See `Input.read`."""
        for lines in _lines_of(self.stream, stop):
            yield contract.decode_json(lines), None


@dataclass(slots=True)
class _OnePass:
    """Lets `FileReader.follow` read what is there once, instead of waiting for more."""

    stop: Event
    passed: bool = False

    def is_set(self) -> bool:
        return self.passed or self.stop.is_set()

    def wait(self, timeout: float) -> None:  # noqa: ARG002 - nobody waits here
        self.passed = True


def inputs_of(runtime: Runtime, given: Mapping[str, Path | IO[bytes]]) -> list[Input]:
    """What a run reads: `given` by hand, or else every source with a file, a topic or a table; the plan's batch tables in any case."""
    plan, root = runtime.plan, runtime.project.root
    batch = {name for name, node in plan.sources.items() if node.is_batch}
    tables = {name: _table(name, place) for name, place in given.items() if name in batch}
    streams = {name: place for name, place in given.items() if name not in batch}
    batches = batch_inputs(runtime, tables)
    if given:
        return [*batches, *given_inputs(streams, plan.sources, root=root)]
    topics = kafka_inputs(runtime.project, plan, runtime.settings.kafka, runtime.problems)
    return [*batches, *configured_inputs(runtime.project, plan), *topics, *table_inputs(runtime)]


def _table(name: str, place: Path | IO[bytes]) -> FileConfig:
    if not isinstance(place, Path):
        raise InputError(
            f"source {name!r}: it is a batch source, whose rows cannot come by a pipe; allowed is a file or a folder. Write "
            f"{name}=FILE."
        )
    path = place.resolve()
    return FileConfig(str(path), format_of(path))


def configured_inputs(project: Project, plan: Plan) -> list[FileInput]:
    """The inputs of all sources of the plan that have a `FileConfig`."""
    definitions: dict[str, StreamSource | LabelSource] = {**project.sources, **project.label_sources}
    found = []
    for name, node in plan.sources.items():
        config = definitions[name].stream_config if name in definitions else None
        if isinstance(config, FileConfig):
            found.append(file_input(config, node, root=project.root))
    return found


def given_inputs(
    given: Mapping[str, Path | IO[bytes]], sources: Mapping[str, SourceNode], *, root: Path
) -> list[FileInput | PipeInput]:
    """Inputs named by hand: ``{source: file, folder or open pipe}``.

    Raises
    ------
    InputError
        A source is not in the plan, or the format of a file cannot be told from its name.
    """
    found: list[FileInput | PipeInput] = []
    for name, place in given.items():
        if name not in sources:
            raise InputError(
                f"source {name!r} is not in the plan; there are {', '.join(sources)}. Write SOURCE=FILE with one of these."
            )
        if isinstance(place, Path):
            path = place.resolve()
            config = FileConfig(str(path), format_of(path))
            found.append(file_input(config, sources[name], root=root))
        else:
            found.append(PipeInput(name, place))
    return found


def file_input(config: FileConfig, source: SourceNode, *, root: Path) -> FileInput:
    """The input for a file; its offset is kept under the source's name and the file's place in the project."""
    path = (root / config.uri).resolve()
    place = path.relative_to(root.resolve()) if path.is_relative_to(root.resolve()) else path
    return FileInput(source.name, f"{source.name}:{place.as_posix()}", config, root)


def format_of(path: Path) -> str:
    """The format of a file by the end of its name; of a folder by that of its first file."""
    names = sorted(p.name for p in path.iterdir()) if path.is_dir() else [path.name]
    for name in names:
        for file_format, suffixes in SUFFIXES.items():
            if name.lower().endswith(suffixes):
                return file_format
    known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
    raise InputError(f"{path}: its format cannot be told from the name; known are {known}. Rename the file.")


def _lines_of(stream: IO[bytes], stop: Event) -> Iterator[bytes]:
    """Whole lines as they come, many at a time; a line far beyond the bound is cut, for the contract to refuse."""
    rest = b""
    while (more := _available(stream, stop)) is not None:
        rest += more
        end = rest.rfind(b"\n") + 1
        if end:
            yield rest[:end]
            rest = rest[end:]
        elif len(rest) > MAX_EVENT_BYTES:
            yield rest[: MAX_EVENT_BYTES + 1]
            rest = _after_line(stream, stop)
    if rest.strip() and not stop.is_set():
        yield rest


def _after_line(stream: IO[bytes], stop: Event) -> bytes:
    """Drop what is left of the present line."""
    while (more := _available(stream, stop)) is not None:
        _, found, rest = more.partition(b"\n")
        if found:
            return rest
    return b""


def _available(stream: IO[bytes], stop: Event) -> bytes | None:
    """The bytes that are there, waiting for some; None at the end and when asked to stop."""
    while not stop.is_set():
        ready, _, _ = select.select([stream], [], [], _PIPE_POLL_S)
        if ready:
            return stream.read1(PIPE_BYTES) or None  # type: ignore[attr-defined]
    return None
