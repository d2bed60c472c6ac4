"""Ctrl-C and SIGTERM at any time: exit 130 or 143, one line, nothing half-written, and a rerun ends as if undisturbed.

Times count from a command's first line of code, which /proc shows: it then catches SIGTERM. The 20 ms before it, in
which Python itself comes up, are Python's own to answer.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from faults import trainings
from faults.breaks import Break
from faults.effort import WHOLE, thin, tried
from faults.runs import COMMANDS, WORKERS, Fault, case, left, prepared, run, tree
from ltdata import signals
from ltdata.build import Built

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc/PID/status here")
BREAKS = (
    Break("ltdata/__main__.py", 'signals.answer("ltdata")', "pass", only="first_line"),
    Break("ace_ref/__init__.py", "signals.answer(_command)", "pass", only="first_line"),
    Break("ltdata/signals.py", "raise SystemExit(code)", "os._exit(code)", only="every_call"),
    Break("ltdata/engine.py", "with signals.kept_from_children():  # nor", "if True:  # nor", only="first_moment"),
    Break("ltdata/console.py", "    signals.over(code)\n", "", only="end"),
    Break("ltdata/signals.py", "        raise SystemExit(code)\n", "        return\n", only="every_call"),
    Break("ltdata/signals.py", "    _thread.start_new_thread(_send_later, (number,))", "    pass", only="dropped"),
    Break("ltdata/signals.py", "        if _imports(frame):", "        if False:", only="dropped and imported"),
    Break("ltdata/signals.py", "        if number is not None:", "        if False:", only="dropped and end"),
    Break("ltdata/signals.py", "and (_Command.again is None or _Command.due)", "", only="second_while"),
    Break("ltdata/signals.py", "        _Command.again = None  #", "        pass  #", only="noted_the_second_time"),
    Break("ltdata/signals.py", "_Command.holds and _Command.waiting is None", "False", only="belongs_together"),
    Break("ltdata/signals.py", "            if len(came) == 1:", "            if False:", only="notebook"),
    Break("ltdata/signals.py", "            signal.raise_signal(number)\n", "", only="belongs_together"),
    Break("ltdata/signals.py", "handler not in (signal.SIG_IGN, None)", "True", only="is_ignored"),
    Break("ace_ref/train.py", "while pending and not job.stopping():", "while pending:", only="next_seed"),
    Break("ace_ref/train.py", "            if stopped is not None:", "            if False:", only="next_seed"),
    Break(
        "ace_ref/train.py",
        '        if code := job.stopping():\n            raise StopError("stopped after the end',
        '        if False:\n            raise StopError("stopped after the end',
        only="last_step",
    ),
    Break("ace_ref/train.py", "        if code := job.stopping():  # to", "        if False:  # to", only="last_step"),
)
SENT = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Moment(NamedTuple):
    """A time at which a signal is sent: a share of the command's life."""

    kind: str
    sent: signal.Signals
    at: float


KINDS: dict[str, tuple[tuple[str, ...], int]] = {  # command line, moments
    "build": (COMMANDS["build"].words, 30),
    "workers": (WORKERS.words, 26),
    "build-force": (COMMANDS["build-force"].words, 20),
    "shards": (COMMANDS["shards"].words, 18),
    "verify": (("verify", "whole"), 14),
    "files": (COMMANDS["files"].words, 10),
}


def moments() -> list[Moment]:
    """Spread moments over the life of each command, a little past its end too, at times that a seed draws."""
    chance = np.random.RandomState(7)
    return [
        Moment(kind, list(SENT)[chance.randint(2)], 1.05 * (number + chance.random_sample()) / count)
        for kind, (_, count) in KINDS.items()
        for number in range(count)
    ]


