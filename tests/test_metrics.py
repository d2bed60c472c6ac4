"""Group-wise evaluation: the figures of scikit-learn where both define them, intervals, seeds, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from ltdata import bootstrap, calibration, groups
from ltdata.errors import UsageError
from ltdata.groups import GROUP_NAMES
from ltdata.metrics import FIGURES, Evaluation, evaluate, group_accuracy
from ltdata.seeds import Spread, in_percent, over_seeds, spread

COUNTS = np.array([500, 200, 101, 100, 50, 20, 19, 5])  # strict: 3 many, 3 medium, 2 few
CLASSES = len(COUNTS)


def drawn(seed: int, images: int = 400) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw labels of every class, and logits that are right more often than not."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(images) % CLASSES)
    logits = rng.normal(size=(images, CLASSES))
    logits[np.arange(images), labels] += 1.5
    return labels, logits


def probabilities_of(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def slow_ece(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Guo et al. 2017, eq. 3, bin by bin, image by image."""
    error = 0.0
    for m in range(1, 16):
        inside = [row for row, p in enumerate(probabilities) if (m - 1) / 15 < p.max() <= m / 15]
        if inside:
            accuracy = sum(int(probabilities[row].argmax()) == labels[row] for row in inside) / len(inside)
            confidence = sum(float(probabilities[row].max()) for row in inside) / len(inside)
            error += len(inside) / len(labels) * abs(accuracy - confidence)
    return 100 * error


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_scikit_learn(seed: int) -> None:
    labels, logits = drawn(seed)
    answers = logits.argmax(axis=1)
    found = evaluate(labels, logits=logits, class_counts=COUNTS)
    expected = {
        "overall": sklearn_metrics.accuracy_score(labels, answers),
        "class_balanced": sklearn_metrics.balanced_accuracy_score(labels, answers),
        "macro_f1": sklearn_metrics.f1_score(labels, answers, average="macro"),
    }
    for g, name in enumerate(GROUP_NAMES):
        inside = groups.assign(COUNTS)[labels] == g
        expected[name] = sklearn_metrics.accuracy_score(labels[inside], answers[inside])
    assert {name: found.figures[name] for name in expected} == pytest.approx(
        {name: 100 * value for name, value in expected.items()}
    )
    confusion = sklearn_metrics.confusion_matrix(labels, answers)
    assert [one.images for one in found.classes] == confusion.sum(axis=1).tolist()
    assert [one.predicted for one in found.classes] == confusion.sum(axis=0).tolist()
    for figure, score in (
        ("accuracy", sklearn_metrics.recall_score),
        ("precision", sklearn_metrics.precision_score),
        ("f1", sklearn_metrics.f1_score),
    ):
        assert [getattr(one, figure) for one in found.classes] == pytest.approx(
            100 * score(labels, answers, average=None)
        )


def test_macro_f1_leaves_out_classes_without_image_and_prediction_as_scikit_learn_does() -> None:
    labels, answers = np.array([0, 0, 1, 1, 2]), np.array([0, 3, 1, 1, 1])
    found = evaluate(labels, answers, class_counts=COUNTS)
    assert found.figures["macro_f1"] == pytest.approx(100 * sklearn_metrics.f1_score(labels, answers, average="macro"))
    f1 = [one.f1 for one in found.classes]
    assert f1[2] == f1[3] == 0  # an image that was not found; a prediction without an image
    assert f1[4:] == [None] * 4
    assert (found.classes[2].precision, found.classes[3].accuracy) == (None, None)


@pytest.mark.parametrize("seed", range(3))
def test_calibration_error_is_that_of_the_slow_reading(seed: int) -> None:
    labels, logits = drawn(seed, images=300)
    for scale in (0.3, 1.0, 3.0):
        probabilities = probabilities_of(scale * logits)
        slow = slow_ece(labels, probabilities)
        for given_as in ({"logits": scale * logits}, {"probabilities": probabilities}):
            found = evaluate(labels, class_counts=COUNTS, **given_as)
            assert found.figures["ece"] == pytest.approx(slow)


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin() -> None:
    edges = np.arange(16) / 15
    assert calibration.bin_of(edges).tolist() == [0, *range(15)]
    assert calibration.bin_of(np.nextafter(edges[:15], 2)).tolist() == list(range(15))


