"""The faults of `make faults`: each break still fits the code, and the README shows what a whole run found."""

import json
import re
from pathlib import Path

import pytest
from faults import table
from faults.breaks import breaks_of
from faults.rows import ROWS

REPO = Path(__file__).parent.parent
RECORD = REPO / "results" / "faults.json"


@pytest.mark.parametrize("row", ROWS)
def test_every_break_of_a_row_fits_the_code(row: str) -> None:
    """Which `make faults` alone would find out, half an hour later."""
    assert breaks_of(row)
    for broken in breaks_of(row):
        assert (REPO / broken.file).read_text(encoding="utf-8").count(broken.old) == 1, broken


def test_the_readme_shows_the_record_of_a_whole_run_in_which_nothing_failed() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"<!-- table: results/faults.json -->\n(.*?)\n<!-- end -->", readme, re.DOTALL)
    assert shown == table.markdown(record)
    assert list(record["rows"]) == list(ROWS)
    found = {row: table.Found(**each) for row, each in record["rows"].items()}
    assert {row: each.wrong(row) for row, each in found.items()} == dict.fromkeys(ROWS, "")
    assert [row for row, each in found.items() if each.breaks > len(breaks_of(row))] == []  # more may have come since
