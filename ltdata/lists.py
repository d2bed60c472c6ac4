r"""Lists of images: the field's text lists and CSV files, read strictly, every fault named by file and line.

A text list has one image per line, a path and a label; the path may hold spaces, the label is what follows the
last one, or the last tab where the line has one. A CSV file has a header that names the columns. A byte-order mark,
CRLF, blank lines and a missing last newline are read past, and told as `notes`.

>>> read_text_list(b"a/b c.jpg 3\r\nd.jpg 0", origin="x.txt").paths
('a/b c.jpg', 'd.jpg')
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import MismatchError
from ltdata.files import published_digest

PATH_COLUMNS = ("path", "source_path", "file_name", "filename", "file", "filepath", "image", "image_path", "fpath")
LABEL_COLUMNS = ("label", "class", "category", "category_id", "target", "class_name", "species")
SPLIT_COLUMNS = ("split", "subset", "set")
SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
INDEX_COLUMNS = ("source_index", "index", "idx")
_BOM = b"\xef\xbb\xbf"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # a terminal may take \x9b for ESC [


@dataclass(frozen=True)
class Listed:
    """Hold the rows of a list.

    Attributes:
        places: path (or position) of each image.
        targets: label of each, as written; empty where the list has none.
        lines: where each stood: its line, counted from 1, or what else names it.
        splits: split of each, where the list says.
        notes: what was read past.
        origin: names the list in errors.
        mark: stands between `origin` and a line there.
        sha256: of the bytes that were read, where it is to be recorded.
    """

    places: tuple[str, ...]
    targets: tuple[str, ...]
    lines: Sequence[int]
    origin: str
    splits: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    mark: str = ":"
    sha256: str = ""

    def at(self, row: int) -> str:
        """Name a row in an error: ``list.txt:7``."""
        return f"{self.origin}{self.mark}{self.lines[row]}"

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the places as checked paths: inside the source, printable, each once.

        Raises:
            MismatchError: names file and line.
        """
        seen: dict[str, int] = {}
        for row, path in enumerate(self.places):
            fault = path_fault(path)
            if fault:
                raise MismatchError(f"{self.at(row)}: path {path!r} {fault}; mend the list")
            first = seen.setdefault(path, row)
            if first != row:
                raise MismatchError(f"{self.at(row)}: {path} is listed twice, first in {self.at(first)}; take one out")
        return self.places

    def labels(self, num_classes: int | None = None) -> NDArray[np.int64]:
        """Return the targets as labels, int64 (n,).

        Raises:
            MismatchError: one is not a number, or not in 0 .. num_classes - 1; names file and line.
        """
        for row, target in enumerate(self.targets):
            if not (target.isascii() and target.isdigit() and len(target) <= 9):
                raise MismatchError(f"{self.at(row)}: label {target[:80]!r} is not a whole number; mend the list")
        labels = np.array(self.targets, dtype=np.int64)
        if num_classes is not None and labels.max(initial=0) >= num_classes:
            row = int(np.argmax(labels >= num_classes))
            raise MismatchError(f"{self.at(row)}: label {labels[row]} is not in 0 .. {num_classes - 1}; mend the list")
        return labels


