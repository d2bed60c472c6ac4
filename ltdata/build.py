"""Build a long-tailed data set: select the images, write the shards, and the manifest last.

`make_manifest` turns labels into rows (no image is touched); `build` writes them. The folder appears under its name
only when it is whole, and is a function of the source and the `Spec` alone: same bytes on any machine, for any
number of workers.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ltdata import __version__, engine, groups, images, index, output, protocols, shards, skipped, verify
from ltdata.errors import UsageError
from ltdata.files import exclusive, sha256_bytes, staged_folder, write_atomic
from ltdata.images import Files, Images
from ltdata.manifest import MANIFEST_NAME, SAMPLES_NAME, Manifest, describe_rule, make_split
from ltdata.reader import read_manifest, read_samples
from ltdata.samples import Samples, content_digest, rows_to_bytes
from ltdata.sources import LISTED, Source, Where, load_source
from ltdata.spec import Spec, select

Start = Callable[[], AbstractContextManager[engine.Engine]]
_CITATION = "Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019"


@dataclass(frozen=True)
class Built:
    """Report a build: its folder, its manifest, and whether it was there already and only verified."""

    folder: Path
    manifest: Manifest
    reused: bool


@dataclass(frozen=True)
class Chosen:
    """Say which images of a source make a split: those of one of its own, at some positions, int64 (n,)."""

    split: str
    positions: NDArray[np.int64]


def choose(spec: Spec, source: Source) -> dict[str, Chosen]:
    """Choose the images of every split, ``train`` first; nothing is drawn from the source's other splits.

    Raises:
        UsageError: a class has fewer images than it should keep.
    """
    train = source.splits["train"]
    sizes = {"test": spec.test_per_class, "val": spec.val_per_class}
    sizes = {name: size for name, size in sizes.items() if size}
    there = sorted(set(sizes) & set(source.splits))
    if there:
        raise UsageError(f"{spec.source}: has a {there[0]} split of its own; leave out --{there[0]}-per-class")
    names = source.class_names
    held, rest = protocols.hold_out(train.labels, list(sizes.values()), seed=spec.seed, class_names=names)
    kept = rest[select(spec, train.labels[rest], len(names), names)]
    out = dict(zip(sizes, held, strict=True))
    chosen = {"train": Chosen("train", kept)}
    for name in ("val", "test"):
        if name in out:
            chosen[name] = Chosen("train", out[name])
        elif name in source.splits:
            chosen[name] = Chosen(name, np.arange(len(source.splits[name].labels), dtype=np.int64))
    return chosen


def make_manifest(
    spec: Spec, source: Source, chosen: Mapping[str, Chosen] | None = None
) -> tuple[Manifest, dict[str, Samples]]:
    """Make the header and the rows of a split, without shards and without image digests.

    Args:
        spec: the split.
        source: its images.
        chosen: of them; None chooses.
    """
    rows = {}
    for name, part in (chosen if chosen is not None else choose(spec, source)).items():
        split = source.splits[part.split]
        paths = tuple([split.paths[n] for n in part.positions.tolist()]) if split.paths is not None else None
        positions = part.positions if paths is None else None
        rows[name] = Samples(labels=split.labels[part.positions], source_index=positions, source_path=paths)
    manifest = Manifest(
        name=spec.name,
        source=source.provenance,
        protocol=spec.protocol,
        group_rule=describe_rule(spec.group_rule),
        class_names=source.class_names,
        splits={name: make_split(name, samples, num_classes=len(source.class_names)) for name, samples in rows.items()},
        content_sha256=content_digest(source.id, rows),
        created_by={"ltdata": __version__},
        citation=(*source.citation, *([_CITATION] if spec.protocol["name"] == "ldam" else [])),
        superclass_names=source.superclass_names,
        samples=rows,
    )
    return manifest, rows


def build(
    spec: Spec,
    *,
    out: Path | None = None,
    data_dir: Path | None = None,
    lists: Path | None = None,
    manifest_only: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    unverified: bool = False,
    skip_bad: bool = False,
    force: bool = False,
    progress: bool = False,
) -> Built:
    """Build a split into a folder, or verify the finished build that is there.

    Args:
        spec: the split.
        out: the folder; by default `spec.name` in the current folder.
        data_dir: folder or archive of the source; None looks into the cache folder, then downloads.
        lists: list, or folder of lists, of a source that has some.
        manifest_only: write header and rows without images, and do not look for images.
        workers: processes that write shards.
        scheduler: address of a Dask scheduler, whose workers write them instead.
        unverified: accept source files whose digest is not the published one.
        skip_bad: leave out images that are not there or cannot be decoded, see `ltdata.skipped`; of a finished build,
            find out whether these would be left out again.
        force: build anew over an existing build.
        progress: show bars on a terminal.

    Raises:
        UsageError: a value is out of range, or the folder holds something else.
        SourceMissingError: the source's lists or images are not there.
        MismatchError: the source, or the finished build, is not what it should be.
        OutputError: the folder cannot be written.
    """
    engine.check_workers(workers)
    if spec.source == "folder" and spec.title is None:
        spec = replace(spec, title=_title(data_dir))
    if skip_bad and (manifest_only or not spec.has_files):
        reason = "--manifest-only looks at no image" if manifest_only else "its images are not files"
        raise UsageError(f"{spec.source}: {reason}, of which some could be bad; leave out --skip-bad")
    where = Where(data_dir, lists, unverified, not manifest_only, progress, skip_bad)
    folder = output.resolve(Path(out if out is not None else spec.name))
    if spec.source == "folder" and data_dir is not None and folder.is_relative_to(data_dir.resolve()):
        raise UsageError(
            f"{folder}: lies among the images, where it would be read as one of them; choose another --out"
        )
    start = partial(engine.start, workers, scheduler=scheduler)
    existing = _existing(folder, spec, where, start, force=force)
    if existing is not None:
        return existing
    with exclusive(folder):
        existing = _existing(folder, spec, where, start, force=force)
        if existing is not None:
            return existing  # another process built it while this one came in
        # Workers come up while the source is read.
        with nullcontext() if manifest_only else start() as crew:
            source = _load(spec, where, crew)
            chosen = choose(spec, source)
            manifest, rows = make_manifest(spec, source, chosen)
            encoder = {"max_side_px": spec.max_side_px, "encoder": images.encoder()} if spec.max_side_px else None
            manifest = replace(manifest, storage=encoder)
            with staged_folder(folder, replace=force) as staging:
                if crew is None:
                    manifest = write_rows(manifest, rows, staging)
                else:
                    stored = {name: _images(source, part, spec.max_side_px) for name, part in chosen.items()}
                    manifest = write_images(
                        manifest, rows, stored, staging, crew=crew, seed=spec.seed, progress=progress
                    )
    return Built(folder, manifest, reused=False)


def _load(spec: Spec, where: Where, crew: engine.Engine | None) -> Source:
    source = load_source(spec.source, where)
    if crew is None or not where.skip_bad:
        return source
    return skipped.without_bad(source, crew, max_side_px=spec.max_side_px, progress=where.progress)


def _title(data_dir: Path | None) -> str:
    """Name a folder's data set after the folder, in letters that names may have."""
    if data_dir is None:
        raise UsageError("folder: name the folder of the images with --data-dir")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", data_dir.resolve().name).strip("-._")[:100] or "folder"


