"""Policies are torchvision's, image for image, whatever the batch, each image with its own draws."""

import numpy as np
import pytest
import torch
from test_ace_augment import images

from ace_ref import policies
from ace_ref.draws import draw_epoch
from ace_ref.recipe import load_recipe
from ace_ref.resident import ResidentSplit
from ltdata.errors import UsageError


def torchvision_policy(torchvision, name):
    transforms = torchvision.transforms.v2
    return (
        transforms.RandAugment()
        if name == "RandAugment"
        else transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)
    )


def one_by_one(theirs, image, operators, bins):
    """Apply (operator, magnitude, negative) with torchvision's own functions to one image, (h, w, 3)."""
    image = image.permute(2, 0, 1)
    for operator, magnitude, negative in operators:
        sizes, signed = theirs._AUGMENTATION_SPACE[operator]
        all_sizes = sizes(bins, *image.shape[1:])
        size = float(all_sizes[magnitude]) if all_sizes is not None else 0.0
        size = -size if signed and negative else size
        image = theirs._apply_image_or_video_transform(image, operator, size, "nearest", {torch.Tensor: None})
    return image.permute(1, 2, 0)


def test_the_autoaugment_table_is_torchvisions(torchvision):
    assert tuple(torchvision_policy(torchvision, "AutoAugment")._policies) == policies.AUTOAUGMENT_CIFAR10


def test_the_randaugment_operators_are_torchvisions(torchvision):
    theirs = torchvision_policy(torchvision, "RandAugment")
    assert policies.OPERATORS[: policies._RANDAUGMENT] == tuple(theirs._AUGMENTATION_SPACE)
    assert theirs.num_magnitude_bins == policies.RANDAUGMENT_BINS


def test_every_pair_of_autoaugment_equals_torchvision_image_for_image(torchvision):
    """All 25 pairs, both signs, in one batch; the oracle takes one image at a time through its own transform."""
    theirs = torchvision_policy(torchvision, "AutoAugment")
    pixels = images(100)
    pair = np.tile(np.arange(25), 4)
    negative = np.stack([np.arange(100) // 25 % 2 == 1, np.arange(100) // 50 == 1], axis=1)
    found = policies.apply(pixels, policies.autoaugment(pair, np.full((100, 2), -1.0), negative))
    changed = 0
    for row in range(100):
        wanted = [
            (operator, magnitude or 0, negative[row, turn])
            for turn, (operator, _, magnitude) in enumerate(theirs._policies[pair[row]])
        ]
        assert torch.equal(found[row], one_by_one(theirs, pixels[row], wanted, 10)), (row, wanted)
        changed += bool((found[row] != pixels[row]).any())
    assert changed > 80


@pytest.mark.parametrize("shape", [(32, 32), (48, 36)])
def test_every_operator_of_randaugment_at_any_magnitude_equals_torchvision(torchvision, shape):
    theirs = torchvision_policy(torchvision, "RandAugment")
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (8, 12, 9, 3), dtype=np.uint8))
    pixels = torch.nn.functional.interpolate(pixels.permute(0, 3, 1, 2).float(), shape, mode="bilinear")
    pixels = pixels.to(torch.uint8).permute(0, 2, 3, 1).repeat(35, 1, 1, 1)
    operator = np.stack([np.arange(280) % 14, rng.integers(0, 14, 280)], axis=1)
    magnitude, negative = rng.integers(0, 31, (280, 2)), rng.random((280, 2)) < 0.5
    found = policies.apply(pixels, policies.PolicyDraws(operator, magnitude, negative, 31))
    for row in range(280):
        wanted = [
            (policies.OPERATORS[operator[row, turn]], magnitude[row, turn], negative[row, turn]) for turn in range(2)
        ]
        assert torch.equal(found[row], one_by_one(theirs, pixels[row], wanted, 31)), (row, wanted)


def test_an_operator_of_autoaugment_applies_below_its_probability():
    pixels = images(25)
    drawn = policies.autoaugment(np.arange(25), np.ones((25, 2)), np.zeros((25, 2), dtype=bool))
    assert torch.equal(policies.apply(pixels, drawn), pixels)


@pytest.mark.parametrize(
    "values", [{"autoaugment": True}, {"randaugment": 2}, {"randaugment": 3, "randaugment_magnitude": 30}]
)
def test_an_image_is_augmented_the_same_in_any_company(values):
    recipe = load_recipe("tiny", "ce", source="cifar100", imbalance_factor=100).with_values(values)
    pixels = images(60)
    drawn = policies.draw(np.random.default_rng(0), (60,), recipe)
    together = policies.apply(pixels, drawn)
    one = [slice(i, i + 1) for i in range(60)]
    alone = [
        policies.apply(
            pixels[i], policies.PolicyDraws(drawn.operator[i], drawn.magnitude[i], drawn.negative[i], drawn.bins)
        )
        for i in one
    ]
    assert torch.equal(together, torch.cat(alone))
    assert (together != pixels).any()


def test_randaugment_draws_every_operator_equally_often_and_both_signs():
    recipe = load_recipe("tiny", "ce", source="cifar100", imbalance_factor=100).with_values({"randaugment": 2})
    drawn = draw_epoch(
        ResidentSplit(images(1).repeat(6400, 1, 1, 1), torch.zeros(6400).long()), recipe, seed=0, epoch=0
    ).policy
    assert drawn is not None
    counts = np.bincount(drawn.operator.ravel())
    assert len(counts) == 14
    assert abs(counts / counts.sum() - 1 / 14).max() < 0.01
    assert abs(drawn.negative.mean() - 0.5) < 0.02
    assert (drawn.magnitude == 9).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"autoaugment": True, "randaugment": 2}, "one policy"),
        ({"randaugment": 2, "randaugment_magnitude": 31}, "0 to 30"),
        ({"randaugment": -1}, "randaugment -1"),
    ],
)
def test_policies_without_meaning_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        load_recipe("tiny", "ce", source="cifar100", imbalance_factor=100).with_values(values)
