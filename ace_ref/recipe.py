"""Recipes: every value of a training, in one small file each.

`recipes/NAME.toml` holds the values; a `[[variant]]` table changes some of them for one source, or for one source
at one imbalance factor, as the published settings do. Any value can be overridden.

>>> load_recipe("tiny", source="cifar100", imbalance_factor=100).backbone
'resnet8'
"""

import dataclasses
import math
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from ace_ref import aggregation, loss, planner, resnet
from ltdata.errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """Hold every value of a training.

    Attributes:
        backbone: one of `ace_ref.resnet.BACKBONES`.
        planner: one of `ace_ref.planner.PLANNERS`.
        thresholds: shares of the images, one per expert after the first, for planner ``mass``.
        cuts: positions among the sorted classes, for planner ``cuts``.
        complementary: form of the complementary loss, one of `ace_ref.loss.COMPLEMENTARY_FORMS`.
        scale: of the aggregation, one of `ace_ref.aggregation.SCALES`.
        epochs: passes over the training set.
        batch_size: images per step; a last partial batch is dropped.
        lr: lr_0, of the trunk and the first expert.
        momentum: of SGD.
        weight_decay: L2 penalty on every parameter.
        warmup_epochs: epochs of linear warm-up.
        milestones: epochs at which the learning rates are multiplied by `lr_decay`.
        lr_decay: see there.
        mixup_alpha: of Beta(alpha, alpha); 0 for no mixup.
        plain_epochs: last epochs without mixup.
        crop_padding_px: zero padding of the random crop, in pixels.
        flip: flip half of the images horizontally.
        mean: per channel, of pixels scaled to 0 .. 1; empty: that of the training images.
        std: as `mean`.
    """

    backbone: str
    planner: str
    thresholds: tuple[float, ...]
    cuts: tuple[int, ...]
    complementary: str
    scale: str
    epochs: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    warmup_epochs: int
    milestones: tuple[int, ...]
    lr_decay: float
    mixup_alpha: float
    plain_epochs: int
    crop_padding_px: int
    flip: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, choices in (
            ("backbone", resnet.BACKBONES),
            ("planner", planner.PLANNERS),
            ("complementary", loss.COMPLEMENTARY_FORMS),
            ("scale", aggregation.SCALES),
        ):
            if getattr(self, name) not in choices:
                raise UsageError(f"recipe: {name} {getattr(self, name)!r}: choose one of {', '.join(choices)}")
        at_least = {"epochs": 1, "batch_size": 2, "warmup_epochs": 0, "plain_epochs": 0, "crop_padding_px": 0}
        for name, low in at_least.items():
            if getattr(self, name) < low:
                raise UsageError(f"recipe: {name} {getattr(self, name)}: at least {low} is needed")
        if self.lr <= 0:
            raise UsageError(f"recipe: lr {self.lr}: a number above 0 is needed")
        if list(self.milestones) != sorted(self.milestones) or not all(0 <= m <= self.epochs for m in self.milestones):
            raise UsageError(
                f"recipe: milestones {list(self.milestones)}: rising epochs in 0 .. {self.epochs} are needed; --epochs "
                "moves them along, --set epochs does not"
            )
        for name in ("lr", "momentum", "weight_decay", "lr_decay", "mixup_alpha"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise UsageError(f"recipe: {name} {getattr(self, name)}: a finite number of at least 0 is needed")
        if (
            len(self.mean) != len(self.std)
            or len(self.mean) not in (0, 3)
            or not all(map(math.isfinite, (*self.mean, *self.std)))
            or not all(s > 0 for s in self.std)
        ):
            raise UsageError("recipe: mean and std are three numbers each, std above 0, or both empty")

    def with_epochs(self, epochs: int) -> "Recipe":
        """Return the recipe for another length: milestones, warm-up and plain epochs keep their proportion."""
        if epochs < 1:
            raise UsageError(f"recipe: epochs {epochs}: at least 1 is needed")
        ratio = epochs / self.epochs
        return dataclasses.replace(
            self,
            epochs=epochs,
            milestones=tuple(round(milestone * ratio) for milestone in self.milestones),
            warmup_epochs=round(self.warmup_epochs * ratio),
            plain_epochs=round(self.plain_epochs * ratio),
        )

    def with_values(self, values: Mapping[str, Any]) -> "Recipe":
        """Return the recipe with some values changed; each must have the type it has here.

        Raises:
            UsageError: there is no such value, or it has another type.
        """
        fields = typing.get_type_hints(type(self))
        changed: dict[str, Any] = {}
        for name, value in values.items():
            if name not in fields:
                raise UsageError(f"recipe: no value is called {name!r}; there are {', '.join(fields)}")
            changed[name] = _typed(name, value, fields[name])
        return dataclasses.replace(self, **changed)


def names() -> list[str]:
    """List the recipes."""
    return sorted(entry.name.removesuffix(".toml") for entry in (files("ace_ref") / "recipes").iterdir())


def load_recipe(name: str, *, source: str, imbalance_factor: float) -> Recipe:
    """Load a recipe for a split.

    Args:
        name: one of `names()`.
        source: id of the split's source, such as ``cifar100``.
        imbalance_factor: of the split.

    Raises:
        UsageError: there is no such recipe.
    """
    if name not in names():
        raise UsageError(f"recipe {name!r}: choose one of {', '.join(names())}")
    values = tomllib.loads((files("ace_ref") / "recipes" / f"{name}.toml").read_text(encoding="utf-8"))
    for variant in values.pop("variant", []):
        if variant.pop("source") == source and variant.pop("imbalance_factor", imbalance_factor) == imbalance_factor:
            values |= variant
    types = typing.get_type_hints(Recipe)
    return Recipe(**{name: _typed(name, value, types[name]) for name, value in values.items()})


def parse_override(text: str) -> tuple[str, Any]:
    """Parse ``key=value``, the value as in TOML; a bare word is a string.

    >>> parse_override("thresholds=[0.4, 0.1]"), parse_override("planner=groups")
    (('thresholds', [0.4, 0.1]), ('planner', 'groups'))
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text!r}: key=value is needed")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def _typed(name: str, value: Any, kind: Any) -> Any:
    """Return `value` as the type `kind` of a field: a plain one, or a tuple of one."""
    item = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None
    if item is None and (type(value) is kind or (kind is float and type(value) is int)):
        return kind(value)
    if item is not None and isinstance(value, list | tuple) and all(type(entry) in (int, item) for entry in value):
        return tuple(item(entry) for entry in value)
    expected = f"list of {item.__name__}" if item is not None else kind.__name__
    raise UsageError(f"recipe: {name} {value!r}: {expected} is needed")
