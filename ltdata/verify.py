"""Verify a built folder: every byte of every shard, every row, every count, every digest, every image."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ltdata import index
from ltdata.engine import check_workers
from ltdata.errors import MismatchError, SourceMissingError
from ltdata.index import Located
from ltdata.manifest import MANIFEST_NAME, Manifest, Shard
from ltdata.reader import (
    Store,
    decode_named,
    misplaced,
    open_store,
    read_inside,
    read_manifest,
    read_samples,
    read_shard,
    shard_plans,
    walk,
)
from ltdata.samples import Samples
from ltdata.shards import key


def verify(folder: Path, *, images: bool = True, workers: int = 1, progress: bool = False) -> Manifest:
    """Check that a built folder is whole and unchanged; return its manifest.

    Reads each shard once: its size and SHA-256, and of every sample inside the header, the key, the label, the
    image's digest, and whether it decodes. Rows against their digests and counts; which rows lie in which shard, and
    the index, against the rows; no other tar in the folder. A folder without shards is checked for what it has; of a
    view, its base is checked, and the shards that hold images of it.

    Args:
        folder: of a build, a manifest without images, or a view.
        images: decode every image too, which for photographs takes most of the time.
        workers: threads that read and decode shards.
        progress: show a bar on a terminal.

    Raises:
        SourceMissingError: there is no build.
        MismatchError: names every file at fault; the base of a view that is gone is one.
    """
    check_workers(workers)
    manifest = read_manifest(folder)
    faults: list[str] = []
    samples: dict[str, Samples] = {}
    try:
        samples = read_samples(folder, manifest)
        if manifest.has_images and any(rows.sha256 is None for rows in samples.values()):
            faults.append(f"{folder}: the rows hold no image digests")
    except MismatchError as fault:
        faults.append(str(fault))
    listed = {folder / shard.path for split in manifest.splits.values() for shard in split.shards}
    faults += [f"{path}: is not in the manifest; remove it" for path in sorted(set(folder.rglob("*.tar")) - listed)]
    if manifest.has_images:
        faults += [
            f"{folder / MANIFEST_NAME}: its {name} shards do not add up to {split.num_samples} samples"
            for name, split in manifest.splits.items()
            if sum(shard.num_samples for shard in split.shards) != split.num_samples
        ]
        own = Store(folder, manifest, samples, {name: np.arange(len(rows)) for name, rows in samples.items()})
        if manifest.verified is None and any(rows.source_path is None for rows in samples.values()):  # not of a folder
            faults.append(f"{folder / MANIFEST_NAME}: does not say whether its source was verified; build it again")
        located, found = _check_shards(own, images=images, workers=workers, progress=progress)
        faults += found or _plan_faults(own, located) or _index_faults(own, located)
    if manifest.view_of is not None and samples:
        try:
            base = open_store(folder, manifest, samples)
            faults += _check_shards(base, images=images, workers=workers, progress=progress)[1]
        except (SourceMissingError, MismatchError) as fault:
            faults.append(str(fault))
    if faults:
        raise MismatchError("; ".join(faults))
    return manifest


@dataclass(frozen=True)
class _Checked:
    """Report a shard: where its images lie, and what is wrong with it."""

    located: Located
    faults: tuple[str, ...]


def _check_shards(
    store: Store, *, images: bool, workers: int, progress: bool
) -> tuple[dict[str, list[Located]], list[str]]:
    """Check the shards that hold images that are asked for; return where images lie, and what is wrong."""
    faults: list[str] = []
    located: dict[str, list[Located]] = {}
    shards = {
        name: store.shards(name) if name in store.shown else split.shards
        for name, split in store.manifest.splits.items()
        if name in store.shown or not store.samples
    }
    total = sum(shard.bytes for each in shards.values() for shard in each)
    bar = tqdm(total=total, unit="B", unit_scale=True, desc="verify", disable=None if progress else True)
    with bar, ThreadPoolExecutor(workers) as pool:
        for name, each in shards.items():

            def check(shard: Shard, split: str = name) -> _Checked:
                checked = _check(store, split, shard, images=images)
                bar.update(shard.bytes)
                return checked

            seen: set[int] = set()
            found = list(pool.map(check, each))
            for shard, checked in zip(each, found, strict=True):
                rows = set(checked.located.rows.tolist())
                twice = sorted(rows & seen)[:1]
                faults += [f"{store.folder / shard.path}: {key(row)} is in another shard too" for row in twice]
                faults += checked.faults
                seen |= rows
            located[name] = [checked.located for checked in found]
            if name in store.shown and not any(checked.faults for checked in found):
                missing = len(set(np.flatnonzero(store.shown[name] >= 0).tolist()) - seen)
                faults += (
                    [f"{store.folder}: {missing} {name} images are in no shard; build it again"] if missing else []
                )
    return located, faults


def _plan_faults(store: Store, located: dict[str, list[Located]]) -> list[str]:
    """List what lies elsewhere than where rows, groups and seed put it, in a build whose shards are right."""
    faults = []
    for name, samples in store.samples.items():
        plans = shard_plans(store.manifest, name, samples)
        if plans is None:
            faults.append(str(misplaced(store.folder, name)))
            continue
        faults += [
            f"{store.folder / plan.path}: holds other rows than belong there, or in another order; build it again"
            for plan, found in zip(plans, located[name], strict=True)
            if not np.array_equal(plan.rows, found.rows)
        ]
    return faults


def _index_faults(store: Store, located: dict[str, list[Located]]) -> list[str]:
    """List what is wrong with the index of a build whose shards are right."""
    cache = store.folder / index.INDEX_NAME
    if not store.samples or not os.path.lexists(cache):
        return []
    with suppress(MismatchError, OSError):
        data = read_inside(store.folder, index.INDEX_NAME)
        if index.matches(data, index.columns(store.manifest, store.samples, located)):
            return []
    return [f"{cache}: is not the index of these shards; delete it, nothing here needs it"]


def _check(store: Store, split: str, shard: Shard, *, images: bool) -> _Checked:
    """Check one shard, and against its rows where they could be read; decode what is asked for."""
    places: list[tuple[int, int, int]] = []
    faults: list[str] = []
    try:
        data = read_shard(store.folder, shard)
        if split in store.samples:
            samples, shown = store.samples[split], store.shown[split]
            for member in walk(data, store.folder, shard, samples):
                places.append((member.row, member.offset, len(member.image)))
                try:
                    if images and shown[member.row] >= 0:
                        decode_named(member, store.folder / shard.path, samples, member.row)
                except MismatchError as fault:
                    faults.append(str(fault))
    except MismatchError as fault:
        faults.append(str(fault))
    return _Checked(Located(*np.array(places, np.int64).reshape(-1, 3).T), tuple(faults))
