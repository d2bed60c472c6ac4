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
