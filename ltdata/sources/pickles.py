"""A restricted unpickler for the published CIFAR files: pickle protocol 2, written by Python 2's numpy.

Nothing but the three names that rebuild a numpy array can be looked up, so a hostile pickle can neither
import nor call anything; the digest of a file is checked before it comes here at all.

>>> import pickle
>>> loads(pickle.dumps({b"labels": [1, 2]}, protocol=3))
{b'labels': [1, 2]}
>>> loads(pickle.dumps(print, protocol=2))
Traceback (most recent call last):
    ...
_pickle.UnpicklingError: __builtin__.print is not allowed in a CIFAR file
"""

import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np

_MAX_TUPLES = 64  # the published files have five; a tuple of a million tuples overruns the C stack when hashed


class _Dtype:
    """Stands for the one dtype of the files, uint8; numpy's own lets a pickle set its flags and crash."""

    def __init__(self, name: object, *_: object) -> None:
        if name not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"dtype {name!r} is not allowed in a CIFAR file")

    def __setstate__(self, state: object) -> None:
        """Ignore what the pickle says: uint8 has no byte order and no flags."""


class _Array:
    """Stands for an array until its state comes; `loads` returns the numpy array in its place."""

    array: np.ndarray[Any, Any] | None = None

    def __setstate__(self, state: Any) -> None:
        """Take (version, shape, dtype, Fortran order, bytes)."""
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes) or len(data) != math.prod(shape):
            raise pickle.UnpicklingError("an array is not of bytes, or not whole")
        self.array = np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


class _Ndarray:
    """Stands for the class numpy.ndarray, which is only ever handed on."""


def _reconstruct(*_: object) -> _Array:
    return _Array()


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Ndarray,
    ("numpy", "dtype"): _Dtype,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a CIFAR file") from None


def loads(data: bytes) -> Any:
    """Unpickle plain containers, numbers, byte strings and numpy arrays.

    Raises:
        pickle.UnpicklingError: the data ask for anything else. A truncated or garbled pickle can raise
            nearly any exception; callers treat them all as "not readable".
    """
    if sum("TUPLE" in opcode.name for opcode, _, _ in pickletools.genops(data)) > _MAX_TUPLES:
        raise pickle.UnpicklingError("more tuples than a CIFAR file has")
    return _whole(_ArraysOnly(io.BytesIO(data), fix_imports=False, encoding="bytes").load())


def _whole(value: Any) -> Any:
    """Put the numpy arrays in the place of their stand-ins, at the top and one level down."""
    if isinstance(value, dict):
        return {key: item.array if isinstance(item, _Array) else item for key, item in value.items()}
    return value.array if isinstance(value, _Array) else value
