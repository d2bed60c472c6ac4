"""Small photographs, and folders of them, for tests of data sets whose images are files."""

import io
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
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
