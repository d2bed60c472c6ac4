"""Any bytes: every reader of what comes from elsewhere gives what the format says, or refuses with the project's error.

No other exception, no warning, no hang, no memory without measure, no file opened, written or left outside the folder,
no process started, no socket, nothing looked up by a pickle. What is tried, and what must hold of an answer, is in
`targets`.
"""

import os
import pickle
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest

import ltdata
from faults.breaks import Break
from faults.effort import WHOLE, tried
from faults.targets import TARGETS, Target
from ltdata import pinned

CORPUS = Path(__file__).parent / "corpus"
CHUNK = 5_000  # mutants of a test: some seconds, so that they spread over workers
FAST = 150  # in `make test`, one of so many mutants is tried
LIMIT_S = 60  # for one mutant; the slowest take a tenth of a second
MEMORY_BYTES = 3 << 30  # beyond what the process has: an image may have 89 million pixels, and is there three times
PEAK_BYTES = 2 << 30  # that may be touched, by whatever mutants
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CODE = tuple(map(Path, {sys.prefix, sys.base_prefix, Path(ltdata.__file__).parent.parent}))
_NEVER = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "socket.__new__"}
_NEVER |= {"socket.connect", "socket.getaddrinfo", "pickle.find_class", "os.link", "os.symlink", "shutil.rmtree"}
_LOOKS = {"open", "os.listdir", "os.scandir"}  # as an import of a module does
_CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown"}


BREAKS = (
    Break("ltdata/reader.py", r' or padding.strip(b"\0")', "", only="shard"),
    Break(
        "ltdata/images.py",
        "except Exception as error:  # of a broken",
        "except OSError as error:  # of a broken",
        only="png",
    ),
    Break("ltdata/formats/arrays.py", 'if values.dtype.kind == "U" and', "if False and", only="npy or came"),
    Break("ltdata/manifest.py", "if rows_to_bytes(name, samples) != part:", "if False:", only="rows"),
    Break("ltdata/lists.py", 'if ".." in path.split("/"):', "if False:", only="text or came"),
    Break("ltdata/sources/coco.py", "(ValueError, RecursionError)", "json.JSONDecodeError", only="coco"),
)


class _Watch:
    """Note what a reader does outside its folder, by Python's audit hook, which cannot be taken out again."""

    folder: str | None = None
    seen: list[str] = []  # noqa: RUF012 - of the one instance

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if self.folder is None:
            return
        if event in _NEVER:
            self.seen.append(f"{event} {args!r:.200}")
        elif event in _LOOKS or event in _CHANGES:
            path = args[0]
            if isinstance(path, int):
                return
            place = Path(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100
            flags = args[2] if event == "open" and isinstance(args[2], int) else 0
            code = not flags & _WRITES and event in _LOOKS and any(map(place.is_relative_to, _CODE))
            if not place.is_relative_to(self.folder) and not code:
                self.seen.append(f"{event} {path!r:.200}")


_watch = _Watch()
sys.addaudithook(_watch)


class Hang(BaseException):
    """Say that a reader took too long; no reader catches it."""


@contextmanager
def bounded(folder: Path) -> Iterator[None]:
    """Bound memory and time of what is read in the block, and watch what it opens."""

    def over(_number: int, _frame: FrameType | None) -> NoReturn:
        raise Hang(f"more than {LIMIT_S} s")

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, over)
    _watch.seen.clear()
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, limits[1]))
    _watch.folder = str(folder)
    try:
        yield
    finally:
        _watch.folder = None
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder in memory where there is one: a target may write and flush a file for every mutant."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own in it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made).resolve()


