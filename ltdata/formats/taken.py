"""The rows of anyone's file as a source has them: checked one by one, and against what is known of the source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata import pinned
from ltdata.errors import MismatchError, SourceMissingError
from ltdata.formats.foreign import Foreign, ForeignSplit
from ltdata.formats.known import Known, known
from ltdata.lists import Listed, printable
from ltdata.samples import Samples
from ltdata.sources import Where
from ltdata.sources.disk import locate, refuse_missing
from ltdata.sources.listed import Recognised, class_names_of, named_classes, provenance, recognise
from ltdata.sources.official import Official
from ltdata.spec import Spec

_MAX_CLASSES = 1_000_000  # of a file that names none; a larger label is a slip


@dataclass(frozen=True)
class Taken:
    """Hold the rows of a file as a source has them, and what is known beside them.

    Attributes:
        rows: by split.
        class_names: one per class label.
        provenance: the manifest's `source` record.
        citation: what to cite.
        superclass_names: one per class label, where they are known.
        params: what the protocol ``import`` says of these rows.
        protocol: where the rows are those of another one.
    """

    rows: dict[str, Samples]
    class_names: tuple[str, ...]
    provenance: Mapping[str, Any]
    citation: tuple[str, ...] = ()
    superclass_names: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] | None = None


def checked(part: ForeignSplit, origin: str) -> ForeignSplit:
    """Refuse rows that no manifest can have: none, one image twice, a path that leads elsewhere."""
    if not len(part):
        raise MismatchError(f"{origin}: has no image; take the split out")
    places = part.paths if part.paths is not None else tuple(map(str, _positions(part).tolist()))
    _ = Listed(places, (), range(1, len(part) + 1), origin, mark=" row ").paths
    return part


def _positions(part: ForeignSplit) -> NDArray[np.int64]:
    assert part.positions is not None  # noqa: S101 - for the type checker: a part without paths has positions
    return part.positions


def _refuse_shared(spaces: Mapping[str, tuple[str, Sequence[object]]], path: Path) -> None:
    """Refuse an image that is in two splits; spaces: by split, which numbering its places are in, and the places."""
    owner: dict[tuple[str, object], str] = {}
    for split, (space, places) in spaces.items():
        for row, place in enumerate(places, start=1):
            other = owner.setdefault((space, place), split)
            if other != split:
                raise MismatchError(f"{path}: {split} row {row}: {place} is in {other} too; take one out")


def _labelled(part: ForeignSplit, origin: str, num_classes: int) -> NDArray[np.int64]:
    """Return the labels that a file has, checked.

    Raises:
        SourceMissingError: it has none.
        MismatchError: one is out of range.
    """
    if part.labels is None:
        raise SourceMissingError(f"{origin}: rows have no labels, and nothing here knows them; give a file with labels")
    if part.labels.max() >= num_classes:
        row = int(np.argmax(part.labels >= num_classes))
        raise MismatchError(f"{origin} row {row + 1}: label {part.labels[row]} is not in 0 .. {num_classes - 1}")
    return part.labels


def _compare(
    labels: NDArray[np.int64], expected: NDArray[np.int64], part: ForeignSplit, origin: str, source: str
) -> None:
    """Refuse labels that contradict the source; -1 is not compared, -2 is a class that the file does not have."""
    wrong = (expected != -1) & (labels != expected)
    if wrong.any():
        row = int(np.argmax(wrong))
        place = part.paths[row] if part.paths is not None else _positions(part)[row]
        known_as = f"label {expected[row]}" if expected[row] >= 0 else "a class that this file does not name"
        raise MismatchError(
            f"{origin} row {row + 1}: label {labels[row]}, but image {place} of {source} has {known_as} "
            f"({int(wrong.sum())} rows differ); another source, or classes numbered anew?"
        )


def of_positions(
    foreign: Foreign,
    splits: Mapping[str, ForeignSplit],
    source: str,
    path: Path,
    *,
    data_dir: Path | None,
    unverified: bool,
) -> Taken:
    """Take positions in a source that ltdata knows."""
    by_path = next((split for split, part in splits.items() if part.paths is not None), None)
    if by_path is not None:
        raise MismatchError(f"{path}: {by_path} names images by path, {source} has positions; is it of this source?")
    in_train = [_positions(part) for split, part in splits.items() if split != "test"]
    there = known(source, in_train, data_dir=data_dir, unverified=unverified)
    space = {split: split if split in there.labels else "train" for split in splits}
    _refuse_shared({split: (space[split], _positions(part).tolist()) for split, part in splits.items()}, path)
    class_names, splits = _named(foreign, splits, there.class_names, path)
    number = {name: label for label, name in enumerate(class_names)}
    renumbered = np.array([*(number.get(name, -2) for name in there.class_names), -1])  # the last one for label -1
    rows, compared = {}, True
    for split, part in splits.items():
        origin, positions = f"{path}: {split}", _positions(part)
        total = len(there.labels[space[split]])
        if positions.max() >= total:
            row = int(np.argmax(positions >= total))
            raise MismatchError(
                f"{origin} row {row + 1}: index {positions[row]} is not in 0 .. {total - 1}, the {space[split]} images "
                f"of {source}"
            )
        expected = renumbered[there.labels[space[split]][positions]]
        compared &= bool((expected != -1).all())
        if part.labels is None:
            labels = _known_labels(expected, origin, source)
        else:
            labels = _labelled(part, origin, len(class_names))
            _compare(labels, expected, part, origin, source)
        rows[split] = Samples(labels, source_index=positions)
    params = {"labels": "those of the source" if compared else "the file's, not all compared with the source"}
    if _may_add_test(foreign, rows, there):
        rows["test"] = Samples(there.labels["test"], source_index=np.arange(len(there.labels["test"]), dtype=np.int64))
        params["test"] = "all of the source, not in the file"
    superclasses = there.superclass_names if class_names == there.class_names else ()
    return Taken(rows, class_names, there.provenance, there.citation, superclasses, params)


def _known_labels(expected: NDArray[np.int64], origin: str, source: str) -> NDArray[np.int64]:
    unknown = int((expected < 0).sum())
    if unknown:
        raise SourceMissingError(
            f"{origin}: positions without labels, and {unknown:,} of {len(expected):,} are in no pinned split; name "
            f"the folder of {source} with --data-dir"
        )
    return expected


def _may_add_test(foreign: Foreign, rows: Mapping[str, Samples], there: Known) -> bool:
    """Tell whether the source's test split goes with these rows: where nothing was said of one."""
    test = there.labels.get("test")
    whole = "content_sha256" in foreign.about
    return "test" not in rows and not whole and test is not None and bool((test >= 0).all())


