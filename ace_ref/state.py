"""A training in progress: all that changes while it runs, how it begins, and how it goes on from a checkpoint."""

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ace_ref import optimizer, resident
from ace_ref.checkpoint import Checkpoint, Progress, check_tensors, describe_split, fingerprint, make_network
from ace_ref.draws import Split
from ace_ref.loss import LossTerms, make_terms
from ace_ref.network import AceNetwork
from ace_ref.recipe import Recipe
from ace_ref.resident import ResidentSplit
from ltdata import planner
from ltdata.errors import UsageError
from ltdata.manifest import Manifest


@dataclass
class Training:
    """Hold a training in progress.

    Attributes:
        recipe: mean and std are filled in.
        targets: target categories, bool (expert, class).
        class_counts: training images per class, without those held out, (class,).
        split: `describe_split`.
        seed: of the initial weights and of every draw.
        model: in training.
        average: moving average of its weights, or None.
        sgd: its optimizer.
        epoch: epochs that are over.
        step: steps of the next one that are over.
        seconds: of training so far, evaluation not counted.
        loss_sum: over those steps, (expert,).
        history: a record per epoch: epoch, lr, loss, seconds, and what was measured.
        computed_on: the computers that have trained it, in order, as `devices.computers` names them.
    """

    recipe: Recipe
    targets: NDArray[np.bool_]
    class_counts: NDArray[np.int64]
    split: dict[str, Any]
    seed: int
    model: AceNetwork
    average: AceNetwork | None
    sgd: torch.optim.SGD
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    loss_sum: Tensor = field(default_factory=lambda: torch.zeros(0))
    history: list[dict[str, Any]] = field(default_factory=list)
    computed_on: list[str] = field(default_factory=list)

    def evaluated(self) -> Checkpoint:
        """Return the network to evaluate: the average where there is one."""
        return Checkpoint(self.average or self.model, self.recipe, self.targets, self.split, self.seed)

    def place(self) -> dict[str, Any]:
        """Return where it is, and a digest of all that it goes on from."""
        content = fingerprint(self.evaluated(), self.progress())
        return {"epoch": self.epoch, "step": self.step, "weights": content[:16]}

    def progress(self) -> Progress:
        """Return all else that going on needs."""
        tensors = {
            f"momentum:{name}": self.sgd.state[parameter]["momentum_buffer"]
            for name, parameter in self.model.named_parameters()
            if parameter in self.sgd.state
        }
        if self.average is not None:
            tensors |= {f"trained:{name}": tensor for name, tensor in self.model.state_dict().items()}
        sums = tuple(self.loss_sum.tolist())
        return Progress(
            self.epoch, self.step, self.seconds, sums, tuple(self.history), tuple(self.computed_on), tensors
        )


def begin(recipe: Recipe, manifest: Manifest, training: Split, *, seed: int = 0) -> Training:
    """Plan the experts and make the network.

    Args:
        recipe: every value; empty mean and std are filled in from `training`.
        manifest: of the split; its frequencies, less what is held out, plan the experts and their learning rates.
        training: the training images, on the device to train on.
        seed: of the initial weights and of every draw.

    Raises:
        UsageError: the recipe does not fit the split.
    """
    counts = manifest.class_counts - recipe.val_per_class
    if recipe.val_per_class and counts.min() < 1:
        raise UsageError(
            f"val_per_class {recipe.val_per_class}: class {int(counts.argmin())} of {manifest.name} has "
            f"{int(manifest.class_counts.min())} images; at least one must stay for training"
        )
    if len(training) < recipe.batch_size:
        raise UsageError(
            f"batch_size {recipe.batch_size}: {manifest.name} has {len(training)} training images; set a smaller one"
        )
    if not recipe.mean:
        if not isinstance(training, ResidentSplit):
            raise UsageError(
                "recipe: mean and std: photographs of many sizes need them; --set mean=[...] --set std=[...]"
            )
        recipe = recipe.with_values(dict(zip(("mean", "std"), resident.channel_statistics(training), strict=True)))
    targets = planner.target_categories(
        counts,
        planner=recipe.planner,
        experts=recipe.experts,
        thresholds=recipe.thresholds,
        cuts=recipe.cuts,
        group_rule=manifest.group_rule["name"],
    )
    if len(recipe.adjustment) not in (0, len(targets)):
        raise UsageError(f"adjustment {list(recipe.adjustment)}: {len(targets)} numbers are needed, one per expert")
    model = make_network(recipe, experts=len(targets), num_classes=manifest.num_classes, seed=seed)
    model = model.to(training.labels.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sgd = optimizer.make_optimizer(model, recipe, planner.expert_shares(counts, targets).tolist())
    average = copy.deepcopy(model).requires_grad_(requires_grad=False) if recipe.ema_decay else None
    return Training(
        recipe, targets, counts, describe_split(manifest) | training.described(recipe), seed, model, average, sgd
    )


def resume(training: Training, checkpoint: Checkpoint, progress: Progress) -> None:
    """Put a training where a checkpoint of it was; the caller has compared recipe, split and seed.

    Raises:
        ValueError: there is no such place in the training, or a tensor is missing or none of its; nothing has changed.
    """
    _check_place(training, progress)
    weights = checkpoint.model.state_dict()
    if training.average is not None:
        training.average.load_state_dict(weights)
        weights = {n.removeprefix("trained:"): t for n, t in progress.tensors.items() if n.startswith("trained:")}
    training.model.load_state_dict(weights)
    for name, parameter in training.model.named_parameters():
        momentum = progress.tensors.get(f"momentum:{name}")
        if momentum is not None:
            training.sgd.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
    training.epoch, training.step, training.seconds = progress.epoch, progress.step, progress.seconds
    training.loss_sum = torch.tensor(progress.loss_sum, device=next(training.model.parameters()).device)
    training.history = list(progress.history)
    training.computed_on = list(progress.computed_on) or ["an unknown computer"]  # an older checkpoint names none


def _check_place(training: Training, progress: Progress) -> None:
    last = (training.recipe.epochs, 0)
    steps = int(training.class_counts.sum()) // training.recipe.batch_size
    if (progress.epoch, progress.step) > last or progress.step >= steps:
        raise ValueError(f"epoch {progress.epoch}, step {progress.step} of a training of {last[0]} epochs of {steps}")
    if len(progress.loss_sum) not in (0, len(training.targets)):
        raise ValueError(f"loss_sum: {len(progress.loss_sum)} numbers, one for each of {len(training.targets)} experts")
    momentum = {f"momentum:{name}": parameter for name, parameter in training.model.named_parameters()}
    expected: dict[str, Tensor] = {}
    if training.recipe.momentum or momentum.keys() & progress.tensors.keys():  # on CUDA there always is one
        expected |= momentum
    if training.average is not None:
        expected |= {f"trained:{name}": tensor for name, tensor in training.model.state_dict().items()}
    check_tensors(progress.tensors, expected)


def terms_of(training: Training, device: torch.device) -> LossTerms:
    """Make the terms of the losses in the epoch that comes."""
    recipe = training.recipe
    return make_terms(
        training.targets,
        training.class_counts,
        device=device,
        adjustment=recipe.adjustment,
        loss=recipe.loss,
        head_scale=recipe.head_scale,
        reweighted=recipe.reweighted(training.epoch),
        complementary=recipe.complementary,
        complementary_weight=recipe.complementary_weight,
        agreement=recipe.agreement,
        label_smoothing=recipe.label_smoothing,
    )
