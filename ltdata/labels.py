"""Labels, class counts and masks of classes as people give them: checked, and named where they cannot be meant.

>>> check_labels([0, 2, 1]).dtype
dtype('int64')
"""

import reprlib
import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltdata.errors import UsageError

MOST_CLASSES = 10_000_000
MOST_IMAGES = 2**53 - 1  # in all: floats count no further, and beyond 2**63 sums of integers are negative


def as_array(what: str, values: ArrayLike) -> NDArray[Any]:
    """Return values as an array.

    Raises:
        UsageError: they are none, such as rows of unlike lengths; the message names them.
    """
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # the last: torch, of a tensor with a gradient
        raise UsageError(f"{what}: {reprlib.repr(values)} is no array ({error})") from error


def check_labels(values: ArrayLike, *, num_classes: int | None = None, what: str = "labels") -> NDArray[np.int64]:
    """Return class labels as int64 (n,).

    Args:
        values: whole numbers (n,).
        num_classes: C; None: any number below ten million.
        what: they are called in messages.

    Raises:
        UsageError: they are not whole numbers of 0 .. C - 1, or there are none; the first is named.
    """
    found = as_array(what, values)
    if found.ndim != 1 or not len(found):
        raise UsageError(f"{what}: shape {found.shape}, (n,) is needed, one per image")
    if found.dtype.kind not in "iu":
        raise UsageError(f"{what}: {what}[0] is {found[0]!s:.40} ({found.dtype}); integers are needed")
    most = MOST_CLASSES if num_classes is None else num_classes
    if found.min() < 0 or found.max() >= most:
        row = int(np.argmax((found < 0) | (found >= most)))
        classes = f"{num_classes:,} classes have" if num_classes is not None else "classes are"
        raise UsageError(f"{what}: {what}[{row}] is {found[row]}; {classes} 0 .. {most - 1}")
    return found.astype(np.int64, copy=False)


def check_counts(class_counts: ArrayLike) -> NDArray[np.int64]:
    """Return class counts as int64 (C,).

    Raises:
        UsageError: they are not whole numbers of at least 0, or there are none, or they add up to more than
            `MOST_IMAGES`.
    """
    found = as_array("class_counts", class_counts)
    if found.ndim != 1 or found.dtype.kind not in "iu" or not len(found):
        first = f", the first {found.ravel()[0]!s:.40}" if found.size else ""
        raise UsageError(f"class_counts: {found.dtype} of shape {found.shape}{first}; whole numbers (C,) are needed")
    if found.min() < 0:
        raise UsageError(f"class_counts: class_counts[{found.argmin()}] is {found.min()}; 0 images or more are needed")
    if found.sum(dtype=np.float64) > MOST_IMAGES:
        raise UsageError(
            f"class_counts: class_counts[{found.argmax()}] is {found.max()}; {MOST_IMAGES:,} images are the most in all"
        )
    return found.astype(np.int64, copy=False)


def cut(value: object) -> str:
    """Write a value of anyone's for a message; thousands of digits have no text in Python."""
    try:
        return f"{value!r:.40}"
    except ValueError:
        return "of thousands of digits"


def check_integer(name: str, value: object, low: int = 0, high: int | None = None) -> int:
    """Return a whole number.

    Raises:
        UsageError: it is none, or out of low .. high.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise UsageError(f"{name} {cut(value)}: a whole number is needed")
    if value < low or (high is not None and value > high):
        needed = f"{low} .. {high} is" if high is not None else f"at least {low} is"
        raise UsageError(f"{name} {cut(int(value))}: {needed} needed")
    return int(value)


def check_seed(value: object) -> int:
    """Return a seed, 0 .. 2**32 - 1, as a Mersenne Twister takes it.

    Raises:
        UsageError: it is none.
    """
    return check_integer("seed", value, 0, 2**32 - 1)


def check_number(
    name: str, value: object, words: str, *, low: float = -sys.float_info.max, high: float = sys.float_info.max
) -> float:
    """Return a number of low .. high; `words` say in messages what it is.

    Raises:
        UsageError: it is none, or not finite, or out of its range.
    """
    plain = value.item() if isinstance(value, np.generic) else value  # float16 overflows where it is compared
    if isinstance(plain, bool) or not isinstance(plain, int | float) or not low <= plain <= high:
        raise UsageError(f"{name} {cut(value)}: {words} is needed")
    return float(plain)


def check_mask(classes: ArrayLike, num_classes: int | None = None) -> NDArray[np.bool_]:
    """Return a mask of classes, bool (C,).

    Raises:
        UsageError: it is none, or has another length than `num_classes`.
    """
    found = as_array("classes", classes)
    if found.dtype != bool or found.ndim != 1 or num_classes not in (None, len(found)):
        each = "each class" if num_classes is None else f"each of {num_classes} classes"
        raise UsageError(f"classes: {found.dtype} of shape {found.shape}; one bool for {each} is needed")
    return found