def mask(process: int, name: str) -> int:
    """Return a set of signals of a process, from /proc; those of one that has ended are 0."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return int(re.findall(rf"^{name}:\s*([0-9a-f]+)$", status, re.MULTILINE)[0], 16)


def has(signals_set: int, number: signal.Signals) -> bool:
    return bool(signals_set >> number - 1 & 1)


def started(*command: object, folder: Path) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, as a shell does, and wait for its first line of code."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not has(mask(process.pid, "SigCgt"), signal.SIGTERM) and process.poll() is None:
        time.sleep(0.0005)
    return process


def send(process: subprocess.Popen[str], number: signal.Signals, *, group: bool) -> None:
    """Send a signal; to the whole process group, as terminals do it with Ctrl-C, and schedulers with SIGTERM."""
    with suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(process.pid, number)


@contextmanager
def standing_still(process: subprocess.Popen[str]) -> Iterator[None]:
    """Stop a process and its workers for the block, so that what is seen in it is what a signal meets."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGSTOP)
    end = time.monotonic() + 1  # one that has just begun a child, which stands still before its exec, waits for that
    while process.poll() is None and ") T " not in Path(f"/proc/{process.pid}/stat").read_text():
        if time.monotonic() > end:
            break
        time.sleep(0.0005)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)


def check_end(process: subprocess.Popen[str], sent: signal.Signals, *, name: str = "ltdata") -> int:
    """Check exit code and stderr of a process that got a signal; return the code."""
    _, errors = process.communicate(timeout=60)
    if process.returncode == 0:  # it had ended
        assert errors == ""
        return 0
    assert process.returncode == signals.CODES[sent], errors
    assert re.fullmatch(rf"{name}: error: {SENT[sent]}; nothing half-written was left\n", errors), errors
    return process.returncode


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with prepared() as folder:
        yield folder


def prepare(place: Path, name: str, kind: str) -> Path:
    folder = case(place, name)
    if kind.endswith("-force"):
        shutil.copytree(place / "other", folder / "out")
    return folder


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Callable[[str], tuple[float, object]]:
    """Return the life of a command, in seconds, and what it leaves at its place."""

    @cache
    def of(kind: str) -> tuple[float, object]:
        folder = prepare(place, f"undisturbed-{kind}", kind)
        process = started("-m", "ltdata", *KINDS[kind][0], folder=folder)
        begun = time.monotonic()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        return time.monotonic() - begun, tree(folder / "out")

    return of


@pytest.mark.parametrize("moment", thin(moments(), to=2), ids=lambda m: f"{m.kind}-{m.sent.name}-{m.at:.3f}")
def test_a_command_stopped_at_any_time_says_so_in_one_line_and_its_rerun_ends_as_if_undisturbed(
    moment: Moment, place: Path, undisturbed: Callable[[str], tuple[float, object]]
) -> None:
    words, _ = KINDS[moment.kind]
    life_s, expected = undisturbed(moment.kind)
    folder = prepare(place, f"{moment.kind}-{moment.at}", moment.kind)
    before = tree(folder / "out")
    process = started("-m", "ltdata", *words, folder=folder)
    time.sleep(moment.at * life_s)
    with standing_still(process):
        alive = process.poll() is None
        undone = alive and moment.kind != "verify" and tree(folder / "out") == before
        send(process, moment.sent, group=moment.sent == signal.SIGINT or round(1000 * moment.at) % 2 == 0)
    assert check_end(process, moment.sent) or not undone
    assert tree(folder / "out") in (before, expected)
    again = run(words, folder)
    finished = 0 if moment.kind not in COMMANDS else COMMANDS[moment.kind].again
    assert again.code == 0 or (again.code == finished and tree(folder / "out") == expected), again.errors
    assert (tree(folder / "out"), left(folder)) == (expected, [])
    tried(alive)


@pytest.mark.parametrize("kind", ["build", "build-force", "shards", "files-force", "page"])
def test_a_signal_at_every_call_that_changes_the_disk_leaves_the_old_or_the_new(kind: str, place: Path) -> None:
    command = COMMANDS[kind]
    folder = case(place, f"calls-{kind}", before=command.before)
    calls = len(run(command.words, folder).points)
    expected = tree(folder / "out")
    for number in thin(range(1, calls + 1), to=2):
        sent = list(SENT)[number % 2]
        folder = case(place, f"call-{kind}-{number}", before=command.before)
        before = tree(folder / "out")
        ended = run(command.words, folder, Fault(number, sent=sent))
        assert (ended.code, ended.struck) == (signals.CODES[sent], True), ended.errors
        assert ended.errors == f"ltdata: error: {SENT[sent]}; nothing half-written was left\n"
        assert tree(folder / "out") in (before, expected)
        assert left(folder) == [], number
        again = run(command.words, folder)
        assert again.code == 0 or (again.code == command.again and tree(folder / "out") == expected), again.errors
        assert (tree(folder / "out"), left(folder)) == (expected, [])
        tried()


