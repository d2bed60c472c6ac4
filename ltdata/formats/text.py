"""Text lists and CSV files: the forms in which most splits of the field are passed on."""

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import MismatchError
from ltdata.formats.foreign import Foreign, divide, labels_of_list
from ltdata.lists import Listed, is_number, read_csv, read_text_list
from ltdata.samples import Samples

_NEEDS_QUOTES = re.compile(r"""[",;]|^\s|\s$""")


def table_bytes(rows: Mapping[str, Samples]) -> bytes:
    """Write splits as a CSV file, UTF-8, LF: ``split,source_index,label``, or ``split,source_path,label``."""
    by_path = any(samples.source_path is not None for samples in rows.values())
    lines = [f"split,{'source_path' if by_path else 'source_index'},label\n"]
    for name, samples in rows.items():
        places = [_quoted(str(place)) for place in samples.places]
        lines += [f"{name},{place},{label}\n" for place, label in zip(places, samples.labels.tolist(), strict=True)]
    return "".join(lines).encode()


def _quoted(field: str) -> str:
    """Quote a field that needs it; blanks at its ends do, which the `csv` module before Python 3.13 leaves bare."""
    return '"' + field.replace('"', '""') + '"' if _NEEDS_QUOTES.search(field) else field


def read_list(data: bytes, *, origin: str, split: str) -> Foreign:
    """Read a text list: ``<path> <label>`` or ``<position> <label>`` per line, or a position or path alone.

    Raises:
        MismatchError: names file and line.
    """
    listed = read_text_list(data, origin=origin, labelled=False)
    if any(len(place.split()) > 1 for place in listed.places):
        listed = read_text_list(data, origin=origin)
    return _foreign(listed, "list", split)


def read_table(data: bytes, *, origin: str, split: str) -> Foreign:
    """Read a CSV or TSV file with a header, see `ltdata.lists.read_csv`.

    Raises:
        MismatchError: names file and line.
    """
    return _foreign(read_csv(data, origin=origin), "csv", split)


def _foreign(listed: Listed, form: str, split: str) -> Foreign:
    labels, names = labels_of_list(listed) if listed.targets else (None, ())
    splits = divide(listed.splits, _places(listed), labels, origin=listed.origin, default=split)
    return Foreign(form, splits, {"class_names": list(names)} if names else {})


def _places(listed: Listed) -> tuple[str, ...] | NDArray[np.int64]:
    """Return positions where every place is a number, else the places as paths."""
    if not all(map(is_number, listed.places)):
        return listed.places
    for place, line in zip(listed.places, listed.lines, strict=True):
        if not (place.isascii() and place.isdigit() and len(place) <= 19 and int(place) < 2**63):
            raise MismatchError(
                f"{listed.origin}:{line}: index {place!r:.40} is not a whole number of 0 or more; mend the list"
            )
    return np.array(listed.places, dtype=np.int64)
