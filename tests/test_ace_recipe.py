"""Recipes hold the published settings, and take any override that makes sense."""

import dataclasses
import json

import pytest

from ace_ref.recipe import Recipe, default_name, from_json, load_recipe, methods, names, parse_override
from ltdata.errors import UsageError


def cifar(source: str, factor: float):
    return load_recipe("cifar", "ace", source=source, imbalance_factor=factor)


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


def test_the_published_settings_of_the_larger_data_sets():
    for name, source, epochs, batch, lr, milestones in (
        ("imagenet-lt-resnet10", "imagenet-lt", 200, 256, 0.08, (120, 160)),
        ("imagenet-lt-resnet50", "imagenet-lt", 220, 256, 0.1, (140, 180)),
        ("inat18-resnet50", "inat18", 220, 512, 0.1, (140, 180)),
    ):
        recipe = load_recipe(name, "ace", source=source, imbalance_factor=256)
        assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.milestones) == (epochs, batch, lr, milestones)
        assert (recipe.weight_decay, recipe.warmup_epochs, recipe.mixup_alpha) == (1e-4, 5, 0.3)
        assert (recipe.thresholds, recipe.plain_epochs) == ((0.4, 0.1), 20)


def test_methods_differ_in_loss_head_and_planner_only():
    """What a comparison changes is what the method's file says; ace-plus goes past it in the recipe cifar."""
    of_a_method = {
        "method", "planner", "experts", "routing", "head", "head_scale", "loss", "adjustment", "drw", "complementary",
        "agreement", "scale",
    }  # fmt: skip
    for name in ("cifar", "tiny"):
        recipes = [load_recipe(name, method, source="cifar100", imbalance_factor=100) for method in methods()]
        differing = {
            field.name
            for field in dataclasses.fields(Recipe)
            if len({getattr(recipe, field.name) for recipe in recipes}) > 1
        }
        past_it = {"autoaugment", "cutout_px"} if name == "cifar" else set()
        assert differing - of_a_method == past_it


def test_the_data_set_chooses_its_recipe():
    assert [default_name(source) for source in ("cifar10", "cifar100", "digits", "imagenet-lt", "inat18")] == [
        "cifar", "cifar", "tiny", "imagenet-lt-resnet50", "inat18-resnet50",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="--recipe"):
        default_name("elsewhere")


def test_a_recipe_survives_json():
    recipe = cifar("cifar10", 100)
    assert from_json(json.loads(json.dumps(dataclasses.asdict(recipe)))) == recipe


def test_every_recipe_loads_for_every_source():
    for name in names():
        for source in ("cifar10", "cifar100", "digits", "elsewhere"):
            for method in methods():
                assert load_recipe(name, method, source=source, imbalance_factor=3.5).method == method


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
        "scale=mean",
        "head=cosine",
        "agreement=0.5",
        "agreement=nan",
        "ema_decay=1.0",
    ],
)
def test_what_cannot_be_meant_is_refused(text):
    with pytest.raises(UsageError):
        cifar("cifar100", 100).with_values(dict([parse_override(text)]))


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"cifar, .*tiny"):
        load_recipe("large", "ace", source="cifar10", imbalance_factor=10)
    with pytest.raises(UsageError, match="ace-plus, balanced-softmax, ce, ldam-drw, ride"):
        load_recipe("tiny", "paco", source="cifar10", imbalance_factor=10)
