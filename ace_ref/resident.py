"""Resident sets: a whole split on the device as bytes, read once.

Two forms, which the rest of the trainer sees the same way:

* `ResidentSplit`: images of one size, one array. CIFAR, digits.
* `RaggedSplit`: photographs with a common short side, one after the other in one flat array. ImageNet-LT at 256 px is
  30 GB.

Both give, step by step, the augmented bytes of a training, and the central crops of an evaluation.
"""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ace_ref import augment, devices, policies
from ace_ref.draws import Draws
from ace_ref.recipe import Recipe
from ltdata import orders
from ltdata.reader import default_workers

_CHUNK_IMAGES = 4096  # through a policy at once: large enough for few calls, small enough for the cache


class _Labelled:
    """Know the labels of a set, on its device, and draw orders from them."""

    labels: Tensor

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    @cached_property
    def host_labels(self) -> NDArray[np.int64]:
        """Return the labels as an array."""
        return self.labels.cpu().numpy()

    def order(self, sampler: str, *, seed: int, epoch: int, **named: float) -> NDArray[np.int64]:
        """Draw the order of an epoch, see `ltdata.orders`."""
        return orders.epoch_order(sampler, self.host_labels, seed=seed, epoch=epoch, length=len(self), **named)


@dataclass(frozen=True)
class ResidentSplit(_Labelled):
    """Hold images of one size.

    Attributes:
        pixels: uint8 (n, height, width, 3), 0-255.
        labels: int64 (n,).
    """

    pixels: Tensor
    labels: Tensor

    @cached_property
    def _windows(self) -> dict[int, NDArray[np.uint8]]:
        """Keep the padded copies of a set on the CPU, by padding."""
        return {}

    def take(self, index: NDArray[np.int64]) -> "ResidentSplit":
        """Return the images at some positions, in that order."""
        rows = torch.from_numpy(index).to(self.labels.device)
        return ResidentSplit(self.pixels[rows], self.labels[rows])

    def crop_px(self, recipe: Recipe) -> tuple[int, int]:
        """Return height and width of what a recipe crops."""
        return (recipe.crop_px,) * 2 if recipe.crop == "resized" else (self.pixels.shape[1], self.pixels.shape[2])

    def described(self, recipe: Recipe) -> dict[str, str]:  # noqa: ARG002 - of the protocol
        """Say nothing: these are the shards' own pixels."""
        return {}

    def augmented(self, draws: Draws, recipe: Recipe, *, start: int, seen: slice) -> Generator[Tensor, None, None]:
        """Yield, from step `start` on, the augmented bytes of some images of each batch: uint8 (seen, h, w, 3)."""
        # Chunks lie the same wherever the start is, so that a resumed epoch computes what a whole one does.
        chunk = max(1, _CHUNK_IMAGES // recipe.batch_size) if draws.policy is not None else 1
        for first in range(start - start % chunk, len(draws.index), chunk):
            steps = slice(first, min(first + chunk, len(draws.index)))
            pixels = finish(self._crop(draws, recipe, steps, seen), draws, recipe, steps, seen)
            yield from pixels.view(steps.stop - first, -1, *pixels.shape[1:])[max(0, start - first) :]

    def _crop(self, draws: Draws, recipe: Recipe, steps: slice, seen: slice) -> Tensor:
        """Crop and flip the images of some steps: uint8 (step x seen, h, w, 3)."""
        index, flip = (part[steps][:, seen].flatten() for part in (draws.index, draws.flip))
        device = self.pixels.device
        if draws.top is None or draws.left is None:
            images = self.pixels[index.to(device)]
            boxes = resized_boxes(draws, steps, seen, np.array(self.pixels.shape[1:3]))
            return _resized(images, boxes, draws, recipe, steps, seen)
        top, left = (part[steps][:, seen].flatten() for part in (draws.top, draws.left))
        padding_px = recipe.crop_padding_px
        if device.type == "cpu":
            if padding_px not in self._windows:
                self._windows[padding_px] = augment.windows(self.pixels, padding_px)
            return augment.cut(self._windows[padding_px], index, top, left, flip)
        return augment.gather(
            self.pixels, *(part.to(device) for part in (index, top, left, flip)), padding_px=padding_px
        )

    def central(self, recipe: Recipe, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield labels and what is evaluated: all of each image for crop ``pad``, else a central square."""
        for labels, pixels in zip(self.labels.split(batch), self.pixels.split(batch), strict=True):
            yield labels, pixels if recipe.crop == "pad" else augment.central_crop(pixels, recipe.crop_px)


@dataclass(frozen=True)
class RaggedSplit(_Labelled):
    """Hold photographs with a common short side.

    Attributes:
        flat: the bytes of all images, rows first, uint8 (bytes,), on the device.
        offset: where each begins, int64 (n,).
        size: height and width in pixels, int64 (n, 2).
        labels: int64 (n,), on the device.
    """

    flat: Tensor
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    labels: Tensor

    def take(self, index: NDArray[np.int64]) -> "RaggedSplit":
        """Return the images at some positions, in that order; no pixel is copied."""
        rows = torch.from_numpy(index).to(self.labels.device)
        return RaggedSplit(self.flat, self.offset[index], self.size[index], self.labels[rows])

    def image(self, row: int) -> Tensor:
        """Return one image: uint8 (height, width, 3)."""
        height, width = self.size[row].tolist()
        return self.flat[int(self.offset[row]) :][: height * width * 3].view(height, width, 3)

    def crop_px(self, recipe: Recipe) -> tuple[int, int]:
        """Return height and width of what a recipe crops."""
        return recipe.crop_px, recipe.crop_px

    def described(self, recipe: Recipe) -> dict[str, str]:
        """Say at which short side photographs are held, since crops of them are not those of the originals."""
        return {"pixels": f"resident, short side {recipe.crop_px} to {recipe.short_side_px} px"}

    def augmented(self, draws: Draws, recipe: Recipe, *, start: int, seen: slice) -> Generator[Tensor, None, None]:
        """Yield, from step `start` on, the augmented bytes of some images of each batch: uint8 (seen, h, w, 3)."""
        for step in range(start, len(draws.index)):
            steps = slice(step, step + 1)
            rows = draws.index[step, seen].numpy()
            boxes = resized_boxes(draws, steps, seen, self.size[rows])
            cropped = _resized([self.image(row) for row in rows.tolist()], boxes, draws, recipe, steps, seen)
            yield finish(cropped, draws, recipe, steps, seen)

    def central(self, recipe: Recipe, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield labels and central squares of all images, batch by batch."""
        for start in range(0, len(self), batch):
            rows = range(start, min(start + batch, len(self)))
            squares = [augment.central_crop(self.image(row)[None], recipe.crop_px) for row in rows]
            yield self.labels[start : start + batch], torch.cat(squares)


def resized_boxes(draws: Draws, steps: slice, seen: slice, size: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place the boxes of resized crops in images of some size, (2,) or (step x seen, 2): int64 (step x seen, 4)."""
    assert draws.place is not None  # noqa: S101 - the recipe's crop is "resized"
    place = draws.place[steps][:, seen].reshape(-1, 4)
    return augment.resized_boxes(place, size[..., 0], size[..., 1])


def _resized(
    images: Sequence[Tensor] | Tensor, boxes: NDArray[np.int64], draws: Draws, recipe: Recipe, steps: slice, seen: slice
) -> Tensor:
    """Cut and resize some images, on the CPU by a thread each part: uint8 (n, side, side, 3)."""
    assert draws.factors is not None  # noqa: S101 - the recipe's crop is "resized"
    flip, factors = (part[steps][:, seen].flatten(0, 1) for part in (draws.flip, draws.factors))
    one = partial(augment.resized_crop, side_px=recipe.crop_px)
    jobs = list(zip(images, boxes.tolist(), flip.tolist(), factors.tolist(), strict=True))
    if jobs[0][0].device.type != "cpu":
        return torch.stack([one(*job) for job in jobs])
    return torch.stack(list(_threads().map(lambda job: one(*job), jobs)))


@cache
def _threads() -> ThreadPoolExecutor:
    """Start the threads that crop, once: a start takes a millisecond, and every batch needs them."""
    return devices.single_threads(default_workers())


def finish(pixels: Tensor, draws: Draws, recipe: Recipe, steps: slice, seen: slice) -> Tensor:
    """Apply what follows the crop, policy and Cutout, to the images of some steps: uint8 (step x seen, h, w, 3)."""
    if draws.policy is not None:
        pixels = policies.apply(pixels, draws.policy.at(steps, seen))
    if draws.centre is not None:
        row, column = draws.centre[steps][:, seen].flatten(0, 1).to(pixels.device).unbind(dim=1)
        pixels = augment.cutout(pixels, row, column, side_px=recipe.cutout_px)
    return pixels


def hold_out(labels: NDArray[np.int64], per_class: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Part the last images of every class, in the protocol's order, from the others; no chance is needed.

    The protocol has shuffled every class, so its last images are a random sample, the same for every training.

    Returns:
        Positions of those to train on, and of those held out.
    """
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    ends = np.cumsum(counts)
    held = np.zeros(len(labels), dtype=bool)
    for start, end in zip(ends - counts, ends, strict=True):
        held[order[max(start, end - per_class) : end]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def channel_statistics(split: ResidentSplit) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation per channel of pixels scaled to 0 .. 1, in float64."""
    flat = split.pixels.reshape(-1, 3).cpu().numpy()
    mean = flat.mean(axis=0, dtype=np.float64) / 255
    std = flat.std(axis=0, dtype=np.float64) / 255
    return tuple(mean.round(4).tolist()), tuple(np.maximum(std.round(4), 1e-4).tolist())
