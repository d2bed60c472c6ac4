"""Comparing splits: every kind of difference is found and named, nothing else is, and the exit code tells."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image
from test_cli import run

from ltdata import given, pinned
from ltdata.build import Built, build
from ltdata.compare import compare, compare_rows, renumbering
from ltdata.errors import UsageError
from ltdata.formats import ForeignSplit
from ltdata.given import Given
from ltdata.spec import Spec

Row = tuple[str, int]


def of_paths(rows: list[Row]) -> ForeignSplit:
    return ForeignSplit(paths=tuple(path for path, _ in rows), labels=np.array([label for _, label in rows], np.int64))


def side(**splits: ForeignSplit) -> Given:
    return Given(name="x", form="list", splits=splits)


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(f"{place} {label}\n" for place, label in rows), encoding="utf-8")
    return path


ROWS = st.lists(st.integers(0, 3), min_size=4, max_size=30).map(
    lambda labels: [(f"d/{n}.jpg", label) for n, label in enumerate(labels)]
)


@for_all(ROWS, st.data())
@settings(max_examples=150, deadline=None)
def test_diff_reports_exactly_the_modification_that_was_made(rows: list[Row], data: st.DataObject) -> None:
    """Images taken out, added, relabelled; each is named, with its class, and nothing else is."""
    state = data.draw(st.lists(st.sampled_from(["keep", "drop", "relabel"]), min_size=len(rows), max_size=len(rows)))
    added = [(f"new/{n}.jpg", label) for n, label in enumerate(data.draw(st.lists(st.integers(0, 3), max_size=5)))]
    kept = [(path, label + (do == "relabel")) for (path, label), do in zip(rows, state, strict=True) if do != "drop"]
    at = data.draw(st.integers(0, len(kept)))
    found = compare_rows(of_paths(rows), of_paths([*kept[:at], *added, *kept[at:]]))
    dropped = [row for row, do in zip(rows, state, strict=True) if do == "drop"]
    relabelled = [row for row, do in zip(rows, state, strict=True) if do == "relabel"]
    assert found.only_a == tuple(path for path, _ in dropped)
    assert found.only_b == tuple(path for path, _ in added)
    assert found.relabelled == {path: ((label,), (label + 1,)) for path, label in relabelled}
    assert (found.elsewhere, found.first_elsewhere, found.recounted) == (0, None, {})
    assert found.common == len(kept)
    assert found.same == (not dropped and not added and not relabelled)
    for column, listed in (("only_a", dropped), ("only_b", added), ("relabelled", relabelled)):
        counted = {label: getattr(counts, column) for label, counts in found.classes.items()}
        assert {label: n for label, n in counted.items() if n} == Counter(label for _, label in listed)


@for_all(ROWS, st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_another_order_is_told_from_other_images(rows: list[Row], random: object) -> None:
    """The rows that stand elsewhere are counted, and the first is named by its row in both."""
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = compare_rows(of_paths(rows), of_paths(shuffled))
    moved = [row for row, (a, b) in enumerate(zip(rows, shuffled, strict=True)) if a != b]
    assert (found.only_a, found.only_b, found.relabelled) == ((), (), {})
    assert found.elsewhere == len(moved)
    assert found.first_elsewhere == ((moved[0], moved[0]) if moved else None)
    assert found.same == (rows == shuffled)


@for_all(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=8), st.data())
@settings(max_examples=300, deadline=None)
def test_splits_are_the_same_only_if_every_row_is(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    """Repeated images and repeated images with several labels included."""
    other = data.draw(st.one_of(st.permutations(rows), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)))))

    def split(rows: list[tuple[int, int]]) -> ForeignSplit:
        columns = np.array(rows, dtype=np.int64).reshape(-1, 2)
        return ForeignSplit(positions=columns[:, 0], labels=columns[:, 1])

    assert compare_rows(split(rows), split(rows)).same
    assert compare_rows(split(rows), split(other)).same == (rows == other)


def test_repeated_images_are_counted() -> None:
    a = ForeignSplit(positions=np.array([5, 5, 7, 8]), labels=np.zeros(4, np.int64))
    b = ForeignSplit(positions=np.array([5, 7, 8, 8, 8]), labels=np.zeros(5, np.int64))
    found = compare_rows(a, b)
    assert found.repeated == (1, 1)
    assert found.recounted == {5: (2, 1), 8: (1, 3)}
    assert (found.only_a, found.only_b, found.elsewhere, found.same) == ((), (), 0, False)


def test_without_labels_places_alone_are_compared() -> None:
    labelled = ForeignSplit(positions=np.array([5, 7]), labels=np.array([0, 1]))
    found = compare_rows(labelled, ForeignSplit(positions=np.array([5, 7])))
    assert found.relabelled is None
    assert found.same


def test_a_renumbering_is_named_as_one() -> None:
    rows = [("a", 0), ("b", 1), ("c", 2), ("d", 0)]
    turned = [("a", 2), ("b", 0), ("c", 1), ("d", 2)]
    assert compare_rows(of_paths(rows), of_paths(turned)).renumbered
    assert not compare_rows(of_paths(rows), of_paths([*turned[:3], ("d", 1)])).renumbered
    assert renumbering(np.array([0, 1]), np.array([3, 3])) is None


def test_images_that_moved_between_splits_are_named() -> None:
    """An image of A's train in B's test is a leak; positions of two splits are two images."""
    a = side(train=of_paths([("x", 0), ("y", 0)]), test=of_paths([("z", 1)]))
    b = side(train=of_paths([("x", 0)]), test=of_paths([("z", 1), ("y", 0)]))
    assert compare(a, b).shared == {("train", "test"): ("y",)}
    assert compare(a, b, split="train").shared == {}
    numbers = ForeignSplit(positions=np.array([0, 1]))
    assert compare(side(train=numbers, test=numbers), side(train=numbers, test=numbers)).shared == {}


def test_file_names_in_other_folders_are_noticed() -> None:
    rows = [("train/a.jpg", 0), ("train/b.jpg", 1)]
    moved = [(f"/data/{path}", label) for path, label in rows]
    assert compare_rows(of_paths(rows), of_paths(moved)).same_names == 2
    assert compare_rows(of_paths(rows), of_paths([*moved, rows[0]])).same_names == 0, "some paths are common"


def test_groups_follow_the_rule_of_a(digits_lt: Built) -> None:
    """A manifest's own shot groups; every image in exactly one."""
    whole = given.read("cifar100-lt-exp-if100")
    other = given.read("cifar100-lt-exp-if50")
    found = compare(whole, other)
    by_group = found.by_group("train")
    groups = pinned.header("cifar100-lt-exp-if100").groups
    more = np.array(other.manifest.class_counts - whole.manifest.class_counts)  # type: ignore[union-attr]
    assert found.rule == "strict"
    assert [by_group[name].only_b for name in by_group] == [int(more[groups == g].sum()) for g in range(3)]
    assert found.splits["test"].same


