"""Read a data set that lists define: find its lists, check them, find its images. No list is ever made up.

A list is looked for in `--lists`, in the data folder and in the cache folder, and else downloaded; it is known by
its digest, in whatever form it comes. iNaturalist is also read from the competition's JSON files.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import LtdataError, MismatchError, SourceMissingError, UsageError
from ltdata.images import Files
from ltdata.lists import Listed, blob_sha1, read_text_list
from ltdata.manifest import Samples
from ltdata.sources import download
from ltdata.sources.official import IMAGENET_LT, INAT18, PLACES_LT, Official, OfficialList
from ltdata.sources.source import Source, SourceSplit, Where

_SHOWN = 5  # missing files named in an error


@dataclass(frozen=True)
class Recognised:
    """Say what a list was found to be.

    Attributes:
        paths: as the official list has them, where the list is official; else as it has them.
        labels: int64 (n,).
        official: whether its rows have the official digest, or, where none is published, the published figures.
        blob_sha1: of the rows, written as the official list writes them.
        form: ``official``, or how it differs from the official file: other paths, CRLF, no last newline, ...
    """

    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    official: bool
    blob_sha1: str
    form: str

    @property
    def samples(self) -> Samples:
        """Return the rows as a manifest has them."""
        return Samples(self.labels, source_path=self.paths)


def _load(dataset: Official, where: Where) -> Source:
    """Read lists and class names, and find the images; see `load_source`."""
    if where.lists is not None and not where.lists.exists():
        raise SourceMissingError(f"{where.lists}: does not exist; name a folder with {_names(dataset)}")
    if where.data_dir is None and where.need_images:
        raise UsageError(
            f"{dataset.id}: its images are not downloaded; name their folder with --data-dir, or leave them out with "
            "--manifest-only"
        )
    if where.data_dir is not None and not where.data_dir.is_dir():
        raise SourceMissingError(
            f"{where.data_dir}: no such folder; name the folder with the images of {dataset.title}"
        )
    found: dict[str, tuple[Path, Recognised]] = {}
    names: dict[int, str] = {}
    for split in dataset.lists:  # train first: a flat list does not name its classes, and train does
        place, rows = _read(dataset, split, where)
        found[split] = place, recognise(dataset, split, rows, class_names=names)
        names = names or _named_classes(dataset, found[split][1])
    _check_against_train(dataset, found)
    for split, (path, listed) in found.items():
        if not listed.official and not where.unverified:
            raise MismatchError(_complaint(dataset, split, path, listed))
    class_names, superclass_names = _class_names(dataset, found["train"][1], where)
    images: dict[str, Files] = {}
    if where.need_images and where.data_dir is not None:
        places = {split: locate(where.data_dir, listed.paths, dataset.places) for split, (_, listed) in found.items()}
        refuse_missing(where.data_dir, places.values())
        images = {split: Files(where.data_dir, located.places) for split, located in places.items()}
    splits = {
        split: SourceSplit(listed.labels, images.get(split), listed.paths) for split, (_, listed) in found.items()
    }
    lists = {
        split: {
            "file": path.name,
            "rows": len(listed.labels),
            "git_blob_sha1": listed.blob_sha1,
            "official": listed.official,
            "form": listed.form,
        }
        for split, (path, listed) in found.items()
    }
    record = provenance(dataset) | {"verified": all(listed.official for _, listed in found.values()), "lists": lists}
    return Source(
        id=dataset.id,
        class_names=class_names,
        splits=splits,
        provenance=record,
        citation=dataset.citation,
        superclass_names=superclass_names,
    )


def provenance(dataset: Official) -> dict[str, Any]:
    """Return what is published about a data set, as the manifest's `source` record has it."""
    return {
        "id": dataset.id,
        "version": dataset.version,
        "urls": [home + official.file for official in dataset.lists.values() for home in dataset.homes],
        "checksums": {
            official.file: f"git-blob-sha1:{official.blob_sha1}"
            for official in dataset.lists.values()
            if official.blob_sha1 is not None
        },
        "terms": dataset.terms,
        **({"notice": dataset.notice} if dataset.notice else {}),
    }


