"""What chance does to images: crop, flip, AutoAugment, Cutout, colour jitter, batched, on the device, on bytes.

Nothing here draws: every function takes what `ace_ref.dataset.draw_epoch` drew. The order is that of the field's
CIFAR trainings: crop, flip, AutoAugment, Cutout, then (in `dataset`) normalisation. Operators are torchvision's.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ace_ref.vision import load_torchvision

CROPS = ("pad", "resized")

_MAGNITUDES = 10
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


def pad(pixels: Tensor, padding_px: int) -> Tensor:
    """Surround every image with black, which is zero before normalisation: uint8 (n, h + 2 p, w + 2 p, 3)."""
    return F.pad(pixels, (0, 0, padding_px, padding_px, padding_px, padding_px))


def gather(padded: Tensor, index: Tensor, top: Tensor, left: Tensor, flip: Tensor, *, side_px: int) -> Tensor:
    """Cut random crops out of padded images, and flip some: random crop and flip in one gather.

    Args:
        padded: uint8 (n, h + 2 p, w + 2 p, 3), see `pad`.
        index: images, int64 (batch,).
        top: first row of each crop, 0 .. 2 p, (batch,).
        left: first column of each crop, (batch,).
        flip: mirror horizontally, bool (batch,).
        side_px: height and width of a crop.

    Returns:
        uint8 (batch, side, side, 3).
    """
    along = torch.arange(side_px, device=padded.device)
    columns = torch.where(flip[:, None], side_px - 1 - along, along)
    return padded[index[:, None, None], (top[:, None] + along)[:, :, None], (left[:, None] + columns)[:, None, :]]


def resized_boxes(chance: NDArray[np.float64], height: int, width: int) -> NDArray[np.int64]:
    """Place the boxes of random resized crops: 8 % to 100 % of the area, sides 3:4 to 4:3, clipped to the image.

    Args:
        chance: uniform in 0 .. 1, (..., 4): area, ratio of the sides, vertical and horizontal position.
        height: of the images, in pixels.
        width: of the images, in pixels.

    Returns:
        Top, left, height, width in pixels, int64 (..., 4).
    """
    area = height * width * (0.08 + 0.92 * chance[..., 0])
    ratio = np.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * chance[..., 1])
    rows = np.clip(np.rint(np.sqrt(area / ratio)), 1, height)
    columns = np.clip(np.rint(np.sqrt(area * ratio)), 1, width)
    top = np.floor(chance[..., 2] * (height - rows + 1))
    left = np.floor(chance[..., 3] * (width - columns + 1))
    return np.stack([top, left, rows, columns], axis=-1).astype(np.int64)


def resized_crop(
    pixels: Tensor, boxes: list[list[int]], flip: list[bool], factors: list[list[float]], *, side_px: int
) -> Tensor:
    """Cut one box out of each image, resize it (antialiased, bilinear), flip some, change their colours.

    Args:
        pixels: uint8 (batch, height, width, 3).
        boxes: top, left, height, width in pixels, per image.
        flip: mirror horizontally, per image.
        factors: brightness, contrast, saturation, 1 for no change, per image.
        side_px: height and width of the result.

    Returns:
        uint8 (batch, side, side, 3).
    """
    functional = load_torchvision().transforms.v2.functional
    out = []
    for image, (top, left, height, width), mirrored, (brightness, contrast, saturation) in zip(
        pixels.permute(0, 3, 1, 2), boxes, flip, factors, strict=True
    ):
        crop = functional.resized_crop(image, top, left, height, width, [side_px, side_px], antialias=True)
        crop = functional.horizontal_flip(crop) if mirrored else crop
        crop = functional.adjust_brightness(crop, brightness) if brightness != 1 else crop
        crop = functional.adjust_contrast(crop, contrast) if contrast != 1 else crop
        out.append(functional.adjust_saturation(crop, saturation) if saturation != 1 else crop)
    return torch.stack(out).permute(0, 2, 3, 1)


def autoaugment(pixels: Tensor, pair: Tensor, chance: Tensor, negative: Tensor) -> Tensor:
    """Apply to each image its own pair of operators of `AUTOAUGMENT_CIFAR10`.

    Images that need the same operator with the same magnitude go through it together.

    Args:
        pixels: uint8 (batch, height, width, 3); left as they are.
        pair: which of the 25 pairs, int64 (batch,), on the CPU.
        chance: uniform in 0 .. 1, an operator applies below its probability, (batch, 2), on the CPU.
        negative: the other sign of its magnitude, bool (batch, 2), on the CPU.

    Returns:
        uint8 (batch, height, width, 3).
    """
    images = pixels.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
    for turn in range(2):
        together: dict[tuple[str, float], list[Tensor]] = {}
        for number, operators in enumerate(AUTOAUGMENT_CIFAR10):
            operator, probability, magnitude = operators[turn]
            chosen = (pair == number) & (chance[:, turn] < probability)
            for sign, own in ((1, chosen & ~negative[:, turn]), (-1, chosen & negative[:, turn])):
                size = _size(operator, magnitude, images.shape[3])
                key = operator, sign * size if operator in _SIGNED else size
                together.setdefault(key, []).append(own.nonzero()[:, 0])
        for (operator, size), parts in together.items():
            index = torch.cat(parts).to(images.device)
            if len(index):
                images[index] = _operator(operator, size)(images[index])
    return images.permute(0, 2, 3, 1).contiguous()


def _size(operator: str, magnitude: int | None, side_px: int) -> float:
    """Translate a magnitude, 0-9, into an operator's own unit."""
    if magnitude is None:
        return 0.0
    # torch's linspace, as torchvision has it: a size that differs in the last bit can round a pixel to the other side.
    start, end = {
        "Shear": (0, 0.3),
        "Trans": (0, 150 / 331 * side_px),
        "Rotat": (0, 30),
        "Poste": (8, 4),
        "Solar": (1, 0),
    }.get(operator[:5], (0, 0.9))
    size = float(torch.linspace(start, end, _MAGNITUDES)[magnitude])
    return {"Posterize": round(size), "Solarize": 255 * size}.get(operator, size)


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


def cutout(pixels: Tensor, row: Tensor, column: Tensor, *, side_px: int) -> Tensor:
    """Blacken a square of each image (DeVries and Taylor, 2017); at the border a part of it.

    Args:
        pixels: uint8 (batch, height, width, 3).
        row: of the square's centre, (batch,).
        column: of the square's centre, (batch,).
        side_px: of the square.
    """
    _, height, width, _ = pixels.shape

    def inside(centre: Tensor, length: int) -> Tensor:
        start = centre[:, None] - side_px // 2
        along = torch.arange(length, device=pixels.device)
        return (along >= start) & (along < start + side_px)

    square = inside(row, height)[:, :, None] & inside(column, width)[:, None, :]
    return pixels.masked_fill(square[..., None], 0)
