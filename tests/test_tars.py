"""Shards of other tools: what they hold comes back as a build of ours, image by image, or they are refused by name."""

import io
import json
import shutil
import subprocess
import tarfile
import tracemalloc
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import webdataset
from photos import contents, names, photo, put
from test_cli import run
from webdataset import tariterators

from ace_ref.loading import evaluation_split
from ltdata import stored, tar
from ltdata.build import Built
from ltdata.errors import LtdataError, MismatchError, SourceMissingError, UsageError
from ltdata.formats import import_tars, read
from ltdata.manifest import Manifest
from ltdata.reader import read_images, read_manifest, read_samples
from ltdata.sources import tar_samples, tars
from ltdata.verify import verify

PNG = photo(5, form="PNG")
GNU_TAR = shutil.which("tar")
Row = tuple[str, int, bytes]  # path, label, image


def packed(members: Iterable[tuple[str, bytes]], *, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """Make an archive with Python's tarfile; a name that ends with a slash is a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name.rstrip("/"))
            member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def sample(key: str, label: int, image: bytes | None = None) -> list[tuple[str, bytes]]:
    return [(f"{key}.cls", str(label).encode()), (f"{key}.jpg", image if image is not None else photo(label))]


def birds(count: int = 6, *, prefix: str = "") -> list[tuple[str, bytes]]:
    """Samples of three classes, with images that differ."""
    return [part for n in range(count) for part in sample(f"{prefix}{n:04d}", n % 3, photo(n))]


def rows(folder: Path, split: str = "train") -> list[Row]:
    """Return what a build holds, in the order of its rows, after verifying all of it."""
    verify(folder)
    manifest = read_manifest(folder)
    samples = read_samples(folder, manifest)
    images = stored.stored(folder, manifest, samples)[split].encoded()
    paths, labels = samples[split].source_path, samples[split].labels.tolist()
    assert paths is not None
    return [(path, label, image) for path, label, (image, _) in zip(paths, labels, images, strict=True)]


def imported(path: Path, out: Path, **options: Any) -> Manifest:
    return import_tars(path, out=out, **options).manifest


def refused(error: type[LtdataError], pattern: str, path: Path, **options: Any) -> None:
    """Check that an import is refused so, and leaves nothing."""
    out = path.parent / "out"
    with pytest.raises(error, match=pattern):
        import_tars(path, out=out, **options)
    assert not out.exists()
    assert [name for name in names(path.parent) if name.startswith(".")] == []


# --- what other tools write comes back


@pytest.mark.parametrize("form", [None, "USTAR_FORMAT", "GNU_FORMAT", "PAX_FORMAT"])
@pytest.mark.parametrize("mtime", [None, 0])
def test_what_webdataset_wrote_comes_back(form: str | None, mtime: int | None, tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "birds.tar"), mtime=mtime, format=form) as writer:
        for n in range(7):
            writer.write({"__key__": f"a/{n:03d}", "jpg": photo(n), "cls": n % 3, "txt": "a bird"})
    manifest = imported(tmp_path / "birds.tar", tmp_path / "out")
    assert rows(tmp_path / "out") == [(f"birds.tar/a/{n:03d}.jpg", n % 3, photo(n)) for n in range(7)]
    assert manifest.source["left_out"] == {
        "files": 7,
        "kinds": {"txt": 7},
        "first": [f"birds.tar/a/{n:03d}.txt" for n in range(5)],
    }


@pytest.mark.parametrize("mtime", [None, 0])
def test_shards_of_webdataset_become_splits_by_their_names(mtime: int | None, tmp_path: Path) -> None:
    source = tmp_path / "birds"
    source.mkdir()
    for split, count in (("train", 23), ("val", 9)):
        pattern = str(source / f"birds-{split}-%06d.tar")
        with webdataset.ShardWriter(pattern, maxcount=10, verbose=0, mtime=mtime) as writer:
            for n in range(count):
                writer.write({"__key__": f"{split}{n:08d}", "png": photo(n, form="PNG"), "cls": n % 4})
    manifest = imported(source, tmp_path / "out")
    assert {name: split.num_samples for name, split in manifest.splits.items()} == {"train": 23, "val": 9}
    assert [shard["file"] for shard in manifest.source["shards"]] == names(source)
    for split, count in (("train", 23), ("val", 9)):
        wanted = [(n % 4, photo(n, form="PNG")) for n in range(count)]
        assert [(label, image) for _, label, image in rows(tmp_path / "out", split)] == wanted
        theirs = [each for shard in sorted(source.glob(f"*{split}*.tar")) for each in as_webdataset_reads(shard)]
        assert [(int(each["cls"]), each["png"]) for each in theirs] == wanted


def as_webdataset_reads(shard: Path) -> list[Mapping[str, bytes]]:
    with shard.open("rb") as stream:  # given a path, it leaves the file open
        return list(tariterators.group_by_keys(tariterators.tar_file_expander([{"url": "", "stream": stream}])))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tarfile_is_read(form: int, tmp_path: Path) -> None:
    """Folders as members, ``./``, folders in keys; names beyond 100 bytes, in other scripts."""
    long = "a" * 90 + "/" + "b" * 60
    keys = ["./0001", "cat/0001", long] + (["d" * 300, "vögel/鳥"] if form != tarfile.USTAR_FORMAT else [])
    members = [("./", b""), ("cat/", b"")] + [part for n, key in enumerate(keys) for part in sample(key, n)]
    put(tmp_path, {"x.tar": packed(members, form=form)})
    imported(tmp_path / "x.tar", tmp_path / "out")
    wanted = [(f"x.tar/{key.removeprefix('./')}.jpg", n, photo(n)) for n, key in enumerate(keys)]
    assert rows(tmp_path / "out") == wanted


@pytest.mark.skipif(GNU_TAR is None, reason="no tar here")
@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_what_tar_itself_wrote_comes_back(form: str, tmp_path: Path) -> None:
    if "GNU" not in subprocess.run(["tar", "--version"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("this tar is not GNU's")
    long = "x" * 90 if form == "v7" else "y" * 90 + "/" + "z" * 60
    folder = put(tmp_path / "in", dict(birds(prefix="some/") + sample(long, 0)))
    command = ["tar", f"--format={form}", "--sort=name", "-cf", tmp_path / "t.tar", "-C", folder, "."]
    subprocess.run(command, check=True)
    imported(tmp_path / "t.tar", tmp_path / "out")
    found = {(path.rpartition("/")[2], label, image) for path, label, image in rows(tmp_path / "out")}
    wanted = {(f"{n:04d}.jpg", n % 3, photo(n)) for n in range(6)}
    assert len(found) == 7
    assert found > wanted


def test_a_size_in_gnus_binary_form_and_in_a_pax_record_is_read(tmp_path: Path) -> None:
    """As it is written for 8 GiB and more."""
    archive = bytearray(packed(sample("a", 0)))
    archive[124:136] = b"\x80" + (1).to_bytes(11)
    rest = tarfile.TarInfo("a.jpg")
    rest.size, rest.pax_headers = 0, {"size": str(len(photo(0)))}
    by_record = rest.tobuf(tarfile.PAX_FORMAT)
    put(tmp_path, {"x.tar": checksummed(archive[:1024]) + by_record + blocks(photo(0)) + bytes(1024)})
    imported(tmp_path / "x.tar", tmp_path / "out")
    assert rows(tmp_path / "out") == [("x.tar/a.jpg", 0, photo(0))]


def checksummed(archive: bytes | bytearray, at: int = 0) -> bytes:
    """Give a header, that begins at a byte, the checksum that it should have."""
    made = bytearray(archive)
    made[at + 148 : at + 156] = b" " * 8
    made[at + 148 : at + 156] = b"%06o\0 " % sum(made[at : at + 512])
    return bytes(made)


def blocks(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def test_shards_of_our_own_without_their_manifest_hold_the_same(digits_lt: Built, tmp_path: Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(digits_lt.folder / split, tmp_path / "in" / split)
    manifest = imported(tmp_path / "in", tmp_path / "out")
    for split in ("train", "test"):
        pixels, labels = read_images(digits_lt.folder, digits_lt.manifest, split)
        found, theirs = read_images(tmp_path / "out", manifest, split)
        by_key = [int(path[-12:-4]) for path, _, _ in rows(tmp_path / "out", split)]
        assert sorted(by_key) == list(range(len(labels)))
        assert (labels[by_key] == theirs).all()
        assert (pixels[by_key] == found).all()
    assert manifest.splits["train"].class_counts == digits_lt.manifest.splits["train"].class_counts
    assert evaluation_split(manifest) == "test"


def test_a_build_is_imported_by_its_manifest_as_before(digits_lt: Built, tmp_path: Path) -> None:
    ended = run("import", digits_lt.folder, "--out", tmp_path / "out")
    assert (ended.code, names(tmp_path / "out")) == (0, ["manifest.json", "samples.jsonl"])


def test_the_layout_of_img2dataset_is_read(tmp_path: Path) -> None:
    """Numbered shards, captions, a label among what the JSON says, tables beside them."""
    files = {}
    for shard in range(2):
        members = []
        for n in range(3):
            key, said = f"{shard:05d}{n:04d}", {"caption": "a bird", "url": "u", "status": "success", "label": n}
            members += [(f"{key}.jpg", photo(n)), (f"{key}.json", json.dumps(said).encode()), (f"{key}.txt", b"a bird")]
        files |= {f"{shard:05d}.tar": packed(members, form=tarfile.PAX_FORMAT), f"{shard:05d}.parquet": b"PAR1"}
        files[f"{shard:05d}_stats.json"] = b"{}"
    ended = run("import", put(tmp_path / "in", files), "--out", tmp_path / "out")
    assert ended.code == 0
    assert "  left out 6 members: 6 txt\n" in ended.out
    wanted = [(f"{s:05d}.tar/{s:05d}{n:04d}.jpg", n, photo(n)) for s in range(2) for n in range(3)]
    assert rows(tmp_path / "out") == wanted


def test_the_layout_of_timm_is_read(tmp_path: Path) -> None:
    """File names of ImageNet as keys, digits in ``cls``, the same again in ``json``; validation in its own shards."""
    said = json.dumps({"label": 1, "class": "tench", "filename": "n01440764_10026.JPEG"}).encode()
    key = "n01440764_10026"
    train = packed([(f"{key}.cls", b"1"), (f"{key}.jpg", photo(1)), (f"{key}.json", said)])
    validation = packed(sample("ILSVRC2012_val_00000001", 0))
    files = {"i1k-train-0000.tar": train, "i1k-validation-00.tar": validation, "_info.json": b"{}"}
    manifest = imported(put(tmp_path / "in", files), tmp_path / "out")
    assert rows(tmp_path / "out") == [(f"i1k-train-0000.tar/{key}.jpg", 1, photo(1))]
    assert rows(tmp_path / "out", "val") == [("i1k-validation-00.tar/ILSVRC2012_val_00000001.jpg", 0, photo(0))]
    assert manifest.source["left_out"]["kinds"] == {"json": 1}


def test_the_layout_of_clip_benchmark_is_read(tmp_path: Path) -> None:
    """A folder per split, and the names of the classes beside them."""
    files = {"train/0.tar": packed(sample("s0", 0)), "train/1.tar": packed(sample("s1", 1)), "train/nshards.txt": b"2"}
    files |= {"test/0.tar": packed(sample("s0", 2)), "classnames.txt": b"owl\nfinch\ncrow\n"}
    manifest = imported(put(tmp_path / "in", files), tmp_path / "out", group_rule="oltr", name="birds")
    assert (manifest.name, manifest.class_names) == ("birds", ("owl", "finch", "crow"))
    assert manifest.group_rule["name"] == "oltr"
    assert [path for path, _, _ in rows(tmp_path / "out")] == ["train/0.tar/s0.jpg", "train/1.tar/s1.jpg"]
    assert rows(tmp_path / "out", "test") == [("test/0.tar/s0.jpg", 2, photo(2))]


@pytest.mark.parametrize("count", [1, 2500])
def test_one_sample_or_thousands(count: int, tmp_path: Path) -> None:
    images = [photo(n % 50) + str(n).encode() for n in range(count)]
    put(tmp_path, {"x.tar": packed([part for n in range(count) for part in sample(f"{n:06d}", n % 9, images[n])])})
    imported(tmp_path / "x.tar", tmp_path / "out")
    assert rows(tmp_path / "out") == [(f"x.tar/{n:06d}.jpg", n % 9, images[n]) for n in range(count)]


def test_images_are_copied_byte_for_byte_by_what_they_are(tmp_path: Path) -> None:
    """As in a folder, a PNG that is named .jpg is stored as one; suffixes in capitals count."""
    members = [
        ("a.JPG", photo(1)),
        ("a.cls", b"0"),
        ("b.jpeg", PNG),
        ("b.cls", b"1\n"),
        ("c.PNG", PNG),
        ("c.cls", b"0"),
    ]
    put(tmp_path, {"x.tar": packed(members)})
    imported(tmp_path / "x.tar", tmp_path / "out")
    assert [(path, image) for path, _, image in rows(tmp_path / "out")] == [
        ("x.tar/a.JPG", photo(1)),
        ("x.tar/b.jpeg", PNG),
        ("x.tar/c.PNG", PNG),
    ]
    assert read_manifest(tmp_path / "out").num_classes == 2


def test_other_members_are_left_out_counted_and_listed(tmp_path: Path) -> None:
    """Also those without a key, by webdataset's own rule, and a second picture under a suffix of its own."""
    others = {"README": b"", "._0000.jpg": b"mac", "__meta__/x.jpg": PNG, "info.json": b'{"size": 3}', "a/.b.txt": b""}
    own = {"0000.seg.png": PNG, "0000.npy": b"\x93NUMPY", "0000.pyd": b"\x80\x04.", "0000.txt": b"x"}
    put(tmp_path, {"x.tar": packed([*others.items(), *sample("0000", 0), *own.items()])})
    manifest = imported(tmp_path / "x.tar", tmp_path / "out")
    assert rows(tmp_path / "out") == [("x.tar/0000.jpg", 0, photo(0))]
    assert manifest.source["left_out"] == {
        "files": 9,
        "kinds": {"no suffix": 3, "jpg": 1, "json": 1, "seg.png": 1, "npy": 1, "pyd": 1, "txt": 1},
        "first": [f"x.tar/{name}" for name in ("README", "._0000.jpg", "__meta__/x.jpg", "a/.b.txt", "info.json")],
    }


# --- labels


def labelled(*said: object, suffix: str = "json") -> bytes:
    """Make a shard whose samples say something in JSON."""
    members = []
    for n, each in enumerate(said):
        text = each if isinstance(each, bytes) else json.dumps(each).encode()
        members += [(f"{n}.jpg", photo(n)), (f"{n}.{suffix}", text)]
    return packed(members)


@pytest.mark.parametrize("key", ["label", "class", "cls", "target"])
def test_labels_in_json_are_found_under_usual_keys(key: str, tmp_path: Path) -> None:
    put(tmp_path, {"x.tar": labelled({key: 2, "id": 7}, {key: "0"}, {key: 1})})
    imported(tmp_path / "x.tar", tmp_path / "out")
    assert [label for _, label, _ in rows(tmp_path / "out")] == [2, 0, 1]


def test_names_of_classes_are_numbered_in_sorted_order(tmp_path: Path) -> None:
    put(tmp_path, {"x.tar": labelled({"label": "owl"}, {"label": "crow"}, {"label": "owl"}), "c.txt": b"owl\ncrow\n"})
    manifest = imported(tmp_path / "x.tar", tmp_path / "out")
    assert (manifest.class_names, manifest.labels.tolist()) == (("crow", "owl"), [1, 0, 1])
    manifest = imported(tmp_path / "x.tar", tmp_path / "named", classes=tmp_path / "c.txt")
    assert (manifest.class_names, manifest.labels.tolist()) == (("owl", "crow"), [0, 1, 0])


def test_a_label_key_is_looked_for_in_place_of_all_else(tmp_path: Path) -> None:
    members = [("0.cls", b"7"), ("0.jpg", photo(0)), ("0.json", b'{"label": 7, "coarse": 1, "more": [{"coarse": 2}]}')]
    put(tmp_path, {"x.tar": packed(members)})
    manifest = imported(tmp_path / "x.tar", tmp_path / "out", label_key="coarse")
    assert (manifest.labels.tolist(), manifest.source["left_out"]["kinds"]) == ([1], {"cls": 1})


@pytest.mark.parametrize(
    "text", [b"", b" 1", b"-3", b"1_0", b"+1", b"1.0", b"0x1", b"1\n\n", b"owl", b"1" * 10, "\u0661".encode(), b"1\0"]
)
def test_a_label_in_cls_is_plain_digits(text: bytes, tmp_path: Path) -> None:
    put(tmp_path, {"x.tar": labelled(text, suffix="cls")})
    refused(MismatchError, r"x\.tar: '0' has label .*, which is no whole number", tmp_path / "x.tar")


@pytest.mark.parametrize(
    ("said", "pattern"),
    [
        ({"label": -1}, "has label '-1', which is neither"),
        ({"label": True}, "has label 'True', which is neither"),
        ({"label": 1.0}, "has label '1.0', which is neither"),
        ({"label": None}, "has label 'None', which is neither"),
        ({"label": [1]}, r"has label '\[1\]', which is neither"),
        ({"label": ""}, "has label '', which is neither"),
        ({"label": "-1"}, "has label '-1', which is neither"),
        ({"label": "nan"}, "has label 'nan', which is neither"),
        ({"label": "a\nb"}, "has label .*, which is neither"),
        ({"label": 10**9}, "has label '1000000000', which is neither"),
        (b'{"label": 1e400}', "has label 'inf', which is neither"),
        (b'{"label": "\\ud800"}', "has label .*, which is neither"),
        ({"label": 1, "class": "owl"}, "has label and class in its JSON, which differ; name one with --label-key"),
        (b'{"label": 1, "label": 2}', "not readable.*label is there twice"),
        ([1], r"not readable.*no object"),
        (b"{", "not readable"),
        (b"\xff", "not readable"),
        (b"[" * 100_000, "not readable"),
        (b'{"label": ' + b"1" * 5000 + b"}", "not readable"),
        (b" " * (1 << 20) + b"{}", "has more than 1,048,576 bytes"),
        ({"caption": "x"}, r"1 sample has an image and no label \(cls, or label, class, cls, target in json\)"),
    ],
)
def test_a_label_in_json_is_a_number_or_a_name(said: object, pattern: str, tmp_path: Path) -> None:
    put(tmp_path, {"x.tar": labelled(said)})
    refused(MismatchError, pattern, tmp_path / "x.tar")


def test_labels_that_cannot_be_those_of_the_classes_are_refused(tmp_path: Path) -> None:
    put(tmp_path, {"x.tar": packed(birds()), "c.txt": b"owl\ncrow\n", "same.txt": b"owl\nowl\n"})
    shard = tmp_path / "x.tar"
    pattern = r"'0002\.jpg' in x\.tar has label 2, which is none of 2 classes \(owl, crow, \.\.\.\)"
    refused(MismatchError, pattern, shard, classes=tmp_path / "c.txt")
    put(tmp_path, {"x.tar": labelled({"label": "owl"}, {"label": 1})})
    refused(MismatchError, "labels are numbers and names: '0.jpg' in x.tar has 'owl', '1.jpg' in x.tar has 1", shard)
    put(tmp_path, {"x.tar": labelled({"label": "owl"}, {"label": "jay"})})
    refused(MismatchError, r"'1\.jpg' in x\.tar has label 'jay'", shard, classes=tmp_path / "c.txt")
    refused(MismatchError, "two classes have one name", shard, classes=tmp_path / "same.txt")
    put(tmp_path, {"x.tar": packed(sample("a", 999_999_999))})
    refused(MismatchError, "has label 999999999, which is none of 1,000,000 classes", shard)


# --- splits


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-000000.tar", "train"),
        ("imagenet-val-000003.tar", "val"),
        ("imagenet1k-validation-00.TAR", "val"),
        ("cifar10_test_0.tar", "test"),
        ("x.training.1.tar", "train"),
        ("00000.tar", "train"),
        ("contest-trainer.tar", "train"),
        ("valid/train0.tar", "val"),
        ("test/many-000000.tar", "test"),
    ],
)
def test_the_split_is_in_the_name_of_the_file_or_folder(name: str, split: str, tmp_path: Path) -> None:
    files = {name: b"", name.replace(name.rpartition("/")[2], "train-9.tar") if "/" not in name else "train/9.tar": b""}
    found = tars.find(put(tmp_path / "in", files))
    assert {tar.path: tar.split for tar in found}[name] == split


