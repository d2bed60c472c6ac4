"""Shards: the images of a split as plain USTAR tar files that any WebDataset reader can read.

One series per shot group (`train/many-000000.tar`, ...), so a nested expert subset is a union of series. A shard
is a function of the manifest's rows and the stored images alone: fixed headers, fixed order. The key of a sample is
its row in the split, so the protocol's order can always be restored:

    00000312.cls    the label, ASCII digits
    00000312.png    the image, or 00000312.jpg
"""

import platform
import re
import tarfile
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import OutputError
from ltdata.files import atomic_file, sha256, sha256_bytes, start_flush
from ltdata.groups import GROUP_NAMES
from ltdata.images import Images
from ltdata.manifest import Shard

SAMPLES_PER_SHARD = 2000  # about 10 MB at CIFAR's size, 200 MB of photographs
KEY_DIGITS = 8
_FLUSH_BYTES = 1 << 24
PATH_PATTERN = re.compile(r"(train|val|test)/(many|medium|few|val|test)-[0-9]{6}\.tar")


@dataclass(frozen=True)
class ShardPlan:
    """Say which rows of a split lie in one shard, in which order; rows is int64 (n,)."""

    path: str
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class ShardJob:
    """Carry all that one shard is made of: the rows' numbers and labels, int64 (n,), and where their images are."""

    path: str
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    images: Images


@dataclass(frozen=True)
class WrittenShard:
    """Report a shard: its manifest entry, and per sample where its image lies and the digest of its bytes."""

    shard: Shard
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    image_sha256: tuple[str, ...]


def plan(
    split: str,
    labels: NDArray[np.int64],
    *,
    class_groups: NDArray[np.int8] | None,
    seed: int,
    samples_per_shard: int = SAMPLES_PER_SHARD,
) -> list[ShardPlan]:
    """Lay the rows of a split out in shards.

    Args:
        split: names the folder.
        labels: of the rows, (n,).
        class_groups: shot group per class; one series per group. None: one series named after the split.
        seed: of the permutation of the classes.
        samples_per_shard: at most so many in one shard.

    Returns:
        The shards in order of their series; every row lies in exactly one of them.
    """
    if class_groups is None:
        series = {split: np.arange(len(labels))}
    else:
        series = {name: np.flatnonzero(class_groups[labels] == g) for g, name in enumerate(GROUP_NAMES)}
    plans = []
    for name, rows in series.items():
        order = rows[spread(labels[rows], seed=seed)]
        for number, start in enumerate(range(0, len(order), samples_per_shard)):
            plans.append(ShardPlan(f"{split}/{name}-{number:06d}.tar", order[start : start + samples_per_shard]))
    return plans


