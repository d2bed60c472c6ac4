"""Profiles: how many images each class keeps, against the published figures."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import lomax

from ltdata.errors import UsageError
from ltdata.profiles import check_alpha, check_imbalance_factor, class_counts

CIFAR10 = {"num_classes": 10, "n_max": 5000.0}
CIFAR100 = {"num_classes": 100, "n_max": 500.0}


def ldam_drw(profile: str, num_classes: int, n_max: float, imbalance_factor: float) -> list[int]:
    """Transcribe `get_img_num_per_cls` of LDAM-DRW's imbalance_cifar.py, given 1 / IF as its users give it."""
    imb_factor = 1 / imbalance_factor
    if profile == "exp":
        return [int(n_max * (imb_factor ** (cls_idx / (num_classes - 1.0)))) for cls_idx in range(num_classes)]
    head = num_classes // 2
    return [int(n_max)] * head + [int(n_max * imb_factor)] * (num_classes - head)


@pytest.mark.parametrize(
    ("data", "imbalance_factor", "images"),
    [
        *((CIFAR100, *row) for row in ((10, 19573), (20, 15907), (50, 12608), (100, 10847), (200, 9502))),
        *((CIFAR10, *row) for row in ((10, 20431), (20, 17023), (50, 13996), (100, 12406), (200, 11203))),
    ],
)
def test_exponential_cifar_has_the_published_number_of_images(
    data: dict[str, float], imbalance_factor: float, images: int
) -> None:
    assert class_counts("exp", **data, imbalance_factor=imbalance_factor).sum() == images


def test_cifar10_lt_100_has_the_published_counts() -> None:
    counts = class_counts("exp", **CIFAR10, imbalance_factor=100)
    assert counts.tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert counts.dtype == np.int64


def test_cifar100_lt_100_starts_and_ends_as_published() -> None:
    counts = class_counts("exp", **CIFAR100, imbalance_factor=100).tolist()
    assert counts[:5] == [500, 477, 455, 434, 415]
    assert counts[-6:] == [6, 6, 5, 5, 5, 5]


def test_step_keeps_the_first_half_whole_and_divides_the_others() -> None:
    assert class_counts("step", **CIFAR10, imbalance_factor=100).tolist() == [5000] * 5 + [50] * 5
    assert class_counts("step", num_classes=5, n_max=7, imbalance_factor=3).tolist() == [7, 7, 2, 2, 2]
    assert class_counts("step", **CIFAR100, imbalance_factor=200).tolist() == [500] * 50 + [2] * 50


@pytest.mark.parametrize("profile", ["exp", "step"])
@pytest.mark.parametrize("data", [CIFAR10, CIFAR100])
@pytest.mark.parametrize("imbalance_factor", [1, 1.5, 2, 10, 12.5, 20, 33.3, 50, 100, 200, 256, 500])
def test_counts_are_those_of_the_published_code(profile: str, data: dict[str, float], imbalance_factor: float) -> None:
    counts = class_counts(profile, **data, imbalance_factor=imbalance_factor)
    assert counts.tolist() == ldam_drw(profile, imbalance_factor=imbalance_factor, **data)


@given(
    st.sampled_from(["exp", "step", "pareto"]),
    st.integers(2, 300),
    st.integers(1, 10_000),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.01, 1000),
)
def test_counts_fall_from_n_max_to_at_least_one(
    profile: str, classes: int, n_max: int, part: float, alpha: float
) -> None:
    imbalance_factor = 1 + part * (n_max - 1) * 0.999
    counts = class_counts(profile, num_classes=classes, n_max=n_max, imbalance_factor=imbalance_factor, alpha=alpha)
    assert counts[0] == n_max
    assert counts[-1] >= 1
    assert (np.diff(counts) <= 0).all()
    assert abs(n_max / counts[-1] - imbalance_factor) <= imbalance_factor / counts[-1] + 1e-6  # truncation only


@given(st.sampled_from(["exp", "step", "pareto"]), st.integers(2, 300), st.integers(1, 10_000))
def test_factor_one_keeps_everything(profile: str, classes: int, n_max: int) -> None:
    assert class_counts(profile, num_classes=classes, n_max=n_max, imbalance_factor=1).tolist() == [n_max] * classes


@pytest.mark.parametrize("profile", ["exp", "step", "pareto"])
@pytest.mark.parametrize("bad", [0, math.nan, math.inf, -math.inf, -3, 0.5, 501, 1e308])
def test_bad_imbalance_factors_are_refused(profile: str, bad: float) -> None:
    with pytest.raises(UsageError, match="imbalance factor"):
        class_counts(profile, **CIFAR100, imbalance_factor=bad)


def test_an_inverse_factor_is_told_what_it_probably_means() -> None:
    with pytest.raises(UsageError, match="did you mean 100"):
        check_imbalance_factor(0.01)


