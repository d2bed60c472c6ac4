"""Class counts: which profile and imbalance factor give exactly these, and which data set has them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata import pinned, profiles
from ltdata.errors import UsageError
from ltdata.identify.answer import CLASS_COUNTS, EXACT, FIGURES, UNKNOWN, Answer
from ltdata.sources.official import OFFICIAL

USUAL_FACTORS = (1, 2, 5, 10, 20, 50, 100, 150, 200, 256, 500, 1000)
LARGEST = {"cifar10": (10, 5000), "cifar100": (100, 500)}  # classes, images of each
MOST_CLASSES = max(dataset.num_classes for dataset in OFFICIAL.values())
_SLACK = 1e-9
_FEWEST_TO_FIT = 3  # classes; two sizes fit any profile
_FEWEST_CLASSES = 5  # where the largest size is not known either


@dataclass(frozen=True)
class Fit:
    """Name a profile that gives exactly some class counts.

    Attributes:
        profile: ``exp`` or ``step``.
        n_max: images of the largest class.
        factor: the simplest imbalance factor that gives them.
        low: the factors that do begin here, about; `high`: and end here.
        high: see there.
    """

    profile: str
    n_max: float
    factor: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """Write the fit for people."""
        return f"{self.profile}, imbalance factor {profiles.factor_text(self.factor)}"

    @property
    def notes(self) -> tuple[str, ...]:
        """Say which other factors give the same counts."""
        low, high = f"{self.low:.6g}", f"{self.high:.6g}"
        return (f"every imbalance factor from {low} to {high} gives these class counts",) if low != high else ()


def fit(counts: NDArray[np.integer], n_max: float) -> Fit | None:
    """Find the profile and the imbalance factors that give exactly these class counts.

    Classes without images are left out of account: a split of some classes fits what the whole one fits.

    >>> fit(profiles.class_counts("exp", num_classes=10, n_max=5000, imbalance_factor=100), 5000).factor
    100.0

    Args:
        counts: images per class, (C,).
        n_max: images of the largest class before anything was left out.
    """
    if (counts > 0).sum() < _FEWEST_TO_FIT or counts.max() > n_max:
        return None
    for profile in ("exp", "step"):
        interval = _exp_interval(counts, n_max) if profile == "exp" else _step_interval(counts, n_max)
        if interval is None:
            continue
        low, high = interval
        for factor in _simplest(low, high):
            if _gives(profile, counts, n_max, factor):
                return Fit(profile, n_max, factor, low, high)
    return None


def describe(fitted: Fit | None, counts: NDArray[np.integer], n_max: float) -> str:
    """Write for people what class counts of a source are, of whose classes each has `n_max` images."""
    if fitted is None:
        return "class counts of no known profile"
    largest = f", largest class {counts.max():,}" if fitted.n_max != n_max else ""
    return fitted.text + largest + ("" if counts.all() else f", {int((counts == 0).sum()):,} classes left out")


def facts_of(source: str, counts: NDArray[np.integer], fitted: Fit | None) -> dict[str, Any]:
    """Return the same for machines."""
    return {
        "source": source,
        "profile": fitted.profile if fitted else None,
        "imbalance_factor": fitted.factor if fitted else None,
        "imbalance_interval": [fitted.low, fitted.high] if fitted else None,
        "class_counts": counts.tolist(),
    }


def _gives(profile: str, counts: NDArray[np.integer], n_max: float, factor: float) -> bool:
    try:
        made = profiles.class_counts(profile, num_classes=len(counts), n_max=n_max, imbalance_factor=factor)
    except UsageError:  # leaves a class empty
        return False
    return bool(np.array_equal(made[counts > 0], counts[counts > 0]))


def _exp_interval(counts: NDArray[np.integer], n_max: float) -> tuple[float, float] | None:
    """Bound the factor: n_c <= n_max IF ** (-c / (C - 1)) < n_c + 1 for every class c that has images."""
    low, high = 0.0, math.log(n_max)  # logarithms: the powers grow past what a float holds
    for c, n in enumerate(counts.tolist()):
        if c and n:
            power = (len(counts) - 1) / c
            low, high = max(low, math.log(n_max / (n + 1)) * power), min(high, math.log(n_max / n) * power)
        elif n and n != int(n_max):
            return None
    return _interval(math.exp(low), math.exp(high)) if low <= high + _SLACK else None


def _step_interval(counts: NDArray[np.integer], n_max: float) -> tuple[float, float] | None:
    head, tail = counts[: len(counts) // 2], counts[len(counts) // 2 :]
    sizes = set(tail[tail > 0].tolist())
    if len(sizes) > 1 or not set(head[head > 0].tolist()) <= {int(n_max)}:
        return None
    if not sizes:
        return None  # any factor would do
    (n,) = sizes
    return _interval(max(1.0, n_max / (n + 1)), n_max / n)


def _interval(low: float, high: float) -> tuple[float, float]:
    return low, max(low, high)


def _simplest(low: float, high: float) -> Iterator[float]:
    """Yield factors of an interval, those that people use first: usual, whole, with one decimal, its middle.

    Of several the largest, which is nearest to what the largest and the smallest class show.
    """
    bottom, top = low * (1 - _SLACK), high * (1 + _SLACK)  # floating point may have lost the ends
    yield from (float(n) for n in reversed(USUAL_FACTORS) if bottom <= n <= top)
    for steps in (1, 10):
        last = math.floor(top * steps)
        yield from (n / steps for n in range(last, max(math.ceil(bottom * steps), steps, last - 9) - 1, -1))
    yield (low + high) / 2


def answer(counts: NDArray[np.integer], split: str) -> Answer | None:
    """Say which data set or profile a file with the images per class fits; None where it fits none.

    Args:
        counts: images per class, (C,).
        split: a name for the answer.
    """
    figures = (
        f"{len(counts):,} classes, {int(counts.sum()):,} images, largest {int(counts.max()):,}, smallest "
        f"{int(counts.min()):,}"
    )
    if found := answer_by_vector(counts, split, what="is exactly the class counts of"):
        return found.adding(figures)
    if len(counts) < _FEWEST_CLASSES:
        return None
    known = [(source, n_max) for source, (classes, n_max) in LARGEST.items() if classes == len(counts)]
    for source, n_max in [*known, (None, int(counts.max()))]:
        for ordered, note in ((counts, ""), (np.sort(counts)[::-1], ", the classes in another order")):
            fitted = fit(ordered, float(n_max)) if ordered.all() else None
            if fitted is not None:
                return Answer(
                    split=split,
                    certainty=EXACT,
                    headline="is exactly the class counts of "
                    + (source or f"{len(counts)} classes, the largest of {n_max:,} images")
                    + f": {fitted.text}{note}",
                    evidence=(figures, *fitted.notes, *([] if source else ["of which data set, they do not say"])),
                    facts={
                        "source": source,
                        "profile": fitted.profile,
                        "imbalance_factor": fitted.factor,
                        "imbalance_interval": [fitted.low, fitted.high],
                        "n_max": n_max,
                        "classes_in_order": not note,
                    },
                )
    for dataset in OFFICIAL.values():
        rows = dataset.lists["train"].rows
        if (len(counts), int(counts.sum())) == (dataset.num_classes, rows):
            extremes = int(counts.max()), int(counts.min())
            fits = extremes == (dataset.largest, dataset.smallest)
            return Answer(
                split=split,
                certainty=FIGURES if fits and dataset.id not in pinned.names() else UNKNOWN,
                headline=f"has the classes and the total of {dataset.title}"
                + (", and its largest and smallest class" if fits else ", but not its class counts"),
                evidence=(figures, *(["no class counts of it are published to compare one by one"] if fits else [])),
                facts={"source": dataset.id},
            )
    return None


def answer_by_vector(counts: NDArray[np.integer], split: str, *, what: str) -> Answer | None:
    """Compare class counts with those of every pinned split, in order, and whatever the order."""
    matches: dict[str, list[str]] = {"": [], ", the classes in another order": []}
    sources: dict[str, str] = {}
    for name in pinned.names():
        header = pinned.header(name)
        for part, pinned_split in header.splits.items():
            vector = np.array(pinned_split.class_counts)
            sources[f"{name} {part}"] = str(header.source["id"])
            if part != "train" and header.source["id"] not in OFFICIAL:
                continue  # the balanced test set of every CIFAR split
            if np.array_equal(vector, counts):
                matches[""].append(f"{name} {part}")
            elif np.array_equal(np.sort(vector), np.sort(counts)):
                matches[", the classes in another order"].append(f"{name} {part}")
    for note, names in matches.items():
        if names:
            return Answer(
                split=split,
                certainty=EXACT if what.startswith("is") else CLASS_COUNTS,
                headline=f"{what} {' and '.join(names)}{note}",
                facts={"source": sources[names[0]], "pinned": names, "classes_in_order": not note},
            )
    return None
