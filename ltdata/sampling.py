"""Sampling: the share of the draws that each class gets.

Of C classes that have images, class c has n_c of N:

| sampler | p_c is proportional to | source | value |
|---|---|---|---|
| ``instance-balanced`` | n_c; every image once an epoch | | |
| ``class-balanced`` | 1 | Kang et al., ICLR 2020, section 3 | |
| ``square-root`` | n_c ** 1/2 | the same | |
| ``power`` | n_c ** q | the same | ``q`` |
| ``progressively-balanced`` | (1 - t) n_c / N + t / C, t = epoch / (epochs - 1) | the same | ``epochs`` |
| ``effective-number`` | n_c / E_c, E_c = (1 - beta ** n_c) / (1 - beta) | Cui et al., CVPR 2019 | ``beta`` |
| ``repeat-factor`` | n_c r_c, r_c = max(1, (threshold N / n_c) ** 1/2) | LVIS, CVPR 2019 | ``threshold`` |
| ``reversed`` | 1 / n_c | BBN, CVPR 2020 | |

Inside a class all images are drawn equally often. The order in which that happens is in `ltdata.orders`, samplers for
a DataLoader are in `ltdata.samplers`, and shards that are read one after the other are mixed to these shares by
`ltdata.mixing`.

>>> class_shares("class-balanced", [90, 10, 0]).tolist()
[0.5, 0.5, 0.0]
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltdata.errors import UsageError
from ltdata.labels import check_counts, check_integer, check_mask, check_number, cut

_POWERS = {"instance-balanced": 1.0, "square-root": 0.5, "class-balanced": 0.0, "reversed": -1.0}
# By sampler: the value that it takes, and what it is where none is given; None: it must be.
VALUES: Mapping[str, tuple[str, float | None] | None] = {
    **dict.fromkeys(_POWERS),
    "power": ("q", None),
    "progressively-balanced": ("epochs", None),
    "effective-number": ("beta", 0.9999),
    "repeat-factor": ("threshold", 0.001),
}
SAMPLERS = tuple(VALUES)
MOST = 1 << 32  # epochs, seeds and streams: each is one word in the seed of a generator
_RANGES = {  # of each value, in words and numbers
    "q": ("a finite number, 0 .. 1 is usual", -1e300, 1e300),
    "epochs": ("the number of epochs, a whole number from 1 on", 1, MOST),
    "beta": ("a number of at least 0 and below 1", 0, float(np.nextafter(1, 0))),
    "threshold": ("a share of the images, 0 .. 1", 0, 1),
}


def class_shares(
    sampler: str, class_counts: ArrayLike, *, classes: ArrayLike | None = None, epoch: int = 0, **named: float
) -> NDArray[np.float64]:
    """Compute p_c, the share of the draws that each class gets.

    >>> class_shares("square-root", [90, 10, 0]).tolist()
    [0.75, 0.25, 0.0]

    Args:
        sampler: one of `SAMPLERS`.
        class_counts: n_c, (C,); a class without images gets no draw.
        classes: those that are drawn from, bool (C,), such as an expert's or a shot group; None: all. The others
            count nowhere, as if they were not there.
        epoch: of a ``progressively-balanced`` training, counted from 0, below `epochs`.
        named: the sampler's value, see the table above: ``q=0.25``, ``epochs=200``, ``beta=0.9999`` (the default),
            ``threshold=0.001`` (the default).

    Returns:
        float64 (C,), of sum 1.

    Raises:
        UsageError: there is no such sampler, no class is left, or a value is out of its range.
    """
    counts = check_counts(class_counts)
    value = check_value(sampler, named)
    epoch = check_integer("epoch", epoch, 0, epochs_of(sampler, named) - 1)
    wanted = counts > 0
    if classes is not None:
        wanted &= check_mask(classes, len(counts))
    if not wanted.any():
        raise UsageError(f"class counts: none of {len(counts)} classes is wanted and has images")
    n = counts[wanted].astype(np.float64)
    shares = np.zeros(len(counts))
    shares[wanted] = _masses(sampler, n, value, epoch)
    if not np.isfinite(shares.sum()):
        raise UsageError(f"q {value:g}: of these class counts that is no finite number; 0 .. 1 is usual")
    return np.asarray(shares / shares.sum())


def repeat_factors(class_counts: ArrayLike, *, threshold: float = 0.001) -> NDArray[np.float64]:
    """Compute r_c = max(1, (t N / n_c) ** 1/2), how often an epoch repeats each image of a class (LVIS, section 3).

    >>> repeat_factors([960, 40, 10, 0], threshold=0.04).round(3).tolist()
    [1.0, 1.005, 2.01, 1.0]

    Args:
        class_counts: n_c, (C,).
        threshold: t, the share of the images below which a class is repeated, 0 .. 1.

    Returns:
        float64 (C,), 1 for a class without images.
    """
    counts = check_counts(class_counts)
    value = check_value("repeat-factor", {"threshold": threshold})
    return np.asarray(np.sqrt(np.maximum(1.0, np.where(counts > 0, value * counts.sum() / np.maximum(counts, 1), 1.0))))


def effective_numbers(class_counts: NDArray[np.floating], beta: float) -> NDArray[np.float64]:
    """Compute E_c = (1 - beta ** n_c) / (1 - beta), how many images those of a class are worth (Cui et al., eq. 3).

    >>> effective_numbers(np.array([1.0, 10, 1e6]), 0.999).round(3).tolist()
    [1.0, 9.955, 1000.0]

    Args:
        class_counts: n_c, at least 1, (C,).
        beta: 0 (every class is worth one image) .. below 1 (towards n_c).

    Returns:
        float64 (C,).
    """
    with np.errstate(divide="ignore"):  # beta 0: log 0, which gives the right 1
        return np.asarray(-np.expm1(class_counts * np.log(beta)) / (1 - beta))


def _masses(sampler: str, n: NDArray[np.float64], value: float, epoch: int) -> NDArray[np.float64]:
    """Compute what p_c is proportional to, of classes with images."""
    if sampler == "effective-number":
        return np.asarray(n / effective_numbers(n, value))
    if sampler == "repeat-factor":
        return np.asarray(n * repeat_factors(n.astype(np.int64), threshold=value))
    if sampler == "progressively-balanced":
        t = epoch / (value - 1) if value > 1 else 0.0
        return np.asarray((1 - t) * n / n.sum() + t / len(n))
    with np.errstate(over="ignore"):
        # Relative to the largest class, so that only an absurd power leaves the range of floats.
        return np.asarray((n / n.max()) ** _POWERS.get(sampler, value))


def epochs_of(sampler: str, named: Mapping[str, float]) -> int:
    """Return how many epochs a sampler has; `MOST` where it knows no end."""
    return int(check_value(sampler, named)) if sampler == "progressively-balanced" else MOST


def value_of(sampler: str, named: Mapping[str, float]) -> dict[str, float]:
    """Name the value that a sampler has, given or its default.

    >>> value_of("effective-number", {}), value_of("reversed", {})
    ({'beta': 0.9999}, {})
    """
    value, takes = check_value(sampler, named), VALUES[sampler]
    return {} if takes is None else {takes[0]: value}


def check_value(sampler: str, named: Mapping[str, float]) -> float:
    """Return the value of a sampler, or its default; 0 for a sampler that takes none.

    >>> check_value("power", {"q": 0.25}), check_value("repeat-factor", {})
    (0.25, 0.001)

    Raises:
        UsageError: there is no such sampler, or the value is missing, out of range, or not asked for.
    """
    if sampler not in VALUES:
        raise UsageError(f"sampler {sampler!r}: choose one of {', '.join(SAMPLERS)}")
    name, default = VALUES[sampler] or ("", 0.0)
    for other in named:
        if other != name:
            raise UsageError(f"{other} {named[other]!r}: sampler {sampler} takes {name or 'no value'}")
    value = ({name: default} | dict(named))[name]
    if name == "":
        return 0.0
    words, low, high = _RANGES[name]
    if value is None:
        raise UsageError(f"sampler {sampler} needs {name}: {words}")
    if name == "epochs" and check_number(name, value, words) % 1:
        raise UsageError(f"{name} {cut(value)}: {words} is needed")
    return check_number(name, value, words, low=low, high=high)
