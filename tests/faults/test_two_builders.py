"""Several processes want one output at once: one writes it, the others are refused in one line or find it whole."""

import errno
import fcntl
import io
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from faults import runs, trainings
from faults.breaks import Break
from faults.effort import WHOLE, thin, tried
from ltdata import console
from ltdata.build import Built
from ltdata.cli import cli
from ltdata.files import exclusive

BREAKS = (
    Break("ltdata/build.py", "    with exclusive(folder):\n", "    if True:\n", only="builders"),
    Break("ltdata/files.py", "            _acquire(lock, target)\n", "            pass\n", only="holds"),
    Break("ltdata/files.py", "SoftFileLock(path, timeout=0) if soft else", "", only="holds or system_has_no_locks"),
    Break("ace_ref/train.py", "            stack.enter_context(exclusive(folder))\n", "", only="training_that"),
)
_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload([*runs.PRELOAD, "ace_ref.train", __name__])
SIZES = (2, 3, 5, 8, 16)


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    words: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


def _no_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def _work(words: tuple[str, ...], folder: str, start: Barrier, sent: Connection, locks: bool, module: str) -> None:
    """Run a command once all others are there too."""
    os.chdir(folder)
    command, name = cli, "ltdata"
    if module:
        from ace_ref import train

        command, name = train.command, "ace_ref.train"
    sys.argv = [name, *words]
    out, err = io.StringIO(), io.StringIO()
    code = None
    start.wait(trainings.LIMIT_S)
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        mock.patch.object(fcntl, "flock", fcntl.flock if locks else _no_locks),
    ):
        try:
            console.run(command, name=name)
        except SystemExit as end:
            code = end.code
    sent.send((code, out.getvalue(), err.getvalue()))


def race(lines: Sequence[tuple[str, ...]], folder: Path, *, locks: bool = True, module: str = "") -> list[Ended]:
    """Start command lines together, and wait for all of them."""
    start = _FORKED.Barrier(len(lines))
    pipes = [_FORKED.Pipe(duplex=False) for _ in lines]
    processes = [
        _FORKED.Process(target=_work, args=(words, str(folder), start, sent, locks, module))
        for words, (_, sent) in zip(lines, pipes, strict=True)
    ]
    for process in processes:
        process.start()
    ended = []
    for words, (received, sent), process in zip(lines, pipes, processes, strict=True):
        sent.close()
        if not received.poll(trainings.LIMIT_S):
            for each in processes:
                each.kill()
            raise AssertionError(f"{words}: hangs")
        ended.append(Ended(words, *received.recv()))
        process.join(trainings.LIMIT_S)
    return ended


def one_wins(ended: Sequence[Ended], *, late: tuple[int, ...], words: tuple[str, ...]) -> list[Ended]:
    """Check that each ended as it may, and return those that made or found what stands there."""
    done = [each for each in ended if each.code == 0]
    assert done, ended
    for each in ended:
        assert "Traceback" not in each.stderr, each
        if each.code != 0:
            assert each.code in late, each
            assert each.stderr.count("\n") == 1, each
            assert any(word in each.stderr for word in words), each
    return done


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with runs.prepared() as made:
        yield made


def words_of(seed: int, *more: str) -> tuple[str, ...]:
    return (*runs.COMMANDS["build"].words, "--seed", str(seed), *more)


@pytest.fixture(scope="module")
def clean(place: Path) -> dict[int, runs.Tree]:
    """What a build of each seed is, made by one process alone."""
    made = {}
    for seed in range(3):
        folder = runs.case(place, f"clean{seed}")
        assert runs.run(words_of(seed), folder).code == 0
        made[seed] = runs.tree(folder / "out")
    return made


HELD = "another process is writing it; wait for it to end"
CASES = [(number, turn) for number in SIZES for turn in range(2)] if WHOLE else [(2, 0), (4, 0)]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_builders_of_one_build_end_with_one_right_build(workers: str, place: Path, clean: dict[int, runs.Tree]) -> None:
    for number, turn in CASES if workers == "1" else CASES[::4]:
        folder = runs.case(place, f"same{workers}-{number}-{turn}")
        ended = race([words_of(0, "--workers", workers)] * number, folder)
        done = one_wins(ended, late=(1,), words=(HELD,))
        assert sum("built" in each.stdout for each in done) == 1, ended
        assert all("built" in each.stdout or "found whole" in each.stdout for each in done)
        assert runs.tree(folder / "out") == clean[0]
        assert runs.left(folder) == []
        tried()


def test_builders_with_other_options_leave_one_of_their_builds(place: Path, clean: dict[int, runs.Tree]) -> None:
    for number, turn in CASES:
        folder = runs.case(place, f"other-{number}-{turn}")
        seeds = [n % 3 for n in range(number)]
        np.random.default_rng(turn).shuffle(seeds)
        ended = race([words_of(seed) for seed in seeds], folder)
        done = one_wins(ended, late=(1, 2), words=(HELD, "holds another build"))
        won = {int(each.words[-1]) for each in done}
        assert len(won) == 1, ended
        assert runs.tree(folder / "out") == clean[won.pop()]
        assert runs.left(folder) == []
        tried()


def test_builders_with_force_leave_a_whole_build(place: Path, clean: dict[int, runs.Tree]) -> None:
    for number, turn in CASES:
        folder = runs.case(place, f"force-{number}-{turn}", before=words_of(turn % 3))
        ended = race([words_of(n % 3, "--force") for n in range(number)], folder)
        one_wins(ended, late=(1,), words=(HELD,))
        assert runs.tree(folder / "out") in clean.values()
        assert runs.left(folder) == []
        tried()


