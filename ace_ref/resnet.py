"""The CIFAR ResNet with K experts: a shared trunk, and per expert its own last stage and classifier.

Depth 6 n + 2: three stages of n basic blocks with 16, 32, 64 channels (He et al., CVPR 2016, section 4.2). The
trunk is the first convolution and stages 1 and 2; expert k owns stage 3, the pooling and the classifier. The
shortcut is option A of that paper (subsample, pad with zero channels), as everywhere in the LDAM line of work.

Gradient routing (ACE, section 3.3): experts after the first see the trunk's features detached, so L_k, k > 1,
reaches expert k alone, and the trunk is corrected once for one error.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ltdata.errors import UsageError

BACKBONES = {"resnet8": 1, "resnet20": 3, "resnet32": 5}  # name: blocks per stage
_CHANNELS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut without parameters."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.padding = (channels - in_channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, height, width) to (batch, channels, height / stride, width / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.stride > 1 or self.padding:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(out + x)


class ScaledLinear(nn.Module):
    """The "LWS" classifier: a linear layer with bias, times one learnable scale per class."""

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, num_classes)
        self.scale = nn.Parameter(torch.ones(num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, features) to logits (batch, class)."""
        return cast(Tensor, self.linear(x)) * self.scale


class Expert(nn.Module):
    """What an expert owns: stage 3, global average pooling, classifier over ALL classes."""

    def __init__(self, blocks: int, num_classes: int) -> None:
        super().__init__()
        self.stage3 = _stage(_CHANNELS[1], _CHANNELS[2], blocks, stride=2)
        self.classifier = ScaledLinear(_CHANNELS[2], num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map the trunk's features (batch, 32, 16, 16) to logits (batch, class)."""
        return cast(Tensor, self.classifier(self.stage3(features).mean(dim=(2, 3))))


class AceResNet(nn.Module):
    """K experts on one trunk.

    Args:
        backbone: one of `BACKBONES`.
        experts: K, at least 1.
        num_classes: C.
        seed: of the initial weights (He initialisation); the global generator is left as it was.
    """

    def __init__(self, backbone: str, *, experts: int, num_classes: int, seed: int = 0) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise UsageError(f"backbone {backbone!r}: choose one of {', '.join(BACKBONES)}")
        blocks = BACKBONES[backbone]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed CUDA too
            self.trunk = nn.Sequential(
                nn.Conv2d(3, _CHANNELS[0], 3, 1, 1, bias=False),
                nn.BatchNorm2d(_CHANNELS[0]),
                nn.ReLU(inplace=True),
                _stage(_CHANNELS[0], _CHANNELS[0], blocks, stride=1),
                _stage(_CHANNELS[0], _CHANNELS[1], blocks, stride=2),
            )
            self.experts = nn.ModuleList(Expert(blocks, num_classes) for _ in range(experts))
            for module in self.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (batch, 3, 32, 32) to the experts' logits (batch, expert, class).

        Every expert sees the WHOLE batch, so its batch norm does too; its loss leaves out what is not its own.
        """
        features = self.trunk(x)
        detached = features.detach()
        return torch.stack([expert(features if k == 0 else detached) for k, expert in enumerate(self.experts)], dim=1)

    def classifier_weights(self) -> Tensor:
        """Return the experts' linear weights without the LWS scales, detached, (expert, class, feature)."""
        return torch.stack([cast(Expert, expert).classifier.linear.weight.detach() for expert in self.experts])


def _stage(in_channels: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))
