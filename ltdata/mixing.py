"""The order in which a training reads shards: class-aware, and one shard after the other.

Rows are found by a sampler that only ever reads on. Each series of shards (many-, medium-, few-shot) is one endless
stream: a pass over all its shards, in an order drawn anew, then the next pass, so a small series never ends the mix.
At each position a series is drawn with the target mass of its classes, and its stream is read on until a row is
accepted; a row of class c is accepted with probability proportional to target_c / share_c, the largest in its series
being 1. Class-balanced, imbalance factor 100, that reads 2.3 rows per accepted one of CIFAR-100-LT, where one stream
over all groups would read 21.7; 4.0 of iNaturalist 2018; 9.1 of CIFAR-10-LT, whose many-shot classes differ most.

>>> from ltdata.sampling import MOST, class_shares
>>> plans = [ShardPlan("train/many-000000.tar", np.arange(6)), ShardPlan("train/few-000000.tar", np.array([6, 7]))]
>>> labels = np.array([0, 0, 0, 1, 1, 1, 2, 2])
>>> mix(plans, labels, class_shares("class-balanced", np.bincount(labels)), length=7, seed=0).row.tolist()
[7, 3, 4, 5, 6, 0, 7]

The order is a pure function of (plans, labels, target, seed, epoch) and needs no image: which shards are needed when is
known beforehand. A longer order begins with the shorter one of the same arguments. `ShardSampler` cuts it into epochs
and ranks and goes on with it, as the samplers of `ltdata.samplers` do with theirs.

What differs between epochs, and what does not: the series at each position, the order of the shards, the rows that
are accepted, and where in its pass each stream begins, which is uniform, so that in expectation every row of a class
is used equally often whatever the length. Inside a shard the stored order stays: neighbours there remain neighbours,
thinned by acceptance and mixed with the other series. Stored order spreads every class evenly, so no batch is short
of a class for it. The first few positions of a stream are not quite on target (a row behind a gap of rejected ones
is more likely to come first); over an epoch that is less than one position per series.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltdata.errors import UsageError
from ltdata.labels import check_integer
from ltdata.orders import check_source
from ltdata.passes import Passes
from ltdata.sampling import MOST, class_shares, epochs_of, value_of
from ltdata.shards import ShardPlan

_BLOCK_ROWS = 1 << 21  # read at once, about 100 MB; the order does not depend on it
_PURPOSE = 0x6D6978  # keeps these streams apart from others that are seeded with [seed, epoch, stream]


@dataclass(frozen=True)
class Mix:
    """Hold the order in which rows are used.

    Attributes:
        row: of the split, int64 (length,).
        shard: number of its shard in the plans, int64 (length,).
        pass_number: of the series' stream, from 0 (which begins midway), int64 (length,).
        rows_read: of all series, the rejected ones too.
    """

    row: NDArray[np.int64]
    shard: NDArray[np.int64]
    pass_number: NDArray[np.int64]
    rows_read: int

    def __len__(self) -> int:
        """Count the positions."""
        return len(self.row)


def mix(
    plans: Sequence[ShardPlan],
    labels: NDArray[np.int64],
    target: NDArray[np.floating],
    *,
    length: int,
    seed: int,
    epoch: int = 0,
) -> Mix:
    """Compute the order in which rows are used.

    One order may span a whole training (epoch 0, its length that of all epochs): then passes go on over the epochs'
    borders. Time and the rows read are in proportion; a target far from the shares inside a series reads many.

    Args:
        plans: the shards of a split, each series together, as `ltdata.shards.plan` gives them.
        labels: of the split's rows, (n,).
        target: mass of each class, (C,), such as `ltdata.sampling.class_shares`, need not sum to 1; 0 leaves a class
            out, and a series of such classes is not opened.
        length: how many rows to use.
        seed: 0 or more.
        epoch: counted from 0.

    Raises:
        UsageError: a class has a target and no rows, or a value cannot be meant.
    """
    weight = _row_weights(plans, labels, target)
    length = check_integer("length", length, 0, MOST)
    seed, epoch = check_integer("seed", seed), check_integer("epoch", epoch)
    row, shard, pass_number = (np.zeros(length, dtype=np.int64) for _ in range(3))
    series = _series(plans)
    mass = np.array([sum(weight[plans[number].rows].sum() for number in numbers) for numbers in series])
    chosen = np.searchsorted(np.cumsum(mass), _generator(seed, epoch, 0).random(length) * mass.sum(), side="right")
    chosen = np.minimum(chosen, np.flatnonzero(mass).max(initial=0))  # rounding at the upper end
    rows_read = 0
    for turn, numbers in enumerate(series):
        positions = np.flatnonzero(chosen == turn)
        if len(positions):
            stream = [plans[number].rows for number in numbers]
            taken, reads = _accept(
                stream,
                weight,
                len(positions),
                shuffle=_generator(seed, epoch, 2 * turn + 1),
                accept=_generator(seed, epoch, 2 * turn + 2),
            )
            row[positions], pass_number[positions] = taken[0], taken[2]
            shard[positions] = np.array(numbers)[taken[1]]
            rows_read += reads
    return Mix(row, shard, pass_number, rows_read)


class ShardSampler(Passes[int]):
    """Give rows of a split, class-aware, so that its shards are read one after the other.

    Ranks, epochs and states as of every sampler, see `ltdata.passes`. To go on at a position, or at the next epoch, an
    order is computed from its beginning: 0.02 s for CIFAR-100-LT, 0.35 s for iNaturalist 2018, without any image.

    Args:
        plans: the shards of a split, each series together, as `ltdata.remote.Remote` has them.
        labels: of the split's rows, whole numbers (n,).
        sampler: one of `ltdata.sampling.SAMPLERS`, whose shares are reached; all draw with replacement here.
        classes: those that are drawn from, bool (C,); None: all. Shards of others are left alone.
        seed: of the training.
        rank: of this process, 0 .. world_size - 1.
        world_size: number of processes.
        length: rows of an epoch, of all ranks together; None: as many as there are of the classes.
        drop_last: leave out the last rows that do not go round all ranks, in place of going on a few.
        named: the sampler's value, see `ltdata.sampling`.

    Raises:
        UsageError: a value cannot be meant; the message names it.
    """

    def __init__(
        self,
        plans: Sequence[ShardPlan],
        labels: ArrayLike,
        sampler: str = "class-balanced",
        *,
        classes: ArrayLike | None = None,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        length: int | None = None,
        drop_last: bool = False,
        **named: float,
    ) -> None:
        order = _Mixed(plans, labels, sampler, classes=classes, seed=seed, named=named)
        settings = {"labels": order.labels, "classes": classes, "seed": seed, "sampler": f"{sampler}, by shards"}
        settings |= {"shards": len(plans), **value_of(sampler, named)}
        super().__init__(order, settings, length=length, rank=rank, world_size=world_size, drop_last=drop_last)


class _Mixed:
    """Give the mix of an epoch by position; the last epoch's is kept."""

    _SPARE = 1024  # positions beyond an epoch, for ranks that do not divide it

    def __init__(
        self,
        plans: Sequence[ShardPlan],
        labels: ArrayLike,
        sampler: str,
        *,
        classes: ArrayLike | None,
        seed: int,
        named: Mapping[str, float],
    ) -> None:
        if isinstance(plans, str) or not all(isinstance(plan, ShardPlan) for plan in plans):
            raise UsageError(f"plans: {plans!r:.40}; those of one split are needed, such as remote.plans['train']")
        self.labels, counts, chosen = check_source(labels, classes)
        rows = sum(len(plan.rows) for plan in plans)
        if rows != len(self.labels):
            raise UsageError(f"plans: of {rows:,} rows, there are {len(self.labels):,} labels; give those of one split")
        self.epochs = epochs_of(sampler, named)
        self._plans, self._seed = plans, check_integer("seed", seed, 0, MOST - 1)
        self._sampler, self._counts, self._classes, self._named = sampler, counts, chosen, named
        self.length = int(counts[self._shares(0) > 0].sum())
        self._known: tuple[int, NDArray[np.int64]] | None = None

    def take(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return the rows at positions start .. stop of an epoch, int64 (stop - start,)."""
        if self._known is None or self._known[0] != epoch or len(self._known[1]) < stop:
            length = max(stop, self.length) + self._SPARE
            target = self._shares(epoch)
            self._known = epoch, mix(self._plans, self.labels, target, length=length, seed=self._seed, epoch=epoch).row
        return self._known[1][start:stop]

    def _shares(self, epoch: int) -> NDArray[np.float64]:
        return class_shares(self._sampler, self._counts, classes=self._classes, epoch=epoch, **self._named)


def _row_weights(
    plans: Sequence[ShardPlan], labels: NDArray[np.int64], target: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return target_c / n_c of each row's class, float64 (n,), after checking that they fit each other.

    Inside a series of N rows that is target_c / share_c over N, and its sum over the rows is the series' mass.
    """
    target = np.asarray(target, dtype=np.float64)
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *(plan.rows for plan in plans)])
    if target.ndim != 1 or not np.isfinite(target).all() or target.min(initial=0) < 0 or not target.sum() > 0:
        raise UsageError("target: one finite mass of 0 or more per class is needed, and one above 0")
    if labels.min(initial=0) < 0 or labels.max(initial=-1) >= len(target):
        raise UsageError(f"target: {len(target)} classes, the labels go from {labels.min()} to {labels.max()}")
    if rows.min(initial=0) < 0 or rows.max(initial=-1) >= len(labels) or len(np.unique(rows)) < len(rows):
        raise UsageError(f"plans: they name a row twice, or one that is not among the {len(labels)} labels")
    counts = np.bincount(labels[rows], minlength=len(target))
    empty = np.flatnonzero((target > 0) & (counts == 0))
    if len(empty):
        raise UsageError(f"target: class {empty[0]} has mass {target[empty[0]]:g} and no rows; give it 0")
    return np.asarray((target / target.sum() / np.maximum(counts, 1))[labels])