def spread(labels: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    """Order samples so that every prefix holds each class in about its share of the whole.

    The j-th of the n_c samples of class c stands at (j + 1/2) / n_c; ties follow a seeded permutation of the
    classes. With equal counts this is a round robin.

    >>> spread(np.array([0, 0, 0, 0, 1, 1]), seed=0).tolist()
    [0, 4, 1, 2, 5, 3]

    Args:
        labels: (n,).
        seed: of the permutation.

    Returns:
        A permutation of 0 .. n - 1, int64 (n,).
    """
    classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    turn = np.random.RandomState(seed).permutation(len(classes))[inverse]
    by_class = np.argsort(inverse, kind="stable")
    rank = np.empty(len(labels), dtype=np.int64)
    rank[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.lexsort((turn, (rank + 0.5) / counts[inverse])).astype(np.int64, copy=False)


def key(row: int) -> str:
    """Return the key of a row: zero-padded, no dots."""
    return f"{row:0{KEY_DIGITS}d}"


def write_all(
    jobs: Iterable[Callable[[], ShardJob]],
    folder: Path,
    *,
    executor: Executor | None = None,
    ahead: int = 2,
    on_shard: Callable[[WrittenShard], object] = lambda _: None,
) -> list[WrittenShard]:
    """Write shards into `folder`, in this process or by an executor's workers; the bytes are the same.

    Args:
        jobs: make the content of one shard each, when its turn comes, so few are in memory at once.
        folder: where the paths of the jobs begin; an executor's workers must see it under the same name.
        executor: None writes here; after an exception, whoever has started it ends it, and with it what still waits.
        ahead: shards that an executor is given at once.
        on_shard: told of every finished shard.

    Returns:
        One report per job, in the order of the jobs.

    Raises:
        LtdataError: as `write`; what becomes of the workers, whoever has started them tells.
    """
    written: list[WrittenShard] = []

    def finish(report: WrittenShard) -> None:
        written.append(report)
        on_shard(report)

    if executor is None:
        for job in jobs:
            finish(write(job(), folder))
        return written
    waiting: deque[Future[WrittenShard]] = deque()
    for job in jobs:
        waiting.append(executor.submit(write, job(), folder))
        if len(waiting) >= ahead:
            finish(waiting.popleft().result())
    while waiting:
        finish(waiting.popleft().result())
    for leftover in folder.glob("*/.*.tmp"):  # of a killed Dask worker, whose shard another one wrote
        leftover.unlink()
    return written


def write(job: ShardJob, folder: Path) -> WrittenShard:
    """Write one shard, atomically, under ``folder / job.path``; one image is in memory at a time.

    Raises:
        LtdataError: an image cannot be read, or the shard cannot be written.
    """
    offsets, sizes, digests = [], [], []
    digest, at, flushed = sha256(), 0, 0
    try:
        (folder / job.path).parent.mkdir(exist_ok=True)  # not its parents: a staging folder that is gone stays gone
    except FileNotFoundError as error:
        raise OutputError(
            f"{folder}: is not there for the worker on {platform.node()}; give --out a folder that all machines share"
        ) from error
    with atomic_file(folder / job.path) as tar:
        for row, label, (image, suffix) in zip(
            job.rows.tolist(), job.labels.tolist(), job.images.encoded(), strict=True
        ):
            start = label_member(row, label) + header(f"{key(row)}.{suffix}", len(image))
            padding = bytes(-len(image) % tarfile.BLOCKSIZE)
            offsets.append(at + len(start))
            sizes.append(len(image))
            digests.append(sha256_bytes(image))
            for part in (start, image, padding):
                tar.write(part)
                digest.update(part)
                at += len(part)
            if at - flushed > _FLUSH_BYTES:
                start_flush(tar, flushed, at)
                flushed = at
        end = end_mark(at)
        tar.write(end)
        digest.update(end)
    return WrittenShard(
        shard=Shard(path=job.path, num_samples=len(job.rows), bytes=at + len(end), sha256=digest.hexdigest()),
        offsets=np.array(offsets, dtype=np.int64),
        sizes=np.array(sizes, dtype=np.int64),
        image_sha256=tuple(digests),
    )


def label_member(row: int, label: int) -> bytes:
    """Return the tar member that holds a sample's label: header, digits, padding."""
    digits = str(label).encode()
    return header(f"{key(row)}.cls", len(digits)) + digits.ljust(tarfile.BLOCKSIZE, b"\0")


def end_mark(size_bytes: int) -> bytes:
    """Return what ends a tar file after so many bytes of members: two empty blocks, and more up to a whole record."""
    return bytes(2 * tarfile.BLOCKSIZE + -(size_bytes + 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE)


def header(name: str, size_bytes: int) -> bytes:
    """Return the one tar header that a member of this name and size has: plain USTAR, 512 bytes.

    Filled in by hand, which takes a tenth of the time of `tarfile`, whose bytes it has.

    Args:
        name: ASCII, at most 100 bytes.
        size_bytes: at most 8 GiB - 1.
    """
    template, rest = _template()
    encoded, size = name.encode("ascii"), b"%011o" % size_bytes
    if len(encoded) > 100 or len(size) > 11:
        raise ValueError(f"{name}, {size_bytes} bytes: does not fit a USTAR header")
    checksum = b"%06o" % (rest + sum(encoded) + sum(size))
    return b"".join((encoded.ljust(100, b"\0"), template[100:124], size, template[135:148], checksum, template[154:]))


def headers(rows: NDArray[np.int64], suffix: str, size_bytes: int) -> NDArray[np.uint8]:
    """Return the headers of many members of one size, uint8 (n, 512): what `header` gives for each, fast."""
    digits = rows[:, None] // 10 ** np.arange(KEY_DIGITS - 1, -1, -1) % 10
    first = header(f"{key(0)}.{suffix}", size_bytes)
    out = np.tile(np.frombuffer(first, np.uint8), (len(rows), 1))
    out[:, :KEY_DIGITS] += digits.astype(np.uint8)
    checksum = int(first[148:154], 8) + digits.sum(axis=1)
    out[:, 148:154] = ord("0") + (checksum[:, None] >> np.arange(15, -1, -3) & 7)
    return out


@cache
def _template() -> tuple[bytes, int]:
    """Return the header of an empty nameless member, and the sum that name and size add to."""
    member = tarfile.TarInfo("")
    member.mode = 0o644
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    made = member.tobuf(format=tarfile.USTAR_FORMAT)
    return made, sum(made[:124]) + sum(made[135:148]) + sum(made[156:]) + 8 * ord(" ")
