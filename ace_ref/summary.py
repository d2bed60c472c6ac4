"""Several results beside each other: one row per split and method, mean and standard deviation over seeds."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ace_ref import devices
from ace_ref import recipe as recipes
from ace_ref.recipe import Recipe
from ace_ref.results import SCHEMA_VERSION
from ltdata.errors import LtdataError, MismatchError, SourceMissingError
from ltdata.files import read_bytes
from ltdata.groups import GROUP_NAMES
from ltdata.seeds import Spread, spread

COLUMNS = ("overall", *GROUP_NAMES)
# What reading a file makes of one that holds no record of a training
_NO_RESULT = (SourceMissingError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True)
class Row:
    """Hold what one method reached on one split.

    Attributes:
        split: its name.
        group_rule: under which many, medium, few were counted.
        setting: recipe, backbone and epochs.
        label: the method, and what was changed of its shipped recipe.
        evaluated_on: which split its accuracies are of.
        results: one per seed, by rising seed.
    """

    split: str
    group_rule: str
    setting: str
    label: str
    evaluated_on: str
    results: tuple[Mapping[str, Any], ...]

    def values(self, column: str) -> list[float]:
        """Return the accuracy of every seed, in percent, without those that are not defined."""
        found = (result["accuracy"]["last"][column] for result in self.results)
        return [float(value) for value in found if value is not None]

    def spread(self, column: str) -> Spread:
        """Return mean and standard deviation over seeds."""
        return spread(self.values(column))

    def mean(self, column: str) -> float | None:
        """Return the mean over seeds, None where it is not defined."""
        return self.spread(column).mean

    def deviation(self, column: str) -> float | None:
        """Return the sample standard deviation over seeds, None for less than two."""
        return self.spread(column).deviation

    def cell(self, column: str) -> str:
        """Return `mean +- deviation` as text."""
        return str(self.spread(column))


def summarise(found: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Group results that differ in their seed only; the same result twice counts once.

    Args:
        found: records of `result.json`.

    Raises:
        MismatchError: two of them should be equal and are not.
    """
    together: dict[tuple[Any, ...], dict[int, Mapping[str, Any]]] = {}
    for result in found:
        recipe, split = recipes.from_json(result["recipe"]), result["split"]
        setting = f"{result['recipe_name']}, {recipe.backbone}, {recipe.epochs} epochs"
        key = (
            split["name"],
            split["content_sha256"],
            split["group_rule"],
            setting,
            label(result, recipe),
            result.get("evaluated_on", "test"),
            recipe,
        )
        kept = together.setdefault(key, {}).setdefault(result["seed"], result)
        if kept["accuracy"]["last"] != result["accuracy"]["last"]:
            raise MismatchError(
                f"{split['name']}, {setting}, {key[4]}: two results for seed {result['seed']} differ; give one of them"
            )
    return [
        Row(name, rule, setting, text, evaluated_on, tuple(seeds[seed] for seed in sorted(seeds)))
        for (name, _, rule, setting, text, evaluated_on, _), seeds in sorted(
            together.items(), key=lambda item: item[0][:6]
        )
    ]


def read_result(path: Path, *uses: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Read the record of a training, and see that it can be summarised, and used in other ways.

    Raises:
        MismatchError: it is not such a file.
    """
    try:
        result: dict[str, Any] = json.loads(read_bytes(path))
        for use in (_check, *uses):
            use(result)
    except _NO_RESULT as error:
        raise MismatchError(f"{path}: not a result of ace_ref.train ({type(error).__name__}: {error})") from error
    return result


def _check(result: Mapping[str, Any]) -> None:
    """Raise one of `_NO_RESULT` if a record cannot be one of `ace_ref.train`."""
    version, seed, last = result["schema_version"], result["seed"], result["accuracy"]["last"]
    if version != SCHEMA_VERSION:
        raise ValueError(f"schema_version {version!r}, this ace_ref reads {SCHEMA_VERSION}")
    if type(seed) is not int or seed < 0:
        raise ValueError(f"seed {seed!r}")
    devices.check_computers(result.get("computed_on", []))
    epochs, losses, tested, overall = curves(result)
    if not epochs or not all(type(epoch) is int for epoch in [*epochs, *tested]):
        raise ValueError("history: no epochs")
    for value in [*overall, *(last[column] for column in COLUMNS if last[column] is not None)]:
        if not 0 <= float(value) <= 100:
            raise ValueError(f"accuracy {value!r}")
    if not all(math.isfinite(loss) for loss in losses):
        raise ValueError("history: a loss is not finite")
    for name in ("parameters", "flops_per_image"):
        if type(result[name]) is not int or not 0 <= result[name] < 2**63:
            raise ValueError(f"{name} {result[name]!r}")
    summarise([result])


def curves(result: Mapping[str, Any]) -> tuple[list[int], list[float], list[int], list[float]]:
    """Return what a result's curves are made of: epochs and loss of expert 1, evaluated epochs and test accuracy."""
    history = result["history"]
    tested = [record for record in history if "test" in record]
    return (
        [record["epoch"] for record in history],
        [record["loss"][0] for record in history],
        [record["epoch"] for record in tested],
        [record["test"]["overall"] for record in tested],
    )


def label(result: Mapping[str, Any], recipe: Recipe) -> str:
    """Name a method, and list what differs from its shipped recipe, such as ``ace, agreement=0.5``.

    A recipe that is not shipped any more gives the method alone.
    """
    split = result["split"]
    try:
        shipped = recipes.load_recipe(
            result["recipe_name"],
            recipe.method,
            source=split["source"],
            imbalance_factor=split["imbalance_factor"] or 0,
        ).with_epochs(recipe.epochs)
    except LtdataError:
        return recipe.method
    there, here = dataclasses.asdict(recipe), dataclasses.asdict(shipped)
    filled = () if shipped.mean else ("mean", "std")
    changed = [f"{name}={there[name]}" for name in there if there[name] != here[name] and name not in filled]
    return ", ".join([recipe.method, *changed])


def table(rows: Sequence[Row]) -> str:
    """Lay rows out for people."""
    width = max(len(row.label) for row in rows)
    lines = []
    last = None
    for row in rows:
        here = f"{row.split}, {row.setting}, {row.evaluated_on} split, last epoch, top-1 %, mean ± standard deviation"
        here += " over seeds"
        if here != last:
            header = f"{'':{width}}  seeds" + "".join(f"{name:>13}" for name in COLUMNS)
            lines += [here, f"{header}   (groups: rule {row.group_rule})"]
            last = here
        cells = "".join(f"{row.cell(column):>13}" for column in COLUMNS)
        lines.append(f"{row.label:{width}}  {len(row.results):>5}{cells}")
    return "\n".join(lines)
