"""Where the images of a build's rows lie, in the order of the rows, for reading one by one.

By `index.npz`, which saves reading the shards whole, where it is there and can be that of these shards; else by
reading them. The index is believed in nothing else: `ltdata.images.Stored` compares the bytes that it reads with the
digest of their row.
"""

import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import MismatchError
from ltdata.images import Stored
from ltdata.index import INDEX_NAME, from_bytes
from ltdata.manifest import Manifest, Shard
from ltdata.reader import Store, members, open_store, read_inside, shard_path
from ltdata.samples import Samples
from ltdata.shards import end_mark


def stored(folder: Path, manifest: Manifest, rows: Mapping[str, Samples]) -> dict[str, Stored]:
    """Locate the images of splits, by the index of the build, else by reading its shards.

    Args:
        folder: of a build or a view.
        manifest: its header.
        rows: of it, all of each split.

    Raises:
        SourceMissingError: no images belong to the manifest, or those of a view are gone.
        MismatchError: a shard is not what the manifest says.
    """
    store = open_store(folder, manifest, rows)
    return {split: _locate(store, split, samples) for split, samples in rows.items()}


def _locate(store: Store, split: str, samples: Samples) -> Stored:
    if samples.sha256 is None:
        raise MismatchError(f"{store.folder}: the {split} rows hold no image digests; build it again")
    shards = store.manifest.splits[split].shards
    paths = [store.folder / shard.path for shard in shards]
    needed = store.shards(split)
    for shard in needed:
        shard_path(store.folder, shard)
    located = _indexed(store, split, len(samples))
    if located is not None and {shards[number] for number in np.unique(located[0]).tolist()} <= set(needed):
        number, offset, size = located.tolist()
        return Stored([paths[each] for each in number], offset, size, samples.sha256)
    places: list[tuple[Path, int, int] | None] = [None] * len(samples)
    for path, row, member in members(store, split, needed):
        places[row] = path, member.offset, len(member.image)
    there = [place for place in places if place is not None]
    if len(there) < len(places):
        raise MismatchError(
            f"{store.folder}: {len(places) - len(there)} {split} images are in no shard; build it again"
        )
    found, offsets, sizes = zip(*there, strict=True) if there else ((), (), ())
    return Stored(found, offsets, sizes, samples.sha256)


def _indexed(store: Store, split: str, num_rows: int) -> NDArray[np.int64] | None:
    """Locate the images by the index; None where there is none that can be that of these shards.

    Returns:
        Number of the shard, offset and size of the image of each row that asks for one, int64 (3, n).
    """
    shown = store.shown[split]
    try:
        index = from_bytes(read_inside(store.folder, INDEX_NAME))
        if index is None or str(index["content_sha256"]) != store.manifest.content_sha256:
            return None
        inside = np.flatnonzero(index["split"] == list(store.manifest.splits).index(split))
        columns = [index[name][inside] for name in ("shard", "offset", "size")]
    except Exception:  # noqa: BLE001 - columns may be missing, or of any type and shape
        return None
    if any(column.shape != shown.shape or column.dtype.kind != "i" for column in columns):
        return None
    whole = np.array(columns, dtype=np.int64)
    if not _fits(whole, store.manifest.splits[split].shards):
        return None
    asked = np.flatnonzero(shown >= 0)
    out = np.empty((3, num_rows), dtype=np.int64)
    out[:, shown[asked]] = whole[:, asked]
    return out


def _fits(located: NDArray[np.int64], shards: tuple[Shard, ...]) -> bool:
    """Tell whether shard numbers, offsets and sizes, int64 (3, n), fill these shards, with as many as each holds."""
    number, offset, size = located
    if number.min(initial=0) < 0 or number.max(initial=-1) >= len(shards):
        return False
    if np.bincount(number, minlength=len(shards)).tolist() != [shard.num_samples for shard in shards]:
        return False
    ends = np.array([shard.bytes for shard in shards], dtype=object)[number]  # any integer, as the header has it
    if (offset < 0).any() or (size < 0).any() or (size > ends - offset).any():
        return False
    last = np.zeros(len(shards), dtype=np.int64)
    np.maximum.at(last, number, offset + size)
    last += -last % tarfile.BLOCKSIZE
    return all(end + len(end_mark(end)) == shard.bytes for end, shard in zip(last.tolist(), shards, strict=True))
