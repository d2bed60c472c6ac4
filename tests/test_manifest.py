"""The manifest: what its digest covers, and that nothing else than what was written is read back."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ltdata.build import Built
from ltdata.errors import MismatchError, UsageError
from ltdata.manifest import Manifest, Shard, Split, describe_rule, rows_from_bytes
from ltdata.samples import Samples, content_digest, rows_to_bytes

Row = tuple[int, int]  # source index, label
Rows = dict[str, list[Row]]

row_lists = st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 4)), min_size=1, max_size=8)
some_rows = st.fixed_dictionaries({"train": row_lists}, optional={"val": row_lists, "test": row_lists})
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def samples(rows: list[Row], *, images: bool = False) -> Samples:
    return Samples(
        labels=np.array([label for _, label in rows], dtype=np.int64),
        source_index=np.array([index for index, _ in rows], dtype=np.int64),
        sha256=tuple(hashlib.sha256(bytes([n % 256])).hexdigest() for n in range(len(rows))) if images else None,
    )


def digest(rows: Rows, *, source: str = "cifar10", images: bool = False) -> str:
    return content_digest(source, {name: samples(part, images=images) for name, part in rows.items()})


def manifest_of(rows: Rows, *, images: bool = False, classes: int = 5) -> tuple[Manifest, bytes]:
    """Make a header and its rows as `build` does, without a build."""
    parts = {name: samples(part, images=images) for name, part in rows.items()}
    stored = {name: rows_to_bytes(name, part) for name, part in parts.items()}
    splits = {
        name: Split(
            num_samples=len(part),
            class_counts=tuple(np.bincount(part.labels, minlength=classes).tolist()),
            samples_sha256=hashlib.sha256(stored[name]).hexdigest(),
            shards=(Shard(f"{name}/{name}-000000.tar", len(part), 10240, "0" * 64),) if images else (),
        )
        for name, part in parts.items()
    }
    manifest = Manifest(
        name="toy-lt-exp-if2",
        source={"id": "toy", "verified": True},
        protocol={"name": "import", "params": {"profile": "exp"}},
        group_rule=describe_rule("strict"),
        class_names=tuple("abcdefghij"[:classes]),
        splits=splits,
        content_sha256=content_digest("toy", parts),
        created_by={"ltdata": "0"},
        citation=("somebody",),
    )
    return manifest, b"".join(stored.values())


TOY: Rows = {"train": [(7, 0), (3, 0), (9, 1), (20, 4)], "test": [(0, 2), (1, 3)]}


@given(some_rows, st.sampled_from(["cifar10", "toy", "ü"]))
@settings(deadline=None)
def test_content_digest_is_the_documented_one(rows: Rows, source: str) -> None:
    lines = [f"ltdata-content-1 {source}"]
    for name, part in rows.items():
        lines.append(f"{name} {len(part)}")
        lines += [f"{index} {label}" for index, label in part]
    text = "".join(line + "\n" for line in lines)
    assert digest(rows, source=source) == hashlib.sha256(text.encode("utf-8")).hexdigest()


@given(some_rows)
@settings(deadline=None)
def test_content_digest_does_not_depend_on_image_bytes(rows: Rows) -> None:
    assert digest(rows) == digest(rows, images=True)


@given(some_rows, st.data())
@settings(deadline=None)
def test_content_digest_changes_with_every_label_index_row_split_and_source(rows: Rows, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(rows)))
    part = rows[name]
    at = data.draw(st.integers(0, len(part) - 1))
    to = data.draw(st.integers(0, len(part) - 1))
    index, label = part[at]
    moved = [row for n, row in enumerate(part) if n != at]
    moved.insert(to, part[at])
    others = [
        {**rows, name: [*part[:at], (index, label + 1), *part[at + 1 :]]},
        {**rows, name: [*part[:at], (index + 1, label), *part[at + 1 :]]},
        {**rows, name: [*part[:at], *part[at + 1 :]]},
        {**rows, name: [*part, part[at]]},
        {f"{other}2" if other == name else other: lines for other, lines in rows.items()},
        {**rows, "extra": []},
    ]
    if moved != part:
        others.append({**rows, name: moved})
    if len(rows) > 1:
        others.append(dict(reversed(rows.items())))
    assert digest(rows) not in {digest(other) for other in others}
    assert digest(rows, source="cifar10") != digest(rows, source="cifar100")


@given(some_rows, st.booleans())
@settings(deadline=None)
def test_rows_are_one_json_object_a_line_with_sorted_keys(rows: Rows, images: bool) -> None:
    for name, part in rows.items():
        stored = rows_to_bytes(name, samples(part, images=images))
        lines = stored.decode("utf-8").split("\n")
        assert lines.pop() == ""
        assert [(row["source_index"], row["label"]) for row in map(json.loads, lines)] == part
        for line in lines:
            row = json.loads(line)
            assert line == json.dumps(row, sort_keys=True)
            assert (row["split"], row["id"]) == (name, f"{name}/{row['source_index']}")
            assert ("sha256" in row) == images


@given(some_rows, st.booleans())
@settings(deadline=None)
def test_rows_come_back_as_they_were(rows: Rows, images: bool) -> None:
    manifest, stored = manifest_of(rows, images=images)
    read = rows_from_bytes(stored, manifest, origin="here")
    assert list(read) == list(rows)
    for name, part in rows.items():
        wanted = samples(part, images=images)
        assert np.array_equal(read[name].labels, wanted.labels)
        assert np.array_equal(read[name].source_index, wanted.source_index)
        assert read[name].sha256 == wanted.sha256


@given(some_rows, st.booleans(), st.data())
@settings(deadline=None)
def test_any_edited_byte_of_the_rows_is_found(rows: Rows, images: bool, data: st.DataObject) -> None:
    manifest, stored = manifest_of(rows, images=images)
    at = data.draw(st.integers(0, len(stored) - 1))
    edited = bytearray(stored)
    edited[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != stored[at]))
    with pytest.raises(MismatchError, match="here"):
        rows_from_bytes(bytes(edited), manifest, origin="here")


@given(some_rows, st.data())
@settings(deadline=None)
def test_dropped_doubled_and_swapped_rows_are_found(rows: Rows, data: st.DataObject) -> None:
    manifest, stored = manifest_of(rows)
    lines = stored.splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 1))
    to = data.draw(st.integers(0, len(lines) - 1))
    swapped = list(lines)
    swapped[at], swapped[to] = lines[to], lines[at]
    for edited in (lines[:at] + lines[at + 1 :], lines[: at + 1] + lines[at:], [*lines, b"\n"], swapped):
        if edited != lines:
            with pytest.raises(MismatchError, match="here"):
                rows_from_bytes(b"".join(edited), manifest, origin="here")


@pytest.mark.parametrize(
    "edit",
    [
        {"label": 1},
        {"label": -1},
        {"label": 10**30},
        {"label": 10**12},
        {"label": "a"},
        {"label": [0]},
        {"label": None},
        {"source_index": 8},
        {"source_index": "x"},
        {"source_index": -(10**30)},
    ],
    ids=str,
)
def test_rows_that_only_agree_with_their_own_digest_are_refused(edit: dict[str, Any]) -> None:
    """Someone who also mends `samples_sha256` still meets counts, content digest and plain types."""
    manifest, stored = manifest_of(TOY)
    lines = stored.splitlines(keepends=True)
    lines[0] = json.dumps({**json.loads(lines[0]), **edit}).encode() + b"\n"
    train = replace(manifest.splits["train"], samples_sha256=hashlib.sha256(b"".join(lines[:4])).hexdigest())
    mended = replace(manifest, splits={**manifest.splits, "train": train})
    with pytest.raises(MismatchError, match="here"):
        rows_from_bytes(b"".join(lines), mended, origin="here")


def test_a_line_that_is_no_row_is_refused_even_with_its_digest() -> None:
    for line in (b"[]\n", b"{}\n", b"null\n", b"nonsense\n", b'"\xff"\n', b"[" * 100_000 + b"\n"):
        manifest, stored = manifest_of(TOY)
        lines = [line, *stored.splitlines(keepends=True)[1:]]
        train = replace(manifest.splits["train"], samples_sha256=hashlib.sha256(b"".join(lines[:4])).hexdigest())
        mended = replace(manifest, splits={**manifest.splits, "train": train})
        with pytest.raises(MismatchError, match="here"):
            rows_from_bytes(b"".join(lines), mended, origin="here")


@given(some_rows, st.booleans(), st.lists(st.text(max_size=12), min_size=5, max_size=5))
@example(TOY, False, ["[1,   2]", "a\nb", '"', "\\", "[ 1,\n 2 ]"])
@settings(deadline=None)
def test_headers_come_back_as_they_were(rows: Rows, images: bool, names: list[str]) -> None:
    """Whatever the class names: quotes, line ends, brackets full of numbers."""
    manifest = replace(manifest_of(rows, images=images)[0], class_names=tuple(names))
    assert Manifest.from_json(manifest.to_json(), origin="here") == manifest


def test_headers_are_small_readable_json() -> None:
    manifest, _ = manifest_of(TOY)
    text = manifest.to_json()
    assert text.endswith("}\n")
    assert '"class_counts": [ 2, 1, 0, 0, 1 ]' in text
    assert json.loads(text)["num_classes"] == 5


def test_a_real_header_comes_back_as_it_was(digits_lt: Built) -> None:
    assert Manifest.from_json(digits_lt.manifest.to_json(), origin="here") == digits_lt.manifest


def test_another_group_rule_changes_neither_digest_nor_rows() -> None:
    manifest, _ = manifest_of(TOY)
    other = manifest.with_groups("oltr")
    assert other.group_rule == {"name": "oltr", "many": "n >= 100", "few": "n <= 20"}
    assert replace(other, group_rule=manifest.group_rule) == manifest


def record(**changes: Any) -> str:
    return json.dumps({**json.loads(manifest_of(TOY)[0].to_json()), **changes})


def with_train(**changes: Any) -> str:
    splits = json.loads(manifest_of(TOY, images=True)[0].to_json())["splits"]
    return record(splits={**splits, "train": {**splits["train"], **changes}})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        "null",
        "[" * 100_000,
        record(schema_version=2),
        record(schema_version="1"),
        record(num_classes=6),
        record(class_names=["a"]),
        record(class_names=None),
        record(group_rule={"name": "ace", "many": "", "few": ""}),
        record(group_rule={"name": "mislas", "many": "", "few": ""}),
        record(group_rule=[]),
        record(splits={}),
        record(splits=[]),
        with_train(num_samples=5),
        with_train(num_samples=float("inf")),
        with_train(num_samples=float("nan")),
        with_train(num_samples=10**30, class_counts=[10**30, 0, 0, 0, 0]),
        with_train(class_counts=[5, -1, 0, 0, 0]),
        with_train(class_counts=[2, 1, 0, 1]),
        with_train(shards=[{"path": "train/a.tar"}]),
        with_train(shards=[7]),
        with_train(shards=[{"path": "train/a.tar", "num_samples": "x", "bytes": 10240, "sha256": "0" * 64}]),
        with_train(shards=[{"path": "train/a.tar", "num_samples": 4, "bytes": "x", "sha256": "0" * 64}]),
    ],
    ids=lambda text: text[:8] if len(text) < 20 else None,
)
def test_what_is_no_manifest_is_refused_by_name(text: str) -> None:
    with pytest.raises(MismatchError, match=r"here: not a readable ltdata manifest"):
        Manifest.from_json(text, origin="here")


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("class_groups", []),
        ("source", {"id": []}),
        ("source", {"id": None}),
        ("protocol", {"name": 3}),
        ("protocol", {"params": []}),
        ("protocol", {"params": [["seed", 0]]}),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_refused(key: str, change: Any) -> None:
    fields = json.loads(record())
    fields[key] = change if key == "class_groups" else fields[key] | change
    with pytest.raises(MismatchError, match="here"):
        Manifest.from_json(json.dumps(fields), origin="here")


@pytest.mark.parametrize("other", [float, bool])
@pytest.mark.parametrize("keys", [("num_samples",), ("class_counts", 0), ("shards", 0, "num_samples")], ids=str)
def test_a_number_of_another_type_is_refused_even_if_it_is_equal(keys: tuple[Any, ...], other: type) -> None:
    fields = json.loads(manifest_of({"train": [(0, 0)]}, images=True)[0].to_json())
    place = fields["splits"]["train"]
    for key in keys[:-1]:
        place = place[key]
    assert place[keys[-1]] == other(place[keys[-1]])
    place[keys[-1]] = other(place[keys[-1]])
    with pytest.raises(MismatchError, match="'splits' is not as ltdata writes it"):
        Manifest.from_json(json.dumps(fields), origin="here")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("key", ["source", "protocol", "created_by"])
def test_what_json_has_no_number_for_is_refused(key: str, constant: str) -> None:
    fields = json.loads(record())
    fields[key]["version"] = "?"
    with pytest.raises(MismatchError, match="not JSON compliant"):
        Manifest.from_json(json.dumps(fields).replace('"?"', constant), origin="here")


@pytest.mark.parametrize("key", sorted(json.loads(record())))
def test_every_key_of_the_header_is_needed(key: str) -> None:
    fields = json.loads(record())
    del fields[key]
    with pytest.raises(MismatchError, match=key):
        Manifest.from_json(json.dumps(fields), origin="here")


def places(value: Any) -> Iterator[Callable[[Any], None]]:
    """Give a setter for every value inside a JSON document."""
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for key, inner in pairs:
        yield lambda new, key=key: value.__setitem__(key, new)
        yield from places(inner)


@given(st.data(), json_values)
@settings(deadline=None, max_examples=300)
def test_a_header_with_any_other_value_anywhere_is_read_or_refused(data: st.DataObject, value: Any) -> None:
    """Never another exception; what is read can be written, summed and grouped."""
    fields = json.loads(manifest_of(TOY, images=True)[0].to_json())
    setters = list(places(fields))
    setters[data.draw(st.integers(0, len(setters) - 1))](value)
    try:
        text = json.dumps(fields)
    except ValueError:
        assume(False)
    try:
        manifest = Manifest.from_json(text, origin="here")
    except MismatchError:
        return
    assert len(manifest.groups) == manifest.num_classes
    for shard in (shard for split in manifest.splits.values() for shard in split.shards):
        assert [type(value) for value in vars(shard).values()] == [str, int, int, str]
    assert manifest.to_json()


def test_counts_that_do_not_add_up_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="add up to 3, num_samples is 4"):
        Split(num_samples=4, class_counts=(1, 2), samples_sha256="")


def test_a_manifest_needs_a_train_split_and_a_count_for_every_class() -> None:
    manifest, _ = manifest_of(TOY)
    with pytest.raises(ValueError, match="no train split"):
        replace(manifest, splits={"test": manifest.splits["test"]})
    with pytest.raises(ValueError, match="5 classes, 1 are named"):
        replace(manifest, class_names=("a",))


def test_unknown_group_rules_are_refused() -> None:
    manifest, _ = manifest_of(TOY)
    with pytest.raises(UsageError, match="ace"):
        manifest.with_groups("ace")
