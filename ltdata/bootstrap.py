"""Confidence intervals by the bootstrap, stratified by class.

What is resampled are the evaluated images, within each class: every resample has n - 1 of a class's n images, drawn
from them with replacement (McCarthy and Snowden 1985, "The Bootstrap and Finite Population Sampling"). The variance of
a class's mean is then s^2 / n, that of the truth; n draws would give (n - 1) / n of it, and "95 %" intervals that hold
the truth in 86 % of the cases at two images per class, in 90 % at three (iNaturalist 2018's validation set). The number
of images per class is fixed by the one who made the test set, not by chance: a figure weighs a class with its n images,
not with its draws, and a group's accuracy has an interval of its own images alone. An interval goes from the 2.5 % to
the 97.5 % quantile of the resamples. It says how much another test set of this size would move a figure; what another
training would, several seeds say.

A class with a single image has no variance: it always gives that image. An interval over such classes is too narrow.

>>> labels, right = np.repeat([0, 1], 200), np.tile([True, False], 200)
>>> low, high = intervals(labels, lambda index: right[index].mean(axis=-1)[None], resamples=1000, seed=0)
>>> bool(0.44 < low[0] < 0.46 and 0.54 < high[0] < 0.56)
True
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import UsageError
from ltdata.labels import check_integer

LEVEL = 0.95
MOST_RESAMPLES = 100_000
_POSITIONS = 1 << 20  # at a time: 8 MB

Statistic = Callable[[NDArray[np.int64]], NDArray[np.float64]]  # positions (batch, drawn) to figures (figure, batch)


def draws(images: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many images of each class a resample has, from how many there are, 1 or more; int64 (C,) each.

    >>> draws(np.array([1, 2, 100])).tolist()
    [1, 1, 99]
    """
    return np.maximum(images - 1, 1)


def intervals(
    labels: NDArray[np.int64], statistic: Statistic, *, resamples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute 95 % percentile intervals.

    Args:
        labels: of the images, int64 (n,).
        statistic: computes figures of resampled images; a row of its argument has `draws` positions of every class.
        resamples: how many, 1 .. `MOST_RESAMPLES`; 1,000 are usual.
        seed: 0 or more.

    Returns:
        lower and upper ends, float64 (figure,) each.

    Raises:
        UsageError: `resamples` or `seed` cannot be meant, or no class has two images.
    """
    resamples, seed = check_integer("resamples", resamples, 1, MOST_RESAMPLES), check_integer("seed", seed)
    from scipy.stats import bootstrap  # 0.7 s to import: only where it is used

    order = np.argsort(labels, kind="stable")
    classes = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    drawn = [positions for positions in classes if len(positions) > 1]
    if not drawn:
        raise UsageError("bootstrap: no class has two images, so that there is nothing to resample")
    alone = np.concatenate([np.empty(0, dtype=np.int64), *[one for one in classes if len(one) == 1]])

    def figures(*samples: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
        fewer = [sample[:, :-1] for sample in samples]  # scipy draws n of n; its draws are independent
        always = np.broadcast_to(alone, (len(fewer[0]), len(alone)))
        return statistic(np.concatenate([*fewer, always], axis=axis))

    found: Any = bootstrap(
        drawn,
        figures,
        n_resamples=resamples,
        batch=max(1, _POSITIONS // len(labels)),
        vectorized=True,
        confidence_level=LEVEL,
        method="percentile",
        random_state=np.random.default_rng(seed),  # scipy before 1.15 knows it by this name alone
    )
    return np.asarray(found.confidence_interval.low), np.asarray(found.confidence_interval.high)
