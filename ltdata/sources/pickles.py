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
import pickle
from typing import Any

import numpy as np
from numpy._core.multiarray import _reconstruct

_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
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
    return _ArraysOnly(io.BytesIO(data), fix_imports=False, encoding="bytes").load()
