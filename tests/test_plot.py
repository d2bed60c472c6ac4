"""The figure for papers: three forms, the same bytes each time, and names that are nobody's markup."""

import builtins
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import here, run

from ltdata import pinned, plot
from ltdata.errors import LtdataError, UsageError
from ltdata.manifest import Manifest
from ltdata.stats import frequency_stats

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
__all__ = ["here"]  # an autouse fixture
PINNED = pinned.header("cifar100-lt-exp-if100")
STARTS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


def drawn(manifest: Manifest, form: str, **more: Manifest) -> bytes:
    found = frequency_stats(manifest.class_counts, rule=manifest.group_rule["name"], class_groups=manifest.groups)
    return plot.draw(manifest, found, form=form, **more)


@pytest.mark.parametrize("form", plot.FORMS)
def test_each_form_is_one_and_has_the_same_bytes_again(form: str) -> None:
    first = drawn(PINNED, form)
    assert first.startswith(STARTS[form])
    assert drawn(PINNED, form) == first
    for word in (b"matplotlib", b"Matplotlib", b"CreationDate", b"<dc:date>"):
        assert word not in first.replace(b"matplotlib.axis", b"")


def test_a_png_has_300_dots_per_inch_and_the_colours_of_the_groups() -> None:
    image = Image.open(io.BytesIO(drawn(PINNED, "png")))
    assert [round(each) for each in image.info["dpi"]] == [300, 300]
    assert image.size == (1800, 960)
    pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    for colour in ((0x00, 0x72, 0xB2), (0x00, 0x9E, 0x73), (0xD5, 0x5E, 0x00)):
        assert (pixels == colour).all(axis=1).mean() > 0.02


def test_splits_that_differ_have_figures_that_differ() -> None:
    other = pinned.header("cifar100-lt-exp-if50")
    pictures = {drawn(PINNED, "svg"), drawn(other, "svg"), drawn(PINNED, "svg", other=other)}
    assert len(pictures) == 3


def test_the_figure_names_the_fit_that_describes_the_counts_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(plot._SETTINGS, "svg.fonttype", "none")  # text as text
    shown = drawn(PINNED, "svg").decode()
    assert "exponential fit: imbalance factor 107" in shown
    assert "describe" not in shown
    shown = drawn(pinned.header("cifar100-lt-step-if100"), "svg").decode()
    assert " fit:" not in shown
    assert "rule strict, no fit describes them" in shown


@pytest.mark.parametrize("name", ["$\\frac{$", "a_b^c $x$", "🦜 <b>&amp;", "\u202e", "\\LaTeX %"])
def test_a_name_is_no_markup(name: str) -> None:
    hostile = replace(PINNED, name=name)
    assert drawn(hostile, "svg", other=hostile).startswith(STARTS["svg"])


@pytest.mark.parametrize("name", ["inat18", "cifar10-lt-step-if10"])
def test_many_classes_and_few_are_drawn(name: str) -> None:
    assert len(drawn(pinned.header(name), "png")) > 10_000


def test_another_suffix_is_refused_before_anything_is_read(here: Path) -> None:
    ended = run("stats", "nothing", "--plot", "figure.gif")
    assert ended.refused(2)
    assert ".png, .svg, .pdf" in ended.err
    with pytest.raises(UsageError):
        plot.form_of(Path("figure"))
    assert plot.form_of(Path("FIGURE.PNG")) == "png"


def test_without_matplotlib_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **more: object) -> object:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(LtdataError, match=r"pip install 'ltdata\[plot\]'"):
        drawn(PINNED, "png")
