"""Small photographs, and folders of them, for tests of data sets whose images are files."""

import io
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@cache
def photo(seed: int = 0, *, size: tuple[int, int] = (20, 16), mode: str = "RGB", form: str = "JPEG") -> bytes:
    """Make the file of an image: soft noise, (width, height) in pixels."""
    width, height = size
    coarse = np.random.RandomState(seed).randint(0, 256, (4, 4, 3), dtype=np.uint8)
    return encoded(Image.fromarray(coarse).resize((width, height)).convert(mode), form)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def put(root: Path, files: Mapping[str, bytes]) -> Path:
    """Write files under a folder."""
    for path, data in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return root


def put_photos(root: Path, paths: Iterable[str]) -> Path:
    """Write a small photograph at every path: three different ones in turn."""
    return put(root, {path: photo(n % 3) for n, path in enumerate(paths)})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@dataclass(frozen=True)
class Photos:
    """Images for a shard that also do something to the process that reads them; workers unpickle them.

    Attributes:
        count: how many.
        pause_s: before each.
        deadly: ends the process after the first image; where it is a path, only until a file is there.
    """

    count: int
    pause_s: float = 0.0
    deadly: bool | Path = False

    def __len__(self) -> int:
        return self.count

    def take(self, positions: NDArray[np.int64]) -> "Photos":
        return replace(self, count=len(positions))

    def encoded(self) -> Iterator[tuple[bytes, str]]:
        for number in range(self.count):
            time.sleep(self.pause_s)
            yield photo(number % 3), "jpg"
            if isinstance(self.deadly, Path) and not self.deadly.exists():
                self.deadly.touch()
                os._exit(9)
            if self.deadly is True:
                os._exit(9)
