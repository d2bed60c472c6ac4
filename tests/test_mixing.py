"""Mixing: the reached distribution, sequential reading, and an order that is a pure function of its arguments."""

import time
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

import ltdata
from ltdata import mixing
from ltdata.errors import UsageError
from ltdata.mixing import Mix, ShardSampler, mix
from ltdata.sampling import SAMPLERS, class_shares
from ltdata.shards import ShardPlan, plan

PINNED = ltdata.load("cifar100-lt", imbalance_factor=100)
LABELS, COUNTS, GROUPS = PINNED.labels, PINNED.class_counts, PINNED.groups
BALANCED = class_shares("class-balanced", COUNTS)
PLANS = plan("train", LABELS, class_groups=GROUPS, seed=0)


def assert_same(first: Mix, second: Mix) -> None:
    for one, other in zip(astuple(first), astuple(second), strict=True):
        assert np.array_equal(one, other)


def p_value(order: Mix, target: np.ndarray, labels: np.ndarray = LABELS) -> float:
    """Test the reached class counts against the target, over the classes that have one."""
    wanted = target > 0
    reached = np.bincount(labels[order.row], minlength=len(target))
    assert reached[~wanted].sum() == 0
    return float(chisquare(reached[wanted], target[wanted] * len(order)).pvalue)


def slow_oracle(plans: list[ShardPlan], order: Mix, numbers: list[int]) -> int:
    """Read one series of an order again, row by row; return how many rows that takes.

    Every pass must visit its shards one after the other and its rows in stored order, each at most once.
    """
    mine = np.isin(order.shard, numbers)
    rows, shards, passes = order.row[mine], order.shard[mine], order.pass_number[mine]
    assert (np.diff(passes) >= 0).all()
    for number in np.unique(passes).tolist():
        visited = shards[passes == number]
        visits = visited[np.flatnonzero(np.diff(visited, prepend=-1))]
        assert len(set(visits.tolist())) == len(visits), "a pass comes back to a shard"
        for shard in visits.tolist():
            stored = plans[shard].rows.tolist()
            places = [stored.index(row) for row in rows[(passes == number) & (shards == shard)].tolist()]
            assert places == sorted(set(places)), "not in stored order"
    return int(mine.sum())


# --- the distribution


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_reached_class_distribution_is_the_target(sampler: str) -> None:
    named = {"power": {"q": 0.3}, "progressively-balanced": {"epochs": 11}}.get(sampler, {})
    target = class_shares(sampler, COUNTS, epoch=5, **named)
    orders = [mix(PLANS, LABELS, target, length=len(LABELS), seed=seed) for seed in range(20)]
    assert min(p_value(order, target) for order in orders) > 1e-4
    # Rows come more evenly than independent draws would, which makes that test lenient: this one is not.
    reached = np.bincount(LABELS[np.concatenate([order.row for order in orders])], minlength=100) / 20 / len(LABELS)
    assert np.abs(reached / target - 1)[target > 0.002].max() < 0.1  # a class that is seldom drawn varies more


def test_series_are_drawn_with_their_target_mass() -> None:
    target = BALANCED
    mass = [target[group == GROUPS].sum() for group in range(3)]
    for seed in range(20):
        reached = np.bincount(GROUPS[LABELS[mix(PLANS, LABELS, target, length=5000, seed=seed).row]])
        assert chisquare(reached, np.array(mass) * 5000).pvalue > 1e-4


def test_the_distribution_test_sees_a_wrong_target() -> None:
    order = mix(PLANS, LABELS, class_shares("power", COUNTS, q=0.3), length=len(LABELS), seed=0)
    assert p_value(order, BALANCED) < 1e-9