def test_logits_of_any_size_have_a_calibration_error() -> None:
    """A softmax that is computed naively overflows; a class may be ruled out with -inf."""
    logits = np.array([[1e4, 0, -np.inf], [-1e4, -1e4, -2e4]])
    found = evaluate([0, 1], logits=logits, class_counts=[3, 2, 1])
    assert found.figures["ece"] == pytest.approx(25)  # certain and right; half sure and wrong: the lowest of two
    assert found.figures["overall"] == 50


def test_golden_figures() -> None:
    """Worked out by hand: 4 + 3 + 2 images, of which 3 + 1 + 0 are right."""
    labels, answers = [0, 0, 0, 0, 1, 1, 1, 2, 2], [0, 0, 0, 1, 1, 0, 0, 1, 1]
    found = evaluate(labels, answers, class_counts=[500, 50, 5])
    assert found.figures == pytest.approx(
        {
            "overall": 400 / 9,
            "many": 75.0,
            "medium": 100 / 3,
            "few": 0.0,
            "class_balanced": (75 + 100 / 3) / 3,
            "macro_f1": 100 * (6 / 9 + 2 / 7 + 0) / 3,
            "gap": 75.0,
            "ece": None,
        }
    )
    assert [(size.classes, size.images) for size in found.groups.values()] == [(1, 4), (1, 3), (1, 2)]
    assert found.rule == "strict"


@pytest.mark.parametrize(("rule", "medium"), [("strict", 3), ("gt100-le20", 2), ("oltr", 1)])
def test_the_named_rule_decides_the_groups(rule: str, medium: int) -> None:
    labels, logits = drawn(0)
    found = evaluate(labels, logits=logits, class_counts=COUNTS, rule=rule)
    assert (found.rule, found.groups["medium"].classes) == (rule, medium)


def test_groups_may_be_given_where_counts_do_not_say_them() -> None:
    labels, answers = [0, 1, 2], [0, 1, 0]
    found = evaluate(labels, answers, class_counts=[0, 7, 0], class_groups=[0, 2, 1], rule="oltr")
    assert [found.figures[name] for name in GROUP_NAMES] == [100, 0, 100]


def test_what_is_not_defined_is_none_and_shown_as_not_available() -> None:
    found = evaluate([0, 0], [0, 1], class_counts=[500, 400, 5])
    assert found.figures == pytest.approx(
        {
            "overall": 50,
            "many": 50,
            "medium": None,
            "few": None,
            "class_balanced": 50,
            "macro_f1": 100 / 3,
            "gap": None,
            "ece": None,
        }
    )
    assert in_percent(found.figures["few"]) == "n/a"


def test_the_lowest_class_of_a_tie_is_the_answer_unless_predictions_say_another() -> None:
    logits = np.array([[1.0, 2.0, 2.0]])
    assert evaluate([1], logits=logits, class_counts=[3, 2, 1]).figures["overall"] == 100
    assert evaluate([1], [2], logits=logits, class_counts=[3, 2, 1]).figures["overall"] == 0


