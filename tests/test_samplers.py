"""Ranks share one order, states go on exactly, and loaders see what they should."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare
from torch.utils.data import DataLoader

from ltdata.access import open_images
from ltdata.build import Built
from ltdata.orders import epoch_order
from ltdata.reader import read_images
from ltdata.samplers import ClassAwareBatches, Paired, PairSampler, Sampler
from ltdata.sampling import SAMPLERS, class_shares

COUNTS = np.array([500, 120, 30, 11, 4])
LABELS = np.random.RandomState(0).permutation(np.repeat(np.arange(5), COUNTS))
EPOCHS = 7
VALUES: dict[str, dict[str, float]] = {
    "power": {"q": 0.3},
    "progressively-balanced": {"epochs": EPOCHS},
    "effective-number": {"beta": 0.99},
    "repeat-factor": {"threshold": 0.1},
}
WORLDS = (1, 2, 3, 4, 8)


def sampler_of(name: str, **more: Any) -> Sampler:
    return Sampler(LABELS, name, **({"seed": 0} | VALUES.get(name, {}) | more))


MADE: dict[str, Callable[..., Any]] = {
    **{name: lambda name=name, **more: sampler_of(name, **more) for name in SAMPLERS},
    "pairs": lambda **more: PairSampler(LABELS, **({"seed": 0} | more)),
    "class-aware": lambda **more: ClassAwareBatches(
        LABELS, classes_per_batch=3, images_per_class=4, **({"seed": 0} | more)
    ),
}
every_kind = pytest.mark.parametrize("kind", MADE)


def together(ranks: list[list[Any]]) -> list[Any]:
    """Put the ranks' items back into one order."""
    assert len({len(items) for items in ranks}) == 1, "ranks are of different lengths"
    return [item for turn in zip(*ranks, strict=True) for item in turn]


def classes_of(items: list[Any]) -> list[np.ndarray]:
    """List the classes that were drawn, of pairs those of each side."""
    return list(LABELS[np.array(items)].reshape(len(items), -1).T)


# --- the distribution, for every number of ranks


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_classes_are_drawn_as_the_formula_says(name, world):
    """Of 100 seeds each, and of all together; on every rank alone, too."""
    epoch = 3
    shares = class_shares(name, COUNTS, epoch=epoch, **VALUES.get(name, {}))
    found = np.zeros((100, world, 5))
    for seed in range(100):
        for rank in range(world):
            sampler = sampler_of(name, seed=seed, rank=rank, world_size=world)
            sampler.set_epoch(epoch)
            found[seed, rank] = np.bincount(LABELS[list(sampler)], minlength=5)
    per_seed = [
        chisquare(counts, shares * counts.sum()).pvalue
        for counts in found.sum(axis=1)
        if (shares * counts.sum()).min() > 1
    ]
    assert len(per_seed) == 100
    assert min(per_seed) > 1e-4
    for counts in (found.sum(axis=(0, 1)), *found.sum(axis=0)):
        assert chisquare(counts, shares * counts.sum()).pvalue > 1e-4


@pytest.mark.parametrize("world", WORLDS)
def test_both_sides_of_pairs_are_drawn_as_the_formula_says_and_independently(world):
    sides = [("instance-balanced", {}), ("power", {"q": 0.2})]
    seen = []
    for seed in range(100):
        ranks = [
            list(PairSampler(LABELS, *(s[0] for s in sides), q=0.2, seed=seed, rank=r, world_size=world))
            for r in range(world)
        ]
        seen.append(np.array(together(ranks)))
    pairs = LABELS[np.concatenate(seen)]
    for side, (name, named) in zip(pairs.T, sides, strict=True):
        shares = class_shares(name, COUNTS, **named)  # type: ignore[arg-type]
        assert chisquare(np.bincount(side), shares * len(side)).pvalue > 1e-4
    table = np.zeros((5, 5))
    np.add.at(table, tuple(pairs.T), 1)
    assert chi2_contingency(table).pvalue > 1e-4


def test_both_sides_of_pairs_are_independent_even_if_their_samplers_are_the_same():
    pairs = np.array(list(PairSampler(LABELS, "class-balanced", "class-balanced", seed=0, length=20_000)))
    table = np.zeros((5, 5))
    np.add.at(table, tuple(LABELS[pairs].T), 1)
    assert chi2_contingency(table).pvalue > 1e-4


