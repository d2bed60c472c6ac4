"""The distribution-adaptive optimizer (ACE, section 3.3): SGD whose learning rate falls with an expert's data.

lr_k = lr_0 * sum_{c in TC_k} n_c / sum_c n_c (the linear scaling rule: expert k learns from that share of every
batch); the trunk and expert 1 use lr_0.
"""

import math
from collections.abc import Sequence

import torch

from ace_ref.network import AceNetwork
from ace_ref.recipe import Recipe


def make_optimizer(model: AceNetwork, recipe: Recipe, shares: Sequence[float]) -> torch.optim.SGD:
    """Make SGD with one parameter group per expert, the trunk in the first; `share` is kept in each group.

    On CUDA it is the fused one, with learning rates on the device, where a captured step finds them.

    Args:
        model: K experts on a trunk.
        recipe: learning rate, momentum, weight decay.
        shares: each expert's share of the training images, (K,); the first is 1.
    """
    parameters = [list(expert.parameters()) for expert in model.experts]
    parameters[0] = [*model.trunk.parameters(), *parameters[0]]
    device = parameters[0][0].device
    rates = [recipe.lr * float(share) for share in shares]
    return torch.optim.SGD(
        [
            {
                "params": owned,
                "share": float(share),
                "lr": torch.tensor(rate, device=device) if device.type == "cuda" else rate,
            }
            for owned, share, rate in zip(parameters, shares, rates, strict=True)
        ],
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        fused=True if device.type == "cuda" else None,
    )


def schedule(recipe: Recipe, epoch: int) -> float:
    """Compute what the learning rates are multiplied by in an epoch, counted from 0.

    Linear warm-up, (epoch + 1) / warmup_epochs; then ``multistep``: `lr_decay` at every milestone passed, or
    ``cosine``: (1 + cos(pi t)) / 2, t the part of the epochs after the warm-up that is over.
    """
    if epoch < recipe.warmup_epochs:
        return (epoch + 1) / recipe.warmup_epochs
    if recipe.schedule == "cosine":
        return (1 + math.cos(math.pi * (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs))) / 2
    passed = sum(epoch >= milestone for milestone in recipe.milestones)
    return float(recipe.lr_decay**passed)


def set_learning_rates(optimizer: torch.optim.SGD, recipe: Recipe, epoch: int) -> list[float]:
    """Set lr_k = lr_0 * share_k * schedule(epoch) in every group; return them, (K,)."""
    rates = [recipe.lr * group["share"] * schedule(recipe, epoch) for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
    return rates
