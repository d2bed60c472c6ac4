"""Orders have the class distribution of their formula, and follow from seed, epoch and position alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from ltdata.files import sha256_bytes
from ltdata.orders import epoch_order, order_of
from ltdata.sampling import SAMPLERS, class_shares

COUNTS = np.array([500, 120, 30, 7, 0, 2])
LABELS = np.random.RandomState(0).permutation(np.repeat(np.arange(6), COUNTS))
VALUES: dict[str, dict[str, float]] = {
    "power": {"q": 0.3},
    "progressively-balanced": {"epochs": 2000},
    "effective-number": {"beta": 0.99},
    "repeat-factor": {"threshold": 0.05},
}
WITHOUT_REPLACEMENT = ("instance-balanced", "repeat-factor")
GOLDEN = {  # SHA-256, 16 digits, of the first 1,000 positions, int64 little-endian, seed 7, epoch 3
    "instance-balanced": "26c3b92ee672c636",
    "square-root": "14436b15e384ae77",
    "class-balanced": "bdb031db18ad2339",
    "reversed": "fe0fdce4b3fddf8d",
    "power": "8ff83743f656fc0b",
    "progressively-balanced": "177784896f492786",
    "effective-number": "d7db286c174a47db",
    "repeat-factor": "9f04899cad6f6148",
}


def draw(sampler: str, *, seed: int, epoch: int = 0, length: int | None = None, **more: object) -> np.ndarray:
    return epoch_order(sampler, LABELS, seed=seed, epoch=epoch, length=length, **VALUES.get(sampler, {}), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_inside_a_class_every_image_is_drawn_equally_often(sampler):
    order = draw(sampler, seed=1, length=200_000)
    found = np.bincount(order, minlength=len(LABELS))
    for label in (0, 1, 3, 5):
        assert chisquare(found[label == LABELS]).pvalue > 1e-4


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name not in WITHOUT_REPLACEMENT])
def test_draws_with_replacement_are_independent(sampler):
    """Neighbours of every class as often as two independent draws give them."""
    shares = class_shares(sampler, COUNTS, epoch=5, **VALUES.get(sampler, {}))
    drawn = LABELS[draw(sampler, seed=2, epoch=5, length=200_000)]
    kept = np.flatnonzero(shares > 0.01)
    pairs = np.zeros((6, 6))
    np.add.at(pairs, (drawn[:-1:2], drawn[1::2]), 1)
    expected = np.outer(shares, shares)[np.ix_(kept, kept)] * 100_000
    found = pairs[np.ix_(kept, kept)]
    assert chisquare(found.ravel(), expected.ravel() * found.sum() / expected.sum()).pvalue > 1e-4


def test_an_instance_balanced_epoch_is_a_permutation_and_a_longer_one_goes_round():
    order = draw("instance-balanced", seed=1)
    assert np.array_equal(np.sort(order), np.arange(len(LABELS)))
    assert np.array_equal(order, np.random.default_rng([1, 0, 0]).permutation(len(LABELS)))  # as trainings have had it
    longer = draw("instance-balanced", seed=1, length=2 * len(LABELS) + 5)
    assert len(longer) == 2 * len(LABELS) + 5
    assert np.array_equal(longer[: len(LABELS)], order)
    assert np.array_equal(np.sort(longer[len(LABELS) : 2 * len(LABELS)]), np.arange(len(LABELS)))
    assert not np.array_equal(longer[len(LABELS) : 2 * len(LABELS)], order)


@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.1, 1.0])
def test_an_epoch_of_repeat_factors_has_every_image_as_often_as_its_factor_says(threshold):
    factors = np.maximum(1, (threshold * len(LABELS) / np.maximum(COUNTS, 1)) ** 0.5)
    times = np.zeros(len(LABELS))
    for seed in range(200):
        order = epoch_order("repeat-factor", LABELS, seed=seed, epoch=0, threshold=threshold)
        found = np.bincount(order, minlength=len(LABELS))
        assert len(order) == round((factors * COUNTS).sum())
        assert (found >= np.floor(factors[LABELS])).all()
        assert (found <= np.ceil(factors[LABELS])).all()
        times += found
    rest = (factors % 1)[LABELS].sum()
    expected = np.floor(factors) + factors % 1 * round(rest) / max(rest, 1)  # an epoch's length is whole
    for label in np.flatnonzero(COUNTS):
        assert times[label == LABELS].mean() / 200 == pytest.approx(expected[label], rel=0.015)
    assert times[LABELS == 2].std() / 200 < 0.06  # no image of a class is favoured


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=12), threshold=st.floats(0, 1), seed=st.integers(0, 9))
@settings(deadline=None)
def test_small_sets_repeat_no_image_once_too_often(labels, threshold, seed):
    counts = np.bincount(labels, minlength=5)
    factors = np.maximum(1, (threshold * len(labels) / np.maximum(counts, 1)) ** 0.5)[labels]
    found = np.bincount(
        epoch_order("repeat-factor", labels, seed=seed, epoch=0, threshold=threshold), minlength=len(labels)
    )
    assert (found >= np.floor(factors)).all()
    assert (found <= np.ceil(factors)).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
@given(
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 1000),
    start=st.integers(0, 1500),
    length=st.integers(0, 1500),
    more=st.integers(0, 1500),
)
@settings(deadline=None)
def test_an_order_follows_from_seed_epoch_and_position_alone(sampler, seed, epoch, start, length, more):
    np.random.seed(epoch)  # the global generator must not matter
    whole = draw(sampler, seed=seed, epoch=epoch, length=start + length + more)
    np.random.seed(epoch + 1)
    order = order_of(sampler, LABELS, seed=seed, **VALUES.get(sampler, {}))
    assert np.array_equal(order.take(epoch, start, start + length), whole[start : start + length])
    assert np.array_equal(order.take(epoch, 0, start), whole[:start])
    assert whole.dtype == np.int64


def test_seeds_epochs_and_streams_give_different_orders():
    for sampler in SAMPLERS:
        orders = [
            order_of(sampler, LABELS, seed=s, stream=stream, **VALUES.get(sampler, {})).take(e, 0, 100).tolist()
            for s, e, stream in ((0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1))
        ]
        assert len({tuple(order) for order in orders}) == 4


def test_orders_are_pinned():
    """A change here changes every training that uses the sampler: say so in the changelog, and raise the version."""
    found = {name: sha256_bytes(draw(name, seed=7, epoch=3, length=1000).astype("<i8").tobytes()) for name in SAMPLERS}
    assert {name: digest[:16] for name, digest in found.items()} == GOLDEN


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_classes_that_are_not_wanted_are_not_drawn(sampler):
    mask = np.array([False, True, True, False, False, True])
    order = draw(sampler, seed=0, length=3000, classes=mask)
    assert set(LABELS[order]) == {1, 2, 5}
    inside = np.flatnonzero(mask[LABELS])
    alone = epoch_order(sampler, LABELS[inside], seed=0, epoch=0, length=3000, **VALUES.get(sampler, {}))
    assert np.array_equal(order, inside[alone])
    shares = class_shares(sampler, COUNTS, classes=mask, **VALUES.get(sampler, {}))
    assert chisquare(np.bincount(LABELS[order], minlength=6)[mask], 3000 * shares[mask]).pvalue > 1e-4


def test_many_classes_with_extreme_shares_are_drawn_right():
    """Shares over nine orders of magnitude, in one table."""
    counts = np.array([10**6, *[1] * 300, *[30] * 300])
    labels = np.repeat(np.arange(601), counts)
    for named in ({"q": 1.5}, {"q": -1.0}, {"q": 0.5}):
        shares = class_shares("power", counts, **named)
        found = np.bincount(
            labels[epoch_order("power", labels, seed=0, epoch=0, length=300_000, **named)], minlength=601
        )
        often = shares * 300_000 >= 5
        assert (
            chisquare(
                np.append(found[often], found[~often].sum() + 1e-9),
                np.append(shares[often], shares[~often].sum() + 1e-9 / 300_000) * 300_000,
                sum_check=False,
            ).pvalue
            > 1e-4
        )


@given(counts=st.lists(st.integers(1, 3000), min_size=1, max_size=30), q=st.one_of(st.just(0.0), st.floats(-2, 2)))
@settings(deadline=None)
def test_numbers_at_the_ends_of_a_class_stay_in_it(counts, q):
    """The largest number below each end of the distribution function, where rounding could go one image too far."""

    class Ends:
        def __init__(self, bits: object) -> None:
            del bits

        def random(self, length: int) -> np.ndarray:
            return np.resize(np.stack([starts, np.nextafter(ends, 0)]).T.ravel(), length)

    counts = np.array(counts)
    shares = class_shares("power", counts, q=q)
    ends = np.cumsum(shares)
    ends /= ends[-1]
    starts = np.append(0.0, ends[:-1])
    order = order_of("power", np.repeat(np.arange(len(counts)), counts), seed=0, q=q)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "Generator", Ends)
        drawn = order.take(0, 0, 2 * len(counts)).reshape(-1, 2)
    if (shares == shares[0]).all():  # a number's class is number * classes, whole; ends may be a last digit off
        numbers = Ends(None).random(2 * len(counts))
        labels = np.repeat(np.arange(len(counts)), counts)
        assert labels[drawn.ravel()].tolist() == (numbers * len(counts)).astype(int).tolist()
        return
    assert drawn[:, 0].tolist() == (np.cumsum(counts) - counts).tolist()
    assert drawn[:, 1].tolist() == (np.cumsum(counts) - 1).tolist()


# --- refusals


def test_what_makes_no_sense_is_refused():
    for wrong, says in (
        ({"seed": -1}, "seed -1: 0"),
        ({"seed": 1 << 32}, "seed 4294967296: 0"),
        ({"epoch": -1}, "epoch -1: 0"),
        ({"length": -1}, "length -1"),
    ):
        with pytest.raises(ValueError, match=says):
            epoch_order("class-balanced", LABELS, **({"seed": 0, "epoch": 0} | wrong))
    for classes, says in (
        ([False] * 6, "none of 6 is wanted"),
        ([True] * 6, "class 4 is wanted and has 0 images"),
        ([True] * 4, r"labels\[\d+\] is \d; 4 classes have 0 \.\. 3"),
        ([True] * 7, "class 4 is wanted"),
        ([[True] * 6], r"classes: bool of shape \(1, 6\)"),
        ([1] * 6, "classes: int64"),
    ):
        with pytest.raises(ValueError, match=says):
            epoch_order("class-balanced", LABELS, seed=0, epoch=0, classes=classes)