def of_official(
    foreign: Foreign, splits: Mapping[str, ForeignSplit], dataset: Official, path: Path, *, data_dir: Path | None
) -> Taken:
    """Take a list of a data set that lists define; official rows are written as the official list has them."""
    header = pinned.header(dataset.id) if dataset.id in pinned.names() else None
    class_names, splits = _named(foreign, splits, header.class_names if header is not None else (), path)
    number = {name: label for label, name in enumerate(class_names)}
    found: dict[str, Recognised] = {}
    numbered = header is not None and class_names == header.class_names
    names = dict(enumerate(class_names)) if numbered else {}
    for split, part in splits.items():
        origin = f"{path}: {split}"
        if split not in dataset.lists:
            raise MismatchError(f"{origin}: {dataset.title} has {', '.join(dataset.lists)} only; take it out")
        if part.paths is None:
            raise MismatchError(f"{origin}: names images by position, {dataset.title} has paths; is it of this source?")
        labels = _labelled(part, origin, len(class_names) or dataset.num_classes)
        expected = [number.get(dataset.class_of(image) or "", -1) for image in part.paths]
        _compare(labels, np.array(expected), part, origin, dataset.title)
        listed = Listed(part.paths, tuple(map(str, labels.tolist())), range(1, len(part) + 1), origin)
        found[split] = recognise(dataset, split, listed, class_names=names)
        names = names or named_classes(dataset, found[split])
    _refuse_shared({split: ("", listed.paths) for split, listed in found.items()}, path)
    if data_dir is not None:
        refuse_missing(data_dir, [locate(data_dir, listed.paths, dataset.places) for listed in found.values()])
    superclasses: tuple[str, ...] = ()
    if "protocol" not in foreign.about:
        read_names, superclasses = class_names_of(dataset, found["train"], Where(data_dir, need_images=False))
        spare = class_names or tuple(map(str, range(dataset.num_classes)))
        class_names = tuple(name or other for name, other in zip(read_names, spare, strict=True))
    official = all(listed.official for listed in found.values())
    whole = official and set(found) == set(dataset.lists)
    file = printable(path.name)
    record = provenance(dataset) | {"lists": {split: listed.record(file) for split, listed in found.items()}}
    if not official or all(dataset.lists[split].blob_sha1 is not None for split in found):  # figures alone prove little
        record["verified"] = official
    return Taken(
        rows={split: listed.samples for split, listed in found.items()},
        class_names=class_names,
        provenance=record,
        citation=dataset.citation,
        superclass_names=superclasses,
        params={"labels": "those of the file"},
        protocol=Spec(dataset.id).protocol if whole else None,
    )