FINE = {"labels": [0, 1, 2], "predictions": [0, 1, 1], "class_counts": [50, 20, 5]}
SURE = np.full((3, 3), 1 / 3)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"labels": [0.0, 1.5, 2.0]}, ("labels[0] is 0.0", "float64", "integers")),
        ({"labels": ["a", "b", "c"]}, ("labels[0] is a",)),
        ({"labels": [True, False, True]}, ("labels[0] is True", "bool")),
        ({"labels": [0, -1, 2]}, ("labels[1] is -1", "0 .. 2")),
        ({"labels": [0, 1, 3]}, ("labels[2] is 3", "0 .. 2")),
        ({"labels": []}, ("labels", "(0,)")),
        ({"labels": [[0, 1, 2]]}, ("labels", "(1, 3)")),
        ({"labels": np.array([0, 1, 2**63], dtype=np.uint64)}, (f"labels[2] is {2**63}",)),
        ({"predictions": [0, 1]}, ("predictions: 2", "3 labels")),
        ({"predictions": [0, 1, 7]}, ("predictions[2] is 7",)),
        ({"predictions": [0, 1, -7]}, ("predictions[2] is -7",)),
        ({"predictions": [0, 1, 0.5]}, ("predictions", "float64")),
        ({"predictions": None}, ("one of them is needed",)),
        ({"class_counts": [50, 20, 0]}, ("class_counts[2] is 0", "class_groups")),
        ({"class_counts": [50, -3, 5]}, ("class_counts[1] is -3",)),
        ({"class_counts": [50, -3, 5], "class_groups": [0, 1, 2]}, ("class_counts[1] is -3",)),
        ({"class_counts": [50.0, 20.0, 5.0]}, ("class_counts", "float64")),
        ({"class_counts": []}, ("class_counts",)),
        ({"class_groups": [0, 1]}, ("class_groups", "(2,)", "(3,)")),
        ({"class_groups": [0, 1, 3]}, ("class_groups[2] is 3",)),
        ({"rule": "foo"}, ("'foo'", "strict")),
        ({"rule": "foo", "class_groups": [0, 1, 2]}, ("'foo'", "strict")),
        ({"logits": SURE[:2]}, ("logits: shape (2, 3)", "(3, 3)")),
        ({"logits": SURE[:, :2]}, ("logits: shape (3, 2)", "(3, 3)")),
        ({"logits": SURE.astype(int)}, ("logits: int64",)),
        ({"logits": np.array([[0, 0, 0], [0, np.nan, 0], [0, 0, 0.0]])}, ("logits[1] is nan",)),
        ({"logits": np.array([[0, 0, 0], [0, 0, 0], [0, np.inf, 0]])}, ("logits[2] is inf",)),
        ({"logits": np.full((3, 3), -np.inf)}, ("logits[0] is -inf",)),
        ({"probabilities": SURE * 3.3}, ("probabilities[0, 0] is 1.1", "logits")),
        ({"probabilities": SURE * [1, 1, -1]}, ("probabilities[0, 2] is -0.33",)),
        ({"probabilities": SURE * [1, 1, np.nan]}, ("probabilities[0, 2] is nan",)),
        ({"probabilities": SURE * [[1], [0.5], [1]]}, ("probabilities[1] add up to 0.5",)),
        ({"probabilities": SURE, "logits": SURE}, ("give one of them",)),
        ({"logits": np.eye(3)}, ("predictions[2] is 1", "logits[2] is class 2")),
        ({"logits": np.full((3, 3), 1 / 3)}, ("logits: every row adds up to 1", "give them as probabilities")),
        ({"resamples": -1}, ("resamples -1",)),
        ({"resamples": 1.5}, ("resamples 1.5", "whole number")),
        ({"resamples": "10"}, ("resamples '10'", "whole number")),
        ({"resamples": None}, ("resamples None",)),
        ({"resamples": 10, "seed": -1}, ("seed -1",)),
        ({"resamples": 10, "seed": "x"}, ("seed 'x'", "whole number")),
        ({"seed": 1.5}, ("seed 1.5", "whole number")),
        ({"logits": [[0.5, 0.5], [0.5]]}, ("logits", "[[0.5, 0.5], [0.5]]", "no array")),
        ({"probabilities": [[0.5, 0.5], [0.5]]}, ("probabilities", "[[0.5, 0.5], [0.5]]", "no array")),
        ({"logits": torch.zeros(3, 3, requires_grad=True)}, ("logits", "no array", "detach")),
        ({"labels": [[0, 1], [2]]}, ("labels", "[[0, 1], [2]]", "no array")),
        ({"predictions": [[0, 1], [2]]}, ("predictions", "[[0, 1], [2]]", "no array")),
        ({"class_counts": [[50, 20], [5]]}, ("class_counts", "[[50, 20], [5]]", "no array")),
        ({"class_groups": [[0, 1], [2]]}, ("class_groups", "[[0, 1], [2]]", "no array")),
        ({"resamples": 10}, ("no class has two images",)),
    ],
)
def test_wrong_input_is_a_value_error_that_names_the_value(changed: dict[str, object], words: tuple[str, ...]) -> None:
    evaluate(**FINE)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the words are compared below
        evaluate(**(FINE | changed))
    assert isinstance(error.value, UsageError)
    assert all(word in str(error.value) for word in words), error.value