load_imagenet_lt = partial(_load, IMAGENET_LT)
load_inat18 = partial(_load, INAT18)
load_places_lt = partial(_load, PLACES_LT)


def recognise(
    dataset: Official, split: str, listed: Listed, *, class_names: Mapping[int, str] | None = None
) -> Recognised:
    """Compare a list's rows with the official list of a split, in whatever form they are written.

    Args:
        dataset: the data set.
        split: of it.
        listed: the rows.
        class_names: by label, where the list's own paths do not name classes (flat `val/`).

    Raises:
        MismatchError: a label is out of range, or a path cannot be one; names file and line.
    """
    labels = listed.labels(dataset.num_classes)
    official = dataset.lists[split]
    numbers = labels.tolist()
    names = dict(class_names or {})
    for path, label in zip(listed.places, numbers, strict=True):
        if label not in names and (name := dataset.class_of(path)) is not None:
            names[label] = name
    written = _write(zip(listed.places, numbers, strict=True))
    sha1 = blob_sha1(written)
    if _is_official(dataset, split, official, written, labels):
        form = "; ".join(listed.notes) or "official"
        return Recognised(listed.paths, labels, official=True, blob_sha1=sha1, form=form)
    if all(label in names for label in numbers):
        canonical = [dataset.canonical(path, names[label]) for path, label in zip(listed.places, numbers, strict=True)]
        rewritten = _write(zip(canonical, numbers, strict=True))
        if _is_official(dataset, split, official, rewritten, labels):
            return Recognised(
                paths=tuple(canonical),
                labels=labels,
                official=True,
                blob_sha1=blob_sha1(rewritten),
                form="; ".join(["other paths", *listed.notes]),
            )
    return Recognised(listed.paths, labels, official=False, blob_sha1=sha1, form="; ".join(["unknown", *listed.notes]))


def _write(rows: Any) -> bytes:
    return "".join([f"{path} {label}\n" for path, label in rows]).encode()


