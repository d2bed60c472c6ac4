"""Orders: which image comes at which position of an epoch.

An order is endless, a pure function of (sampler, labels, seed, epoch), and addressed by position: a longer one begins
with the shorter one, ranks and workers cut it, and going on at a position needs nothing that came before. The share of
each class is that of `ltdata.sampling`.

>>> labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
>>> order = epoch_order("class-balanced", labels, seed=0, epoch=0, length=1000)
>>> bool(abs(np.bincount(labels[order])[1] - 500) < 60)
True
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltdata.errors import UsageError
from ltdata.labels import check_integer, check_labels, check_mask
from ltdata.sampling import MOST, check_value, class_shares, epochs_of, repeat_factors

VERSION = 1  # of the orders; a state of another version is not gone on with


class Order(Protocol):
    """Give the endless order of an epoch by position."""

    @property
    def length(self) -> int:
        """Return how many draws an epoch has."""

    @property
    def epochs(self) -> int:
        """Return how many epochs there are; `ltdata.sampling.MOST` where the order knows no end."""

    def take(self, epoch: int, start: int, stop: int) -> NDArray[np.integer]:
        """Draw positions start .. stop of an epoch, whole numbers (stop - start, ...)."""


def order_of(
    sampler: str,
    labels: ArrayLike,
    *,
    seed: int,
    classes: ArrayLike | None = None,
    stream: int = 0,
    **named: float,
) -> Order:
    """Prepare the order of a sampler.

    Args:
        sampler: one of `ltdata.sampling.SAMPLERS`.
        labels: of the images, whole numbers (n,).
        seed: of the training.
        classes: those that are drawn from, bool (C,); None: all.
        stream: number of this order among several of one training that must not depend on each other: orders of one
            seed and stream come from the same random numbers, whatever the sampler and the classes.
        named: the sampler's value, see `ltdata.sampling`.

    Raises:
        UsageError: as `class_shares`, and labels that are none.
    """
    value = check_value(sampler, named)
    labels, counts, chosen = check_source(labels, classes)
    seed, stream = check_integer("seed", seed, 0, MOST - 1), check_integer("stream", stream, 0, MOST - 1)
    if sampler == "instance-balanced":
        rows = len(labels) if chosen is None else np.flatnonzero(chosen[labels])
        length = rows if isinstance(rows, int) else len(rows)
        return Rounds(length, partial(_deal_once, rows), seed=seed, stream=stream)
    if sampler == "repeat-factor":
        rows = np.arange(len(labels)) if chosen is None else np.flatnonzero(chosen[labels])
        inside = np.bincount(labels[rows])
        factors = np.repeat(repeat_factors(inside, threshold=value), inside)  # of the rows, class by class
        whole = np.floor(factors).astype(np.int64)
        rest = factors - whole
        more = round(rest.sum())
        if rest.max() * more > rest.sum():  # of a few images: no row may get two
            more = int(rest.sum())
        ends = np.cumsum(rest) * (more / rest.sum() if more else 0.0)
        deal = partial(_deal_repeated, rows, labels[rows], whole, ends)
        return Rounds(int(whole.sum()) + more, deal, seed=seed, stream=stream)
    return Drawn(sampler, labels, counts, seed=seed, classes=chosen, named=named, stream=stream)


def epoch_order(
    sampler: str,
    labels: ArrayLike,
    *,
    seed: int,
    epoch: int,
    length: int | None = None,
    classes: ArrayLike | None = None,
    **named: float,
) -> NDArray[np.int64]:
    """Draw the order of an epoch.

    Args:
        sampler: one of `ltdata.sampling.SAMPLERS`.
        labels: of the images, whole numbers (n,).
        seed: of the training.
        epoch: counted from 0.
        length: how many draws; None: as many as images, of ``repeat-factor`` the sum of the factors.
            ``instance-balanced`` begins anew when every image was drawn.
        classes: those that are drawn from, bool (C,); None: all.
        named: the sampler's value, see `ltdata.sampling`.

    Returns:
        Positions in `labels`, int64 (length,).

    Raises:
        UsageError: there is no such sampler, or nothing to draw from, or a value is out of its range.
    """
    order = order_of(sampler, labels, seed=seed, classes=classes, stream=0, **named)
    stop = order.length if length is None else check_integer("length", length, 0, MOST)
    return order.take(check_integer("epoch", epoch, 0, order.epochs - 1), 0, stop).astype(np.int64, copy=False)


def bits(seed: int, epoch: int, stream: int, turn: int = 0) -> np.random.PCG64:
    """Return random bits of their own for each stream of orders and each turn of one: those of numpy's default_rng."""
    return np.random.PCG64([seed, epoch, 0, turn, *[stream] * (stream > 0)])


