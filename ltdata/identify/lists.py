"""Paths: which official list they are, in whatever form they are written, and what they fit where they are none."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltdata import pinned
from ltdata.compare import count_labels, renumbering
from ltdata.errors import MismatchError
from ltdata.files import read_bytes
from ltdata.formats.foreign import ForeignSplit
from ltdata.identify.answer import EXACT, FIGURES, FORM, SAME_IMAGES, UNKNOWN, Answer
from ltdata.identify.counts import LARGEST, answer_by_vector, fit
from ltdata.identify.rows import is_falling
from ltdata.lists import Listed, blob_sha1
from ltdata.sources.listed import Recognised, recognise
from ltdata.sources.official import OFFICIAL, Official

_CUI = re.compile(r"(?:^|/)images/([0-9]{1,5})/train_([0-9]+)\.jpg$")
_NO_POSITIONS = (
    "its numbers count records of a TFRecord file and are no positions in CIFAR: it can be compared with no split of "
    "positions, and results on it with those on no other split"
)
_NEAR = 0.02  # of its rows a list may lack or have too many, class by class, and still be named as near


def by_bytes(path: Path) -> Answer | None:
    """Recognise the file of an official list, as it lies in many repositories."""
    size = path.stat().st_size
    for dataset in OFFICIAL.values():
        for split, official in dataset.lists.items():
            if official.blob_sha1 and size == official.bytes and blob_sha1(read_bytes(path)) == official.blob_sha1:
                return Answer(
                    split,
                    EXACT,
                    f"is exactly {official.file}, the official {split} list of {dataset.title}",
                    (f"{official.rows:,} images: every byte, git blob SHA-1 {official.blob_sha1}",),
                    _facts(dataset, split) | {"git_blob_sha1": official.blob_sha1, "form": "official"},
                )
    return None


def by_paths(split: str, rows: ForeignSplit, notes: tuple[str, ...] = ()) -> Answer:
    """Compare rows with every official list, then with known class counts.

    Args:
        split: its name.
        rows: with paths.
        notes: how the file differs from a plain one: CRLF, no last newline, ...
    """
    paths = rows.paths or ()
    if all(map(_CUI.search, paths)):
        return _cui(split, rows)
    for dataset in OFFICIAL.values():
        for name, official in dataset.lists.items():
            if official.rows == len(paths) and (found := _by_list(dataset, name, split, rows, notes)):
                return found
    if rows.labels is None:
        return Answer(
            split,
            UNKNOWN,
            "is unknown",
            (f"{len(paths):,} paths without labels: no official list, as far as they tell",),
        )
    counts = count_labels(rows.labels)
    found = answer_by_vector(counts, split, what="has the class counts of")
    if found is not None:
        return found.adding(
            "rows or order differ from the official list; ltdata diff with your copy of that list shows where"
        )
    return Answer(split, UNKNOWN, "is unknown", (f"{len(paths):,} images, {len(counts):,} classes", *_near(counts)))


def _by_list(dataset: Official, name: str, split: str, rows: ForeignSplit, notes: tuple[str, ...]) -> Answer | None:
    """Compare rows with one official list: with their own labels, then with those that the paths name."""
    names = _class_names(dataset)
    if rows.labels is not None:
        found = _recognise(dataset, name, rows, rows.labels, notes, names)
        if found is not None:
            form = "" if found.form == "official" else f"; differs in form: {found.form}"
            return _official(dataset, name, split, found, EXACT, f"{form}", ())
    named = _labels_of_paths(dataset, rows, names)
    if named is None or (rows.labels is not None and np.array_equal(named, rows.labels)):
        return None
    found = _recognise(dataset, name, rows, named, notes, names)
    if found is None:
        return None
    if rows.labels is None:
        return _official(dataset, name, split, found, EXACT, "; it has no labels, the paths name the classes", ())
    change = renumbering(named, rows.labels)
    if change is None:
        differing = int((named != rows.labels).sum())
        return _official(
            dataset, name, split, found, SAME_IMAGES, f", with {differing:,} of {len(named):,} labels others", ()
        )
    note = ", with the classes renumbered" + (" by falling number of images" if is_falling(rows.labels) else "")
    official_label, label = next(iter(change.items()))
    evidence = (
        f"class {official_label} of the official list is class {label} here: the two kinds of class ids cannot be mixed"
    )
    return _official(dataset, name, split, found, SAME_IMAGES, note, (evidence,))


def _official(
    dataset: Official,
    name: str,
    split: str,
    found: Recognised,
    certainty: str,
    note: str,
    evidence: tuple[str, ...],
) -> Answer:
    """Say that rows are those of an official list."""
    known_by = f"git blob SHA-1 {found.blob_sha1}, once written in the official form"
    if dataset.lists[name].blob_sha1 is None:
        known_by = "rows, bytes, largest and smallest class are those published; no digest of the list is"
        certainty = FIGURES if certainty == EXACT else certainty
    headline = "is exactly" if certainty == EXACT else "has the images and order of"
    if certainty == FIGURES:
        headline = "has every published figure of"
    return Answer(
        split,
        certainty,
        f"{headline} the official {name} list of {dataset.title}{note}",
        (f"{len(found.labels):,} images: {known_by}", *evidence),
        _facts(dataset, name) | {"git_blob_sha1": found.blob_sha1, "form": found.form},
    )


def _recognise(
    dataset: Official,
    name: str,
    rows: ForeignSplit,
    labels: NDArray[np.int64],
    notes: tuple[str, ...],
    class_names: Mapping[int, str],
) -> Recognised | None:
    """Return what a list is where it is official, else None."""
    places = rows.paths or ()
    listed = Listed(
        places=places, targets=tuple(map(str, labels.tolist())), lines=range(1, len(places) + 1), origin="", notes=notes
    )
    try:
        found = recognise(dataset, name, listed, class_names=class_names)
    except MismatchError:  # a label out of range, a path listed twice
        return None
    return found if found.official else None


def _class_names(dataset: Official) -> dict[int, str]:
    """Return the class names that the pinned header has, by label: a flat list does not name its classes."""
    return dict(enumerate(pinned.header(dataset.id).class_names)) if dataset.id in pinned.names() else {}


def _labels_of_paths(dataset: Official, rows: ForeignSplit, class_names: Mapping[int, str]) -> NDArray[np.int64] | None:
    """Return the official labels of paths that name their classes: those of the header, else by sorted name."""
    named = [dataset.class_of(path) for path in rows.paths or ()]
    known = {name: label for label, name in class_names.items()}
    if not known:
        ordered = sorted({name for name in named if name is not None})
        known = {name: label for label, name in enumerate(ordered)}
    if len(known) != dataset.num_classes or any(name not in known for name in named):
        return None
    return np.array([known[name] for name in named if name is not None], dtype=np.int64)


def _cui(split: str, rows: ForeignSplit) -> Answer:
    """Describe a file of the form that Cui et al.'s TFRecords were turned into."""
    classes = [int(found[1]) for path in rows.paths or () if (found := _CUI.search(path))]
    counts = np.bincount(classes)
    known = [(source, n_max) for source, (num_classes, n_max) in LARGEST.items() if num_classes == len(counts)]
    fitted = fit(counts, known[0][1]) if known else None
    evidence = [
        f"{len(classes):,} images, {len(counts):,} classes, paths .../images/<label>/train_<record>.jpg",
        _NO_POSITIONS,
        f"class counts of {known[0][0]}, {fitted.text}" if fitted else "class counts of no CIFAR profile",
    ]
    if rows.labels is not None and (differing := int((np.array(classes) != rows.labels).sum())):
        evidence.append(f"{differing:,} labels are not those that the paths name")
    return Answer(
        split,
        FORM,
        "has the form of Cui et al.'s class-balanced CIFAR-LT TFRecords (ACE, NCL, old Bag-of-Tricks)",
        tuple(evidence),
        {
            "source": known[0][0] if known else None,
            "protocol": "cui-tfrecords",
            "profile": fitted.profile if fitted else None,
            "imbalance_factor": fitted.factor if fitted else None,
        },
    )


def _near(counts: NDArray[np.int64]) -> tuple[str, ...]:
    """Name the split whose class counts are nearest, if they are near."""
    found = []
    for name in pinned.names():
        header = pinned.header(name)
        for part, split in header.splits.items():
            if len(counts) == header.num_classes and (part == "train" or header.source["id"] in OFFICIAL):
                difference = np.abs(np.array(split.class_counts) - counts)
                found.append((int(difference.sum()), int((difference > 0).sum()), split.num_samples, f"{name} {part}"))
    if not found or min(found)[0] > _NEAR * min(found)[2]:
        return ()
    images, classes, _, name = min(found)
    return (f"its class counts are near those of {name}: {classes:,} classes differ, by {images:,} images in all",)


def _facts(dataset: Official, split: str) -> dict[str, object]:
    return {"source": dataset.id, "list": split, "protocol": "official-lists"}
