"""The loss of every expert (ACE, section 3.2): cross-entropy on its own samples, plus the complementary loss.

L_k = CE(z_k, y) over the samples with y in TC_k, softmax over all C logits, + L_com. Paper and published code
differ in L_com, with S_k the samples with y in TC_k and IC_k the interfering categories:

* ``paper``: mean over S_k of sum_{c in IC_k} z_k,c ** 2
* ``code``: Frobenius norm (not squared) of the block S_k x IC_k of the logits, divided by |IC_k|

An expert with no sample in the batch contributes exactly 0; L_1 has no L_com, since IC_1 is empty.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

COMPLEMENTARY_FORMS = ("code", "paper", "none")


def expert_losses(logits: Tensor, labels: Tensor, targets: Tensor, *, complementary: str) -> Tensor:
    """Compute L_1 .. L_K.

    Args:
        logits: (batch, expert, class).
        labels: int64 (batch,).
        targets: whether class c is a target of expert k, bool (expert, class).
        complementary: one of `COMPLEMENTARY_FORMS`.

    Returns:
        The losses, (expert,). Their sum is what to minimise: the routing is in the network.
    """
    batch, experts, classes = logits.shape
    logits = logits.float()
    own = targets[:, labels].T.to(logits.dtype)  # (batch, expert): 1 where y is in TC_k
    count = own.sum(dim=0)
    cross_entropy = F.cross_entropy(
        logits.reshape(batch * experts, classes), labels.repeat_interleave(experts), reduction="none"
    ).reshape(batch, experts)
    loss = torch.where(own > 0, cross_entropy, 0.0).sum(dim=0) / count.clamp(min=1)
    if complementary == "none":
        return loss
    # Chosen, not multiplied: infinity times zero would be NaN.
    block = torch.where((own > 0)[:, :, None] & ~targets, logits, 0.0)
    if complementary == "paper":
        return loss + block.square().sum(dim=(0, 2)) / count.clamp(min=1)
    norm: Tensor = torch.linalg.vector_norm(block.transpose(0, 1).reshape(experts, -1), dim=1)
    return loss + norm / (~targets).sum(dim=1).clamp(min=1)
