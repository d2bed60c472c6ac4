"""What the class distributions of two splits have in common: classes, their sizes, how far apart the shares are.

Of the training images. (Which *images* two splits share is `ltdata.compare`'s question.) A class is in a split if it
has an image there. Classes are the same by their names, and within one source by their labels; splits of different
sources that share no class name are not matched, and then only sizes can be compared. With shares p and q over the
classes of either:

* total variation: sum |p - q| / 2, the share of the images that would have to change class; 0 .. 1
* Jensen-Shannon divergence: the mean of KL(p || m) and KL(q || m) with m = (p + q) / 2, in bits; 0 .. 1 (Lin, 1991)
* rank correlation: Spearman's rho of the counts of the classes that both have; 1 where both order them alike

>>> from ltdata import load
>>> found = overlap(load("cifar100-lt", imbalance_factor=100), load("cifar100-lt", imbalance_factor=50))
>>> len(found.shared), round(found.total_variation, 3), found.moves["medium"]["many"]
(100, 0.055, 6)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import UsageError
from ltdata.groups import GROUP_NAMES
from ltdata.manifest import Manifest


@dataclass(frozen=True)
class SharedClass:
    """Hold the training images of a class in either split, and its shot groups there."""

    name: str
    images_a: int
    images_b: int
    group_a: str
    group_b: str


@dataclass(frozen=True)
class Overlap:
    """Describe what two splits A and B have in common.

    Attributes:
        matched_by: ``name``; ``label`` where both are of one source, and one has no names, or names a class twice; None
            where classes cannot be matched: there is nothing in the lists then, and no distance.
        shared: the classes of both, in the order of A.
        only_a: classes, by name, that have images in A alone.
        only_b: in B alone.
        total_variation: 0 .. 1; None without a match.
        jensen_shannon_bits: the divergence, 0 .. 1; None without a match.
        rank_correlation: -1 .. 1; None with fewer than two shared classes, or where all in one split have one size.
        moves: classes by their group in A, then by that in B.
    """

    matched_by: str | None
    shared: tuple[SharedClass, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    total_variation: float | None
    jensen_shannon_bits: float | None
    rank_correlation: float | None
    moves: dict[str, dict[str, int]]


def overlap(a: Manifest, b: Manifest) -> Overlap:
    """Compare the class distributions of two splits, each with its own group rule.

    Raises:
        UsageError: one has no training image, and so no distribution.
    """
    for side in (a, b):
        if not side.class_counts.any():
            raise UsageError(f"{side.name}: has no training image, so that there is nothing to compare")
    matched_by = _match(a, b)
    moves = {before: dict.fromkeys(GROUP_NAMES, 0) for before in GROUP_NAMES}
    if matched_by is None:
        return Overlap(None, (), (), (), None, None, None, moves)
    by_name = matched_by == "name"
    sides, counts_of = (a, b), [a.class_counts, b.class_counts]
    labels = [
        {str(m.class_names[label]) if by_name else str(label): label for label in np.flatnonzero(n).tolist()}
        for m, n in zip(sides, counts_of, strict=True)
    ]
    keys = list(labels[0]) + [key for key in labels[1] if key not in labels[0]]
    counts = np.array(
        [[n[own[key]] if key in own else 0 for key in keys] for n, own in zip(counts_of, labels, strict=True)]
    )
    names = {
        key: m.class_names[label]
        for m, own in zip(sides[::-1], labels[::-1], strict=True)
        for key, label in own.items()
    }
    groups_a, groups_b = a.groups, b.groups
    shared = tuple(
        SharedClass(
            name=names[key],
            images_a=int(counts[0, place]),
            images_b=int(counts[1, place]),
            group_a=GROUP_NAMES[groups_a[labels[0][key]]],
            group_b=GROUP_NAMES[groups_b[labels[1][key]]],
        )
        for place, key in enumerate(keys)
        if key in labels[0] and key in labels[1]
    )
    for each in shared:
        moves[each.group_a][each.group_b] += 1
    p, q = counts / counts.sum(axis=1, keepdims=True)
    return Overlap(
        matched_by=matched_by,
        shared=shared,
        only_a=tuple(names[key] for key in keys if key not in labels[1]),
        only_b=tuple(names[key] for key in keys if key not in labels[0]),
        total_variation=float(np.abs(p - q).sum() / 2),
        jensen_shannon_bits=_jensen_shannon_bits(p, q),
        rank_correlation=_rank_correlation(shared),
        moves=moves,
    )


def source_words(manifest: Manifest) -> str:
    """Name the source; a folder of images by its own name too, because every one has the id ``folder``."""
    source = manifest.source
    return f"{source.get('id')} {source.get('version')}" if source.get("id") == "folder" else str(source.get("id"))


def _match(a: Manifest, b: Manifest) -> str | None:
    """Tell by what classes are the same, ``name`` or ``label``; None where nothing says it."""
    named = [{m.class_names[label] for label in np.flatnonzero(m.class_counts).tolist()} for m in (a, b)]
    one_source = source_words(a) == source_words(b)
    if _names_tell(a) and _names_tell(b) and (one_source or named[0] & named[1]):
        return "name"
    if not one_source:
        return None
    if not any(m.protocol.get("params", {}).get("relabel") for m in (a, b)):
        return "label"
    # Numbered anew, classes keep as names what the source calls them, were it a number.
    return "name" if all(len(set(m.class_names)) == m.num_classes for m in (a, b)) else None


def _names_tell(manifest: Manifest) -> bool:
    """Tell whether names tell the classes apart, and are not just the labels."""
    names = manifest.class_names
    return len(set(names)) == len(names) and names != tuple(map(str, range(len(names))))


def _jensen_shannon_bits(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    middle = (p + q) / 2
    terms = [(side[side > 0] * np.log2(side[side > 0] / middle[side > 0])).sum() / 2 for side in (p, q)]
    return float(min(max(sum(terms), 0.0), 1.0))


def _rank_correlation(shared: tuple[SharedClass, ...]) -> float | None:
    a, b = [each.images_a for each in shared], [each.images_b for each in shared]
    if len(set(a)) < 2 or len(set(b)) < 2:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)
