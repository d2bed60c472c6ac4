"""Backbones: the shared trunk, and the last stage that every expert has of its own.

| backbone | trunk | an expert's own stage |
|---|---|---|
| resnet8, 20, 32 (CIFAR; He et al., CVPR 2016, section 4.2: depth 6 n + 2) | conv1, stages 1 and 2 | stage 3 |
| resnet10, 50, resnext50 (ImageNet) | conv1 .. stage 3 | stage 4 |

The CIFAR ones are written here, since torchvision has none: three stages of n basic blocks with 16, 32, 64 channels
and the shortcut of option A (subsample, pad with zero channels), as everywhere in the LDAM line of work. The others
are torchvision's, whose shortcut is a projection.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from ace_ref.vision import load_torchvision
from ltdata.errors import UsageError

_BLOCKS = {"resnet8": 1, "resnet20": 3, "resnet32": 5}  # name: blocks per stage
_IMAGENET = {  # name: torchvision's block, blocks per stage, groups, width per group
    "resnet10": ("BasicBlock", (1, 1, 1, 1), 1, 64),
    "resnet50": ("Bottleneck", (3, 4, 6, 3), 1, 64),
    "resnext50": ("Bottleneck", (3, 4, 6, 3), 32, 4),
}
BACKBONES = (*_BLOCKS, *_IMAGENET)
_CHANNELS = (16, 32, 64)


@dataclass(frozen=True)
class Backbone:
    """Hold the parts of a network: a trunk, how to make one more last stage, and the channels that it gives."""

    trunk: nn.Module
    make_stage: Callable[[], nn.Module]
    features: int


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


def make_backbone(name: str) -> Backbone:
    """Make a backbone, its weights drawn from the global generator.

    Args:
        name: one of `BACKBONES`.

    Raises:
        UsageError: there is no such backbone.
    """
    if name in _IMAGENET:
        return _imagenet(*_IMAGENET[name])
    if name not in _BLOCKS:
        raise UsageError(f"backbone {name!r}: choose one of {', '.join(BACKBONES)}")
    blocks = _BLOCKS[name]
    trunk = nn.Sequential(
        nn.Conv2d(3, _CHANNELS[0], 3, 1, 1, bias=False),
        nn.BatchNorm2d(_CHANNELS[0]),
        nn.ReLU(inplace=True),
        _stage(_CHANNELS[0], _CHANNELS[0], blocks, stride=1),
        _stage(_CHANNELS[0], _CHANNELS[1], blocks, stride=2),
    )
    return Backbone(trunk, lambda: _stage(_CHANNELS[1], _CHANNELS[2], blocks, stride=2), _CHANNELS[2])


def _stage(in_channels: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


def _imagenet(block: str, layers: tuple[int, ...], groups: int, width_per_group: int) -> Backbone:
    models = load_torchvision().models.resnet

    def make() -> nn.Module:
        # Only the parts that are used are kept; torchvision offers no public way to make one stage alone.
        network: nn.Module = models.ResNet(
            getattr(models, block), list(layers), num_classes=1, groups=groups, width_per_group=width_per_group
        )
        return network

    whole = make()
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
    trunk = nn.Sequential(*(whole.get_submodule(name) for name in names))
    features = 512 * int(getattr(models, block).expansion)
    return Backbone(trunk, lambda: make().get_submodule("layer4"), features)
