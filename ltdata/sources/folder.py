"""Any folder of images: a class per subfolder, or a list.

    D/cat/1.jpg, D/dog/2.jpg                    all training images
    D/train/cat/1.jpg, D/val/dog/2.jpg          with val and test (or valid, validation) of their own
    a list: text (`path class`), CSV or TSV     paths from D, classes as names or numbers, perhaps a split column

Classes are sorted by name, as torchvision's ImageFolder sorts them; images by path. Hidden files and folders, files
that are no images by their name, and files that lie in no class are left out, counted, and named in the manifest.
What is no image inside is refused when it is stored.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ltdata.errors import MismatchError, SourceMissingError, UsageError
from ltdata.files import read_bytes, sha256_bytes
from ltdata.images import Files
from ltdata.lists import SPLIT_NAMES, Listed, is_number, path_fault, printable, read_csv, read_text_list, text_fault
from ltdata.sources.disk import locate, refuse_missing
from ltdata.sources.source import Source, SourceSplit, Where

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
)
LIST_SUFFIXES = frozenset({".txt", ".csv", ".tsv"})
_SHOWN = 5

Rows = list[tuple[str, str]]  # path, class


def load_folder(where: Where) -> Source:
    """Read the images and classes of a folder; see `load_source`."""
    folder = where.data_dir
    if folder is None:
        raise UsageError("folder: name the folder of the images with --data-dir")
    if where.unverified:
        raise UsageError("folder: nothing about it is published that could be verified; leave out --unverified")
    if not folder.is_dir():
        raise SourceMissingError(f"{folder}: no such folder; name the folder of the images with --data-dir")
    found: dict[str, Rows]
    record: dict[str, Any]
    skipped: list[str] = []
    if where.lists is not None:
        found, record = _from_list(where.lists, folder)
        names = [name for rows in found.values() for _, name in rows]
        numbered = all(name.isascii() and name.isdigit() and len(name) <= 9 for name in names)
        if numbered:
            found = {split: [(path, str(int(name))) for path, name in rows] for split, rows in found.items()}
    else:
        found, skipped = _from_folders(folder)
        record, numbered = {"form": "a folder per class"}, False
    class_names = _class_names(found, folder, numbered=numbered)
    label_of = {name: label for label, name in enumerate(class_names)}
    paths = {split: tuple([path for path, _ in rows]) for split, rows in found.items()}
    if where.need_images and where.lists is not None and not where.skip_bad:
        refuse_missing(folder, [locate(folder, listed, (str,)) for listed in paths.values()])
    if skipped:
        record["left_out"] = {"files": len(skipped), "first": [printable(path) for path in skipped[:_SHOWN]]}
    return Source(
        id="folder",
        class_names=class_names,
        splits={
            split: SourceSplit(
                labels=np.array([label_of[name] for _, name in rows], dtype=np.int64),
                images=Files(folder, paths[split]) if where.need_images else None,
                paths=paths[split],
            )
            for split, rows in found.items()
        },
        provenance={"id": "folder", "version": printable(folder.resolve().name), "terms": "your own", **record},
        citation=(),
    )


def _from_folders(root: Path) -> tuple[dict[str, Rows], list[str]]:
    """Find the images of every split below a folder, and what is left out."""
    found: dict[str, Rows] = {}
    skipped: list[str] = []
    read: dict[str, str] = {}
    split_of = _split_folders(root)
    if "" not in split_of:
        skipped += _outside_classes(root, "")
    for name, split in sorted(split_of.items(), key=lambda item: list(SPLIT_NAMES.values()).index(item[1])):
        folder = root / name
        prefix = f"{name}/" if name else ""
        skipped += _outside_classes(folder, prefix)
        rows: Rows = []
        for class_name in _subfolders(folder):
            images, others = _images(folder / class_name, prefix + class_name, read)
            skipped += others
            if not images:
                raise MismatchError(f"{folder / class_name}: a class without images; fill the folder or take it out")
            rows += [(path, class_name) for path in images]
        found[split] = rows
    return found, skipped


def _split_folders(root: Path) -> dict[str, str]:
    """Return the split of each folder that holds classes: those named after splits, else the root, named ``""``.

    Raises:
        UsageError: they could be meant one way or the other.
    """
    inside = _subfolders(root)
    split_of = {
        name: SPLIT_NAMES[name.lower()]
        for name in inside
        if name.lower() in SPLIT_NAMES and _subfolders(root / name)  # a class may be called "train"
    }
    if not split_of:
        return {"": "train"}
    other = next((name for name in inside if name not in split_of), None)
    if other is not None:
        raise UsageError(
            f"{root}: {next(iter(split_of))} holds classes, like a split, and {other} does not, like a class; move one "
            "away, or name the images with --lists"
        )
    if "train" not in split_of.values():
        raise UsageError(f"{root}: holds {', '.join(split_of)}, and no train; add it, or name the images with --lists")
    if len(set(split_of.values())) < len(split_of):
        raise UsageError(f"{root}: {', '.join(split_of)} mean one split twice; rename one")
    return split_of


def _outside_classes(folder: Path, prefix: str) -> list[str]:
    """List what lies beside the class folders."""
    return [
        prefix + entry.name + ("/" if entry.is_dir() else "")
        for entry in _entries(folder)
        if not entry.is_dir() or entry.name.startswith(".")
    ]


def _images(folder: Path, prefix: str, read: dict[str, str]) -> tuple[list[str], list[str]]:
    """List the images below a class folder, sorted by path, and what is left out.

    `read` holds the real path of every folder read so far: one that links lead to again would give its images twice.
    """
    images: list[str] = []
    others: list[str] = []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_unreadable):
        inner = Path(place).relative_to(folder).as_posix()
        start = prefix + "/" if inner == "." else f"{prefix}/{inner}/"
        first = read.setdefault(os.path.realpath(place), place)
        if first != place:
            raise MismatchError(
                f"{place}: is the same folder as {first}, so its images would be there twice; take one out"
            )
        others += [f"{start}{name}/" for name in folders if name.startswith(".")]
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            wanted = Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
            (images if wanted else others).append(start + name)
    for path in images:
        fault = path_fault(path)
        if fault:
            raise MismatchError(f"{folder}: the path {path!r} {fault}; rename the file")
    return sorted(images), sorted(others)


def _unreadable(error: OSError) -> None:
    raise SourceMissingError(f"{error.filename}: cannot be read ({error.strerror}); mend its permissions") from error


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise SourceMissingError(f"{folder}: cannot be read ({error.strerror}); mend its permissions") from error


def _subfolders(folder: Path) -> list[str]:
    """List the visible folders inside a folder, sorted by name."""
    return [entry.name for entry in _entries(folder) if entry.is_dir() and not entry.name.startswith(".")]


def read_list(path: Path) -> Listed:
    """Read a list of images and classes: CSV or TSV by its name, else text.

    Raises:
        SourceMissingError: it cannot be read.
        MismatchError: it is not such a list; names file and line.
    """
    read = read_csv if path.suffix.lower() in {".csv", ".tsv"} else read_text_list
    data = read_bytes(path)  # once: a pipe gives it no second time
    return replace(read(data, origin=str(path)), sha256=sha256_bytes(data))


def _from_list(path: Path, root: Path) -> tuple[dict[str, Rows], dict[str, Any]]:
    """Read one list, or train, val and test lists out of a folder."""
    if path.is_dir():
        files = [
            file
            for file in sorted(path.iterdir())
            if file.stem.lower() in SPLIT_NAMES and file.suffix.lower() in LIST_SUFFIXES and file.is_file()
        ]
        if not any(SPLIT_NAMES[file.stem.lower()] == "train" for file in files):
            raise SourceMissingError(f"{path}: holds no train.txt or train.csv; put it there, or name the list itself")
        listed = [(SPLIT_NAMES[file.stem.lower()], read_list(file)) for file in files]
    else:
        listed = [("train", read_list(path))]
    found: dict[str, Rows] = {}
    origin: dict[str, str] = {}
    roots = [root.absolute(), root.resolve()]
    for named, part in listed:
        inside = replace(part, places=tuple([_relative(place, roots) for place in part.places]))
        splits = part.splits if part.splits is not None else [named] * len(inside.places)
        for row, (place, target, split) in enumerate(zip(inside.paths, part.targets, splits, strict=True)):
            here = part.at(row)
            if split.lower() not in SPLIT_NAMES:
                raise MismatchError(f"{here}: split {split!r} is none of train, val, test; mend the list")
            fault = text_fault(target)
            if fault:
                raise MismatchError(f"{here}: class {target!r} {fault}; mend the list")
            if origin.setdefault(place, here) != here:
                raise MismatchError(f"{here}: {place} is listed twice, first in {origin[place]}; take one out")
            found.setdefault(SPLIT_NAMES[split.lower()], []).append((place, target))
    if all(is_number(target) for _, part in listed for target in part.targets):
        for _, part in listed:
            part.labels()  # -1 and 1.0 are no names of classes
    if "train" not in found:
        raise MismatchError(f"{path}: lists no training image; give one with split train")
    known = {name for _, name in found["train"]}
    for split, rows in found.items():
        unknown = next(((place, name) for place, name in rows if name not in known), None)
        if unknown:
            raise MismatchError(f"{origin[unknown[0]]}: class {unknown[1]!r} of a {split} image has no training image")
    record = {
        "form": "list",
        "lists": [
            {"file": printable(Path(part.origin).name), "rows": len(part.places), "notes": list(part.notes)}
            for _, part in listed
        ],
        "checksums": {printable(Path(part.origin).name): f"sha256:{part.sha256}" for _, part in listed},
    }
    return {split: found[split] for split in ("train", "val", "test") if split in found}, record


def _relative(place: str, roots: Sequence[Path]) -> str:
    """Return a listed path as one inside the folder, whose names are `roots`: forward slashes, one at a time.

    Where a path has backslashes alone, as lists from Windows do, they are its slashes.
    """
    if "\\" in place and "/" not in place:
        place = place.replace("\\", "/")
    if place.startswith("/"):
        absolute = Path(place)
        place = next((absolute.relative_to(root).as_posix() for root in roots if absolute.is_relative_to(root)), place)
    return PurePosixPath(place).as_posix() if place else place


def _class_names(found: Mapping[str, Rows], folder: Path, *, numbered: bool) -> tuple[str, ...]:
    """Name the classes in the order of their labels: numbers by value, 0 .. C - 1, names by code point."""
    names = {name for _, name in found["train"]}
    for split, rows in found.items():
        unknown = sorted({name for _, name in rows} - names)
        if unknown:
            raise MismatchError(
                f"{folder}: class {unknown[0]!r} of {split} has no training image; add some or take it out"
            )
    if len(names) < 2:
        raise UsageError(
            f"{folder}: {len(names)} classes; a long tail needs at least 2: a folder per class, or --lists"
        )
    if not numbered:
        return tuple(sorted(names))
    ordered = sorted(names, key=int)
    gap = next((n for n, name in enumerate(ordered) if name != str(n)), None)
    if gap is not None:
        raise MismatchError(
            f"{folder}: the list numbers classes up to {ordered[-1]}, and class {gap} has no training image; number "
            "them 0, 1, 2, ... without a gap, or name them"
        )
    return tuple(ordered)