def _is_official(
    dataset: Official, split: str, official: OfficialList, written: bytes, labels: NDArray[np.int64]
) -> bool:
    """Tell whether rows are the official ones: by digest, or by every published figure where there is no digest."""
    if official.blob_sha1 is not None:
        return len(labels) == official.rows and blob_sha1(written) == official.blob_sha1
    counts = np.bincount(labels, minlength=dataset.num_classes)
    extremes = (dataset.smallest, dataset.largest) if split == "train" else (len(labels) // dataset.num_classes,) * 2
    return (len(labels), len(written), int(counts.min()), int(counts.max())) == (
        official.rows,
        official.bytes,
        *extremes,
    )


def _names(dataset: Official) -> str:
    files = [official.file for official in dataset.lists.values()]
    return ", ".join(files) + (f", or {' and '.join(dataset.json_files.values())}" if dataset.json_files else "")


def _read(dataset: Official, split: str, where: Where) -> tuple[Path, Listed]:
    """Find the list of a split, download it if need be, and read it."""
    path = _find(dataset, split, where)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceMissingError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error
    return path, (read_coco if path.suffix == ".json" else read_text_list)(data, origin=str(path))


def _named_classes(dataset: Official, listed: Recognised) -> dict[int, str]:
    """Return the class that the paths of each label name."""
    labels = listed.labels.tolist()
    named = ((label, dataset.class_of(path)) for path, label in zip(listed.paths, labels, strict=True))
    return {label: name for label, name in named if name is not None}


def _find(dataset: Official, split: str, where: Where) -> Path:
    """Find the file with the list of a split; download it where it is nowhere and has a known digest."""
    official = dataset.lists[split]
    names = [official.file, *([dataset.json_files[split]] if split in dataset.json_files else [])]
    cache = download.cache_folder()
    if where.lists is not None and where.lists.is_file():
        raise UsageError(f"--lists {where.lists}: is a file; name the folder that holds {_names(dataset)}")
    folders = [where.lists] if where.lists is not None else [where.data_dir, cache]
    tried = [
        inside
        for folder in folders
        if folder is not None
        for inside in (folder, folder / official.file.rpartition("_")[0], folder / "annotations")
    ]
    for folder in tried:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    if where.lists is not None or official.blob_sha1 is None:
        raise SourceMissingError(
            f"{folders[0] if folders[0] is not None else cache}: holds no {' or '.join(names)}; put it there, or name "
            "its folder with --lists"
        )
    failure: LtdataError | None = None
    target = cache / official.file
    for home in dataset.homes:
        try:
            digest = f"git-blob-sha1:{official.blob_sha1}"
            download.fetch(home + official.file, target, digest, progress=where.progress)
        except (SourceMissingError, MismatchError) as error:
            failure = failure or error
        else:
            return target
    assert failure is not None  # noqa: S101 - for the type checker: a list with a digest has a home
    raise failure


def _complaint(dataset: Official, split: str, path: Path, listed: Recognised) -> str:
    official = dataset.lists[split]
    published = (
        f"git blob SHA-1 {official.blob_sha1}"
        if official.blob_sha1 is not None
        else f"{official.rows:,} rows in {official.bytes:,} bytes"
    )
    return (
        f"{path}: {len(listed.labels):,} rows, git blob SHA-1 {listed.blob_sha1}: not the {split} list of "
        f"{dataset.title} ({official.rows:,} rows, {published}); fetch it again, or accept it with --unverified"
    )


def _check_against_train(dataset: Official, found: Mapping[str, tuple[Path, Recognised]]) -> None:
    """Refuse lists whose classes do not fit each other: an empty class, two names for one label, a shared image."""
    path, train = found["train"]
    counts = np.bincount(train.labels, minlength=dataset.num_classes)
    if counts.min() == 0:
        raise MismatchError(
            f"{path}: class {int(counts.argmin())} has no image; {dataset.title} has none so; fetch it again"
        )
    label_of: dict[str, tuple[int, str]] = {}
    split_of: dict[str, str] = {}
    for split, (place, listed) in found.items():
        for line, (image, label) in enumerate(zip(listed.paths, listed.labels.tolist(), strict=True), start=1):
            name = dataset.class_of(image)
            if name is not None and label_of.setdefault(name, (label, f"{place}:{line}"))[0] != label:
                first, origin = label_of[name]
                raise MismatchError(f"{place}:{line}: class {name} has label {label}, and {first} in {origin}")
            if split_of.setdefault(image, split) != split:
                raise MismatchError(f"{place}:{line}: {image} is in {split_of[image]} too; mend the lists")


def _class_names(dataset: Official, train: Recognised, where: Where) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the classes, from categories.json where there is one, else from the paths; and the superclasses."""
    if dataset is INAT18:
        for folder in (where.lists, where.data_dir, download.cache_folder()):
            if folder is not None and (folder / "categories.json").is_file():
                return read_categories(folder / "categories.json", dataset.num_classes)
    names = [""] * dataset.num_classes
    supers = [""] * dataset.num_classes
    for path, label in zip(train.paths, train.labels.tolist(), strict=True):
        if not names[label]:
            names[label] = dataset.class_of(path) or str(label)
            supers[label] = path.split("/")[-3] if dataset is INAT18 and path.count("/") >= 2 else ""
    return tuple(names), tuple(supers) if all(supers) else ()


def read_categories(path: Path, num_classes: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read class and superclass names from iNaturalist's categories.json.

    Raises:
        MismatchError: it is not that file.
    """
    records = _json(path.read_bytes(), str(path))
    try:
        by_id = {int(record["id"]): (str(record["name"]), str(record["supercategory"])) for record in records}
        if sorted(by_id) != list(range(num_classes)) or len(records) != num_classes:
            raise ValueError(f"ids are not 0 .. {num_classes - 1}")
    except (KeyError, TypeError, ValueError) as error:
        raise MismatchError(f"{path}: not the categories of this data set ({error!r}); fetch it again") from error
    return tuple(by_id[n][0] for n in range(num_classes)), tuple(by_id[n][1] for n in range(num_classes))


def read_coco(data: bytes, *, origin: str) -> Listed:
    """Read the images and labels of a COCO-style JSON file, joined by image id, in the order of its images.

    That order is the one of the list form. `lines` count images from 1.

    Raises:
        MismatchError: it is cut, or images and annotations are out of step; names the first id at fault.
    """
    record = _json(data, origin)
    try:
        label_of: dict[Any, Any] = {}
        for annotation in record["annotations"]:
            image = annotation["image_id"]
            if image in label_of:
                raise MismatchError(f"{origin}: image id {image} is annotated twice; mend the file")
            label_of[image] = annotation["category_id"]
        paths: dict[Any, str] = {}
        for image in record["images"]:
            if image["id"] in paths:
                raise MismatchError(f"{origin}: image id {image['id']} is there twice; mend the file")
            if image["id"] not in label_of:
                raise MismatchError(f"{origin}: image id {image['id']} ({image['file_name']}) has no annotation")
            paths[image["id"]] = str(image["file_name"])
    except (KeyError, TypeError) as error:
        raise MismatchError(f"{origin}: not a COCO-style file of images and annotations ({error!r})") from error
    unknown = [image for image in label_of if image not in paths]
    if unknown:
        raise MismatchError(
            f"{origin}: {len(unknown)} annotations name no image of this file, the first image id {unknown[0]}"
        )
    if not paths:
        raise MismatchError(f"{origin}: lists no image; fetch it again")
    return Listed(
        places=tuple(paths.values()),
        targets=tuple([str(label_of[image]) for image in paths]),
        lines=range(1, len(paths) + 1),
        origin=origin,
    )


def _json(data: bytes, origin: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MismatchError(f"{origin}: not readable as JSON ({error}): cut off? fetch it again") from error


@dataclass(frozen=True)
class Located:
    """Say where images lie under a folder, and which of them do not."""

    places: tuple[str, ...]
    missing: tuple[str, ...]


def locate(folder: Path, paths: tuple[str, ...], layouts: tuple[Callable[[str], str], ...]) -> Located:
    """Find where images lie on the disk, under the layout that has most of a sample of them.

    Each folder is listed once, which on network disks is far quicker than asking for every file.

    Args:
        folder: of the images.
        paths: as the list names them.
        layouts: each gives the path on the disk, relative to `folder`.
    """
    listings: dict[str, frozenset[str]] = {}

    def is_there(path: str) -> bool:
        parent, _, name = path.rpartition("/")
        if parent not in listings:
            try:
                listings[parent] = frozenset(os.listdir(folder / parent))  # noqa: PTH208 - names are all it needs
            except OSError:
                listings[parent] = frozenset()
        return name in listings[parent]

    sample = paths[:: max(1, len(paths) // 64)]
    layout = max(layouts, key=lambda form: sum(map(is_there, map(form, sample))))
    places = tuple([layout(path) for path in paths])
    return Located(places, tuple([place for place in places if not is_there(place)]))


def refuse_missing(folder: Path, splits: Iterable[Located]) -> None:
    """Refuse a source some of whose images are not there.

    Raises:
        SourceMissingError: counts all that are missing, and names the first.
    """
    located = list(splits)
    missing = [place for split in located for place in split.missing]
    if missing:
        total = sum(len(split.places) for split in located)
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise SourceMissingError(
            f"{folder}: {len(missing):,} of {total:,} images are missing: {shown}; complete the folder, name another "
            "with --data-dir, or build without images with --manifest-only"
        )
