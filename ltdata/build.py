"""Build a long-tailed data set: select the images, write the shards, and the manifest last.

`select` turns labels into rows (no image is touched); `build` writes them. The folder appears under its name
only when it is whole, and is a function of the source and the `Spec` alone: same bytes on any machine, for any
number of workers.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ltdata import __version__, groups, index, profiles, protocols, shards, verify
from ltdata.errors import MismatchError, OutputError, UsageError
from ltdata.files import exclusive, leftovers, sha256_bytes, staged_folder, tidy, write_atomic
from ltdata.manifest import (
    MANIFEST_NAME,
    SAMPLES_NAME,
    Manifest,
    Samples,
    Split,
    content_digest,
    describe_rule,
    rows_to_bytes,
)
from ltdata.reader import read_manifest, refuse_inside_build
from ltdata.sources import SOURCES, Source, SourceSplit, load_source

_CITATION = "Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019"


@dataclass(frozen=True)
class Spec:
    """Say which split to make.

    Attributes:
        source: one of `ltdata.sources.SOURCES`.
        imbalance_factor: n_max / n_min, at least 1.
        profile: one of `ltdata.profiles.PROFILES`.
        seed: of the selection, 0 .. 2**32 - 1.
        group_rule: one of `ltdata.groups.RULES`.
        max_per_class: upper bound of n_max, for subsets; None for all there are.
    """

    source: str
    imbalance_factor: float
    profile: str = "exp"
    seed: int = 0
    group_rule: str = "strict"
    max_per_class: int | None = None

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise UsageError(f"data set {self.source!r}: choose one of {', '.join(SOURCES)}")
        profiles.check_imbalance_factor(self.imbalance_factor)
        if self.profile not in profiles.PROFILES:
            raise UsageError(f"profile {self.profile!r}: choose one of {', '.join(profiles.PROFILES)}")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"seed {self.seed}: it must lie in 0 .. {2**32 - 1}")
        if self.group_rule not in groups.RULES:
            raise UsageError(f"group rule {self.group_rule!r}: choose one of {', '.join(groups.RULES)}")
        if self.max_per_class is not None and self.max_per_class < 1:
            raise UsageError(f"max per class {self.max_per_class}: it must be at least 1")

    @property
    def name(self) -> str:
        """Name the split: ``cifar100-lt-exp-if100``, with the seed and the bound where they are not the default.

        >>> Spec("cifar100", 100).name, Spec("cifar10", 12.5, seed=1, max_per_class=500).name
        ('cifar100-lt-exp-if100', 'cifar10-lt-exp-if12.5-seed1-max500')
        """
        seed = f"-seed{self.seed}" if self.seed else ""
        bound = f"-max{self.max_per_class}" if self.max_per_class is not None else ""
        factor = profiles.factor_text(self.imbalance_factor)
        return f"{self.source}-lt-{self.profile}-if{factor}{seed}{bound}"

    @property
    def protocol(self) -> dict[str, Any]:
        """Return the protocol as the manifest records it."""
        return {
            "name": "ldam",
            "version": 1,
            "params": {
                "profile": self.profile,
                "imbalance_factor": float(self.imbalance_factor),
                "seed": self.seed,
                "max_per_class": self.max_per_class,
            },
            "rng": "numpy.RandomState/MT19937",
            "rounding": "trunc",
        }


@dataclass(frozen=True)
class Built:
    """Report a build: its folder, its manifest, and whether it was there already and only verified."""

    folder: Path
    manifest: Manifest
    reused: bool


def select(spec: Spec, labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Select the training images of a split.

    n_max is the number of images that every class has (N / C for balanced sources), or `spec.max_per_class`.

    Args:
        spec: the split.
        labels: of the source's training images, original order, (n,).
        num_classes: C.

    Returns:
        Positions in `labels`, in the protocol's order, int64.
    """
    n_max = int(np.bincount(labels, minlength=num_classes).min())
    if spec.max_per_class is not None:
        n_max = min(n_max, spec.max_per_class)
    counts = profiles.class_counts(
        spec.profile, num_classes=num_classes, n_max=float(n_max), imbalance_factor=spec.imbalance_factor
    )
    return protocols.ldam(labels, counts, seed=spec.seed)