# Python imports it before anything else: it sends its own process a signal when a module is looked for.
HOOK = """
import os, sys
class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["STOP_AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(os.environ["STOP_WITH"]))
sys.meta_path.insert(0, Hook())
"""
IMPORTED = [
    *[("ltdata", module) for module in ("ltdata.cli", "click", "numpy", "numpy._core.multiarray", "ltdata.shards")],
    *[
        ("ace_ref.train", module)
        for module in ("torch", "torch._C", "numpy", "torch.nn", "safetensors", "ltdata.shards")
    ],
    *[("ace_ref.evaluate", module) for module in ("torch", "torch.nn")],
    *[("ace_ref.report", module) for module in ("numpy", "torch")],
]


@pytest.mark.parametrize(
    ("command", "module", "sent"),
    thin([(*names, sent) for names in IMPORTED for sent in SENT], to=2),
    ids=lambda value: getattr(value, "name", value),
)
def test_from_the_first_line_of_code_on_a_signal_ends_it_at_once(
    command: str, module: str, sent: signal.Signals, tmp_path: Path
) -> None:
    """It imports numpy and torch then, which takes a second or more, and where exceptions get lost."""
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    words = COMMANDS["build"].words if command == "ltdata" else ("--help",)
    ended = subprocess.run(
        [sys.executable, "-m", command, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "STOP_AT": module, "STOP_WITH": str(int(sent))},
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (signals.CODES[sent], ""), ended.stderr
    assert ended.stderr == f"{command}: error: {SENT[sent]}; nothing half-written was left\n"
    assert not (tmp_path / "out").exists()
    tried()


# A signal comes where Python drops exceptions, and prints them: while an object goes; and where a module drops them
# that is imported, as compiled ones do.
DROPPING = """
import os, signal, sys, time, weakref
sys.path.insert(0, os.getcwd())
from ltdata import signals
signals.answer("ltdata")
import click
from ltdata import console
from ltdata.errors import LtdataError
class Thing:
    pass
@click.command()
@click.argument("sent", type=int)
@click.argument("where")
def command(sent, where):
    thing = Thing()
    if where == "deleted":
        Thing.__del__ = lambda self: signal.raise_signal(sent)
    ref = weakref.ref(thing, lambda _: signal.raise_signal(sent) if where == "referred to" else None)
    del thing
    if where.startswith("imported"):
        import dropping
    if where == "imported, and a worker ended":
        raise LtdataError("a worker process ended abruptly")
    if where == "imported, and noted":
        with signals.noted() as came:
            while not came:
                time.sleep(0.01)
            raise LtdataError("stopped; --resume goes on")
    if where != "imported at the end":
        time.sleep(10)
        print("not stopped", file=sys.stderr)
console.run(command, name="ltdata")
"""


@pytest.mark.parametrize("sent", SENT, ids=str)
@pytest.mark.parametrize(
    "where", ["deleted", "referred to", *(f"imported{then}" for then in ("", " at the end", ", and a worker ended"))]
)
def test_a_signal_whose_exception_is_dropped_comes_again(where: str, sent: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "dropping.py").write_text(
        f"import signal\ntry:\n    signal.raise_signal({int(sent)})\nexcept BaseException:\n    pass\n"
    )
    process = started("-c", DROPPING, str(int(sent)), where, folder=tmp_path)
    assert check_end(process, sent) == signals.CODES[sent]
    tried()


HOLDING = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from ltdata import signals
signals.answer("ltdata")
with signals.working(), signals.held():
    signal.raise_signal(signal.SIGTERM)
    os.write(1, b"held")
"""


TRAINING = """
import os, signal
from ltdata import signals
signals.answer("ace_ref.train")
with signals.working(), signals.noted() as came:
    signal.raise_signal(signal.SIGTERM)
    with signals.held():
        signal.raise_signal(signal.SIGTERM)
        os.write(1, b"held")
    os.write(1, b"not stopped")
"""


NOTEBOOK = """
import os, signal
from ltdata import signals
try:
    with signals.held():
        signal.raise_signal(signal.SIGINT)
        os.write(1, b"held")
    os.write(1, b"not stopped")
except KeyboardInterrupt:
    os.write(1, b", then stopped")
"""


DEFAULT = """
import os, signal
from ltdata import signals
signal.signal(signal.SIGTERM, signal.SIG_DFL)
with signals.noted() as came:
    signal.raise_signal(signal.SIGTERM)
    os.write(1, b"noted")
    signal.raise_signal(signal.SIGTERM)
    os.write(1, b"not stopped")
"""


IGNORING = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from ltdata import signals
with signals.noted() as came:
    signal.raise_signal(signal.SIGINT)
    assert came == []
"""


def test_in_a_training_too_a_signal_waits_for_what_belongs_together() -> None:
    ended = subprocess.run([sys.executable, "-c", TRAINING], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (143, "held"), ended.stderr
    tried()


def test_in_a_notebook_ctrl_c_waits_for_what_belongs_together() -> None:
    ended = subprocess.run([sys.executable, "-c", NOTEBOOK], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "held, then stopped"), ended.stderr
    tried()


def test_a_second_signal_does_what_it_did_before_the_first_was_noted() -> None:
    ended = subprocess.run([sys.executable, "-c", DEFAULT], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, "noted"), ended.stderr
    tried()


def test_where_ctrl_c_is_ignored_a_training_ignores_it_too() -> None:
    ended = subprocess.run([sys.executable, "-c", IGNORING], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    tried()


def test_where_ctrl_c_is_ignored_sigterm_still_waits_for_what_belongs_together() -> None:
    """As in the background jobs of a shell."""
    ended = subprocess.run([sys.executable, "-c", HOLDING], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (143, "held"), ended.stderr
    tried()


@pytest.mark.parametrize("looks", thin([10**6, 1, 2, 5, 10, 20, 50, 100, 200, 400], to=1))
def test_a_worker_leaves_ctrl_c_to_the_main_process_from_its_first_moment(
    looks: int, place: Path, undisturbed: Callable[[str], tuple[float, object]]
) -> None:
    """A terminal sends it to all of them, and each that still imports modules would print where it was."""
    folder = case(place, f"worker-{looks}")
    process = started("-m", "ltdata", *WORKERS.words, folder=folder)
    workers: list[int] = []
    while not workers:  # the first child counts semaphores, and ignores Ctrl-C by itself
        assert process.poll() is None, process.communicate()
        with suppress(OSError):
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            workers = [int(child) for child in children.split()[1:]]
    for _ in range(looks):
        blocked, ignored = (mask(workers[0], name) for name in ("SigBlk", "SigIgn"))
        assert has(blocked | ignored, signal.SIGINT) or process.poll() is not None
        if has(ignored, signal.SIGINT):
            break
        time.sleep(0.001)
    send(process, signal.SIGINT, group=True)
    check_end(process, signal.SIGINT)
    assert tree(folder / "out") in (None, undisturbed("workers")[1])
    assert left(folder) == []
    tried()


@pytest.mark.parametrize(
    ("when", "sent"),
    [("threading._register_atexit", signal.SIGINT), ("atexit.register", signal.SIGTERM)],
    ids=str,
)
def test_after_the_end_of_a_command_a_signal_changes_nothing(sent: signal.Signals, when: str, place: Path) -> None:
    """While Python ends its threads, and while it tidies up itself."""
    code = (
        f"import atexit, os, threading; {when}(lambda: os.kill(os.getpid(), {int(sent)}))\n"
        "from ltdata.__main__ import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code, "list"], cwd=place, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "cifar100-lt-exp-if100" in ended.stdout
    tried()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, Path, float]:
    """Give a data set, a training of it that nothing disturbed, and its life in seconds."""
    made = tmp_path_factory.mktemp("trained")
    built = trainings.small(made)
    process = started("-m", "ace_ref.train", *trainings.options(built, made / "run"), folder=made)
    begun = time.monotonic()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return built, made / "run", time.monotonic() - begun


LATE = """
import signal, sys
from ace_ref import train
from ltdata import console
name, sent = sys.argv.pop(1), int(sys.argv.pop(1))
whole = getattr(train, name)
def signalled(training, job):
    signal.raise_signal(sent)
    return whole(training, job)
setattr(train, name, signalled)
console.run(train.command, name="ace_ref.train")
"""


@pytest.mark.parametrize("sent", SENT, ids=str)
def test_a_second_while_a_module_is_imported_does_not_wait_for_it(sent: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "dropping.py").write_text(
        f"import signal, time\nsignal.raise_signal({int(sent)})\ntime.sleep(0.05)\n"  # in which it came again
        f"signal.raise_signal({int(sent)})\ntime.sleep(20)\n"
    )
    process = started("-c", DROPPING, str(int(sent)), "imported", folder=tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == signals.CODES[sent]
    assert re.fullmatch(f"ltdata: error: {SENT[sent]} while it tidied up; .*\n", errors), errors
    tried()


@pytest.mark.parametrize("sent", SENT, ids=str)
def test_a_signal_that_is_noted_the_second_time_is_the_blocks_to_tell(sent: signal.Signals, tmp_path: Path) -> None:
    """It comes while a training still imports, and then again, while it takes its steps."""
    (tmp_path / "dropping.py").write_text(f"import signal\nsignal.raise_signal({int(sent)})\n")
    process = started("-c", DROPPING, str(int(sent)), "imported, and noted", folder=tmp_path)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "ltdata: error: stopped; --resume goes on\n")
    tried()


@pytest.mark.parametrize("sent", SENT, ids=str)
@pytest.mark.parametrize("during", ["_measure", "make_result"])  # of the last epoch; of the one to come
def test_a_training_stopped_after_its_last_step_says_so(during: str, sent: signal.Signals, tmp_path: Path) -> None:
    """A loop of a shell over trainings ends too, as it would not after an exit code of 0."""
    options = trainings.options(trainings.small(tmp_path), tmp_path / "run", "--epochs", 1)
    process = started("-c", LATE, during, str(int(sent)), *options, folder=tmp_path)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == signals.CODES[sent], errors
    whole = during == "make_result"
    what = "after the end; the result is whole" if whole else "after the last step; the same command with .* goes on"
    assert re.fullmatch(f"ace_ref.train: error: stopped {what}\n", errors), errors
    assert ((tmp_path / "run" / "result.json").exists(), "result: " in printed) == (whole, whole)
    ended = trainings.run([*options, "--resume"])
    assert ended.code == 0, ended
    assert (tmp_path / "run" / "result.json").exists()
    tried()


@pytest.mark.parametrize("together", [1, 2])
def test_a_training_stopped_before_the_next_seed_shows_what_has_ended(together: int, tmp_path: Path) -> None:
    several = "--seeds", "0,1", "--together", together
    options = trainings.options(trainings.small(tmp_path), tmp_path / "run", "--epochs", 1, *several)
    process = started("-c", LATE, "make_result", str(int(signal.SIGTERM)), *options, folder=tmp_path)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == signals.CODES[signal.SIGTERM], errors
    what = " after the last step; the same command" if together == 2 else "; what has ended is whole, the same command"
    assert errors.startswith(f"ace_ref.train: error: stopped{what}"), errors
    assert re.findall("^result: .*(seed.)/result.json$", printed, re.MULTILINE) == ["seed0"]
    assert not (tmp_path / "run" / "seed1" / "result.json").exists()
    tried()


@pytest.mark.skipif(not WHOLE, reason="make faults: importing torch takes seconds, and test_ace_train.py tries one")
@pytest.mark.parametrize("part", range(8))
def test_a_training_stopped_at_any_time_goes_on_to_the_same_bytes(
    part: int, trained: tuple[Built, Path, float], tmp_path: Path
) -> None:
    """While torch is imported, images are read, at its first step or its last."""
    built, expected, life_s = trained
    sent = list(SENT)[part % 2]
    options = trainings.options(built, tmp_path / "run")
    process = started("-m", "ace_ref.train", *options, folder=tmp_path)
    time.sleep((part + 0.5) / 8 * life_s)
    with standing_still(process):
        alive = process.poll() is None
        undone = alive and not (tmp_path / "run" / "result.json").exists()
        send(process, sent, group=sent == signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode in (signals.CODES[sent], *(() if undone else (0,))), errors
    assert errors.count("\n") == (process.returncode != 0), errors
    assert "Traceback" not in errors
    ended = trainings.run([*options, "--resume"])
    assert ended.code == 0, ended
    trainings.same(tmp_path / "run", expected)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    tried(alive)
