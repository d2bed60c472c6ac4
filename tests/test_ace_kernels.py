"""The fused kernels equal plain torch, whatever the draw, the layout and the type.

Triton decides once, when it is first imported, whether it compiles or interprets. So these tests run on a device as
they are; on the CPU, one of them runs the others under Triton's interpreter in a process of its own.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from ace_ref import kernels

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BATCH = 6 if DEVICE.type == "cpu" else 500

needs_triton = pytest.mark.skipif(kernels.triton is None, reason="Triton is not installed")
runs = pytest.mark.skipif(not kernels.available(DEVICE), reason="no CUDA device, and not under Triton's interpreter")
compiles = pytest.mark.skipif(kernels.triton is None or INTERPRETED, reason="needs Triton, not interpreting")
needs_cuda = pytest.mark.skipif(DEVICE.type != "cuda", reason="no CUDA device")
loops = pytest.mark.skipif(
    INTERPRETED and kernels.triton is not None and kernels.triton.__version__.startswith("3.6"),
    reason="with NumPy 2 the interpreter of Triton 3.6 cannot count to a number that it loaded",
)

MEAN, STD = torch.tensor([0.4914, 0.4822, 0.4465], device=DEVICE), torch.tensor([0.2023, 0.1994, 0.201], device=DEVICE)
ZERO, ONE = torch.zeros(3, device=DEVICE), torch.ones(3, device=DEVICE)


@compiles
def test_the_interpreter_passes_the_tests_of_this_file():
    """Run those that a CPU can run; the failures are in the output."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "not under Triton's interpreter" not in done.stdout  # they did run


def random_bytes(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def empty(batch, height, width, dtype, layout):
    """Make an output full of what no kernel writes; ``strided`` is a part of something larger."""
    if layout == "strided":
        return torch.full((batch, 4, height + 1, width + 2), 9.0, dtype=dtype, device=DEVICE)[:, :3, 1:, :width]
    return torch.full((batch, 3, height, width), 9.0, dtype=dtype, device=DEVICE).to(
        memory_format=torch.channels_last if layout == "channels_last" else torch.contiguous_format
    )


def as_stored(values, dtype):
    """Round float32 as the kernel's store does: Triton's interpreter cuts where the hardware rounds to nearest."""
    if INTERPRETED and dtype == torch.bfloat16:
        values = (values.contiguous().view(torch.int32) & -65536).view(torch.float32)
    return values.to(dtype)


def plan_of(n, height, width, padding_px, *, batch=BATCH, steps=3, seed=0):
    """Draw a plan; its first images are at the crops' and the squares' corners, flipped and not."""
    rng = torch.Generator().manual_seed(seed)
    highs = (n, 2 * padding_px + 1, 2 * padding_px + 1, 2, height, width)
    plan = torch.stack([torch.randint(0, high, (steps, batch), generator=rng) for high in highs], dim=-1)
    far = 2 * padding_px
    corners = [
        [0, 0, 0, 0, 0, 0], [1, far, far, 1, height - 1, width - 1], [2, 0, far, 0, 0, width - 1],
        [3, far, 0, 1, height - 1, 0], [4, padding_px, padding_px, 1, height // 2, width // 2],
    ]  # fmt: skip
    plan[:, : len(corners)] = torch.tensor(corners)
    return plan.int().to(DEVICE)


def step_at(row):
    return torch.tensor([row], device=DEVICE)


def cropped(function, pixels, plan, step, dtype, layout, *, mean=MEAN, std=STD, **sizes):
    out = empty(plan.shape[1], *pixels.shape[1:3], dtype, layout)
    function(pixels, plan, step, mean, std, out, **sizes)
    return out


@runs
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("height", "width", "padding_px", "cutout_px"),
    [(32, 32, 4, 0), (28, 28, 2, 7), (20, 35, 4, 8), (33, 3, 0, 40)],
)
def test_crop_equals_plain_torch_bit_for_bit(height, width, padding_px, cutout_px, dtype, layout):
    pixels, plan = random_bytes(9, height, width, 3), plan_of(9, height, width, padding_px)
    sizes = {"padding_px": padding_px, "cutout_px": cutout_px}
    found = cropped(kernels.crop, pixels, plan, step_at(1), dtype, layout, **sizes)
    expected = cropped(kernels.crop_reference, pixels, plan, step_at(1), torch.float32, layout, **sizes)
    assert torch.equal(found, as_stored(expected, dtype))


@runs
def test_crop_writes_nothing_but_its_own():
    whole = torch.full((BATCH, 4, 34, 36), 9.0, device=DEVICE)
    kernels.crop(
        random_bytes(9, 32, 32, 3), plan_of(9, 32, 32, 4), step_at(0), MEAN, STD, whole[:, :3, 1:33, 2:34],
        padding_px=4, cutout_px=0,
    )  # fmt: skip
    whole[:, :3, 1:33, 2:34] = 9.0
    assert (whole == 9.0).all()


@runs
@pytest.mark.parametrize("seed", range(3))
def test_crop_divides_as_ieee_does(seed):
    """All 256 levels, divided by constants that no one chose; the expected values come from float64."""
    rng = torch.Generator().manual_seed(seed)
    mean, std = torch.rand(3, generator=rng), torch.rand(3, generator=rng) + 1e-3
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).repeat(1, 1, 1, 3)
    plan = torch.zeros(1, 1, 6, dtype=torch.int32)
    out = empty(1, 16, 16, torch.float32, "contiguous")
    kernels.crop(
        *(part.to(DEVICE) for part in (pixels, plan, torch.zeros(1, dtype=torch.int64), mean, std)), out,
        padding_px=0, cutout_px=0,
    )  # fmt: skip
    scaled = (torch.arange(256, dtype=torch.float64) / 255).float()
    centred = (scaled.double() - mean[:, None].double()).float()
    assert torch.equal(out.cpu().view(3, 256), (centred.double() / std[:, None].double()).float())


