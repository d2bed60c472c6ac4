"""The reader of built folders: strict about its own format, checked before it is used.

Everything that reads whole shards (trainer, verify, the webdataset adapter) comes through here; single images out of
them come through `ltdata.stored`. No pickle, no shell, no path outside the folder and no link out of it, no pipe, no
device. A shard's size and SHA-256 are checked first; then every header must be the one that the writer gives, every
label the row's, every image the one with the row's digest, and the end the writer's. `index.npz` is not looked at.

The images of a view lie in the shards of another folder, its base; `open_store` finds it, and everything else is the
same for both.
"""

import json
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ltdata import images, png
from ltdata.engine import check_workers
from ltdata.errors import MismatchError, SourceMissingError, UsageError
from ltdata.files import open_at_once, sha256_bytes, sha256_open
from ltdata.manifest import MANIFEST_NAME, SAMPLES_NAME, Manifest, Shard, rows_from_bytes
from ltdata.samples import Samples
from ltdata.shards import KEY_DIGITS, PATH_PATTERN, ShardPlan, end_mark, header, headers, key, label_member, plan


@dataclass(frozen=True)
class Member:
    """Locate an image in a shard: its row in the split, its member's name, where its bytes begin, and the bytes."""

    row: int
    name: str
    offset: int
    image: bytes


@dataclass(frozen=True)
class Store:
    """Hold the build in whose shards images lie: the folder that was asked for, or the base of a view.

    Attributes:
        folder: of the build.
        manifest: its header.
        samples: its rows by split.
        shown: by split, for each row of the build the row that asks for its image, -1 where none does; int64 (n,).
    """

    folder: Path
    manifest: Manifest
    samples: Mapping[str, Samples]
    shown: Mapping[str, NDArray[np.int64]]

    def shards(self, split: str) -> tuple[Shard, ...]:
        """List the shards that hold images that are asked for.

        Which rows lie in which shard follows from the rows; where the manifest lists other shards, it lists all.
        """
        listed = self.manifest.splits[split].shards
        wanted = self.shown[split] >= 0
        plans = None if wanted.all() else shard_plans(self.manifest, split, self.samples[split])
        if plans is None:
            return listed
        return tuple(shard for shard, each in zip(listed, plans, strict=True) if wanted[each.rows].any())


def shard_plans(manifest: Manifest, split: str, samples: Samples) -> list[ShardPlan] | None:
    """Work out which rows lie in which shard, which follows from the rows; None where the manifest lists others."""
    listed = manifest.splits[split].shards
    seed = dict(manifest.protocol["params"]).get("seed", 0)
    if type(seed) is not int or not 0 <= seed < 2**32:
        return None
    plans = plan(
        split,
        samples.labels,
        class_groups=manifest.groups if split == "train" else None,
        seed=seed,
        samples_per_shard=max(1, max((shard.num_samples for shard in listed), default=1)),
    )
    same = [(each.path, len(each.rows)) for each in plans] == [(each.path, each.num_samples) for each in listed]
    return plans if same else None


def read_inside(folder: Path, name: str) -> bytes:
    """Read a file of a built folder whole, see `open_inside`."""
    with open_inside(folder, name) as file:
        return file.read()


def open_inside(folder: Path, name: str) -> BufferedReader:
    """Open a file of a built folder; whoever made the folder has no other file read, and no pipe waited for.

    Raises:
        MismatchError: a link leads out of the folder, or it is no regular file.
        OSError, ValueError: it is not there, cannot be read, or the name is none.
    """
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except RuntimeError as error:  # a link to itself before Python 3.13
        raise OSError(str(error)) from error
    if not inside:
        raise MismatchError(f"{path}: leads out of the folder by a link; put the file itself there")
    if not stat.S_ISREG(path.stat().st_mode):  # before it is opened, which some devices take for a command
        raise MismatchError(f"{path}: is no regular file; build the data set again")
    return open(path, "rb", opener=open_at_once)


