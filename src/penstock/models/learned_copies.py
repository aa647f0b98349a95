"""The newest published copies of a model that goes on learning, so that a decision can be explained by what the model knew then.

Copies that can be explained are kept (linear models, trees, means of such), the newest `MOST` of them and at most `MOST_BYTES`; the oldest go first. They lie
beside the copy in force, sealed as it is, and are written when that is.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.core.errors import ArtifactError
from penstock.models.published import Boosted, Constant, Linear, Mean, Object, Published

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.models.published import Form

KEPT_NAME = "copies.bin"
MOST, MOST_BYTES = 1000, 4 << 20

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[Published])


class Copies:
    """Published copies by how many labels they had learned, bounded.

    Examples
    --------
    >>> from penstock.models.published import linear
    >>> form = linear([0.0], [1.0], [2.0], intercept=0.5, logistic=True)
    >>> copies = Copies([Published(form, labels=3, position=9)])
    >>> copies.of(3) is not None, copies.of(4) is None
    (True, True)
    """

    def __init__(self, found: Iterable[Published] = ()) -> None:
        self._found: OrderedDict[int, Published] = OrderedDict()
        self._bytes = 0
        for one in found:
            self.add(one)

    def add(self, copy: Published) -> None:
        """Keep a copy, if it is of a kind that can be explained; copies of another log or definition go."""
        if not _is_kept(copy.form):
            return
        newest = next(reversed(self._found.values()), None)
        if newest is not None and newest.learns != copy.learns:
            self._found.clear()
            self._bytes = 0
        if copy.labels in self._found:
            return
        self._found[copy.labels] = copy
        self._bytes += _size(copy.form)
        while len(self._found) > MOST or (self._bytes > MOST_BYTES and len(self._found) > 1):
            _, oldest = self._found.popitem(last=False)
            self._bytes -= _size(oldest.form)

    def of(self, labels: int) -> Published | None:
        """The copy that had learned so many labels; None where it is not kept."""
        return self._found.get(labels)

    def to_bytes(self) -> bytes:
        """All of them, oldest first."""
        return _ENCODER.encode(list(self._found.values()))

    @classmethod
    def from_bytes(cls, data: bytes) -> Copies:
        """The copies of `to_bytes`, whose seal has been checked."""
        return cls(_DECODER.decode(data))


def kept_copies(folder: Path) -> Copies:
    """The copies that are kept in the folder of a version; none where there are none, or they are of another project."""
    from penstock.models.learning_model import read_sealed

    try:
        return Copies.from_bytes(read_sealed(folder / KEPT_NAME))
    except (FileNotFoundError, ArtifactError, msgspec.DecodeError):
        return Copies()


def _is_kept(form: Form) -> bool:
    """Whether a copy is worth keeping: of a detector only the newest is, which lies beside them."""
    match form:
        case Linear() | Boosted():
            return True
        case Object():
            return form.has_reasons
        case Mean(members):
            return all(isinstance(one, Constant) or _is_kept(one) for one in members)
    return False


def _size(form: Form) -> int:
    match form:
        case Linear():
            return 3 * len(form.weights)
        case Mean(members):
            return sum(map(_size, members))
    return len(getattr(form, "ubj", b"")) + len(getattr(form, "learner", b""))
