"""Shards of other tools: tar files of WebDataset, in which nothing is extracted and nothing is run.

    train-000000.tar, imagenet-val-000003.tar       the split is in the file's name
    train/00000.tar, val/00000.tar                  or in its folder's; else it is train

Each archive is read once, front to back (`ltdata.sources.tar_samples`); from then on an image is known by its place
in it, and its bytes are compared with their digest when they are stored.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import MismatchError, SourceMissingError, UsageError
from ltdata.images import Stored
from ltdata.lists import SPLIT_NAMES, path_fault, printable
from ltdata.sources.source import Source, SourceSplit
from ltdata.sources.tar_samples import LABEL_KEYS, SHOWN, TarSamples, key_of

CLASSES_NAME = "classnames.txt"  # where clip-benchmark's data sets have the names of their classes
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_MOST_CLASSES = 1_000_000  # a larger label is a slip
_KINDS_SHOWN = 20


@dataclass(frozen=True)
class Tar:
    """Name an archive: its path in the folder, where it lies, and its split."""

    path: str
    place: Path
    split: str


@dataclass(frozen=True)
class Placed:
    """Name images by their place in archives that were read before."""

    stored: Stored

    def __len__(self) -> int:
        """Count them."""
        return len(self.stored)

    def take(self, positions: NDArray[np.int64]) -> "Placed":
        """Return those at some positions, in that order."""
        return Placed(self.stored.take(positions))

    def encoded(self) -> Iterator[tuple[bytes, str]]:
        """Yield each image's bytes.

        Raises:
            MismatchError: an archive is not what it was.
        """
        try:
            yield from self.stored.encoded()
        except MismatchError as error:
            raise MismatchError(f"a shard has changed since it was read; run again ({error})") from error


def are_tars(path: Path) -> bool:
    """Tell whether a path names a tar file, or a folder that holds some, also in folders named after splits."""
    if not os.path.isdir(path):  # noqa: PTH112 - takes names that no file can have
        return _is_tar(path)
    return any(_is_tar(entry) for folder in (path, *_split_folders(path)) for entry in _entries(folder))


def find(path: Path) -> list[Tar]:
    """Find the archives that a path names: train first, by name.

    Raises:
        SourceMissingError: one is not there, or none is for training.
        UsageError: a name means two splits, or it is not clear which archives are meant.
        MismatchError: one is compressed.
    """
    if not os.path.isdir(path):  # noqa: PTH112 - as above
        found = [_tar(path, path.name, None)]
    else:
        inside = _split_folders(path)
        flat = [entry for entry in _entries(path) if _is_tar(entry)]
        nested = [(folder, entry) for folder in inside for entry in _entries(folder) if _is_tar(entry)]
        if flat and nested:
            raise UsageError(f"{path}: holds shards, and so does {nested[0][0].name} in it; name one, or move one away")
        for folder in _folders(path):
            if folder not in inside and any(_is_tar(entry) for entry in _entries(folder)):
                raise UsageError(f"{folder}: holds shards and is named after no split; name it itself, or move it away")
        found = [_tar(entry, entry.name, path.resolve()) for entry in flat]
        found += [_tar(entry, f"{folder.name}/{entry.name}", folder) for folder, entry in nested]
    splits = sorted({tar.split for tar in found})
    if "train" not in splits:
        raise SourceMissingError(f"{path}: holds shards of {', '.join(splits)}, and none of train; put them beside it")
    order = list(dict.fromkeys(SPLIT_NAMES.values()))
    return sorted(found, key=lambda tar: (order.index(tar.split), tar.path))


def _is_tar(path: Path) -> bool:
    name = path.name.lower()
    return name.endswith((".tar", *_COMPRESSED)) and not name.startswith(".") and not os.path.isdir(path)  # noqa: PTH112


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise SourceMissingError(f"{folder}: cannot be read ({error.strerror or error}); mend it") from error


def _folders(path: Path) -> list[Path]:
    return [entry for entry in _entries(path) if entry.is_dir() and not entry.name.startswith(".")]


def _split_folders(path: Path) -> list[Path]:
    return [entry for entry in _folders(path) if entry.name.lower() in SPLIT_NAMES]


def _tar(place: Path, path: str, folder: Path | None) -> Tar:
    """Make a `Tar` of a file: its split is in its own name, else in its folder's, else it is train."""
    if place.name.lower().endswith(_COMPRESSED):
        raise MismatchError(f"{place}: is compressed; unpack it to a plain .tar first, as with gunzip")
    if not os.path.isfile(place):  # noqa: PTH113 - as above
        raise SourceMissingError(f"{place}: no such file, or no regular one; name a .tar file, or a folder of them")
    fault = path_fault(path)
    if fault:
        raise MismatchError(f"{str(place.parent)!r}: the name {path!r} {fault}; rename the shard")
    own = {SPLIT_NAMES[word] for word in re.split(r"[-_. ]+", place.stem.lower()) if word in SPLIT_NAMES}
    its_folder = SPLIT_NAMES.get(folder.name.lower()) if folder is not None else None
    if "/" in path and its_folder is not None:
        own.add(its_folder)
    if len(own) > 1:
        raise UsageError(f"{place}: its name means {' and '.join(sorted(own))}; rename it")
    return Tar(path, place.absolute(), next(iter(own), its_folder or "train"))


