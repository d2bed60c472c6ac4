"""Trainings that fail, stop and go on: in this process, in one that may be killed, in several ranks.

A process is forked from one that has imported torch and nothing else has happened in: it starts at once, and a
signal, a kill or a hang is a real one.
"""

import io
import json
import multiprocessing
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from photos import photo, put

from ltdata import console
from ltdata.build import Built, build
from ltdata.spec import Spec

STEPS = 4  # of an epoch of `small`
EPOCHS = 2
LIMIT_S = 120  # a hang is a failure; nothing here takes a tenth of it on an idle machine
Spoil = Callable[[], object]


@dataclass(frozen=True)
class Ended:
    """What a command did; a negative code is the signal that killed it."""

    code: int
    stdout: str
    stderr: str


def small(folder: Path, *, test_per_class: int = 3) -> Built:
    """Build a set of three classes, 21, 9 and 3 images to train on, 4 batches of 8, and some to test; a shard each."""
    files = {
        f"{name}/{number:02}.png": photo(100 * index + number, size=(12, 12), form="PNG")
        for index, (name, count) in enumerate((("a", 21), ("b", 9), ("c", 3)))
        for number in range(count + test_per_class)
    }
    spec = Spec("folder", title="small", test_per_class=test_per_class)
    return build(spec, data_dir=put(folder / "images", files), out=folder / "small")


def options(built: Built, out: Path, *more: object) -> list[str]:
    """Return the options of a short training."""
    settings = {"batch_size": 8, "crop_padding_px": 2, "lr": 0.05, "milestones": "[1]", "short_side_px": 256}
    listed = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    known = ["--shards", built.folder, "--recipe", "tiny", "--epochs", EPOCHS, *listed, "--quiet", "--out", out]
    return [str(option) for option in (*known, *more)]


def run(arguments: Sequence[object], *, module: str = "train") -> Ended:
    """Run `python -m ace_ref.<module>` in this process."""
    from ace_ref import evaluate, report, train

    command = {"train": train.command, "evaluate": evaluate.command, "report": report.command}[module]
    out, err = io.StringIO(), io.StringIO()
    line = [f"ace_ref.{module}", *map(str, arguments)]
    quietly = mock.patch.object(sys, "argv", line)
    with redirect_stdout(out), redirect_stderr(err), quietly, pytest.raises(SystemExit) as end:
        console.run(command, name=line[0])
    return Ended(end.value.code, out.getvalue(), err.getvalue())


def fails(ended: Ended, code: int, *words: str) -> None:
    """Check that a command ended with one line that says why, and no traceback."""
    assert (ended.code, ended.stdout) == (code, ""), ended
    assert ended.stderr.count("\n") == 1, ended
    assert all(word in ended.stderr for word in words), ended


def complaint(ended: Ended) -> str:
    """Return the one line in which a command says why it failed; torch may have said something beside it."""
    lines = [line for line in ended.stderr.splitlines() if line.startswith("ace_ref.train: error:")]
    assert len(lines) == 1, ended
    assert "Traceback" not in ended.stderr, ended
    return lines[0]


def record(folder: Path) -> dict[str, Any]:
    """Return the result of a training, without what it took."""
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return {name: value for name, value in result.items() if name not in ("seconds", "images_per_second", "together")}


def logged(folder: Path) -> list[dict[str, Any]]:
    """Return the log of a training, without what it took."""
    records = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def same(found: Path, expected: Path) -> None:
    """Check that two trainings ended with the same bytes, and nothing else is left."""
    assert (found / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()
    assert record(found) == record(expected)
    assert logged(found) == logged(expected) == record(expected)["history"]
    assert [list(each) for each in logged(found)] == [list(each) for each in logged(expected)]  # in that order, too
    assert {path.name for path in found.iterdir()} <= {
        "checkpoints", "events", "log.jsonl", "model.safetensors", "result.json",
    }  # fmt: skip


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder; give its URL."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *values: object) -> None:  # noqa: A002 - its name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder.parent)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{folder.name}"
        server.shutdown()
        thread.join()


def copied(folder: Path, place: Path) -> Path:
    """Copy a folder, in place of what is there."""
    shutil.rmtree(place, ignore_errors=True)
    return shutil.copytree(folder, place, symlinks=True)


# --- processes


def begin(arguments: Sequence[str], place: Path, *, spoil: Spoil | None = None, **environment: str) -> BaseProcess:
    """Start `python -m ace_ref.train` in a process of its own; what it says goes into files in `place`.

    Args:
        arguments: of the command.
        place: folder for what it says.
        spoil: called in that process before the command.
        environment: added to this one's.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ace_ref.train", "torch._dynamo", "faults.trainings"])
    process = context.Process(target=_command, args=(list(arguments), place, spoil, environment))
    process.start()
    return process


def _command(arguments: list[str], place: Path, spoil: Spoil | None, environment: dict[str, str]) -> None:
    from ace_ref import train

    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    os.environ.update(environment)
    if spoil is not None:
        spoil()
    sys.argv = ["ace_ref.train", *arguments]
    console.run(train.command, name="ace_ref.train")


def end(process: BaseProcess, place: Path, *, deadline_s: float | None = None) -> Ended:
    """Wait for a process, at most so long, and return what it did."""
    process.join(LIMIT_S if deadline_s is None else max(0.0, deadline_s - time.monotonic()))
    if process.is_alive():
        process.kill()
        process.join()
        pytest.fail(f"a hang: {(place / 'stderr').read_text()}")
    assert process.exitcode is not None
    said = [(place / name).read_text() if (place / name).exists() else "" for name in ("stdout", "stderr")]
    return Ended(process.exitcode, *said)


def alone(arguments: Sequence[str], *, spoil: Spoil | None = None) -> Ended:
    """Run the command in a process of its own, to its end."""
    with tempfile.TemporaryDirectory() as place:
        return end(begin(arguments, Path(place), spoil=spoil), Path(place))


@contextmanager
def started(world: int, arguments: Callable[[int], Sequence[str]], spoil: Spoil | None) -> Iterator[list[BaseProcess]]:
    """Start ranks, gloo between them; none outlives the block."""
    with tempfile.TemporaryDirectory() as name, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        common = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        processes: list[BaseProcess] = []
        try:
            for rank in range(world):
                place = Path(name) / str(rank)
                place.mkdir()
                own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "CUDA_VISIBLE_DEVICES": ""}
                process = begin(arguments(rank), place, spoil=spoil, **common, **own)
                process.place = place  # type: ignore[attr-defined]
                processes.append(process)
            yield processes
        finally:
            for process in processes:
                process.kill()
                process.join()


def ranks(world: int, arguments: Callable[[int], Sequence[str]], *, spoil: Spoil | None = None) -> list[Ended]:
    """Run the command in several ranks, to the end of all of them."""
    with started(world, arguments, spoil) as processes:
        deadline_s = time.monotonic() + LIMIT_S
        return [end(process, process.place, deadline_s=deadline_s) for process in processes]  # type: ignore[attr-defined]
