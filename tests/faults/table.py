"""The table of `make faults`, for people and for the README."""

from collections.abc import Mapping

from faults.rows import ROWS


def text(found: Mapping[str, tuple[int, int]]) -> str:
    """Lay (cases tried, failures) of each row out in lines."""
    lines = [
        f"{row:<17} {cases:>9,} cases  {failures} failures   {ROWS[row].fault}"
        for row, (cases, failures) in found.items()
    ]
    return "\n".join(lines)
