"""Streamed sets: photographs too many to be resident, decoded by threads while the training runs.

A thread reads an image (its digest checked), decodes the part of it that its crop needs, and resizes that. Steps ahead
are under way while one is trained on, so the device waits only where the processors cannot keep up. Two sources:

* `StreamedSplit`: shards on this machine, in any order that a sampler draws.
* `RemoteSplit`: shards on a web server, in the order of `ltdata.mixing`, which has the sampler's class distribution and
  reads shard after shard.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ace_ref import augment, devices, jpeg
from ace_ref.draws import Draws
from ace_ref.recipe import Recipe
from ace_ref.resident import finish
from ltdata import mixing, sampling
from ltdata.access import OpenImages
from ltdata.errors import LtdataError, MismatchError, UsageError
from ltdata.mixing import Mix
from ltdata.reader import default_workers
from ltdata.remote import Remote, stream

_AHEAD = 3  # batches under way beside the one that is trained on

_TASK_IMAGES = 8  # for a thread at once: one at a time, handing them over costs a tenth

Image = Callable[[], bytes]  # reads one when a thread comes to it
Work = Callable[[Tensor], None]  # fills its place in a batch, uint8 (side, side, 3), when a thread comes to it


@dataclass(frozen=True)
class StreamedSplit:
    """Name images in shards on this machine.

    Attributes:
        images: all of the split.
        rows: those that belong to this set, int64 (n,).
        labels: of them, int64 (n,), on the device of the training.
    """

    images: OpenImages
    rows: NDArray[np.int64]
    labels: Tensor

    def __len__(self) -> int:
        """Count the images."""
        return len(self.rows)

    @cached_property
    def host_labels(self) -> NDArray[np.int64]:
        """Return the labels as an array."""
        return self.images.labels[self.rows]

    def take(self, index: NDArray[np.int64]) -> "StreamedSplit":
        """Return the images at some positions, in that order."""
        return StreamedSplit(self.images, self.rows[index], self.labels[torch.from_numpy(index).to(self.labels.device)])

    def crop_px(self, recipe: Recipe) -> tuple[int, int]:
        """Return height and width of what a recipe crops."""
        return recipe.crop_px, recipe.crop_px

    def order(self, sampler: str, *, seed: int, epoch: int) -> NDArray[np.int64]:
        """Draw the order of an epoch, see `ltdata.sampling`."""
        return sampling.epoch_order(sampler, self.host_labels, seed=seed, epoch=epoch)

    def augmented(self, draws: Draws, recipe: Recipe, *, start: int, seen: slice) -> Iterator[Tensor]:
        """Yield, from step `start` on, the augmented bytes of some images of each batch: uint8 (seen, h, w, 3)."""
        work = _coloured(self._crops(draws, start, seen), draws, start=start, seen=seen)
        for step, pixels in enumerate(_batches(work, _seen(draws, seen), recipe.crop_px, self.labels.device), start):
            yield finish(pixels, draws, recipe, slice(step, step + 1), seen)

    def crops(self, draws: Draws, recipe: Recipe, *, start: int) -> Iterator[Tensor]:
        """Yield, from step `start` on, crops that are not yet flipped and coloured: uint8 (batch, h, w, 3)."""
        every = slice(None)
        work = self._crops(draws, start, every)
        yield from _batches(work, _seen(draws, every), recipe.crop_px, self.labels.device)

    def _crops(self, draws: Draws, start: int, seen: slice) -> Iterator[Work]:
        rows = self.rows[draws.index[start:, seen].numpy()]
        files = (partial(self.images.read, row) for row in rows.ravel().tolist())
        return _crops(files, draws, start=start, seen=seen)

    def central(self, recipe: Recipe, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield labels and central squares of all images, batch by batch."""
        files = (partial(self.images.read, row) for row in self.rows.tolist())
        found = _batches(_squares(files, recipe), batch, recipe.crop_px, self.labels.device)
        yield from zip(self.labels.split(batch), found, strict=True)


