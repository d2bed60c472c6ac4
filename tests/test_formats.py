"""Formats: what leaves ltdata comes back with the same content; anyone's file is read, or refused in one line."""

import hashlib
import io
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SHARED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_cli import run

import ltdata
from ltdata import formats, pinned
from ltdata.build import Built, build
from ltdata.catalog import find
from ltdata.errors import LtdataError, MismatchError, OutputError, SourceMissingError, UsageError
from ltdata.files import sha256_bytes, sha256_file
from ltdata.formats import Foreign, export, import_, read, write_import
from ltdata.lists import path_fault
from ltdata.manifest import Manifest, describe_rule, make_split
from ltdata.reader import read_manifest, read_samples
from ltdata.samples import Samples, content_digest, list_bytes
from ltdata.sources.official import OFFICIAL
from ltdata.spec import Spec
from ltdata.stats import frequency_stats
from ltdata.subset import Part, make_subset
from ltdata.verify import verify

PINNED = ltdata.load("cifar100-lt", imbalance_factor=100)
CONTENT = "7440c226eaee8bb12bd7c9af6b9c5cf6a235fd5952a650ad99a48173a712230b"
SELF_DESCRIBING = ("json", "npz", "parquet", "huggingface")
READABLE = (*SELF_DESCRIBING, "csv", "list")
SUFFIX = {"json": ".json", "npz": ".npz", "parquet": ".parquet", "csv": ".csv"}


def written(manifest: Manifest, form: str, folder: Path) -> Path:
    """Export all splits and return what `read` and `import_` take."""
    out = folder / f"out{SUFFIX.get(form, '')}"
    export(manifest, out, form=form)
    return out


def tree(path: Path) -> dict[str, bytes]:
    """Return the content of a file, or of every file in a folder."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path.parent)): file.read_bytes() for file in files}


def small(rows: Mapping[str, Samples], *, source: str = "birds", **header: Any) -> Manifest:
    """Make a manifest of few rows."""
    num_classes = 1 + max(int(samples.labels.max(initial=0)) for samples in rows.values())
    return Manifest(
        name="small",
        source={"id": source, "version": "1"},
        protocol={"name": "mine", "version": 1, "params": {"seed": 3, "of": "täglich"}},
        group_rule=describe_rule("oltr"),
        class_names=tuple(f"class {n}" for n in range(num_classes)),
        splits={name: make_split(name, samples, num_classes=num_classes) for name, samples in rows.items()},
        content_sha256=content_digest(source, rows),
        created_by={"ltdata": ltdata.__version__},
        samples=rows,
        **header,
    )


def by_path(*paths: str) -> Samples:
    return Samples(np.arange(len(paths), dtype=np.int64) % 3, source_path=paths)


# --- out and back


@pytest.mark.parametrize("form", [*READABLE, "npy"])
def test_the_pinned_split_comes_back_from_every_format(form: str, tmp_path: Path) -> None:
    back = import_(written(PINNED, form, tmp_path), source="cifar100")
    assert back.content_sha256 == CONTENT == content_digest("cifar100", back.rows)
    assert (back.name, back.protocol, back.class_names) == (PINNED.name, PINNED.protocol, PINNED.class_names)
    assert (back.source, back.citation, back.group_rule) == (PINNED.source, PINNED.citation, PINNED.group_rule)


@pytest.mark.parametrize("form", ["list", "npy"])
def test_the_training_rows_alone_are_enough_for_cifar(form: str, tmp_path: Path) -> None:
    """Labels come from the pinned splits, and the test split is the source's."""
    out = tmp_path / "mine"
    export(PINNED, out, form=form, split="train")
    out = out.rename(tmp_path / f"mine{'.txt' if form == 'list' else '.npy'}")
    back = import_(out, source="cifar100")
    assert (back.content_sha256, back.protocol["name"]) == (CONTENT, "ldam")
    assert np.array_equal(back.rows["test"].labels, PINNED.rows["test"].labels)


@pytest.mark.parametrize("name", ["cifar10-lt-exp-if10", "cifar100-lt-exp-if10", "cifar100-lt-step-if10"])
def test_every_pinned_split_is_known_by_its_positions(name: str, tmp_path: Path) -> None:
    export(ltdata.load(name), tmp_path / "a.npy", split="train")
    back = import_(tmp_path / "a.npy", source=name.partition("-")[0])
    assert (back.name, back.content_sha256) == (name, pinned.header(name).content_sha256)


def test_a_file_that_says_that_it_is_the_training_split_alone_stays_that(tmp_path: Path) -> None:
    export(PINNED, tmp_path / "a.json", split="train")
    back = import_(tmp_path / "a.json")
    assert list(back.splits) == ["train"]
    assert back.content_sha256 == content_digest("cifar100", {"train": PINNED.rows["train"]})


@pytest.mark.parametrize("form", SELF_DESCRIBING)
def test_formats_that_hold_a_header_bring_it_back_without_a_word_of_ours(form: str, tmp_path: Path) -> None:
    rows = {"train": by_path("a.jpg", "b.jpg", "c.jpg"), "test": by_path("t/a.jpg")}
    given = small(rows, citation=("Someone, 2020",), superclass_names=("x", "y", "z"), class_groups=(2, 0, 1))
    assert import_(written(given, form, tmp_path)) == given


@pytest.mark.parametrize("form", READABLE)
def test_a_subset_with_other_labels_comes_back(form: str, digits_lt: Built, tmp_path: Path) -> None:
    whole = find(str(digits_lt.folder), rows=True).manifest
    subset = make_subset(whole, Part(groups=("few",)), relabel=True)
    path = written(subset, form, tmp_path)
    if form in SELF_DESCRIBING:
        back = import_(path)
        assert back.content_sha256 == subset.content_sha256
        assert np.array_equal(back.groups, subset.groups)
        return
    with pytest.raises(MismatchError, match="numbered anew"):  # a plain list cannot say that its labels are others
        import_(path, source="digits")


