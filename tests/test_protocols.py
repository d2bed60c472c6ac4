"""Protocols: which images are kept, against the published positions and digests."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ltdata.spec import Spec, select
from ltdata.errors import UsageError
from ltdata.profiles import class_counts
from ltdata.protocols import ldam

DIGESTS = {
    ("cifar100", 10): "5906ba7310b91b5e",
    ("cifar100", 100): "f123ec136d44ab1b",
    ("cifar10", 10): "2b3a8656bec514c6",
    ("cifar10", 100): "8a54f5b6fa972295",
}
SHAPES = {"cifar100": (100, 500), "cifar10": (10, 5000)}


def within_class(labels: NDArray[np.int64], chosen: NDArray[np.int64]) -> str:
    """Digest the positions of the chosen images among the images of their own class."""
    rank = np.zeros(len(labels), dtype="<i8")
    for label in np.unique(labels):
        rank[labels == label] = np.arange((labels == label).sum())
    return hashlib.sha256(rank[chosen].tobytes()).hexdigest()[:16]


def ldam_drw(labels: NDArray[np.int64], counts: list[int], seed: int) -> list[int]:
    """Transcribe `gen_imbalanced_data` of LDAM-DRW's imbalance_cifar.py, with its global generator put back."""
    state = np.random.get_state()
    try:
        np.random.seed(seed)
        kept: list[int] = []
        for the_class, the_img_num in zip(np.unique(labels), counts, strict=True):
            idx = np.where(labels == the_class)[0]
            np.random.shuffle(idx)
            kept.extend(idx[:the_img_num].tolist())
        return kept
    finally:
        np.random.set_state(state)


@pytest.mark.parametrize(
    ("n", "first"),
    [(500, [90, 254, 283, 445, 461, 15, 316, 489]), (5000, [398, 3833, 4836, 4572, 636, 2545])],
)
def test_the_first_class_is_shuffled_as_published(n: int, first: list[int]) -> None:
    assert ldam(np.zeros(n, dtype=np.int64), np.array([len(first)]), seed=0).tolist() == first


@pytest.mark.parametrize(("source", "imbalance_factor"), DIGESTS)
def test_positions_within_classes_have_the_published_digest(source: str, imbalance_factor: int) -> None:
    """They depend on class sizes and seed alone; test_pinned.py does the same with the real labels."""
    classes, n_max = SHAPES[source]
    labels = np.repeat(np.arange(classes), n_max)
    chosen = select(Spec(source, imbalance_factor), labels, classes)
    assert within_class(labels, chosen) == DIGESTS[source, imbalance_factor]


@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_splits_of_one_seed_are_nested(seed: int, classes: int, order: object) -> None:
    """IF 200 lies inside IF 100 inside 50 inside 20 inside 10, class by class as a prefix."""
    listed = [label for label in range(classes) for _ in range(200 + label)]
    order.shuffle(listed)  # type: ignore[attr-defined]
    labels = np.array(listed)
    wider: list[list[int]] | None = None
    for imbalance_factor in (10, 20, 50, 100, 200):
        counts = class_counts("exp", num_classes=classes, n_max=200, imbalance_factor=imbalance_factor)
        by_class = [part.tolist() for part in np.split(ldam(labels, counts, seed=seed), np.cumsum(counts)[:-1])]
        if wider is not None:
            assert all(outer[: len(inner)] == inner for outer, inner in zip(wider, by_class, strict=True))
        wider = by_class


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 5), min_size=1, max_size=80), st.data())
@settings(deadline=None)
def test_selection_is_that_of_the_published_code(seed: int, listed: list[int], data: st.DataObject) -> None:
    labels = np.unique(np.array(listed), return_inverse=True)[1]
    counts = [data.draw(st.integers(0, int((labels == label).sum()))) for label in range(labels.max() + 1)]
    chosen = ldam(labels, np.array(counts), seed=seed)
    assert chosen.tolist() == ldam_drw(labels, counts, seed)
    assert chosen.dtype == np.int64
    assert len(set(chosen.tolist())) == len(chosen)
    assert np.bincount(labels[chosen], minlength=len(counts)).tolist() == counts


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    labels = np.repeat(np.arange(10), 200)
    np.random.seed(7)
    before = np.random.get_state()
    first = select(Spec("digits", 20), labels, 10)
    after = np.random.get_state()
    assert before[0] == after[0]
    assert np.array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    np.random.seed(8)
    assert np.array_equal(first, select(Spec("digits", 20), labels, 10))


def test_the_largest_class_is_the_smallest_number_that_every_class_has() -> None:
    """Digits have 144 to 153 per class: n_max is 144, or less where the split is bounded."""
    labels = np.repeat(np.arange(3), [12, 10, 11])
    assert np.bincount(labels[select(Spec("digits", 1), labels, 3)]).tolist() == [10, 10, 10]
    assert np.bincount(labels[select(Spec("digits", 2, max_per_class=4), labels, 3)]).tolist() == [4, 2, 2]
    assert np.bincount(labels[select(Spec("digits", 1, max_per_class=99), labels, 3)]).tolist() == [10, 10, 10]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_outside_32_bits_are_refused(seed: int) -> None:
    with pytest.raises(UsageError, match=f"seed {seed}"):
        ldam(np.zeros(3, dtype=np.int64), np.array([1]), seed=seed)
    with pytest.raises(UsageError, match=f"seed {seed}"):
        Spec("digits", 20, seed=seed)


def test_a_class_with_too_few_images_is_refused() -> None:
    with pytest.raises(UsageError, match="class 1 has 2 images, 3 are asked for"):
        ldam(np.array([0, 0, 0, 1, 1]), np.array([3, 3]), seed=0)