def _images(source: Source, chosen: Chosen, max_side_px: int | None) -> Images:
    found = source.splits[chosen.split].images
    assert found is not None  # noqa: S101 - for the type checker: `Where.need_images` asked for them
    taken = found.take(chosen.positions)
    if isinstance(taken, Files):  # absolute, since workers on other machines have other current folders
        return replace(taken, folder=taken.folder.absolute(), max_side_px=max_side_px)
    return taken


def _existing(folder: Path, spec: Spec, where: Where, start: Start, *, force: bool) -> Built | None:
    """Return the finished and verified build at `folder`; None if the place is free or may be replaced."""
    if not output.holds_build(folder, force=force) or force:
        return None
    manifest = read_manifest(folder)
    differences = _differences(manifest, spec, where)
    if not differences and (where.unverified or where.skip_bad or not manifest.verified):
        with start() if where.skip_bad else nullcontext() as crew:
            differences = _source_differences(folder, manifest, spec, where, crew)
    if differences:
        raise UsageError(
            f"{folder}: holds another build ({'; '.join(differences)}); choose another --out, or --force to replace it"
        )
    verify.verify(folder, images=False, progress=where.progress)
    return Built(folder, manifest, reused=True)


def _differences(manifest: Manifest, spec: Spec, where: Where) -> list[str]:
    """List what a finished build was made with that this command does not ask for."""
    here, asked = (
        {"source": source, **protocol["params"], "protocol": protocol.get("name"), "version": protocol.get("version")}
        for source, protocol in ((manifest.source["id"], manifest.protocol), (spec.source, spec.protocol))
    )
    here |= {"groups": manifest.group_rule["name"], "images": "stored" if manifest.has_images else "left out"}
    asked |= {"groups": spec.group_rule, "images": "stored" if where.need_images else "left out"}
    here["longest side"] = (manifest.storage or {}).get("max_side_px")
    asked["longest side"] = spec.max_side_px
    differences = [
        f"{name.replace('_', ' ')} {here.get(name)}, asked for {value}"
        for name, value in asked.items()
        if here.get(name) != value
    ]
    if skipped.listed(manifest) and not where.skip_bad:
        differences.append(f"{len(skipped.listed(manifest)):,} bad images left out, --skip-bad not given")
    if manifest.verified is False and not where.unverified:
        differences.append("made from files without the published digest, --unverified not given")
    if spec.source == "folder":
        differences += [] if manifest.name == spec.name else [f"name {manifest.name}, asked for {spec.name}"]
    elif manifest.verified is None and not spec.has_files:
        differences.append("it does not say whether its source had the published digest")
    return differences