@pytest.mark.parametrize("world", WORLDS)
def test_class_aware_batches_have_every_class_equally_often(world):
    times = np.zeros(5)
    for seed in range(100):
        for rank in range(world):
            batches = MADE["class-aware"](seed=seed, rank=rank, world_size=world)
            times += np.bincount(LABELS[np.array(list(batches))[:, ::4]].ravel(), minlength=5)
    assert chisquare(times).pvalue > 1e-4


# --- ranks


@every_kind
@pytest.mark.parametrize("world", WORLDS)
def test_ranks_share_out_one_order(kind, world):
    """Position i is item i // world of rank i % world; what does not go round goes on, or is left out."""
    whole = list(MADE[kind](length=1000))
    for drop_last in (False, True):
        ranks = [list(MADE[kind](rank=r, world_size=world, drop_last=drop_last, length=997)) for r in range(world)]
        shared = together(ranks)
        assert len(shared) == (997 // world * world if drop_last else -(-997 // world) * world)
        assert shared[:997] == whole[: min(997, len(shared))]
    exact = [list(MADE[kind](rank=r, world_size=world, length=960)) for r in range(world)]
    assert together(exact) == whole[:960]


@every_kind
def test_lengths_are_told_before(kind):
    for world in WORLDS:
        for rank in range(world):
            sampler = MADE[kind](rank=rank, world_size=world)
            assert len(sampler) == len(list(sampler))
    assert len(MADE[kind](length=10, world_size=3)) == 4
    assert len(MADE[kind](length=10, world_size=3, drop_last=True)) == 3


def test_an_epoch_is_as_long_as_the_images_that_are_wanted():
    assert len(sampler_of("class-balanced")) == len(LABELS)
    assert len(sampler_of("class-balanced", classes=np.arange(5) >= 3)) == 15
    assert len(sampler_of("instance-balanced", classes=np.arange(5) >= 3)) == 15
    assert len(PairSampler(LABELS, seed=0)) == len(LABELS)
    assert len(ClassAwareBatches(LABELS, classes_per_batch=2, images_per_class=8, seed=0)) == -(-len(LABELS) // 16)


# --- epochs


@every_kind
def test_epochs_follow_each_other_and_can_be_set(kind):
    sampler = MADE[kind]()
    first, second = list(sampler), list(sampler)
    assert sampler.epoch == 1
    assert first != second
    for epoch, expected in ((0, first), (1, second), (1, second), (0, first)):
        sampler.set_epoch(epoch)
        assert list(sampler) == expected


@every_kind
def test_a_pass_that_was_broken_off_is_gone_on_with(kind):
    """Epochs of a fixed number of steps see new images; set_epoch goes back to where the epoch began."""
    sampler = MADE[kind]()
    whole = list(MADE[kind]())
    assert list(islice(sampler, 7)) + list(islice(sampler, 5)) + list(sampler) == whole
    assert sampler.state_dict()["epoch"] == 1
    sampler.set_epoch(0)
    list(islice(sampler, 7))
    sampler.set_epoch(0)
    assert len(sampler) == len(whole)
    assert list(sampler) == whole
    sampler.load_state_dict({**sampler.state_dict(), "epoch": 0, "position": 9})
    assert list(islice(sampler, 7)) == whole[9:16]  # such as a look at the first batch
    sampler.set_epoch(0)
    assert list(sampler) == whole[9:]
    list(islice(sampler, 3))
    sampler.set_epoch(1)
    assert len(list(sampler)) == len(whole)


def test_samplers_of_different_lengths_can_be_zipped():
    parts = [sampler_of("class-balanced", classes=np.arange(5) == k, stream=k) for k in range(5)]
    seen = [[], [], [], [], []]
    for _ in range(50):
        for together_ in zip(*parts, strict=False):
            for part, position in zip(seen, together_, strict=True):
                part.append(position)
    assert [len(set(part)) for part in seen] == [
        pytest.approx(n * (1 - (1 - 1 / n) ** len(part)), rel=0.1) for n, part in zip(COUNTS, seen, strict=True)
    ]


def test_the_order_is_that_of_epoch_order():
    sampler = sampler_of("square-root", seed=5)
    sampler.set_epoch(2)
    assert list(sampler) == epoch_order("square-root", LABELS, seed=5, epoch=2).tolist()
    assert all(type(position) is int for position in sampler)


@every_kind
def test_passes_that_overlap_do_not_disturb_the_last_one(kind):
    """An iterator that is left lying about, and two that are begun before anything is taken."""
    sampler, whole = MADE[kind](), list(MADE[kind]())
    old = iter(sampler)
    next(old)
    sampler.set_epoch(1)
    state = sampler.state_dict()
    assert (state["epoch"], state["position"]) == (1, 0)
    assert len(list(old)) == len(whole) - 1
    assert sampler.state_dict() == state
    sampler.set_epoch(0)
    unused, used = iter(sampler), iter(sampler)
    assert list(used) == whole
    del unused
    assert sampler.state_dict()["epoch"] == 1


# --- states


@every_kind
@given(
    epoch=st.integers(0, EPOCHS - 2),
    cut=st.floats(0, 1),
    world=st.sampled_from(WORLDS),
    other=st.sampled_from(WORLDS),
    drop_last=st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_a_state_goes_on_exactly_on_any_number_of_ranks(kind, epoch, cut, world, other, drop_last):
    length = 240
    whole = MADE[kind](length=length)
    whole.set_epoch(epoch)
    expected = list(whole)
    following = list(whole)

    states, seen = [], []
    for rank in range(world):
        sampler = MADE[kind](length=length, rank=rank, world_size=world)
        sampler.set_epoch(epoch)
        seen.append(list(islice(sampler, int(cut * (length // world)))))
        states.append(json.loads(json.dumps(sampler.state_dict())))
    assert all(state == states[0] for state in states)
    done = together(seen)
    rest = []
    for rank in range(other):
        sampler = MADE[kind](length=length, rank=rank, world_size=other, drop_last=drop_last)
        sampler.load_state_dict(states[0])
        if rank % 2:
            sampler.set_epoch(states[0]["epoch"])  # as a loop over epochs says it
        told = len(sampler)
        rest.append(list(sampler))
        assert told == len(rest[-1])
    found = done + together(rest)
    if states[0]["epoch"] == epoch:
        assert found[:length] == expected[: len(found)]
        assert len(found) > length - other
    else:
        assert done == expected
        assert together(rest)[:length] == following[: len(rest) * len(rest[0])]


def test_what_was_asked_ahead_is_not_lost():
    """A DataLoader takes indices before the training has used them: `batches` says how far it is."""
    sampler = sampler_of("class-balanced", rank=1, world_size=2)
    whole = list(sampler_of("class-balanced", rank=1, world_size=2))
    handed_out = iter(sampler)
    assert list(islice(handed_out, 60)) == whole[:60]
    state = sampler.state_dict(batches=4, batch_size=10)
    assert state["position"] == 80
    again = sampler_of("class-balanced", rank=1, world_size=2)
    again.load_state_dict(state)
    assert list(again) == whole[40:]
    list(handed_out)  # all handed out, not all used: still of this epoch
    state = sampler.state_dict(batches=len(whole) - 5)
    assert state["epoch"] == 0
    again.load_state_dict(state)
    assert list(again) == whole[-5:]
    assert sampler.state_dict() == sampler.state_dict(batches=len(whole))
    assert (sampler.state_dict()["epoch"], sampler.state_dict()["position"]) == (1, 0)
    again.load_state_dict(sampler_of("class-balanced", rank=1, world_size=2).state_dict() | {"position": 80})
    list(islice(again, 30))
    assert again.state_dict(batches=2, batch_size=5)["position"] == 100  # of a pass that began at 80
    with pytest.raises(ValueError, match="batches 8: this pass has handed out 6 of size 5 to this rank"):
        again.state_dict(batches=8, batch_size=5)  # those before the pass are not counted
    assert (
        sampler.state_dict(batches=-(-len(whole) // 128), batch_size=128) == sampler.state_dict()
    )  # the last is smaller
    with pytest.raises(ValueError, match="batches -1: at least 0"):
        sampler.state_dict(batches=-1)
    with pytest.raises(ValueError, match=r"batch_size 0: 1 .. "):
        sampler.state_dict(batches=1, batch_size=0)


def test_states_of_other_samplers_are_refused():
    state = sampler_of("effective-number").state_dict()
    others = {
        "sampler": sampler_of("square-root"),
        "seed": sampler_of("effective-number", seed=1),
        "stream": sampler_of("effective-number", stream=1),
        "beta": sampler_of("effective-number", beta=0.9),
        "length": sampler_of("effective-number", length=3),
        "labels_crc32": Sampler(LABELS[::-1].copy(), "effective-number", seed=0),
        "images": Sampler(LABELS[:-1], "effective-number", seed=0),
    }
    for name, other in others.items():
        with pytest.raises(ValueError, match=f"state: {name} "):
            other.load_state_dict(state)
    masked = sampler_of("effective-number", classes=np.arange(5) < 4, length=len(LABELS))
    with pytest.raises(ValueError, match="labels_crc32"):
        masked.load_state_dict(state)
    own = sampler_of("effective-number")
    for wrong, says in (
        ({"epoch": -1}, "state: epoch -1"),
        ({"position": len(LABELS)}, f"state: position {len(LABELS)}"),
        ({"position": "x"}, "state: position 'x'"),
        ({"epoch": None}, "state: epoch None"),
    ):
        with pytest.raises(ValueError, match=says):
            own.load_state_dict({**state, **wrong})
    with pytest.raises(ValueError, match="state: None; what state_dict gave"):
        own.load_state_dict(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="state: order is missing to this sampler"):
        own.load_state_dict({})
    with pytest.raises(ValueError, match="state: q means nothing to this sampler"):
        own.load_state_dict({**state, "q": 0.5})
    with pytest.raises(ValueError, match="state: order 0, of this sampler 1"):
        own.load_state_dict({**state, "order": 0})


@every_kind
def test_every_kind_refuses_the_state_of_another_seed_or_stream_and_of_another_kind(kind):
    own = MADE[kind]()
    for name in ("seed", "stream"):
        with pytest.raises(ValueError, match=f"state: {name} 3, of this sampler 0; make it with the same settings"):
            own.load_state_dict(MADE[kind](**{name: 3}).state_dict())
    another = MADE["class-aware" if kind != "class-aware" else "pairs"]()
    with pytest.raises(ValueError, match=r"^state: (sampler|order|length|classes_per_batch) "):
        own.load_state_dict(another.state_dict())
    kinds = {"pairs": "instance-balanced, class-balanced", "class-aware": "class-aware"}
    assert own.state_dict()["sampler"] == kinds.get(kind, kind)


@pytest.mark.parametrize("kind", ["pairs", "class-aware"])
def test_pairs_and_batches_keep_to_the_classes_and_the_counts_that_are_given(kind):
    chosen = np.array([True, False, True, True, False])
    drawn = classes_of(list(MADE[kind](classes=chosen, length=400)))
    assert all(set(side.tolist()) == {0, 2, 3} for side in drawn)
    assert list(MADE[kind](class_counts=COUNTS)) == list(MADE[kind]())
    with pytest.raises(ValueError, match="class 1 has 121 images, of the 665 labels 120"):
        MADE[kind](class_counts=[500, 121, 30, 11, 4])
    alone = MADE[kind](class_counts=[500, 120, 30, 11, 4, 0], classes=[*chosen, False], length=400)
    assert list(alone) == list(MADE[kind](classes=chosen, length=400))
    with pytest.raises(ValueError, match="class 5 has 0 images and can never be drawn; leave it out by classes"):
        MADE[kind](class_counts=[500, 120, 30, 11, 4, 0])


@pytest.mark.parametrize("kind", ["pairs", "class-aware"])
def test_seeds_and_streams_give_other_pairs_and_other_batches(kind):
    made = [MADE[kind](**more) for more in ({}, {"seed": 1}, {"stream": 1}, {"stream": 2}, {"stream": 3})]
    assert len({json.dumps(list(each)) for each in made}) == len(made)
    assert list(MADE[kind](stream=0)) == list(MADE[kind]())
    if kind == "pairs":  # neither side of a stream is a side of another one
        sides = [tuple(side) for each in made for side in np.array(list(each)).T.tolist()]
        assert len(set(sides)) == len(sides)


@pytest.mark.parametrize(
    ("kind", "most"), [("pairs", 2**31 - 1), ("class-aware", 2**32 - 1), ("square-root", 2**32 - 1)]
)
def test_streams_have_bounds(kind, most):
    MADE[kind](stream=most)
    for wrong in (-1, most + 1):
        with pytest.raises(ValueError, match=rf"^stream {wrong}: 0 \.\. {most}"):
            MADE[kind](stream=wrong)


@every_kind
def test_a_state_may_stand_at_the_last_item_and_no_further(kind):
    sampler = MADE[kind]()
    whole = list(sampler)
    sampler.load_state_dict({**sampler.state_dict(), "epoch": 0, "position": len(whole) - 1})
    assert (len(sampler), list(sampler)) == (1, whole[-1:])
    assert len(sampler) == len(whole)  # of the next pass
    with pytest.raises(ValueError, match=f"state: position {len(whole)}"):
        sampler.load_state_dict({**sampler.state_dict(), "position": len(whole)})


def test_epochs_of_a_state_end_where_the_sampler_does():
    sampler = sampler_of("progressively-balanced")
    with pytest.raises(ValueError, match=rf"state: epoch {EPOCHS + 1}: 0 \.\. {EPOCHS}"):
        sampler.load_state_dict({**sampler.state_dict(), "epoch": EPOCHS + 1})


def test_a_default_is_the_value_that_it_stands_for():
    """Given or not, one sampler; and another value is another one, whoever gives it."""
    named, default = (Sampler(LABELS, "effective-number", seed=0, **more) for more in ({"beta": 0.9999}, {}))
    assert named.state_dict() == default.state_dict()
    with pytest.raises(ValueError, match=r"state: beta 0.5, of this sampler 0.9999"):
        default.load_state_dict(Sampler(LABELS, "effective-number", seed=0, beta=0.5).state_dict())


def test_streams_of_one_seed_do_not_rise_and_fall_together():
    one, same, other = (np.array(list(sampler_of("square-root", stream=s, length=20_000))) for s in (0, 0, 1))
    assert np.array_equal(one, same)
    assert abs(np.corrcoef(LABELS[one], LABELS[other])[0, 1]) < 0.03


def test_pairs_hand_each_value_to_the_side_that_takes_it():
    pairs = PairSampler(LABELS, "power", "effective-number", q=0.2, beta=0.9, seed=0, length=5000)
    sides = LABELS[np.array(list(pairs))].T
    for side, (name, named) in zip(sides, (("power", {"q": 0.2}), ("effective-number", {"beta": 0.9})), strict=True):
        shares = class_shares(name, COUNTS, **named)  # type: ignore[arg-type]
        assert chisquare(np.bincount(side, minlength=5), shares * 5000).pvalue > 1e-4
    with pytest.raises(ValueError, match="threshold 1: neither power nor effective-number takes it"):
        PairSampler(LABELS, "power", "effective-number", q=0.2, threshold=1, seed=0)
    with pytest.raises(ValueError, match="sampler power needs q"):
        PairSampler(LABELS, "power", seed=0)


def test_a_sampler_says_what_it_is():
    sampler = sampler_of("effective-number", rank=1, world_size=2)
    list(islice(sampler, 3))
    text = repr(sampler)
    for part in ("Sampler(", "effective-number", "beta 0.99, ", "rank 1 of 2", "epoch 0", "position 6"):
        assert part in text
    assert "labels" not in text
    assert "classes" not in repr(sampler_of("square-root", classes=[True] * 5))


@every_kind
def test_samplers_travel_between_processes(kind):
    sampler = MADE[kind]()
    list(islice(sampler, 5))
    assert list(pickle.loads(pickle.dumps(sampler))) == list(sampler)


# --- what it is made from


def test_class_counts_stand_for_images_class_by_class():
    by_counts = Sampler(class_counts=COUNTS, sampler="square-root", seed=0)
    assert list(by_counts) == list(Sampler(np.repeat(np.arange(5), COUNTS), "square-root", seed=0))
    assert list(Sampler(LABELS, class_counts=COUNTS, seed=0)) == list(Sampler(LABELS, seed=0))
    masked = Sampler(class_counts=[3, 0, 2], classes=[True, False, True], seed=0, length=50)
    assert set(masked) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"labels": None}, "labels: none were given"),
        ({"labels": [0.5, 1.0]}, r"labels\[0\] is 0.5"),
        ({"labels": [0, -1]}, r"labels\[1\] is -1"),
        ({"class_counts": [500, 120, 30, 11]}, r"labels\[\d+\] is 4; 4 classes have 0 \.\. 3"),
        ({"class_counts": [500, 121, 30, 11, 4]}, "class 1 has 121 images, of the 665 labels 120"),
        ({"class_counts": [500, 120, 30, 11, 4, 0]}, "class 5 has 0 images and can never be drawn"),
        ({"labels": None, "class_counts": [5, 0]}, "class 1 has 0 images and can never be drawn"),
        ({"class_counts": [1.5, 2]}, "class_counts: float64"),
        ({"classes": [True, False]}, r"labels\[\d+\] is \d; 2 classes have 0 \.\. 1"),
        ({"classes": [1]}, r"classes: int64 of shape \(1,\); one bool for each class"),
        ({"sampler": "balanced"}, "sampler 'balanced': choose one of"),
        ({"beta": 0.5}, "beta 0.5: sampler class-balanced takes no value"),
        ({"seed": -3}, r"seed -3: 0 \.\. 4294967295"),
        ({"seed": 0.5}, "seed 0.5: a whole number"),
        ({"rank": 2, "world_size": 2}, r"rank 2: 0 \.\. 1"),
        ({"rank": -1}, r"rank -1: 0 \.\. 0"),
        ({"world_size": 0}, "world_size 0: 1 .. "),
        ({"length": 0}, "length 0: 1 .. "),
    ],
)
def test_what_cannot_be_meant_is_named(wrong, says):
    with pytest.raises(ValueError, match=says):
        Sampler(**({"labels": LABELS, "seed": 0} | wrong))


def test_epochs_that_cannot_be_are_named():
    sampler = sampler_of("progressively-balanced")
    for epoch, says in ((-1, "at least 0"), (EPOCHS, f"this sampler has {EPOCHS}, from 0 on; make it for more")):
        with pytest.raises(ValueError, match=f"epoch {epoch}: {says}"):
            sampler.set_epoch(epoch)
    with pytest.raises(ValueError, match=r"epoch 0\.5: a whole number"):
        sampler.set_epoch(0.5)  # type: ignore[arg-type]
    sampler.set_epoch(EPOCHS - 1)
    list(sampler)
    state = sampler.state_dict()
    for over in (sampler, sampler_of("progressively-balanced")):
        over.load_state_dict(state)
        with pytest.raises(ValueError, match=f"epoch {EPOCHS}: this sampler has {EPOCHS}"):
            iter(over)


# --- loaders


class Numbers(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Give every position itself."""

    def __len__(self) -> int:
        return len(LABELS)

    def __getitem__(self, position: int) -> int:
        return position


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_sees_the_order(workers):
    sampler = sampler_of("class-balanced")
    loader = DataLoader(Numbers(), 64, sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
    for epoch in (0, 1, 4):
        sampler.set_epoch(epoch)
        assert len(loader) == -(-len(LABELS) // 64)
        found = torch.cat(list(loader)).tolist()
        assert found == epoch_order("class-balanced", LABELS, seed=0, epoch=epoch).tolist()
    # Broken off after three batches, while workers are ahead, and gone on with.
    sampler.set_epoch(5)
    whole = epoch_order("class-balanced", LABELS, seed=0, epoch=5).tolist()
    used = torch.cat(list(islice(loader, 3))).tolist()
    again = sampler_of("class-balanced")
    again.load_state_dict(sampler.state_dict(batches=3, batch_size=64))
    rest = torch.cat(list(DataLoader(Numbers(), 64, sampler=again, num_workers=workers))).tolist()
    assert used + rest == whole


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["class-balanced", "class-aware"])
def test_a_data_loader_that_batches_nothing_itself_goes_on(kind, workers):
    """With workers it asks for an iterator twice before it takes anything."""
    how = {"batch_sampler": MADE[kind]()} if kind == "class-aware" else {"batch_size": None, "sampler": MADE[kind]()}
    sampler = how.get("batch_sampler") or how["sampler"]
    source = MADE[kind]()
    whole, following = list(source), list(source)
    sampler.load_state_dict(MADE[kind]().state_dict() | {"position": 20})
    loader = DataLoader(Numbers(), num_workers=workers, persistent_workers=workers > 0, **how)
    for expected in (whole[20:], following):
        assert len(loader) == len(expected)
        assert [item.tolist() if kind == "class-aware" else int(item) for item in loader] == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_sees_pairs_and_batches(workers):
    pairs = PairSampler(LABELS, second="reversed", seed=0)
    loader = DataLoader(Paired(Numbers()), 50, sampler=pairs, num_workers=workers)  # type: ignore[arg-type]
    found = [pair for first, second in loader for pair in zip(first.tolist(), second.tolist(), strict=True)]
    assert found == list(PairSampler(LABELS, second="reversed", seed=0))
    batches = MADE["class-aware"]()
    loader = DataLoader(Numbers(), batch_sampler=batches, num_workers=workers)
    assert [batch.tolist() for batch in loader] == list(MADE["class-aware"]())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_reads_shards(digits_lt: Built, workers: int) -> None:
    pixels, labels = read_images(digits_lt.folder, digits_lt.manifest, "train")
    with open_images(digits_lt.folder, digits_lt.manifest, "train") as images:
        sampler = Sampler(images.labels, "class-balanced", seed=0)
        loader = DataLoader(
            images, 32, sampler=sampler, num_workers=workers, multiprocessing_context="forkserver" if workers else None
        )  # type: ignore[arg-type]
        order = epoch_order("class-balanced", labels, seed=0, epoch=0)
        for number, (batch, classes) in enumerate(loader):
            rows = order[32 * number : 32 * (number + 1)]
            assert np.array_equal(batch.numpy(), pixels[rows])
            assert np.array_equal(classes.numpy(), labels[rows])


_SCRIPT = """
import sys, json, warnings
import numpy as np, torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from ltdata.samplers import Sampler

distributed.init_process_group("gloo")
rank, world = distributed.get_rank(), distributed.get_world_size()
labels = np.repeat(np.arange(5), [500, 120, 30, 11, 4])
data = [(torch.tensor([float(i % 7), float(label)]), i) for i, label in enumerate(labels.tolist())]
sampler = Sampler(labels, "class-balanced", seed=3, rank=rank, world_size=world)
torch.manual_seed(0)
model = DistributedDataParallel(torch.nn.Linear(2, 5))
optimizer = torch.optim.SGD(model.parameters(), 0.01)
seen = []


def train(loader, steps=None):
    for step, (inputs, positions) in enumerate(loader):
        loss = torch.nn.functional.cross_entropy(model(inputs), torch.from_numpy(labels)[positions])
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        seen.extend(positions.tolist())
        if step + 1 == steps:
            return


train(DataLoader(data, 32, sampler=sampler))
sampler.set_epoch(1)
train(DataLoader(data, 32, sampler=sampler, num_workers=1), steps=3)  # its worker has asked for more
state = sampler.state_dict(batches=3, batch_size=32)
sampler = Sampler(labels, "class-balanced", seed=3, rank=rank, world_size=world)
sampler.load_state_dict(state)
train(DataLoader(data, 32, sampler=sampler))
everyone = [None] * world
distributed.all_gather_object(everyone, (seen, [p.sum().item() for p in model.parameters()], sampler.state_dict()))
if rank == 0:
    json.dump(everyone, open(sys.argv[1], "w"))
distributed.destroy_process_group()
"""


def test_two_ranks_of_torchrun_share_one_order(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(_SCRIPT)
    found = tmp_path / "found.json"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "script.py",
        found,
    ]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    (first, weights, state), (second, others, other_state) = json.loads(found.read_text())
    labels = np.repeat(np.arange(5), [500, 120, 30, 11, 4])
    expected = [epoch_order("class-balanced", labels, seed=3, epoch=epoch, length=666).tolist() for epoch in range(2)]
    assert together([first, second]) == expected[0] + expected[1]
    assert weights == others
    assert state == other_state
    assert (state["epoch"], state["position"]) == (2, 0)
