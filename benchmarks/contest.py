"""Run contenders for one job in one run: long-lived processes, alternating order, medians with spread, values checked.

A table (`cifar_batches.py`, `read_shards.py`, `photo_batches.py`) names its contenders; each is a function that takes
the arguments and returns an endless stream of items (pixels, labels), a batch or a whole split. What always holds:

* Every contender lives in a process group of its own, which prepares and warms up once and is stopped (SIGSTOP) while
  another one runs. It is stopped when it has gone idle, so that none works ahead on another's time.
* A round takes some items unclocked, which empties whatever was fetched ahead in between, then as many as whole
  passes over the images have, on the clock. So queues are as full at the end of the clock as at its begin.
* CPU seconds are those of the process and its children within the clock; memory is the peak in the warm-up, without
  pages of files, shared pages counted once.
* After the rounds the stream is compared with a reference: a contender whose values are others is named so.
* A contender that cannot run is a row with the reason.

    table = contest.Table(title=..., contenders={"ours": ours, "theirs": theirs}, check=check, ...)
    contest.main(table, parser)
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Stream = Iterator[tuple[Any, Any]]
Contender = Callable[[argparse.Namespace], Stream]

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PATIENCE_S = 900  # for one answer of a contender


@dataclass(frozen=True, kw_only=True)
class Table:
    """Hold what a contest is about.

    Attributes:
        title: one line.
        contenders: by name; the first is ours.
        check: takes the arguments and a contender; returns what was compared, raises ValueError where it is wrong.
        prepare: makes in `args.work` what contenders read.
        items: in a pass, from the arguments.
        lead: items to take before the clock starts, at least as many as any contender fetches ahead.
        packages: whose versions are reported.
        also: what else is measured, with its name, after the contest and in the main process.
    """

    title: str
    contenders: dict[str, Contender]
    check: Callable[[argparse.Namespace, Contender], str]
    prepare: Callable[[argparse.Namespace], None]
    items: Callable[[argparse.Namespace], int]
    lead: int
    packages: tuple[str, ...]
    also: Callable[[argparse.Namespace], dict[str, float]] | None = None


def main(table: Table, parser: argparse.ArgumentParser) -> None:
    """Parse the arguments; be one contender, or run all of them and report."""
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="that a round should last, in whole passes")
    parser.add_argument("--workers", type=int, default=2, help="threads or processes of each contender")
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="contenders whose name has one of these words, and ours"
    )
    parser.add_argument("--python", nargs="+", default=[], metavar="WORD=PATH", help="interpreter of such contenders")
    parser.add_argument("--json", type=Path, help="write everything measured here")
    parser.add_argument("--work", type=Path, help="folder for what is prepared, kept (default: a temporary one)")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(table, args)
        return
    names = [
        name
        for number, name in enumerate(table.contenders)
        if not (number and args.only) or any(word in name for word in args.only)
    ]
    with contextlib.ExitStack() as stack:
        if args.work is None:
            args.work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        args.work.mkdir(parents=True, exist_ok=True)
        table.prepare(args)
        rows = hold(table, args, names)
        also = table.also(args) if table.also else {}
    report = describe(table, args) | {"contenders": rows, "also": also}
    print(as_text(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def serve(table: Table, args: argparse.Namespace) -> None:
    """Be one contender: answer each line of stdin with a line of JSON on stdout."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    stream: Stream | None = None
    for line in sys.stdin:
        command, *numbers = line.split()
        try:
            answer: dict[str, Any]
            if command == "check":
                answer = {"check": table.check(args, table.contenders[args.serve])}
            else:
                if stream is None:
                    stream = table.contenders[args.serve](args)
                answer = clock(stream, *map(int, numbers))
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is its row in the table
            traceback.print_exc()
            text = f"{type(error).__name__}: {error}".replace(str(args.work), "WORK")
            answer = {"error": " ".join(text.split())[:200]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    os._exit(0)  # some peers' threads never end


def clock(stream: Stream, lead: int, items: int) -> dict[str, float]:
    """Take `lead` items unclocked, then `items` on the clock."""
    for _ in range(lead):
        next(stream)
    images = 0
    cpu, start = cpu_s(os.getpid()), time.perf_counter()
    for _ in range(items):
        images += len(next(stream)[1])
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "cpu_s": cpu_s(os.getpid()) - cpu, "images": images}


