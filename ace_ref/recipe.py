"""Recipes: every value of a training, from two small files.

`recipes/NAME.toml` holds what belongs to a data set and its size, `methods/NAME.toml` what belongs to a method, so that
two methods under one recipe differ in what their files say. A `[[variant]]` table of a recipe changes values for one
source, one imbalance factor, one method (`cifar` has one, for ace-plus), or a combination. Any value can be overridden.

>>> load_recipe("tiny", "ace", source="cifar100", imbalance_factor=100).backbone
'resnet8'
"""

import dataclasses
import math
import tomllib
import typing
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from ace_ref import aggregation, backbone, head, loss, network
from ltdata import planner, sampling
from ltdata.errors import UsageError

SCHEDULES = ("multistep", "cosine")
CROPS = ("pad", "resized")
SAMPLERS = tuple(name for name in sampling.SAMPLERS if name != "power")  # which takes a value that is not in a recipe
PRECISIONS = ("float32", "bfloat16")
_MOST = {float: 3.4e38, int: 2**31 - 1, bool: 1}  # of float32 and int32
_KINDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}


@dataclass(frozen=True)
class Recipe:
    """Hold every value of a training. The defaults are plain cross-entropy: one expert, no term switched on.

    Attributes:
        method: one of `methods()`; a name only, the values below are what counts.
        backbone: one of `ace_ref.backbone.BACKBONES`.
        epochs: passes over the training set.
        batch_size: images per step, over all devices; a last partial batch is dropped.
        lr: lr_0, of the trunk and the first expert.
        weight_decay: L2 penalty on every parameter.
        momentum: of SGD.
        sampler: one of `SAMPLERS`, see `ltdata.sampling`; an epoch has as many draws as images with every one.
        warmup_epochs: epochs of linear warm-up.
        schedule: ``multistep``, or ``cosine`` from lr_0 to 0 after the warm-up.
        milestones: epochs at which the learning rates are multiplied by `lr_decay`, for ``multistep``.
        lr_decay: see there.
        ema_decay: of an exponential moving average of the weights, which is then what is evaluated; 0: none.
        sync_batchnorm: batch norm over the batches of all devices.
        precision: ``float32``, or ``bfloat16`` by autocast.
        compile: let torch compile the network.
        planner: one of `ltdata.planner.PLANNERS`.
        experts: K; 0: as many as the planner gives.
        thresholds: shares of the images, one per expert after the first, for planner ``mass``.
        cuts: positions among the sorted classes, for planner ``cuts``.
        routing: which losses reach the trunk, one of `ace_ref.network.ROUTINGS`.
        head: classifier, one of `ace_ref.head.HEADS`.
        head_scale: of the cosine head.
        loss: one of `ace_ref.loss.LOSSES`.
        adjustment: times log prior, per expert, added to its logits in the loss; empty: none.
        drw: re-weight the classes from the first milestone on.
        label_smoothing: share of the target that is spread over all classes.
        complementary: form of the complementary loss, one of `ace_ref.loss.COMPLEMENTARY_FORMS`.
        complementary_weight: of it.
        agreement: weight of the divergence between the experts' mean and each expert.
        scale: of the aggregation, one of `ace_ref.aggregation.SCALES`.
        mixup_alpha: of Beta(alpha, alpha); 0 for no mixup.
        plain_epochs: last epochs without mixup.
        crop: one of `CROPS`.
        crop_padding_px: zero padding of crop ``pad``.
        crop_px: side of the crop ``resized``, and of the central crop in evaluation.
        short_side_px: of photographs in memory and in evaluation, for crop ``resized``; images of one size that are
            smaller stay as they are.
        flip: flip half of the images horizontally.
        jitter: largest change of brightness, contrast and saturation; 0 for none.
        autoaugment: the AutoAugment policy for CIFAR-10.
        randaugment: operators of RandAugment per image; 0: none.
        randaugment_magnitude: of them, 0 .. 30.
        cutout_px: side of a square that is blackened; 0 for none.
        mean: per channel, of pixels scaled to 0 .. 1; empty: that of the training images.
        std: as `mean`.
        val_per_class: training images of every class held out, the last ones in the protocol's order.
    """

    method: str
    backbone: str
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    momentum: float = 0.9
    sampler: str = "instance-balanced"
    warmup_epochs: int = 0
    schedule: str = "multistep"
    milestones: tuple[int, ...] = ()
    lr_decay: float = 0.1
    ema_decay: float = 0.0
    sync_batchnorm: bool = False
    precision: str = "float32"
    compile: bool = False
    planner: str = "all"
    experts: int = 0
    thresholds: tuple[float, ...] = ()
    cuts: tuple[int, ...] = ()
    routing: str = "first"
    head: str = "lws"
    head_scale: float = 30.0
    loss: str = "cross-entropy"
    adjustment: tuple[float, ...] = ()
    drw: bool = False
    label_smoothing: float = 0.0
    complementary: str = "none"
    complementary_weight: float = 1.0
    agreement: float = 0.0
    scale: str = "none"
    mixup_alpha: float = 0.0
    plain_epochs: int = 0
    crop: str = "pad"
    crop_padding_px: int = 4
    crop_px: int = 224
    short_side_px: int = 256
    flip: bool = True
    jitter: float = 0.0
    autoaugment: bool = False
    randaugment: int = 0
    randaugment_magnitude: int = 9
    cutout_px: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    val_per_class: int = 0

    def __post_init__(self) -> None:
        for name, choices in (
            ("backbone", backbone.BACKBONES),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
            ("planner", planner.PLANNERS),
            ("routing", network.ROUTINGS),
            ("head", head.HEADS),
            ("loss", loss.LOSSES),
            ("complementary", loss.COMPLEMENTARY_FORMS),
            ("scale", aggregation.SCALES),
            ("crop", CROPS),
            ("sampler", SAMPLERS),
        ):
            if getattr(self, name) not in choices:
                raise UsageError(f"recipe: {name} {getattr(self, name)!r:.80}: choose one of {', '.join(choices)}")
        for name, value in dataclasses.asdict(self).items():
            low = {"epochs": 1, "batch_size": 2, "crop_px": 1, "short_side_px": 1}.get(name, 0)
            if type(value) in (int, float) and name != "agreement" and not low <= value < math.inf:
                raise UsageError(f"recipe: {name} {value!s:.80}: a finite number of at least {low} is needed")
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float) and not abs(number) <= _MOST[type(number)]:
                    raise UsageError(
                        f"recipe: {name} {number!s:.80}: at most {_MOST[type(number)]} can be computed with"
                    )
        for name in ("lr", "head_scale"):
            if getattr(self, name) == 0:
                raise UsageError(f"recipe: {name} 0.0: a number above 0 is needed")
        for name in ("ema_decay", "label_smoothing", "jitter"):
            if getattr(self, name) >= 1:
                raise UsageError(f"recipe: {name} {getattr(self, name)}: a number below 1 is needed")
        if self.lr_decay > 1:
            raise UsageError(f"recipe: lr_decay {self.lr_decay}: a number of at most 1 is needed")
        if not (math.isfinite(self.agreement) and all(map(math.isfinite, self.adjustment))):
            raise UsageError("recipe: agreement and adjustment are finite numbers")
        self._check_milestones()
        self._check_together()
        if (
            len(self.mean) != len(self.std)
            or len(self.mean) not in (0, 3)
            or not all(map(math.isfinite, (*self.mean, *self.std)))
            or not all(s > 0 for s in self.std)
        ):
            raise UsageError("recipe: mean and std are three numbers each, std above 0, or both empty")

    def _check_milestones(self) -> None:
        if list(self.milestones) != sorted(self.milestones) or not all(0 <= m <= self.epochs for m in self.milestones):
            raise UsageError(
                f"recipe: milestones {list(self.milestones)}: rising epochs in 0 .. {self.epochs} are needed; --epochs "
                "moves them along, --set epochs does not"
            )
        if self.drw and not self.milestones:
            raise UsageError("recipe: drw true: it begins at the first of the milestones, and there are none")

    def _check_together(self) -> None:
        """Refuse values that have no meaning beside each other."""
        if self.loss == "ldam" and self.head != "cosine":
            raise UsageError(f"recipe: head {self.head!r}: loss ldam needs the cosine head")
        if self.scale != "none" and self.head != "lws":
            raise UsageError(f"recipe: head {self.head!r}: scale {self.scale} needs the lws head, it compares norms")
        if self.autoaugment and self.randaugment:
            raise UsageError(f"recipe: autoaugment true, randaugment {self.randaugment}: one policy is enough")
        if self.randaugment_magnitude > 30:
            raise UsageError(f"recipe: randaugment_magnitude {self.randaugment_magnitude}: 0 to 30 are needed")
        if self.crop == "resized" and self.short_side_px < self.crop_px:
            raise UsageError(f"recipe: short_side_px {self.short_side_px}: at least crop_px, {self.crop_px}, is needed")
        if self.agreement and self.planner != "all":
            raise UsageError(f"recipe: agreement {self.agreement}: needs planner all, experts that know every class")

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
        return dataclasses.replace(self, **_typed_values(values))

    def reweighted(self, epoch: int) -> bool:
        """Say whether deferred re-weighting has come in an epoch, counted from 0."""
        return self.drw and epoch >= self.milestones[0]


