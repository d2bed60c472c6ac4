"""Import torchvision beside the CPU build of torch, for tests that use it as an oracle.

Its wheel expects CUDA's companion library and fails on import with "operator torchvision::nms does not exist". With the
schemas of the missing operators registered, data sets, transforms and models work; nms and io.decode_* do not.
"""

import sys
from types import ModuleType

import torch

_KEPT: list[torch.library.Library] = []  # a library that is collected takes its operators with it


def import_torchvision() -> ModuleType:
    """Return the torchvision package, with transforms imported."""
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
        import torchvision
    import torchvision.transforms

    return torchvision
