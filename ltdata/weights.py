"""Weights and priors: what losses take from the class counts.

n_c images of class c of C classes, N in all. **A class without images counts as one with a single image**, so that
every number is finite, and no weight is larger than that of a class seen once. Everything is computed in float64.

| function | formula | source |
|---|---|---|
| `class_weights` ``inverse-frequency`` | 1 / n_c | |
| `class_weights` ``inverse-square-root`` | 1 / n_c ** 1/2 | |
| `class_weights` ``effective-number`` | 1 / E_c, E_c = (1 - beta ** n_c) / (1 - beta) | Cui et al., CVPR 2019, eq. 3 |
| `focal_alpha` | 1 / n_c, of sum 1: with two classes 1 - n_c / N | Lin et al., ICCV 2017, section 3.1 |
| `ldam_margins` | largest (n_min / n_c) ** 1/4 | Cao et al., NeurIPS 2019, eq. 13 |
| `log_priors` | tau log(n_c / N), added to the logits | Menon et al., ICLR 2021; Ren et al., NeurIPS 2020 |

>>> class_weights("inverse-frequency", [60, 30, 10]).round(3).tolist()
[0.333, 0.667, 2.0]
"""

import sys

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltdata.errors import UsageError
from ltdata.labels import check_counts, check_number
from ltdata.sampling import check_value, effective_numbers

WEIGHTS = ("inverse-frequency", "inverse-square-root", "effective-number")
NORMALISATIONS = ("mean", "sum")


def class_weights(
    kind: str, class_counts: ArrayLike, *, beta: float = 0.9999, normalise: str = "mean"
) -> NDArray[np.float64]:
    """Compute the weight of each class in a loss.

    Args:
        kind: one of `WEIGHTS`.
        class_counts: n_c, whole numbers (C,).
        beta: of ``effective-number``, 0 (all classes alike) .. below 1 (towards inverse frequency).
        normalise: ``mean``: mean 1 over the classes, ``sum``: sum 1.

    Returns:
        float64 (C,), above 0.

    Raises:
        UsageError: there is no such kind or normalisation, or a value is out of its range.
    """
    counts = _at_least_one(class_counts)
    if normalise not in NORMALISATIONS:
        raise UsageError(f"normalise {normalise!r}: choose one of {', '.join(NORMALISATIONS)}")
    if kind == "inverse-frequency":
        weights = 1 / counts
    elif kind == "inverse-square-root":
        weights = 1 / np.sqrt(counts)
    elif kind == "effective-number":
        weights = 1 / effective_numbers(counts, check_value(kind, {"beta": beta}))
    else:
        raise UsageError(f"weights {kind!r}: choose one of {', '.join(WEIGHTS)}")
    return np.asarray(weights / (weights.mean() if normalise == "mean" else weights.sum()))


def focal_alpha(class_counts: ArrayLike) -> NDArray[np.float64]:
    """Compute alpha_c of the focal loss: inverse frequency of sum 1.

    >>> focal_alpha([75, 25]).tolist()
    [0.25, 0.75]

    Of sum 1, it makes the loss of many classes small; ``class_weights`` of mean 1 keeps its size.
    """
    return class_weights("inverse-frequency", class_counts, normalise="sum")


def ldam_margins(class_counts: ArrayLike, *, largest: float = 0.5) -> NDArray[np.float64]:
    """Compute the margins of LDAM, taken from the logit of an image's own class.

    >>> ldam_margins([1600, 100]).tolist()
    [0.25, 0.5]

    Args:
        class_counts: n_c, whole numbers (C,).
        largest: margin of the smallest class.

    Returns:
        float64 (C,), above 0 .. `largest`.

    Raises:
        UsageError: `largest` is no finite number above 0.
    """
    largest = check_number("largest", largest, "a finite margin above 0", low=sys.float_info.min)
    counts = _at_least_one(class_counts)
    return np.asarray(largest * (counts.min() / counts) ** 0.25)


def log_priors(class_counts: ArrayLike, *, tau: float = 1.0) -> NDArray[np.float64]:
    """Compute tau log(n_c / N): added to the logits in training it is balanced softmax (tau 1) or logit adjustment.

    >>> log_priors([3, 1]).round(3).tolist()
    [-0.288, -1.386]

    Taken from the logits of a network trained without it, it is post-hoc logit adjustment.

    Args:
        class_counts: n_c, whole numbers (C,).
        tau: strength; 0: nothing.

    Returns:
        float64 (C,).

    Raises:
        UsageError: tau is not finite.
    """
    tau = check_number("tau", tau, "a finite number", low=-1e300, high=1e300)  # times a logarithm it is still finite
    counts = _at_least_one(class_counts)
    return np.asarray(tau * np.log(counts / counts.sum()))


def _at_least_one(class_counts: ArrayLike) -> NDArray[np.float64]:
    return np.maximum(check_counts(class_counts), 1).astype(np.float64)
