"""Thumbnails of head, middle and tail classes, as data: URIs, each made anew so that no EXIF comes along."""

import io
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltdata import access
from ltdata.errors import MismatchError, UsageError
from ltdata.images import decode
from ltdata.manifest import Manifest

CLASSES_PER_PART = 5
IMAGES_PER_CLASS = 6
_SIDE_PX = 96  # photographs are scaled down to it
_PIXELLED_PX = 64  # up to here every pixel is kept, as PNG
_QUALITY = 70  # of JPEG: 90 thumbnails are 250 KB
_MOST_BYTES = 900_000  # of all of them together, as they stand in the page


@dataclass(frozen=True)
class Row:
    """Hold the thumbnails of one class.

    Attributes:
        part: ``head``, ``middle`` or ``tail``.
        label: of the class.
        images: data: URIs of its first images in the protocol's order.
    """

    part: str
    label: int
    images: tuple[str, ...]


@dataclass(frozen=True)
class Mosaic:
    """Hold the rows of a mosaic; pixelled where the images are so small that their pixels are shown."""

    rows: tuple[Row, ...]
    pixelled: bool


def make_mosaic(manifest: Manifest, folder: Path | None, *, what: str) -> Mosaic:
    """Read the first images of the largest, middle and smallest classes that have any.

    Raises:
        UsageError: no images belong to this split.
        MismatchError: an image is not what its row says, or cannot be decoded.
    """
    if folder is None or not (manifest.has_images or manifest.view_of is not None):
        raise UsageError(f"--mosaic: {what} has no images here; name a built folder with images, or leave it out")
    rows, pixelled, total = [], True, 0
    with access.open_images(folder, manifest, "train") as images:
        for part, labels in parts(manifest.class_counts).items():
            for label in labels:
                shown = []
                for row in np.flatnonzero(images.labels == label)[:IMAGES_PER_CLASS].tolist():
                    uri, small = _thumbnail(images.read(row), images.place(row))
                    pixelled &= small
                    total += len(uri)
                    if total <= _MOST_BYTES:
                        shown.append(uri)
                rows.append(Row(part, label, tuple(shown)))
    return Mosaic(tuple(rows), pixelled)


def parts(class_counts: NDArray[np.int64]) -> dict[str, list[int]]:
    """Choose the classes: the largest, those around the median, the smallest; none twice, none that is empty.

    >>> parts(np.array([9, 8, 0, 7]))
    {'head': [0], 'middle': [1], 'tail': [3]}
    """
    order = np.lexsort((np.arange(len(class_counts)), -class_counts))
    there = order[class_counts[order] > 0].tolist()
    each = min(CLASSES_PER_PART, max(1, len(there) // 3))
    start = (len(there) - each) // 2
    middle = there[start : start + each] if len(there) >= 3 else []
    return {"head": there[:each], "middle": middle, "tail": there[max(each, len(there) - each) :]}


def _thumbnail(data: bytes, place: str) -> tuple[str, bool]:
    """Make the data: URI of an image, and tell whether it kept every pixel."""
    from PIL import Image

    try:
        image = decode(data)
    except ValueError as error:
        raise MismatchError(f"{place}: is not a readable image ({error}); see ltdata verify") from error
    out = io.BytesIO()
    small = max(image.size) <= _PIXELLED_PX
    if small:
        image.save(out, "PNG", optimize=True)
    else:
        image.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
        image.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/{'png' if small else 'jpeg'};base64,{b64encode(out.getvalue()).decode()}", small