def test_a_level_in_two_products_is_its_255th_fused_or_not():
    level = torch.arange(256, dtype=torch.float32)
    first, small = level * 0.00390625, torch.tensor(1.5318628356908448e-05)
    assert small.double() == 1.5318628356908448e-05
    assert torch.equal(first + level * small, level / 255)
    assert torch.equal((first.double() + level.double() * small.double()).float(), level / 255)


@runs
def test_every_step_reads_its_own_row_of_the_plan():
    pixels, plan = random_bytes(9, 16, 16, 3), plan_of(9, 16, 16, 2)
    sizes = {"padding_px": 2, "cutout_px": 0}
    rows = [cropped(kernels.crop, pixels, plan, step_at(row), torch.float32, "contiguous", **sizes) for row in range(3)]
    for row, found in enumerate(rows):
        expected = cropped(kernels.crop, pixels, plan[row : row + 1], step_at(0), torch.float32, "contiguous", **sizes)
        assert torch.equal(found, expected)
    assert not torch.equal(rows[0], rows[1])


def test_the_plain_crop_is_torchvisions(torchvision):
    functional = torchvision.transforms.v2.functional
    pixels, plan = random_bytes(9, 12, 14, 3), plan_of(9, 12, 14, 3, batch=20, steps=1)
    found = cropped(
        kernels.crop_reference, pixels, plan, step_at(0), torch.float32, "contiguous", padding_px=3, cutout_px=0
    )
    for image, (index, top, left, flip, _, _) in zip(found, plan[0].tolist(), strict=True):
        padded = functional.pad(pixels[index].permute(2, 0, 1), [3])
        crop = functional.crop(padded, top, left, 12, 14)
        crop = functional.horizontal_flip(crop) if flip else crop
        scaled = crop.float() / torch.tensor(255.0, device=DEVICE)
        assert torch.equal(image, functional.normalize(scaled, MEAN.tolist(), STD.tolist()))


