"""Orders have the class distribution of their formula, and follow from seed and epoch alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from ltdata.errors import UsageError
from ltdata.sampling import SAMPLERS, epoch_order

COUNTS = np.array([500, 120, 30, 7, 0, 2])
LABELS = np.random.RandomState(0).permutation(np.repeat(np.arange(6), COUNTS))


@pytest.mark.parametrize("sampler", ["square-root", "class-balanced"])
def test_classes_are_drawn_in_proportion_to_their_counts_to_the_power(sampler):
    for seed in range(10):
        drawn = LABELS[epoch_order(sampler, LABELS, seed=seed, epoch=seed, length=20_000)]
        share = np.where(COUNTS > 0, COUNTS.astype(float) ** SAMPLERS[sampler], 0)
        expected = 20_000 * share / share.sum()
        found = np.bincount(drawn, minlength=6)
        assert found[4] == 0
        assert chisquare(found[COUNTS > 0], expected[COUNTS > 0]).pvalue > 1e-4


def test_inside_a_class_every_image_is_drawn_equally_often():
    order = epoch_order("class-balanced", LABELS, seed=1, epoch=0, length=50_000)
    for label in (0, 3, 5):
        found = np.bincount(order, minlength=len(LABELS))[label == LABELS]
        assert chisquare(found).pvalue > 1e-4


def test_an_instance_balanced_epoch_is_a_permutation_and_a_longer_one_goes_round():
    order = epoch_order("instance-balanced", LABELS, seed=1, epoch=0)
    assert np.array_equal(np.sort(order), np.arange(len(LABELS)))
    longer = epoch_order("instance-balanced", LABELS, seed=1, epoch=0, length=2 * len(LABELS) + 5)
    assert len(longer) == 2 * len(LABELS) + 5
    assert np.array_equal(longer[: len(LABELS)], order)
    assert np.array_equal(np.sort(longer[len(LABELS) : 2 * len(LABELS)]), np.arange(len(LABELS)))


@given(
    sampler=st.sampled_from(list(SAMPLERS)),
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 1000),
)
def test_an_order_follows_from_seed_and_epoch_alone(sampler, labels, seed, epoch):
    labels = np.array(labels)
    np.random.seed(epoch)  # the global generator must not matter
    order = epoch_order(sampler, labels, seed=seed, epoch=epoch)
    np.random.seed(epoch + 1)
    assert np.array_equal(order, epoch_order(sampler, labels, seed=seed, epoch=epoch))
    assert len(order) == len(labels)
    assert order.dtype == np.int64
    assert ((order >= 0) & (order < len(labels))).all()


def test_seeds_and_epochs_give_different_orders():
    for sampler in SAMPLERS:
        orders = [epoch_order(sampler, LABELS, seed=s, epoch=e).tolist() for s, e in ((0, 0), (0, 1), (1, 0))]
        assert orders[0] != orders[1] != orders[2] != orders[0]


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match=r"'balanced': choose one of instance-balanced"):
        epoch_order("balanced", LABELS, seed=0, epoch=0)
    for wrong in ({"seed": -1}, {"epoch": -1}):
        with pytest.raises(UsageError, match="at least 0"):
            epoch_order("class-balanced", LABELS, **({"seed": 0, "epoch": 0} | wrong))
    for labels in (LABELS.astype(float), LABELS - 1):
        with pytest.raises(UsageError, match="whole numbers from 0 on"):
            epoch_order("class-balanced", labels, seed=0, epoch=0)
    with pytest.raises(UsageError, match="0 images"):
        epoch_order("class-balanced", LABELS[:0], seed=0, epoch=0)
