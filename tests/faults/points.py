"""Points: every call by which a command changes a disk, numbered; at one of them a fault strikes.

    with watched(tmp_path, strike):
        build(...)

calls `strike(Point)` before each: opening for writing, write, truncate, fsync, close, rename, mkdir, unlink, rmdir,
of anything below the folder. What `strike` raises is what the call raises. Of a write, `Point.tear` puts a part of the
bytes on the disk first, as a full disk and a kill do.
"""

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_OPEN, _OS = io.open, {name: getattr(os, name) for name in ("open", "close", "fsync", "truncate", "ftruncate")}
_BY_PATH = ("mkdir", "unlink", "remove", "rmdir", "truncate")


@dataclass(frozen=True)
class Point:
    """Describe a call that is about to be made.

    Attributes:
        name: of the call.
        path: what it is about; of a rename, the new name.
        old: of a rename, the old name.
        data: of a write, the bytes.
        descriptor: of an open file, or -1.
    """

    name: str
    path: str
    old: str = ""
    data: memoryview | bytes = b""
    descriptor: int = -1

    def tear(self, part: float) -> None:
        """Write a part of the bytes, 0 to 1."""
        os.write(self.descriptor, self.data[: round(len(self.data) * part)])


Strike = Callable[[Point], object]


@contextmanager
def watched(folder: Path, strike: Strike) -> Iterator[None]:
    """Call `strike` before every call that changes what lies below a folder."""
    watcher = _Watcher(str(folder), strike)
    names = {name: getattr(watcher, name, None) or watcher.by_path(name) for name in (*_OS, *_BY_PATH)}
    with (
        patch.multiple(os, rename=watcher.renaming("rename"), replace=watcher.renaming("replace"), **names),
        patch.object(io, "open", watcher.open_file),
        patch.object(builtins, "open", watcher.open_file),
    ):
        yield


class _Watcher:
    def __init__(self, folder: str, strike: Strike) -> None:
        self._folder = folder + os.sep
        self._strike = strike
        self.places: dict[int, str] = {}  # of open files

    def point(self, name: str, path: str, **more: Any) -> None:
        if path.startswith(self._folder) or path + os.sep == self._folder:
            self._strike(Point(name, path, **more))

    def place(self, path: Any, dir_fd: int | None = None) -> str:
        if isinstance(path, int):
            return self.places.get(path, "")
        return os.path.normpath(
            os.path.join(self.places[dir_fd] if dir_fd is not None else os.getcwd(), os.fspath(path))  # noqa: PTH109, PTH118
        )

    def by_path(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(path: Any, *args: Any, dir_fd: int | None = None, **options: Any) -> Any:
            place = self.place(path, dir_fd)
            if name != "mkdir" or not os.path.isdir(place):  # noqa: PTH112 - which changes nothing
                self.point(name, place)
            return real(path, *args, **options | ({"dir_fd": dir_fd} if dir_fd is not None else {}))

        return call

    def renaming(self, name: str) -> Callable[..., None]:
        real = getattr(os, name)

        def call(old: Any, new: Any, **options: Any) -> None:
            self.point(name, self.place(new), old=self.place(old))
            real(old, new, **options)

        return call

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = self.place(path, dir_fd)
        if flags & _WRITING:
            self.point("open-nameless" if os.path.isdir(place) else "open", place)  # noqa: PTH112
        descriptor: int = _OS["open"](path, flags, mode, dir_fd=dir_fd)
        self.places[descriptor] = place
        return descriptor

    def close(self, descriptor: int) -> None:
        self.places.pop(descriptor, None)
        _OS["close"](descriptor)

    def fsync(self, descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        self.point("fsync", self.places.get(number, ""), descriptor=number)
        _OS["fsync"](descriptor)

    def ftruncate(self, descriptor: int, length: int) -> None:
        self.point("truncate", self.places.get(descriptor, ""), descriptor=descriptor)
        _OS["ftruncate"](descriptor, length)

    def open_file(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Callable[[str, int], int] | None = None,
    ) -> Any:
        """Open as `io.open`; a file below the folder that is opened to be written is a `_Raw` beneath its buffer."""
        place = self.place(file)
        if not set(mode) & set("wxa+") or not place.startswith(self._folder):
            return _OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if opener is None:  # which calls `os.open` itself
            self.point("open", place)
        raw = _Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        raw.watch(self, place)
        if buffering == 0:
            return raw
        buffer = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, errors, newline)


class _Raw(io.FileIO):
    """A file whose writes and whose end are points."""

    def watch(self, watcher: _Watcher, place: str) -> None:
        self._watcher, self._place = watcher, place
        watcher.places[self.fileno()] = place

    def write(self, data: Any) -> int:
        self._watcher.point("write", self._place, data=memoryview(data).cast("B"), descriptor=self.fileno())
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        self._watcher.point("truncate", self._place, descriptor=self.fileno())
        return super().truncate(size)

    def close(self) -> None:
        """Close; a fault strikes afterwards, as the system's do: the descriptor is gone either way."""
        if self.closed:
            return
        self._watcher.places.pop(self.fileno(), None)
        super().close()
        self._watcher.point("close", self._place)
