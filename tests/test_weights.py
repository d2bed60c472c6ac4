"""Weights and priors are those of the papers, and finite whatever the counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

import ltdata
from ltdata.weights import NORMALISATIONS, WEIGHTS, class_weights, focal_alpha, ldam_margins, log_priors

COUNTS = ltdata.load("cifar100-lt", imbalance_factor=100).class_counts
some_counts = st.lists(st.integers(0, 10**7), min_size=1, max_size=50)


def test_inverse_frequency_is_scikit_learns_up_to_its_mean():
    labels = np.repeat(np.arange(100), COUNTS)
    theirs = compute_class_weight("balanced", classes=np.arange(100), y=labels)
    assert np.allclose(class_weights("inverse-frequency", COUNTS), theirs / theirs.mean())


def test_weights_are_those_of_slow_formulas():
    counts = [500, 20, 1]
    slow = {
        "inverse-frequency": [1 / n for n in counts],
        "inverse-square-root": [1 / n**0.5 for n in counts],
        "effective-number": [1 / sum(0.99**i for i in range(n)) for n in counts],
    }
    for kind, weights in slow.items():
        found = class_weights(kind, counts, beta=0.99)
        assert np.allclose(found, np.array(weights) / np.mean(weights))
        assert np.allclose(class_weights(kind, counts, beta=0.99, normalise="sum"), np.array(weights) / np.sum(weights))


def test_effective_number_goes_from_all_alike_to_inverse_frequency():
    assert class_weights("effective-number", COUNTS, beta=0.0).tolist() == [1.0] * 100
    nearly = class_weights("effective-number", COUNTS, beta=1 - 1e-12)
    assert np.allclose(nearly, class_weights("inverse-frequency", COUNTS), rtol=1e-3)


def test_margins_and_priors_are_those_of_the_papers():
    assert ldam_margins(COUNTS).max() == 0.5
    assert np.allclose(ldam_margins(COUNTS, largest=0.3), 0.3 * (5 / COUNTS) ** 0.25)
    assert np.allclose(np.exp(log_priors(COUNTS)), COUNTS / COUNTS.sum())
    assert np.allclose(log_priors(COUNTS, tau=2.5), 2.5 * log_priors(COUNTS))
    assert log_priors(COUNTS, tau=0).tolist() == [0.0] * 100


def test_focal_alpha_of_two_classes_is_one_minus_the_share():
    assert np.allclose(focal_alpha([90, 10]), [0.1, 0.9])


@given(some_counts, st.sampled_from(WEIGHTS), st.sampled_from(NORMALISATIONS), st.floats(0, 0.999999))
@settings(deadline=None)
def test_everything_is_finite_and_above_zero_whatever_the_counts(counts, kind, normalise, beta):
    weights = class_weights(kind, counts, beta=beta, normalise=normalise)
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    assert (weights.mean() if normalise == "mean" else weights.sum()) == pytest.approx(1)
    assert np.isfinite(log_priors(counts)).all()
    margins = ldam_margins(counts)
    assert ((margins > 0) & (margins <= 0.5)).all()
    assert focal_alpha(counts).sum() == pytest.approx(1)


@given(some_counts, st.sampled_from(WEIGHTS))
@settings(deadline=None)
def test_an_empty_class_counts_as_one_image(counts, kind):
    assert np.array_equal(class_weights(kind, counts), class_weights(kind, np.maximum(counts, 1)))
    assert np.array_equal(log_priors(counts), log_priors(np.maximum(counts, 1)))
    assert np.array_equal(ldam_margins(counts), ldam_margins(np.maximum(counts, 1)))


@pytest.mark.parametrize("kind", WEIGHTS)
def test_fewer_images_weigh_no_less(kind):
    assert (np.diff(class_weights(kind, COUNTS)) >= 0).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: class_weights("inverse", COUNTS), "weights 'inverse': choose one of inverse-frequency"),
        (lambda: class_weights("effective-number", COUNTS, beta=1), "beta 1: a number of at least 0 and below 1"),
        (
            lambda: class_weights("inverse-frequency", COUNTS, normalise="max"),
            "normalise 'max': choose one of mean, sum",
        ),
        (lambda: class_weights("inverse-frequency", [3, -2]), r"class_counts\[1\] is -2"),
        (lambda: class_weights("inverse-frequency", [0.5]), "class_counts: float64.*0.5"),
        (lambda: log_priors(COUNTS, tau=np.inf), "tau inf"),
        (lambda: ldam_margins(COUNTS, largest=0), "largest 0: "),
        (lambda: ldam_margins(COUNTS, largest="x"), "largest 'x': "),
        (lambda: log_priors(COUNTS, tau="x"), "tau 'x': "),
        (lambda: focal_alpha([]), "class_counts"),
    ],
)
def test_what_cannot_be_meant_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
