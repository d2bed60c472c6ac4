"""The reader: what was built comes back; what was changed is refused with its name, and by no other error."""

import hashlib
import io
import json
import os
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ltdata.build import Built, build
from ltdata.catalog import find
from ltdata.errors import LtdataError, MismatchError, SourceMissingError, UsageError
from ltdata.files import sha256_bytes
from ltdata.manifest import Manifest
from ltdata.reader import read_images, read_manifest, read_samples
from ltdata.sources import load_source
from ltdata.spec import Spec
from ltdata.stored import stored
from ltdata.subset import Part, make_subset, write_subset
from ltdata.verify import verify

Images = tuple[NDArray[np.uint8], NDArray[np.int64]]
SHARD = "train/few-000000.tar"


@pytest.fixture
def folder(digits_lt: Built, tmp_path: Path) -> Path:
    """A copy of the digits to break."""
    return Path(shutil.copytree(digits_lt.folder, tmp_path / "digits"))


@pytest.fixture(scope="module")
def pristine(digits_lt: Built) -> dict[str, bytes]:
    paths = (path for path in digits_lt.folder.rglob("*") if path.is_file())
    return {path.relative_to(digits_lt.folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def scratch(digits_lt: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One copy for many small changes; each test restores what it changed."""
    return Path(shutil.copytree(digits_lt.folder, tmp_path_factory.mktemp("scratch") / "digits"))


@pytest.fixture(scope="module")
def expected(digits_lt: Built) -> dict[str, Images]:
    """The source's own pixels and labels, in the protocol's order."""
    source = load_source("digits")
    rows = read_samples(digits_lt.folder, digits_lt.manifest)
    return {
        name: (source.splits[name].pixels[samples.source_index], source.splits[name].labels[samples.source_index])
        for name, samples in rows.items()
    }


def read(folder: Path, split: str = "train") -> Images:
    return read_images(folder, read_manifest(folder), split)


def locate(folder: Path) -> object:
    manifest = read_manifest(folder)
    return stored(folder, manifest, read_samples(folder, manifest))


def assert_reads(folder: Path, expected: dict[str, Images]) -> None:
    for split, (pixels, labels) in expected.items():
        found = read(folder, split)
        assert np.array_equal(found[0], pixels)
        assert np.array_equal(found[1], labels)


def refused(function: Callable[[Path], object], folder: Path, *named: str | Path) -> None:
    """Call the function, which must raise a MismatchError that names what is at fault."""
    with pytest.raises(MismatchError) as caught:
        function(folder)
    for name in named:
        assert str(name) in str(caught.value)


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    edit(record)
    path.write_text(json.dumps(record), encoding="utf-8")


def shard_of(record: dict[str, Any], path: str = SHARD) -> dict[str, Any]:
    shards = [shard for split in record["splits"].values() for shard in split["shards"]]
    return next(shard for shard in shards if shard["path"] == path)


def reseal(folder: Path, data: bytes) -> None:
    """Replace the shard and enter its new digest into the manifest, as somebody with bad intent would."""
    (folder / SHARD).write_bytes(data)
    new = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(folder, lambda record: shard_of(record).update(new))


# What was built comes back


def test_images_and_labels_are_the_sources_in_the_protocols_order(
    digits_lt: Built, expected: dict[str, Images]
) -> None:
    assert_reads(digits_lt.folder, expected)
    assert [len(labels) for _, labels in expected.values()] == [489, 300]


def test_real_images_are_read_back(cifar100_lt: Built) -> None:
    pixels, labels = read(cifar100_lt.folder)
    assert pixels.shape == (10_847, 32, 32, 3)
    assert labels[[0, 499, 500, -1]].tolist() == [0, 0, 1, 99]
    assert np.bincount(labels).tolist() == cifar100_lt.manifest.class_counts.tolist()


def test_a_finished_build_verifies(folder: Path) -> None:
    assert verify(folder) == read_manifest(folder)


# The index is a cache: whatever is wrong with it, the images are the same


def _columns(data: bytes) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(data)) as arrays:
        return dict(arrays)


def _npz(columns: dict[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **columns)  # type: ignore[arg-type]
    return buffer.getvalue()


def _npy(data: bytes) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, _columns(data)["offset"])
    return buffer.getvalue()


def _with(**change: Callable[[NDArray[Any]], object]) -> Callable[[bytes], bytes]:
    return lambda data: _npz(
        _columns(data) | {name: np.asarray(new(_columns(data)[name])) for name, new in change.items()}
    )


def _shuffled(column: NDArray[Any]) -> NDArray[Any]:
    return np.random.RandomState(0).permutation(column)


def _dropped(name: str) -> Callable[[bytes], bytes]:
    return lambda data: _npz({key: column for key, column in _columns(data).items() if key != name})


INDEXES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "garbage": lambda _: b"garbage",
    "pickle": lambda _: b"\x80\x04K\x01.",
    "cut": lambda data: data[: len(data) // 2],
    "one array, not an archive": _npy,
    "no columns": lambda _: _npz({}),
    **{f"no {name}": _dropped(name) for name in ("content_sha256", "split", "shard", "offset", "size")},
    "another content": _with(content_sha256=lambda _: "0" * 64),
    "offsets shuffled": _with(offset=_shuffled),
    "sizes shuffled": _with(size=_shuffled, offset=_shuffled),
    "shards shuffled": _with(shard=_shuffled),
    "shards that are not there": _with(shard=lambda shard: shard + 99),
    "negative shards": _with(shard=lambda shard: -1 - shard),
    "negative offsets": _with(offset=lambda offset: -offset),
    "huge offsets": _with(offset=lambda offset: offset + 2**60),
    "negative sizes": _with(size=lambda size: -size),
    "splits swapped": _with(split=lambda split: 1 - split),
    "short column": _with(shard=lambda shard: shard[:5]),
    "short split column": _with(split=lambda split: split[:5]),
    "table for a column": _with(shard=lambda shard: np.stack([shard, shard], axis=1)),
    "scalar for a column": _with(split=lambda _: 0),
    "text for a column": _with(offset=lambda offset: np.full(offset.shape, "x")),
    "nan for a column": _with(offset=lambda offset: np.full(offset.shape, np.nan)),
    "complex for a column": _with(offset=lambda offset: offset * 1j),
    "records for a column": _with(offset=lambda offset: np.zeros(offset.shape, "i4,i4")),
}


@pytest.mark.parametrize("fault", INDEXES)
def test_a_wrong_index_changes_nothing(fault: str, folder: Path, expected: dict[str, Images]) -> None:
    index = folder / "index.npz"
    index.write_bytes(INDEXES[fault](index.read_bytes()))
    assert_reads(folder, expected)


@pytest.mark.parametrize("fault", INDEXES)
def test_a_wrong_index_leads_to_no_wrong_image(fault: str, folder: Path) -> None:
    """Where images are read one by one: what cannot be is not followed, what leads to other bytes is a mismatch."""
    index = folder / "index.npz"
    index.write_bytes(INDEXES[fault](index.read_bytes()))
    rows = read_samples(folder, read_manifest(folder))

    def images(folder: Path) -> None:
        for split, located in stored(folder, read_manifest(folder), rows).items():
            assert tuple(sha256_bytes(data) for data, _ in located.encoded()) == rows[split].sha256

    if fault in {"offsets shuffled", "sizes shuffled"}:
        refused(images, folder, "verify")
    else:
        images(folder)


@settings(max_examples=70, deadline=None, derandomize=True)
@given(
    column=st.sampled_from(["shard", "offset", "size"]),
    at=st.integers(0, 788),
    value=st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 300_000),
)
def test_any_number_in_the_index_leads_to_no_wrong_image(
    column: str, at: int, value: int, scratch: Path, pristine: dict[str, bytes]
) -> None:
    columns = _columns(pristine["index.npz"])
    columns[column] = columns[column].astype(np.int64)
    columns[column][at] = value
    (scratch / "index.npz").write_bytes(_npz(columns))
    rows = read_samples(scratch, read_manifest(scratch))
    try:
        for split, located in stored(scratch, read_manifest(scratch), rows).items():
            assert tuple(sha256_bytes(data) for data, _ in located.encoded()) == rows[split].sha256
    except MismatchError as error:
        assert "verify" in str(error)  # noqa: PT017 - allowed, not demanded
    finally:
        (scratch / "index.npz").write_bytes(pristine["index.npz"])


@pytest.mark.parametrize("fault", ["empty", "another content"])
def test_verify_names_an_index_that_is_not_that_of_the_shards(fault: str, folder: Path) -> None:
    index = folder / "index.npz"
    index.write_bytes(INDEXES[fault](index.read_bytes()))
    refused(verify, folder, index)


def test_a_missing_index_changes_nothing(folder: Path, expected: dict[str, Images]) -> None:
    (folder / "index.npz").unlink()
    assert_reads(folder, expected)
    verify(folder)


def test_a_folder_in_the_place_of_the_index_changes_nothing(folder: Path, expected: dict[str, Images]) -> None:
    (folder / "index.npz").unlink()
    (folder / "index.npz").mkdir()
    assert_reads(folder, expected)


@pytest.mark.parametrize("other", [{"seed": 1}, {"imbalance_factor": 10}], ids=["seed 1", "factor 10"])
def test_the_index_of_another_split_changes_nothing(
    other: dict[str, Any], folder: Path, expected: dict[str, Images], tmp_path: Path
) -> None:
    spec = Spec(**{"source": "digits", "imbalance_factor": 20, **other})
    shutil.copy(build(spec, out=tmp_path / "other").folder / "index.npz", folder)
    assert_reads(folder, expected)


def test_the_index_of_the_same_rows_in_other_shards_changes_nothing(tmp_path: Path) -> None:
    """Both builds have the same content digest; a class of 100 images is many-shot under one rule only."""
    built = [
        build(Spec("digits", 5, max_per_class=100, group_rule=rule), out=tmp_path / rule) for rule in ("strict", "oltr")
    ]
    before = read(built[0].folder)
    assert built[0].manifest.content_sha256 == built[1].manifest.content_sha256
    assert [len(one.manifest.splits["train"].shards) for one in built] != [0, 0]
    shutil.copy(built[1].folder / "index.npz", built[0].folder)
    after = read(built[0].folder)
    assert np.array_equal(after[0], before[0])
    assert np.array_equal(after[1], before[1])


@settings(max_examples=70, deadline=None, derandomize=True)
@given(position=st.integers(0, 700) | st.integers(-900, -1), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_index_changes_nothing(
    position: int, bit: int, scratch: Path, pristine: dict[str, bytes], expected: dict[str, Images]
) -> None:
    data = bytearray(pristine["index.npz"])
    data[position] ^= 1 << bit
    (scratch / "index.npz").write_bytes(data)
    try:
        assert np.array_equal(read(scratch, "test")[0], expected["test"][0])
    finally:
        (scratch / "index.npz").write_bytes(pristine["index.npz"])


# Changed shards


CUTS = [0, 1, 511, 512, 513, 1024, 3584, 4096, 0.25, 0.5, 0.75, -10240, -1024, -513, -512, -1]


@pytest.mark.parametrize("cut", CUTS)
def test_a_truncated_shard_is_named(cut: float, folder: Path) -> None:
    path = folder / SHARD
    data = path.read_bytes()
    path.write_bytes(data[: int(cut * len(data))] if isinstance(cut, float) else data[:cut])
    refused(read, folder, path, "build again")
    refused(verify, folder, path)


@pytest.mark.parametrize("more", [b"\0", bytes(10240), b"x" * 512])
def test_a_longer_shard_is_named(more: bytes, folder: Path) -> None:
    path = folder / SHARD
    path.write_bytes(path.read_bytes() + more)
    refused(read, folder, path)
    refused(verify, folder, path)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(position=st.integers(0, 1023) | st.integers(0, 266_239), bit=st.integers(0, 7))
def test_one_flipped_bit_in_a_shard_is_found(
    position: int, bit: int, scratch: Path, pristine: dict[str, bytes]
) -> None:
    """In headers, labels, images and padding alike."""
    data = bytearray(pristine[SHARD])
    data[position] ^= 1 << bit
    (scratch / SHARD).write_bytes(data)
    try:
        refused(verify if position % 2 else read, scratch, scratch / SHARD, "SHA-256")
    finally:
        (scratch / SHARD).write_bytes(pristine[SHARD])


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / SHARD).unlink()
    refused(read, folder, folder / SHARD, "missing")
    refused(verify, folder, folder / SHARD, "missing")


def test_verify_names_a_shard_that_does_not_belong(folder: Path) -> None:
    shutil.copy(folder / SHARD, folder / "train" / "few-000001.tar")
    refused(verify, folder, folder / "train" / "few-000001.tar", "not in the manifest")


def test_swapped_shards_are_both_named(folder: Path) -> None:
    one, two = folder / SHARD, folder / "train" / "medium-000000.tar"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    refused(read, folder, two)
    refused(verify, folder, one, two)


def test_verify_names_every_fault_at_once(folder: Path) -> None:
    (folder / SHARD).unlink()
    with (folder / "train" / "many-000000.tar").open("ab") as file:
        file.write(b"x")
    (folder / "samples.jsonl").write_bytes(b"")
    refused(verify, folder, folder / SHARD, folder / "train" / "many-000000.tar", folder / "samples.jsonl")


def _link_outside(folder: Path) -> None:
    (folder / SHARD).rename(folder.parent / "outside.tar")
    (folder / SHARD).symlink_to(folder.parent / "outside.tar")


def _link_folder_outside(folder: Path) -> None:
    (folder / "train").rename(folder.parent / "outside")
    (folder / "train").symlink_to(folder.parent / "outside")


def _link_to_itself(folder: Path) -> None:
    (folder / SHARD).unlink()
    (folder / SHARD).symlink_to((folder / SHARD).name)


def _broken_link(folder: Path) -> None:
    (folder / SHARD).unlink()
    (folder / SHARD).symlink_to("nowhere")


def _pipe(folder: Path) -> None:
    (folder / SHARD).unlink()
    os.mkfifo(folder / SHARD)


def _folder(folder: Path) -> None:
    (folder / SHARD).unlink()
    (folder / SHARD).mkdir()


@pytest.mark.parametrize(
    "replace", [_link_outside, _link_folder_outside, _link_to_itself, _broken_link, _pipe, _folder]
)
def test_what_is_no_regular_file_inside_the_folder_is_refused(replace: Callable[[Path], None], folder: Path) -> None:
    """Also where its bytes would be right."""
    replace(folder)
    refused(read, folder, "train/")
    refused(locate, folder, "train/")
    refused(verify, folder, "train/")


@pytest.mark.parametrize(
    "path",
    [
        "../outside.tar",
        "train/../../outside.tar",
        "{parent}/outside.tar",
        "train/../train/few-000000.tar",
        "..",
        "",
        "train",
        "manifest.json",
        "train/a\0b.tar",
        "train/" + "a" * 5000,
        "train/\ud800.tar",
    ],
    ids=ascii,
)
def test_a_shard_path_in_the_manifest_never_leads_elsewhere(path: str, folder: Path) -> None:
    shutil.copy(folder / SHARD, folder.parent / "outside.tar")
    edit_manifest(folder, lambda record: shard_of(record).update(path=path.format(parent=folder.parent)))
    refused(read, folder, folder)
    refused(locate, folder, folder)
    refused(verify, folder, folder)


def test_a_shard_has_a_name_that_ltdata_gives(folder: Path) -> None:
    """Others mean something to other libraries, which are handed them."""
    (folder / SHARD).rename(folder / "train" / "few::x.tar")
    edit_manifest(folder, lambda record: shard_of(record).update(path="train/few::x.tar"))
    for look in (read, locate):
        refused(look, folder, folder / "manifest.json", "train shards")
    refused(verify, folder, "few::x")


# Shards whose digest was made to fit: the format itself is checked


def member(name: str, data: bytes = b"", **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def _png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _edited(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new, 1)


SAMPLE = 5120  # bytes of the first sample, headers and padding included
HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "no tar": lambda _: b"x" * 10240,
    "empty": lambda _: b"",
    "end mark first": lambda data: bytes(1024) + data,
    "cut in an image": lambda data: data[:3000],
    "cut in a header": lambda data: data[:700],
    "pickle": lambda data: member("00000442.pickle", b"\x80\x04K\x01.") + data,
    "tensor": lambda data: member("00000442.pth", b"x") + data,
    "symlink": lambda data: member("00000442.png", type=tarfile.SYMTYPE, linkname="/etc/passwd") + data,
    "hard link": lambda data: member("00000442.png", type=tarfile.LNKTYPE, linkname="00000442.cls") + data,
    "device": lambda data: member("00000442.png", type=tarfile.CHRTYPE, devmajor=1, devminor=5) + data,
    "pipe": lambda data: member("00000442.png", type=tarfile.FIFOTYPE) + data,
    "folder": lambda data: member("00000442.png", type=tarfile.DIRTYPE) + data,
    "parent folder": lambda data: member("../00000442.png", b"x") + data,
    "absolute": lambda data: member("/00000442.png", b"x") + data,
    "dotted key": lambda data: member("0000.0442.png", b"x") + data,
    "key of another split": lambda data: member("00099999.png", b"x") + data,
    "negative key": lambda data: member("-0000001.png", b"x") + data,
    "endless key": lambda data: tarfile.TarInfo("1" * 6000 + ".png").tobuf(tarfile.PAX_FORMAT) + data,
    "key twice": lambda data: data[:SAMPLE] + data,
    "keys interleaved": lambda data: (
        data[:1024] + data[SAMPLE : SAMPLE + 1024] + data[1024:SAMPLE] + data[SAMPLE + 1024 :]
    ),
    "sample missing": lambda data: data[SAMPLE:],
    "another label": lambda data: data[:512] + b"0" + data[513:],
    "negative size": lambda data: member("00000442.png", size=-512) + data,
    "3,000 long names": lambda data: member("././@LongLink", b"abcd\0", type=tarfile.GNUTYPE_LONGNAME) * 3000 + data,
    "no image": lambda data: _edited(data, b"\x89PNG\r\n\x1a\n", b"GIF89a\0\0"),
    "flipped pixel": lambda data: data[:2000] + bytes([data[2000] ^ 1]) + data[2001:],
    "another size": lambda data: member("00000442.png", _png(64, 64, bytes(9 * 64))) + data,
    "a bomb": lambda data: member("00000442.png", _png(12_000, 12_000, bytes(1501 * 12_000))) + data,
    "a bomb in the header": lambda data: member("00000442.png", _png(2**31 - 1, 2**31 - 1, b"")) + data,
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_shard_of_another_format_is_refused_though_its_digest_fits(fault: str, folder: Path) -> None:
    """Read without the index, so that nothing else can find the fault before it."""
    (folder / "index.npz").unlink()
    reseal(folder, HOSTILE[fault]((folder / SHARD).read_bytes()))
    refused(read, folder, SHARD)


@pytest.mark.parametrize(
    "fault", ["pickle", "symlink", "parent folder", "key twice", "another label", "sample missing"]
)
def test_verify_looks_into_the_shards(fault: str, folder: Path) -> None:
    reseal(folder, HOSTILE[fault]((folder / SHARD).read_bytes()))
    refused(verify, folder, SHARD)


def test_verify_compares_every_image_with_the_digest_of_its_row(folder: Path) -> None:
    """An image replaced by another, in a shard whose own digest was made to fit."""
    data = (folder / SHARD).read_bytes()
    starts = [at for at in range(0, len(data), 512) if data[at : at + 8] == b"\x89PNG\r\n\x1a\n"]
    size = starts[1] - starts[0] - 1024
    first, second = (data[at : at + size] for at in starts[:2])
    assert first != second
    reseal(folder, _edited(_edited(data, second, first), first, second))
    refused(verify, folder, SHARD)


# Changed rows and headers


def _first_line(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda data: change(data.partition(b"\n")[0]) + b"\n" + data.partition(b"\n")[2]


ROWS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut in a row": lambda data: data[:1000],
    "without its last row": lambda data: data[: data.rindex(b"\n", 0, -1) + 1],
    "without its last newline": lambda data: data[:-1],
    "with a row twice": lambda data: data + data[data.rindex(b"\n", 0, -1) + 1 :],
    "with an empty row": lambda data: data + b"\n",
    "with a row of another label": _first_line(lambda line: line.replace(b'"label": 0', b'"label": 1')),
    "in another order": lambda data: b"".join(sorted(data.splitlines(keepends=True))),
    "no JSON": _first_line(lambda _: b"{"),
    "no text": lambda _: bytes(range(256)),
}


@pytest.mark.parametrize("fault", ROWS)
def test_changed_rows_are_named(fault: str, folder: Path) -> None:
    path = folder / "samples.jsonl"
    path.write_bytes(ROWS[fault](path.read_bytes()))
    refused(read, folder, path)
    refused(verify, folder, path)


def test_missing_rows_are_named(folder: Path) -> None:
    (folder / "samples.jsonl").unlink()
    refused(read, folder, folder / "samples.jsonl")
    refused(verify, folder, folder / "samples.jsonl")


def _with_value(**change: object) -> Callable[[bytes], bytes]:
    return lambda line: json.dumps(json.loads(line) | change).encode()


RESEALED_ROWS: dict[str, Callable[[bytes], bytes]] = {
    "no JSON": lambda _: b"{",
    "no text": lambda _: b'"\xff"',
    "a list": lambda _: b"[1]",
    "deep": lambda _: b"[" * 100_000,
    "no label": lambda _: b'{"source_index": 1}',
    "negative label": _with_value(label=-1),
    "large label": _with_value(label=10),
    "larger label": _with_value(label=10**15),
    "largest label": _with_value(label=10**30),
    "label a text": _with_value(label="zero"),
    "label a list": _with_value(label=[0, 0]),
    "label null": _with_value(label=None),
    "index negative": _with_value(source_index=-1),
    "index a text": _with_value(source_index="zero"),
    "index infinite": _with_value(source_index=float("inf")),
}


@pytest.mark.parametrize("fault", RESEALED_ROWS)
def test_rows_that_cannot_be_are_refused_though_their_digest_fits(fault: str, folder: Path) -> None:
    path = folder / "samples.jsonl"
    path.write_bytes(_first_line(RESEALED_ROWS[fault])(path.read_bytes()))
    digest = hashlib.sha256(b"".join(path.read_bytes().splitlines(keepends=True)[:489])).hexdigest()
    edit_manifest(folder, lambda record: record["splits"]["train"].update(samples_sha256=digest))
    refused(read, folder, path)
    refused(verify, folder, path)


HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "without its last brace": lambda data: data.rstrip()[:-1],
    "no JSON": lambda _: b"# a manifest",
    "no text": lambda _: bytes(range(256)),
    "a list": lambda _: b"[1, 2]",
    "a number": lambda _: b"1",
    "null": lambda _: b"null",
    "deep": lambda _: b"[" * 100_000,
    "another version": lambda data: data.replace(b'"schema_version": 1', b'"schema_version": 2'),
    "version a text": lambda data: data.replace(b'"schema_version": 1', b'"schema_version": "1"'),
}


@pytest.mark.parametrize("fault", HEADERS)
def test_a_broken_header_is_named(fault: str, folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(HEADERS[fault](path.read_bytes()))
    refused(read_manifest, folder, path, "build it again")


def test_another_schema_version_is_said(folder: Path) -> None:
    edit_manifest(folder, lambda record: record.update(schema_version=2))
    refused(read_manifest, folder, "schema_version 2", "reads 1")


KEYS = ["schema_version", "name", "num_classes", "content_sha256", "source", "protocol", "group_rule", "splits"]


@pytest.mark.parametrize("key", [*KEYS, "class_names", "citation", "created_by"])
def test_a_header_without_a_key_is_named(key: str, folder: Path) -> None:
    edit_manifest(folder, lambda record: record.pop(key))
    refused(read_manifest, folder, folder / "manifest.json", f"'{key}'")


@pytest.mark.parametrize("key", ["num_samples", "class_counts", "samples_sha256", "shards"])
def test_a_split_without_a_key_is_named(key: str, folder: Path) -> None:
    edit_manifest(folder, lambda record: record["splits"]["train"].pop(key))
    refused(read_manifest, folder, folder / "manifest.json", f"'{key}'")


def test_a_folder_without_a_header_is_no_build(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(SourceMissingError, match="not a finished build"):
        read_manifest(folder)
    with pytest.raises(SourceMissingError, match="no such folder"):
        verify(folder / "nowhere")


@pytest.mark.parametrize(
    "edit",
    [
        lambda record: record["source"].pop("id"),
        lambda record: record["source"].pop("verified"),
        lambda record: record["protocol"].pop("params"),
        lambda record: record["protocol"].update(params=[1]),
        lambda record: record["group_rule"].pop("name"),
    ],
    ids=["no source id", "no verified", "no params", "params a list", "no group rule"],
)
def test_a_build_onto_an_edited_header_is_refused(edit: Callable[[dict[str, Any]], object], folder: Path) -> None:
    edit_manifest(folder, edit)
    with pytest.raises(LtdataError):
        build(Spec("digits", 20), out=folder)


# Any header at all

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 2**31, 2**63, 10**30, 1e400, float("nan"), "train", "strict", "../x", "\0", "\ud800"])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """List every (container, key) inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, inner in items:
        found += [(value, key), *places(inner)]
    return found


CHANGES = st.tuples(st.integers(0, 9999), st.sampled_from(["replace", "remove", "repeat"]), JSON)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(changes=st.lists(CHANGES, min_size=1, max_size=2))
def test_any_change_of_the_header_is_harmless_or_a_mismatch(
    changes: list[tuple[int, str, Any]], scratch: Path, pristine: dict[str, bytes]
) -> None:
    """Values replaced, removed or repeated."""
    record = json.loads(pristine["manifest.json"])
    for place, change, value in changes:
        container, key = places(record)[place % len(places(record))]
        if change == "replace":
            container[key] = value
        elif change == "remove":
            del container[key]
        elif isinstance(container, list):
            container.append(container[key])
    _assert_harmless_or_mismatch(scratch, json.dumps(record).encode(), pristine)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(start=st.integers(0, 2600), cut=st.integers(0, 3) | st.just(9999), new=st.binary(max_size=3))
def test_any_garbling_of_the_header_is_harmless_or_a_mismatch(
    start: int, cut: int, new: bytes, scratch: Path, pristine: dict[str, bytes]
) -> None:
    """Bytes replaced, inserted or cut out."""
    text = pristine["manifest.json"]
    _assert_harmless_or_mismatch(scratch, text[:start] + new + text[start + cut :], pristine)


@pytest.fixture(scope="module")
def view(scratch: Path) -> Path:
    """A view beside the build that it shows."""
    whole = find(str(scratch), rows=True)
    write_subset(whole, make_subset(whole.manifest, Part(groups=("few",))), scratch.parent / "view", form="view")
    return scratch.parent / "view"


@pytest.mark.parametrize(
    "path",
    ["\0", "a\0b", "", ".", "..", "/", "\n", "\ud800", "a" * 5000, "../view", "/dev/null", "../digits/train"],
    ids=ascii,
)
def test_a_view_of_what_cannot_be_is_one_line(path: str, view: Path) -> None:
    before = (view / "manifest.json").read_bytes()
    edit_manifest(view, lambda record: record["view_of"].update(path=path))
    try:
        for look in (read, locate, verify):
            with pytest.raises((MismatchError, SourceMissingError)) as caught:
                look(view)
            assert str(view) in str(caught.value)
            assert "\n" not in str(caught.value)
    finally:
        (view / "manifest.json").write_bytes(before)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(changes=st.lists(CHANGES, min_size=1, max_size=2))
def test_any_change_of_the_header_of_a_view_is_harmless_or_a_mismatch(
    changes: list[tuple[int, str, Any]], view: Path
) -> None:
    header = (view / "manifest.json").read_bytes()
    record = json.loads(header)
    record = {"view_of": record.pop("view_of"), **record}
    for place, change, value in changes:
        where = places(record)
        container, key = where[place % (5 if change == "replace" else len(where))]  # the first name the base
        if change == "replace":
            container[key] = value
        elif change == "remove":
            del container[key]
    _assert_harmless_or_mismatch(view, json.dumps(record).encode(), {"manifest.json": header})


def _assert_harmless_or_mismatch(folder: Path, header: bytes, pristine: dict[str, bytes]) -> None:
    path = folder / "manifest.json"
    path.write_bytes(header)
    try:
        manifest: Manifest = verify(folder)
        assert Manifest.from_json(manifest.to_json(), origin="again") == manifest
    except MismatchError as error:
        assert str(folder) in str(error)  # noqa: PT017 - a MismatchError is allowed, not demanded
    finally:
        path.write_bytes(pristine["manifest.json"])


def test_verify_finds_an_image_that_is_in_two_shards_in_the_place_of_another(folder: Path) -> None:
    """Each shard by itself is right, and their numbers add up."""
    (folder / "index.npz").unlink()
    doubled = folder / "train" / "few-000000.tar"
    other = (folder / "train" / "medium-000000.tar").read_bytes()
    own = doubled.read_bytes()
    sample = 3 * 512 + 3584  # two headers, a label, a 32x32 image
    reseal(folder, other[:sample] + own[sample:])
    refused(verify, folder, SHARD, "another shard")
    refused(read, folder)


def test_a_shard_that_is_said_to_be_empty_is_no_crash(folder: Path) -> None:
    (folder / SHARD).write_bytes(bytes(10240))
    new = {"bytes": 10240, "sha256": hashlib.sha256(bytes(10240)).hexdigest(), "num_samples": 0}
    edit_manifest(folder, lambda record: shard_of(record).update(new))
    refused(verify, folder, folder)


def test_folders_may_be_texts_and_a_split_that_is_not_there_is_named(digits_lt: Built) -> None:
    manifest = read_manifest(str(digits_lt.folder))
    assert len(read_images(str(digits_lt.folder), manifest, "test")[1]) == 300
    with pytest.raises(UsageError, match=r"split 'val'.*train, test"):
        read_images(digits_lt.folder, manifest, "val")
