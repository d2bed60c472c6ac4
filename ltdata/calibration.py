"""Calibration: whether an answer that is given with 80 % confidence is right in 80 % of the cases.

The expected calibration error of Guo et al. 2017 ("On Calibration of Modern Neural Networks", eq. 3): the confidence of
an answer is the largest probability; B_1 .. B_15 are the images whose confidence lies in (0, 1/15], .. (14/15, 1], bins
of equal width; ECE = sum_m |B_m| / n * |accuracy(B_m) - mean confidence(B_m)|.

>>> found = read_confidences(None, [[0.9, 0.1], [0.8, 0.2]], images=2, classes=2)
>>> round(found.expected_error(np.array([True, False])), 3)  # (|1 - 0.9| + |0 - 0.8|) / 2
0.45
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltdata.errors import UsageError
from ltdata.labels import as_array

BINS = 15
_ROWS = 4096  # at a time: 1,000 classes in float64 take 33 MB
_ROUNDING = 0.01  # of a row's sum; that of 8,142 probabilities in float16 is off by less


@dataclass(frozen=True)
class Confidences:
    """Hold the answer to every image, and how sure it is.

    Attributes:
        values: logits or probabilities, (n, C).
        what: names them in errors.
        answers: the class with the largest value, the lowest of several, int64 (n,).
        confidence: the probability of that class, 0 .. 1, float64 (n,).
    """

    values: NDArray[np.floating]
    what: str
    answers: NDArray[np.int64]
    confidence: NDArray[np.float64]

    def expected_error(self, right: NDArray[np.bool_]) -> float:
        """Compute the expected calibration error, 0 .. 1, from which answers are right, (n,)."""
        excess = np.bincount(bin_of(self.confidence), weights=right - self.confidence, minlength=BINS)
        return float(np.abs(excess).sum() / len(right))  # |B| |accuracy - mean confidence| = |sum of excess|

    def check_largest(self, answers: NDArray[np.int64]) -> None:
        """Refuse answers, int64 (n,), that are not a class with the largest value.

        Raises:
            UsageError: one is not; the message names the first.
        """
        rows = np.arange(len(answers))
        fault = self.values[rows, answers] < self.values[rows, self.answers]
        if fault.any():
            row = int(np.argmax(fault))
            raise UsageError(
                f"predictions: predictions[{row}] is {answers[row]}, the largest of {self.what}[{row}] is class "
                f"{self.answers[row]}; give what belongs together"
            )


def bin_of(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin of each confidence, 0 .. 14: a confidence on an edge belongs to the lower bin.

    >>> bin_of(np.array([0.0, 1 / 15, 0.07, 1.0])).tolist()
    [0, 0, 1, 14]
    """
    edges = np.arange(1, BINS) / BINS
    return np.searchsorted(edges, confidence, side="left").astype(np.int64)


@np.errstate(invalid="ignore", over="ignore")  # what is not finite is named, in one line
def read_confidences(
    logits: ArrayLike | None, probabilities: ArrayLike | None, *, images: int, classes: int
) -> Confidences | None:
    """Check logits or probabilities, (n, C), and find answers and confidences; None where neither is given.

    Raises:
        UsageError: both are given, their shape is another, or a value cannot be meant; the message names it.
    """
    if logits is not None and probabilities is not None:
        raise UsageError("logits, probabilities: give one of them")
    what, given = ("logits", logits) if logits is not None else ("probabilities", probabilities)
    if given is None:
        return None
    values = as_array(what, given)
    if values.shape != (images, classes):
        raise UsageError(f"{what}: shape {values.shape}, ({images}, {classes}) is needed, images x classes")
    if values.dtype.kind != "f":
        raise UsageError(f"{what}: {values.dtype}; floating-point numbers are needed")
    if logits is not None and _are_probabilities(values):
        raise UsageError("logits: every row adds up to 1, as probabilities do; give them as probabilities")
    answers, confidence = np.empty(images, dtype=np.int64), np.empty(images)
    for start in range(0, images, _ROWS):
        part = values[start : start + _ROWS].astype(np.float64)
        own = slice(start, start + len(part))
        answers[own] = part.argmax(axis=1)
        confidence[own] = _of_logits(part, start) if logits is not None else _of_probabilities(part, start)
    return Confidences(values, what, answers, confidence)


def _are_probabilities(values: NDArray[np.floating]) -> bool:
    """Tell whether all rows are shares that add up to 1; rows of a 1 and zeros may be anything."""
    for start in range(0, len(values), _ROWS):  # of real logits the first part is none
        part = values[start : start + _ROWS].astype(np.float64)
        if part.min() < 0 or not np.allclose(part.sum(axis=1), 1, rtol=0, atol=1e-3):
            return False
    return not np.isin(values, (0, 1)).all()


def _of_logits(part: NDArray[np.float64], start: int) -> NDArray[np.float64]:
    """Compute the largest softmax of each row; classes may be ruled out with -inf."""
    top = part.max(axis=1, keepdims=True)  # NaN where one is
    fault = ~np.isfinite(top[:, 0])
    if fault.any():
        row = int(np.argmax(fault))
        raise UsageError(f"logits: the largest of logits[{start + row}] is {top[row, 0]}; finite logits are needed")
    return np.asarray(1 / np.exp(part - top).sum(axis=1))


def _of_probabilities(part: NDArray[np.float64], start: int) -> NDArray[np.float64]:
    fault = ~((part >= 0) & (part <= 1 + _ROUNDING))  # NaN is neither
    if fault.any():
        row, column = divmod(int(np.argmax(fault)), part.shape[1])
        raise UsageError(
            f"probabilities: probabilities[{start + row}, {column}] is {part[row, column]:.6g}; 0 .. 1 are "
            "probabilities (give logits as logits)"
        )
    total = part.sum(axis=1)
    fault = np.abs(total - 1) > _ROUNDING
    if fault.any():
        row = int(np.argmax(fault))
        raise UsageError(f"probabilities: probabilities[{start + row}] add up to {total[row]:.4g}, not to 1")
    return np.asarray(np.minimum(part.max(axis=1), 1.0))
