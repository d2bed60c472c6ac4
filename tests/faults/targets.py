"""What is fuzzed: every reader of bytes that come from elsewhere, some inputs for it, and what must hold of its answer.

A target's `read` takes a mutant. Only the errors that the reader promises are caught; what it accepts is compared with
what the format says: the images that were stored, the rows that were written, what another decoder sees.
"""

import dataclasses
import io
import json
import pickle
import struct
import tarfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from photos import encoded, photo
from PIL import Image

from faults.mutator import (
    JSON,
    LINES,
    WORDS,
    Jpeg,
    Mutator,
    Npy,
    Opcodes,
    Parquet,
    Png,
    Safetensors,
    Tar,
    Zip,
    make_mutator,
)
from ltdata import engine, formats, images, index, metrics, png, reader, stored
from ltdata.build import write_images
from ltdata.errors import LtdataError, MismatchError, UsageError
from ltdata.files import sha256_bytes
from ltdata.formats import parquet
from ltdata.formats.arrays import npy_bytes, npz_bytes
from ltdata.formats.jsons import json_bytes
from ltdata.formats.text import table_bytes
from ltdata.images import Pixels
from ltdata.lists import path_fault
from ltdata.manifest import MANIFEST_NAME, Manifest, describe_rule, make_split, rows_from_bytes
from ltdata.predictions import match_labels, read_predictions
from ltdata.samples import Samples, content_digest, list_bytes, parse_rows, rows_to_bytes
from ltdata.sources import cifar, coco, tar_samples, tars
from ltdata.sources.cifar_forms import CIFAR100

_LABELS = np.array([0, 2, 1, 0, 3, 0, 12, 1, 0, 2, 0, 4, 5, 6, 7, 8, 9, 10, 11])
_CLASSES = 13
_MOST_CLASSES = 2_000  # of an imported list that is written and read again: a million names take a second
_SUFFIX = {"text": ".txt", "table": ".csv", "json": ".json", "npy": ".npy", "npz": ".npz", "parquet": ".parquet"}
_JSON_WORDS = (
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"[]",
    b"{}",
    b'""',
    b"0",
    b"-1",
    b"1e999",
    b"[" * 3000,
    b"9" * 5000,
)
_JSON_WORDS += (
    b'"\\ud800"',
    b'"\\u0000"',
    b'"a\\nb"',
    '"é"'.encode(),
    b'"../x"',
    b'"/etc/passwd"',
    b"0.5",
    b"[[0]]",
    b'{"a":' * 3000,
)


@dataclass(frozen=True)
class Target:
    """Hold what is fuzzed.

    Attributes:
        mutator: of its inputs.
        read: reads a mutant; raises what a reader must not raise, or that its answer is wrong.
    """

    mutator: Mutator
    read: Callable[[bytes], object]


@dataclass(frozen=True)
class Entry:
    """Say how a target is made in a folder of its own, and how many mutants are tried in `make faults`."""

    make: Callable[[Path], Target]
    mutants: int


def _samples(
    labels: NDArray[np.int64] = _LABELS, *, by_path: bool = False, sha256: Sequence[str] | None = None
) -> Samples:
    places = tuple([f"class {label}/é{row}.jpg" for row, label in enumerate(labels)])
    return Samples(
        labels.astype(np.int64),
        source_index=None if by_path else np.arange(len(labels), dtype=np.int64) * 7 + 1,
        source_path=places if by_path else None,
        sha256=tuple(sha256) if sha256 is not None else None,
    )


def _manifest(rows: dict[str, Samples], **more: object) -> Manifest:
    return Manifest(
        name="small-lt",
        source={"id": "mine", "version": "1", "terms": "your own"},
        protocol={"name": "import", "version": 1, "params": {"format": "csv", "seed": 3}},
        group_rule=describe_rule("strict"),
        class_names=tuple(f"class {label}" for label in range(_CLASSES)),
        splits={name: make_split(name, samples, num_classes=_CLASSES) for name, samples in rows.items()},
        content_sha256=content_digest("mine", rows),
        created_by={"ltdata": "0"},
        citation=("Someone, 2020",),
        samples=rows,
        **more,
    )


def _build(place: Path) -> Manifest:
    """Build a small set in a folder."""
    rows = {"train": _samples(), "test": _samples(np.arange(_CLASSES))}
    noise = np.random.RandomState(0)
    stored_ = {n: Pixels(noise.randint(0, 256, (len(s), 4, 5, 3), dtype=np.uint8)) for n, s in rows.items()}
    with engine.start(1) as crew:
        return write_images(_manifest(rows), rows, stored_, place, crew=crew, seed=3)


# --- built folders


