"""The HTML report: one file, nothing loaded, nothing that a name could break, and what it says is true."""

import base64
import hashlib
import io
import json
import re
import sys
import types
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from photos import encoded, put
from PIL import Image
from test_cli import here, run

import ltdata
from ltdata import pinned
from ltdata.build import Built, build
from ltdata.manifest import Manifest, Split
from ltdata.overlap import overlap
from ltdata.page import MOST_BYTES, compose
from ltdata.page.loading import Lines, loading_lines
from ltdata.page.markup import clean, script_json, text
from ltdata.page.mosaic import CLASSES_PER_PART, IMAGES_PER_CLASS, Mosaic, Row, make_mosaic, parts
from ltdata.spec import Spec
from ltdata.stats import frequency_stats

__all__ = ["here"]  # an autouse fixture
PINNED = pinned.load("cifar100-lt-exp-if100")
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "\u202eelttac \u2066",
    "line\u2028 and\u2029 paragraph",
    "nul\0 bell\7 lone\ud83d",
    "🦜 ara",
    "javascript:alert(1)",
    "${7*7} $style $$ {{x}}",
    "&lt;b&gt; &amp; ]]>",
    "x" * 3000,
)
VOID = {"meta", "link", "input", "img", "br", "wbr", "path", "rect", "circle", "polygon", "polyline"}


