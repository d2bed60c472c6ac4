"""The distribution-aware planner: which target categories each expert has (ACE, section 3.2).

TC_1 is every class; TC_K lies inside TC_{K-1} lies inside ... TC_1. What is not a target is interfering.

>>> import numpy as np
>>> counts = np.array([60, 30, 7, 3])
>>> target_categories(counts, planner="mass", thresholds=(0.3, 0.05)).astype(int).tolist()
[[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1]]
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ltdata import groups
from ltdata.errors import UsageError
from ltdata.labels import check_counts, check_integer, check_number

_MOST_EXPERTS = 1000
PLANNERS = ("all", "mass", "groups", "cuts")


def target_categories(
    class_counts: NDArray[np.integer],
    *,
    planner: str,
    experts: int = 0,
    thresholds: Sequence[float] = (),
    cuts: Sequence[int] = (),
    group_rule: str = "strict",
) -> NDArray[np.bool_]:
    """Choose the target categories of every expert.

    Classes are sorted by falling count (ties by label), and expert k > 1 takes the sorted classes from a cut on:

    * ``mass``: with residual[j] = sum_{i>=j} n_i / sum_i n_i, the cut j with residual[j] > t >= residual[j + 1]
    * ``groups``: expert 2 takes medium and few, expert 3 takes few (the paper's wording)
    * ``cuts``: the given positions
    * ``all``: no cut, every expert takes every class

    Args:
        class_counts: training images per class, (C,).
        planner: one of `PLANNERS`.
        experts: K; 0: as many as the other values give, for ``all`` one. With ``groups``, 0 leaves out experts without
            an image of their own.
        thresholds: falling shares t of the images, one per further expert, for ``mass``.
        cuts: rising positions, one per further expert, for ``cuts``.
        group_rule: for ``groups``.

    Returns:
        Whether class c is a target of expert k, bool (K, C).

    Raises:
        UsageError: a threshold or cut is out of range, or an expert would have nothing to learn.
    """
    counts, experts = check_counts(class_counts), check_integer("experts", experts, 0, _MOST_EXPERTS)
    if not counts.any():
        raise UsageError(f"class_counts: {len(counts)} classes and not one image; there is nothing to learn from")
    if planner == "all":
        return np.ones((experts or 1, len(counts)), dtype=bool)
    order = np.lexsort((np.arange(len(counts)), -counts))
    if planner == "mass":
        residual = np.append(np.cumsum(counts[order][::-1])[::-1] / counts.sum(), 0.0)
        for share in thresholds:
            check_number("thresholds", share, "a share of the images, 0 .. 1,", low=0, high=1)
        if not all(0 < t < 1 for t in thresholds) or sorted(set(thresholds), reverse=True) != list(thresholds):
            raise UsageError(f"thresholds {list(thresholds)}: falling shares between 0 and 1 are needed")
        positions = [int(np.flatnonzero(residual > t)[-1]) for t in thresholds]
        if sorted({0, *positions}) != [0, *positions]:
            raise UsageError(
                f"thresholds {list(thresholds)}: cut this split at {positions}, so two experts would have the same "
                "classes; choose others, or fewer"
            )
    elif planner == "groups":
        return _by_group(counts, experts, group_rule)
    elif planner == "cuts":
        positions = [check_integer("cuts", cut, 1, max(1, len(counts) - 1)) for cut in cuts]
        if len(counts) < 2 or sorted(set(positions)) != positions:
            raise UsageError(f"cuts {positions}: rising positions in 1 .. {len(counts) - 1} are needed")
    else:
        raise UsageError(f"planner {planner!r}: choose one of {', '.join(PLANNERS)}")
    if experts not in (0, 1 + len(positions)):
        raise UsageError(
            f"experts {experts}: planner {planner} has {len(positions)} cuts, for {len(positions) + 1} experts"
        )
    targets = np.zeros((1 + len(positions), len(counts)), dtype=bool)
    for expert, position in enumerate([0, *positions]):
        targets[expert, order[position:]] = True
    images = targets @ counts
    if np.any(images == 0):
        raise UsageError(f"expert {int(np.flatnonzero(images == 0)[0]) + 1} would have no image: use fewer experts")
    return targets


def _by_group(counts: NDArray[np.integer], experts: int, group_rule: str) -> NDArray[np.bool_]:
    assigned = groups.assign(counts, rule=group_rule)
    nested = [assigned >= first for first in range(len(groups.GROUP_NAMES))]
    if experts > len(nested):
        raise UsageError(f"experts {experts}: planner groups has {len(nested)} groups, for that many experts at most")
    sizes = [
        int(counts.sum()),
        *(int(counts[targets].sum()) for targets in nested[1:]),
    ]  # images: a class may have none
    own = [k == 0 or 0 < sizes[k] < sizes[k - 1] for k in range(len(nested))]
    if experts and not all(own[:experts]):
        raise UsageError(
            f"experts {experts}: under rule {group_rule} this split leaves expert {own.index(False) + 1} no images of "
            "its own; use fewer experts, or another planner"
        )
    nested[0] = np.ones(len(counts), dtype=bool)
    return np.stack([targets for targets, kept in zip(nested[: experts or None], own, strict=False) if kept])


def expert_shares(class_counts: NDArray[np.integer], targets: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute each expert's share of the training images, sum_{c in TC_k} n_c / sum_c n_c, float64 (K,)."""
    counts = np.asarray(class_counts, dtype=np.float64)
    shares: NDArray[np.float64] = (targets @ counts) / counts.sum()
    return shares