def _series(plans: Sequence[ShardPlan]) -> list[list[int]]:
    """Group the numbers of shards by series: ``train/many-000003.tar`` is of ``train/many``."""
    numbered = groupby(enumerate(plans), key=lambda each: each[1].path.rpartition("-")[0])
    return [[number for number, _ in shards] for _, shards in numbered]


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    """Return a generator of its own for each purpose, so that the length of one changes no other."""
    return np.random.default_rng([seed, epoch, stream, _PURPOSE])


def _accept(
    stream: Sequence[NDArray[np.int64]],
    weight: NDArray[np.float64],
    count: int,
    *,
    shuffle: np.random.Generator,
    accept: np.random.Generator,
) -> tuple[NDArray[np.int64], int]:
    """Read a series until `count` rows are accepted.

    Args:
        stream: the rows of each of its shards, in stored order.
        weight: of every row of the split, (n,); proportional to the chance of being accepted.
        count: at least 1.
        shuffle: draws the order of the shards, and where in the first pass reading begins.
        accept: draws who is accepted.

    Returns:
        Row, shard (of these) and pass of each accepted row, int64 (3, count), and the number of rows read.
    """
    stored = np.array([len(rows) for rows in stream])
    candidates = [np.flatnonzero(weight[rows] > 0) for rows in stream]  # the others need no draw
    place = np.concatenate(candidates)
    row = np.concatenate([rows[kept] for rows, kept in zip(stream, candidates, strict=True)])
    shard = np.repeat(np.arange(len(stream)), [len(kept) for kept in candidates])
    lengths = np.bincount(shard, minlength=len(stream))
    starts = np.cumsum(lengths) - lengths
    chance = weight[row] / weight[row].max()

    begin = int(shuffle.integers(stored.sum()))
    block = 1 + min(_BLOCK_ROWS // len(row), int(1.1 * count / chance.sum()))
    parts: list[NDArray[np.int64]] = []
    missing, passes, at = count, 0, 0
    while missing > 0:
        visits = shuffle.permuted(np.tile(np.arange(len(stream)), (block, 1)), axis=1).ravel()
        ends = np.cumsum(lengths[visits])
        read = np.repeat(starts[visits] - ends + lengths[visits], lengths[visits]) + np.arange(ends[-1])
        hit = np.flatnonzero(accept.random(len(read)) < chance[read])
        visit = np.searchsorted(ends, hit, side="right")
        taken = read[hit]
        # Rows that the stream has passed, of all passes, when it comes to this one.
        at_row = passes * stored.sum() + (np.cumsum(stored[visits]) - stored[visits])[visit] + place[taken]
        part = np.stack([row[taken], shard[taken], passes + visit // len(stream), at_row])
        part = part[:, at_row >= begin][:, :missing]
        parts.append(part)
        missing -= part.shape[1]
        passes += block
        at = int(part[3, -1]) if part.shape[1] else at
    found = np.concatenate(parts, axis=1)
    return found[:3], at + 1 - begin
