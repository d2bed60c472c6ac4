"""Batches: what a step gets of a split, wherever its images lie (`ace_ref.loading`), and of an epoch's draws."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ace_ref import augment
from ace_ref.draws import Draws, Split
from ace_ref.recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """Hold what a step learns from: a rank's own part of the images, the labels of the whole batch.

    Attributes:
        images: normalised and mixed, float32 or bfloat16 (batch / ranks, 3, side, side).
        labels: int64 (batch,).
        partners: labels of the images mixed in, int64 (batch,).
        mix: weight of `labels` against `partners`, 0 .. 1, float32 (); None where nothing is mixed in.
    """

    images: Tensor
    labels: Tensor
    partners: Tensor
    mix: Tensor | None


def batches(
    split: Split, draws: Draws, recipe: Recipe, *, start: int = 0, rank: int = 0, world: int = 1
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
    constants = augment.constants(recipe.mean, recipe.std, split.crop_px(recipe), device)
    own = slice(rank, None, world)
    seen = slice(None) if draws.mixed else own  # a partner may be another rank's
    for step, pixels in enumerate(split.augmented(draws, recipe, start=start, seen=seen), start=start):
        labels = partners = split.labels[draws.index[step].to(device)]
        images = augment.normalise(pixels, constants)
        mix = draws.mix[step]
        if draws.partner is None:
            yield Batch(images, labels, partners, None)
        elif mix == 1:
            yield Batch(images[own], labels, partners, None)
        else:
            partner, mix = draws.partner[step].to(device), mix.to(device)
            partners = labels[partner]
            yield Batch(mix * images[own] + (1 - mix) * images[partner[own]], labels, partners, mix)
