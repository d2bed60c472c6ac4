"""NumPy files: positions as .npy, whole splits as .npz. Nothing is ever unpickled."""

import json
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import MismatchError
from ltdata.formats.foreign import Foreign, ForeignSplit, in_order, integers, labels_of, read_bytes, whole_numbers
from ltdata.sources.folder import SPLIT_NAMES

ABOUT = "about"  # of an .npz file: the header's fields as JSON text
_MAX_BYTES = 1 << 31  # unpacked; iNaturalist 2018 as unicode arrays has 0.3 GB
_PLACES = "path|paths|index|indices|idx|indexes|positions"
_LABELS = "label|labels|target|targets"
_NAME = re.compile(rf"(?:({'|'.join(SPLIT_NAMES)})(?:_|$))?(?:({_PLACES}|arr_0|dataset)|({_LABELS}|arr_1))?")


def read_npy(path: Path, *, split: str) -> Foreign:
    """Read positions from an .npy file.

    Raises:
        MismatchError: it holds anything else.
    """
    read_bytes(path) if not path.is_file() else None
    try:
        with warnings.catch_warnings(action="error"):
            array = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: a header's lie about its size is told
            values = np.array(array)
    except Exception as error:  # noqa: BLE001 - of a garbled file numpy raises nearly anything
        raise _unreadable(path, error) from error
    return Foreign("npy", {split: ForeignSplit(positions=whole_numbers(values, str(path), "index"))})


def read_npz(path: Path, *, split: str) -> Foreign:
    """Read splits from an .npz file: ``train_index`` or ``train_path``, and ``train_label``; so for val and test.

    Arrays without a split in their name (``index``, ``labels``) are those of `split`; what has another name is not
    looked at.

    Raises:
        MismatchError: it holds no such arrays, or wrong ones.
    """
    arrays = _arrays(path)
    places: dict[str, tuple[str, NDArray[Any]]] = {}
    labels: dict[str, tuple[str, NDArray[Any]]] = {}
    for key, array in arrays.items():
        found = _NAME.fullmatch(key.lower())
        if not found or not key:
            continue
        name = SPLIT_NAMES[found[1]] if found[1] else split
        column = labels if found[3] else places
        if name in column:
            raise MismatchError(f"{path}: {column[name][0]} and {key} both mean {name}; take one out")
        column[name] = key, array
    if not places:
        raise MismatchError(
            f"{path}: holds {', '.join(arrays)[:80] or 'nothing'}; name the positions train or train_index, the labels "
            "train_label"
        )
    splits = {}
    names: tuple[str, ...] = ()
    for name, (key, array) in places.items():
        label_array: NDArray[np.int64] | None = None
        if name in labels:
            origin = f"{path}: {labels[name][0]}"
            targets = labels[name][1]
            label_array = whole_numbers(targets, origin, "label")
            if len(label_array) != len(array):
                raise MismatchError(f"{path}: {len(array)} rows in {key}, {len(label_array)} in {labels[name][0]}")
        if array.dtype.kind == "U" and array.ndim == 1:
            splits[name] = ForeignSplit(paths=tuple(array.tolist()), labels=label_array)
        else:
            splits[name] = ForeignSplit(positions=whole_numbers(array, f"{path}: {key}", "index"), labels=label_array)
    return Foreign("npz", in_order(splits), _about(arrays, path))
