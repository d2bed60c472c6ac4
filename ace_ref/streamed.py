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
from ltdata.errors import MismatchError, UsageError
from ltdata.mixing import Mix
from ltdata.reader import default_workers
from ltdata.remote import Remote, stream

_AHEAD = 3  # batches under way beside the one that is trained on

_TASK_IMAGES = 8  # for a thread at once: one at a time, handing them over costs a tenth

Image = Callable[[], bytes]  # reads one when a thread comes to it


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
        rows = self.rows[draws.index[start:, seen].numpy()]
        files = (partial(self.images.read, row) for row in rows.ravel().tolist())
        yield from _augmented(files, draws, recipe, start=start, seen=seen, device=self.labels.device)

    def central(self, recipe: Recipe, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield labels and central squares of all images, batch by batch."""
        files = (partial(self.images.read, row) for row in self.rows.tolist())
        yield from zip(self.labels.split(batch), _central(files, recipe, batch, self.labels.device), strict=True)


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
            yield from _augmented(files, draws, recipe, start=start, seen=seen, device=self.labels.device)

    def central(self, recipe: Recipe, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield labels and central squares of all images, batch by batch, as they lie in the shards."""
        rows = np.concatenate([plan.rows for plan in self.remote.plans[self.split]])
        labels = self.labels[torch.from_numpy(rows).to(self.labels.device)]
        with closing(self._files(rows)) as files:
            yield from zip(labels.split(batch), _central(files, recipe, batch, self.labels.device), strict=True)

    def _files(self, rows: NDArray[np.int64]) -> Generator[Image, None, None]:
        """Read the images of some rows, in that order."""
        with closing(stream(self.remote, self.split, shard_order(self.remote, self.split, rows))) as found:
            for _, data in found:
                yield partial(bytes, data)


def shard_order(remote: Remote, split: str, rows: NDArray[np.int64]) -> Mix:
    """Say which shards an order of rows needs."""
    shard_of = np.empty(len(remote.samples[split]), dtype=np.int64)
    for number, plan in enumerate(remote.plans[split]):
        shard_of[plan.rows] = number
    return Mix(rows, shard_of[rows], np.zeros_like(rows), rows_read=len(rows))


def _augmented(
    files: Iterable[Image], draws: Draws, recipe: Recipe, *, start: int, seen: slice, device: torch.device
) -> Iterator[Tensor]:
    assert draws.place is not None  # noqa: S101 - the recipe's crop is "resized"
    assert draws.factors is not None  # noqa: S101 - the same
    place = draws.place[start:, seen]
    flip, factors = draws.flip[start:, seen], draws.factors[start:, seen]
    chances = zip(place.reshape(-1, 4), flip.flatten().tolist(), factors.flatten(0, 1).tolist(), strict=True)
    jobs = (partial(_train_image, file, *chance, recipe.crop_px) for file, chance in zip(files, chances, strict=True))
    for step, pixels in enumerate(_batches(jobs, place.shape[1], device), start=start):
        yield finish(pixels, draws, recipe, slice(step, step + 1), seen)


def _train_image(
    file: Image, place: NDArray[np.float64], flip: bool, factors: Sequence[float], side_px: int
) -> NDArray[np.uint8]:
    """Decode, crop, flip and colour one image."""

    def box(height: int, width: int) -> jpeg.Box:
        top, left, rows, columns = augment.resized_boxes(place, height, width).tolist()
        return top, left, rows, columns

    crop = _decoded(partial(jpeg.resized_crop, box_of=box, side_px=side_px), file)
    crop = crop[:, ::-1] if flip else crop
    if any(factor != 1 for factor in factors):
        planes = torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))
        crop = augment.jitter(planes, factors).numpy().transpose(1, 2, 0)
    return crop


def _central(files: Iterable[Image], recipe: Recipe, batch: int, device: torch.device) -> Iterator[Tensor]:
    jobs = (partial(_test_image, file, recipe) for file in files)
    return _batches(jobs, batch, device)


def _test_image(file: Image, recipe: Recipe) -> NDArray[np.uint8]:
    pixels = _decoded(partial(jpeg.resized, short_side_px=recipe.short_side_px), file)
    return augment.central_crop(torch.from_numpy(pixels)[None], recipe.crop_px)[0].numpy()


def _decoded(how: Callable[[bytes], NDArray[np.uint8]], file: Image) -> NDArray[np.uint8]:
    try:
        return how(file())
    except ValueError as error:
        raise MismatchError(f"an image of the set is not readable ({error}); ltdata verify names it") from error


def _all(jobs: Sequence[Callable[[], NDArray[np.uint8]]]) -> list[NDArray[np.uint8]]:
    return [job() for job in jobs]


def _batches(jobs: Iterator[Callable[[], NDArray[np.uint8]]], batch: int, device: torch.device) -> Iterator[Tensor]:
    """Run jobs by threads, some batches ahead; yield their images batch by batch, the last one as it is."""
    waiting: deque[list[Future[list[NDArray[np.uint8]]]]] = deque()
    pool = devices.single_threads(default_workers())
    try:
        while True:
            while len(waiting) <= _AHEAD:
                part = list(islice(jobs, batch))
                if not part:
                    break
                tasks = (part[first : first + _TASK_IMAGES] for first in range(0, len(part), _TASK_IMAGES))
                waiting.append([pool.submit(_all, task) for task in tasks])
            if not waiting:
                return
            pixels = torch.from_numpy(np.stack([image for task in waiting.popleft() for image in task.result()]))
            yield pixels.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else pixels
    finally:
        pool.shutdown(cancel_futures=True)
