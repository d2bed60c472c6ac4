"""What chance decides in an epoch: which image, which crop, which flip, which policy, which mixing.

All of it is a function of (seed, epoch, position): two runs with one seed see the same batches, any epoch can be drawn
again without the ones before it, and any number of ranks cuts one global plan. It is drawn on the host, where a whole
epoch of CIFAR-100-LT takes a millisecond, and goes to the device as tables: CPU and CUDA train on the same draws.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ace_ref import policies
from ace_ref.recipe import Recipe


@dataclass(frozen=True)
class Draws:
    """Hold what chance decides in one epoch, by step, on the CPU; None where the recipe does not ask for it.

    Attributes:
        index: image, int64 (step, batch).
        top: crop offset in pixels, 0 .. 2 padding, int64 (step, batch); of crop ``pad``.
        left: as `top`.
        flip: bool (step, batch).
        mix: weight of each image against its partner, float32 (step,); 1 without mixup.
        partner: position of the partner in the same batch, int64 (step, batch).
        place: of the resized crop, uniform in 0 .. 1, float64 (step, batch, 4), see `augment.resized_boxes`.
        factors: of brightness, contrast, saturation, float64 (step, batch, 3).
        policy: of AutoAugment or RandAugment.
        centre: of Cutout, row and column in pixels, int64 (step, batch, 2).
    """

    index: Tensor
    flip: Tensor
    mix: Tensor
    top: Tensor | None = None
    left: Tensor | None = None
    partner: Tensor | None = None
    place: NDArray[np.float64] | None = None
    factors: Tensor | None = None
    policy: policies.PolicyDraws | None = None
    centre: Tensor | None = None

    @property
    def mixed(self) -> bool:
        """Say whether the epoch has mixup."""
        return self.partner is not None


class Split(Protocol):
    """Give the images of a split, wherever they are; `labels`, int64 (n,), are on the device of the training."""

    @property
    def labels(self) -> Tensor:
        """Return the labels where the training is."""

    @property
    def host_labels(self) -> NDArray[np.int64]:
        """Return the labels as an array."""

    def __len__(self) -> int:
        """Count the images."""

    def take(self, index: NDArray[np.int64]) -> "Split":
        """Return the images at some positions, in that order."""

    def crop_px(self, recipe: Recipe) -> tuple[int, int]:
        """Return height and width of what a recipe crops."""

    def described(self, recipe: Recipe) -> dict[str, str]:
        """Say which pixels are cropped, where that is not what the shards hold in one size."""

    def order(self, sampler: str, *, seed: int, epoch: int, **named: float) -> NDArray[np.int64]:
        """Draw the order of an epoch: positions, int64 (n,)."""

    def augmented(self, draws: Draws, recipe: Recipe, *, start: int, seen: slice) -> Generator[Tensor, None, None]:
        """Yield, from step `start` on, the augmented bytes of some images of each batch: uint8 (seen, h, w, 3)."""

    def central(self, recipe: Recipe, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield labels and what is evaluated of all images, batch by batch: int64 (batch,), uint8 (batch, h, w, 3)."""


def draw_epoch(split: Split, recipe: Recipe, *, seed: int, epoch: int) -> Draws:
    """Draw an epoch: an order of the images cut into whole batches, and what happens to each.

    Args:
        split: the training set, at least one batch.
        recipe: batch size, sampler, augmentation, mixup.
        seed: of the training.
        epoch: counted from 0.
    """
    steps = len(split) // recipe.batch_size
    shape = (steps, recipe.batch_size)
    # One stream per purpose: switching one off leaves the others as they were. Stream 0 is the sampler's.
    augmenting, mixing, policy, cutting, resizing = (
        np.random.default_rng([seed, epoch, stream]) for stream in range(1, 6)
    )
    named = {"epochs": recipe.epochs} if recipe.sampler == "progressively-balanced" else {}
    order = split.order(recipe.sampler, seed=seed, epoch=epoch, **named)
    offsets = augmenting.integers(0, 2 * recipe.crop_padding_px + 1, (2, *shape))
    flip = augmenting.random(shape) < 0.5 if recipe.flip else np.zeros(shape, dtype=bool)
    mix, partner = np.ones(steps), None
    if mixes(recipe, epoch):
        mix = mixing.beta(recipe.mixup_alpha, recipe.mixup_alpha, steps)
        partner = mixing.permuted(np.tile(np.arange(recipe.batch_size), (steps, 1)), axis=1)
    padded, resized = recipe.crop == "pad", recipe.crop == "resized"
    place = resizing.random((*shape, 4)) if resized else None
    factors = resizing.uniform(1 - recipe.jitter, 1 + recipe.jitter, (*shape, 3)) if resized else None
    return Draws(
        index=torch.from_numpy(order[: steps * recipe.batch_size].reshape(shape)),
        flip=torch.from_numpy(flip),
        mix=torch.from_numpy(mix.astype(np.float32)),
        top=torch.from_numpy(offsets[0]) if padded else None,
        left=torch.from_numpy(offsets[1]) if padded else None,
        partner=torch.from_numpy(partner) if partner is not None else None,
        place=place,
        factors=torch.from_numpy(factors) if factors is not None else None,
        policy=policies.draw(policy, shape, recipe) if policies.asked_for(recipe) else None,
        centre=torch.from_numpy(cutting.integers(0, split.crop_px(recipe), (*shape, 2))) if recipe.cutout_px else None,
    )


def mixes(recipe: Recipe, epoch: int) -> bool:
    """Say whether an epoch, counted from 0, has mixup."""
    return recipe.mixup_alpha > 0 and epoch < recipe.epochs - recipe.plain_epochs
