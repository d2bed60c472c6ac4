"""Classifiers: from an expert's features to its logits over ALL classes."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEADS = ("lws", "cosine")


class ScaledLinear(nn.Module):
    """The "LWS" classifier: a linear layer with bias, times one learnable scale per class."""

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, num_classes)
        self.scale = nn.Parameter(torch.ones(num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, features) to logits (batch, class)."""
        return cast(Tensor, self.linear(x)) * self.scale


class CosineLinear(nn.Module):
    """The cosine of features and class weights, times a fixed scale: norms, which grow with n_c, play no part.

    LDAM (Cao et al., NeurIPS 2019) is defined on it, with a scale of 30.
    """

    def __init__(self, features: int, num_classes: int, scale: float) -> None:
        super().__init__()
        self.linear = nn.Linear(features, num_classes, bias=False)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, features) to logits in -scale .. scale, (batch, class)."""
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would leave logits of 16 two decimals
            return self.scale * F.linear(F.normalize(x.float()), F.normalize(self.linear.weight.float()))


def make_head(kind: str, features: int, num_classes: int, *, scale: float) -> ScaledLinear | CosineLinear:
    """Make a classifier, one of `HEADS`; `scale` is of the cosine one."""
    return CosineLinear(features, num_classes, scale) if kind == "cosine" else ScaledLinear(features, num_classes)
