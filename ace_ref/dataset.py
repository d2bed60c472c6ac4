"""From shards to batches: the whole split lives on the device as bytes, a batch is one gather.

Draws are a function of (seed, epoch, position): which image, which crop, which flip, which mixing. So two runs with
one seed see the same batches, any epoch can be drawn again without the ones before it, and any number of ranks cuts
one global plan.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ace_ref import augment
from ace_ref.recipe import Recipe
from ltdata import reader
from ltdata.manifest import Manifest

_CHUNK_IMAGES = 4096  # augmented at once: large enough for few calls, small enough for the cache


@dataclass(frozen=True)
class ResidentSplit:
    """Hold a split on a device.

    Attributes:
        pixels: uint8 (n, height, width, 3), 0-255.
        labels: int64 (n,).
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def take(self, index: Tensor) -> "ResidentSplit":
        """Return the images at some positions, in that order."""
        return ResidentSplit(self.pixels[index], self.labels[index])


@dataclass(frozen=True)
class Draws:
    """Hold what chance decides in one epoch, by step; on the CPU but for what a gather needs.

    Attributes:
        index: image, int64 (step, batch).
        top: crop offset in pixels, (step, batch).
        left: as `top`.
        flip: bool (step, batch).
        mix: weight of each image against its partner, float32 (step,).
        partner: position of the partner in the same batch, (step, batch).
        box: of the resized crop, top, left, height, width in pixels, (step, batch, 4).
        factors: of brightness, contrast, saturation, (step, batch, 3).
        pair: of AutoAugment, (step, batch).
        chance: of its operators, 0 .. 1, (step, batch, 2).
        negative: their signs, bool (step, batch, 2).
        centre: of Cutout, row and column, (step, batch, 2).
    """

    index: Tensor
    top: Tensor
    left: Tensor
    flip: Tensor
    mix: Tensor
    partner: Tensor
    box: Tensor
    factors: Tensor
    pair: Tensor
    chance: Tensor
    negative: Tensor
    centre: Tensor


@dataclass(frozen=True)
class Batch:
    """Hold what a step learns from: a rank's own part of the images, the labels of the whole batch.

    Attributes:
        images: normalised and mixed, float32 (batch / ranks, 3, side, side).
        labels: int64 (batch,).
        partners: labels of the images mixed in, int64 (batch,).
        mix: weight of `labels` against `partners`, 0 .. 1.
    """

    images: Tensor
    labels: Tensor
    partners: Tensor
    mix: float


def load_split(folder: Path, manifest: Manifest, split: str, device: torch.device) -> ResidentSplit:
    """Read a split's shards, every digest checked, onto a device, in the protocol's order."""
    pixels, labels = reader.read_images(folder, manifest, split)
    return ResidentSplit(torch.from_numpy(pixels).to(device), torch.from_numpy(labels).to(device))


def hold_out(split: ResidentSplit, per_class: int) -> tuple[ResidentSplit, ResidentSplit]:
    """Part the last images of every class, in the protocol's order, from the others; no chance is needed.

    The protocol has shuffled every class, so its last images are a random sample, the same for every training.
    """
    labels = split.labels.cpu().numpy()
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    ends = np.cumsum(counts)
    held = np.zeros(len(labels), dtype=bool)
    for start, end in zip(ends - counts, ends, strict=True):
        held[order[max(start, end - per_class) : end]] = True
    keep, out = (torch.from_numpy(np.flatnonzero(mask)).to(split.labels.device) for mask in (~held, held))
    return split.take(keep), split.take(out)


