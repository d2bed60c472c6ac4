"""Read a data set that lists define: find its lists, check them, find its images. No list is ever made up.

A list is looked for in `--lists`, in the data folder and in the cache folder, and else downloaded; it is known by
its digest, in whatever form it comes. iNaturalist is also read from the competition's JSON files.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import LtdataError, MismatchError, SourceMissingError, UsageError
from ltdata.files import read_bytes
from ltdata.images import Files
from ltdata.lists import Listed, blob_sha1, read_text_list
from ltdata.samples import Samples
from ltdata.sources import download
from ltdata.sources.coco import read_categories, read_coco
from ltdata.sources.disk import locate, refuse_missing
from ltdata.sources.official import IMAGENET_LT, INAT18, PLACES_LT, Official, OfficialList
from ltdata.sources.source import Source, SourceSplit, Where


@dataclass(frozen=True)
class Recognised:
    """Say what a list was found to be.

    Attributes:
        paths: as the official list has them, where the list is official; else as it has them.
        labels: int64 (n,).
        official: whether its rows have the official digest, or, where none is published, the published figures.
        blob_sha1: of the rows, written as the official list writes them.
        form: ``official``, or how it differs from the official file: other paths, CRLF, no last newline, ...; also
            where no digest is published and only the figures are the published ones.
        rows: as they were read.
    """

    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    official: bool
    blob_sha1: str
    form: str
    rows: Listed

    @property
    def samples(self) -> Samples:
        """Return the rows as a manifest has them."""
        return Samples(self.labels, source_path=self.paths)

    def record(self, file: str) -> dict[str, Any]:
        """Return what the manifest records of a list; `file` names it."""
        return {
            "file": file,
            "rows": len(self.labels),
            "git_blob_sha1": self.blob_sha1,
            "official": self.official,
            "form": self.form,
        }


def load_listed(dataset: Official, where: Where) -> Source:
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
        names = names or named_classes(dataset, found[split][1])
    _check_against_train(dataset, found)
    for split, (path, listed) in found.items():
        if not listed.official and not where.unverified:
            raise MismatchError(_complaint(dataset, split, path, listed))
    class_names, superclass_names = class_names_of(dataset, found["train"][1], where)
    images: dict[str, Files] = {}
    if where.need_images and where.data_dir is not None:
        places = {split: locate(where.data_dir, listed.paths, dataset.places) for split, (_, listed) in found.items()}
        if not where.skip_bad:
            refuse_missing(where.data_dir, places.values())
        images = {split: Files(where.data_dir, located.places) for split, located in places.items()}
    splits = {
        split: SourceSplit(listed.labels, images.get(split), listed.paths) for split, (_, listed) in found.items()
    }
    lists = {split: listed.record(path.name) for split, (path, listed) in found.items()}
    record = provenance(dataset) | {"lists": lists}
    if all(official.blob_sha1 is not None for official in dataset.lists.values()):
        record["verified"] = True
    if not all(listed.official for _, listed in found.values()):
        record["verified"] = False
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


load_imagenet_lt = partial(load_listed, IMAGENET_LT)
load_inat18 = partial(load_listed, INAT18)
load_places_lt = partial(load_listed, PLACES_LT)


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
    # Two copies that many people train on, by name: GLMC's lists lack the last newline.
    glmc = official.blob_sha1 is not None and listed.notes == ("no last newline",)
    notes = ["no last newline, GLMC's copy"] if glmc else listed.notes
    undigested = [] if official.blob_sha1 is not None else ["published figures, no digest is published"]
    if _is_official(dataset, split, official, written, labels):
        form = "; ".join([*undigested, *notes]) or "official"
        return Recognised(listed.paths, labels, official=True, blob_sha1=sha1, form=form, rows=listed)
    if all(label in names for label in numbers):
        canonical = [dataset.canonical(path, names[label]) for path, label in zip(listed.places, numbers, strict=True)]
        rewritten = _write(zip(canonical, numbers, strict=True))
        if _is_official(dataset, split, official, rewritten, labels):
            return Recognised(
                paths=tuple(canonical),
                labels=labels,
                official=True,
                blob_sha1=blob_sha1(rewritten),
                form="; ".join([dataset.known_paths.get(sha1, "other paths"), *undigested, *notes]),
                rows=listed,
            )
    form = "; ".join(["unknown", *listed.notes])
    return Recognised(listed.paths, labels, official=False, blob_sha1=sha1, form=form, rows=listed)


def _write(rows: Any) -> bytes:
    return "".join([f"{path} {label}\n" for path, label in rows]).encode(errors="replace")  # JSON may hold anything


def _is_official(
    dataset: Official, split: str, official: OfficialList, written: bytes, labels: NDArray[np.int64]
) -> bool:
    """Tell whether rows are the official ones: by digest, or by every published figure where there is no digest."""
    if official.blob_sha1 is not None:
        return len(labels) == official.rows and blob_sha1(written) == official.blob_sha1
    counts = np.bincount(labels, minlength=dataset.num_classes)
    extremes = (dataset.smallest, dataset.largest) if split == "train" else (len(labels) // dataset.num_classes,) * 2
    known = dataset.known_counts if split == "train" else {}
    return (len(labels), len(written), int(counts.min()), int(counts.max())) == (
        official.rows,
        official.bytes,
        *extremes,
    ) and all(counts[label] == count for label, count in known.items())


def _names(dataset: Official) -> str:
    files = [official.file for official in dataset.lists.values()]
    return ", ".join(files) + (f", or {' and '.join(dataset.json_files.values())}" if dataset.json_files else "")


def _read(dataset: Official, split: str, where: Where) -> tuple[Path, Listed]:
    """Find the list of a split, download it if need be, and read it."""
    path = _find(dataset, split, where)
    return path, (read_coco if path.suffix == ".json" else read_text_list)(read_bytes(path), origin=str(path))


def named_classes(dataset: Official, listed: Recognised) -> dict[int, str]:
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
    for folder in _inside(dataset, folders):
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


def _inside(dataset: Official, folders: Iterable[Path | None]) -> list[Path]:
    """List where lists are looked for: in each folder, and in the folders inside it that are usual for them."""
    usual = dataset.lists["train"].file.rpartition("_")[0]
    return [
        inside
        for folder in folders
        if folder is not None
        for inside in (folder, folder / usual, folder / "annotations")
    ]


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
    """Refuse lists that do not fit together: an empty class, a class with two labels or names, a shared image."""
    path, train = found["train"]
    counts = np.bincount(train.labels, minlength=dataset.num_classes)
    if counts.min() == 0:
        raise MismatchError(
            f"{path}: class {int(counts.argmin())} has no image; {dataset.title} has none so; fetch it again"
        )
    label_of: dict[str, int] = {}
    name_of: dict[int, str] = {}
    first: dict[str, str] = {}
    split_of: dict[str, str] = {}
    for split, (_, listed) in found.items():
        for row, (image, label) in enumerate(zip(listed.paths, listed.labels.tolist(), strict=True)):
            name = dataset.class_of(image)
            if name is not None and name_of.get(label) != name:
                here = listed.rows.at(row)
                if name in label_of:
                    raise MismatchError(
                        f"{here}: class {name} has label {label}, and {label_of[name]} in {first[name]}; mend the lists"
                    )
                if label in name_of:
                    known = name_of[label]
                    raise MismatchError(
                        f"{here}: label {label} is of class {name}, and of {known} in {first[known]}; mend the lists"
                    )
                label_of[name], name_of[label], first[name] = label, name, here
            if split_of.setdefault(image, split) != split:
                raise MismatchError(f"{listed.rows.at(row)}: {image} is in {split_of[image]} too; mend the lists")


def class_names_of(dataset: Official, train: Recognised, where: Where) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the classes, from categories.json where there is one, else from the paths; and the superclasses."""
    natural = dataset.id == INAT18.id
    if natural:
        for folder in _inside(dataset, (where.lists, where.data_dir, download.cache_folder())):
            if (folder / "categories.json").is_file():
                return read_categories(folder / "categories.json", dataset.num_classes)
    names = [""] * dataset.num_classes
    supers = [""] * dataset.num_classes
    for path, label in zip(train.paths, train.labels.tolist(), strict=True):
        if not names[label]:
            names[label] = dataset.class_of(path) or str(label)
            supers[label] = path.split("/")[-3] if natural and path.count("/") >= 2 else ""
    return tuple(names), tuple(supers) if all(supers) else ()
