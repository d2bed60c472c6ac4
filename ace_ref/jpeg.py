"""Photographs for training: from a file's bytes to pixels, to a resized random crop, to a short side, on one thread.

Every function is pure and lets go of the interpreter's lock while it decodes and resizes, so a pool of threads can
call it; keep torch to one thread (`torch.set_num_threads(1)`), or its threads and the pool's wait for each other.
Pixels are those that Pillow decodes (with libjpeg-turbo, as its wheels have it), bit for bit, whether simplejpeg is
installed or not; resizing is torchvision's, an antialiased triangle filter.

Measured on an AMD EPYC (Zen 4), 227 photographs of ImageNet (most 500x375, 115 KB, 3 of 4 without chroma subsampling),
boxes of `ace_ref.augment.resized_boxes`, CPU milliseconds per image, each step by itself:

| step | ms |
|---|---|
| decode all of it: Pillow, OpenCV, simplejpeg | 1.59, 1.35, 1.24 |
| decode no rows below the box: simplejpeg | 1.12 |
| decode the box alone: TurboJPEG 3, which no wheel has as a library; DALI | 1.02, 1.02 |
| the Huffman code in it, which none of them can skip | 0.82 |
| resize to 224: Pillow, torch from planes, torch from pixels, DALI | 0.92, 0.42, 0.17, 0.95 |
| both on 2 threads: Pillow, DALI 2.4, here with Pillow, with simplejpeg | 2.6, 1.95, 2.15, 1.45 |

So the rows below the box are not decoded: the header of a baseline file is told a smaller height, and any decoder
stops there. Decoding at half size (DCT scaling) is not offered: 1.3 times as fast where a box is large enough for it,
but with differences up to 60 of 255.

>>> import io
>>> file = io.BytesIO()
>>> Image.new("RGB", (500, 375)).save(file, "JPEG")
>>> resized_crop(file.getvalue(), lambda height, width: (0, 0, height // 2, width), side_px=224).shape
(224, 224, 3)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from ltdata import images

Box = tuple[int, int, int, int]  # top, left, rows, columns
Pixels = NDArray[np.uint8]  # RGB, (height, width, 3), 0-255

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers SOF0 to SOF15; between them lie tables
_BASELINE = frozenset({0xC0, 0xC1})
_ALONE = frozenset({0x01, *range(0xD0, 0xD9), 0xFF})  # markers without a length (TEM, RST0 to RST7, SOI), filling
_VERSIONED = frozenset({0xE0, 0xEE})  # segments of JFIF and Adobe, in whose first 9 bytes Pillow looks for a version
_SCAN, _RESTARTS, _END = 0xDA, 0xDD, b"\xff\xd9"


def size(data: bytes) -> tuple[int, int]:
    """Read height and width in pixels from a JPEG's header; of another kind, or an odd one, by decoding it.

    Raises:
        ValueError: as `decode`, for what has to be decoded.
    """
    frame = _frame(data)
    if frame is None:
        height, width, _ = _decoded(data).shape
        return height, width
    return frame.height, frame.width


def decode(data: bytes) -> Pixels:
    """Decode an image of any kind that `ltdata.images.decode` takes.

    Raises:
        ValueError: it is in none of the formats, cut off, broken, or larger than Pillow's bound against bombs.
    """
    frame = _frame(data)
    return _rows(data, frame, frame.height) if frame is not None and frame.plain else _decoded(data)


def resized_crop(data: bytes, box_of: Callable[[int, int], Box], *, side_px: int, out: Pixels | None = None) -> Pixels:
    """Decode an image, cut out a box and resize it to a square, as torchvision's `resized_crop` with antialiasing.

    Args:
        data: of a file, JPEG or another that `decode` takes.
        box_of: called once, with height and width in pixels; gives top, left, rows and columns of a box inside them.
        side_px: height and width of the result.
        out: where to put the result, uint8 (side, side, 3); None makes a new array.

    Raises:
        ValueError: as `decode`, or the box is empty or reaches outside the image.
    """
    frame = _frame(data)
    if frame is not None and frame.plain:
        top, left, rows, columns = _inside(box_of, frame.height, frame.width)
        pixels = _rows(data, frame, top + rows)
    else:
        pixels = _decoded(data)
        top, left, rows, columns = _inside(box_of, *pixels.shape[:2])
    return _resized(pixels[top : top + rows, left : left + columns], side_px, side_px, out)


def resized(data: bytes, *, least_px: int, most_px: int) -> Pixels:
    """Decode an image and resize it, so that its shorter side has a length in some range, as torchvision's `Resize`.

    An image whose shorter side has such a length stays as it is.

    Raises:
        ValueError: as `decode`, or the result would be larger than Pillow's bound, as of an image one pixel high.
    """
    pixels = decode(data)
    sides = pixels.shape[:2]
    short_side_px = min(max(min(sides), least_px), most_px)
    if short_side_px == min(sides):
        return pixels
    height, width = (int(short_side_px * side / min(sides)) for side in sides)
    if _too_large(height, width):
        raise ValueError(f"{sides[0]} x {sides[1]} pixels would be {height} x {width} with that shorter side")
    return _resized(pixels, height, width)


@dataclass(frozen=True)
class _Frame:
    """Hold what a JPEG's header says.

    Attributes:
        height: in pixels, 1 or more.
        width: in pixels, 1 or more.
        plain: baseline, 8 bits, grey or three colours, all in one scan, not cut off, not too large.
        height_at: byte where the height is written.
        reach_px: rows below a pixel that it can depend on, where chroma is interpolated; None where a decoder is not
            to stop early, because bytes that are skipped before a restart marker look like the end of what it needs.
    """

    height: int
    width: int
    plain: bool
    height_at: int
    reach_px: int | None


def _frame(data: bytes) -> _Frame | None:
    """Walk the markers of a JPEG up to its first scan; None where that is no JPEG or its header is odd."""
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    at, frames, restarts, short = 2, [], False, False
    try:
        while data[at] == 0xFF and data[at + 1] != _SCAN:
            code = data[at + 1]
            if code in _ALONE:
                at += 1 if code == 0xFF else 2
                continue
            if code in _FRAMES:
                frames.append(at)
            restarts |= code == _RESTARTS
            length = max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
            short |= code in _VERSIONED and length < 9
            at += 2 + length
        if data[at] != 0xFF or len(frames) != 1:
            return None
        start = frames[0]
        height, width = (int.from_bytes(data[n : n + 2], "big") for n in (start + 5, start + 7))
        colours = data[start + 9]
        reach_px = max(data[start + 11 + 3 * n] & 15 for n in range(colours))  # the vertical sampling factor
        plain = (
            data[start + 1] in _BASELINE
            and data[start + 4] == 8
            and colours in {1, 3}
            and data[at + 4] == colours  # in this scan
            and data.rfind(_END, at) >= 0
            and not _too_large(height, width)
            and not short
        )
    except (IndexError, ValueError):
        return None
    return _Frame(height, width, plain, start + 5, None if restarts else reach_px) if height and width else None


def _too_large(height: int, width: int) -> bool:
    return height * width > (Image.MAX_IMAGE_PIXELS or math.inf)


def _inside(box_of: Callable[[int, int], Box], height: int, width: int) -> Box:
    top, left, rows, columns = box = box_of(height, width)
    if not (0 <= top < top + rows <= height and 0 <= left < left + columns <= width):
        raise ValueError(f"box {box} (top, left, rows, columns) is not inside an image of {height} x {width} pixels")
    return box


def _rows(data: bytes, frame: _Frame, count: int) -> Pixels:
    """Decode at least the first rows of a plain JPEG: (count or more, width, 3)."""
    count = frame.height if frame.reach_px is None else min(count + frame.reach_px, frame.height)
    if count < frame.height:
        view = memoryview(data)
        data = b"".join((view[: frame.height_at], count.to_bytes(2, "big"), view[frame.height_at + 2 :]))
    decode_jpeg = _simplejpeg()
    if decode_jpeg is not None:
        out = np.empty((count, frame.width, 3), np.uint8)
        if _fill(out, decode_jpeg, data):
            return out
    return _decoded(data)  # Pillow judges what is broken, so that it is the same without simplejpeg


def _fill(out: Pixels, decode_jpeg: Callable[..., Pixels], data: bytes) -> bool:
    """Decode a JPEG with simplejpeg; False where anything is wrong with it, but for bytes after its last row.

    Not strict, simplejpeg also passes over errors after which it leaves rows as they were in memory.
    """
    try:
        decode_jpeg(data, buffer=out)
    except ValueError as error:
        # The text is that of the first warning, or of an error after it: so all rows are in `out`, without any.
        return str(error).endswith("extraneous bytes before marker 0xd9")
    return True


@cache
def _simplejpeg() -> Callable[..., Pixels] | None:
    """Return simplejpeg's decoder, where it is installed and fills a buffer before it raises, which nobody promises."""
    try:
        simplejpeg = import_module("simplejpeg")
    except ImportError:
        return None
    decode_jpeg: Callable[..., Pixels] = simplejpeg.decode_jpeg
    data: bytes = simplejpeg.encode_jpeg(np.arange(64 * 8 * 3, dtype=np.uint8).reshape(64, 8, 3))
    frame = _frame(data)
    if frame is None:
        return None
    above = data[: frame.height_at] + (16).to_bytes(2, "big") + data[frame.height_at + 2 :]
    out = np.zeros((16, 8, 3), np.uint8)
    filled = _fill(out, decode_jpeg, above) and np.array_equal(out, decode_jpeg(data)[:16])
    return decode_jpeg if filled else None


def _decoded(data: bytes) -> Pixels:
    return np.array(images.decode(data))


def _resized(pixels: Pixels, height: int, width: int, out: Pixels | None = None) -> Pixels:
    # unsqueeze, not numpy's [None]: that axis has stride 0, from which torch does not see that the colours of a pixel
    # lie together; it then works on planes, which takes 2.5 times as long.
    planes = torch.from_numpy(pixels).unsqueeze(0).permute(0, 3, 1, 2)
    scaled: Pixels = F.interpolate(planes, (height, width), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    if out is None:
        return scaled
    out[...] = scaled
    return out
