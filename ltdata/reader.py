"""The reader of built folders: strict about its own format, checked before it is used.

Everything that reads shards (trainer, verify, statistics) comes through here. No pickle, no shell, no path
outside the folder. A shard's size and SHA-256 are checked first; then every header must be the one that the writer
gives, every label the row's, every image the one with the row's digest. `index.npz` says where each image lies, for
random access by other programs; it is not needed here, and `ltdata verify` compares it.
"""

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ltdata import images
from ltdata.errors import MismatchError, SourceMissingError, UsageError
from ltdata.files import sha256_bytes
from ltdata.groups import GROUP_NAMES
from ltdata.manifest import MANIFEST_NAME, SAMPLES_NAME, Manifest, Shard, rows_from_bytes
from ltdata.samples import Samples
from ltdata.shards import KEY_DIGITS, header, key, label_member


@dataclass(frozen=True)
class Member:
    """Locate an image in a shard: its row in the split, its member's name, where its bytes begin, and the bytes."""

    row: int
    name: str
    offset: int
    image: bytes


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


def refuse_inside_build(folder: Path) -> None:
    """Refuse an output folder that lies inside a built one, where it would be taken for a damage.

    Raises:
        UsageError: it does.
    """
    for parent in folder.parents:
        if (parent / MANIFEST_NAME).is_file() and (parent / SAMPLES_NAME).is_file():
            raise UsageError(f"{folder}: lies inside the build {parent}; choose another --out")


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
    try:
        inside = not relative.is_absolute() and ".." not in relative.parts
        if not inside or not path.resolve().is_relative_to(folder.resolve()):
            raise MismatchError(f"{folder}: shard path {shard.path!r} leads outside; build the data set again")
        if not path.is_file():
            raise MismatchError(f"{path}: missing; build the data set again with --force")
        data = path.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL; a link to itself before Python 3.13
        raise MismatchError(f"{folder}: shard {shard.path!r} cannot be read ({error})") from error
    if len(data) != shard.bytes:
        raise MismatchError(f"{path}: {len(data)} bytes, the manifest says {shard.bytes}; build again with --force")
    found = sha256_bytes(data)
    if found != shard.sha256:
        raise MismatchError(f"{path}: SHA-256 {found}, the manifest says {shard.sha256}; build again with --force")
    return data


