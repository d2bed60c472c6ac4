"""Verify a built folder: every byte of every shard, every row, every count, every digest, every image."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ltdata import index
from ltdata.errors import MismatchError, SourceMissingError, UsageError
from ltdata.files import sha256_bytes
from ltdata.index import Located
from ltdata.manifest import Manifest, Shard
from ltdata.reader import decode_named, members, read_base, read_manifest, read_samples, read_shard, walk
from ltdata.samples import Samples
from ltdata.shards import key


def verify(folder: Path, *, images: bool = True, workers: int = 1, progress: bool = False) -> Manifest:
    """Check that a built folder is whole and unchanged; return its manifest.

    Reads each shard once: its size and SHA-256, and of every sample inside the header, the key, the label, the
    image's digest, and whether it decodes. Rows against their digests and counts; the index against the shards; no
    other tar in the folder. A folder without shards is checked for what it has; a view also for its build's images.

    Args:
        folder: of a build, a manifest without images, or a view.
        images: decode every image too, which for photographs takes most of the time.
        workers: threads that read and decode shards.
        progress: show a bar on a terminal.

    Raises:
        SourceMissingError: there is no build, or that of a view is gone.
        MismatchError: names every file at fault.
    """
    if workers < 1:
        raise UsageError(f"{workers} workers: at least 1 is needed")
    manifest = read_manifest(folder)
    faults: list[str] = []
    samples: dict[str, Samples] = {}
    try:
        samples = read_samples(folder, manifest)
        if manifest.has_images and any(rows.sha256 is None for rows in samples.values()):
            faults.append(f"{folder}: the rows hold no image digests")
    except MismatchError as fault:
        faults.append(str(fault))
    if manifest.view_of is not None and samples:
        faults += _view_faults(folder, manifest, samples, images=images, progress=progress)
    listed = {folder / shard.path for split in manifest.splits.values() for shard in split.shards}
    faults += [f"{path}: is not in the manifest; remove it" for path in sorted(set(folder.rglob("*.tar")) - listed)]
    if manifest.has_images:
        faults += _shard_faults(folder, manifest, samples, images=images, workers=workers, progress=progress)
    if faults:
        raise MismatchError("; ".join(faults))
    return manifest


@dataclass(frozen=True)
class _Checked:
    """Report a shard: where its images lie, and what is wrong with it."""

    located: Located
    faults: tuple[str, ...]


def _shard_faults(
    folder: Path, manifest: Manifest, samples: Mapping[str, Samples], *, images: bool, workers: int, progress: bool
) -> list[str]:
    """List what is wrong with the shards and the index of a build."""
    faults = []
    located: dict[str, list[Located]] = {name: [] for name in manifest.splits}
    total = sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)
    bar = tqdm(total=total, unit="B", unit_scale=True, desc="verify", disable=None if progress else True)
    with bar, ThreadPoolExecutor(workers) as pool:

        def check(shard: Shard, rows: Samples | None) -> _Checked:
            checked = _check(folder, shard, rows, images=images)
            bar.update(shard.bytes)
            return checked

        for name, split in manifest.splits.items():
            if sum(shard.num_samples for shard in split.shards) != split.num_samples:
                faults.append(f"{folder}: the {name} shards do not add up to {split.num_samples} samples")
            seen: set[int] = set()
            found = pool.map(check, split.shards, [samples.get(name)] * len(split.shards))
            for shard, checked in zip(split.shards, found, strict=True):
                rows = set(checked.located.rows.tolist())
                twice = sorted(rows & seen)[:1]
                faults += [f"{folder / shard.path}: {key(row)} is in another shard too" for row in twice]
                faults += checked.faults
                seen |= rows
                located[name].append(checked.located)
    cache = folder / index.INDEX_NAME
    if (
        not faults
        and samples
        and cache.is_file()
        and not index.matches(cache.read_bytes(), index.columns(manifest, samples, located))
    ):
        faults.append(f"{cache}: is not the index of these shards; delete it, nothing here needs it")
    return faults


def _check(folder: Path, shard: Shard, samples: Samples | None, *, images: bool) -> _Checked:
    """Check one shard, and against its rows where they could be read."""
    places: list[tuple[int, int, int]] = []
    faults: list[str] = []
    try:
        data = read_shard(folder, shard)
        if samples is not None:
            for member in walk(data, folder, shard, samples):
                places.append((member.row, member.offset, len(member.image)))
                try:
                    if images:
                        decode_named(member, folder / shard.path, samples, member.row)
                except MismatchError as fault:
                    faults.append(str(fault))
    except MismatchError as fault:
        faults.append(str(fault))
    return _Checked(Located(*np.array(places, np.int64).reshape(-1, 3).T), tuple(faults))


def _view_faults(
    folder: Path, manifest: Manifest, samples: Mapping[str, Samples], *, images: bool, progress: bool
) -> list[str]:
    """List what is wrong with a view: its build, and the images that it shows."""
    try:
        read_base(folder, manifest)
    except (SourceMissingError, MismatchError) as fault:
        return [str(fault)]
    faults = []
    total = sum(len(rows) for rows in samples.values())
    with tqdm(total=total, unit=" images", desc="verify", disable=None if progress else True) as bar:
        for name, rows in samples.items():
            seen = 0
            try:
                for place, row, member in members(folder, manifest, name, rows):
                    seen += 1
                    if rows.sha256 is not None and rows.sha256[row] != sha256_bytes(member.image):
                        faults.append(f"{place}: {member.name} has another digest than the view's row")
                    if images:
                        decode_named(member, place, rows, row)
                    bar.update()
            except MismatchError as fault:
                faults.append(str(fault))
                continue
            if seen != len(rows):
                faults.append(f"{folder}: {len(rows) - seen} {name} images are not in the build that it shows")
    return faults