def shard(place: Path, *, mixed: bool) -> Target:
    """Shards: what is accepted holds the images that were stored, under their rows, and nothing else."""
    files = [
        photo(row, size=(5 + row, 4), form="JPEG" if row % 2 else "PNG")
        if mixed
        else png.encode(np.full((4, 5, 3), 11 * row, np.uint8))
        for row in range(5)
    ]
    labels = np.array([0, 12, 1, 0, 3])
    samples = _samples(labels, sha256=[sha256_bytes(data) for data in files])
    order = [3, 0, 4, 1, 2]
    data = b"".join(_member(row, int(labels[row]), files[row]) for row in order)
    data += bytes(2 * tarfile.BLOCKSIZE + -(len(data) + 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE)
    entry = reader.Shard("train/few-000000.tar", len(files), len(data), sha256_bytes(data))
    stored_ = dict(enumerate(files))
    unnamed = replace(samples, sha256=None)

    def read(data: bytes) -> bool:
        found = _walked(data, place, entry, samples)
        alike = reader._alike(data, entry, samples)
        if found is not None:
            assert {member.row: member.image for member in found} == stored_
            assert all(data[m.offset : m.offset + len(m.image)] == m.image for m in found)
        if alike is not None:
            assert found is not None
            assert alike[0].tolist() == [member.row for member in found]
            assert [each.tobytes() for each in alike[1]] == [member.image for member in found]
        without = _walked(data, place, entry, unnamed)
        if without is not None:  # nothing vouches for the images: at least, all is as it would have been written
            written = b"".join(_member(m.row, int(labels[m.row]), m.image, m.name.rpartition(".")[2]) for m in without)
            assert data.startswith(written)
            assert not any(data[len(written) :])
        return without is not None

    return Target(make_mutator([data], Tar(), [b"00000001.cls", b"00000002.png", b"..", b"/", b"ustar\x0000"]), read)


def _walked(data: bytes, place: Path, entry: reader.Shard, samples: Samples) -> list[reader.Member] | None:
    try:
        return list(reader.walk(data, place, entry, samples))
    except MismatchError:
        return None


def _member(row: int, label: int, image: bytes, suffix: str | None = None) -> bytes:
    head = reader.header(f"{reader.key(row)}.{suffix or images.kind(image, '')}", len(image))
    return reader.label_member(row, label) + head + image + bytes(-len(image) % tarfile.BLOCKSIZE)


def header(place: Path) -> Target:
    """Headers: what is accepted can be written, and is then the same; with the rows, it holds the same rows."""
    whole = _build(place)
    rows = {"train": _samples(by_path=True), "val": _samples(by_path=True)}
    other = _manifest(
        rows,
        superclass_names=tuple("abcdefghijklm"),
        storage={"max_side_px": 8, "encoder": "x"},
        class_groups=(0, 1, 2, 2, 2, 1, 0, 0, 0, 1, 1, 2, 2),
        view_of={"path": "../other", "content_sha256": "0" * 64},
    )
    digest = whole.content_sha256

    def read(data: bytes) -> bool:
        (place / MANIFEST_NAME).write_bytes(data)
        try:
            found = reader.read_manifest(place)
        except LtdataError:
            return False
        text = found.to_json()
        text.encode()
        assert Manifest.from_json(text, origin="again").to_json() == text
        _ = found.groups, found.class_counts, found.verified, found.has_images, found.digest
        try:
            rows = reader.read_samples(place, found)
        except LtdataError:
            return True
        assert content_digest(str(found.source["id"]), rows) == found.content_sha256
        assert found.content_sha256 != digest or rows["train"].labels.tolist() == _LABELS.tolist()
        for name, samples in rows.items():
            with _refusing():
                reader.shard_plans(found, name, samples)
        with _refusing():
            reader.open_store(place, found, rows)
        for split in found.splits.values():
            for each in split.shards:
                with _refusing():
                    reader.read_shard(place, each)
        return True

    tokens = (*_JSON_WORDS, b'"val"', b'"test"', b'"train/many-000000.tar"', b'"../train/few-000000.tar"', b'"strict"')
    return Target(make_mutator([whole.to_json().encode(), other.to_json().encode()], JSON, tokens), read)


class _refusing:  # noqa: N801 - reads like contextlib's own; a generator takes ten times as long
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, LtdataError)


def rows(place: Path, *, by_path: bool) -> Target:
    """Rows: what is accepted, under a header with their digest, is what was written, byte by byte."""
    train, test = (
        _samples(labels, by_path=by_path, sha256=["ab" * 32] * len(labels)) for labels in (_LABELS, np.arange(5))
    )
    written = {"train": train, "test": test}
    manifest = _manifest(written)
    data = b"".join(rows_to_bytes(name, samples) for name, samples in written.items())
    first = len(_LABELS)

    def read(data: bytes) -> bool:
        lines = data.splitlines(keepends=True)
        parts = {"train": b"".join(lines[:first]), "test": b"".join(lines[first : first + 5])}
        splits = {
            name: replace(split, samples_sha256=sha256_bytes(parts[name])) for name, split in manifest.splits.items()
        }
        for part in parts.values():
            with _refusing():
                parse_rows(part, origin="rows")
        try:
            found = rows_from_bytes(data, replace(manifest, splits=splits), origin="rows")
        except MismatchError:
            return False
        assert b"".join(rows_to_bytes(name, samples) for name, samples in found.items()) == data
        assert all(list_bytes(found[name]) == list_bytes(samples) for name, samples in written.items())
        return True

    tokens = (*_JSON_WORDS, b'"source_path"', b'"source_index"', b'"label"', b'"sha256"', b"\r", b"\n", b"\n\n")
    return Target(make_mutator([data], WORDS if by_path else JSON, tokens), read)


