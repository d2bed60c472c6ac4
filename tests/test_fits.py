"""Fits of profiles: they give back what a split was drawn with, and say which family it is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltdata import pinned
from ltdata.fits import FAMILIES, Fit, best, curve, fit_all
from ltdata.profiles import class_counts

some_counts = st.lists(st.one_of(st.integers(0, 30), st.integers(0, 10**7)), min_size=1, max_size=60).filter(any)


def fitted(counts: np.ndarray, family: str) -> Fit:
    fit = fit_all(counts)[family]
    assert fit is not None
    return fit


def test_an_exact_exponential_profile_is_recovered() -> None:
    fit = fitted(np.array([1, 4, 16, 64, 2, 8, 32]), "exponential")
    assert (fit.value, fit.low, fit.high) == pytest.approx((64, 64, 64))
    assert (fit.r_squared, fit.ks) == pytest.approx((1, 0))
    assert (fit.largest, fit.smallest) == pytest.approx((64, 1))


@pytest.mark.parametrize("imbalance_factor", [10, 100, 1000])
def test_the_factor_of_a_truncated_profile_lies_in_the_interval(imbalance_factor: float) -> None:
    counts = class_counts("exp", num_classes=100, n_max=100_000, imbalance_factor=imbalance_factor)
    fit = fitted(counts, "exponential")
    assert fit.low is not None
    assert fit.high is not None
    assert fit.low <= fit.value <= fit.high
    assert fit.value == pytest.approx(imbalance_factor, rel=0.01)
    assert fit.r_squared > 0.999
    assert best(fit_all(counts)) == "exponential"


@pytest.mark.parametrize(
    ("classes", "n_max", "factor", "alpha"),
    [(1000, 1280, 256, 6), (365, 4980, 996, 6), (100, 1280, 256, 3), (10, 5000, 100, 6), (100, 5000, 10, 20)],
)
def test_the_alpha_of_a_pareto_split_is_near_the_one_it_was_drawn_with(
    classes: int, n_max: int, factor: float, alpha: float
) -> None:
    counts = class_counts("pareto", num_classes=classes, n_max=n_max, imbalance_factor=factor, alpha=alpha)
    fits = fit_all(counts)
    assert fitted(counts, "pareto").value == pytest.approx(alpha, rel=0.02)
    assert best(fits) == "pareto"


@pytest.mark.parametrize("exponent", [0.7, 1.1, 1.8])
def test_the_exponent_of_zipf_counts_is_recovered(exponent: float) -> None:
    counts = np.round(1e7 * np.arange(1, 301) ** -exponent).astype(np.int64)
    fit = fitted(counts, "zipf")
    assert fit.value == pytest.approx(exponent, rel=1e-3)
    assert best(fit_all(counts)) == "zipf"


def test_imagenet_lt_is_pareto_with_an_alpha_near_six() -> None:
    """OLTR drew it at random with 6; these quantiles have the shape of such a draw, not its numbers."""
    fits = fit_all(pinned.header("imagenet-lt").class_counts)
    assert best(fits) == "pareto"
    assert fits["pareto"] is not None
    assert fits["pareto"].value == pytest.approx(6, abs=0.5)


@given(some_counts)
@settings(deadline=None, max_examples=60)
def test_every_figure_is_finite_and_in_its_range(counts: list[int]) -> None:
    fits = fit_all(np.array(counts))
    assert list(fits) == list(FAMILIES)
    for family, fit in fits.items():
        if fit is None:
            continue
        assert all(math.isfinite(figure) for figure in vars(fit).values() if figure is not None), (family, fit)
        assert fit.low is None or fit.high is None or fit.low <= fit.value <= fit.high, (family, fit)
        assert fit.r_squared <= 1 + 1e-12
        assert 0 <= fit.ks <= 1


@given(some_counts, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=20)
def test_the_order_of_the_classes_does_not_matter(counts: list[int], order: object) -> None:
    shuffled = list(counts)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fit_all(np.array(counts)) == fit_all(np.array(shuffled))


@pytest.mark.parametrize("counts", [[5], [5, 3], [7] * 20, [0, 0, 9, 9, 9], [9, 0, 0, 4]])
def test_where_there_is_nothing_to_fit_there_is_no_fit(counts: list[int]) -> None:
    fits = fit_all(np.array(counts))
    assert set(fits.values()) == {None}
    assert best(fits) is None


def test_empty_classes_are_left_out() -> None:
    assert fit_all(np.array([64, 0, 16, 4, 0, 8, 2, 32])) == fit_all(np.array([64, 16, 4, 8, 2, 32]))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_curve_of_a_fit_has_its_r_squared_and_its_ks(family: str) -> None:
    """Against the definitions, computed anew from the curve."""
    counts = np.sort(pinned.header("imagenet-lt").class_counts)[::-1]
    fit = fitted(counts, family)
    heights = curve(family, fit, classes=len(counts), ranks=np.arange(len(counts)))
    target = np.log(counts)
    rss = ((target - np.log(heights)) ** 2).sum()
    assert 1 - rss / ((target - target.mean()) ** 2).sum() == pytest.approx(fit.r_squared, abs=1e-6)
    gap = np.abs(np.cumsum(counts) / counts.sum() - np.cumsum(heights) / heights.sum()).max()
    assert gap == pytest.approx(fit.ks, abs=1e-6)
    assert (heights[0], heights[-1]) == pytest.approx((fit.largest, fit.smallest))
    k = {"exponential": 3, "pareto": 4, "zipf": 3}[family]
    c = len(counts)
    assert fit.aicc == pytest.approx(c * math.log(rss / c) + 2 * k + 2 * k * (k + 1) / (c - k - 1), rel=1e-6)


def test_least_squares_lines_are_numpys() -> None:
    counts = np.sort(pinned.header("inat18").class_counts)[::-1]
    ranks = np.arange(len(counts))
    slope, _ = np.polyfit(ranks, np.log(counts), 1)
    assert fitted(counts, "exponential").value == pytest.approx(math.exp(-slope * ranks[-1]))
    slope, _ = np.polyfit(np.log(ranks + 1), np.log(counts), 1)
    assert fitted(counts, "zipf").value == pytest.approx(-slope)
