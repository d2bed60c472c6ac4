"""Export: a split in the forms that other people's code reads."""

import os
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ltdata import output
from ltdata.errors import MismatchError, OutputError, UsageError
from ltdata.files import exclusive, make_folder, staged_folder, write_atomic
from ltdata.formats import arrays, described, huggingface, jsons, parquet, text
from ltdata.lists import path_fault
from ltdata.manifest import Manifest
from ltdata.samples import Samples, list_bytes


@dataclass(frozen=True)
class Form:
    """Describe a format.

    Attributes:
        suffixes: of its files; none where it is a folder.
        per_split: whether it has a file per split.
        about_files: whether it describes the files of a build, beside which it may stand.
    """

    suffixes: tuple[str, ...] = ()
    per_split: bool = False
    about_files: bool = False


FORMATS = {
    "list": Form((".txt",), per_split=True),
    "npy": Form((".npy",), per_split=True),
    "csv": Form((".csv",)),
    "json": Form((".json",)),
    "npz": Form((".npz",)),
    "parquet": Form((".parquet",)),
    "huggingface": Form(),
    "wids": Form((".json",), per_split=True, about_files=True),
    "croissant": Form((".json",), about_files=True),
    "counts": Form((".npy", ".json")),
}
_BY_SUFFIX = {
    suffix: name for name in ("list", "npy", "csv", "json", "npz", "parquet") for suffix in FORMATS[name].suffixes
}


def export(
    manifest: Manifest,
    out: Path,
    *,
    form: str | None = None,
    split: str | None = None,
    folder: Path | None = None,
    force: bool = False,
) -> list[Path]:
    """Write a split in another form; return the files written, or the one folder of a Hugging Face data set.

    Formats with a file per split (``list``, ``npy``, ``wids``) write the folder `out` with ``train.txt``, ...; with
    `split`, the one file `out`. All others write one file with all splits, or with `split` alone.

    Args:
        manifest: with its rows; for ``counts`` the header will do.
        out: a file, or a folder.
        form: one of `FORMATS`; None goes by the suffix of `out`.
        split: to write alone; None writes all, and of ``counts`` those of ``train``.
        folder: of the build or view, where there is one.
        force: replace what stands there.

    Raises:
        UsageError: there is no such format or split, the format cannot hold this split, a library is not installed,
            or something stands there.
        MismatchError: an image of the build is not what its row says.
        OutputError: it cannot be written.
    """
    name = form if form is not None else _form_of(out)
    if name not in FORMATS:
        raise UsageError(f"format {name!r}: choose one of {', '.join(FORMATS)}")
    if split is not None and split not in manifest.splits:
        raise UsageError(f"split {split!r}: {manifest.name} has {', '.join(manifest.splits)}")
    described_form = FORMATS[name]
    if not (described_form.about_files and folder is not None and _inside(out, folder)):
        output.resolve(out)
    elif output.is_own(out.name.lower()):  # in lower case, for file systems that know no other
        raise UsageError(f"--out {out}: is a file of the build itself; choose another name")
    if name == "counts":
        return [_write_file(out, _counts_bytes(manifest, split or "train", out), force=force)]
    rows = _checked(manifest, split)
    if name == "huggingface":
        with _new_folder(out, force=force) as staging:
            huggingface.write(manifest, rows, staging, folder=folder)
        return [out]
    if not described_form.per_split:
        return [_write_file(out, _one_file(name, manifest, rows, folder, out), force=force)]
    if len(rows) == 1 and (split is not None or out.suffix.lower() in described_form.suffixes):
        (only,) = rows
        return [_write_file(out, _split_file(name, manifest, only, rows[only], folder, out), force=force)]
    suffix = described_form.suffixes[0]
    if out.suffix.lower() == suffix:
        raise UsageError(
            f"--out {out}: format {name} has a file per split, and there are {', '.join(rows)}; name one with --split, "
            "or a folder for all"
        )
    files = {each: out / f"{each}{suffix}" for each in rows}
    data = {each: _split_file(name, manifest, each, rows[each], folder, files[each]) for each in rows}
    with _new_folder(out, force=force) as staging:
        for each, content in data.items():
            write_atomic(staging / files[each].name, content)
    return list(files.values())


