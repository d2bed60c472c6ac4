"""Hugging Face data sets on disk, as `datasets.save_to_disk` writes them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ltdata.errors import MismatchError, UsageError
from ltdata.files import flush_tree, read_bytes, sha256_bytes, write_atomic
from ltdata.formats.about import about_from_json, about_json
from ltdata.formats.foreign import Foreign, ForeignSplit, in_order, split_named, split_of_file
from ltdata.formats.parquet import COLUMNS, from_columns, is_plain
from ltdata.images import Stored
from ltdata.lists import LABEL_COLUMNS
from ltdata.manifest import Manifest
from ltdata.samples import Samples
from ltdata.stored import stored

_ABOUT_NAME = "ltdata.json"
_BATCH = 256  # images in memory at once


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


def features(manifest: Manifest, *, by_path: bool, images: bool) -> Any:
    """Return the columns of a data set: image where there are some, label, and source_index or source_path.

    Raises:
        UsageError: datasets is not installed, or two classes have one name, which it does not take.
    """
    datasets = require()
    if len(set(manifest.class_names)) < manifest.num_classes:
        raise UsageError(f"{manifest.name}: two classes have one name, which a Hugging Face ClassLabel cannot hold")
    return datasets.Features(
        {
            **({"image": datasets.Image()} if images else {}),
            "label": datasets.ClassLabel(names=list(manifest.class_names)),
            "source_path" if by_path else "source_index": datasets.Value("string" if by_path else "int64"),
        }
    )


def fingerprint(manifest: Manifest, split: str, *, images: bool) -> str:
    """Return what datasets takes for a data set's identity: a function of the content, not of a file's place."""
    return sha256_bytes(f"{manifest.content_sha256} {split} {images}".encode())[:16]


def write(manifest: Manifest, rows: Mapping[str, Samples], out: Path, *, folder: Path | None) -> None:
    """Save splits as a `DatasetDict` into an empty folder, with the images where there are some.

    The same bytes for the same version of datasets and pyarrow.

    Args:
        manifest: the header.
        rows: by split.
        out: where it is saved.
        folder: of the build or view that has the images; None: rows only.

    Raises:
        UsageError: datasets is not installed.
        MismatchError: an image is not what its row says.
    """
    datasets = require()
    images = folder is not None and (manifest.has_images or manifest.view_of is not None)
    located = stored(folder, manifest, rows) if images and folder is not None else {}
    parts = {}
    scratch = out / "scratch"
    scratch.mkdir()
    for name, samples in rows.items():
        by_path = samples.source_path is not None
        columns = features(manifest, by_path=by_path, images=images)
        _write_arrow(scratch / f"{name}.arrow", columns.arrow_schema, samples, located.get(name))
        parts[name] = datasets.Dataset(
            datasets.table.MemoryMappedTable.from_file(str(scratch / f"{name}.arrow")),
            info=datasets.DatasetInfo(
                description=f"{manifest.name}, {name} split, content sha256 {manifest.content_sha256}",
                citation="\n".join(manifest.citation),
                features=columns,
            ),
            split=datasets.NamedSplit(name),
            fingerprint=fingerprint(manifest, name, images=images),
        )
    with _no_bars(datasets):
        datasets.DatasetDict(parts).save_to_disk(str(out))
    for name in rows:
        (scratch / f"{name}.arrow").unlink()
    scratch.rmdir()
    flush_tree(out)
    write_atomic(out / _ABOUT_NAME, about_json(manifest, rows).encode() + b"\n")


def _write_arrow(path: Path, schema: Any, samples: Samples, located: Stored | None) -> None:
    """Write rows, in their order, as an Arrow stream; few images are in memory at once."""
    import pyarrow as pa

    encoded = located.encoded() if located is not None else iter(())
    places = list(samples.places)
    labels = samples.labels.tolist()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for start in range(0, len(samples), _BATCH):
            end = min(start + _BATCH, len(samples))
            columns = {"label": labels[start:end], schema.names[-1]: places[start:end]}
            if located is not None:
                columns["image"] = [{"bytes": next(encoded)[0], "path": None} for _ in range(start, end)]
            arrays = [pa.array(columns[field.name], field.type) for field in schema]
            stream.write_batch(pa.record_batch(arrays, schema=schema))


@contextmanager
def _no_bars(datasets: Any) -> Iterator[None]:
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


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
    except Exception as error:  # json, pyarrow and file system errors share no base
        raise MismatchError(f"{folder}: not a readable Hugging Face data set ({error}); save it again") from error
    side = folder / _ABOUT_NAME
    about = about_from_json(read_bytes(side), str(side)) if side.is_file() else {}
    parts = loaded if isinstance(loaded, dict) else {split_of_file(str(loaded.split or folder.name)) or "train": loaded}
    splits: dict[str, ForeignSplit] = {}
    for word, part in parts.items():
        name, origin = split_named(str(word), str(folder)), f"{folder}: {word}"
        if name in splits:
            raise MismatchError(f"{folder}: two splits mean {name}; take one out")
        found = from_columns("huggingface", _values(part, origin), {}, origin=origin, split=name)
        if list(found.splits) != [name]:
            raise MismatchError(f"{origin}: its rows are of {', '.join(found.splits)}; mend the column that says so")
        splits[name] = found.splits[name]
        names = _class_names(part) or found.about.get("class_names")
        if names and about.setdefault("class_names", names) != names:
            raise MismatchError(f"{origin}: names other classes than {_ABOUT_NAME}, or another split; mend one")
    return Foreign("huggingface", in_order(splits), about)


def _values(part: Any, origin: str) -> dict[str, list[Any]]:
    try:
        schema = part.features.arrow_schema
        wanted = [field.name for field in schema if field.name.lower() in COLUMNS and is_plain(field.type)]
        table = part.select_columns(wanted).with_format("arrow")[:]
        return {name: table.column(name).to_pylist() for name in wanted}
    except Exception as error:  # as above
        raise MismatchError(f"{origin}: not readable ({error}); save it again") from error


def _class_names(part: Any) -> list[str] | None:
    for column in LABEL_COLUMNS:
        names = getattr(part.features.get(column), "names", None)
        if names:
            return [str(name) for name in names]
    return None
