"""Class shares are those of their formulas, and what cannot be meant is named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltdata.errors import UsageError
from ltdata.sampling import SAMPLERS, class_shares, effective_numbers, repeat_factors

COUNTS = np.array([500, 120, 30, 7, 0, 2])
VALUES: dict[str, dict[str, float]] = {"power": {"q": 0.3}, "progressively-balanced": {"epochs": 10}}
some_counts = st.lists(st.integers(0, 10**6), min_size=1, max_size=40).filter(any)


def test_shares_are_those_of_the_papers():
    """Worked out by hand for counts 8, 1, 1."""
    counts = [8, 1, 1]
    expected = {
        ("instance-balanced",): [0.8, 0.1, 0.1],
        ("class-balanced",): [1 / 3] * 3,
        ("square-root",): np.array([8**0.5, 1, 1]) / (8**0.5 + 2),
        ("power", ("q", 1 / 3)): [0.5, 0.25, 0.25],
        ("power", ("q", 2)): np.array([64, 1, 1]) / 66,
        ("reversed",): np.array([1, 8, 8]) / 17,
        ("progressively-balanced", ("epochs", 3)): np.array([0.8, 0.1, 0.1]) / 2 + 1 / 6,  # epoch 1 is halfway
        ("effective-number", ("beta", 0.5)): np.array([8 / (2 - 2**-7), 1, 1]) / (8 / (2 - 2**-7) + 2),
        ("effective-number", ("beta", 0)): [0.8, 0.1, 0.1],
        ("repeat-factor", ("threshold", 0.4)): np.array([8, 2, 2]) / 12,
        ("repeat-factor", ("threshold", 0)): [0.8, 0.1, 0.1],
    }
    for (sampler, *named), shares in expected.items():
        assert np.allclose(class_shares(sampler, counts, epoch=1, **dict(named)), shares), sampler  # type: ignore[arg-type]


def test_progressive_shares_begin_with_the_images_and_end_with_the_classes():
    shares = [class_shares("progressively-balanced", COUNTS, epoch=epoch, epochs=5) for epoch in range(5)]
    assert np.allclose(shares[0], class_shares("instance-balanced", COUNTS))
    assert np.allclose(shares[4], class_shares("class-balanced", COUNTS))
    assert (np.diff([share[5] for share in shares]) > 0).all()
    assert np.allclose(
        class_shares("progressively-balanced", COUNTS, epochs=1), class_shares("instance-balanced", COUNTS)
    )
    for epoch in (-1, 5, 1.5, "2"):
        with pytest.raises(UsageError, match=rf"epoch {epoch!r}: (0 \.\. 4|a whole number)"):
            class_shares("progressively-balanced", COUNTS, epoch=epoch, epochs=5)  # type: ignore[arg-type]


def test_effective_number_goes_from_the_images_to_the_classes():
    assert np.allclose(class_shares("effective-number", COUNTS, beta=1 - 1e-12), class_shares("class-balanced", COUNTS))
    n = np.array([1.0, 3, 500])
    assert np.allclose(effective_numbers(n, 0.999), [sum(0.999**i for i in range(int(each))) for each in n])
    assert effective_numbers(n, 0.0).tolist() == [1, 1, 1]


def test_repeat_factors_are_those_of_lvis():
    counts = np.array([9900, 90, 10])
    slow = [max(1.0, (0.01 / (n / counts.sum())) ** 0.5) for n in counts]
    assert np.allclose(repeat_factors(counts, threshold=0.01), slow)


@pytest.mark.parametrize("sampler", SAMPLERS)
@given(counts=some_counts)
@settings(deadline=None)
def test_shares_add_up_to_one_and_empty_classes_have_none(sampler, counts):
    shares = class_shares(sampler, counts, **VALUES.get(sampler, {}))
    assert shares.sum() == pytest.approx(1)
    assert ((shares > 0) == (np.array(counts) > 0)).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_shares_of_some_classes_are_those_of_a_set_that_has_only_them(sampler):
    mask = np.array([False, True, True, False, False, True])
    shares = class_shares(sampler, COUNTS, classes=mask, **VALUES.get(sampler, {}))
    assert shares[~mask].sum() == 0
    assert np.allclose(shares[mask], class_shares(sampler, COUNTS[mask], **VALUES.get(sampler, {})))


@pytest.mark.parametrize(
    ("sampler", "named", "says"),
    [
        ("balanced", {}, "sampler 'balanced': choose one of instance-balanced, "),
        ("power", {}, "sampler power needs q: "),
        ("power", {"q": np.nan}, "q nan: a finite number"),
        ("power", {"q": -400.0}, "q -400: of these class counts that is no finite number"),
        ("progressively-balanced", {}, "needs epochs"),
        ("progressively-balanced", {"epochs": 0}, "epochs 0: "),
        ("progressively-balanced", {"epochs": 1.5}, "epochs 1.5: "),
        ("effective-number", {"beta": 1.0}, "beta 1.0: a number of at least 0 and below 1"),
        ("effective-number", {"beta": -0.1}, "beta -0.1: "),
        ("effective-number", {"q": 0.5}, "q 0.5: sampler effective-number takes beta"),
        ("repeat-factor", {"threshold": 2}, "threshold 2: a share of the images"),
        ("repeat-factor", {"threshold": "x"}, "threshold 'x': "),
        ("class-balanced", {"beta": 0.9}, "beta 0.9: sampler class-balanced takes no value"),
    ],
)
def test_values_that_cannot_be_meant_are_named(sampler, named, says):
    with pytest.raises(ValueError, match=says):
        class_shares(sampler, COUNTS, **named)


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ([1.0, 2.0], "class_counts: float64 of .*1.0"),
        ([[1, 2]], r"shape \(1, 2\)"),
        ([], "class_counts: float64 of"),
        (["a"], "class_counts: <U1 of .*a"),
        ([3, -1], r"class_counts\[1\] is -1"),
        ([0, 0], "none of 2 classes"),
    ],
)
def test_counts_that_cannot_be_are_refused(counts, says):
    with pytest.raises(ValueError, match=says):
        class_shares("class-balanced", counts)


def test_masks_that_do_not_fit_are_refused():
    for classes, says in (([1, 0], "int64"), ([True, False], r"shape \(2,\)"), ([False] * 6, "none of 6 classes")):
        with pytest.raises(ValueError, match=says):
            class_shares("class-balanced", COUNTS, classes=classes)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_class_without_images_has_no_share_even_if_it_is_wanted(sampler):
    named = {"power": {"q": 0.5}, "progressively-balanced": {"epochs": 3}}.get(sampler, {})
    shares = class_shares(sampler, [4, 0, 2], classes=[True, True, False], **named)
    assert shares.tolist() == [1.0, 0.0, 0.0]


def test_progressive_shares_of_two_epochs_go_from_images_to_classes():
    first, last = (class_shares("progressively-balanced", [3, 1], epochs=2, epoch=epoch) for epoch in (0, 1))
    assert (first.tolist(), last.tolist()) == ([0.75, 0.25], [0.5, 0.5])


def test_repeat_factors_of_classes_without_images_are_one():
    assert repeat_factors([100, 0, 1], threshold=0.5).tolist() == [1.0, 1.0, pytest.approx(50.5**0.5)]
    assert repeat_factors([2000, 1]).tolist() == [1.0, pytest.approx(2.001**0.5)]  # 0.001, as LVIS has it
