"""The reader of built folders: strict about its own format, checked before it is used.

Everything that reads shards (trainer, verify, statistics) comes through here. No pickle, no shell, no path
outside the folder. A sample is reached in O(1) through `index.npz`, a cache of where each image lies; the tar
header before every image is compared with the key that should stand there, so a stale index cannot lie.
"""

import json
import tarfile
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltdata.errors import MismatchError, SourceMissingError
from ltdata.files import sha256_bytes
from ltdata.manifest import MANIFEST_NAME, SAMPLES_NAME, Manifest, Samples, Shard, rows_from_bytes
from ltdata.shards import key

INDEX_NAME = "index.npz"
_SUFFIXES = (".cls", ".png")


@dataclass(frozen=True)
class Index:
    """Say where each image of a split lies, by row.

    Attributes:
        shard: number of the shard in the manifest's list, int64 (n,).
        offset: of the image's first byte in it, int64 (n,).
        size: of the image in bytes, int64 (n,).
    """

    shard: NDArray[np.int64]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]


def read_manifest(folder: Path) -> Manifest:
    """Read the header of a built folder.

    Raises:
        SourceMissingError: the folder holds no manifest.
        MismatchError: it is not readable.
    """
    path = folder / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        reason = "holds no manifest.json: not a finished build" if folder.is_dir() else "no such folder"
        raise SourceMissingError(f"{folder}: {reason}; make one with: ltdata build") from None
    except UnicodeDecodeError as error:
        raise MismatchError(f"{path}: not UTF-8 text; build it again") from error
    except OSError as error:
        raise SourceMissingError(f"{path}: cannot be read ({error.strerror or error})") from error
    return Manifest.from_json(text, origin=str(path))


def read_samples(folder: Path, manifest: Manifest) -> dict[str, Samples]:
    """Read the rows of every split, checked against the header.

    Raises:
        MismatchError: they are missing, or not the header's.
    """
    path = folder / SAMPLES_NAME
    try:
        return rows_from_bytes(path.read_bytes(), manifest, origin=str(path))
    except OSError as error:
        raise MismatchError(f"{path}: cannot be read ({error.strerror or error}); build the data set again") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise MismatchError(f"{path}: not the rows of an ltdata build ({error}); build it again") from error


def read_shard(folder: Path, shard: Shard) -> bytes:
    """Read one shard whole, after checking its name, size and SHA-256.

    Raises:
        MismatchError: it is missing, not a regular file inside the folder, or its bytes are others.
    """
    relative = PurePosixPath(shard.path)
    path = folder / relative
    if relative.is_absolute() or ".." in relative.parts or not path.resolve().is_relative_to(folder.resolve()):
        raise MismatchError(f"{folder}: shard path {shard.path!r} leads outside; build the data set again")
    try:
        if not path.is_file():
            raise MismatchError(f"{path}: missing; build the data set again with --force")
        data = path.read_bytes()
    except OSError as error:
        raise MismatchError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(data) != shard.bytes:
        raise MismatchError(f"{path}: {len(data)} bytes, the manifest says {shard.bytes}; build again with --force")
    found = sha256_bytes(data)
    if found != shard.sha256:
        raise MismatchError(f"{path}: SHA-256 {found}, the manifest says {shard.sha256}; build again with --force")
    return data


def read_images(folder: Path, manifest: Manifest, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Decode every image of a split, in the protocol's order.

    Args:
        folder: a built folder.
        manifest: its header.
        split: such as ``train``.

    Returns:
        Pixels, RGB uint8 (n, height, width, 3), and labels, int64 (n,).

    Raises:
        MismatchError: a shard, a row or an image is not what the manifest says; the message names it.
    """
    samples = read_samples(folder, manifest)[split]
    index = read_index(folder, manifest, split)
    pixels: NDArray[np.uint8] | None = None
    for number, shard in enumerate(manifest.splits[split].shards):
        rows = np.flatnonzero(index.shard == number) if index is not None else None
        data = read_shard(folder, shard)
        for row, image in _images(data, folder / shard.path, rows, index):
            try:
                decoded = decode(image)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                raise MismatchError(f"{folder / shard.path}: {key(row)}.png is not readable ({error})") from error
            if pixels is None:
                pixels = np.zeros((len(samples), *decoded.shape), dtype=np.uint8)
                seen = np.zeros(len(samples), dtype=bool)
            if row >= len(samples) or seen[row] or decoded.shape != pixels.shape[1:]:
                raise MismatchError(f"{folder / shard.path}: {key(row)}.png is not a sample of this split")
            pixels[row], seen[row] = decoded, True
    if pixels is None or not seen.all():
        lost = len(samples) if pixels is None else int((~seen).sum())
        raise MismatchError(f"{folder}: {lost} {split} images are in no shard; build the data set again")
    return pixels, samples.labels


def read_index(folder: Path, manifest: Manifest, split: str) -> Index | None:
    """Read where the images of a split lie; None where there is no index that fits the manifest."""
    try:
        with np.load(folder / INDEX_NAME, allow_pickle=False) as arrays:
            if str(arrays["content_sha256"]) != manifest.content_sha256:
                return None
            names = list(manifest.splits)
            here = arrays["split"] == names.index(split)
            index = Index(*(arrays[name][here].astype(np.int64) for name in ("shard", "offset", "size")))
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return index if len(index.shard) == manifest.splits[split].num_samples else None


def decode(image: bytes) -> NDArray[np.uint8]:
    """Decode a PNG or JPEG file to RGB, uint8 (height, width, 3)."""
    with Image.open(BytesIO(image), formats=("PNG", "JPEG")) as opened:
        return np.asarray(opened.convert("RGB"))


def _images(data: bytes, path: Path, rows: NDArray[np.int64] | None, index: Index | None) -> list[tuple[int, bytes]]:
    """List (row, image bytes) of a shard: by the index if there is one that holds, else by walking the headers."""
    if rows is not None and index is not None:
        starts = index.offset[rows]
        found = []
        for row, offset, size in zip(rows.tolist(), starts.tolist(), index.size[rows].tolist(), strict=True):
            header = data[max(offset - tarfile.BLOCKSIZE, 0) : offset]
            if not header.startswith(f"{key(row)}.png\0".encode()) or header[124:136] != b"%011o\0" % size:
                return _walk(data, path)  # a stale cache; the shard itself has been checked
            found.append((row, data[offset : offset + size]))
        return found
    return _walk(data, path)


def _walk(data: bytes, path: Path) -> list[tuple[int, bytes]]:
    """List (row, image bytes) of a shard, header by header."""
    found = []
    try:
        with tarfile.open(fileobj=BytesIO(data), mode="r:") as tar:
            for member in tar:
                stem, suffix = member.name[:-4], member.name[-4:]
                if not member.isreg() or suffix not in _SUFFIXES or not (stem.isascii() and stem.isdigit()):
                    raise MismatchError(f"{path}: member {member.name!r} is not of this format; build it again")
                if suffix == ".png":
                    start = member.offset_data
                    found.append((int(stem), data[start : start + member.size]))
    except tarfile.TarError as error:
        raise MismatchError(f"{path}: not a readable tar ({error}); build it again") from error
    return found
