"""Read anything that may say which images make a split: told apart by its name, read strictly."""

import os
from pathlib import Path

from ltdata import catalog
from ltdata.errors import MismatchError, SourceMissingError, UsageError
from ltdata.files import read_bytes
from ltdata.formats import arrays, huggingface, jsons, parquet, text
from ltdata.formats.about import about
from ltdata.formats.foreign import Foreign, ForeignSplit, from_samples, in_order, split_of_file
from ltdata.manifest import MANIFEST_NAME, SAMPLES_NAME
from ltdata.sources.tars import are_tars

SUFFIXES = (".txt", ".csv", ".tsv", ".npy", ".npz", ".json", ".parquet")


def are_shards(path: Path) -> bool:
    """Tell whether a path names shards of another tool: a .tar file, or a folder of some that is no build.

    Raises:
        UsageError: lists lie beside them, so that either may be meant.
    """
    if not os.path.isdir(path):  # noqa: PTH112 - takes names that no file can have
        return are_tars(path)
    if (path / MANIFEST_NAME).is_file() or huggingface.is_dataset(path) or not are_tars(path):
        return False
    lists = _lists(path)
    if lists:
        raise UsageError(
            f"{path}: holds shards, and {next(iter(lists.values())).name}; name the list itself, or move it"
        )
    return True


def read(path: Path) -> Foreign:
    """Read a file's splits, or a folder's.

    A file: text list, CSV or TSV, .npy, .npz, JSON, Parquet. A folder: a Hugging Face data set, an ltdata build or
    manifest, or train, val and test files of one of those forms (``train.txt``, ``NAME_train.txt``). Rows without a
    split are ``train``, unless the file's name ends in another one.

    Raises:
        SourceMissingError: it is not there, or cannot be read.
        UsageError: it is of no known form, or a library that reads it is not installed.
        MismatchError: it is not what its name says; names file and row.
    """
    if os.path.isdir(path):  # noqa: PTH112 - takes names that no file can have
        return _read_folder(path)
    if not os.path.isfile(path):  # noqa: PTH113 - as above
        raise SourceMissingError(f"{path}: no such file or folder; name a list, an array or an export")
    if path.name == MANIFEST_NAME and (path.parent / SAMPLES_NAME).is_file():
        return _read_build(path.parent)
    split = split_of_file(path.stem) or "train"
    match path.suffix.lower():
        case ".txt":
            return _with_rows(text.read_list(read_bytes(path), origin=str(path), split=split), path)
        case ".csv" | ".tsv":
            return _with_rows(text.read_table(read_bytes(path), origin=str(path), split=split), path)
        case ".npy":
            return _with_rows(arrays.read_npy(path, split=split), path)
        case ".npz":
            return _with_rows(arrays.read_npz(path, split=split), path)
        case ".json":
            return _with_rows(jsons.read_json(read_bytes(path), origin=str(path), split=split), path)
        case ".parquet":
            return _with_rows(parquet.read(path, split=split), path)
    if are_tars(path):
        raise UsageError(f"{path}: is a shard; make a build of it first, with ltdata import")
    raise UsageError(f"{path}: files named *{path.suffix} are not read; rename it to one of {', '.join(SUFFIXES)}")


def _with_rows(found: Foreign, path: Path) -> Foreign:
    if not any(len(split) for split in found.splits.values()):
        raise MismatchError(f"{path}: lists no image; give another file")
    return found


def _read_folder(folder: Path) -> Foreign:
    if (folder / MANIFEST_NAME).is_file():
        return _read_build(folder)
    if huggingface.is_dataset(folder):
        return _with_rows(huggingface.read(folder), folder)
    files = _lists(folder)
    if not files and are_tars(folder):
        raise UsageError(f"{folder}: holds shards and no list; make a build of them first, with ltdata import")
    if not files:
        raise SourceMissingError(f"{folder}: holds no train.txt, train.npy, ..., and no data set; name a file")
    parts = {split: read(path) for split, path in files.items()}
    splits: dict[str, ForeignSplit] = {}
    names: list[object] = [part.about.get("class_names") for part in parts.values()]
    for split, part in parts.items():
        if list(part.splits) != [split]:
            raise MismatchError(f"{files[split]}: holds {', '.join(part.splits)}, its name says {split}; name the file")
        splits[split] = part.splits[split]
    if any(name != names[0] for name in names):
        raise MismatchError(f"{folder}: its files name different classes; number them, or put them into one CSV")
    return Foreign(parts[next(iter(parts))].format, in_order(splits), {"class_names": names[0]} if names[0] else {})


def _lists(folder: Path) -> dict[str, Path]:
    """Find the list of each split in a folder."""
    files: dict[str, Path] = {}
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise SourceMissingError(f"{folder}: cannot be read ({error.strerror}); mend its permissions") from error
    for path in entries:
        split = split_of_file(path.stem)
        if split is None or path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        if split in files:
            raise UsageError(f"{folder}: {files[split].name} and {path.name} both mean {split}; name one file")
        files[split] = path
    return files


def _read_build(folder: Path) -> Foreign:
    manifest = catalog.find(str(folder), rows=True).manifest
    splits = {name: from_samples(samples) for name, samples in manifest.rows.items()}
    return Foreign("ltdata", splits, about(manifest, manifest.rows))
