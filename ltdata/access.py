"""Random access: any stored image of a split at any time, from any thread, its digest checked each time.

`index.npz` says where an image lies (without it the shards are read through once), `pread` brings its bytes. A shard is
opened when the first image of it is asked for, so a part of the rows, such as one expert's classes, leaves the other
shards alone. (An mmap would save a copy, about a microsecond; but if the file is cut while it is mapped, a
touch of the missing page ends the process. `pread` gives too few bytes, which is an error with a name.)

    with open_images(folder, manifest, "train") as images:
        few = np.flatnonzero(manifest.groups[images.labels] == 2)
        pixels = images.decode(few)
"""

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ltdata import png
from ltdata.errors import MismatchError, UsageError
from ltdata.files import sha256_bytes
from ltdata.images import Stored
from ltdata.manifest import Manifest
from ltdata.reader import decode, read_samples
from ltdata.stored import stored


class OpenImages:
    """Hold the stored images of a split, open for reading; close it, or use it in a ``with``.

    Attributes:
        labels: int64 (n,), in the protocol's order.
        located: where each image lies, and its digest.
    """

    def __init__(self, labels: NDArray[np.int64], located: Stored) -> None:
        self.labels = labels
        self.located = located
        self._files: dict[Path, int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

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
        return sorted(self._files)

    def read(self, row: int) -> bytes:
        """Read the file of one image, JPEG or PNG.

        Raises:
            MismatchError: its shard cannot be read, or its bytes are not those of its row.
        """
        place, offset = self.located.shards[row], self.located.offsets[row]
        data = self.head(row, self.located.sizes[row])
        if sha256_bytes(data) != self.located.sha256[row]:
            raise MismatchError(
                f"{place}: the image at byte {offset} has another digest than its row; see ltdata verify"
            )
        return data

    def head(self, row: int, most_bytes: int) -> bytes:
        """Read the first bytes of one image's file, at most so many; nothing is compared with a digest.

        Raises:
            MismatchError: its shard cannot be read.
        """
        place, offset, size = self.located.shards[row], self.located.offsets[row], self.located.sizes[row]
        try:
            descriptor = self._files.get(place)
            if descriptor is None:
                descriptor = self._open(place)
            return self._pread(descriptor, min(size, most_bytes), offset)
        except OSError as error:
            raise MismatchError(f"{place}: cannot be read ({error.strerror or error}); build it again") from error

    def decode(self, rows: Iterable[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read and decode images of one size: RGB, uint8 (rows, height, width, 3).

        Raises:
            MismatchError: an image is not what its row says, or cannot be decoded, or has another size.
        """
        numbers = rows.tolist() if isinstance(rows, np.ndarray) else list(rows)
        files = [self.read(row) for row in numbers]
        together = png.decode_many(files)
        if together is not None:
            return together
        try:
            return np.stack([decode(file) for file in files])
        except ValueError as error:
            raise MismatchError(f"rows {numbers[:3]} ...: cannot be decoded into one array ({error})") from error

    def _open(self, place: Path) -> int:
        with self._lock:
            if place not in self._files:
                self._files[place] = os.open(place, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            return self._files[place]

    def _pread(self, descriptor: int, size: int, offset: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(descriptor, size, offset)
        with self._lock:  # Windows
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.read(descriptor, size)


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
