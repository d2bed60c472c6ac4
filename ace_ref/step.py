"""One step of a training: `take_step` on a batch, and `Stepper`, the whole of it on static tensors.

A `Stepper` does gather, augmentation, forward of all experts, backward, update and sums without a value from the host.
On CUDA it is captured once as a graph and replayed, so that a step costs the host one call and the device no gap; no
step waits for the host. A counter on the device says which row of the epoch's tables is next. Not captured it makes the
same calls one by one, with the same numbers: on CUDA for ``--no-graph``, on the CPU for the tests.

What is inside depends on where the images are. Crop, flip and Cutout of a resident set, and resized crops with their
colours, are the fused kernels' (`ace_ref.kernels`); of photographs that threads decode a batch of crops arrives in one
copy first. What a policy has changed arrives as finished bytes: policies run before, many batches at a time, and their
copies do wait.
"""

from collections.abc import Generator
from contextlib import nullcontext
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from ace_ref import augment, kernels, ranks
from ace_ref.dataset import Batch
from ace_ref.draws import Draws, Split
from ace_ref.loss import LossTerms, expert_losses
from ace_ref.network import AceNetwork
from ace_ref.ranks import Ranks
from ace_ref.resident import RaggedSplit, ResidentSplit, resized_boxes
from ace_ref.state import Training
from ace_ref.streamed import RemoteSplit, StreamedSplit

_WARM_UP_STEPS = 3  # before a capture: libraries choose their algorithms and workspaces, autograd its buffers


def take_step(
    training: Training,
    network: nn.Module,
    batch: Batch,
    terms: LossTerms,
    ranks_: Ranks = Ranks(),  # noqa: B008 - frozen
) -> Tensor:
    """Take one step on a batch; return the experts' losses, detached, (expert,)."""
    half = training.recipe.precision == "bfloat16"
    with torch.autocast(batch.images.device.type, torch.bfloat16) if half else nullcontext():
        logits = network(batch.images)
    logits = ranks.gather(logits, ranks_)
    losses = expert_losses(logits, batch.labels, terms)
    if batch.mix is not None:
        losses = batch.mix * losses + (1 - batch.mix) * expert_losses(logits, batch.partners, terms)
    training.sgd.zero_grad(set_to_none=True)
    # DistributedDataParallel averages over ranks what is here a sum over them.
    (losses.sum() * ranks_.world).backward()
    training.sgd.step()
    if training.average is not None:
        _average(training.average, training.model, training.recipe.ema_decay)
    return losses.detach()


@torch.no_grad()
def extent(network: AceNetwork) -> Tensor:
    """Add up the sizes of each expert's weights and running statistics, the trunk's with the first's, (expert,).

    Not finite where one of them is not: a gradient that was not has reached them, with whatever loss. A few kernels
    and no wait for the device; under 2 % of a step on the CPU, with networks from ResNet-8 to ResNet-50.
    """
    owned: list[list[nn.Module]] = [[expert] for expert in network.experts]
    owned[0].append(network.trunk)
    values = [[v for part in parts for v in part.state_dict().values() if v.is_floating_point()] for parts in owned]
    return torch.stack([nn.utils.get_total_norm(own, 1) for own in values])  # the largest size takes ten times as long


