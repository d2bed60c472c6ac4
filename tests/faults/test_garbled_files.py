"""Any manifest, rows, list, table, array, predictions or result: read or refused by name, and nothing else comes out.

Files are changed where it hurts a program, not a disk: any JSON value at any place, any column, type and shape, digests
put right again, so that what is behind them is reached; and what is read is then used.
"""

import csv
import dataclasses
import io
import json
import math
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ace_ref import recipe as recipes
from ace_ref import report, summary
from faults.breaks import Break
from faults.effort import WHOLE, examples, tried
from faults.lines import kept_inside, laid_out
from ltdata import calibration, catalog, compare, formats, identify, page, stored
from ltdata import given as givens
from ltdata.build import Built
from ltdata.cli import comparing, describing, evaluating
from ltdata.errors import LtdataError
from ltdata.files import sha256_bytes
from ltdata.manifest import MANIFEST_NAME, SAMPLES_NAME
from ltdata.metrics import evaluate
from ltdata.overlap import overlap
from ltdata.page.loading import loading_lines
from ltdata.predictions import match_labels, read_predictions
from ltdata.sources import Where, load_source
from ltdata.stats import frequency_stats
from ltdata.subset import Part, make_subset
from ltdata.verify import verify

BREAKS = (
    Break(
        "ltdata/samples.py",
        "except (KeyError, TypeError, ValueError, OverflowError",
        "except (KeyError, TypeError, OverflowError",
        "rows",
    ),
    Break(
        "ltdata/formats/arrays.py",
        "    except Exception as error:  # of a garbled file",
        "    except EOFError as error:  #",
        "arrays",
    ),
    Break(
        "ltdata/manifest.py",
        "AttributeError, OverflowError, RecursionError) as error",
        "OverflowError) as error",
        "manifest",
    ),
)
ROOT = Path(__file__).parent.parent.parent
RESULT = json.loads((ROOT / "results" / "cpu" / "ace-plus-seed0.json").read_text(encoding="utf-8"))

