"""Learning rates follow the frequencies and the schedule at every epoch."""

import dataclasses
import math

import pytest

from ace_ref.network import AceNetwork
from ace_ref.optimizer import make_optimizer, schedule, set_learning_rates
from ace_ref.recipe import load_recipe

SHARES = [1.0, 0.304, 0.032]


@pytest.mark.parametrize(("source", "factor"), [("cifar100", 100.0), ("cifar100", 50.0), ("cifar10", 100.0)])
def test_learning_rates_equal_the_formula_at_every_epoch(source, factor):
    recipe = load_recipe("cifar", "ace", source=source, imbalance_factor=factor)
    sgd = make_optimizer(AceNetwork("resnet8", experts=3, num_classes=4), recipe, SHARES)
    warmup = 0 if (source, factor) == ("cifar100", 100.0) else 10
    for epoch in range(280):
        factor_now = (epoch + 1) / warmup if epoch < warmup else 1.0 if epoch < 200 else 0.1 if epoch < 240 else 0.01
        assert set_learning_rates(sgd, recipe, epoch) == pytest.approx([recipe.lr * s * factor_now for s in SHARES])


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