def names() -> list[str]:
    """List the recipes."""
    return _names("recipes")


def methods() -> list[str]:
    """List the methods."""
    return _names("methods")


def default_name(source: str) -> str:
    """Choose the recipe for a source, such as ``cifar100``.

    Raises:
        UsageError: no recipe is made for it.
    """
    for name in names():
        if source in _read("recipes", name)["default_for"]:
            return name
    raise UsageError(f"source {source}: no recipe is made for it; choose one with --recipe: {', '.join(names())}")


def load_recipe(name: str, method: str, *, source: str, imbalance_factor: float) -> Recipe:
    """Load a recipe for a method and a split.

    Args:
        name: one of `names()`.
        method: one of `methods()`.
        source: id of the split's source, such as ``cifar100``.
        imbalance_factor: of the split.

    Raises:
        UsageError: there is no such recipe or method.
    """
    if name not in names():
        raise UsageError(f"recipe {name!r}: choose one of {', '.join(names())}")
    if method not in methods():
        raise UsageError(f"method {method!r}: choose one of {', '.join(methods())}")
    values = _read("recipes", name)
    variants = values.pop("variant", [])
    del values["default_for"]
    values |= _read("methods", method) | {"method": method}
    here = {"source": source, "imbalance_factor": imbalance_factor, "method": method}
    for variant in variants:
        if all(variant.pop(key, value) == value for key, value in here.items()):
            values |= variant
    return Recipe(**_typed_values(values))


