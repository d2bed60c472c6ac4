"""Shards that are missing, too many, swapped, or of another build, and figures that are stale: verify names the file.

What reads the images refuses them too; or, where only what nobody reads is wrong, it gives the right ones.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from faults.breaks import Break
from faults.damage import (
    READERS,
    Record,
    copied,
    edit,
    fails,
    opened,
    refused,
    reseal,
    restored,
    rows_of,
    run,
    shard_of,
    tiny,
)
from faults.effort import WHOLE, tried
from ltdata.build import Built, build
from ltdata.catalog import find
from ltdata.errors import SourceMissingError
from ltdata.files import sha256_bytes
from ltdata.spec import Spec
from ltdata.subset import Part, make_subset, write_subset
from ltdata.verify import verify

BREAKS = (
    Break("ltdata/verify.py", 'sorted(set(folder.rglob("*.tar")) - listed)', "()", only="wrong_is_named"),
    Break("ltdata/verify.py", "found or _plan_faults(own, located) or", "found or", only="wrong_is_named"),
    Break("ltdata/verify.py", " or _index_faults(own, located)", "", only="wrong_is_named"),
    Break(
        "ltdata/manifest.py",
        " and json.dumps(one, sort_keys=True) ==",
        " or json.dumps(one, sort_keys=True) ==",
        only="another and type",
    ),
    Break(
        "ltdata/reader.py", "    if type(seed) is not int", "    if not isinstance(seed, int)", only="another and type"
    ),
    Break("ltdata/reader.py", "    if found != shard.sha256:", "    if False:", only="wrong_is_named"),
    Break("ltdata/manifest.py", "not np.array_equal(counts, split.class_counts)", "False", only="wrong_is_named"),
    Break("ltdata/reader.py", 'whole.content_sha256 != manifest.view_of["content_sha256"] or ', "", only="view"),
)
MANY, MEDIUM, FEW = (f"train/{group}-000000.tar" for group in ("many", "medium", "few"))
TEST = "test/test-000000.tar"
ALL = ("read_images", "open_images", "webdataset", "stream", "trained on, of one size")


@dataclass(frozen=True)
class Sets:
    """Name three builds.

    Attributes:
        own: a copy to break.
        like: of the same files' names with other pixels: the same rows, but for the images' digests.
        other: of the same files, with another seed: other rows.
    """

    own: Path
    like: Path
    other: Path


@dataclass(frozen=True)
class Wrong:
    """Say what is wrong.

    Attributes:
        change: breaks the first of the sets.
        named: files that `verify` names.
        split: which is read then.
        refusing: of what reads it, that refuses it; the others give the right images.
    """

    change: Callable[[Sets], object]
    named: tuple[str, ...]
    split: str = "train"
    refusing: tuple[str, ...] = ALL


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    root = tmp_path_factory.mktemp("wrong")
    own = tiny(root).folder
    like = tiny(root / "like", seed=1).folder
    spec = Spec("folder", title="tiny", test_per_class=1, group_rule="mislas", seed=3)
    other = build(spec, data_dir=root / "tiny-images", out=root / "other").folder
    return Sets(own, like, other)


# --- the ways


def gone(*paths: str) -> Callable[[Sets], object]:
    def change(sets: Sets) -> None:
        for path in paths:
            place = sets.own / path
            shutil.rmtree(place) if place.is_dir() else place.unlink()

    return change


def put(path: str, data: Callable[[Sets], bytes]) -> Callable[[Sets], object]:
    def change(sets: Sets) -> None:
        place = sets.own / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data(sets))

    return change


def of(name: str, path: str) -> Callable[[Sets], bytes]:
    return lambda sets: (getattr(sets, name) / path).read_bytes()


def sealed(path: str, data: Callable[[Sets], bytes], **entry: object) -> Callable[[Sets], object]:
    def change(sets: Sets) -> None:
        reseal(sets.own, path, data(sets))
        edit(sets.own, lambda record: shard_of(record, path).update(entry))

    return change


def swapped(one: str, two: str, *, mended: bool = False) -> Callable[[Sets], object]:
    def change(sets: Sets) -> None:
        first, second = ((sets.own / path).read_bytes() for path in (one, two))
        for path, data in ((one, second), (two, first)):
            reseal(sets.own, path, data) if mended else (sets.own / path).write_bytes(data)

    return change


def moved(path: str, to: str, *, mended: bool = False) -> Callable[[Sets], object]:
    def change(sets: Sets) -> None:
        (sets.own / to).parent.mkdir(exist_ok=True)
        (sets.own / path).rename(sets.own / to)
        if mended:
            edit(sets.own, lambda record: shard_of(record, path).update(path=to))

    return change


def header(change: Callable[[Record], object]) -> Callable[[Sets], object]:
    return lambda sets: edit(sets.own, change)


def train(record: Record) -> Record:
    split: Record = record["splits"]["train"]
    return split


def reordered(sets: Sets) -> bytes:
    """Put the second sample of a shard before the first; all have one size."""
    data = (sets.own / FEW).read_bytes()
    size = data.index(b".cls", 512) - 8
    return data[size : 2 * size] + data[:size] + data[2 * size :]


def params(record: Record) -> Record:
    found: Record = record["protocol"]["params"]
    return found


def rows(change: Callable[[list[Record]], object]) -> Callable[[Sets], object]:
    """Change the training rows, and mend their digest in the header."""

    def changed(sets: Sets) -> None:
        path = sets.own / "samples.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        every = [json.loads(line) for line in lines]
        change(every)
        new = [json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in every]
        path.write_text("".join(new))
        digest = sha256_bytes("".join(new[:20]).encode())
        edit(sets.own, lambda record: train(record).update(samples_sha256=digest))

    return changed


def exchange(values: list[Record], one: int, two: int, key: str) -> None:
    values[one][key], values[two][key] = values[two][key], values[one][key]


def exchanged(key: str) -> Callable[[Record], object]:
    return lambda record: exchange(train(record)["shards"], 0, 1, key)


def but(name: str) -> tuple[str, ...]:
    return tuple(each for each in ALL if each != name)


def twice(record: Record) -> None:
    train(record)["shards"].append(dict(shard_of(record, FEW)))


def twice_but_empty(record: Record) -> None:
    train(record)["shards"].append(shard_of(record, FEW) | {"num_samples": 0})


def counted_elsewhere(record: Record) -> None:
    shard_of(record, MANY)["num_samples"] += 1
    shard_of(record, MEDIUM)["num_samples"] -= 1


def figure(name: str, sets_name: str, split: str = "train") -> Callable[[Sets], object]:
    """Take a value of the header from another build."""

    def change(sets: Sets) -> None:
        found = json.loads((getattr(sets, sets_name) / "manifest.json").read_text())
        where = (lambda record: record) if name in found else (lambda record: record["splits"][split])
        edit(sets.own, lambda record: where(record).update({name: where(found)[name]}))

    return change


def counts(split: str) -> Callable[[Sets], object]:
    def change(record: Record) -> None:
        values = record["splits"][split]["class_counts"]
        values[0], values[9] = values[0] + 1, values[9] - 1

    return header(change)


END = bytes(10240)
M, R, X = "manifest.json", "samples.jsonl", "index.npz"
STRICT = {"name": "strict", "many": "n > 100", "few": "n < 20"}
WRONG = {
    # missing
    **{f"{path} missing": Wrong(gone(path), (path,)) for path in (MANY, MEDIUM, FEW)},
    f"{TEST} missing": Wrong(gone(TEST), (TEST,), "test"),
    "a folder missing": Wrong(gone("train"), (MANY, MEDIUM, FEW)),
    "all missing": Wrong(gone("train", "test"), (MANY, MEDIUM, FEW, TEST)),
    # too many
    **{
        f"{path} too many": Wrong(put(path, of("own", FEW)), (path,), refusing=())
        for path in (
            "train/few-000001.tar", "train/more.tar", "val/val-000000.tar", "more.tar", "train/.few-000000.tar",
            "a/b/c/few-000000.tar", "test/few-000000.tar",
        )
    },
    "an empty one too many": Wrong(put("train/few-000001.tar", lambda _: b""), ("train/few-000001.tar",), refusing=()),
    "a folder with the name of one": Wrong(put("more.tar/x", lambda _: b""), ("more.tar",), refusing=()),
    # swapped
    "two of one size swapped": Wrong(swapped(MANY, MEDIUM), (MANY, MEDIUM)),
    "two of unlike sizes swapped": Wrong(swapped(MANY, FEW), (MANY, FEW)),
    "two splits swapped": Wrong(swapped(FEW, TEST), (FEW, TEST)),
    "two swapped and mended": Wrong(swapped(MANY, MEDIUM, mended=True), (MANY, MEDIUM)),
    "entries in another order": Wrong(header(lambda record: train(record)["shards"].reverse()), (M, "not those of")),
    "names of entries swapped": Wrong(header(exchanged("path")), (MANY, MEDIUM)),
    "digests of entries swapped": Wrong(header(exchanged("sha256")), (MANY, MEDIUM), refusing=but("open_images")),
    # twice
    "one in the place of another": Wrong(put(MEDIUM, of("own", MANY)), (MEDIUM,)),
    "one in the place of another and mended": Wrong(sealed(MEDIUM, of("own", MANY)), (MEDIUM,)),
    "one in the place of another and counted": Wrong(sealed(MEDIUM, of("own", MANY), num_samples=9), (M, MEDIUM)),
    "listed twice": Wrong(header(twice), (M,)),
    "listed twice, the second as empty": Wrong(header(twice_but_empty), (FEW,)),
    # renamed
    "renamed": Wrong(moved(FEW, "train/few-000001.tar"), (FEW, "train/few-000001.tar")),
    "renamed and mended": Wrong(moved(FEW, "train/few-000001.tar", mended=True), (M,)),
    "in another folder and mended": Wrong(moved(FEW, "val/few-000000.tar", mended=True), (M,)),
    "of another group and mended": Wrong(moved(FEW, "train/val-000000.tar", mended=True), (M,)),
    # empty
    "of no bytes": Wrong(put(FEW, lambda _: b""), (FEW,)),
    "of no samples": Wrong(put(FEW, lambda _: END), (FEW,)),
    "of no samples and mended": Wrong(sealed(FEW, lambda _: END), (FEW,)),
    "of no samples and counted": Wrong(sealed(FEW, lambda _: END, num_samples=0), (M,)),
    # of its own samples
    "in another order and mended": Wrong(sealed(FEW, reordered), (FEW,), refusing=("open_images", "stream")),
    # of another build
    "of other pixels": Wrong(put(FEW, of("like", FEW)), (FEW,)),
    "of other pixels and mended": Wrong(sealed(FEW, of("like", FEW)), (FEW,)),
    "of another seed": Wrong(put(MANY, of("other", MANY)), (MANY,)),
    "of another seed and mended": Wrong(sealed(MANY, of("other", MANY)), (MANY,)),
    "test of another seed and mended": Wrong(sealed(TEST, of("other", TEST)), (TEST,), "test"),
    # stale figures
    "class_counts": Wrong(counts("train"), (R, "class_counts")),
    "class_counts of the test": Wrong(counts("test"), (R, "class_counts"), "test"),
    "num_samples": Wrong(header(lambda record: train(record).update(num_samples=19)), (M,)),
    "num_samples of shards": Wrong(header(counted_elsewhere), (MANY, MEDIUM)),
    "num_samples of one shard": Wrong(header(lambda record: shard_of(record, FEW).update(num_samples=2)), (FEW,)),
    "bytes of one shard": Wrong(header(lambda record: shard_of(record, FEW).update(bytes=10241)), (FEW,)),
    "group rule": Wrong(header(lambda record: record.update(group_rule=STRICT)), (M,)),
    "group rule by half": Wrong(header(lambda record: record["group_rule"].update(name="strict")), (M,)),
    "class_groups": Wrong(header(lambda record: record.update(class_groups=[0, 0, 1, 1, 1, 1, 1, 2, 2, 2])), (M,)),
    "seed": Wrong(header(lambda record: params(record).update(seed=3)), (MANY, MEDIUM), refusing=("stream",)),
    "seed of another type": Wrong(header(lambda record: params(record).update(seed=False)), (M, "its test shards are")),
    "num_samples of another type": Wrong(header(lambda record: train(record).update(num_samples=20.0)), (M, "splits")),
    "content_sha256": Wrong(figure("content_sha256", "other"), (R, "content digest")),
    "samples_sha256": Wrong(figure("samples_sha256", "other"), (R, "SHA-256")),
    "samples_sha256 of the test": Wrong(figure("samples_sha256", "other", "test"), (R, "SHA-256"), "test"),
    "list_sha256": Wrong(figure("list_sha256", "other"), (R, "list_sha256")),
    "source": Wrong(header(lambda record: record["source"].update(id="another")), (R, "content digest")),
    "a key that is none": Wrong(header(lambda record: record.update(class_group=[0] * 10)), (M, "class_group")),
    "header of another seed": Wrong(put(M, of("other", M)), (R,)),
    "header of other pixels": Wrong(put(M, of("like", M)), (R, MANY)),
    # index
    "index of another seed": Wrong(put(X, of("other", X)), (X,), refusing=()),
    "index of nothing": Wrong(put(X, lambda _: b""), (X,), refusing=()),
    # rows
    "rows missing": Wrong(gone(R), (R,)),
    "rows of another seed": Wrong(put(R, of("other", R)), (R,)),
    "rows of other pixels": Wrong(put(R, of("like", R)), (R,)),
    "a label and mended": Wrong(rows(lambda every: every[0].update(label=9)), (R, "class_counts")),
    "labels swapped and mended": Wrong(rows(lambda every: exchange(every, 0, 19, "label")), (R, "list_sha256")),
    "paths swapped and mended": Wrong(rows(lambda every: exchange(every, 0, 19, "source_path")), (R, "list_sha256")),
    "digests swapped and mended": Wrong(rows(lambda every: exchange(every, 0, 19, "sha256")), (MANY, FEW)),
    "rows swapped and mended": Wrong(rows(lambda every: every.insert(0, every.pop(1))), (R, "list_sha256")),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named(what: str, sets: Sets, tmp_path: Path) -> None:
    """By `verify` and its command; and whatever reads the images refuses them, or gives the right ones."""
    wrong = WRONG[what]
    own = copied(sets.own, tmp_path / "own")
    expected = {split: rows_of(own, split) for split in ("train", "test")}
    wrong.change(Sets(own, sets.like, sets.other))
    refused(partial(verify, own), *wrong.named)
    refused(partial(verify, own, images=False, workers=2), *wrong.named)
    if WHOLE or len(what) % 5 == 0:
        fails(run("ltdata", "verify", own), 3, *wrong.named)
    for name in ALL:
        if name in wrong.refusing:
            refused(partial(READERS[name], own, wrong.split, tmp_path))
        else:
            READERS[name](own, wrong.split, tmp_path)
    if "open_images" not in wrong.refusing:
        assert {split: tuple(map(sha256_bytes, opened(own, split))) for split in expected} == expected
    tried()


def test_every_fault_is_named_at_once(sets: Sets, tmp_path: Path) -> None:
    own = copied(sets.own, tmp_path / "own")
    (own / MANY).unlink()
    (own / MEDIUM).write_bytes(b"")
    (own / "more.tar").write_bytes(b"")
    (own / R).write_bytes(b"")
    refused(partial(verify, own), MANY, MEDIUM, "more.tar", R)
    tried()


def test_an_imbalance_factor_that_is_not_that_of_the_counts_is_named(digits_lt: Built, tmp_path: Path) -> None:
    """Recipes are chosen by it."""
    own = copied(digits_lt.folder, tmp_path / "own")
    for factor in (10.0, 19.0, 50.0, 100, 0.05, "20", [20.0], True):
        with restored(own):
            edit(own, lambda record, factor=factor: record["protocol"]["params"].update(imbalance_factor=factor))
            refused(partial(verify, own, images=False), M)
        tried()


# --- views


def otherwise(sets: Sets, view: Path, base: Path) -> None:
    """Replace the base of a view by a build with the same rows, and other pixels."""
    copied(sets.like, base)


def another(sets: Sets, view: Path, base: Path) -> None:
    copied(sets.other, base)


def without_images(sets: Sets, view: Path, base: Path) -> None:
    edit(base, lambda record: [split.update(shards=[]) for split in record["splits"].values()])


def a_shard_less(sets: Sets, view: Path, base: Path) -> None:
    (base / FEW).unlink()


def a_shard_cut(sets: Sets, view: Path, base: Path) -> None:
    (base / FEW).write_bytes((base / FEW).read_bytes()[:-1])


def a_shard_of_others(sets: Sets, view: Path, base: Path) -> None:
    reseal(base, FEW, (sets.like / FEW).read_bytes())


def rows_of_the_base(sets: Sets, view: Path, base: Path) -> None:
    shutil.copy(sets.other / R, base / R)


def rows_of_the_view(sets: Sets, view: Path, base: Path) -> None:
    shutil.copy(base / R, view / R)


def with_a_class_more(sets: Sets, view: Path, base: Path) -> None:
    """Build it again of more images: those that the view shows are there, as they were."""
    images = copied(sets.own.parent / "tiny-images", base.parent / "images")
    for number in range(2):
        (images / "class9x").mkdir(exist_ok=True)
        shutil.copy(images / "class0" / "000.png", images / "class9x" / f"{number}.png")
    build(Spec("folder", title="tiny", test_per_class=1), data_dir=images, out=base, force=True)


def a_view_itself(sets: Sets, view: Path, base: Path) -> None:
    copied(view, base)


def a_split_less(sets: Sets, view: Path, base: Path) -> None:
    edit(base, lambda record: record["splits"].pop("test"))


VIEWS = {
    each.__name__: (each, named)
    for each, named in {
        otherwise: "another build now", another: "another build now", without_images: "another build now",
        a_shard_less: FEW, a_shard_cut: FEW, a_shard_of_others: FEW, rows_of_the_base: R, rows_of_the_view: R,
        a_view_itself: "another build now", a_split_less: R, with_a_class_more: "another build now",
    }.items()
}  # fmt: skip


@pytest.mark.parametrize("what", VIEWS)
def test_a_view_whose_base_is_not_what_it_was_is_named(what: str, sets: Sets, tmp_path: Path) -> None:
    base = copied(sets.own, tmp_path / "base")
    whole = find(str(base), rows=True)
    view = tmp_path / "view"
    write_subset(whole, make_subset(whole.manifest, Part(groups=("few",))), view, form="view")
    verify(view)
    change, named = VIEWS[what]
    change(sets, view, base)
    message = refused(partial(verify, view), named)
    assert str(view) in message or str(base) in message or "base" in message
    fails(run("ltdata", "verify", view), 3, named)
    for name in ("read_images", "open_images", "webdataset", "trained on, of one size"):
        refused(partial(READERS[name], view, "train", tmp_path))
    tried()


def test_a_view_whose_base_is_gone_is_named(sets: Sets, tmp_path: Path) -> None:
    base = copied(sets.own, tmp_path / "base")
    whole = find(str(base), rows=True)
    view = tmp_path / "view"
    write_subset(whole, make_subset(whole.manifest, Part(groups=("few",))), view, form="view")
    shutil.rmtree(base)
    refused(partial(verify, view), view, "gone")
    for name in ("read_images", "open_images", "webdataset"):
        with pytest.raises(SourceMissingError, match="gone"):
            READERS[name](view, "train", tmp_path)
    tried()


def test_what_is_not_wrong_is_not_named(sets: Sets) -> None:
    for folder in (sets.own, sets.like, sets.other):
        verify(folder)
