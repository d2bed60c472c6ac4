"""Builds and trainings, again and again, broken off at random: every one ends with the same bytes, and nothing is left.

    python scripts/soak.py --builds 200 --trainings 200 --seed 0 --json results/soak.json

Half of them are commands in processes of their own, which SIGINT, SIGTERM or SIGKILL meets at a random time, once or
twice, and which are then run again until they are done. They are forked from a process that has imported all they
need, so that a signal meets work and not imports. The other half run in this one process, as in a notebook, which
Ctrl-C meets at a random time. What this process holds (memory, open files, threads, children), and what all of them
left in the folder for temporary files, in shared memory and beside their outputs, is counted before and after.

Start it in the foreground: the background job of a shell ignores SIGINT. The folder of temporary files is one of its
own (TMPDIR). Shared memory is the system's: let nothing else use it, or give the command some of its own:
unshare --mount sh -c 'mount -t tmpfs tmpfs /dev/shm && python scripts/soak.py ...'
"""

import argparse
import contextlib
import gc
import json
import multiprocessing
import os
import random
import re
import runpy
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

REPO = Path(__file__).parent.parent
sys.path[:0] = [str(REPO), str(REPO / "benchmarks")]

from contest import machine, tree, versions  # noqa: E402 - a folder beside this one

from ltdata.errors import LtdataError  # noqa: E402
from ltdata.files import sha256_file  # noqa: E402

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
CONTEXT = multiprocessing.get_context("forkserver")
SHARED = Path("/dev/shm")  # noqa: S108 - of Linux, as all that is counted here
LIMIT_S = 300  # for a run that is not interrupted: what takes longer hangs
ORPHANS_S = 20  # for workers of a killed process to end
PLAIN = ["--recipe", "tiny", "--method", "ce", "--set", "epochs=3", "--set", "milestones=[]", "--set", "batch_size=64"]
WARM = 0.1  # of the runs, after which this process holds what it always will
MORE_MB = 50  # that the allocator may take after it: a training alone takes as much
ENDS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}  # or 0, of one that had ended
PRESSED = ("KeyboardInterrupt", "Abort", "StopError")  # what Ctrl-C becomes here: Python's, click's, the trainer's
LYING = ("in_temporary_folder", "in_shared_memory")
COMPILED = "torchinductor_"  # what the folder of temporary files may hold: torch's, which it makes when imported


@dataclass(frozen=True)
class Held:
    """Count what this process holds, and what runs left on the machine."""

    memory_mb: float
    open_files: int
    threads: int
    children: int
    shared_memory: int
    temporary_files: int


@dataclass
class Kind:
    """Hold what became of the builds, or of the trainings.

    Attributes:
        runs: that are done.
        interruptions: of them, by what they met.
        exits: codes of interrupted commands.
        wrong: what is not as after a clean run, or ended otherwise than what it met says.
        orphans: processes that outlived their killed parent.
        left: files beside an output.
    """

    runs: int = 0
    interruptions: Counter[str] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    orphans: int = 0
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """Say how one thing is made.

    Attributes:
        module: that is run as a command.
        arguments: before the folder.
        again: what is added to it after an interruption.
        here: makes it in this process; whether it goes on with what is there.
        digest: of what matters in the folder.
    """

    module: str
    arguments: list[str]
    again: list[str]
    here: Callable[[Path, bool], object]
    digest: Callable[[Path], dict[str, str]]


def main() -> None:
    """Parse the arguments, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--builds", type=int, default=200)
    parser.add_argument("--trainings", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write what was found here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        start_server()
        os.environ["TMPDIR"] = tempfile.tempdir = str(work / "tmp")
        (work / "tmp").mkdir()
        report = soak(work, args.builds, args.trainings, random.Random(args.seed))  # noqa: S311 - no secret
    report = {"title": "builds and trainings, broken off at random", "seed": args.seed, **report}
    print(as_text(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if report["nothing_wrong"] else 1)


def start_server() -> None:
    """Start the process that commands are forked from."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    CONTEXT.set_forkserver_preload(["ltdata.cli", "ltdata.build", "ace_ref.train", "sklearn.datasets"])
    forkserver.ensure_running()


