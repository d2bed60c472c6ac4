"""Random access: any stored image of a split at any time, from any thread.

The digest of an image is checked the first time that it is read (of a photograph that takes a 25th of the time of
decoding it), its length every time.

`index.npz` says where an image lies (without it the shards are read through once), `pread` brings its bytes. A shard is
opened when the first image of it is asked for, so a part of the rows, such as one expert's classes, leaves the other
shards alone. (An mmap would save a copy, about a microsecond; but if the file is cut while it is mapped, a
touch of the missing page ends the process. `pread` gives too few bytes, which is an error with a name.)

    with open_images(folder, manifest, "train") as images:
        few = np.flatnonzero(manifest.groups[images.labels] == 2)
        pixels = images.decode(few)
        loader = DataLoader(images, 128, sampler=Sampler(images.labels, "square-root", seed=0))    # ltdata.samplers
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ltdata import png
from ltdata.errors import MismatchError, UsageError
from ltdata.files import open_at_once, sha256
from ltdata.images import Stored
from ltdata.manifest import Manifest
from ltdata.reader import decode, read_samples
from ltdata.stored import stored

_WINDOW_IMAGES = 4096  # in which an image is read once, 12 MB at CIFAR's size
_AHEAD_BYTES = 1 << 25  # a shard up to here is read ahead whole: random reads of a cold one take three times as long


class OpenImages:
    """Hold the stored images of a split, open for reading; close it, or use it in a ``with``.

    Attributes:
        labels: int64 (n,), in the protocol's order.
        located: where each image lies, and its digest.
    """

    def __init__(self, labels: NDArray[np.int64], located: Stored) -> None:
        self.labels = labels
        self.located = located
        self._shards = sorted(set(located.shards))
        numbers = {place: number for number, place in enumerate(self._shards)}
        self._shard_of = [numbers[place] for place in located.shards]
        self._checked = bytearray(len(labels))  # images whose digest was right
        self._files: dict[int, int] = {}  # number of the shard: its descriptor
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[NDArray[np.uint8], int]:
        """Return an image, RGB, uint8 (height, width, 3), and its label: what a map-style PyTorch data set gives.

        Raises:
            IndexError: there is no such row.
            MismatchError: it is not what its row says, or cannot be decoded.
        """
        row = range(len(self))[row]
        file = self.read(row)
        try:
            return np.array(decode(file)), int(self.labels[row])  # a copy, which can be written to
        except ValueError as error:
            raise MismatchError(f"{self.place(row)}: cannot be decoded ({error}); see ltdata verify") from error

    def __reduce__(self) -> tuple[type["OpenImages"], tuple[NDArray[np.int64], Stored]]:
        """Go to another process: it opens the shards itself."""
        return OpenImages, (self.labels, self.located)

    def __enter__(self) -> "OpenImages":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the shards; another read opens them again."""
        with self._lock:
            for descriptor in self._files.values():
                os.close(descriptor)
            self._files.clear()

    def opened(self) -> list[Path]:
        """List the shards that have been read from."""
        return [self._shards[number] for number in sorted(self._files)]

    def place(self, row: int) -> str:
        """Name an image in messages, by its shard and where it lies there."""
        return f"{self.located.shards[row]}: the image at byte {self.located.offsets[row]}"

    def read(self, row: int) -> bytes:
        """Read the file of one image, JPEG or PNG.

        Raises:
            MismatchError: its shard cannot be read, or its bytes are not those of its row.
        """
        return self._read([row])[0]

    def head(self, row: int, most_bytes: int) -> bytes:
        """Read the first bytes of one image's file, at most so many; nothing is compared with a digest.

        Raises:
            MismatchError: its shard cannot be read.
        """
        place = self.located.shards[row]
        try:
            descriptor = self._open(self._shard_of[row])
            return self._pread(descriptor, min(self.located.sizes[row], most_bytes), self.located.offsets[row])
        except OSError as error:
            raise MismatchError(f"{place}: cannot be read ({error.strerror or error}); see ltdata verify") from error

    def decode(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read and decode images of one size: RGB, uint8 (rows, height, width, 3).

        Raises:
            UsageError: no row was given, or something that is none (a mask becomes rows by `np.flatnonzero`).
            MismatchError: an image is not what its row says, or cannot be decoded, or has another size.
        """
        # In the order in which they lie there, each once: half the time of a class-balanced batch from a cold cache.
        numbers = np.asarray(rows)
        if not len(numbers) or numbers.dtype.kind not in "iu":
            raise UsageError(f"rows: {len(numbers)} of type {numbers.dtype}; numbers of rows are needed, at least one")
        if numbers.min() < 0 or numbers.max() >= len(self):
            raise UsageError(f"rows: {numbers.min()} .. {numbers.max()}; there are 0 .. {len(self) - 1}")
        _, first, again = np.unique(self._rank[numbers], return_index=True, return_inverse=True)
        files = self._read(numbers[first].tolist())
        together = png.decode_many(files)
        if together is None:
            try:
                together = np.stack([decode(file) for file in files])
            except ValueError as error:
                raise MismatchError(f"rows {numbers[:3].tolist()} ...: cannot be decoded ({error})") from error
        return together[again]

    def batches(self, order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.uint8]]:
        """Yield images of one size in some order, batch by batch: RGB, uint8 (size, height, width, 3).

        An image that a sampler draws several times within a few batches is read once: class-balanced, an epoch of
        CIFAR-100-LT has 4,700 different images. The first batch comes as soon as it is decoded itself.

        Args:
            order: rows, int64 (n,), see `ltdata.sampling`.
            size: of a batch; a last one that is smaller is left out.

        Raises:
            UsageError: the size is below 1, or as `decode`.
            MismatchError: as `decode`.
        """
        if size < 1:
            raise UsageError(f"size {size}: a batch has at least one image")
        end, window = len(order) - len(order) % size, 1
        start = 0
        while start < end:
            rows = order[start : min(start + window * size, end)]
            pixels = self.decode(rows)
            yield from pixels.reshape(-1, size, *pixels.shape[1:])
            start += len(rows)
            window = min(2 * window, max(1, _WINDOW_IMAGES // size))

    def _read(self, rows: Sequence[int]) -> list[bytes]:
        """Read the files of some images, see `read`; for thousands of small ones in a tight loop."""
        shard_of, offsets, sizes, digests = (
            self._shard_of,
            self.located.offsets,
            self.located.sizes,
            self.located.sha256,
        )
        files, pread, checked, found = self._files, self._pread, self._checked, []
        for row in rows:
            number = shard_of[row]
            try:
                data = pread(files[number] if number in files else self._open(number), sizes[row], offsets[row])
            except OSError as error:
                place = self._shards[number]
                raise MismatchError(
                    f"{place}: cannot be read ({error.strerror or error}); see ltdata verify"
                ) from error
            if not checked[row] and sha256(data).hexdigest() != digests[row]:
                raise MismatchError(f"{self.place(row)} has another digest than its row; see ltdata verify")
            if len(data) != sizes[row]:
                raise MismatchError(f"{self._shards[number]}: was cut while it was read; build it again")
            checked[row] = 1
            found.append(data)
        return found

    @cached_property
    def _rank(self) -> NDArray[np.int64]:
        """Number the images in the order in which they lie in the shards."""
        order = np.lexsort((self.located.offsets, self._shard_of))
        rank = np.empty(len(self), dtype=np.int64)
        rank[order] = np.arange(len(self))
        return rank

    def _open(self, number: int) -> int:
        """Open a shard if it is not open, and have the system begin to read a small one."""
        with self._lock:
            if number not in self._files:
                descriptor = open_at_once(self._shards[number], os.O_RDONLY)
                if hasattr(os, "posix_fadvise") and os.fstat(descriptor).st_size <= _AHEAD_BYTES:
                    with suppress(OSError):
                        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
                self._files[number] = descriptor
            return self._files[number]

    def _pread(self, descriptor: int, size: int, offset: int) -> bytes:
        with self._lock:  # Windows, which has no pread
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.read(descriptor, size)

    if hasattr(os, "pread"):
        _pread = staticmethod(os.pread)  # type: ignore[assignment]


def open_images(folder: Path | str, manifest: Manifest, split: str) -> OpenImages:
    """Open the images of a split for random access.

    Args:
        folder: of a build or a view.
        manifest: its header.
        split: such as ``train``.

    Raises:
        UsageError: there is no such split.
        SourceMissingError: no images belong to the manifest, or those of a view are gone.
        MismatchError: rows or shards are not what the manifest says.
    """
    folder = Path(folder)
    if split not in manifest.splits:
        raise UsageError(f"split {split!r}: {folder} has {', '.join(manifest.splits)}")
    samples = read_samples(folder, manifest)[split]
    return OpenImages(samples.labels, stored(folder, manifest, {split: samples})[split])
