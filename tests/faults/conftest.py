"""Counts the cases of each row, and prints the table at the end."""

from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

from faults import effort, table
from faults.rows import ROWS

_CASES = "cases"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Put the number of cases that a test tried into its report, which travels from any worker."""
    effort.reset()
    try:
        yield
    finally:
        item.user_properties.append((_CASES, effort.reset()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table: row, cases tried, failures."""
    cases: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            row = row_of(report.nodeid)
            if row is not None:
                cases[row] += sum(value for name, value in report.user_properties if name == _CASES)
                failures[row] += outcome != "passed"
    found = {row: (cases[row], failures[row]) for row in ROWS if row in cases or row in failures}
    if found:
        terminalreporter.section("faults")
        terminalreporter.write_line(table.text(found))


def row_of(nodeid: str) -> str | None:
    """Return the row that a test belongs to; None for a test of another folder."""
    path = Path(nodeid.partition("::")[0])
    return path.stem.removeprefix("test_") if path.parent.name == "faults" else None
