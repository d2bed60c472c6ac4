"""The class-frequency histogram in a terminal: classes by shot group and falling count, logarithmic height.

At most 100 columns wide whatever the number of classes: with many, neighbours share a column and their median
is drawn; with few, a class takes several columns. The line under it marks the shot groups.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ltdata.groups import GROUP_NAMES

MAX_COLUMNS = 100
_ROWS_PER_DECADE = {1: 8, 2: 5, 3: 4, 4: 3}  # 2 where the counts span more
_AXIS_COLUMNS = 9
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_COLOURS = {"many": "\x1b[34m", "medium": "\x1b[32m", "few": "\x1b[33m"}
_RESET = "\x1b[0m"


def draw(
    class_counts: NDArray[np.integer],
    class_groups: NDArray[np.integer],
    *,
    columns: int = MAX_COLUMNS,
    colour: bool = False,
    ascii_only: bool = False,
) -> str:
    """Draw the histogram.

    Args:
        class_counts: (C,).
        class_groups: index into `GROUP_NAMES` per class, (C,).
        columns: width in characters, axis included; held between 40 and 100.
        colour: use ANSI colours, one per group.
        ascii_only: use ``#`` in place of block characters.

    Returns:
        Lines joined by LF, none longer than `columns`.
    """
    counts = np.asarray(class_counts)
    order = np.lexsort((np.arange(len(counts)), -counts, class_groups))
    width = min(max(columns, 40), MAX_COLUMNS) - _AXIS_COLUMNS
    per_class = max(1, width // len(order))
    bins = (
        order.reshape(-1, 1)
        if len(order) <= width
        else np.split(order, np.linspace(0, len(order), width + 1).astype(int)[1:-1])
    )
    heights = [float(np.median(counts[part])) for part in bins for _ in range(per_class)]
    group_of = [int(class_groups[part[len(part) // 2]]) for part in bins for _ in range(per_class)]
    decades = math.log10(max(int(counts.max()), 2))
    per_decade = _ROWS_PER_DECADE.get(math.ceil(decades), 2)
    axis, tick, corner, line = ("|", "+", "+", "-") if ascii_only else ("│", "┤", "└", "─")
    lines = []
    for row in range(math.ceil(decades * per_decade), 0, -1):
        bar = "".join(
            _paint(_cell(height, row, per_decade, ascii_only), GROUP_NAMES[g], colour)
            for height, g in zip(heights, group_of, strict=True)
        )
        power, rest = divmod(row, per_decade)  # the top of a row is 10 ** (row / per_decade) images
        label = "" if rest else f"{10**power:,}" if power < 6 else f"1e{power}"
        lines.append(f"{label:>7} {axis if rest else tick}{bar}")
    lines.append(f"{'1':>7} {corner}{line * len(heights)}")
    lines.append(f"{'':9}" + _bands(group_of, class_groups, colour))
    return "\n".join(line.rstrip() for line in lines)


def _cell(height: float, row: int, per_decade: int, ascii_only: bool) -> str:
    """Return the character of a column in a row: one image is an eighth above the axis."""
    if height <= 0:
        return " "
    filled = max(math.log10(max(height, 1)) * per_decade, 1 / 8) - (row - 1)
    eighths = min(max(round(filled * 8), 0), 8)
    if ascii_only:
        return "#" if eighths >= 4 or (row == 1 and eighths) else " "
    return _EIGHTHS[eighths]


def _bands(group_of: list[int], class_groups: NDArray[np.integer], colour: bool) -> str:
    """Name each group under its columns, shortened to fit."""
    parts = []
    for g, name in enumerate(GROUP_NAMES):
        columns = group_of.count(g)
        if columns:
            label = f"{name} {int((class_groups == g).sum())}"
            label = label if len(label) < columns else name[: max(columns - 1, 0)]
            parts.append(_paint(label.ljust(columns), name, colour))
    return "".join(parts)


def _paint(text: str, group: str, colour: bool) -> str:
    return f"{_COLOURS[group]}{text}{_RESET}" if colour and text.strip() else text
