"""Adapters: a built folder as a data set of other libraries, one line each.

`huggingface(folder)` gives a `datasets.Dataset`, `webdataset(folder)` a `webdataset.WebDataset`. For torchvision none
is needed: ``Subset(CIFAR100(...), ltdata.load("cifar100-lt", imbalance_factor=100).indices)``.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata.catalog import Found, find
from ltdata.errors import SourceMissingError, UsageError
from ltdata.formats import huggingface as saved
from ltdata.images import Stored
from ltdata.reader import read_base
from ltdata.samples import Samples
from ltdata.shards import key
from ltdata.stored import stored

_CHUNK_BYTES = 2**31 - 1  # Arrow counts them in 31 bits


def huggingface(folder: Path | str, split: str = "train") -> Any:
    """Open a split as a `datasets.Dataset`: image, label, and source_index or source_path, in the protocol's order.

    The images' bytes are those of the shards, mapped into memory and not copied: opening takes no time and no memory,
    whatever the size. Between two images of a shard lie tar headers; those are rows of the Arrow table that the data
    set's indices leave out. `flatten_indices` and `save_to_disk` copy the images, and so does a process that is
    started with ``spawn``.

    Args:
        folder: of a build or a view.
        split: of it.

    Raises:
        UsageError: datasets is not installed, or there is no such split.
        SourceMissingError: no images belong to this folder.
    """
    found, samples, located = _open(folder, split)
    datasets = saved.require()
    import pyarrow as pa

    by_path = samples.source_path is not None
    features = saved.features(found.manifest, by_path=by_path, images=True)
    schema = features.arrow_schema
    batches = []
    table_row = np.zeros(len(samples), dtype=np.int64)
    at = 0
    for shard, rows in _by_shard(located).items():
        with pa.memory_map(str(shard)) as mapped:
            buffer = mapped.read_buffer()
        for chunk in _chunks(rows, located):
            filled = np.repeat(chunk, 2)[:-1]  # image, gap, image, gap, ..., image
            taken = samples.take(filled)
            columns = {
                "image": _images(buffer, located, chunk, schema.field("image").type),
                "label": pa.array(taken.labels, pa.int64()),
                schema.names[-1]: pa.array(taken.places, schema.types[-1]),
            }
            batches.append(pa.record_batch([columns[name] for name in schema.names], schema=schema))
            table_row[chunk] = at + 2 * np.arange(len(chunk))
            at += len(filled)
    return datasets.Dataset(
        datasets.table.InMemoryTable(pa.Table.from_batches(batches, schema)),
        info=datasets.DatasetInfo(features=features),
        split=datasets.NamedSplit(split),
        indices_table=datasets.table.InMemoryTable(pa.table({"indices": pa.array(table_row, pa.uint64())})),
        fingerprint=saved.fingerprint(found.manifest, split, images=True),
    )


def webdataset(folder: Path | str, split: str = "train", **options: Any) -> Any:
    """Open a split as a `webdataset.WebDataset` of dicts with ``png`` or ``jpg``, and ``cls``, as bytes.

    Samples come in the order of the shards, which is seeded and spread over the classes; `__key__` is the row. Every
    process of a distributed training gets all samples, unless `nodesplitter` says otherwise; several workers of one
    data loader share them, and a worker without a shard is no error.

    Args:
        folder: of a build or a view.
        split: of it.
        options: for `webdataset.WebDataset`, over the ones described.

    Raises:
        UsageError: there is no such split.
        SourceMissingError: no images belong to this folder.
    """
    import webdataset as wds

    found, samples, located = _open(folder, split)
    given = {"shardshuffle": False, "nodesplitter": None, "empty_check": False} | options
    pipeline = wds.WebDataset([str(shard) for shard in _by_shard(located)], **given)
    if found.manifest.view_of is None or found.folder is None:
        return pipeline
    _, _, base = read_base(found.folder, found.manifest)
    row_of = {place: row for row, place in enumerate(samples.places)}
    rows = {key(at): row_of[place] for at, place in enumerate(base[split].places) if place in row_of}
    return pipeline.compose(partial(_in_view, rows, samples.labels))  # its own `map` would put the old keys back


def _open(folder: Path | str, split: str) -> tuple[Found, Samples, Stored]:
    """Read header and rows of a split, and find where its images lie."""
    found = find(str(folder), rows=True)
    if split not in found.manifest.splits:
        raise UsageError(f"split {split!r}: {folder} has {', '.join(found.manifest.splits)}")
    if found.folder is None:
        raise SourceMissingError(f"{folder}: is no folder with images; build it, and name the folder")
    samples = found.manifest.rows[split]
    return found, samples, stored(found.folder, found.manifest, split, samples)


def _by_shard(located: Stored) -> dict[Path, NDArray[np.int64]]:
    """Return the shards that hold images, sorted by path, and the rows in each, int64 (n,), as they lie in it."""
    rows: dict[Path, list[int]] = defaultdict(list)
    for row, shard in enumerate(located.shards):
        rows[shard].append(row)
    return {shard: np.array(sorted(rows[shard], key=lambda row: located.offsets[row])) for shard in sorted(rows)}


def _chunks(rows: NDArray[np.int64], located: Stored) -> Iterator[NDArray[np.int64]]:
    """Divide the rows of a shard so that Arrow can count the bytes of each part."""
    start = 0
    for end, row in enumerate(rows.tolist()):
        too_long = located.offsets[row] + located.sizes[row] - located.offsets[int(rows[start])] > _CHUNK_BYTES
        if end > start and too_long:
            yield rows[start:end]
            start = end
    yield rows[start:]


def _images(buffer: Any, located: Stored, rows: NDArray[np.int64], kind: Any) -> Any:
    """Make an image column of a part of a shard without copying: one element per image, and one per gap between."""
    import pyarrow as pa

    begins = np.array([located.offsets[row] for row in rows.tolist()], dtype=np.int64)
    ends = begins + np.array([located.sizes[row] for row in rows.tolist()], dtype=np.int64)
    bounds = (np.stack([begins, ends], axis=1).ravel() - begins[0]).astype(np.int32)
    part = buffer.slice(int(begins[0]), int(ends[-1] - begins[0]))
    length = len(bounds) - 1
    images = pa.Array.from_buffers(pa.binary(), length, [None, pa.py_buffer(bounds.tobytes()), part])
    return pa.StructArray.from_arrays([images, pa.nulls(length, pa.string())], fields=list(kind))


def _in_view(
    rows: Mapping[str, int], labels: NDArray[np.int64], build: Iterable[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield those samples of a build that a view shows, with the key and the label that they have in the view."""
    for sample in build:
        row = rows.get(sample["__key__"])
        if row is not None:
            yield {**sample, "__key__": key(row), "cls": str(labels[row]).encode()}