# Photographs: image, box, flip. One of one pixel, long ones, and enough for every kind of factor at a side of 20 px.
SIZES = [(40, 60), (50, 33), (1, 1), (7, 90), (20, 20), (1, 30)]
BOXES = [
    (0, 0, 0, 40, 60, 0),  # all of it, shrunk
    (0, 3, 5, 21, 30, 1),  # a little smaller, flipped
    (1, 10, 3, 40, 30, 1),  # to the lower right corner
    (2, 0, 0, 1, 1, 1),  # all of one pixel
    (3, 0, 0, 7, 90, 1),  # enlarged along y, shrunk 4.5-fold along x
    (3, 6, 89, 1, 1, 0),  # one pixel in a corner
    (0, 1, 2, 10, 10, 0),  # enlarged 2-fold: half of the values lie half-way between two levels
    (0, 0, 20, 40, 40, 1),  # shrunk 2-fold
    (4, 0, 0, 20, 20, 0),  # as it is
    (5, 0, 0, 1, 30, 1),  # one row
]
FACTORS = [(0.6, 1.4, 1.3), (1.4, 0.6, 0.7), (1, 1, 1), (1.2, 1, 1), (1, 0.8, 1), (1, 1, 1.25), (2.5, 0, 0), (0, 2, 3)]


