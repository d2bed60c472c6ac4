"""No space, errors of the disk, quotas: exit 5, one line that names the target, and nothing partial.

Each case makes one call of a real command fail, or all from there on, as a full disk does; the calls are those of
`faults.points`. And real ones: a small file system in memory, limits on a file's size, /dev/full.
"""

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from photos import contents

from faults.breaks import Break
from faults.effort import WHOLE, thin, tried
from faults.points import Point, watched
from faults.runs import COMMANDS, WORKERS, Command, Ended, Fault, Tree, case, left, prepared, run, tree
from ltdata.errors import OutputError

_UNLINKED = "            temporary.unlink(missing_ok=True)\n            raise\n"
BREAKS = (
    Break("ltdata/files.py", _UNLINKED, "            raise\n", "any_call and file"),
    Break("ltdata/files.py", "with signals.held():\n                tidy(final)\n", "pass\n", "any_call and view"),
    Break("ltdata/files.py", "if error.errno not in _NO_FLUSH:", "if False:", "training_writes"),
    Break("ltdata/files.py", "str(error).replace(str(staging), str(final))", "str(error)", "any_call and view"),
    Break("ltdata/console.py", "OutputError.exit_code)", "1)", "full_standard"),
    Break("ace_ref/logs.py", "with output_errors(self._events):", "if True:", "goes_on"),
)
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Which errors a call can meet: a disk that is full may still delete, one that is broken or read-only may not.
ERRORS = {
    "open": (*_FULL, errno.EIO, errno.EROFS),
    "open-nameless": (*_FULL, errno.EIO, errno.EROFS),
    "write": (*_FULL, errno.EIO, errno.EFBIG),
    "truncate": (errno.EIO,),
    "fsync": (*_FULL, errno.EIO),
    "close": (*_FULL, errno.EIO),
    "mkdir": (*_FULL, errno.EIO, errno.EROFS),
    "rename": (*_FULL, errno.EIO, errno.EROFS),
    "replace": (*_FULL, errno.EIO, errno.EROFS),
    "unlink": (errno.EIO, errno.EROFS),
    "rmdir": (errno.EIO, errno.EROFS),
}
_TAKING = ("open", "open-nameless", "write", "fsync", "close", "mkdir")  # what a full disk refuses
_DELETING = ("unlink", "rmdir")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with prepared() as folder:
        yield folder


def complains(ended: Ended, folder: Path, number: int) -> None:
    """Check that a command ended as it promises: exit 5, one line, the target's name, the reason."""
    assert ended.code == 5, ended.errors
    (line,) = [text for text in ended.errors.splitlines() if "note:" not in text]
    assert re.match(rf"ltdata: error: {re.escape(str(folder))}/\.?out", line) or "error: out" in line, line
    assert os.strerror(number) in line
    assert "ltdata-partial" not in line


def fails(command: Command, folder: Path, fault: Fault, point: Point, new: Tree, old: Tree) -> None:
    """Run a command into a fault, look at what it says and leaves, and run it once more without."""
    ended = run(command.words, folder, fault)
    assert ended.struck
    found = tree(folder / "out")
    if not fault.stays and (point.name == "open-nameless" or (point.name == "unlink" and point.path.endswith(".lock"))):
        assert (ended.code, found) == (0, new)  # what is only asked, or can be done without
    else:
        complains(ended, folder, fault.error)
        assert found in (new, old)
    deletes = point.name in _DELETING or (point.name == "rename" and ".ltdata-partial" in Path(point.path).name)
    if not deletes:  # else what is to be deleted stays for the next run
        assert left(folder) == []
    again = run(command.words, folder)
    whole = found == new and "--force" not in command.words
    assert again.code == (command.again if whole else 0), again.errors
    assert tree(folder / "out") == new
    assert left(folder) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_any_call_that_fails_ends_a_command_in_one_line_and_leaves_nothing_partial(name: str, place: Path) -> None:
    command = COMMANDS[name]
    folder = case(place, name, before=command.before)
    old = tree(folder / "out")
    points = run(command.words, folder).points
    new = tree(folder / "out")
    faults = [  # of the command with most calls, every error at each; of the others, each in turn
        Fault(at, number, part=0.5 * (point.name == "write"))
        for at, point in enumerate(points, 1)
        for turn, number in enumerate(ERRORS[point.name])
        if name == "build" or turn == at % len(ERRORS[point.name])
    ]
    for number, fault in enumerate(faults if WHOLE else thin(faults, to=4)[1:3]):
        folder = case(place, f"{name}-{number}", before=command.before)
        fails(command, folder, fault, points[fault.at - 1], new, old)
        tried()


