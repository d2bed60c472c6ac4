"""Published CIFAR-LT protocols: computed to be recognised, not to build with.

* ``ldam`` with a seed, see `ltdata.protocols`. GLMC since 2023-05-23 draws with numpy's `choice` without replacement,
  seed 3407, which takes the first n_c of a permutation of each class: the same as ``ldam`` with that seed.
* GLMC before that date: `choice` with replacement, so images occur more than once.
* LTR-weight-balancing, Imbalanced-SAM: the first n_c images of each class in file order.

BALMS and KaihuaTang draw without a seed, and Cui et al. published files and no program: nobody can compute those.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltdata import protocols
from ltdata.formats.foreign import ForeignSplit
from ltdata.identify.answer import CLASS_COUNTS, UNKNOWN, Answer
from ltdata.identify.counts import describe, facts_of, fit
from ltdata.identify.rows import SAME, label_fault, match, matched, orders, positions_of, repeats, share

GLMC_SEED = 3407
POPULAR_SEEDS = (GLMC_SEED, 42, 1234, 1337, *range(2020, 2027))
_CHANCE = 1e-9  # a match that chance would give more often proves nothing
_NEAR = 0.98  # share of the images from which on a split is called near to another
_NOT_COMPUTABLE = (
    "BALMS and KaihuaTang draw without a seed, and Cui et al.'s TFRecords (ACE, NCL, Bag-of-Tricks) are files alone: "
    "their images cannot be computed again"
)


@dataclass(frozen=True)
class Candidate:
    """Hold the images that a protocol keeps.

    Attributes:
        protocol: ``ldam``, ``glmc-with-replacement`` or ``file-order``.
        seed: of it, None where it needs none.
        positions: in the protocol's order, int64 (n,).
    """

    protocol: str
    seed: int | None
    positions: NDArray[np.int64]

    @property
    def title(self) -> str:
        """Name the protocol as people know it."""
        if self.protocol == "file-order":
            return "the first images of each class in file order (LTR-weight-balancing, Imbalanced-SAM)"
        if self.protocol == "ldam":
            if self.seed == GLMC_SEED:
                return (
                    "GLMC's (since 2023-05-23: choice without replacement, seed 3407), the same as ldam with that seed"
                )
            return f"ldam (LDAM-DRW), seed {self.seed}"
        if self.seed == GLMC_SEED:
            return "GLMC's before 2023-05-23 (choice with replacement, seed 3407: images occur more than once)"
        return f"GLMC's form before 2023-05-23 (choice with replacement: images occur more than once), seed {self.seed}"


def candidates(
    labels: NDArray[np.int64], counts: NDArray[np.int64], seeds: Sequence[int], *, repeated: bool
) -> Iterator[Candidate]:
    """Compute what every published protocol keeps, likelier ones first.

    Args:
        labels: of the source's images in the original order, (n,).
        counts: images to keep per class, (C,); with replacement they may be more than there are.
        seeds: to try.
        repeated: try those that draw an image more than once, too.
    """
    sizes = np.bincount(labels, minlength=len(counts))
    kept = np.minimum(counts, sizes)
    for seed in seeds:
        yield Candidate("ldam", seed, protocols.ldam(labels, kept, seed=seed))
    by_class = [np.flatnonzero(labels == label) for label in range(len(counts))]
    first = [positions[:count] for positions, count in zip(by_class, kept.tolist(), strict=True)]
    yield Candidate("file-order", None, np.concatenate(first))
    for seed in seeds if repeated else ():
        yield Candidate("glmc-with-replacement", seed, _with_replacement(by_class, counts, seed))


def _with_replacement(by_class: Sequence[NDArray[np.int64]], counts: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Draw as `np.random.choice(n, k)` does, one stream through all classes."""
    rng = np.random.RandomState(seed)
    drawn = [
        positions[rng.randint(0, len(positions), size=count)]
        for positions, count in zip(by_class, counts.tolist(), strict=True)
        if len(positions)
    ]
    return np.concatenate(drawn)