def test_a_folder_that_is_named_itself_says_the_split_too(tmp_path: Path) -> None:
    folder = put(tmp_path / "val", {"0.tar": b"", "train-1.tar": b""})
    assert [(tar.path, tar.split) for tar in tars.find(folder)] == [("train-1.tar", "train"), ("0.tar", "val")]


@pytest.mark.parametrize(
    ("files", "error", "pattern"),
    [
        (("val-0.tar",), SourceMissingError, "holds shards of val, and none of train"),
        (("train-val-0.tar",), UsageError, "its name means train and val; rename it"),
        (("train/val-0.tar", "train/0.tar"), UsageError, "its name means train and val; rename it"),
        (("0.tar", "train/0.tar"), UsageError, "holds shards, and so does train in it"),
        (("train/0.tar", "extra/0.tar"), UsageError, "extra: holds shards and is named after no split"),
        (("train-0.tar", "train-1.tar.gz"), MismatchError, r"train-1\.tar\.gz: is compressed; unpack it"),
        (("train-0.tgz",), MismatchError, "is compressed; unpack it"),
        (("train-0\n.tar",), MismatchError, "holds a control character; rename the shard"),
    ],
)
def test_shards_that_cannot_be_told_apart_are_refused(
    files: tuple[str, ...], error: type[LtdataError], pattern: str, tmp_path: Path
) -> None:
    folder = put(tmp_path / "in", dict.fromkeys(files, packed(birds())))
    assert tars.are_tars(folder)
    refused(error, pattern, folder)


