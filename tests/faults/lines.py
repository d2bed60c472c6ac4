"""Command lines in this process, kept to one folder.

What a command takes is read off the command, so that a new option is tried at once.

    with kept_inside(folder) as outside:
        ended = run("ltdata stats", "what", "--json")
"""

import errno
import io
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import click
import numpy as np
from photos import put_photos

from ace_ref import evaluate, report, train
from ltdata import cli, console, engine, reader, remote
from ltdata.build import Built
from ltdata.errors import LtdataError

COMMANDS: dict[str, click.Command] = {
    f"ltdata {name}": command
    for name in cli.cli.list_commands(click.Context(cli.cli))
    if (command := cli.cli.get_command(click.Context(cli.cli), name)) is not None
} | {f"ace_ref.{module.__name__[8:]}": module.command for module in (train, evaluate, report)}
FAR_ENOUGH = "all that the line says can be meant; it is not tried any further"
_RESULT = Path(__file__).parent.parent.parent / "results" / "cpu" / "ace-plus-seed0.json"
CODES = range(6)  # of the contract; 130 and 143 are of signals


@dataclass(frozen=True)
class Ended:
    """Hold the end of a command: exit code, stdout, stderr, and the name that begins its errors."""

    code: int
    out: str
    err: str
    name: str

    @property
    def errors(self) -> list[str]:
        """Return the lines of stderr that are errors."""
        return [line for line in self.err.split("\n") if "error: " in line]

    def refused(self, code: int) -> bool:
        """Tell whether it ended with that code, one line on stderr, and nothing on stdout."""
        one_line = self.err.startswith(f"{self.name}: error: ") and self.err.count("\n") == 1
        return self.code == code and one_line and self.out == "" and "Traceback" not in self.err


def run(command: str, *words: object) -> Ended:
    """Run a command line as the process of its own would, whose streams are UTF-8."""
    name, _, sub = command.partition(" ")
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, write_through=True)
        for errors in ("strict", "backslashreplace")
    )
    line = [name, *([sub] if sub else []), *map(str, words)]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    code: Any = None
    try:
        with mock.patch.object(sys, "argv", line), redirect_stdout(out), redirect_stderr(err):
            console.run(cli.cli if sub or name == "ltdata" else COMMANDS[name], name=name)
    except SystemExit as end:
        code = end.code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
    return Ended(code, *texts, name)


def laid_out(place: Path, built: Built) -> Path:
    """Lay one of everything that commands read out in a folder: a build, what was made of it, photographs, a result."""
    shutil.copytree(built.folder, place / "whole")
    shutil.copytree(built.folder / "train", place / "theirs" / "train")
    (place / "header.json").write_text(built.manifest.to_json())
    with kept_inside(place):
        for line in (
            ("subset", "whole", "--group", "few", "--out", "view"),
            ("subset", "whole", "--per-class", "3", "--as", "manifest", "--out", "rows"),
            *(("export", "rows", "--out", f"rows.{suffix}") for suffix in ("csv", "json", "npz")),
            ("export", "rows", "--split", "train", "--out", "rows.npy"),
            ("export", "rows", "--split", "train", "--out", "list.txt"),
            ("export", "whole", "--format", "counts", "--split", "train", "--out", "counts.json"),
        ):
            ended = run(f"ltdata {line[0]}", *line[1:])
            assert ended.code == 0, ended
    labels = reader.read_samples(place / "whole", built.manifest)["test"].labels
    np.savez(place / "answers.npz", predictions=labels, labels=labels)
    np.save(place / "answers.npy", labels)
    put_photos(place / "photos", [f"{name}/{number}.jpg" for name in ("owl", "wren") for number in range(3)])
    (place / "folder").mkdir()
    (place / "folder" / "notes.txt").write_text("precious")
    (place / "file").write_text("{}")
    (place / "results").mkdir()
    shutil.copy(_RESULT, place / "results" / "one.json")
    return place


def no_further(*_: object, **__: object) -> NoReturn:
    """Stand for the loading of images that a training begins with."""
    raise LtdataError(FAR_ENOUGH)


def _unreachable(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENETUNREACH, "Network is unreachable")


# What the interpreter tells its audit hooks before it does it, and which of the arguments are paths.
_WRITING: dict[str, Callable[[tuple[Any, ...]], list[Any]]] = {
    "open": lambda args: [args[0]] if args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) else [],
    **dict.fromkeys(("os.mkdir", "os.rmdir", "os.remove", "os.truncate", "os.chmod", "os.utime"), lambda a: [a[0]]),
    **dict.fromkeys(("os.rename", "os.link"), lambda args: list(args[:2])),
    "os.symlink": lambda args: [args[1]],
    "shutil.rmtree": lambda args: [args[0]],
}
_CACHES = ("__pycache__", ".hypothesis", "torchinductor", "matplotlib", "huggingface")  # that libraries look for once
_inside: str | None = None
_outside: list[str] = []


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if _inside is None:
        return
    if event in ("subprocess.Popen", "os.fork", "os.exec", "os.posix_spawn", "os.system"):
        _outside.append(event)
        raise OSError(errno.EPERM, f"{event}: no process is to be started here")
    for path in _WRITING[event](args) if event in _WRITING else ():
        if isinstance(path, int) or path is None:
            continue
        whole = os.path.realpath(os.fsdecode(path))
        if whole == os.devnull or any(cache in whole for cache in _CACHES):
            continue
        if whole != _inside and not whole.startswith(_inside + os.sep):
            _outside.append(f"{event} {whole}")
            raise OSError(errno.EACCES, "Permission denied", whole)


sys.addaudithook(_watch)


@contextmanager
def kept_inside(folder: Path) -> Iterator[list[str]]:
    """Work in a folder, without a network and other processes; what is to be written elsewhere fails, and is listed."""
    global _inside
    here, start = Path.cwd(), engine.start
    with (
        mock.patch.object(socket.socket, "connect", _unreachable, create=True),
        mock.patch.object(socket.socket, "connect_ex", create=True, return_value=errno.ENETUNREACH),
        mock.patch.object(socket, "getaddrinfo", _unreachable),
        mock.patch.object(remote, "_WAIT_S", 0),
        mock.patch.object(train.loading, "load_split", no_further),
        mock.patch.object(engine, "start", lambda count=1, **more: start(min(engine.check_workers(count), 1), **more)),
        mock.patch.dict(os.environ, LTDATA_HOME=str(folder / "cache"), NO_COLOR="1"),
    ):
        os.chdir(folder)
        _outside.clear()
        _inside = os.path.realpath(folder)
        try:
            yield _outside
        finally:
            _inside = None
            os.chdir(here)