def test_class_balance_reads_2_to_2_5_rows_for_one_that_is_used() -> None:
    for seed in range(5):
        order = mix(PLANS, LABELS, BALANCED, length=len(LABELS), seed=seed)
        assert 2.0 < order.rows_read / len(order) < 2.5
    one_stream = [ShardPlan("train/all-000000.tar", np.concatenate([each.rows for each in PLANS]))]
    order = mix(one_stream, LABELS, BALANCED, length=len(LABELS), seed=0)
    assert 20 < order.rows_read / len(order) < 23


def test_instance_balance_reads_nothing_in_vain() -> None:
    order = mix(PLANS, LABELS, class_shares("power", COUNTS, q=1), length=5000, seed=0)
    assert order.rows_read == 5000


@pytest.mark.parametrize(("length", "epochs"), [(300, 700), (10847, 36)])
def test_every_row_of_a_class_is_used_equally_often(length: int, epochs: int) -> None:
    """Also where an epoch ends within a pass, or sees only a part of a series."""
    target = BALANCED
    used = np.zeros(len(LABELS))
    for epoch in range(epochs):
        used += np.bincount(mix(PLANS, LABELS, target, length=length, seed=1, epoch=epoch).row, minlength=len(LABELS))
    expected = (target / COUNTS)[LABELS] * epochs * length
    for number in (2, 6):  # a middle class of many-shot, and the whole of medium- and few-shot
        assert len(PLANS) == 7
        rows = PLANS[number].rows
        share = expected[rows] / expected[rows].sum() * used[rows].sum()
        assert chisquare(used[rows], share).pvalue > 1e-4
    first, last = (used[part].mean() for part in (PLANS[5].rows[:170], PLANS[5].rows[-170:]))
    assert 0.9 < first / last < 1.1


def test_a_class_that_lies_in_two_series_has_its_target_too() -> None:
    labels = np.random.default_rng(0).choice(4, 3000, p=[0.6, 0.25, 0.1, 0.05])
    plans = [
        ShardPlan("train/many-000000.tar", np.arange(1000)),
        ShardPlan("train/few-000000.tar", np.arange(1000, 3000)),
    ]
    target = np.array([0.1, 0.2, 0.3, 0.4])
    for seed in range(10):
        assert p_value(mix(plans, labels, target, length=4000, seed=seed), target, labels) > 1e-4


def test_a_target_need_not_sum_to_one() -> None:
    target = BALANCED
    assert_same(*(mix(PLANS, LABELS, part, length=500, seed=0) for part in (target, target * 64)))


# --- classes and series left out


def test_classes_without_target_are_never_used_and_their_series_not_opened() -> None:
    target = class_shares("class-balanced", COUNTS, classes=GROUPS >= 1)
    order = mix(PLANS, LABELS, target, length=4000, seed=0)
    assert set(np.unique(GROUPS[LABELS[order.row]])) == {1, 2}
    assert {PLANS[number].path.split("-")[0] for number in np.unique(order.shard)} == {"train/medium", "train/few"}
    assert p_value(order, target) > 1e-4


def test_leaving_a_series_out_changes_nothing_inside_the_others() -> None:
    whole, part = (
        mix(PLANS, LABELS, class_shares("class-balanced", COUNTS, classes=least <= GROUPS), length=4000, seed=0)
        for least in (0, 1)
    )
    few = [order.row[GROUPS[LABELS[order.row]] == 2] for order in (whole, part)]
    shorter = min(map(len, few))
    assert shorter > 1000
    assert np.array_equal(few[0][:shorter], few[1][:shorter])


def test_one_class_alone_reads_a_whole_series_for_it() -> None:
    target = (np.arange(100) == 0).astype(float)
    order = mix(PLANS, LABELS, target, length=1000, seed=0)
    assert (LABELS[order.row] == 0).all()
    assert order.rows_read / len(order) == pytest.approx(COUNTS[GROUPS == 0].sum() / COUNTS[0], rel=0.05)


