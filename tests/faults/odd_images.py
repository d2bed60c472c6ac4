"""Image files that are bad, each in a way of its own, and odd ones that are good."""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from conftest import READS_EVERYTHING
from numpy.typing import NDArray
from photos import encoded, photo
from PIL import Image

from ltdata.images import decode


@dataclass(frozen=True)
class Bad:
    """Describe a bad image.

    Attributes:
        name: for people.
        make: puts it at a place.
        why: what is said of it, a regular expression.
        found: who finds it where nobody skips: ``build``, or ``verify`` since a build copies bytes.
        code: the exit code there.
        scaled: whether it is an image after all where `--max-side` decodes any kind.
    """

    name: str
    make: Callable[[Path], object]
    why: str
    found: str = "build"
    code: int = 3
    scaled: bool = False


def of_bytes(name: str, data: bytes, why: str, found: str = "build", **more: Any) -> Bad:
    return Bad(name, partial(Path.write_bytes, data=data), why, found, **more)


def broken(name: str, data: bytes, why: str = "") -> Bad:
    """Describe a file that begins as a JPEG or PNG does, and cannot be decoded."""
    return of_bytes(name, data, rf"is not a readable image \(.*{why}", "verify")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 2, before: bytes = b"") -> bytes:
    """Make a PNG file of rows that have their filter bytes, with chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), before, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def grey_rows(pixels: NDArray[Any]) -> bytes:
    """Write pixels, (height, width), as unfiltered rows of a PNG, 16 bits big-endian."""
    return b"".join(b"\0" + row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels)


def flipped(data: bytes, at: int, bits: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


def of_size(side_px: int) -> bytes:
    """Return a JPEG whose header says so, over the scan of 40 x 30."""
    return JPEG[: FRAME + 5] + 2 * side_px.to_bytes(2, "big") + JPEG[FRAME + 9 :]


@cache
def rgb() -> Image.Image:
    return Image.open(io.BytesIO(photo(4, size=(40, 30), form="PNG"))).convert("RGB")


JPEG = encoded(rgb(), "JPEG", quality=90)
PROGRESSIVE = encoded(rgb(), "JPEG", progressive=True)
PNG = encoded(rgb(), "PNG")
SCAN = JPEG.index(b"\xff\xda")
FRAME = JPEG.index(b"\xff\xc0")
ZEROS = zlib.compress(bytes(1 << 22))  # four megabytes in four kilobytes

CUT = [
    *(broken(f"JPEG cut after {n} bytes", JPEG[:n]) for n in (3, 20, FRAME + 4, SCAN - 1, SCAN + 2, SCAN + 20)),
    broken("JPEG cut in the middle", JPEG[: len(JPEG) // 2], "[Tt]runcated"),
    broken("JPEG without its last byte", JPEG[:-1], "[Tt]runcated"),
    broken("JPEG without its end", JPEG[:-2], "[Tt]runcated"),
    *(broken(f"progressive JPEG cut at {n} %", PROGRESSIVE[: len(PROGRESSIVE) * n // 100]) for n in (10, 50, 75, 95)),
    *(broken(f"PNG cut after {n} bytes", PNG[:n]) for n in (8, 20, 33, 41, len(PNG) // 2, len(PNG) - 40)),
    broken("CMYK JPEG cut", encoded(rgb().convert("CMYK"), "JPEG")[:-30], "[Tt]runcated"),
]
BROKEN = [
    broken("JPEG of its first marker alone", b"\xff\xd8\xff" + bytes(500)),
    broken("JPEG of 0 rows", JPEG[: FRAME + 5] + b"\0\0" + JPEG[FRAME + 7 :]),
    broken("JPEG without tables", JPEG[:2] + JPEG[FRAME:]),
    broken("JPEG with a scan before its frame", JPEG[:2] + JPEG[SCAN:]),
    broken("JPEG of 12 bits", flipped(JPEG, FRAME + 4, 8 ^ 12)),
    broken("PNG of its signature alone", PNG[:8] + bytes(500)),
    broken("PNG of 0 x 0", png(0, 0, b"")),
    broken("PNG with a broken header", flipped(PNG, 18)),
    broken("PNG with a broken checksum of a text", png(4, 4, bytes(52), before=chunk(b"tEXt", b"a\0b")[:-1] + b"?")),
    broken("PNG without pixels", png(40, 30, b"")),
    broken("PNG of 4000 x 3000 with the pixels of 40 x 30", png(4000, 3000, bytes(30 * 121))),
    broken("PNG with a broken pixel stream", PNG[:60] + bytes(40) + PNG[100:]),
    broken("PNG of a kind of colour that none has", png(4, 4, bytes(100), colour=5)),
    broken("PNG with an unknown filter", png(4, 4, (b"\x09" + bytes(12)) * 4)),
]
BOMBS = [
    *(
        broken(f"PNG header of {side} x {side}", png(side, side, bytes(1000)), "decompression bomb")
        for side in (60_000, 10_000)  # of the second one Pillow only warns
    ),
    broken("JPEG header of 60000 x 60000", of_size(60_000), "decompression bomb"),
    *(
        broken(
            f"PNG whose {name.decode()} unpacks to 4 MB", png(4, 4, bytes(52), before=chunk(name, text)), "too large"
        )
        for name, text in ((b"zTXt", b"x\0\0" + ZEROS), (b"iTXt", b"x\0\1\0\0\0" + ZEROS))
    ),
]
OTHERS = [
    of_bytes("empty", b"", "is empty, so it is neither"),
    of_bytes("one byte", b"\xff", "begins with ff, so"),
    of_bytes("JPEG cut after two bytes", JPEG[:2], "begins with ff d8, so"),
    of_bytes("PNG cut after seven bytes", PNG[:7], "begins with 89 50 4e 47, so"),
    of_bytes("zeros", bytes(4096), "begins with 00 00 00 00, so"),
    of_bytes("text", b"see cat/1.jpg\n", "begins with 73 65 65 20, so"),
    of_bytes("a web page", b"<!doctype html><title>404 Not Found</title>", "begins with 3c 21 64 6f, so"),
    of_bytes("JSON", b'{"error": "rate limit"}', "begins with 7b 22 65 72, so"),
    of_bytes("a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\n", "begins with 76 65 72 73, so"),
    of_bytes("ZIP", b"PK\x03\x04" + bytes(60), "begins with 50 4b 03 04, so"),
    of_bytes("gzip over a JPEG", zlib.compress(JPEG, wbits=31), "begins with 1f 8b 08 00, so"),
    of_bytes("pickle", b"\x80\x04cos\nsystem\n", "begins with 80 04 63 6f, so"),
    of_bytes("line feed before a JPEG", b"\n" + JPEG, "begins with 0a ff d8 ff, so"),
    *(
        of_bytes(f"{form} called .jpg", photo(form=form), "begins with .* so it is neither JPEG nor PNG", scaled=True)
        for form in ("GIF", "WEBP", "BMP", "TIFF", "PPM")
    ),
    of_bytes(
        "TIFF of floats", encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "begins with 49 49 2a 00"
    ),
    of_bytes("EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", "begins with 25 21 50 53, so"),
]


def _socket(place: Path) -> None:
    with chdir(place.parent), socket.socket(socket.AF_UNIX) as opened:  # its path has at most 107 bytes
        opened.bind(place.name)


def _without_permission(place: Path) -> None:
    place.write_bytes(photo())
    place.chmod(0)


def _unread(name: str, make: Callable[[Path], object], why: str) -> Bad:
    return Bad(name, make, rf"cannot be read \({why}", code=4)


UNREAD = [
    _unread("link to nowhere", lambda place: place.symlink_to("nowhere.jpg"), "No such file"),
    _unread("link to itself", lambda place: place.symlink_to(place.name), "Too many levels"),
    _unread("link to a device", lambda place: place.symlink_to("/dev/zero"), "is no regular file"),
    _unread("link to a file below a file", lambda place: place.symlink_to("0.jpg/x.jpg"), "Not a directory"),
    _unread("pipe without a writer", os.mkfifo, "is no regular file"),
    _unread("socket", _socket, "No such device|is no regular file"),
    _unread("file that fails to be read", lambda place: place.symlink_to("/proc/self/mem"), "Input/output error"),
    *([] if READS_EVERYTHING else [_unread("file without permission", _without_permission, "Permission denied")]),
]
EVERY = [*UNREAD, *OTHERS, *CUT, *BROKEN, *BOMBS]


@dataclass(frozen=True)
class Good:
    """Describe an odd file that is a good image: its bytes, and what every reader sees, RGB (height, width, 3)."""

    name: str
    data: bytes
    pixels: NDArray[Any]


def grey(levels: NDArray[Any]) -> NDArray[np.uint8]:
    return np.repeat(levels.astype(np.uint8)[..., None], 3, axis=2)


def good_images() -> list[Good]:
    image, array = rgb(), np.asarray(rgb())
    ramp = np.linspace(0, 65535, 12).reshape(3, 4).astype(np.uint16)
    deep = np.dstack([ramp, ramp[::-1], ramp[:, ::-1]])
    bits = np.random.RandomState(0).rand(9, 17) < 0.5
    few, four = image.quantize(16), image.quantize(4)
    plain = np.asarray(decode(JPEG))
    alpha = image.copy()
    alpha.putalpha(Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(30, 40)))
    turned = Image.Exif()
    turned[0x0112] = 6
    exif = [b"Exif\0\0MM\0*", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(300), b"Exif"]

    def jpeg(name: str, data: bytes) -> Good:
        """Take what Pillow sees, whose libjpeg everyone has, as what is right."""
        return Good(name, data, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))

    def app1(payload: bytes) -> bytes:
        return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + JPEG[2:]

    return [
        jpeg("CMYK JPEG", encoded(image.convert("CMYK"), "JPEG")),
        jpeg("CMYK JPEG without Adobe's marker", _without(encoded(image.convert("CMYK"), "JPEG"), b"\xff\xee")),
        jpeg("CMYK JPEG, Adobe's marker says YCCK", _adobe(encoded(image.convert("CMYK"), "JPEG"), 2)),
        jpeg("RGB JPEG, Adobe's marker says no conversion", JPEG[:2] + b"\xff\xee\0\x0eAdobe\0d\0\0\0\0\0" + JPEG[2:]),
        jpeg("grey JPEG", encoded(image.convert("L"), "JPEG")),
        jpeg("progressive JPEG", PROGRESSIVE),
        jpeg("JPEG with restart markers", encoded(image, "JPEG", restart_marker_blocks=2)),
        jpeg("JPEG without subsampling", encoded(image, "JPEG", subsampling=0)),
        jpeg("JPEG with bytes after its end", JPEG + b"\r\n<!-- served by a proxy -->" + bytes(700)),
        jpeg("JPEG and a second one after it", JPEG + photo()),
        jpeg("JPEG of several pictures", encoded(image, "MPO", save_all=True, append_images=[image.rotate(90)])),
        jpeg("JPEG whose scan has fewer rows than its header says", of_size(64)),
        jpeg("JPEG of one pixel", encoded(image.crop((0, 0, 1, 1)), "JPEG")),
        jpeg("JPEG of 3000 x 1", encoded(Image.new("RGB", (3000, 1), (9, 99, 199)), "JPEG")),
        jpeg("JPEG with a colour profile of 100 kB", encoded(image, "JPEG", icc_profile=bytes(100_000))),
        jpeg("JPEG with a comment of 60 kB", encoded(image, "JPEG", comment=b"x" * 60_000)),
        Good("JPEG that is to be turned", encoded(image, "JPEG", exif=turned, quality=90), plain),
        *(Good(f"JPEG with broken EXIF {number}", app1(data), plain) for number, data in enumerate(exif)),
        Good("16-bit grey PNG", png(4, 3, grey_rows(ramp), depth=16, colour=0), grey(ramp >> 8)),
        Good("16-bit grey PNG, of Pillow", encoded(Image.fromarray(ramp), "PNG"), grey(ramp >> 8)),
        Good("16-bit RGB PNG", png(4, 3, grey_rows(deep.reshape(3, 12)), depth=16), (deep >> 8).astype(np.uint8)),
        Good("1-bit PNG", encoded(Image.fromarray(bits), "PNG"), grey(bits * 255)),
        Good("grey PNG", encoded(image.convert("L"), "PNG"), grey(np.asarray(image.convert("L")))),
        Good("grey PNG with alpha", encoded(alpha.convert("LA"), "PNG"), grey(np.asarray(alpha.convert("LA"))[..., 0])),
        Good("RGB PNG with alpha", encoded(alpha, "PNG"), array),
        Good("PNG with a transparent colour", encoded(image, "PNG", transparency=(1, 2, 3)), array),
        Good("palette PNG", encoded(few, "PNG"), np.asarray(few.convert("RGB"))),
        Good(
            "palette PNG with alpha", encoded(few, "PNG", transparency=bytes(range(16))), np.asarray(few.convert("RGB"))
        ),
        Good("palette PNG with a hole", encoded(few, "PNG", transparency=3), np.asarray(few.convert("RGB"))),
        Good("palette PNG of 2 bits", encoded(four, "PNG", bits=2), np.asarray(four.convert("RGB"))),
        Good("PNG of several pictures", encoded(image, "PNG", save_all=True, append_images=[image.rotate(90)]), array),
        Good("PNG with odd gamma", png(40, 30, _rows(array), before=chunk(b"gAMA", b"\0\0\0\1")), array),
        Good("PNG with bytes after its end", PNG + bytes(99), array),
        Good("PNG without its last chunk", PNG[:-12], array),
    ]


def _rows(array: NDArray[Any]) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in array)


def _without(data: bytes, marker: bytes) -> bytes:
    at = data.index(marker)
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


def _adobe(data: bytes, transform: int) -> bytes:
    at = data.index(b"\xff\xee") + 15
    return data[:at] + bytes([transform]) + data[at + 1 :]
