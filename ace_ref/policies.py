"""Policies: AutoAugment and RandAugment, batched, on the device, every image with its own draws.

Draws say for every image and turn which operator, which magnitude, which sign. Images that need the same operator with
the same magnitude go through it together, so a batch costs as many calls as there are different ones, a few dozen at
most, whatever its size: the larger the batch, the cheaper an image. Operators are torchvision's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ace_ref.recipe import Recipe
from ace_ref.vision import load_torchvision

OPERATORS = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert",
)  # fmt: skip
_RANDAUGMENT = len(OPERATORS) - 1  # all but Invert (Cubuk et al., CVPR workshops 2020; torchvision's list)
AUTOAUGMENT_BINS, RANDAUGMENT_BINS = 10, 31
# The policy for CIFAR-10 (Cubuk et al., CVPR 2019, table 7): 25 pairs of (operator, probability, magnitude 0-9).
AUTOAUGMENT_CIFAR10 = (
    (("Invert", 0.1, None), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, None), ("Equalize", 0.9, None)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, None), ("Equalize", 0.5, None)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, None), ("AutoContrast", 0.4, None)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, None)),
    (("Equalize", 0.2, None), ("AutoContrast", 0.6, None)),
    (("Equalize", 0.2, None), ("Equalize", 0.6, None)),
    (("Color", 0.9, 9), ("Equalize", 0.6, None)),
    (("AutoContrast", 0.8, None), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, None)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, None), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, None), ("Invert", 0.1, None)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, None)),
)
_SIGNED = {
    "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness",
}  # fmt: skip


@dataclass(frozen=True)
class PolicyDraws:
    """Hold what a policy does to each image, on the CPU.

    Attributes:
        operator: index into `OPERATORS`, int64 (..., turn).
        magnitude: 0 .. bins - 1, int64 (..., turn).
        negative: whether a signed magnitude is below 0, bool (..., turn).
        bins: how many magnitudes there are.
    """

    operator: NDArray[np.int64]
    magnitude: NDArray[np.int64]
    negative: NDArray[np.bool_]
    bins: int

    def at(self, steps: slice, seen: slice) -> "PolicyDraws":
        """Return those of some steps and some images of each, (image, turn)."""
        turns = self.operator.shape[-1]
        return PolicyDraws(
            self.operator[steps][:, seen].reshape(-1, turns),
            self.magnitude[steps][:, seen].reshape(-1, turns),
            self.negative[steps][:, seen].reshape(-1, turns),
            self.bins,
        )


def asked_for(recipe: Recipe) -> bool:
    """Say whether a recipe has a policy."""
    return recipe.autoaugment or recipe.randaugment > 0


def draw(chance: np.random.Generator, shape: tuple[int, ...], recipe: Recipe) -> PolicyDraws:
    """Draw a recipe's policy for images of some shape, such as (step, batch)."""
    if recipe.autoaugment:
        pair = chance.integers(0, len(AUTOAUGMENT_CIFAR10), shape)
        return autoaugment(pair, chance.random((*shape, 2)), chance.random((*shape, 2)) < 0.5)
    turns = (*shape, recipe.randaugment)
    operator = chance.integers(0, _RANDAUGMENT, turns)
    magnitude = np.full(turns, recipe.randaugment_magnitude)
    return PolicyDraws(operator, magnitude, chance.random(turns) < 0.5, RANDAUGMENT_BINS)


def autoaugment(pair: NDArray[np.int64], chance: NDArray[np.float64], negative: NDArray[np.bool_]) -> PolicyDraws:
    """Look pairs of `AUTOAUGMENT_CIFAR10` up.

    Args:
        pair: which of the 25, (...,).
        chance: uniform in 0 .. 1, an operator applies below its probability, (..., 2).
        negative: the other sign of its magnitude, (..., 2).
    """
    numbers = [[OPERATORS.index(name) for name, _, _ in operators] for operators in AUTOAUGMENT_CIFAR10]
    probability = [[share for _, share, _ in operators] for operators in AUTOAUGMENT_CIFAR10]
    magnitude = [[size or 0 for _, _, size in operators] for operators in AUTOAUGMENT_CIFAR10]
    applies = chance < np.array(probability)[pair]
    operator = np.where(applies, np.array(numbers)[pair], 0)
    return PolicyDraws(operator, np.array(magnitude)[pair], negative, AUTOAUGMENT_BINS)


def apply(pixels: Tensor, draws: PolicyDraws) -> Tensor:
    """Apply to each image the operators that were drawn for it, one turn after the other.

    Args:
        pixels: uint8 (n, height, width, 3); left as they are.
        draws: (n, turn).

    Returns:
        uint8 (n, height, width, 3).
    """
    images = pixels.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
    code = (draws.operator * draws.bins + draws.magnitude) * 2 + draws.negative
    for turn in range(code.shape[1]):
        for value in np.unique(code[:, turn]).tolist():
            name, magnitude = OPERATORS[value // 2 // draws.bins], value // 2 % draws.bins
            if name == "Identity":
                continue
            size = _size(name, magnitude, draws.bins, images.shape[2], images.shape[3])
            operator = _operator(name, -size if value % 2 and name in _SIGNED else size)
            index = torch.from_numpy(np.flatnonzero(code[:, turn] == value)).to(images.device)
            images[index] = operator(images[index])
    return images.permute(0, 2, 3, 1).contiguous()


def _size(operator: str, magnitude: int, bins: int, height: int, width: int) -> float:
    """Translate a magnitude, 0 .. bins - 1, into an operator's own unit."""
    if operator == "Posterize":
        return round(8 - magnitude / ((bins - 1) / 4))
    # torch's linspace, as torchvision has it: a size that differs in the last bit can round a pixel to the other side.
    start, end = {
        "ShearX": (0, 0.3),
        "ShearY": (0, 0.3),
        "TranslateX": (0, 150 / 331 * width),
        "TranslateY": (0, 150 / 331 * height),
        "Rotate": (0, 30),
        "Solarize": (1, 0),
    }.get(operator, (0, 0.9))
    size = float(torch.linspace(start, end, bins)[magnitude])
    return 255 * size if operator == "Solarize" else size


def _operator(name: str, size: float) -> Callable[[Tensor], Tensor]:
    functional = load_torchvision().transforms.v2.functional
    degrees = math.degrees(math.atan(size))
    still = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}

    def affine(**changes: object) -> Callable[[Tensor], Tensor]:
        return lambda x: functional.affine(x, **(still | changes))

    operators: dict[str, Callable[[Tensor], Tensor]] = {
        "ShearX": affine(shear=[degrees, 0.0], center=[0, 0]),
        "ShearY": affine(shear=[0.0, degrees], center=[0, 0]),
        "TranslateX": affine(translate=[int(size), 0]),
        "TranslateY": affine(translate=[0, int(size)]),
        "Rotate": lambda x: functional.rotate(x, size),
        "Brightness": lambda x: functional.adjust_brightness(x, 1 + size),
        "Color": lambda x: functional.adjust_saturation(x, 1 + size),
        "Contrast": lambda x: functional.adjust_contrast(x, 1 + size),
        "Sharpness": lambda x: functional.adjust_sharpness(x, 1 + size),
        "Posterize": lambda x: functional.posterize(x, int(size)),
        "Solarize": lambda x: functional.solarize(x, size),
        "AutoContrast": functional.autocontrast,
        "Equalize": functional.equalize,
        "Invert": functional.invert,
    }
    return operators[name]
