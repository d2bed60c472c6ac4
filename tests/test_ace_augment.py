"""Augmentation is torchvision's, image for image, whatever the batch."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock
from unittest import mock

import numpy as np
import pytest
import torch

from ace_ref import augment, dataset, vision
from ace_ref.draws import draw_epoch
from ace_ref.recipe import load_recipe
from ace_ref.resident import ResidentSplit, hold_out


def images(n: int, side_px: int = 32, seed: int = 0) -> torch.Tensor:
    """Make smooth images, with something for every operator to change."""
    small = torch.rand(n, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(small, size=(side_px, side_px), mode="bicubic").clamp(0, 1)
    return (large * 200 + 20).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


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
    found = [
        augment.resized_crop(pixels[0], [0, 0, 40, 40], False, [1, 1, 1], side_px=24),
        augment.resized_crop(pixels[1], [3, 5, 20, 30], True, [1.2, 0.9, 1.1], side_px=24),
    ]
    first = functional.resize(pixels[0].permute(2, 0, 1), [24, 24], antialias=True)
    second = functional.resized_crop(pixels[1].permute(2, 0, 1), 3, 5, 20, 30, [24, 24], antialias=True)
    second = functional.adjust_brightness(functional.horizontal_flip(second), 1.2)
    second = functional.adjust_saturation(functional.adjust_contrast(second, 0.9), 1.1)
    assert torch.equal(torch.stack(found), torch.stack([first, second]).permute(0, 2, 3, 1))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"autoaugment": True, "cutout_px": 8},
        {"mixup_alpha": 0.5},
        {"crop": "resized"},
        {"crop": "resized", "randaugment": 2, "cutout_px": 8},
        {"sampler": "class-balanced"},
    ],
)
def test_any_number_of_ranks_and_any_start_give_the_same_batches(values):
    recipe = load_recipe("tiny", "ce", source="cifar100", imbalance_factor=100)
    recipe = recipe.with_values({"batch_size": 8, "crop_px": 32, "jitter": 0.2, "plain_epochs": 0, **values})
    split = ResidentSplit(images(50), torch.arange(50) % 10)
    drawn = draw_epoch(split, recipe, seed=0, epoch=0)
    whole = list(dataset.batches(split, drawn, recipe))
    assert len(whole) == 6
    for rank in range(2):
        for batch, part in zip(whole, dataset.batches(split, drawn, recipe, rank=rank, world=2), strict=True):
            assert torch.equal(part.images, batch.images[rank::2])
            assert torch.equal(part.labels, batch.labels)
            assert torch.equal(part.partners, batch.partners)
    for start in range(6):
        for batch, late in zip(whole[start:], dataset.batches(split, drawn, recipe, start=start), strict=True):
            assert torch.equal(late.images, batch.images)


@pytest.mark.parametrize("shape", [(32, 32), (28, 20)])
def test_indexed_windows_are_the_gather(shape):
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (9, *shape, 3), dtype=np.uint8))
    for padding_px in (0, 1, 4):
        many = [rng.integers(0, limit, 200) for limit in (9, 2 * padding_px + 1, 2 * padding_px + 1)]
        draws_ = [torch.from_numpy(each) for each in (*many, rng.random(200) < 0.5)]
        expected = augment.gather(pixels, *draws_, padding_px=padding_px)
        assert torch.equal(augment.cut(augment.windows(pixels, padding_px), *draws_), expected)


def test_held_out_images_are_the_last_of_every_class():
    labels = np.array([0, 1, 0, 1, 1, 0, 2, 2])
    kept, held = hold_out(labels, 1)
    assert kept.tolist() == [0, 1, 2, 3, 6]
    assert held.tolist() == [4, 5, 7]


def test_threads_that_crop_load_torchvision_one_after_the_other():
    """Two that import it at once, where its operators do not load, find each other's half."""
    load, inside, ready = vision._load, Lock(), Barrier(8)

    def alone() -> object:
        assert inside.acquire(blocking=False)
        try:
            return load()
        finally:
            inside.release()

    def threads(_: int) -> object:
        ready.wait()
        return vision.load_torchvision()

    with mock.patch.object(vision, "_load", alone), ThreadPoolExecutor(8) as pool:
        assert set(pool.map(threads, range(8))) == {load()}