def test_shards_beside_lists_are_refused(tmp_path: Path) -> None:
    folder = put(tmp_path / "in", {"x.tar": packed(birds()), "train.txt": b"a.jpg 0\n"})
    ended = run("import", folder, "--out", tmp_path / "out")
    assert ended.refused(2)
    assert "holds shards, and train.txt; name the list itself" in ended.err


def test_where_lists_are_wanted_shards_are_sent_to_import(tmp_path: Path) -> None:
    folder = put(tmp_path / "in", {"x.tar": packed(birds())})
    for path in (folder, folder / "x.tar"):
        with pytest.raises(UsageError, match=r"make a build of .* first, with ltdata import"):
            read(path)


# --- samples that are not whole, or there twice


def test_samples_that_lack_an_image_or_a_label_are_counted(tmp_path: Path) -> None:
    lone = [("x1.jpg", photo(1)), ("x2.jpg", photo(2)), ("y.cls", b"1")]
    folder = put(tmp_path / "in", {"0.tar": packed(birds()), "1.tar": packed(lone)})
    refused(MismatchError, r"in: 2 samples have an image and no label .*; first 'x1' in 1\.tar", folder)
    put(folder, {"1.tar": packed([("y.cls", b"1"), ("z.json", b'{"label": 1}')])})
    refused(MismatchError, r"in: 2 samples have a label and no image .*; first 'y' in 1\.tar", folder)
    put(folder, {"1.tar": packed(sample("x", 1)), "val-1.tar": packed([("y.txt", b"1"), ("z.json", b"{")])})
    refused(MismatchError, "the shards of val hold no image", folder)


