"""Recipes hold the published settings, and take any override that makes sense."""

import pytest

from ace_ref.recipe import load_recipe, names, parse_override
from ltdata.errors import UsageError


def cifar(source: str, factor: float):
    return load_recipe("cifar", source=source, imbalance_factor=factor)


def test_the_published_settings():
    for source, factor, thresholds, lr, warmup, mixup in (
        ("cifar100", 100.0, (0.3, 0.03), 0.2, 0, 0.0),
        ("cifar100", 50.0, (0.4, 0.1), 0.2, 10, 0.3),
        ("cifar10", 100.0, (0.3, 0.05), 0.1, 10, 0.3),
        ("cifar10", 50.0, (0.3, 0.05), 0.1, 10, 0.3),
    ):
        recipe = cifar(source, factor)
        assert (recipe.thresholds, recipe.lr, recipe.warmup_epochs, recipe.mixup_alpha) == (
            thresholds,
            lr,
            warmup,
            mixup,
        )
        assert (recipe.batch_size, recipe.epochs, recipe.milestones, recipe.plain_epochs) == (128, 280, (200, 240), 20)
        assert (recipe.momentum, recipe.weight_decay, recipe.lr_decay) == (0.9, 5e-4, 0.1)


def test_every_recipe_loads_for_every_source():
    for name in names():
        for source in ("cifar10", "cifar100", "digits", "elsewhere"):
            load_recipe(name, source=source, imbalance_factor=3.5)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("lr=1", "lr", 1.0),
        ("lr=1e-2", "lr", 0.01),
        ("flip=false", "flip", False),
        ("milestones=[3, 4]", "milestones", (3, 4)),
        ("thresholds=[0.5]", "thresholds", (0.5,)),
        ("planner=groups", "planner", "groups"),
    ],
)
def test_any_value_can_be_overridden(text, name, value):
    assert getattr(cifar("cifar100", 100).with_values(dict([parse_override(text)])), name) == value


@pytest.mark.parametrize(
    "text",
    [
        "lr",
        "lr=fast",
        "lr=nan",
        "lr=-1",
        "epochs=0",
        "epochs=1.5",
        "flip=1",
        "batch_size=1",
        "backbone=vgg",
        "thresholds=0.3",
        "mean=[1.0]",
        "std=[0.0, 1.0, 1.0]",
        "speed=9",
        "scale=none",
    ],
)
def test_what_cannot_be_meant_is_refused(text):
    with pytest.raises(UsageError):
        cifar("cifar100", 100).with_values(dict([parse_override(text)]))


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="cifar, tiny"):
        load_recipe("large", source="cifar10", imbalance_factor=10)