class Rounds:
    """Draw without replacement: one round after the other, each dealt anew."""

    epochs = MOST

    def __init__(
        self, length: int, deal: Callable[[np.random.Generator], NDArray[np.int64]], *, seed: int, stream: int = 0
    ) -> None:
        self.length = length
        self._deal, self._seed, self._stream = deal, seed, stream
        self._known: tuple[tuple[int, int], NDArray[np.int64]] | None = None

    def take(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Draw positions start .. stop of an epoch, int64 (stop - start,)."""
        parts = [np.zeros(0, dtype=np.int64)]
        for turn in range(start // self.length, -(-stop // self.length)):
            first = turn * self.length
            parts.append(self._round(epoch, turn)[max(start - first, 0) : stop - first])
        return np.concatenate(parts)

    def _round(self, epoch: int, turn: int) -> NDArray[np.int64]:
        """Deal a round; the last one is kept, since its parts are asked for one after the other."""
        if self._known is None or self._known[0] != (epoch, turn):
            chance = np.random.Generator(bits(self._seed, epoch, self._stream, turn))
            self._known = (epoch, turn), self._deal(chance)
        return self._known[1]


def _deal_once(rows: NDArray[np.int64] | int, chance: np.random.Generator) -> NDArray[np.int64]:
    """Deal all rows, or the numbers below one, in a new order."""
    return chance.permutation(rows)


def _deal_repeated(
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    repeats: NDArray[np.int64],
    ends: NDArray[np.float64],
    chance: np.random.Generator,
) -> NDArray[np.int64]:
    """Deal every row floor(r) or ceil(r) times, in a new order; r times on average, but for the rounding of their sum.

    Beside its floor(r) copies, a row gets one more if it holds a point: rows lie end to end on a line, each as long as
    the rest of its factor, and points are one apart, the first one drawn. So all rounds are equally long. Rows lie
    class by class, which keeps every class on target, in an order drawn anew, which makes the copies of two rows of a
    class independent of each other.
    """
    order = chance.permutation(len(rows))
    order = order[by_class(labels[order], int(labels.max()) + 1)]
    total = round(ends[-1])
    passed = np.minimum(np.floor(ends - chance.random()).astype(np.int64) + 1, total)
    passed[-1] = total  # whatever the sum's last digit
    return chance.permutation(np.repeat(rows[order], repeats + np.diff(passed, prepend=0)))


class Drawn:
    """Draw with replacement: a class by its share, then one of its images.

    One number, uniform in 0 .. 1, gives both: the class is where it falls in the distribution function, the image
    where inside the class's step. Position i of an epoch is the i-th number of its generator, which leaps there.
    """

    _CHUNK = 1 << 14  # draws at once: their tables and numbers stay in the processor's cache

    def __init__(
        self,
        sampler: str,
        labels: NDArray[np.int64],
        counts: NDArray[np.int64],
        *,
        seed: int,
        classes: NDArray[np.bool_] | None,
        named: Mapping[str, float],
        stream: int = 0,
    ) -> None:
        self.length = int(counts.sum() if classes is None else counts[classes].sum())
        # Images of class c: by_class[starts[c] : starts[c] + counts[c]]; half as many bytes, a quarter less time.
        self._by_class = by_class(labels, len(counts)).astype(np.int32)
        self.epochs = epochs_of(sampler, named)
        self._sampler, self._counts, self._classes = sampler, counts, classes
        self._named = named
        self._seed, self._stream = seed, stream
        # Where the last part ended, and the generator that stands there: the next part mostly begins there.
        self._next: tuple[tuple[int, int], np.random.Generator] | None = None
        self._tabulate(0)

    def take(self, epoch: int, start: int, stop: int) -> NDArray[np.int32]:
        """Draw positions start .. stop of an epoch, int32 (stop - start,)."""
        if self._sampler == "progressively-balanced" and epoch != self._epoch:
            self._tabulate(epoch)
        if self._next is None or self._next[0] != (epoch, start):
            stream = bits(self._seed, epoch, self._stream)
            stream.advance(start)
            self._next = (epoch, start), np.random.Generator(stream)
        chance = self._next[1]
        self._next = (epoch, stop), chance
        if stop - start <= self._CHUNK:
            return self._draw(chance.random(stop - start))
        rows = np.empty(stop - start, dtype=np.int32)
        for at in range(0, len(rows), self._CHUNK):
            part = rows[at : at + self._CHUNK]
            part[:] = self._draw(chance.random(len(part)))
        return rows

    def _draw(self, number: NDArray[np.float64]) -> NDArray[np.int32]:
        if self._equal:  # a multiplication finds the step, in half of the time
            inside = number * len(self._n)
            which = inside.astype(np.int32)
            inside -= which
            inside *= self._n.take(which)
        else:
            which = self._guide.take((number * len(self._guide)).astype(np.int32))
            which += number >= self._ends.take(which)
            if not self._near:
                late = np.flatnonzero(number >= self._ends.take(which))
                which[late] = np.searchsorted(self._ends, number[late], side="right")
            inside = (number - self._begins.take(which)) * self._scale.take(which)
        return np.asarray(self._by_class.take(self._starts.take(which) + inside.astype(np.int32)))

    def _tabulate(self, epoch: int) -> None:
        """Compute the distribution function and its inverse, of the classes that are drawn from."""
        shares = class_shares(self._sampler, self._counts, classes=self._classes, epoch=epoch, **self._named)
        kept = np.flatnonzero(shares)
        self._epoch = epoch
        self._starts = (np.cumsum(self._counts) - self._counts)[kept].astype(np.int32)
        self._n = n = self._counts[kept].astype(np.float64)
        self._equal = bool((shares[kept] == shares[kept[0]]).all())
        if self._equal:  # needs no table
            return
        ends = np.cumsum(shares[kept])
        self._ends = ends / ends[-1]
        self._begins = np.concatenate([[0.0], self._ends[:-1]])
        width = self._ends - self._begins
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # a step too small for a float is never hit
            self._scale = n / width
            while (over := width * self._scale >= n).any():  # so that no number of a step leaves its class
                self._scale[over] = np.nextafter(self._scale[over], 0)
        # The class at the lower end of each of many equal parts of 0 .. 1; a power of two, so that a number's part
        # is exact. A number's own class is there or one further, if no part has more than one end: a fifth of the time
        # of a search among 8,142 classes.
        parts = 1 << (4 * len(kept)).bit_length()
        self._guide = np.searchsorted(self._ends, np.arange(parts + 1) / parts, side="right").astype(np.int32)
        self._near = bool(np.diff(self._guide).max() <= 1)
        self._guide = np.minimum(self._guide[:-1], len(kept) - 1)


class Pairs:
    """Pair two orders, position by position; an epoch is as long as the first one's."""

    def __init__(self, first: Order, second: Order) -> None:
        self.length, self.epochs = first.length, min(first.epochs, second.epochs)
        self._sides = first, second

    def take(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Draw positions start .. stop of an epoch, int64 (stop - start, 2)."""
        return np.stack([side.take(epoch, start, stop) for side in self._sides], axis=1)


def by_class(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Sort positions by class, stably. Sixteen bits are sorted by radix, in a sixth of the time."""
    return np.argsort(labels.astype(np.uint16) if num_classes <= 1 << 16 else labels, kind="stable")


def check_source(
    labels: ArrayLike, classes: ArrayLike | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_] | None]:
    """Return labels, class counts, and the classes that are drawn from; None: all that have images.

    Raises:
        UsageError: one cannot be meant, or a class is wanted that has no images.
    """
    chosen = None if classes is None else check_mask(classes)
    labels = check_labels(labels, num_classes=None if chosen is None else len(chosen))
    counts = np.bincount(labels)
    if chosen is not None:
        counts = np.pad(counts, (0, len(chosen) - len(counts)))
        empty = np.flatnonzero(chosen & (counts == 0))
        if len(empty):
            raise UsageError(f"classes: class {empty[0]} is wanted and has 0 images")
        if not chosen.any():
            raise UsageError(f"classes: none of {len(chosen)} is wanted")
    return labels, counts, chosen
