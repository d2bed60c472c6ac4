"""Anyone's predictions: a NumPy file with an answer for every evaluated image. Nothing is ever unpickled.

| file | what it holds |
|---|---|
| ``.npz`` | ``predictions`` (n,), ``logits`` (n, C) or ``probabilities`` (n, C); ``labels`` (n,) where they are known |
| ``.npy`` | predictions (n,), or logits (n, C) |

Without labels the answers stand in the order of the manifest's rows. Arrays of other names are not looked at.
"""

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import MismatchError, SourceMissingError
from ltdata.files import read_open
from ltdata.formats.arrays import npz_members, read_array
from ltdata.manifest import Manifest

_NAMES = {
    "labels": re.compile(r"labels?|targets?|y_true"),
    "predictions": re.compile(r"predictions?|preds?|y_pred"),
    "logits": re.compile(r"logits?"),
    "probabilities": re.compile(r"probabilities|probability|probs?"),
}
_NPY = b"\x93NUMPY"


@dataclass(frozen=True)
class Predictions:
    """Hold what a file says, unchecked but for its shapes' first side; None where it does not.

    Attributes:
        path: of the file.
        labels: (n,).
        predictions: (n,).
        logits: (n, C).
        probabilities: (n, C).
    """

    path: Path
    labels: NDArray[Any] | None = None
    predictions: NDArray[Any] | None = None
    logits: NDArray[Any] | None = None
    probabilities: NDArray[Any] | None = None

    def __len__(self) -> int:
        """Count the images."""
        found = (self.predictions, self.logits, self.probabilities)
        return next(len(values) for values in found if values is not None)


def read_predictions(path: Path) -> Predictions:
    """Read a file of predictions; what it is, its first bytes say, not its name.

    Raises:
        SourceMissingError: it cannot be read.
        MismatchError: it is no such file, or holds other arrays.
    """
    npy = _npy_bytes(path)
    if npy is not None:
        values = read_array(npy, str(path))
        if values.ndim not in (1, 2):
            raise MismatchError(f"{path}: has shape {values.shape}; predictions are (n,), logits (n, classes)")
        return Predictions(path, **{"predictions" if values.ndim == 1 else "logits": values})
    members, found = npz_members(path), dict[str, NDArray[Any]]()
    held = tuple(members)
    for name in held:
        member = members.pop(name)  # one array at a time is here twice, packed and read
        kind = next((kind for kind, pattern in _NAMES.items() if pattern.fullmatch(name.lower())), None)
        if kind in found:
            raise MismatchError(f"{path}: two arrays mean {kind}, the second is {name}; take one out")
        if kind is not None:
            found[kind] = read_array(member, f"{path}: {name}")
    if not set(found) - {"labels"}:
        there = ", ".join(held)[:80] or "nothing"
        raise MismatchError(f"{path}: holds {there}; name the answers predictions, logits or probabilities")
    if {"logits", "probabilities"} <= set(found):
        raise MismatchError(f"{path}: holds logits and probabilities; take one out")
    for kind, values in found.items():
        if values.ndim != (1 if kind in ("labels", "predictions") else 2) or values.dtype.kind not in "iuf":
            needed = "integers (n,)" if kind in ("labels", "predictions") else "floating-point numbers (n, classes)"
            raise MismatchError(f"{path}: {kind} are {values.dtype} of shape {values.shape}; {needed} are needed")
    lengths = {kind: len(values) for kind, values in found.items()}
    if len(set(lengths.values())) > 1:
        raise MismatchError(f"{path}: sizes do not match: {', '.join(f'{n:,} {kind}' for kind, n in lengths.items())}")
    return Predictions(path, **found)


def _npy_bytes(path: Path) -> bytes | None:
    """Return the bytes of an .npy file, None for a zip: 200 MB of logits are read once, where they are unpacked.

    Raises:
        SourceMissingError: it cannot be read.
        MismatchError: it is neither.
    """
    try:
        with path.open("rb") as file:
            if file.peek(len(_NPY)).startswith(_NPY):
                return read_open(file)
            if path.is_file() and zipfile.is_zipfile(file):
                return None
    except OSError as error:
        raise SourceMissingError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error
    raise MismatchError(
        f"{path}: neither .npz nor .npy; numpy.savez(file, logits=..., labels=...) writes what is read here"
    )


def match_labels(found: Predictions, manifest: Manifest, split: str | None, *, any_order: bool = False) -> NDArray[Any]:
    """Return the labels that a file's answers are compared with, checked against the manifest's split.

    Args:
        found: see `read_predictions`.
        manifest: with its rows where they are at hand; without them the file's labels are counted by class.
        split: of the manifest; None where it has none to compare with, and the file's labels are taken as they are.
        any_order: the file's labels may stand in another order than the rows, if every class has as many.

    Raises:
        MismatchError: the file's labels are not the split's, it has another number of images, or nobody has labels.
        SourceMissingError: the file has no labels, and the manifest's rows are not here.
    """
    if split is None:
        if found.labels is None:
            raise MismatchError(f"{found.path}: has no labels, and {manifest.name} has no split to take them from")
        return found.labels
    described = manifest.splits[split]
    if len(found) != described.num_samples:
        raise MismatchError(
            f"{found.path}: {len(found):,} images, {manifest.name} has {described.num_samples:,} in {split}; evaluate "
            "all of one split"
        )
    rows = manifest.samples[split].labels if manifest.samples is not None else None
    if found.labels is None:
        if rows is None:
            raise SourceMissingError(
                f"{found.path}: has no labels, and of {manifest.name} only the header is here; save labels too, or "
                "name a folder with rows"
            )
        return rows
    if rows is not None and not any_order:
        other = found.labels != rows
        if other.any():
            row = int(np.argmax(other))
            raise MismatchError(
                f"{found.path}: labels[{row}] is {found.labels[row]}, row {row} of {manifest.name}'s {split} has "
                f"{rows[row]}, {int(other.sum()):,} differ in all; leave the order of the rows, or say --any-order if "
                "these are the same images"
            )
        return found.labels
    kinds, counts = np.unique(found.labels, return_counts=True)
    there = dict(zip(kinds.tolist(), counts.tolist(), strict=True))
    for label, images in enumerate(described.class_counts):
        if there.get(label, 0) != images:
            raise MismatchError(
                f"{found.path}: {there.get(label, 0):,} images of label {label}, {manifest.name} has {images:,} in "
                f"{split}; these are the labels of another split"
            )
    return found.labels