def source_of(
    path: Path,
    tars: Sequence[Tar],
    found: Sequence[TarSamples],
    *,
    label_key: str | None = None,
    class_names: Sequence[str] = (),
) -> Source:
    """Make a source of archives that were read: labels, and where each image lies.

    Args:
        path: named them.
        tars: see `find`.
        found: in each, see `ltdata.sources.tar_samples.read`.
        label_key: of the label in ``json``, that they were read with.
        class_names: label 0 first; empty: the numbers, or the sorted names that the archives have.

    Raises:
        MismatchError: an archive or a sample is there twice, samples lack an image or a label, or a split has none.
    """
    _refuse_incomplete(path, tars, found, label_key)
    _refuse_twice(tars, found)
    names, labels = _labels(path, tars, found, class_names)
    splits: dict[str, SourceSplit] = {}
    for split in dict.fromkeys(tar.split for tar in tars):
        numbers = [number for number, tar in enumerate(tars) if tar.split == split]
        parts = [(tars[number], found[number]) for number in numbers]
        if not any(each.names for _, each in parts):
            raise MismatchError(f"{path}: the shards of {split} hold no image; take them out")
        splits[split] = SourceSplit(
            labels=np.concatenate([labels[number] for number in numbers]),
            images=Placed(
                Stored(
                    shards=[tar.place for tar, each in parts for _ in each.names],
                    offsets=[offset for _, each in parts for offset in each.offsets],
                    sizes=[size for _, each in parts for size in each.sizes],
                    sha256=[digest for _, each in parts for digest in each.image_sha256],
                )
            ),
            paths=tuple([f"{tar.path}/{name}" for tar, each in parts for name in each.names]),
        )
    return Source("shards", names, splits, _provenance(path, tars, found), citation=())


def _refuse_incomplete(path: Path, tars: Sequence[Tar], found: Sequence[TarSamples], label_key: str | None) -> None:
    """Refuse images without a label and labels without an image: counted, and the first one named."""
    label = f"{label_key} in json" if label_key is not None else f"cls, or {', '.join(LABEL_KEYS)} in json"
    for what, lists in (
        (f"an image and no label ({label}); name its key with --label-key", [each.unlabelled for each in found]),
        ("a label and no image (jpg, jpeg, png); put it in", [each.imageless for each in found]),
    ):
        count = sum(map(len, lists))
        if count:
            tar, first = next((tar, keys[0]) for tar, keys in zip(tars, lists, strict=True) if keys)
            samples = f"{count:,} samples have" if count > 1 else "1 sample has"
            raise MismatchError(f"{path}: {samples} {what}, or take the samples out; first {first!r} in {tar.path}")