def from_json(values: Mapping[str, Any]) -> Recipe:
    """Make a recipe of what `dataclasses.asdict` gave, after a way through JSON."""
    return Recipe(**_typed_values(values))


def parse_override(text: str) -> tuple[str, Any]:
    """Parse ``key=value``, the value as in TOML; a bare word is a string.

    >>> parse_override("thresholds=[0.4, 0.1]"), parse_override("planner=groups")
    (('thresholds', [0.4, 0.1]), ('planner', 'groups'))
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text!r:.80}: key=value is needed")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):  # of TOML, of thousands of digits, or of brackets
        return name.strip(), value.strip()


def _names(folder: str) -> list[str]:
    return sorted(entry.name.removesuffix(".toml") for entry in (files("ace_ref") / folder).iterdir())


def _read(folder: str, name: str) -> dict[str, Any]:
    return tomllib.loads((files("ace_ref") / folder / f"{name}.toml").read_text(encoding="utf-8"))


def _typed_values(values: Mapping[str, Any]) -> dict[str, Any]:
    types = typing.get_type_hints(Recipe)
    for name in values:
        if name not in types:
            raise UsageError(f"recipe: no value is called {name!r:.80}; there are {', '.join(types)}")
    return {name: _typed(name, value, types[name]) for name, value in values.items()}


def _typed(name: str, value: Any, kind: Any) -> Any:
    """Return `value` as the type `kind` of a field: a plain one, or a tuple of one."""
    item = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None
    with suppress(OverflowError):  # a whole number too large for a float
        if item is None and (type(value) is kind or (kind is float and type(value) is int)):
            return kind(value)
        if item is not None and isinstance(value, list | tuple) and all(type(entry) in (int, item) for entry in value):
            return tuple(item(entry) for entry in value)
    expected = _KINDS[kind] if item is None else f"a list, each {_KINDS[item]},"
    raise UsageError(f"recipe: {name} {value!r:.80}: {expected} is needed")
