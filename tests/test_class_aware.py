"""Class-aware batches: P classes of K images, every class once a round, images one after the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from ltdata.class_aware import ClassAware
from ltdata.files import sha256_bytes

COUNTS = np.array([500, 120, 30, 7, 0, 2])
LABELS = np.random.RandomState(0).permutation(np.repeat(np.arange(6), COUNTS))


@pytest.mark.parametrize(("p", "k"), [(1, 1), (2, 3), (3, 8), (4, 1), (5, 2)])
def test_batches_hold_p_classes_of_k_images(p, k):
    order = ClassAware(LABELS, classes_per_batch=p, images_per_class=k, seed=0)
    batches = order.take(0, 0, 600).reshape(-1, p, k)
    classes = LABELS[batches]
    assert (classes == classes[:, :, :1]).all()
    assert all(len(set(batch)) == p for batch in classes[:, :, 0].tolist())
    for images, label in zip(batches.reshape(-1, k), classes[:, :, 0].ravel(), strict=True):
        assert len(set(images.tolist())) == min(k, COUNTS[label])
    assert order.length == -(-len(LABELS) // (p * k))


@given(
    classes=st.integers(1, 23), p=st.integers(1, 23), start=st.integers(0, 60), length=st.integers(0, 60),
    seed=st.integers(0, 99), epoch=st.integers(0, 5),
)  # fmt: skip
@settings(deadline=None)
def test_every_class_comes_once_a_round_and_batches_are_addressed(classes, p, start, length, seed, epoch):
    p = min(p, classes)
    order = ClassAware(np.arange(classes).repeat(2), classes_per_batch=p, images_per_class=1, seed=seed)
    whole = order.take(epoch, 0, start + length)
    assert np.array_equal(order.take(epoch, start, start + length), whole[start:])
    dealt = whole.ravel() // 2
    rounds = dealt[: len(dealt) // classes * classes].reshape(-1, classes)
    assert (np.sort(rounds, axis=1) == np.arange(classes)).all()
    assert all(len(set(batch)) == p for batch in (whole // 2).tolist())


def test_a_class_goes_on_through_its_images():
    order = ClassAware(LABELS, classes_per_batch=2, images_per_class=3, seed=0)
    drawn = order.take(0, 0, 100).ravel()  # 40 rounds
    for label in (0, 1, 2, 3):
        times = np.bincount(drawn, minlength=len(LABELS))[label == LABELS]
        assert times.sum() == 40 * 3
        assert times.max() - times.min() <= 1
    assert not np.array_equal(drawn, order.take(1, 0, 100).ravel())


def test_over_many_epochs_every_image_of_a_class_comes_equally_often():
    order = ClassAware(LABELS, classes_per_batch=2, images_per_class=3, seed=0)
    drawn = np.concatenate([order.take(epoch, 0, 10).ravel() for epoch in range(2000)])
    for label in (0, 1, 2):
        assert chisquare(np.bincount(drawn, minlength=len(LABELS))[label == LABELS]).pvalue > 1e-4


def test_the_order_of_the_classes_is_drawn_evenly():
    """Each class as often at each place of a batch, those that reach into the next round included."""
    order = ClassAware(np.arange(5).repeat(2), classes_per_batch=3, images_per_class=1, seed=0)
    batches = order.take(0, 0, 30_000) // 2
    for place in range(3):
        assert chisquare(np.bincount(batches[:, place])).pvalue > 1e-4


def test_streams_differ_and_what_makes_no_sense_is_refused():
    kept = {"classes_per_batch": 2, "images_per_class": 1, "seed": 0}
    one, other = (ClassAware(LABELS, **kept, stream=stream).take(0, 0, 9).tolist() for stream in (0, 1))
    assert one != other
    for wrong, says in (
        ({"classes_per_batch": 6}, r"classes_per_batch 6: 1 \.\. 5"),
        ({"classes_per_batch": 0}, "classes_per_batch 0"),
        ({"images_per_class": 0}, "images_per_class 0"),
        ({"seed": -1}, "seed -1"),
        ({"stream": 1 << 32}, "stream 4294967296"),
        ({"classes": [True] * 6}, "class 4 is wanted and has 0 images"),
    ):
        with pytest.raises(ValueError, match=says):
            ClassAware(LABELS, **(kept | wrong))


def test_orders_are_pinned_and_differ_by_seed_epoch_and_stream():
    """A change here changes every training that uses them: say so in the changelog, and raise the version."""
    orders = {
        (seed, epoch, stream): ClassAware(
            LABELS, classes_per_batch=2, images_per_class=3, seed=seed, stream=stream
        ).take(epoch, 0, 2000)
        for seed, epoch, stream in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (7, 3, 2))
    }
    digest = sha256_bytes(orders[7, 3, 2].astype("<i8").tobytes())
    assert digest[:16] == "6c5bb590b12be981"
    assert len({order.tobytes() for order in orders.values()}) == len(orders)
    default = ClassAware(LABELS, classes_per_batch=2, images_per_class=3, seed=0).take(0, 0, 2000)
    assert np.array_equal(default, orders[0, 0, 0])


def test_classes_beyond_the_sixteenth_bit_keep_their_images():
    """Sorting is by 16 bits where they suffice, and there only."""
    for classes in ((1 << 16) + 3, 1 << 16):
        labels = np.random.RandomState(1).permutation(np.arange(classes).repeat(2))
        batches = ClassAware(labels, classes_per_batch=classes, images_per_class=2, seed=0).take(0, 0, 1)
        found = labels[batches.reshape(-1, 2)]
        assert np.array_equal(found[:, 0], found[:, 1])
        assert np.array_equal(np.sort(found[:, 0]), np.arange(classes))