def test_any_type_of_integers_and_floats_gives_the_same_figures() -> None:
    labels, logits = drawn(0)
    logits = logits.astype(np.float16).astype(np.float64)
    expected = evaluate(labels, logits=logits, class_counts=COUNTS).figures
    for kind in (np.uint8, np.int16, ">i8", np.uint64):
        assert evaluate(labels.astype(kind), logits=logits, class_counts=COUNTS).figures == expected
    for kind in (np.float16, np.float32):
        assert evaluate(labels, logits=logits.astype(kind), class_counts=COUNTS).figures == expected
    probabilities = probabilities_of(logits).astype(np.float16)
    found = evaluate(labels, probabilities=probabilities, class_counts=COUNTS).figures
    assert found["ece"] == pytest.approx(expected["ece"], abs=0.1)


LABELLED = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=60)


@given(LABELLED, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=150)
def test_figures_hang_together(pairs: list[tuple[int, int]], random: object) -> None:
    """Overall is the mean of groups and of classes, weighted by images; the order of the images changes nothing."""
    found = evaluate(*np.array(pairs).T, class_counts=COUNTS)
    for parts in (
        [(found.figures[name], size.images) for name, size in found.groups.items()],
        [(one.accuracy, one.images) for one in found.classes],
    ):
        assert all((accuracy is None) == (images == 0) for accuracy, images in parts)
        total = sum(accuracy * images for accuracy, images in parts if accuracy is not None)
        assert found.figures["overall"] == pytest.approx(total / len(pairs))
    known = [one.accuracy for one in found.classes if one.accuracy is not None]
    assert found.figures["class_balanced"] == pytest.approx(np.mean(known))
    many, few = found.figures["many"], found.figures["few"]
    assert found.figures["gap"] == (many - few if many is not None and few is not None else None)
    assert all(value is None or 0 <= value <= 100 for name, value in found.figures.items() if name != "gap")
    random.shuffle(pairs)  # type: ignore[attr-defined]
    assert evaluate(*np.array(pairs).T, class_counts=COUNTS).figures == pytest.approx(found.figures)


@given(LABELLED)
@settings(deadline=None, max_examples=100)
def test_right_answers_have_every_accuracy_100_and_wrong_ones_0(pairs: list[tuple[int, int]]) -> None:
    labels = np.array(pairs)[:, 0]
    for answers, value in ((labels, 100), ((labels + 1) % CLASSES, 0)):
        figures = evaluate(labels, answers, class_counts=COUNTS).figures
        assert {figures[name] for name in FIGURES if name not in ("gap", "ece")} <= {value, None}


@given(LABELLED)
@settings(deadline=None, max_examples=60)
def test_one_piece_serves_the_trainer_and_the_evaluation(pairs: list[tuple[int, int]]) -> None:
    labels, answers = np.array(pairs).T
    total = np.bincount(labels, minlength=CLASSES)
    correct = np.bincount(labels[labels == answers], minlength=CLASSES)
    figures = evaluate(labels, answers, class_counts=COUNTS).figures
    trainers = group_accuracy(correct, total, groups.assign(COUNTS))
    assert list(trainers) == ["overall", *GROUP_NAMES, "class_balanced"]
    assert all(figures[name] == value for name, value in trainers.items())  # to the bit


def test_group_accuracy_has_its_golden_numbers() -> None:
    found = group_accuracy(np.array([90, 30, 5]), np.array([100, 100, 100]), np.array([0, 1, 1]))
    assert found == pytest.approx(
        {"overall": 125 / 3, "many": 90, "medium": 17.5, "few": None, "class_balanced": 125 / 3}
    )
    nothing = group_accuracy(np.array([0]), np.array([0]), np.array([0]))
    assert set(nothing.values()) == {None}


