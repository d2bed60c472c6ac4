"""The faults of `make faults`: each break still fits the code."""

from pathlib import Path

import pytest
from faults.breaks import breaks_of
from faults.rows import ROWS

REPO = Path(__file__).parent.parent


@pytest.mark.parametrize("row", ROWS)
def test_every_break_of_a_row_fits_the_code(row: str) -> None:
    """Which `make faults` alone would find out, half an hour later."""
    assert breaks_of(row)
    for broken in breaks_of(row):
        assert (REPO / broken.file).read_text(encoding="utf-8").count(broken.old) == 1, broken
