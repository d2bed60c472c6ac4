"""Images on their way into shards: pixels of a small source, files of a large one, members of existing shards.

Each kind gives, image by image, the bytes to store and their kind (``png`` or ``jpg``). Files that are JPEG or PNG,
by their first bytes and not by their name, are copied as they are; only `max_side_px` encodes anew. A part of a
source (`take`) is small and can be sent to another process, which does the reading.
"""

import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ltdata import png
from ltdata.errors import MismatchError, SourceMissingError
from ltdata.files import open_at_once, sha256_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = ("png", "jpg")
JPEG_QUALITY = 95
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # of Pillow; others run programs (EPS) or are rare
STORED_FORMATS = ("JPEG", "PNG")  # of those, what is copied as it is
_SIGNATURES = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png"}
_OPENING = threading.Lock()  # warnings.catch_warnings is the process's, not the thread's


class Images(Protocol):
    """Give images of one split."""

    def __len__(self) -> int:
        """Count them."""

    def take(self, positions: NDArray[np.int64]) -> "Images":
        """Return those at some positions, in that order."""

    def encoded(self) -> Iterator[tuple[bytes, str]]:
        """Yield the bytes to store and one of `SUFFIXES`, image by image."""


@dataclass(frozen=True)
class Pixels:
    """Hold images as pixels: RGB, uint8 (n, height, width, 3), 0-255; stored as PNG."""

    array: NDArray[np.uint8]

    def __len__(self) -> int:
        """Count them."""
        return len(self.array)

    def take(self, positions: NDArray[np.int64]) -> "Pixels":
        """Return those at some positions, in that order."""
        return Pixels(self.array[positions])

    def encoded(self) -> Iterator[tuple[bytes, str]]:
        """Yield each as a PNG file."""
        for pixels in self.array:
            yield png.encode(pixels), "png"


@dataclass(frozen=True)
class Files:
    """Name images by their files.

    Attributes:
        folder: where the paths begin.
        paths: on the disk, with forward slashes.
        max_side_px: scale images with a longer side down to it, as JPEG of quality 95; None copies bytes.
        sha256: of each file as it was checked, compared on reading; None where nobody checked them.
    """

    folder: Path
    paths: Sequence[str]
    max_side_px: int | None = None
    sha256: Sequence[str] | None = None

    def __len__(self) -> int:
        """Count them."""
        return len(self.paths)

    def take(self, positions: NDArray[np.int64]) -> "Files":
        """Return those at some positions, in that order."""
        numbers = positions.tolist()
        return replace(
            self,
            paths=tuple([self.paths[n] for n in numbers]),
            sha256=tuple([self.sha256[n] for n in numbers]) if self.sha256 is not None else None,
        )

    def encoded(self) -> Iterator[tuple[bytes, str]]:
        """Yield each file's bytes, or a smaller JPEG.

        Raises:
            SourceMissingError: a file cannot be read, or is a folder, a pipe or a device.
            MismatchError: a file is no JPEG or PNG, with `max_side_px` cannot be decoded, or is not as it was checked.
        """
        for number, place in enumerate(self.places()):
            try:
                data = _read(place)
            except OSError as error:
                raise SourceMissingError(f"{place}: {_unread(error)}") from error
            if self.sha256 is not None and sha256_bytes(data) != self.sha256[number]:
                raise MismatchError(f"{place}: has changed since it was checked; run again when nothing writes there")
            yield (data, kind(data, place)) if self.max_side_px is None else shrink(data, place, self.max_side_px)

    def places(self) -> Iterator[str]:
        """Yield where each file lies."""
        folder = f"{self.folder}/"
        return (folder + path for path in self.paths)


@dataclass(frozen=True)
class Stored:
    """Name images by their place in built shards.

    Attributes:
        shards: the tar file of each image.
        offsets: where its bytes begin.
        sizes: how many they are.
        sha256: of them, checked on reading.
    """

    shards: Sequence[Path]
    offsets: Sequence[int]
    sizes: Sequence[int]
    sha256: Sequence[str]

    def __len__(self) -> int:
        """Count them."""
        return len(self.shards)

    def take(self, positions: NDArray[np.int64]) -> "Stored":
        """Return those at some positions, in that order."""
        numbers = positions.tolist()
        return Stored(
            shards=[self.shards[n] for n in numbers],
            offsets=[self.offsets[n] for n in numbers],
            sizes=[self.sizes[n] for n in numbers],
            sha256=[self.sha256[n] for n in numbers],
        )

    def encoded(self) -> Iterator[tuple[bytes, str]]:
        """Yield each image's bytes.

        Raises:
            MismatchError: a shard cannot be read, or the bytes are others.
        """
        for shard, offset, size, sha256 in zip(self.shards, self.offsets, self.sizes, self.sha256, strict=True):
            try:
                with open(shard, "rb", buffering=0, opener=open_at_once) as file:
                    file.seek(offset)
                    data = file.read(size)
            except OSError as error:
                raise MismatchError(f"{shard}: cannot be read ({error.strerror or error}); build it again") from error
            if sha256_bytes(data) != sha256:
                raise MismatchError(
                    f"{shard}: the image at byte {offset} has another digest than its row; see ltdata verify"
                )
            yield data, kind(data, str(shard))


