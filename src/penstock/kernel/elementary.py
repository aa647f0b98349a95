"""Logarithm and power of two, the same bits everywhere.

The C library's functions may differ in the last bit from machine to machine. These are a few exactly defined additions and
multiplications (after Sun's fdlibm, error below one unit in the last place), run by Python and compiled for the kernel alike.
"""

from __future__ import annotations

import math

_ROOT_HALF = 0.7071067811865476
_LN2, _LN2_HIGH, _LN2_LOW = 0.6931471805599453, 6.93147180369123816490e-01, 1.90821492927058770002e-10
_L1, _L2, _L3 = 6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01
_L4, _L5, _L6 = 2.222219843214978396e-01, 1.818357216161805012e-01, 1.531383769920937332e-01
_L7 = 1.479819860511658591e-01
_P1, _P2, _P3 = 1.66666666666666019037e-01, -2.77777777770155933842e-03, 6.61375632143793436117e-05
_P4, _P5 = -1.65339022054652515390e-06, 4.13813679705723846039e-08
_LEAST_EXPONENT = -1022.0


def log(x: float) -> float:
    """The natural logarithm of a normal number above zero.

    >>> log(1.0), abs(log(10.0) - 2.302585092994046) < 1e-15
    (0.0, True)
    """
    m, e = math.frexp(x)
    if m < _ROOT_HALF:
        m *= 2.0
        e -= 1
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    odd = z * (_L1 + w * (_L3 + w * (_L5 + w * _L7)))
    even = w * (_L2 + w * (_L4 + w * _L6))
    half = 0.5 * f * f
    exponent = float(e)
    return exponent * _LN2_HIGH - ((half - (s * (half + (odd + even)) + exponent * _LN2_LOW)) - f)


def exp2(x: float) -> float:
    """Two to the power of x; 0.0 where that is below the least normal number.

    >>> exp2(-3.0), exp2(0.0), exp2(-1030.0), abs(exp2(0.5) - 1.4142135623730951) < 1e-15
    (0.125, 1.0, 0.0, True)
    """
    if x < _LEAST_EXPONENT:
        return 0.0
    whole = math.floor(x + 0.5)
    t = (x - whole) * _LN2
    tt = t * t
    c = t - tt * (_P1 + tt * (_P2 + tt * (_P3 + tt * (_P4 + tt * _P5))))
    return math.ldexp(1.0 - ((t * c) / (c - 2.0) - t), int(whole))
