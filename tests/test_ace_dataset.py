"""Batches: the fused gather is torchvision's pipeline; draws come from seed and epoch alone."""

import numpy as np
import pytest
import torch

from ace_ref import augment, loading, resident
from ace_ref.draws import Draws, draw_epoch
from ace_ref.policies import OPERATORS
from ace_ref.recipe import SAMPLERS, Recipe, load_recipe
from ace_ref.resident import ResidentSplit
from ltdata.reader import read_manifest
from ltdata.sampling import class_shares

RECIPE = load_recipe("cifar", "ace", source="cifar100", imbalance_factor=100)
CPU = torch.device("cpu")
PINNED = {
    "index": [177, 272, 154, 235],
    "top": [5, 8, 3, 0],
    "flip": [False, True, False, False],
    "partner": [86, 75, 37, 34],
    "centre": [[15, 1], [6, 28]],
    "operator": [
        ["TranslateY", "AutoContrast"],
        ["Identity", "Identity"],
        ["TranslateY", "TranslateY"],
        ["Identity", "Sharpness"],
    ],
}


def drawn(n: int, recipe: Recipe = RECIPE, *, seed: int = 0, epoch: int = 0) -> Draws:
    """Draw an epoch of n images."""
    return draw_epoch(blank(np.arange(n) % 10), recipe, seed=seed, epoch=epoch)


def blank(labels) -> ResidentSplit:
    """Make black images."""
    return ResidentSplit(torch.zeros(len(labels), 32, 32, 3, dtype=torch.uint8), torch.from_numpy(labels))


def test_gather_and_normalise_equal_torchvision_crop_flip_normalise(torchvision):
    functional = torchvision.transforms.functional
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    index, top, left = rng.integers(0, 20, 64), rng.integers(0, 9, 64), rng.integers(0, 9, 64)
    flip = rng.random(64) < 0.5
    crops = augment.gather(torch.from_numpy(pixels), *map(torch.from_numpy, (index, top, left, flip)), padding_px=4)
    found = augment.normalise(crops, augment.constants(RECIPE.mean, RECIPE.std, (32, 32), CPU))
    for row in range(64):
        image = functional.pad(functional.to_tensor(pixels[index[row]]), [4])
        image = functional.crop(image, int(top[row]), int(left[row]), 32, 32)
        image = functional.hflip(image) if flip[row] else image
        assert torch.equal(found[row], functional.normalize(image, RECIPE.mean, RECIPE.std))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_visits_whole_batches_of_different_images():
    draws = drawn(1000)
    assert draws.index.shape == (1000 // 128, 128)
    assert len(draws.index.unique()) == draws.index.numel()


def test_draws_depend_on_seed_and_epoch_alone():
    every = {"mixup_alpha": 0.3, "autoaugment": True, "cutout_px": 8}
    padded, resized = RECIPE.with_values(every), RECIPE.with_values(every | {"crop": "resized", "jitter": 0.4})

    def first(seed, epoch):
        torch.manual_seed(epoch + 7)  # the global generators must not matter
        np.random.seed(epoch + 7)
        one, other = (drawn(500, recipe, seed=seed, epoch=epoch) for recipe in (padded, resized))
        policy = one.policy
        assert policy is not None
        return {
            "index": one.index, "flip": one.flip, "mix": one.mix, "top": one.top, "left": one.left,
            "partner": one.partner, "place": other.place, "factors": other.factors, "operator": policy.operator,
            "negative": policy.negative, "centre": one.centre,
        }  # fmt: skip

    here, same, later, seeded = (first(*at) for at in ((3, 5), (3, 5), (3, 6), (4, 5)))
    for name, values in here.items():
        assert np.array_equal(values, same[name])
        assert not np.array_equal(values, later[name])
        assert not np.array_equal(values, seeded[name])


def test_one_purpose_switched_off_leaves_the_draws_of_the_others():
    """What was trained before a switch was added is trained the same after it."""
    plain = drawn(500)
    for values in ({"mixup_alpha": 0.3}, {"autoaugment": True}, {"randaugment": 2}, {"cutout_px": 8}):
        other = drawn(500, RECIPE.with_values(values))
        for name in ("index", "flip", "top", "left"):
            assert torch.equal(getattr(other, name), getattr(plain, name))


def test_the_draws_are_pinned():
    """A change here changes every training ever reported: only for a reason that is worth that, and said so."""
    recipe = RECIPE.with_values({"mixup_alpha": 0.3, "autoaugment": True, "cutout_px": 8})
    draws = drawn(500, recipe, seed=1, epoch=2)
    assert draws.partner is not None
    assert draws.top is not None
    assert draws.centre is not None
    assert draws.policy is not None
    assert draws.index[0, :4].tolist() == PINNED["index"]
    assert draws.top[0, :4].tolist() == PINNED["top"]
    assert draws.flip[0, :4].tolist() == PINNED["flip"]
    assert draws.partner[0, :4].tolist() == PINNED["partner"]
    assert draws.centre[0, :2].tolist() == PINNED["centre"]
    assert [[OPERATORS[n] for n in pair] for pair in draws.policy.operator[0, :4]] == PINNED["operator"]


def test_crops_flips_and_mixing_cover_their_ranges():
    draws = drawn(10_000, RECIPE.with_values({"mixup_alpha": 0.3}))
    assert draws.top is not None
    assert draws.left is not None
    assert sorted(draws.top.unique().tolist()) == sorted(draws.left.unique().tolist()) == list(range(9))
    assert 0.48 < draws.flip.float().mean() < 0.52
    assert draws.mix.min() < 0.1
    assert draws.mix.max() > 0.9


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_epoch_shows_every_class_as_its_sampler_says(sampler):
    counts = np.array((4000, 900, 90, 10))
    labels = np.repeat(np.arange(4), counts)
    recipe = RECIPE.with_values({"sampler": sampler})
    draws = draw_epoch(blank(labels), recipe, seed=0, epoch=100)
    shares = np.bincount(labels[draws.index.flatten().numpy()], minlength=4) / draws.index.numel()
    named = {"epochs": recipe.epochs} if sampler == "progressively-balanced" else {}
    assert abs(shares - class_shares(sampler, counts, epoch=100, **named)).max() < 0.03


def test_the_last_epochs_are_not_mixed():
    recipe = load_recipe("cifar", "ace", source="cifar10", imbalance_factor=100)
    assert [drawn(500, recipe, epoch=epoch).mixed for epoch in (259, 260)] == [True, False]


def test_a_split_is_read_from_its_shards(digits_lt):
    manifest = read_manifest(digits_lt.folder)
    training = loading.load_split(digits_lt.folder, manifest, "train", RECIPE, loading.Memory(CPU))
    assert isinstance(training, ResidentSplit)
    assert training.pixels.shape == (489, 32, 32, 3)
    assert np.bincount(training.labels.numpy()).tolist() == list(manifest.splits["train"].class_counts)
    mean, std = resident.channel_statistics(training)
    scaled = training.pixels.double().reshape(-1, 3) / 255
    assert mean == pytest.approx(scaled.mean(0).tolist(), abs=1e-4)
    assert std == pytest.approx(scaled.std(0, unbiased=False).tolist(), abs=1e-4)
