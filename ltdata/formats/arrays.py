"""NumPy files: positions as .npy, whole splits as .npz. Nothing is ever unpickled."""

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import MismatchError
from ltdata.formats.about import about_from_json
from ltdata.formats.foreign import Foreign, ForeignSplit, in_order, read_bytes, whole_numbers
from ltdata.sources.folder import SPLIT_NAMES

ABOUT = "about"  # of an .npz file: the header's fields, as JSON text
_MAX_BYTES = 1 << 31  # unpacked; the paths of iNaturalist 2018 as a unicode array have 0.2 GB
_SPLIT = "|".join(SPLIT_NAMES)
_PLACES = re.compile(rf"({_SPLIT})|(?:({_SPLIT})_)?(?:index|indices|indexes|idx|positions?|paths?|arr_0)")
_LABELS = re.compile(rf"(?:({_SPLIT})_)?(?:labels?|targets?)")


def read_npy(path: Path, *, split: str) -> Foreign:
    """Read positions from an .npy file.

    Raises:
        SourceMissingError: it cannot be read.
        MismatchError: it holds anything but whole numbers of 0 or more.
    """
    with_header = read_bytes(path)
    try:
        with warnings.catch_warnings(action="error"):
            values = np.array(np.load(path, mmap_mode="r", allow_pickle=False)) if with_header else np.zeros(0)
    except Exception as error:  # noqa: BLE001 - of a garbled file numpy raises nearly anything
        raise _unreadable(path, error) from error
    return Foreign("npy", {split: ForeignSplit(positions=whole_numbers(values, str(path), "index"))})


def read_npz(path: Path, *, split: str) -> Foreign:
    """Read splits from an .npz file: ``train_index`` or ``train_path``, and ``train_label``; so for val and test.

    Arrays without a split in their name (``index``, ``labels``) are those of `split`; what has another name is not
    looked at.

    Raises:
        SourceMissingError: it cannot be read.
        MismatchError: it holds no such arrays, or wrong ones.
    """
    arrays = _arrays(path)
    places = _columns(arrays, _PLACES, split, path)
    labels = _columns(arrays, _LABELS, split, path)
    if not places:
        held = ", ".join(arrays)[:80] or "nothing"
        raise MismatchError(f"{path}: holds {held}; name the positions train_index, the labels train_label")
    splits = {}
    for name, key in places.items():
        array, of_labels = arrays[key], None
        if name in labels:
            of_labels = whole_numbers(arrays[labels[name]], f"{path}: {labels[name]}", "label")
            if len(of_labels) != len(array):
                raise MismatchError(f"{path}: {len(array)} rows in {key}, {len(of_labels)} in {labels[name]}")
        if array.dtype.kind == "U" and array.ndim == 1:
            splits[name] = ForeignSplit(paths=tuple(array.tolist()), labels=of_labels)
        else:
            positions = whole_numbers(array, f"{path}: {key}", "index")
            splits[name] = ForeignSplit(positions=positions, labels=of_labels)
    about = about_from_json(str(arrays[ABOUT]), str(path)) if ABOUT in arrays else {}
    return Foreign("npz", in_order(splits), about)


def _columns(arrays: dict[str, NDArray[Any]], pattern: re.Pattern[str], default: str, path: Path) -> dict[str, str]:
    """Return, by split, the name of the array that a pattern finds."""
    found: dict[str, str] = {}
    for key in arrays:
        match = pattern.fullmatch(key.lower())
        if match is None:
            continue
        word = next((group for group in match.groups() if group), default)
        name = SPLIT_NAMES[word]
        if name in found:
            raise MismatchError(f"{path}: {found[name]} and {key} both mean {name}; take one out")
        found[name] = key
    return found


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of an .npz file, unless they would unpack to an absurd size."""
    read_bytes(path)
    try:
        with warnings.catch_warnings(action="error"), zipfile.ZipFile(path) as packed:
            total = sum(member.file_size for member in packed.infolist())
            if total > _MAX_BYTES:
                raise ValueError(f"unpacks to {total} bytes, {_MAX_BYTES} at most are read")  # noqa: TRY301
            with np.load(path, allow_pickle=False) as arrays:
                return {name: np.asarray(arrays[name]) for name in arrays.files}
    except Exception as error:  # noqa: BLE001 - as above
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> MismatchError:
    return MismatchError(f"{path}: not a readable file of arrays ({error or type(error).__name__}); save it again")