@dataclass(frozen=True)
class RemoteSplit:
    """Name images in shards on a web server, which are read in an order that is known beforehand.

    Attributes:
        remote: header, rows and shards.
        split: its name.
        labels: of its rows, int64 (n,), on the device of the training.
    """

    remote: Remote
    split: str
    labels: Tensor

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    @cached_property
    def host_labels(self) -> NDArray[np.int64]:
        """Return the labels as an array."""
        return self.remote.samples[self.split].labels

    def take(self, index: NDArray[np.int64]) -> "RemoteSplit":
        """Refuse, since shards are read as they are.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self.remote.place}: a part of {len(index)} images cannot be taken out of remote shards")

    def crop_px(self, recipe: Recipe) -> tuple[int, int]:
        """Return height and width of what a recipe crops."""
        return recipe.crop_px, recipe.crop_px

    def order(self, sampler: str, *, seed: int, epoch: int) -> NDArray[np.int64]:
        """Draw an order with the sampler's class distribution that reads shard after shard, see `ltdata.mixing`."""
        target = mixing.class_target(np.bincount(self.host_labels), power=sampling.SAMPLERS[sampler])
        plans = self.remote.plans[self.split]
        return mixing.mix(plans, self.host_labels, target, length=len(self), seed=seed, epoch=epoch).row

    def augmented(self, draws: Draws, recipe: Recipe, *, start: int, seen: slice) -> Iterator[Tensor]:
        """Yield, from step `start` on, the augmented bytes of some images of each batch: uint8 (seen, h, w, 3)."""
        with closing(self._files(draws.index[start:, seen].numpy().ravel())) as files:
            crops = _crops(files, draws, start=start, seen=seen)
            work = _coloured(crops, draws, start=start, seen=seen)
            for step, pixels in enumerate(
                _batches(work, _seen(draws, seen), recipe.crop_px, self.labels.device), start
            ):
                yield finish(pixels, draws, recipe, slice(step, step + 1), seen)

    def crops(self, draws: Draws, recipe: Recipe, *, start: int) -> Iterator[Tensor]:
        """Yield, from step `start` on, crops that are not yet flipped and coloured: uint8 (batch, h, w, 3)."""
        every = slice(None)
        with closing(self._files(draws.index[start:].numpy().ravel())) as files:
            work = _crops(files, draws, start=start, seen=every)
            yield from _batches(work, _seen(draws, every), recipe.crop_px, self.labels.device)

    def central(self, recipe: Recipe, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield labels and central squares of all images, batch by batch, as they lie in the shards."""
        rows = np.concatenate([plan.rows for plan in self.remote.plans[self.split]])
        labels = self.labels[torch.from_numpy(rows).to(self.labels.device)]
        with closing(self._files(rows)) as files:
            found = _batches(_squares(files, recipe), batch, recipe.crop_px, self.labels.device)
            yield from zip(labels.split(batch), found, strict=True)

    def _files(self, rows: NDArray[np.int64]) -> Generator[Image, None, None]:
        """Read the images of some rows, in that order."""
        with closing(stream(self.remote, self.split, shard_order(self.remote, self.split, rows))) as found:
            for _, data in found:
                yield partial(bytes, data)


def _seen(draws: Draws, seen: slice) -> int:
    """Count the images of a batch that are seen."""
    return len(range(*seen.indices(draws.index.shape[1])))


def shard_order(remote: Remote, split: str, rows: NDArray[np.int64]) -> Mix:
    """Say which shards an order of rows needs."""
    shard_of = np.empty(len(remote.samples[split]), dtype=np.int64)
    for number, plan in enumerate(remote.plans[split]):
        shard_of[plan.rows] = number
    return Mix(rows, shard_of[rows], np.zeros_like(rows), rows_read=len(rows))


def _crops(files: Iterable[Image], draws: Draws, *, start: int, seen: slice) -> Iterator[Work]:
    """Make the work of an epoch from a step on: decode each image's box, resized."""
    assert draws.place is not None  # noqa: S101 - the recipe's crop is "resized"
    for file, place in zip(files, draws.place[start:, seen].reshape(-1, 4), strict=True):
        yield partial(_crop, file, place)


def _crop(file: Image, place: NDArray[np.float64], out: Tensor) -> None:
    def box(height: int, width: int) -> jpeg.Box:
        top, left, rows, columns = augment.resized_boxes(place, height, width).tolist()
        return top, left, rows, columns

    _named(lambda: jpeg.resized_crop(file(), box, side_px=len(out), out=out.numpy()))


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


def _squares(files: Iterable[Image], recipe: Recipe) -> Iterator[Work]:
    """Make the work of an evaluation: decode each image at the short side, and cut its middle out."""
    for file in files:
        yield partial(_square, file, recipe.short_side_px)


def _square(file: Image, short_side_px: int, out: Tensor) -> None:
    def fill() -> None:
        whole = torch.from_numpy(jpeg.resized(file(), short_side_px=short_side_px))
        out.copy_(augment.central_crop(whole[None], len(out))[0])

    _named(fill)


def _named(work: Callable[[], object]) -> None:
    try:
        work()
    except ValueError as error:
        if isinstance(error, LtdataError):
            raise
        raise MismatchError(f"an image of the set is not readable ({error}); ltdata verify names it") from error


def _batches(work: Iterator[Work], batch: int, side_px: int, device: torch.device) -> Iterator[Tensor]:
    """Do work by threads, some batches ahead; yield what it filled batch by batch, the last one as it is."""
    waiting: deque[tuple[Tensor, list[Future[None]]]] = deque()
    pool, cuda = devices.single_threads(default_workers()), device.type == "cuda"
    try:
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
    finally:
        pool.shutdown(cancel_futures=True)


def _fill(jobs: Sequence[tuple[Work, Tensor]]) -> None:
    for work, out in jobs:
        work(out)