@dataclass(frozen=True)
class Checked:
    """Report a file: the SHA-256 of its bytes, and what is wrong with it; None where it can be stored and decoded."""

    sha256: str
    fault: str | None


def check(files: Files) -> list[Checked]:
    """Read and decode each file, as those will who read it out of a shard."""
    return [_check(place, files.max_side_px) for place in files.places()]


def _check(place: str, max_side_px: int | None) -> Checked:
    try:
        data = _read(place)
    except OSError as error:
        return Checked("", _unread(error))
    digest = sha256_bytes(data)
    if max_side_px is None and _suffix(data) is None:
        return Checked(digest, _neither(data))
    try:
        decode(data, STORED_FORMATS if max_side_px is None else FORMATS)
    except ValueError as error:
        return Checked(digest, f"is not a readable image ({error})")
    return Checked(digest, None)


def _read(place: str) -> bytes:
    with open(place, "rb", buffering=0, opener=open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("is no regular file")
        return file.read()


def _unread(error: OSError) -> str:
    return f"cannot be read ({error.strerror or error})"


def kind(data: bytes, place: str) -> str:
    r"""Tell JPEG from PNG by the first bytes; `place` names the file in errors.

    >>> kind(b"\xff\xd8\xff\xe0", "a.JPEG")
    'jpg'

    Raises:
        MismatchError: it is neither.
    """
    suffix = _suffix(data)
    if suffix is None:
        raise MismatchError(f"{place}: {_neither(data)}; mend it, convert it, take it out, or use --max-side")
    return suffix


def _suffix(data: bytes) -> str | None:
    return next((suffix for signature, suffix in _SIGNATURES.items() if data.startswith(signature)), None)


def _neither(data: bytes) -> str:
    found = f"begins with {data[:4].hex(' ')}" if data else "is empty"
    return f"{found}, so it is neither JPEG nor PNG"


def decode(data: bytes, formats: tuple[str, ...] = FORMATS) -> "Image":
    """Decode an image to RGB, every pixel of it.

    Of 16-bit grey the upper 8 bits are kept (Pillow's own conversion clips it to white), alpha is dropped, of several
    frames the first is taken. EXIF is not looked at: pixels keep the orientation that they are stored in, as readers
    that ignore EXIF (PIL, torchvision) see them, and a broken one does no harm.

    Raises:
        ValueError: it is in none of the formats, cut off, broken, or larger than Pillow's bound against bombs.
    """
    from PIL import Image

    try:
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data), formats=formats)
            if image.format == "TIFF":
                image.load()  # it alone warns of its tags once more while it is read
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        elif image.mode in {"I", "F"}:
            raise ValueError(f"{image.mode} pixels have no 8-bit form")
        elif image.mode in {"P", "PA"}:
            image = image.convert("RGBA")  # Pillow warns where a palette has alpha and is made RGB in one step
        return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # of a broken file Pillow raises nearly anything, such as IndexError
        raise ValueError(str(error).partition(" <_io.")[0]) from error  # without an address, which no two runs share


def shrink(data: bytes, place: str, max_side_px: int) -> tuple[bytes, str]:
    """Scale an image down so that its longer side has `max_side_px`, as JPEG; a small JPEG or PNG stays as it is.

    Lanczos filter; the bytes depend on the JPEG encoder, see `encoder`.

    Raises:
        MismatchError: the image cannot be decoded.
    """
    from PIL import Image

    try:
        image = decode(data)
    except ValueError as error:
        raise MismatchError(f"{place}: is not a readable image ({error}); mend it or take it out") from error
    longer = max(image.size)
    if longer <= max_side_px and data.startswith(tuple(_SIGNATURES)):
        return data, kind(data, place)
    if longer > max_side_px:
        width, height = (max(1, round(side * max_side_px / longer)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue(), "jpg"


def encoder() -> str:
    """Name the JPEG encoder, whose version the bytes of `shrink` depend on."""
    return f"{decoder()}, quality {JPEG_QUALITY}"


def decoder() -> str:
    """Name the decoder, which says what is a readable image."""
    import PIL
    from PIL import features

    library = "libjpeg-turbo" if features.check_feature("libjpeg_turbo") else "libjpeg"
    return f"Pillow {PIL.__version__}, {library} {features.version_codec('jpg')}"
