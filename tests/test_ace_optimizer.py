"""Learning rates follow the frequencies and the schedule at every epoch."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import ltdata
from ace_ref.network import AceNetwork
from ace_ref.optimizer import make_optimizer, schedule, set_learning_rates
from ace_ref.recipe import load_recipe
from ace_ref.resident import ResidentSplit
from ace_ref.state import begin

SHARES = [1.0, 0.304, 0.032]


@pytest.mark.parametrize(
    ("source", "factor", "shares"),
    [
        ("cifar100", 100, (1, 0.304, 0.032)), ("cifar100", 50, (1, 0.406, 0.1045)),
        ("cifar10", 100, (1, 0.355, 0.072)), ("cifar10", 50, (1, 0.41, 0.061)),
    ],
)  # fmt: skip
def test_learning_rates_follow_the_manifests_frequencies_at_every_epoch(source, factor, shares):
    """The shares are those of the published table; the training takes them from the pinned split."""
    manifest = ltdata.load(f"{source}-lt", imbalance_factor=factor)
    recipe = load_recipe("cifar", "ace", source=source, imbalance_factor=factor)
    labels = torch.from_numpy(np.repeat(np.arange(manifest.num_classes), manifest.class_counts))
    images = ResidentSplit(torch.zeros(len(labels), 1, 1, 3, dtype=torch.uint8), labels)
    training = begin(recipe.with_values({"backbone": "resnet8"}), manifest, images)
    exact = (training.targets @ manifest.class_counts) / manifest.class_counts.sum()
    assert exact == pytest.approx(shares, abs=2e-3)
    warmup = 0 if (source, factor) == ("cifar100", 100) else 10
    for epoch in range(280):
        now = (epoch + 1) / warmup if epoch < warmup else 1.0 if epoch < 200 else 0.1 if epoch < 240 else 0.01
        assert set_learning_rates(training.sgd, recipe, epoch) == pytest.approx(recipe.lr * exact * now)


def test_every_parameter_is_in_one_group_and_the_trunk_in_the_first():
    model = AceNetwork("resnet8", experts=3, num_classes=4)
    sgd = make_optimizer(model, load_recipe("tiny", "ace", source="cifar100", imbalance_factor=100), SHARES)
    held = [{id(p) for p in group["params"]} for group in sgd.param_groups]
    assert sum(map(len, held)) == len(set.union(*held)) == len(list(model.parameters()))
    assert {id(p) for p in model.trunk.parameters()} <= held[0]
    assert all({id(p) for p in model.experts[k].parameters()} <= held[k] for k in range(3))
    assert all(group["momentum"] == 0.9 and group["weight_decay"] == 5e-4 for group in sgd.param_groups)


def test_milestones_keep_their_proportion_in_a_shorter_run():
    recipe = load_recipe("cifar", "ace", source="cifar10", imbalance_factor=100).with_epochs(28)
    assert (recipe.milestones, recipe.warmup_epochs, recipe.plain_epochs) == ((20, 24), 1, 2)
    assert [schedule(recipe, epoch) for epoch in (19, 20, 24)] == pytest.approx([1, 0.1, 0.01])


def test_the_cosine_schedule_warms_up_and_falls_to_nothing():
    recipe = dataclasses.replace(
        load_recipe("tiny", "ce", source="cifar100", imbalance_factor=100), schedule="cosine", warmup_epochs=5
    )
    for epoch in range(30):
        expected = (epoch + 1) / 5 if epoch < 5 else (1 + math.cos(math.pi * (epoch - 5) / 25)) / 2
        assert schedule(recipe, epoch) == pytest.approx(expected)
