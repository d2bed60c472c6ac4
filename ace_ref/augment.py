"""What chance does to images, on bytes: crop, flip, Cutout, colour jitter.

Nothing here draws: every function takes what `ace_ref.draws` drew. The order is that of the field's CIFAR trainings:
crop, flip, policy (`ace_ref.policies`), Cutout, normalisation. Operators are torchvision's. On CUDA all but the policy
is one kernel (`ace_ref.kernels`), for which the functions here are the oracle.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ace_ref.vision import load_torchvision


def gather(pixels: Tensor, index: Tensor, top: Tensor, left: Tensor, flip: Tensor, *, padding_px: int) -> Tensor:
    """Cut random crops of full size out of images with a black border, and flip some, in one gather.

    The border is black, which is zero BEFORE normalisation, as torchvision's RandomCrop has it.

    Args:
        pixels: uint8 (n, h, w, 3).
        index: images, int64 (batch,).
        top: first row of each crop in the padded image, 0 .. 2 p, (batch,).
        left: first column, as `top`.
        flip: mirror horizontally, bool (batch,).
        padding_px: p, on every side.

    Returns:
        uint8 (batch, h, w, 3).
    """
    _, height, width, _ = pixels.shape
    along = torch.arange(width, device=pixels.device)
    rows = top[:, None] + torch.arange(height, device=pixels.device) - padding_px
    columns = left[:, None] + torch.where(flip[:, None], width - 1 - along, along) - padding_px
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    return pixels[index[:, None, None], rows[:, :, None], columns[:, None, :]].masked_fill(~inside[..., None], 0)


def windows(pixels: Tensor, padding_px: int) -> NDArray[np.uint8]:
    """View every crop of every padded image, and of its mirror image, on the CPU, as one array to index.

    A crop is then a copy of whole rows, so that numpy's indexing takes about a microsecond for one of 32 x 32 px, where
    `gather`, pixel by pixel, takes ten. It costs two padded copies of the set.

    Args:
        pixels: uint8 (n, h, w, 3), on the CPU.
        padding_px: p.

    Returns:
        uint8 (mirrored, n, 2 p + 1, 2 p + 1, h, w, 3): read only; see `cut`.
    """
    padded = np.pad(pixels.numpy(), ((0, 0), (padding_px, padding_px), (padding_px, padding_px), (0, 0)))
    both = np.stack([padded, padded[:, :, ::-1]])
    image, shifts = both.strides, 2 * padding_px + 1
    return np.lib.stride_tricks.as_strided(
        both,
        (2, len(pixels), shifts, shifts, *pixels.shape[1:]),
        (*image[:2], image[2], image[3], *image[2:]),
        writeable=False,
    )


def cut(views: NDArray[np.uint8], index: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Copy crops out of `windows`: what `gather` gives, arguments and all."""
    mirrored, shift = flip.numpy(), left.numpy()
    shift = np.where(mirrored, views.shape[3] - 1 - shift, shift)
    return torch.from_numpy(views[mirrored.astype(np.intp), index.numpy(), top.numpy(), shift])


def constants(
    mean: Sequence[float], std: Sequence[float], size_px: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Lay 255, mean and standard deviation, of values scaled to 0 .. 1, out for images of a size, for `normalise`.

    Returns:
        float32 (), (height x width x 3,), (height x width x 3,).
    """
    # By a Python 255 torch on CUDA does not divide, it multiplies by 1 / 255: other bits for 126 of the 256 bytes.
    whole, pixels = torch.full((), 255.0, device=device), size_px[0] * size_px[1]
    return whole, torch.tensor(mean, device=device).repeat(pixels), torch.tensor(std, device=device).repeat(pixels)


def normalise(pixels: Tensor, constants_: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Turn bytes (batch, h, w, 3) into normalised floats (batch, 3, h, w), channels last in memory.

    Each step is rounded as in torchvision. It goes through an image at a time, because loops over 3 channels are slow.
    """
    batch, height, width, _ = pixels.shape
    whole, mean, std = constants_
    values = pixels.reshape(batch, -1).float().div_(whole).sub_(mean).div_(std)
    return values.view(batch, height, width, 3).permute(0, 3, 1, 2)


def resized_boxes(
    chance: NDArray[np.float64], height: int | NDArray[np.int64], width: int | NDArray[np.int64]
) -> NDArray[np.int64]:
    """Place the boxes of random resized crops: 8 % to 100 % of the area, sides 3:4 to 4:3, clipped to the image.

    Args:
        chance: uniform in 0 .. 1, (..., 4): area, ratio of the sides, vertical and horizontal position.
        height: of the images, in pixels; one for all, or (...).
        width: as `height`.

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


def resized_crop(image: Tensor, box: Sequence[int], flip: bool, factors: Sequence[float], *, side_px: int) -> Tensor:
    """Cut a box out of an image, resize it (antialiased, bilinear), flip it or not, change its colours.

    Args:
        image: uint8 (height, width, 3).
        box: top, left, height, width in pixels.
        flip: mirror horizontally.
        factors: brightness, contrast, saturation, 1 for no change.
        side_px: height and width of the result.

    Returns:
        uint8 (side, side, 3).
    """
    functional = load_torchvision().transforms.v2.functional
    crop = functional.resized_crop(image.permute(2, 0, 1), *box, [side_px, side_px], antialias=True)
    crop = functional.horizontal_flip(crop) if flip else crop
    return jitter(crop, factors).permute(1, 2, 0)


def jitter(crop: Tensor, factors: Sequence[float]) -> Tensor:
    """Change brightness, contrast and saturation of an image, uint8 (3, height, width), by factors; 1 for no change."""
    functional = load_torchvision().transforms.v2.functional
    brightness, contrast, saturation = factors
    crop = functional.adjust_brightness(crop, brightness) if brightness != 1 else crop
    crop = functional.adjust_contrast(crop, contrast) if contrast != 1 else crop
    return functional.adjust_saturation(crop, saturation) if saturation != 1 else crop


def central_crop(pixels: Tensor, side_px: int) -> Tensor:
    """Cut the central square, or all that there is of it, out of images (batch, height, width, 3)."""
    _, height, width, _ = pixels.shape
    rows, columns = min(height, side_px), min(width, side_px)
    top, left = (height - rows) // 2, (width - columns) // 2
    return pixels[:, top : top + rows, left : left + columns]


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
