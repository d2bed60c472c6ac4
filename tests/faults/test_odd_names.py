"""Names of anyone's come back as they were, or are refused by name in one line; nothing that shows them obeys them."""

import csv
import io
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st
from photos import photo
from test_cli import here, run
from test_page import Parsed, page_of

from faults.breaks import Break
from faults.effort import examples, thin, tried
from ltdata import tables
from ltdata.build import Built, build, make_manifest, write_rows
from ltdata.cli.comparing import format_diff, format_names
from ltdata.cli.describing import format_overlap, format_stats
from ltdata.compare import compare
from ltdata.errors import LtdataError, MismatchError, UsageError
from ltdata.formats import export, import_
from ltdata.formats.foreign import from_samples
from ltdata.given import Given
from ltdata.lists import SPLIT_NAMES, is_number, printable
from ltdata.manifest import Manifest
from ltdata.metrics import FIGURES
from ltdata.overlap import overlap
from ltdata.page.loading import Lines
from ltdata.page.markup import clean
from ltdata.page.mosaic import Mosaic, Row
from ltdata.reader import read_manifest, read_samples
from ltdata.samples import Samples
from ltdata.seeds import Spread
from ltdata.sources import Source, SourceSplit
from ltdata.spec import Spec
from ltdata.stats import frequency_stats
from ltdata.verify import verify

__all__ = ["here"]  # an autouse fixture

BREAKS = (
    Break("ltdata/lists.py", "\\x7f-\\x9f", "\\x7f", "disk"),
    Break("ltdata/lists.py", 'return "is not UTF-8"', "return None", "disk"),
    Break("ltdata/lists.py", 'if ".." in path.split("/"):', "if False:", "list"),
    Break("ltdata/page/markup.py", "return html.escape(clean(value), quote=True)", "return clean(value)", "page"),
    Break("ltdata/page/markup.py", 'for character in "<>&', 'for character in "&', "page"),
    Break("ltdata/cli/options.py", '"\\n".join(map(escaped, lines))', '"\\n".join(lines)', "terminal"),
    Break("ltdata/errors.py", 'return escaped(" ".join(', 'return str(" ".join(', "error"),
    Break("ltdata/tables.py", '_LATEX.get(letter, letter)', "letter", "latex"),
    Break("ltdata/formats/text.py", "if _NEEDS_QUOTES.search(field)", "if False", "exported"),
    Break("ltdata/formats/exporting.py", "if data.startswith(BOM_UTF8):", "if False:", "exported"),
    Break("ltdata/subset.py", "fault = text_fault(way)", "fault = None", "any_name_is_read"),
    Break("ltdata/formats/importing.py", '"file": printable(path.name)', '"file": path.name', "imported"),
)  # fmt: skip

# Each does something somewhere: in HTML, scripts, shells, spreadsheets, terminals, paths, encodings, Markdown, LaTeX
FRAGMENTS = (
    "</script><script>alert(1)</script>", "<!--<script>", "'\"><img src=x onerror=alert(1)>", "</title>", "&lt;b&gt;",
    "' onmouseover='alert(1)", "]]>", "${7*7}", "$(reboot)", "`reboot`", "{{x}}", "$style", "%s%n", "javascript:x",
    "=cmd()", "+1+1", "@SUM(A1)", "-1", "1", "1e5", "nan", "None", "true", "1_0", "\u0663",
    "\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\r", "\n", "\t", "\x00", "\x07", "\x7f", "\x85", "\u2028", "\u2029",
    "\u202ekcab", "\u2066", "\u200b", "\ufeff", "\ufffd", "\u0378",
    "é", "e\u0301", "\u212b", "\u00e5", "ß", "ẞ", "İ", "日本", "👩\u200d🚀", "עברית", "العربية", "\U0010ffff",
    "..", ".", "/", "//", "\\", "C:", "~", "CON", "nul.txt", " ", "  ", ",", ";", "|", "\"", "'", "\"\"", "#", "%",
    "&", "_", "$", "^", "{", "}", "*", "[", "](x)", "<", ">", ":", "?", "!", "(", "-", "--", "@", "train", "test",
    "x" * 120, "漢" * 60,
)  # fmt: skip
BYTES = [chr(0xDC00 + byte) for byte in (0x80, 0xC3, 0xED, 0xFF)]  # of a name on a disk that are no UTF-8
NAMES = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), min_size=1, max_size=3).map("".join)
ON_DISK = st.lists(st.sampled_from([*FRAGMENTS, *BYTES]) | st.text(max_size=3), min_size=1, max_size=3).map(
    lambda parts: "".join(parts).replace("/", "").replace("\0", "")
)
QUICK = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),  # names are short as they are, and pages long
)


