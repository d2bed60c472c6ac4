"""Losses, gradients and weights that are not finite: the step is named, and nothing of it is kept."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle, product
from pathlib import Path
from unittest import mock

import pytest
import torch
from photos import contents
from safetensors.torch import load_file
from test_ace_step import with_stepper
from test_ace_trainer import COUNTS, TINY, make_split
from torch import Tensor, nn

from ace_ref import state, step, trainer
from ace_ref.state import Training
from faults.breaks import Break
from faults.effort import thin, tried
from faults.trainings import EPOCHS, STEPS, fails, options, run, same, small
from ltdata.build import Built
from ltdata.errors import LtdataError

_TRAINER = "ace_ref/trainer.py"
BREAKS = (
    Break("ace_ref/step.py", "get_total_norm(own, 1)", "get_total_norm([own[0] * 0], 1)", "made_not_finite"),
    Break(_TRAINER, "    if len(wrong):\n", "    if False:\n", "made_not_finite"),
    Break(_TRAINER, "step - len(found) + row + 1", "step", "late"),
    Break(
        _TRAINER, "if not bool(torch.stack([values.isfinite()", "if not bool(torch.stack([torch.tensor(True)", "saved"
    ),
    Break("ace_ref/recipe.py", "not abs(number) <= _MOST[type(number)]", "False", "no_float32"),
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return small(tmp_path_factory.mktemp("small"))


# --- how a number becomes not finite: a step is taken with something amiss in expert k, counted from 0

Amiss = Callable[[Training, int], contextmanager]  # type: ignore[type-arg]


def loss(value: float) -> Amiss:
    """Make the loss itself not finite."""

    @contextmanager
    def amiss(_training: Training, expert: int) -> Iterator[None]:
        losses_of = step.expert_losses

        def spoiled(logits: Tensor, *rest: object) -> Tensor:
            losses = losses_of(logits, *rest)  # type: ignore[arg-type]
            return losses * torch.where(torch.arange(len(losses)) == expert, value, 1.0)

        with mock.patch.object(step, "expert_losses", spoiled):
            yield

    return amiss


@contextmanager
def root_of_zero(_training: Training, expert: int) -> Iterator[None]:
    """Add to a loss what is 0, and has no finite gradient."""
    losses_of = step.expert_losses

    def spoiled(logits: Tensor, *rest: object) -> Tensor:
        losses = losses_of(logits, *rest)  # type: ignore[arg-type]
        nothing = (logits[:, expert].float() * 0).sum().sqrt()
        return losses + torch.where(torch.arange(len(losses)) == expert, nothing, 0.0)

    with mock.patch.object(step, "expert_losses", spoiled):
        yield


def gradient(value: float) -> Amiss:
    """Make one number of one gradient not finite."""

    @contextmanager
    def amiss(training: Training, expert: int) -> Iterator[None]:
        def spoiled(values: Tensor) -> Tensor:
            values = values.clone()
            values.view(-1)[-1] = value
            return values

        hook = next(reversed(list(training.model.experts[expert].parameters()))).register_hook(spoiled)
        yield
        hook.remove()

    return amiss


@contextmanager
def weight(training: Training, expert: int) -> Iterator[None]:
    """Make one weight not finite, in the update."""
    yield
    next(training.model.experts[expert].parameters()).data[0] = -math.inf


@contextmanager
def statistics(training: Training, expert: int) -> Iterator[None]:
    """Make a running variance not finite: no loss of a training ever shows it."""
    yield
    norm = next(part for part in training.model.experts[expert].modules() if isinstance(part, nn.BatchNorm2d))
    assert norm.running_var is not None
    norm.running_var[0] = math.inf


AMISS: Mapping[str, Amiss] = {
    "loss nan": loss(math.nan),
    "loss inf": loss(math.inf),
    "gradient nan": gradient(math.nan),
    "gradient inf": gradient(-math.inf),
    "root of zero": root_of_zero,
    "weight": weight,
    "statistics": statistics,
}
PLACES = [(1, 1), (1, 2), (1, STEPS), (2, 1), (2, STEPS)]  # epoch and step, counted from 1
METHODS = {"ace": 3, "ce": 1, "balanced-softmax": 1, "ldam-drw": 1, "ride": 3, "ace-plus": 3}
VARIANTS = [[], ["--set", "precision=bfloat16"], ["--set", "ema_decay=0.5"], ["--set", "mixup_alpha=0.5"], [], []]
CASES = [
    (method, *rest)
    for method, *rest in zip(cycle(METHODS), *zip(*product(AMISS, PLACES), strict=True), cycle(VARIANTS), strict=False)
]


def kept(out: Path) -> dict[str, bytes]:
    """Read what a folder holds; without events, which are written on, and locks."""
    return {path: data for path, data in contents(out).items() if "events/" not in path and "lock" not in path}


@contextmanager
def spoiled_at(epoch: int, at: int, amiss: Amiss, expert: int, out: Path, before: dict[str, bytes]) -> Iterator[None]:
    """Take one step with something amiss; note what the folder holds before it."""
    take = step.take_step

    def taken(training: Training, *rest: object) -> Tensor:
        if (training.epoch + 1, training.step + 1) != (epoch, at):
            return take(training, *rest)  # type: ignore[arg-type]
        before.update(kept(out))
        with amiss(training, expert):
            return take(training, *rest)  # type: ignore[arg-type]

    with mock.patch.object(trainer, "take_step", taken), mock.patch.object(step, "take_step", taken):
        yield


@pytest.mark.parametrize(("method", "what", "place", "more"), thin(CASES, to=5))
def test_a_step_that_has_made_not_finite_what_it_reads_or_writes_is_named(built, tmp_path, method, what, place, more):
    expert, out = METHODS[method] - 1, tmp_path / "r"
    line = options(built, out, "--method", method, *more)
    whole = tmp_path / "whole"
    assert run([*line, "--out", whole]).code == 0
    before: dict[str, bytes] = {}
    with spoiled_at(*place, AMISS[what], expert, out, before):
        done = run(line)
    named = 0 if what == "root of zero" and method in ("ride", "ace-plus") else expert  # whose losses reach the trunk
    epoch, at = place
    rate = json.loads((whole / "log.jsonl").read_text().splitlines()[epoch - 1])["lr"][named]
    words = [f"expert {named + 1} is", f"at epoch {epoch}, step {at}, learning rate {rate:.3g}: try a lower lr"]
    if what.startswith("loss"):
        words.append(f"the loss of expert {expert + 1} is {what.split()[1]}")
    fails(done, 1, *words)
    assert before or epoch == 1
    assert kept(out) == before
    finite(out)
    # The last good checkpoint is one: without what was amiss it leads to where it should.
    assert run([*line, "--resume"]).code == 0
    same(out, whole)
    tried()


def finite(out: Path) -> None:
    """Check that a folder holds no result, and no number that is not finite."""
    assert not list(out.glob("*.json"))
    assert not list(out.glob("*.safetensors"))
    for path in out.glob("checkpoints/*"):
        assert all(bool(tensor.isfinite().all()) for tensor in load_file(path).values()), path
    for record in (out / "log.jsonl").read_text().splitlines() if (out / "log.jsonl").exists() else ():
        json.loads(record, parse_constant=pytest.fail)


REAL = {
    "lr": (["--set", "lr=3e38"], []),
    "lr, bfloat16": (["--set", "lr=1e35", "--set", "precision=bfloat16"], []),
    "lr, averaged": (["--set", "lr=1e36", "--set", "ema_decay=0.9"], []),
    "weight decay": (["--set", "weight_decay=3e38"], []),
    "momentum": (["--set", "momentum=3e38"], []),
    "the deviation of pixels": (["--set", "mean=[0,0,0]", "--set", "std=[1e-39,1,1]"], []),
    "their mean": (["--set", "mean=[3e38,0,0]", "--set", "std=[1e-5,1,1]"], []),
    "the scale of a head": (["--set", "head_scale=3e38"], ["--method", "ride"]),
    "agreement": (["--set", "agreement=-3e38"], ["--method", "ride"]),
    "adjustment": (["--set", "adjustment=[3e38,-3e38,3e38]"], ["--method", "ace-plus"]),
    "the complementary loss": (["--set", "complementary_weight=3e38"], []),
}


@pytest.mark.parametrize("name", thin(list(REAL), to=2))
def test_settings_that_overflow_stop_the_training_at_a_step_that_is_named(built, tmp_path, name):
    more, method = REAL[name]
    done = run(options(built, tmp_path / "r", *method, *more))
    fails(done, 1, "expert ", "at epoch ", ", step ", ", learning rate ", ": try a lower lr")
    finite(tmp_path / "r")
    # The same command stops at the same step.
    assert run(options(built, tmp_path / "r", *method, *more, "--resume")) == done
    tried()


@pytest.mark.parametrize(
    "value",
    thin(["lr=1e308", "thresholds=[nan, 0.1]", "lr=nan", "lr=inf", "weight_decay=1e39", "agreement=-1e308"], to=2),
)
def test_settings_that_are_no_float32_are_refused_before_any_work(built, tmp_path, value):
    fails(run(options(built, tmp_path / "r", "--set", value)), 2, value.partition("=")[0])
    assert not (tmp_path / "r").exists()
    tried()


def test_of_several_seeds_the_one_is_named_and_the_others_keep_what_they_have(built, tmp_path):
    before: dict[str, bytes] = {}
    line = options(built, tmp_path, "--seeds", "0,1", "--together", 2)
    with spoiled_at(2, 2, loss(math.nan), 0, tmp_path, before):
        done = run(line)
    fails(done, 1, "seed 0: the loss of expert 1 is nan at epoch 2, step 2")
    assert {path.name for path in tmp_path.glob("*/checkpoints/*")} == {"00001-000000.safetensors"}
    assert kept(tmp_path) == before
    tried()


# --- the loop: as a GPU reads it, and what a step cannot see


@pytest.mark.parametrize("what", thin([name for name in AMISS if name != "statistics"], to=2))
@pytest.mark.parametrize("at", thin([1, 2, 3, 4], to=1))
def test_a_step_is_named_rightly_where_losses_are_looked_at_late(what, at):
    """On CUDA a look makes the host wait: there are many steps between two, and what they did is in a table."""
    images, manifest = make_split(COUNTS)
    training = state.begin(TINY, manifest, images)
    check, unseen = trainer._check_finite, []

    def late(found: list[Tensor], epoch: int, number: int, rates: list[float]) -> None:
        unseen.extend(found)
        if number == STEPS:
            check([*unseen], epoch, number, rates)
            unseen.clear()

    before: dict[str, bytes] = {}
    amiss = spoiled_at(2, at, AMISS[what], 1, Path("none"), before)
    named = rf"expert 2 is .* at epoch 2, step {at}, learning rate"
    with amiss, mock.patch.object(trainer, "_check_finite", late), pytest.raises(LtdataError, match=named):
        with_stepper(training, images)
    assert (training.epoch, training.step) == (1, STEPS)
    tried()


@pytest.mark.parametrize("epoch", thin([1, 2], to=1))
def test_an_average_that_is_not_finite_is_not_saved(built, tmp_path, epoch):
    @contextmanager
    def amiss(training: Training, _expert: int) -> Iterator[None]:
        yield
        assert training.average is not None
        next(training.average.parameters()).data[0] = math.nan

    out, before = tmp_path / "r", {}
    with spoiled_at(epoch, 2, amiss, 0, out, before):
        done = run(options(built, out, "--set", "ema_decay=0.5", "--set", "lr=0.05"))
    fails(done, 1, f"weights are not finite in epoch {epoch}")
    assert epoch <= EPOCHS
    assert kept(out) == before
    tried()
