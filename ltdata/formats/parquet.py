"""Parquet files, with pyarrow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ltdata.errors import MismatchError, UsageError
from ltdata.formats.about import about_from_json
from ltdata.formats.foreign import Foreign, divide, integers, labels_of, read_bytes
from ltdata.lists import INDEX_COLUMNS, LABEL_COLUMNS, PATH_COLUMNS, SPLIT_COLUMNS

METADATA_KEY = b"ltdata"


def require() -> Any:
    """Import pyarrow.parquet.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow: pip install 'ltdata[parquet]'") from error
    return pyarrow.parquet


def read(path: Path, *, split: str) -> Foreign:
    """Read a Parquet file with a column for path or position, perhaps one for the label, and one for the split.

    Columns have the names that CSV files have, see `ltdata.lists`; others are not looked at.

    Raises:
        SourceMissingError: it cannot be read.
        UsageError: pyarrow is not installed.
        MismatchError: it is cut, or lacks a column.
    """
    parquet = require()
    read_bytes(path)
    try:
        schema = parquet.read_schema(path)
        places = [name for name in schema.names if name.lower() in PATH_COLUMNS + INDEX_COLUMNS]
        labels = [name for name in schema.names if name.lower() in LABEL_COLUMNS]
        splits = [name for name in schema.names if name.lower() in SPLIT_COLUMNS]
        columns = [*places, *labels, *splits]
        table = parquet.ParquetFile(path).read(columns=columns)
        values = {name: table.column(name).to_pylist() for name in columns}
    except Exception as error:  # noqa: BLE001 - pyarrow's errors share no base
        raise MismatchError(f"{path}: not readable as Parquet ({error}): cut off? fetch it again") from error
    about = about_from_json(metadata, str(path)) if (metadata := (schema.metadata or {}).get(METADATA_KEY)) else {}
    return table_to_foreign("parquet", values, origin=str(path), split=split, about=about)


def table_to_foreign(
    form: str, values: dict[str, Sequence[Any]], *, origin: str, split: str, about: dict[str, Any]
) -> Foreign:
    """Make splits of the columns of a table.

    Raises:
        MismatchError: a column is missing, or a value is no path, position or label; names the row.
    """
    places, labels, splits = (
        next((values[key] for name in names for key in values if key.lower() == name), None)
        for names in (PATH_COLUMNS + INDEX_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS)
    )
    if places is None:
        raise MismatchError(
            f"{origin}: no column names the images ({', '.join(values)[:80] or 'none known'}); call it source_path or "
            "source_index"
        )
    for row, word in enumerate(splits or (), start=1):
        if not isinstance(word, str):
            raise MismatchError(f"{origin}: row {row}: split {word!r:.40} is none of train, val, test; mend the file")
    of_labels, names = labels_of(labels, origin) if labels is not None else (None, ())
    named: Sequence[str] | Any
    if len(places) and all(isinstance(place, str) for place in places):
        named = tuple(places)
    else:
        named = integers(places, origin, "index") if len(places) else np.zeros(0, np.int64)
    found = divide(splits, named, of_labels, origin=origin, default=split)
    return Foreign(form, found, about or ({"class_names": list(names)} if names else {}))
