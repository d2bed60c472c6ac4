"""Hugging Face data sets on disk, as `datasets.save_to_disk` writes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltdata.errors import MismatchError, UsageError
from ltdata.formats.about import about_from_json
from ltdata.formats.foreign import Foreign, ForeignSplit, in_order, read_bytes, split_named, split_of_file
from ltdata.formats.parquet import table_to_foreign
from ltdata.lists import INDEX_COLUMNS, LABEL_COLUMNS, PATH_COLUMNS

ABOUT_NAME = "ltdata.json"


def require() -> Any:
    """Import datasets.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise UsageError("Hugging Face data sets need datasets: pip install 'ltdata[huggingface]'") from error
    return datasets


def is_dataset(folder: Path) -> bool:
    """Tell whether a folder is a data set, or several, saved by `save_to_disk`."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "dataset_info.json", "state.json"))


def read(folder: Path) -> Foreign:
    """Read the rows of a saved data set; images are not touched.

    Raises:
        UsageError: datasets is not installed.
        MismatchError: it is damaged, or lacks a column.
    """
    datasets = require()
    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:  # noqa: BLE001 - json, pyarrow and file system errors share no base
        raise MismatchError(f"{folder}: not a readable Hugging Face data set ({error}); save it again") from error
    side = folder / ABOUT_NAME
    about = about_from_json(read_bytes(side), str(side)) if side.is_file() else {}
    parts = loaded if isinstance(loaded, dict) else {split_of_file(str(loaded.split or folder.name)) or "train": loaded}
    splits: dict[str, ForeignSplit] = {}
    for word, part in parts.items():
        name, origin = split_named(str(word), str(folder)), f"{folder}: {word}"
        values = _values(part, origin)
        found = table_to_foreign("huggingface", values, origin=origin, split=name, about={})
        if name in splits:
            raise MismatchError(f"{folder}: two splits mean {name}; take one out")
        splits[name] = found.splits[name]
        names = _class_names(part) or found.about.get("class_names")
        if names and about.setdefault("class_names", names) != names:
            raise MismatchError(f"{origin}: names other classes than the file or split before it; mend one")
    return Foreign("huggingface", in_order(splits), about)


def _values(part: Any, origin: str) -> dict[str, Sequence[Any]]:
    wanted = [n for n in part.column_names if n.lower() in PATH_COLUMNS + INDEX_COLUMNS + LABEL_COLUMNS]
    wanted = [n for n in wanted if getattr(part.features[n], "dtype", None) in {"string", "large_string"} or _whole(part.features[n])]
    try:
        columns = part.select_columns(wanted).with_format("python") if wanted else None
        return {name: list(columns[name]) for name in wanted} if columns is not None else {}
    except Exception as error:  # noqa: BLE001 - as above
        raise MismatchError(f"{origin}: not readable ({error}); save it again") from error


def _whole(feature: Any) -> bool:
    return "int" in str(getattr(feature, "dtype", ""))


def _class_names(part: Any) -> list[str] | None:
    for name in LABEL_COLUMNS:
        names = getattr(part.features.get(name), "names", None)
        if names:
            return [str(each) for each in names]
    return None
