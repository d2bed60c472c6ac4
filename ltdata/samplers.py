"""Samplers: orders cut for ranks, epoch by epoch, for a PyTorch DataLoader or any other loop.

    sampler = Sampler(labels, "class-balanced", seed=0, rank=rank, world_size=world_size)
    loader = DataLoader(dataset, batch_size=128, sampler=sampler)
    for epoch in range(200):
        sampler.set_epoch(epoch)
        for images, labels in loader: ...

What always holds:

* One global order for any number of ranks: position i of it is item i // world_size of rank i % world_size, and all
  ranks have equally many items. Where they do not divide the epoch, the order goes on a few positions
  (``drop_last=False``), or ends a few earlier.
* A pass over a sampler is one epoch. After a whole one comes the next by itself, so that a forgotten `set_epoch`
  repeats nothing; after one that was broken off, the same epoch from its beginning.
* `state_dict` says where a pass stands in the global order, and `load_state_dict` goes on exactly there, on any number
  of ranks. Nothing is drawn twice for it: positions are addressed (a permutation is drawn again, 1 ms per 100,000).
  A DataLoader with workers asks ahead, so tell it what the training has used: ``sampler.state_dict(used=step * 128)``.
* No torch is needed: a DataLoader takes any object with a length to iterate over.

>>> sampler = Sampler(np.array([0, 0, 0, 0, 1]), "class-balanced", seed=0)
>>> len(sampler), list(sampler), list(sampler)
(5, [4, 2, 0, 0, 4], [4, 4, 4, 4, 0])
"""

import zlib
from collections.abc import Iterator, Mapping
from itertools import chain
from operator import length_hint
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltdata import orders
from ltdata.errors import UsageError
from ltdata.labels import check_classes, check_counts, check_integer, check_labels
from ltdata.orders import Order, Pairs

Item = TypeVar("Item")
_CHUNK = 1 << 14  # positions drawn at once: fast, and the first item comes within a millisecond


