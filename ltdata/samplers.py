"""Samplers for a PyTorch DataLoader or any other loop: an order by labels, cut into epochs and ranks.

    sampler = Sampler(labels, "class-balanced", seed=0, rank=rank, world_size=world_size)
    loader = DataLoader(dataset, batch_size=128, sampler=sampler)
    for epoch in range(200):
        sampler.set_epoch(epoch)
        for images, labels in loader: ...

No torch is needed: a DataLoader takes any object with a length to iterate over. What holds of ranks, epochs and states
is in `ltdata.passes`. A DataLoader with workers asks ahead: ``state_dict(batches=steps, batch_size=128)`` says what the
training has used. Shards that are read one after the other have a sampler of their own, `ltdata.mixing.ShardSampler`.

>>> sampler = Sampler(np.array([0, 0, 0, 0, 1]), "class-balanced", seed=0)
>>> len(sampler), list(sampler), list(sampler)
(5, [4, 2, 0, 0, 4], [4, 4, 4, 4, 0])
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltdata import orders
from ltdata.class_aware import ClassAware
from ltdata.errors import UsageError
from ltdata.labels import check_counts, check_integer, check_labels, check_mask
from ltdata.orders import Pairs
from ltdata.passes import Passes
from ltdata.sampling import MOST, VALUES, value_of


class Sampler(Passes[int]):
    """Give the positions of images, drawn class by class: `sampler=` of a DataLoader.

    Args:
        labels: of the images, whole numbers (n,).
        sampler: one of `ltdata.sampling.SAMPLERS`.
        class_counts: images per class, (C,), in place of labels where the images stand class by class, as those of
            CIFAR-LT do; beside labels they must agree with them.
        classes: those that are drawn from, bool (C,): an expert's target categories, or ``manifest.groups == 2``.
        seed: of the training.
        stream: number of this sampler among several of one training, such as one per expert: samplers of one seed and
            stream draw from the same random numbers, so that their classes rise and fall together.
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
        stream: int = 0,
        rank: int = 0,
        world_size: int = 1,
        length: int | None = None,
        drop_last: bool = False,
        **named: float,
    ) -> None:
        labels = _labels(labels, class_counts, classes)
        order = orders.order_of(sampler, labels, seed=seed, classes=classes, stream=stream, **named)
        settings = {"labels": labels, "classes": classes, "seed": seed, "stream": stream, "sampler": sampler}
        settings |= value_of(sampler, named)
        super().__init__(order, settings, length=length, rank=rank, world_size=world_size, drop_last=drop_last)


class PairSampler(Passes[tuple[int, int]]):
    """Give pairs of positions, each side drawn by a sampler of its own, as two-branch methods need them (BBN).

    >>> sampler = PairSampler([0, 0, 0, 1], second="reversed", seed=0)
    >>> list(sampler)
    [(2, 3), (0, 2), (1, 3), (3, 3)]

    `Paired(dataset)` gives a DataLoader the images of both. Arguments as of `Sampler`, but for:

    Args:
        first: sampler of the first side, and of the epoch's length.
        second: of the second one, drawn independently; BBN's is ``reversed``.
        named: the samplers' values; each goes to the side that takes it.
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
        stream: int = 0,
        rank: int = 0,
        world_size: int = 1,
        length: int | None = None,
        drop_last: bool = False,
        **named: float,
    ) -> None:
        labels = _labels(labels, class_counts, classes)
        check_integer("stream", stream, 0, MOST // 2 - 1)
        own_first, own_second = _taken(first, named), _taken(second, named)
        for name, value in named.items():
            if name not in own_first | own_second:
                raise UsageError(f"{name} {value!r}: neither {first} nor {second} takes it")
        order = Pairs(
            orders.order_of(first, labels, seed=seed, classes=classes, stream=2 * stream, **own_first),
            orders.order_of(second, labels, seed=seed, classes=classes, stream=2 * stream + 1, **own_second),
        )
        settings = {
            "labels": labels,
            "classes": classes,
            "seed": seed,
            "stream": stream,
            "sampler": f"{first}, {second}",
        }
        settings |= value_of(first, own_first) | value_of(second, own_second)
        super().__init__(order, settings, length=length, rank=rank, world_size=world_size, drop_last=drop_last)

    def _items(self, part: NDArray[np.integer]) -> list[tuple[int, int]]:
        return list(zip(*part.T.tolist(), strict=True))


class ClassAwareBatches(Passes[list[int]]):
    """Give batches of P classes with K images each: `batch_sampler=` of a DataLoader.

    >>> batches = ClassAwareBatches([0, 0, 0, 1, 2, 2], classes_per_batch=2, images_per_class=2, seed=0)
    >>> list(batches)
    [[2, 0, 5, 4], [3, 3, 5, 4]]

    Inside a batch no class comes twice, and no image of a class that has K; all classes come equally often, see
    `ltdata.class_aware`. Ranks get whole batches. Arguments as of `Sampler`, but for:

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
        stream: int = 0,
        rank: int = 0,
        world_size: int = 1,
        length: int | None = None,
        drop_last: bool = False,
    ) -> None:
        labels = _labels(labels, class_counts, classes)
        shape = {"classes_per_batch": classes_per_batch, "images_per_class": images_per_class}
        order = ClassAware(labels, classes=classes, seed=seed, stream=stream, **shape)
        settings = {
            "labels": labels,
            "classes": classes,
            "seed": seed,
            "stream": stream,
            "sampler": "class-aware",
            **shape,
        }
        super().__init__(order, settings, length=length, rank=rank, world_size=world_size, drop_last=drop_last)


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
    wanted = np.ones(len(counts), dtype=bool) if classes is None else check_mask(classes, len(counts))
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


def _taken(sampler: str, named: Mapping[str, float]) -> dict[str, float]:
    """Choose what one side of a pair takes."""
    takes = VALUES.get(sampler)
    return {} if takes is None else {name: value for name, value in named.items() if name == takes[0]}
