"""Streamed sets: photographs too many to be resident, decoded by threads while the training runs.

A thread reads an image (its digest checked the first time), decodes the part that its crop needs, and resizes that.
Steps ahead are under way while one is trained on, so the device waits only where the processors cannot keep up.

* `StreamedSplit`: shards on this machine, in any order that a sampler draws.
* `RemoteSplit`: shards on a web server, in the order of `ltdata.mixing`, which has the sampler's class distribution and
  reads shard after shard.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ace_ref import augment, devices, jpeg
from ace_ref.draws import Draws
from ace_ref.recipe import Recipe
from ace_ref.resident import finish
from ltdata import mixing, orders, sampling
from ltdata.access import OpenImages
from ltdata.errors import LtdataError, MismatchError
from ltdata.reader import closing_pool, default_workers
from ltdata.remote import Remote, stream
from ltdata.shards import ShardPlan

_AHEAD = 2  # batches under way beside the one that is trained on
_TASK_IMAGES = 4  # for a thread at once: one at a time, handing them over costs a tenth
_EVERY = slice(None)

Work = Callable[[Tensor], None]  # fills its place in a batch, uint8 (side, side, 3), when a thread comes to it


class Image(NamedTuple):
    """Hold how to read an image's file when a thread comes to it, and how to name it in messages."""

    read: Callable[[], bytes]
    name: Callable[[], str]