# What `json.dumps` cannot write stands for itself until the text is made.
_LONG, _DEEP = "@@LONG@@", "@@DEEP@@"
WORDS = (
    "", " ", "\0", "\n", "a\nb", "a/b", "../x", "/etc/passwd", "é", "\ud800", "\u2028", "\x1b[2J", "x" * 300, "train",
    "test", "val", "0", "-1", "1.5", "nan", "1_0", "\uff11", "strict", "mislas", "digits", "cifar100", "folder",
    "imagenet-lt", "0" * 64, "__class__", "<b>", "a.jpg", "train/many-000000.tar", _LONG, _DEEP,
)  # fmt: skip
NUMBERS = (
    0,
    1,
    -1,
    2,
    9,
    10,
    99,
    1000,
    2**31,
    2**53,
    2**63 - 1,
    2**63,
    2**64,
    -(2**63),
    10**30,
    0.5,
    1.0,
    1e308,
    math.nan,
    math.inf,
)
plain = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(WORDS) | st.text(max_size=4)
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(WORDS[:24]) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
quick = settings(
    deadline=None,
    derandomize=not WHOLE,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def to_text(value: Any) -> str:
    """Write JSON, and more than JSON: numbers of thousands of digits, lists in lists without end."""
    text = json.dumps(value)
    return text.replace(f'"{_LONG}"', "9" * 5000).replace(f'"{_DEEP}"', "[" * 3000 + "]" * 3000)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """List every place of a document: a container, and a key or position."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield value, key
        yield from places(inner)


def near(value: Any) -> st.SearchStrategy[Any]:
    """Values of the same kind, so that what is behind the first check is reached."""
    if isinstance(value, bool):
        return st.just(not value)
    if isinstance(value, int | float):
        return st.sampled_from((*NUMBERS, value + 1, value - 1, float(value)))
    if isinstance(value, str):
        return st.sampled_from((*WORDS, value + "x", value[:-1], value.upper(), f" {value}", f"../{value}"))
    if isinstance(value, list):
        return st.sampled_from([value[:-1], value[::-1], value * 2, value[:1], sorted(value, key=str), []])
    return st.sampled_from([{}, {**(value or {}), "more": 1}, list(value or ())])


@st.composite
def changed(draw: Any, document: Any) -> Any:
    """A document with any value at a few places, with less, or with more."""
    document = json.loads(json.dumps(document))
    for _ in range(draw(st.sampled_from([1, 1, 1, 1, 2, 3]))):
        everywhere = [place for place in places(document) if not isinstance(place[1], int) or place[1] < 4]
        if not everywhere:
            break
        container, key = draw(st.sampled_from(everywhere))
        how = draw(st.sampled_from(["near", "near", "near", "value", "gone", "more", "like another"]))
        if how == "gone":
            del container[key]
        elif how == "near":
            container[key] = draw(near(container[key]))
        elif how == "more" and isinstance(container, list):
            container.insert(key, draw(values))
        elif how == "more":
            container[draw(st.sampled_from(WORDS))] = draw(values)
        elif how == "like another":
            other, at = draw(st.sampled_from(everywhere))
            container[key] = json.loads(json.dumps(other[at])) if at in range(len(other)) or at in other else None
        else:
            container[key] = draw(values)
    return document


def named(place: Path, work: Callable[[], object]) -> object:
    """Do something where the files are: only an error of the project's own may come of it, in one line.

    Nothing is written elsewhere, fetched, or run. Returns what came of it, None after an error.
    """
    with kept_inside(place) as outside:
        try:
            return work()
        except LtdataError as error:
            line = str(error)
            assert "\n" not in line
            assert 0 < len(line) < 2_000
            return None
        finally:
            assert outside == []


@pytest.fixture(scope="module")
def place(digits_lt: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return laid_out(tmp_path_factory.mktemp("place"), digits_lt)


# Manifests and rows


def uses(what: str) -> dict[str, Callable[[], object]]:
    """What a split is used for, by name."""
    whole = "whole"

    def with_page() -> bytes:
        found = catalog.find(what)
        figures = frequency_stats(
            found.manifest.class_counts, rule=found.manifest.group_rule["name"], class_groups=found.manifest.groups
        )
        describing.format_stats(found.manifest, figures)
        return page.compose(found.manifest, figures, loading_lines(found.manifest, what, found.folder))

    def with_rows() -> object:
        manifest = catalog.find(what, rows=True).manifest
        subset = make_subset(manifest, Part(("medium", "few"), per_class=2))
        return manifest.indices, subset.to_json()

    def with_images() -> object:
        found = catalog.find(what, rows=True)
        return found.folder and stored.stored(found.folder, found.manifest, found.manifest.rows)

    def compared() -> object:
        found = compare.compare(givens.read(what), givens.read(whole))
        return comparing.format_diff(found), json.dumps(comparing.diff_record(found, names=True))

    def evaluated() -> object:
        manifest, split = catalog.find(what, rows=True).manifest, "test"
        predictions = read_predictions(Path("answers.npz"))
        labels = match_labels(predictions, manifest, split if split in manifest.splits else None)
        return evaluate(
            labels, predictions.predictions, class_counts=manifest.class_counts, class_groups=manifest.groups
        )

    def overlapped() -> object:
        a, b = catalog.find(what).manifest, catalog.find(whole).manifest
        return describing.format_overlap(a, b, overlap(a, b)), overlap(b, a)

    def identified() -> object:
        return comparing.format_identified(identify.identify(what, identify.Search(seeds=1)))

    def verified() -> object:
        return verify(Path(what), images=False)

    def exported() -> object:
        shutil.rmtree("exported", ignore_errors=True)
        found = catalog.find(what, rows=True)
        return [formats.export(found.manifest, Path(f"exported/x.{suffix}")) for suffix in ("csv", "json", "npz")]

    return {
        use.__name__: use
        for use in (with_page, with_rows, with_images, compared, evaluated, overlapped, identified, verified, exported)
    }


USES = [*uses("whole")]
HEADERS = {
    name: json.loads((ROOT / "manifests" / f"{name}.json").read_text(encoding="utf-8"))
    for name in ("cifar10-lt-exp-if100", "imagenet-lt")
}


def laid(place: Path, source: str, header: Any, rows: bytes | None = None) -> str:
    """Lay a folder out like another, with another header, and other rows."""
    folder = place / "garbled"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in (place / source).rglob("*"):
        if path.is_file() and path.name not in (MANIFEST_NAME, SAMPLES_NAME):
            (folder / path.relative_to(place / source)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(place / source)).hardlink_to(path)
    (folder / MANIFEST_NAME).write_text(to_text(header), encoding="utf-8")
    (folder / SAMPLES_NAME).write_bytes((place / source / SAMPLES_NAME).read_bytes() if rows is None else rows)
    return "garbled"


def header_of(place: Path, source: str) -> Any:
    return json.loads((place / source / MANIFEST_NAME).read_text(encoding="utf-8"))


@given(data=st.data(), source=st.sampled_from(["whole", "view", "rows"]), use=st.sampled_from(USES))
@settings(quick, max_examples=examples(40, 1_000))
def test_a_manifest_with_any_value_at_any_place_is_used_or_refused(
    data: Any, source: str, use: str, place: Path
) -> None:
    what = laid(place, source, data.draw(changed(header_of(place, source))))
    named(place, uses(what)[use])
    tried()


@given(data=st.data(), source=st.sampled_from(sorted(HEADERS)), use=st.sampled_from([*USES]))
@settings(quick, max_examples=examples(10, 200))
def test_a_header_alone_with_any_value_at_any_place_is_used_or_refused(
    data: Any, source: str, use: str, place: Path
) -> None:
    (place / "alone.json").write_text(to_text(data.draw(changed(HEADERS[source]))), encoding="utf-8")
    named(place, uses("alone.json")[use])
    tried()


@given(data=st.data(), source=st.sampled_from(["whole", "view", "rows"]), use=st.sampled_from(USES))
@settings(quick, max_examples=examples(30, 700))
def test_rows_with_any_value_at_any_place_are_used_or_refused(data: Any, source: str, use: str, place: Path) -> None:
    """With the digest that they have then: it protects from accidents, not from people."""
    header = header_of(place, source)
    lines = (place / source / SAMPLES_NAME).read_bytes().splitlines()
    rows = [json.loads(line) for line in lines[:12]]
    written = [to_text(row).encode() for row in data.draw(changed(rows))]
    if data.draw(st.booleans()):
        written.append(
            data.draw(st.sampled_from([b"", b"{}", b"]", b"[", b"null", b"1,2", b'{"label":0},{"label":0}', b"\xff"]))
        )
    lines[: len(rows)] = written
    at = 0
    for split in header["splits"].values():
        part = b"".join(line + b"\n" for line in lines[at : at + split["num_samples"]])
        at += split["num_samples"]
        split["samples_sha256"] = sha256_bytes(part)
    named(place, uses(laid(place, source, header, b"".join(line + b"\n" for line in lines)))[use])
    tried()


# Lists and tables of anyone's


def read_any(path: Path, source: str | None, way: str) -> object:
    """Read a file in one of the ways in which commands do."""
    if way == "import":
        manifest = formats.import_(path, source=source)
        return manifest.to_json(), manifest.indices if manifest.rows["train"].source_index is not None else None
    if way == "identify":
        found = identify.identify(str(path), identify.Search(seeds=1))
        return comparing.format_identified(found), json.dumps(comparing.identified_record(found))
    if way == "diff":
        found = compare.compare(givens.read(str(path)), givens.read("whole"))
        return comparing.format_diff(found), list(comparing.format_names(found))
    return load_source("folder", Where(data_dir=Path("photos"), lists=path))


ways = st.sampled_from(["import", "import", "diff", "identify", "folder"])
sources = st.sampled_from(["mine", "mine", "mine", "cifar100", "cifar10", "digits", "imagenet-lt", "folder", None])
cells = st.sampled_from(
    [
        *WORDS[:20],
        "owl/0.jpg",
        "wren/1.jpg",
        "owl",
        "wren",
        "0",
        "1",
        "2",
        "3",
        "7",
        "50000",
        "train",
        "test",
        "val",
        "1e3",
        '"',
        "'",
        ",",
        "\t",
        "#",
    ]
) | st.text(max_size=5)
ends = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", "\n\n", "\x85", "\u2028", "\0", ""])


def raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


LISTS = (
    [["owl/0.jpg", "0"], ["owl/1.jpg", "0"], ["wren/0.jpg", "1"], ["wren/2.jpg", "1"]],
    [["owl/0.jpg", "owl"], ["wren/0.jpg", "wren"]],
    [["9470", "0"], ["27272", "0"], ["30172", "0"], ["3", "1"]],
    [["9470"], ["27272"], ["30172"]],
    [["500"], ["480"], ["40"], ["5"]],
    [["images/00000/train_1.jpg", "0"], ["images/00001/train_2.jpg", "1"]],
)


@st.composite
def damaged(draw: Any, rows: list[list[str]]) -> list[list[str]]:
    """Rows with a few cells changed, left out, or more, or a row twice."""
    rows = [list(row) for row in rows]
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 4]))):
        row = draw(st.sampled_from(rows))
        how = draw(st.sampled_from(["cell", "cell", "cell", "less", "more", "twice", "none"]))
        if how == "twice" or not row:
            rows.append(list(row))
        elif how == "cell":
            row[draw(st.integers(0, len(row) - 1))] = draw(cells)
        elif how == "less":
            row.pop()
        elif how == "more":
            row.append(draw(cells))
        else:
            row.clear()
    return rows


@given(
    rows=st.sampled_from(LISTS).flatmap(damaged),
    mark=st.sampled_from([" ", " ", "\t", "  ", ","]),
    end=ends,
    start=st.sampled_from([b"", b"", b"", b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\x80", b"#"]),
    source=sources,
    way=ways,
)
@settings(quick, max_examples=examples(40, 1_000))
def test_any_text_list_is_read_or_refused(
    rows: list[list[str]], mark: str, end: str, start: bytes, source: str | None, way: str, place: Path
) -> None:
    path = place / "any_train.txt"
    path.write_bytes(start + b"".join(raw(mark.join(words) + end) for words in rows))
    named(place, lambda: read_any(path, source, way))
    tried()


TABLES = (
    [
        ["path", "label", "split"],
        ["owl/0.jpg", "0", "train"],
        ["wren/0.jpg", "1", "train"],
        ["wren/1.jpg", "1", "test"],
    ],
    [["source_index", "label"], ["9470", "0"], ["27272", "0"], ["3", "1"]],
    [["file_name", "class_name", "x"], ["owl/0.jpg", "owl", "1"], ["wren/0.jpg", "wren", "2"]],
    [["split", "id", "index", "label", "sha256"], ["train", "train/3", "3", "1", "0" * 64]],
)


@given(
    rows=st.sampled_from(TABLES).flatmap(damaged),
    mark=st.sampled_from([",", ",", ";", "\t", "|"]),
    quoted=st.booleans(),
    end=ends,
    cut=st.sampled_from([0, 0, 0, 1, 3]),
    source=sources,
    way=ways,
)
@settings(quick, max_examples=examples(40, 1_000))
def test_any_table_is_read_or_refused(
    rows: list[list[str]], mark: str, quoted: bool, end: str, cut: int, source: str | None, way: str, place: Path
) -> None:
    text = io.StringIO()
    if quoted:
        writer = csv.writer(text, delimiter=mark, escapechar="\\", quoting=csv.QUOTE_ALL)
        writer.writerows([[cell.replace("\0", "") for cell in row] for row in rows])
    else:
        text.write(end.join(mark.join(row) for row in rows))
    whole = text.getvalue()
    path = place / f"any.{'tsv' if mark == chr(9) else 'csv'}"
    path.write_bytes(raw(whole[: len(whole) - cut]))
    named(place, lambda: read_any(path, source, way))
    tried()


FORMS: tuple[Any, ...] = (
    [3, 1, 2],
    ["owl/0.jpg", "wren/1.jpg"],
    {"train": [3, 1], "test": [4]},
    {
        "train": [3, 1],
        "labels": {"train": [0, 1]},
        "about": {"name": "x", "source": {"id": "mine"}, "class_names": ["a", "b"]},
    },
    {"indices": [1, 2], "labels": [0, 1]},
    {"train": {"label": {"owl/0.jpg": 0, "wren/1.jpg": 1}}},
    {"annotations": [{"fpath": "owl/0.jpg", "category_id": 0}], "num_classes": 2},
    {
        "images": [{"id": 1, "file_name": "owl/0.jpg"}, {"id": 2, "file_name": "wren/1.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 0}, {"id": 2, "image_id": 2, "category_id": 1}],
        "categories": [{"id": 0, "name": "owl"}, {"id": 1, "name": "wren"}],
    },
    {"0": 500, "1": 20, "2": 3},
)


@given(data=st.data(), form=st.sampled_from(range(len(FORMS) + 1)), source=sources, way=ways.filter("folder".__ne__))
@settings(quick, max_examples=examples(60, 1_000))
def test_json_of_any_form_with_any_value_is_read_or_refused(
    data: Any, form: int, source: str | None, way: str, place: Path
) -> None:
    whole = json.loads((place / "rows.json").read_text(encoding="utf-8")) if form == len(FORMS) else FORMS[form]
    path = place / "any.json"
    text = to_text(data.draw(changed(whole) if data.draw(st.integers(0, 9)) else values))
    path.write_text(text[: len(text) - data.draw(st.sampled_from([0, 0, 0, 0, 1, 5]))], encoding="utf-8")
    named(place, lambda: read_any(path, source, way))
    tried()


# Arrays and predictions

KINDS = (
    "int64", "int32", "uint8", "uint64", ">i8", "bool", "float16", "float32", "float64", "complex128", "S3", "U3",
    "datetime64[s]", "timedelta64[ns]", "V4", "i4,f8", "float128",
)  # fmt: skip
SHAPES = ((), (0,), (1,), (3,), (3, 1), (3, 3), (0, 3), (3, 0), (1, 1, 1), (300,), (300, 10), (300, 9))


@st.composite
def arrays(draw: Any) -> np.ndarray[Any, Any]:
    kind, shape = draw(st.sampled_from(KINDS)), draw(st.sampled_from(SHAPES))
    size = math.prod(shape)
    content = draw(st.sampled_from(["zeros", "count", "bytes", "negative", "nan", "sure"]))
    if content == "bytes":
        data = draw(st.binary(min_size=16, max_size=64)) * (size + 1)
        width = np.dtype(kind).itemsize
        return np.frombuffer(data[: size * width].ljust(size * width, b"\0"), dtype=kind).reshape(shape)
    array = np.zeros(shape, dtype=kind)
    with np.errstate(all="ignore"):
        if np.dtype(kind).kind in "iufc" and size:
            flat = {
                "count": np.arange(size) % 10,
                "negative": -np.arange(size) - 1,
                "nan": np.full(size, np.nan),
                "sure": np.eye(size or 1)[0],
            }
            if content in flat and not (content == "nan" and np.dtype(kind).kind in "iu"):
                array = flat[content][:size].astype(kind).reshape(shape)
        elif np.dtype(kind).kind in "SU":
            array[...] = draw(st.sampled_from(["a", "1", "\ud800", "\0x"])) if kind == "U3" else b"\xff"
    return np.asfortranarray(array) if draw(st.booleans()) else array


NAMES = (
    "train_index", "train_label", "index", "labels", "label", "train", "test_index", "test_label", "train_path",
    "about", "predictions", "logits", "probabilities", "Logits", "y_true", "arr_0", "x", "a/b", "../x", "", "é",
)  # fmt: skip


ARRAYS: tuple[dict[str, np.ndarray[Any, Any]], ...] = (
    {"train_index": np.array([9470, 27272, 3]), "train_label": np.array([0, 0, 1])},
    {
        "train_path": np.array(["owl/0.jpg", "wren/0.jpg"]),
        "train_label": np.array([0, 1]),
        "test_path": np.array(["a.jpg"]),
    },
    {"predictions": np.arange(300) % 10},
    {"logits": np.eye(10)[np.arange(300) % 10] * 3, "labels": np.repeat(np.arange(10), 30)},
    {"probabilities": np.full((300, 10), 0.1), "predictions": np.zeros(300, dtype=int)},
    {},
)


def evaluated(path: Path) -> object:
    predictions = read_predictions(path)
    manifest = catalog.find("whole", rows=True).manifest
    labels = match_labels(predictions, manifest, "test", any_order=len(predictions) % 2 == 0)
    found = evaluating._evaluated(path, manifest, "test", resamples=0, seed=0, any_order=True)
    calibration.read_confidences(predictions.logits, predictions.probabilities, images=len(labels), classes=10)
    return json.dumps(dict(found.figures), allow_nan=False)


@given(data=st.data(), source=sources, way=st.sampled_from(["import", "diff", "identify", "evaluate", "evaluate"]))
@settings(quick, max_examples=examples(50, 1_000))
def test_arrays_of_any_type_and_shape_are_read_or_refused(data: Any, source: str | None, way: str, place: Path) -> None:
    named_arrays = dict(data.draw(st.sampled_from(ARRAYS)))
    for name in data.draw(st.lists(st.sampled_from([*named_arrays, *named_arrays, *NAMES]), max_size=2)):
        named_arrays[name] = data.draw(arrays())
    buffer = io.BytesIO()
    packed = data.draw(st.booleans())
    if packed:
        with zipfile.ZipFile(buffer, "w") as file:
            for name, array in named_arrays.items():
                member = io.BytesIO()
                np.lib.format.write_array(member, array, version=data.draw(st.sampled_from([(1, 0), (2, 0), (3, 0)])))
                file.writestr(
                    f"{name}.npy", member.getvalue()[: data.draw(st.sampled_from([None, None, None, 40, -1]))]
                )
    else:
        np.save(buffer, data.draw(arrays()), allow_pickle=False)
    path = place / f"any.{'npz' if packed else 'npy'}"
    path.write_bytes(buffer.getvalue())
    named(place, lambda: evaluated(path) if way == "evaluate" else read_any(path, source, way))
    tried()


@given(data=st.data(), source=sources)
@settings(quick, max_examples=examples(20, 300))
def test_parquet_with_columns_of_any_type_is_read_or_refused(data: Any, source: str | None, place: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from pyarrow import parquet

    kinds = {
        pa.int64(): st.integers(-1, 50), pa.uint8(): st.integers(0, 9), pa.bool_(): st.booleans(), pa.null(): st.none(),
        pa.float64(): st.sampled_from([0.0, 1.5, math.nan]), pa.string(): st.sampled_from(["owl/0.jpg", "1", "test"]),
        pa.large_string(): st.just("owl"), pa.binary(): st.binary(max_size=4), pa.timestamp("s"): st.integers(0, 99),
        pa.list_(pa.int64()): st.lists(st.integers(0, 3), max_size=2), pa.decimal128(30, 2): st.none(),
        pa.struct([("bytes", pa.binary())]): st.just({"bytes": b"x"}),
        pa.dictionary(pa.int8(), pa.string()): st.sampled_from(["a", "train"]),
    }  # fmt: skip
    rows = data.draw(st.integers(0, 3))
    columns: dict[str, Any] = {}
    if data.draw(st.booleans()):
        columns = {"path": pa.array([f"owl/{n}.jpg" for n in range(rows)]), "label": pa.array([0] * rows)}
    names = st.sampled_from(["path", "label", "split", "index", "image", "Label", "x"])
    for name in data.draw(st.lists(names, unique=True, min_size=1, max_size=3)):
        kind = data.draw(st.sampled_from(list(kinds)))
        cell = kinds[kind] if data.draw(st.booleans()) else kinds[kind] | st.none()
        columns[name] = pa.array(data.draw(st.lists(cell, min_size=rows, max_size=rows)), type=kind)
    table = pa.table(columns)
    if data.draw(st.booleans()):
        about = to_text(data.draw(values))
        table = table.replace_schema_metadata({"ltdata": about, "pandas": about, "huggingface": about, "about": about})
    parquet.write_table(table, place / "any.parquet")
    named(place, lambda: read_any(place / "any.parquet", source, "import"))
    tried()


# The trainer's words and results


RECIPE = recipes.load_recipe("tiny", "ace-plus", source="digits", imbalance_factor=20)


@given(
    name=st.sampled_from([*(field.name for field in dataclasses.fields(recipes.Recipe)), "lr ", "", "é"]),
    value=st.sampled_from(NUMBERS).map(str)
    | st.lists(st.sampled_from(NUMBERS), max_size=3).map(str)
    | st.sampled_from([str(value) for value in dataclasses.asdict(RECIPE).values()])
    | values.map(to_text)
    | st.text(max_size=12)
    | st.sampled_from(["[1,2]", "[[1]]", "{a=1}", "1979-05-27", "0x1F", "1_000", "'''x'''", "inf", '"""', "true"]),
)
@settings(quick, max_examples=examples(50, 700))
def test_any_override_of_a_recipe_is_taken_or_refused(name: str, value: str, place: Path) -> None:
    recipe = RECIPE
    found = named(place, lambda: recipe.with_values(dict([recipes.parse_override(f"{name}={value}")])))
    if found is not None:
        assert isinstance(found, recipes.Recipe)
        json.dumps(dataclasses.asdict(found), allow_nan=False)
        named(place, lambda: found.with_epochs(3))
    tried()


@given(data=st.data())
@settings(quick, max_examples=examples(20, 400))
def test_a_result_with_any_value_at_any_place_is_reported_or_refused(data: Any, place: Path) -> None:
    record = json.loads(json.dumps(RESULT))
    record["history"] = record["history"][:2]
    (place / "any_result.json").write_text(to_text(data.draw(changed(record))), encoding="utf-8")

    def reported() -> object:
        rows = summary.summarise(report.load_results((place / "any_result.json",)))
        return (
            summary.table(rows),
            report.markdown(rows),
            json.dumps([report._plain(row) for row in rows], allow_nan=False),
        )

    named(place, reported)
    tried()
