"""The catalog: what a word on the command line means as a split.

A built folder, a manifest without images, a view, a manifest file, or a pinned split's name; in that order.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from ltdata import pinned
from ltdata.errors import MismatchError, SourceMissingError
from ltdata.manifest import MANIFEST_NAME, Manifest
from ltdata.reader import read_manifest, read_samples


@dataclass(frozen=True)
class Found:
    """Hold a split's manifest, and its folder where it has one."""

    manifest: Manifest
    folder: Path | None


def find(what: str, *, rows: bool = False) -> Found:
    """Find the split that a word means.

    Args:
        what: a folder, a manifest file, or a pinned split's name.
        rows: read the rows too, checked against the header.

    Raises:
        SourceMissingError: it means no split, or only a header is there and rows are wanted.
        MismatchError: it is not readable.
    """
    path = Path(what)
    if not os.path.isdir(path) and path.name == MANIFEST_NAME:  # noqa: PTH112 - takes names that no file can have
        path = path.parent
    if os.path.isdir(path):  # noqa: PTH112 - as above
        manifest = read_manifest(path)
        return Found(replace(manifest, samples=read_samples(path, manifest)) if rows else manifest, path)
    if os.path.isfile(path):  # noqa: PTH113 - as above
        try:
            manifest = Manifest.from_json(path.read_text(encoding="utf-8", errors="replace"), origin=what)
        except OSError as error:
            raise SourceMissingError(f"{what}: cannot be read ({error.strerror or error})") from error
        if not rows:
            return Found(manifest, None)
        raise MismatchError(f"{what}: a header without its rows; name the folder that has both")
    if what in pinned.names():
        manifest = pinned.load(what)
        return Found(replace(manifest, samples=manifest.rows) if rows else manifest, None)
    raise SourceMissingError(
        f"{what}: no such folder, manifest file or pinned split; ltdata list shows the pinned ones"
    )
