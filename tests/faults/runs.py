"""Runs: every command that writes, on a small set of photographs, in a process of its own that a fault strikes.

    with prepared() as place:
        ended = run(COMMANDS["fresh"].words, case(place, "1"), Fault(at=7))

kills the process before its 7th call that changes the disk. Processes are forked from one that has imported everything
(`multiprocessing`'s forkserver), so a run takes some 20 ms, and a fault does nothing to the tests' own process.
"""

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from photos import contents, put_photos

from faults.points import Point, Strike, watched
from ltdata import console, engine
from ltdata.cli import cli

_LIMIT_S = 120
_TICKETS = 1 << 15  # that fit into a pipe, more than any run has calls
_PHOTOS = [f"class{c}/{n}.jpg" for c in range(10) for n in range(3 if c < 3 else 2)]
_FORKED = multiprocessing.get_context("forkserver")
PRELOAD = [__name__, "PIL.Image", "ltdata.page"] + [
    f"ltdata.cli.{name}" for name in ("building", "subsetting", "exchange", "describing")
]
_FORKED.set_forkserver_preload(PRELOAD)
Tree = dict[str, bytes] | bytes | None


@dataclass(frozen=True)
class Command:
    """Say what is run, in a folder with `photos` and the builds `whole` and `other`; it writes `out`.

    Attributes:
        words: of the command line.
        before: of the command that has written an older `out`; none: there is none.
        again: the exit code where `out` stands whole already.
    """

    words: tuple[str, ...]
    before: tuple[str, ...] = ()
    again: int = 0


_BUILD = ("build", "folder", "--data-dir", "photos", "--groups", "mislas", "--test-per-class", "1", "--quiet")
_SUBSET = ("subset", "whole", "--per-class", "1", "--quiet")
_OUT, _FORCE = ("--out", "out"), ("--force", "--out", "out")
COMMANDS = {
    "build": Command(_BUILD + _OUT),
    "build-force": Command(_BUILD + _FORCE, before=(*_BUILD, "--seed", "1", *_OUT)),
    "build-rows": Command((*_BUILD, "--manifest-only", *_OUT)),
    "shards": Command((*_SUBSET, "--as", "shards", *_OUT), again=2),
    "shards-force": Command((*_SUBSET, "--as", "shards", *_FORCE), before=(*_SUBSET, "--seed", "1", *_OUT)),
    "view": Command((*_SUBSET, *_OUT), again=2),
    "import": Command(("import", "rows.csv", "--source", "photos", "--name", "taken", *_OUT), again=2),
    "file": Command(("export", "whole", "--format", "csv", *_OUT), again=2),
    "file-force": Command(
        ("export", "whole", "--format", "csv", *_FORCE), before=("export", "other", "--format", "csv", *_OUT)
    ),
    "files": Command(("export", "whole", "--format", "list", *_OUT), again=2),
    "files-force": Command(
        ("export", "whole", "--format", "list", *_FORCE), before=("export", "other", "--format", "list", *_OUT)
    ),
    "page": Command(("stats", "whole", "--quiet", "--html", "out"), again=2),
}
WORKERS = Command((*_BUILD, "--workers", "2", *_OUT))


@dataclass(frozen=True)
class Fault:
    """Say what strikes, and where.

    Attributes:
        at: the call, counted from 1.
        error: that it raises; 0: the process is killed.
        part: of the bytes of a write that reach the file all the same.
        where: ``main`` counts the calls of the command's own process alone, ``worker`` those of its workers.
        names: of the calls that are counted; none: all.
        stays: every later one of these calls fails too.
        sent: a signal that the process gets instead.
    """

    at: int
    error: int = 0
    part: float = 0.0
    where: str = ""
    names: tuple[str, ...] = ()
    stays: bool = False
    sent: int = 0


@dataclass(frozen=True)
class Ended:
    """Report a run.

    Attributes:
        code: exit code, or minus the signal.
        errors: what it wrote to stderr.
        points: its calls, where it was not killed and had no workers.
        struck: whether the fault came to strike.
        process: of the command, and its workers, as long as one of them lives.
        group: their number as a group.
    """

    code: int
    errors: str
    points: tuple[Point, ...]
    struck: bool
    process: Connection
    group: int

    def alone(self) -> bool:
        """Wait for the end of every process of the run; tell whether it came by itself."""
        try:
            while self.process.poll(_LIMIT_S / 2):
                self.process.recv()
        except EOFError:
            return True
        os.killpg(self.group, signal.SIGKILL)
        return False


