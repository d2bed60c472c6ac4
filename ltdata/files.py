"""Files on disk: atomic commits, digests, and one lock per output; no other module writes files or computes digests.

A file or folder appears under its final name whole or not at all: it is written under a temporary name in
the same folder, flushed to the disk, renamed, and the rename itself is flushed. What a killed run left is removed
by the next that writes there.
"""

import errno
import hashlib
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from io import BufferedReader
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from filelock import FileLock, SoftFileLock, Timeout

from ltdata import signals
from ltdata.errors import LtdataError, OutputError, SourceMissingError

if sys.platform != "win32":
    import fcntl

_PART_BYTES = 1 << 20
_ENDLESS_BYTES = 1 << 30  # lists of 10,000,000 images are smaller
_NO_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM}  # what mounts without fsync on folders answer


def read_bytes(path: Path) -> bytes:
    """Read a file, a pipe or a device that someone named.

    Raises:
        SourceMissingError: it cannot be read, or has no end, see `read_open`.
    """
    try:
        with path.open("rb") as file:
            return read_open(file)
    except OSError as error:
        raise SourceMissingError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error


def read_open(file: BufferedReader) -> bytes:
    """Read an open file from where it stands to its end, which a pipe and a device, such as /dev/zero, may not have.

    Raises:
        OSError: it cannot be read, or is no regular file and has more than 1 GiB.
    """
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file.read()
    parts = bytearray()
    while part := file.read(_PART_BYTES):
        parts += part
        if len(parts) > _ENDLESS_BYTES:
            raise OSError("no regular file, and more than 1 GiB")
    return bytes(parts)


sha256 = hashlib.sha256  # for what comes in parts, and where a call more for each of many images would be felt


def sha256_bytes(data: bytes | memoryview) -> str:
    """Compute the SHA-256 of `data`, as 64 hex digits."""
    return sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Compute the SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return sha256_open(file)


def sha256_open(file: BufferedReader) -> str:
    """Compute the SHA-256 of an open file from where it stands to its end, as 64 hex digits."""
    return hashlib.file_digest(file, "sha256").hexdigest()


def open_at_once(place: str | Path, flags: int) -> int:
    """Open a file without waiting, which a pipe that nobody writes to would ask for; return its descriptor."""
    return os.open(place, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))


def published_digest(kind: str, data: bytes) -> str:
    """Compute a digest of a kind that others chose, ``md5`` and ``sha1`` too, as hex digits: no shield from malice."""
    return hashlib.new(kind, data, usedforsecurity=False).hexdigest()


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
        _drop_abandoned(path)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with _create(temporary) as file:
                yield file
                file.flush()
                flush_to_disk(file.fileno())
            commit(temporary, path)
        except BaseException:
            with signals.held():
                temporary.unlink(missing_ok=True)
            raise


def _create(temporary: Path) -> BinaryIO:
    """Create a file, locked as long as it is open: that tells a living writer's from a killed one's.

    Once more where another process took it for a killed one's in the moment before it had its lock.
    """
    while True:
        file = temporary.open("xb")
        if sys.platform != "win32":
            with suppress(OSError):  # without locks, what a killed run left stays
                fcntl.flock(file, fcntl.LOCK_EX)
        if temporary.exists():
            return file
        file.close()


def _drop_abandoned(path: Path) -> None:
    """Remove temporary files of `path` whose writers were killed."""
    for temporary in path.parent.glob(f".{escape(path.name)}.{'[0-9a-f]' * 8}.tmp"):
        with suppress(OSError), temporary.open("r+b") as file:
            if sys.platform == "win32":
                file.close()  # it unlinks no file that is open, a writer's or this one
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.unlink()


def commit(temporary: Path, path: Path) -> None:
    """Give a whole and flushed file or folder its final name, and flush that too."""
    temporary.replace(path)
    flush_folder(path.parent)


@contextmanager
def growing_file(path: Path, *, anew: bool) -> Iterator[BinaryIO]:
    """Give a file to append to, or to begin anew, that stays as far as it came; `commit` names it when it is whole."""
    with path.open("wb" if anew else "ab") as file:
        yield file
        file.flush()
        flush_to_disk(file.fileno())


def make_folder(folder: Path) -> None:
    """Make a folder that may be there already, and those above it, and flush their names to the disk.

    Raises:
        OutputError: it cannot be made.
    """
    with output_errors(folder):
        missing = list(takewhile(lambda place: not place.exists(), (folder, *folder.parents)))
        folder.mkdir(parents=True, exist_ok=True)
        for place in missing:
            flush_folder(place.parent)


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
    tidy(final)
    make_folder(final.parent)
    with output_errors(final):
        staging = _new_staging(final)
        try:
            staging.mkdir()
            yield staging
            flush_folder(staging)
            if replace and final.exists():
                final.rename(_retired(final))
            commit(staging, final)
        except OutputError as error:  # of a file in it, which is named by where it would have come to stand
            raise OutputError(str(error).replace(str(staging), str(final))) from error
        finally:
            with signals.held():
                tidy(final)