def test_an_empty_class_with_a_target_is_named() -> None:
    with pytest.raises(UsageError, match="class 2 has mass 1 and no rows"):
        mix([ShardPlan("train/many-000000.tar", np.arange(3))], np.array([0, 1, 1]), np.ones(3), length=1, seed=0)
    few_missing = [each for each in PLANS if "few" not in each.path]
    with pytest.raises(UsageError, match="class 70 "):
        mix(few_missing, LABELS, BALANCED, length=1, seed=0)


# --- sequential, endless, pure


@pytest.mark.parametrize("seed", range(3))
def test_reading_is_sequential_and_never_ends(seed: int) -> None:
    order = mix(PLANS, LABELS, BALANCED, length=12000, seed=seed)
    for group in ("many", "medium", "few"):
        assert slow_oracle(PLANS, order, [n for n, each in enumerate(PLANS) if group in each.path]) > 3000
    assert order.pass_number[order.shard == 6].max() > 10


def test_the_order_of_shards_and_the_accepted_rows_differ_between_passes_and_epochs() -> None:
    target = BALANCED
    first, second = (mix(PLANS, LABELS, target, length=40000, seed=0, epoch=epoch) for epoch in (0, 1))
    visits = set()
    for order in (first, second):
        for number in (1, 2):  # whole passes
            visited = order.shard[(order.shard < 5) & (order.pass_number == number)]
            visits.add(tuple(dict.fromkeys(visited.tolist())))
    assert all(sorted(visit) == [0, 1, 2, 3, 4] for visit in visits)
    assert len(visits) > 2
    assert np.mean(first.row == second.row) < 0.01


def test_the_order_is_a_pure_function_and_leaves_the_global_generator_alone() -> None:
    before = np.random.get_state()[1].copy()
    orders = [mix(PLANS, LABELS, BALANCED, length=3000, seed=3, epoch=2) for _ in range(2)]
    assert_same(*orders)
    assert np.array_equal(before, np.random.get_state()[1])
    others = [mix(PLANS, LABELS, BALANCED, length=3000, seed=s, epoch=e) for s, e in ((2, 3), (3, 3), (4, 2))]
    assert all((orders[0].row != other.row).mean() > 0.9 for other in others)


def test_the_order_does_not_depend_on_how_much_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mix(PLANS, LABELS, BALANCED, length=20000, seed=0)
    monkeypatch.setattr(mixing, "_BLOCK_ROWS", 1)
    assert_same(whole, mix(PLANS, LABELS, BALANCED, length=20000, seed=0))


def test_an_order_can_be_empty() -> None:
    order = mix(PLANS, LABELS, BALANCED, length=0, seed=0)
    assert len(order) == order.rows_read == 0
    assert order.rows_read == 0


@st.composite
def splits(draw: st.DrawFn) -> tuple[list[ShardPlan], np.ndarray, np.ndarray]:
    """Small splits: class counts, groups, shard size, and a target with zeros."""
    counts = np.array(draw(st.lists(st.integers(0, 12), min_size=1, max_size=8).filter(any)))
    groups = np.array(draw(st.lists(st.integers(0, 2), min_size=len(counts), max_size=len(counts))), dtype=np.int8)
    labels = np.random.default_rng(draw(st.integers(0, 99))).permutation(np.repeat(np.arange(len(counts)), counts))
    masses = draw(st.lists(st.sampled_from([0.0, 0.01, 0.5, 1.0, 7.0]), min_size=len(counts), max_size=len(counts)))
    target = np.where(counts > 0, masses, 0.0)
    if not target.any():
        target = (counts > 0).astype(float)
    return plan("train", labels, class_groups=groups, seed=0, samples_per_shard=draw(st.integers(1, 9))), labels, target


