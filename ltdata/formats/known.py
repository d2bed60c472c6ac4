"""What is known of a source whose images have positions: the label of each, without reading an image where possible."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata import pinned
from ltdata.errors import SourceMissingError
from ltdata.manifest import Manifest
from ltdata.sources import Source, Where, load_source
from ltdata.sources.download import cache_folder

POSITIONED = ("cifar10", "cifar100", "digits")
_TRAIN_IMAGES = {"cifar10": 50_000, "cifar100": 50_000}


@dataclass(frozen=True)
class Known:
    """Hold the labels of a source's images.

    Attributes:
        labels: by split of the source, original order, int64 (n,); -1 where nobody here knows.
        class_names: one per class label.
        superclass_names: the same, where the source has them.
        provenance: the manifest's `source` record.
        citation: what to cite.
    """

    labels: Mapping[str, NDArray[np.int64]]
    class_names: tuple[str, ...]
    superclass_names: tuple[str, ...]
    provenance: Mapping[str, Any]
    citation: tuple[str, ...]


def known(source: str, needed: Sequence[NDArray[np.int64]], *, data_dir: Path | None, unverified: bool) -> Known:
    """Find the labels of a source: in its files if they are named, else in the pinned splits, else in the cache.

    Nothing is downloaded. Where the images are not here, the labels of the pinned splits are all that is known.

    Args:
        source: one of `POSITIONED`.
        needed: training positions whose labels are looked for, int64 (n,) each.
        data_dir: of the source; None: see above.
        unverified: accept files without the published digest.

    Raises:
        SourceMissingError: `data_dir` does not hold the source.
        MismatchError: its files are damaged.
    """
    if data_dir is not None or source not in _TRAIN_IMAGES:
        return _from_source(load_source(source, Where(data_dir, unverified=unverified, need_images=False)))
    found = _from_pinned(source, np.unique(np.concatenate([np.zeros(0, np.int64), *needed])))
    inside = [positions[positions < len(found.labels["train"])] for positions in needed]
    if any((found.labels["train"][positions] < 0).any() for positions in inside):
        try:
            return _from_source(load_source(source, Where(cache_folder(), need_images=False)))
        except SourceMissingError:
            return found
    return found


def _from_source(source: Source) -> Known:
    return Known(
        labels={name: split.labels for name, split in source.splits.items()},
        class_names=source.class_names,
        superclass_names=source.superclass_names,
        provenance=source.provenance,
        citation=source.citation,
    )


def _from_pinned(source: str, needed: NDArray[np.int64]) -> Known:
    """Gather labels from the pinned splits, the largest first, until all that is needed is known."""
    headers = [pinned.header(name) for name in pinned.names() if name.startswith(f"{source}-")]
    headers.sort(key=lambda header: -header.splits["train"].num_samples)
    train = np.full(_TRAIN_IMAGES[source], -1, dtype=np.int64)
    test: NDArray[np.int64] = np.zeros(0, np.int64)
    needed = needed[needed < len(train)]
    for header in headers:
        rows = pinned.load(header.name).rows
        train[rows["train"].positions] = rows["train"].labels
        test = np.full(len(rows["test"]), -1, dtype=np.int64)
        test[rows["test"].positions] = rows["test"].labels
        if (train[needed] >= 0).all():
            break
    first: Manifest = headers[0]
    return Known({"train": train, "test": test}, first.class_names, (), first.source, first.citation[:1])