def enough(counts: NDArray[np.int64], sizes: NDArray[np.int64], order: str, *, tried: int) -> bool:
    """Tell whether a match proves anything: a few images are those of some seed by chance.

    Args:
        counts: images of each class, (C,).
        sizes: images that the source has of each, (C,).
        order: of the match.
        tried: how many draws were compared.
    """
    return orders(counts, sizes, ordered=order == SAME) > math.log10(tried / _CHANCE)


def by_labels(
    split: str, rows: ForeignSplit, *, source: str, labels: NDArray[np.int64], seeds: Sequence[int]
) -> Answer:
    """Compute what published protocols keep of a source, and compare.

    Args:
        split: its name.
        rows: with positions.
        source: such as ``cifar100``.
        labels: of the source's images of that split, original order, (n,).
        seeds: to try.
    """
    positions = positions_of(rows)
    no = f"is not of {source} {split}"
    if positions.max(initial=0) >= len(labels):
        reason = f"it names position {positions.max():,}, {source} {split} has {len(labels):,} images"
        return Answer(split, UNKNOWN, no, (reason,))
    fault = label_fault(rows, labels[positions])
    if fault is not None and fault.differing * 2 > len(rows) and not fault.renumbered:
        return Answer(split, UNKNOWN, no, (fault.text,))
    sizes = np.bincount(labels)
    counts = np.bincount(labels[positions], minlength=len(sizes))
    in_file_order = np.flatnonzero(counts[labels] > 0)
    whole = match(positions, in_file_order).order  # every image of its classes
    fitted = fit(counts, float(sizes.min())) or (fit(counts, float(counts.max())) if counts.all() else None)
    shape = describe(fitted, counts, float(sizes.min()))
    facts = facts_of(source, counts, fitted)
    interval = fitted.notes if fitted else ()
    nearest: tuple[int, Candidate] | None = None
    for candidate in candidates(labels, counts, seeds, repeated=bool(repeats(positions))) if whole != SAME else ():
        found = match(positions, candidate.positions)
        if found.order is not None and enough(counts, sizes, found.order, tried=len(seeds)):
            facts |= {"protocol": candidate.protocol, "seed": candidate.seed}
            return matched(split, f"{source}, {shape}, {candidate.title}", found.order, facts, fault, evidence=interval)
        if nearest is None or found.common > nearest[0]:
            nearest = found.common, candidate
    if whole is not None:
        some = "whole" if counts.all() else f"{int((counts > 0).sum()):,} of its {len(counts):,} classes whole"
        evidence = ("no labels: the whole of another source with as many images looks the same",)
        return matched(
            split,
            f"{source} {split}, {some}",
            whole,
            {"source": source, "protocol": "whole"},
            fault,
            by="file",
            evidence=evidence if rows.labels is None and counts.all() else (),
        )
    told = [fault.text] if fault else []
    told += [*repeats(positions), *interval]
    headline = f"has the class counts of {source}, {shape}" if fitted else f"is unknown; as {source} {split}, {shape}"
    if nearest is None or not enough(counts, sizes, "", tried=len(seeds)):
        told.append("too few images to tell which protocol keeps them")
    else:
        common, candidate = nearest
        kept = np.bincount(labels[np.unique(candidate.positions)], minlength=len(sizes))
        chance = float((counts * kept / np.maximum(sizes, 1)).sum())
        told += [
            f"{share(common, len(rows))} are those of {candidate.title}, the nearest; by chance about {chance:,.0f}",
            f"tried: ldam and GLMC with {len(seeds):,} seeds, file order",
            _NOT_COMPUTABLE,
        ]
        facts["nearest"] = {
            "protocol": candidate.protocol,
            "seed": candidate.seed,
            "images": common,
            "images_by_chance": round(chance, 1),
        }
        if common > _NEAR * len(rows) and chance < _NEAR * common:
            headline += f"; all but {len(rows) - common:,} of its images are those of {candidate.title}"
        elif fitted:
            headline += "; its images are those of no protocol that was tried"
    return Answer(split, CLASS_COUNTS if fitted else UNKNOWN, headline, tuple(told), facts)