def index_file(place: Path) -> Target:
    """The index: whatever it says, an image that is read by it is the row's; and only its own bytes match."""
    manifest = _build(place)
    assert manifest.samples is not None
    store = reader.open_store(place, manifest, manifest.samples)
    path = place / index.INDEX_NAME
    data = path.read_bytes()
    columns = dict(np.load(io.BytesIO(data)))
    samples = manifest.samples["test"]
    paths = [place / shard.path for shard in manifest.splits["test"].shards]
    right = [image for image, _ in stored.stored(place, manifest, manifest.samples)["test"].encoded()]

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        same = index.matches(data, columns)
        found = stored._indexed(store, "test", len(samples))
        assert found is not None or not same
        if found is None:
            return False
        number, offset, size = found.tolist()
        located = images.Stored([paths[each] for each in number], offset, size, samples.sha256 or ())
        try:
            assert [image for image, _ in located.encoded()] == right
        except MismatchError:
            assert not same
        return same

    packed = io.BytesIO()
    np.savez_compressed(packed, **columns)
    return Target(make_mutator([data, packed.getvalue()], Zip(), _ARRAY_WORDS), read)


# --- images


def stored_png(place: Path) -> Target:
    """Our own PNG files: what is decoded at once gives, encoded, the same file."""
    files = [png.encode(np.random.RandomState(n).randint(0, 256, (4, 5, 3), dtype=np.uint8)) for n in range(3)]

    def read(data: bytes) -> bool:
        together = [data, *(file for file in files if len(file) == len(data))]
        found = png.decode_many(together)
        if found is None:
            return False
        for file, pixels in zip(together, found, strict=True):
            again = png.encode(pixels)
            head = len(again) - 20  # CRC and Adler-32 of the pixels are not looked at, a digest of the file is
            assert (file[:head], file[-12:]) == (again[:head], again[-12:])
        return True

    return Target(make_mutator(files, Png(), [b"IHDR", b"IDAT", b"IEND"]), read)


def png_image(place: Path) -> Target:
    """PNG files of anyone: what is decoded has the size that its header says, in RGB."""
    noise = np.random.RandomState(0).randint(0, 256, (7, 9, 4), dtype=np.uint8)
    modes = [Image.fromarray(noise[:, :, :3]).convert(mode) for mode in ("RGB", "L", "P", "1", "RGBA", "LA")]
    files = [encoded(image, "PNG") for image in modes]
    files.append(encoded(Image.fromarray(noise.astype(np.uint16)[:, :, 0] * 257), "PNG"))
    files.append(encoded(modes[2], "PNG", transparency=0, exif=_exif()))

    def read(data: bytes) -> bool:
        try:
            found = reader.decode(data)
        except ValueError:
            return False
        assert found.dtype == np.uint8
        assert found.ndim == 3
        assert data.startswith((b"\x89PNG", b"\xff\xd8"))
        if data[12:16] == b"IHDR" and data.count(b"IHDR") == 1:
            width, height = struct.unpack(">II", data[16:24])
            assert found.shape == (height, width, 3)
        return True

    tokens = (
        b"IHDR",
        b"IDAT",
        b"IEND",
        b"PLTE",
        b"tRNS",
        b"iCCP",
        b"eXIf",
        b"acTL",
        b"zTXt",
        b"iTXt",
        b"gAMA",
        b"fdAT",
    )
    return Target(make_mutator(files, Png(), tokens), read)


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a"
    return exif.tobytes()


