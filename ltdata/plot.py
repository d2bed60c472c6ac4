"""The figure for papers: images per class in falling order, shot groups as bands, log scale, and their fit.

The fit is the one that describes the counts; where none does, or several do alike, the legend says so.

The same split gives the same bytes with one version of matplotlib: no dates, no software names, a fixed salt.
"""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ltdata import fits
from ltdata.errors import LtdataError, UsageError
from ltdata.groups import GROUP_NAMES
from ltdata.manifest import Manifest
from ltdata.stats import FrequencyStats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMS = ("png", "svg", "pdf")
_COLOURS = {"many": "#0072b2", "medium": "#009e73", "few": "#d55e00"}  # Okabe and Ito, as in the report
_INCHES = (6.0, 3.2)  # the width of a page's text
_DPI = 300
_SETTINGS: Any = {"svg.hashsalt": "ltdata", "pdf.fonttype": 42, "font.size": 9, "axes.linewidth": 0.8}
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def form_of(out: Path) -> str:
    """Tell the form of a file by its suffix.

    Raises:
        UsageError: it is none of `FORMS`.
    """
    form = out.suffix.lower().removeprefix(".")
    if form not in FORMS:
        raise UsageError(f"--plot {out}: its suffix is none of {', '.join(f'.{each}' for each in FORMS)}")
    return form


def draw(manifest: Manifest, found: FrequencyStats, *, form: str, other: Manifest | None = None) -> bytes:
    """Draw the figure.

    Args:
        manifest: of the split.
        found: its statistics; the fit that describes the counts is drawn.
        form: one of `FORMS`.
        other: a second split, drawn as a line.

    Raises:
        LtdataError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise LtdataError("matplotlib is not installed; install it with: pip install 'ltdata[plot]'") from error
    with rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name in a script that no font here has
        figure = Figure(_INCHES, dpi=_DPI, layout="constrained")
        axes = figure.subplots()
        _draw_classes(axes, manifest, found)
        _draw_lines(axes, manifest, found, other)
        axes.set_title(manifest.name, fontsize=10, parse_math=False)
        out = io.BytesIO()
        figure.savefig(out, format=form, dpi=_DPI, metadata=_METADATA[form])
    return out.getvalue()


def _draw_classes(axes: "Axes", manifest: Manifest, found: FrequencyStats) -> None:
    counts, groups = manifest.class_counts, manifest.groups
    order = np.lexsort((np.arange(len(counts)), -counts))
    edges = np.arange(len(order) + 1) + 0.5
    for g, name in enumerate(GROUP_NAMES):
        group = found.groups[name]
        if group.share is None:
            continue
        heights = np.where(groups[order] == g, counts[order], 0)
        axes.stairs(
            heights, edges, baseline=0, fill=True, color=_COLOURS[name], linewidth=0,
            label=f"{name} ({_condition(manifest, name)}): {group.classes:,} classes, {group.share:.1%}",
        )  # fmt: skip
        places = np.flatnonzero(groups[order] == g)
        for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1):
            axes.axvspan(edges[run[0]], edges[run[-1] + 1], color=_COLOURS[name], alpha=0.1, linewidth=0, zorder=0)
    axes.set_yscale("log")
    axes.set_ylim(0.8, float(counts.max()) * 1.25)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_minor_formatter("")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel("class, by falling size")
    axes.set_ylabel("training images")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_lines(axes: "Axes", manifest: Manifest, found: FrequencyStats, other: Manifest | None) -> None:
    there = found.classes - found.empty_classes
    fit = found.fits[found.best_fit] if found.best_fit is not None else None
    if fit is not None and found.best_fit is not None:
        ranks = np.linspace(0, there - 1, 400)
        value = fits.figure_words(found.best_fit, fit)
        figure = f"{fits.FAMILIES[found.best_fit]} {value}, $R^2$ {fit.r_squared:.4f}"
        heights = fits.curve(found.best_fit, fit, classes=there, ranks=ranks)
        axes.plot(
            ranks + 1, heights, color="black", linewidth=1.2, label=f"{fits.TITLES[found.best_fit]} fit: {figure}"
        )
    if other is not None:
        counts = np.sort(other.class_counts)[::-1]
        counts = counts[counts > 0]
        axes.plot(
            np.arange(1, len(counts) + 1), counts, color="#555555", linewidth=1.2, linestyle="--", label="compared"
        )
        axes.set_xlim(0.5, max(found.classes, len(counts)) + 0.5)
    whole = axes.get_figure(root=True)
    assert whole is not None  # noqa: S101 - for the type checker: these axes have one
    title = f"rule {manifest.group_rule['name']}"
    if fit is None:
        title += f", described by {fits.verdict(found.fits)}" if fits.closest(found.fits) else ", no fit describes them"
    legend = whole.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8, title=title, title_fontsize=8)
    if other is not None:
        label = legend.get_texts()[-1]
        label.set_text(other.name)
        label.set_parse_math(False)


def _condition(manifest: Manifest, group: str) -> str:
    return manifest.group_rule.get(group, "between")
