"""Protocols: which images are kept, against the published positions and digests."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ltdata.errors import UsageError
from ltdata.profiles import class_counts
from ltdata.protocols import hold_out, ldam
from ltdata.spec import Spec, select

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


# Held out


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 4), min_size=1, max_size=80),
    st.lists(st.integers(0, 4), max_size=3),
)
@settings(deadline=None)
def test_sets_are_disjoint_exact_and_leave_the_rest(seed: int, listed: list[int], per_class: list[int]) -> None:
    labels = np.array(listed)
    sizes = np.unique(labels, return_counts=True)[1]
    if any(per_class) and sizes.min() <= sum(per_class):
        with pytest.raises(UsageError, match=r"class \d has \d+ images; holding \d+ out would leave none for training"):
            hold_out(labels, per_class, seed=seed)
        return
    held, rest = hold_out(labels, per_class, seed=seed)
    assert sorted(np.concatenate([*held, rest]).tolist()) == list(range(len(labels)))
    assert (np.diff(rest) > 0).all()
    for chosen, size in zip(held, per_class, strict=True):
        assert chosen.dtype == np.int64
        counted = np.bincount(labels[chosen], minlength=5)
        assert counted.tolist() == [size if label in listed else 0 for label in range(5)]
        assert (np.diff(labels[chosen]) >= 0).all()  # class by class
    again, same = hold_out(labels, per_class, seed=seed)
    assert np.array_equal(rest, same)
    assert all(np.array_equal(one, two) for one, two in zip(held, again, strict=True))


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5))
@settings(deadline=None)
def test_a_second_set_does_not_change_the_first(seed: int, first: int, second: int) -> None:
    labels = np.resize(np.arange(4), 80)
    (alone,), _ = hold_out(labels, [first], seed=seed)
    (kept, _), _ = hold_out(labels, [first, second], seed=seed)
    assert np.array_equal(alone, kept)


def hold_out_slowly(labels: list[int], size: int, seed: int) -> list[int]:
    """Say in other words what the docstring says: one stream seeded with (seed, 1), a shuffle per class."""
    stream = np.random.RandomState([seed, 1])
    taken: list[int] = []
    for label in sorted(set(labels)):
        own = np.array([n for n, other in enumerate(labels) if other == label])
        stream.shuffle(own)
        taken += own[:size].tolist()
    return taken


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 3), min_size=20, max_size=60))
@settings(deadline=None)
def test_what_is_held_out_is_what_the_docstring_says(seed: int, listed: list[int]) -> None:
    listed += [0, 1, 2, 3] * 3
    (held,), _ = hold_out(np.array(listed), [2], seed=seed)
    assert held.tolist() == hold_out_slowly(listed, 2, seed)


def test_held_out_positions_are_pinned() -> None:
    """People compare models on these images: the digest must not change."""
    held, rest = hold_out(np.resize(np.arange(10), 3000), [20, 7], seed=3)
    digest = hashlib.sha256(np.concatenate([*held, rest]).astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "2200d6992f2c865a"


def test_another_seed_holds_others_out() -> None:
    labels = np.resize(np.arange(4), 400)
    found = {tuple(hold_out(labels, [5], seed=seed)[0][0].tolist()) for seed in range(20)}
    assert len(found) == 20


def test_training_images_are_drawn_from_a_stream_of_their_own() -> None:
    """The held-out images of a class are not simply its first ones under `ldam`."""
    labels = np.zeros(1000, dtype=np.int64)
    (held,), _ = hold_out(labels, [100], seed=0)
    drawn = ldam(labels, np.array([100]), seed=0)
    assert len(set(held.tolist()) & set(drawn.tolist())) < 40


def test_nothing_held_out_is_everything_left() -> None:
    assert hold_out(np.array([1, 0, 1]), [], seed=0)[1].tolist() == [0, 1, 2]
    (empty,), rest = hold_out(np.array([1, 0, 1]), [0], seed=0)
    assert (empty.tolist(), rest.tolist()) == ([], [0, 1, 2])


def test_errors_name_the_class_where_its_name_is_known() -> None:
    with pytest.raises(UsageError, match="class 1, dog, has 1 images; holding 1 out"):
        hold_out(np.array([0, 0, 1]), [1], seed=0, class_names=("cat", "dog"))
    with pytest.raises(UsageError, match="class 1, dog, has 1 images, 2 are asked for"):
        ldam(np.array([0, 0, 1]), np.array([2, 2]), seed=0, class_names=("cat", "dog"))