def is_number(text: str) -> bool:
    """Tell whether a text is meant as a number, be it a wrong one such as ``-1``, ``2.0`` or ``nan``."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def path_fault(path: str) -> str | None:
    """Say why a path cannot name an image inside a source; None if it can.

    >>> path_fault("../a.jpg"), path_fault("a/b.jpg")
    ('leads outside', None)
    """
    if path.startswith("/") or re.match(r"[A-Za-z]:[\\/]", path):
        return "is absolute"
    if ".." in path.split("/"):
        return "leads outside"
    if path == ".":
        return "is the folder itself"
    if "//" in path or "/./" in path or path.startswith("./") or path.endswith(("/", "/.")):
        return "is not in its shortest form"
    return text_fault(path)


def text_fault(text: str) -> str | None:
    """Say why a text cannot stand in a list or a manifest as it is; None if it can."""
    if not text:
        return "is empty"
    if _CONTROL.search(text):
        return "holds a control character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "is not UTF-8"
    return None


def printable(name: str) -> str:
    r"""Return a file's name as a manifest can hold it: itself, or escaped where `text_fault` finds one.

    >>> printable("café.txt"), printable("a\nb")
    ('café.txt', 'a\\nb')
    """
    return ascii(name)[1:-1] if text_fault(name) else name


def blob_sha1(data: bytes) -> str:
    r"""Compute the SHA-1 that git gives a file with this content.

    >>> blob_sha1(b"hello\n")
    'ce013625030ba8dba906f756967f9e9ca394464a'
    """
    return published_digest("sha1", b"blob %d\0" % len(data) + data)


def read_text_list(data: bytes, *, origin: str, labelled: bool = True) -> Listed:
    """Read a text list, ``<path> <label>`` per line; without labels, a place per line.

    Raises:
        MismatchError: it is not UTF-8, empty, or a line has no label; names file and line.
    """
    lines, notes = _lines(data, origin)
    places: list[str] = []
    targets: list[str] = []
    numbers: list[int] = []
    for number, line in enumerate(lines, start=1):
        if not line or line.isspace():
            continue
        place, _, target = line.rstrip().rpartition("\t" if "\t" in line else " ")
        if line.startswith("#") and "." not in place.rpartition("/")[2]:  # a path may begin so, and has a suffix
            raise MismatchError(f"{origin}:{number}: {line[:80]!r} looks like a comment; take it out")
        if labelled:
            if not place.strip():
                raise MismatchError(f"{origin}:{number}: {line[:80]!r} is not a path and a label; mend the list")
            places.append(place.rstrip())
            targets.append(target)
        else:
            places.append(line.strip())
        numbers.append(number)
    return _listed(places, targets, numbers, None, notes, origin)


def read_csv(data: bytes, *, origin: str) -> Listed:
    """Read a CSV file with a header: a column for the path or position, one for the label, perhaps one for the split.

    Comma, semicolon or tab, whichever the header has most of; blanks after it are no part of a field, unless quoted.
    Column names: `PATH_COLUMNS` (or `INDEX_COLUMNS`), `LABEL_COLUMNS`, `SPLIT_COLUMNS`; others are not looked at.

    Raises:
        MismatchError: it is not UTF-8, empty, or lacks a column or a field; names file and line.
    """
    lines, notes = _lines(data, origin)
    delimiter = max(",;\t", key=lines[0].count)
    reader = csv.reader([f"{line}\n" for line in lines], delimiter=delimiter, strict=True, skipinitialspace=True)
    places: list[str] = []
    targets: list[str] = []
    splits: list[str] = []
    numbers: list[int] = []
    try:
        header = [name.strip().lower() for name in next(reader)]
        place, label, split = (
            next((header.index(name) for name in names if name in header), None)
            for names in (PATH_COLUMNS + INDEX_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS)
        )
        if place is None or label is None:
            what, names = ("path", PATH_COLUMNS) if place is None else ("label", LABEL_COLUMNS)
            shown = ",".join(header)[:80]
            raise MismatchError(f"{origin}:1: the header {shown!r} names no column for the {what}; name it {names[0]}")
        for row in reader:
            if row in ([], [""]):
                continue
            if len(row) != len(header):
                raise MismatchError(f"{origin}:{reader.line_num}: {len(row)} fields, the header has {len(header)}")
            places.append(row[place])
            targets.append(row[label].strip())
            splits.append(row[split].strip() if split is not None else "")
            numbers.append(reader.line_num)
    except csv.Error as error:
        raise MismatchError(f"{origin}:{reader.line_num}: not readable as CSV ({error}); mend the file") from error
    return _listed(places, targets, numbers, splits if split is not None else None, notes, origin)


def _listed(
    places: list[str],
    targets: list[str],
    numbers: list[int],
    splits: list[str] | None,
    notes: tuple[str, ...],
    origin: str,
) -> Listed:
    if not places:
        raise MismatchError(f"{origin}: lists no image; give another file")
    return Listed(
        places=tuple(places),
        targets=tuple(targets),
        lines=numbers,
        origin=origin,
        splits=tuple(splits) if splits is not None else None,
        notes=notes,
    )


def _lines(data: bytes, origin: str) -> tuple[list[str], tuple[str, ...]]:
    """Decode the lines of a file, and say what was read past."""
    notes = []
    if data.startswith(_BOM):
        notes.append("byte-order mark")
        data = data.removeprefix(_BOM)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MismatchError(f"{origin}:{line}: not UTF-8 text; save the file as UTF-8") from error
    if "\r\n" in text:
        notes.append("CRLF")
        text = text.replace("\r\n", "\n")
    if not text.strip():
        raise MismatchError(f"{origin}: is empty; give another file")
    if not text.endswith("\n"):
        notes.append("no last newline")
    lines = text.split("\n")
    if any(not line.strip() for line in lines[:-1]):
        notes.append("blank lines")
    return lines, tuple(notes)
