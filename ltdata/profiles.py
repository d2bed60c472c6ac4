"""Imbalance profiles: how many images each class keeps.

With C classes, n_max images in the largest class and imbalance factor IF = n_max / n_min >= 1:

* ``exp``:  n_c = trunc(n_max * (1 / IF) ** (c / (C - 1))), for class label c = 0 .. C - 1
* ``step``: the first C // 2 classes keep trunc(n_max), the others trunc(n_max / IF)

Both are those of LDAM-DRW (Cao et al., NeurIPS 2019), truncation included; papers write IF = 100 where
that code is given 0.01.

* ``pareto``: with n_min = n_max / IF, n_c = trunc(n_min + (n_max - n_min) (q_c - q_{C-1}) / (q_0 - q_{C-1})), where
  q_c = (2 c + 1) ** (-1 / alpha) falls as the quantiles of the Pareto (Lomax) distribution at (c + 1/2) / C do

ImageNet-LT was drawn at random from a Pareto distribution with alpha = 6 and sizes 5 .. 1280; these quantiles have its
shape (349 classes above 100 and 163 below 20, where it has 385 and 136), not its numbers.

>>> class_counts("exp", num_classes=10, n_max=5000, imbalance_factor=100).tolist()
[5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
"""

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import UsageError
from ltdata.labels import MOST_CLASSES, MOST_IMAGES, check_integer, check_number

PROFILES = ("exp", "step", "pareto")


def check_imbalance_factor(value: float) -> float:
    """Return `value` if it is an imbalance factor: finite and >= 1.

    Raises:
        UsageError: it is not; a value between 0 and 1 is shown as the factor it probably means.
    """
    words = "it is n_max / n_min, a finite number that is at least 1"
    number = check_number("imbalance factor", value, words)
    if number >= 1:
        return value
    hint = f"; did you mean {1 / number:g}?" if 0.001 <= number < 1 else ""
    raise UsageError(f"imbalance factor {number:g}: {words}{hint}")


def check_alpha(value: float) -> float:
    """Return `value` if it can be the alpha of a Pareto distribution: finite, from 0.01 to 1000.

    Raises:
        UsageError: it cannot.
    """
    check_number("alpha", value, "a number of 0.01 .. 1000 (6 is ImageNet-LT's)", low=0.01, high=1000)
    return value


def factor_text(value: float) -> str:
    """Write an imbalance factor as names have it: exactly, whole numbers without a point.

    >>> factor_text(100.0), factor_text(12.5)
    ('100', '12.5')
    """
    return repr(float(value)).removesuffix(".0")


def class_counts(
    profile: str, *, num_classes: int, n_max: float, imbalance_factor: float, alpha: float = 6.0
) -> NDArray[np.int64]:
    """Compute the number of training images each class keeps.

    Args:
        profile: one of `PROFILES`.
        num_classes: C, at least 2.
        n_max: images in the largest class before truncation, at least 1.
        imbalance_factor: IF, finite and at least 1.
        alpha: of ``pareto``, above 0; smaller means a longer tail.

    Returns:
        Counts by class label, int64 (C,), each at least 1.

    Raises:
        UsageError: a value is out of range, or the profile would leave a class without images.
    """
    imbalance_factor, alpha = check_imbalance_factor(imbalance_factor), check_alpha(alpha)
    if check_integer("num_classes", num_classes, 0, MOST_CLASSES) < 2:
        raise UsageError(f"num_classes {num_classes}: a long tail needs at least 2 classes")
    check_number("n_max", n_max, "a largest class of at least 1 image", low=1, high=MOST_IMAGES)
    if profile == "exp":
        counts = [int(n_max * (1 / imbalance_factor) ** (c / (num_classes - 1.0))) for c in range(num_classes)]
    elif profile == "step":
        head = num_classes // 2
        counts = [int(n_max)] * head + [int(n_max / imbalance_factor)] * (num_classes - head)
    elif profile == "pareto":
        n_min, power = n_max / imbalance_factor, -1 / alpha
        q = [(2 * c + 1) ** power for c in range(num_classes)]  # Python's: numpy's power is another on some processors
        counts = [int(n_max)] + [int(n_min + (n_max - n_min) * (q_c - q[-1]) / (q[0] - q[-1])) for q_c in q[1:]]
    else:
        raise UsageError(f"profile {profile!r}: choose one of {', '.join(PROFILES)}")
    if counts[-1] < 1:
        raise UsageError(
            f"imbalance factor {imbalance_factor:g} leaves class {num_classes - 1} without images: "
            f"{n_max:g} / {imbalance_factor:g} leaves less than one; choose a smaller factor"
        )
    return np.array(counts, dtype=np.int64)
