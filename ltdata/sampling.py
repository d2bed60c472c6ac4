"""Sampling: which images an epoch shows, in which order.

A sampler is a function of (labels, seed, epoch): the same global order on every machine, for any number of ranks or
workers, which cut it; no state, so going on at a position needs nothing that came before.

p_c, the share of the draws that class c gets, is proportional to n_c ** q (Kang et al., ICLR 2020, section 3):

| sampler | q | an epoch |
|---|---|---|
| ``instance-balanced`` | 1 | every image once: a permutation |
| ``square-root`` | 1/2 | as many draws as images, with replacement |
| ``class-balanced`` | 0 | the same: every class equally often |

>>> labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
>>> order = epoch_order("class-balanced", labels, seed=0, epoch=0, length=1000)
>>> bool(abs(np.bincount(labels[order])[1] - 500) < 60)
True
"""

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import UsageError

SAMPLERS = {"instance-balanced": 1.0, "square-root": 0.5, "class-balanced": 0.0}


def epoch_order(
    sampler: str, labels: NDArray[np.int64], *, seed: int, epoch: int, length: int | None = None
) -> NDArray[np.int64]:
    """Draw the order of an epoch.

    Args:
        sampler: one of `SAMPLERS`.
        labels: of the images, (n,).
        seed: of the training.
        epoch: counted from 0.
        length: how many draws; None: as many as images. ``instance-balanced`` begins anew when every image was drawn.

    Returns:
        Positions in `labels`, int64 (length,).

    Raises:
        UsageError: there is no such sampler, or nothing to draw from.
    """
    if sampler not in SAMPLERS:
        raise UsageError(f"sampler {sampler!r}: choose one of {', '.join(SAMPLERS)}")
    if seed < 0 or epoch < 0:
        raise UsageError(f"seed {seed}, epoch {epoch}: both are at least 0")
    if labels.dtype.kind not in "iu" or labels.min(initial=0) < 0:
        raise UsageError(f"labels of type {labels.dtype}, from {labels.min(initial=0)}: whole numbers from 0 on")
    if not len(labels):
        raise UsageError("labels: 0 images to sample from")
    chance = np.random.default_rng([seed, epoch, 0])
    length = len(labels) if length is None else length
    if sampler == "instance-balanced":
        rounds = [chance.permutation(len(labels)) for _ in range(-(-length // len(labels)) or 1)]
        return np.concatenate(rounds)[:length].astype(np.int64, copy=False)
    counts = np.bincount(labels)
    share = np.where(counts > 0, np.maximum(counts, 1) ** SAMPLERS[sampler], 0.0)
    # Images of class c: starts[c] .. starts[c] + counts[c]. Numbers of 16 bits are sorted by radix, six times as fast.
    by_class = np.argsort(labels.astype(np.int16) if len(counts) < 1 << 15 else labels, kind="stable")
    starts = np.cumsum(counts) - counts
    ends = np.cumsum(share / share.sum())
    drawn = np.searchsorted(ends / ends[-1], chance.random(length), side="right")
    inside = (chance.random(length) * counts[drawn]).astype(np.int64)
    return np.asarray(by_class[starts[drawn] + inside], dtype=np.int64)
