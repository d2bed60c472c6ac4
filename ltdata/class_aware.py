"""Class-aware batches: P classes with K images each (P x K sampling).

Classes are dealt out in rounds, each all C classes in a new order, and the rounds laid end to end are cut into batches
of P: every class comes once in every round. Where a batch reaches into the next round, the classes that it has already
stand back there until the batch is full, so that none comes twice in it. A class goes on through its images, in an
order drawn anew every epoch, and begins again when it is through; one with fewer than K gives some of them twice.

>>> batches = ClassAware([0, 0, 0, 1, 2, 2], classes_per_batch=2, images_per_class=2, seed=0)
>>> batches.take(0, 0, 3).tolist()
[[2, 0, 5, 4], [3, 3, 5, 4], [1, 2, 3, 3]]
"""

from math import lcm

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltdata.labels import check_integer
from ltdata.orders import bits, by_class, check_source
from ltdata.sampling import MOST

_MOST_IMAGES = 1 << 16  # of a class in a batch


class ClassAware:
    """Give the endless order of batches of an epoch by position.

    After lcm(C, P) slots a batch and a round end together, so each such cycle is dealt by itself, and no batch needs
    more than the P rounds of its own.
    """

    epochs = MOST

    def __init__(
        self,
        labels: ArrayLike,
        *,
        classes_per_batch: int,
        images_per_class: int,
        seed: int,
        classes: ArrayLike | None = None,
        stream: int = 0,
    ) -> None:
        self._labels, counts, chosen = check_source(labels, classes)
        self._classes = np.flatnonzero(counts if chosen is None else chosen)
        self._p = check_integer("classes_per_batch", classes_per_batch, 1, len(self._classes))
        self._k = check_integer("images_per_class", images_per_class, 1, _MOST_IMAGES)
        self._seed, self._stream = (check_integer(*pair, 0, MOST - 1) for pair in (("seed", seed), ("stream", stream)))
        self._counts, self._starts = counts, np.cumsum(counts) - counts
        self.length = -(-int(counts[self._classes].sum()) // (self._p * self._k))
        self._images: tuple[int, NDArray[np.int64]] | None = None
        self._cycle: tuple[tuple[int, int], NDArray[np.int64]] | None = None

    def take(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Draw batches start .. stop of an epoch, int64 (stop - start, P K), the images of a class side by side."""
        slots = lcm(len(self._classes), self._p)
        in_cycle = slots // self._p
        parts = [np.zeros((0, self._p), dtype=np.int64)]
        for cycle in range(start // in_cycle, -(-stop // in_cycle)):
            first = cycle * in_cycle
            parts.append(self._deal(epoch, cycle)[max(start - first, 0) : stop - first])
        classes = np.concatenate(parts)
        # A class comes once a round: the round says how many of its images have been before.
        round_number = np.arange(start * self._p, stop * self._p).reshape(-1, self._p) // len(self._classes)
        place = round_number[:, :, None] * self._k + np.arange(self._k)
        rows = self._starts[classes][:, :, None] + place % self._counts[classes][:, :, None]
        images: NDArray[np.int64] = self._by_class(epoch)[rows]
        return images.reshape(len(classes), self._p * self._k)

    def _deal(self, epoch: int, cycle: int) -> NDArray[np.int64]:
        """Deal the classes of a cycle, int64 (batch, P); the last one is kept."""
        if self._cycle is None or self._cycle[0] != (epoch, cycle):
            chance = np.random.Generator(bits(self._seed, epoch, self._stream, 1 + cycle))
            dealt = np.zeros(0, dtype=np.int64)
            for _ in range(lcm(len(self._classes), self._p) // len(self._classes)):
                order = chance.permutation(self._classes)
                begun = len(dealt) % self._p  # classes that are in the last batch already
                if begun:
                    back = np.isin(order, dealt[-begun:])
                    free = np.flatnonzero(~back)[: self._p - begun]
                    order = np.concatenate([order[free], np.delete(order, free)])
                dealt = np.concatenate([dealt, order])
            self._cycle = (epoch, cycle), dealt.reshape(-1, self._p)
        return self._cycle[1]

    def _by_class(self, epoch: int) -> NDArray[np.int64]:
        """Sort the images by class, those of a class in an order of this epoch; the last epoch's are kept."""
        if self._images is None or self._images[0] != epoch:
            order = np.random.Generator(bits(self._seed, epoch, self._stream)).permutation(len(self._labels))
            self._images = epoch, order[by_class(self._labels[order], len(self._counts))]
        return self._images[1]