def make_manifest(spec: Spec, source: Source) -> tuple[Manifest, dict[str, Samples]]:
    """Make the header and the rows of a split, without shards and without image digests."""
    train = source.splits["train"]
    chosen = select(spec, train.labels, len(source.class_names))
    rows = {"train": Samples(labels=train.labels[chosen], source_index=chosen)}
    for name, split in source.splits.items():
        if name != "train":
            rows[name] = Samples(labels=split.labels, source_index=np.arange(len(split.labels), dtype=np.int64))
    manifest = Manifest(
        name=spec.name,
        source=source.provenance,
        protocol=spec.protocol,
        group_rule=describe_rule(spec.group_rule),
        class_names=source.class_names,
        splits={name: _split(name, samples, len(source.class_names)) for name, samples in rows.items()},
        content_sha256=content_digest(source.id, rows),
        created_by={"ltdata": __version__},
        citation=(source.citation, _CITATION),
    )
    return manifest, rows


def build(
    spec: Spec,
    *,
    out: Path | None = None,
    data_dir: Path | None = None,
    workers: int = 1,
    unverified: bool = False,
    force: bool = False,
    progress: bool = False,
) -> Built:
    """Build a split into a folder, or verify the finished build that is there.

    Args:
        spec: the split.
        out: the folder; by default `spec.name` in the current folder.
        data_dir: folder or archive of the source; None looks into the cache folder, then downloads.
        workers: processes that write shards.
        unverified: accept source files whose digest is not the published one.
        force: build anew over an existing build.
        progress: show bars on a terminal.

    Raises:
        UsageError: a value is out of range, or the folder holds something else.
        SourceMissingError: the source's images are not there.
        MismatchError: the source, or the finished build, is not what it should be.
        OutputError: the folder cannot be written.
    """
    if workers < 1:
        raise UsageError(f"{workers} workers: at least 1 is needed")
    folder = _resolved(Path(out if out is not None else spec.name))
    if leftovers(folder):
        with exclusive(folder):
            tidy(folder)
    existing = _existing(folder, spec, unverified=unverified, force=force, progress=progress)
    if existing is not None:
        return existing
    with exclusive(folder):
        existing = _existing(folder, spec, unverified=unverified, force=force, progress=progress)
        if existing is not None:
            return existing  # another process built it while this one came in
        source = load_source(spec.source, data_dir=data_dir, unverified=unverified, progress=progress)
        with staged_folder(folder, replace=force) as staging:
            manifest = _write(spec, source, staging, workers=workers, progress=progress)
    return Built(folder, manifest, reused=False)


def _existing(folder: Path, spec: Spec, *, unverified: bool, force: bool, progress: bool) -> Built | None:
    """Return the finished and verified build at `folder`; None if the place is free or may be replaced."""
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise OutputError(f"{folder}: is a file; choose another --out")
    if not (folder / MANIFEST_NAME).exists():
        if any(folder.iterdir()):
            raise UsageError(f"{folder}: holds other files and no ltdata build; choose another --out")
        return None
    if force:
        foreign = _foreign(folder)
        if foreign:
            raise UsageError(f"{folder}: --force would delete {foreign}, which is no part of a build; move it away")
        return None
    manifest = read_manifest(folder)
    differences = _differences(manifest, spec, unverified=unverified)
    if differences:
        raise UsageError(
            f"{folder}: holds another build ({'; '.join(differences)}); choose another --out, or --force to replace it"
        )
    verify.verify(folder, progress=progress)
    return Built(folder, manifest, reused=True)


def _resolved(out: Path) -> Path:
    """Return the absolute path of the output, links followed."""
    try:
        folder = out.resolve()
    except (OSError, RuntimeError) as error:  # a link to itself, before Python 3.13
        raise OutputError(f"{out}: cannot be followed ({error}); choose another --out") from error
    if folder == Path.cwd():
        raise UsageError(f"--out {str(out)!r}: is the current folder; name one inside it")
    refuse_inside_build(folder)
    return folder