def test_commands_of_other_kinds_at_one_place_leave_what_one_of_them_makes(place: Path) -> None:
    kinds = [runs.COMMANDS[name].words for name in ("build", "shards", "view", "import", "build-rows")]
    alone = []
    for number, words in enumerate(kinds):
        folder = runs.case(place, f"kind{number}")
        assert runs.run(words, folder).code == 0
        alone.append(runs.tree(folder / "out"))
    for number, turn in CASES:
        folder = runs.case(place, f"kinds-{number}-{turn}")
        order = [kinds[n % len(kinds)] for n in range(number)]
        order = [order[n] for n in np.random.default_rng(turn).permutation(number)]
        ended = race(order, folder)
        one_wins(ended, late=(1, 2), words=(HELD, "holds another build", "holds a build already"))
        assert runs.tree(folder / "out") in alone
        assert runs.left(folder) == []
        tried()


@pytest.mark.parametrize("locks", [True, False])
@pytest.mark.parametrize("kind", ["build", "shards", "view", "import", "build-rows", "files"])
def test_a_place_that_another_process_holds_is_refused(kind: str, locks: bool, place: Path) -> None:
    folder = runs.case(place, f"held-{kind}-{locks}")
    with mock.patch.object(fcntl, "flock", fcntl.flock if locks else _no_locks), exclusive(folder / "out"):
        (ended,) = race([runs.COMMANDS[kind].words], folder, locks=locks)
    assert (ended.code, ended.stderr.count("\n"), "another process is writing it" in ended.stderr) == (1, 1, True), (
        ended
    )
    assert runs.left(folder) == []
    assert not (folder / "out").exists()
    tried()


def test_builders_where_the_system_has_no_locks_end_with_one_right_build(
    place: Path, clean: dict[int, runs.Tree]
) -> None:
    for number, turn in CASES:
        folder = runs.case(place, f"soft-{number}-{turn}")
        ended = race([words_of(0)] * number, folder, locks=False)
        done = one_wins(ended, late=(1,), words=("another process is writing it",))
        assert sum("built" in each.stdout for each in done) == 1, ended
        assert runs.tree(folder / "out") == clean[0]
        assert runs.left(folder) == []
        tried()


def test_commands_of_other_kinds_with_force_leave_what_one_of_them_makes(place: Path) -> None:
    kinds = [(*runs.COMMANDS[name].words, "--force") for name in ("build", "shards", "view", "import")]
    alone = []
    for number, words in enumerate(kinds):
        folder = runs.case(place, f"forced{number}", before=words_of(1))
        assert runs.run(words, folder).code == 0
        alone.append(runs.tree(folder / "out"))
    for number, turn in CASES:
        folder = runs.case(place, f"forced-{number}-{turn}", before=words_of(1))
        ended = race([kinds[(n + turn) % len(kinds)] for n in range(number)], folder)
        one_wins(ended, late=(1,), words=(HELD,))
        assert runs.tree(folder / "out") in alone
        assert runs.left(folder) == []
        tried()


@pytest.mark.parametrize("locks", [True, False])
def test_after_a_kill_one_of_several_builders_takes_over(locks: bool, place: Path, clean: dict[int, runs.Tree]) -> None:
    """Of a killed build lock and staging folder are left; where the system has no locks, the lock names its process."""
    for number, turn in CASES[::2]:
        folder = runs.case(place, f"killed-{locks}-{number}-{turn}")
        killed = runs.run(words_of(0), folder, runs.Fault(at=20 + 9 * turn))
        assert killed.code < 0
        assert ".out.lock" in runs.left(folder)
        if not locks:
            (folder / ".out.lock").unlink()
            with mock.patch.object(fcntl, "flock", _no_locks), exclusive(folder / "out"):
                _, machine, *_ = (folder / ".out.lock").read_text().split("\n")
            (folder / ".out.lock").write_text(f"{dead_process()}\n{machine}\n")
        ended = race([words_of(0)] * number, folder, locks=locks)
        one_wins(ended, late=(1,), words=("another process is writing it",))
        assert sum("built" in each.stdout for each in ended) == 1, ended
        assert runs.tree(folder / "out") == clean[0]
        assert runs.left(folder) == []
        tried()


def dead_process() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, dict[str, bytes]]:
    """A small set, and the model of a training of it that ran alone."""
    folder = tmp_path_factory.mktemp("trained")
    built = trainings.small(folder)
    ended = trainings.run(trainings.options(built, folder / "run"))
    assert ended.code == 0, ended
    return built, {"model": (folder / "run" / "model.safetensors").read_bytes()}


def test_a_training_that_another_process_writes_is_refused(trained: tuple[Built, object], tmp_path: Path) -> None:
    with exclusive(tmp_path / "run"):
        ended = trainings.run(trainings.options(trained[0], tmp_path / "run"))
    assert (ended.code, HELD in ended.stderr, ended.stderr.count("\n")) == (1, True, 1), ended
    assert list(tmp_path.iterdir()) == []
    tried()


def test_trainings_with_one_output_end_with_one_right_result(
    trained: tuple[Built, dict[str, bytes]], tmp_path: Path
) -> None:
    built, alone = trained
    for number, turn in thin([(2, 0), (2, 1), (3, 0), (4, 0)], 1):
        out = tmp_path / f"run-{number}-{turn}"
        lines = [tuple(trainings.options(built, out))] * number
        ended = race(lines, tmp_path, module="train")
        done = one_wins(ended, late=(1, 2), words=(HELD, "holds an unfinished training"))
        assert done
        assert (out / "model.safetensors").read_bytes() == alone["model"]
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
        tried()
