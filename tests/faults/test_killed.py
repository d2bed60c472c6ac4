"""`kill -9` at every call by which a command changes the disk, and in the middle of every write.

Each case kills a real process, looks at what stands, and runs the same command again. The calls are those of
`faults.points`; strace, where it is, kills at the system's own. A power cut loses more than a kill does: what was not
flushed. That is tried on a clean run's calls, in their order.
"""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from faults.breaks import Break
from faults.effort import thin, tried
from faults.points import Point
from faults.runs import COMMANDS, WORKERS, Command, Fault, Tree, case, left, prepared, run, tree
from ltdata.manifest import MANIFEST_NAME
from ltdata.verify import verify

_FLUSHED = "                flush_to_disk(file.fileno())\n            commit"
_SET_APART = "retired.rename(_new_staging(final) if final.exists() else final)"
BREAKS = (
    Break(
        "ltdata/files.py", "  commit(temporary, path)\n", "  shutil.copyfile(temporary, path)\n", "its_calls and file"
    ),
    Break("ltdata/files.py", "        _drop_abandoned(path)\n", "", "its_calls and file"),
    Break("ltdata/files.py", _SET_APART, "shutil.rmtree(retired)", "put_back"),
    Break("ltdata/files.py", _SET_APART, "shutil.rmtree(retired) if final.exists() else retired.rename(final)", "half"),
    Break("ltdata/files.py", ", _lock(final)) if", ") if", "its_calls and rows"),
    Break("ltdata/files.py", _FLUSHED, "            commit", "power and rows"),
    Break("ltdata/files.py", "replace(path)\n    flush_folder(path.parent)", "replace(path)", "power and rows"),
    Break("ltdata/files.py", "            flush_folder(place.parent)\n", "            pass\n", "power and rows"),
    Break("ltdata/engine.py", "        os._exit(1)\n", "        pass\n", "outlives"),
)
_TORN = (0.1, 0.9)  # of the bytes of a write, which reach the file before the kill
_SYSTEM_CALLS = "openat,write,fsync,mkdir,rename,unlink,unlinkat,rmdir,ftruncate,flock"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with prepared() as folder:
        yield folder


def clean(command: Command, place: Path, name: str) -> tuple[tuple[Point, ...], Tree, Tree]:
    """Run a command without a fault; return its calls, what stood before, and what it writes."""
    folder = case(place, name, before=command.before)
    old = tree(folder / "out")
    ended = run(command.words, folder)
    assert ended.code == 0, ended.errors
    return ended.points, old, tree(folder / "out")


def is_whole(out: Path) -> bool:
    """Tell whether what stands there is whole by its own digests, where it has some."""
    if (out / MANIFEST_NAME).exists():
        verify(out)
    return True


def runs_again(command: Command, folder: Path, new: Tree) -> None:
    """Run a command once more after a kill: it ends with the bytes of a clean run, and nothing is beside them."""
    whole = tree(folder / "out") == new and "--force" not in command.words
    ended = run(command.words, folder)
    assert ended.code == (command.again if whole else 0), ended.errors
    assert tree(folder / "out") == new
    assert left(folder) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_any_of_its_calls_a_command_leaves_nothing_partial_and_runs_again(name: str, place: Path) -> None:
    command = COMMANDS[name]
    points, old, new = clean(command, place, name)
    kills = [Fault(number, part=p) for number, point in enumerate(points, 1) if point.name == "write" for p in _TORN]
    kills += [Fault(number) for number in range(1, len(points) + 1)]
    for number, kill in enumerate(thin(kills, to=2)):
        folder = case(place, f"{name}-{number}", before=command.before)
        assert run(command.words, folder, kill).code == -signal.SIGKILL
        found = tree(folder / "out")
        if found not in (new, old):  # between two renames: then the old one is beside its place, and is put back
            assert found is None
            assert tree(folder / ".out.ltdata-old") == old
        assert is_whole(folder / "out")
        runs_again(command, folder, new)
        tried()


@pytest.mark.parametrize("where", ["main", "worker"])
def test_a_killed_worker_or_main_process_leaves_nothing_partial_and_outlives_no_other(where: str, place: Path) -> None:
    """Which worker makes the n-th call is the system's choice. A rerun does not wait for those that still end."""
    _, _, new = clean(WORKERS, place, where)
    for at in thin(range(1, 60), to=5):
        folder = case(place, f"{where}-{at}")
        killed = run(WORKERS.words, folder, Fault(at, where=where))
        if not killed.struck:  # there are no more calls
            break
        found = tree(folder / "out")
        assert found in (None, new)
        if where == "worker":
            assert (killed.code, found, left(folder)) == (1, None, [])
            assert re.fullmatch(r"ltdata: error: a worker process ended abruptly .*\n", killed.errors)
        else:
            assert killed.code == -signal.SIGKILL
        runs_again(WORKERS, folder, new)
        assert killed.alone()
        assert tree(folder / "out") == new
        assert left(folder) == []
        tried()


def test_a_half_deleted_old_build_is_never_taken_for_a_whole_one(place: Path) -> None:
    """A build was replaced, its deletion killed, and the new one moved away: nothing of the old one comes back."""
    command = COMMANDS["build-force"]
    points, _, new = clean(command, place, "moved")
    deletes = [number for number, point in enumerate(points, 1) if point.name in ("unlink", "rmdir")]
    for at in thin(deletes, to=3):
        folder = case(place, f"moved-{at}", before=command.before)
        run(command.words, folder, Fault(at))
        assert tree(folder / "out") == new
        (folder / "out").rename(place / f"moved-{at}-away")
        runs_again(COMMANDS["build"], folder, new)
        tried()


