"""Try every fault in full, take every promise away, and print one table: what `make faults` runs.

    python -m faults [--json FILE]      from tests/

Ends with 1 if a test fails, a row has fewer cases than it needs, or a promise can be taken away unnoticed.
"""

import os
import platform
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest

from faults import breaks, table, tally
from faults.rows import ROWS
from faults.table import Found
from ltdata import __version__

HERE = Path(__file__).parent


class _Tally:
    """Keep what a pytest run found."""

    def __init__(self) -> None:
        self.found: dict[str, Found] = {}

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Count at the end, when the reports of all workers have come."""
        self.found = tally.count(terminalreporter)


@click.command()
@click.option("--json", "record", type=click.Path(path_type=Path), help="Write what was found here.")
@click.option("--workers", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True)
def main(record: Path | None, workers: int) -> None:
    """Try every fault in full, take every promise away, and print one table."""
    started = time.monotonic()
    os.environ["LTDATA_FAULTS"] = "whole"
    run = _Tally()
    code = pytest.main(["-q", "-n", str(workers), "--dist", "worksteal", str(HERE)], plugins=[run])
    found = {row: run.found.get(row, Found()) for row in ROWS}
    tried: Counter[str] = Counter()
    caught: Counter[str] = Counter()
    for row, broken, noticed, seconds in breaks.each(list(ROWS)):
        tried[row] += 1
        caught[row] += noticed
        click.echo(breaks.line(row, broken, noticed, seconds))
    found = {row: replace(each, breaks=tried[row], caught=caught[row]) for row, each in found.items()}
    click.echo(table.text(found))
    wrong = {row: each.wrong(row) for row, each in found.items() if each.wrong(row)}
    for row, words in wrong.items():
        click.echo(f"{row}: {words}", err=True)
    if record is not None:
        versions = {"python": platform.python_version(), "ltdata": __version__, "numpy": np.__version__}
        seconds = time.monotonic() - started
        record.write_text(
            table.to_json(found, seconds=seconds, machine=_machine(), versions=versions), encoding="utf-8"
        )
    sys.exit(1 if wrong or code else 0)


def _machine() -> str:
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{cpu[0].partition(': ')[2] if cpu else platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
