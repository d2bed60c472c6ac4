"""Ctrl-C and SIGTERM, from a command's first line of code to its last: exit 130 or 143, one line, no traceback.

A command goes through four stages:

- It imports modules, and has written nothing: a signal ends it at once. An exception, as Python's own handler raises
  it, would come out of the middle of any import, where numpy and torch may lose it or make another of it.
- It works: a signal is an exception, so that every block on the way out tidies up. Where such an exception is lost,
  as in the middle of an import or of a `__del__`, it comes a little later; one more meanwhile ends it at once.
- It leaves, on its way out: one more signal ends it at once.
- It is over: a signal changes nothing, the exit code has been decided; a second does not wait for Python to tidy up.

This module imports the standard library alone, so that it comes before everything else. What a signal does that comes
before it is Python's to say.
"""

import _thread
import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum, auto
from functools import partial
from types import FrameType
from typing import Any

CODES: Mapping[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143}
MESSAGES = {
    130: "interrupted; nothing half-written was left",
    143: "terminated; nothing half-written was left",
}
_AGAIN_S = 0.01  # by when whatever drops an exception is over, or is asked again


class _Stage(Enum):
    IMPORTING = auto()
    WORKING = auto()
    LEAVING = auto()
    OVER = auto()


class _Command:
    """Hold how the command of this process is called, how far it is, and what it has to do with signals.

    Attributes:
        name: how it is called; empty where it did not begin with `answer`.
        stage: how far it is.
        code: with which it exits, once it is over.
        holds: blocks of `held` that it is in.
        waiting: a signal that came meanwhile.
        again: a signal that comes again, since its exception was lost or would have been.
        due: what comes next is that one, and no other.
    """

    name = ""
    stage = _Stage.IMPORTING
    code = 0
    holds = 0
    waiting: int | None = None
    again: int | None = None
    due = False


def answer(name: str) -> None:
    """Answer signals from here on: the first thing that the command of this process does."""
    _Command.name = name
    _install()
    atexit.register(_ignore)  # for the very end, when Python gives every signal back what the system does with it


@contextmanager
def working() -> Iterator[None]:
    """Have signals come as `SystemExit` with 130 or 143 while the block runs, and end the process at once after it.

    Outside a command that began with `answer`, as in tests, what was there before is there again after the block.
    """
    before: Mapping[int, Any] = _install() if not _Command.name else {}
    hook = sys.unraisablehook
    sys.unraisablehook = partial(_lost, hook)
    try:
        _Command.stage = _Stage.WORKING
        yield
    finally:
        number, _Command.again = _Command.again, None
        _Command.stage = _Stage.LEAVING
        sys.unraisablehook = hook
        for each, handler in before.items():
            signal.signal(each, handler)
        if number is not None:  # whatever else it ends with, such as a worker that the same signal has ended
            raise SystemExit(CODES[number])


@contextmanager
def importing() -> Iterator[None]:
    """Have signals end the process at once while the block imports modules; nothing must be written before it."""
    stage, _Command.stage = _Command.stage, _Stage.IMPORTING
    try:
        yield
    finally:
        _Command.stage = stage


@contextmanager
def held() -> Iterator[None]:
    """Have a signal wait for the end of the block, whose steps belong together, such as tidying up; a second does not.

    Threads are not interrupted by signals anyway. Where this is no command, as in a notebook, Ctrl-C waits likewise.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = bool(_Command.name) or _answer in map(signal.getsignal, CODES)  # a command's work may have its own handlers
    if not ours:
        came: list[int] = []
        try:
            with noted(signal.SIGINT) as came:
                yield
        finally:
            if len(came) == 1:  # a second has been answered
                signal.raise_signal(came[0])
        return
    _Command.holds += 1
    try:
        yield
    finally:
        _Command.holds -= 1
        if _Command.waiting is not None and not _Command.holds:
            number, _Command.waiting = _Command.waiting, None
            _answer(number, None)


@contextmanager
def noted(*numbers: int) -> Iterator[list[int]]:
    """Note signals instead of answering them while the block runs, all of `CODES` if none is named.

    A second one does what it did before the block. One that is ignored, as SIGINT in a shell's background job, stays
    so. Threads are not interrupted by signals anyway: there nothing is noted.

    Yields:
        Those that came, in their order.
    """
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        _Command.again = None  # which it may have been
        if len(came) > 1:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (numbers or CODES) if here}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, note)
        yield came
    finally:
        for number in reversed(before):  # SIGINT last: in a notebook, one that comes between the two raises
            signal.signal(number, before[number])


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Start processes in the block that never see Ctrl-C, which a terminal sends to all; here it waits for its end."""
    with held():
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            yield
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # processes begin with what is blocked here
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def over(code: int) -> None:
    """Say that the command is over: whatever comes now, it ends with this exit code and no word."""
    _Command.stage, _Command.code, _Command.waiting = _Stage.OVER, code, None


def _install() -> Mapping[int, Any]:
    """Install the handler, but for signals that whoever started the process wants ignored; return those before."""
    before = {number: signal.getsignal(number) for number in CODES}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, _answer)
    return before


def _answer(number: int, frame: FrameType | None) -> None:
    code = CODES[number]
    if _Command.stage is _Stage.WORKING and _Command.holds and _Command.waiting is None:
        _Command.waiting = number
        return
    if _Command.stage is _Stage.WORKING and _Command.waiting is None and (_Command.again is None or _Command.due):
        if _imports(frame):
            _send_again(number)
            return
        _Command.stage, _Command.again = _Stage.LEAVING, None
        raise SystemExit(code)
    if _Command.stage is _Stage.OVER:
        if _Command.waiting is not None:
            os._exit(_Command.code)
        _Command.waiting = number
        return
    message = MESSAGES[code]
    if _Command.stage in (_Stage.WORKING, _Stage.LEAVING):
        message = f"{message.partition(';')[0]} while it tidied up; the next run removes what is left"
    with suppress(OSError):  # nobody listens any more
        os.write(2, f"{line_begin()}{_Command.name or 'ltdata'}: error: {message}\n".encode())
    os._exit(code)


def _lost(hook: Callable[[Any], object], unraisable: "sys.UnraisableHookArgs") -> None:
    """Send a signal again whose exception came up where Python drops exceptions, such as inside a `__del__`."""
    ended = unraisable.exc_value
    number = next((number for number, code in CODES.items() if isinstance(ended, SystemExit) and ended.code == code), 0)
    if not number:
        hook(unraisable)
        return
    _Command.stage = _Stage.WORKING
    _send_again(number)


def _imports(frame: FrameType | None) -> bool:
    """Tell whether a module is being imported: compiled ones lose exceptions there, such as those of numpy.random."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            return True
        frame = frame.f_back
    return False


def _send_again(number: int) -> None:
    _Command.again, _Command.due = number, False
    _thread.start_new_thread(_send_later, (number,))  # `threading` has locks, which this thread may hold just now


def _send_later(number: int) -> None:
    time.sleep(_AGAIN_S)
    if _Command.again is None:  # the command is on its way out
        return
    _Command.due = True
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        signal.raise_signal(number)


def line_begin() -> str:
    """Return what an error begins with that comes after Ctrl-C: a terminal has put ^C into the line."""
    return "\n" if sys.stderr is not None and sys.stderr.isatty() else ""


def _ignore() -> None:
    for number in CODES:
        signal.signal(number, signal.SIG_IGN)
