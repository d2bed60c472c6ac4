"""The loss of every expert: one formula, whose terms are switched by the method.

L_k = mean over the samples with y in TC_k of w_y CE(z_k + a_k log p - s m, y) + L_com + g KL, with p_c = n_c / sum n:

* ``adjustment`` a_k: logit adjustment (Menon et al., ICLR 2021); 1 is balanced softmax (Ren et al., NeurIPS 2020).
* ``loss = "ldam"``: the label's logit is lowered by s m_y, m_c = 0.5 (n_min / n_c) ** (1/4), on a cosine head of
  scale s (Cao et al., NeurIPS 2019).
* ``drw``: once the epoch has come, w_c is the inverse effective number (1 - b) / (1 - b ** n_c), b = 0.9999, mean 1,
  and the mean is weighted (deferred re-weighting, same paper).
* ``complementary`` (ACE, section 3.2), with S_k the samples with y in TC_k and IC_k the interfering categories:
  ``paper``, mean over S_k of sum_{c in IC_k} z_k,c ** 2; ``code``, the Frobenius norm (not squared) of the block
  S_k x IC_k of the logits, divided by |IC_k|. L_1 has none, since IC_1 is empty.
* ``agreement`` g: KL(mean of the experts || expert k), the mean detached. Negative, it is the distribution-aware
  diversity of RIDE (Wang et al., ICLR 2021), with its class temperatures once ``drw`` has come; positive, it is
  mutual distillation.

An expert with no sample in the batch contributes exactly 0.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ltdata import weights

COMPLEMENTARY_FORMS = ("code", "paper", "none")
LOSSES = ("cross-entropy", "ldam")

_DRW_BETA = 0.9999
_RIDE_REWEIGHT = 0.05  # how far RIDE's class temperatures follow the class counts


@dataclass(frozen=True)
class LossTerms:
    """Hold the terms of the losses of K experts, on one device.

    Attributes:
        targets: whether class c is a target of expert k, bool (expert, class).
        shift: added to the logits before the cross-entropy, float32 (expert, class).
        margin: taken from the label's logit, float32 (class,); zeros without LDAM.
        weights: of the samples of a class, float32 (class,); ones before re-weighting.
        temperatures: of the agreement, float32 (class,); ones before re-weighting.
        complementary: one of `COMPLEMENTARY_FORMS`.
        complementary_weight: of L_com.
        agreement: g.
        label_smoothing: share of the target that is spread over all classes, 0 .. 1.
    """

    targets: Tensor
    shift: Tensor
    margin: Tensor
    weights: Tensor
    temperatures: Tensor
    complementary: str = "none"
    complementary_weight: float = 1.0
    agreement: float = 0.0
    label_smoothing: float = 0.0


def make_terms(
    targets: NDArray[np.bool_],
    class_counts: NDArray[np.integer],
    *,
    device: torch.device,
    adjustment: tuple[float, ...] = (),
    loss: str = "cross-entropy",
    head_scale: float = 30.0,
    reweighted: bool = False,
    complementary: str = "none",
    complementary_weight: float = 1.0,
    agreement: float = 0.0,
    label_smoothing: float = 0.0,
) -> LossTerms:
    """Compute the terms from the class counts, in float64; a class without an image counts as one with one.

    Args:
        targets: bool (expert, class).
        class_counts: training images per class, (class,).
        device: where the losses will be computed.
        adjustment: a_k per expert; empty: none.
        loss: one of `LOSSES`.
        head_scale: s.
        reweighted: whether the epoch of ``drw`` has come.
        complementary: see `LossTerms`, as the rest.
        complementary_weight: see there.
        agreement: see there.
        label_smoothing: see there.
    """
    counts = np.maximum(np.asarray(class_counts, dtype=np.float64), 1)
    prior = counts / counts.sum()
    factors = np.array(adjustment or (0.0,) * len(targets))
    margin = weights.ldam_margins(class_counts) if loss == "ldam" else np.zeros_like(counts)
    reweighting = temperatures = np.ones_like(counts)
    if reweighted:
        reweighting = weights.class_weights("effective-number", class_counts, beta=_DRW_BETA)
        temperatures = len(counts) * prior * _RIDE_REWEIGHT + 1 - _RIDE_REWEIGHT
        temperatures = temperatures / temperatures.max()

    def place(values: NDArray[np.float64]) -> Tensor:
        with np.errstate(over="ignore"):  # then the loss is not finite, which is said
            return torch.from_numpy(values.astype(np.float32)).to(device)

    return LossTerms(
        targets=torch.from_numpy(targets).to(device),
        shift=place(factors[:, None] * weights.log_priors(class_counts)),
        margin=place(head_scale * margin),
        weights=place(reweighting),
        temperatures=place(temperatures),
        complementary=complementary,
        complementary_weight=complementary_weight,
        agreement=agreement,
        label_smoothing=label_smoothing,
    )


def expert_losses(logits: Tensor, labels: Tensor, terms: LossTerms) -> Tensor:
    """Compute L_1 .. L_K.

    Args:
        logits: (batch, expert, class).
        labels: int64 (batch,).
        terms: of the method.

    Returns:
        The losses, (expert,). Their sum is what to minimise: the routing is in the network.
    """
    batch, experts, classes = logits.shape
    logits = logits.float()
    own = terms.targets[:, labels].T  # (batch, expert): whether y is in TC_k
    share = terms.weights[labels][:, None] * own
    total = share.sum(dim=0)
    shifted = logits + terms.shift - (F.one_hot(labels, classes) * terms.margin)[:, None]
    cross_entropy = F.cross_entropy(
        shifted.reshape(batch * experts, classes),
        labels[:, None].expand(batch, experts).reshape(-1),
        reduction="none",
        label_smoothing=terms.label_smoothing,
    ).reshape(batch, experts)
    # Chosen, not multiplied: infinity times zero would be NaN.
    loss = torch.where(own, share * cross_entropy, 0.0).sum(dim=0) / torch.where(total > 0, total, 1.0)
    if terms.complementary != "none":
        loss = loss + terms.complementary_weight * _complementary(logits, own, terms)
    if terms.agreement:
        loss = loss + terms.agreement * _divergence(logits + terms.shift, terms.temperatures)
    return loss


def _complementary(logits: Tensor, own: Tensor, terms: LossTerms) -> Tensor:
    """Compute L_com of every expert, (expert,)."""
    block = torch.where(own[:, :, None] & ~terms.targets, logits, 0.0)
    if terms.complementary == "paper":
        return block.square().sum(dim=(0, 2)) / own.sum(dim=0).clamp(min=1)
    norm: Tensor = torch.linalg.vector_norm(block.transpose(0, 1).reshape(len(terms.targets), -1), dim=1)
    return norm / (~terms.targets).sum(dim=1).clamp(min=1)


def _divergence(logits: Tensor, temperatures: Tensor) -> Tensor:
    """Compute T ** 2 KL(mean of the experts || expert k), T the mean temperature, mean over the batch, (expert,)."""
    own = F.log_softmax(logits / temperatures, dim=2)
    mean = F.log_softmax(logits.mean(dim=1, keepdim=True).detach() / temperatures, dim=2)
    divergence = (mean.exp() * (mean - own)).sum(dim=2).mean(dim=0)
    return temperatures.mean().square() * divergence