@pytest.fixture(autouse=True)
def _no_pinned_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an import not look through the pinned splits, which takes a hundred times as long as the rest of it."""
    monkeypatch.setattr(pinned, "names", list)


def read_all(target: Target, mutants: Iterator[tuple[object, bytes]], place: Path) -> tuple[int, int]:
    """Read mutants, none twice; return how many there were, and how many of them were accepted."""
    taken = [target.read(data) for data in target.mutator.inputs]  # what is imported late is imported now
    assert any(taken), "of a target that refuses everything nobody learns"
    target.read(b"")
    there = sorted(place.rglob("*"))
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = set(target.mutator.inputs)
    given, accepted = len(seen), 0
    with bounded(place):
        for name, data in mutants:
            if data in seen:
                continue
            seen.add(data)
            signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
            try:
                accepted += bool(target.read(data))
            except BaseException as error:
                _watch.folder = None
                error.add_note(f"mutant {name}, {len(data)} bytes: {data[:300]!r}")
                raise
    assert not _watch.seen, _watch.seen[:3]
    assert sorted(place.rglob("*")) == there
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kb
    assert grown_kb * 1024 < PEAK_BYTES, f"{grown_kb:,} KB more than before"
    return len(seen) - given, accepted


CHUNKS = [
    pytest.param(name, start, min(start + CHUNK, last), id=f"{name} {start}")
    for name, last in {name: entry.mutants // (1 if WHOLE else FAST) for name, entry in TARGETS.items()}.items()
    for start in range(0, last, CHUNK)
]


@pytest.mark.parametrize(("name", "start", "end"), CHUNKS)
def test_any_bytes_are_read_as_the_format_says_or_refused(name: str, start: int, end: int, place: Path) -> None:
    target = TARGETS[name].make(place)
    mutants = ((number, target.mutator.mutant(number)) for number in range(start, end))
    read, accepted = read_all(target, mutants, place)
    assert accepted < read / 2, "of a mutator that breaks nothing nobody learns"
    tried(read)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_once_came_through_is_read_as_the_format_says_or_refused(path: Path, place: Path) -> None:
    """Files that a search found, each in the folder of its target; their names say what they did."""
    target = TARGETS[path.parent.name.replace("-", " ")].make(place)
    read, _ = read_all(target, iter([(path.name, path.read_bytes())]), place)
    tried(read)


@pytest.mark.parametrize("name", ["shard", "mixed shard"])
def test_nothing_hides_in_the_padding_of_an_image(name: str, place: Path) -> None:
    target = TARGETS[name].make(place)
    data = bytearray(target.mutator.inputs[0])
    size_bytes = int(data[1024 + 124 : 1024 + 135], 8)  # of the first image, after its label
    data[1536 + size_bytes] = 1
    assert not target.read(bytes(data))
    tried()


def test_a_mutant_is_a_function_of_its_number(place: Path) -> None:
    made = [TARGETS["shard"].make(place).mutator for _ in range(2)]
    assert [made[0].mutant(number) for number in range(50)] == [made[1].mutant(number) for number in range(50)]


def _open_elsewhere(_: Path) -> None:
    Path("/etc/passwd").read_bytes()


def _write_beside(place: Path) -> None:
    beside = place.with_name(f"{place.name}-beside")
    try:
        beside.write_bytes(b"")
    finally:
        os.unlink(beside)  # noqa: PTH108 - seen too


def _connect(_: Path) -> None:
    socket.socket().close()


def _look_up(_: Path) -> None:
    pickle.loads(pickle.dumps(len))


@pytest.mark.parametrize("does", [_open_elsewhere, _write_beside, _connect, _look_up])
def test_the_watch_sees_what_a_reader_does_outside_its_folder(does: Callable[[Path], None], place: Path) -> None:
    with bounded(place):
        (place / "inside").write_bytes(b"")
    assert not _watch.seen
    with bounded(place):
        does(place)
    assert _watch.seen


def test_a_hang_and_memory_without_measure_are_seen(place: Path) -> None:
    with bounded(place), pytest.raises(MemoryError):
        bytearray(2 * MEMORY_BYTES)
    with bounded(place), pytest.raises(Hang):
        _wait_for_ever()


def _wait_for_ever() -> NoReturn:
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    while True:
        pass
