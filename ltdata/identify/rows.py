"""Rows of positions beside known ones: the same images, the same order, the same labels, and what chance would give."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata.compare import count_labels, renumbering
from ltdata.formats.foreign import ForeignSplit
from ltdata.identify.answer import EXACT, SAME_IMAGES, Answer

SAME = "the same"
SORTED = "sorted by position"
OTHER = "other"


@dataclass(frozen=True)
class Match:
    """Say how rows relate to known ones.

    Attributes:
        order: `SAME`, `SORTED` or `OTHER`; None where the images are others.
        common: how many of the rows name a known image.
    """

    order: str | None
    common: int


@dataclass(frozen=True)
class LabelFault:
    """Say how the labels of rows differ from the source's: in how many, and whether one renumbering explains it."""

    differing: int
    renumbered: bool
    text: str


def positions_of(rows: ForeignSplit) -> NDArray[np.int64]:
    """Return the positions of rows that have some."""
    assert rows.positions is not None  # noqa: S101 - for the type checker: callers saw to it
    return rows.positions


def match(positions: NDArray[np.int64], known: NDArray[np.int64]) -> Match:
    """Compare positions with known ones; both may repeat some.

    >>> match(np.array([1, 5, 9]), np.array([9, 1, 5]))
    Match(order='sorted by position', common=3)
    """
    common = int(np.isin(positions, known).sum())
    if len(positions) == len(known) and common == len(positions):
        if np.array_equal(positions, known):
            return Match(SAME, common)
        if np.array_equal(np.sort(positions), np.sort(known)):
            return Match(SORTED if (np.diff(positions) >= 0).all() else OTHER, common)
    return Match(None, common)


def find(positions: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the row of each position among known ones, which hold all of them."""
    order = np.argsort(known)
    return order[np.searchsorted(known, positions, sorter=order)]


def label_fault(rows: ForeignSplit, wanted: NDArray[np.int64]) -> LabelFault | None:
    """Compare the labels of rows with the right ones; None where they are the same, or where there are none."""
    if rows.labels is None:
        return None
    differing = int((wanted != rows.labels).sum())
    if not differing:
        return None
    if renumbering(wanted, rows.labels) is None:
        return LabelFault(differing, False, f"{differing:,} of its {len(rows):,} labels are others")
    how = " by falling number of images" if is_falling(rows.labels) else ""
    return LabelFault(differing, True, f"its labels are renumbered{how}")


def is_falling(labels: NDArray[np.int64]) -> bool:
    """Tell whether classes are numbered by falling number of images."""
    counts = count_labels(labels)
    return bool(counts.any() and (np.diff(counts) <= 0).all() and counts[0] > counts[-1])


def orders(counts: NDArray[np.int64], sizes: NDArray[np.int64], *, ordered: bool) -> float:
    """Return in how many ways so many images of each class can be drawn, as a power of ten.

    >>> orders(np.array([2, 1]), np.array([5, 10]), ordered=False)  # 10 pairs, 10 single ones
    2.0

    Args:
        counts: images drawn of each class, (C,).
        sizes: images there are, (C,).
        ordered: tell draws in another order apart.
    """
    total = 0.0
    for k, n in zip(np.minimum(counts, sizes).tolist(), sizes.tolist(), strict=True):
        total += math.lgamma(n + 1) - math.lgamma(n - k + 1) - (0 if ordered else math.lgamma(k + 1))
    return round(total / math.log(10), 6)


def matched(
    split: str,
    title: str,
    order: str,
    facts: Mapping[str, Any],
    fault: LabelFault | None,
    *,
    by: str = "protocol",
    evidence: tuple[str, ...] = (),
) -> Answer:
    """Say that the images are known ones.

    Args:
        split: its name.
        title: of what is known.
        order: of the match.
        facts: for machines.
        fault: of the labels.
        by: whose order it would be.
        evidence: what else to tell.
    """
    exact = order == SAME and fault is None
    headline = f"{'is exactly' if exact else 'has the images of'} {title}"
    if order != SAME:
        headline += f"; {'in another order' if order == OTHER else order}, not in the {by}'s order"
    if fault is not None:
        headline += f"; {fault.text}"
    told = dict(facts) | {"order": order, "labels_differ": fault.differing if fault else 0}
    return Answer(split, EXACT if exact else SAME_IMAGES, headline, evidence, told)


def repeats(positions: NDArray[np.int64]) -> tuple[str, ...]:
    """Say how many rows repeat an image."""
    repeated = len(positions) - len(np.unique(positions))
    return (f"{repeated:,} rows name an image that an earlier row names already",) if repeated else ()


def share(part: int, total: int) -> str:
    """Write a part of the images of a file, the percentage rounded down: not all is never 100 %.

    >>> share(10_846, 10_847)
    '10,846 of its 10,847 images (99.9 %)'
    """
    return f"{part:,} of its {total:,} images ({math.floor(1000 * part / max(total, 1)) / 10} %)"