def of_examples(fast: int, whole: int) -> settings:
    return settings(QUICK, max_examples=examples(fast, whole))


def is_plain(name: str) -> bool:
    """Tell, by what Unicode says of each letter, whether a name can stand in a line of UTF-8."""
    return not any(unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} for letter in name)


def in_one_line(error: LtdataError, *names: str) -> None:
    """Assert that an error is a line that a terminal shows, and names one of the names."""
    message = str(error)
    assert is_plain(message), message
    assert any(shown in message for name in names for shown in (name, repr(name)[1:-1], spelled(name))), message


def spelled(name: str) -> str:
    """Write what cannot stand in a line as Python writes it, and line feeds as the blanks that errors have for them."""
    joined = " ".join(line.strip() for line in name.split("\n"))
    return "".join(letter if is_plain(letter) else ascii(letter)[1:-1] for letter in joined)


@contextmanager
def scratch(factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = factory.mktemp("any")
    try:
        yield root
    finally:
        shutil.rmtree(os.fsencode(root))


def held(paths: Sequence[str], labels: Sequence[int], class_names: Sequence[str], **about: object) -> Manifest:
    """Make the manifest of a folder with some rows, whatever their names."""
    samples = Samples(np.array(labels, np.int64), source_path=tuple(paths))
    split = SourceSplit(samples.labels, None, samples.source_path)
    source = Source("folder", tuple(class_names), {"train": split}, {"id": "folder", "terms": "your own", **about}, ())
    return make_manifest(Spec("folder", title="birds"), source)[0]


# On the disk


def put_names(root: Path, files: list[tuple[str, str]]) -> list[str]:
    """Write an image for every class and file name; return the paths."""
    paths = []
    for class_name, name in files:
        path = f"{class_name}/{name}.jpg"
        try:
            (root / class_name).mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(photo())
        except (OSError, ValueError):
            assume(False)  # the disk takes no such name
        paths.append(path)
    return paths


@of_examples(15, 350)
@given(
    files=st.lists(
        st.tuples(ON_DISK, ON_DISK), min_size=2, max_size=4, unique_by=(lambda pair: pair[0], lambda pair: pair[1])
    )
)
@example(files=[("a\x9b2Jb", "1"), ("b", "1")])
@example(files=[("a", "\udcff"), ("b", "1")])
@example(files=[("C:", "1"), ("b", "1")])
@example(files=[("x" * 255, "1"), ("b", "y" * 251)])
def test_names_on_the_disk_are_built_as_they_are_or_refused(
    files: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A class per folder; what is hidden is left out; the rest is a row, or the build is refused by its name."""
    with scratch(tmp_path_factory) as root:
        assume(all(name.strip(".") and name.lower() not in SPLIT_NAMES for name, _ in files))
        paths = put_names(root / "d", files)
        seen = [path for path in paths if not path.startswith(".") and "/." not in path]
        classes = sorted({path.partition("/")[0] for path in paths if not path.startswith(".")})
        odd = [path for path in seen if not is_plain(path) or re.match("[A-Za-z]:/", path)]  # absolute elsewhere
        try:
            built = build(Spec("folder", title="birds"), data_dir=root / "d", out=root / "out")
        except LtdataError as error:
            empty = {name for name in classes if not any(path.startswith(f"{name}/") for path in seen)}
            if not odd and not empty and len(classes) > 1:
                raise
            assert not (root / "out").exists()
            in_one_line(error, *odd, *empty, "classes; a long tail needs at least 2")
        else:
            assert not odd
            assert built.manifest.class_names == tuple(classes)
            rows = read_samples(built.folder, read_manifest(built.folder))["train"]
            assert rows.source_path == tuple(sorted(seen, key=lambda path: (path.partition("/")[0], path)))
            assert [classes[label] for label in rows.labels.tolist()] == [
                path.partition("/")[0] for path in rows.source_path
            ]
            assert verify(built.folder) == built.manifest
        tried()


@of_examples(10, 120)
@given(others=st.lists(ON_DISK.map(lambda name: name + ".txt"), min_size=1, max_size=3, unique=True), own=ON_DISK)
def test_names_of_what_is_left_out_and_of_the_folder_are_kept_or_escaped(
    others: list[str], own: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with scratch(tmp_path_factory) as root:
        assume(own.strip("."))
        folder = root / own
        put_names(folder, [("a", "1"), ("b", "1")])
        try:
            for name in others:
                (folder / "a" / name).write_bytes(b"")
        except (OSError, ValueError):
            assume(False)
        ended = run("build", "folder", "--data-dir", folder, "--out", root / "out", "--name", "birds", terminal=True)
        assert ended.code == 0, ended.err
        assert is_plain(ended.out.replace("\n", ""))
        manifest = read_manifest(root / "out")
        assert manifest.source["version"] == printable(own)
        assert manifest.source["left_out"] == {
            "files": len(others),
            "first": [printable(f"a/{name}") for name in sorted(others)],
        }
        tried()


@of_examples(40, 300)
@given(name=NAMES | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\n?"))
@example("a" * 101)
@example("..")
@example("a\n")
def test_a_name_of_a_data_set_is_a_files_everywhere_or_refused(name: str) -> None:
    allowed = bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name))
    try:
        assert Spec("folder", title=name).name.startswith(name)
        assert allowed
    except UsageError as error:
        assert not allowed
        in_one_line(error, name)
    tried()


# Lists


def listed(root: Path, lists: Path) -> Built:
    """Build the rows of a list, whose images nobody looks for."""
    (root / "d").mkdir()
    spec = Spec("folder", title="birds")
    return build(spec, data_dir=root / "d", lists=lists, out=root / "out", manifest_only=True)


@of_examples(40, 400)
@given(
    rows=st.lists(st.tuples(NAMES, NAMES), min_size=2, max_size=4, unique_by=lambda row: row[0]),
    delimiter=st.sampled_from(",;\t"),
)
@example(rows=[("a/../../b.jpg", "x"), ("c.jpg", "y")], delimiter=",")
@example(rows=[(".", "x"), ("c.jpg", "y")], delimiter=",")
@example(rows=[("a.jpg", '=cmd("x")'), ("b.jpg", "'; drop")], delimiter=";")
def test_what_a_csv_list_says_is_taken_as_it_is_or_refused_by_line(
    rows: list[tuple[str, str]], delimiter: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = io.StringIO(newline="")
    written = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    written.writerows([("path", "label"), *rows])
    with scratch(tmp_path_factory) as root:
        (root / "list.csv").write_bytes(text.getvalue().encode(errors="surrogatepass"))
        try:
            built = listed(root, root / "list.csv")
        except LtdataError as error:
            in_one_line(error, str(root / "list.csv"), str(root / "d"))
            assert not (root / "out").exists()
        else:
            found = read_samples(built.folder, read_manifest(built.folder))["train"]
            names = built.manifest.class_names
            for (path, name), place, label in zip(rows, found.places, found.labels.tolist(), strict=True):
                assert is_plain(str(place) + names[label])
                assert ".." not in str(place).split("/")
                assert not str(place).startswith("/")
                assert place == shortest(path) != ""
                assert names[label] == name.strip() or int(names[label]) == int(name)
        tried()


def shortest(path: str) -> str:
    """Return a listed path as it is meant: Windows' slashes turned where there are no others, no empty steps."""
    path = path.replace("\\", "/") if "/" not in path else path
    return "/".join(step for step in path.split("/") if step not in {"", "."})


@of_examples(30, 250)
@given(lines=st.lists(st.tuples(NAMES, NAMES), min_size=2, max_size=4))
def test_what_a_text_list_says_is_taken_as_it_is_or_refused_by_line(
    lines: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "".join(f"{path} {name}\n" for path, name in lines)
    with scratch(tmp_path_factory) as root:
        (root / "list.txt").write_bytes(text.encode(errors="surrogatepass"))
        try:
            built = build(
                Spec("folder", title="birds"),
                data_dir=root / "d",
                lists=root / "list.txt",
                out=root / "out",
                manifest_only=True,
            )
        except LtdataError as error:
            in_one_line(error, str(root / "list.txt"), str(root / "d"))
        else:
            found = read_samples(built.folder, read_manifest(built.folder))["train"]
            for place, name in zip(
                found.places, map(built.manifest.class_names.__getitem__, found.labels), strict=True
            ):
                assert is_plain(f"{place}{name}")
                assert ".." not in str(place).split("/")
                assert name in text
        tried()


# Out and back


def must_come_back(paths: list[str], form: str) -> bool:
    """Tell whether a form has no reason to refuse any of the paths."""
    if not all(path not in {"", "."} and is_plain(path) and PurePosixPath(path).as_posix() == path for path in paths):
        return False
    if any(".." in path.split("/") or re.match(r"/|[A-Za-z]:[\\/]", path) for path in paths):
        return False
    if form == "list" and any(path != path.strip() or path[0] in "#\ufeff" for path in paths):
        return False
    return not all(map(is_number, paths))  # which would be positions


@pytest.mark.parametrize("form", ["csv", "json", "npz", "list", "parquet"])
def test_what_is_exported_comes_back_or_is_refused(form: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Paths and names of classes; a list holds no path that ends in a blank, and says so."""
    if form == "parquet":
        pytest.importorskip("pyarrow")
    suffix = ".txt" if form == "list" else f".{form}"

    @of_examples(10, 120)
    @given(
        paths=st.lists(NAMES, min_size=2, max_size=4, unique=True),
        names=st.lists(NAMES, min_size=2, max_size=2, unique=True),
    )
    @example(paths=["\ufeffa.jpg", "b.jpg"], names=["a", "b"])
    @example(paths=[" a,b.jpg", 'a"b";c.jpg', "d.jpg "], names=[" a", "'b"])
    @example(paths=["1", "nan"], names=["1", "0"])
    def comes_back(paths: list[str], names: list[str]) -> None:
        labels = [place % 2 for place in range(len(paths))]
        try:
            manifest = held(paths, labels, names)
        except (LtdataError, UnicodeEncodeError):
            assume(False)  # no source gives a lone surrogate
        with scratch(tmp_path_factory) as root:
            try:
                export(manifest, root / f"train{suffix}", form=form, split="train" if form == "list" else None)
                back = import_(root / f"train{suffix}", source="folder")
            except LtdataError as error:
                in_one_line(error, *paths, *names, str(root))
                assert not must_come_back(paths, form)
                tried()
                return
            assert all(map(is_plain, paths))
            assert back.content_sha256 == manifest.content_sha256
            assert back.rows["train"].source_path == tuple(paths)
            if form in ("json", "npz", "parquet"):
                assert back.class_names == tuple(names)
            write_rows(back, back.rows, root)
            assert read_manifest(root).class_names == back.class_names
        tried()

    comes_back()


@of_examples(15, 60)
@given(name=ON_DISK)
@example(name="\udcff")
def test_a_file_of_any_name_is_imported_or_refused(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    with scratch(tmp_path_factory) as root:
        path = root / f"n{name}.csv"
        try:
            path.write_text("path,label\na.jpg,0\nb.jpg,1\n", encoding="utf-8")
        except (OSError, ValueError):
            assume(False)
        ended = run("import", path, "--source", "birds", "--out", root / "out", terminal=True)
        assert is_plain((ended.out + ended.err).replace("\n", ""))
        assert ended.code == 0 or ended.refused(3), ended.err
        if ended.code == 0:
            assert read_manifest(root / "out").class_counts.tolist() == [1, 1]
        tried()


WAYS: list[tuple[object, ...]] = [
    ("subset", "{}", "--group", "few", "--out", "v"),
    ("subset", "{}", "--group", "few", "--as", "shards", "--out", "s{}", "--quiet"),
    *(("export", "{}", "--format", form, "--out", f"{form}.json") for form in ("wids", "croissant", "json")),
    ("export", "{}", "--format", "croissant", "--out", "{}/c.json"),
    ("stats", "{}", "--html", "{}.html", "--mosaic", "--json"),
    ("diff", "{}", "{}"),
    ("identify", "{}"),
]


@pytest.mark.parametrize("way", thin(WAYS, to=4))
@pytest.mark.parametrize("name", thin(["o\udcff", "o\n", "o\x1b[2J", "'; ls", '"><b>', "ö ä", "x" * 200], to=3))
def test_a_build_in_a_folder_of_any_name_is_read_or_refused(name: str, way: tuple[str, ...], here: Path) -> None:
    """By what writes the way to it, too: views, indices of shards, descriptions, the report."""
    put_names(here / "d", [("a", "1"), ("b", "1")])
    build(Spec("folder", title="birds"), data_dir=here / "d", out=here / name)
    ended = run(*(word.replace("{}", name) for word in way), terminal=True)
    assert ended.code in (0, 3) or ended.refused(2), ended.err
    assert is_plain((ended.out + ended.err).replace("\n", ""))
    if (here / "v").is_dir():
        verify(here / "v")
    tried()


# The report page

UNSHOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # what HTML cannot hold
PLAIN = held(["a/1.jpg", "b/1.jpg", "c/1.jpg"], [0, 1, 2], ["a", "b", "c"], version="d", left_out={"first": ["e", "f"]})


def paged(manifest: Manifest) -> Parsed:
    """Write the page with all that shows names: figures, mosaic, comparison, lines, provenance."""
    row = partial(Row, images=("data:image/png;base64,AAAA",))
    return Parsed(
        page_of(
            manifest,
            [Lines(manifest.class_names[0], manifest.class_names[1], f"of {manifest.class_names[2]}")],
            other=(manifest, overlap(manifest, manifest)),
            mosaic=Mosaic((row("head", 0), row("middle", 1), row("tail", 2)), pixelled=True),
            warning=f"of {manifest.class_names[2]}",
        )
    )


def skeleton(page: Parsed) -> list[tuple[str, tuple[str, ...]]]:
    return [(tag, tuple(attributes)) for tag, attributes in page.tags]


@of_examples(20, 350)
@given(
    names=st.lists(NAMES, min_size=3, max_size=3),
    paths=st.lists(NAMES, min_size=2, max_size=2),
    version=NAMES,
    title=NAMES,
)
def test_the_page_shows_names_as_text_and_nothing_else(
    names: list[str], paths: list[str], version: str, title: str
) -> None:
    """Read by a parser of HTML: the same elements and attributes as with plain names, and the names are its text."""
    texts = [*names, *paths, version, title]
    assume(not any(re.fullmatch(r"https?://.*|(?:[a-z0-9-]+:)?[0-9a-f]{40,64}", text) for text in texts))
    about = {"id": "folder", "version": version, "terms": version, "left_out": {"first": paths}}
    manifest = replace(PLAIN, name=title, class_names=tuple(names), source=about)
    page, plain = paged(manifest), paged(PLAIN)
    assert skeleton(page) == skeleton(plain)
    assert [kind for kind, _, _ in page.blocks] == [kind for kind, _, _ in plain.blocks]
    assert page.data()["names"] == [clean(name) for name in names]
    shown = "".join(page.text)
    for text in (*paths, version, title, names[0]):
        assert clean(text) in shown
    assert [a["alt"] for tag, a in page.tags if tag == "img"] == [cut(clean(name)) for name in names]
    assert not re.search(
        "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", "".join([shown, *(b for _, _, b in page.blocks)])
    )
    for _, attributes in page.tags:
        assert attributes.get("href", "#")[0] in "#d"
        assert not [key for key in attributes if key.startswith("on")]
    tried()


def cut(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:40]}...{name[-37:]}"


# Terminals


def terminal_lines(text: str, plain: str) -> None:
    """Assert that a text has the lines that it has with plain names, and nothing that a terminal obeys."""
    assert is_plain(text.replace("\n", "").replace("\t", "")), text
    assert text.count("\n") == plain.count("\n")
    text.encode()


@of_examples(20, 250)
@given(
    names=st.lists(NAMES, min_size=3, max_size=3, unique=True),
    paths=st.lists(NAMES, min_size=3, max_size=3, unique=True),
    title=NAMES,
)
def test_no_name_ends_a_line_or_commands_a_terminal(names: list[str], paths: list[str], title: str) -> None:
    """Of manifests, lists and JSON that someone else made: statistics, overlap, difference, names, import."""
    outputs = []
    for own, places, word in ((names, paths, title), (["a", "b", "c"], ["d", "e", "f"], "g")):
        manifest = replace(PLAIN, name=word, class_names=tuple(own), source={"id": "folder", "version": word})
        other = replace(manifest, class_names=tuple([f"{each}2" for each in own]))
        counted = replace(
            manifest, splits={"train": replace(manifest.splits["train"], num_samples=4, class_counts=(2, 1, 1))}
        )
        figures = frequency_stats(manifest.class_counts, rule="strict", class_groups=manifest.groups)
        rows = [Samples(np.array([0, 1, 2]), source_path=(places[0], places[1], end)) for end in (places[2], "else")]
        rows[1] = replace(rows[1], labels=np.array([1, 1, 2]))
        given_a, given_b = (Given(word, "json", {"train": from_samples(each)}, word, manifest) for each in rows)
        difference = compare(given_a, given_b)
        outputs.append(
            [
                format_stats(manifest, figures),
                format_overlap(manifest, other, overlap(manifest, other)),
                format_overlap(manifest, counted, overlap(manifest, counted)),
                format_diff(difference),
                "\n".join(format_names(difference)),
                tables.text(word, [tables.Row(name, {}) for name in own], rule="strict"),
            ]
        )
    for text, plain in zip(*outputs, strict=True):
        terminal_lines(text, plain)
    tried()


@of_examples(40, 300)
@given(name=NAMES | ON_DISK)
@example("a  b.jpg")
def test_an_error_is_one_line_that_still_names_the_file(name: str) -> None:
    error = MismatchError(f"/data/{name}/x.jpg: is empty; mend it")
    in_one_line(error, name.strip() if "\n" not in name else "/data/")
    assert str(error).endswith("; mend it")
    if is_plain(name):
        assert str(error) == f"/data/{name}/x.jpg: is empty; mend it"
    tried()


COMMANDS: list[Callable[[str], tuple[object, ...]]] = [
    lambda name: ("stats", name),
    lambda name: ("verify", name),
    lambda name: ("diff", name, "."),
    lambda name: ("build", "folder", "--data-dir", f"./{name}"),
    lambda name: ("build", name),
    lambda name: ("import", name, "--source", name, "--out", "o"),
    lambda name: ("export", "cifar100-lt-exp-if100", "--split", name, "--out", "o.csv"),
    lambda name: ("subset", "cifar100-lt-exp-if100", "--class", name, "--out", "o"),
    lambda name: (f"--{name}",),
]


@pytest.mark.parametrize("command", thin(COMMANDS, to=4))
def test_a_name_on_the_command_line_is_shown_and_not_obeyed(command: Callable[[str], tuple[object, ...]]) -> None:
    @of_examples(4, 40)
    @given(name=NAMES.filter(lambda name: "\0" not in name and not name.startswith("-")) | ON_DISK)
    def shown(name: str) -> None:
        ended = run(*command(name), terminal=True)
        assert is_plain(ended.err.removesuffix("\n"))
        assert is_plain(ended.out.replace("\n", ""))
        assert ended.code in {0, 2, 3, 4, 5}
        assert ended.code == 0 or ended.err.count("\n") == 1
        tried()

    shown()


# Tables of papers

BACK = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    **{f"\\{mark}": mark for mark in "&%$#_{}"},
    **{f"{{{mark}}}": mark for mark in "[*"},
}
ESCAPED = re.compile("|".join(map(re.escape, BACK)))


@of_examples(40, 400)
@given(name=NAMES)
@example("A & B_1 100 % #1 $x$ {~^\\}")
@example("a|b\\|c")
def test_a_name_is_a_cell_of_a_latex_or_markdown_table_and_nothing_else(name: str) -> None:
    row = tables.Row(name, {"overall": Spread(0.5, None)})
    wanted = tables.one_line(name)
    assert is_plain(wanted)
    (line,) = tables.latex("x", [row]).splitlines()[1:]
    assert line.endswith(r" \\")
    line = line.removesuffix(r" \\")
    assert ESCAPED.sub(lambda mark: BACK[mark[0]], line).startswith(f"{wanted} & 0.5 & ")
    rest = ESCAPED.sub("", line)
    assert rest.count(" & ") == rest.count("&") == len(FIGURES)
    assert not set(rest) & set("\\%$#_{}~^")
    assert not line.startswith(("[", "*"))
    (line,) = tables.markdown("x", [row]).splitlines()[2:]
    cells = re.split(r"(?<!\\)(?:\\\\)*\|", line)
    assert len(cells) == len(FIGURES) + 4
    assert not re.search(r"(?<!\\)(?:\\\\)*[<`*_\[\]&]", cells[1])
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cells[1][1:-1]) == wanted
    tried()