class _Streams(ABC):
    """Give crops of photographs whose files come one after the other."""

    rows: NDArray[np.int64]
    labels: Tensor

    def __len__(self) -> int:
        """Count the images."""
        return len(self.rows)

    @property
    @abstractmethod
    def host_labels(self) -> NDArray[np.int64]:
        """Return the labels as an array."""

    @abstractmethod
    def _files(self, rows: NDArray[np.int64]) -> Generator[Image, None, None]:
        """Yield the files of some rows of the shards, in that order."""

    def crop_px(self, recipe: Recipe) -> tuple[int, int]:
        """Return height and width of what a recipe crops."""
        return recipe.crop_px, recipe.crop_px

    def described(self, recipe: Recipe) -> dict[str, str]:  # noqa: ARG002 - of the protocol
        """Say that crops are of the originals, and where they come from, which decides their order."""
        return {"pixels": "originals, from a server" if isinstance(self, RemoteSplit) else "originals"}

    def augmented(self, draws: Draws, recipe: Recipe, *, start: int, seen: slice) -> Generator[Tensor, None, None]:
        """Yield, from step `start` on, the augmented bytes of some images of each batch: uint8 (seen, h, w, 3)."""
        index = draws.index[start:, seen].numpy()
        with closing(self._files(self.rows[index.ravel()])) as files:
            work = _coloured(_crops(files, draws, start=start, seen=seen), draws, start=start, seen=seen)
            with closing(_batches(work, index.shape[1], recipe.crop_px, self.labels.device)) as found:
                for step, pixels in enumerate(found, start):
                    yield finish(pixels, draws, recipe, slice(step, step + 1), seen)

    def crops(self, draws: Draws, recipe: Recipe, *, start: int) -> Generator[Tensor, None, None]:
        """Yield, from step `start` on, crops that are not yet flipped and coloured: uint8 (batch, h, w, 3)."""
        with closing(self._files(self.rows[draws.index[start:].numpy().ravel()])) as files:
            work = _crops(files, draws, start=start, seen=_EVERY)
            yield from _batches(work, draws.index.shape[1], recipe.crop_px, self.labels.device)

    def _squares(
        self, rows: NDArray[np.int64], labels: Tensor, recipe: Recipe, batch: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        with closing(self._files(rows)) as files:
            work = (partial(_square, file, recipe) for file in files)
            yield from zip(labels.split(batch), _batches(work, batch, recipe.crop_px, labels.device), strict=True)


@dataclass(frozen=True)
class StreamedSplit(_Streams):
    """Name images in shards on this machine.

    Attributes:
        images: all of the split.
        rows: those that belong to this set, int64 (n,).
        labels: of them, int64 (n,), on the device of the training.
    """

    images: OpenImages
    rows: NDArray[np.int64]
    labels: Tensor

    @property
    def host_labels(self) -> NDArray[np.int64]:
        """Return the labels as an array."""
        return self.images.labels[self.rows]

    def take(self, index: NDArray[np.int64]) -> "StreamedSplit":
        """Return the images at some positions, in that order."""
        return StreamedSplit(self.images, self.rows[index], self.labels[torch.from_numpy(index).to(self.labels.device)])

    def order(self, sampler: str, *, seed: int, epoch: int, **named: float) -> NDArray[np.int64]:
        """Draw the order of an epoch, see `ltdata.orders`."""
        return orders.epoch_order(sampler, self.host_labels, seed=seed, epoch=epoch, length=len(self), **named)

    def central(self, recipe: Recipe, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield labels and central squares of all images, batch by batch."""
        return self._squares(self.rows, self.labels, recipe, batch)

    def _files(self, rows: NDArray[np.int64]) -> Generator[Image, None, None]:
        for row in rows.tolist():
            yield Image(partial(self.images.read, row), partial(self.images.place, row))


@dataclass(frozen=True)
class RemoteSplit(_Streams):
    """Name images in shards on a web server, which are read in an order that is known beforehand.

    Attributes:
        remote: header, rows and shards.
        split: its name.
        rows: those that belong to this set, int64 (n,).
        labels: of them, int64 (n,), on the device of the training.
    """

    remote: Remote
    split: str
    rows: NDArray[np.int64]
    labels: Tensor

    @property
    def host_labels(self) -> NDArray[np.int64]:
        """Return the labels as an array."""
        return self.remote.samples[self.split].labels[self.rows]

    def take(self, index: NDArray[np.int64]) -> "RemoteSplit":
        """Return the images at some positions, in that order."""
        labels = self.labels[torch.from_numpy(index).to(self.labels.device)]
        return RemoteSplit(self.remote, self.split, self.rows[index], labels)

    def order(self, sampler: str, *, seed: int, epoch: int, **named: float) -> NDArray[np.int64]:
        """Draw an order with the sampler's class distribution that reads shard after shard, see `ltdata.mixing`.

        So ``instance-balanced`` too draws with replacement: in expectation every image once.
        """
        target = sampling.class_shares(sampler, np.bincount(self.host_labels), epoch=epoch, **named)
        labels = self.remote.samples[self.split].labels
        rows = mixing.mix(self._plans(), labels, target, length=len(self), seed=seed, epoch=epoch).row
        return self._positions()[rows]

    def central(self, recipe: Recipe, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield labels and central squares of all images, batch by batch, as they lie in the shards."""
        rows = np.concatenate([plan.rows for plan in self._plans()])
        labels = self.labels[torch.from_numpy(self._positions()[rows]).to(self.labels.device)]
        return self._squares(rows, labels, recipe, batch)

    def _positions(self) -> NDArray[np.int64]:
        """Say where in this set each row of the split is, -1 for those that are not."""
        positions = np.full(len(self.remote.samples[self.split]), -1)
        positions[self.rows] = np.arange(len(self.rows))
        return positions

    def _plans(self) -> list[ShardPlan]:
        """List what of this set lies in each shard, in stored order."""
        own = self._positions() >= 0
        plans = (ShardPlan(plan.path, plan.rows[own[plan.rows]]) for plan in self.remote.plans[self.split])
        return [plan for plan in plans if len(plan.rows)]

    def _files(self, rows: NDArray[np.int64]) -> Generator[Image, None, None]:
        with closing(stream(self.remote, self.split, rows)) as found:
            for row, data in found:
                yield Image(partial(bytes, data), partial("{}: {} image {}".format, self.remote.place, self.split, row))


def _crops(files: Iterable[Image], draws: Draws, *, start: int, seen: slice) -> Iterator[Work]:
    """Make the work of an epoch from a step on: decode each image's box, resized."""
    assert draws.place is not None  # noqa: S101 - the recipe's crop is "resized"
    for file, place in zip(files, draws.place[start:, seen].reshape(-1, 4), strict=True):
        yield partial(_crop, file, place)


def _crop(file: Image, place: NDArray[np.float64], out: Tensor) -> None:
    def box(height: int, width: int) -> jpeg.Box:
        top, left, rows, columns = augment.resized_boxes(place, height, width).tolist()
        return top, left, rows, columns

    _named(file, lambda: jpeg.resized_crop(file.read(), box, side_px=len(out), out=out.numpy()))


def _coloured(crops: Iterator[Work], draws: Draws, *, start: int, seen: slice) -> Iterator[Work]:
    """Flip and colour what other work makes."""
    assert draws.factors is not None  # noqa: S101 - the recipe's crop is "resized"
    flips, factors = draws.flip[start:, seen].flatten(), draws.factors[start:, seen].flatten(0, 1)
    for crop, flip, change in zip(crops, flips.tolist(), factors.tolist(), strict=True):
        yield partial(_colour, crop, flip, change)


def _colour(crop: Work, flip: bool, factors: Sequence[float], out: Tensor) -> None:
    crop(out)
    if flip:
        out.copy_(out.flip(1))  # twenty times as fast as numpy's copy of [:, ::-1]
    if any(factor != 1 for factor in factors):
        out.copy_(augment.jitter(out.permute(2, 0, 1), factors).permute(1, 2, 0))


def _square(file: Image, recipe: Recipe, out: Tensor) -> None:
    """Decode an image as it is held in memory, and cut its middle out."""

    def fill() -> None:
        whole = jpeg.resized(file.read(), least_px=recipe.crop_px, most_px=recipe.short_side_px)
        out.copy_(augment.central_crop(torch.from_numpy(whole).unsqueeze(0), len(out))[0])

    _named(file, fill)


def _named(file: Image, work: Callable[[], object]) -> None:
    try:
        work()
    except ValueError as error:
        if isinstance(error, LtdataError):
            raise
        raise MismatchError(f"{file.name()} is not readable ({error}); ltdata verify names its source") from error


def _batches(work: Iterator[Work], batch: int, side_px: int, device: torch.device) -> Generator[Tensor, None, None]:
    """Do work by threads, some batches ahead; yield what it filled batch by batch, the last one as it is."""
    waiting: deque[tuple[Tensor, list[Future[None]]]] = deque()
    pool, cuda = devices.single_threads(default_workers()), device.type == "cuda"
    with closing_pool(pool):
        while True:
            while len(waiting) <= _AHEAD:
                part = list(islice(work, batch))
                if not part:
                    break
                out = torch.empty(len(part), side_px, side_px, 3, dtype=torch.uint8, pin_memory=cuda)
                jobs = list(zip(part, out, strict=True))
                tasks = (jobs[first : first + _TASK_IMAGES] for first in range(0, len(jobs), _TASK_IMAGES))
                waiting.append((out, [pool.submit(_fill, task) for task in tasks]))
            if not waiting:
                return
            out, tasks_ = waiting.popleft()
            for task in tasks_:
                task.result()
            yield out.to(device, non_blocking=True)


def _fill(jobs: Sequence[tuple[Work, Tensor]]) -> None:
    for work, out in jobs:
        work(out)
