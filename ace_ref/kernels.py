"""From resident bytes to a normalised batch in one or two launches: Triton kernels, each with a plain torch oracle.

`crop` is for small images of one size: pad, crop, flip, Cutout. `resized_crop` is for photographs of any size:
antialiased resize of a box, flip, colour jitter. Both end with normalise, cast and layout. What always holds:

- Which row of the plan is used is read on the device, so one launch captured in a CUDA graph serves every step.
- An image comes out the same in any batch; nothing is drawn, nothing depends on the order of threads.
- Nothing on the device is checked by the host: an index, a box or a step outside its range reads foreign memory.

Importing needs no Triton; `available` says whether the kernels can run on a device. On the CPU they run only under
Triton's interpreter, for tests: ``TRITON_INTERPRET=1`` in the environment before anything imports triton. The first
call with new shapes compiles, so make one before capturing.

    out = torch.empty(128, 3, 32, 32, device="cuda", memory_format=torch.channels_last)
    kernels.crop(pixels, plan, step, mean, std, out, padding_px=4, cutout_px=0)  # uses plan[step]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ace_ref import augment

try:
    import triton
    import triton.language as tl

    _INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)  # triton.jit decides the same way, once
except ImportError:  # there are no wheels for macOS and Windows
    triton = None

_ROWS, _COLUMNS = 32, 32  # per program of `crop`: a column for each thread of its one warp
_PIXELS = 512  # per program of `resized_crop`


def _jit(kernel: Callable[..., Any]) -> Any:
    return kernel if triton is None else triton.jit(kernel)


def available(device: torch.device) -> bool:
    """Say whether the kernels can run on tensors of a device."""
    return triton is not None and (device.type == "cuda" or bool(_INTERPRETED.value))


def crop(
    pixels: Tensor,
    plan: Tensor,
    step: Tensor,
    mean: Tensor,
    std: Tensor,
    out: Tensor,
    *,
    padding_px: int,
    cutout_px: int,
) -> None:
    """Write one step's batch into `out`: random crop of the padded image, flip, Cutout, normalise, cast.

    Equals `crop_reference` bit for bit: its float32 divisions are IEEE's.

    Args:
        pixels: uint8 (n, height, width, 3), contiguous, not padded.
        plan: int32 (steps, batch, 6), contiguous: image, top, left (0 .. 2 `padding_px`), flip (0 or 1), row and column
            of the square's centre in the output.
        step: row of the plan, int64 (1,), on the device.
        mean: float32 (3,), of values scaled to 0 .. 1.
        std: float32 (3,), positive.
        out: float32 or bfloat16 (batch, 3, height, width), contiguous, channels last or of any other strides.
        padding_px: black added on every side; black is zero before normalisation.
        cutout_px: side of the square blackened, 0 for none.

    Raises:
        RuntimeError: Triton is missing, or the tensors are on the CPU and not interpreted.
        ValueError: a shape, type or layout is another.
    """
    batch, _, height, width = out.shape
    _check(
        out, step, mean, std, (out, out.dtype, (batch, 3, height, width)),
        (pixels, torch.uint8, (-1, height, width, 3)), (plan, torch.int32, (-1, batch, 6)),
    )  # fmt: skip
    interleaved = out.stride(1) == 1
    columns = triton.cdiv(width * 3, _COLUMNS) if interleaved else triton.cdiv(width, _COLUMNS) * 3
    with torch.cuda.device_of(out):
        _crop[batch, triton.cdiv(height, _ROWS), columns](
            pixels, plan, step, mean, std, out, *out.stride(), batch, height, width,
            padding_px, cutout_px, interleaved, _ROWS, _COLUMNS, num_warps=1,
        )  # fmt: skip


def crop_reference(
    pixels: Tensor,
    plan: Tensor,
    step: Tensor,
    mean: Tensor,
    std: Tensor,
    out: Tensor,
    *,
    padding_px: int,
    cutout_px: int,
) -> None:
    """Do what `crop` does, in plain torch; for its arguments see there."""
    height, width = out.shape[2:]
    index, top, left, flip, row, column = plan[int(step)].long().unbind(dim=1)
    y, x = torch.arange(height, device=out.device), torch.arange(width, device=out.device)
    x = torch.where(flip[:, None] == 1, width - 1 - x, x)
    padded = F.pad(pixels, (0, 0, padding_px, padding_px, padding_px, padding_px))
    crops = padded[index[:, None, None], (top[:, None] + y)[:, :, None], (left[:, None] + x)[:, None, :]]
    if cutout_px:
        crops = augment.cutout(crops, row, column, side_px=cutout_px)
    out.copy_(_normalise(crops, mean, std))


def resized_crop(
    flat: Tensor,
    offset: Tensor,
    size: Tensor,
    plan: Tensor,
    factors: Tensor,
    step: Tensor,
    mean: Tensor,
    std: Tensor,
    out: Tensor,
) -> None:
    """Write one step's batch into `out`: resize a box, flip, jitter the colours, normalise, cast.

    The resize is torch's antialiased bilinear one in float32, rounded to bytes, as torchvision does it on a GPU;
    torchvision on a CPU rounds after each of its two passes. Brightness, contrast and saturation, in this order, are
    torchvision's on bytes. Two launches: contrast needs the mean grey of the whole crop.

    Args:
        flat: the images' bytes, each (height, width, 3), one after the other, uint8 (bytes,).
        offset: of each image's first byte, int64 (n,).
        size: height and width of each image, int32 (n, 2).
        plan: int32 (steps, batch, 6), contiguous: image, top, left, height, width of the box in pixels, flip (0 or 1).
        factors: brightness, contrast, saturation, 1 for no change, not negative, float32 (steps, batch, 3), contiguous.
        step: row of the plan, int64 (1,), on the device.
        mean: float32 (3,), of values scaled to 0 .. 1.
        std: float32 (3,), positive.
        out: float32 or bfloat16 (batch, 3, side, side), any strides.

    Raises:
        RuntimeError: Triton is missing, or the tensors are on the CPU and not interpreted.
        ValueError: a shape, type or layout is another.
    """
    batch, _, side, _ = out.shape
    n = len(offset)
    _check(
        out, step, mean, std, (out, out.dtype, (batch, 3, side, side)), (flat, torch.uint8, (flat.numel(),)),
        (offset, torch.int64, (n,)), (size, torch.int32, (n, 2)),
        (plan, torch.int32, (-1, batch, 6)), (factors, torch.float32, (len(plan), batch, 3)),
    )  # fmt: skip
    crops = torch.empty((batch, side, side, 3), dtype=torch.uint8, device=out.device)
    grey = torch.zeros(batch, dtype=torch.int64, device=out.device)
    blocks = triton.cdiv(side * side, _PIXELS)
    with torch.cuda.device_of(out):
        _resize[batch, blocks](flat, offset, size, plan, factors, step, crops, grey, batch, side, _PIXELS)
        _colour[batch, blocks](crops, grey, factors, step, mean, std, out, *out.stride(), batch, side, _PIXELS)


def resized_crop_reference(
    flat: Tensor,
    offset: Tensor,
    size: Tensor,
    plan: Tensor,
    factors: Tensor,
    step: Tensor,
    mean: Tensor,
    std: Tensor,
    out: Tensor,
) -> None:
    """Do what `resized_crop` does, with torchvision, image by image; for its arguments see there."""
    crops = []
    for (index, *box, flip), factor in zip(plan[int(step)].tolist(), factors[int(step)].tolist(), strict=True):
        start, (height, width) = int(offset[index]), size[index].tolist()
        image = flat[start : start + height * width * 3].view(height, width, 3)
        crops.append(augment.resized_crop(image, box, flip == 1, factor, side_px=out.shape[2]))
    out.copy_(_normalise(torch.stack(crops), mean, std))


def _check(
    out: Tensor, step: Tensor, mean: Tensor, std: Tensor, *others: tuple[Tensor, torch.dtype, tuple[int, ...]]
) -> None:
    """Refuse what the kernels would read wrongly; -1 in a shape is any length. Nothing here waits for the device."""
    if triton is None:
        raise RuntimeError("the kernels need Triton: pip install triton")
    if not available(out.device):
        raise RuntimeError("the kernels run on the CPU only with TRITON_INTERPRET=1 set before triton is imported")
    if out.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"out must be float32 or bfloat16, not {out.dtype}")
    constants = [(step, torch.int64, (1,)), (mean, torch.float32, (3,)), (std, torch.float32, (3,))]
    for tensor, dtype, shape in (*constants, *others):
        shaped = tensor.ndim == len(shape) and all(b in (-1, a) for a, b in zip(tensor.shape, shape, strict=True))
        if tensor.dtype != dtype or not shaped or tensor.device != out.device:
            raise ValueError(f"expected {dtype} {shape} on {out.device}, got {tensor.dtype} {tuple(tensor.shape)}"
                             f" on {tensor.device}")  # fmt: skip
        if tensor is not out and not tensor.is_contiguous():
            raise ValueError(f"{dtype} {shape} must be contiguous")


def _normalise(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Turn bytes (batch, h, w, 3) into normalised float32 (batch, 3, h, w), with IEEE's division on any device."""
    # By a Python 255 torch divides truly on the CPU, but on CUDA it multiplies by 1 / 255: other bits for 126 bytes.
    scaled = pixels.permute(0, 3, 1, 2).float() / torch.full((), 255.0, device=pixels.device)
    return scaled.sub(mean.view(1, 3, 1, 1)).div(std.view(1, 3, 1, 1))


