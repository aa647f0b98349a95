"""XGBoost's own predictor through its C API, without importing the ``xgboost`` package.

Why not ``import xgboost``: that takes some three seconds and 150 MB (it pulls in SciPy, scikit-learn and pandas), in
the serving process and in every child that checks a file, for the four C functions that scoring needs; and its
``inplace_predict`` adds about 70 us to each call. The C API is documented and stable:
https://xgboost.readthedocs.io/en/stable/c.html
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import weakref
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import ArtifactError, MissingDependencyError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LIBRARIES = ("libxgboost.so", "libxgboost.dylib", "xgboost.dll")
_MARGIN = 1
_PREDICT = json.dumps(
    {
        "type": _MARGIN,
        "training": False,
        "iteration_begin": 0,
        "iteration_end": 0,
        "strict_shape": False,
        "missing": float("nan"),
        "cache_id": 0,
    }
).encode()


class Booster:
    """A loaded XGBoost model that computes margins with one thread; safe to call from several threads.

    Parameters
    ----------
    model
        The bytes of a UBJ file whose digest has been checked: XGBoost's parser is not memory-safe.
    features
        The number of columns that the model was trained on.
    """

    __slots__ = ("__weakref__", "_handle", "_library", "features")

    def __init__(self, model: bytes, *, features: int) -> None:
        self._library = _library()
        self._handle = ctypes.c_void_p()
        _check(
            self._library, self._library.XGBoosterCreate(None, ctypes.c_uint64(0), ctypes.byref(self._handle))
        )
        weakref.finalize(self, self._library.XGBoosterFree, self._handle)
        loaded = self._library.XGBoosterLoadModelFromBuffer(self._handle, model, ctypes.c_uint64(len(model)))
        _check(self._library, loaded)
        _check(self._library, self._library.XGBoosterSetParam(self._handle, b"nthread", b"1"))
        self.features = features
        if (found := self._features()) != features:
            raise ArtifactError(
                f"XGBoost model: it has {found} features; the manifest lists {features}. Register it again."
            )

    def margins(self, vectors: NDArray[np.float64]) -> NDArray[np.float32]:
        """Raw sums, shape [n], of C-contiguous float64 `vectors` [n, features]; NaN is a missing value."""
        if not len(vectors):
            return np.empty(0, np.float32)
        shape = ctypes.POINTER(ctypes.c_uint64)()
        dimensions = ctypes.c_uint64()
        result = ctypes.POINTER(ctypes.c_float)()
        code = self._library.XGBoosterPredictFromDense(
            self._handle,
            _array_interface(vectors),
            _PREDICT,
            None,
            ctypes.byref(shape),
            ctypes.byref(dimensions),
            ctypes.byref(result),
        )
        _check(self._library, code)
        # XGBoost keeps the result in memory of the calling thread until its next call: copy.
        return np.ctypeslib.as_array(result, shape=(len(vectors),)).copy()

    def document(self) -> dict[str, Any]:
        """The model as XGBoost's JSON."""
        size = ctypes.c_uint64()
        text = ctypes.POINTER(ctypes.c_char)()
        code = self._library.XGBoosterSaveModelToBuffer(
            self._handle, b'{"format":"json"}', ctypes.byref(size), ctypes.byref(text)
        )
        _check(self._library, code)
        found: dict[str, Any] = json.loads(ctypes.string_at(text, size.value))
        return found

    def _features(self) -> int:
        count = ctypes.c_uint64()
        _check(self._library, self._library.XGBoosterGetNumFeature(self._handle, ctypes.byref(count)))
        return count.value


def _array_interface(vectors: NDArray[np.float64]) -> bytes:
    return b'{"data":[%d,true],"shape":[%d,%d],"typestr":"<f8","version":3}' % (
        vectors.ctypes.data,
        *vectors.shape,
    )


@cache
def _library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("xgboost")
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            "Scoring an XGBoost model needs XGBoost. Install xgboost-cpu (or xgboost)."
        )
    folder = Path(spec.origin).parent / "lib"
    for name in _LIBRARIES:
        if (folder / name).exists():
            library = ctypes.CDLL(str(folder / name))
            library.XGBGetLastError.restype = ctypes.c_char_p
            return library
    raise MissingDependencyError(
        f"XGBoost: its package holds none of {', '.join(_LIBRARIES)} in lib/. Install xgboost-cpu (or xgboost) anew."
    )


def _check(library: ctypes.CDLL, code: int) -> None:
    if code:
        message = library.XGBGetLastError().decode(errors="replace").splitlines()
        raise ModelError(f"XGBoost: {message[0] if message else 'no message'}")