ODD = st.text(
    st.sampled_from("ab, ;\"'\\\t%#{}[]:=äß漢😀\u200b-_.0") | st.characters(exclude_categories=("Cs", "Cc")),
    max_size=12,
)
PATHS = st.lists(
    st.builds("{}/{}.jpg".format, ODD.map(lambda text: text.replace("/", "")), ODD).filter(
        lambda path: path_fault(path) is None
    ),
    min_size=3,
    max_size=12,
    unique=True,
)
POSITIONS = st.lists(st.integers(0, 2**63 - 1), min_size=3, max_size=12, unique=True)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Draw manifests of one to three splits, by path or by position."""
    named = draw(st.booleans())
    places = draw(PATHS if named else POSITIONS)
    labels = draw(st.lists(st.integers(0, 4), min_size=len(places), max_size=len(places)))
    samples = Samples(
        np.array(labels, dtype=np.int64),
        source_path=tuple(places) if named else None,
        source_index=None if named else np.array(places, dtype=np.int64),
    )
    names = draw(st.sampled_from([("train",), ("train", "test"), ("train", "val", "test")]))
    cuts = st.lists(st.integers(1, len(places) - 1), min_size=len(names) - 1, max_size=len(names) - 1, unique=True)
    bounds = [0, *sorted(draw(cuts)), len(places)]
    rows = {
        name: samples.take(np.arange(start, end))
        for name, start, end in zip(names, bounds[:-1], bounds[1:], strict=True)
    }
    return small(rows)


@pytest.mark.parametrize("form", READABLE)
def test_any_split_comes_back_with_the_same_content(form: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Odd paths (spaces, quotes, commas, braces, other scripts), many splits, positions up to 2**63 - 1."""

    @settings(
        deadline=None,
        max_examples=8 if form == "huggingface" else 60,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(manifests())
    def comes_back(manifest: Manifest) -> None:
        path = written(manifest, form, tmp_path_factory.mktemp("any"))
        back = import_(path, source="birds")
        assert back.content_sha256 == manifest.content_sha256
        assert {name: list_bytes(rows) for name, rows in back.rows.items()} == {
            name: list_bytes(rows) for name, rows in manifest.rows.items()
        }
        if form in SELF_DESCRIBING:
            assert back == manifest

    comes_back()


@pytest.mark.parametrize("form", [*READABLE, "npy"])
def test_two_exports_have_the_same_bytes(form: str, tmp_path: Path) -> None:
    """Parquet and Hugging Face folders as well, for one version of their libraries, which write it into the files."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = (tree(written(PINNED, form, tmp_path / name)) for name in "ab")
    assert first == second
    assert first


def test_a_list_is_what_the_digest_is_made_of(tmp_path: Path) -> None:
    export(PINNED, tmp_path / "lists", form="list")
    assert (tmp_path / "lists" / "train.txt").read_bytes() == list_bytes(PINNED.rows["train"])
    assert sorted(path.name for path in (tmp_path / "lists").iterdir()) == ["test.txt", "train.txt"]


def test_a_build_and_its_folder_import_as_what_they_are(digits_lt: Built, tmp_path: Path) -> None:
    for path in (digits_lt.folder, digits_lt.folder / "manifest.json"):
        back = import_(path)
        assert back.content_sha256 == digits_lt.manifest.content_sha256
        assert back.protocol == digits_lt.manifest.protocol
    kept = write_import(back, tmp_path / "copy")
    assert not kept.has_images
    assert read_samples(tmp_path / "copy", read_manifest(tmp_path / "copy"))["train"].sha256 is None


# --- exports that others read


def test_csv_is_read_by_pandas_with_odd_paths(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas comes with the extra huggingface")
    paths = ("a,b.jpg", 'say "hi".jpg', "  two  spaces .jpg", "läßt.jpg")
    export(small({"train": by_path(*paths)}), tmp_path / "x.csv")
    table = pandas.read_csv(tmp_path / "x.csv")
    assert table["source_path"].tolist() == list(paths)
    assert table["label"].tolist() == [0, 1, 2, 0]
    assert b"\r" not in (tmp_path / "x.csv").read_bytes()


def test_a_path_that_ends_in_a_blank_is_for_tables_alone(tmp_path: Path) -> None:
    """What reads lists takes blanks before the label for a gap."""
    manifest = small({"train": by_path("a.jpg", "b.jpg ")})
    with pytest.raises(UsageError, match="choose csv"):
        export(manifest, tmp_path / "x.txt")
    export(manifest, tmp_path / "x.csv")
    assert import_(tmp_path / "x.csv", source="birds").paths == ("a.jpg", "b.jpg ")


def test_arrays_hold_positions_little_endian_and_no_objects(tmp_path: Path) -> None:
    export(PINNED, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["train_index"], PINNED.indices)
        assert np.array_equal(arrays["train_label"], PINNED.labels)
        assert json.loads(str(arrays["about"]))["content_sha256"] == CONTENT
    export(PINNED, tmp_path / "train.npy", split="train")
    positions = np.load(tmp_path / "train.npy")
    assert np.array_equal(positions, PINNED.indices)
    assert positions.dtype.str == "<i8"


def test_json_is_a_list_of_positions_per_split(tmp_path: Path) -> None:
    export(PINNED, tmp_path / "x.json")
    record = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert record["train"] == PINNED.indices.tolist()
    assert record["labels"]["test"] == PINNED.rows["test"].labels.tolist()


def test_parquet_is_read_by_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas comes with the extra huggingface")
    export(PINNED, tmp_path / "x.parquet")
    table = pandas.read_parquet(tmp_path / "x.parquet")
    train = table[table["split"] == "train"]
    assert train["source_index"].tolist() == PINNED.indices.tolist()
    assert train["label"].tolist() == PINNED.labels.tolist()


@pytest.mark.parametrize("name", ["counts.npy", "counts.json"])
def test_counts_are_the_class_counts_of_a_split_and_need_no_rows(name: str, tmp_path: Path) -> None:
    header = pinned.header("imagenet-lt")
    export(header, tmp_path / name, form="counts")
    found = np.load(tmp_path / name) if name.endswith("npy") else json.loads((tmp_path / name).read_text())
    assert list(found) == list(header.splits["train"].class_counts)


def test_a_hugging_face_export_has_the_images_in_the_order_of_the_rows(digits_lt: Built, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra huggingface is not installed")
    found = find(str(digits_lt.folder), rows=True)
    export(found.manifest, tmp_path / "hf", form="huggingface", folder=found.folder)
    loaded = datasets.load_from_disk(str(tmp_path / "hf"))
    for name, samples in found.manifest.rows.items():
        raw = loaded[name].cast_column("image", datasets.Image(decode=False))
        digests = [sha256_bytes(image["bytes"]) for image in raw["image"]]
        assert tuple(digests) == samples.sha256
        assert list(loaded[name]["label"]) == samples.labels.tolist()
        assert list(loaded[name]["source_index"]) == samples.positions.tolist()
    assert loaded["train"].features["label"].names == list(found.manifest.class_names)
    assert loaded["train"][0]["image"].size == (32, 32)
    assert import_(tmp_path / "hf").content_sha256 == found.manifest.content_sha256


def test_a_damaged_image_is_not_exported(digits_lt: Built, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(digits_lt.folder, tmp_path / "copy"))
    shard = copy / "train" / "few-000000.tar"
    data = bytearray(shard.read_bytes())
    data[2000] ^= 1
    shard.write_bytes(data)
    found = find(str(copy), rows=True)
    with pytest.raises(MismatchError, match="another digest than its row"):
        export(found.manifest, tmp_path / "hf", form="huggingface", folder=copy)
    assert not (tmp_path / "hf").exists()


def test_a_wids_index_names_every_shard_from_its_own_place(digits_lt: Built, tmp_path: Path) -> None:
    found = find(str(digits_lt.folder), rows=True)
    files = export(found.manifest, tmp_path / "index", form="wids", folder=found.folder)
    for path, (name, split) in zip(files, found.manifest.splits.items(), strict=True):
        index = json.loads(path.read_text())
        assert (index["__kind__"], index["wids_version"]) == ("wids-shard-index-v1", 1)
        assert path.name == f"{name}.json"
        for entry, shard in zip(index["shardlist"], split.shards, strict=True):
            data = (path.parent / entry["url"]).read_bytes()
            assert hashlib.md5(data, usedforsecurity=False).hexdigest() == entry["md5sum"]
            assert (len(data), entry["nsamples"]) == (entry["filesize"], shard.num_samples)
            assert sha256_bytes(data) == shard.sha256


def test_a_croissant_record_names_files_by_digest_and_refers_only_to_what_it_holds(
    digits_lt: Built, tmp_path: Path
) -> None:
    found = find(str(digits_lt.folder), rows=True)
    (path,) = export(found.manifest, tmp_path / "croissant.json", form="croissant", folder=found.folder)
    record = json.loads(path.read_text())
    files = [item for item in record["distribution"] if item["@type"] == "cr:FileObject"]
    assert len(files) == 1 + sum(len(split.shards) for split in found.manifest.splits.values())
    assert all(sha256_file(path.parent / item["contentUrl"]) == item["sha256"] for item in files)
    fields = [each for records in record["recordSet"] for each in records["field"]]
    ids = [item["@id"] for item in (*record["distribution"], *record["recordSet"], *fields)]
    assert len(ids) == len(set(ids))
    assert set(references(record["distribution"]) + references(record["recordSet"])) <= set(ids)


def references(node: Any) -> list[str]:
    """List the identifiers that a JSON-LD node refers to."""
    if isinstance(node, dict):
        own = [node["@id"]] if list(node) == ["@id"] else []
        return own + [each for value in node.values() for each in references(value)]
    return [each for item in node for each in references(item)] if isinstance(node, list) else []


def test_a_croissant_record_is_valid_and_loads(digits_lt: Built, tmp_path: Path) -> None:
    croissant = pytest.importorskip("mlcroissant", reason="mlcroissant, the format's own validator, is not installed")
    found = find(str(digits_lt.folder), rows=True)
    (path,) = export(found.manifest, tmp_path / "croissant.json", form="croissant", folder=found.folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        records = list(croissant.Dataset(jsonld=str(path)).records(record_set="train"))
    labels = {int(record["train/key"]): record["train/label"] for record in records}
    assert [labels[row] for row in range(len(labels))] == found.manifest.labels.tolist()


# --- files of all kinds


def one(path: Path, content: str | bytes, name: str) -> Foreign:
    file = path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(file)


def plain(found: Foreign) -> dict[str, Any]:
    return {
        name: (
            list(part.paths) if part.paths is not None else part.positions.tolist(),  # type: ignore[union-attr]
            part.labels.tolist() if part.labels is not None else None,
        )
        for name, part in found.splits.items()
    }


COCO = {
    "images": [{"id": 7, "file_name": "x.jpg"}, {"id": 3, "file_name": "y.jpg"}],
    "annotations": [{"image_id": 3, "category_id": 1}, {"image_id": 7, "category_id": 0}],
}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "a b.jpg 3\nc.jpg 1\n", {"train": (["a b.jpg", "c.jpg"], [3, 1])}),
        ("a.txt", "\ufeff7 3\r\n4 1", {"train": ([7, 4], [3, 1])}),
        ("a.txt", "7\n4\n4\n", {"train": ([7, 4, 4], None)}),
        ("a.txt", "a.jpg\nb.jpg\n", {"train": (["a.jpg", "b.jpg"], None)}),
        ("birds_val.txt", "7 3\n", {"val": ([7], [3])}),
        ("test.csv", "index,label\n7,3\n", {"test": ([7], [3])}),
        ("a.csv", "file_name;species\nx.jpg;wren\ny.jpg;owl\n", {"train": (["x.jpg", "y.jpg"], [1, 0])}),
        ("a.tsv", "path\tlabel\tsplit\nx\t1\ttest\ny\t0\ttrain\n", {"train": (["y"], [0]), "test": (["x"], [1])}),
        ("a.json", "[3, 1, 2]", {"train": ([3, 1, 2], None)}),
        ("a.json", '{"test": [5], "train": [3, 1]}', {"train": ([3, 1], None), "test": ([5], None)}),
        ("a.json", '{"idx": [3, 1], "labels": [0, 1]}', {"train": ([3, 1], [0, 1])}),
        ("a.json", '{"train": [3], "labels": [4]}', {"train": ([3], [4])}),
        ("a.json", json.dumps(COCO), {"train": (["x.jpg", "y.jpg"], [0, 1])}),
        (
            "a.json",
            '{"annotations": [{"image_id": 1, "fpath": "x.jpg", "category_id": 4}], "num_classes": 5}',
            {"train": (["x.jpg"], [4])},
        ),
        (
            "a.json",
            '{"train": {"label": {"x.jpg": 4, "y.jpg": 0}}, "test_lt": {"label": {"z.jpg": 1}}}',
            {"train": (["x.jpg", "y.jpg"], [4, 0])},
        ),
    ],
)
def test_known_forms_are_read(name: str, content: str, expected: dict[str, Any], tmp_path: Path) -> None:
    assert plain(one(tmp_path, content, name)) == expected


def test_arrays_of_any_integer_type_are_read(tmp_path: Path) -> None:
    for dtype in ("<i8", ">i4", "u2", "int8"):
        np.save(tmp_path / "a.npy", np.array([5, 3], dtype=dtype))
        assert plain(read(tmp_path / "a.npy")) == {"train": ([5, 3], None)}
    np.savez(tmp_path / "a.npz", train=np.array([5]), test_idx=np.array([1]), test_labels=np.array([2]))
    assert plain(read(tmp_path / "a.npz")) == {"train": ([5], None), "test": ([1], [2])}


def test_a_folder_of_files_is_read_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "Birds_LT_train.txt").write_text("a.jpg 0\n")
    (tmp_path / "Birds_LT_test.txt").write_text("b.jpg 0\n")
    (tmp_path / "notes.txt").write_text("hello")
    assert plain(read(tmp_path)) == {"train": (["a.jpg"], [0]), "test": (["b.jpg"], [0])}
    (tmp_path / "train.txt").write_text("a.jpg 0\n")
    with pytest.raises(UsageError, match=r"Birds_LT_train\.txt and train\.txt both mean train"):
        read(tmp_path)


def test_a_hugging_face_data_set_of_someone_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra huggingface is not installed")
    features = datasets.Features(
        {"index": datasets.Value("int32"), "label": datasets.ClassLabel(names=["owl", "wren"])}
    )
    part = datasets.Dataset.from_dict({"index": [4, 9], "label": [1, 0]}, features=features).select([1, 0])
    part.save_to_disk(str(tmp_path / "birds_test"))
    assert plain(read(tmp_path / "birds_test")) == {"test": ([9, 4], [0, 1])}
    datasets.DatasetDict({"train": part, "validation": part}).save_to_disk(str(tmp_path / "both"))
    found = read(tmp_path / "both")
    assert plain(found) == {"train": ([9, 4], [0, 1]), "val": ([9, 4], [0, 1])}
    assert found.about == {"class_names": ["owl", "wren"]}


def test_parquet_with_an_image_column_is_read_without_it(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from pyarrow import parquet

    table = pa.table({"image": [{"bytes": b"\x89PNG"}], "Index": pa.array([3], pa.uint8()), "label": ["owl"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert plain(read(tmp_path / "a.parquet")) == {"train": ([3], [0])}


def array(values: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, **options)
    return buffer.getvalue()


def npy_with_header(header: str) -> bytes:
    padded = header.encode() + b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + bytes(16)


FAULTS = [
    ("a.txt", "", "is empty"),
    ("a.txt", "x.jpg 3\ny.jpg\n", r"a\.txt:2: 'y\.jpg' is not a path and a label"),
    ("a.txt", "x.jpg 3\ny.jpg three\n", r"a\.txt:2: label 'three'"),
    ("a.txt", "3 0\n-4 0\n", r"a\.txt:2: index '-4'"),
    ("a.txt", "3\n4.0\n", r"a\.txt:2: index '4\.0'"),
    ("a.txt", "3\nnan\n", r"a\.txt:2: index 'nan'"),
    ("a.txt", f"{10**30}\n", r"a\.txt:1: index '1000"),
    ("a.txt", b"\xff\xfe\n", r"a\.txt:1: not UTF-8"),
    ("a.csv", "path,label\nx.jpg,1\ny.jpg\n", r"a\.csv:3: 1 fields"),
    ("a.csv", "path,label,split\nx.jpg,1,tset\n", "split 'tset' is none of train, val, test"),
    ("a.csv", "x,y\n1,2\n", r"a\.csv:1: the header"),
    ("a.json", '{"train": [1, 2', "not readable as JSON"),
    ("a.json", "[" * 100_000, "not readable as JSON"),
    ("a.json", "[1, 2.5]", "row 2: index 2.5 is not a whole number"),
    ("a.json", '{"train": [1, NaN]}', r"train: row 2: index nan"),
    ("a.json", "[1, -2]", "row 2: index -2"),
    ("a.json", "[true, false]", "row 1: index True"),
    ("a.json", f"[{10**30}]", "row 1: index 1000"),
    ("a.json", '[1, "x.jpg"]', "row 2: index 'x.jpg'"),
    ("a.json", '{"train": [1], "validation": [2], "val": [3]}', "two splits mean val"),
    ("a.json", '{"train": [1, 2], "labels": {"train": [1]}}', "2 rows, 1 labels"),
    ("a.json", '{"train": 3}', "is 3, not a list"),
    ("a.json", '{"cars": [3]}', "the keys 'cars' are none of a known form"),
    ("a.json", '"hello"', "not .* images and annotations"),
    ("a.json", '{"annotations": [{"fpath": "x.jpg"}]}', "annotation 1 has no label"),
    ("a.json", '{"annotations": [{"fpath": "x", "category_id": 5}], "num_classes": 5}', "annotation 1: label 5"),
    ("a.json", '{"annotations": [], "num_classes": -1}', "lists no image"),
    ("a.json", '{"train": [1], "about": {"class_names": [1]}}', "says of itself class_names"),
    ("a.json", '{"train": [1], "about": {"name": "\\ud800"}}', "not UTF-8"),
    ("a.json", f'{{"train": [1], "about": {{"source": {{"id": "x", "y": {"[" * 500}{"]" * 500}}}}}}}', "100 deep"),
    ("a.json", '{"train": []}', "lists no image"),
    ("a.npy", array(np.zeros(3, bool)), r"np\.flatnonzero"),
    ("a.npy", array(np.ones(3)), "holds float64"),
    ("a.npy", array(np.ones((3, 2), int)), r"shape \(3, 2\)"),
    ("a.npy", array(np.array([1, -3])), "row 2: index -3"),
    ("a.npy", array(np.array([2**63], np.uint64)), "row 1: index 9223372036854775808"),
    ("a.npy", array(np.array([{}], object), allow_pickle=True), "not a readable file of arrays"),
    ("a.npy", array(np.arange(90))[:200], "not a readable file of arrays"),
    ("a.npy", b"", "not a readable file of arrays"),
    ("a.npy", array(np.zeros(0, int)), "lists no image"),
    (
        "a.npy",
        npy_with_header(f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({10**15},), }}"),
        "not a readable file of arrays",
    ),
    (
        "a.npy",
        npy_with_header("{'descr': '<i8', 'fortran_order': False, 'shape': (-1,), }"),
        r"a\.npy",
    ),
    ("a.npz", b"PK\x03\x04", "not a readable file of arrays"),
    ("a.parquet", b"PAR1PAR1", "not readable as Parquet"),
    ("a.pkl", b"\x80\x04.", "files named \\*.pkl are not read"),
]


@pytest.mark.parametrize(("name", "content", "message"), FAULTS, ids=[f"{f[0]}-{f[2][:24]}" for f in FAULTS])
def test_every_fault_is_one_error_that_names_the_file(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(LtdataError, match=message) as refused:
        one(tmp_path, content, name)
    assert str(tmp_path / name) in str(refused.value)
    assert type(refused.value) in (MismatchError, UsageError)


def test_npz_faults_are_told(tmp_path: Path) -> None:
    def refused(message: str, **arrays: Any) -> None:
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(MismatchError, match=message):
            read(tmp_path / "a.npz")

    refused("holds weights", weights=np.ones(3))
    refused("both mean train", train=np.arange(3), train_index=np.arange(3))
    refused("train_label", train=np.arange(3), train_label=np.arange(2))
    refused("belongs to no positions", train=np.arange(3), test_label=np.arange(2))
    refused("says of itself is not readable", train=np.arange(3), about=np.array("{"))
    refused("label -1", train=np.arange(1), train_label=np.array([-1]))


def test_an_archive_that_would_unpack_to_an_absurd_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats.arrays, "_MAX_BYTES", 10_000)
    np.savez_compressed(tmp_path / "a.npz", train=np.zeros(100_000, int))
    with pytest.raises(MismatchError, match="unpacks to"):
        read(tmp_path / "a.npz")


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([".txt", ".csv", ".json", ".npy", ".npz", ".parquet"]),
    cut=st.integers(0, 3000),
    flip=st.integers(0, 3000),
    value=st.integers(0, 255),
)
def test_a_garbled_file_is_read_or_refused_but_nothing_else(
    suffix: str, cut: int, flip: int, value: int, garbled: Mapping[str, bytes], tmp_path: Path
) -> None:
    data = bytearray(garbled[suffix])
    data[flip % len(data)] = value
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data[: len(data) - cut] if cut % 2 else data)
    try:
        import_(path, source="birds")
    except LtdataError as error:
        assert "\n" not in str(error)  # noqa: PT017 - that it raises is not asked for


@pytest.fixture(scope="module")
def garbled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Whole exports, by suffix."""
    folder = tmp_path_factory.mktemp("whole")
    labels, places = np.array([0, 1, 2, 0]), np.array([4, 9, 2, 7])
    manifest = small({"train": Samples(labels, places)})
    found = {suffix: written(manifest, form, folder).read_bytes() for form, suffix in SUFFIX.items()}
    export(manifest, folder / "train.txt")
    export(manifest, folder / "train.npy")
    return found | {suffix: (folder / f"train{suffix}").read_bytes() for suffix in (".txt", ".npy")}


def test_without_its_library_a_format_is_refused_with_the_extra_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(PINNED, tmp_path / "x.parquet")
    export(PINNED, tmp_path / "hf", form="huggingface")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    for call in (
        lambda: read(tmp_path / "x.parquet"),
        lambda: export(PINNED, tmp_path / "y.parquet"),
    ):
        with pytest.raises(UsageError, match=r"pip install 'ltdata\[parquet\]'"):
            call()
    for call in (lambda: read(tmp_path / "hf"), lambda: export(PINNED, tmp_path / "y", form="huggingface")):
        with pytest.raises(UsageError, match=r"pip install 'ltdata\[huggingface\]'"):
            call()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "x.parquet"]


