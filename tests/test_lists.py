"""Lists: read in every form that people write them in; every fault named by file and line, nothing lost."""

import csv
import io
import itertools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st

from ltdata.errors import MismatchError
from ltdata.lists import Listed, blob_sha1, path_fault, printable, read_csv, read_text_list, text_fault
from ltdata.samples import Samples, list_bytes

ROWS = (("a/1.jpg", "0"), ("b c/ü 2.jpg", "10"), ("d.png", "3"))
names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"], exclude_characters="/"), min_size=1, max_size=8
).filter(lambda name: name not in {".", ".."})
# Paths as a folder of images has them: they end in a suffix, so in no blank.
paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/".join(parts) + ".jpg")


def pairs(listed: Listed) -> list[tuple[str, str]]:
    return list(zip(listed.places, listed.targets, strict=True))


def refused(read: Callable[..., Listed], data: bytes, message: str) -> None:
    with pytest.raises(MismatchError, match=message) as caught:
        read(data, origin="x.txt")
    assert str(caught.value).startswith("x.txt:")
    assert "\n" not in str(caught.value)


# Text lists


@pytest.mark.parametrize("form", list(itertools.product([False, True], repeat=5)))
def test_every_form_of_a_text_list_has_the_same_rows(form: tuple[bool, ...]) -> None:
    """Byte-order mark, CRLF, no last newline, blank lines, tabs; each told as a note."""
    bom, crlf, unended, blank, tabs = form
    lines = [f"{path}{chr(9) if tabs else ' '}{label}" for path, label in ROWS]
    if blank:
        lines[1:1] = ["", "  "]
    text = "\n".join(lines) + ("" if unended else "\n")
    data = (b"\xef\xbb\xbf" if bom else b"") + text.replace("\n", "\r\n" if crlf else "\n").encode()
    listed = read_text_list(data, origin="x.txt")
    assert pairs(listed) == list(ROWS)
    assert list(listed.lines) == ([1, 4, 5] if blank else [1, 2, 3])
    known = ("byte-order mark", "CRLF", "no last newline", "blank lines")
    assert listed.notes == tuple(note for note, there in zip(known, form[:4], strict=True) if there)


@given(st.lists(st.tuples(paths, st.integers(0, 10**6)), min_size=1, max_size=20, unique_by=lambda row: row[0]))
def test_what_a_manifest_writes_as_a_list_is_read_back(rows: list[tuple[str, int]]) -> None:
    samples = Samples(np.array([label for _, label in rows]), source_path=tuple(path for path, _ in rows))
    listed = read_text_list(list_bytes(samples), origin="x.txt")
    if any(path_fault(path) for path, _ in rows):
        with pytest.raises(MismatchError, match=r"x\.txt:\d+: path"):
            _ = listed.paths
        return
    assert listed.paths == samples.source_path
    assert listed.labels().tolist() == samples.labels.tolist()
    assert listed.notes == ()


def test_blanks_between_path_and_label_belong_to_neither() -> None:
    assert pairs(read_text_list(b"a b.jpg    3 \nc.jpg\t \tx y\n", origin="x.txt")) == [
        ("a b.jpg", "3"),
        ("c.jpg", "x y"),
    ]


def test_a_path_may_begin_like_a_comment() -> None:
    assert pairs(read_text_list(b"#1 a/b.jpg 0\n#.jpg 1\n", origin="x.txt")) == [("#1 a/b.jpg", "0"), ("#.jpg", "1")]