class Parsed(HTMLParser):
    """Tags with their attributes, script and style blocks, and the text; elements must nest."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.blocks: list[tuple[str, dict[str, str], str]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(page.decode())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style"):
            self.blocks.append((self._open[-1], self.tags[-1][1], data))
        else:
            self.text.append(data)

    def data(self) -> dict[str, object]:
        (found,) = [block for tag, attributes, block in self.blocks if attributes.get("type") == "application/json"]
        read: dict[str, object] = json.loads(found)
        return read


def page_of(manifest: Manifest, lines: list[Lines] | None = None, **more: object) -> bytes:
    rule = manifest.group_rule["name"]
    found = frequency_stats(manifest.class_counts, rule=rule, class_groups=manifest.groups)
    return compose(manifest, found, lines if lines is not None else [], **more)  # type: ignore[arg-type]


def made(counts: list[int], names: list[str]) -> Manifest:
    split = Split(num_samples=sum(counts), class_counts=tuple(counts), samples_sha256=None)
    return replace(PINNED, class_names=tuple(names), splits={"train": split}, superclass_names=(), samples=None)


@pytest.fixture(scope="module")
def full(digits_lt: Built) -> bytes:
    """The page with all that it can hold."""
    manifest = digits_lt.manifest
    return page_of(
        manifest,
        loading_lines(manifest, "digits", digits_lt.folder),
        warning="UNVERIFIED: a test",
        other=(PINNED, overlap(manifest, PINNED)),
        mosaic=make_mosaic(manifest, digits_lt.folder, what="digits"),
    )


def test_it_is_whole_names_its_language_and_every_reference_leads_somewhere(full: bytes) -> None:
    page = Parsed(full)
    assert full.startswith(b"<!doctype html>\n")
    assert ("html", {"lang": "en"}) in page.tags
    assert "digits-lt-exp-if20: class frequencies" in page.text
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for key in ("aria-labelledby", "data-copy"):
            assert attributes.get(key, ids[0]) in ids
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
    assert any(attributes.get("name") == "viewport" for _, attributes in page.tags)
    assert [tag for tag, _ in page.tags].count("h1") == 1


def test_nothing_is_loaded_from_anywhere(full: bytes) -> None:
    page = Parsed(full)
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed", "base", "form", "video", "audio", "source", "frame"), tag
        for key in ("src", "srcset", "poster", "data", "action", "xlink:href", "background"):
            assert attributes.get(key, "data:").startswith("data:"), (tag, attributes)
        if tag != "a":
            assert attributes.get("href", "data:").startswith("data:") or tag == "use", (tag, attributes)
        assert not [key for key in attributes if key.startswith("on") or key == "style"], (tag, attributes)
    for kind, attributes, block in page.blocks:
        assert "@import" not in block
        assert kind == "script" or "url(" not in block
        if attributes.get("type") != "application/json":
            assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", block)
            assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(|XMLHttp", block)


def test_the_policy_allows_the_two_blocks_inside_and_nothing_else(full: bytes) -> None:
    page = Parsed(full)
    (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    for kind in ("script", "style"):
        blocks = [
            block
            for tag, attributes, block in page.blocks
            if tag == kind and attributes.get("type") != "application/json"
        ]
        hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(b.encode()).digest()).decode()}'" for b in blocks]
        assert len(hashes) == 1
        assert rules[f"{kind}-src"] == hashes
    assert (rules["default-src"], rules["img-src"], rules["base-uri"]) == (["'none'"], ["data:"], ["'none'"])
    assert "unsafe" not in policy
    # The policy stands before all that it is about.
    assert full.index(b"Content-Security-Policy") < min(
        full.index(b"<style"), full.index(b"<script"), full.index(b"<link")
    )


def test_hostile_names_are_text_and_nothing_else() -> None:
    plain = Parsed(page_of(made([9] * 12, [f"class {n}" for n in range(12)])))
    evil = replace(
        made([9] * 12, list(HOSTILE)),
        name="</title><script>alert(1)</script>",
        source={"id": HOSTILE[0], "urls": [HOSTILE[8], 'https://x.example/"onclick="alert(1)'], "terms": HOSTILE[2]},
        protocol={"name": HOSTILE[1], "params": {HOSTILE[3]: HOSTILE[0], "list": list(HOSTILE)}},
        citation=HOSTILE,
        created_by={HOSTILE[0]: HOSTILE[6]},
    )
    mosaic = Mosaic((Row("head", 2, ("data:image/png;base64,AAAA",)), Row("tail", 3, ())), pixelled=True)
    written = page_of(evil, [Lines(HOSTILE[0], HOSTILE[2], HOSTILE[1])], mosaic=mosaic)
    page = Parsed(written)
    assert b"alert(1)</script>" not in written
    assert [tag for tag, _ in page.tags if tag in ("script", "style")] == ["style", "script", "script"]
    assert [a for tag, a in page.tags if tag == "img"] == [{"src": "data:image/png;base64,AAAA", "alt": HOSTILE[2]}]
    assert {key for _, a in page.tags for key in a} <= {key for _, a in plain.tags for key in a} | {
        "data-copy",
        "tabindex",
        "src",
        "alt",
    }
    assert [a["href"] for tag, a in page.tags if tag == "a" and not a["href"].startswith("#")] == []
    assert page.data()["names"][:11] == [clean(name) for name in HOSTILE[:11]]  # type: ignore[index]
    assert "\0" not in written.decode()


@given(st.text())
@example("<\u2028\u2029&'>\"")
@settings(deadline=None, max_examples=200)
def test_any_text_comes_back_from_the_data_and_from_markup(value: str) -> None:
    written = script_json([value])
    assert not re.search("[<>&\u2028\u2029]", written)
    assert clean(json.loads(written)[0]) == clean(value)
    page = Parsed(f"<p>{text(value)}</p>".encode())
    assert [tag for tag, _ in page.tags] == ["p"]
    assert "".join(page.text) == clean(value)
    page = Parsed(f'<p title="{text(value)}" lang=en></p>'.encode())
    assert page.tags == [("p", {"title": clean(value), "lang": "en"})]


def test_a_web_address_is_a_link_and_other_schemes_are_not() -> None:
    source = {
        "id": "x",
        "urls": ["https://example.org/a?b=1&c=2", "javascript:alert(1)", "data:text/html,x", "HTTP:/x"],
    }
    page = Parsed(page_of(replace(PINNED, source=source)))
    links = [a for tag, a in page.tags if tag == "a" and not a["href"].startswith("#")]
    assert links == [{"href": "https://example.org/a?b=1&c=2", "rel": "noopener noreferrer"}]


def test_at_8142_classes_with_images_it_is_at_most_2_mb(digits_lt: Built) -> None:
    """Names as long as iNaturalist's; then names as long as a file system allows, which are cut."""
    inat = pinned.header("inat18")
    mosaic = make_mosaic(digits_lt.manifest, digits_lt.folder, what="digits")
    heavy = replace(
        mosaic, rows=tuple(replace(row, images=("data:image/png;base64," + "A" * 9_900,) * 6) for row in mosaic.rows)
    )
    for length, most in ((34, 1_400_000), (255, MOST_BYTES)):
        names = tuple(f"{n} ".ljust(length, "ñ") for n in range(8142))
        page = page_of(replace(inat, class_names=names), mosaic=heavy, other=(inat, overlap(inat, inat)))
        assert len(page) <= most
        found = Parsed(page).data()
        assert len(found["names"]) == len(found["counts"]) == 8142  # type: ignore[arg-type]
        assert all(shown.startswith(f"{n} ") for n, shown in enumerate(found["names"]))  # type: ignore[arg-type]
        assert ("are cut in the middle" in page.decode()) == (length == 255)
        assert (found["names"] == list(names)) == (length == 34)