def photographs():
    """Make images of smooth and of noisy parts, one after the other, with something before and after."""
    images = []
    for number, (height, width) in enumerate(SIZES):
        coarse = random_bytes(4, 4, 3, seed=number).permute(2, 0, 1)[None].float()
        smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")[0].permute(1, 2, 0)
        noisy = random_bytes(height, width, 3, seed=number + 50)
        images.append(torch.where(torch.arange(width, device=DEVICE)[:, None] < width // 2, smooth.byte(), noisy))
    padding = random_bytes(7, seed=99)
    flat = torch.cat([padding, *(image.flatten() for image in images), padding])
    offset = torch.tensor([0] + [height * width * 3 for height, width in SIZES[:-1]], device=DEVICE).cumsum(0) + 7
    return images, flat, offset, torch.tensor(SIZES, dtype=torch.int32, device=DEVICE)


def resized(function, factors, *, side=20, dtype=torch.float32, layout="contiguous", mean=ZERO, std=ONE, boxes=BOXES):
    """Resize all boxes at the second step of a plan whose first step is another."""
    _, flat, offset, size = photographs()
    other = [(4, 5, 5, 3, 3, 0)] * len(boxes)
    plan = torch.tensor([other, boxes], dtype=torch.int32, device=DEVICE)
    table = torch.tensor([[(0.1, 0.2, 0.3)] * len(boxes), factors], dtype=torch.float32, device=DEVICE)
    out = empty(len(boxes), side, side, dtype, layout)
    function(flat, offset, size, plan, table, step_at(1), mean, std, out)
    return out


def levels(out):
    assert ((out * 255) - (out * 255).round()).abs().max() < 1e-4
    return (out * 255).round()


@runs
@loops
@pytest.mark.parametrize("side", [20, 23])
def test_a_resize_is_torchs_antialiased_one_rounded_once(side):
    images, _, _, _ = photographs()
    found = levels(resized(kernels.resized_crop, [(1, 1, 1)] * len(BOXES), side=side))
    for crop, (index, top, left, rows, columns, flip) in zip(found, BOXES, strict=True):
        box = images[index][top : top + rows, left : left + columns].permute(2, 0, 1)[None].float()
        exact = F.interpolate(box, size=(side, side), mode="bilinear", antialias=True, align_corners=False)[0]
        exact = exact.flip(2) if flip else exact
        assert (crop - exact).abs().max() <= 0.5 + 1e-4, (index, top, left, rows, columns, flip)


@runs
@loops
def test_a_resize_is_torchvisions_to_one_level(torchvision):
    """Torchvision rounds after each of its two passes on a CPU, and once on a GPU, as the kernel does."""
    plain = [(1, 1, 1)] * len(BOXES)
    found, expected = (levels(resized(f, plain)) for f in (kernels.resized_crop, kernels.resized_crop_reference))
    apart = (found - expected).abs()
    assert apart.max() <= 1
    assert apart.mean() < 0.15
    assert apart[[3, 5, 8]].max() == 0  # nothing to round


@runs
@loops
def test_colours_are_torchvisions_to_the_bit(torchvision):
    """Torchvision's functions are given the kernel's own resized bytes."""
    functional = torchvision.transforms.v2.functional
    boxes = [BOXES[number % len(BOXES)] for number in range(len(FACTORS))]
    before = levels(resized(kernels.resized_crop, [(1, 1, 1)] * len(boxes), boxes=boxes)).byte()
    found = levels(resized(kernels.resized_crop, FACTORS, boxes=boxes))
    for number, (crop, (brightness, contrast, saturation)) in enumerate(zip(before, FACTORS, strict=True)):
        # What float32 makes of a factor, as the table holds it.
        brightness, contrast, saturation = torch.tensor([brightness, contrast, saturation]).tolist()
        crop = functional.adjust_contrast(functional.adjust_brightness(crop, brightness), contrast)
        crop = functional.adjust_saturation(crop, saturation)
        assert torch.equal(crop.float(), found[number]), FACTORS[number]


@runs
@loops
@pytest.mark.parametrize("layout", ["channels_last", "strided"])
def test_a_resized_crop_is_normalised_cast_and_laid_out(layout):
    factors, boxes = FACTORS[:3], BOXES[:3]
    bytes_ = levels(resized(kernels.resized_crop, factors, boxes=boxes)).byte()
    found = resized(kernels.resized_crop, factors, boxes=boxes, dtype=torch.bfloat16, layout=layout, mean=MEAN, std=STD)
    scaled = bytes_.float() / torch.tensor(255.0, device=DEVICE)
    expected = (scaled - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
    assert torch.equal(found, as_stored(expected, torch.bfloat16))


def arguments():
    pixels, plan, out = random_bytes(5, 8, 8, 3), plan_of(5, 8, 8, 1, batch=5), empty(5, 8, 8, torch.float32, "")
    return {"pixels": pixels, "plan": plan, "step": step_at(0), "mean": MEAN, "std": STD, "out": out}


@runs
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("pixels", lambda x: x.float()),
        ("pixels", lambda x: x[:, :7]),
        ("pixels", lambda x: x.permute(0, 2, 1, 3)),
        ("plan", lambda x: x.long()),
        ("plan", lambda x: x[:, :4]),
        ("step", lambda x: x.int()),
        ("step", lambda x: x[0]),
        ("mean", lambda x: x.double()),
        ("std", lambda x: x[:2]),
        ("out", lambda x: x.half()),
        ("out", lambda x: x[:, :2]),
    ],
)
def test_what_a_kernel_would_misread_is_refused(name, change):
    given = arguments()
    kernels.crop(**given, padding_px=1, cutout_px=0)
    given[name] = change(given[name])
    with pytest.raises(ValueError, match=r"expected|must be"):
        kernels.crop(**given, padding_px=1, cutout_px=0)


@compiles
@pytest.mark.skipif(DEVICE.type == "cuda", reason="there is a CUDA device")
def test_without_a_device_and_the_interpreter_the_kernels_say_so():
    assert not kernels.available(torch.device("cpu"))
    assert kernels.available(torch.device("cuda"))
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET=1"):
        kernels.crop(**arguments(), padding_px=1, cutout_px=0)


def test_without_triton_the_module_still_imports(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    spec = importlib.util.spec_from_file_location("kernels_without_triton", kernels.__file__)
    bare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bare)
    assert not bare.available(torch.device("cuda"))
    with pytest.raises(RuntimeError, match="pip install triton"):
        bare.crop(**arguments(), padding_px=1, cutout_px=0)
    bare.crop_reference(**arguments(), padding_px=1, cutout_px=0)


IMAGE = {"stride_sample": "i32", "stride_channel": "i32", "stride_y": "i32", "stride_x": "i32", "batch": "i32"}
TABLES = {"plan": "*i32", "step": "*i64", "mean": "*fp32", "std": "*fp32", "factors": "*fp32", "grey": "*i64"}
PIXELS = {"pixels": "*u8", "flat": "*u8", "crops": "*u8", "offset": "*i64", "size": "*i32", "out": "*bf16"}


CROP = {"height": 32, "width": 32, "padding_px": 4, "cutout_px": 8, "block_rows": 32, "block_columns": 32}
PHOTOGRAPH = {"side": 224, "block": 512}


@compiles
@pytest.mark.parametrize(
    ("kernel", "warps", "constants"),
    [
        ("_crop", 1, CROP | {"interleaved": True}),
        ("_crop", 1, CROP | {"interleaved": False}),
        ("_resize", 4, PHOTOGRAPH),
        ("_colour", 4, PHOTOGRAPH),
    ],
)
def test_a_kernel_compiles_for_a_gpu_that_is_not_here(kernel, warps, constants, tmp_path, monkeypatch):
    """The interpreter forgives what the compiler refuses. This needs no device: ptxas comes with Triton."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function = getattr(kernels, kernel)
    types = IMAGE | TABLES | PIXELS | dict.fromkeys(constants, "constexpr")
    source = ASTSource(
        fn=function,
        signature={name: types[name] for name in function.arg_names},
        constexprs={(function.arg_names.index(name),): value for name, value in constants.items()},
    )
    made = kernels.triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    assert made.asm["cubin"]
    assert "convert_layout" not in made.asm["ttgir"]  # neighbouring threads have neighbouring columns throughout
    if kernel == "_crop":
        assert made.asm["ptx"].count("div.rn.f32") == 1  # by std, once per thread
        assert "cvt.rn.bf16" in made.asm["ptx"]


@needs_cuda
@needs_triton
def test_a_captured_launch_follows_the_counter_on_the_device():
    pixels, plan = random_bytes(9, 32, 32, 3), plan_of(9, 32, 32, 4, steps=5)
    _, flat, offset, size = photographs()
    boxes = torch.tensor(BOXES, dtype=torch.int32, device=DEVICE).repeat(5, 1, 1)
    boxes = torch.stack([part.roll(number, 0) for number, part in enumerate(boxes)])
    factors = torch.rand(5, len(BOXES), 3, device=DEVICE) + 0.5
    step, sizes = step_at(0), {"padding_px": 4, "cutout_px": 8}
    small = empty(BATCH, 32, 32, torch.bfloat16, "channels_last")
    large = empty(len(BOXES), 20, 20, torch.bfloat16, "channels_last")

    def both():
        kernels.crop(pixels, plan, step, MEAN, STD, small, **sizes)
        kernels.resized_crop(flat, offset, size, boxes, factors, step, MEAN, STD, large)

    both()  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        both()
        step.add_(1)
    step.zero_()
    for row in range(5):
        graph.replay()
        expected = empty(BATCH, 32, 32, torch.bfloat16, "channels_last")
        kernels.crop_reference(pixels, plan, step_at(row), MEAN, STD, expected, **sizes)
        assert torch.equal(small, expected)
        expected = torch.empty_like(large)
        kernels.resized_crop(flat, offset, size, boxes, factors, step_at(row), MEAN, STD, expected)
        assert torch.equal(large, expected)


@needs_cuda
@needs_triton
def test_a_set_beyond_two_gigabytes_is_addressed_to_its_end():
    n = 2**31 // 3072 + 100
    pixels = torch.zeros(n, 32, 32, 3, dtype=torch.uint8, device=DEVICE)
    pixels[-1] = random_bytes(32, 32, 3)
    plan = torch.tensor([[[n - 1, 4, 4, 0, 0, 0]]], dtype=torch.int32, device=DEVICE)
    found = cropped(kernels.crop, pixels, plan, step_at(0), torch.float32, "channels_last", padding_px=4, cutout_px=0)
    plan[0, 0, 0] = 0
    expected = cropped(
        kernels.crop_reference, pixels[-1:], plan, step_at(0), torch.float32, "channels_last", padding_px=4, cutout_px=0
    )
    assert torch.equal(found, expected)
