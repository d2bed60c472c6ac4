"""Where the images of a build's rows lie, in the order of the rows."""

import warnings
import zipfile
from pathlib import Path

import numpy as np

from ltdata.errors import MismatchError
from ltdata.images import Stored
from ltdata.index import INDEX_NAME
from ltdata.manifest import Manifest
from ltdata.reader import members, read_base
from ltdata.samples import Samples


def stored(folder: Path, manifest: Manifest, split: str, samples: Samples) -> Stored:
    """Locate the images of a split, by the index of the build, else by reading its shards.

    Args:
        folder: of a build or a view.
        manifest: its header.
        split: of it.
        samples: its rows.

    Raises:
        SourceMissingError: no images belong to the manifest, or those of a view are gone.
        MismatchError: a shard is not what the manifest says.
    """
    found = _indexed(folder, manifest, split, samples)
    if found is not None:
        return found
    places: list[tuple[Path, int, int] | None] = [None] * len(samples)
    for shard, row, member in members(folder, manifest, split, samples):
        places[row] = shard, member.offset, len(member.image)
    there = [place for place in places if place is not None]
    if len(there) < len(places) or samples.sha256 is None:
        raise MismatchError(f"{folder}: {len(places) - len(there)} {split} images are in no shard; build it again")
    shards, offsets, sizes = zip(*there, strict=True) if there else ((), (), ())
    return Stored(shards, offsets, sizes, samples.sha256)


def _indexed(folder: Path, manifest: Manifest, split: str, samples: Samples) -> Stored | None:
    """Locate the images by the index; None where there is none that belongs to these rows."""
    rows = np.arange(len(samples))
    if manifest.view_of is not None:
        folder, manifest, base = read_base(folder, manifest)
        row_of = {place: row for row, place in enumerate(base[split].places)}
        rows = np.array([row_of.get(place, -1) for place in samples.places], dtype=np.int64)
    if samples.sha256 is None or not manifest.has_images or rows.min(initial=0) < 0:
        return None
    try:
        with warnings.catch_warnings(action="error"), np.load(folder / INDEX_NAME, allow_pickle=False) as index:
            inside = np.flatnonzero(index["split"] == list(manifest.splits).index(split))[rows]
            of_these = str(index["content_sha256"]) == manifest.content_sha256
            shard, offset, size = (index[name][inside].tolist() for name in ("shard", "offset", "size"))
    except (OSError, ValueError, KeyError, IndexError, EOFError, Warning, zipfile.BadZipFile):
        return None
    if not of_these:
        return None
    shards = [folder / each.path for each in manifest.splits[split].shards]
    for path, each in zip(shards, manifest.splits[split].shards, strict=True):
        if not path.is_file() or path.stat().st_size != each.bytes:
            raise MismatchError(f"{path}: is missing, or has not the manifest's {each.bytes} bytes; build it again")
    return Stored([shards[number] for number in shard], offset, size, samples.sha256)
