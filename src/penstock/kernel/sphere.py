"""Distances on the globe, the same bits everywhere.

The C library's sine and arcsine differ in the last bit from processor to processor, and NumPy's from one processor's vector
unit to another's. These are a few exactly defined additions, multiplications and square roots (after Sun's fdlibm), run by
Python and compiled alike. Angles stay in degrees until they are small: there, folding them is exact.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import types

from penstock.kernel.jit import entry, inner

FloatArray = npt.NDArray[np.float64]
EARTH_RADIUS_KM = 6371.0088  # the mean radius of WGS 84

_RADIANS = 0.017453292519943295
_HALF_PI, _HALF_PI_LOW = 1.5707963267948966, 6.123233995736766e-17
_S1, _S2, _S3 = -1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04
_S4, _S5, _S6 = 2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10
_C1, _C2, _C3 = 4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05
_C4, _C5, _C6 = -2.75573143513906633035e-07, 2.08757232129817482790e-09, -1.13596475577881948265e-11
_P0, _P1, _P2 = 1.66666666666666657415e-01, -3.25565818622400915405e-01, 2.01212532134862925881e-01
_P3, _P4, _P5 = -4.00555345006794114027e-02, 7.91534994289814532176e-04, 3.47933107596021167570e-05
_Q1, _Q2 = -2.40339491173441421878e00, 2.02094576023350569471e00
_Q3, _Q4 = -6.88283971605453293030e-01, 7.70381505559019352791e-02


def sine(degrees: float) -> float:
    """The absolute value of the sine of an angle of any finite size.

    >>> sine(-90.0), sine(180.0), sine(720.0), abs(sine(30.0) - 0.5) < 1e-15
    (1.0, 0.0, 0.0, True)
    """
    x = abs(degrees) % 180.0
    if x > 90.0:
        x = 180.0 - x
    if x > 45.0:
        r = (90.0 - x) * _RADIANS
        z = r * r
        return 1.0 - (0.5 * z - z * z * (_C1 + z * (_C2 + z * (_C3 + z * (_C4 + z * (_C5 + z * _C6))))))
    r = x * _RADIANS
    z = r * r
    return r + r * z * (_S1 + z * (_S2 + z * (_S3 + z * (_S4 + z * (_S5 + z * _S6)))))


def arcsine(x: float) -> float:
    """The arcsine of a number from 0 to 1, in radians.

    >>> arcsine(0.0), arcsine(1.0), abs(arcsine(0.5) - math.asin(0.5)) < 1e-15
    (0.0, 1.5707963267948966, True)
    """
    outer = x >= 0.5
    z = (1.0 - x) * 0.5 if outer else x * x
    p = z * (_P0 + z * (_P1 + z * (_P2 + z * (_P3 + z * (_P4 + z * _P5)))))
    r = p / (1.0 + z * (_Q1 + z * (_Q2 + z * (_Q3 + z * _Q4))))
    if not outer:
        return x + x * r
    s = math.sqrt(z)
    return _HALF_PI - (2.0 * (s + s * r) - _HALF_PI_LOW)


_sine, _arcsine = inner(sine), inner(arcsine)
_READ_F8 = types.Array(types.float64, 1, "C", readonly=True)


@entry(types.void, _READ_F8, _READ_F8, _READ_F8, _READ_F8, types.float64[::1])
def distances_km(
    lat: FloatArray, lon: FloatArray, other_lat: FloatArray, other_lon: FloatArray, found: FloatArray
) -> None:
    """Write the distance of each pair of places into `found`; NaN where one of them is no place."""
    for i in range(len(found)):
        east = abs(lon[i] - other_lon[i])
        if not (abs(lat[i]) <= 90.0 and abs(other_lat[i]) <= 90.0 and east < math.inf):
            found[i] = math.nan
            continue
        cosines = _sine(90.0 - abs(lat[i])) * _sine(90.0 - abs(other_lat[i]))
        up, side = _sine(0.5 * (lat[i] - other_lat[i])), _sine(0.5 * east)
        half = min(up * up + cosines * (side * side), 1.0)
        found[i] = 2.0 * EARTH_RADIUS_KM * _arcsine(math.sqrt(half))