def test_names_of_any_length_beside_images_stay_in_the_bounds(digits_lt: Built) -> None:
    """One name of 700 kB is within the budget of the table, but a mosaic has each name seven times."""
    names = ("&" * 100_000, *(f"{n}" for n in range(1, 10)))
    manifest = replace(digits_lt.manifest, class_names=names)
    page = page_of(manifest, mosaic=make_mosaic(digits_lt.manifest, digits_lt.folder, what="digits"))
    assert len(page) <= MOST_BYTES
    shown = {a["alt"] for tag, a in Parsed(page).tags if tag == "img"}
    assert max(map(len, shown)) == 80
    assert {"7", "8", "9"} <= shown


def test_the_same_split_gives_the_same_bytes(full: bytes, digits_lt: Built) -> None:
    again = page_of(
        digits_lt.manifest,
        loading_lines(digits_lt.manifest, "digits", digits_lt.folder),
        warning="UNVERIFIED: a test",
        other=(PINNED, overlap(digits_lt.manifest, PINNED)),
        mosaic=make_mosaic(digits_lt.manifest, digits_lt.folder, what="digits"),
    )
    assert again == full


def test_it_says_what_the_split_is() -> None:
    page = Parsed(page_of(PINNED))
    words = " ".join(" ".join(page.text).split())
    for shown in (
        "10,847 training images in 100 classes. The largest class has 500, the smallest 5: an imbalance factor of 100.",
        "The largest 20 % of the classes hold 61.3% of the images.",
        "and 10,000 test",
        "Gini 0.592",
        "many-shot n > 100 35 8,824 81.3%",
        "few-shot n < 20 30 305 2.8%",
        "Rule strict",
        "Described by exponential (needs R2 >= 0.95, KS <= 0.1).",
        "Exponential describes it falls by the same factor from class to class",
        "class to class imbalance factor 107 77.34 .. 113 0.9997 0.0031 0.995 Pareto few large classes",
        "not for classes drawn at random: from 400 multinomial samples",
        "7440c226eaee8bb12bd7c9af6b9c5cf6a235fd5952a650ad99a48173a712230b",
        "NeurIPS 2019",
        "numpy.RandomState/MT19937",
    ):
        assert shown in words
    data = page.data()
    assert data["counts"] == PINNED.class_counts.tolist()
    assert data["groups"] == "0" * 35 + "1" * 35 + "2" * 30
    assert data["names"] == list(PINNED.class_names)
    assert set(data["curves"]) == {"exponential", "pareto", "zipf"}  # type: ignore[call-overload]


def test_what_is_not_there_is_not_available() -> None:
    manifest = replace(made([300, 0, 200], ["a", "b", "c"]), content_sha256=None)
    words = " ".join(" ".join(Parsed(page_of(manifest)).text).split())
    for shown in (
        "1 classes have none, so there is no imbalance factor",
        "medium-shot between 0 n/a n/a",
        "content n/a (build it to get the digest)",
    ):
        assert shown in words
    assert "UNVERIFIED" not in words
    assert "None" not in words


