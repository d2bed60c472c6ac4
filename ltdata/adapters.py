"""Adapters: a built folder as a data set of other libraries, one line each.

`huggingface(folder)` gives a `datasets.Dataset`, `webdataset(folder)` a pipeline of webdataset. For torchvision none
is needed: ``Subset(CIFAR100(...), ltdata.load("cifar100-lt", imbalance_factor=100).indices)``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata.catalog import Found, find
from ltdata.errors import LtdataError, SourceMissingError, UsageError
from ltdata.files import sha256_bytes
from ltdata.formats import huggingface as saved
from ltdata.images import Stored
from ltdata.reader import Store, members, open_store, shard_path
from ltdata.samples import Samples
from ltdata.shards import key
from ltdata.stored import stored


def huggingface(folder: Path | str, split: str = "train") -> Any:
    """Open a split as a `datasets.Dataset`: image, label, and source_index or source_path, in the protocol's order.

    The first time, datasets copies the images into its cache, and the digest of each is checked; afterwards the copy
    is opened, as long as rows, labels, class names and the images' digests are the same.

    Args:
        folder: of a build or a view.
        split: of it.

    Raises:
        UsageError: datasets is not installed, or there is no such split.
        SourceMissingError: no images belong to this folder.
        MismatchError: a shard or an image is not what the manifest says.
    """
    found, place, samples = _open(folder, split)
    datasets = saved.require()
    features = saved.features(found.manifest, by_path=samples.source_path is not None, images=True)
    located = stored(place, found.manifest, {split: samples})[split]
    content = (found.manifest.content_sha256, split, found.manifest.splits[split].samples_sha256, features)
    try:
        return datasets.Dataset.from_generator(
            partial(_rows, located, samples, list(features)[-1]),
            features=features,
            split=datasets.NamedSplit(split),
            fingerprint=sha256_bytes(repr(content).encode())[:16],
        )
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, LtdataError):
            raise error.__cause__ from None
        raise


def webdataset(
    folder: Path | str, split: str = "train", *, nodesplitter: Callable[[Iterable[Any]], Iterable[Any]] | None = None
) -> Any:
    """Open a split as a pipeline of webdataset: dicts with `__key__`, and ``png`` or ``jpg``, and ``cls``, as bytes.

    All that `webdataset.WebDataset` has can follow: ``.shuffle(1000).decode("pil").to_tuple("png", "cls")``. The
    shards are read by ltdata, which checks the digest of every image, so that nothing in a folder is run or unpickled.

    Samples come in the order of the shards, which is seeded and spread over the classes; `__key__` is the row. Several
    workers of one data loader share them, and a worker without a shard is no error.

    Args:
        folder: of a build or a view.
        split: of it.
        nodesplitter: deals the shards, dicts with ``url``, to the processes of a distributed training, such as
            `webdataset.split_by_node`; None refuses there, as webdataset does.

    Raises:
        UsageError: there is no such split.
        SourceMissingError: no images belong to this folder.
        MismatchError: a shard is not what the manifest says; while reading, also an image.
    """
    import webdataset as wds

    found, place, samples = _open(folder, split)
    store = open_store(place, found.manifest, {split: samples})
    shards = [{"url": str(shard_path(store.folder, shard)), "shard": shard} for shard in store.shards(split)]
    shards.sort(key=lambda shard: str(shard["url"]))
    return wds.FluidWrapper(shards).compose(
        nodesplitter or wds.single_node_only, wds.split_by_worker, partial(_samples, store, split, samples.labels)
    )


def _open(folder: Path | str, split: str) -> tuple[Found, Path, Samples]:
    """Read header and rows of a split that lies in a folder."""
    found = find(str(folder), rows=True)
    if split not in found.manifest.splits:
        raise UsageError(f"split {split!r}: {folder} has {', '.join(found.manifest.splits)}")
    if found.folder is None:
        raise SourceMissingError(f"{folder}: is no folder with images; build it, and name the folder")
    return found, found.folder, found.manifest.rows[split]


def _rows(located: Stored, samples: Samples, place_column: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a `datasets.Dataset`."""
    rows = zip(located.encoded(), samples.labels.tolist(), samples.places, strict=True)
    for (image, _), label, place in rows:
        yield {"image": {"bytes": image, "path": None}, "label": label, place_column: place}


def _samples(
    store: Store, split: str, labels: NDArray[np.int64], shards: Iterable[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield the samples of shards, as webdataset names them."""
    for each in shards:
        for _, row, member in members(store, split, [each["shard"]]):
            suffix = member.name.rpartition(".")[2]
            yield {"__key__": key(row), suffix: member.image, "cls": str(labels[row]).encode()}