@contextmanager
def prepared() -> Iterator[Path]:
    """Give a folder with what the commands read: in memory where the system has such, six times as fast."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own in it
    with TemporaryDirectory(prefix="ltdata-faults-", dir=memory if os.access(memory, os.W_OK) else None) as made:
        path = os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")]))
        with patch.dict(os.environ, PYTHONPATH=path):  # before 3.13 it does not take the tests' own along
            forkserver.ensure_running()
        place = Path(made).resolve() / "place"  # beside which its log goes
        put_photos(place / "photos", _PHOTOS)
        (place / "rows.csv").write_text("path,label\n" + "".join(f"{path},0\n" for path in _PHOTOS))
        for seed, out in enumerate(("whole", "other")):
            ended = run((*_BUILD, "--seed", str(seed), "--out", out), place)
            assert ended.code == 0, ended.errors
        yield place


def case(place: Path, name: str, *, before: tuple[str, ...] = ()) -> Path:
    """Make a folder in which a command can run."""
    folder = place / name
    folder.mkdir()
    for there in ("photos", "whole", "other", "rows.csv"):
        (folder / there).symlink_to(place / there)
    if before:
        ended = run(before, folder)
        assert ended.code == 0, ended.errors
    return folder


def tree(path: Path) -> Tree:
    """Return what stands there: the files of a folder, the bytes of a file, or nothing."""
    if path.is_dir():
        return contents(path)
    return path.read_bytes() if path.exists() else None


def left(folder: Path) -> list[str]:
    """List what stands in a case's folder beside `out` and what it came with."""
    came_with = {"photos", "whole", "other", "rows.csv", "out"}
    return sorted(path.name for path in folder.iterdir() if path.name not in came_with)


def run(words: tuple[str, ...], folder: Path, fault: Fault | None = None, *, largest_bytes: int = 0) -> Ended:
    """Run a command in a process of its own, in a folder; no file may become larger than some bytes, if given."""
    process, end = _FORKED.Pipe(duplex=False)
    log = folder.with_name(f"{folder.name}.log")
    started = _FORKED.Process(target=_run, args=(words, str(folder), fault, largest_bytes, str(log), end))
    started.start()
    end.close()
    started.join(_LIMIT_S)
    if started.exitcode is None:
        started.kill()
        raise AssertionError(f"{words}, {fault}: hangs: {log.read_text()}")
    points, struck = process.recv() if started.exitcode >= 0 and process.poll() else ((), True)
    return Ended(started.exitcode, log.read_text(), points, struck, process, started.pid or 0)


def _run(
    words: tuple[str, ...], folder: str, fault: Fault | None, largest_bytes: int, log: str, end: Connection
) -> None:
    os.setpgrp()
    os.chdir(folder)
    with open(log, "w") as file:  # noqa: PTH123 - of descriptors
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if largest_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_bytes, resource.RLIM_INFINITY))
    sys.argv = ["ltdata", *words]
    points: list[Point] = []
    tickets, strike = _strike(fault, points)
    # Workers are forked, which is quick, and takes the watch along.
    with (
        patch.object(engine, "get_context", lambda _: multiprocessing.get_context("fork")),
        watched(Path(folder), strike),
    ):
        try:
            console.run(cli, name="ltdata")
        except SystemExit as ended:
            code = ended.code
            sys.stderr.flush()
    to_come = os.read(tickets, _TICKETS)
    if to_come == b"\1" and fault is not None and not (fault.error or fault.sent or fault.where == "worker"):
        os.kill(os.getpid(), signal.SIGKILL)  # after the last call
    end.send((tuple(points), not to_come))
    sys.exit(code)


def _strike(fault: Fault | None, points: list[Point]) -> tuple[int, Strike]:
    """Return what every call of a run and its workers does first, and where to see whether the fault is still to come.

    Each takes a ticket out of one pipe, which is safe between processes and leaves no lock behind a killed one.
    """
    tickets, write = os.pipe()
    if fault is not None:
        os.write(write, b"\0" * (fault.at - 1) + b"\1")
    os.close(write)
    main = os.getpid()

    def strike(point: Point) -> None:
        points.append(replace(point, data=b""))
        if fault is None or (fault.names and point.name not in fault.names):
            return
        if fault.where and fault.where != ("main" if os.getpid() == main else "worker"):
            return
        ticket = os.read(tickets, 1)
        if ticket == b"\0" or (not ticket and not fault.stays):
            return
        if fault.part and point.data:
            point.tear(fault.part)
        if not fault.error:
            os.kill(os.getpid(), fault.sent or signal.SIGKILL)
            return
        raise OSError(fault.error, os.strerror(fault.error))

    return tickets, strike
