"""Subsets: part of a split, by shot group, expert, class or size; as rows, as shards, or as a view.

A subset keeps the protocol's order, and, unless classes are numbered anew, the labels: classes left out have no image.
Shot groups stay those of the whole, so that a class is not few-shot because a subset is small. A view holds rows and
a pointer: its images are read out of the shards of the build that it shows, and shards without any are not opened.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata import __version__, engine, planner, protocols, shards
from ltdata.build import write_images, write_rows
from ltdata.catalog import Found
from ltdata.errors import SourceMissingError, UsageError
from ltdata.groups import GROUP_NAMES
from ltdata.labels import MOST_IMAGES, check_integer, check_number, check_seed
from ltdata.lists import text_fault
from ltdata.manifest import Manifest, check_name, make_split
from ltdata.output import new_folder, resolve
from ltdata.samples import content_digest
from ltdata.stored import stored

FORMS = ("manifest", "shards", "view")


@dataclass(frozen=True)
class Part:
    """Say which part of a split to keep; every condition that is given must hold.

    Attributes:
        groups: shot groups, of `GROUP_NAMES`.
        expert: number from 1; its target categories are kept.
        thresholds: of the planner ``mass``, for `expert`; empty: by shot group, all, medium and few, few.
        classes: names or labels.
        class_size: least and largest number of training images of a class.
        per_class: at most so many training images of a class, drawn with `seed`.
        images: so many training images in all, every class in its share.
        seed: 0 .. 2**32 - 1.
    """

    groups: tuple[str, ...] = ()
    expert: int | None = None
    thresholds: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    class_size: tuple[int, int] | None = None
    per_class: int | None = None
    images: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.groups if name not in GROUP_NAMES]
        if unknown:
            raise UsageError(f"group {unknown[0]!r}: choose from {', '.join(GROUP_NAMES)}")
        if self.thresholds and self.expert is None:
            raise UsageError("--thresholds: cut the classes for an expert; give --expert with them")
        words = "a share of the images, 0 .. 1,"
        shares = tuple([check_number("thresholds", share, words, low=0, high=1) for share in self.thresholds])
        object.__setattr__(self, "thresholds", shares)
        if self.class_size is not None:
            low, high = (check_integer("class size", size, 0, MOST_IMAGES) for size in self.class_size)
            object.__setattr__(self, "class_size", (low, high))
            if low > high:
                raise UsageError(f"class size {low}-{high}: the first must not be the larger")
        for name in ("per_class", "images", "expert"):
            if getattr(self, name) is not None:
                value = check_integer(name.replace("_", " "), getattr(self, name), 1, MOST_IMAGES)
                object.__setattr__(self, name, value)
        object.__setattr__(self, "seed", check_seed(self.seed))
        if not self.words:
            raise UsageError(
                "a subset of everything: say by --group, --expert, --class, --class-size, --per-class or --images"
            )

    @property
    def params(self) -> dict[str, Any]:
        """Return what is given, as the manifest records it."""
        given = {
            "groups": list(self.groups),
            "expert": self.expert,
            "thresholds": list(self.thresholds),
            "classes": list(self.classes),
            "class_size": list(self.class_size) if self.class_size is not None else None,
            "per_class": self.per_class,
            "images": self.images,
        }
        kept = {name: value for name, value in given.items() if value not in (None, [])}
        return kept | {"seed": self.seed}

    @property
    def words(self) -> list[str]:
        """Return what is given, as names have it.

        >>> Part(groups=("medium", "few"), per_class=20).words
        ['medium', 'few', 'max20']
        """
        return [
            *self.groups,
            *([f"expert{self.expert}"] if self.expert is not None else []),
            *([f"{len(self.classes)}classes"] if self.classes else []),
            *(["size{}to{}".format(*self.class_size)] if self.class_size is not None else []),
            *([f"max{self.per_class}"] if self.per_class is not None else []),
            *([f"n{self.images}"] if self.images is not None else []),
            *([f"seed{self.seed}"] if self.seed else []),
        ]


def kept_classes(manifest: Manifest, part: Part) -> NDArray[np.bool_]:
    """Tell which classes a part keeps, bool (C,).

    Raises:
        UsageError: a class or an expert is unknown, or no class is left.
    """
    counts = manifest.class_counts
    kept = np.ones(manifest.num_classes, dtype=bool)
    if part.groups:
        kept &= np.isin(manifest.groups, [GROUP_NAMES.index(name) for name in part.groups])
    if part.expert is not None:
        targets = np.stack([manifest.groups >= first for first in range(len(GROUP_NAMES))])
        if part.thresholds:
            targets = planner.target_categories(counts, planner="mass", thresholds=part.thresholds)
        if part.expert > len(targets):
            raise UsageError(f"expert {part.expert}: there are {len(targets)}; give more --thresholds")
        kept &= targets[part.expert - 1]
    if part.classes:
        kept &= _named(manifest, part.classes)
    if part.class_size is not None:
        kept &= (counts >= part.class_size[0]) & (counts <= part.class_size[1])
    if not (kept & (counts > 0)).any():
        raise UsageError(f"{manifest.name}: no class with images has all of {', '.join(part.words)}")
    return kept


def _named(manifest: Manifest, classes: Sequence[str]) -> NDArray[np.bool_]:
    """Find classes by name, else by label."""
    label_of = {name: label for label, name in enumerate(manifest.class_names)}
    named = np.zeros(manifest.num_classes, dtype=bool)
    for word in classes:
        label = label_of.get(word, int(word) if word.isascii() and word.isdigit() and len(word) <= 9 else -1)
        if not 0 <= label < manifest.num_classes:
            raise UsageError(f"class {word!r}: {manifest.name} has no such name, and no such label")
        named[label] = True
    return named


def make_subset(manifest: Manifest, part: Part, *, relabel: bool = False, name: str | None = None) -> Manifest:
    """Make the manifest of a subset, with its rows; no image is touched.

    Splits other than ``train`` keep all images of the classes that are kept.

    Args:
        manifest: of the whole, with its rows.
        part: to keep.
        relabel: number the kept classes anew, 0, 1, 2, ... in their old order.
        name: of the subset; None derives one.

    Raises:
        UsageError: nothing is left, or more images are asked for than there are.
    """
    if name is not None:
        check_name(name)
    kept = kept_classes(manifest, part)
    new_label = np.cumsum(kept) - 1 if relabel else np.arange(manifest.num_classes)
    rows = {}
    for split, samples in manifest.rows.items():
        chosen = np.flatnonzero(kept[samples.labels])
        if split == "train":
            chosen = chosen[_drawn(samples.labels[chosen], part, manifest)]
        if len(chosen):
            taken = samples.take(chosen)
            rows[split] = replace(taken, labels=new_label[taken.labels].astype(np.int64))
    classes = np.flatnonzero(kept) if relabel else np.arange(manifest.num_classes)
    class_names = tuple([manifest.class_names[label] for label in classes.tolist()])
    return replace(
        manifest,
        name=name or "-".join([manifest.name, *part.words, *(["relabelled"] if relabel else [])]),
        protocol={
            "name": "subset",
            "version": 1,
            "params": part.params
            | {"relabel": relabel, "of": manifest.name, "of_content_sha256": manifest.content_sha256},
            "of": dict(manifest.protocol),
        },
        class_names=class_names,
        superclass_names=tuple([manifest.superclass_names[label] for label in classes.tolist()])
        if manifest.superclass_names
        else (),
        class_groups=tuple(manifest.groups[classes].tolist()),
        splits={split: make_split(split, samples, num_classes=len(classes)) for split, samples in rows.items()},
        content_sha256=content_digest(str(manifest.source["id"]), rows),
        created_by={"ltdata": __version__},
        view_of=None,
        samples=rows,
    )


def _drawn(labels: NDArray[np.int64], part: Part, manifest: Manifest) -> NDArray[np.int64]:
    """Draw training images by size; return positions in `labels`, ascending."""
    drawn = np.arange(len(labels), dtype=np.int64)
    if part.per_class is not None:
        counts = np.minimum(np.bincount(labels, minlength=manifest.num_classes), part.per_class)
        drawn = np.sort(protocols.ldam(labels, counts, seed=part.seed))
    if part.images is not None:
        if part.images > len(drawn):
            raise UsageError(f"images {part.images}: {manifest.name} has {len(drawn)} of these")
        drawn = np.sort(drawn[shards.spread(labels[drawn], seed=part.seed)[: part.images]])
    return drawn


def write_subset(
    whole: Found,
    subset: Manifest,
    out: Path,
    *,
    form: str | None = None,
    workers: int = 1,
    force: bool = False,
    progress: bool = False,
) -> Manifest:
    """Write a subset into a folder; return its manifest.

    Args:
        whole: where the subset comes from.
        subset: as `make_subset` made it.
        out: the folder.
        form: one of `FORMS`; None: a view where the whole has images, else a manifest.
        workers: processes that write shards.
        force: replace a build that stands there.
        progress: show a bar on a terminal.

    Raises:
        SourceMissingError: the whole has no images, and the form needs them.
        OutputError: the folder cannot be written.
    """
    engine.check_workers(workers)
    base = _base(whole)
    keep = [whole.folder, base[0] if base is not None else None]
    if form is None:
        form = "view" if base is not None else "manifest"
    if form not in FORMS:
        raise UsageError(f"form {form!r}: choose one of {', '.join(FORMS)}")
    if form != "manifest" and base is None:
        raise SourceMissingError(
            f"{whole.manifest.name}: has no images here; subset a built folder, or use --as manifest"
        )
    if base is None or form == "manifest":
        plain = {split: replace(samples, sha256=None) for split, samples in subset.rows.items()}
        with new_folder(out, force=force, keep=keep) as staging:
            return write_rows(replace(subset, storage=None), plain, staging)
    folder, content = base
    if form == "view":
        path = _way(resolve(out), folder.resolve())
        with new_folder(out, force=force, keep=keep) as staging:
            return write_rows(replace(subset, view_of={"path": path, "content_sha256": content}), subset.rows, staging)
    shown = replace(subset, view_of={"path": str(folder.resolve()), "content_sha256": content})
    images = stored(folder, shown, subset.rows)
    with new_folder(out, force=force, keep=keep) as staging, engine.start(workers) as crew:
        return write_images(
            subset,
            subset.rows,
            images,
            staging,
            crew=crew,
            seed=int(subset.protocol["params"]["seed"]),
            progress=progress,
        )


def _way(start: Path, end: Path) -> str:
    """Return the way from one folder to another: relative, so that both can move, but for Windows' other drives.

    Raises:
        UsageError: a manifest cannot hold it.
    """
    try:
        way = Path(os.path.relpath(end, start)).as_posix()
    except ValueError:
        way = end.as_posix()
    fault = text_fault(way)
    if fault:
        raise UsageError(f"{end}: the way there {fault}, so no view can name it; rename the folder, or use --as shards")
    return way


def _base(whole: Found) -> tuple[Path, str] | None:
    """Return the folder whose shards hold the images of a split, and its content digest; None if there is none."""
    if whole.folder is None:
        return None
    view = whole.manifest.view_of
    if view is not None:
        return whole.folder / view["path"], view["content_sha256"]
    return (whole.folder, str(whole.manifest.content_sha256)) if whole.manifest.has_images else None
