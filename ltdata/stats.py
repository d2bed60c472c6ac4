"""Class-frequency statistics: how long the tail is, in the field's numbers.

>>> stats = frequency_stats(np.array([500, 50, 5]), rule="strict")
>>> stats.imbalance_factor, stats.groups["few"].classes
(100.0, 1)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltdata import fits, groups
from ltdata.errors import UsageError
from ltdata.fits import Fit
from ltdata.labels import check_counts


@dataclass(frozen=True)
class GroupStats:
    """Count the classes and images of a shot group; share is of all images, 0 .. 1, None without a class."""

    classes: int
    images: int
    share: float | None


@dataclass(frozen=True)
class FrequencyStats:
    """Summarise class counts n_1 .. n_C with shares p_c = n_c / sum n.

    Attributes:
        images: sum of n.
        classes: C.
        empty_classes: classes with n = 0.
        imbalance_factor: largest n / smallest n; None where a class is empty.
        largest: largest n.
        median: median n.
        smallest: smallest n.
        gini: 0 for equal counts, towards 1 when one class has all.
        entropy_bits: -sum p log2 p.
        effective_classes: 2 ** entropy_bits, the number of equal classes with the same entropy.
        head_share: share of the images in the largest 20 % of the classes, of a class a part where need be.
        fits: by family, see `ltdata.fits`; None where there is nothing to fit.
        best_fit: the one family that describes the counts; None where none does, or several are equally close.
        rule: the group rule.
        groups: by name.
    """

    images: int
    classes: int
    empty_classes: int
    imbalance_factor: float | None
    largest: int
    median: float
    smallest: int
    gini: float
    entropy_bits: float
    effective_classes: float
    head_share: float
    fits: dict[str, Fit | None]
    best_fit: str | None
    rule: str
    groups: dict[str, GroupStats]


def frequency_stats(
    class_counts: NDArray[np.integer], *, rule: str = "strict", class_groups: NDArray[np.integer] | None = None
) -> FrequencyStats:
    """Compute the statistics of class counts, (C,), under a named group rule.

    Args:
        class_counts: training images per class, (C,).
        rule: one of `ltdata.groups.RULES`.
        class_groups: shot group per class where it does not follow from the counts, (C,).

    Raises:
        UsageError: there are no images, the counts are none, or the rule is unknown.
    """
    n = check_counts(class_counts)
    total = int(n.sum())
    if not total:
        raise UsageError(f"class_counts: {len(n)} classes and not one image; statistics are of images")
    descending = np.sort(n)[::-1]
    share = n[n > 0] / total
    entropy = max(0.0, float(-(share * np.log2(share)).sum()))
    assigned = class_groups if class_groups is not None else groups.assign(n, rule=rule)
    fitted = fits.fit_all(n)
    whole, part = len(n) // 5, len(n) % 5 / 5  # classes in the largest 20 %; of the next one the part that is missing
    return FrequencyStats(
        images=total,
        classes=len(n),
        empty_classes=int((n == 0).sum()),
        imbalance_factor=float(n.max() / n.min()) if n.min() > 0 else None,
        largest=int(n.max()),
        median=float(np.median(n)),
        smallest=int(n.min()),
        gini=gini(n),
        entropy_bits=entropy,
        effective_classes=2**entropy,
        head_share=float((descending[:whole].sum() + part * descending[min(whole, len(n) - 1)]) / total),
        fits=fitted,
        best_fit=fits.best(fitted),
        rule=rule,
        groups={
            name: GroupStats(
                classes=int((assigned == g).sum()),
                images=int(n[assigned == g].sum()),
                share=float(n[assigned == g].sum() / total) if (assigned == g).any() else None,
            )
            for g, name in enumerate(groups.GROUP_NAMES)
        },
    )


def gini(class_counts: NDArray[np.integer]) -> float:
    """Compute the Gini coefficient: sum |n_i - n_j| over all pairs, over 2 C sum n; 0 .. 1 - 1 / C.

    >>> gini(np.array([1, 1])), gini(np.array([1, 0]))
    (0.0, 0.5)
    """
    ascending = np.sort(np.asarray(class_counts, dtype=np.float64))
    c = len(ascending)
    weights = 2 * np.arange(1, c + 1) - c - 1
    return float((weights * ascending).sum() / (c * ascending.sum()))


def lorenz(class_counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Compute the Lorenz curve: the share of the images that the smallest classes hold (Lorenz 1905).

    The Gini coefficient is one minus twice the area under it.

    >>> lorenz(np.array([1, 3])).tolist()
    [0.0, 0.25, 1.0]

    Args:
        class_counts: (C,), at least one image.

    Returns:
        Cumulative share of the images, 0 .. 1, after the 0, 1, ..., C smallest classes, (C + 1,).
    """
    ascending = np.sort(np.asarray(class_counts, dtype=np.int64))
    return np.concatenate([[0.0], np.cumsum(ascending) / ascending.sum()])
