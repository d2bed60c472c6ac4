"""Several processes that train one network, one device each, as torchrun starts them.

Every rank holds the whole set and draws the same global plan; it computes the images `rank::world` of every batch.
The loss sees the logits of the whole batch (`gather`), so an expert's mean is over all of its samples wherever they
are, and N ranks compute what one does, up to the statistics of batch norm.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from ltdata.errors import LtdataError, UsageError

_TIMEOUT = timedelta(minutes=10)  # a rank that waits longer for the others ends with an error


@dataclass(frozen=True)
class Ranks:
    """Hold which of how many processes this is, and which device of its machine it uses."""

    rank: int = 0
    world: int = 1
    local: int = 0


def from_environment() -> Ranks:
    """Read what torchrun says; without it, one process.

    Raises:
        UsageError: what it says makes no sense.
    """
    try:
        rank, world, local = (
            int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
        )
    except ValueError as error:
        raise UsageError(f"RANK, WORLD_SIZE, LOCAL_RANK: {error}; start several processes with torchrun") from None
    if not 0 <= rank < world:
        raise UsageError(f"RANK {rank}, WORLD_SIZE {world}: start several processes with torchrun")
    return Ranks(rank, world, local)


@contextmanager
def joined(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """Connect the processes while the block runs: nccl between CUDA devices, else gloo.

    Raises:
        LtdataError: another one has ended, or takes too long.
    """
    if ranks.world == 1:
        yield
        return
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
        yield
    except RuntimeError as error:
        if isinstance(error, LtdataError) or not _of_another(error):
            raise
        reason = str(error).partition("\n")[0].partition(". ")[0].rpartition("] ")[2]  # not torch's place and advice
        raise LtdataError(
            f"rank {ranks.rank} of {ranks.world}: another rank has ended, or takes too long ({reason}); it says why"
        ) from error
    # Not after an error: with nccl it would wait for the other ranks, and torchrun for the end of this one.
    dist.destroy_process_group()


def _of_another(error: RuntimeError) -> bool:
    """Say whether an error is of the connection to the others; gloo has no class for it."""
    return isinstance(error, dist.DistError) or any(words in str(error) for words in ("gloo", "caused pair closure"))


def agree(named: Mapping[str, Any], ranks: Ranks) -> None:
    """Have all ranks compare what each has; without that they would train apart, or one wait for another for ever.

    Args:
        named: plain values by name.
        ranks: of this process.

    Raises:
        UsageError: one has other values than the first; on every rank.
    """
    first, *others = every(named, ranks)
    for rank, other in enumerate(others, start=1):
        differing = [name for name in {**first, **other} if other.get(name) != first.get(name)]
        if differing:
            shown = ", ".join(f"{name} {other.get(name)!r}, not {first.get(name)!r}" for name in differing)
            raise UsageError(
                f"rank {rank} has {shown}, as rank 0; start all with one command, on the same shards and output folder"
            )


def every(value: Any, ranks: Ranks) -> list[Any]:
    """Return the values of all ranks, in their order; they are such that JSON can hold them."""
    if ranks.world == 1:
        return [value]
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(device)
    lengths = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(ranks.world)]
    dist.all_gather(lengths, torch.tensor([len(text)], device=device))
    longest = int(torch.stack(lengths).max())
    texts = [torch.empty(longest, dtype=torch.uint8, device=device) for _ in lengths]
    dist.all_gather(texts, nn.functional.pad(text, (0, longest - len(text))))
    return [json.loads(bytes(found[: int(length)].tolist())) for found, length in zip(texts, lengths, strict=True)]


def gather(values: Tensor, ranks: Ranks) -> Tensor:
    """Put the ranks' parts together in the order of the batch; only the own part carries a gradient.

    Args:
        values: (batch / world, ...).
        ranks: of this process.

    Returns:
        (batch, ...), the same numbers on every rank.
    """
    if ranks.world == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(ranks.world)]
    dist.all_gather(parts, values.detach().contiguous())
    parts[ranks.rank] = values
    return torch.stack(parts, dim=1).flatten(0, 1)


def add(values: Tensor, ranks: Ranks) -> Tensor:
    """Add up the ranks' values."""
    if ranks.world > 1:
        dist.all_reduce(values)
    return values


@torch.no_grad()
def share_buffers(network: nn.Module, ranks: Ranks) -> None:
    """Give every rank the first one's buffers: batch norm has seen other images on each."""
    if ranks.world > 1:
        for buffer in network.buffers():
            dist.broadcast(buffer, 0)


def synchronise_batch_norm(network: nn.Module, device: torch.device) -> nn.Module:
    """Let batch norm see the batches of all ranks."""
    if device.type == "cuda":
        synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return synchronised
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _CpuSyncBatchNorm
    return network


class _CpuSyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over all ranks on the CPU, which torch's own refuses; for gloo, and for tests."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        count = torch.tensor([x.numel() / x.shape[1]])
        x = x.float()
        sums = all_reduce(torch.cat([x.sum(dim=(0, 2, 3)), x.square().sum(dim=(0, 2, 3)), count]))
        n = sums[-1].detach()
        mean, square = (sums[:-1] / n).chunk(2)
        variance = (square - mean.square()).clamp(min=0)
        assert self.running_mean is not None  # noqa: S101 - for the type checker: track_running_stats is on
        assert self.running_var is not None  # noqa: S101
        assert self.num_batches_tracked is not None  # noqa: S101
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum or 0.0)
        scale = self.weight * (variance + self.eps).rsqrt()
        y: Tensor = x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]
        return y
