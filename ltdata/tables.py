r"""Evaluations laid out: a table for people, Markdown, and rows for a paper's LaTeX table. Percent, one decimal.

>>> rows = [Row("A_b", {"overall": Spread(38.26, 0.11)}, seeds=3)]
>>> latex("test", rows).splitlines()[1][:27]
'A\\_b & 38.3 $\\pm$ 0.1 & n/a'
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ltdata.metrics import FIGURES, Evaluation
from ltdata.seeds import Spread, in_percent

HEADINGS = {
    **{name: name for name in FIGURES},
    "class_balanced": "balanced",
    "macro_f1": "macro F1",
    "ece": "ECE",
}
_NAME_WIDTH = 24
_BREAKING = {"Cc", "Cs", "Zl", "Zp"}  # control characters, lone surrogates, line and paragraph separators
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    **{mark: f"{{{mark}}}" for mark in "[*"},  # as the first of a row they would belong to the \\\\ before it
}


@dataclass(frozen=True)
class Row:
    """Hold a line of a table.

    Attributes:
        name: of the method, or of one of its seeds.
        figures: by name; those that are missing are not defined.
        seeds: how many the figures are of.
        intervals: low and high by the figure's name.
    """

    name: str
    figures: Mapping[str, Spread]
    seeds: int = 1
    intervals: Mapping[str, tuple[float, float]] | None = None

    def cells(self) -> list[str]:
        """Return a cell for each of `FIGURES`."""
        return [str(self.figures.get(name, Spread(None, None))) for name in FIGURES]

    def interval_cells(self, form: str) -> list[str]:
        """Return the intervals' cells, empty where there is none."""
        known = self.intervals or {}
        return [form.format(*map(in_percent, known[name])) if name in known else "" for name in FIGURES]


def one_line(text: str) -> str:
    r"""Return a name that fits into a row: what breaks lines and controls terminals becomes a space.

    >>> one_line("ACE\n(ours)\x1b[31m")
    'ACE (ours) [31m'
    """
    return " ".join("".join(" " if unicodedata.category(c) in _BREAKING else c for c in text).split())


def row_of(name: str, found: Evaluation) -> Row:
    """Make the line of one evaluation."""
    return Row(
        name,
        {figure: Spread(value, None) for figure, value in found.figures.items()},
        intervals={figure: (ends.low, ends.high) for figure, ends in found.intervals.items()} or None,
    )


def text(title: str, rows: Sequence[Row], *, rule: str) -> str:
    """Lay lines out for people, an interval under its figure."""
    body = [[one_line(row.name), *row.cells()] for row in rows]
    for at in range(len(rows) - 1, -1, -1):
        if rows[at].intervals is not None:
            body.insert(at + 1, ["  95 % interval", *rows[at].interval_cells("{} .. {}")])
    width = max(10, *(len(cell) + 2 for line in body for cell in line[1:]))
    first = max(_NAME_WIDTH, *(len(line[0]) for line in body))
    heading = "".join(f"{HEADINGS[name]:>{width}}" for name in FIGURES)
    lines = [one_line(title), f"{'':{first}}{heading}   (groups: rule {rule})"]
    lines += [f"{line[0]:{first}}" + "".join(f"{cell:>{width}}" for cell in line[1:]) for line in body]
    return "\n".join(line.rstrip() for line in lines)


def markdown(title: str, rows: Sequence[Row]) -> str:
    """Lay lines out as a Markdown table, whose header says what they are of."""
    lines = [
        f"| {one_line(title)} | seeds | {' | '.join(HEADINGS[name] for name in FIGURES)} |",
        "|---|---|" + "---|" * len(FIGURES),
    ]
    for row in rows:
        name = re.sub(r"([\\`*_|<&~\[\]])", r"\\\1", one_line(row.name))
        lines.append(f"| {name} | {row.seeds} | {' | '.join(_beside(row))} |")
    return "\n".join(lines)


def latex(title: str, rows: Sequence[Row]) -> str:
    r"""Lay lines out as rows of a LaTeX tabular, such as ``ACE & 19.1 & 28.4 & n/a \\``, under a comment on columns."""
    lines = [f"% {one_line(title)}: {', '.join(HEADINGS[name] for name in FIGURES)}"]
    for row in rows:
        name = "".join(_LATEX.get(letter, letter) for letter in one_line(row.name))
        cells = [re.sub(r"-(?=[0-9])", "$-$", cell).replace("±", r"$\pm$") for cell in _beside(row)]
        lines.append(" & ".join([name, *cells]) + r" \\")
    return "\n".join(lines)


def _beside(row: Row) -> list[str]:
    """Return the cells with their intervals in brackets."""
    pairs = zip(row.cells(), row.interval_cells("[{}, {}]"), strict=True)
    return [f"{cell} {interval}".rstrip() for cell, interval in pairs]
