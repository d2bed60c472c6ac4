"""Images that cannot be stored or decoded: found before anything is chosen, left out, and listed in the manifest.

What is built of the others is what would be built had the bad ones never been there: a profile draws its class sizes
from good images alone, and of a list the good rows stay in their order. Which images are good is said by the decoder,
so the manifest names that too.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ltdata import images
from ltdata.engine import Engine
from ltdata.errors import MismatchError, UsageError
from ltdata.images import Checked, Files
from ltdata.lists import printable
from ltdata.manifest import Manifest
from ltdata.sources import Source, SourceSplit

KEY = "skipped"  # of the manifest's source record
_AT_ONCE = 64  # images that a worker checks: a fifth of a second of photographs


def without_bad(source: Source, crew: Engine, *, max_side_px: int | None = None, progress: bool = False) -> Source:
    """Decode every image of a source, and leave out those that cannot be.

    Args:
        source: its images are files.
        crew: who decodes them.
        max_side_px: as they will be stored, see `Files`.
        progress: show a bar on a terminal.

    Raises:
        UsageError: the images are no files.
        MismatchError: a split, or a class of the training images, has none left.
    """
    splits, bad = {}, []
    with tqdm(
        total=sum(len(split.labels) for split in source.splits.values()),
        unit=" images",
        desc="check",
        disable=None if progress else True,
    ) as bar:
        for name, split in source.splits.items():
            if not isinstance(split.images, Files):
                raise UsageError(f"{source.id}: its images are no files, of which some could be bad")
            files = replace(split.images, folder=split.images.folder.absolute(), max_side_px=max_side_px)
            found: list[Checked] = []
            with closing(crew.map(images.check, _parts(files))) as checked:
                for part in checked:
                    found += part
                    bar.update(len(part))
            good = np.flatnonzero([each.fault is None for each in found])
            skipped = [_record(name, split, row, each) for row, each in enumerate(found) if each.fault is not None]
            _refuse_emptied(source, name, split.labels[good], skipped)
            bad += skipped
            files = replace(files, sha256=tuple([each.sha256 for each in found]))
            splits[name] = replace(split, images=files).take(good)
    if not bad:
        return replace(source, splits=splits)
    record = {"images": len(bad), "decoder": images.decoder(), "list": bad}
    return replace(source, splits=splits, provenance={**source.provenance, KEY: record})


def _parts(files: Files) -> Iterator[Files]:
    for start in range(0, len(files), _AT_ONCE):
        yield files.take(np.arange(start, min(start + _AT_ONCE, len(files))))


def _record(name: str, split: SourceSplit, row: int, checked: Checked) -> dict[str, Any]:
    assert split.paths is not None  # noqa: S101 - for the type checker: images that are files have paths
    why = printable(str(checked.fault))
    return {"split": name, "path": split.paths[row], "label": int(split.labels[row]), "why": why}


def _refuse_emptied(source: Source, name: str, labels: NDArray[np.int64], skipped: list[dict[str, Any]]) -> None:
    """Refuse a split that has no image left, or a class without a training image."""
    if not skipped:
        return
    first, what = skipped[0], f"{len(skipped):,} {name} images"
    emptied = np.setdiff1d([each["label"] for each in skipped], labels)
    if len(labels) and name == "train" and len(emptied):
        label = int(emptied[0])
        own = [each for each in skipped if each["label"] == label]
        first, what = own[0], f"{len(own):,} training images of class {label}, {source.class_names[label]},"
    elif len(labels):
        return
    raise MismatchError(
        f"{source.id}: none of the {what} can be stored, the first {first['path']} {first['why']}; mend them, or take "
        "them out of the source"
    )


def listed(manifest: Manifest) -> list[dict[str, Any]]:
    """List the images that were left out: split, path, label, and why.

    Raises:
        MismatchError: the manifest's record of them is not readable.
    """
    try:
        found = manifest.source[KEY]["list"] if KEY in manifest.source else []
        return [{key: each[key] for key in ("split", "path", "label", "why")} for each in found]
    except (KeyError, TypeError) as error:
        raise MismatchError(f"{manifest.name}: its record of skipped images is not readable; build it again") from error


def places(manifest: Manifest) -> list[tuple[str, str]]:
    """Return split and path of the images that were left out, which a later decoder may say other words about."""
    return [(str(each["split"]), str(each["path"])) for each in listed(manifest)]
