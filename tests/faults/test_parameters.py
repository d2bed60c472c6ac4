"""Numbers that cannot be meant, for every option and function that takes one: refused by name before any work.

Of the command line: exit 2, one line, no traceback, nothing written. Of Python: `UsageError`, a ValueError, and no
warning of numpy's, no hang, no memory without measure.
"""

import dataclasses
import itertools
import math
import re
import resource
import shutil
import tomllib
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from photos import contents

from ace_ref.recipe import Recipe
from faults.breaks import Break
from faults.effort import WHOLE, tried
from faults.lines import COMMANDS, FAR_ENOUGH, kept_inside, laid_out, run
from ltdata import (
    bootstrap,
    build,
    engine,
    identify,
    metrics,
    mixing,
    orders,
    pinned,
    planner,
    profiles,
    protocols,
    reader,
    sampling,
    verify,
    weights,
)
from ltdata.build import Built
from ltdata.cli.options import Whole
from ltdata.errors import UsageError
from ltdata.samplers import ClassAwareBatches, PairSampler, Sampler
from ltdata.shards import ShardPlan
from ltdata.spec import Spec
from ltdata.subset import Part

BREAKS = (
    Break("ltdata/cli/options.py", "if isinstance(value, str) and not", "if False and not", "command_line"),
    Break("ltdata/labels.py", "or not low <= plain <= high", "or (plain < low or plain > high)", "function"),
    Break("ltdata/engine.py", '"workers", value, 1, MOST_WORKERS', '"workers", value, 1', "command_line and workers"),
    Break("ltdata/profiles.py", "    if number >= 1:\n", "    if number >= -5:\n", "command_line and imbalance"),
)

TEXTS = (
    "0", "-1", "0.5", "nan", "NaN", "inf", "-inf", "infinity", "1e308", "1e-308", "1e999", str(2**63), str(10**400),
    "9" * 5000, "", " ", "x", "1_0", "\uff11", "\u0665", "0x10", " 5 ", "1e3", "+5", "-0", "1,5", "5\n", "\u00b2",
    "5.0", "--", "1/2", "True", "None", "5%",
)  # fmt: skip
WHOLE_NUMBER = re.compile("[+-]?[0-9]{1,4300}")


# The command line


@dataclasses.dataclass(frozen=True)
class Option:
    """Say how a number is given: a line that works without it, the option, what it may be.

    Attributes:
        legal: tells whether a text is a number that can be meant.
        form: of the value, `{}` stands for the text.
    """

    command: str
    line: tuple[str, ...]
    name: str
    legal: Callable[[str], bool]
    form: str = "{}"

    def __str__(self) -> str:
        return f"{self.command} {self.name} {self.form.partition('=')[0]}".strip(" {}")


def whole(low: int, high: float = math.inf) -> Callable[[str], bool]:
    return lambda text: bool(WHOLE_NUMBER.fullmatch(text)) and low <= int(text) <= high


def number(low: float, high: float) -> Callable[[str], bool]:
    def legal(text: str) -> bool:
        try:
            return text.isascii() and "_" not in text and low <= float(text) <= high
        except ValueError:
            return False

    return legal


def seeds(text: str) -> bool:
    return all(whole(0, 2**32 - 1)(seed.strip()) for seed in text.split(","))


def toml(kind: type, form: str) -> Callable[[str], bool]:
    def legal(text: str) -> bool:
        try:
            value = tomllib.loads(f"value = {form.format(text)}")["value"]
        except ValueError:
            return False
        numbers = value if isinstance(value, list) else [value]
        return all(type(each) in (int, kind) and abs(each) < 1e300 for each in numbers)

    return legal


