"""Cases and failures of each row, out of the reports of a pytest run."""

from collections import Counter
from pathlib import Path

import pytest

from faults.rows import ROWS
from faults.table import Found

CASES = "cases"  # the property of a report that holds how many were tried


def count(reporter: pytest.TerminalReporter) -> dict[str, Found]:
    """Count cases and failures by row, in the table's order; rows without a report are left out."""
    cases: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for outcome in ("passed", "failed", "error"):
        for report in reporter.stats.get(outcome, []):
            path = Path(report.nodeid.partition("::")[0])
            if path.parent.name == "faults":
                row = path.stem.removeprefix("test_")
                cases[row] += sum(value for name, value in getattr(report, "user_properties", ()) if name == CASES)
                failures[row] += outcome != "passed"
    return {row: Found(cases[row], failures[row]) for row in ROWS if row in cases}
