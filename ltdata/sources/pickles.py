"""A restricted unpickler for the published CIFAR files: pickle protocol 2, written by Python 2's numpy.

Nothing but the three names that rebuild a numpy array can be looked up, and nothing that outlives a call can be
changed, so a hostile pickle can neither import nor call nor leave anything behind; what it can ask for in memory and
time is counted beforehand. The digest of a file is checked before it comes here at all.

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
import reprlib
from typing import Any

import numpy as np

_MAX_OPCODES = 1_000_000  # the published files have about 200,000 at most; to look at each takes half a microsecond
# Opcodes of which the published files have five or none: a tuple of a million tuples overruns the C stack when hashed,
# and long integers can be chosen so that a dictionary of them takes minutes.
_MAX_RARE = 64
_RARE = {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET", "INT", "LONG", "LONG1", "LONG4"}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_NUMBERED = {"EXT1", "EXT2", "EXT4"}  # names by number, which the unpickler does not look up again


class _Dtype:
    """Stands for the one dtype of the files, uint8; numpy's own lets a pickle set its flags and crash."""

    def __init__(self, name: object, *_: object) -> None:
        if name not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"dtype {reprlib.repr(name)} is not allowed in a CIFAR file")

    def __setstate__(self, state: object) -> None:
        """Ignore what the pickle says: uint8 has no byte order and no flags."""


class _Array:
    """Stands for an array until its state comes; `loads` returns the numpy array in its place."""

    array: np.ndarray[Any, Any] | None = None

    def __init__(self, *_: object) -> None:
        """Take what numpy's `_reconstruct` does."""

    def __setstate__(self, state: Any) -> None:
        """Take (version, shape, dtype, Fortran order, bytes)."""
        _, shape, dtype, fortran, data = state
        whole = isinstance(shape, tuple) and all(type(side) is int for side in shape)  # 9**9 times a text is a text
        if not whole or not isinstance(dtype, _Dtype) or not isinstance(data, bytes) or len(data) != math.prod(shape):
            raise pickle.UnpicklingError("an array is not of bytes, or not whole")
        self.array = np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


_ALLOWED: dict[tuple[str, str], Any] = {  # none of them takes a state: it would stay for the next pickle
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): object(),  # only ever handed on
    ("numpy", "dtype"): _Dtype,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            asked = f"{module}.{name}"
            raise pickle.UnpicklingError(f"{asked[:80]} is not allowed in a CIFAR file") from None


def loads(data: bytes) -> Any:
    """Unpickle plain containers, numbers, byte strings and numpy arrays.

    Raises:
        pickle.UnpicklingError: the data ask for anything else. A truncated or garbled pickle can raise
            nearly any exception; callers treat them all as "not readable".
    """
    _check_size(data)
    return _whole(_ArraysOnly(io.BytesIO(data), fix_imports=False, encoding="bytes").load())


def _check_size(data: bytes) -> None:
    """Refuse a pickle that would take memory or time without measure; reading its opcodes runs none of them.

    Raises:
        pickle.UnpicklingError: it would.
    """
    rare = 0
    for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        # The memo grows to the largest number that something is put under: five bytes would ask for 64 GB.
        if opcode.name in _NUMBERED or (opcode.name in _PUTS and int(argument or 0) > _MAX_OPCODES):
            raise pickle.UnpicklingError(f"{opcode.name} {argument} is not allowed in a CIFAR file")
        rare += opcode.name in _RARE
        if rare > _MAX_RARE:
            raise pickle.UnpicklingError("more tuples or long integers than a CIFAR file has")
        if number > _MAX_OPCODES:
            raise pickle.UnpicklingError("more opcodes than a CIFAR file has")


def _whole(value: Any) -> Any:
    """Put the numpy arrays in the place of their stand-ins, at the top and one level down."""
    if isinstance(value, dict):
        return {key: item.array if isinstance(item, _Array) else item for key, item in value.items()}
    return value.array if isinstance(value, _Array) else value
