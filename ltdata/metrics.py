"""Group-wise evaluation: from labels and predictions to the figures of a long-tailed table, all in percent.

| figure | what it is |
|---|---|
| ``overall`` | top-1 accuracy over images |
| ``many``, ``medium``, ``few`` | the same of a shot group's classes, under a named rule |
| ``class_balanced`` | mean of the classes' accuracies, over the classes that have an image |
| ``macro_f1`` | mean of the classes' F1, over the classes that have an image or a prediction, as scikit-learn has it |
| ``gap`` | ``many`` minus ``few``, in points |
| ``ece`` | expected calibration error, see `ltdata.calibration`; of logits or probabilities only |

A group's accuracy is over its images, as in Decoupling (Kang et al. 2020) and the trainer here. OLTR's shot accuracy is
the mean over its classes: another number where a test set has not the same number of images of every class.

What is not defined is None, never 0: an empty group, the gap beside one, the calibration of bare predictions.

>>> labels, predictions = np.array([0, 0, 1, 2]), np.array([0, 0, 2, 2])
>>> found = evaluate(labels, predictions, class_counts=np.array([500, 50, 5]))
>>> found.figures["overall"], found.figures["few"], found.figures["ece"]
(75.0, 100.0, None)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltdata import bootstrap, calibration, groups
from ltdata.calibration import Confidences
from ltdata.errors import UsageError
from ltdata.groups import GROUP_NAMES
from ltdata.labels import as_array, check_counts, check_integer, check_labels

FIGURES = ("overall", *GROUP_NAMES, "class_balanced", "macro_f1", "gap", "ece")


@dataclass(frozen=True)
class Interval:
    """Hold the two ends of a confidence interval, in percent."""

    low: float
    high: float


@dataclass(frozen=True)
class GroupSize:
    """Count the classes of a shot group, and the evaluated images of these classes."""

    classes: int
    images: int


@dataclass(frozen=True)
class ClassFigures:
    """Hold the figures of one class, in percent.

    Attributes:
        group: many, medium or few.
        images: evaluated images that have this label.
        predicted: images that were given this label.
        accuracy: share of its images that were given it, also called recall; None without images.
        precision: share of the images given it that have it; None where it was never predicted.
        f1: 2 right / (images + predicted); None where both are 0.
    """

    group: str
    images: int
    predicted: int
    accuracy: float | None
    precision: float | None
    f1: float | None


@dataclass(frozen=True)
class Evaluation:
    """Hold what predictions are worth.

    Attributes:
        rule: the group rule.
        images: how many were evaluated.
        figures: by name, see `FIGURES`, in percent; None where one is not defined.
        groups: by name.
        classes: one per label.
        intervals: 95 % intervals of the accuracies and the gap, by name; empty where none were asked for. Macro F1 and
            calibration error have none: resampling itself moves them (the F1 of classes with three images down, the
            error up), so that the figure could lie outside.
        resamples: of the bootstrap, 0 for none.
        seed: of the bootstrap.
    """

    rule: str
    images: int
    figures: Mapping[str, float | None]
    groups: Mapping[str, GroupSize]
    classes: tuple[ClassFigures, ...]
    intervals: Mapping[str, Interval] = field(default_factory=lambda: MappingProxyType({}))
    resamples: int = 0
    seed: int = 0


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
    found = _accuracies(correct, total, class_groups)
    return {name: _plain(found[name]) for name in ("overall", *GROUP_NAMES, "class_balanced")}


def evaluate(
    labels: ArrayLike,
    predictions: ArrayLike | None = None,
    *,
    logits: ArrayLike | None = None,
    probabilities: ArrayLike | None = None,
    class_counts: ArrayLike,
    rule: str = "strict",
    class_groups: ArrayLike | None = None,
    resamples: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Evaluate predictions against labels.

    Args:
        labels: of the evaluated images, integers (n,), 0 .. C - 1.
        predictions: the labels given to them, integers (n,). Beside logits or probabilities they must be classes with
            the largest value; without them the largest value decides, and of several the lowest class, as in numpy
            and torch.
        logits: (n, C), any scale; they or probabilities are needed for the calibration error.
        probabilities: (n, C), 0 .. 1, every row adds up to 1.
        class_counts: TRAINING images per class, (C,), which the groups follow from.
        rule: one of `ltdata.groups.RULES`.
        class_groups: shot group per class where it does not follow from the counts, (C,); the rule then names it only.
        resamples: of the bootstrap for 95 % intervals, see `ltdata.bootstrap`; 0 for none.
        seed: of the bootstrap.

    Raises:
        UsageError: a value cannot be meant; the message names it.
    """
    resamples, seed = check_integer("resamples", resamples, 0, bootstrap.MOST_RESAMPLES), check_integer("seed", seed)
    given_groups = _groups(class_counts, rule, class_groups)
    classes = len(given_groups)
    label = check_labels(labels, num_classes=classes)
    if predictions is None and logits is None and probabilities is None:
        raise UsageError("predictions, logits or probabilities: one of them is needed")
    confidences = calibration.read_confidences(logits, probabilities, images=len(label), classes=classes)
    answer = _answers(predictions, confidences, images=len(label), classes=classes)
    right = label == answer
    images, predicted = (np.bincount(values, minlength=classes) for values in (label, answer))
    correct = np.bincount(label[right], minlength=classes)
    found = _accuracies(correct, images, given_groups)
    figures = {name: _plain(found.get(name)) for name in FIGURES}
    per_class = _class_figures(correct, images, predicted, given_groups)
    figures["macro_f1"] = float(np.mean([one.f1 for one in per_class if one.f1 is not None]))
    if confidences is not None:
        figures["ece"] = 100 * confidences.expected_error(right)
    intervals = _intervals(label, right, given_groups, resamples=resamples, seed=seed) if resamples else {}
    return Evaluation(
        rule=rule,
        images=len(label),
        figures=MappingProxyType(figures),
        groups=MappingProxyType(
            {
                name: GroupSize(int((given_groups == g).sum()), int(images[given_groups == g].sum()))
                for g, name in enumerate(GROUP_NAMES)
            }
        ),
        classes=per_class,
        intervals=MappingProxyType(intervals),
        resamples=resamples,
        seed=seed,
    )


