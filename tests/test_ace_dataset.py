"""Batches: the fused gather is torchvision's pipeline; draws come from seed and epoch alone."""

import dataclasses

import numpy as np
import pytest
import torch

from ace_ref import augment, dataset
from ace_ref.recipe import load_recipe
from ltdata.reader import read_manifest

RECIPE = load_recipe("cifar", "ace", source="cifar100", imbalance_factor=100)
CPU = torch.device("cpu")


def blank(n: int) -> dataset.ResidentSplit:
    """Make n black images."""
    return dataset.ResidentSplit(torch.zeros(n, 32, 32, 3, dtype=torch.uint8), torch.arange(n) % 10)


def test_gather_and_normalise_equal_torchvision_crop_flip_normalise(torchvision):
    functional = torchvision.transforms.functional
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    index, top, left = rng.integers(0, 20, 64), rng.integers(0, 9, 64), rng.integers(0, 9, 64)
    flip = rng.random(64) < 0.5
    crops = augment.gather(
        augment.pad(torch.from_numpy(pixels), 4), *map(torch.from_numpy, (index, top, left, flip)), side_px=32
    )
    found = dataset.normalise(crops, torch.tensor(RECIPE.mean), torch.tensor(RECIPE.std))
    for row in range(64):
        image = functional.pad(functional.to_tensor(pixels[index[row]]), [4])
        image = functional.crop(image, int(top[row]), int(left[row]), 32, 32)
        image = functional.hflip(image) if flip[row] else image
        assert torch.equal(found[row], functional.normalize(image, RECIPE.mean, RECIPE.std))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_visits_whole_batches_of_different_images():
    draws = dataset.draw_epoch(blank(1000), RECIPE, seed=0, epoch=0)
    assert draws.index.shape == (1000 // 128, 128)
    assert len(draws.index.unique()) == draws.index.numel()


def test_draws_depend_on_seed_and_epoch_alone():
    def first(seed, epoch):
        torch.manual_seed(epoch + 7)  # the global generators must not matter
        np.random.seed(epoch + 7)
        return dataset.draw_epoch(blank(500), RECIPE, seed=seed, epoch=epoch)

    for name in ("index", "top", "left", "flip", "partner", "box", "pair", "chance", "negative", "centre"):
        assert torch.equal(getattr(first(3, 5), name), getattr(first(3, 5), name))
        assert not torch.equal(getattr(first(3, 5), name), getattr(first(3, 6), name))
        assert not torch.equal(getattr(first(3, 5), name), getattr(first(4, 5), name))


def test_crops_flips_and_mixing_cover_their_ranges():
    recipe = dataclasses.replace(RECIPE, mixup_alpha=0.3)
    draws = dataset.draw_epoch(blank(10_000), recipe, seed=0, epoch=0)
    assert sorted(draws.top.unique().tolist()) == sorted(draws.left.unique().tolist()) == list(range(9))
    assert 0.48 < draws.flip.float().mean() < 0.52
    assert draws.mix.min() < 0.1
    assert draws.mix.max() > 0.9


def test_the_last_epochs_are_not_mixed():
    recipe = load_recipe("cifar", "ace", source="cifar10", imbalance_factor=100)
    mixed = [bool((dataset.draw_epoch(blank(500), recipe, seed=0, epoch=e).mix < 1).any()) for e in (259, 260)]
    assert mixed == [True, False]


def test_a_split_is_read_from_its_shards(digits_lt):
    manifest = read_manifest(digits_lt.folder)
    training = dataset.load_split(digits_lt.folder, manifest, "train", CPU)
    assert training.pixels.shape == (489, 32, 32, 3)
    assert np.bincount(training.labels.numpy()).tolist() == list(manifest.splits["train"].class_counts)
    mean, std = dataset.channel_statistics(training)
    scaled = training.pixels.double().reshape(-1, 3) / 255
    assert mean == pytest.approx(scaled.mean(0).tolist(), abs=1e-4)
    assert std == pytest.approx(scaled.std(0, unbiased=False).tolist(), abs=1e-4)