@pytest.mark.parametrize(
    ("members", "pattern"),
    [
        ([*sample("a", 0), *sample("a", 0)], "'a' has two members 'cls'; take one out"),
        ([*sample("a", 0), *sample("b", 0), *sample("a", 0)], "'a' comes a second time, apart from its first"),
        ([("a.cls", b"0"), ("b.cls", b"0"), ("a.jpg", PNG), ("b.jpg", PNG)], "'a' comes a second time.*--sort=name"),
        ([("a.cls", b"0"), ("a.jpg", PNG), ("a.JPG", PNG)], "'a' has two members 'jpg'"),
        ([("a.cls", b"0"), ("a.jpg", PNG), ("a.png", PNG)], "'a' has two images, 'a.jpg' and 'a.png'"),
        ([("a.cls", b"0"), ("./a.cls", b"1"), ("a.jpg", PNG)], "'a' has two members 'cls'"),
        ([("a.v1.jpg", PNG), ("a.v1.cls", b"0")], "'a.v1.jpg' has a dot before its suffix, so that its key is 'a'"),
        ([("a.webp", b"RIFF....WEBP"), ("a.cls", b"0")], "'a.webp' begins with 52 49 46 46: only JPEG and PNG"),
        ([("a.jpg", b""), ("a.cls", b"0")], "'a.jpg' is empty: only JPEG and PNG"),
    ],
)
def test_samples_in_pieces_or_twice_are_refused(members: list[tuple[str, bytes]], pattern: str, tmp_path: Path) -> None:
    put(tmp_path, {"x.tar": packed(members)})
    refused(MismatchError, rf"x\.tar: {pattern}", tmp_path / "x.tar")