def test_intervals_are_the_same_for_a_seed_and_others_for_another() -> None:
    labels, logits = drawn(0)
    first, again, other = (
        evaluate(labels, logits=logits, class_counts=COUNTS, resamples=200, seed=seed) for seed in (1, 1, 2)
    )
    assert again.intervals == first.intervals
    assert other.intervals != first.intervals
    assert other.figures == first.figures
    assert (first.resamples, first.seed) == (200, 1)
    assert set(first.intervals) == set(FIGURES) - {"macro_f1", "ece"}


def test_intervals_leave_the_global_generators_alone() -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    labels, logits = drawn(0)
    evaluate(labels, logits=logits, class_counts=COUNTS, resamples=20)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]


def test_intervals_are_those_of_stratified_binomials() -> None:
    """A class's right answers among its n images are binomial (n, p); a group's accuracy is the mean of classes."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), 100)
    answers = np.where(rng.random(len(labels)) < 0.1 + 0.1 * labels, labels, (labels + 1) % CLASSES)
    found = evaluate(labels, answers, class_counts=COUNTS, resamples=4000)
    accuracy = np.array([one.accuracy for one in found.classes])
    binomial = rng.binomial(100, accuracy / 100, (200_000, CLASSES))
    for name, inside in [
        ("overall", slice(None)),
        *zip(GROUP_NAMES, (slice(3), slice(3, 6), slice(6, 8)), strict=True),
    ]:
        low, high = np.quantile(binomial[:, inside].mean(axis=1), [0.025, 0.975])
        ends = found.intervals[name]
        assert (ends.low, ends.high) == pytest.approx((low, high), abs=0.4)
        figure = found.figures[name]
        assert figure is not None
        assert ends.low < figure < ends.high


def test_intervals_are_stratified_and_not_plain() -> None:
    """One class all right and one all wrong: within classes nothing can change; over all images it would."""
    labels = np.repeat([0, 7], 50)
    found = evaluate(labels, np.zeros_like(labels), class_counts=COUNTS, resamples=100)
    assert (found.intervals["overall"].low, found.intervals["overall"].high) == (50, 50)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Of 200 test sets with a true accuracy of 60 %; binomial (200, 0.95) stays in 178 .. 199 but once in 1,000."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 100)
    covered = 0
    for _ in range(200):
        right = rng.random(len(labels)) < 0.6
        low, high = bootstrap.intervals(labels, lambda i, r=right: r[i].mean(axis=-1)[None], resamples=300, seed=0)
        covered += bool(low[0] <= 0.6 <= high[0])
    assert 178 <= covered <= 199


def covered_and_width(images: NDArray[np.int64], name: str, sets: int = 150) -> tuple[float, float]:
    """Simulate test sets with so many images per class, of classes with accuracies of 10 .. 90 %.

    Returns:
        the share of intervals that hold the true figure, and their mean width in units of the true one.
    """
    rng = np.random.default_rng(0)
    labels, p = np.repeat(np.arange(len(images)), images), rng.uniform(0.1, 0.9, len(images))
    weight = (images if name == "overall" else np.ones_like(images)) / len(labels if name == "overall" else images)
    truth, deviation = 100 * (weight * p).sum(), 100 * np.sqrt((weight**2 * p * (1 - p) / images).sum())
    ends = []
    for seed in range(sets):
        answers = np.where(rng.random(len(labels)) < p[labels], labels, (labels + 1) % len(images))
        found = evaluate(labels, answers, class_counts=np.full(len(images), 50), resamples=400, seed=seed)
        ends.append((found.intervals[name].low, found.intervals[name].high))
    low, high = np.array(ends).T
    return float(((low <= truth) & (truth <= high)).mean()), float((high - low).mean() / (2 * 1.96 * deviation))


@pytest.mark.parametrize(
    ("images", "name"),
    [
        (np.full(60, 2), "overall"),
        (np.full(60, 3), "overall"),
        (np.full(60, 3), "medium"),
        (2 + np.arange(60) % 5, "overall"),
        (2 + np.arange(60) % 5, "class_balanced"),
    ],
)
def test_intervals_of_few_images_per_class_are_as_wide_as_they_have_to_be(images: NDArray[np.int64], name: str) -> None:
    """Three images per class are iNaturalist 2018's; n draws of n would give 82 % of the width there."""
    covered, width = covered_and_width(images, name)
    assert 0.92 <= covered <= 0.98
    assert width == pytest.approx(1, abs=0.05)