def test_an_old_build_that_was_moved_away_is_put_back_before_all_else(place: Path) -> None:
    """Killed between its two renames, a replacement has neither at its place; the next run may meet a full disk."""
    command = COMMANDS["build-force"]
    points, old, new = clean(command, place, "between")
    (at,) = [
        number for number, point in enumerate(points, 1) if point.name == "replace" and point.path.endswith("/out")
    ]
    folder = case(place, "between-killed", before=command.before)
    run(command.words, folder, Fault(at))
    assert tree(folder / "out") is None
    ended = run(command.words, folder, Fault(at // 2, errno.ENOSPC))
    assert (ended.code, tree(folder / "out"), left(folder)) == (5, old, [])
    runs_again(command, folder, new)
    tried()


# A power cut


def unsafe(points: Sequence[Point], final: str) -> list[str]:
    """Say what a power cut could lose of what already bears a name of its own: data, or names in a folder.

    A rename can be on the disk before anything else that was not flushed is.
    """
    data: set[str] = set()  # written since the last flush
    entries: set[str] = set()  # named since the last flush of their folder
    faults = []
    for point in points:
        if point.name in ("write", "truncate"):
            data.add(point.path)
        elif point.name in ("open", "mkdir"):
            entries.add(point.path)
        elif point.name == "fsync":
            data.discard(point.path)
            entries = {path for path in entries if os.path.dirname(path) != point.path}  # noqa: PTH120 - of a text
        elif point.name in ("rename", "replace"):
            inside = f"{point.old}/"
            faults += [
                f"{path} is renamed before its data is flushed" for path in data if (path + "/").startswith(inside)
            ]
            faults += [f"{path} is renamed before it is an entry" for path in entries if path.startswith(inside)]
            entries.add(point.path)
        elif point.name in ("unlink", "rmdir"):
            entries.discard(point.path)
    return faults + [f"{path} is not flushed at the end" for path in entries if f"{final}/".startswith(f"{path}/")]


@pytest.mark.parametrize("name", COMMANDS)
def test_before_a_power_cut_all_is_flushed_that_has_its_final_name(name: str, place: Path) -> None:
    command = COMMANDS[name]
    points, _, _ = clean(command, place, f"{name}-power")
    assert unsafe(points, str(place / f"{name}-power" / "out")) == []
    folder = case(place, f"{name}-deep")  # in folders that it makes
    ended = run((*(word for word in command.words if word != "out"), "new/deep/out"), folder)
    assert ended.code == 0, ended.errors
    assert unsafe(ended.points, str(folder / "new" / "deep" / "out")) == []
    tried(2)


def test_the_test_of_flushes_can_fail() -> None:
    def calls(*pairs: str) -> list[Point]:
        return [Point(name, path, old) for name, path, old in (f"{pair}  ".split(" ")[:3] for pair in pairs)]

    good = ["open /d/t", "write /d/t", "fsync /d/t", "replace /d/out /d/t", "fsync /d"]
    assert unsafe(calls(*good), "/d/out") == []
    for missing in (2, 4):
        assert unsafe(calls(*good[:missing], *good[missing + 1 :]), "/d/out") != []
    assert unsafe(calls("mkdir /d", *good), "/d/out") != []
    folder = ["mkdir /d/s", *(call.replace("/d/", "/d/s/").replace("sh /d", "sh /d/s") for call in good)]
    assert unsafe(calls(*folder, "fsync /d/s", "rename /d/out /d/s", "fsync /d"), "/d/out") == []
    assert unsafe(calls("mkdir /d/s", "mkdir /d/s/a", "rename /d/out /d/s", "fsync /d"), "/d/out") != []


# At the system's calls


def strace(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a real `ltdata build` under strace."""
    command = [sys.executable, "-m", "ltdata", *COMMANDS["build"].words]
    return subprocess.run(
        ["strace", "-f", "-y", *options, *command],
        cwd=folder,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_killed_at_any_call_of_the_system_a_build_leaves_nothing_partial_and_runs_again(place: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed; it kills at the system's own calls")
    log, folder = place / "strace.log", case(place, "system")
    ended = strace(folder, "-e", f"trace={_SYSTEM_CALLS}", "-o", str(log))
    if "ptrace" in ended.stderr.lower() or "PTRACE" in ended.stderr:
        pytest.skip(f"strace may not trace here ({ended.stderr.splitlines()[0]})")
    assert ended.returncode == 0, ended.stderr
    new = tree(folder / "out")
    seen: Counter[str] = Counter()
    kills = []  # which call, and the how manieth of its kind
    for line in log.read_text().splitlines():
        called = re.match(r"[0-9]+ +([a-z]+)\((.*)", line)
        if called:
            seen[called[1]] += 1
            reads = called[1] == "openat" and not re.search("O_WRONLY|O_RDWR|O_CREAT", called[2])
            if f"{folder}/.out" in called[2] and not reads:
                kills.append((called[1], seen[called[1]]))
    struck = 0
    for number, (call, at) in enumerate(thin(kills, to=2)):
        folder = case(place, f"system-{number}")
        ended = strace(folder, "-e", f"inject={call}:signal=KILL:when={at}", "-e", f"trace={call}", "-o", str(log))
        found = tree(folder / "out")
        assert found in (None, new)
        runs_again(COMMANDS["build"], folder, new)
        if ended.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL):
            struck += 1
            tried()
    assert struck >= 0.9 * number