def read_images(folder: Path, manifest: Manifest, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Decode every image of a split, in the protocol's order.

    Args:
        folder: a built folder, or a view.
        manifest: its header.
        split: such as ``train``.

    Returns:
        Pixels, RGB uint8 (n, height, width, 3), and labels, int64 (n,).

    Raises:
        SourceMissingError: no images belong to this manifest, or those of a view are gone.
        MismatchError: a shard, a row or an image is not what the manifest says; the message names it.
    """
    samples = read_samples(folder, manifest)[split]
    pixels: NDArray[np.uint8] | None = None
    seen = np.zeros(len(samples), dtype=bool)
    for place, row, member in members(folder, manifest, split, samples):
        decoded = decode_named(member, place, samples, row)
        if pixels is None:
            pixels = np.zeros((len(samples), *decoded.shape), dtype=np.uint8)
        if seen[row]:
            raise MismatchError(f"{place}: {member.name} is there twice; build it again")
        if decoded.shape != pixels.shape[1:]:
            (height, width, _), (rows, columns, _) = decoded.shape, pixels.shape[1:]
            raise MismatchError(
                f"{place}: {member.name} has {width} x {height} pixels, others {columns} x {rows}; as one array only "
                "images of one size can be read"
            )
        pixels[row], seen[row] = decoded, True
    if pixels is None or not seen.all():
        raise MismatchError(f"{folder}: {int((~seen).sum())} {split} images are in no shard; build it again")
    return pixels, samples.labels


def members(folder: Path, manifest: Manifest, split: str, samples: Samples) -> Iterator[tuple[Path, int, Member]]:
    """Yield (shard, row in the split, member) of a split's images, as they lie in the shards of a build or a view.

    Raises:
        SourceMissingError: no images belong to this manifest, or those of a view are gone.
        MismatchError: a shard is not what the manifest says.
    """
    if manifest.view_of is not None:
        yield from _viewed(folder, manifest, split, samples)
        return
    if not manifest.has_images:
        raise SourceMissingError(f"{folder}: a manifest without images; build it without --manifest-only")
    for shard in manifest.splits[split].shards:
        for member in walk(read_shard(folder, shard), folder, shard, samples):
            yield folder / shard.path, member.row, member


def read_base(folder: Path, manifest: Manifest) -> tuple[Path, Manifest, dict[str, Samples]]:
    """Find the build whose images a view shows: its folder, header and rows.

    Raises:
        SourceMissingError: it is not there any more.
        MismatchError: another one is there.
    """
    assert manifest.view_of is not None  # noqa: S101 - for the type checker: callers ask views only
    base = folder / manifest.view_of["path"]
    try:
        whole = read_manifest(base)
    except SourceMissingError as error:
        raise SourceMissingError(f"{folder}: a view of {base}, which is gone; make the subset again") from error
    if whole.content_sha256 != manifest.view_of["content_sha256"] or not whole.has_images:
        raise MismatchError(f"{folder}: a view of {base}, which is another build now; make the subset again")
    return base, whole, read_samples(base, whole)


def _viewed(folder: Path, manifest: Manifest, split: str, samples: Samples) -> Iterator[tuple[Path, int, Member]]:
    """Yield a view's images out of the shards of its build; shards that hold none of them are not read."""
    base, whole, base_samples = read_base(folder, manifest)
    row_of = {place: row for row, place in enumerate(samples.places)}
    wanted = [row_of.get(place, -1) for place in base_samples[split].places]  # of each row of the build
    groups = whole.groups[base_samples[split].labels]
    for shard in whole.splits[split].shards:
        series = PurePosixPath(shard.path).name.partition("-")[0]
        inside = groups == GROUP_NAMES.index(series) if series in GROUP_NAMES else np.ones(len(groups), bool)
        if not any(wanted[row] >= 0 for row in np.flatnonzero(inside).tolist()):
            continue
        for member in walk(read_shard(base, shard), base, shard, base_samples[split]):
            if wanted[member.row] >= 0:
                yield base / shard.path, wanted[member.row], member


def decode(image: bytes) -> NDArray[np.uint8]:
    """Decode a PNG or JPEG file to RGB, uint8 (height, width, 3); see `ltdata.images.decode`."""
    return np.asarray(images.decode(image, ("PNG", "JPEG")))


def decode_named(member: Member, place: Path, samples: Samples, row: int) -> NDArray[np.uint8]:
    """Decode a member; `place` names its shard in errors, `samples` at `row` the file that it was.

    Raises:
        MismatchError: it is not a readable image, or not the one that its name says.
    """
    try:
        pixels = decode(member.image)
        if not member.name.endswith(images.kind(member.image, member.name)):
            raise ValueError("its content is of the other kind")
        return pixels
    except ValueError as error:
        origin = f" ({samples.source_path[row]})" if samples.source_path is not None else ""
        raise MismatchError(
            f"{place}: {member.name}{origin} is not readable ({error}); mend the source and build it again"
        ) from error


def walk(data: bytes, folder: Path, shard: Shard, samples: Samples) -> Iterator[Member]:
    """Yield the images of a shard, after comparing all that is not image with what the writer would have written.

    Args:
        data: of the shard, see `read_shard`.
        folder: names the shard in errors.
        shard: its manifest entry.
        samples: the rows of its split.

    Raises:
        MismatchError: a header, a label, the number of samples or an image's digest is another.
    """
    found: set[int] = set()
    at = 0
    while any(data[at : at + tarfile.BLOCKSIZE]):
        stem = data[at : at + KEY_DIGITS]
        row = int(stem) if stem.isdigit() else -1
        image_header = data[at + 2 * tarfile.BLOCKSIZE : at + 3 * tarfile.BLOCKSIZE]
        suffix = image_header[KEY_DIGITS + 1 : KEY_DIGITS + 4].decode("latin-1")
        digits = image_header[124:135]  # USTAR's size field
        if (
            not 0 <= row < len(samples)
            or row in found
            or suffix not in images.SUFFIXES
            or not re.fullmatch(rb"[0-7]{11}", digits)
        ):
            raise MismatchError(f"{folder / shard.path}: {stem!r} is no sample of this split; build it again")
        size_bytes, name = int(digits, 8), f"{key(row)}.{suffix}"
        start = label_member(row, int(samples.labels[row])) + header(name, size_bytes)
        offset = at + len(start)
        image = data[offset : offset + size_bytes]
        if data[at:offset] != start or len(image) != size_bytes:
            raise MismatchError(f"{folder / shard.path}: {key(row)} is not as this format has it; build it again")
        if samples.sha256 is not None and sha256_bytes(image) != samples.sha256[row]:
            raise MismatchError(f"{folder / shard.path}: {name} has another digest than its row")
        found.add(row)
        yield Member(row, name, offset, image)
        at = offset + size_bytes + -size_bytes % tarfile.BLOCKSIZE
    if any(data[at:]) or len(found) != shard.num_samples:
        raise MismatchError(f"{folder / shard.path}: {len(found)} samples, the manifest says {shard.num_samples}")