def test_a_class_weighs_its_images_and_not_its_draws() -> None:
    """Two images are drawn once, fifty 49 times; with nothing to vary, both ends are the figure itself."""
    labels = np.repeat([0, 7], [2, 50])
    found = evaluate(labels, np.full_like(labels, 7), class_counts=COUNTS, resamples=50)
    for name, value in (("overall", 100 * 50 / 52), ("class_balanced", 50), ("gap", -100)):
        assert (found.intervals[name].low, found.intervals[name].high) == (value, value) == (found.figures[name],) * 2


def test_classes_with_one_image_take_part_and_never_change() -> None:
    labels = np.array([3, 0, 0, 0, 0, 5])
    seen = []
    bootstrap.intervals(labels, lambda index: seen.append(labels[index]) or index[:, :1].T * 1.0, resamples=50, seed=0)  # type: ignore[func-returns-value]
    drawn_labels = np.concatenate(seen)
    assert np.sort(drawn_labels, axis=1).tolist() == [[0, 0, 0, 3, 5]] * 50


def test_the_order_of_classes_in_the_set_does_not_matter_to_what_is_resampled() -> None:
    labels = np.random.default_rng(0).permutation(np.arange(60) % 3)
    low, _ = bootstrap.intervals(
        labels, lambda i: np.array([[float((np.bincount(labels[r]) == 19).all()) for r in i]]), resamples=30, seed=0
    )
    assert low[0] == 1


def some(seed: int, **changed: object) -> Evaluation:
    labels = np.arange(400) % CLASSES
    answers = np.where(np.random.default_rng(seed).random(400) < 0.5, labels, 0)
    return evaluate(labels, answers, **({"class_counts": COUNTS} | changed))


def test_mean_and_deviation_over_seeds() -> None:
    found = [some(seed) for seed in range(3)]
    values = [one.figures["few"] for one in found]
    over = over_seeds(found)
    assert over["few"] == Spread(pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    assert list(over) == list(FIGURES)
    assert over["ece"] == Spread(None, None)
    assert over_seeds(found[:1])["few"] == Spread(values[0], None)


def test_a_figure_that_not_all_seeds_define_has_no_mean() -> None:
    """The calibration error of one file is not the mean of two seeds."""
    labels, logits = drawn(0)
    both = [evaluate(labels, logits=logits, class_counts=COUNTS), evaluate(labels, labels, class_counts=COUNTS)]
    for found in (both, both[::-1]):
        assert over_seeds(found)["ece"] == Spread(None, None)
        assert over_seeds(found)["overall"].mean == pytest.approx((both[0].figures["overall"] + 100) / 2)
    assert spread([]) == spread([None]) == spread([1.0, None, 3.0]) == Spread(None, None)


def test_a_spread_is_shown_with_one_decimal() -> None:
    assert [str(one) for one in (Spread(41.26, 0.04), Spread(41.26, None), Spread(None, None))] == [
        "41.3 ± 0.0",
        "41.3",
        "n/a",
    ]


@pytest.mark.parametrize(
    "others", [{"rule": "oltr"}, {"class_counts": COUNTS[::-1].copy()}, {"class_groups": np.zeros(CLASSES, dtype=int)}]
)
def test_seeds_of_other_sets_have_no_mean(others: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="evaluations 0 and 1 have other"):
        over_seeds([some(0), some(1, **others)])


def test_no_seed_has_no_mean() -> None:
    with pytest.raises(UsageError, match="no evaluation"):
        over_seeds([])
