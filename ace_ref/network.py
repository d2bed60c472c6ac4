"""K experts on one trunk, and which losses reach which weights.

Routing ``first`` (ACE, section 3.3): experts after the first see the trunk's features detached, so L_k, k > 1,
reaches expert k alone, and the trunk is corrected once for one error. Routing ``all``: every loss reaches the trunk.
"""

from typing import cast

import torch
from torch import Tensor, nn

from ace_ref.backbone import make_backbone
from ace_ref.head import make_head
from ltdata.errors import UsageError

ROUTINGS = ("first", "all")
MOST_EXPERTS = 6


class Expert(nn.Module):
    """What an expert owns: the last stage, global average pooling, classifier over ALL classes."""

    def __init__(self, stage: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.stage = stage
        self.classifier = classifier

    def forward(self, features: Tensor) -> Tensor:
        """Map the trunk's features (batch, channel, height, width) to logits (batch, class)."""
        return cast(Tensor, self.classifier(self.stage(features).mean(dim=(2, 3))))


class AceNetwork(nn.Module):
    """K experts on one trunk.

    Args:
        backbone: one of `ace_ref.backbone.BACKBONES`.
        experts: K, 1 .. 6.
        num_classes: C.
        head: one of `ace_ref.head.HEADS`.
        head_scale: of the cosine head.
        routing: one of `ROUTINGS`.
        seed: of the initial weights (He initialisation); the global generator is left as it was.
    """

    def __init__(
        self,
        backbone: str,
        *,
        experts: int,
        num_classes: int,
        head: str = "lws",
        head_scale: float = 30.0,
        routing: str = "first",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 1 <= experts <= MOST_EXPERTS:
            raise UsageError(f"experts {experts}: 1 to {MOST_EXPERTS} are supported")
        self.routing = routing
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed CUDA too
            parts = make_backbone(backbone)
            self.trunk = parts.trunk
            self.experts = nn.ModuleList(
                Expert(parts.make_stage(), make_head(head, parts.features, num_classes, scale=head_scale))
                for _ in range(experts)
            )
            for module in self.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (batch, 3, height, width) to the experts' logits (batch, expert, class).

        Every expert sees the WHOLE batch, so its batch norm does too; its loss leaves out what is not its own.
        """
        features = self.trunk(x)
        others = features.detach() if self.routing == "first" else features
        return torch.stack([expert(features if k == 0 else others) for k, expert in enumerate(self.experts)], dim=1)

    def classifier_weights(self) -> Tensor:
        """Return the experts' linear weights without the LWS scales, detached, (expert, class, feature)."""
        return torch.stack(
            [cast(Tensor, expert.get_submodule("classifier.linear").weight).detach() for expert in self.experts]
        )