class Player:
    """A contender's process, stopped but for its own turns."""

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        given = dict(pair.split("=", 1) for pair in args.python)
        python = next((path for word, path in given.items() if word in name), sys.executable)
        command = [python, *sys.argv, "--work", str(args.work), "--serve", name]
        self.name = name
        self.log = (args.work / f"{len(list(args.work.glob('*.log'))):02d}.log").open("w+")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, start_new_session=True
        )

    def ask(self, command: str, *, watch_memory: bool = False) -> dict[str, Any]:
        """Send a command to the process, let it run until it has answered and gone idle."""
        peak_mb = 0.0
        try:
            os.killpg(self.process.pid, signal.SIGCONT)
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
            end = time.monotonic() + _PATIENCE_S
            while not select.select([self.process.stdout], [], [], 0.05 if watch_memory else 1)[0]:
                if watch_memory:
                    peak_mb = max(peak_mb, memory_mb(self.process.pid))
                if time.monotonic() > end:
                    return {"error": f"no answer within {_PATIENCE_S} s"}
            line = self.process.stdout.readline()
            if not line:
                return {"error": f"its process ended with status {self.process.wait()}"}
            self._rest()
        except (BrokenPipeError, ProcessLookupError):
            return {"error": f"its process ended with status {self.process.wait()}"}
        return json.loads(line) | ({"peak_mb": peak_mb} if watch_memory else {})

    def _rest(self) -> None:
        """Wait until the process and its children use no CPU, at most ten seconds; stop them."""
        before, end = -1.0, time.monotonic() + 10
        while (now := cpu_s(self.process.pid)) - before > _TICK_S and time.monotonic() < end:
            before = now
            time.sleep(0.15)
        os.killpg(self.process.pid, signal.SIGSTOP)

    def end(self) -> None:
        """Kill the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


def hold(table: Table, args: argparse.Namespace, names: list[str]) -> list[dict[str, Any]]:
    """Let the contenders prepare, play the rounds, be checked; return a row for each."""
    players: dict[str, Player] = {}
    rows: dict[str, dict[str, Any]] = {name: {"name": name, "rounds": []} for name in names}
    items: dict[str, int] = {}
    whole = table.items(args)
    try:
        for name in names:
            say(f"{name}: prepares")
            players[name] = Player(name, args)
            answer = players[name].ask(f"round 0 {table.lead + 1}")
            if "error" not in answer:
                answer = players[name].ask(f"round {table.lead} {whole}", watch_memory=True)
            rows[name] |= {key: answer[key] for key in ("error", "peak_mb") if key in answer}
            if "error" in answer:
                players[name].end()
            else:
                items[name] = whole * max(1, min(200, round(args.seconds / answer["seconds"])))
        for turn in range(args.rounds):
            for name in list(items)[:: 1 if turn % 2 == 0 else -1]:
                say(f"{name}: round {turn + 1} of {args.rounds}")
                answer = players[name].ask(f"round {table.lead} {items[name]}")
                if "error" in answer:
                    rows[name]["error"] = answer["error"]
                    players[name].end()
                    del items[name]
                else:
                    rows[name]["rounds"].append(answer)
        for name in items:
            say(f"{name}: is checked")
            answer = players[name].ask("check")
            rows[name]["check"] = answer.get("check", "WRONG: " + answer.get("error", ""))
    finally:
        for player in players.values():
            player.end()
    say("")
    for row in rows.values():
        row |= summary(row["rounds"])
    return list(rows.values())


def summary(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Compute the medians and extremes of a contender's rounds."""
    if not rounds:
        return {}
    speeds = [each["images"] / each["seconds"] for each in rounds]
    cpu = statistics.median(1000 * each["cpu_s"] / each["images"] for each in rounds)
    return {
        "images_per_s": statistics.median(speeds),
        "images_per_s_min": min(speeds),
        "images_per_s_max": max(speeds),
        "cpu_s_per_1000": cpu,
    }


def as_text(report: dict[str, Any]) -> str:
    """Lay the report out as a table, fastest first."""
    rows = sorted(report["contenders"], key=lambda row: -row.get("images_per_s", 0))
    ours = report["contenders"][0].get("images_per_s", float("nan"))
    width = max(len(row["name"]) for row in rows)
    lines = [report["title"], ""]
    lines.append(f"{'':{width}}  images/s      min ..     max  CPU s/1000  peak MB  ours is  checked")
    for row in rows:
        if "error" in row:
            lines.append(f"{row['name']:{width}}  could not run: {row['error']}")
            continue
        lines.append(
            f"{row['name']:{width}}  {row['images_per_s']:8,.0f}  {row['images_per_s_min']:7,.0f} .. "
            f"{row['images_per_s_max']:7,.0f}  {row['cpu_s_per_1000']:10.4f}  {row['peak_mb']:7,.0f}  "
            f"{ours / row['images_per_s']:6.2f}x  {row['check']}"
        )
    machine = report["machine"]
    lines += ["", *(f"{name}: {value:.2f}" for name, value in report["also"].items())] if report["also"] else []
    where = (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, Python {machine['python']}, "
        f"{report['date']}, {report['rounds']} rounds of about {report['seconds']:g} s, {report['workers']} workers"
    )
    return "\n".join([*lines, "", where, ", ".join(f"{name} {found}" for name, found in report["versions"].items())])


def describe(table: Table, args: argparse.Namespace) -> dict[str, Any]:
    """Say what was run, on which machine, with which versions; no path of the machine."""
    simple = {key: value for key, value in vars(args).items() if isinstance(value, int | float)}
    return {
        "title": table.title,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(("ltdata", "numpy", *table.packages)),
        **simple,
    }


def machine() -> dict[str, Any]:
    """Name the processor, and the size of the machine."""
    text = Path("/proc/cpuinfo").read_text()
    found = {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in text.splitlines() if ":" in line}
    model = (
        f"{found.get('model name', platform.machine())} (family {found.get('cpu family')}, model {found.get('model')})"
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Name the installed versions."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def tree(pid: int) -> list[int]:
    """List a process and all below it (Linux)."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


def cpu_s(pid: int) -> float:
    """Count the CPU seconds of a process and all below it, those that have ended and were waited for included."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total * _TICK_S


def memory_mb(pid: int) -> float:
    """Count the memory of a process and all below it that is no page of a file, shared pages once."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Pss_Anon", "Pss_Shmem")):
                    total += int(line.split()[1])
    return total / 1024


def say(text: str) -> None:
    """Show progress on a terminal."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        print(f"\r{text:{width - 1}.{width - 1}}", end="\r" if not text else "", file=sys.stderr, flush=True)