def test_what_is_there_twice_in_two_shards_is_refused(tmp_path: Path) -> None:
    """The same archive, or the same image under the same key; two writers may use the same keys."""
    folder = put(tmp_path / "in", {"a.tar": packed(birds()), "val-b.tar": packed(birds())})
    refused(MismatchError, r"val-b\.tar: is the same as .*a\.tar; take one out", folder)
    put(folder, {"val-b.tar": packed(sample("new", 0) + sample("0004", 1, photo(4)))})
    refused(MismatchError, r"val-b\.tar: '0004\.jpg', the same image, is in .*a\.tar too; take one out", folder)
    put(folder, {"val-b.tar": packed(sample("0004", 1, photo(77)) + sample("new", 1, photo(4)))})
    assert imported(folder, tmp_path / "out").splits["val"].num_samples == 2


def test_a_shard_that_changes_while_it_is_imported_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, {"x.tar": packed(birds())})
    whole = tars.source_of

    def late(*arguments: Any, **options: Any) -> Any:
        put(tmp_path, {"x.tar": (tmp_path / "x.tar").read_bytes().replace(photo(3), photo(3)[:-1] + b"?")})
        return whole(*arguments, **options)

    monkeypatch.setattr(tars, "source_of", late)
    refused(MismatchError, r"a shard has changed since it was read; run again .*x\.tar", tmp_path / "x.tar")