@torch.no_grad()
def _average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average towards the model; counters are copied."""
    for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


class Stepper:
    """Hold the static tensors of one training, and the graphs captured over them.

    Args:
        training: to step; begun or resumed, its networks and optimizer on the device.
        network: what to call: its model, compiled or not.
        images: the training set, on the same device.
        capture: replay CUDA graphs; else call by call.
    """

    def __init__(self, training: Training, network: nn.Module, images: Split, *, capture: bool) -> None:
        recipe, device = training.recipe, images.labels.device
        self.training, self.network, self.images = training, network, images
        self.capture, self.device, self.mixed = capture, device, False
        self.mean, self.std = (torch.tensor(values, device=device) for values in (recipe.mean, recipe.std))
        steps, experts = len(images) // recipe.batch_size, len(training.targets)
        side = images.crop_px(recipe)
        self.constants = augment.constants(recipe.mean, recipe.std, side, device)
        self.row = torch.zeros(1, dtype=torch.int64, device=device)  # which step comes next
        self.rows = torch.arange(steps, device=device)
        self.found = torch.zeros(steps, 2, experts, device=device)  # losses and `extent` of every step
        dtype = torch.bfloat16 if recipe.precision == "bfloat16" and not recipe.mixup_alpha else torch.float32
        shape = (recipe.batch_size, 3, *side)
        self.pixels = torch.zeros(shape, dtype=dtype, device=device).to(memory_format=torch.channels_last)
        self.bytes = torch.zeros((recipe.batch_size, *side, 3), dtype=torch.uint8, device=device)
        self.tables: dict[str, Tensor] = {}
        self.terms: LossTerms | None = None
        self.graphs: dict[bool, torch.cuda.CUDAGraph] = {}
        self.streams: list[torch.cuda.Stream] = []
        self.source: Generator[Tensor, None, None] | None = None
        for parameter in training.model.parameters():  # a first step that finds zeros computes what one without does
            training.sgd.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))

    def begin_epoch(self, draws: Draws, terms: LossTerms) -> None:
        """Bring the tables of an epoch, and the terms of its losses, to the device."""
        training = self.training
        start = training.step
        self.row.fill_(start)
        self.found.zero_()
        tables = {"index": draws.index, **self._plan(draws)}
        tables |= {"partner": draws.partner, "mix": draws.mix} if draws.partner is not None else {}
        for name, table in tables.items():
            if name in self.tables:
                self.tables[name].copy_(table)
            else:
                self.tables[name] = table.to(self.device)
        if self.terms is None:
            self.terms = terms
        for name in ("targets", "shift", "margin", "weights", "temperatures"):
            getattr(self.terms, name).copy_(getattr(terms, name))
        self.mixed = draws.mixed
        self.source = None
        if "plan" not in self.tables:
            self.source = self.images.augmented(draws, training.recipe, start=start, seen=slice(None))
        elif isinstance(self.images, StreamedSplit | RemoteSplit):
            self.source = self.images.crops(draws, training.recipe, start=start)
        if self.capture and self.mixed not in self.graphs:
            self.graphs[self.mixed] = self._captured()

    def step(self) -> None:
        """Take the next step of the epoch."""
        if self.source is not None:
            self.bytes.copy_(next(self.source), non_blocking=True)
        if self.capture:
            self.graphs[self.mixed].replay()
        else:
            self._body()
        self.training.step += 1

    def end_epoch(self) -> None:
        """Stop what works ahead."""
        if self.source is not None:
            self.source.close()
            self.source = None

    def _plan(self, draws: Draws) -> dict[str, Tensor]:
        """Make the tables of the fused kernel; none where the batch comes as augmented bytes."""
        recipe, images = self.training.recipe, self.images
        if draws.policy is not None or not (self.device.type == "cpu" or kernels.available(self.device)):
            return {}
        if draws.top is not None and draws.left is not None:
            centre = draws.centre if draws.centre is not None else torch.zeros(*draws.index.shape, 2, dtype=torch.int64)
            columns = [draws.index, draws.top, draws.left, draws.flip.long(), centre[..., 0], centre[..., 1]]
            return {"plan": torch.stack(columns, dim=-1).int()}
        if draws.factors is None or recipe.cutout_px:
            return {}
        index, every = draws.index, slice(None)
        if isinstance(images, RaggedSplit):
            boxes = resized_boxes(draws, every, every, images.size[index.flatten().numpy()])
        elif isinstance(images, ResidentSplit):
            boxes = resized_boxes(draws, every, every, np.array(images.pixels.shape[1:3]))
        else:  # crops that arrive a batch at a time
            index = torch.arange(recipe.batch_size).expand_as(index)
            boxes = np.tile([0, 0, recipe.crop_px, recipe.crop_px], (index.numel(), 1))
        columns = [index[..., None], torch.from_numpy(boxes).view(*index.shape, 4), draws.flip.long()[..., None]]
        factors = draws.factors.float() if kernels.available(self.device) else draws.factors
        return {"plan": torch.cat(columns, dim=-1).int(), "factors": factors}

    def _body(self) -> None:
        """Take one step; every value that changes is on the device."""
        training, terms = self.training, self.terms
        assert terms is not None  # noqa: S101 - begin_epoch has set it
        self._fill()
        labels = partners = self.images.labels.index_select(0, self._at("index"))
        images, mix = self.pixels, None
        if self.mixed:
            partner, mix = self._at("partner"), self._at("mix")
            partners = labels.index_select(0, partner)
            images = mix * images + (1 - mix) * images.index_select(0, partner)
        losses = take_step(training, self.network, Batch(images, labels, partners, mix), terms)
        here = (self.rows == self.row)[:, None, None]
        self.found.copy_(torch.where(here, torch.stack([losses, extent(training.model)]), self.found))
        training.loss_sum += losses
        self.row += 1

    def _at(self, name: str) -> Tensor:
        """Return the current step's row of a table."""
        return self.tables[name].index_select(0, self.row)[0]

    def _fill(self) -> None:
        """Put the current step's augmented and normalised images into `pixels`."""
        recipe, images = self.training.recipe, self.images
        if "plan" not in self.tables:
            self.pixels.copy_(augment.normalise(self.bytes, self.constants))
            return
        fused = kernels.available(self.device)
        common = (self.row, self.mean, self.std, self.pixels)
        if "factors" in self.tables:
            run = kernels.resized_crop if fused else kernels.resized_crop_reference
            run(*self._flat, self.tables["plan"], self.tables["factors"], *common)
        elif isinstance(images, ResidentSplit):
            crop = kernels.crop if fused else kernels.crop_reference
            padding_px, cutout_px = recipe.crop_padding_px, recipe.cutout_px
            crop(images.pixels, self.tables["plan"], *common, padding_px=padding_px, cutout_px=cutout_px)

    @cached_property
    def _flat(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the images as the kernel for photographs reads them: bytes, offset and size of each."""
        images = self.images
        if isinstance(images, RaggedSplit):
            offset, size = (torch.from_numpy(values).to(self.device) for values in (images.offset, images.size))
            return images.flat, offset, size.int()
        pixels = images.pixels if isinstance(images, ResidentSplit) else self.bytes
        count, height, width, _ = pixels.shape
        offset = torch.arange(count, device=self.device) * (height * width * 3)
        size = torch.tensor([[height, width]], dtype=torch.int32, device=self.device).repeat(count, 1)
        return pixels.flatten(), offset, size

    def _captured(self) -> torch.cuda.CUDAGraph:
        """Capture a step; the training is left as it was."""
        kept = [(tensor, tensor.clone()) for tensor in self._state()]
        # A stream of its own: libraries keep a workspace per stream, which graphs side by side must not share.
        side = torch.cuda.Stream()
        self.streams.append(side)
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP_STEPS):
                self.row.zero_()
                self._body()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            self._body()
        with torch.no_grad():
            for tensor, before in kept:
                tensor.copy_(before)
        return graph

    def _state(self) -> list[Tensor]:
        """List every tensor that a step changes."""
        training = self.training
        networks = [network for network in (training.model, training.average) if network is not None]
        state = [tensor for network in networks for tensor in network.state_dict().values()]
        momentum = [training.sgd.state[parameter]["momentum_buffer"] for parameter in training.model.parameters()]
        return [*state, *momentum, training.loss_sum, self.found, self.row]
