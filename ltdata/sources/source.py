"""What every source gives: labels and images per split, class names, and where they came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import MismatchError, UsageError
from ltdata.images import Images, Pixels


@dataclass(frozen=True)
class Where:
    """Say where a source's files are, and how they are to be read.

    Attributes:
        data_dir: folder or archive; None looks into the cache folder, then downloads.
        lists: file or folder with the lists of a source that is defined by lists; None looks beside the images.
        unverified: accept files whose digest is not the published one.
        need_images: refuse a source whose image files are not all there.
        progress: show bars on a terminal.
        skip_bad: images that are not there or cannot be decoded are going to be left out: do not refuse them here.
    """

    data_dir: Path | None = None
    lists: Path | None = None
    unverified: bool = False
    need_images: bool = True
    progress: bool = False
    skip_bad: bool = False


def refuse_lists(where: Where, source: str) -> None:
    """Refuse lists for a source that has none.

    Raises:
        UsageError: some are given.
    """
    if where.lists is not None:
        raise UsageError(f"{source}: is not made from lists; leave out --lists")


@dataclass(frozen=True)
class SourceSplit:
    """Hold one split in the source's original order.

    Attributes:
        labels: int64 (n,), values 0 .. C - 1.
        images: as many; None where they were not asked for.
        paths: that name the images in the rows of a manifest; None where their positions do.
    """

    labels: NDArray[np.int64]
    images: Images | None
    paths: tuple[str, ...] | None = None

    def take(self, positions: NDArray[np.int64]) -> "SourceSplit":
        """Return the images at some positions, in that order."""
        return SourceSplit(
            labels=self.labels[positions],
            images=self.images.take(positions) if self.images is not None else None,
            paths=tuple([self.paths[n] for n in positions.tolist()]) if self.paths is not None else None,
        )

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """Return the images of a small source, RGB, uint8 (n, height, width, 3), 0-255.

        Raises:
            TypeError: they are files.
        """
        if not isinstance(self.images, Pixels):
            raise TypeError("this source's images are not pixels")
        return self.images.array


@dataclass(frozen=True)
class Source:
    """Hold the images of a source.

    Attributes:
        id: such as ``cifar100``.
        class_names: one per class label.
        splits: ``train`` first.
        provenance: the manifest's `source` record: id, version, urls, checksums, terms, verified, ...
        citation: what to cite, images first.
        superclass_names: one per class label, where the source has them.
    """

    id: str
    class_names: tuple[str, ...]
    splits: Mapping[str, SourceSplit]
    provenance: Mapping[str, Any]
    citation: tuple[str, ...]
    superclass_names: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name, split in self.splits.items():
            for what, column in (("images", split.images), ("paths", split.paths)):
                if column is not None and len(split.labels) != len(column):
                    raise MismatchError(f"{self.id} {name}: {len(split.labels)} labels, {len(column)} {what}")
            if split.labels.min(initial=0) < 0 or split.labels.max(initial=0) >= len(self.class_names):
                raise MismatchError(f"{self.id} {name}: a label lies outside 0 .. {len(self.class_names) - 1}")