def test_where_no_curve_describes_the_counts_the_page_names_none() -> None:
    page = Parsed(page_of(pinned.header("cifar100-lt-step-if100")))
    words = " ".join(" ".join(page.text).split())
    assert "Described by none of the three" in words
    assert "describes it" not in words
    assert [a for tag, a in page.tags if "data-fit" in a and "checked" in a] == []


def test_classes_that_cannot_be_matched_are_called_that() -> None:
    a, b = pinned.header("inat18"), pinned.header("imagenet-lt")
    page = Parsed(page_of(a, other=(b, overlap(a, b))))
    words = " ".join(" ".join(page.text).split())
    assert "its classes 1,000, 1,280 .. 5 images, Gini 0.524" in words
    assert "not matched: inat18 and imagenet-lt are different sources" in words
    assert "total variation" not in words


def test_an_unverified_source_is_called_that_at_the_top(full: bytes) -> None:
    page = full.decode()
    assert page.index("</h1>") < page.index("Source UNVERIFIED: a test") < page.index("<nav")


def test_without_javascript_the_picture_is_the_terminals(full: bytes) -> None:
    (chart,) = re.findall(rb'<noscript>.*?<pre class="histogram">(.*?)</pre>', full, re.DOTALL)
    assert "█" in chart.decode()
    assert "many 2" in chart.decode()


# The lines that load a split.


def titled(lines: list[Lines]) -> dict[str, str]:
    return {each.title: each.code for each in lines}


def test_the_lines_of_a_built_folder_work(digits_lt: Built, here: Path) -> None:
    (here / "it's a set").symlink_to(digits_lt.folder)
    place = Path("it's a set")
    lines = titled(loading_lines(digits_lt.manifest, str(place), place))
    names: dict[str, object] = {}
    exec(lines["Python: arrays"], names)  # noqa: S102 - the lines under test
    assert (names["pixels"].shape, names["labels"].shape) == ((489, 32, 32, 3), (489,))  # type: ignore[attr-defined]
    exec(lines["Python: any image, in any order"], names)  # noqa: S102
    assert np.array_equal(names["first"], names["pixels"][:1])  # type: ignore[index]
    exec(lines["webdataset"], names)  # noqa: S102
    image, label = next(iter(names["samples"]))  # type: ignore[call-overload]
    assert (image.size, 0 <= int(label) < 10) == ((32, 32), True)
    compile(lines["Hugging Face"], "lines", "exec")
    assert "torchvision" not in lines  # digits are not in it
    assert "--shards 'it'\"'\"'s a set'" in lines["PyTorch: train ACE on it"]
    assert lines["Shell: check every digest"].startswith("ltdata verify ")
    assert run("verify", place).code == 0


