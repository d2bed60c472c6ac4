"""What every source gives: labels and pixels per split, class names, and where they came from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import MismatchError


@dataclass(frozen=True)
class SourceSplit:
    """Hold one split in the source's original order.

    Attributes:
        labels: int64 (n,), values 0 .. C - 1.
        pixels: RGB, uint8 (n, height, width, 3), 0-255.
    """

    labels: NDArray[np.int64]
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """Hold the images of a source.

    Attributes:
        id: such as ``cifar100``.
        class_names: one per class label.
        splits: ``train`` first; the training split is balanced or nearly so.
        provenance: the manifest's `source` record: id, version, urls, checksums, terms, verified, ...
        citation: what to cite for the images.
    """

    id: str
    class_names: tuple[str, ...]
    splits: Mapping[str, SourceSplit]
    provenance: Mapping[str, Any]
    citation: str

    def __post_init__(self) -> None:
        for name, split in self.splits.items():
            if len(split.labels) != len(split.pixels):
                raise MismatchError(f"{self.id} {name}: {len(split.labels)} labels, {len(split.pixels)} images")
            if split.labels.min(initial=0) < 0 or split.labels.max(initial=0) >= len(self.class_names):
                raise MismatchError(f"{self.id} {name}: a label lies outside 0 .. {len(self.class_names) - 1}")
