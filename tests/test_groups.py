"""Shot groups: who is many, medium and few under each named rule, against the published tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltdata.errors import UsageError
from ltdata.groups import GROUP_NAMES, RULES, assign
from ltdata.profiles import class_counts


def cifar100(imbalance_factor: float) -> np.ndarray:
    return class_counts("exp", num_classes=100, n_max=500.0, imbalance_factor=imbalance_factor)


@pytest.mark.parametrize(
    ("rule", "imbalance_factor", "sizes"),
    [
        ("strict", 100, [35, 35, 30]),
        ("gt100-le20", 100, [35, 34, 31]),
        ("oltr", 100, [35, 34, 31]),
        ("strict", 10, [69, 31, 0]),
        ("strict", 50, [41, 41, 18]),
        ("strict", 200, [30, 31, 39]),
        *(("mislas", imbalance_factor, [36, 35, 29]) for imbalance_factor in (10, 50, 100, 200)),
    ],
)
def test_cifar100_lt_has_the_published_group_sizes(rule: str, imbalance_factor: float, sizes: list[int]) -> None:
    assert np.bincount(assign(cifar100(imbalance_factor), rule=rule), minlength=3).tolist() == sizes


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("strict", [0, 1, 1, 1, 2]), ("gt100-le20", [0, 1, 1, 2, 2]), ("oltr", [0, 0, 1, 2, 2])],
)
def test_borders_are_those_of_the_rule(rule: str, expected: list[int]) -> None:
    assert assign(np.array([101, 100, 21, 20, 19]), rule=rule).tolist() == expected


def test_mislas_goes_by_label_whatever_the_counts() -> None:
    assert assign(np.arange(10), rule="mislas").tolist() == [0] * 3 + [1] * 4 + [2] * 3
    assert assign(np.arange(100), rule="mislas").tolist() == [0] * 36 + [1] * 35 + [2] * 29


def test_strict_is_the_default() -> None:
    assert assign(np.array([100, 20])).tolist() == assign(np.array([100, 20]), rule="strict").tolist()


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=50), st.sampled_from(sorted(set(RULES) - {"mislas"})))
def test_more_images_never_mean_a_rarer_group(counts: list[int], rule: str) -> None:
    groups = assign(np.sort(np.array(counts))[::-1], rule=rule)
    assert groups.dtype == np.int8
    assert set(groups.tolist()) <= set(range(len(GROUP_NAMES)))
    assert (np.diff(groups) >= 0).all()


def test_unknown_rules_are_refused_and_the_known_ones_named() -> None:
    with pytest.raises(UsageError, match=r"'ace'.*strict, gt100-le20, oltr, mislas"):
        assign(np.array([1]), rule="ace")


def test_mislas_is_refused_for_other_numbers_of_classes() -> None:
    with pytest.raises(UsageError, match="10 and 100 classes, not for 12"):
        assign(np.arange(12), rule="mislas")
