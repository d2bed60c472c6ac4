"""From shards to batches: the whole split lives on the device as bytes, a batch is one gather.

Draws are a function of (seed, epoch, position): which image, which crop, which flip, which mixing. So two runs
with one seed see the same batches, and any epoch can be drawn again without the ones before it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ace_ref.recipe import Recipe
from ltdata import reader
from ltdata.manifest import Manifest


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


@dataclass(frozen=True)
class Draws:
    """Hold what chance decides in one epoch, by step: image index, crop offsets in pixels, flip; (step, batch).

    `mix` is the weight of each image against its partner `partner` (position in the same batch), (step,), on the CPU.
    """

    index: Tensor
    top: Tensor
    left: Tensor
    flip: Tensor
    mix: Tensor
    partner: Tensor


def load_split(folder: Path, manifest: Manifest, split: str, device: torch.device) -> ResidentSplit:
    """Read a split's shards, every digest checked, onto a device, in the protocol's order."""
    pixels, labels = reader.read_images(folder, manifest, split)
    return ResidentSplit(torch.from_numpy(pixels).to(device), torch.from_numpy(labels).to(device))


def channel_statistics(split: ResidentSplit) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation per channel of pixels scaled to 0 .. 1, in float64."""
    flat = split.pixels.reshape(-1, 3).cpu().numpy()
    mean = flat.mean(axis=0, dtype=np.float64) / 255
    std = flat.std(axis=0, dtype=np.float64) / 255
    return tuple(mean.round(4).tolist()), tuple(np.maximum(std.round(4), 1e-4).tolist())


def draw_epoch(n: int, recipe: Recipe, *, seed: int, epoch: int, device: torch.device) -> Draws:
    """Draw an epoch: a permutation cut into whole batches, crops, flips, and mixing weights.

    Args:
        n: images in the training set, at least one batch.
        recipe: batch size, padding, flip, mixup.
        seed: of the training.
        epoch: counted from 0.
        device: where the draws go.
    """
    steps = n // recipe.batch_size
    shape = (steps, recipe.batch_size)
    size = steps * recipe.batch_size
    sampling, augmenting, mixing = (np.random.default_rng([seed, epoch, stream]) for stream in range(3))
    offsets = augmenting.integers(0, 2 * recipe.crop_padding_px + 1, (2, *shape))
    flip = augmenting.random(shape) < 0.5 if recipe.flip else np.zeros(shape, dtype=bool)
    mixed = recipe.mixup_alpha > 0 and epoch < recipe.epochs - recipe.plain_epochs
    mix = mixing.beta(recipe.mixup_alpha, recipe.mixup_alpha, steps) if mixed else np.ones(steps)
    partner = mixing.permuted(np.tile(np.arange(recipe.batch_size), (steps, 1)), axis=1)
    return Draws(
        index=torch.from_numpy(sampling.permutation(n)[:size].reshape(shape)).to(device),
        top=torch.from_numpy(offsets[0]).to(device),
        left=torch.from_numpy(offsets[1]).to(device),
        flip=torch.from_numpy(flip).to(device),
        mix=torch.from_numpy(mix.astype(np.float32)),
        partner=torch.from_numpy(partner).to(device),
    )


def pad(pixels: Tensor, padding_px: int) -> Tensor:
    """Surround every image with black, which is zero before normalisation: uint8 (n, h + 2 p, w + 2 p, 3)."""
    return F.pad(pixels, (0, 0, padding_px, padding_px, padding_px, padding_px))


def gather(padded: Tensor, index: Tensor, top: Tensor, left: Tensor, flip: Tensor, *, side_px: int) -> Tensor:
    """Cut a batch of random crops out of padded images, and flip some: random crop and flip in one gather.

    Args:
        padded: uint8 (n, h + 2 p, w + 2 p, 3), see `pad`.
        index: images, int64 (batch,).
        top: first row of each crop, 0 .. 2 p, (batch,).
        left: first column of each crop, (batch,).
        flip: mirror horizontally, bool (batch,).
        side_px: height and width of a crop.

    Returns:
        uint8 (batch, side, side, 3).
    """
    along = torch.arange(side_px, device=padded.device)
    columns = torch.where(flip[:, None], side_px - 1 - along, along)
    return padded[index[:, None, None], (top[:, None] + along)[:, :, None], (left[:, None] + columns)[:, None, :]]


def normalise(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Turn bytes (batch, h, w, 3) into normalised floats (batch, 3, h, w), channels last in memory."""
    scaled = pixels.permute(0, 3, 1, 2).float().div(255)
    return scaled.sub(mean.view(1, 3, 1, 1)).div(std.view(1, 3, 1, 1))