def _inside(out: Path, folder: Path) -> bool:
    return os.path.realpath(out.parent) == os.path.realpath(folder)


def _form_of(out: Path) -> str:
    if out.suffix.lower() not in _BY_SUFFIX:
        raise UsageError(f"--out {out}: its suffix is none of {', '.join(_BY_SUFFIX)}; say the form with --format")
    return _BY_SUFFIX[out.suffix.lower()]


def _checked(manifest: Manifest, split: str | None) -> dict[str, Samples]:
    """Return the rows to write, refusing those that lists could not hold."""
    rows = {name: samples for name, samples in manifest.rows.items() if split in (None, name)}
    for name, samples in rows.items():
        if not len(samples):
            raise UsageError(f"{manifest.name}: its {name} split has no image; export the others with --split")
        fault = next(((path, found) for path in samples.source_path or () if (found := path_fault(path))), None)
        if fault is not None:
            raise MismatchError(f"{manifest.name}: path {fault[0]!r} of {name} {fault[1]}; no list can hold it")
    return rows


def _one_file(name: str, manifest: Manifest, rows: Mapping[str, Samples], folder: Path | None, out: Path) -> bytes:
    writers: dict[str, Callable[[], bytes]] = {
        "csv": lambda: text.table_bytes(rows),
        "json": lambda: jsons.json_bytes(manifest, rows),
        "npz": lambda: arrays.npz_bytes(manifest, rows),
        "parquet": lambda: parquet.to_bytes(manifest, rows),
        "croissant": lambda: described.croissant_bytes(manifest, rows, folder=folder, out=out),
    }
    return writers[name]()


def _split_file(name: str, manifest: Manifest, split: str, samples: Samples, folder: Path | None, out: Path) -> bytes:
    if name == "wids":
        return described.wids_bytes(manifest, split, folder=folder, out=out)
    if name == "list":
        blank = next((path for path in samples.source_path or () if path != path.rstrip()), None)
        if blank is not None:
            raise UsageError(f"{manifest.name}: path {blank!r} ends in a blank, which lists cannot hold; choose csv")
        data = list_bytes(samples)
        if data.startswith(BOM_UTF8):
            first = samples.places[0]
            raise UsageError(f"{manifest.name}: path {first!r} begins with a byte-order mark, as no list can; use csv")
        return data
    if samples.source_path is not None:
        raise UsageError(
            f"{manifest.name}: names its images by path, and format npy holds positions; choose list, csv or npz"
        )
    return arrays.npy_bytes(samples.positions)


def _counts_bytes(manifest: Manifest, split: str, out: Path) -> bytes:
    counts = manifest.splits[split].class_counts
    if out.suffix.lower() == ".json":
        return f"{list(counts)}\n".encode()
    if out.suffix.lower() == ".npy":
        return arrays.npy_bytes(np.array(counts, dtype=np.int64))
    raise UsageError(f"--out {out}: class counts are written as .npy or .json; name such a file")


def _write_file(out: Path, data: bytes, *, force: bool) -> Path:
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; name a file")
    if out.exists() and not force:
        raise UsageError(f"{out}: exists; choose another --out, or --force to replace it")
    make_folder(out.parent)
    write_atomic(out, data)
    return out


@contextmanager
def _new_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """Give a staging folder that becomes `out`; an older export there is replaced if `force`, anything else never."""
    folder = output.resolve(out)
    with exclusive(folder):
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder}: is a file; choose another --out")
        old = _files(folder)
        if old and not force:
            raise UsageError(f"{folder}: holds {min(old)} and more; choose another --out, or --force to replace it")
        with staged_folder(folder, replace=force) as staging:
            yield staging
            foreign = old - _files(staging)
            if foreign:
                raise UsageError(f"{folder}: --force would delete {min(foreign)}, which is no part of this export")


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
