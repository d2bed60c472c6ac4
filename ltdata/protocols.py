"""Protocols: which images of each class are kept, and which are held out.

``ldam`` is the split of LDAM-DRW that RIDE, SADE, BalPoE, PaCo, BCL, ProCo, MiSLAS and others train on: ONE
legacy MT19937 stream, classes in ascending label order, shuffle the positions of each class, keep the first
n_c, in that order. For one seed the splits are therefore nested: IF 200 lies inside IF 100 inside IF 50.

>>> labels = np.repeat(np.arange(2), 5)
>>> ldam(labels, np.array([3, 1]), seed=0).tolist()
[2, 0, 1, 5]
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import UsageError
from ltdata.labels import MOST_IMAGES, as_array, check_counts, check_integer, check_seed


def ldam(
    labels: NDArray[np.integer],
    class_counts: NDArray[np.integer],
    *,
    seed: int,
    class_names: Sequence[str] | None = None,
) -> NDArray[np.int64]:
    """Select `class_counts[c]` images of every class c, as LDAM-DRW does.

    Args:
        labels: class label of every image in the source's original order, (n,), values 0 .. C - 1.
        class_counts: images to keep per class, (C,).
        seed: of the MT19937 stream, 0 .. 2**32 - 1.
        class_names: for errors; None names labels.

    Returns:
        Positions in `labels`, int64 (sum(class_counts),): class by class, shuffled within each class.

    Raises:
        UsageError: the seed or a count is none, or a class has fewer images than it should keep.
    """
    rng = np.random.RandomState(check_seed(seed))
    labels, kept = as_array("labels", labels), []
    for label, count in enumerate(check_counts(class_counts).tolist()):
        positions = np.flatnonzero(labels == label)
        if len(positions) < count:
            raise UsageError(f"class {_name(label, class_names)} has {len(positions)} images, {count} are asked for")
        rng.shuffle(positions)
        kept.append(positions[:count])
    return np.concatenate(kept).astype(np.int64, copy=False)


def hold_out(
    labels: NDArray[np.integer], per_class: Sequence[int], *, seed: int, class_names: Sequence[str] | None = None
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Take images of every class out, the same number of each, for several sets.

    One MT19937 stream seeded with (seed, 1), so that the training images are drawn independently; classes in ascending
    label order, shuffled, dealt out in the order of the sets.

    >>> (test,), rest = hold_out(np.repeat(np.arange(2), 3), [1], seed=0)
    >>> test.tolist(), rest.tolist()
    ([1, 3], [0, 2, 4, 5])

    Args:
        labels: class label of every image, (n,).
        per_class: images of every class for each set.
        seed: 0 .. 2**32 - 1.
        class_names: for errors; None names labels.

    Returns:
        Positions of each set, class by class, and of the rest, ascending; int64.

    Raises:
        UsageError: the seed or a size is none, or a class would be left without images.
    """
    seed, per_class = check_seed(seed), [check_integer("per_class", size, 0, MOST_IMAGES) for size in per_class]
    if not any(per_class):
        return [np.zeros(0, dtype=np.int64) for _ in per_class], np.arange(len(labels), dtype=np.int64)
    rng = np.random.RandomState([seed, 1])
    held: list[list[NDArray[np.int64]]] = [[] for _ in per_class]
    rest = np.ones(len(labels), dtype=bool)
    for label in np.unique(labels).tolist():
        positions = np.flatnonzero(labels == label)
        if len(positions) <= sum(per_class):
            raise UsageError(
                f"class {_name(label, class_names)} has {len(positions)} images; holding {sum(per_class)} out would "
                "leave none for training"
            )
        rng.shuffle(positions)
        start = 0
        for part, size in zip(held, per_class, strict=True):
            part.append(positions[start : start + size])
            start += size
        rest[positions[:start]] = False
    return [np.concatenate(part).astype(np.int64, copy=False) for part in held], np.flatnonzero(rest)


def _name(label: int, class_names: Sequence[str] | None) -> str:
    return f"{label}, {class_names[label]}," if class_names is not None else str(label)
