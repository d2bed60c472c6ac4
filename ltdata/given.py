"""What is given to be compared or identified: one of ltdata's splits, or anyone's file, seen the same way."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ltdata import catalog, formats
from ltdata.formats.foreign import ForeignSplit, from_samples
from ltdata.manifest import MANIFEST_NAME, Manifest


@dataclass(frozen=True)
class Given:
    """Hold what a word on the command line means.

    Attributes:
        name: as it was typed.
        form: what it is: ``pinned split``, ``folder``, ``manifest``, or a file's format, such as ``csv``.
        splits: rows by split; none where only a header is there.
        source: id of the source, where it says so.
        manifest: where it is one of ltdata's splits.
        about: what a file says of itself.
    """

    name: str
    form: str
    splits: Mapping[str, ForeignSplit]
    source: str | None = None
    manifest: Manifest | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return one name per class label, where it has them."""
        if self.manifest is not None:
            return self.manifest.class_names
        return tuple(map(str, self.about.get("class_names") or ()))


def read(what: str, *, header_alone: bool = False) -> Given:
    """Read a split of any kind: a folder, a manifest, a pinned split's name, or a file in a format that is known.

    Args:
        what: as it was typed.
        header_alone: take a manifest whose rows are not there, too.

    Raises:
        SourceMissingError: it means no split.
        UsageError: only its header is there, and the rows are wanted.
        MismatchError: it is not readable.
    """
    path = Path(what)
    if _is_foreign(path):
        foreign = formats.read(path)
        source = foreign.about.get("source")
        return Given(
            name=what,
            form=foreign.format,
            splits=foreign.splits,
            source=str(source.get("id")) if isinstance(source, Mapping) else source and str(source),
            about=foreign.about,
        )
    found = catalog.find(what, rows=not header_alone)
    if header_alone and found.folder is not None:
        found = catalog.find(what, rows=True)
    manifest = found.manifest
    return Given(
        name=what,
        form="folder" if found.folder is not None else "header" if is_file(path) else "pinned split",
        splits={name: from_samples(samples) for name, samples in (manifest.samples or {}).items()},
        source=str(manifest.source["id"]),
        manifest=manifest,
    )


def is_file(path: Path) -> bool:
    """Tell whether a file is there; a name that no file can have is none."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for such a name


def _is_foreign(path: Path) -> bool:
    """Tell whether a file, or a folder, is there that is no manifest of ltdata's."""
    if is_file(path):
        return not _is_header(path)
    return os.path.isdir(path) and not is_file(path / MANIFEST_NAME)  # noqa: PTH112 - as above


def _is_header(path: Path) -> bool:
    """Tell whether a file is a manifest: ours begin with `schema_version`, or have its name."""
    if path.name == MANIFEST_NAME:
        return True
    if path.suffix.lower() != ".json":
        return False
    try:
        with path.open("rb") as file:
            return b'"schema_version"' in file.read(64)
    except OSError:
        return False
