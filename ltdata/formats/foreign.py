"""What a file of someone's says about a split, before it is known to which source it belongs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import MismatchError
from ltdata.lists import SPLIT_NAMES, Listed, is_number
from ltdata.samples import Samples

SPLIT_ORDER = ("train", "val", "test")
_SPLIT_WORD = re.compile(rf"(?:^|[_.-])({'|'.join(SPLIT_NAMES)})$")


@dataclass(frozen=True)
class ForeignSplit:
    """Hold the rows of one split as a file has them.

    Attributes:
        paths: of the images; None where it has positions.
        positions: in the source's split, int64 (n,); None where it has paths.
        labels: int64 (n,), or None where the file has none.
        sha256: of each stored image's bytes, of a build; None elsewhere.
    """

    paths: tuple[str, ...] | None = None
    positions: NDArray[np.int64] | None = None
    labels: NDArray[np.int64] | None = None
    sha256: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if (self.paths is None) == (self.positions is None):
            raise ValueError("rows have paths or positions: give one of the two")

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.paths) if self.paths is not None else len(self.positions)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Foreign:
    """Hold a file's rows by split, and what else it says of itself.

    Attributes:
        format: such as ``csv``.
        splits: by name, in the order train, val, test.
        about: what the file says of itself, under the manifest's own names: name, source, class_names, protocol, ...
    """

    format: str
    splits: Mapping[str, ForeignSplit]
    about: Mapping[str, Any] = field(default_factory=dict)


def from_samples(samples: Samples) -> ForeignSplit:
    """See the rows of a manifest as those of any file."""
    return ForeignSplit(
        paths=samples.source_path, positions=samples.source_index, labels=samples.labels, sha256=samples.sha256
    )


def split_of_file(stem: str) -> str | None:
    """Return the split that a file's name, without its suffix, ends in; None if it names none.

    >>> split_of_file("ImageNet_LT_val"), split_of_file("test"), split_of_file("latest")
    ('val', 'test', None)
    """
    found = _SPLIT_WORD.search(stem.lower())
    return SPLIT_NAMES[found[1]] if found else None


def split_named(word: str, origin: str) -> str:
    """Return the split that a word of a file means.

    Raises:
        MismatchError: it means none.
    """
    if word.lower() not in SPLIT_NAMES:
        raise MismatchError(f"{origin}: split {word!r} is none of train, val, test; mend the file")
    return SPLIT_NAMES[word.lower()]


def in_order(splits: Mapping[str, ForeignSplit]) -> dict[str, ForeignSplit]:
    """Put splits into the order train, val, test."""
    return {name: splits[name] for name in SPLIT_ORDER if name in splits}


def whole_numbers(values: NDArray[Any], origin: str, what: str) -> NDArray[np.int64]:
    """Check that an array holds positions or labels, 0 or more, and return it as int64 (n,).

    Args:
        values: of any type and shape.
        origin: names the file in errors.
        what: ``index`` or ``label``.

    Raises:
        MismatchError: it does not; names the first row at fault, counted from 1.
    """
    if values.dtype == bool:
        raise MismatchError(f"{origin}: holds a mask of true and false; save the positions, np.flatnonzero(mask)")
    if values.ndim != 1:
        raise MismatchError(f"{origin}: has shape {values.shape}; save a list of whole numbers, one {what} per image")
    if not np.issubdtype(values.dtype, np.integer):
        bad = f": row 1 is {values[0]!s:.40}" if len(values) else ""
        raise MismatchError(f"{origin}: holds {values.dtype}, not whole numbers{bad}; save each {what} as int64")
    fault = (values < 0) | (values > np.iinfo(np.int64).max)
    if fault.any():
        row = int(np.argmax(fault))
        raise MismatchError(f"{origin}: row {row + 1}: {what} {values[row]} is no {what}; mend the file")
    return values.astype(np.int64)


def integers(values: Sequence[object], origin: str, what: str) -> NDArray[np.int64]:
    """Check that Python objects are positions or labels, and return them as int64 (n,).

    Raises:
        MismatchError: one is not a whole number of 0 or more; names the first row at fault, counted from 1.
    """
    for row, value in enumerate(values, start=1):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < 2**63:
            raise MismatchError(f"{origin}: row {row}: {what} {value!r:.40} is not a whole number of 0 or more")
    return np.array(values, dtype=np.int64)


def labels_of(targets: Sequence[object], origin: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Turn labels, or names of classes, into labels; `origin` names the file in errors.

    Returns:
        The labels, int64 (n,), and the names of the classes where the file has some.

    Raises:
        MismatchError: a label is not a whole number; names the row, counted from 1.
    """
    texts = tuple([target for target in targets if isinstance(target, str)])
    if texts and len(texts) == len(targets):
        return labels_of_list(Listed((), texts, range(1, len(texts) + 1), origin, mark=": row "))
    return integers(targets, origin, "label"), ()


def labels_of_list(listed: Listed) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Turn the labels of a list, or its names of classes, into labels, as `labels_of` does.

    Names are numbered in sorted order, as torchvision does.
    """
    if all(target and not is_number(target) for target in listed.targets):
        names = tuple(sorted(set(listed.targets)))
        number = {name: label for label, name in enumerate(names)}
        return np.array([number[target] for target in listed.targets], dtype=np.int64), names
    return listed.labels(), ()


def divide(
    splits: Sequence[str] | None,
    places: Sequence[str] | NDArray[np.int64],
    labels: NDArray[np.int64] | None,
    *,
    origin: str,
    default: str,
) -> dict[str, ForeignSplit]:
    """Divide the rows of one table among its splits.

    Args:
        splits: split of every row; None: all rows are `default`.
        places: paths, or positions.
        labels: int64 (n,), or None.
        origin: names the file in errors.
        default: the split of rows that name none.

    Raises:
        MismatchError: a word means no split.
    """
    if splits is None:
        parts = {default: np.arange(len(places))}
    else:
        named = {word: split_named(word, origin) if word else default for word in dict.fromkeys(splits)}
        column = np.array([named[word] for word in splits])
        parts = {name: np.flatnonzero(column == name) for name in dict.fromkeys(named.values())}
    found = {}
    for name, rows in parts.items():
        taken = labels[rows] if labels is not None else None
        if isinstance(places, np.ndarray):
            found[name] = ForeignSplit(positions=places[rows], labels=taken)
        else:
            found[name] = ForeignSplit(paths=tuple([places[row] for row in rows.tolist()]), labels=taken)
    return in_order(found)
