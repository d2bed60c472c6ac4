"""Augmentation is torchvision's, image for image, whatever the batch."""

import numpy as np
import pytest
import torch

from ace_ref import augment, dataset
from ace_ref.recipe import load_recipe


def images(n: int, side_px: int = 32, seed: int = 0) -> torch.Tensor:
    """Make smooth images, with something for every operator to change."""
    small = torch.rand(n, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(small, size=(side_px, side_px), mode="bicubic").clamp(0, 1)
    return (large * 200 + 20).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def test_the_policy_is_torchvisions(torchvision):
    transforms = torchvision.transforms.v2
    theirs = transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)
    assert tuple(theirs._policies) == augment.AUTOAUGMENT_CIFAR10


def test_every_pair_of_operators_equals_torchvision_image_for_image(torchvision):
    """All 25 pairs, both signs, in one batch; the oracle takes one image at a time through its own transform."""
    transforms = torchvision.transforms.v2
    theirs = transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)
    pixels = images(100)
    pair = torch.arange(25).repeat(4)
    negative = torch.stack([torch.arange(100) // 25 % 2 == 1, torch.arange(100) // 50 == 1], dim=1)
    found = augment.autoaugment(pixels, pair, torch.full((100, 2), -1.0), negative)
    changed = 0
    for row in range(100):
        image = pixels[row].permute(2, 0, 1)
        for turn, (operator, _, magnitude) in enumerate(theirs._policies[int(pair[row])]):
            sizes, signed = theirs._AUGMENTATION_SPACE[operator]
            size = float(sizes(10, 32, 32)[magnitude]) if magnitude is not None else 0.0
            size = -size if signed and negative[row, turn] else size
            image = theirs._apply_image_or_video_transform(image, operator, size, "nearest", {torch.Tensor: None})
        assert torch.equal(found[row].permute(2, 0, 1), image), (row, theirs._policies[int(pair[row])])
        changed += bool((found[row] != pixels[row]).any())
    assert changed > 80


def test_an_operator_applies_below_its_probability():
    pixels = images(25)
    kept = augment.autoaugment(pixels, torch.arange(25), torch.ones(25, 2), torch.zeros(25, 2, dtype=torch.bool))
    assert torch.equal(kept, pixels)


def test_an_image_is_augmented_the_same_in_any_company():
    pixels, rng = images(60), np.random.default_rng(0)
    pair, chance = torch.from_numpy(rng.integers(0, 25, 60)), torch.from_numpy(rng.random((60, 2)))
    negative = torch.from_numpy(rng.random((60, 2)) < 0.5)
    together = augment.autoaugment(pixels, pair, chance, negative)
    alone = [
        augment.autoaugment(pixels[i : i + 1], pair[i : i + 1], chance[i : i + 1], negative[i : i + 1])
        for i in range(60)
    ]
    assert torch.equal(together, torch.cat(alone))


def test_cutout_blackens_one_square_cut_off_at_the_border():
    pixels = torch.full((3, 32, 32, 3), 255, dtype=torch.uint8)
    cut = augment.cutout(pixels, torch.tensor([16, 0, 31]), torch.tensor([16, 0, 31]), side_px=16)
    black = (cut == 0).all(dim=3)
    assert black.sum(dim=(1, 2)).tolist() == [16 * 16, 8 * 8, 9 * 9]
    assert black[0, 8:24, 8:24].all()
    assert black[1, :8, :8].all()


def test_resized_boxes_have_the_published_areas_and_ratios_and_lie_inside():
    boxes = augment.resized_boxes(np.random.default_rng(0).random((5000, 4)), 100, 120)
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 100).all()
    assert (left + width <= 120).all()
    assert (height * width / 12_000).min() == pytest.approx(0.08, abs=0.01)
    free = (height < 100) & (width < 120)
    assert (width / height)[free].min() == pytest.approx(3 / 4, abs=0.06)
    assert (width / height)[free].max() == pytest.approx(4 / 3, abs=0.06)


def test_resized_crop_equals_torchvision(torchvision):
    functional = torchvision.transforms.v2.functional
    pixels = images(2, side_px=40)
    found = augment.resized_crop(
        pixels, [[0, 0, 40, 40], [3, 5, 20, 30]], [False, True], [[1, 1, 1], [1.2, 0.9, 1.1]], side_px=24
    )
    first = functional.resize(pixels[0].permute(2, 0, 1), [24, 24], antialias=True)
    second = functional.resized_crop(pixels[1].permute(2, 0, 1), 3, 5, 20, 30, [24, 24], antialias=True)
    second = functional.adjust_brightness(functional.horizontal_flip(second), 1.2)
    second = functional.adjust_saturation(functional.adjust_contrast(second, 0.9), 1.1)
    assert torch.equal(found, torch.stack([first, second]).permute(0, 2, 3, 1))


@pytest.mark.parametrize(
    "values", [{}, {"autoaugment": True, "cutout_px": 8}, {"mixup_alpha": 0.5}, {"crop": "resized"}]
)
def test_any_number_of_ranks_and_any_start_give_the_same_batches(values):
    recipe = load_recipe("tiny", "ce", source="cifar100", imbalance_factor=100)
    recipe = recipe.with_values({"batch_size": 8, "crop_px": 32, "jitter": 0.2, "plain_epochs": 0, **values})
    split = dataset.ResidentSplit(images(50), torch.arange(50) % 10)
    draws = dataset.draw_epoch(split, recipe, seed=0, epoch=0)
    whole = list(dataset.batches(split, draws, recipe))
    assert len(whole) == 6
    for rank in range(2):
        for batch, part in zip(whole, dataset.batches(split, draws, recipe, rank=rank, world=2), strict=True):
            assert torch.equal(part.images, batch.images[rank::2])
            assert torch.equal(part.labels, batch.labels)
            assert torch.equal(part.partners, batch.partners)
    for start in range(6):
        for batch, late in zip(whole[start:], dataset.batches(split, draws, recipe, start=start), strict=True):
            assert torch.equal(late.images, batch.images)


def test_held_out_images_are_the_last_of_every_class():
    labels = torch.tensor([0, 1, 0, 1, 1, 0, 2, 2])
    split = dataset.ResidentSplit(torch.arange(8, dtype=torch.uint8).reshape(8, 1, 1, 1), labels)
    kept, held = dataset.hold_out(split, 1)
    assert kept.pixels.flatten().tolist() == [0, 1, 2, 3, 6]
    assert held.pixels.flatten().tolist() == [4, 5, 7]
    assert held.labels.tolist() == [1, 0, 2]
