"""Orders have the class distribution of their formula, and follow from seed, epoch and position alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from ltdata.errors import UsageError
from ltdata.files import sha256_bytes
from ltdata.orders import ClassAware, epoch_order, order_of
from ltdata.sampling import SAMPLERS, class_shares

COUNTS = np.array([500, 120, 30, 7, 0, 2])
LABELS = np.random.RandomState(0).permutation(np.repeat(np.arange(6), COUNTS))
VALUES: dict[str, dict[str, float]] = {"power": {"q": 0.3}, "progressively-balanced": {"epochs": 2000}}
WITHOUT_REPLACEMENT = ("instance-balanced", "repeat-factor")
GOLDEN = {  # SHA-256, 16 digits, of the first 1,000 positions, int64 little-endian, seed 7, epoch 3
    "instance-balanced": "26c3b92ee672c636",
    "square-root": "14436b15e384ae77",
    "class-balanced": "bdb031db18ad2339",
    "reversed": "fe0fdce4b3fddf8d",
    "power": "8ff83743f656fc0b",
    "progressively-balanced": "177784896f492786",
    "effective-number": "2f5b68f765cafd1e",
    "repeat-factor": "220a07672549a351",
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


def test_an_epoch_of_repeat_factors_has_every_image_as_often_as_its_factor_says():
    factors = np.array([1.0, 1.0, 1.482, 3.069, 1, 5.741])  # (0.1 N / n) ** 1/2
    times = np.zeros(len(LABELS))
    for seed in range(200):
        order = epoch_order("repeat-factor", LABELS, seed=seed, epoch=0, threshold=0.1)
        found = np.bincount(order, minlength=len(LABELS))
        assert len(order) == round((factors * COUNTS).sum())
        assert (found >= np.floor(factors[LABELS] - 0.01)).all()
        assert (found <= np.ceil(factors[LABELS] + 0.01)).all()
        times += found
    for label in np.flatnonzero(COUNTS):
        assert times[label == LABELS].mean() / 200 == pytest.approx(factors[label], rel=0.01)
    assert times[LABELS == 2].std() / 200 < 0.06  # no image of a class is favoured


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


@given(counts=st.lists(st.integers(1, 3000), min_size=1, max_size=30), q=st.floats(-2, 2))
@settings(deadline=None)
def test_numbers_at_the_ends_of_a_class_stay_in_it(counts, q):
    """The largest number below each end of the distribution function, where rounding could go one image too far."""

    class Ends:
        def __init__(self, bits: object) -> None:
            del bits

        def random(self, length: int) -> np.ndarray:
            return np.resize(np.stack([starts, np.nextafter(ends, 0)]).T.ravel(), length)

    counts = np.array(counts)
    ends = np.cumsum(class_shares("power", counts, q=q))
    ends /= ends[-1]
    starts = np.append(0.0, ends[:-1])
    order = order_of("power", np.repeat(np.arange(len(counts)), counts), seed=0, q=q)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "Generator", Ends)
        drawn = order.take(0, 0, 2 * len(counts)).reshape(-1, 2)
    assert drawn[:, 0].tolist() == (np.cumsum(counts) - counts).tolist()
    assert drawn[:, 1].tolist() == (np.cumsum(counts) - 1).tolist()


# --- class-aware batches


@pytest.mark.parametrize(("p", "k"), [(1, 1), (2, 3), (3, 8), (5, 2)])
def test_class_aware_batches_hold_p_classes_of_k_images(p, k):
    order = ClassAware(LABELS, classes_per_batch=p, images_per_class=k, seed=0)
    batches = order.take(0, 0, 3000).reshape(-1, p, k)
    classes = LABELS[batches]
    assert (classes == classes[:, :, :1]).all()
    assert all(len(set(batch)) == p for batch in classes[:, :, 0].tolist())
    for images, label in zip(batches.reshape(-1, k), classes[:, :, 0].ravel(), strict=True):
        assert len(set(images.tolist())) == min(k, COUNTS[label])
    found = np.bincount(classes[:, :, 0].ravel(), minlength=6)
    assert found[4] == 0
    assert chisquare(found[COUNTS > 0]).pvalue > 1e-4
    assert order.length == -(-len(LABELS) // (p * k))


def test_class_aware_batches_go_round_the_classes_and_round_the_images_of_each():
    order = ClassAware(LABELS, classes_per_batch=2, images_per_class=3, seed=0)
    batches = order.take(0, 0, 40)  # 20 rounds of 4 of the 5 classes
    rounds = np.sort(LABELS[batches][:, ::3].reshape(20, 4), axis=1)
    assert all(len(set(each)) == 4 for each in rounds.tolist())
    images = batches[LABELS[batches] == 3]
    assert np.bincount(images, minlength=len(LABELS))[LABELS == 3].max() <= -(-20 * 3 // 7)
    over_epochs = np.concatenate([order.take(epoch, 0, 110).ravel() for epoch in range(300)])
    for label in (0, 2, 3, 5):
        assert chisquare(np.bincount(over_epochs, minlength=len(LABELS))[label == LABELS]).pvalue > 1e-4


@given(start=st.integers(0, 200), length=st.integers(0, 100), p=st.integers(1, 5), seed=st.integers(0, 99))
@settings(deadline=None)
def test_class_aware_batches_are_addressed_by_position(start, length, p, seed):
    order = ClassAware(LABELS, classes_per_batch=p, images_per_class=3, seed=seed)
    assert np.array_equal(order.take(1, 0, start + length)[start:], order.take(1, start, start + length))


# --- refusals


def test_what_makes_no_sense_is_refused():
    for wrong, says in (({"seed": -1}, "seed -1"), ({"epoch": -1}, "epoch -1"), ({"length": -1}, "length -1")):
        with pytest.raises(ValueError, match=f"{says}: at least 0"):
            epoch_order("class-balanced", LABELS, **({"seed": 0, "epoch": 0} | wrong))
    for classes, says in (
        ([False] * 6, "none of 6 is wanted"),
        ([True] * 6, "class 4 is wanted and has 0 images"),
        ([True] * 4, r"labels\[\d+\] is \d; 4 classes have 0 \.\. 3"),
        ([True] * 7, "class 4 is wanted"),
        ([[True] * 6], r"shape \(1, 6\)"),
        ([1] * 6, "classes: int64"),
    ):
        with pytest.raises(ValueError, match=says):
            epoch_order("class-balanced", LABELS, seed=0, epoch=0, classes=classes)
    for p, k, says in (
        (6, 1, r"classes_per_batch 6: 1 \.\. 5"),
        (0, 1, "classes_per_batch 0"),
        (1, 0, "images_per_class 0"),
    ):
        with pytest.raises(UsageError, match=says):
            ClassAware(LABELS, classes_per_batch=p, images_per_class=k, seed=0)
