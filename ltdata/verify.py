"""Verify a built folder: every byte of every shard, every row, every count, every digest."""

from pathlib import Path

from tqdm import tqdm

from ltdata.errors import MismatchError
from ltdata.manifest import Manifest
from ltdata.reader import INDEX_NAME, read_index, read_manifest, read_samples, read_shard


def verify(folder: Path, *, progress: bool = False) -> Manifest:
    """Check that a built folder is whole and unchanged; return its manifest.

    Reads each shard once: size and SHA-256 against the manifest; rows against their digests and counts; no
    foreign file among the shards.

    Raises:
        SourceMissingError: there is no build.
        MismatchError: names every file at fault, first fault first.
    """
    manifest = read_manifest(folder)
    faults: list[str] = []
    try:
        samples = read_samples(folder, manifest)
        if any(rows.sha256 is None for rows in samples.values()):
            faults.append(f"{folder}: the rows hold no image digests")
    except MismatchError as fault:
        faults.append(str(fault))
    listed = set()
    total = sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)
    with tqdm(total=total, unit="B", unit_scale=True, desc="verify", disable=None if progress else True) as bar:
        for name, split in manifest.splits.items():
            if sum(shard.num_samples for shard in split.shards) != split.num_samples:
                faults.append(f"{folder}: the {name} shards do not add up to {split.num_samples} samples")
            index = read_index(folder, manifest, name)
            if index is not None and len(split.shards) <= int(index.shard.max(initial=-1)):
                faults.append(f"{folder / INDEX_NAME}: points to shards that are not there; delete it")
            for shard in split.shards:
                listed.add(folder / shard.path)
                try:
                    read_shard(folder, shard)
                except MismatchError as fault:
                    faults.append(str(fault))
                bar.update(shard.bytes)
    present = set(folder.rglob("*.tar"))
    faults += [f"{path}: is not in the manifest; remove it" for path in sorted(present - listed)]
    if faults:
        raise MismatchError("; ".join(faults))
    return manifest
