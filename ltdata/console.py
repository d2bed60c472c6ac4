"""What every command of this project does the same way: errors in one line, exit codes, signals, --quiet.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failure |
| 2 | usage |
| 3 | bytes, counts or digests do not match |
| 4 | source data missing |
| 5 | I/O error or no space |
| 130, 143 | interrupted, terminated |
"""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from ltdata import signals
from ltdata.errors import LtdataError, OutputError, one_line, out_of_memory

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def run(command: click.Command, *, name: str) -> NoReturn:
    """Run a command line and exit: data on stdout, one line per error on stderr, no traceback."""
    code = _run(command, name)
    signals.over(code)
    sys.exit(code)


def _run(command: click.Command, name: str) -> int:
    for stream in ("stdout", "stderr"):  # None where the caller has closed it
        if getattr(sys, stream) is None:
            setattr(sys, stream, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for the whole process
    if hasattr(sys.stdout, "reconfigure"):  # as stderr is: a name that its encoding has no letters for is no failure
        sys.stdout.reconfigure(errors="backslashreplace")
    stdout = sys.stdout
    try:
        with signals.working():
            code = command.main(prog_name=name, standalone_mode=False)
            sys.stdout.flush()
    except click.exceptions.Exit as end:
        code = end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = 2
    except click.ClickException as error:
        where = f" (see: {error.ctx.command_path} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
        code = _complain(name, f"{one_line(error.format_message())}{where}", 2)
    except (click.Abort, KeyboardInterrupt):  # of code that raises them itself
        code = _complain(name, signals.MESSAGES[130], 130)
    except LtdataError as error:
        code = _complain(name, str(error), error.exit_code)
    except SystemExit as end:
        # click ends with another stdout when the reader of ours has gone (`| head`): what it wanted it has.
        code = end.code if sys.stdout is stdout else 0
        if code in signals.MESSAGES:
            _complain(f"{signals.line_begin()}{name}", signals.MESSAGES[code], code)
    except (MemoryError, RuntimeError, ImportError) as error:
        if not out_of_memory(error):
            raise
        said = f" ({one_line(str(error))})" if str(error) else ""  # a limit of threads has no other words
        code = _complain(
            name, f"out of memory{said}; use a machine with more, or fewer images at once", LtdataError.exit_code
        )
    except OSError as error:
        place = error.filename or ("standard output" if error.errno in _FULL else "")  # files are named where they fail
        where = f"{place}: " if place else ""
        code = _complain(name, one_line(f"{where}{error.strerror or error}"), OutputError.exit_code)
    return code if isinstance(code, int) else 0


def _complain(name: str, message: str, code: int) -> int:
    with suppress(OSError):  # of a stderr that is full: the code says it still
        click.echo(f"{name}: error: {message}", err=True)
    return code