def _refuse_twice(tars: Sequence[Tar], found: Sequence[TarSamples]) -> None:
    """Refuse an archive that is there twice, and an image that is there twice under one key."""
    first: dict[str, Tar] = {}
    for tar, each in zip(tars, found, strict=True):
        other = first.setdefault(each.sha256, tar)
        if other is not tar:
            raise MismatchError(f"{tar.place}: is the same as {other.place}; take one out")
    # First an array of hashes: a set of a million keys and digests takes twenty times as much.
    hashes = np.array(
        [hash(mark) for each in found for mark in zip(map(key_of, each.names), each.image_sha256, strict=True)],
        dtype=np.int64,
    )
    values, counts = np.unique(hashes, return_counts=True)
    again = set(values[counts > 1].tolist())
    held: dict[object, Tar] = {}
    for tar, each in zip(tars, found, strict=True) if again else ():
        for name, sha256 in zip(each.names, each.image_sha256, strict=True):
            mark = key_of(name), sha256
            if hash(mark) in again and held.setdefault(mark, tar) is not tar:
                raise MismatchError(
                    f"{tar.place}: {name!r}, the same image, is in {held[mark].place} too; take one out"
                )


def _labels(
    path: Path, tars: Sequence[Tar], found: Sequence[TarSamples], class_names: Sequence[str]
) -> tuple[tuple[str, ...], list[NDArray[np.int64]]]:
    """Name the classes, and number the targets of every archive."""
    kinds: dict[type, str] = {}
    for tar, each in zip(tars, found, strict=True):
        for name, target in zip(each.names, each.targets, strict=True):
            kinds.setdefault(type(target), f"{name!r} in {tar.path} has {target!r}")
    if len(kinds) > 1:
        raise MismatchError(
            f"{path}: labels are numbers and names: {', '.join(kinds.values())}; number all, or name all"
        )
    if str in kinds:
        names = tuple(class_names) or tuple(sorted({str(target) for each in found for target in each.targets}))
        number: Mapping[int | str, int] = {name: label for label, name in enumerate(names)}
        if len(number) < len(names):
            raise MismatchError(f"{path}: two classes have one name, and labels are names; number the labels")
    else:
        largest = max([int(target) for each in found for target in each.targets], default=0)
        names = tuple(class_names) or tuple(map(str, range(min(largest + 1, _MOST_CLASSES))))
        number = {label: label for label in range(len(names))}
    for tar, each in zip(tars, found, strict=True):
        for name, target in zip(each.names, each.targets, strict=True):
            if target not in number:
                raise MismatchError(
                    f"{path}: {name!r} in {tar.path} has label {target!r}, which is none of {len(names):,} classes "
                    f"({', '.join(names[:3])[:60]}, ...); mend it, or name all classes with --classes"
                )
    return names, [np.array([number[target] for target in each.targets], dtype=np.int64) for each in found]


def _provenance(path: Path, tars: Sequence[Tar], found: Sequence[TarSamples]) -> dict[str, Any]:
    left_out: Counter[str] = Counter()
    for each in found:
        left_out.update(each.left_out)
    first = [f"{tar.path}/{name}" for tar, each in zip(tars, found, strict=True) for name in each.first_left_out]
    kinds = {
        printable(suffix) if suffix else "no suffix": count for suffix, count in left_out.most_common(_KINDS_SHOWN)
    }
    return {
        "id": "shards",
        "version": printable(path.resolve().name),
        "terms": "your own",
        "form": "webdataset",
        "shards": [
            {"file": tar.path, "split": tar.split, "samples": len(each.names), "bytes": each.bytes}
            for tar, each in zip(tars, found, strict=True)
        ],
        "checksums": {tar.path: f"sha256:{each.sha256}" for tar, each in zip(tars, found, strict=True)},
        **({"left_out": {"files": left_out.total(), "kinds": kinds, "first": first[:SHOWN]}} if left_out else {}),
    }