def _foreign(folder: Path) -> Path | None:
    """Return a file of the folder that no build writes; None if there is none."""
    own = {SAMPLES_NAME, index.INDEX_NAME}
    try:
        read_manifest(folder)
        own.add(MANIFEST_NAME)
    except MismatchError:  # a damaged one is ours if our rows lie beside it
        if (folder / SAMPLES_NAME).exists():
            own.add(MANIFEST_NAME)
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        if relative not in own and not shards.PATH_PATTERN.fullmatch(relative):
            return path
    return None


def _differences(manifest: Manifest, spec: Spec, *, unverified: bool) -> list[str]:
    """List what a finished build was made with that this command does not ask for."""
    here, asked = (
        {"source": source, **protocol["params"], "protocol": protocol.get("name"), "version": protocol.get("version")}
        for source, protocol in ((manifest.source["id"], manifest.protocol), (spec.source, spec.protocol))
    )
    here["groups"], asked["groups"] = manifest.group_rule["name"], spec.group_rule
    differences = [
        f"{name.replace('_', ' ')} {here.get(name)}, asked for {value}"
        for name, value in asked.items()
        if here.get(name) != value
    ]
    if not manifest.verified and not unverified:
        differences.append("made from files without the published digest, --unverified not given")
    return differences


def _write(spec: Spec, source: Source, staging: Path, *, workers: int, progress: bool) -> Manifest:
    """Write shards, index, rows and header into the staging folder, the header last."""
    manifest, rows = make_manifest(spec, source)
    plans = {
        name: shards.plan(
            name, samples.labels, class_groups=manifest.groups if name == "train" else None, seed=spec.seed
        )
        for name, samples in rows.items()
    }
    jobs = [
        partial(_job, plan, rows[name], source.splits[name]) for name, in_split in plans.items() for plan in in_split
    ]
    total = sum(len(samples) for samples in rows.values())
    with tqdm(total=total, unit=" images", desc=spec.name, disable=None if progress else True) as bar:
        written = shards.write_all(
            jobs, staging, workers=workers, on_shard=lambda report: bar.update(report.shard.num_samples)
        )
    reports = iter(written)
    stored = {name: [next(reports) for _ in in_split] for name, in_split in plans.items()}
    full = {name: _with_digests(samples, plans[name], stored[name]) for name, samples in rows.items()}
    splits = {name: _split(name, samples, manifest.num_classes, stored[name]) for name, samples in full.items()}
    manifest = replace(manifest, splits=splits)
    located = {
        name: [
            index.Located(plan.rows, report.offsets, report.sizes)
            for plan, report in zip(plans[name], stored[name], strict=True)
        ]
        for name in full
    }
    write_atomic(staging / index.INDEX_NAME, index.to_bytes(index.columns(manifest, full, located)))
    write_atomic(staging / SAMPLES_NAME, b"".join(rows_to_bytes(name, samples) for name, samples in full.items()))
    write_atomic(staging / MANIFEST_NAME, manifest.to_json().encode())
    return manifest


def _job(plan: shards.ShardPlan, samples: Samples, split: SourceSplit) -> shards.ShardJob:
    return shards.ShardJob(
        path=plan.path,
        keys=tuple(shards.key(row) for row in plan.rows.tolist()),
        labels=samples.labels[plan.rows],
        pixels=split.pixels[samples.source_index[plan.rows]],
    )


def _split(name: str, samples: Samples, num_classes: int, stored: list[shards.WrittenShard] | None = None) -> Split:
    return Split(
        num_samples=len(samples),
        class_counts=tuple(np.bincount(samples.labels, minlength=num_classes).tolist()),
        samples_sha256=sha256_bytes(rows_to_bytes(name, samples)),
        shards=tuple(report.shard for report in stored or ()),
    )


def _with_digests(samples: Samples, plans: list[shards.ShardPlan], stored: list[shards.WrittenShard]) -> Samples:
    digests = [""] * len(samples)
    for plan, report in zip(plans, stored, strict=True):
        for row, digest in zip(plan.rows.tolist(), report.image_sha256, strict=True):
            digests[row] = digest
    return Samples(labels=samples.labels, source_index=samples.source_index, sha256=tuple(digests))


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
        "bytes": sum(shard.bytes for split in manifest.splits.values() for shard in split.shards),
        "verified_source": manifest.verified,
        "content_sha256": manifest.content_sha256,
    }
