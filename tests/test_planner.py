"""The planner cuts where the published settings cut."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

import ltdata
from ltdata.errors import UsageError
from ltdata.planner import expert_shares, target_categories

PUBLISHED = [
    ("cifar100-lt", 100, (0.3, 0.03), (75, 0.304), (32, 0.032)),
    ("cifar100-lt", 50, (0.4, 0.1), (78, 0.406), (47, 0.1045)),
    ("cifar10-lt", 100, (0.3, 0.05), (8, 0.355), (5, 0.072)),
    ("cifar10-lt", 50, (0.3, 0.05), (8, 0.41), (4, 0.061)),
]


@pytest.mark.parametrize(("split", "factor", "thresholds", "second", "third"), PUBLISHED)
def test_mass_thresholds_give_the_published_cuts_and_shares(split, factor, thresholds, second, third):
    counts = ltdata.load(split, imbalance_factor=factor).class_counts
    targets = target_categories(counts, planner="mass", thresholds=thresholds)
    shares = expert_shares(counts, targets)
    assert targets.sum(axis=1).tolist() == [len(counts), second[0], third[0]]
    assert shares == pytest.approx([1, second[1], third[1]], abs=2e-3)


def test_groups_give_all_medium_and_few_and_few():
    counts = ltdata.load("cifar100-lt", imbalance_factor=100).class_counts
    targets = target_categories(counts, planner="groups", group_rule="strict")
    assert targets.sum(axis=1).tolist() == [100, 65, 30]


def test_groups_leave_out_experts_that_would_repeat_another_or_have_no_class():
    assert target_categories(np.array([500, 400, 300]), planner="groups").sum(axis=1).tolist() == [3]
    assert target_categories(np.array([500, 50]), planner="groups").sum(axis=1).tolist() == [2, 1]
    assert target_categories(np.array([50, 5]), planner="groups").sum(axis=1).tolist() == [2, 1]


def test_cuts_are_positions_among_the_classes_sorted_by_falling_count():
    targets = target_categories(np.array([5, 50, 500]), planner="cuts", cuts=(1, 2))
    assert targets.astype(int).tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]


@given(
    st.lists(st.integers(1, 1000), min_size=2, max_size=50), st.sampled_from([(), (0.5,), (0.4, 0.1), (0.6, 0.3, 0.1)])
)
def test_target_categories_are_nested_and_hold_more_than_their_share(counts, thresholds):
    counts = np.array(counts)
    try:
        targets = target_categories(counts, planner="mass", thresholds=thresholds)
    except UsageError:
        reject()  # two experts would have the same classes
    assert len({tuple(row) for row in targets.tolist()}) == 1 + len(thresholds)
    assert targets[0].all()
    assert all(not np.any(inner & ~outer) for outer, inner in pairwise(targets))
    assert np.all(expert_shares(counts, targets)[1:] > np.array(thresholds))


def test_the_number_of_experts_can_be_asked_for():
    counts = ltdata.load("cifar100-lt", imbalance_factor=100).class_counts
    assert target_categories(counts, planner="all", experts=4).sum(axis=1).tolist() == [100] * 4
    assert target_categories(counts, planner="groups", experts=2).sum(axis=1).tolist() == [100, 65]
    five = target_categories(counts, planner="mass", thresholds=(0.6, 0.4, 0.2, 0.1, 0.03), experts=6)
    assert five.shape == (6, 100)


@pytest.mark.parametrize(
    ("counts", "values", "words"),
    [
        ([500, 50, 5], {"planner": "groups", "experts": 4}, "experts 4: planner groups has 3 groups"),
        ([500, 400, 300], {"planner": "groups", "experts": 2}, "expert 2 no images of its own"),
        ([50, 40, 3], {"planner": "groups", "experts": 3}, "expert 2 no images of its own"),
        ([5, 3, 1], {"planner": "cuts", "cuts": (1,), "experts": 3}, "for 2 experts"),
    ],
)
def test_more_experts_than_the_planner_has_are_refused(counts, values, words):
    with pytest.raises(UsageError, match=words):
        target_categories(np.array(counts), **values)


@pytest.mark.parametrize(
    "values",
    [
        {"planner": "mass", "thresholds": (0.1, 0.3)},
        {"planner": "mass", "thresholds": (1.5,)},
        {"planner": "cuts", "cuts": (3,)},
        {"planner": "cuts", "cuts": (2, 1)},
        {"planner": "mass", "thresholds": (0.9,)},  # every class: expert 1 again
        {"planner": "mass", "thresholds": (0.15, 0.12)},  # expert 2 and 3 alike
        {"planner": "luck"},
    ],
)
def test_what_cannot_be_planned_is_refused(values):
    with pytest.raises(UsageError):
        target_categories(np.array([5, 3, 1]), **values)


def test_an_expert_without_an_image_is_refused():
    with pytest.raises(UsageError, match="expert 2 would have no image"):
        target_categories(np.array([5, 3, 0]), planner="cuts", cuts=(2,))