def test_the_lines_of_a_pinned_name_work(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = titled(loading_lines(PINNED, "cifar100-lt-exp-if100", None))
    names: dict[str, object] = {}
    exec(lines["Python: rows"], names)  # noqa: S102
    assert (len(names["indices"]), len(names["labels"])) == (10_847, 10_847)  # type: ignore[arg-type]
    for name in ("torch", "torch.utils", "torchvision", "datasets"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    torch_data, vision = types.ModuleType("torch.utils.data"), types.ModuleType("torchvision.datasets")
    torch_data.Subset = lambda dataset, indices: (dataset, indices)  # type: ignore[attr-defined]
    vision.CIFAR100 = lambda root, train: (root, train)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.data", torch_data)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", vision)
    names = {"root": "here"}
    exec(lines["torchvision"], names)  # noqa: S102
    assert names["dataset"][0] == ("here", True)  # type: ignore[index]
    assert names["dataset"][1].tolist() == PINNED.indices.tolist()  # type: ignore[index]
    compile(lines["Hugging Face: its own copy"], "lines", "exec")
    assert lines["Shell: shards with the images"] == "ltdata build cifar100 --imbalance 100"
    step = pinned.load("cifar10-lt-step-if10")
    built = titled(loading_lines(step, step.name, None))["Shell: shards with the images"]
    assert built == "ltdata build cifar10 --imbalance 10 --profile step"
    assert Spec("cifar10", 10, profile="step").name == step.name


def test_the_lines_of_a_header_and_of_rows_without_images_work(here: Path) -> None:
    lines = titled(loading_lines(pinned.load("imagenet-lt"), "imagenet-lt", None))
    assert list(lines) == ["Python: header", "Shell: rows"]
    names: dict[str, object] = {}
    exec(lines["Python: header"], names)  # noqa: S102
    assert names["counts"].sum() == 115_846  # type: ignore[attr-defined]
    (here / "mine.json").write_text(replace(PINNED, name="mine").to_json())
    lines = titled(loading_lines(replace(PINNED, name="mine"), "mine.json", None))
    exec(lines["Python: header"], names)  # noqa: S102
    assert names["manifest"].name == "mine"  # type: ignore[attr-defined]
    assert run("export", PINNED.name, "--out", "rows.csv").code == 0
    assert run("import", "rows.csv", "--source", "cifar100", "--name", "again", "--out", "again").code == 0
    manifest = ltdata.catalog.find("again").manifest  # type: ignore[attr-defined]
    lines = titled(loading_lines(manifest, "again", Path("again")))
    exec(lines["Python: rows"], names)  # noqa: S102
    assert names["indices"].tolist() == PINNED.indices.tolist()  # type: ignore[attr-defined]
    assert "catalog.find('again', rows=True).manifest.indices" in lines["torchvision"]


def test_a_pinned_name_with_other_rows_is_not_taken_for_it(digits_lt: Built) -> None:
    changed = replace(PINNED, content_sha256="0" * 64)
    assert "torchvision" not in titled(loading_lines(changed, PINNED.name, None))


# The mosaic.


def test_the_mosaic_shows_the_first_rows_of_head_middle_and_tail(digits_lt: Built) -> None:
    found = make_mosaic(digits_lt.manifest, digits_lt.folder, what="digits")
    assert found.pixelled
    assert [(row.part, row.label) for row in found.rows] == [
        *(("head", label) for label in (0, 1, 2)),
        *(("middle", label) for label in (3, 4, 5)),
        *(("tail", label) for label in (7, 8, 9)),
    ]
    pixels = ltdata.reader.read_images(digits_lt.folder, digits_lt.manifest, "train")[0]  # type: ignore[attr-defined]
    rows = np.flatnonzero(digits_lt.manifest.rows["train"].labels == 9)[:IMAGES_PER_CLASS]
    shown = [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in found.rows[-1].images]
    assert np.array_equal(np.stack([np.asarray(image) for image in shown]), pixels[rows])


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_no_class_of_the_mosaic_is_empty_or_shown_twice(counts: list[int]) -> None:
    chosen = parts(np.array(counts))
    labels = [label for each in chosen.values() for label in each]
    assert len(set(labels)) == len(labels)
    assert all(counts[label] > 0 for label in labels)
    assert all(len(each) <= CLASSES_PER_PART for each in chosen.values())
    if sum(n > 0 for n in counts) >= 3:
        assert min(map(len, chosen.values())) >= 1
        sizes = [np.mean([counts[label] for label in each]) for each in chosen.values()]
        assert sizes == sorted(sizes, reverse=True)


def test_photographs_become_small_jpegs_without_their_exif(here: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    noise = np.random.RandomState(0).randint(0, 256, (300, 200, 3), dtype=np.uint8)
    photo = encoded(Image.fromarray(noise), "JPEG", exif=exif)
    assert b"where I live" in photo
    put(here / "photos", {f"{name}/{n}.jpg": photo + bytes(n) for name in ("a", "b", "c") for n in range(3)})
    built = build(Spec("folder"), data_dir=here / "photos", out=here / "built")
    found = make_mosaic(built.manifest, built.folder, what="built")
    assert not found.pixelled
    for row in found.rows:
        assert len(row.images) == 3
        for uri in row.images:
            data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
            assert max(Image.open(io.BytesIO(data)).size) == 96
            assert b"where I live" not in data
    page = page_of(built.manifest, mosaic=found)
    assert b"The images keep their own terms: <bdi>your own</bdi>" in page


def test_terms_of_the_source_stand_beside_its_images(full: bytes) -> None:
    assert b"The images keep their own terms: <bdi>CC BY 4.0</bdi>" in full
