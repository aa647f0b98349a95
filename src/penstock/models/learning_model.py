"""The serving side of a model that goes on learning: always the newest published copy, one copy a batch."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from penstock.core.errors import ArtifactError
from penstock.models.learned_copies import Copies
from penstock.models.online_state import seal, sealing_key, unseal
from penstock.models.published import OnlineModel, Published, decode, encode
from penstock.stores.directories import sync_directory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.models.loading import Kept
    from penstock.models.manifest import ModelFiles

COPY_NAME, STATE_NAME = "copy.bin", "state.bin"


class Description(msgspec.Struct, frozen=True):
    """What a registered version of a learning model is: no state, which is a fold of the log, but which fold.

    Attributes
    ----------
    definition
        Fingerprint of what is learned and how.
    labels, position, digest
        Of the copy at which it was registered.
    log
        The id of the log that it had learned from.
    """

    definition: str
    labels: int
    position: int
    digest: str
    log: str = ""


_description_decoder = msgspec.json.Decoder(Description)


class LearningModel:
    """A version whose learner publishes copies; see `penstock.models.runtimes.ScoringModel`.

    `version` and `digest` are those of the copy with which this thread scored last: what a decision records.

    Parameters
    ----------
    label
        The version's name.
    feature_names
        The columns of a vector.
    definition
        Copies of another definition are not taken.
    """

    def __init__(self, label: str, *, feature_names: tuple[str, ...], definition: str) -> None:
        self.label, self.feature_names, self.definition = label, feature_names, definition
        self.refused = ""
        """Why the copy on disk was not taken."""
        self.recent = Copies()
        """The copies that this process scored with, as far as they can be explained."""
        self._newest: OnlineModel | None = None
        self._published: Published | None = None
        self._putting = threading.Lock()
        self._used = threading.local()

    @property
    def version(self) -> str:
        """``NAME:VERSION+LABELS``."""
        copy = self._last()
        return f"{self.label}+0" if copy is None else copy.version

    @property
    def digest(self) -> str:
        """SHA-256 of the copy; empty before the first."""
        copy = self._last()
        return "" if copy is None else copy.digest

    @property
    def newest(self) -> OnlineModel | None:
        """The copy with which the next batch will be scored."""
        return self._newest

    def score(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores by the newest copy; not a number while there is none, so that decisions are marked as degraded."""
        copy = self._used.copy = self._newest
        return np.full(len(vectors), np.nan) if copy is None else copy.score(vectors)

    def put(self, published: Published) -> None:
        """Score by this copy from the next batch on, unless one of the same log knows more. Any thread may call it."""
        if published.definition != self.definition:
            raise ArtifactError(
                f"Model {self.label!r}: the copy was learned by another definition; it is not used. It will be learned anew."
            )
        with self._putting:
            if not published.replaces(self._published):
                return
            self._newest = OnlineModel(
                published, version=self.label, digest=digest_of(published), feature_names=self.feature_names
            )
            self._published = published
            self.recent.add(published)

    def _last(self) -> OnlineModel | None:
        used: OnlineModel | None = getattr(self._used, "copy", None)
        return used or self._newest


_LOADED: weakref.WeakValueDictionary[Path, LearningModel] = weakref.WeakValueDictionary()
"""By where its state is: what a learner publishes reaches whoever serves that version in this process."""


def learning_model(files: ModelFiles, *, version: str, states: Kept | None) -> LearningModel:
    """The serving side of `version`, with the copy in `states`, if it is sound and of that log."""
    definition = _description_decoder.decode(files["online"]).definition
    names = files.manifest.feature_names
    if states is None:
        return LearningModel(version, feature_names=names, definition=definition)
    folder = states_of(states.folder, version)
    model = _LOADED.get(folder)
    if model is None or model.definition != definition:
        model = _LOADED[folder] = LearningModel(version, feature_names=names, definition=definition)
    model.refused = _refusal(model, folder, log=states.log)
    return model


def _refusal(model: LearningModel, folder: Path, *, log: str) -> str:
    """Take the copy on disk; why not, where it cannot be."""
    try:
        copy = read_copy(folder)
        if log and copy.log != log:
            return "the published copy is of another log; what the model knows is learned anew from this one"
        if model.newest is None or model.newest.digest != digest_of(copy):
            model.put(copy)
    except FileNotFoundError:
        return "there is no published copy on this machine yet"
    except ArtifactError as error:
        return str(error)
    return ""


def newest_copy(files: ModelFiles, *, version: str, states: Path) -> tuple[OnlineModel | None, int]:
    """The copy on disk of `version` below `states`, as it stays, and up to which position of the log it has learned.

    None and -1 where there is none. Raises `ArtifactError` where it is not this project's own, or of another definition.
    """
    try:
        published = read_copy(states_of(states, version))
    except FileNotFoundError:
        return None, -1
    described = _description_decoder.decode(files["online"])
    model = LearningModel(
        version, feature_names=files.manifest.feature_names, definition=described.definition
    )
    model.put(published)
    return model.newest, published.position


def served_from(folder: Path) -> LearningModel | None:
    """The serving side of the version whose state is in `folder`, where this process has loaded it."""
    return _LOADED.get(folder)


def states_of(states: Path, label: str) -> Path:
    """The folder of a version below a project's `states`, which are never in a registry.

    >>> states_of(Path("online"), "fraud:3").as_posix()
    'online/fraud/3'
    """
    return states.joinpath(*label.split(":"))


def discard_learned(states: Path) -> None:
    """Remove the state and the copy of every version, and serve none of them: what they know is learned anew."""
    for folder in [one for one in _LOADED if one.is_relative_to(states)]:
        del _LOADED[folder]
    for folder in states.glob("*/"):
        shutil.rmtree(folder)


def digest_of(published: Published) -> str:
    """SHA-256 of a copy."""
    return hashlib.sha256(encode(published)).hexdigest()


def read_copy(folder: Path) -> Published:
    """The published copy in `folder`; `ArtifactError` where it is not this project's own."""
    return decode(read_sealed(folder / COPY_NAME))


def read_sealed(path: Path) -> bytes:
    """The bytes of a file behind this project's seal."""
    return unseal(path.read_bytes(), key=sealing_key(path.parents[2]), what=f"{path.name} in {path.parent}")


def write_sealed(path: Path, data: bytes) -> None:
    """Replace a file by sealed bytes, on disk when this returns: a reader finds the old ones or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.tmp")
    with aside.open("wb") as file:
        file.write(seal(data, key=sealing_key(path.parents[2])))
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_directory(path.parent)
