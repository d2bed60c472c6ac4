"""Several results beside each other: one row per split and method, mean and standard deviation over seeds."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ace_ref import recipe as recipes
from ace_ref.recipe import Recipe
from ltdata.errors import LtdataError, MismatchError
from ltdata.groups import GROUP_NAMES
from ltdata.seeds import Spread, spread

COLUMNS = ("overall", *GROUP_NAMES)


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