def misplaced(folder: Path, split: str) -> MismatchError:
    """Return the error of a header whose shards hold other rows than they would hold of a build."""
    return MismatchError(
        f"{folder / MANIFEST_NAME}: its {split} shards are not those of its rows, groups and seed; build it again"
    )


def read_manifest(folder: Path | str) -> Manifest:
    """Read the header of a built folder.

    Raises:
        SourceMissingError: the folder holds no manifest.
        MismatchError: it is not readable, or lies elsewhere.
    """
    folder = Path(folder)
    path = folder / MANIFEST_NAME
    try:
        text = read_inside(folder, MANIFEST_NAME).decode("utf-8")
    except FileNotFoundError:
        reason = "holds no manifest.json: not a finished build" if folder.is_dir() else "no such folder"
        raise SourceMissingError(f"{folder}: {reason}; make one with: ltdata build") from None
    except UnicodeDecodeError as error:
        raise MismatchError(f"{path}: not UTF-8 text; build it again") from error
    except MismatchError:
        raise
    except (OSError, ValueError) as error:  # a NUL in the name
        raise SourceMissingError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    return Manifest.from_json(text, origin=str(path))


def read_samples(folder: Path, manifest: Manifest) -> dict[str, Samples]:
    """Read the rows of every split, checked against the header.

    Raises:
        MismatchError: they are missing, or not the header's.
    """
    path = folder / SAMPLES_NAME
    try:
        return rows_from_bytes(read_inside(folder, SAMPLES_NAME), manifest, origin=str(path))
    except OSError as error:
        raise MismatchError(f"{path}: cannot be read ({error.strerror or error}); build the data set again") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise MismatchError(f"{path}: not the rows of an ltdata build ({error}); build it again") from error


def shard_path(folder: Path, shard: Shard) -> Path:
    """Return where a shard lies, after checking its name and its size.

    Raises:
        MismatchError: the name is none that ltdata gives, a link leads outside the folder, there is no regular file,
            or it has another size.
    """
    path = folder / shard.path
    try:
        if not PATH_PATTERN.fullmatch(shard.path) or not path.resolve().is_relative_to(folder.resolve()):
            raise MismatchError(
                f"{folder}: shard path {shard.path!r} leads outside, or is none of ltdata's; build the data set again"
            )
        if not path.is_file():
            raise MismatchError(f"{path}: missing; build the data set again with --force")
        size = path.stat().st_size
    except (OSError, RuntimeError) as error:  # a link to itself before Python 3.13
        raise MismatchError(f"{path}: cannot be read ({error}); build the data set again with --force") from error
    if size != shard.bytes:
        raise MismatchError(f"{path}: {size} bytes, the manifest says {shard.bytes}; build again with --force")
    return path


def read_shard(folder: Path, shard: Shard) -> bytes:
    """Read one shard whole, after checking its name, size and SHA-256.

    Raises:
        MismatchError: as `shard_path`, or its bytes are others.
    """
    with _checked_size(folder, shard) as file:
        data = file.read()
        _compare(sha256_bytes(data), folder, shard)
    return data


def check_shards(
    folder: Path | str, manifest: Manifest, split: str, *, workers: int | None = None, progress: bool = False
) -> None:
    """Compare all shards of a split with their SHA-256: before work that reads single images, and lasts for days.

    Args:
        folder: a built folder, or a view.
        manifest: its header.
        split: such as ``train``.
        workers: threads; None: as many as processors, at most 8. Each has a part of a MB in memory.
        progress: show a bar on a terminal.

    Raises:
        SourceMissingError: no images belong to this manifest, or those of a view are gone.
        MismatchError: names the first shard that is not what the manifest says.
    """
    folder = Path(folder)
    store = open_store(folder, manifest, {split: read_samples(folder, manifest)[split]})
    shards = store.shards(split)

    def check(shard: Shard) -> int:
        with _checked_size(store.folder, shard) as file:
            _compare(sha256_open(file), store.folder, shard)
        return shard.bytes

    total = sum(shard.bytes for shard in shards)
    bar = tqdm(total=total, unit="B", unit_scale=True, desc=f"check {split}", disable=None if progress else True)
    pool = ThreadPoolExecutor(check_workers(default_workers() if workers is None else workers))
    with bar, closing_pool(pool):
        for size_bytes in pool.map(check, shards):
            bar.update(size_bytes)


