"""The training loop, one for every method: epochs of steps, checkpoints, stop and go on.

Everything that changes is in a `Training`; it can be written at any step and read again, and goes on bit for bit on
the CPU, since no draw depends on what was drawn before.
"""

import copy
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ace_ref import dataset, draws, optimizer, ranks, resident
from ace_ref.checkpoint import Checkpoint, Progress, describe_split, make_network
from ace_ref.draws import Draws
from ace_ref.loss import LossTerms, make_terms
from ace_ref.network import AceNetwork
from ace_ref.ranks import Ranks
from ace_ref.recipe import Recipe
from ace_ref.resident import ResidentSplit, Split
from ace_ref.step import Stepper, take_step
from ltdata import planner
from ltdata.errors import LtdataError, UsageError
from ltdata.manifest import Manifest

_CUDA_CHECK_STEPS = 50  # a look at the losses makes the host wait for the device


class StopError(LtdataError):
    """Report a training that was asked to stop, and did, between two steps."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


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

    def evaluated(self) -> Checkpoint:
        """Return the network to evaluate: the average where there is one."""
        return Checkpoint(self.average or self.model, self.recipe, self.targets, self.split, self.seed)

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
        return Progress(self.epoch, self.step, self.seconds, sums, tuple(self.history), tensors)


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
    if len(training) < recipe.batch_size:
        raise UsageError(
            f"batch_size {recipe.batch_size}: {manifest.name} has {len(training)} training images; set a smaller one"
        )
    counts = manifest.class_counts - recipe.val_per_class
    if recipe.val_per_class and counts.min() < 1:
        raise UsageError(
            f"val_per_class {recipe.val_per_class}: class {int(counts.argmin())} of {manifest.name} has "
            f"{int(manifest.class_counts.min())} images; at least one must stay for training"
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
    """Put a training where a checkpoint of it was; the caller has compared recipe, split and seed."""
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


def run(training: Training, images: Split, **options: Any) -> None:
    """Train to the end of the recipe; arguments and errors as `steps`."""
    for _ in steps(training, images, **options):
        pass


def steps(
    training: Training,
    images: Split,
    *,
    ranks_: Ranks = Ranks(),  # noqa: B008 - frozen
    measure: Callable[[Training], dict[str, Any]] = lambda _: {},
    after_epoch: Callable[[Training], None] = lambda _: None,
    stopping: Callable[[], int] = lambda: 0,
    progress: bool = False,
    graph: bool = True,
) -> Iterator[None]:
    """Train to the end of the recipe, and yield after every step: several trainings can take turns.

    Args:
        training: from its beginning or from a checkpoint on; changed in place.
        images: the training set; its labels are on the device to train on.
        ranks_: this process among others.
        measure: what to add to an epoch's record.
        after_epoch: called after every epoch, and before `StopError` is raised.
        stopping: asked after every step; an exit code other than 0 ends the run with `StopError`.
        progress: show a bar on a terminal, over the whole run.
        graph: on one CUDA device, replay the step as a CUDA graph; else call by call.

    Raises:
        LtdataError: a loss is not finite.
        StopError: `stopping` said so.
    """
    recipe, device = training.recipe, images.labels.device
    if recipe.batch_size % ranks_.world:
        raise UsageError(f"batch_size {recipe.batch_size}: cannot be split evenly over {ranks_.world} processes")
    network = _wrapped(training, ranks_, device)
    alone = device.type == "cuda" and ranks_.world == 1
    stepper = Stepper(training, network, images, capture=graph) if alone else None
    per_epoch = len(images) // recipe.batch_size
    done = training.epoch * per_epoch + training.step
    with tqdm(
        total=recipe.epochs * per_epoch * recipe.batch_size,
        initial=done * recipe.batch_size,
        unit=" images",
        leave=False,
        disable=None if progress else True,
    ) as bar:
        while training.epoch < recipe.epochs:
            rates = yield from _epoch(
                training, network, stepper, images, ranks_, stopping=stopping, after=after_epoch, bar=bar
            )
            mean = [float(value) for value in (training.loss_sum / per_epoch).tolist()]
            training.epoch, training.step = training.epoch + 1, 0
            record = {"epoch": training.epoch, "lr": rates, "loss": mean, "seconds": round(training.seconds, 2)}
            _ready_to_save(training, ranks_)
            training.history.append(record | measure(training))
            after_epoch(training)


def _wrapped(training: Training, ranks_: Ranks, device: torch.device) -> nn.Module:
    """Return what the steps call: the model, synchronised over ranks and compiled if asked for."""
    network: nn.Module = training.model
    if ranks_.world > 1:
        if training.recipe.sync_batchnorm:
            network = training.model = ranks.synchronise_batch_norm(training.model, device)  # type: ignore[assignment]
        network = DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)
    return torch.compile(network) if training.recipe.compile else network  # type: ignore[return-value]


def _epoch(
    training: Training,
    network: nn.Module,
    stepper: Stepper | None,
    images: Split,
    ranks_: Ranks,
    *,
    stopping: Callable[[], int],
    after: Callable[[Training], None],
    bar: "tqdm[Any]",
) -> Generator[None, None, list[float]]:
    """Run the steps of an epoch that are left; return the learning rates, (expert,)."""
    recipe, device, epoch = training.recipe, images.labels.device, training.epoch
    started = time.perf_counter()
    rates = optimizer.set_learning_rates(training.sgd, recipe, epoch)
    terms = terms_of(training, device)
    drawn = draws.draw_epoch(images, recipe, seed=training.seed, epoch=epoch)
    if len(training.loss_sum) != len(rates):
        training.loss_sum = torch.zeros(len(rates), device=device)
    elif training.step == 0:
        training.loss_sum.zero_()
    last = len(drawn.index)
    interval = 1 if device.type == "cpu" else _CUDA_CHECK_STEPS
    training.model.train()
    bar.set_description_str(f"epoch {epoch + 1}/{recipe.epochs}", refresh=False)
    shown = "/".join(f"{rate:.3g}" for rate in rates)
    taken = (
        _stepped(training, stepper, drawn, terms)
        if stepper
        else _batched(training, network, images, drawn, terms, ranks_)
    )
    unseen: list[Tensor] = []
    with closing(taken):  # which ends the threads that work ahead
        for losses in taken:
            unseen.append(losses)
            if len(unseen) == interval or training.step == last:
                _check_finite(unseen, epoch, training.step, rates)
                unseen = []
                if not bar.disable:
                    mean = "/".join(f"{value:.3f}" for value in (training.loss_sum / training.step).tolist())
                    bar.set_postfix_str(f"loss {mean} lr {shown}", refresh=False)
            bar.update(recipe.batch_size)
            code = stopping()
            if code and training.step < last:
                _check_finite(unseen, epoch, training.step, rates)
                training.seconds += time.perf_counter() - started
                _ready_to_save(training, ranks_)
                after(training)
                raise StopError(
                    f"stopped after step {training.step} of epoch {epoch + 1}; the same command with --resume goes on",
                    code,
                )
            yield
    training.seconds += time.perf_counter() - started
    return rates


def _stepped(training: Training, stepper: Stepper, drawn: Draws, terms: LossTerms) -> Generator[Tensor, None, None]:
    """Step on static tensors; yield each step's losses, (expert,)."""
    stepper.begin_epoch(drawn, terms)
    try:
        for step in range(training.step, len(drawn.index)):
            stepper.step()
            yield stepper.losses[step]
    finally:
        stepper.end_epoch()