@_jit
def _fused(x: tl.tensor, y: tl.tensor, z: tl.tensor) -> tl.tensor:
    """Compute x * y + z in float32 with one rounding; Triton's interpreter would round twice."""
    if _INTERPRETED:
        return (x.to(tl.float64) * y.to(tl.float64) + z.to(tl.float64)).to(tl.float32)
    return tl.fma(x, y, z)


@_jit
def _normalised(level: tl.tensor, mean: tl.tensor, std: tl.tensor) -> tl.tensor:
    """Compute (level / 255 - mean) / std in float32 as IEEE rounds it, for levels 0 .. 255.

    It divides once per std, not once per value: a division is a dozen instructions and a branch, a third of `_crop`.
    """
    # 1 / 255 = 1 / 256 + 1 / 65280: the first product is exact, so the sum is level / 255 correctly rounded, for each
    # of the 256 levels, whether or not the compiler fuses it (a test tries all).
    centred = (level * 0.00390625 + level * 1.5318628356908448e-05) - mean
    # Markstein: a quotient off by at most one place, its exact remainder and the correctly rounded inverse give the
    # correctly rounded quotient. The first round is for the "at most one".
    inverse = tl.div_rn(1.0, std)
    quotient = centred * inverse
    quotient = _fused(_fused(quotient, 0.0 - std, centred), inverse, quotient)
    return _fused(_fused(quotient, 0.0 - std, centred), inverse, quotient)


