"""What two splits have in common, against scipy and small cases by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import spearmanr
from test_cli import run

import ltdata
from ltdata.manifest import Manifest, Split
from ltdata.overlap import overlap

PINNED = ltdata.load("cifar100-lt", imbalance_factor=100)


def made(counts: list[int], names: list[str] | None = None) -> Manifest:
    split = Split(num_samples=sum(counts), class_counts=tuple(counts), samples_sha256=None)
    named = names if names is not None else [f"class {c}" for c in range(len(counts))]
    return replace(PINNED, class_names=tuple(named), splits={"train": split}, superclass_names=(), samples=None)


def test_a_split_and_itself_are_at_no_distance() -> None:
    found = overlap(PINNED, PINNED)
    assert (found.total_variation, found.jensen_shannon_bits) == (0, 0)
    assert found.rank_correlation == pytest.approx(1)
    assert (len(found.shared), found.only_a, found.only_b) == (100, (), ())
    assert {before: found.moves[before][before] for before in found.moves} == {"many": 35, "medium": 35, "few": 30}


def test_splits_without_a_class_in_common_are_as_far_apart_as_can_be() -> None:
    found = overlap(made([3, 2], ["a", "b"]), made([3, 2], ["c", "d"]))
    assert (found.total_variation, found.jensen_shannon_bits, found.rank_correlation) == (1, 1, None)
    assert (found.shared, found.only_a, found.only_b) == ((), ("a", "b"), ("c", "d"))


def test_classes_are_matched_by_name_whatever_their_label() -> None:
    found = overlap(made([200, 50, 5], ["cat", "dog", "eel"]), made([5, 150, 7], ["eel", "dog", "fox"]))
    assert found.matched_by == "name"
    assert [(each.name, each.images_a, each.images_b) for each in found.shared] == [("dog", 50, 150), ("eel", 5, 5)]
    assert (found.only_a, found.only_b) == (("cat",), ("fox",))
    assert (found.moves["medium"]["many"], found.moves["few"]["few"]) == (1, 1)


@pytest.mark.parametrize("names", [["0", "1", "2"], ["twin", "twin", "other"]])
def test_without_names_that_tell_classes_are_matched_by_label(names: list[str]) -> None:
    found = overlap(made([9, 5, 2], names), made([4, 4, 1], ["x", "y", "z"]))
    assert found.matched_by == "label"
    assert [(each.images_a, each.images_b) for each in found.shared] == [(9, 4), (5, 4), (2, 1)]


def from_source(manifest: Manifest, source: str, **more: str) -> Manifest:
    return replace(manifest, source={"id": source, **more})


def test_labels_of_different_sources_are_not_taken_for_the_same_classes() -> None:
    """Label 0 of iNaturalist is no tench, and names that are labels are no names."""
    for a, b in (
        (ltdata.load("inat18"), ltdata.load("imagenet-lt")),
        (from_source(made([9, 5], ["0", "1"]), "one"), from_source(made([9, 5], ["0", "1"]), "two")),
        (from_source(made([9, 5], ["a", "b"]), "one"), from_source(made([9, 5], ["c", "d"]), "two")),
        (from_source(made([9, 5], ["a", "a"]), "one"), from_source(made([9, 5], ["a", "a"]), "two")),
        (
            from_source(made([9, 5], ["0", "1"]), "folder", version="pets"),
            from_source(made([9, 5], ["0", "1"]), "folder", version="cars"),
        ),
    ):
        found = overlap(a, b)
        assert (found.matched_by, found.shared, found.only_a, found.only_b) == (None, (), (), ())
        assert (found.total_variation, found.jensen_shannon_bits, found.rank_correlation) == (None, None, None)


def test_different_sources_are_matched_by_names_that_both_have() -> None:
    found = overlap(from_source(made([9, 5], ["cat", "eel"]), "one"), from_source(made([4, 2], ["eel", "fox"]), "two"))
    assert (found.matched_by, [each.name for each in found.shared]) == ("name", ["eel"])


def test_classes_numbered_anew_are_matched_by_what_the_source_calls_them() -> None:
    whole = made([9, 5, 7], ["0", "1", "2"])
    part = replace(made([7, 9], ["2", "0"]), protocol={"params": {"relabel": True}})
    found = overlap(whole, part)
    assert found.matched_by == "name"
    assert [(each.name, each.images_a, each.images_b) for each in found.shared] == [("0", 9, 9), ("2", 7, 7)]
    assert overlap(made([9, 5], ["a", "a"]), replace(part, source=PINNED.source)).matched_by is None


def test_an_empty_class_is_not_there() -> None:
    found = overlap(made([9, 0, 2]), made([4, 4, 0]))
    assert ([each.name for each in found.shared], found.only_a, found.only_b) == (
        ["class 0"],
        ("class 2",),
        ("class 1",),
    )


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=30))
@settings(deadline=None, max_examples=60)
def test_distances_are_those_of_scipy(pairs: list[tuple[int, int]]) -> None:
    a, b = ([pair[side] for pair in pairs] for side in (0, 1))
    if not sum(a) or not sum(b):
        return
    found = overlap(made(a), made(b))
    p, q = np.array(a) / sum(a), np.array(b) / sum(b)
    assert found.total_variation is not None
    assert found.total_variation == pytest.approx(np.abs(p - q).sum() / 2, abs=1e-12)
    assert found.jensen_shannon_bits == pytest.approx(float(jensenshannon(p, q, base=2)) ** 2, abs=1e-9)
    shared = [pair for pair in pairs if all(pair)]
    if found.rank_correlation is not None:
        assert found.rank_correlation == pytest.approx(float(spearmanr(*zip(*shared, strict=True)).statistic))
    assert sum(sum(row.values()) for row in found.moves.values()) == len(found.shared) == len(shared)


def test_it_is_fast_at_8142_classes() -> None:
    """A slip that makes it quadratic takes minutes."""
    inat = ltdata.load("inat18")
    assert overlap(inat, inat).total_variation == 0


def test_the_command_shows_and_prints_it() -> None:
    ended = run("stats", "cifar100-lt-exp-if100", "cifar100-lt-exp-if50")
    assert (ended.code, ended.err) == (0, "")
    for words in ("compared with cifar100-lt-exp-if50", "100 in both", "total variation      0.0552", "chimpanzee"):
        assert words in ended.out
    ended = run("stats", "cifar100-lt-exp-if100", "cifar100-lt-exp-if50", "--json")
    found = json.loads(ended.out)
    assert ended.out.count("\n") == 1
    assert (found["images"], found["other"]["images"]) == (10_847, 12_608)
    assert found["overlap"]["moves"]["few"] == {"many": 0, "medium": 12, "few": 18}
    assert len(found["overlap"]["shared"]) == 100


def test_the_command_says_that_classes_are_not_matched() -> None:
    ended = run("stats", "inat18", "imagenet-lt")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith(
        "  its classes          1,000, 1,280 .. 5 images, Gini 0.524\n"
        "  classes              not matched: inat18 and imagenet-lt are different sources "
        "without a class name in common\n"
    )
    found = json.loads(run("stats", "inat18", "imagenet-lt", "--json").out)
    assert (found["overlap"]["matched_by"], found["overlap"]["total_variation"]) == (None, None)


def test_the_divergence_is_called_one() -> None:
    assert "  Jensen-Shannon       divergence 0.0037 bits\n" in run("stats", PINNED.name, "cifar100-lt-exp-if50").out