def _batched(
    training: Training, network: nn.Module, images: Split, drawn: Draws, terms: LossTerms, ranks_: Ranks
) -> Generator[Tensor, None, None]:
    """Step on batch after batch; yield each step's losses, (expert,)."""
    for batch in dataset.batches(
        images, drawn, training.recipe, start=training.step, rank=ranks_.rank, world=ranks_.world
    ):
        losses = take_step(training, network, batch, terms, ranks_)
        training.loss_sum += losses
        training.step += 1
        yield losses


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


def _ready_to_save(training: Training, ranks_: Ranks) -> None:
    """Make all ranks' networks the same; refuse weights that no training could go on from."""
    for network in (training.model, training.average):
        if network is None:
            continue
        ranks.share_buffers(network, ranks_)
        if not bool(torch.stack([values.isfinite().all() for values in network.state_dict().values()]).all()):
            raise LtdataError(
                f"weights are not finite in epoch {training.epoch + (training.step > 0)}, after a step whose loss was: "
                "try a lower lr"
            )


def _check_finite(losses: list[Tensor], epoch: int, step: int, rates: list[float]) -> None:
    """Raise if one of the last steps' losses, of which the last one is number `step`, is not finite."""
    if not losses:
        return
    table = torch.stack(losses).cpu()
    wrong = (~table.isfinite()).nonzero()
    if len(wrong):
        row, expert = (int(value) for value in wrong[0])
        raise LtdataError(
            f"the loss of expert {expert + 1} is {float(table[row, expert])} at epoch {epoch + 1}, "
            f"step {step - len(losses) + row + 1}, learning rate {rates[expert]:.3g}: try a lower lr"
        )
