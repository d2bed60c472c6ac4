"""Files on disk: atomic commits, digests, and one lock per output.

A file or folder appears under its final name whole or not at all: it is written under a temporary name in
the same folder, flushed to the disk, renamed, and the rename itself is flushed.
"""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from ltdata.errors import LtdataError, OutputError, SourceMissingError

_NO_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM}  # what mounts without fsync on folders answer


def read_bytes(path: Path) -> bytes:
    """Read a file that someone named.

    Raises:
        SourceMissingError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceMissingError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error


def sha256_bytes(data: bytes | memoryview) -> str:
    """Compute the SHA-256 of `data`, as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Compute the SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that `path` is the old file or the whole new one, also after a power cut.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_file(path) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file that becomes `path` when the block ends well, and vanishes when it does not.

    Raises:
        OutputError: the file cannot be written.
    """
    with output_errors(path):
        if path.exists() and not path.is_file():  # a device or a pipe would be replaced by a file
            raise OSError("is no regular file")
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                flush_to_disk(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)


@contextmanager
def staged_folder(final: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a staging folder that becomes `final` when the block ends well, and vanishes when it does not.

    The staging folder is a sibling of `final`, so that the last step is one rename. The caller holds the lock of
    `final`.

    Args:
        final: must not exist, or be an empty folder, unless `replace`.
        replace: move an existing `final` away at the last moment, and delete it once the new one stands.

    Raises:
        OutputError: the folder cannot be written.
    """
    staging, retired = _siblings(final)
    tidy(final)
    with output_errors(final):
        staging.mkdir(parents=True)
        try:
            yield staging
            flush_folder(staging)
            if replace and final.exists():
                final.rename(retired)
            staging.rename(final)
            flush_folder(final.parent)
        finally:
            tidy(final)


def leftovers(final: Path) -> list[Path]:
    """List what a killed run left beside `final`."""
    return [path for path in _siblings(final) if path.exists()]


def tidy(final: Path) -> None:
    """Remove what a killed run left beside `final`; a retired folder without a successor is put back first.

    The caller holds the lock of `final`.
    """
    staging, retired = _siblings(final)
    with output_errors(final):
        if retired.exists() and not final.exists():
            retired.rename(final)
        for leftover in (staging, retired):
            if leftover.exists():
                shutil.rmtree(leftover)


def _siblings(final: Path) -> tuple[Path, Path]:
    return final.parent / f".{final.name}.ltdata-partial", final.parent / f".{final.name}.ltdata-old"


@contextmanager
def exclusive(target: Path) -> Iterator[None]:
    """Hold the lock of an output; a second process that wants it is refused at once.

    Raises:
        LtdataError: another process holds it.
        OutputError: the folder of `target` cannot be written.
    """
    path = target.parent / f".{target.name}.lock"
    lock = FileLock(path, timeout=0)
    with output_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # filelock takes a folder that cannot be written for a lock that is held
        try:
            lock.acquire()
        except Timeout:
            raise LtdataError(f"{target}: another process is writing it; wait for it to end") from None
    try:
        yield
    finally:
        # Unlinked while held: filelock compares inodes after it acquires, so nobody keeps a dead lock.
        with suppress(OSError):
            path.unlink()
        lock.release()


@contextmanager
def output_errors(target: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one `OutputError` that names the target."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{target}: cannot be written ({reason}); free the space, mend the permission, or choose another place"
        ) from error


def start_flush(file: BinaryIO, start: int, end: int) -> None:
    """Have the disk begin with bytes `start` to `end` of an open file, where the system takes such advice.

    Of 200 MB shards, `flush_to_disk` then waits a fifteenth of the time, since the disk has worked all along.
    """
    if hasattr(os, "posix_fadvise"):
        file.flush()
        with suppress(OSError):
            os.posix_fadvise(file.fileno(), start, end - start, os.POSIX_FADV_DONTNEED)


def flush_to_disk(descriptor: int) -> None:
    """Flush an open file or folder to the disk, where its file system can."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries (the renames inside it) to the disk."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        flush_to_disk(descriptor)
    finally:
        os.close(descriptor)
