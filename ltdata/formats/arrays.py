"""NumPy files: positions as .npy, whole splits as .npz. Nothing is ever unpickled."""

import io
import re
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import MismatchError
from ltdata.files import read_bytes
from ltdata.formats.about import about_from_json, about_json
from ltdata.formats.foreign import Foreign, ForeignSplit, in_order, whole_numbers
from ltdata.lists import SPLIT_NAMES
from ltdata.manifest import Manifest
from ltdata.samples import Samples

_ABOUT = "about"  # of an .npz file: the header's fields, as JSON text
_MAX_BYTES = 1 << 31  # unpacked; the paths of iNaturalist 2018 as a unicode array have 0.2 GB
_SPLIT = "|".join(SPLIT_NAMES)
_PLACES = re.compile(rf"({_SPLIT})|(?:({_SPLIT})_)?(?:index|indices|indexes|idx|positions?|paths?|arr_0)")
_LABELS = re.compile(rf"(?:({_SPLIT})_)?(?:labels?|targets?)")


def npy_bytes(values: NDArray[np.int64]) -> bytes:
    """Write numbers as an .npy file, int64 little-endian (n,)."""
    buffer = io.BytesIO()
    np.save(buffer, values.astype("<i8"), allow_pickle=False)
    return buffer.getvalue()


def npz_bytes(manifest: Manifest, rows: Mapping[str, Samples]) -> bytes:
    """Write splits as an .npz file: ``train_index`` or ``train_path``, ``train_label``, ...; and ``about``."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, samples in rows.items():
        if samples.source_path is not None:
            arrays[f"{name}_path"] = np.array(samples.source_path, dtype=np.str_)
        else:
            arrays[f"{name}_index"] = samples.positions.astype("<i8")
        arrays[f"{name}_label"] = samples.labels.astype("<i8")
    arrays[_ABOUT] = np.array(about_json(manifest, rows))
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def read_npy(path: Path, *, split: str) -> Foreign:
    """Read positions from an .npy file.

    Raises:
        SourceMissingError: it cannot be read.
        MismatchError: it holds anything but whole numbers of 0 or more.
    """
    values = read_array(read_bytes(path), str(path))
    return Foreign("npy", {split: ForeignSplit(positions=whole_numbers(values, str(path), "index"))})


def read_npz(path: Path, *, split: str) -> Foreign:
    """Read splits from an .npz file: ``train_index`` or ``train_path``, and ``train_label``; so for val and test.

    Arrays without a split in their name (``index``, ``labels``) are those of `split`; what has another name is not
    looked at.

    Raises:
        SourceMissingError: it cannot be read.
        MismatchError: it holds no such arrays, or wrong ones.
    """
    members = npz_members(path)
    arrays = {name: read_array(data, f"{path}: {name}") for name, data in members.items()}
    places = _columns(arrays, _PLACES, split, path)
    labels = _columns(arrays, _LABELS, split, path)
    if not places:
        held = ", ".join(arrays)[:80] or "nothing"
        raise MismatchError(f"{path}: holds {held}; name the positions train_index, the labels train_label")
    stray = next((labels[name] for name in labels if name not in places), None)
    if stray is not None:
        raise MismatchError(f"{path}: {stray} belongs to no positions; add them, or take it out")
    splits = {}
    for name, key in places.items():
        array, of_labels = arrays[key], None
        if name in labels:
            of_labels = whole_numbers(arrays[labels[name]], f"{path}: {labels[name]}", "label")
            if array.ndim != 1 or len(of_labels) != len(array):
                raise MismatchError(f"{path}: {key} has shape {array.shape}, {labels[name]} {of_labels.shape}")
        if array.dtype.kind == "U" and array.ndim == 1:
            splits[name] = ForeignSplit(paths=tuple(array.tolist()), labels=of_labels)
        else:
            positions = whole_numbers(array, f"{path}: {key}", "index")
            splits[name] = ForeignSplit(positions=positions, labels=of_labels)
    about = about_from_json(str(arrays[_ABOUT]), str(path)) if _ABOUT in arrays else {}
    return Foreign("npz", in_order(splits), about)


def _columns(arrays: Mapping[str, NDArray[Any]], pattern: re.Pattern[str], default: str, path: Path) -> dict[str, str]:
    """Return, by split, the name of the array that a pattern finds."""
    found: dict[str, str] = {}
    for key in arrays:
        match = pattern.fullmatch(key.lower())
        if match is None:
            continue
        name = SPLIT_NAMES[next((group for group in match.groups() if group), default)]
        if name in found:
            raise MismatchError(f"{path}: {found[name]} and {key} both mean {name}; take one out")
        found[name] = key
    return found


def read_array(data: bytes, origin: str) -> NDArray[Any]:
    """Read one .npy file; never more memory is touched than it has bytes, whatever its header says."""
    try:
        with warnings.catch_warnings(action="error"):
            values = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
        if values.dtype.names is not None:
            raise ValueError(f"records of {', '.join(values.dtype.names)}, not numbers or texts")
        # Of other numbers numpy makes texts that are none: they cannot be printed, or give bytes that are no UTF-8.
        if values.dtype.kind == "U" and values.size and _code_points(values).max() > sys.maxunicode:
            raise ValueError("a text holds what is no character")
        return values
    except Exception as error:  # of a garbled file numpy raises nearly anything
        raise _unreadable(origin, error) from error


def _code_points(texts: NDArray[np.str_]) -> NDArray[np.uint32]:
    """Return the numbers of all characters, (n,)."""
    order = texts.dtype.byteorder
    return np.frombuffer(texts.tobytes(), np.dtype(np.uint32).newbyteorder(order))


def npz_members(path: Path) -> dict[str, bytes]:
    """Unpack the .npy files of an .npz file, unless they would have an absurd size."""
    data = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            total = sum(member.file_size for member in packed.infolist())
            if total > _MAX_BYTES:
                raise MismatchError(f"{path}: unpacks to {total:,} bytes, {_MAX_BYTES:,} at most are read")
            names = [name for name in packed.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): packed.read(name) for name in names}
    except MismatchError:
        raise
    except Exception as error:  # as above
        raise _unreadable(str(path), error) from error


def _unreadable(origin: str, error: Exception) -> MismatchError:
    return MismatchError(f"{origin}: not a readable file of arrays ({error or type(error).__name__}); save it again")
