"""The report in a real browser: no console error, no violation of its policy, at two widths, in light and dark."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import browser
import pytest
from test_page import HOSTILE, made, page_of

from ltdata import pinned
from ltdata.build import Built
from ltdata.overlap import overlap
from ltdata.page.loading import Lines, loading_lines
from ltdata.page.markup import clean
from ltdata.page.mosaic import make_mosaic

EXECUTABLE = browser.find()
PINNED = pinned.load("cifar100-lt-exp-if100")
ROWS = "[...document.querySelectorAll('#rows tr')].map((row) => row.innerText.replace(/\\s+/g, ' ').trim())"
LUMINANCE = """(() => {
  const channel = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  window.luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  window.ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const found = parse(getComputedStyle(e).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  window.contrast = (element) => {
    const style = getComputedStyle(element);
    const ink = parse(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [luminance(ink), luminance(ground(element))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
})()"""
WEAK = """[...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && !e.closest(':disabled')
  && e.children.length === 0 && e.textContent.trim()
  && !['SCRIPT', 'TITLE', 'title', 'OPTION'].includes(e.tagName) && contrast(e) < 4.5)
  .map((e) => `${e.tagName} ${e.className} ${e.textContent.slice(0, 30)} ${contrast(e).toFixed(2)}`)"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    if EXECUTABLE is None:
        pytest.skip(f"no browser is on the PATH ({', '.join(browser.NAMES)}); Debian: apt-get install chromium")
    if os.name == "nt":
        pytest.skip("the pipe of the DevTools protocol is opened the POSIX way here")
    profile = tempfile.mkdtemp(prefix="ltdata-browser-")  # short: Chromium makes a socket in it
    started = browser.Page(EXECUTABLE, Path(profile))
    yield started
    started.close()
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture(scope="module")
def report(digits_lt: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-100-LT compared with another, and the mosaic of digits in it."""
    other = pinned.header("cifar100-lt-exp-if50")
    lines = loading_lines(PINNED, PINNED.name, None)
    mosaic = make_mosaic(digits_lt.manifest, digits_lt.folder, what="digits")
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_bytes(
        page_of(PINNED, lines, warning="UNVERIFIED: a test", other=(other, overlap(PINNED, other)), mosaic=mosaic)
    )
    return file


@pytest.fixture
def opened(page: browser.Page, report: Path) -> Iterator[browser.Page]:
    page.size(1280)
    page.media(prefers_color_scheme="light")
    page.open(report)
    yield page
    assert page.complaints() == []


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_a_complaint_and_fits_the_width(
    page: browser.Page, report: Path, width: int, scheme: str
) -> None:
    page.size(width)
    page.media(prefers_color_scheme=scheme)
    page.open(report)
    assert page.run("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
    wide = "[...document.querySelectorAll('body *')].filter((e) => !e.closest('.skip, .scroll, pre, thead') && "
    wide += (
        "e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert page.run(wide) == []
    assert page.run("document.querySelectorAll('#plot svg path.bar').length") == 3
    assert page.run("document.querySelectorAll('#rows tr').length") == 50
    assert page.run("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert page.run("document.images.length") == 54
    page.run(LUMINANCE)
    dark = page.run("luminance(ground(document.body))") < 0.05
    assert dark == (scheme == "dark")
    assert page.run(WEAK) == []
    assert page.complaints() == []


def test_the_three_scales_draw_three_charts(opened: browser.Page) -> None:
    drawn, pressed = {}, {}
    for scale in ("linear", "log", "loglog"):
        opened.run(f"document.querySelector('[data-scale={scale}]').click()")
        drawn[scale] = opened.run(
            "[...document.querySelectorAll('path.bar, path.fitted')].map((p) => p.getAttribute('d')).join()"
        )
        pressed[scale] = opened.run(
            "[...document.querySelectorAll('[data-scale][aria-pressed=true]')].map((b) => b.dataset.scale)"
        )
        ticks = opened.run("[...document.querySelectorAll('#plot svg text')].map((t) => t.textContent)")
        assert ("500" in ticks) == (scale == "linear")
        assert "NaN" not in drawn[scale]
    assert pressed == {scale: [scale] for scale in drawn}
    assert len(set(drawn.values())) == 3


def test_a_bar_is_as_high_as_its_class_is_large(opened: browser.Page) -> None:
    """On the linear scale, of the first and the last class."""
    opened.run("document.querySelector('[data-scale=linear]').click()")
    paths = opened.run("[...document.querySelectorAll('path.bar')].map((p) => p.getAttribute('d'))")
    feet_tops = [tuple(map(float, re.match(r"M[\d.]+ ([\d.]+)V([\d.]+)", path).groups())) for path in paths]  # type: ignore[union-attr]
    heights = [foot - top for foot, top in feet_tops]
    first_of_each_group = [500, 98, 19]  # by the profile
    counts = PINNED.class_counts[[0, 35, 70]].tolist()
    assert counts == first_of_each_group
    for height, count in zip(heights, counts, strict=True):
        assert height / heights[0] == pytest.approx(count / 500, abs=0.002)


def test_fits_are_switched_on_and_off(opened: browser.Page) -> None:
    shown = "[...document.querySelectorAll('path.fitted')].map((p) => p.getAttribute('class'))"
    assert opened.run(shown) == ["fitted other", "fitted exponential"]
    opened.run("document.querySelector('[data-fit=zipf]').click()")
    opened.run("document.querySelector('[data-fit=exponential]').click()")
    assert opened.run(shown) == ["fitted other", "fitted zipf"]


def test_a_class_is_searched_and_found(opened: browser.Page) -> None:
    def search(query: str) -> list[str]:
        opened.run(
            f"(() => {{ const q = document.getElementById('query'); q.value = {query!r}; "
            "q.dispatchEvent(new Event('input')); })()"
        )
        found: list[str] = opened.run(ROWS)
        return found

    assert search("aquarium fish") == ["2 aquarium_fish 1 477 4.40% many"]
    assert search("MAPLE_T") == ["48 maple_tree 47 56 0.52% medium"]
    assert search("99") == ["100 worm 99 5 0.05% few"]
    assert opened.run("document.getElementById('matches').textContent") == "1 of 100 classes"
    assert search("no such class") == []
    assert opened.run("document.getElementById('none').checkVisibility()")
    assert len(search("")) == 50
    opened.run(
        "(() => { const g = document.getElementById('group'); g.value = 'few'; "
        "g.dispatchEvent(new Event('change')); })()"
    )
    assert len(opened.run(ROWS)) == 30


def test_the_table_is_sorted_and_turned_over(opened: browser.Page) -> None:
    opened.run("document.querySelector('[data-sort=count]').click()")
    assert opened.run(ROWS)[0].startswith("1 apple")
    opened.run("document.querySelector('[data-sort=count]').click()")
    assert opened.run(ROWS)[0].startswith("100 worm")
    assert opened.run("document.querySelectorAll('th[aria-sort]').length") == 1
    opened.run("document.querySelector('[data-sort=name]').click()")
    opened.run("document.querySelector('[data-page=last]').click()")
    assert opened.run("document.getElementById('page').textContent") == "page 2 of 2"
    assert opened.run(ROWS)[-1].startswith("100 worm")
    assert opened.run("document.querySelector('[data-page=next]').disabled")


def test_keys_and_the_pointer_tell_each_class(opened: browser.Page) -> None:
    told = "document.getElementById('readout').textContent"
    opened.run("document.getElementById('plot').focus()")
    for key, words in (
        ("Home", "apple, rank 1: 500 images, many-shot, label 0"),
        ("ArrowRight", "aquarium_fish, rank 2: 477 images, many-shot, label 1"),
        ("End", "worm, rank 100: 5 images, few-shot, label 99"),
        ("ArrowRight", "worm, rank 100: 5 images, few-shot, label 99"),
        ("ArrowLeft", "woman, rank 99: 5 images, few-shot, label 98"),
    ):
        opened.key(key)
        assert opened.wait(told, words) == words
        assert opened.run("document.getElementById('plot').getAttribute('aria-valuetext')") == words
    place = (
        "(() => { const bars = document.querySelector('path.bar.medium'); "
        "bars.scrollIntoView({ behavior: 'instant', block: 'center' }); "
        "const box = bars.getBoundingClientRect(); return [box.left + 3, box.bottom - 3]; })()"
    )
    girl = "girl, rank 36: 98 images, medium-shot, label 35"
    for _ in range(20):  # the page may still scroll to what has the focus: where the bar is, is asked again each time
        x, y = opened.run(place)
        opened.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        if opened.wait(told, girl, seconds=0.5) == girl:
            break
    assert opened.run(told) == girl


def test_a_line_is_copied_or_where_that_is_refused_selected(opened: browser.Page) -> None:
    button, code = "document.querySelector('[data-copy=lines-0]')", "document.getElementById('lines-0').textContent"
    opened.run("navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }")
    opened.run(f"{button}.click()")
    assert opened.run(f"window.copied === {code}")
    assert opened.wait(f"{button}.textContent", "Copied") == "Copied"
    opened.run("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    opened.run(f"{button}.click()")
    assert opened.wait(f"{button}.textContent", "Selected") == "Selected"
    assert opened.run(f"getSelection().toString().trim() === {code}.trim()")


def test_names_are_shown_as_they_are_and_run_nothing(page: browser.Page, tmp_path: Path) -> None:
    evil = replace(
        made(list(range(13, 1, -1)), list(HOSTILE)),
        name=HOSTILE[0] + "x" * 300,
        citation=HOSTILE,
        source={"id": HOSTILE[2]},
    )
    (tmp_path / "evil.html").write_bytes(page_of(evil, [Lines(HOSTILE[0], HOSTILE[2])]))
    page.size(360)
    page.open(tmp_path / "evil.html")
    shown = page.run("[...document.querySelectorAll('#rows bdi')].map((name) => name.textContent)")
    assert shown == [clean(name) for name in HOSTILE]
    assert page.run("document.querySelector('h1').textContent") == evil.name
    assert page.run("document.querySelectorAll('img, script').length") == 2  # the data, the script
    assert page.run("[innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    assert page.complaints() == []


def test_8142_classes_are_drawn_at_once(page: browser.Page, tmp_path: Path) -> None:
    """A redraw takes about 20 ms; the bound is for a machine with much else to do."""
    (tmp_path / "inat.html").write_bytes(page_of(pinned.header("inat18")))
    page.size(360)
    page.open(tmp_path / "inat.html")
    assert page.run("document.getElementById('page').textContent") == "page 1 of 163"
    assert page.run("document.querySelectorAll('*').length") < 2500
    took = page.run(
        "(() => { const start = performance.now(); for (const scale of ['linear', 'loglog', 'log']) "
        "{ document.querySelector(`[data-scale=${scale}]`).click(); document.querySelector('#plot svg').getBBox(); } "
        "return (performance.now() - start) / 3; })()"
    )
    assert took < 1000
    assert page.complaints() == []


def test_on_paper_the_table_has_all_its_rows_or_says_how_many(
    opened: browser.Page, page: browser.Page, tmp_path: Path
) -> None:
    rows = "document.querySelectorAll('#rows tr').length"
    opened.run("dispatchEvent(new Event('beforeprint'))")
    assert opened.run(rows) == 100
    assert not opened.run("document.getElementById('printed').checkVisibility()")
    opened.run("dispatchEvent(new Event('afterprint'))")
    assert opened.run(rows) == 50
    (tmp_path / "inat.html").write_bytes(page_of(pinned.header("inat18")))
    page.open(tmp_path / "inat.html")
    page.run("document.querySelector('[data-page=last]').click()")
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run(rows) == 1000
    assert page.run("document.getElementById('printed').innerText") == "The first 1,000 of 8,142 classes."
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run("document.getElementById('page').textContent") == "page 163 of 163"
    assert page.run(rows) == 42
    assert not page.run("document.getElementById('printed').checkVisibility()")


def test_without_javascript_the_figures_are_there(page: browser.Page, report: Path) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(report)
        words = page.run("document.body.innerText")
        for shown in (
            "10,847",
            "many-shot",
            "Gini",
            "7440c226eaee8bb12bd7c9af6b9c5cf6a235fd5952a650ad99a48173a712230b",
            "█",
        ):
            assert shown in words
        assert not page.run("document.querySelector('#chart').checkVisibility()")
        for part in (".copy", ".switch", "#table"):
            assert not page.run(f"document.querySelector('{part}').checkVisibility()")
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)


def test_this_test_can_fail(page: browser.Page, tmp_path: Path) -> None:
    """A page with an error, an inline handler and a load: each is a complaint."""
    policy = "default-src 'none'; script-src 'sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='"
    head = f'<!doctype html><html lang="en"><meta http-equiv="Content-Security-Policy" content="{policy}">'
    for number, bad in enumerate(
        ("<script>1</script>", '<p style="color:red">x</p>', '<img src="https://example.invalid/x.png" alt="">')
    ):
        (tmp_path / f"{number}.html").write_text(f"{head}{bad}")
        page.open(tmp_path / f"{number}.html")
        assert page.complaints() != [], bad
    (tmp_path / "error.html").write_text("<!doctype html><script>console.error('x'); throw new Error('y')</script>")
    page.open(tmp_path / "error.html")
    assert len(page.complaints()) == 2


def test_the_browser_is_debians() -> None:
    """Nothing is downloaded: what is found is a program on the PATH."""
    if EXECUTABLE is None:
        pytest.skip("no browser is on the PATH")
    done = subprocess.run([EXECUTABLE, "--version"], capture_output=True, text=True, check=True)
    assert "Chrom" in done.stdout