def _intervals(
    labels: NDArray[np.int64], right: NDArray[np.bool_], class_groups: NDArray[np.int8], *, resamples: int, seed: int
) -> dict[str, Interval]:
    """Compute the intervals of the figures that are linear in the classes' accuracies."""
    classes = len(class_groups)
    total = np.bincount(labels, minlength=classes)
    drawn = bootstrap.draws(total)
    answered = np.where(right, labels, classes)  # one more class, of the wrong answers

    def figures(index: NDArray[np.int64]) -> list[tuple[str, NDArray[np.float64]]]:
        batch = len(index)
        places = answered[index] + (classes + 1) * np.arange(batch)[:, None]
        counts = np.bincount(places.ravel(), minlength=batch * (classes + 1)).reshape(batch, classes + 1)
        correct = counts[:, :classes] * total / drawn  # of as many images as the set has; 49 of 49 become exactly 50
        found = _accuracies(correct, total, class_groups)
        return [(name, values) for name, values in found.items() if values is not None]

    names = [name for name, _ in figures(np.empty((1, 0), dtype=np.int64))]
    low, high = bootstrap.intervals(
        labels, lambda index: np.stack([values for _, values in figures(index)]), resamples=resamples, seed=seed
    )
    return {name: Interval(float(low[i]), float(high[i])) for i, name in enumerate(names)}


def _accuracies(
    correct: NDArray[np.integer | np.floating], total: NDArray[np.integer], class_groups: NDArray[np.integer]
) -> dict[str, NDArray[np.float64] | None]:
    """Compute accuracies, see `group_accuracy`, and the gap, in percent: of right answers (..., C), each (...)."""
    found = {"overall": _share(correct, total)}
    for g, name in enumerate(GROUP_NAMES):
        inside = class_groups == g
        found[name] = _share(correct[..., inside], total[inside])
    some = total > 0
    found["class_balanced"] = np.asarray(100 * (correct[..., some] / total[some]).mean(axis=-1)) if some.any() else None
    many, few = found["many"], found["few"]
    found["gap"] = many - few if many is not None and few is not None else None
    return found


def _share(correct: NDArray[np.integer | np.floating], total: NDArray[np.integer]) -> NDArray[np.float64] | None:
    images = total.sum()
    return np.asarray(100 * correct.sum(axis=-1) / images) if images else None


def _class_figures(
    correct: NDArray[np.int64],
    images: NDArray[np.int64],
    predicted: NDArray[np.int64],
    class_groups: NDArray[np.int8],
) -> tuple[ClassFigures, ...]:
    return tuple(
        ClassFigures(
            group=GROUP_NAMES[group],
            images=total,
            predicted=given,
            accuracy=100 * right / total if total else None,
            precision=100 * right / given if given else None,
            f1=200 * right / (total + given) if total + given else None,
        )
        for right, total, given, group in zip(
            correct.tolist(), images.tolist(), predicted.tolist(), class_groups.tolist(), strict=True
        )
    )


def _groups(class_counts: ArrayLike, rule: str, class_groups: ArrayLike | None) -> NDArray[np.int8]:
    n = check_counts(class_counts)
    if class_groups is None and n.min() == 0:
        raise UsageError(
            f"class_counts: class_counts[{n.argmin()}] is 0; training images are counted, 1 or more of a class (of "
            "classes without any, give class_groups)"
        )
    if class_groups is None:
        return groups.assign(n, rule=rule)
    if rule not in groups.RULES:
        raise UsageError(f"group rule {rule!r}: choose one of {', '.join(groups.RULES)}")
    array = as_array("class_groups", class_groups)
    if array.shape != n.shape:
        raise UsageError(f"class_groups: shape {array.shape}, class_counts have {n.shape}")
    fault = ~np.isin(array, range(len(GROUP_NAMES)))
    if fault.any():
        row = int(np.argmax(fault))
        raise UsageError(f"class_groups: class_groups[{row}] is {array[row]}; 0 many, 1 medium, 2 few")
    return array.astype(np.int8)


def _answers(
    predictions: ArrayLike | None, confidences: Confidences | None, *, images: int, classes: int
) -> NDArray[np.int64]:
    if predictions is None:
        assert confidences is not None  # noqa: S101 - one of them is given
        return confidences.answers
    answers = check_labels(predictions, num_classes=classes, what="predictions")
    if len(answers) != images:
        raise UsageError(f"predictions: {len(answers):,} of them, {images:,} labels")
    if confidences is not None:
        confidences.check_largest(answers)
    return answers


def _plain(value: NDArray[np.float64] | None) -> float | None:
    return float(value.item()) if value is not None else None