def test_a_list_without_labels_has_a_place_per_line() -> None:
    listed = read_text_list(b"7\n 3\r\n", origin="x.txt", labelled=False)
    assert (listed.places, listed.targets) == (("7", "3"), ())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"^x\.txt: is empty"),
        (b"\r\n \n", r"^x\.txt: is empty"),
        (b"\xef\xbb\xbf", r"^x\.txt: is empty"),
        (b"a.jpg 0\nb.jpg\n", r"^x\.txt:2: 'b\.jpg' is not a path and a label"),
        (b"a.jpg 0\n\n7\n", r"^x\.txt:3: '7' is not a path and a label"),
        (b"a.jpg 0\nb.jpg\t\n", r"^x\.txt:2: .* is not a path and a label"),
        (b"a.jpg,0\n", r"^x\.txt:1: 'a\.jpg,0' is not a path and a label"),
        (b"a.jpg 0\n# path label\n", r"^x\.txt:2: '# path label' looks like a comment; take it out"),
        (b"#path\tlabel\na.jpg\t0\n", r"^x\.txt:1: '#path\\tlabel' looks like a comment; take it out"),
        (b"#\n", r"^x\.txt:1: '#' looks like a comment; take it out"),
        (b"a.jpg 0\nb\xe4.jpg 1\n", r"^x\.txt:2: not UTF-8"),
        ("a.jpg 0\n".encode("utf-16"), r"^x\.txt:1: not UTF-8"),
    ],
)
def test_a_broken_text_list_is_refused_by_line(data: bytes, message: str) -> None:
    refused(read_text_list, data, message)


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("/etc/passwd", "is absolute"),
        ("C:\\images\\a.jpg", "is absolute"),
        ("c:/a.jpg", "is absolute"),
        ("../a.jpg", "leads outside"),
        ("a/../../b.jpg", "leads outside"),
        ("a\0b.jpg", "control character"),
        ("a\rb.jpg", "control character"),
        ("a\x85b.jpg", "control character"),
        ("a\u2028b.jpg", "control character"),
    ],
)
def test_a_path_that_cannot_be_one_is_refused_by_line(path: str, fault: str) -> None:
    listed = read_text_list(f"ok.jpg 0\n{path} 1\n".encode(), origin="x.txt")
    with pytest.raises(MismatchError, match=rf"^x\.txt:2: path .* {fault}; mend the list$"):
        _ = listed.paths


def test_an_image_that_is_listed_twice_is_refused_by_both_lines() -> None:
    listed = read_text_list(b"a.jpg 0\nb.jpg 1\n\na.jpg 0\n", origin="x.txt")
    with pytest.raises(MismatchError, match=r"^x\.txt:4: a\.jpg is listed twice, first in x\.txt:1;"):
        _ = listed.paths


@pytest.mark.parametrize("label", ["-1", "+1", "1.0", "1_0", "1e3", "x", "0x1", "²", "٣", "9999999999"])
def test_a_label_that_is_no_number_is_refused_by_line(label: str) -> None:
    listed = read_text_list(f"a.jpg 0\nb.jpg {label}\n".encode(), origin="x.txt")
    with pytest.raises(MismatchError, match=r"^x\.txt:2: label .* is not a whole number"):
        listed.labels(10)


def test_a_label_out_of_range_is_refused_by_line() -> None:
    listed = read_text_list(b"a.jpg 9\n\nb.jpg 10\nc.jpg 10\n", origin="x.txt")
    with pytest.raises(MismatchError, match=r"^x\.txt:3: label 10 is not in 0 \.\. 9"):
        listed.labels(10)
    assert listed.labels(11).tolist() == listed.labels().tolist() == [9, 10, 10]


# CSV


@given(st.lists(st.tuples(paths, names), min_size=1, max_size=10), st.sampled_from([",", ";", "\t"]), st.booleans())
def test_what_pythons_csv_writes_is_read_back(rows: list[tuple[str, str]], delimiter: str, everything: bool) -> None:
    out = io.StringIO()
    writer = csv.writer(
        out, delimiter=delimiter, quoting=csv.QUOTE_ALL if everything else csv.QUOTE_MINIMAL, lineterminator="\n"
    )
    # Unquoted, a blank after the delimiter is no part of the field.
    rows = [(path if everything else path.lstrip(), label) for path, label in rows]
    writer.writerows([("path", "label", "note"), *((path, label, "x") for path, label in rows)])
    listed = read_csv(out.getvalue().encode(), origin="x.csv")
    assert pairs(listed) == [(path, label.strip()) for path, label in rows]
    assert list(listed.lines) == list(range(2, len(rows) + 2))


@pytest.mark.parametrize("header", ["path,label", "Path, Label", '"File_Name","Category"', "label,x,image"])
def test_columns_are_known_by_their_names(header: str) -> None:
    order = [name.strip(' "').lower() for name in header.split(",")]
    row = ",".join({"label": "cat", "category": "cat", "x": "?"}.get(name, "a b.jpg") for name in order)
    listed = read_csv(f"\ufeff{header}\r\n{row}\r\n".encode(), origin="x.csv")
    assert pairs(listed) == [("a b.jpg", "cat")]
    assert listed.splits is None
    assert listed.notes == ("byte-order mark", "CRLF")


