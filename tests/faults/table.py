"""The table of faults: what was found for each row, as text for a terminal, and as Markdown for the README.

python -m faults.table FILE      from tests/; prints the README's section of a record that `make faults` wrote
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faults.rows import ROWS


@dataclass(frozen=True)
class Found:
    """Count, for one row: cases tried, tests that failed, breaks of the promise, and those that the row caught."""

    cases: int = 0
    failures: int = 0
    breaks: int = 0
    caught: int = 0

    def wrong(self, row: str) -> str:
        """Say what falls short; nothing if all is well."""
        short = f"{self.cases:,} cases, {ROWS[row].least:,} are needed" if self.cases < ROWS[row].least else ""
        failed = f"{self.failures} failures" if self.failures else ""
        missed = f"{self.breaks - self.caught} breaks not caught" if self.caught < self.breaks else ""
        return "; ".join(filter(None, (failed, short, missed if self.breaks else "no break tried")))


def text(found: Mapping[str, Found]) -> str:
    """Lay the rows out for a terminal."""
    lines = [f"{'row':<17} {'cases':>9} {'failures':>8} {'breaks caught':>13}   fault"]
    for row, each in found.items():
        broken = f"{each.caught} of {each.breaks}" if each.breaks else "-"
        lines.append(f"{row:<17} {each.cases:>9,} {each.failures:>8} {broken:>13}   {ROWS[row].fault}")
    return "\n".join(lines)


def markdown(record: Mapping[str, Any]) -> str:
    """Lay a record out as the README has it."""
    lines = ["| fault | promise | cases tried | failures | breaks caught |", "|---|---|---|---|---|"]
    for row, each in record["rows"].items():
        promised = ROWS[row]
        cells = (promised.fault, promised.promise, f"{each['cases']:,}", each["failures"])
        lines.append("| {} | {} | {} | {} | {} |".format(*cells, f"{each['caught']} of {each['breaks']}"))
    total = sum(each["cases"] for each in record["rows"].values())
    lines += ["", f"{total:,} cases in {record['seconds'] / 60:.0f} minutes on {record['machine']}."]
    return "\n".join(lines)


def to_json(found: Mapping[str, Found], *, seconds: float, machine: str, versions: Mapping[str, str]) -> str:
    """Write a record."""
    record = {"rows": {row: asdict(each) for row, each in found.items()}, "seconds": round(seconds)}
    return json.dumps(record | {"machine": machine, "versions": dict(versions)}, indent=2) + "\n"


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