def test_a_class_that_a_does_not_have_is_few_shot() -> None:
    found = compare(side(train=of_paths([("x", 0)])), side(train=of_paths([("x", 0), ("y", 7)])))
    assert {name: counts.only_b for name, counts in found.by_group("train").items()} == {
        "many": 0,
        "medium": 0,
        "few": 1,
    }


def test_what_has_nothing_in_common_is_refused(tmp_path: Path) -> None:
    listed = write(tmp_path / "a.txt", [("a.jpg", 0)])
    assert run("diff", "cifar100-lt-exp-if100", "cifar10-lt-exp-if100").refused(2)
    assert run("diff", "cifar100-lt-exp-if100", listed).refused(2)
    assert run("diff", listed, listed, "--split", "val").refused(2)
    assert run("diff", listed, tmp_path / "none.txt").refused(4)
    assert run("diff", listed, "imagenet-lt").code in {2, 4}, "a header without rows"
    with pytest.raises(UsageError, match="by position"):
        compare(side(train=of_paths([("a", 0)])), side(train=ForeignSplit(positions=np.array([1]))))


def test_the_same_splits_end_with_0_and_one_line(digits_lt: Built, tmp_path: Path) -> None:
    digest = digits_lt.manifest.content_sha256
    ended = run("diff", digits_lt.folder, digits_lt.folder)
    assert (ended.code, ended.out.count("\n")) == (0, 1)
    assert str(digest) in ended.out
    np.save(tmp_path / "train.npy", digits_lt.manifest.indices)
    ended = run("diff", digits_lt.folder, tmp_path / "train.npy")
    assert (ended.code, ended.out.count("\n")) == (0, 1), "a file of the train split alone has no test split to differ"
    assert "no labels" in ended.out
    a, b = write(tmp_path / "a.txt", [("a.jpg", 0), ("b.jpg", 1)]), tmp_path / "b.txt"
    b.write_bytes(a.read_bytes().replace(b"\n", b"\r\n"))
    assert run("diff", a, b).code == 0