@settings(deadline=None, max_examples=200)
@given(split=splits(), seed=st.integers(0, 2**40), length=st.integers(0, 80), cut=st.integers(0, 80))
def test_any_split_any_target(
    split: tuple[list[ShardPlan], np.ndarray, np.ndarray], seed: int, length: int, cut: int
) -> None:
    plans, labels, target = split
    order = mix(plans, labels, target, length=length, seed=seed)
    assert (target[labels[order.row]] > 0).all()
    assert all(row in plans[shard].rows for row, shard in zip(order.row.tolist(), order.shard.tolist(), strict=True))
    assert order.rows_read >= length == len(order)
    names = [each.path.rpartition("-")[0] for each in plans]
    for name in set(names):
        slow_oracle(plans, order, [number for number, each in enumerate(names) if each == name])
    shorter = mix(plans, labels, target, length=min(cut, length), seed=seed)
    assert np.array_equal(shorter.row, order.row[:cut])
    assert np.array_equal(shorter.pass_number, order.pass_number[:cut])


@settings(deadline=None, max_examples=50)
@given(split=splits(), length=st.integers(1, 60))
def test_rows_read_counts_every_row_from_where_a_stream_begins(
    split: tuple[list[ShardPlan], np.ndarray, np.ndarray], length: int
) -> None:
    """Where all rows of the used series are accepted, as many are read as used; else no fewer than passes need."""
    plans, labels, target = split
    counts = np.bincount(labels, minlength=len(target))
    assert mix(plans, labels, class_shares("power", counts, q=1.0), length=length, seed=0).rows_read == length
    order = mix(plans, labels, target, length=length, seed=0)
    names = np.array([each.path.rpartition("-")[0] for each in plans])
    least = 0
    for name in set(names.tolist()):
        passes = order.pass_number[names[order.shard] == name]
        size = sum(len(each.rows) for each in plans if each.path.startswith(f"{name}-"))
        least += max(0, int(passes.max(initial=-1)) - 1) * size
    assert order.rows_read >= least


# --- refusals


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (np.full(100, np.nan), "finite"),
        (np.full(100, np.inf), "finite"),
        (-np.ones(100), "0 or more"),
        (np.zeros(100), "above 0"),
        (np.ones((10, 10)), "per class"),
        (np.ones(99), "99 classes, the labels go from 0 to 99"),
    ],
)
def test_targets_that_cannot_be_meant_are_refused(target: np.ndarray, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        mix(PLANS, LABELS, target, length=10, seed=0)


@pytest.mark.parametrize("name", ["length", "seed", "epoch"])
def test_negative_numbers_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} -1"):
        mix(PLANS, LABELS, BALANCED, **{"length": 10, "seed": 0, "epoch": 0, name: -1})


def test_plans_of_another_split_are_refused() -> None:
    with pytest.raises(UsageError, match="among the 10 labels"):
        mix(PLANS, LABELS[:10], BALANCED, length=10, seed=0)
    with pytest.raises(UsageError, match="twice"):
        mix([PLANS[0], PLANS[0]], LABELS, BALANCED, length=10, seed=0)


def test_inaturalist_takes_well_under_seconds() -> None:
    """437,513 rows and 8,142 classes; the limit is ten times what two cores need, for a busy machine."""
    counts = ltdata.load("inat18").class_counts
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    plans = plan("train", labels, class_groups=ltdata.load("inat18").groups, seed=0)
    started = time.process_time()
    order = mix(plans, labels, class_shares("class-balanced", counts), length=len(labels), seed=0)
    assert time.process_time() - started < 5
    assert p_value(order, class_shares("class-balanced", counts), labels) > 1e-4


def test_a_sampler_wants_the_plans_of_its_labels() -> None:
    for plans, says in ((PLANS[:1], "plans: of 2,000 rows, there are 10,847 labels"), ("train", "plans: 'train'")):
        with pytest.raises(UsageError, match=says):
            ShardSampler(plans, LABELS, seed=0)  # type: ignore[arg-type]
    assert set(GROUPS[LABELS[list(ShardSampler(PLANS, LABELS, classes=GROUPS == 2, seed=0))]]) == {2}
    assert len(ShardSampler(PLANS, LABELS, classes=GROUPS == 2, seed=0)) == 305