def soak(work: Path, builds: int, trainings: int, draw: random.Random) -> dict[str, Any]:
    """Run everything in turn; return what was found."""
    import torch

    torch.set_num_threads(1)
    started, there = time.monotonic(), names(SHARED)
    shards = work / "digits"
    jobs = {"builds": build_job(), "trainings": training_job(shards)}
    clean = {"builds": work / "clean-build", "trainings": work / "clean-training"}
    seconds: dict[str, tuple[float, float]] = {}
    for name, job in jobs.items():
        finish(job, work / "first", [])  # which takes longer
        shutil.rmtree(work / "first")
        code, alone_s = finish(job, clean[name], [])
        if code != 0:
            sys.exit(f"exit code {code} of {name} that nobody interrupted")
        job.here(work / "first", False)
        shutil.rmtree(work / "first")
        here_s = time.monotonic()
        job.here(work / "first", False)
        seconds[name] = alone_s, time.monotonic() - here_s
        shutil.rmtree(work / "first")
        if name == "builds":
            shutil.copytree(clean[name], shards)
    found = {name: Kind() for name in jobs}
    order = ["builds"] * builds + ["trainings"] * trainings
    draw.shuffle(order)
    turn = Counter[str]()
    counted: list[tuple[int, Held]] = []
    warm = int(len(order) * WARM)
    for number, name in enumerate(order):
        if number in {warm, *range(warm, len(order), max(1, len(order) // 10))}:
            counted.append((number, held(work)))
        turn[name] += 1
        out = work / "out" / name
        out.parent.mkdir(exist_ok=True)
        here = turn[name] % 2
        one = in_process if here else as_commands
        one(jobs[name], out, seconds[name][here], found[name], draw)
        check(jobs[name], out, clean[name], found[name])
        if sys.stderr.isatty():
            print(f"\r{number + 1} of {len(order)}", end="", file=sys.stderr)
    counted.append((len(order), held(work)))
    report = summary(found, counted, time.monotonic() - started)
    lying = dict(zip(LYING, (names(work / "tmp"), [name for name in names(SHARED) if name not in there]), strict=True))
    clear = not lying["in_shared_memory"] and all(n.startswith(COMPILED) for n in lying["in_temporary_folder"])
    return report | lying | {"nothing_wrong": report["nothing_wrong"] and clear}


def names(folder: Path) -> list[str]:
    """List what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def build_job() -> Job:
    """Build digits, with two workers."""
    from ltdata.build import build
    from ltdata.spec import Spec

    arguments = ["build", "digits", "--imbalance", "20", "--workers", "2", "--quiet", "--out"]

    def here(out: Path, _again: bool) -> None:
        build(Spec("digits", 20), out=out, workers=2)

    return Job("ltdata", arguments, [], here, contents)


def training_job(shards: Path) -> Job:
    """Train three epochs on digits, seconds on one core."""
    from ace_ref.train import command

    arguments = ["--shards", str(shards), *PLAIN, "--device", "cpu", "--quiet", "--json", "--out"]

    def here(out: Path, again: bool) -> None:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            command.main([*arguments, str(out), *(["--resume"] if again else [])], standalone_mode=False)

    return Job("ace_ref.train", arguments, ["--resume"], here, trained)


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of every file in a folder."""
    return {
        path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def trained(folder: Path) -> dict[str, str]:
    """Return what a training must leave: digests, record and newest checkpoint without seconds, names of its logs."""
    from ace_ref.checkpoint import fingerprint, load_progress

    record = json.loads((folder / "result.json").read_text())
    timeless = {key: value for key, value in record.items() if "second" not in key}
    made = {re.sub(r"events\..*", "events", path): digest for path, digest in contents(folder).items()}
    steady = {path: digest for path, digest in made.items() if path.endswith(".safetensors") and "/" not in path}
    logs = {path: "" for path in made if path not in steady and not path.startswith("checkpoints/")}
    newest = max(path for path in made if path.startswith("checkpoints/"))  # the one before may be of the interruption
    checkpoint, progress = load_progress(folder / newest)
    if progress is None:
        raise ValueError(f"{newest}: no training goes on from it")
    history = tuple({key: value for key, value in epoch.items() if key != "seconds"} for epoch in progress.history)
    kept = fingerprint(checkpoint, replace(progress, seconds=0.0, history=history))
    return {newest: kept, **logs, **steady, "result.json": json.dumps(timeless, sort_keys=True)}


def start(job: Job, out: Path, more: list[str]) -> BaseProcess:
    """Start a command."""
    process = CONTEXT.Process(target=be, args=(job.module, [*job.arguments, str(out), *more], tempfile.tempdir))
    process.start()
    return process


def be(module: str, arguments: list[str], temporary: str | None) -> None:
    """Be a command, in a session of its own, as if it had been started by itself."""
    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # as a process has that nobody forked
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    resource_tracker._resource_tracker = resource_tracker.ResourceTracker()  # that of the parent waits for all to end
    for name in ("register", "unregister", "ensure_running", "getfd"):
        setattr(resource_tracker, name, getattr(resource_tracker._resource_tracker, name))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def finish(job: Job, out: Path, more: list[str]) -> tuple[int | None, float]:
    """Run a command to its end; return its exit code, None for one that hangs, and its seconds."""
    started = time.monotonic()
    process = start(job, out, more)
    process.join(LIMIT_S)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    return code, time.monotonic() - started


def as_commands(job: Job, out: Path, clean_s: float, found: Kind, draw: random.Random) -> None:
    """Interrupt a command once or twice, each at any time of its run; then let it end."""
    again: list[str] = []
    for _ in range(draw.randint(1, 2)):
        number = draw.choice(SIGNALS)
        process = start(job, out, again)
        pid = process.pid or 0
        end = time.monotonic() + LIMIT_S
        while process.exitcode is None and not answers(pid) and time.monotonic() < end:  # before, it is this script
            time.sleep(0.001)
        process.join(draw.uniform(0, clean_s))
        alive = process.exitcode is None
        if alive:
            os.kill(pid, number)
        process.join(LIMIT_S)
        code = process.exitcode
        met = number.name if alive else "no signal"
        found.interruptions[met if alive else "too late"] += 1
        found.exits[str(code)] += 1
        if code not in ({0, ENDS[number]} if alive else {0}):
            found.wrong.append(f"exit code {code} of a command that met {met}")
        found.orphans += outlived(pid)  # which ends it too, if it hangs
        process.kill()
        process.join()
        process.close()
        again = job.again
    code, _ = finish(job, out, again)
    if code != 0:
        found.wrong.append(f"exit code {code} of a run that nobody interrupted")


def answers(pid: int) -> bool:
    """Tell whether a process has a handler for SIGTERM."""
    with contextlib.suppress(OSError):
        caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


def outlived(session: int) -> int:
    """Count the processes of a session that are still there after a while, and end them."""
    end = time.monotonic() + ORPHANS_S
    while (left := members(session)) and time.monotonic() < end:
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(left)


def members(session: int) -> list[int]:
    """List the processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else ()
            if fields and int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def in_process(job: Job, out: Path, clean_s: float, found: Kind, draw: random.Random) -> None:
    """Press Ctrl-C once or twice, at any time of a run in this process; then let it end."""
    again = False
    for _ in range(draw.randint(1, 2)):
        started = time.monotonic()
        try:
            with pressed(draw.uniform(0.001, clean_s)):
                job.here(out, again)
            found.interruptions["too late"] += 1
        except BaseException as error:  # noqa: BLE001 - whatever Ctrl-C at any line becomes
            seen = type(error).__name__
            found.interruptions[f"Ctrl-C, seen as {seen}"] += 1
            if seen not in PRESSED:
                found.wrong.append(f"Ctrl-C, seen as {error!r:.200}")
        if time.monotonic() - started > LIMIT_S:
            found.wrong.append("a run in this process took too long")
        again = True
    job.here(out, again)


@contextlib.contextmanager
def pressed(seconds: float) -> Iterator[None]:
    """Send this process SIGINT after some seconds, if the block has not ended."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    key = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    key.start()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, lambda _number, _frame: None)
        key.cancel()
        key.join()
        signal.signal(signal.SIGINT, before)


def check(job: Job, out: Path, clean: Path, found: Kind) -> None:
    """Compare an output with the clean one, note what lies beside it, and remove both."""
    found.runs += 1
    try:
        here = job.digest(out) if out.exists() else {}
    except (OSError, ValueError, LtdataError) as error:
        found.wrong.append(f"{out.name}: {error}")
        here = {}
    wanted = job.digest(clean)
    found.wrong += [path for path in {*here, *wanted} if here.get(path) != wanted.get(path)]
    found.left += [path.name for path in out.parent.iterdir() if path != out]
    shutil.rmtree(out.parent)


def held(work: Path) -> Held:
    """Count what this process holds, and what is in the folder of temporary files and in shared memory."""
    gc.collect()
    pid = os.getpid()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Held(
        memory_mb=round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
        open_files=len(list(Path("/proc/self/fd").iterdir())) - 1,
        threads=len(list(Path("/proc/self/task").iterdir())),
        children=len(tree(pid)) - 1,
        shared_memory=len(list(SHARED.iterdir())),
        temporary_files=sum(1 for _ in (work / "tmp").rglob("*")),
    )


def summary(found: dict[str, Kind], counted: list[tuple[int, Held]], seconds: float) -> dict[str, Any]:
    """Make the record of a soak."""
    first, last = counted[0][1], counted[-1][1]
    steady = ("open_files", "threads", "children", "shared_memory", "temporary_files")
    grown = {name: getattr(last, name) - getattr(first, name) for name in steady}
    runs = {
        name: asdict(kind)
        | {"interruptions": dict(sorted(kind.interruptions.items())), "exits": dict(sorted(kind.exits.items()))}
        for name, kind in found.items()
    }
    grown_mb = round(last.memory_mb - first.memory_mb, 1)
    nothing = grown_mb < MORE_MB and not any(value > 0 for value in grown.values())
    for kind in found.values():
        nothing = nothing and not (kind.wrong or kind.orphans or kind.left)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine() | {"load": round(os.getloadavg()[2], 1)},  # of 15 minutes: others take their part
        "versions": versions(("ltdata", "numpy", "torch", "filelock", "pillow", "scikit-learn")),
        "seconds": round(seconds),
        **runs,
        "held": [{"after_runs": number, **asdict(each)} for number, each in counted],
        "grown": grown | {"memory_mb": grown_mb},
        "nothing_wrong": nothing,
    }


def as_text(report: dict[str, Any]) -> str:
    """Lay the record out for people."""
    lines = [report["title"], ""]
    for name in ("builds", "trainings"):
        kind = report[name]
        met = ", ".join(f"{count} {what}" for what, count in kind["interruptions"].items())
        lines.append(f"{name}: {kind['runs']} done, interrupted: {met}; exit codes {kind['exits']}")
        lines.append(f"  wrong {kind['wrong'] or 0}, orphans {kind['orphans']}, left beside {len(kind['left'])}")
    columns = list(report["held"][0])
    lines.append("")
    lines.append("".join(f"{name:>17}" for name in columns))
    lines += ["".join(f"{each[name]:>17}" for name in columns) for each in report["held"]]
    lines += [f"{name.replace('_', ' ')}: {report[name] or 'nothing'}" for name in LYING]
    lines.append(f"nothing wrong: {report['nothing_wrong']}, {report['seconds']} s")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
