"""Where listed images lie on the disk, under whichever of the usual layouts; and which of them do not."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ltdata.errors import SourceMissingError

_SHOWN = 5  # missing files named in an error


@dataclass(frozen=True)
class Located:
    """Say where images lie under a folder, and which of them do not."""

    places: tuple[str, ...]
    missing: tuple[str, ...]


def locate(folder: Path, paths: tuple[str, ...], layouts: tuple[Callable[[str], str], ...]) -> Located:
    """Find where images lie on the disk, under the layout that has most of a sample of them.

    Each folder is listed once, which on network disks is far quicker than asking for every file.

    Args:
        folder: of the images.
        paths: as the list names them.
        layouts: each gives the path on the disk, relative to `folder`.
    """
    listings: dict[str, frozenset[str]] = {}

    def is_there(path: str) -> bool:
        parent, _, name = path.rpartition("/")
        if parent not in listings:
            try:
                listings[parent] = frozenset(os.listdir(folder / parent))  # noqa: PTH208 - names are all it needs
            except OSError:
                listings[parent] = frozenset()
        return name in listings[parent]

    sample = paths[:: max(1, len(paths) // 64)]
    layout = max(layouts, key=lambda form: sum(map(is_there, map(form, sample))))
    places = tuple([layout(path) for path in paths])
    return Located(places, tuple([place for place in places if not is_there(place)]))


def refuse_missing(folder: Path, splits: Iterable[Located]) -> None:
    """Refuse a source some of whose images are not there.

    Raises:
        SourceMissingError: counts all that are missing, and names the first.
    """
    located = list(splits)
    missing = [place for split in located for place in split.missing]
    if missing:
        total = sum(len(split.places) for split in located)
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise SourceMissingError(
            f"{folder}: {len(missing):,} of {total:,} images are missing: {shown}; complete the folder, name another "
            "with --data-dir, or build without images with --manifest-only"
        )
