"""Parquet files, with pyarrow."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ltdata.errors import MismatchError, UsageError
from ltdata.files import read_bytes
from ltdata.formats.about import about_from_json, about_json
from ltdata.formats.foreign import Foreign, divide, integers, labels_of
from ltdata.lists import INDEX_COLUMNS, LABEL_COLUMNS, PATH_COLUMNS, SPLIT_COLUMNS
from ltdata.manifest import Manifest
from ltdata.samples import Samples

COLUMNS = frozenset((*PATH_COLUMNS, *INDEX_COLUMNS, *LABEL_COLUMNS, *SPLIT_COLUMNS))
_ABOUT = b"ltdata"  # of the schema's metadata: the header's fields, as JSON text


def to_bytes(manifest: Manifest, rows: Mapping[str, Samples]) -> bytes:
    """Write splits as a Parquet file: columns split, source_index or source_path, label.

    The same bytes for the same version of pyarrow, which the file names.

    Raises:
        UsageError: pyarrow is not installed.
    """
    _require()
    import pyarrow as pa
    from pyarrow import parquet

    by_path = all(samples.source_path is not None for samples in rows.values())
    places = [place for samples in rows.values() for place in samples.places]
    columns = {
        "split": pa.array([name for name, samples in rows.items() for _ in range(len(samples))], pa.string()),
        "source_path" if by_path else "source_index": pa.array(places, pa.string() if by_path else pa.int64()),
        "label": pa.array(np.concatenate([samples.labels for samples in rows.values()]), pa.int64()),
    }
    table = pa.table(columns).replace_schema_metadata({_ABOUT: about_json(manifest, rows).encode()})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def read(path: Path, *, split: str) -> Foreign:
    """Read a Parquet file with a column for path or position, perhaps one for the label, and one for the split.

    Columns have the names that CSV files have, see `ltdata.lists`; others are not looked at.

    Raises:
        SourceMissingError: it cannot be read.
        UsageError: pyarrow is not installed.
        MismatchError: it is cut, or lacks a column.
    """
    _require()
    from pyarrow import parquet

    data = read_bytes(path)
    try:
        file = parquet.ParquetFile(io.BytesIO(data))
        schema = file.schema_arrow
        wanted = [field.name for field in schema if field.name.lower() in COLUMNS and is_plain(field.type)]
        table = file.read(columns=wanted)
        values = {name: table.column(name).to_pylist() for name in wanted}
    except Exception as error:  # pyarrow's errors share no base
        raise MismatchError(f"{path}: not readable as Parquet ({error}): cut off? fetch it again") from error
    metadata = (schema.metadata or {}).get(_ABOUT)
    about = about_from_json(metadata, str(path)) if metadata is not None else {}
    return from_columns("parquet", values, about, origin=str(path), split=split)


def is_plain(kind: Any) -> bool:
    """Tell whether an Arrow type is one that paths, positions, labels or splits may have: no images, no lists."""
    import pyarrow as pa

    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def from_columns(
    form: str, values: Mapping[str, Sequence[Any]], about: Mapping[str, Any], *, origin: str, split: str
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
        held = ", ".join(values)[:80] or "none that is known"
        raise MismatchError(f"{origin}: columns {held}; name the images in source_index or source_path")
    for row, word in enumerate(splits or (), start=1):
        if not isinstance(word, str):
            raise MismatchError(f"{origin}: row {row}: split {word!r:.40} is none of train, val, test; mend the file")
    of_labels, names = labels_of(labels, origin) if labels is not None else (None, ())
    by_path = len(places) > 0 and all(isinstance(place, str) for place in places)
    found = divide(
        splits,
        tuple(places) if by_path else integers(places, origin, "index"),
        of_labels,
        origin=origin,
        default=split,
    )
    return Foreign(form, found, about or ({"class_names": list(names)} if names else {}))


def _require() -> None:
    try:
        import pyarrow  # noqa: F401 - whether it is there
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow: pip install 'ltdata[parquet]'") from error
