"""The index: where each image of a built folder lies, so that any reader can reach it in O(1).

`index.npz` is a cache: it follows from the rows and the shards, and holds one entry per row of `samples.jsonl`, in
that order. Columns: `split`, `group` (numbers in the manifest's order), `label`, `shard` (number in the split's
list), `offset` and `size` (of the image, in bytes); and the `content_sha256` of the rows.
"""

import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata.manifest import Manifest
from ltdata.samples import Samples

INDEX_NAME = "index.npz"


@dataclass(frozen=True)
class Located:
    """Say where the images of one shard lie: their rows in the split, offsets and sizes in bytes; int64 (n,)."""

    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]


def columns(
    manifest: Manifest, samples: Mapping[str, Samples], shards: Mapping[str, Sequence[Located]]
) -> dict[str, NDArray[Any]]:
    """Make the columns of the index from the rows and the shards of every split."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ("split", "label", "group", "shard", "offset", "size")}
    for number, (name, rows) in enumerate(samples.items()):
        shard, offset, size = (np.zeros(len(rows), dtype) for dtype in ("<i4", "<i8", "<i4"))
        for shard_number, located in enumerate(shards[name]):
            shard[located.rows] = shard_number
            offset[located.rows], size[located.rows] = located.offsets, located.sizes
        parts["split"].append(np.full(len(rows), number, "i1"))
        parts["label"].append(rows.labels.astype("<i4"))
        parts["group"].append(manifest.groups[rows.labels])
        for column, values in (("shard", shard), ("offset", offset), ("size", size)):
            parts[column].append(values)
    arrays = {name: np.concatenate(part) for name, part in parts.items()}
    return arrays | {"content_sha256": np.array(manifest.content_sha256)}


def to_bytes(index: Mapping[str, NDArray[Any]]) -> bytes:
    """Write the columns as the content of `index.npz`."""
    buffer = BytesIO()
    np.savez(buffer, **index)  # type: ignore[arg-type]
    return buffer.getvalue()


def from_bytes(data: bytes) -> dict[str, NDArray[Any]] | None:
    """Read the columns out of the content of an `index.npz`; None where it is none, whatever it is."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            if sum(member.file_size for member in archive.infolist()) > len(data):
                return None  # `to_bytes` compresses nothing; a few KB of what is compressed may fill the memory
        with warnings.catch_warnings(action="error"), np.load(BytesIO(data), allow_pickle=False) as found:
            columns = dict(found)
    except Exception:  # noqa: BLE001 - of a garbled file zipfile and numpy raise nearly anything
        return None
    # Elements of no bytes can be any number, and would take some as soon as they are compared. A member that is no
    # array comes as its bytes.
    whole = all(isinstance(column, np.ndarray) and column.size <= len(data) for column in columns.values())
    return columns if whole else None


def matches(data: bytes, index: Mapping[str, NDArray[Any]]) -> bool:
    """Tell whether the content of an `index.npz` is this index."""
    found = from_bytes(data)
    return found is not None and set(found) == set(index) and all(np.array_equal(found[n], index[n]) for n in index)