# --- import: every row checked


def refused(kind: type[LtdataError], message: str, path: Path, **options: Any) -> None:
    with pytest.raises(kind, match=message) as error:
        import_(path, **options)
    assert "\n" not in str(error.value)


def test_rows_that_no_split_can_have_are_refused_by_row(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for content, message in (
        ("7 3\n8 1\n7 3\n", "train row 3: 7 is listed twice, first in .*: train row 1; take one out"),
        ("7 49\n50000 1\n", r"train row 2: index 50000 is not in 0 \.\. 49999"),
        ("a.jpg 3\n", "train names images by path, cifar100 has positions"),
        ("9470 0\n27272 100\n", r"train row 2: label 100 is not in 0 \.\. 99"),
    ):
        path.write_text(content)
        refused(MismatchError, message, path, source="cifar100")
    for content, message in (
        ("../a.jpg 0\n", "train row 1: path '../a.jpg' leads outside"),
        ("a.jpg 0\n/b.jpg 1\n", "train row 2: path '/b.jpg' is absolute"),
        ("a.jpg 0\na.jpg 1\n", "train row 2: a.jpg is listed twice"),
        ("3 0\n", "a folder has paths"),
        ("a.jpg 999999999\n", "label 999999999"),
    ):
        path.write_text(content)
        refused(MismatchError, message, path, source="folder")


def test_an_image_in_two_splits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"train": [9470, 27272], "val": [30172, 9470]}')
    refused(MismatchError, "val row 2: 9470 is in train too", path, source="cifar100")
    path.write_text('{"train": [9470, 27272], "test": [9470]}')  # the test images are numbered on their own
    assert import_(path, source="cifar100").splits["test"].num_samples == 1