@_jit
def _of_channel(constants: tl.tensor, channel: tl.tensor) -> tl.tensor:
    """Look up a constant without a load for each value."""
    last = tl.where(channel == 1, tl.load(constants + 1), tl.load(constants + 2))
    return tl.where(channel == 0, tl.load(constants), last)


@_jit
def _crop(
    pixels: tl.tensor,
    plan: tl.tensor,
    step: tl.tensor,
    mean: tl.tensor,
    std: tl.tensor,
    out: tl.tensor,
    stride_sample: tl.tensor,
    stride_channel: tl.tensor,
    stride_y: tl.tensor,
    stride_x: tl.tensor,
    batch: tl.tensor,
    height: tl.constexpr,
    width: tl.constexpr,
    padding_px: tl.constexpr,
    cutout_px: tl.constexpr,
    interleaved: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
) -> None:
    """Write a tile of one image: some rows of some columns, which are x and channel where `out` is channels last."""
    sample = tl.program_id(0)
    draw = plan + (tl.load(step) * batch + sample) * 6
    image = pixels + tl.load(draw).to(tl.int64) * (height * width * 3)
    top = tl.load(draw + 1) - padding_px
    left = tl.load(draw + 2) - padding_px
    flip = tl.load(draw + 3)

    # A tile in one axis: in two, Triton 3.6 and 3.7 lay neighbouring threads along different ones, when neither is
    # known to have neighbouring bytes. A thread keeps its column, so what depends on it is computed once.
    at = tl.arange(0, block_rows * block_columns)
    y = tl.program_id(1) * block_rows + at // block_columns
    if interleaved:
        column = tl.program_id(2) * block_columns + at % block_columns
        x = column // 3
        channel = column % 3
    else:
        blocks = (width + block_columns - 1) // block_columns
        x = tl.program_id(2) % blocks * block_columns + at % block_columns
        channel = tl.program_id(2) // blocks
    source_y = top + y
    source_x = left + tl.where(flip != 0, width - 1 - x, x)
    inside = (y < height) & (x < width)
    lit = inside & (source_y >= 0) & (source_y < height) & (source_x >= 0) & (source_x < width)
    if cutout_px > 0:
        cut_y = y - (tl.load(draw + 4) - cutout_px // 2)
        cut_x = x - (tl.load(draw + 5) - cutout_px // 2)
        lit = lit & ~((cut_y >= 0) & (cut_y < cutout_px) & (cut_x >= 0) & (cut_x < cutout_px))

    level = tl.load(image + (source_y * (width * 3) + (source_x * 3 + channel)), mask=lit, other=0).to(tl.float32)
    value = _normalised(level, _of_channel(mean, channel), _of_channel(std, channel))
    target = out + sample.to(tl.int64) * stride_sample + (y * stride_y + (x * stride_x + channel * stride_channel))
    tl.store(target, value.to(out.dtype.element_ty), mask=inside)


@_jit
def _triangle(tap: tl.tensor, end: tl.tensor, centre: tl.tensor, inverse: tl.tensor) -> tl.tensor:
    """Weigh a pixel by its distance from an output pixel's centre, before the weights' sum is made 1."""
    weight = 1.0 - tl.abs((tap.to(tl.float32) - centre + 0.5) * inverse)
    return tl.where(tap < end, tl.maximum(weight, 0.0), 0.0)


@_jit
def _grey(red: tl.tensor, green: tl.tensor, blue: tl.tensor) -> tl.tensor:
    """Compute torchvision's grey of bytes, floored, as int32; torch fuses these additions on either device."""
    grey = _fused(green, tl.full((), 0.587, tl.float32), red * 0.2989)
    return _fused(blue, tl.full((), 0.114, tl.float32), grey).to(tl.int32)


@_jit
def _blended(level: tl.tensor, other: tl.tensor, factor: tl.tensor) -> tl.tensor:
    """Mix a byte with another value as torchvision does, and cut the result to a byte, as float32."""
    mixed = _fused(other, 1.0 - factor, level * factor)
    return tl.minimum(tl.maximum(mixed, 0.0), 255.0).to(tl.int32).to(tl.float32)


@_jit
def _brightened(level: tl.tensor, factor: tl.tensor) -> tl.tensor:
    """Round a resized value to a byte, half to even, and brighten it, as float32."""
    # 1.5 * 2^23, where neighbours are 1 apart: libdevice's rint is not interpreted.
    rounded = (level + 12582912.0) - 12582912.0
    return tl.minimum(rounded * factor, 255.0).to(tl.int32).to(tl.float32)


@_jit
def _resize(
    flat: tl.tensor,
    offset: tl.tensor,
    size: tl.tensor,
    plan: tl.tensor,
    factors: tl.tensor,
    step: tl.tensor,
    crops: tl.tensor,
    grey: tl.tensor,
    batch: tl.tensor,
    side: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Write some pixels of one resized, flipped, brightened crop, bytes (side, side, 3), and add up its grey.

    The weights are those of torch's interpolate(antialias=True): a triangle as wide as the shrinking factor, at least
    1, cut off at the box and summing to 1. Their number comes from the box itself, so any factor is right.
    """
    sample = tl.program_id(0)
    at = tl.load(step) * batch + sample
    draw = plan + at * 6
    index = tl.load(draw).to(tl.int64)
    box_rows = tl.load(draw + 3)
    box_columns = tl.load(draw + 4)
    flip = tl.load(draw + 5)
    pitch = tl.load(size + index * 2 + 1) * 3
    box = flat + tl.load(offset + index) + (tl.load(draw + 1).to(tl.int64) * pitch + tl.load(draw + 2) * 3)

    pixel = tl.program_id(1) * block + tl.arange(0, block)
    inside = pixel < side * side
    y = tl.minimum(pixel // side, side - 1)  # below the crop there would be no weights to divide by
    x = pixel % side
    x = tl.where(flip != 0, side - 1 - x, x)

    scale_y = tl.div_rn(box_rows.to(tl.float32), side * 1.0)
    support_y = tl.maximum(scale_y, 1.0)
    inverse_y = tl.div_rn(1.0, support_y)
    centre_y = (y.to(tl.float32) + 0.5) * scale_y
    first_y = tl.maximum((centre_y - support_y + 0.5).to(tl.int32), 0)
    end_y = tl.minimum((centre_y + support_y + 0.5).to(tl.int32), box_rows)
    taps_y = tl.ceil(support_y * 2.0).to(tl.int32)

    scale_x = tl.div_rn(box_columns.to(tl.float32), side * 1.0)
    support_x = tl.maximum(scale_x, 1.0)
    inverse_x = tl.div_rn(1.0, support_x)
    centre_x = (x.to(tl.float32) + 0.5) * scale_x
    first_x = tl.maximum((centre_x - support_x + 0.5).to(tl.int32), 0)
    end_x = tl.minimum((centre_x + support_x + 0.5).to(tl.int32), box_columns)
    taps_x = tl.ceil(support_x * 2.0).to(tl.int32)

    total_y = tl.full((block,), 0.0, tl.float32)
    for tap in range(taps_y):
        total_y += _triangle(first_y + tap, end_y, centre_y, inverse_y)
    total_x = tl.full((block,), 0.0, tl.float32)
    for tap in range(taps_x):
        total_x += _triangle(first_x + tap, end_x, centre_x, inverse_x)
    inverse_total_y = tl.div_rn(1.0, total_y)
    inverse_total_x = tl.div_rn(1.0, total_x)

    red = tl.full((block,), 0.0, tl.float32)
    green = tl.full((block,), 0.0, tl.float32)
    blue = tl.full((block,), 0.0, tl.float32)
    for tap_y in range(taps_y):
        source_y = first_y + tap_y
        weight_y = _triangle(source_y, end_y, centre_y, inverse_y) * inverse_total_y
        row_red = tl.full((block,), 0.0, tl.float32)
        row_green = tl.full((block,), 0.0, tl.float32)
        row_blue = tl.full((block,), 0.0, tl.float32)
        for tap_x in range(taps_x):
            source_x = first_x + tap_x
            weight_x = _triangle(source_x, end_x, centre_x, inverse_x) * inverse_total_x
            source = box + (source_y * pitch + source_x * 3)
            lit = inside & (source_y < end_y) & (source_x < end_x)
            row_red += weight_x * tl.load(source, mask=lit, other=0).to(tl.float32)
            row_green += weight_x * tl.load(source + 1, mask=lit, other=0).to(tl.float32)
            row_blue += weight_x * tl.load(source + 2, mask=lit, other=0).to(tl.float32)
        red += weight_y * row_red
        green += weight_y * row_green
        blue += weight_y * row_blue

    brightness = tl.load(factors + at * 3)
    red = _brightened(red, brightness)
    green = _brightened(green, brightness)
    blue = _brightened(blue, brightness)
    target = crops + sample.to(tl.int64) * (side * side * 3) + pixel * 3
    tl.store(target, red.to(tl.int32).to(tl.uint8), mask=inside)
    tl.store(target + 1, green.to(tl.int32).to(tl.uint8), mask=inside)
    tl.store(target + 2, blue.to(tl.int32).to(tl.uint8), mask=inside)
    # Integers, so that the sum does not depend on the order in which the tiles add to it.
    tile = tl.sum(tl.where(inside, _grey(red, green, blue), 0))
    tl.atomic_add(grey + sample, tile.to(tl.int64), sem="relaxed")


@_jit
def _colour(
    crops: tl.tensor,
    grey: tl.tensor,
    factors: tl.tensor,
    step: tl.tensor,
    mean: tl.tensor,
    std: tl.tensor,
    out: tl.tensor,
    stride_sample: tl.tensor,
    stride_channel: tl.tensor,
    stride_y: tl.tensor,
    stride_x: tl.tensor,
    batch: tl.tensor,
    side: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Change contrast and saturation of some pixels of one crop, and normalise them."""
    sample = tl.program_id(0)
    factor = factors + (tl.load(step) * batch + sample) * 3
    contrast = tl.load(factor + 1)
    saturation = tl.load(factor + 2)
    average = tl.div_rn(tl.load(grey + sample).to(tl.float32), side * side * 1.0)

    pixel = tl.program_id(1) * block + tl.arange(0, block)
    inside = pixel < side * side
    source = crops + sample.to(tl.int64) * (side * side * 3) + pixel * 3
    red = tl.load(source, mask=inside, other=0).to(tl.float32)
    green = tl.load(source + 1, mask=inside, other=0).to(tl.float32)
    blue = tl.load(source + 2, mask=inside, other=0).to(tl.float32)
    red = _blended(red, average, contrast)
    green = _blended(green, average, contrast)
    blue = _blended(blue, average, contrast)
    dull = _grey(red, green, blue).to(tl.float32)
    red = _normalised(_blended(red, dull, saturation), tl.load(mean), tl.load(std))
    green = _normalised(_blended(green, dull, saturation), tl.load(mean + 1), tl.load(std + 1))
    blue = _normalised(_blended(blue, dull, saturation), tl.load(mean + 2), tl.load(std + 2))

    target = out + sample.to(tl.int64) * stride_sample + ((pixel // side) * stride_y + (pixel % side) * stride_x)
    tl.store(target, red.to(out.dtype.element_ty), mask=inside)
    tl.store(target + stride_channel, green.to(out.dtype.element_ty), mask=inside)
    tl.store(target + 2 * stride_channel, blue.to(out.dtype.element_ty), mask=inside)