def _source_differences(
    folder: Path, manifest: Manifest, spec: Spec, where: Where, crew: engine.Engine | None
) -> list[str]:
    """Compare a finished build with what its source holds now, where the source may have changed since.

    Of lists, the rows are compared; of a folder, whose images nothing else vouches for, also every stored byte.
    """
    if spec.source not in (*LISTED, "folder"):
        return []
    looked_at = spec.source == "folder" or where.skip_bad
    source = _load(spec, where if looked_at else replace(where, need_images=False), crew)
    chosen = choose(spec, source)
    now = make_manifest(spec, source, chosen)[0]
    if now.content_sha256 != manifest.content_sha256:
        return [f"content {manifest.content_sha256}, the source's images and labels now give {now.content_sha256}"]
    if now.class_names != manifest.class_names:
        return ["the source's classes now have other names"]
    if skipped.places(now) != skipped.places(manifest):
        return [f"{len(skipped.places(manifest)):,} bad images left out, now {len(skipped.places(now)):,}, or others"]
    if spec.source != "folder" or not manifest.has_images or not _same_encoder(manifest):
        return []
    rows = read_samples(folder, manifest)
    for name, part in chosen.items():
        digests = rows[name].sha256 or ()
        for row, (image, _) in enumerate(_images(source, part, spec.max_side_px).encoded()):
            if sha256_bytes(image) != digests[row]:
                return [f"{rows[name].places[row]} has changed in the source since"]
    return []


def _same_encoder(manifest: Manifest) -> bool:
    """Tell whether images stored now would have the bytes that they had then."""
    return manifest.storage is None or manifest.storage.get("encoder") == images.encoder()


def write_rows(manifest: Manifest, rows: Mapping[str, Samples], staging: Path) -> Manifest:
    """Write rows and header of a split without images into a folder, the header last; return the header."""
    lines = {name: rows_to_bytes(name, samples) for name, samples in rows.items()}
    splits = {
        name: make_split(name, samples, num_classes=manifest.num_classes, rows=lines[name])
        for name, samples in rows.items()
    }
    manifest = replace(manifest, splits=splits, samples=rows)
    _commit(manifest, lines, staging)
    return manifest