def jpeg_image(place: Path) -> Target:
    """JPEG files: the trainer's decoder takes what ltdata's takes, and sees the same pixels, also in a part."""
    from ace_ref import jpeg

    files = [
        photo(1, size=(19, 17)),
        photo(2, size=(16, 24), mode="L"),
        encoded(Image.open(io.BytesIO(photo(3, size=(21, 18)))), "JPEG", progressive=True, exif=_exif()),
        encoded(Image.open(io.BytesIO(photo(4))).convert("CMYK"), "JPEG"),
        encoded(Image.open(io.BytesIO(photo(5, size=(33, 18)))), "JPEG", subsampling=0, restart_marker_blocks=1),
        encoded(
            Image.open(io.BytesIO(photo(6))), "MPO", save_all=True, append_images=[Image.open(io.BytesIO(photo(7)))]
        ),
    ]

    def read(data: bytes) -> bool:
        with _refusing_values():
            jpeg.size(data)
        with _refusing_values():
            jpeg.resized_crop(data, lambda height, width: (0, 0, (height + 1) // 2, width), side_px=4)
        pixels = None
        with _refusing_values():
            pixels = np.asarray(images.decode(data))
        try:
            found = jpeg.decode(data)
        except ValueError:
            assert pixels is None
            return False
        assert pixels is not None
        assert np.array_equal(found, pixels)
        assert jpeg.size(data) == pixels.shape[:2]
        return True

    tokens = (
        b"\xff\xd8",
        b"\xff\xd9",
        b"\xff\xda",
        b"\xff\xc0",
        b"\xff\xc2",
        b"\xff\xdd",
        b"\xff\xff",
        b"Exif\0\0",
        b"JFIF\0",
    )
    return Target(make_mutator(files, Jpeg(), tokens), read)


def any_image(place: Path) -> Target:
    """Images of every kind that is scaled down: a JPEG or a PNG that can be decoded comes out, no longer than asked."""
    noise = np.random.RandomState(0).randint(0, 256, (7, 9, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    files = [encoded(image, form) for form in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")]
    files += [encoded(image, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")]
    files += [encoded(image, "GIF", save_all=True, append_images=[image]), encoded(image.convert("1"), "PPM")]
    files += [encoded(image.convert("P"), "BMP"), encoded(image.convert("RGBA"), "WEBP", lossless=True)]

    def read(data: bytes) -> bool:
        try:
            small, kind = images.shrink(data, "a file", 8)
        except MismatchError:
            return False
        assert kind == images.kind(small, "")
        assert max(images.decode(small).size) <= 8
        return True

    tokens = (
        b"II*\0",
        b"MM\0*",
        b"RIFF",
        b"WEBPVP8L",
        b"VP8X",
        b"GIF89a",
        b"BM",
        b"P6 9 7 255 ",
        b"P5\n",
        b"\x2c",
        b"\x21\xf9",
    )
    return Target(make_mutator(files, LINES, tokens), read)


class _refusing_values(_refusing):  # noqa: N801 - as above
    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, ValueError)


# --- lists and arrays of anyone


_ARRAY_WORDS = (
    b"'<i8'", b"'|O'", b"'<U3'", b"'|V9'", b"'>f4'", b"'|b1'", b"True", b"(-1,)", b"(2, 2)", b"()", b"(99999999999,)",
    b"\x93NUMPY\x02\0", b"[('a','<i8')]", b"'M8[s]'", b"train_index.npy\0", b"label.npy\0", b"../x.npy\0",
    b"about.npy\0", b"PK\3\4", b"PK\1\2", b"PK\5\6", b"nan", b"inf",
)  # fmt: skip


def imported(place: Path, *, form: str) -> Target:
    """Files of splits: what is imported can be written as manifest and rows, and is then the same."""
    path = place / f"train{_SUFFIX[form]}"
    by_path, by_index = (
        {"train": _samples(by_path=each), "test": _samples(_LABELS[:5] * 0 + 1, by_path=each)} for each in (True, False)
    )
    by_path["test"] = replace(by_path["test"], source_path=tuple(f"test/{n}.jpg" for n in range(5)))
    by_index["test"] = replace(by_index["test"], source_index=np.arange(5) + 1000)
    manifests = [_manifest(each) for each in (by_path, by_index)]
    pairs = list(zip(manifests, (by_path, by_index), strict=True))

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        try:
            given = formats.read(path)
        except LtdataError:
            return False
        for part in given.splits.values():
            assert part.labels is None or (len(part.labels) == len(part) and part.labels.min(initial=0) >= 0)
        try:
            found = formats.import_(path, source="mine")
        except LtdataError:
            return True
        if found.num_classes > _MOST_CLASSES:
            return True
        lines = {name: rows_to_bytes(name, samples) for name, samples in found.rows.items()}
        splits = {
            name: replace(split, samples_sha256=sha256_bytes(lines[name])) for name, split in found.splits.items()
        }
        again = Manifest.from_json(replace(found, splits=splits).to_json().encode().decode(), origin="again")
        rows = rows_from_bytes(b"".join(lines.values()), again, origin="again")
        assert {name: list_bytes(s) for name, s in rows.items()} == {n: list_bytes(s) for n, s in found.rows.items()}
        assert all(
            not path.startswith("/") and ".." not in path.split("/")
            for s in rows.values()
            for path in s.source_path or ()
        )
        return True

    match form:
        case "text":
            inputs = [list_bytes(by_path["train"]), list_bytes(by_index["train"]), b"1\n2\n5\n", b"a/b.jpg cat\n"]
            tokens = (
                b"\t",
                b" ",
                b"\r\n",
                b"\xef\xbb\xbf",
                b"# ",
                b"../",
                b"//",
                b"\0",
                b"\xff",
                "é".encode(),
                b"nan",
                b"1_0",
            )
            mutator = make_mutator(inputs, WORDS, tokens)
        case "table":
            names = b'path;split;class\na/b.jpg;val;cat\n"c""d/e.jpg";train;dog\n'
            tokens = (
                b",",
                b";",
                b"\t",
                b'"',
                b'""',
                b"\r",
                b"\r\n",
                b"label",
                b"source_path",
                b"split",
                b"\0",
                b"nan",
                b" ",
            )
            mutator = make_mutator([table_bytes(by_path), table_bytes(by_index), names], WORDS, tokens)
        case "json":
            said = [json_bytes(*pair) for pair in pairs]
            said += [json.dumps(each).encode() for each in _JSON_FORMS]
            keys = (
                b'"train"',
                b'"labels"',
                b'"about"',
                b'"indices"',
                b'"annotations"',
                b'"images"',
                b'"source"',
                b'"val"',
            )
            mutator = make_mutator(said, JSON, (*_JSON_WORDS, *keys))
        case "npy":
            arrays = [np.arange(5), np.arange(5, dtype=">u2"), np.array([[1.5]]), np.array(["a", "b"])]
            mutator = make_mutator([npy_bytes(arrays[0]), *map(_npy, arrays[1:])], Npy(), _ARRAY_WORDS)
        case "npz":
            mutator = make_mutator([npz_bytes(*pair) for pair in pairs], Zip(), _ARRAY_WORDS)
        case "parquet":
            mutator = make_mutator(
                [parquet.to_bytes(*pair) for pair in pairs], Parquet(), [b"label", b"PAR1", b"split"]
            )
    return Target(mutator, read)


_JSON_FORMS = (
    [1, 2, 3],
    {"train": [1, 5], "val": [3]},
    {"train": {"label": {"a.jpg": 0, "b.jpg": 1}}, "test": {"label": {"c.jpg": 1}}},
    {"annotations": [{"fpath": "a.jpg", "category_id": 0, "image_id": 1}], "num_classes": 2},
    {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "category_id": 3}]},
    {"indices": [4, 2], "labels": [0, 1]},
)


def _npy(array: NDArray[np.generic]) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def coco_file(place: Path) -> Target:
    """COCO-style files: every image is given with the label of its annotation."""
    categories = [{"id": n, "name": f"n{n}", "supercategory": "s"} for n in range(3)]
    shown = [{"id": 7 - n, "file_name": f"train/{n}.jpg", "width": 8} for n in range(4)]
    record = {"images": shown, "annotations": [{"id": n, "image_id": 7 - n, "category_id": n % 3} for n in range(4)]}
    inputs = [json.dumps(each).encode() for each in (record | {"categories": categories}, categories)]
    path = place / "categories.json"

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        with _refusing():
            names, superclasses = coco.read_categories(path, 3)
            assert len(names) == len(superclasses) == 3
        try:
            listed = coco.read_coco(data, origin="coco")
            paths, labels = listed.paths, listed.labels(3).tolist()
        except LtdataError:
            return False
        record = json.loads(data)
        label_of = {each["image_id"]: each["category_id"] for each in record["annotations"]}
        named = {each["id"]: each["file_name"] for each in record["images"]}
        assert dict(zip(paths, labels, strict=True)) == {named[n]: int(label_of[n]) for n in named}
        return True

    return Target(make_mutator(inputs, JSON, (*_JSON_WORDS, b'"images"', b'"id"', b'"image_id"')), read)


def foreign_tar(place: Path) -> Target:
    """Shards of other tools: every image is given with its bytes, as Python's own reader sees them, and its label."""
    path = place / "train-000000.tar"
    files = {
        f"a/{n:03}.{'jpg' if n % 2 else 'png'}": photo(n, size=(4, 4), form="JPEG" if n % 2 else "PNG")
        for n in range(4)
    }
    inputs = [
        _packed(files | {f"a/{n:03}.cls": b"%d" % n for n in range(4)} | {"__doc__/x.txt": b"x"}, tarfile.USTAR_FORMAT),
        _packed({f"{'long/' * 30}{n}.{kind}": data for n in range(2) for kind, data in
                 (("jpg", photo(n, size=(4, 4))), ("json", b'{"label": "cat%d"}' % n))}, tarfile.GNU_FORMAT),
        _packed({f"é{n}.{kind}": data for n in range(2) for kind, data in
                 (("png", photo(n, size=(4, 4), form="PNG")), ("json", b'{"class": %d}' % n))}, tarfile.PAX_FORMAT),
    ]  # fmt: skip

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        try:
            archives = tars.find(path)
            found = tar_samples.read(path)
            source = tars.source_of(path, archives, [found])
        except LtdataError:
            return False
        assert found.sha256 == sha256_bytes(data)
        images_ = source.splits["train"].images
        assert images_ is not None
        taken = [image for image, _ in images_.encoded()]
        assert all(sha256_bytes(image) == digest for image, digest in zip(taken, found.image_sha256, strict=True))
        with suppress(tarfile.TarError, UnicodeError), tarfile.open(fileobj=io.BytesIO(data)) as tar:
            theirs = {}
            for member in tar:
                stream = tar.extractfile(member) if member.isreg() else None
                if stream is not None:
                    theirs[member.name.removeprefix("./")] = stream.read()
            # It stops in silence at what it takes for an end, so some may be missing there.
            assert all(theirs.get(name, image) == image for name, image in zip(found.names, taken, strict=True))
        assert all(path_fault(path) is None for path in source.splits["train"].paths or ())
        return True

    tokens = [b"../x.jpg", b"/x.jpg", b"ustar  \0", b"ustar\x0000", b"\x80\0\0\0\0\0\0\0\0\0\0\1", b"12 path=b.jpg\n"]
    tokens += [
        b"GNU.sparse.size=9\n",
        b"6 a=b\n",
        b".cls",
        b".jpg",
        b".json",
        b".pth",
        b".pkl",
        b'{"label": 1}',
        b"-1",
        b"1_0",
    ]
    return Target(make_mutator(inputs, Tar(), tokens), read)


def _packed(files: dict[str, bytes], form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue().rstrip(b"\0").ljust(-(-len(out.getvalue().rstrip(b"\0")) // 512) * 512 + 1024, b"\0")


def predictions(place: Path) -> Target:
    """Predictions: what is accepted is evaluated, every figure is a percentage or is not there."""
    path = place / "predictions.npz"
    manifest = _manifest({"train": _samples(), "test": _samples()})
    logits = np.random.RandomState(0).randn(len(_LABELS), _CLASSES).astype(np.float32)
    inputs = []
    for arrays in ({"logits": logits, "labels": _LABELS}, {"predictions": _LABELS}, {"probs": logits.astype("f8")}):
        out = io.BytesIO()
        np.savez(out, **arrays)
        inputs.append(out.getvalue())

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        try:
            found = read_predictions(path)
            labels = match_labels(found, manifest, "test", any_order=len(data) % 2 == 0)
            result = metrics.evaluate(
                labels,
                found.predictions,
                logits=found.logits,
                probabilities=found.probabilities,
                class_counts=manifest.class_counts,
                rule="strict",
            )
        except LtdataError:
            return False
        assert result.images == len(_LABELS)
        assert all(value is None or -100 <= value <= 100 for value in result.figures.values())
        return True

    words = (*_ARRAY_WORDS, b"labels.npy\0", b"logits.npy\0", b"predictions.npy\0", b"probs.npy\0")
    return Target(make_mutator([*inputs, _npy(_LABELS), _npy(logits)], _ZipOrNpy(), words), read)


class _ZipOrNpy(Zip):
    """Zips of arrays, and arrays alone, which are cut into lines."""

    def split(self, data: bytes) -> list[bytes]:
        return super().split(data) if data.startswith(b"PK") else [data]

    def join(self, parts: Sequence[bytes]) -> bytes:
        return parts[0] if len(parts) == 1 and parts[0].startswith(b"\x93") else super().join(parts)


# --- CIFAR's own files


def cifar_pickle(place: Path) -> Target:
    """The pickles of CIFAR: what is accepted are bytes of images and labels; nothing is looked up or called."""
    pixels = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)
    record = {b"data": pixels, b"fine_labels": [3, 99], b"filenames": [b"a.png", b"b.png"], b"batch_label": b"x"}
    names = {b"fine_label_names": [b"c%d" % n for n in range(100)]}
    inputs = [
        pickle.dumps(record, protocol=3),
        pickle.dumps(record, protocol=2, fix_imports=False),
        pickle.dumps(names, protocol=3),
    ]
    inputs = [inputs[0], inputs[2]]

    def read(data: bytes) -> bool:
        held = cifar._Found(CIFAR100.python, place, {"train": data, "meta": data}, {})
        with _refusing():
            assert len(cifar._class_names(CIFAR100, held, pickled=True)) == 100
        try:
            found, labels = cifar._parsed(held, "train", partial(cifar._parse_pickle, CIFAR100))
        except MismatchError:
            return False
        assert found.dtype == np.uint8
        assert found.shape == (len(labels), 3072)
        assert all(0 <= label < 100 for label in labels)
        return True

    tokens = [
        b"r\xff\xff\xff\x7f",
        b"cos\nsystem\n",
        b"R",
        b".",
        b"0",
        b"(",
        b"t",
        b"\x85",
        b"}",
        b"]",
        b"e",
        b"u",
        b"b",
    ]
    tokens += [
        b"j\xff\xff\xff\x7f",
        b"\x8a\x08" + b"\xff" * 8,
        b"I" + b"9" * 5000 + b"\n",
        b"\x93",
        b"\x81",
        b"\x82\x01",
        b"\x97",
    ]
    tokens += [
        b"cnumpy\ndtype\n",
        b"cnumpy\nndarray\n",
        b"cnumpy._core.multiarray\n_reconstruct\n",
        b"P0\n",
        b"Q",
        b"q\0",
        b"h\0",
    ]
    return Target(make_mutator(inputs, Opcodes(), tokens), read)


def cifar_archive(place: Path) -> Target:
    """The archives of CIFAR: wanted members are given whole, nothing is extracted, no link is followed."""
    wanted = {"train.bin": b"t" * 700, "test.bin": b"e" * 20, "fine_label_names.txt": b"n"}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in wanted.items():
            member = tarfile.TarInfo(f"cifar-100-binary/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    data = out.getvalue()[: 9 * 512 + 1024]

    def read(data: bytes) -> bool:
        packer = zlib.compressobj(0, wbits=31)
        packed = packer.compress(data) + packer.flush()
        if zlib.crc32(data) % 8 == 0:  # what a broken gzip is
            at = zlib.crc32(data) // 8 % len(packed)
            packed = packed[:at] + bytes([data[0] if data else 0]) + packed[at + 1 :]
        try:
            found = cifar._members(io.BytesIO(packed), "cifar-100-binary", list(wanted), place)
        except MismatchError:
            return False
        assert set(found) == set(wanted)
        assert all(len(each) <= len(data) for each in found.values())
        return True

    tokens = [
        b"cifar-100-binary/train.bin",
        b"../x",
        b"/tmp/x",
        b"ustar  \0",
        b"ustar\x0000",
        b"\x80\0\0\0\0\0\0\1",
        b"9 path=x\n",
    ]
    tokens += [b"20 linkpath=/etc/x\n", b"GNU.sparse.size=9\n", b"6 a=\n", b"LKxg"]
    return Target(make_mutator([data], Tar(), tokens), read)


# --- the trainer


def recipe_word(place: Path) -> Target:
    """Words after --set, and recipes out of JSON: what is accepted comes back the same from JSON."""
    from ace_ref import recipe as recipes

    plain = recipes.load_recipe("tiny", "ace", source="cifar100", imbalance_factor=100)
    inputs = [
        b"thresholds=[0.4, 0.1]",
        b"planner=groups",
        b"lr=0.1",
        b"epochs=3",
        b'mean=[1.0, "a"]',
        b"flip=true",
        b"cuts=[1, 2]",
    ]
    inputs += [b"sampler = 'class-balanced'", b"label_smoothing=1e-3", b"backbone={a.b = 1}", b"milestones=[[1]]"]

    def read(data: bytes) -> bool:
        text = data.decode("utf-8", "surrogateescape")  # as the command line has it
        try:
            name, value = recipes.parse_override(text)
            found = plain.with_values({name: value})
        except UsageError:
            return False
        assert recipes.from_json(json.loads(json.dumps(dataclasses.asdict(found)))) == found
        return True

    tokens = [f"{field.name}=".encode() for field in dataclasses.fields(plain)]
    tokens += [
        b"nan",
        b"inf",
        b"-inf",
        b"-1",
        b"[",
        b"]",
        b"{",
        b"'''",
        b'"',
        b"\n",
        b"#",
        b"\xff",
        b"1979-05-27",
        b"0x1",
        b"1_0",
        b"[" * 3000,
        b"9" * 5000,
    ]
    return Target(make_mutator(inputs, WORDS, tokens), read)


def recipe_record(place: Path) -> Target:
    """Recipes out of JSON."""
    from ace_ref import recipe as recipes

    made = [recipes.load_recipe("tiny", method, source="cifar100", imbalance_factor=100) for method in ("ace", "ride")]

    def read(data: bytes) -> bool:
        try:
            record = json.loads(data)
        except (ValueError, RecursionError):
            return False
        if not isinstance(record, dict):
            return False
        try:
            found = recipes.from_json(record)
        except (UsageError, TypeError):  # a value is missing
            return False
        assert recipes.from_json(json.loads(json.dumps(dataclasses.asdict(found)))) == found
        return True

    return Target(
        make_mutator([json.dumps(dataclasses.asdict(each)).encode() for each in made], JSON, _JSON_WORDS), read
    )


def checkpoint(place: Path, *, sealed: bool) -> Target:
    """Checkpoints: what is accepted holds the weights that were written; sealed anew, a network of its recipe."""
    from safetensors.torch import load, save

    from ace_ref import checkpoint as checkpoints
    from ace_ref import recipe as recipes

    path = place / "model.safetensors"
    recipe = recipes.load_recipe("tiny", "ce", source="cifar100", imbalance_factor=100)
    model = checkpoints.make_network(recipe, experts=1, num_classes=2)
    held = checkpoints.Checkpoint(
        model, recipe, np.ones((1, 2), bool), dict.fromkeys(("name", "content_sha256", "samples_sha256"), "x"), 0
    )
    checkpoints.save_checkpoint(path, held, checkpoints.Progress(1, 2, 0.5, (0.1,), ({"epoch": 1, "loss": [0.1]},)))
    whole = path.read_bytes()
    weights = load(whole)
    (length,) = struct.unpack_from("<Q", whole)
    record = json.loads(whole[8 : 8 + length])["__metadata__"]["ace_ref"]

    def seal(data: bytes) -> bytes:
        """Write a checkpoint with this header, and the digest that it then has."""
        header = json.loads(data)
        header["sha256"] = checkpoints._digest({k: v for k, v in header.items() if k != "sha256"}, weights)
        return save(weights, metadata={"ace_ref": json.dumps(header)})

    def read(data: bytes) -> bool:
        if sealed:
            try:
                data = seal(data)
            except (ValueError, RecursionError, TypeError, AttributeError):
                return False
        path.write_bytes(data)
        try:
            found, progress = checkpoints.load_progress(path)
        except MismatchError:
            return False
        state = found.model.state_dict()
        assert all(np.array_equal(state[name].numpy(), tensor.numpy()) for name, tensor in weights.items())
        assert sealed or (found.recipe == recipe and progress is not None)
        return True

    mutator = (
        make_mutator([record.encode()], JSON, _JSON_WORDS)
        if sealed
        else make_mutator([whole], Safetensors(), (b'"F32"', b'"dtype"', *_JSON_WORDS))
    )
    return Target(mutator, read)


def result_record(place: Path) -> Target:
    """Records of trainings: what is accepted is laid out as a table."""
    from ace_ref import recipe as recipes
    from ace_ref import report, summary

    path = place / "result.json"
    accuracy = {"overall": 50.0, "many": 60.5, "medium": None, "few": 0.0, "class_balanced": 40.0}
    made = recipes.load_recipe("tiny", "ace", source="cifar100", imbalance_factor=100)
    record = {
        "schema_version": 1,
        "method": "ace",
        "recipe_name": "tiny",
        "recipe": dataclasses.asdict(made),
        "seed": 1,
        "split": {
            "name": "x",
            "content_sha256": "0",
            "group_rule": "strict",
            "source": "cifar100",
            "imbalance_factor": 100,
        },
        "accuracy": {"last": accuracy | {"experts": [accuracy]}, "best_on_test": None},
        "train_loss": {"last": [1.0]},
        "history": [
            {"epoch": 1, "loss": [2.0, 1.0], "lr": 0.1, "test": accuracy},
            {"epoch": 2, "loss": [1.0, 1.0], "lr": 0.1},
        ],
        "parameters": 10,
        "flops_per_image": 20,
    }

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        try:
            rows = summary.summarise(report.load_results((path,)))
        except LtdataError:
            return False
        summary.table(rows)
        report.markdown(rows)
        return True

    return Target(make_mutator([json.dumps(record).encode()], JSON, _JSON_WORDS), read)


def cache_file(place: Path) -> Target:
    """Caches of decoded images: a damaged one is made anew."""
    import torch

    from ace_ref import loading

    arrays = {"pixels": np.arange(90, dtype=np.uint8).reshape(2, 3, 5, 3)}
    manifest, memory = (
        _manifest({"train": _samples(), "test": _samples()}),
        loading.Memory(torch.device("cpu"), None, True),
    )

    def load(decode: Callable[[], dict[str, NDArray[np.uint8]]]) -> dict[str, NDArray[np.uint8]]:
        with patch.object(loading, "cache_folder", return_value=place):
            return loading._cached(memory, "train", manifest, {"pixels": None}, decode)

    load(lambda: arrays)
    (path,) = (place / loading.CACHE_NAME).iterdir()
    data = path.read_bytes()

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        made: list[dict[str, NDArray[np.uint8]]] = []

        def decode() -> dict[str, NDArray[np.uint8]]:
            made.append(arrays)
            return arrays

        found = load(decode)
        assert set(found) == set(arrays)
        assert np.array_equal(found["pixels"], arrays["pixels"])
        return not made

    return Target(make_mutator([data], LINES, _ARRAY_WORDS), read)


TARGETS = {
    "shard": Entry(partial(shard, mixed=False), 100_000),
    "mixed shard": Entry(partial(shard, mixed=True), 60_000),
    "header": Entry(header, 70_000),
    "rows with positions": Entry(partial(rows, by_path=False), 100_000),
    "rows with paths": Entry(partial(rows, by_path=True), 100_000),
    "index": Entry(index_file, 40_000),
    "stored png": Entry(stored_png, 80_000),
    "png": Entry(png_image, 60_000),
    "jpeg": Entry(jpeg_image, 60_000),
    "any image": Entry(any_image, 40_000),
    **{form: Entry(partial(imported, form=form), 50_000) for form in _SUFFIX},
    "foreign tar": Entry(foreign_tar, 80_000),
    "coco": Entry(coco_file, 100_000),
    "predictions": Entry(predictions, 30_000),
    "cifar pickle": Entry(cifar_pickle, 80_000),
    "cifar archive": Entry(cifar_archive, 40_000),
    "recipe word": Entry(recipe_word, 80_000),
    "recipe record": Entry(recipe_record, 80_000),
    "checkpoint": Entry(partial(checkpoint, sealed=False), 10_000),
    "sealed checkpoint": Entry(partial(checkpoint, sealed=True), 3_000),
    "result": Entry(result_record, 40_000),
    "cache": Entry(cache_file, 10_000),
}