# --- the build that is made


def test_the_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    folder = put(tmp_path / "in", {f"train-{n}.tar": packed(birds(prefix=str(n))) for n in range(4)})
    put(folder, {"test-0.tar": packed(birds(prefix="t"))})
    for workers in (1, 3):
        imported(folder, tmp_path / f"out{workers}", workers=workers)
    assert contents(tmp_path / "out1") == contents(tmp_path / "out3")


def test_what_stands_there_is_kept_unless_forced(tmp_path: Path) -> None:
    shard, out = tmp_path / "x.tar", tmp_path / "out"
    put(tmp_path, {"x.tar": packed(birds())})
    imported(shard, out)
    before = contents(out)
    ended = run("import", shard, "--out", out)
    assert ended.refused(2)
    assert "holds a build already" in ended.err
    assert contents(out) == before
    put(tmp_path, {"x.tar": packed(birds())[:-700]})  # a forced one that fails leaves what stood there
    assert run("import", shard, "--out", out, "--force").refused(3)
    assert contents(out) == before
    put(tmp_path, {"x.tar": packed(birds(9))})
    assert run("import", shard, "--out", out, "--force").code == 0
    assert len(rows(out)) == 9


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"out": "in/out"}, "lies among the shards"),
        ({"out": "in"}, "lies among the shards"),
        ({"out": "."}, "holds other files|would replace"),
        ({"name": "cifar100-lt-exp-if100"}, "is the name of a pinned split"),
        ({"name": "a/b"}, "letters, digits"),
        ({"group_rule": "none"}, "choose one of"),
        ({"workers": 0}, r"workers 0: 1 \.\. 1024"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(options: Mapping[str, Any], pattern: str, tmp_path: Path) -> None:
    put(tmp_path / "in", {"x.tar": packed(birds())})
    out = tmp_path / options.get("out", "out")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=pattern):
        import_tars(tmp_path / "in", **{**options, "out": out})
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("in", "--source", "cifar10"), 2),
        (("in", "--data-dir", "in"), 2),
        (("in", "--unverified"), 2),
        (("list.txt", "--label-key", "x", "--source", "birds"), 2),
        (("list.txt", "--workers", "2", "--source", "birds"), 2),
        (("in", "--workers", "0"), 2),
        (("gone.tar",), 4),
        (("a" * 5000 + ".tar",), 4),
        (("in", "--classes", "gone.txt"), 4),
    ],
)
def test_a_command_that_cannot_be_meant_ends_with_one_line(
    arguments: tuple[str, ...], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(put(tmp_path, {"in/x.tar": packed(birds()), "list.txt": b"a.jpg 0\n"}))
    assert run("import", *arguments, "--out", "out").refused(code)
    assert names(tmp_path) == ["in", "list.txt"]


def test_the_command_says_what_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(put(tmp_path, {"cifar100-lt-exp-if100.tar": packed(birds())}))
    ended = run("import", "cifar100-lt-exp-if100.tar", "--out", "out")
    digest = read_manifest(Path("out")).content_sha256
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "cifar100-lt-exp-if100-import: imported, 1 shard rewritten\n"
        "  images   6 train\n  classes  3: many 0 | medium 0 | few 3 (rule strict)\n  shards   1, 0.0 MB\n"
        f"  content  sha256 {digest}\n  folder   out\n"
    )
    told = json.loads(run("import", "cifar100-lt-exp-if100.tar", "--out", "out", "--force", "--json").out)
    assert (told["images"], told["content_sha256"]) == ({"train": 6}, digest)