def write_images(
    manifest: Manifest,
    rows: Mapping[str, Samples],
    stored: Mapping[str, Images],
    staging: Path,
    *,
    crew: engine.Engine,
    seed: int,
    progress: bool = False,
) -> Manifest:
    """Write shards, index, rows and header of a split into a folder, the header last; return the header.

    Args:
        manifest: the header, still without shards.
        rows: by split.
        stored: the images of those rows.
        staging: an empty folder.
        crew: who writes the shards.
        seed: of the order of the classes inside a series.
        progress: show a bar on a terminal.
    """
    plans = {
        name: shards.plan(name, samples.labels, class_groups=manifest.groups if name == "train" else None, seed=seed)
        for name, samples in rows.items()
    }
    jobs = [partial(_job, plan, rows[name], stored[name]) for name, in_split in plans.items() for plan in in_split]
    total = sum(len(samples) for samples in rows.values())
    with tqdm(total=total, unit=" images", desc=manifest.name, disable=None if progress else True) as bar:
        written = shards.write_all(
            jobs,
            staging,
            executor=crew.executor,
            ahead=crew.ahead,
            on_shard=lambda report: bar.update(report.shard.num_samples),
        )
    reports = iter(written)
    made = {name: [next(reports) for _ in in_split] for name, in_split in plans.items()}
    full = {name: _with_digests(samples, plans[name], made[name]) for name, samples in rows.items()}
    lines = {name: rows_to_bytes(name, samples) for name, samples in full.items()}
    splits = {
        name: make_split(
            name,
            samples,
            num_classes=manifest.num_classes,
            shards=tuple(report.shard for report in made[name]),
            rows=lines[name],
        )
        for name, samples in full.items()
    }
    manifest = replace(manifest, splits=splits, samples=full)
    located = {
        name: [
            index.Located(plan.rows, report.offsets, report.sizes)
            for plan, report in zip(plans[name], made[name], strict=True)
        ]
        for name in full
    }
    write_atomic(staging / index.INDEX_NAME, index.to_bytes(index.columns(manifest, full, located)))
    _commit(manifest, lines, staging)
    return manifest


def _commit(manifest: Manifest, lines: Mapping[str, bytes], staging: Path) -> None:
    write_atomic(staging / SAMPLES_NAME, b"".join(lines.values()))
    write_atomic(staging / MANIFEST_NAME, manifest.to_json().encode())


def _job(plan: shards.ShardPlan, samples: Samples, stored: Images) -> shards.ShardJob:
    return shards.ShardJob(plan.path, plan.rows, samples.labels[plan.rows], stored.take(plan.rows))


def _with_digests(samples: Samples, plans: list[shards.ShardPlan], made: list[shards.WrittenShard]) -> Samples:
    digests = [""] * len(samples)
    for plan, report in zip(plans, made, strict=True):
        for row, digest in zip(plan.rows.tolist(), report.image_sha256, strict=True):
            digests[row] = digest
    return replace(samples, sha256=tuple(digests))


def summary(built: Built) -> dict[str, Any]:
    """Return what a build holds, for people and machines."""
    manifest = built.manifest
    classes = np.bincount(manifest.groups, minlength=len(groups.GROUP_NAMES)).tolist()
    return {
        "folder": str(built.folder),
        "name": manifest.name,
        "reused": built.reused,
        "images": {name: split.num_samples for name, split in manifest.splits.items()},
        "groups": {"rule": manifest.group_rule["name"], **dict(zip(groups.GROUP_NAMES, classes, strict=True))},
        "shards": sum(len(split.shards) for split in manifest.splits.values()),
        "longer_side_px": (manifest.storage or {}).get("max_side_px"),
        "left_out": manifest.source.get("left_out"),
        "skipped": len(skipped.listed(manifest)),
        "bytes": sum(shard.bytes for split in manifest.splits.values() for shard in split.shards),
        "verified_source": manifest.verified,
        "content_sha256": manifest.content_sha256,
    }
