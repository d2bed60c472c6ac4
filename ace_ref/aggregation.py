"""How experts vote, in evaluation only (ACE, section 3.4).

Expert k's logits are scaled to expert 1's, then every class averages over the experts that have it as a target:
with three experts, head classes z_1, TC_2 alone (z_1 + s_2 z_2) / 2, TC_3 (z_1 + s_2 z_2 + s_3 z_3) / 3.
"""

import torch
from torch import Tensor

SCALES = ("none", "mean-row-norm", "squared-norm")


def expert_scales(weights: Tensor, targets: Tensor, *, kind: str) -> Tensor:
    """Compute s_1 .. s_K from the linear weights of the classifiers.

    * ``none``: 1
    * ``mean-row-norm`` (published code): mean_c ||w_1,c|| / mean_{c in TC_k} ||w_k,c||
    * ``squared-norm`` (paper): ||W_1||^2 / ||W_k||^2, over all rows. The complementary loss pushes the interfering
      rows down, so this scale grows far too large. Kept for comparison.

    Args:
        weights: (expert, class, feature), without the LWS scales.
        targets: bool (expert, class).
        kind: one of `SCALES`.

    Returns:
        (expert,); the first is 1.
    """
    if kind == "none":
        return torch.ones(len(targets), device=targets.device)
    if kind == "squared-norm":
        squared = weights.square().sum(dim=(1, 2))
        return squared[0] / squared
    rows: Tensor = torch.linalg.vector_norm(weights, dim=2)
    own = targets.to(rows.dtype)
    mean = (rows * own).sum(dim=1) / own.sum(dim=1)
    return mean[0] / mean


def aggregate(logits: Tensor, targets: Tensor, scales: Tensor) -> Tensor:
    """Average the scaled logits of the experts that have each class as a target.

    Args:
        logits: (batch, expert, class).
        targets: bool (expert, class).
        scales: (expert,).

    Returns:
        (batch, class).
    """
    own = targets.to(logits.dtype)
    return (logits * scales[:, None] * own).sum(dim=1) / own.sum(dim=0)
