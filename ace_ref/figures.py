"""The pictures of a report: training curves, and bars of many, medium and few."""

import io
import re
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from ace_ref.summary import COLUMNS, Row, curves
from ltdata.errors import LtdataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000", "#999999")  # Okabe and Ito
_ROWS_WITH_LARGE_LABELS = 4


def draw(rows: Sequence[Row]) -> dict[str, bytes]:
    """Draw curves and bars of every split and setting.

    Returns:
        Name of the file, and PNG bytes.

    Raises:
        LtdataError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise LtdataError("matplotlib is not installed; install it with: pip install 'ltdata[plot]'") from error
    pictures: dict[str, bytes] = {}
    for (split, setting), some in groupby(rows, key=lambda row: (row.split, row.setting)):
        together = list(some)
        stem = re.sub(r"[^a-z0-9]+", "-", f"{split} {setting}".lower())
        title = f"{split}  ({setting})"
        width = 7 + 0.9 * len(together)
        bars, lines = Figure((width, 4.5), layout="constrained"), Figure((10, 4.5), layout="constrained")
        _draw_bars(bars, together, title)
        _draw_curves(lines, together, title)
        pictures |= {f"{stem}-groups.png": _png(bars), f"{stem}-curves.png": _png(lines)}
    return pictures


def _draw_bars(figure: "Figure", rows: Sequence[Row], title: str) -> None:
    axes = figure.subplots()
    places, width = np.arange(len(COLUMNS)), 0.8 / len(rows)
    for number, row in enumerate(rows):
        means, deviations = ([value(column) or 0.0 for column in COLUMNS] for value in (row.mean, row.deviation))
        at = places + (number - (len(rows) - 1) / 2) * width
        bars = axes.bar(
            at, means, width * 0.92, yerr=deviations if any(deviations) else None, capsize=2,
            color=_COLOURS[number % len(_COLOURS)], label=row.label, error_kw={"elinewidth": 0.8},
        )  # fmt: skip
        texts = [row.mean(column) for column in COLUMNS]
        size = 7 if len(rows) <= _ROWS_WITH_LARGE_LABELS else 5
        axes.bar_label(bars, ["n/a" if v is None else f"{v:.1f}" for v in texts], padding=2, fontsize=size)
    axes.set_xticks(places, COLUMNS)
    axes.set_ylabel("top-1 accuracy, %")
    axes.set_title(f"{title}\nlast epoch, mean and standard deviation of {_seeds(rows)}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def _draw_curves(figure: "Figure", rows: Sequence[Row], title: str) -> None:
    loss, accuracy = figure.subplots(1, 2)
    for number, row in enumerate(rows):
        colour = _COLOURS[number % len(_COLOURS)]
        for which, result in enumerate(row.results):
            epochs, losses, tested, overall = curves(result)
            style = {"color": colour, "linewidth": 1.2, "alpha": 0.8, "label": row.label if which == 0 else None}
            loss.plot(epochs, losses, **style)
            accuracy.plot(tested, overall, marker="o", markersize=3, **style)
    for axes, name in ((loss, "training loss of expert 1"), (accuracy, "test accuracy of the experts together, %")):
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{title}, one line per seed", fontsize=10)
    accuracy.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def _seeds(rows: Sequence[Row]) -> str:
    counts = sorted({len(row.results) for row in rows})
    if counts == [1]:
        return "one seed"
    return f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=150, metadata={"Software": None})
    return buffer.getvalue()
