"""Verify a built folder: every byte of every shard, every row, every count, every digest."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from ltdata import index
from ltdata.errors import MismatchError
from ltdata.index import Located
from ltdata.manifest import Manifest, Samples
from ltdata.reader import read_manifest, read_samples, read_shard, walk
from ltdata.shards import key


def verify(folder: Path, *, progress: bool = False) -> Manifest:
    """Check that a built folder is whole and unchanged; return its manifest.

    Reads each shard once: its size and SHA-256, and of every sample inside the header, the key, the label and the
    image's digest. Rows against their digests and counts; the index against the shards; no other tar in the folder.

    Raises:
        SourceMissingError: there is no build.
        MismatchError: names every file at fault.
    """
    manifest = read_manifest(folder)
    faults: list[str] = []
    samples: dict[str, Samples] = {}
    try:
        samples = read_samples(folder, manifest)
        if any(rows.sha256 is None for rows in samples.values()):
            faults.append(f"{folder}: the rows hold no image digests")
    except MismatchError as fault:
        faults.append(str(fault))
    seen: dict[str, set[int]] = {name: set() for name in manifest.splits}
    located: dict[str, list[Located]] = {name: [] for name in manifest.splits}
    total = sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)
    with tqdm(total=total, unit="B", unit_scale=True, desc="verify", disable=None if progress else True) as bar:
        for name, split in manifest.splits.items():
            if sum(shard.num_samples for shard in split.shards) != split.num_samples:
                faults.append(f"{folder}: the {name} shards do not add up to {split.num_samples} samples")
            for shard in split.shards:
                try:
                    data = read_shard(folder, shard)
                    if samples:
                        members = walk(data, folder, shard, samples[name])
                        again = [m for m in members if m.row in seen[name]]
                        if again:
                            faults.append(f"{folder / shard.path}: {key(again[0].row)} is in another shard too")
                        seen[name].update(m.row for m in members)
                        places = np.array([(m.row, m.offset, len(m.image)) for m in members], np.int64).reshape(-1, 3)
                        located[name].append(Located(*places.T))
                except MismatchError as fault:
                    faults.append(str(fault))
                bar.update(shard.bytes)
    listed = {folder / shard.path for split in manifest.splits.values() for shard in split.shards}
    faults += [f"{path}: is not in the manifest; remove it" for path in sorted(set(folder.rglob("*.tar")) - listed)]
    cache = folder / index.INDEX_NAME
    if (
        not faults
        and cache.is_file()
        and not index.matches(cache.read_bytes(), index.columns(manifest, samples, located))
    ):
        faults.append(f"{cache}: is not the index of these shards; delete it, nothing here needs it")
    if faults:
        raise MismatchError("; ".join(faults))
    return manifest