@pytest.mark.parametrize("name", thin(["build-force", "shards", "file-force", "files", "page"], to=2))
def test_a_disk_that_stays_full_leaves_nothing_partial(name: str, place: Path) -> None:
    command = COMMANDS[name]
    folder = case(place, f"{name}-stays", before=command.before)
    old = tree(folder / "out")
    points = [point for point in run(command.words, folder).points if point.name in _TAKING]
    new = tree(folder / "out")
    for at in thin(range(1, len(points) + 1), to=2):
        folder = case(place, f"{name}-stays-{at}", before=command.before)
        fault = Fault(at, errno.ENOSPC, part=0.5, names=_TAKING, stays=True)
        fails(command, folder, fault, points[at - 1], new, old)
        tried()


def test_a_worker_whose_disk_is_full_ends_the_command_in_one_line(place: Path) -> None:
    folder = case(place, "workers")
    assert run(WORKERS.words, folder).code == 0
    new = tree(folder / "out")
    for at in thin(range(1, 60), to=4):
        folder = case(place, f"workers-{at}")
        ended = run(WORKERS.words, folder, Fault(at, _FULL[at % 2], part=0.5, where="worker"))
        if not ended.struck:  # there are no more calls
            break
        assert ended.alone()
        if ended.code == 0:  # it made a folder that another worker has made in that moment
            assert (tree(folder / "out"), left(folder)) == (new, [])
            continue
        complains(ended, folder, _FULL[at % 2])
        assert (tree(folder / "out"), left(folder)) == (None, [])
        assert run(WORKERS.words, folder).code == 0
        assert tree(folder / "out") == new
        tried()


# Real ones


