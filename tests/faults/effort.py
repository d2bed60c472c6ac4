"""How many cases are tried: few in `make test`, all in `make faults` (LTDATA_FAULTS=whole); and their count."""

import os
from collections.abc import Sequence
from typing import TypeVar

WHOLE = os.environ.get("LTDATA_FAULTS") == "whole"
Case = TypeVar("Case")
_tried = 0


def tried(cases: int = 1) -> None:
    """Count cases that were tried, and held, in the test that runs: call it after the last assert of a case."""
    global _tried
    _tried += cases


def reset() -> int:
    """Return how many cases were counted since the last call."""
    global _tried
    counted, _tried = _tried, 0
    return counted


def thin(cases: Sequence[Case], to: int) -> list[Case]:
    """Return all cases in `make faults`, else at most so many of them, evenly spaced, the first and the last with them.

    >>> thin(range(100), 3) if not WHOLE else [0, 50, 99]
    [0, 50, 99]
    """
    if WHOLE or len(cases) <= to:
        return list(cases)
    return [cases[round(number * (len(cases) - 1) / max(1, to - 1))] for number in range(to)]


def examples(fast: int, whole: int) -> int:
    """Return the `max_examples` of a hypothesis test."""
    return whole if WHOLE else fast