def test_splits_that_differ_end_with_3_and_say_where(digits_lt: Built, tmp_path: Path) -> None:
    indices = digits_lt.manifest.indices.copy()
    indices[[0, 1]] = indices[[1, 0]]
    gone, indices = indices[-1], indices[:-1]
    np.save(tmp_path / "train.npy", indices)
    ended = run("diff", digits_lt.folder, tmp_path / "train.npy")
    assert ended.code == 3
    assert "2 rows stand elsewhere, the first row 1 of A (1 of B)" in ended.out
    assert "test: only in A" in ended.out
    found = json.loads(run("diff", digits_lt.folder, tmp_path / "train.npy", "--json", "--names").out)
    train = found["splits"]["train"]
    assert (found["same"], train["only_in_a"], train["only_in_b"], train["relabelled"]) == (False, 1, 0, None)
    assert train["names"]["only_in_a"] == [gone]
    assert train["groups"]["few"] == {"only_in_a": 1, "only_in_b": None, "relabelled": None}
    named = run("diff", digits_lt.folder, tmp_path / "train.npy", "--names").out.splitlines()
    assert named[-1] == f"train\tonly in A\t{gone}"


def test_text_for_people_names_every_kind_of_difference(tmp_path: Path) -> None:
    rows = [(f"d/{n}.jpg", n % 3) for n in range(12)]
    a = write(tmp_path / "a.txt", rows)
    b = write(tmp_path / "b.txt", [(rows[0][0], 2), *rows[2:], rows[5], ("e/new.jpg", 0)])
    out = run("diff", a, b).out
    for expected in ("only in A    1", "only in B    1", "relabelled   1", "repeated     0 images in A, 1 in B"):
        assert expected in out
    val = write(tmp_path / "x_val.txt", rows[:2])
    ended = run("diff", a, val)
    assert ended.code == 3
    assert "2 images of A's train are in B's val" in ended.out


def test_two_manifests_differ_where_one_lacks_a_split(digits_lt: Built) -> None:
    """A file of another form may hold one split alone; a manifest says that there is no other."""
    whole = given.read(str(digits_lt.folder))
    part = Given("p", "folder", {"train": whole.splits["train"]}, whole.source, whole.manifest)
    assert not compare(whole, part).same
    assert not compare(part, whole).same
    assert compare(whole, Given("p", "npy", {"train": whole.splits["train"]})).same
    assert compare(whole, part, split="train").same


def test_other_photographs_under_the_same_names_are_a_difference(tmp_path: Path) -> None:
    """The content digest covers names and labels; two builds also know their images' bytes."""
    for name, offset in (("a", 0), ("b", 9)):
        for number in range(6):
            place = tmp_path / name / "photos" / f"class{number % 2}"
            place.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number, offset if number == 3 else 0, 0)).save(place / f"{number}.png")
        build(Spec("folder", title="photos"), data_dir=tmp_path / name / "photos", out=tmp_path / name / "built")
    found = compare(*(given.read(str(tmp_path / name / "built")) for name in ("a", "b")))
    assert not found.same
    assert found.splits["train"].other_bytes == ("class1/3.png",)
    assert found.a.manifest.content_sha256 == found.b.manifest.content_sha256  # type: ignore[union-attr]
    ended = run("diff", tmp_path / "a" / "built", tmp_path / "b" / "built")
    assert ended.code == 3
    assert "other bytes  1 images of one name, the first class1/3.png" in ended.out