OUT = ("--out", "new", "--quiet")
DIGITS = ("digits", "--imbalance", "10", "--out", "new")
TRAIN = ("--shards", "whole", "--recipe", "tiny", "--out", "new", "--device", "cpu")
LINES: dict[str, tuple[str, ...]] = {
    "ltdata build": (*DIGITS, "--quiet"),
    "ltdata subset": ("whole", "--group", "few", "--out", "new", "--quiet"),
    "ltdata verify": ("whole", "--quiet", "--digests-only"),
    "ltdata identify": ("rows.npy",),
    "ltdata evaluate": ("answers.npz", "--manifest", "whole"),
    "ltdata import": ("theirs", "--out", "new", "--quiet"),
    "ace_ref.train": TRAIN,
}
BY_OPTION: dict[str, tuple[str, ...]] = {  # other lines, where the option has no meaning in the one above
    "--alpha": ("digits", "--imbalance", "10", "--profile", "pareto", "--out", "new", "--quiet"),
    "--imbalance": ("digits", "--out", "new", "--quiet"),
    "--min-per-class": ("digits", "--out", "new", "--quiet"),
    **dict.fromkeys(
        ("--val-per-class", "--test-per-class", "--max-side"),
        ("folder", "--data-dir", "photos", "--out", "new", "--quiet"),
    ),
    "--thresholds": ("whole", "--expert", "2", "--out", "new", "--quiet"),
}
MOST = {"--workers": engine.MOST_WORKERS}  # which no type says
# Numbers that no type of click's says
OTHERS = [
    Option("ltdata build", BY_OPTION["--imbalance"], "--imbalance", number(1, 1e300)),
    Option("ltdata build", BY_OPTION["--alpha"], "--alpha", number(0.01, 1000)),
    Option("ltdata subset", BY_OPTION["--thresholds"], "--thresholds", number(1e-310, 1)),
    Option("ltdata subset", BY_OPTION["--thresholds"], "--thresholds", number(1e-310, 0.4), "0.5,{}"),
    Option("ltdata subset", LINES["ltdata subset"], "--class-size", whole(0, 10**9), "0-{}"),
    Option("ltdata subset", LINES["ltdata subset"], "--class-size", lambda _: False, "{}-0"),
    Option("ace_ref.train", TRAIN, "--seeds", seeds, "7,{}"),
]


def of_recipe() -> Iterator[Option]:
    """Every number of the recipe, and every list of numbers."""
    for name, kind in typing.get_type_hints(Recipe).items():
        item = typing.get_args(kind)[0] if typing.get_args(kind) else kind
        if item in (int, float):
            form = "{}" if item is kind else "[{}]"
            yield Option("ace_ref.train", TRAIN, "--set", toml(item, form), f"{name}={form}")


def of_types() -> Iterator[Option]:
    """Every option whose type is a number's."""
    for command, found in COMMANDS.items():
        for option in found.params:
            if isinstance(option.type, click.types.IntParamType):
                assert isinstance(option.type, Whole), f"{command} {option.name}: takes 1_0 for 10"
                name = option.opts[0]
                most = MOST.get(name, math.inf) if option.type.max is None else option.type.max
                legal = whole(option.type.min, most)
                line = BY_OPTION.get(name, LINES[command]) if command.startswith("ltdata") else LINES[command]
                yield Option(command, line, name, legal)
            elif isinstance(option.type, click.types.FloatParamType):
                yield Option(command, LINES[command], option.opts[0], number(option.type.min, option.type.max))


DONE = {"ace_ref.train": 1, "ltdata identify": 3}  # where a line ends that is right
OPTIONS = [*of_types(), *OTHERS, *of_recipe()]


