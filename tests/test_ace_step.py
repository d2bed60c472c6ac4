"""The step on static tensors computes what the loop over batches computes; captured as a graph, too."""

from unittest import mock

import pytest
import torch
from test_ace_trainer import COUNTS, SWITCHES, TINY, make_split, weights

from ace_ref import state, step, trainer
from ace_ref.state import Training
from ace_ref.step import Stepper

RESIZED = {"crop": "resized", "crop_px": 24, "jitter": 0.4}
WAYS = SWITCHES | {
    "cut out": {"cutout_px": 8},
    "randaugment": {"randaugment": 2},
    "resized": RESIZED,
    "resized, cut out": RESIZED | {"cutout_px": 8},
    "class-balanced": {"sampler": "class-balanced"},
}


def with_stepper(training: Training, images, **options) -> None:
    """Train on static tensors, on the CPU, call by call."""

    def stepped(training, _network, images, drawn, terms, _ranks):
        if not made:
            made.append(Stepper(training, training.model, images, capture=False))
        return trainer._stepped(training, made[0], drawn, terms)

    made: list[Stepper] = []
    with mock.patch("ace_ref.trainer._batched", stepped):
        trainer.run(training, images, **options)


@pytest.mark.parametrize("switches", WAYS.values(), ids=list(WAYS))
def test_static_tensors_train_as_batches_do_bit_for_bit(switches):
    images, manifest = make_split(COUNTS)
    recipe = TINY.with_values(switches)
    batched, static = (state.begin(recipe, manifest, images, seed=1) for _ in range(2))
    trainer.run(batched, images)
    with_stepper(static, images)
    expected = weights(batched)
    assert all(torch.equal(found, expected[name]) for name, found in weights(static).items())
    assert [r["loss"] for r in static.history] == [r["loss"] for r in batched.history]


@pytest.mark.parametrize("stop", [1, 3, 5, 8])
def test_static_tensors_go_on_from_any_step_bit_for_bit(stop):
    images, manifest = make_split(COUNTS)
    recipe = TINY.with_values({"mixup_alpha": 0.5, "plain_epochs": 1})
    whole, part, again = (state.begin(recipe, manifest, images, seed=1) for _ in range(3))
    with_stepper(whole, images)
    asked = iter([0] * (stop - 1) + [130] * 99)
    with pytest.raises(trainer.StopError):
        with_stepper(part, images, stopping=lambda: next(asked))
    state.resume(again, part.evaluated(), part.progress())
    with_stepper(again, images)
    expected = weights(whole)
    assert all(torch.equal(found, expected[name]) for name, found in weights(again).items())


def test_a_loss_that_is_not_finite_is_named_by_its_step():
    images, manifest = make_split(COUNTS)
    training = state.begin(TINY.with_values({"lr": 1e30}), manifest, images)
    with pytest.raises(trainer.LtdataError, match=r"at epoch 1, step \d"):
        with_stepper(training, images)


def test_trainings_that_take_turns_compute_what_each_does_alone():
    images, manifest = make_split(COUNTS)
    alone = [state.begin(TINY, manifest, images, seed=seed) for seed in range(3)]
    for training in alone:
        trainer.run(training, images)
    together = [state.begin(TINY, manifest, images, seed=seed) for seed in range(3)]
    running = [trainer.steps(training, images) for training in together]
    while running:
        running = [each for each in running if next(each, "over") != "over"]
    for one, other in zip(alone, together, strict=True):
        expected = weights(one)
        assert all(torch.equal(found, expected[name]) for name, found in weights(other).items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("switches", WAYS.values(), ids=list(WAYS))
def test_a_captured_step_trains_as_the_calls_one_by_one(switches):
    images, manifest = make_split(COUNTS)
    on_device = type(images)(images.pixels.cuda(), images.labels.cuda())
    recipe = TINY.with_values(switches)
    captured, eager = (state.begin(recipe, manifest, on_device, seed=1) for _ in range(2))
    trainer.run(captured, on_device, graph=True)
    trainer.run(eager, on_device, graph=False)
    expected = weights(eager)
    assert all(torch.equal(found, expected[name]) for name, found in weights(captured).items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_training_starts_as_the_cpu_one_does():
    """The first step's losses: later ones drift apart, since sums are in another order."""
    images, manifest = make_split(COUNTS)
    on_device = type(images)(images.pixels.cuda(), images.labels.cuda())
    found = []
    for split in (images, on_device):
        training = state.begin(TINY, manifest, split, seed=1)
        next(trainer.steps(training, split))
        found.append(training.loss_sum.tolist())
    assert found[1] == pytest.approx(found[0], rel=1e-3)


def test_this_is_the_step_that_the_loop_takes():
    assert trainer.take_step is step.take_step
