"""Shards: the images of a split as plain USTAR tar files that any WebDataset reader can read.

One series per shot group (`train/many-000000.tar`, ...), so a nested expert subset is a union of series. A shard
is a function of the manifest's rows alone: fixed headers, fixed order, PNG bytes fixed by `ltdata.png`. The key of
a sample is its row in the split, so the protocol's order can always be restored:

    00000312.cls    the label, ASCII digits
    00000312.png    the image
"""

import io
import re
import signal
import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltdata import png
from ltdata.errors import LtdataError
from ltdata.files import sha256_bytes, write_atomic
from ltdata.groups import GROUP_NAMES
from ltdata.manifest import Shard

SAMPLES_PER_SHARD = 2000  # about 10 MB at CIFAR's size, 200 MB of photographs
KEY_DIGITS = 8
PATH_PATTERN = re.compile(r"(train|val|test)/(many|medium|few|val|test)-[0-9]{6}\.tar")


@dataclass(frozen=True)
class ShardPlan:
    """Say which rows of a split lie in one shard, in which order; rows is int64 (n,)."""

    path: str
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class ShardJob:
    """Carry all that one shard is made of: keys, labels (n,) and pixels uint8 (n, height, width, 3)."""

    path: str
    keys: tuple[str, ...]
    labels: NDArray[np.int64]
    pixels: NDArray[np.uint8]


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
    jobs: Sequence[Callable[[], ShardJob]],
    folder: Path,
    *,
    workers: int = 1,
    on_shard: Callable[[WrittenShard], object] = lambda _: None,
) -> list[WrittenShard]:
    """Write shards into `folder`, in this process or several; the bytes do not depend on how many.

    Args:
        jobs: make the content of one shard each, when its turn comes, so few are in memory at once.
        folder: where the paths of the jobs begin.
        workers: processes; 1 writes here.
        on_shard: told of every finished shard.

    Returns:
        One report per job, in the order of the jobs.
    """
    written = []
    if workers == 1:
        for job in jobs:
            written.append(write(job(), folder))
            on_shard(written[-1])
        return written
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_leave_interrupts) as pool:
        for start in range(0, len(jobs), 2 * workers):
            futures = [pool.submit(write, job(), folder) for job in jobs[start : start + 2 * workers]]
            try:
                for future in futures:
                    written.append(future.result())
                    on_shard(written[-1])
            except BrokenProcessPool as error:
                raise LtdataError(
                    "a worker process ended abruptly (out of memory?); run again, with fewer --workers"
                ) from error
    return written


def _leave_interrupts() -> None:
    """Let the main process alone answer Ctrl-C, which a terminal sends to every process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def write(job: ShardJob, folder: Path) -> WrittenShard:
    """Write one shard, atomically, under ``folder / job.path``."""
    tar = io.BytesIO()
    offsets, sizes, digests = [], [], []
    for sample_key, label, pixels in zip(job.keys, job.labels.tolist(), job.pixels, strict=True):
        _add(tar, f"{sample_key}.cls", str(label).encode())
        image = png.encode(pixels)
        offsets.append(_add(tar, f"{sample_key}.png", image))
        sizes.append(len(image))
        digests.append(sha256_bytes(image))
    tar.write(bytes(2 * tarfile.BLOCKSIZE))
    tar.write(bytes(-tar.tell() % tarfile.RECORDSIZE))
    data = tar.getvalue()
    (folder / job.path).parent.mkdir(exist_ok=True)  # not its parents: a staging folder that is gone stays gone
    write_atomic(folder / job.path, data)
    return WrittenShard(
        shard=Shard(path=job.path, num_samples=len(job.keys), bytes=len(data), sha256=sha256_bytes(data)),
        offsets=np.array(offsets, dtype=np.int64),
        sizes=np.array(sizes, dtype=np.int64),
        image_sha256=tuple(digests),
    )


def header(name: str, size_bytes: int) -> bytes:
    """Return the one tar header that a member of this name and size has: plain USTAR, 512 bytes."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size_bytes, 0o644
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member.tobuf(format=tarfile.USTAR_FORMAT)


def _add(tar: io.BytesIO, name: str, data: bytes) -> int:
    """Append a member; return where its data begin."""
    tar.write(header(name, len(data)))
    offset = tar.tell()
    tar.write(data)
    tar.write(bytes(-len(data) % tarfile.BLOCKSIZE))
    return offset