def test_the_error_does_not_offer_the_refused_factor_as_the_largest() -> None:
    """49 * (1 / 49) truncates to 0 in the published formula; the message must not say that 49 is possible."""
    with pytest.raises(UsageError) as refused:
        class_counts("exp", num_classes=10, n_max=49, imbalance_factor=49)
    assert "at most 49" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"profile": "zipf"}, "'zipf'.*exp, step, pareto"),
        ({"profile": "pareto", "alpha": 0}, "alpha 0: a number of 0.01"),
        ({"num_classes": 1}, "at least 2"),
        ({"n_max": 0}, "at least 1"),
        ({"n_max": math.nan}, "at least 1"),
    ],
)
def test_other_bad_values_are_refused(change: dict[str, object], message: str) -> None:
    good = {"profile": "exp", "num_classes": 10, "n_max": 100, "imbalance_factor": 10}
    with pytest.raises(UsageError, match=message):
        class_counts(**{**good, **change})


# Pareto


@given(st.integers(2, 2000), st.integers(1, 100_000), st.data(), st.floats(0.01, 1000))
def test_pareto_goes_from_n_max_to_n_min_exactly(classes: int, n_max: int, data: st.DataObject, alpha: float) -> None:
    """Where n_max / IF is a whole number, or a hair more, as `ltdata.spec.select` gives it for --min-per-class."""
    n_min = data.draw(st.integers(1, n_max))
    factor = max(1.0, n_max / n_min * (1 - 1e-12))
    counts = class_counts("pareto", num_classes=classes, n_max=n_max, imbalance_factor=factor, alpha=alpha)
    assert (counts[0], counts[-1]) == (n_max, n_min)
    assert (np.diff(counts) <= 0).all()


@given(st.integers(3, 400), st.floats(0.05, 100), st.floats(1.1, 4))
def test_a_smaller_alpha_has_a_longer_tail(classes: int, alpha: float, times: float) -> None:
    small, large = (
        class_counts("pareto", num_classes=classes, n_max=10_000, imbalance_factor=1000, alpha=value)
        for value in (alpha, alpha * times)
    )
    assert (small <= large).all()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 6.0, 100.0])
@pytest.mark.parametrize("classes", [2, 10, 365, 1000])
def test_pareto_has_the_quantiles_of_the_distribution(classes: int, alpha: float) -> None:
    """Those of SciPy's Lomax distribution at 1 - (c + 1/2) / C, scaled to n_max .. n_min."""
    q = lomax(alpha).ppf(1 - (np.arange(classes) + 0.5) / classes)
    expected = 5 + (1280 - 5) * (q - q[-1]) / (q[0] - q[-1])
    counts = class_counts("pareto", num_classes=classes, n_max=1280, imbalance_factor=256, alpha=alpha)
    assert (np.abs(counts + 0.5 - expected) <= 0.5 + 1e-6).all()  # truncation


def test_pareto_counts_are_pinned() -> None:
    """ImageNet-LT's sizes and alpha; its own lists, drawn at random, have 385 classes above 100 and 136 below 20."""
    counts = class_counts("pareto", num_classes=1000, n_max=1280, imbalance_factor=256)
    assert counts[:6].tolist() == [1280, 982, 862, 788, 735, 695]
    assert (counts.sum(), (counts > 100).sum(), (counts < 20).sum()) == (104_345, 349, 163)
    digest = hashlib.sha256(counts.astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "5fdb86ba5cf8d555"


def test_no_pinned_pareto_count_hangs_on_the_last_bit_of_a_power() -> None:
    """Truncation would otherwise give other counts on another processor."""
    q = (2 * np.arange(1000, dtype=np.longdouble) + 1) ** (-1 / np.longdouble(6))
    exact = 5 + 1275 * (q - q[-1]) / (q[0] - q[-1])
    assert np.abs(exact[1:-1] - np.round(exact[1:-1])).min() > 1e-9


@pytest.mark.parametrize("alpha", [0, -1, 0.009, 1001, math.nan, math.inf, 1e308])
def test_bad_alphas_are_refused(alpha: float) -> None:
    with pytest.raises(UsageError, match=r"alpha \S+: a number of 0\.01 \.\. 1000 \(6 is ImageNet-LT's\) is needed"):
        check_alpha(alpha)
    with pytest.raises(UsageError, match="alpha"):
        class_counts("pareto", num_classes=10, n_max=100, imbalance_factor=10, alpha=alpha)


@pytest.mark.parametrize("alpha", [0.01, 1000])
def test_extreme_alphas_do_not_overflow(alpha: float) -> None:
    """(1 / 2C) ** (-1 / 0.01) is beyond a double for C = 1000."""
    counts = class_counts("pareto", num_classes=10_000, n_max=1000, imbalance_factor=100, alpha=alpha)
    assert (counts[0], counts[-1]) == (1000, 10)