def test_labels_that_contradict_the_source_are_refused_by_row(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    rows = list(zip(PINNED.indices.tolist(), PINNED.labels.tolist(), strict=True))
    rows[70] = (rows[70][0], 99)
    path.write_text("".join(f"{at} {label}\n" for at, label in rows))
    message = rf"train row 71: label 99, but image {rows[70][0]} of cifar100 has label 0 \(1 rows differ\)"
    refused(MismatchError, message, path, source="cifar100")


def test_classes_by_name_get_the_numbers_of_the_source(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    names = [PINNED.class_names[label] for label in PINNED.labels.tolist()]
    lines = [f"{at},{name}\n" for at, name in zip(PINNED.indices.tolist(), names, strict=True)]
    path.write_text("index,class\n" + "".join(lines))
    assert import_(path, source="cifar100").content_sha256 == CONTENT
    path.write_text("index,class\n9470,owl\n")
    refused(MismatchError, "class 'owl' is none of the 100 known", path, source="cifar100")


def test_positions_that_no_pinned_split_has_need_the_source(
    cifar100_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LTDATA_HOME", str(tmp_path / "empty"))
    path = tmp_path / "train.npy"
    np.save(path, np.arange(50_000))
    refused(SourceMissingError, "positions without labels.* --data-dir", path, source="cifar100")
    folder = cifar100_dir / "cifar-100-binary"
    manifest = import_(path, source="cifar100", data_dir=folder)
    assert manifest.class_counts.tolist() == [500] * 100
    assert manifest.source["verified"] is True
    assert manifest.protocol["params"]["labels"] == "those of the source"
    rows = {"train": manifest.rows["train"]}
    assert manifest.content_sha256 != content_digest("cifar100", rows)  # the test split came along
    pinned_rows = [ltdata.load("cifar100-lt", imbalance_factor=10, profile=profile) for profile in ("exp", "step")]
    unknown = sorted(set(range(50_000)) - {at for found in pinned_rows for at in found.indices.tolist()})[:9]
    (tmp_path / "a.txt").write_text("".join(f"{at} 0\n" for at in unknown))
    refused(MismatchError, "train row 1: label 0, but image", tmp_path / "a.txt", source="cifar100", data_dir=folder)
    unchecked = import_(tmp_path / "a.txt", source="cifar100")  # what nobody here knows is taken, and said
    assert "not all compared" in unchecked.protocol["params"]["labels"]


def test_a_file_whose_rows_are_not_those_of_its_digest_is_refused(tmp_path: Path) -> None:
    export(PINNED, tmp_path / "a.json")
    record = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    swapped = record | {key: record[key][1::-1] + record[key][2:] for key in ("train",)}
    (tmp_path / "a.json").write_text(json.dumps(swapped))
    refused(MismatchError, f"says content sha256 {CONTENT}, its rows have", tmp_path / "a.json")
    refused(UsageError, "says that it is of cifar100", tmp_path / "a.json", source="cifar10")


def cut(record: dict[str, Any], rows: int, **about: Any) -> str:
    """Cut the training rows of a JSON export; `about` changes what it says of itself, None takes a field out."""
    said = {key: value for key, value in (record["about"] | about).items() if value is not None}
    labels = record["labels"] | {"train": record["labels"]["train"][:rows]}
    return json.dumps(record | {"train": record["train"][:rows], "labels": labels, "about": said})


def test_what_a_file_without_a_digest_says_of_itself_is_only_a_claim(tmp_path: Path) -> None:
    export(PINNED, tmp_path / "a.json")
    record = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    source = record["about"]["source"] | {"verified": True, "version": "9", "lists": {"train": "official"}}
    (tmp_path / "cut.json").write_text(cut(record, 10_000, content_sha256=None, source=source))
    manifest = import_(tmp_path / "cut.json")
    assert (manifest.name, manifest.protocol["name"], manifest.verified) == ("cut", "import", None)
    assert manifest.source == PINNED.source
    assert manifest.protocol["params"]["claims"] == {
        "name": PINNED.name,
        "source": source,
        "protocol": dict(PINNED.protocol),
        "citation": list(PINNED.citation),
    }
    write_import(manifest, tmp_path / "out")
    assert read_manifest(tmp_path / "out").protocol == manifest.protocol
    (tmp_path / "whole.json").write_text(cut(record, 10**6, content_sha256=None, name="mine", citation=["me"]))
    whole = import_(tmp_path / "whole.json")  # its content is known, whatever it says
    assert (whole.name, whole.protocol, whole.citation) == (PINNED.name, PINNED.protocol, PINNED.citation)


@pytest.mark.parametrize("form", SELF_DESCRIBING)
def test_no_file_says_itself_that_it_was_verified(form: str, tmp_path: Path) -> None:
    given = small({"train": by_path("a.jpg", "b.jpg", "c.jpg")})
    bragging = replace(given, source={**given.source, "verified": True, "lists": {"train": {"official": True}}})
    back = import_(written(bragging, form, tmp_path))
    assert back.verified is None
    assert back == given


def test_the_name_of_a_pinned_split_is_kept_for_its_content(tmp_path: Path) -> None:
    """Also where the digest in the file is that of its rows."""
    path = tmp_path / f"{PINNED.name}.json"
    export(PINNED, path, split="train")
    assert import_(path).name == f"{PINNED.name}-import"
    assert import_(path, name="mine").name == "mine"
    refused(UsageError, "--name cifar10-lt-exp-if10: is the name of a pinned split", path, name="cifar10-lt-exp-if10")
    export(PINNED, path, force=True)
    assert import_(path).name == PINNED.name
    assert import_(path, name=PINNED.name).name == PINNED.name
    np.save(tmp_path / f"{PINNED.name}.npy", PINNED.indices[:100])
    assert import_(tmp_path / f"{PINNED.name}.npy", source="cifar100").name == f"{PINNED.name}-import"


def test_a_header_that_does_not_fit_its_rows_is_refused(tmp_path: Path) -> None:
    export(small({"train": by_path("a.jpg", "b.jpg", "c.jpg")}), tmp_path / "a.json")
    whole = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    for change in (
        {"superclass_names": ["x"]},
        {"class_groups": [0, 1, 7]},
        {"class_groups": [0]},
        {"class_names": ["only"]},
        {"group_rule": {"name": "none"}},
        {"group_rule": {"name": ["none"]}},
        {"protocol": {"name": "x"}},
        {"source": {"id": "a b\n"}},
        {"source": {"id": None}},
        {"citation": [3]},
    ):
        (tmp_path / "b.json").write_text(json.dumps(whole | {"about": whole["about"] | change}))
        refused(LtdataError, "b.json|group rule|source", tmp_path / "b.json")


def test_what_is_needed_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a.jpg 0\nb.jpg 1\n")
    refused(UsageError, "name it with --source", path)
    refused(UsageError, "source 'a/b'", path, source="a/b")
    refused(UsageError, "name '../x'", path, source="birds", name="../x")
    refused(UsageError, "has class names of its own", path, source="cifar10", classes=path)
    refused(SourceMissingError, "no such file", tmp_path / "none.txt", source="birds")
    (tmp_path / "a_test.txt").write_text("a.jpg 0\n")
    refused(MismatchError, "holds test and no training images", tmp_path / "a_test.txt", source="birds")
    path.write_text("a.jpg\nb.jpg\n")
    refused(SourceMissingError, "rows have no labels", path, source="birds")


def test_a_folder_s_list_is_named_by_a_file_of_classes_and_looked_up(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images" / name).touch()
    (tmp_path / "a.csv").write_text("path,label\na.jpg,wren\nb.jpg,owl\n")
    (tmp_path / "classes.txt").write_text("wren\nowl\nswift\n", encoding="utf-8")
    manifest = import_(
        tmp_path / "a.csv", source="folder", data_dir=tmp_path / "images", classes=tmp_path / "classes.txt"
    )
    assert manifest.class_names == ("wren", "owl", "swift")
    assert manifest.labels.tolist() == [0, 1]
    assert manifest.protocol["name"] == "import"
    assert manifest.protocol["params"]["sha256"] == sha256_file(tmp_path / "a.csv")
    (tmp_path / "images" / "b.jpg").unlink()
    refused(SourceMissingError, "b.jpg", tmp_path / "a.csv", source="folder", data_dir=tmp_path / "images")


def test_official_rows_in_other_clothes_are_those_of_the_official_list(tmp_path: Path) -> None:
    """Flat `val/` paths and CRLF, as one well-known repository has the test list."""
    lists = SHARED / "data" / "lists" / "imagenet_lt"
    if not lists.is_dir():
        pytest.skip(f"the official lists are not here ({lists}); set LTDATA_SHARED to the folder that has them")
    official = (lists / "ImageNet_LT_test.txt").read_text()
    flat = "".join(f"val/{line.rpartition('/')[2]}\r\n" for line in official.splitlines())
    (tmp_path / "ImageNet_LT_train.txt").write_text("train/n01440764/n01440764_190.JPEG 0\n")
    (tmp_path / "ImageNet_LT_test.txt").write_text(flat, newline="")
    manifest = import_(tmp_path, source="imagenet-lt")
    header = pinned.header("imagenet-lt")
    assert manifest.splits["test"].list_sha256 == header.splits["test"].list_sha256
    assert manifest.class_names == header.class_names
    found = manifest.source["lists"]
    assert (found["test"]["official"], found["train"]["official"]) == (True, False)
    assert manifest.source["verified"] is False
    (tmp_path / "ImageNet_LT_train.txt").write_text("train/n01440764/n01440764_190.JPEG 5\n")  # by frequency, as ACE
    refused(
        MismatchError, "train row 1: label 5, but image .* of ImageNet-LT has label 0", tmp_path, source="imagenet-lt"
    )


@pytest.fixture
def lists() -> Path:
    found = SHARED / "data" / "lists"
    if not found.is_dir():
        pytest.skip(f"the official lists are not here ({found}); set LTDATA_SHARED to the folder that has them")
    return found


def built_from(official: Path, prefix: str, train: str, tmp_path: Path, source: str) -> Manifest:
    """Build without images: the official lists but for training, where only the class counts are here."""
    (tmp_path / "lists").mkdir()
    for split, listed in OFFICIAL[source].lists.items():
        text = train.encode() if split == "train" else (official / f"{prefix}_{split}.txt").read_bytes()
        (tmp_path / "lists" / listed.file).write_bytes(text)
    if (official / "categories.json").is_file():
        shutil.copy(official / "categories.json", tmp_path / "lists")
    build(Spec(source), lists=tmp_path / "lists", manifest_only=True, unverified=True, out=tmp_path / "built")
    assert verify(tmp_path / "built").content_sha256
    return find(str(tmp_path / "built"), rows=True).manifest


def official_counts(manifest: Manifest, counts: Path, tmp_path: Path) -> None:
    """Check that stats and the export of class counts give the official ones."""
    expected = json.loads(counts.read_text())
    export(manifest, tmp_path / "counts.json", form="counts")
    assert json.loads((tmp_path / "counts.json").read_text()) == expected == manifest.class_counts.tolist()
    stats = frequency_stats(manifest.class_counts, rule="strict")
    assert (stats.largest, stats.smallest) == (max(expected), min(expected))


def test_imagenet_lt_at_full_size_goes_out_and_back(lists: Path, tmp_path: Path) -> None:
    """The official val and test lists leave as the bytes that they came as."""
    official, counts = lists / "imagenet_lt", lists / "imagenet_lt" / "imagenet_lt_train_class_counts.json"
    wnids = [line.split("/")[1] for line in (official / "ImageNet_LT_val.txt").read_text().splitlines()[::20]]
    train = "".join(
        f"train/{w}/{w}_{10**6 + n}.JPEG {k}\n"
        for k, (w, count) in enumerate(zip(wnids, json.loads(counts.read_text()), strict=True))
        for n in range(count)
    )
    manifest = built_from(official, "ImageNet_LT", train, tmp_path, "imagenet-lt")
    official_counts(manifest, counts, tmp_path)
    for form in ("list", "csv", "parquet"):
        back = import_(written(manifest, form, tmp_path), source="imagenet-lt")
        assert back.content_sha256 == manifest.content_sha256
        assert (back.splits, back.class_names, back.verified) == (manifest.splits, manifest.class_names, False)
        assert [listed["official"] for listed in back.source["lists"].values()] == [False, True, True]
    for split in ("val", "test"):
        expected = (official / f"ImageNet_LT_{split}.txt").read_bytes()
        assert (tmp_path / "out" / f"{split}.txt").read_bytes() == expected


def test_inaturalist_2018_at_full_size_goes_out_and_back(lists: Path, tmp_path: Path) -> None:
    official, counts = lists / "inat18", lists / "inat18" / "inat18_train_class_counts.json"
    val = (official / "iNaturalist18_val.txt").read_bytes()
    supers = {int(line.rpartition(" ")[2]): line.split("/")[1] for line in val.decode().splitlines()}
    train = "".join(
        f"train_val2018/{supers[k]}/{k}/{n:032x}.jpg {k}\n"
        for k, count in enumerate(json.loads(counts.read_text()))
        for n in range(count)
    )
    manifest = built_from(official, "iNaturalist18", train, tmp_path, "inat18")
    official_counts(manifest, counts, tmp_path)
    back = import_(written(manifest, "list", tmp_path), source="inat18")
    assert back.content_sha256 == manifest.content_sha256
    assert (back.splits, back.verified) == (manifest.splits, False)
    assert (tmp_path / "out" / "val.txt").read_bytes() == val


def test_group_rule_and_name_may_be_chosen(tmp_path: Path) -> None:
    export(PINNED, tmp_path / "a.csv")
    manifest = import_(tmp_path / "a.csv", source="cifar100", name="mine", group_rule="oltr")
    assert (manifest.name, manifest.group_rule["name"], manifest.content_sha256) == ("mine", "oltr", CONTENT)


# --- where results go


def test_one_file_per_split_needs_a_folder_or_a_split(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a file per split.* --split"):
        export(PINNED, tmp_path / "x.txt")
    one_split = small({"train": by_path("a.jpg")})
    assert export(one_split, tmp_path / "x.txt") == [tmp_path / "x.txt"]
    assert export(one_split, tmp_path / "lists", form="list") == [tmp_path / "lists" / "train.txt"]
    with pytest.raises(UsageError, match="choose list, csv or npz"):
        export(one_split, tmp_path / "x.npy")


def test_nothing_that_stands_there_is_lost(tmp_path: Path, digits_lt: Built) -> None:
    out = tmp_path / "x.csv"
    out.write_text("mine")
    with pytest.raises(UsageError, match="--force"):
        export(PINNED, out)
    assert out.read_text() == "mine"
    export(PINNED, out, force=True)
    assert out.read_text().startswith("split,")
    folder = tmp_path / "lists"
    export(PINNED, folder, form="list")
    with pytest.raises(UsageError, match="--force"):
        export(PINNED, folder, form="list")
    export(PINNED, folder, form="list", force=True)
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"would delete thesis\.tex"):
        export(PINNED, folder, form="list", force=True)
    assert (folder / "thesis.tex").read_text() == "years of work"
    with pytest.raises(OutputError, match="is a folder"):
        export(PINNED, folder, form="csv", force=True)
    with pytest.raises(OutputError, match="is a file"):
        export(PINNED, out, form="huggingface", force=True)
    for form in ("csv", "list"):
        with pytest.raises(UsageError, match="lies inside the build"):
            export(PINNED, digits_lt.folder / "x", form=form)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lists", "x.csv"]


@pytest.mark.parametrize("name", ["manifest.json", "samples.jsonl", "index.npz", "Manifest.JSON"])
@pytest.mark.parametrize("form", ["wids", "croissant"])
def test_no_file_of_a_build_is_replaced_by_its_description(
    form: str, name: str, digits_lt: Built, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(digits_lt.folder, tmp_path / "copy"))
    before = tree(copy)
    manifest = find(str(copy), rows=True).manifest
    with pytest.raises(UsageError, match="is a file of the build itself"):
        export(manifest, copy / name, form=form, split="train", folder=copy, force=True)
    shard = copy / manifest.splits["train"].shards[0].path
    with pytest.raises(UsageError, match="lies inside the build"):
        export(manifest, shard, form=form, split="train", folder=copy, force=True)
    assert tree(copy) == before
    assert export(manifest, copy / "about.json", form=form, split="train", folder=copy) == [copy / "about.json"]


@pytest.mark.parametrize("damage", [lambda data: data[:700], lambda data: data[:0], lambda data: b"\x01" + data[1:]])
@pytest.mark.parametrize("form", ["wids", "croissant"])
def test_a_damaged_shard_is_not_described(
    form: str, damage: Callable[[bytes], bytes], digits_lt: Built, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(digits_lt.folder, tmp_path / "copy"))
    found = find(str(copy), rows=True)
    shard = copy / found.manifest.splits["train"].shards[0].path
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(MismatchError, match="the manifest says") as error:
        export(found.manifest, tmp_path / "x.json", form=form, split="train", folder=copy)
    assert "\n" not in str(error.value)
    shard.unlink()
    with pytest.raises(MismatchError, match="missing"):
        export(found.manifest, tmp_path / "x.json", form=form, split="train", folder=copy)
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("form", ["wids", "croissant"])
def test_a_description_on_another_drive_is_refused(
    form: str, digits_lt: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def relpath(*_: object) -> str:
        raise ValueError("path is on mount 'C:', start on mount 'D:'")

    found = find(str(digits_lt.folder), rows=True)
    monkeypatch.setattr("os.path.relpath", relpath)
    with pytest.raises(UsageError, match="on another drive"):
        export(found.manifest, tmp_path / "x.json", form=form, split="train", folder=found.folder)


def test_values_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    rows = {"train": by_path("a.jpg"), "test": Samples(np.zeros(0, np.int64), source_path=())}
    line = {"train": Samples(np.array([0]), source_path=("a\nb.jpg",))}
    for call in (
        lambda: export(PINNED, tmp_path / "x.xyz"),
        lambda: export(PINNED, tmp_path / "x", form="xml"),
        lambda: export(PINNED, tmp_path / "x.csv", split="dev"),
        lambda: export(PINNED, tmp_path / "x.txt", form="counts"),
        lambda: export(PINNED, tmp_path / "x", form="wids"),
        lambda: export(PINNED, tmp_path / "x", form="croissant"),
        lambda: export(small(rows), tmp_path / "x.csv"),
        lambda: export(replace(PINNED, class_names=("a",) * 100), tmp_path / "x", form="huggingface"),
    ):
        with pytest.raises(UsageError):
            call()
    with pytest.raises(SourceMissingError, match="only the header is here"):
        export(pinned.header("imagenet-lt"), tmp_path / "x.csv")
    with pytest.raises(MismatchError, match="control character"):
        export(small(line), tmp_path / "x.csv")
    assert list(tmp_path.iterdir()) == []


# --- the commands


def test_the_commands_go_there_and_back(tmp_path: Path) -> None:
    out = tmp_path / "train.txt"
    ended = run("export", "cifar100-lt-exp-if100", "--split", "train", "--out", str(out), "--json")
    assert json.loads(ended.out) == {"name": PINNED.name, "files": [str(out)], "content_sha256": CONTENT}
    arguments = ("import", str(out), "--source", "cifar100", "--out", str(tmp_path / "back"))
    ended = run(*arguments, "--json")
    record = json.loads(ended.out)
    assert (record["content_sha256"], record["images"]) == (CONTENT, {"train": 10847, "test": 10000})
    assert run("verify", str(tmp_path / "back")).code == 0
    assert run(*arguments).refused(2)
    ended = run(*arguments, "--force")
    assert (ended.code, ended.err) == (0, "")
    assert CONTENT in ended.out


def test_what_was_compared_is_told_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a.jpg 0\nb.jpg 1\n")
    arguments = ("import", str(tmp_path / "a.txt"), "--source", "birds", "--force", "--out", str(tmp_path / "out"))
    ended = run(*arguments)
    assert (ended.code, ended.err) == (0, "ltdata: note: labels are those of the file\n")
    assert run(*arguments, "--quiet").err == ""
    (tmp_path / "a.json").write_text('{"train": ["a.jpg"], "labels": [0], "about": {"source": {"id": "birds"}}}')
    ended = run("import", str(tmp_path / "a.json"), "--force", "--out", str(tmp_path / "out"))
    assert (ended.code, "kept as claims" in ended.err) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("export", "cifar100-lt-exp-if100", "--out", "x.xyz"), 2),
        (("export", "nothing", "--out", "x.csv"), 4),
        (("export", "imagenet-lt", "--out", "x.csv"), 4),
        (("import", "nothing.txt", "--source", "cifar10", "--out", "x"), 4),
        (("import", "nothing\x01.txt", "--source", "cifar10", "--out", "x"), 4),
        (("import", "a" * 5000, "--source", "cifar10", "--out", "x"), 4),
    ],
)
def test_mistakes_end_with_one_line(
    arguments: tuple[str, ...], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments).refused(code)
    assert list(tmp_path.iterdir()) == []