def leftovers(final: Path) -> list[Path]:
    """List what a killed run left beside `final`, its lock included.

    Raises:
        OutputError: a name beside it would be too long.
    """
    with output_errors(final):
        return [path for path in (*_stagings(final), _retired(final), _lock(final)) if path.exists()]


def tidy(final: Path) -> None:
    """Remove what a killed run left beside `final`; a retired folder without a successor is put back first.

    The caller holds the lock of `final`.
    """
    retired = _retired(final)
    with output_errors(final):
        if retired.exists():  # one that is half deleted must never be put back: it is no retired one any more
            retired.rename(_new_staging(final) if final.exists() else final)
        for staging in _stagings(final):
            gone = staging.rename(_new_staging(final))  # where a worker that outlived its command finds it no more
            shutil.rmtree(gone)


def _new_staging(final: Path) -> Path:
    """Return a name of its own for each run: a worker that outlived another's cannot write into this one's folder."""
    return final.with_name(f".{final.name}.ltdata-partial-{secrets.token_hex(4)}")


def _stagings(final: Path) -> list[Path]:
    return list(final.parent.glob(f".{escape(final.name)}.ltdata-partial*"))


def _retired(final: Path) -> Path:
    return final.with_name(f".{final.name}.ltdata-old")


def _lock(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


@contextmanager
def exclusive(target: Path) -> Iterator[None]:
    """Hold the lock of an output; a second process that wants it is refused at once.

    The lock is one of the system's, which ends with its process. Where the file system has none, it is a file that says
    who made it: after a kill, the next process on the same machine takes it over, and one on another is told which file
    to delete. All machines that write there must mount the folder alike.

    Raises:
        LtdataError: another process holds it.
        OutputError: the folder of `target` cannot be written.
    """
    path = _lock(target)
    make_folder(target.parent)
    with output_errors(target):
        soft = not _has_locks(target.parent)
    lock = SoftFileLock(path, timeout=0) if soft else FileLock(path, timeout=0)
    try:
        with signals.held():
            _acquire(lock, target)
        yield
    finally:
        with signals.held():
            if lock.is_locked and not soft:
                # Unlinked while held: filelock looks for the name of what it acquired, so nobody keeps a dead lock.
                with suppress(OSError):
                    path.unlink()
            lock.release()


def _has_locks(folder: Path) -> bool:
    """Tell whether the file system of a folder has locks: NFS, Lustre, FUSE and others may answer with any error.

    The file is nobody else's, so every error means that. It also shows whether the folder can be written, which
    filelock takes for a lock that is held.
    """
    with TemporaryFile(dir=folder) as file:
        if sys.platform != "win32":
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
    return True


def _acquire(lock: FileLock | SoftFileLock, target: Path) -> None:
    """Acquire a lock in two tries: the first may do no more than clear away a dead process's."""
    path = Path(lock.lock_file)
    try:
        try:
            lock.acquire()
        except Timeout:
            lock.acquire()
    except Timeout:
        gone = f", or delete {path} if it is gone ({_holder(path)})" if isinstance(lock, SoftFileLock) else ""
        raise LtdataError(f"{target}: another process is writing it; wait for it to end{gone}") from None
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{path}: cannot be locked ({reason}); remove it, or choose another place") from error


def _holder(path: Path) -> str:
    """Say which process made a lock file, in its own words: its number, and the machine."""
    with suppress(OSError, ValueError):
        if path.is_file() and not path.is_symlink():
            number, machine, *_ = path.read_text(encoding="utf-8").splitlines()
            return f"process {int(number)} on {machine.partition('?')[0]}"
    return "it does not say who it is"


def check_writable(target: Path) -> None:
    """Refuse a file or a folder that cannot be written, before any work is done for it; nothing is left there.

    Raises:
        OutputError: it cannot, or one of the folders above it cannot be made.
    """
    with output_errors(target):
        with suppress(FileNotFoundError):
            target.stat()  # fails for a name too long, a link to itself, a place below a file
        above = next(folder for folder in target.resolve().parents if folder.exists())
        with TemporaryFile(dir=above):
            pass


@contextmanager
def output_errors(target: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one `OutputError` that names the target."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        way_out = "free the space, mend the permission, or choose another place"
        if error.errno == errno.ENAMETOOLONG:
            way_out = "choose a shorter name: what is written beside it for a while has a longer one"
        raise OutputError(f"{target}: cannot be written ({reason}); {way_out}") from error


def flush_tree(folder: Path) -> None:
    """Flush every file and folder below a folder, and itself, that a library of others has written."""
    for place in (*folder.rglob("*"), folder):
        if place.is_dir():
            flush_folder(place)
        else:
            with place.open("r+b") as file:
                flush_to_disk(file.fileno())


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
