"""Texts as codes: a lane of text is a lane of small integers, and one table tells them back."""

from __future__ import annotations

import numpy as np

from penstock.kernel.columns import BoolArray, IntArray, Text
from penstock.kernel.keys import KeyTable

_FIRST_COLLECTION = 4_096


class Interner:
    """The texts of one lane, each once.

    Codes stay what they are while rows hold them. `collect` lets go of texts that no row holds; codes given out since
    the last-but-one collection point survive it.

    Examples
    --------
    >>> interner = Interner()
    >>> codes = interner.intern(Text.from_strings(["eu", "us", "eu"]))
    >>> codes.tolist(), interner.texts(codes, None).to_strings()
    ([0, 1, 0], ['eu', 'us', 'eu'])
    """

    __slots__ = ("_collect_at", "_epoch", "_epochs", "table")

    def __init__(self, *, seed: int = 0) -> None:
        self.table = KeyTable(seed=seed)
        self._epochs = np.zeros(16, np.int64)  # by code: when it was interned last
        self._epoch = 0
        self._collect_at = _FIRST_COLLECTION

    def intern(self, values: Text) -> IntArray:
        """Return the code of each text, int64[n]; 0 for nulls."""
        if values.valid is None or values.valid.all():
            codes = self.table.assign(values)
            self._remember(codes)
            return codes
        codes = np.zeros(len(values), np.int64)
        present = np.flatnonzero(values.valid)
        codes[present] = self.table.assign(values.take(present))
        self._remember(codes[present])
        return codes

    def texts(self, codes: IntArray, valid: BoolArray | None) -> Text:
        """Return the texts of codes; null where `valid` is false."""
        return self.table.keys(codes, valid)

    def is_due(self) -> bool:
        """Start the next epoch; return whether enough texts have come in to look for unused ones."""
        self._epoch += 1
        return len(self.table) >= self._collect_at

    def collect(self, used: IntArray) -> None:
        """Forget the texts that are neither in `used` nor interned in this or the last epoch."""
        keep = np.zeros(self.table.slots, np.bool_)
        keep[used] = True
        keep |= self._epochs[: len(keep)] >= self._epoch - 2
        for code in self.table.live_slots():
            if not keep[code]:
                self.table.remove(int(code))
        self.table.pack()
        self._collect_at = max(_FIRST_COLLECTION, 2 * len(self.table))

    def _remember(self, codes: IntArray) -> None:
        if self.table.slots > len(self._epochs):
            grown = np.zeros(2 * self.table.slots, np.int64)
            grown[: len(self._epochs)] = self._epochs
            self._epochs = grown
        self._epochs[codes] = self._epoch