def test_bars_are_drawn_on_a_terminal_only(tmp_path: Path) -> None:
    put(tmp_path, {"x.tar": packed(birds())})
    command = ("import", tmp_path / "x.tar", "--out", tmp_path / "out", "--force")
    assert run(*command).err == ""
    assert run(*command, "--quiet", terminal=True).err == ""
    shown = run(*command, terminal=True).err
    assert "read shards: 100%" in shown
    assert "x: 100%" in shown


def test_every_command_works_on_what_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path, {"in/train-0.tar": packed(birds(12)), "in/test-0.tar": packed(birds(3, prefix="t"))})
    assert run("import", "in", "--out", "out").code == 0
    for command in (
        ("verify", "out"),
        ("stats", "out"),
        ("diff", "out", "out"),
        ("subset", "out", "--per-class", "2", "--as", "shards", "--out", "small"),
        ("stats", "out", "--html", "page.html"),
    ):
        ended = run(*command)
        assert ended.code == 0, ended.err
    assert run("export", "out", "--out", "rows.csv").code == 0
    assert Path("rows.csv").read_text(encoding="utf-8").count("train-0.tar/") == 12


def test_an_archive_is_read_in_chunks(tmp_path: Path) -> None:
    put(
        tmp_path,
        {"x.tar": packed([("a.jpg", b"\xff\xd8\xff" + bytes(1 << 25)), ("a.cls", b"0"), ("a.npy", bytes(1 << 25))])},
    )
    tracemalloc.start()
    try:
        found = tar_samples.read(tmp_path / "x.tar")
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()
    assert found.sizes == [3 + (1 << 25)]
    assert (found.bytes, found.bytes % 512) == ((tmp_path / "x.tar").stat().st_size, 0)


def test_a_tar_that_ends_with_its_mark_alone_is_whole(tmp_path: Path) -> None:
    """Some tools do not fill the last record; where there is no mark, the archive was never closed."""
    whole = packed(birds())
    content = whole.rstrip(b"\0")
    end = len(content) + -len(content) % 512
    for length, held in ((len(whole), True), (end + 1024, True), (end + 512, False), (end, False), (0, False)):
        put(tmp_path, {"x.tar": whole[:length]})
        if held:
            assert len(tar_samples.read(tmp_path / "x.tar").names) == 6
        else:
            refused(
                MismatchError, r"x\.tar: (is empty|ends at byte).*: it was cut off, or never closed", tmp_path / "x.tar"
            )


def test_the_example_of_the_module_reads_an_archive(tmp_path: Path) -> None:
    put(tmp_path, {"x.tar": packed([("a.txt", b"one"), ("b.txt", b"two")])})
    with (tmp_path / "x.tar").open("rb") as file:
        archive = tar.Archive(file, "x.tar")
        found = [(member.name, b"".join(archive.content())) for member in archive.members()]
    assert found == [("a.txt", b"one"), ("b.txt", b"two")]