def of_any(
    foreign: Foreign,
    splits: Mapping[str, ForeignSplit],
    source: str,
    path: Path,
    *,
    data_dir: Path | None,
    named: tuple[str, ...] | None,
) -> Taken:
    """Take rows of a source that ltdata knows nothing of, a folder's among them."""
    if len({part.paths is None for part in splits.values()}) > 1:
        raise MismatchError(f"{path}: one split has positions, another paths; mend the file")
    if splits["train"].paths is None and source == "folder":
        raise MismatchError(f"{path}: names images by position, a folder has paths; is it of this source?")
    largest = max([int(part.labels.max()) for part in splits.values() if part.labels is not None], default=0)
    if largest >= _MAX_CLASSES:
        raise MismatchError(f"{path}: label {largest}: at most {_MAX_CLASSES:,} classes are read; mend the label")
    class_names, splits = _named(foreign, splits, named or (), path)
    class_names = class_names or tuple(map(str, range(largest + 1)))
    rows = {
        split: Samples(
            _labelled(part, f"{path}: {split}", len(class_names)), source_index=part.positions, source_path=part.paths
        )
        for split, part in splits.items()
    }
    paths = {split: ("", samples.source_path) for split, samples in rows.items() if samples.source_path is not None}
    _refuse_shared(paths, path)
    if data_dir is not None and paths:
        refuse_missing(data_dir, [locate(data_dir, listed, (str,)) for _, listed in paths.values()])
    version = printable(data_dir.resolve().name if data_dir is not None else path.name)
    record = {"id": source, "version": version, "terms": "your own", "form": "list"}
    return Taken(rows, class_names, record, params={"labels": "those of the file"})


def _named(
    foreign: Foreign, splits: Mapping[str, ForeignSplit], names: tuple[str, ...], path: Path
) -> tuple[tuple[str, ...], Mapping[str, ForeignSplit]]:
    """Return the class names, and the splits with labels that follow them.

    A file with a header of its own keeps its names and numbers. One that only writes names in place of labels is
    numbered in the order of `names`, the source's, where there are some.
    """
    own = tuple(foreign.about.get("class_names", ()))
    if not own or not names or "protocol" in foreign.about:
        return own or names, splits
    for split, part in splits.items():
        if part.labels is not None:
            _labelled(part, f"{path}: {split}", len(own))
    number = {name: label for label, name in enumerate(names)}
    unknown = next((name for name in own if name not in number), None)
    if unknown is not None:
        raise MismatchError(
            f"{path}: class {unknown!r} is none of the {len(names)} known: {', '.join(names)[:80]}, ..."
        )
    order = np.array([number[name] for name in own], dtype=np.int64)
    return names, {
        split: replace(part, labels=order[part.labels] if part.labels is not None else None)
        for split, part in splits.items()
    }
