"""The histogram in a terminal: never too wide, never rising, readable without Unicode and without colour."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltdata.groups import GROUP_NAMES, assign
from ltdata.histogram import MAX_COLUMNS, draw
from ltdata.profiles import class_counts

BLOCKS = " ▁▂▃▄▅▆▇█"
CLASSES = [2, 10, 100, 365, 1000, 8142]
ESCAPE = re.compile(r"\x1b\[\d+m")


def long_tail(classes: int) -> np.ndarray:
    return class_counts("exp", num_classes=classes, n_max=1000, imbalance_factor=500)


def heights(chart: str) -> list[int]:
    """Add up the eighths of every column of the chart."""
    rows = [line[9:] for line in chart.splitlines()[:-2]]
    width = max(map(len, rows))
    return [sum(BLOCKS.index(row.ljust(width)[column]) for row in rows) for column in range(width)]


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("columns", [40, 57, 80, 100])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_no_line_is_longer_than_the_terminal(classes: int, columns: int, ascii_only: bool) -> None:
    counts = long_tail(classes)
    lines = draw(counts, assign(counts), columns=columns, ascii_only=ascii_only).splitlines()
    assert max(map(len, lines)) <= columns
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("classes", CLASSES)
def test_wide_terminals_get_100_columns(classes: int) -> None:
    counts = long_tail(classes)
    assert draw(counts, assign(counts), columns=5000) == draw(counts, assign(counts), columns=MAX_COLUMNS)
    assert max(map(len, draw(counts, assign(counts), columns=5000).splitlines())) <= MAX_COLUMNS == 100


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("columns", [40, 80, 100])
def test_bars_never_rise_from_left_to_right(classes: int, columns: int) -> None:
    counts = np.random.RandomState(0).permutation(long_tail(classes))  # the chart sorts, not its caller
    bars = heights(draw(counts, assign(counts), columns=columns))
    assert bars == sorted(bars, reverse=True)
    assert bars[0] > bars[-1] > 0


@pytest.mark.parametrize("classes", CLASSES)
def test_every_class_has_its_share_of_the_width(classes: int) -> None:
    bars = heights(draw(long_tail(classes), assign(long_tail(classes))))
    assert len(bars) == (91 // classes * classes if classes <= 91 else 91)


@pytest.mark.parametrize("classes", CLASSES)
def test_ascii_only_has_only_ascii(classes: int) -> None:
    counts = long_tail(classes)
    assert draw(counts, assign(counts), ascii_only=True).isascii()
    assert not draw(counts, assign(counts)).isascii()


@pytest.mark.parametrize("classes", CLASSES)
def test_colour_adds_escape_codes_and_nothing_else(classes: int) -> None:
    counts = long_tail(classes)
    plain = draw(counts, assign(counts))
    coloured = draw(counts, assign(counts), colour=True)
    assert "\x1b" not in plain
    assert "\x1b[34m" in coloured
    assert [line.rstrip() for line in ESCAPE.sub("", coloured).splitlines()] == plain.splitlines()


def test_groups_are_named_under_their_columns_with_their_number_of_classes() -> None:
    counts = class_counts("exp", num_classes=100, n_max=500, imbalance_factor=100)
    bands = draw(counts, assign(counts)).splitlines()[-1]
    assert re.findall(r"\w+ \d+", bands) == ["many 35", "medium 35", "few 30"]
    assert [bands.index(name) for name in GROUP_NAMES] == sorted(bands.index(name) for name in GROUP_NAMES)


def test_an_empty_group_is_not_named() -> None:
    counts = class_counts("exp", num_classes=100, n_max=500, imbalance_factor=10)
    assert "few" not in draw(counts, assign(counts)).splitlines()[-1]


def test_powers_of_ten_label_the_axis() -> None:
    chart = draw(np.array([5000, 50]), assign(np.array([5000, 50])))
    assert [line[:7].strip() for line in chart.splitlines() if line[:7].strip()] == [
        "10,000",
        "1,000",
        "100",
        "10",
        "1",
    ]


def test_one_image_is_seen_and_no_image_is_not() -> None:
    counts = np.array([9, 1, 0])
    bars = heights(draw(counts, assign(counts)))
    assert bars[len(bars) // 2] == 1
    assert bars[-1] == 0 or len(bars) < 3 * (91 // 3)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=300), st.integers(-5, 300), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_any_counts_can_be_drawn(counts: list[int], columns: int, colour: bool, ascii_only: bool) -> None:
    n = np.array(counts)
    lines = draw(n, assign(n), columns=columns, colour=colour, ascii_only=ascii_only).splitlines()
    assert max(len(ESCAPE.sub("", line)) for line in lines) <= min(max(columns, 40), 100)
