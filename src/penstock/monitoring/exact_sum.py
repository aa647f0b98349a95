"""Sums that do not depend on the order of their terms, and from which any term can be taken away again.

A float is a whole number of 2**-1126, so a sum of floats is one large whole number. Figures that are kept live, corrected
and made again from the store can then be equal to the last bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_SHIFT = 1126  # of the smallest float, as a whole number of 53 bits times a power of two
_HALF = 26


class ExactSum:
    """The exact sum of finite floats.

    Examples
    --------
    >>> total = ExactSum()
    >>> total.add(np.array([1e16, 0.1, 0.2]))
    >>> total.add(np.array([1e16]), sign=-1)
    >>> total.value
    0.30000000000000004
    """

    __slots__ = ("_whole",)

    def __init__(self) -> None:
        self._whole = 0

    def add(self, values: npt.NDArray[np.float64], *, sign: int = 1) -> None:
        """Add finite values, float64[n]; with ``sign=-1`` take them away."""
        mantissas, exponents = np.frexp(values)
        wholes = np.ldexp(mantissas, 53).astype(np.int64)
        for exponent in np.unique(exponents).tolist():
            mine = wholes[exponents == exponent]
            # In halves, since a sum of 53-bit numbers may need more than 64 bits.
            total = (int((mine >> _HALF).sum()) << _HALF) + int((mine & ((1 << _HALF) - 1)).sum())
            self._whole += sign * (total << (exponent - 53 + _SHIFT))

    def merge(self, other: ExactSum) -> None:
        """Add what the other holds."""
        self._whole += other._whole

    @property
    def value(self) -> float:
        """The sum, rounded once."""
        return self._whole / (1 << _SHIFT)