class _Passes(Generic[Item]):
    """Cut an endless order into epochs and ranks, and know where a pass stands."""

    def __init__(
        self,
        order: Order,
        settings: Mapping[str, Any],
        *,
        length: int | None,
        rank: int,
        world_size: int,
        drop_last: bool,
    ) -> None:
        self.world_size = check_integer("world_size", world_size, 1)
        self.rank = check_integer("rank", rank, 0, self.world_size - 1)
        self.length = order.length if length is None else check_integer("length", length, 1)
        self.drop_last = drop_last
        self._order = order
        self._settings = {**settings, "length": self.length}
        self._epoch = 0
        self._start = 0  # of the current or last pass, or of the next if none has begun: a position in the global order
        self._end = 0  # where those of its items end that have been drawn so far
        self._waiting: Iterator[Item] = iter(())  # those of them that have not been handed out
        self._begun = False

    @property
    def epoch(self) -> int:
        """Return the epoch of the current or last pass, counted from 0."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is of, counted from 0; a loaded state of that epoch goes on."""
        epoch = check_integer("epoch", epoch)
        if epoch != self._epoch or self._over():
            self._go_to(epoch, 0)

    def __len__(self) -> int:
        """Count the items that a pass gives this rank: fewer in the pass that goes on where a loaded state stands."""
        return self._left(0 if self._over() else self._start)

    def __iter__(self) -> Iterator[Item]:
        """Begin a pass: this rank's items of an epoch, or of the rest of one after `load_state_dict`."""
        if self._over():
            self._epoch, self._start = self._epoch + 1, 0
        elif self._begun:  # and broken off
            self._start = 0
        self._go_to(self._epoch, self._start)
        self._begun = True
        return chain.from_iterable(self._parts())

    def _parts(self) -> Iterator[Iterator[Item]]:
        """Draw the items of a pass part by part, to be handed out without a line of Python for each."""
        end = self._start + self._left(self._start) * self.world_size
        step = max(1, _CHUNK // self.world_size) * self.world_size
        epoch = self._epoch
        for at in range(self._start, end, step):
            stop = min(at + step, end)
            part = self._order.take(epoch, at, stop)[self.rank :: self.world_size]
            self._end, self._waiting = stop, iter(self._items(part))
            yield self._waiting

    def _go_to(self, epoch: int, position: int) -> None:
        self._epoch, self._start, self._end, self._waiting, self._begun = epoch, position, position, iter(()), False

    def _at(self) -> int:
        """Return where the current or last pass stands, a position in the global order."""
        return self._end - length_hint(self._waiting) * self.world_size

    def _over(self) -> bool:
        """Tell whether a pass has begun and handed out all its items."""
        return self._begun and not self._left(self._at())

    def _left(self, position: int) -> int:
        """Count the items that each rank gets from a position of the global order on."""
        left = max(self.length - position, 0)
        return left // self.world_size if self.drop_last else -(-left // self.world_size)

    def _items(self, part: NDArray[np.int64]) -> list[Item]:
        """Give the items of some positions as plain Python values."""
        raise NotImplementedError

    def state_dict(self, *, used: int | None = None) -> dict[str, Any]:
        """Say where the current pass stands, in values that JSON can hold.

        Args:
            used: how many items of the pass this rank has used, where something between asks ahead, as a DataLoader
                with workers does; None: as many as were handed out.

        Raises:
            UsageError: a pass has fewer.
        """
        at = self._at()
        if used is not None:
            at = self._start + check_integer("used", used, 0, self._left(self._start)) * self.world_size
        epoch, at = (self._epoch, at) if self._left(at) else (self._epoch + 1, 0)
        return {**_about(self._settings), "epoch": epoch, "position": at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state stands: the next pass gives the rest of its epoch.

        Raises:
            UsageError: the state is of a sampler with other settings or labels, or says nothing that can be meant.
        """
        for name, own in _about(self._settings).items():
            if state.get(name) != own:
                found = state.get(name, "is missing")
                raise UsageError(f"state: {name} {found}, of this sampler {own}; make it with the same settings")
        epoch, position = state.get("epoch"), state.get("position")
        epoch = check_integer("state: epoch", epoch)
        self._go_to(epoch, check_integer("state: position", position, 0, self.length - 1))


class Sampler(_Passes[int]):
    """Give the positions of images, drawn class by class: `sampler=` of a DataLoader.

    Args:
        labels: of the images, whole numbers (n,).
        sampler: one of `ltdata.sampling.SAMPLERS`.
        class_counts: images per class, (C,), in place of labels where the images stand class by class, as those of
            CIFAR-LT do; beside labels they must agree with them.
        classes: those that are drawn from, bool (C,): an expert's target categories, or ``manifest.groups == 2``.
        seed: of the training.
        rank: of this process, 0 .. world_size - 1.
        world_size: number of processes.
        length: draws of an epoch, of all ranks together; None: as many as images, see `ltdata.orders.epoch_order`.
        drop_last: leave out the last draws that do not go round all ranks, in place of going on a few.
        named: the sampler's value, such as ``q=0.25``, see `ltdata.sampling`.

    Raises:
        UsageError: a value cannot be meant; the message names it.
    """

    def __init__(
        self,
        labels: ArrayLike | None = None,
        sampler: str = "class-balanced",
        *,
        class_counts: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        length: int | None = None,
        drop_last: bool = False,
        **named: float,
    ) -> None:
        labels = _labels(labels, class_counts, classes)
        order = orders.order_of(sampler, labels, seed=seed, classes=classes, stream=0, **named)
        settings = {"labels": labels, "classes": classes, "seed": seed, "sampler": sampler, **named}
        super().__init__(order, settings, length=length, rank=rank, world_size=world_size, drop_last=drop_last)

    def _items(self, part: NDArray[np.int64]) -> list[int]:
        items: list[int] = part.tolist()
        return items


class PairSampler(_Passes[tuple[int, int]]):
    """Give pairs of positions, each side drawn by a sampler of its own, as two-branch methods need them (BBN).

    >>> sampler = PairSampler([0, 0, 0, 1], second="reversed", seed=0)
    >>> list(sampler)
    [(2, 3), (0, 2), (1, 3), (3, 3)]

    `Paired(dataset)` gives a DataLoader the images of both. Arguments as of `Sampler`, but for:

    Args:
        first: sampler of the first side, and of the epoch's length.
        second: of the second one, drawn independently; BBN's is ``reversed``.
        named: the second sampler's value.
    """

    def __init__(
        self,
        labels: ArrayLike | None = None,
        first: str = "instance-balanced",
        second: str = "class-balanced",
        *,
        class_counts: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        length: int | None = None,
        drop_last: bool = False,
        **named: float,
    ) -> None:
        labels = _labels(labels, class_counts, classes)
        order = Pairs(
            orders.order_of(first, labels, seed=seed, classes=classes),
            orders.order_of(second, labels, seed=seed, classes=classes, stream=1, **named),
        )
        settings = {"labels": labels, "classes": classes, "seed": seed, "first": first, "second": second, **named}
        super().__init__(order, settings, length=length, rank=rank, world_size=world_size, drop_last=drop_last)

    def _items(self, part: NDArray[np.int64]) -> list[tuple[int, int]]:
        return list(zip(*part.T.tolist(), strict=True))


class ClassAwareBatches(_Passes[list[int]]):
    """Give batches of P classes with K images each: `batch_sampler=` of a DataLoader.

    >>> batches = ClassAwareBatches([0, 0, 0, 1, 2, 2], classes_per_batch=2, images_per_class=2, seed=0)
    >>> list(batches)
    [[2, 0, 5, 4], [3, 3, 5, 4]]

    Inside a batch no class comes twice, and no image of a class that has K. Ranks get whole batches. The rest of the
    arguments as of `Sampler`, but for:

    Args:
        classes_per_batch: P.
        images_per_class: K.
        length: batches of an epoch, of all ranks together; None: as many as hold the number of images.
    """

    def __init__(
        self,
        labels: ArrayLike | None = None,
        *,
        classes_per_batch: int,
        images_per_class: int,
        class_counts: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        length: int | None = None,
        drop_last: bool = False,
    ) -> None:
        labels = _labels(labels, class_counts, classes)
        shape = {"classes_per_batch": classes_per_batch, "images_per_class": images_per_class}
        order = orders.ClassAware(labels, classes=classes, seed=seed, **shape)
        settings = {"labels": labels, "classes": classes, "seed": seed, "sampler": "class-aware", **shape}
        super().__init__(order, settings, length=length, rank=rank, world_size=world_size, drop_last=drop_last)

    def _items(self, part: NDArray[np.int64]) -> list[list[int]]:
        items: list[list[int]] = part.tolist()
        return items


class Paired:
    """Give a DataLoader with a `PairSampler` the images of both sides: ``dataset[i], dataset[j]``."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """Count the images."""
        return len(self.dataset)

    def __getitem__(self, pair: tuple[int, int]) -> tuple[Any, Any]:
        """Return what the data set has at both positions."""
        return self.dataset[pair[0]], self.dataset[pair[1]]


def _labels(labels: ArrayLike | None, class_counts: ArrayLike | None, classes: ArrayLike | None) -> NDArray[np.int64]:
    """Return the labels, made from class counts where only those are given, after checking that all fit."""
    if class_counts is None:
        if labels is None:
            raise UsageError("labels: none were given, and no class_counts; one of them is needed")
        return check_labels(labels)
    counts = check_counts(class_counts)
    wanted = np.ones(len(counts), dtype=bool) if classes is None else check_classes(classes, len(counts))
    empty = np.flatnonzero(wanted & (counts == 0))
    if len(empty):
        raise UsageError(f"class_counts: class {empty[0]} has 0 images and can never be drawn; leave it out by classes")
    if labels is None:
        return np.repeat(np.arange(len(counts)), counts)
    found = check_labels(labels, num_classes=len(counts))
    differs = np.flatnonzero(np.bincount(found, minlength=len(counts)) != counts)
    if len(differs):
        raise UsageError(
            f"class_counts: class {differs[0]} has {counts[differs[0]]} images, of the {len(found)} labels "
            f"{int((found == differs[0]).sum())}; give what belongs together"
        )
    return found


def _about(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Say in plain values what an order follows from, to know a state of another one."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}
    labels, classes = plain.pop("labels"), plain.pop("classes")
    chosen = b"" if classes is None else np.packbits(np.asarray(classes)).tobytes()
    return {"images": len(labels), "labels_crc32": zlib.crc32(labels.tobytes(), zlib.crc32(chosen)), **plain}