@contextmanager
def _checked_size(folder: Path, shard: Shard) -> Iterator[BufferedReader]:
    """Open a shard after checking its name and its size."""
    path = shard_path(folder, shard)
    try:
        with open_inside(folder, shard.path) as file:
            yield file
    except OSError as error:
        raise MismatchError(f"{path}: cannot be read ({error.strerror or error}); mend its permissions") from error


def _compare(found: str, folder: Path, shard: Shard) -> None:
    if found != shard.sha256:
        raise MismatchError(
            f"{folder / shard.path}: SHA-256 {found}, the manifest says {shard.sha256}; build again with --force"
        )


def read_images(
    folder: Path | str, manifest: Manifest, split: str, *, workers: int | None = None, progress: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Decode every image of a split, in the protocol's order.

    Args:
        folder: a built folder, or a view.
        manifest: its header.
        split: such as ``train``.
        workers: threads, a shard each at a time; None: as many as processors, at most 8.
        progress: show a bar on a terminal.

    Returns:
        Pixels, RGB uint8 (n, height, width, 3), and labels, int64 (n,).

    Raises:
        UsageError: there is no such split.
        SourceMissingError: no images belong to this manifest, or those of a view are gone.
        MismatchError: a shard, a row or an image is not what the manifest says; the message names it.
    """
    folder = Path(folder)
    if split not in manifest.splits:
        raise UsageError(f"split {split!r}: {folder} has {', '.join(manifest.splits)}")
    samples = read_samples(folder, manifest)[split]
    store = open_store(folder, manifest, {split: samples})
    shards = store.shards(split)
    pixels: NDArray[np.uint8] | None = None
    seen = np.zeros(len(samples), dtype=bool)
    bar = tqdm(total=len(samples), unit=" images", desc=f"read {split}", disable=None if progress else True)
    pool = ThreadPoolExecutor(check_workers(default_workers() if workers is None else workers))
    with bar, closing_pool(pool):
        for shard, (rows, names, decoded) in zip(
            shards, pool.map(lambda shard: _decode_shard(store, split, shard, samples), shards), strict=True
        ):
            place = store.folder / shard.path
            if pixels is None and len(rows):
                pixels = np.empty((len(samples), *decoded[0].shape), dtype=np.uint8)
            for image, name in zip(decoded[:1] if isinstance(decoded, np.ndarray) else decoded, names, strict=False):
                if pixels is not None and image.shape != pixels.shape[1:]:
                    (height, width, _), (rows_px, columns_px, _) = image.shape, pixels.shape[1:]
                    raise MismatchError(
                        f"{place}: {name} has {width} x {height} pixels, others {columns_px} x {rows_px}; as one array "
                        "only images of one size can be read"
                    )
            if seen[rows].any():
                raise MismatchError(f"{place}: {names[int(seen[rows].argmax())]} is there twice; build it again")
            if pixels is not None and len(rows):
                pixels[rows], seen[rows] = decoded, True
            bar.update(len(rows))
    if pixels is None or not seen.all():
        raise MismatchError(f"{folder}: {int((~seen).sum())} {split} images are in no shard; build it again")
    return pixels, samples.labels


@contextmanager
def closing_pool(pool: Executor) -> Iterator[None]:
    """Shut a pool down at the end, without the work that it has not begun: of use after an error only."""
    try:
        yield
    finally:
        pool.shutdown(cancel_futures=True)


def default_workers() -> int:
    """Return how many threads read and decode where nobody says: a processor each, at most 8."""
    return min(8, os.cpu_count() or 1)


def _decode_shard(
    store: Store, split: str, shard: Shard, samples: Samples
) -> tuple[list[int], list[str], list[NDArray[np.uint8]] | NDArray[np.uint8]]:
    """Check and decode the images of a shard that are asked for; return their rows, names and pixels."""
    place = store.folder / shard.path
    data = read_shard(store.folder, shard)
    shown = store.shown[split]
    alike = _alike(data, shard, store.samples[split])
    if alike is not None:
        stored, files = alike
        asked = np.flatnonzero(shown[stored] >= 0)
        together = png.decode_alike(files[asked]) if len(asked) else None
        if together is not None:
            return shown[stored[asked]].tolist(), [f"{key(row)}.png" for row in stored[asked].tolist()], together
    found = [
        (int(shown[member.row]), member)
        for member in walk(data, store.folder, shard, store.samples[split])
        if shown[member.row] >= 0
    ]
    pixels = [decode_named(member, place, samples, row) for row, member in found]
    return [row for row, _ in found], [member.name for _, member in found], pixels


def _alike(data: bytes, shard: Shard, samples: Samples) -> tuple[NDArray[np.int64], NDArray[np.uint8]] | None:
    """Take a shard of PNG files of one size apart, all at once: what `walk` checks, five times as fast.

    Returns:
        Row and file of each sample, int64 (n,) and uint8 (n, bytes); None where anything is not as it should be, or
        sizes differ: `walk` then finds out what.
    """
    block = tarfile.BLOCKSIZE
    digits = data[2 * block + 124 : 2 * block + 135]  # USTAR's size field, of the first image
    if samples.sha256 is None or not re.fullmatch(rb"[0-7]{11}", digits) or not shard.num_samples:
        return None
    size_bytes = int(digits, 8)
    stride = 3 * block + size_bytes + -size_bytes % block
    end = shard.num_samples * stride
    if len(data) < end or data[end:] != end_mark(end):
        return None
    members_ = np.frombuffer(data, np.uint8, shard.num_samples * stride).reshape(shard.num_samples, stride)
    names = members_[:, :KEY_DIGITS].astype(np.int64) - ord("0")
    rows = names @ 10 ** np.arange(KEY_DIGITS - 1, -1, -1)
    right = ((names >= 0) & (names <= 9)).all() and rows.max() < len(samples) and len(np.unique(rows)) == len(rows)
    if not right or not np.array_equal(members_[:, 2 * block : 3 * block], headers(rows, "png", size_bytes)):
        return None
    labels = samples.labels[rows]
    for length in range(1, len(str(labels.max())) + 1):
        own = np.flatnonzero((labels >= 10 ** (length - 1) if length > 1 else labels >= 0) & (labels < 10**length))
        text = ord("0") + labels[own, None] // 10 ** np.arange(length - 1, -1, -1) % 10
        content = members_[own, block : 2 * block]
        if not np.array_equal(members_[own, :block], headers(rows[own], "cls", length)):
            return None
        if not np.array_equal(content[:, :length], text) or content[:, length:].any():
            return None
    files = members_[:, 3 * block : 3 * block + size_bytes]
    if members_[:, 3 * block + size_bytes :].any():
        return None
    view = memoryview(data)
    for number, row in enumerate(rows.tolist()):
        start = number * stride + 3 * block
        if sha256_bytes(view[start : start + size_bytes]) != samples.sha256[row]:
            return None
    return rows, files


def open_store(folder: Path, manifest: Manifest, rows: Mapping[str, Samples]) -> Store:
    """Find the build that holds the images of some rows, and which of its images they are.

    Args:
        folder: of a build or a view.
        manifest: its header.
        rows: of it, all of each split.

    Raises:
        SourceMissingError: no images belong to this manifest, or the base of a view is gone.
        MismatchError: the base of a view is another build now.
    """
    if manifest.view_of is None:
        if not manifest.has_images:
            raise SourceMissingError(f"{folder}: a manifest without images; build it without --manifest-only")
        for name, asked in rows.items():
            if shard_plans(manifest, name, asked) is None:
                raise misplaced(folder, name)
        return Store(folder, manifest, rows, {name: np.arange(len(samples)) for name, samples in rows.items()})
    base = folder / manifest.view_of["path"]
    try:
        whole = read_manifest(base)
    except SourceMissingError as error:
        raise SourceMissingError(f"{folder}: a view of {str(base)!r}, which is gone; make the subset again") from error
    another = MismatchError(f"{folder}: a view of {base}, which is another build now; make the subset again")
    if whole.content_sha256 != manifest.view_of["content_sha256"] or not whole.has_images:
        raise another
    samples = read_samples(base, whole)
    shown: dict[str, NDArray[np.int64]] = {}
    for name, asked in rows.items():
        row_of = {place: row for row, place in enumerate(samples[name].places)} if name in samples else {}
        found = np.array([row_of.get(place, -1) for place in asked.places], dtype=np.int64)
        # The content digest is that of the rows: a build of other images under the same names has the same.
        if found.min(initial=0) < 0 or samples[name].take(found).sha256 != asked.sha256:
            raise another
        shown[name] = np.full(len(samples[name]), -1)
        shown[name][found] = np.arange(len(asked))
    return Store(base, whole, samples, shown)


def members(store: Store, split: str, shards: Sequence[Shard] | None = None) -> Iterator[tuple[Path, int, Member]]:
    """Yield (shard, row that asks for it, member) of the images that are asked for, as they lie in the shards.

    Args:
        store: see `open_store`.
        split: of it.
        shards: of the split, to read; None: all that hold any.

    Raises:
        MismatchError: a shard is not what the manifest says.
    """
    shown = store.shown[split].tolist()
    for shard in store.shards(split) if shards is None else shards:
        for member in walk(read_shard(store.folder, shard), store.folder, shard, store.samples[split]):
            if shown[member.row] >= 0:
                yield store.folder / shard.path, shown[member.row], member


def decode(image: bytes) -> NDArray[np.uint8]:
    """Decode a PNG or JPEG file to RGB, uint8 (height, width, 3); see `ltdata.images.decode`."""
    return np.asarray(images.decode(image, ("PNG", "JPEG")))


def decode_named(member: Member, place: Path, samples: Samples, row: int) -> NDArray[np.uint8]:
    """Decode a member; `place` names its shard in errors, `samples` at `row` the file that it was.

    Raises:
        MismatchError: it is not a readable image.
    """
    try:
        return decode(member.image)
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
        end = offset + size_bytes + -size_bytes % tarfile.BLOCKSIZE
        image = data[offset : offset + size_bytes]
        padding = data[offset + size_bytes : end]
        if data[at:offset] != start or len(image) != size_bytes or padding.strip(b"\0"):
            raise MismatchError(f"{folder / shard.path}: {key(row)} is not as this format has it; build it again")
        if samples.sha256 is not None and sha256_bytes(image) != samples.sha256[row]:
            raise MismatchError(f"{folder / shard.path}: {name} has another digest than its row")
        if images.kind(image, f"{folder / shard.path}: {name}") != suffix:
            raise MismatchError(f"{folder / shard.path}: {name} is of another kind than its name says; build it again")
        found.add(row)
        yield Member(row, name, offset, image)
        at = end
    if data[at:] != end_mark(at):
        raise MismatchError(f"{folder / shard.path}: does not end as this format does; build it again")
    if len(found) != shard.num_samples:
        raise MismatchError(f"{folder / shard.path}: {len(found)} samples, the manifest says {shard.num_samples}")
