"""Empty classes, classes of one, empty groups, one group, equal classes, huge ones: finite, or n/a, or refused by name.

Never 0 % for what does not exist, never NaN or infinite, in a value or in a line that someone reads.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_cli import here, run
from test_page import Parsed

from faults.breaks import Break
from faults.effort import WHOLE, examples, thin, tried
from ltdata import bootstrap, fits, histogram, metrics, planner, sampling, seeds, tables, weights
from ltdata.errors import UsageError
from ltdata.groups import GROUP_NAMES, RULES
from ltdata.manifest import Manifest, Split, describe_rule
from ltdata.mixing import ShardSampler
from ltdata.orders import epoch_order
from ltdata.overlap import overlap
from ltdata.plot import draw
from ltdata.samplers import ClassAwareBatches, PairSampler, Sampler
from ltdata.shards import ShardPlan
from ltdata.stats import frequency_stats, lorenz

__all__ = ["here"]  # an autouse fixture
BREAKS = (
    Break("ltdata/weights.py", "np.maximum(check_counts(class_counts), 1)", "check_counts(class_counts)", "weights"),
    Break("ltdata/sampling.py", "    wanted = counts > 0\n", "    wanted = counts >= 0\n", "shares"),
    Break("ltdata/metrics.py", "if images else None", "if images else np.asarray(0.0)", "evaluation"),
    Break("ltdata/stats.py", "if n.min() > 0 else None", "if n.min() > 0 else 0.0", "statistics"),
    Break("ltdata/cli/describing.py", 'else "n/a (a class is empty)"', 'else "0"', "page"),
    Break("ltdata/labels.py", "if found.sum(dtype=np.float64) > MOST_IMAGES:", "if False:", "huge"),
)

# Around the borders of every group rule; the same few numbers often, so that classes are equal and groups empty.
FEW = (0, 0, 0, 1, 1, 2, 3, 19, 20, 21)
SIZES = (*FEW, 99, 100, 101, 5000)
HUGE = (0, 1, 2**31, 2**53 - 1, 2**62, 2**63 - 1)
small = st.lists(st.sampled_from(SIZES), min_size=1, max_size=12)
few = st.lists(st.sampled_from(FEW), min_size=1, max_size=8)
alike = st.tuples(st.sampled_from(SIZES), st.integers(1, 12)).map(lambda pair: [pair[0]] * pair[1])
one_left = st.tuples(st.integers(1, 11), st.sampled_from(SIZES[3:])).map(lambda pair: [0] * pair[0] + [pair[1]])
counts_of = small | few | alike | one_left
any_rule = st.sampled_from([rule for rule in RULES if rule != "mislas"])
SHOWN = re.compile(r"(?<![A-Za-z])(?:(?i:nan|inf|infinity)|None|-0(?:\.0+)?)(?![A-Za-z0-9.])")
options = {"deadline": None, "derandomize": not WHOLE, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


def plain(found: Any) -> Any:
    """Return what JSON makes of values, which refuses numbers that are none."""
    return json.loads(json.dumps(found, allow_nan=False))


def assert_shown(text: str) -> None:
    """No number that is none is in a text that people read."""
    assert not SHOWN.search(text), SHOWN.search(text)


def plan_of_all(counts: Any) -> Any:
    return planner.target_categories(counts, planner="all")


def manifest_of(
    counts: Sequence[int], *, rule: str = "strict", name: str = "small", test: Sequence[int] | None = None
) -> Manifest:
    splits = {"train": Split(sum(counts), tuple(counts), "0" * 64)}
    if test is not None:
        splits["test"] = Split(sum(test), tuple(test), "0" * 64)
    return Manifest(
        name=name,
        source={"id": "mine"},
        protocol={"name": "import", "version": 1, "params": {}},
        group_rule=describe_rule(rule),
        class_names=tuple(f"class {label}" for label in range(len(counts))),
        splits=splits,
        content_sha256="0" * 64,
        created_by={"ltdata": "0"},
    )


def header(counts: Sequence[int], place: Path, **more: Any) -> Path:
    place.write_text(manifest_of(counts, **more).to_json(), encoding="utf-8")
    return place


# Weights, shares, samplers


@given(
    counts=counts_of, beta=st.sampled_from([0.0, 0.5, 0.9999, 1 - 1e-16]), tau=st.sampled_from([-2.0, 0.0, 1.0, 1e6])
)
@settings(max_examples=examples(40, 300), **options)
def test_weights_are_finite_and_an_empty_class_weighs_as_one_of_a_single_image(
    counts: list[int], beta: float, tau: float
) -> None:
    same = [max(count, 1) for count in counts]
    for normalise in weights.NORMALISATIONS:
        for kind in weights.WEIGHTS:
            found = weights.class_weights(kind, counts, beta=beta, normalise=normalise)
            assert np.isfinite(found).all()
            assert (found > 0).all()
            assert (found.mean() if normalise == "mean" else found.sum()) == pytest.approx(1)
            assert found.tolist() == weights.class_weights(kind, same, beta=beta, normalise=normalise).tolist()
            order = np.argsort(same, kind="stable")
            assert (np.diff(found[order]) <= 1e-12).all()  # the larger the class, the smaller its weight
            if len(set(same)) == 1:
                assert np.ptp(found) <= 1e-15
    for one in (weights.focal_alpha(counts), weights.ldam_margins(counts), weights.log_priors(counts, tau=tau)):
        assert np.isfinite(one).all()
    assert weights.ldam_margins(counts).max() == 0.5
    tried()


NAMED: dict[str, list[dict[str, float]]] = {
    "power": [{"q": q} for q in (-3.0, 0.0, 0.25, 1.0, 8.0)],
    "progressively-balanced": [{"epochs": 1}, {"epochs": 7}],
    "effective-number": [{"beta": beta} for beta in (0.0, 0.99, 1 - 1e-16)],
    "repeat-factor": [{"threshold": t} for t in (0.0, 0.001, 0.5, 1.0)],
}
SETTINGS = [(name, named) for name in sampling.SAMPLERS for named in NAMED.get(name, [{}])]


@given(counts=counts_of, mask=st.lists(st.booleans(), min_size=12, max_size=12), whole=st.booleans())
@settings(max_examples=examples(40, 300), **options)
def test_shares_add_up_to_one_over_the_classes_with_images_and_none_elsewhere(
    counts: list[int], mask: list[bool], whole: bool
) -> None:
    classes = None if whole else np.array(mask[: len(counts)])
    wanted = np.array(counts) > 0 if classes is None else classes & (np.array(counts) > 0)
    for name, named in SETTINGS:
        for epoch in {0, int(named.get("epochs", 1)) - 1}:
            if not wanted.any():
                with pytest.raises(UsageError, match="class counts: none of"):
                    sampling.class_shares(name, counts, classes=classes, epoch=epoch, **named)
                continue
            shares = sampling.class_shares(name, counts, classes=classes, epoch=epoch, **named)
            assert np.isfinite(shares).all()
            assert shares.sum() == pytest.approx(1)
            assert (shares[~wanted] == 0).all()
            assert (shares[wanted] > 0).all()
    for threshold in (0.0, 0.5, 1.0):
        assert (sampling.repeat_factors(counts, threshold=threshold) >= 1).all()
    tried()


@given(
    counts=few, mask=st.lists(st.booleans(), min_size=8, max_size=8), seed=st.integers(0, 3), ranks=st.integers(1, 3)
)
@settings(max_examples=examples(15, 120), **options)
def test_every_sampler_gives_images_that_exist_of_the_classes_that_are_wanted(
    counts: list[int], mask: list[bool], seed: int, ranks: int
) -> None:
    """Classes without images in between, classes of one, one class alone; and more ranks than images."""
    labels = np.repeat(np.arange(len(counts)), counts)
    if not len(labels):
        with pytest.raises(UsageError, match="labels"):
            Sampler(labels, seed=0)
        with pytest.raises(UsageError, match="0 images"):
            Sampler(class_counts=counts, seed=0)
        tried()
        return
    classes = np.array(mask[: len(counts)])
    wanted = classes & (np.array(counts) > 0)
    where = {"classes": classes, "seed": seed, "rank": ranks - 1, "world_size": ranks}
    half = max(1, len(labels) // 2)
    parts = {"many": np.arange(half), "few": np.arange(half, len(labels))}
    plans = [ShardPlan(f"train/{series}-000000.tar", rows) for series, rows in parts.items()]
    makers = [
        *((lambda n=name, v=named, **w: Sampler(labels, n, **w, **v)) for name, named in SETTINGS),
        lambda **w: PairSampler(labels, second="reversed", **w),
        lambda **w: ClassAwareBatches(labels, classes_per_batch=1, images_per_class=3, **w),
        lambda **w: ShardSampler(plans, labels, **w),
    ]
    for make in makers:
        if (classes & ~wanted).any() or not wanted.any():
            with pytest.raises(UsageError, match="classes: "):
                make(**where)
            continue
        sampler = make(**where)
        drawn = np.array(list(sampler), dtype=np.int64).ravel()
        assert len(drawn)
        assert wanted[labels[drawn]].all()
    for name, named in SETTINGS:  # of all that there are
        order = epoch_order(name, labels, seed=seed, epoch=0, **named)
        assert len(order) >= len(labels)
        assert np.bincount(labels[order], minlength=len(counts))[np.array(counts) == 0].sum() == 0
    tried()


@given(
    counts=st.lists(st.sampled_from(HUGE), min_size=1, max_size=5),
    kind=st.sampled_from(["int64", "uint64", "object"]),
)
@settings(max_examples=examples(30, 120), **options)
def test_huge_counts_are_computed_with_or_refused_by_name(counts: list[int], kind: str) -> None:
    """As a sum they may be more than a word holds: then a total would be below zero."""
    given_counts: Any = counts if kind == "object" else np.array(counts, dtype=kind)
    if sum(counts) >= 2**53 or not any(counts):
        refusing = [frequency_stats, plan_of_all]
        if any(counts):
            refusing += [weights.focal_alpha, weights.log_priors, sampling.repeat_factors]
        for function in refusing:
            with pytest.raises(UsageError, match="class_counts"):
                function(given_counts)
        tried()
        return
    plain(asdict(frequency_stats(given_counts)))
    for function in (weights.focal_alpha, weights.ldam_margins, weights.log_priors):
        assert np.isfinite(function(given_counts)).all()
    for name, named in SETTINGS:
        shares = sampling.class_shares(name, given_counts, **named)
        assert np.isfinite(shares).all()
        assert shares.sum() == pytest.approx(1)
    tried()


# Statistics


@given(counts=counts_of, rule=any_rule, whole=st.none() | st.integers(0, 2))
@settings(max_examples=examples(40, 300), **options)
def test_statistics_are_finite_or_n_a(counts: list[int], rule: str, whole: int | None) -> None:
    """`whole`: all classes are in that one group, as in a subset of few-shot classes."""
    class_groups = None if whole is None else np.full(len(counts), whole, dtype=np.int8)
    if not any(counts):
        with pytest.raises(UsageError, match="class_counts"):
            frequency_stats(np.array(counts), rule=rule, class_groups=class_groups)
        tried()
        return
    found = frequency_stats(np.array(counts), rule=rule, class_groups=class_groups)
    plain(asdict(found))
    assert (found.imbalance_factor is None) == (0 in counts)
    assert 1 <= found.effective_classes <= sum(count > 0 for count in counts) * (1 + 1e-9)
    assert 0 <= found.gini < 1
    for name, group in found.groups.items():
        assert (group.share is None) == (group.classes == 0), name
    assert math.isclose(sum(group.share or 0 for group in found.groups.values()), 1)
    curve = lorenz(np.array(counts))
    assert (curve[0], curve[-1]) == (0, 1)
    assert all(before <= after for before, after in pairwise(curve.tolist()))
    there = [count for count in counts if count]
    for family, fit in found.fits.items():
        assert (fit is None) == (len(there) < fits._TO_FIT[family] or len(set(there)) == 1)
        if fit is not None:
            assert_shown(fits.figure_words(family, fit))
            assert_shown(fits.interval_words(fit) or "")
            drawn = fits.curve(family, fit, classes=len(there), ranks=np.arange(len(there)))
            assert np.isfinite(drawn).all()
    chart = histogram.draw(np.array(counts), manifest_of(counts, rule=rule).groups, ascii_only=True)
    assert_shown(chart)
    assert max(map(len, chart.splitlines())) <= histogram.MAX_COLUMNS
    tried()


@given(first=counts_of, second=counts_of, rules=st.tuples(any_rule, any_rule))
@settings(max_examples=examples(20, 120), **options)
def test_what_two_splits_have_in_common_is_finite_or_n_a(
    first: list[int], second: list[int], rules: tuple[str, str]
) -> None:
    a, b = (manifest_of(counts, rule=rule) for counts, rule in zip((first, second), rules, strict=True))
    if not any(first) or not any(second):
        with pytest.raises(UsageError, match="no training image"):
            overlap(a, b)
        tried()
        return
    found = overlap(a, b)
    plain(asdict(found))
    assert found.total_variation is None or 0 <= found.total_variation <= 1 + 1e-12
    assert sum(sum(row.values()) for row in found.moves.values()) == len(found.shared)
    tried()


@given(counts=counts_of, rule=any_rule, other=st.none() | counts_of)
@settings(max_examples=examples(15, 150), **options)
def test_page_and_text_and_json_of_ltdata_stats_say_n_a(
    counts: list[int], rule: str, other: list[int] | None, here: Path
) -> None:
    one = header(counts, here / "one.json", rule=rule)
    two = [header(other, here / "two.json", name="other")] if other is not None else []
    asked = ["stats", one, *two, "--html", here / "page.html", "--force", "--quiet"]
    ended = run(*asked)
    if not any(counts) or (other is not None and not any(other)):
        assert ended.refused(2), ended
        tried()
        return
    assert (ended.code, ended.err) == (0, ""), ended
    assert_shown(ended.out)
    found = frequency_stats(np.array(counts), rule=rule)
    assert re.search(r"imbalance factor +(?:\S+)", ended.out)[0].endswith("n/a") == (0 in counts)  # type: ignore[index]
    for name, group in found.groups.items():
        line = re.search(rf"^  {name} +{group.classes}  .*$", ended.out, re.MULTILINE)
        assert line is not None
        assert line[0].endswith("n/a") == (not group.classes)
    parsed = Parsed((here / "page.html").read_bytes())
    assert_shown(" ".join(parsed.text))
    plain(parsed.data())
    for _, attributes in parsed.tags:
        assert not SHOWN.search(attributes.get("d", "") + attributes.get("points", ""))
    ended = run(*asked, "--json")
    assert ended.code == 0
    document = json.loads(ended.out, parse_constant=lambda word: pytest.fail(word))
    assert {name: group["share"] is None for name, group in document["groups"].items()} == {
        name: not group.classes for name, group in found.groups.items()
    }
    tried()


@pytest.mark.parametrize("counts", thin([[1], [0, 1], [3, 3, 3], [0, 0, 5, 1], [5000, 0, 101], [1] * 12], to=2))
def test_the_figure_for_papers_is_drawn_of_any_counts(counts: list[int]) -> None:
    drawn = draw(manifest_of(counts), frequency_stats(np.array(counts)), form="svg", other=manifest_of(counts[::-1]))
    assert not re.search(rb'[" ](?:nan|inf|-inf)[" ]', drawn)
    tried()


# Evaluation


@st.composite
def evaluated(draw: Any) -> tuple[list[int], list[int], list[int], str, Any]:
    """Training counts, labels and answers of a test set in which classes and groups may be missing, rule, logits."""
    counts = draw(st.lists(st.sampled_from([1, 1, 2, 19, 20, 21, 100, 101]), min_size=1, max_size=8))
    classes = len(counts)
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=12))
    answers = draw(st.lists(st.integers(0, classes - 1), min_size=len(labels), max_size=len(labels)))
    kind = draw(st.sampled_from(["predictions", "logits", "probabilities"]))
    values = np.full((len(labels), classes), draw(st.sampled_from([0.0, -np.inf, -1e30])))
    values[np.arange(len(labels)), answers] = draw(st.sampled_from([1.0, 1e30, 1e-30]))
    if kind == "probabilities":
        values = np.eye(classes)[answers] * 0.75 + 0.25 / classes
    return counts, labels, answers, draw(any_rule), (kind, values if kind != "predictions" else np.array(answers))


def expected_n_a(counts: list[int], labels: list[int], rule: str, kind: str) -> set[str]:
    groups = manifest_of(counts, rule=rule).groups
    there = {GROUP_NAMES[groups[label]] for label in labels}
    missing = set(GROUP_NAMES) - there
    gap = {"gap"} if missing & {"many", "few"} else set()
    return missing | gap | ({"ece"} if kind == "predictions" else set())


@given(case=evaluated(), resamples=st.sampled_from([0, 100]), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=examples(30, 300), **options)
def test_evaluation_of_missing_classes_and_groups_is_n_a_and_never_0_percent(
    case: Any, resamples: int, seed: int
) -> None:
    counts, labels, answers, rule, (kind, values) = case
    asked = {"class_counts": counts, "rule": rule, "seed": seed, kind: values}
    try:
        found = metrics.evaluate(labels, resamples=resamples, **asked)
    except UsageError as error:
        refused = str(error)
        alone = resamples and max(np.bincount(labels)) < 2 and refused.startswith("bootstrap: no class has two")
        assert alone or (kind == "logits" and "as probabilities do" in refused)  # some look like probabilities
        tried()
        return
    assert {name for name, value in found.figures.items() if value is None} == expected_n_a(counts, labels, rule, kind)
    plain(dict(found.figures))
    plain([asdict(one) for one in found.classes])
    for label, one in enumerate(found.classes):
        assert (one.accuracy is None) == (label not in labels)
        assert (one.precision is None) == (label not in answers)
        assert (one.f1 is None) == (label not in labels + answers)
    for name, ends in found.intervals.items():
        assert found.figures[name] is not None
        assert ends.low - 1e-9 <= found.figures[name] <= ends.high + 1e-9 or len(labels) > 1
        assert math.isfinite(ends.low + ends.high)
    over = seeds.over_seeds([found] * 3)
    for name, spread in over.items():
        assert (str(spread) == "n/a") == (found.figures[name] is None)
    row = tables.row_of("x", found)
    for text in (
        tables.text("x", [row, tables.Row("mean", over, seeds=3)], rule=rule),
        tables.markdown("x", [row]),
        tables.latex("x", [row]),
    ):
        assert_shown(text)
        assert text.count("n/a") >= sum(value is None for value in found.figures.values())
    tried()


@given(case=evaluated(), boot=st.booleans(), twice=st.booleans())
@settings(max_examples=examples(15, 150), **options)
def test_every_format_of_ltdata_evaluate_says_n_a(case: Any, boot: bool, twice: bool, here: Path) -> None:
    counts, labels, _, rule, (kind, values) = case
    images = np.bincount(labels, minlength=len(counts)).tolist()
    manifest = header(counts, here / "small.json", rule=rule, test=images)
    files = [here / "one.npz", here / "two.npz"][: 1 + twice]
    for file in files:
        np.savez(file, labels=labels, **{kind: values})
    asked = ["evaluate", *files, "--manifest", manifest, "--any-order"] + ["--bootstrap", "100"] * boot
    missing = expected_n_a(counts, labels, rule, kind)
    for form in ("table", "markdown", "latex", "json"):
        extra = ["--per-class"] if form in ("table", "json") else []
        ended = run(*asked, "--format", form, *extra)
        if ended.code:
            assert ended.refused(2 if twice and boot and form in ("markdown", "latex") else 3), ended
            continue
        assert ended.err == ""
        if form == "json":
            document = json.loads(ended.out, parse_constant=lambda word: pytest.fail(word))
            assert {name for name, value in document["figures"].items() if value["mean"] is None} == missing
            continue
        assert_shown(ended.out)
        assert ended.out.count("n/a") >= len(missing)
    tried()


def test_an_evaluation_of_classes_without_training_images_names_the_class() -> None:
    for counts in ([0, 5], [5, 0, 0], [0]):
        with pytest.raises(UsageError, match=r"class_counts\[\d\] is 0"):
            metrics.evaluate([0], [0], class_counts=counts)
        found = metrics.evaluate([0], [0], class_counts=counts, class_groups=[2] * len(counts))
        assert found.figures["many"] is None
        assert found.figures["few"] == 100
        tried()
    with pytest.raises(UsageError, match="nothing to resample"):
        bootstrap.intervals(np.array([0, 1]), lambda index: index.mean(axis=-1)[None], resamples=10, seed=0)
    tried()


# Planner and trainer


@given(
    counts=counts_of,
    name=st.sampled_from(planner.PLANNERS),
    experts=st.integers(0, 4),
    thresholds=st.sampled_from([(), (0.3,), (0.5, 0.1), (0.999,), (1e-9,)]),
    cuts=st.sampled_from([(), (1,), (1, 2), (11,)]),
    rule=any_rule,
)
@settings(max_examples=examples(40, 400), **options)
def test_experts_have_images_or_the_plan_is_refused(
    counts: list[int], name: str, experts: int, thresholds: tuple[float, ...], cuts: tuple[int, ...], rule: str
) -> None:
    try:
        targets = planner.target_categories(
            np.array(counts), planner=name, experts=experts, thresholds=thresholds, cuts=cuts, group_rule=rule
        )
    except UsageError:
        tried()
        return
    shares = planner.expert_shares(np.array(counts), targets)
    assert np.isfinite(shares).all()
    assert shares[0] == 1
    assert (shares > 0).all()
    assert (np.diff(shares) <= 0).all()
    tried()


@given(counts=counts_of, data=st.data())
@settings(max_examples=examples(15, 150), **options)
def test_losses_and_learning_rates_are_finite_whatever_the_counts(counts: list[int], data: Any) -> None:
    torch = pytest.importorskip("torch")
    from ace_ref.loss import COMPLEMENTARY_FORMS, LOSSES, expert_losses, make_terms
    from ace_ref.results import accuracies, table

    classes = len(counts)
    masks = st.lists(st.booleans(), min_size=classes, max_size=classes)
    targets = np.stack([np.ones(classes, dtype=bool), np.array(data.draw(masks))])
    terms = make_terms(
        targets,
        np.array(counts),
        device=torch.device("cpu"),
        adjustment=data.draw(st.sampled_from([(), (1.0, -2.0)])),
        loss=data.draw(st.sampled_from(LOSSES)),
        reweighted=data.draw(st.booleans()),
        complementary=data.draw(st.sampled_from(COMPLEMENTARY_FORMS)),
        agreement=data.draw(st.sampled_from([0.0, -0.2, 0.5])),
        label_smoothing=data.draw(st.sampled_from([0.0, 0.1])),
    )
    for values in (terms.shift, terms.margin, terms.weights, terms.temperatures):
        assert torch.isfinite(values).all()
    labels = torch.tensor(data.draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=6)))
    logits = torch.zeros(len(labels), 2, classes, requires_grad=True)
    losses = expert_losses(logits, labels, terms)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(logits.grad).all()
    total = np.bincount(labels.numpy(), minlength=classes)
    groups = manifest_of(counts).groups
    found = accuracies(np.stack([total, total, 0 * total]), total, groups, targets)
    plain(found)
    shown = table({"name": "x", "group_rule": "strict"}, found, title="t", evaluated_on="test")
    assert_shown(shown)
    assert shown.count("n/a") == 3 * len(set(range(3)) - set(groups[labels.numpy()].tolist()))
    tried()
