"""Compare two splits: which images only one has, which have other labels, which stand elsewhere, class by class.

An image is known by its place in the source: its position within a split, or its whole path. Paths are also looked
for across splits, for an image of A's train in B's test is a leak.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltdata import groups
from ltdata.errors import UsageError
from ltdata.formats.foreign import ForeignSplit
from ltdata.given import Given
from ltdata.groups import GROUP_NAMES

Place = int | str
Labels = tuple[int, ...]
_MOST_CLASSES = 1_000_000


@dataclass(frozen=True)
class ClassDiff:
    """Count what differs in a class or a group: images only A has, only B has, and with other labels (A's counts)."""

    only_a: int = 0
    only_b: int = 0
    relabelled: int = 0

    @property
    def total(self) -> int:
        """Count all that differs."""
        return self.only_a + self.only_b + self.relabelled

    def __add__(self, other: "ClassDiff") -> "ClassDiff":
        """Add up, part by part."""
        return ClassDiff(self.only_a + other.only_a, self.only_b + other.only_b, self.relabelled + other.relabelled)


@dataclass(frozen=True)
class SplitDiff:
    """Say how one split differs.

    Attributes:
        rows: of A and of B.
        common: images that both have.
        only_a: images that only A has, in A's order, each once.
        only_b: the same of B.
        relabelled: labels in A and in B of the images that have others; None where a side has no labels.
        renumbered: one change of numbers, one-to-one, explains all of them.
        other_bytes: images of one place whose stored bytes differ, where both sides are builds.
        recounted: how often A and B list the images that both have, where that differs.
        repeated: how many images A lists more than once, and B.
        elsewhere: how many rows of the images that both have hold another image in the other's order.
        first_elsewhere: the first such row in A and in B, counted from 0.
        classes: what differs by class label.
        same_names: where the sides have no path in common, how many file names they have.
    """

    rows: tuple[int, int]
    common: int
    only_a: tuple[Place, ...]
    only_b: tuple[Place, ...]
    relabelled: Mapping[Place, tuple[Labels, Labels]] | None
    renumbered: bool
    other_bytes: tuple[Place, ...]
    recounted: Mapping[Place, tuple[int, int]]
    repeated: tuple[int, int]
    elsewhere: int
    first_elsewhere: tuple[int, int] | None
    classes: Mapping[int, ClassDiff]
    same_names: int

    @property
    def same(self) -> bool:
        """Tell whether nothing differs, as far as both sides say."""
        return not (
            self.only_a or self.only_b or self.relabelled or self.other_bytes or self.recounted or self.elsewhere
        )


@dataclass(frozen=True)
class Diff:
    """Say how two splits differ.

    Attributes:
        a: one.
        b: the other.
        splits: by name, those that both have.
        missing_a: names of the splits that only B has.
        missing_b: names of the splits that only A has.
        shared: images of a split of A that are in another split of B, by the two names; paths only.
        rule: that says which classes are many-, medium- and few-shot.
        class_groups: index into `GROUP_NAMES` by class label, of A where it has labels, else of B.
    """

    a: Given
    b: Given
    splits: Mapping[str, SplitDiff]
    missing_a: tuple[str, ...]
    missing_b: tuple[str, ...]
    shared: Mapping[tuple[str, str], tuple[str, ...]]
    rule: str
    class_groups: tuple[int, ...]

    @property
    def same(self) -> bool:
        """Tell whether the splits are the same; one that a file of another form lacks is no difference."""
        lacks = (self.missing_a and self.a.manifest is not None) or (self.missing_b and self.b.manifest is not None)
        return bool(self.splits) and not lacks and all(split.same for split in self.splits.values())

    def by_group(self, split: str) -> dict[str, ClassDiff]:
        """Add up what differs in a split by shot group; a class that A does not have is few-shot."""
        totals = dict.fromkeys(GROUP_NAMES, ClassDiff())
        for label, found in self.splits[split].classes.items():
            group = self.class_groups[label] if label < len(self.class_groups) else GROUP_NAMES.index("few")
            totals[GROUP_NAMES[group]] += found
        return totals


def compare(a: Given, b: Given, *, split: str | None = None) -> Diff:
    """Compare two splits.

    Args:
        a: one.
        b: the other.
        split: compare this one alone; None for all.

    Raises:
        UsageError: they are of different sources, one has positions and the other paths, or none has that split.
    """
    if a.source is not None and b.source is not None and a.source != b.source:
        raise UsageError(
            f"{a.name} is of {a.source}, {b.name} of {b.source}: their images have nothing in common; compare splits "
            "of one source"
        )
    names = list(dict.fromkeys([*a.splits, *b.splits]))
    if split is not None:
        if split not in names:
            raise UsageError(f"--split {split!r}: neither has it; there are {', '.join(names)}")
        names = [split]
    kinds = [{part.paths is None for name, part in side.splits.items() if name in names} for side in (a, b)]
    if kinds[0] and kinds[1] and kinds[0] != kinds[1]:
        by = {True: "position", False: "path"}
        words = [" and ".join(sorted(by[kind] for kind in side)) for side in kinds]
        raise UsageError(
            f"{a.name} names its images by {words[0]}, {b.name} by {words[1]}: which is which cannot be told; compare "
            "two of a kind"
        )
    rule, class_groups = _groups(a, b)
    return Diff(
        a=a,
        b=b,
        splits={
            name: compare_rows(a.splits[name], b.splits[name])
            for name in names
            if name in a.splits and name in b.splits
        },
        missing_a=tuple(name for name in names if name not in a.splits),
        missing_b=tuple(name for name in names if name not in b.splits),
        shared=_shared(a, b, names),
        rule=rule,
        class_groups=class_groups,
    )


def compare_rows(a: ForeignSplit, b: ForeignSplit) -> SplitDiff:
    """Compare the rows of one split.

    >>> rows = ForeignSplit(positions=np.array([7, 3, 5]), labels=np.array([0, 1, 1]))
    >>> other = ForeignSplit(positions=np.array([5, 3, 4]), labels=np.array([1, 0, 2]))
    >>> found = compare_rows(rows, other)
    >>> found.only_a, found.only_b, found.relabelled, found.elsewhere
    ((7,), (4,), {3: ((1,), (0,))}, 2)
    """
    places_a, places_b = places(a), places(b)
    in_a, in_b = _labels_by_place(a, places_a), _labels_by_place(b, places_b)
    labelled = a.labels is not None and b.labels is not None
    relabelled: dict[Place, tuple[Labels, Labels]] = {}
    recounted: dict[Place, tuple[int, int]] = {}
    mixed: set[Place] = set()  # listed more than once, with the same labels in another order
    for place, labels in in_a.items():
        others = in_b.get(place, labels)
        if len(labels) != len(others):
            recounted[place] = len(labels), len(others)
        if labelled and labels != others:
            if sorted(labels) == sorted(others):
                mixed.add(place)
            elif len(labels) == len(others) or set(labels) != set(others):
                relabelled[place] = labels, others
    rows_a, rows_b = _common(places_a, in_b, recounted), _common(places_b, in_a, recounted)
    elsewhere = [
        (row_a, row_b)
        for row_a, row_b in zip(rows_a, rows_b, strict=True)
        if places_a[row_a] != places_b[row_b] or (places_a[row_a] in mixed and a.labels[row_a] != b.labels[row_b])  # type: ignore[index]
    ]
    only_a = {place: labels for place, labels in in_a.items() if place not in in_b}
    only_b = {place: labels for place, labels in in_b.items() if place not in in_a}
    return SplitDiff(
        rows=(len(a), len(b)),
        common=len(in_a) - len(only_a),
        only_a=tuple(only_a),
        only_b=tuple(only_b),
        relabelled=relabelled if labelled else None,
        renumbered=bool(relabelled) and _is_renumbered(in_a, in_b),
        other_bytes=_other_bytes(a, b, places_a, places_b),
        recounted=recounted,
        repeated=(len(_repeated(in_a)), len(_repeated(in_b))),
        elsewhere=len(elsewhere),
        first_elsewhere=elsewhere[0] if elsewhere else None,
        classes=_by_class(
            only_a.values() if a.labels is not None else (),
            only_b.values() if b.labels is not None else (),
            [labels for labels, _ in relabelled.values()],
        ),
        same_names=_same_names(a, b) if len(only_a) == len(in_a) else 0,
    )


def _other_bytes(
    a: ForeignSplit, b: ForeignSplit, places_a: Sequence[Place], places_b: Sequence[Place]
) -> tuple[Place, ...]:
    """List the images of one place that are stored with other bytes, as far as both sides have digests."""
    if a.sha256 is None or b.sha256 is None:
        return ()
    of_b = dict(zip(places_b, b.sha256, strict=True))
    return tuple([place for place, sha in zip(places_a, a.sha256, strict=True) if of_b.get(place, sha) != sha])


def _same_names(a: ForeignSplit, b: ForeignSplit) -> int:
    """Count the file names that two sides have in common, whatever their folders."""
    names_a, names_b = ({path.rpartition("/")[2] for path in side.paths or ()} for side in (a, b))
    return len(names_a & names_b)


def _is_renumbered(in_a: Mapping[Place, Labels], in_b: Mapping[Place, Labels]) -> bool:
    pairs = [(labels[0], in_b[place][0]) for place, labels in in_a.items() if place in in_b]
    columns = np.array(pairs, dtype=np.int64)
    return renumbering(columns[:, 0], columns[:, 1]) is not None


def _repeated(labels_by_place: Mapping[Place, Labels]) -> list[Place]:
    return [place for place, labels in labels_by_place.items() if len(labels) > 1]


def places(rows: ForeignSplit) -> Sequence[Place]:
    """Return what names each image: positions or paths."""
    if rows.paths is not None:
        return rows.paths
    assert rows.positions is not None  # noqa: S101 - for the type checker: it has one of the two
    found: list[int] = rows.positions.tolist()
    return found


def count_labels(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the images of each class, int64 (C,); empty where a number is too large to be that of a class."""
    if labels.max(initial=0) >= _MOST_CLASSES:
        return np.zeros(0, dtype=np.int64)
    return np.bincount(labels)


def renumbering(labels: NDArray[np.int64], others: NDArray[np.int64]) -> dict[int, int] | None:
    """Return the one-to-one change of labels that turns `labels` into `others`; None where there is none.

    >>> renumbering(np.array([0, 0, 1]), np.array([5, 5, 3]))
    {0: 5, 1: 3}
    """
    pairs = np.unique(np.stack([labels, others], axis=1), axis=0)
    if len(np.unique(pairs[:, 0])) < len(pairs) or len(np.unique(pairs[:, 1])) < len(pairs):
        return None
    return dict(pairs.tolist())


def _labels_by_place(rows: ForeignSplit, named: Sequence[Place]) -> dict[Place, Labels]:
    """Return the labels of every row of each image, in the order of the rows; without labels, a 0 per row."""
    labels: list[int] = rows.labels.tolist() if rows.labels is not None else [0] * len(named)
    found: dict[Place, Labels] = dict(zip(named, zip(labels, strict=True), strict=True))
    if len(found) < len(named):  # some are listed more than once
        lists: dict[Place, list[int]] = {}
        for place, label in zip(named, labels, strict=True):
            lists.setdefault(place, []).append(label)
        found = {place: tuple(several) for place, several in lists.items()}
    return found


def _common(
    named: Sequence[Place], other: Mapping[Place, Labels], recounted: Mapping[Place, tuple[int, int]]
) -> list[int]:
    """List the rows of the images that both sides have; of an image that one side lists more often, the first."""
    if not recounted:
        return [row for row, place in enumerate(named) if place in other]
    left = {place: min(times) for place, times in recounted.items()}
    rows = []
    for row, place in enumerate(named):
        if place in other and left.get(place, 1):
            rows.append(row)
            if place in left:
                left[place] -= 1
    return rows


def _by_class(only_a: Iterable[Labels], only_b: Iterable[Labels], relabelled: Iterable[Labels]) -> dict[int, ClassDiff]:
    """Count what differs by class; an image with several labels counts in the class of its first."""
    counts: dict[int, list[int]] = {}
    for column, found in enumerate((only_a, only_b, relabelled)):
        for labels in found:
            counts.setdefault(labels[0], [0, 0, 0])[column] += 1
    return {label: ClassDiff(*counts[label]) for label in sorted(counts)}


def _shared(a: Given, b: Given, names: Sequence[str]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Find the images of a split of A that are in another split of B."""
    paths_of_b = {name: set(part.paths) for name, part in b.splits.items() if part.paths is not None and name in names}
    found = {}
    for name_a in names:
        paths = a.splits[name_a].paths if name_a in a.splits else None
        for name_b, others in paths_of_b.items():
            if paths is not None and name_a != name_b:
                both = tuple(dict.fromkeys([path for path in paths if path in others]))
                if both:
                    found[name_a, name_b] = both
    return found


def _groups(a: Given, b: Given) -> tuple[str, tuple[int, ...]]:
    """Return the rule and the shot groups of A; of B where A has no labels."""
    for side in (a, b):
        if side.manifest is not None:
            return side.manifest.group_rule["name"], tuple(side.manifest.groups.tolist())
        train = side.splits.get("train", next(iter(side.splits.values())))
        if train.labels is not None:
            return "strict", tuple(groups.assign(count_labels(train.labels), rule="strict").tolist())
    return "strict", ()
