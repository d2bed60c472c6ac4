"""torchvision, also one whose compiled operators do not load.

ace_ref takes blocks and image operators from torchvision, none of which needs its compiled part. A wheel that was
compiled for another torch fails on import with "operator torchvision::nms does not exist"; with the schemas of the
missing operators registered it imports, and all that is used here works (nms and io.decode_* do not).
"""

import sys
from threading import Lock
from types import ModuleType

import torch

_KEPT: list[torch.library.Library] = []  # a library that is collected takes its operators with it
_ONE = Lock()  # the threads that crop come here together, and what fails half imported is taken out of sys.modules


def load_torchvision() -> ModuleType:
    """Import torchvision with its models and its transforms v2.

    >>> load_torchvision().models.resnet.Bottleneck.expansion
    4
    """
    with _ONE:
        return _load()


def _load() -> ModuleType:
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        operators = torch.library.Library("torchvision", "DEF")
        _KEPT.append(operators)
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    import torchvision.models
    import torchvision.transforms.v2

    module: ModuleType = torchvision
    return module
