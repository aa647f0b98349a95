"""The newest published copies of a model that goes on learning, so that a decision can be explained by what the model knew then.

Copies that can be explained are kept (linear models, trees, means of such), the newest `MOST` of them and at most `MOST_BYTES`; the oldest go first. On disk they lie
beside the copy in force: see `penstock.models.copies_log`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

from penstock.models.published import Boosted, Constant, Linear, Mean, Object, Published

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.models.published import Form

MOST, MOST_BYTES = 1000, 4 << 20
_EACH_BYTES = 160
"""About what a copy takes besides its model."""


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

    @property
    def newest(self) -> Published | None:
        """The copy that was added last."""
        return next(reversed(self._found.values()), None)

    @property
    def size(self) -> int:
        """About how many bytes they take, models that are the same counted once."""
        return self._bytes + _EACH_BYTES * len(self._found)

    def all(self) -> list[Published]:
        """All of them, oldest first."""
        return list(self._found.values())

    def add(self, copy: Published) -> bool:
        """Keep a copy, if it is of a kind that can be explained, and say whether; copies of another log or definition go."""
        if not _is_kept(copy.form):
            return False
        newest = self.newest
        if newest is not None and newest.learns != copy.learns:
            self._found.clear()
            self._bytes, newest = 0, None
        if copy.labels in self._found:
            return False
        if newest is not None and newest.form == copy.form:
            copy = msgspec.structs.replace(copy, form=newest.form)
        else:
            self._bytes += _size(copy.form)
        self._found[copy.labels] = copy
        while len(self._found) > MOST or (self._bytes > MOST_BYTES and len(self._found) > 1):
            self._leave()
        return True

    def of(self, labels: int) -> Published | None:
        """The copy that had learned so many labels; None where it is not kept."""
        return self._found.get(labels)

    def _leave(self) -> None:
        """The oldest leaves; its model stays where the next one has the same."""
        _, oldest = self._found.popitem(last=False)
        if next(iter(self._found.values())).form is not oldest.form:
            self._bytes -= _size(oldest.form)


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
