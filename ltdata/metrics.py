"""Group-wise evaluation: top-1 accuracy overall, by shot group, by class.

>>> correct, total = np.array([90, 30, 5]), np.array([100, 100, 100])
>>> group_accuracy(correct, total, np.array([0, 1, 2]))["few"]
5.0
"""

import numpy as np
from numpy.typing import NDArray

from ltdata.groups import GROUP_NAMES


def group_accuracy(
    correct: NDArray[np.integer], total: NDArray[np.integer], class_groups: NDArray[np.integer]
) -> dict[str, float | None]:
    """Compute top-1 accuracies in percent.

    Args:
        correct: rightly classified images per class, (C,).
        total: images per class, (C,).
        class_groups: index into `GROUP_NAMES` per class, (C,).

    Returns:
        ``overall`` and ``many``, ``medium``, ``few`` over images; ``class_balanced`` over classes, the mean of
        their accuracies. None where there is no image: an empty group is "n/a", never 0 %.
    """
    with_images = total > 0
    accuracies = {"overall": _percent(correct.sum(), total.sum())}
    for g, name in enumerate(GROUP_NAMES):
        inside = class_groups == g
        accuracies[name] = _percent(correct[inside].sum(), total[inside].sum())
    accuracies["class_balanced"] = (
        float(100 * (correct[with_images] / total[with_images]).mean()) if with_images.any() else None
    )
    return accuracies


def _percent(correct: np.integer, total: np.integer) -> float | None:
    return float(100 * correct / total) if total else None