@pytest.fixture(scope="module")
def place(digits_lt: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return laid_out(tmp_path_factory.mktemp("place"), digits_lt)


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_a_text_of_the_command_line_is_a_number_that_can_be_meant_or_exit_2(option: Option, place: Path) -> None:
    before = contents(place)
    number = OPTIONS.index(option)
    for text in TEXTS if WHOLE else (TEXTS[3 * number % len(TEXTS)], TEXTS[(3 * number + 17) % len(TEXTS)]):
        with kept_inside(place) as outside:
            ended = run(option.command, *option.line, f"{option.name}={option.form.format(text)}")
        assert outside == []
        written = (place / "new").exists()
        shutil.rmtree(place / "new", ignore_errors=True)
        if option.legal(text) and not ended.refused(2):  # what can be meant by itself may fit nothing else
            assert ended.code in (0, DONE.get(option.command, 0)), (text[:40], ended)
            assert FAR_ENOUGH in ended.err or not ended.err, (text[:40], ended)
        else:
            assert ended.refused(2), (text[:40], ended)
            assert len(ended.err) < 700, (text[:40], ended)
            assert not written
            said = option.form.partition("=")[0]
            said = said if option.name == "--set" else option.name.strip("-").replace("-", "[- _]")
            named = re.search(said, ended.err) or text[:20] in ended.err
            assert named or option.legal(text), (text[:40], ended)
        tried()
    assert contents(place) == before


# Python

LABELS = np.repeat([0, 1, 2], [6, 3, 1])
COUNTS, TWO = np.array([6, 3, 1]), np.repeat([0, 1], 9)
PLANS = [ShardPlan("train/many-000000.tar", np.arange(6)), ShardPlan("train/few-000000.tar", np.arange(6, 10))]
NUMBERS: tuple[Any, ...] = (
    -1, 0.5, math.nan, math.inf, -math.inf, 1e308, 1e-308, 2**63, 10**400, 10**5000, -(2**63), "", "x", "5", "1_0",
    None, True, b"5", 1j, np.float64("nan"), np.float32("inf"), np.int64(-1), np.float16(0.5), np.array(5),
    np.array([5, 5]), [], {}, object(), [5],
)  # fmt: skip
NOTHING: tuple[Any, ...] = (None, True, np.array(5), [], {}, "", np.float16(0.5))  # that some of them may mean


@dataclasses.dataclass(frozen=True)
class Function:
    """Say what is called, and which of its arguments are numbers."""

    name: str
    call: Callable[..., object]
    numbers: dict[str, Any]

    def __str__(self) -> str:
        return self.name


def listed(sampler: Any) -> list[Any]:
    return [*itertools.islice(sampler, 50), len(sampler), sampler.state_dict()]


def functions(place: Path, manifest: Any) -> list[Function]:
    spec = {"seed": 0, "max_per_class": 5, "max_side_px": 64, "val_per_class": 1, "test_per_class": 1}
    run_of = {"seed": 0, "rank": 0, "world_size": 1, "length": 10, "stream": 0}
    passes = {name: value for name, value in run_of.items() if name != "stream"}
    logits = np.eye(3)[LABELS] * 3
    return [
        Function("Spec of a folder", lambda **n: Spec("folder", **n), spec),
        Function(
            "Spec", lambda **n: Spec("cifar100", **n).name, {"imbalance_factor": 10, "seed": 0, "max_per_class": 5}
        ),
        Function("Spec by the smallest", lambda **n: Spec("cifar100", **n).name, {"min_per_class": 1}),
        Function("Spec of pareto", lambda **n: Spec("cifar100", 10, "pareto", **n).protocol, {"alpha": 6}),
        Function("Part", lambda **n: Part(("few",), **n).words, {"expert": 1, "per_class": 5, "images": 3, "seed": 0}),
        Function("Part by size", lambda low, high: Part(class_size=(low, high)).params, {"low": 1, "high": 5}),
        Function("Part by shares", lambda share: Part(thresholds=(share,), expert=2).params, {"share": 0.5}),
        *(
            Function(
                f"profile {profile}",
                lambda profile=profile, **n: profiles.class_counts(profile, **n),
                {"num_classes": 3, "n_max": 50, "imbalance_factor": 10, "alpha": 6.0},
            )
            for profile in profiles.PROFILES
        ),
        Function("ldam", lambda **n: protocols.ldam(LABELS, COUNTS, **n), {"seed": 0}),
        Function(
            "hold_out",
            lambda size, seed: protocols.hold_out(np.repeat([0, 1], 9), [size], seed=seed),
            {"size": 1, "seed": 0},
        ),
        Function("load", lambda factor: pinned.load("cifar100-lt", imbalance_factor=factor), {"factor": 100}),
        Function("build", lambda **n: build.build(Spec("digits", 20), out=place / "whole", **n), {"workers": 1}),
        Function("verify", lambda **n: verify.verify(place / "whole", images=False, **n), {"workers": 1}),
        Function("read_images", lambda **n: reader.read_images(place / "whole", manifest, "test", **n), {"workers": 1}),
        Function(
            "check_shards", lambda **n: reader.check_shards(place / "whole", manifest, "test", **n), {"workers": 1}
        ),
        Function("engine", engine.check_workers, {"value": 1}),
        Function("Search", lambda **n: identify.Search(**n).all_seeds, {"seeds": 3}),
        Function("class_weights", lambda **n: weights.class_weights("effective-number", COUNTS, **n), {"beta": 0.9}),
        Function("ldam_margins", lambda **n: weights.ldam_margins(COUNTS, **n), {"largest": 0.5}),
        Function("log_priors", lambda **n: weights.log_priors(COUNTS, **n), {"tau": 1.0}),
        Function("repeat_factors", lambda **n: sampling.repeat_factors(COUNTS, **n), {"threshold": 0.1}),
        *(
            Function(
                f"shares {name}", lambda name=name, **n: sampling.class_shares(name, COUNTS, **n), {**named, "epoch": 0}
            )
            for name, named in SAMPLERS
        ),
        *(
            Function(
                f"order {name}",
                lambda name=name, **n: orders.epoch_order(name, LABELS, **n),
                {**named, "seed": 0, "epoch": 0, "length": 9},
            )
            for name, named in SAMPLERS
        ),
        *(
            Function(f"Sampler {name}", lambda name=name, **n: listed(Sampler(LABELS, name, **n)), {**named, **run_of})
            for name, named in SAMPLERS
        ),
        Function("set_epoch", lambda epoch: Sampler(LABELS, seed=0).set_epoch(epoch), {"epoch": 1}),
        Function("state_dict", lambda **n: Sampler(LABELS, seed=0).state_dict(**n), {"batches": 0, "batch_size": 2}),
        Function(
            "load_state_dict",
            lambda **n: (one := Sampler(LABELS, seed=0)).load_state_dict({**one.state_dict(), **n}),
            {"epoch": 0, "position": 1},
        ),
        Function("PairSampler", lambda **n: listed(PairSampler(LABELS, **n)), run_of),
        Function(
            "ClassAwareBatches",
            lambda **n: listed(ClassAwareBatches(LABELS, **n)),
            {**run_of, "classes_per_batch": 2, "images_per_class": 2},
        ),
        Function("ShardSampler", lambda **n: listed(mixing.ShardSampler(PLANS, LABELS, **n)), passes),
        Function("mix", lambda **n: mixing.mix(PLANS, LABELS, np.ones(3), **n), {"length": 9, "seed": 0, "epoch": 0}),
        *(
            Function(
                f"planner {name}",
                lambda name=name, **n: planner.target_categories(COUNTS, planner=name, **n),
                {"experts": 1},
            )
            for name in planner.PLANNERS
        ),
        Function(
            "thresholds", lambda t: planner.target_categories(COUNTS, planner="mass", thresholds=(t,)), {"t": 0.3}
        ),
        Function("cuts", lambda cut: planner.target_categories(COUNTS, planner="cuts", cuts=(cut,)), {"cut": 1}),
        Function(
            "evaluate",
            lambda **n: metrics.evaluate(LABELS, logits=logits, class_counts=COUNTS, **n),
            {"resamples": 10, "seed": 0},
        ),
        Function(
            "bootstrap",
            lambda **n: bootstrap.intervals(LABELS, lambda index: index.mean(axis=-1)[None], **n),
            {"resamples": 10, "seed": 0},
        ),
    ]


SAMPLERS: list[tuple[str, dict[str, float]]] = [
    (name, {taken[0]: {"q": 0.5, "epochs": 3, "beta": 0.9, "threshold": 0.1}[taken[0]]} if taken else {})
    for name, taken in sampling.VALUES.items()
]
NAMES = [function.name for function in functions(Path(), None)]


@pytest.mark.parametrize("name", NAMES)
def test_a_value_of_a_function_is_a_number_that_can_be_meant_or_a_usage_error(
    name: str, place: Path, digits_lt: Built
) -> None:
    function = next(each for each in functions(place, digits_lt.manifest) if each.name == name)
    with kept_inside(place), bounded():
        function.call(**function.numbers)
        for at, argument in enumerate(function.numbers, start=3 * NAMES.index(name)):
            for value in NUMBERS if WHOLE else [NUMBERS[(5 * at + 7 * n) % len(NUMBERS)] for n in range(3)]:
                try:
                    function.call(**function.numbers | {argument: value})
                except UsageError as error:
                    message = str(error)
                    assert len(message) < 600
                    tried()
                    continue
                assert may_be_meant(value), (argument, value)
                tried()


def may_be_meant(value: Any) -> bool:
    """Tell whether some number may have such a value: none is text, a list, or not finite."""
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, int | float) and not isinstance(plain, bool):
        return -math.inf < plain < math.inf
    return plain is None


@contextmanager
def bounded() -> Iterator[None]:
    """Fail where two gigabytes more are asked for."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