@pytest.mark.parametrize("name", thin(["build", "build-force", "shards", "file-force", "page"], to=3))
def test_a_file_over_the_limit_of_the_system_is_exit_5(name: str, place: Path) -> None:
    """RLIMIT_FSIZE, which answers EFBIG: Python ignores the signal that comes with it."""
    command = COMMANDS[name]
    folder = case(place, f"{name}-limit", before=command.before)
    old = tree(folder / "out")
    run(command.words, folder)
    new = tree(folder / "out")
    largest = len(new) if isinstance(new, bytes) else max(map(len, (new or {}).values()))
    for limit_bytes in thin(range(512, largest, largest // 8), to=1):
        folder = case(place, f"{name}-limit-{limit_bytes}", before=command.before)
        ended = run(command.words, folder, largest_bytes=limit_bytes)
        complains(ended, folder, errno.EFBIG)
        assert (tree(folder / "out"), left(folder)) == (old, [])
        assert run(command.words, folder).code == 0
        assert tree(folder / "out") == new
        tried()


def on_small_disks(name: str) -> None:
    """Run a command on file systems of every size that is too small, in a mount namespace; print how many."""
    command = COMMANDS[name]
    with prepared() as place:
        folder = case(place, "clean", before=command.before)
        old = tree(folder / "out")
        assert run(command.words, folder).code == 0
        new = tree(folder / "out")
        files = [new] if isinstance(new, bytes) else list((new or {}).values())
        pages = sum(-(-len(data) // _PAGE_BYTES) for data in files)
        sizes_kib = [count * _PAGE_BYTES // 1024 for count in thin(range(1, pages), to=1)]
        for size_kib in sizes_kib:
            disk = place / "disk"  # as far from what it reads as "clean" is, so that a view has the same bytes
            disk.mkdir(exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "none", disk], check=True)
            for there in ("photos", "whole", "other", "rows.csv"):
                (disk / there).symlink_to(place / there)
            if command.before:
                subprocess.run(["mount", "-o", "remount,size=10m", disk], check=True)
                assert run(command.before, disk).code == 0
                used_kib = os.statvfs(disk).f_blocks - os.statvfs(disk).f_bfree
                used_kib *= os.statvfs(disk).f_frsize // 1024
                subprocess.run(["mount", "-o", f"remount,size={size_kib + used_kib}k", disk], check=True)
            ended = run(command.words, disk)
            complains(ended, disk, errno.ENOSPC)
            assert (tree(disk / "out"), left(disk)) == (old, [])
            subprocess.run(["mount", "-o", "remount,size=10m", disk], check=True)
            assert run(command.words, disk).code == 0
            assert (tree(disk / "out"), left(disk)) == (new, [])
            subprocess.run(["umount", disk], check=True)
        print(len(sizes_kib))  # for the test, whose process this is not


@pytest.mark.parametrize("name", thin(["build", "build-force", "page"], to=1))
def test_a_disk_that_is_really_too_small_is_exit_5(name: str) -> None:
    may_mount = shutil.which("unshare") and subprocess.run(["unshare", "-rm", "true"], check=False).returncode == 0
    if not may_mount:
        pytest.skip("no small file system can be mounted here: unshare is not there, or not allowed")
    paths = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    script = f"from faults import test_no_space; test_no_space.on_small_disks({name!r})"
    ended = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    tried(int(ended.stdout))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize(
    "words", thin([("list",), ("stats", "whole"), ("stats", "whole", "--json"), ("verify", "whole")], to=1)
)
def test_a_full_standard_output_is_exit_5_in_one_line(words: tuple[str, ...], place: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "ltdata", *words], cwd=place, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert ended.returncode == 5
    assert ended.stderr.decode() == "ltdata: error: standard output: No space left on device\n"
    tried()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("name", ["build-force", "shards-force", "file-force", "files-force"])
def test_a_device_is_not_replaced_by_an_output(name: str, place: Path) -> None:
    words = tuple("/dev/full" if word == "out" else word for word in COMMANDS[name].words)
    folder = case(place, f"{name}-device")
    ended = run(words, folder)
    assert ended.code == 5
    assert ended.errors.startswith("ltdata: error: /dev/full: ")
    assert ended.errors.count("\n") == 1
    assert Path("/dev/full").is_char_device()
    assert left(folder) == []
    tried()


# The trainer's files


def trainer_files(folder: Path) -> dict[str, Callable[[], object]]:
    """Return what writes each of the trainer's outputs into a folder."""
    import numpy as np
    import test_ace_trainer as small

    from ace_ref import evaluate, run_folder, state
    from ace_ref.logs import Log

    split, manifest = small.make_split(small.COUNTS)
    training = state.begin(small.TINY, manifest, split, seed=0)
    history = [{"epoch": epoch, "loss": [1.0, 2.0]} for epoch in range(1, 40)]
    answered = evaluate.Answered(np.zeros(5, np.int64), np.zeros((5, 2), np.float32), np.zeros(5, np.int64))
    return {
        "checkpoint": lambda: run_folder.keep_checkpoint(folder, training),
        "result": lambda: run_folder.write_result(folder, training, {"seed": 0}),
        "log": lambda: Log(folder).write(history),
        "predictions": lambda: evaluate.write_predictions(folder / "predictions.npz", [answered], None),
    }


def kept(folder: Path) -> dict[str, bytes]:
    """Return the files of a training's folder; of its events, which may be there in part and hold times, nothing."""
    return {path: data for path, data in contents(folder).items() if not path.startswith("events/")}


def refusal(
    write: Callable[[], object], place: Path, error: int, fails_at: Callable[[Point], bool]
) -> OSError | OutputError | None:
    """Write into a fault; return what is raised, or None if it was over before."""

    def strike(point: Point) -> None:
        if fails_at(point):
            raise OSError(error, os.strerror(error), point.path)

    try:
        with watched(place, strike):
            write()
    except (OSError, OutputError) as refused:
        return refused
    return None


@pytest.mark.parametrize("name", ["checkpoint", "result", "log", "predictions"])
def test_what_a_training_writes_is_whole_or_not_there(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the trainer needs torch")
    place = tmp_path / "run"
    place.mkdir()
    write = trainer_files(place)[name]
    write()
    new = kept(place)
    for at in count(1):
        shutil.rmtree(place)
        place.mkdir()
        fails = iter([False] * (at - 1) + [True])
        error = _FULL[at % 2]
        refused = refusal(write, place, error, lambda _, fails=fails: next(fails, False))
        if refused is None:
            assert next(fails, False), "an error was kept quiet"
            break
        assert str(place) in str(refused)  # the command's one line names it
        assert os.strerror(error) in str(refused)
        assert kept(place).items() <= new.items()
        write()
        assert kept(place) == new
        tried()


def test_a_training_that_goes_on_does_not_wait_for_a_disk_that_is_full(tmp_path: Path) -> None:
    """Its whole history is written again, more than a queue of tensorboardX holds."""
    pytest.importorskip("tensorboardX", reason="there are no events without it")
    from ace_ref.logs import Log

    history = [{"epoch": epoch, "loss": [1.0] * 5} for epoch in range(1, 400)]
    refused = refusal(
        lambda: Log(tmp_path).write(history),
        tmp_path,
        errno.ENOSPC,
        lambda point: point.name == "write" and "tfevents" in point.path,
    )
    assert isinstance(refused, OutputError)
    assert "events/events.out.tfevents" in str(refused)
    tried()
