"""The training loop, one for every method: epochs of steps, checkpoints, stop and go on.

Everything that changes is in a `Training` (`ace_ref.state`); it can be written at any step and read again, and goes on
bit for bit on the CPU, since no draw depends on what was drawn before.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ace_ref import dataset, draws, optimizer, ranks
from ace_ref.draws import Draws, Split
from ace_ref.loss import LossTerms
from ace_ref.ranks import Ranks
from ace_ref.state import Training, terms_of
from ace_ref.step import Stepper, extent, take_step
from ltdata.errors import LtdataError

_CUDA_CHECK_STEPS = 50  # a look at the losses makes the host wait for the device


class StopError(LtdataError):
    """Report a training that was asked to stop, and did, between two steps."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


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
        LtdataError: a loss is not finite, or what a step has made of the weights.
        StopError: `stopping` said so.
    """
    recipe, device = training.recipe, images.labels.device
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
        for found in taken:
            unseen.append(found)
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
    """Step on static tensors; yield each step's losses, and `extent` after it, (2, expert)."""
    stepper.begin_epoch(drawn, terms)
    try:
        for step in range(training.step, len(drawn.index)):
            stepper.step()
            yield stepper.found[step]
    finally:
        stepper.end_epoch()


def _batched(
    training: Training, network: nn.Module, images: Split, drawn: Draws, terms: LossTerms, ranks_: Ranks
) -> Generator[Tensor, None, None]:
    """Step on batch after batch; yield each step's losses, and `extent` after it, (2, expert)."""
    for batch in dataset.batches(
        images, drawn, training.recipe, start=training.step, rank=ranks_.rank, world=ranks_.world
    ):
        losses = take_step(training, network, batch, terms, ranks_)
        training.loss_sum += losses
        training.step += 1
        yield torch.stack([losses, extent(training.model)])


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


def _check_finite(found: list[Tensor], epoch: int, step: int, rates: list[float]) -> None:
    """Raise if a loss of one of the last steps, the last one being number `step`, or an extent is not finite."""
    if not found:
        return
    table = torch.stack(found).cpu()
    wrong = (~table.isfinite()).nonzero()
    if len(wrong):
        row, kind, expert = (int(value) for value in wrong[0])
        loss = float(table[row, 0, expert])
        what = "a gradient or a weight" if kind else "the loss"
        value = f"not finite, with a loss of {loss:.4g}," if kind else f"{loss}"
        raise LtdataError(
            f"{what} of expert {expert + 1} is {value} at epoch {epoch + 1}, step {step - len(found) + row + 1}, "
            f"learning rate {rates[expert]:.3g}: try a lower lr"
        )
