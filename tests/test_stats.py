"""Class-frequency statistics, against slow and foreign oracles."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import entropy

from ltdata.errors import UsageError
from ltdata.profiles import class_counts
from ltdata.stats import frequency_stats, gini, lorenz

some_counts = st.lists(st.one_of(st.integers(0, 30), st.integers(0, 10**7)), min_size=1, max_size=60).filter(any)


def slow_gini(counts: list[int]) -> float:
    pairs = sum(abs(a - b) for a in counts for b in counts)
    return pairs / (2 * len(counts) * sum(counts))


def floats_of(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for part in value.values() for number in floats_of(part)]
    return [float(value)] if isinstance(value, int | float) else []


@given(some_counts)
@settings(deadline=None)
def test_figures_agree_with_slow_definitions(counts: list[int]) -> None:
    found = frequency_stats(np.array(counts))
    assert math.isclose(found.gini, slow_gini(counts), abs_tol=1e-9)
    bits = float(entropy(np.array(counts, dtype=float), base=2))
    assert math.isclose(found.entropy_bits, bits, abs_tol=1e-9)
    assert math.isclose(found.effective_classes, 2**bits, rel_tol=1e-9)
    fifths = [n / 5 for n in sorted(counts, reverse=True) for _ in range(5)]
    assert math.isclose(found.head_share, sum(fifths[: len(counts)]) / sum(counts), rel_tol=1e-9)
    assert (found.images, found.classes, found.empty_classes) == (sum(counts), len(counts), counts.count(0))
    assert (found.largest, found.median, found.smallest) == (max(counts), float(np.median(counts)), min(counts))


@given(some_counts, st.sampled_from(["strict", "gt100-le20", "oltr"]))
@settings(deadline=None)
def test_every_figure_is_finite_and_in_its_range(counts: list[int], rule: str) -> None:
    found = frequency_stats(np.array(counts), rule=rule)
    assert all(map(math.isfinite, floats_of(asdict(found))))
    assert 0 <= found.gini <= 1 - 1 / len(counts) + 1e-9
    assert 0 <= found.entropy_bits <= math.log2(len(counts)) + 1e-9
    assert 1 <= found.effective_classes <= len(counts) * (1 + 1e-9)
    assert 0 < found.head_share <= 1
    assert (found.imbalance_factor is None) == (min(counts) == 0)
    if found.imbalance_factor is not None:
        assert found.imbalance_factor >= 1


@given(some_counts, st.sampled_from(["strict", "gt100-le20", "oltr"]))
@settings(deadline=None, max_examples=50)
def test_groups_add_up_to_the_whole(counts: list[int], rule: str) -> None:
    found = frequency_stats(np.array(counts), rule=rule)
    assert sum(group.classes for group in found.groups.values()) == found.classes
    assert sum(group.images for group in found.groups.values()) == found.images
    assert math.isclose(sum(group.share or 0 for group in found.groups.values()), 1)


@given(some_counts, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_the_order_of_the_classes_does_not_matter(counts: list[int], order: object) -> None:
    shuffled = list(counts)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    before, after = (floats_of(asdict(frequency_stats(np.array(n)))) for n in (counts, shuffled))
    assert before == pytest.approx(after, rel=1e-12)


def test_equal_classes_have_no_inequality_and_no_fit() -> None:
    found = frequency_stats(np.full(100, 7))
    assert found.gini == pytest.approx(0, abs=1e-12)
    assert found.entropy_bits == pytest.approx(math.log2(100))
    assert found.effective_classes == pytest.approx(100)
    assert found.imbalance_factor == 1
    assert found.head_share == pytest.approx(0.2)
    assert set(found.fits.values()) == {None}
    assert found.best_fit is None


def test_empty_classes_are_counted_and_give_no_imbalance_factor() -> None:
    found = frequency_stats(np.array([8, 0, 4, 0, 2]))
    assert (found.empty_classes, found.smallest, found.imbalance_factor) == (2, 0, None)
    assert found.fits["exponential"] is not None
    assert found.fits["exponential"].value == pytest.approx(4)
    only_one = frequency_stats(np.array([0, 0, 5, 0]))
    assert (only_one.gini, only_one.entropy_bits, only_one.effective_classes) == (0.75, 0, 1)
    assert only_one.best_fit is None


def test_classes_of_one_sample_are_no_trouble() -> None:
    assert frequency_stats(np.array([1])).gini == 0
    found = frequency_stats(np.array([1, 1, 1]))
    assert (found.images, found.imbalance_factor, found.best_fit) == (3, 1, None)
    assert frequency_stats(np.array([100, 1, 1, 1])).imbalance_factor == 100


@pytest.mark.parametrize(("classes", "n_max", "factor"), [(1000, 1280, 256), (8142, 1000, 500)])
def test_large_label_sets(classes: int, n_max: int, factor: float) -> None:
    counts = class_counts("exp", num_classes=classes, n_max=n_max, imbalance_factor=factor)
    found = frequency_stats(counts)
    assert found.classes == classes
    assert found.imbalance_factor == n_max / counts[-1]
    assert found.gini == pytest.approx(slow_gini_array(counts))
    assert sum(group.classes for group in found.groups.values()) == classes


def slow_gini_array(counts: NDArray[np.int64]) -> float:
    return float(sum(np.abs(counts - n).sum() for n in counts) / (2 * len(counts) * counts.sum()))


def test_an_empty_group_has_no_classes_no_images_and_no_share() -> None:
    few = frequency_stats(class_counts("exp", num_classes=100, n_max=500, imbalance_factor=10)).groups["few"]
    assert (few.classes, few.images, few.share) == (0, 0, None)


def test_cifar100_lt_100_has_the_known_groups() -> None:
    found = frequency_stats(class_counts("exp", num_classes=100, n_max=500, imbalance_factor=100))
    assert {name: (g.classes, g.images) for name, g in found.groups.items()} == {
        "many": (35, 8824),
        "medium": (35, 1718),
        "few": (30, 305),
    }


def test_figures_are_plain_json() -> None:
    found = asdict(frequency_stats(np.array([500, 50, 5, 0])))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("counts", [[0, 0], [3, -1], [[1, 2], [3, 4]], [2**63 - 1, 1], [1.5], [float("nan")]])
def test_counts_that_cannot_be_are_refused(counts: list[int]) -> None:
    with pytest.raises(UsageError, match="class_counts"):
        frequency_stats(np.array(counts))


def test_no_classes_at_all_are_refused() -> None:
    with pytest.raises(UsageError, match="class_counts"):
        frequency_stats(np.array([], dtype=np.int64))


def test_gini_of_one_owner_is_one_minus_one_over_the_number_of_classes() -> None:
    assert gini(np.array([0, 0, 0, 9])) == 0.75


@given(some_counts)
@settings(deadline=None)
def test_gini_is_what_the_lorenz_curve_leaves(counts: list[int]) -> None:
    """One minus twice the area under it, by trapezoids."""
    curve = lorenz(np.array(counts))
    assert (curve[0], len(curve)) == (0, len(counts) + 1)
    assert curve[-1] == pytest.approx(1)
    assert np.all(np.diff(curve) >= 0)
    assert np.all(np.diff(curve, 2) >= -1e-12)  # smallest first: it only grows steeper
    area = (curve[:-1] + curve[1:]).sum() / 2 / len(counts)
    assert 1 - 2 * area == pytest.approx(gini(np.array(counts)), abs=1e-9)


def test_the_best_family_is_named() -> None:
    assert (
        frequency_stats(class_counts("exp", num_classes=100, n_max=500, imbalance_factor=100)).best_fit == "exponential"
    )
