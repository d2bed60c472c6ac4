"""Counts the cases of each row, and prints the table at the end."""

from collections.abc import Generator

import pytest

from faults import effort, table, tally


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Put the number of cases that a test tried into its report, which travels from any worker."""
    effort.reset()
    try:
        yield
    finally:
        item.user_properties.append((tally.CASES, effort.reset()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, where only faults were tried."""
    found = tally.count(terminalreporter)
    if found:
        terminalreporter.section("faults")
        terminalreporter.write_line(table.text(found))