def channel_statistics(split: ResidentSplit) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation per channel of pixels scaled to 0 .. 1, in float64."""
    flat = split.pixels.reshape(-1, 3).cpu().numpy()
    mean = flat.mean(axis=0, dtype=np.float64) / 255
    std = flat.std(axis=0, dtype=np.float64) / 255
    return tuple(mean.round(4).tolist()), tuple(np.maximum(std.round(4), 1e-4).tolist())


def draw_epoch(split: ResidentSplit, recipe: Recipe, *, seed: int, epoch: int) -> Draws:
    """Draw an epoch: a permutation cut into whole batches, and what happens to every image.

    Args:
        split: the training set, at least one batch.
        recipe: batch size, augmentation, mixup.
        seed: of the training.
        epoch: counted from 0.
    """
    _, height, width, _ = split.pixels.shape
    steps = len(split) // recipe.batch_size
    shape = (steps, recipe.batch_size)
    # One stream per purpose: switching one off leaves the others as they were.
    sampling, augmenting, mixing, policy, cutting, resizing = (
        np.random.default_rng([seed, epoch, stream]) for stream in range(6)
    )
    offsets = augmenting.integers(0, 2 * recipe.crop_padding_px + 1, (2, *shape))
    flip = augmenting.random(shape) < 0.5 if recipe.flip else np.zeros(shape, dtype=bool)
    mix = mixing.beta(recipe.mixup_alpha, recipe.mixup_alpha, steps) if mixes(recipe, epoch) else np.ones(steps)
    partner = mixing.permuted(np.tile(np.arange(recipe.batch_size), (steps, 1)), axis=1)
    pair = policy.integers(0, len(augment.AUTOAUGMENT_CIFAR10), shape)
    box = augment.resized_boxes(resizing.random((*shape, 4)), height, width)
    factors = resizing.uniform(1 - recipe.jitter, 1 + recipe.jitter, (*shape, 3))
    sampled = sampling.permutation(len(split))[: steps * recipe.batch_size].reshape(shape)
    drawn = (
        sampled, offsets[0], offsets[1], flip, mix.astype(np.float32), partner, box, factors, pair,
        policy.random((*shape, 2)), policy.random((*shape, 2)) < 0.5, cutting.integers(0, (height, width), (*shape, 2)),
    )  # fmt: skip
    return Draws(*map(torch.from_numpy, drawn))


def mixes(recipe: Recipe, epoch: int) -> bool:
    """Say whether an epoch, counted from 0, has mixup."""
    return recipe.mixup_alpha > 0 and epoch < recipe.epochs - recipe.plain_epochs


def batches(
    split: ResidentSplit, draws: Draws, recipe: Recipe, *, start: int = 0, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """Yield the batches of an epoch from step `start` on; of the images every `world`-th from the `rank`-th on.

    Args:
        split: the training set, on the device where the batches will be.
        draws: of this epoch.
        recipe: augmentation, mean, std.
        start: first step.
        rank: of this process.
        world: number of processes.
    """
    device = split.labels.device
    mean, std = (torch.tensor(values, device=device) for values in (recipe.mean, recipe.std))
    padded = augment.pad(split.pixels, recipe.crop_padding_px) if recipe.crop == "pad" else split.pixels
    own = slice(rank, None, world)
    mixed = bool((draws.mix != 1).any())
    seen = slice(None) if mixed else own  # a partner may be another rank's
    chunk = max(1, _CHUNK_IMAGES // recipe.batch_size)
    # Chunks lie the same wherever the start is, so that a resumed epoch computes what a whole one does.
    for first in range(start - start % chunk, len(draws.index), chunk):
        steps = slice(first, first + chunk)
        pixels = _augmented(padded, draws, recipe, steps, seen, side_px=split.pixels.shape[1])
        for number, bytes_ in enumerate(pixels, start=first):
            if number < start:
                continue
            index, mix = draws.index[number].to(device), float(draws.mix[number])
            labels = partners = split.labels[index]
            images = normalise(bytes_, mean, std)
            if mix != 1:
                partner = draws.partner[number].to(device)
                partners = labels[partner]
                images = mix * images[own] + (1 - mix) * images[partner[own]]
            elif mixed:
                images = images[own]
            yield Batch(images, labels, partners, mix)


def _augmented(padded: Tensor, draws: Draws, recipe: Recipe, steps: slice, seen: slice, *, side_px: int) -> Tensor:
    """Augment the images of some steps; return uint8 (step, seen, side, side, 3)."""
    device = padded.device

    def drawn(values: Tensor) -> Tensor:
        return values[steps][:, seen].flatten(0, 1)

    index = drawn(draws.index).to(device)
    if recipe.crop == "pad":
        top, left, flip = (drawn(values).to(device) for values in (draws.top, draws.left, draws.flip))
        pixels = augment.gather(padded, index, top, left, flip, side_px=side_px)
    else:
        boxes, flips, factors = (drawn(values).tolist() for values in (draws.box, draws.flip, draws.factors))
        pixels = augment.resized_crop(padded[index], boxes, flips, factors, side_px=recipe.crop_px)
    if recipe.autoaugment:
        pixels = augment.autoaugment(pixels, drawn(draws.pair), drawn(draws.chance), drawn(draws.negative))
    if recipe.cutout_px:
        row, column = drawn(draws.centre).to(device).unbind(dim=1)
        pixels = augment.cutout(pixels, row, column, side_px=recipe.cutout_px)
    return pixels.view(len(draws.index[steps]), -1, *pixels.shape[1:])


def normalise(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Turn bytes (batch, h, w, 3) into normalised floats (batch, 3, h, w), channels last in memory."""
    scaled = pixels.permute(0, 3, 1, 2).float().div(255)
    return scaled.sub(mean.view(1, 3, 1, 1)).div(std.view(1, 3, 1, 1))


def central_crop(pixels: Tensor, recipe: Recipe) -> Tensor:
    """Cut what is evaluated out of images (batch, h, w, 3): all for crop ``pad``, else a central square."""
    if recipe.crop == "pad":
        return pixels
    _, height, width, _ = pixels.shape
    rows, columns = min(height, recipe.crop_px), min(width, recipe.crop_px)
    top, left = (height - rows) // 2, (width - columns) // 2
    return pixels[:, top : top + rows, left : left + columns]