def test_quotes_commas_and_blanks_in_fields() -> None:
    data = b'path, label, split\n"a, b.jpg", "say ""cat""", Train\n\n" c.jpg",dog,val\n'
    listed = read_csv(data, origin="x.csv")
    assert pairs(listed) == [("a, b.jpg", 'say "cat"'), (" c.jpg", "dog")]
    assert (listed.splits, list(listed.lines), listed.notes) == (("Train", "val"), [2, 4], ("blank lines",))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"^x\.txt: is empty"),
        (b"path,label\n", r"^x\.txt: lists no image"),
        (b"path,name\na.jpg,0\n", r"^x\.txt:1: the header 'path,name' names no column for the label; name it label"),
        (b"a.jpg,0\n", r"^x\.txt:1: the header 'a\.jpg,0' names no column for the path; name it path"),
        (b"path,label\na.jpg,0\nb.jpg\n", r"^x\.txt:3: 1 fields, the header has 2"),
        (b"path,label\na.jpg,0,1\n", r"^x\.txt:2: 3 fields, the header has 2"),
        (b"path,label\n,\n a\n", r"^x\.txt:3: 1 fields, the header has 2"),
        (b'path,label\n"a.jpg,0\nb.jpg,1\n', r"^x\.txt:\d+: not readable as CSV"),
        (b'path,label\n"a"x.jpg,0\n', r"^x\.txt:2: not readable as CSV"),
        (b"path,label\ra.jpg,0\r", r"^x\.txt:1: not readable as CSV"),
        (b"path,label\na.jpg,0\n\xff,1\n", r"^x\.txt:3: not UTF-8"),
        (b"path,label\n" + b"a" * 200_000 + b",0\n", r"^x\.txt:2: not readable as CSV \(field larger"),
    ],
)
def test_a_broken_csv_file_is_refused_by_line(data: bytes, message: str) -> None:
    refused(read_csv, data, message)


def test_a_line_break_inside_a_quoted_path_is_not_swallowed() -> None:
    listed = read_csv(b'path,label\n"a\nb.jpg",0\n', origin="x.csv")
    with pytest.raises(MismatchError, match=r"^x\.csv:3: path 'a\\nb\.jpg' holds a control character"):
        _ = listed.paths


# Whatever is given


@given(st.binary(max_size=60) | st.text('ab ,;\t"\r\n/.0123\x00\ufeff', max_size=60).map(str.encode))
def test_any_bytes_are_rows_or_one_line_of_error(data: bytes) -> None:
    for read in (read_text_list, read_csv):
        message = "x.txt: fine"
        try:
            listed = read(data, origin="x.txt")
            assert len(listed.places) == len(listed.targets) == len(listed.lines) >= 1
            _ = listed.paths, listed.labels(10)
        except MismatchError as error:
            message = str(error)
        assert message.startswith("x.txt:")
        assert "\n" not in message


@given(st.text(st.characters(), max_size=12))
def test_a_path_without_fault_stays_inside_and_on_one_line(path: str) -> None:
    if path_fault(path) is None:
        assert "\n" not in path
        assert len(path.splitlines()) == 1
        assert Path("/root", path).is_relative_to("/root")
        assert ".." not in Path(path).parts
        path.encode()


@given(st.text(st.characters(), max_size=12))
def test_a_printable_name_can_stand_in_a_manifest(name: str) -> None:
    shown = printable(name)
    assert shown == name or text_fault(name)
    if name:
        assert text_fault(shown) is None


# Digests


@pytest.mark.parametrize("data", [b"", b"hello\n", bytes(range(256)) * 100])
def test_the_digest_is_the_one_that_git_gives(data: bytes) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    command = [git, "hash-object", "--stdin"]
    assert subprocess.run(command, input=data, capture_output=True, check=True).stdout.decode().strip() == blob_sha1(
        data
    )


@pytest.mark.parametrize(
    ("file", "rows", "sha1"),
    [
        ("imagenet_lt/ImageNet_LT_val.txt", 20_000, "3ed3188b2f44829ce2dec1cc27040d8d40984088"),
        ("imagenet_lt/ImageNet_LT_test.txt", 50_000, "76a2fb9749d6cd29e765cc4f8c270f2504131e2f"),
        ("inat18/iNaturalist18_val.txt", 24_426, "4c23900857fd0f5adcd4cc0dffef345039eeb05f"),
    ],
)
def test_official_lists_are_read_whole(file: str, rows: int, sha1: str) -> None:
    path = SHARED / "data" / "lists" / file
    if not path.exists():
        pytest.skip(f"the official lists are not here ({path}); set LTDATA_SHARED to the folder that has them")
    data = path.read_bytes()
    listed = read_text_list(data, origin=str(path))
    assert blob_sha1(data) == sha1
    assert len(listed.paths) == rows
    assert listed.notes == ()
    assert list_bytes(Samples(listed.labels(), source_path=listed.paths)) == data


def test_a_comment_is_refused_by_line() -> None:
    with pytest.raises(MismatchError, match=r"x\.txt:1: '# my list' looks like a comment"):
        read_text_list(b"# my list\na.jpg 0\n", origin="x.txt")
