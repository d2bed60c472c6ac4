"""JPEG to crops: the pixels of Pillow, the resizing of torchvision, with simplejpeg and without, on odd files too."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import SHARED
from numpy.typing import NDArray
from photos import encoded, photo
from PIL import Image

from ace_ref import jpeg
from ltdata import images

PHOTOGRAPHS = SHARED / "data" / "jpegs"
SIDE_PX = 56


@pytest.fixture(params=["simplejpeg", "Pillow"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with each library; nothing may depend on which it is."""
    name: str = request.param
    if name == "Pillow":
        monkeypatch.setattr(jpeg, "_simplejpeg", lambda: None)
    elif find_spec("simplejpeg") is None:
        pytest.skip("simplejpeg is not installed (pip install simplejpeg)")
    else:
        assert jpeg._simplejpeg() is not None, "simplejpeg no longer fills a buffer before it raises: see _simplejpeg"
    return name


@pytest.fixture
def no_pillow(decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test fail where simplejpeg is here but Pillow decodes after all."""

    def refuse(_: bytes) -> None:
        raise AssertionError("Pillow was asked")

    if decoder == "simplejpeg":
        monkeypatch.setattr(jpeg, "_decoded", refuse)


def pillow(data: bytes) -> NDArray[np.uint8]:
    return np.array(images.decode(data))


def noisy(width: int = 61, height: int = 75, mode: str = "RGB") -> Image.Image:
    """Make an image in which every pixel matters."""
    pixels = np.random.RandomState(0).randint(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def boxes(height: int, width: int, count: int = 12) -> list[jpeg.Box]:
    """Draw boxes of every size, the first of them the whole image and its corners."""
    random = np.random.RandomState(height * width)
    found = [(0, 0, height, width), (0, 0, 1, 1), (height - 1, width - 1, 1, 1)]
    while len(found) < count:
        rows, columns = random.randint(1, height + 1), random.randint(1, width + 1)
        found.append((random.randint(height - rows + 1), random.randint(width - columns + 1), rows, columns))
    return found


def always(box: jpeg.Box) -> Callable[[int, int], jpeg.Box]:
    return lambda *_: box


def patched(data: bytes, **values: bytes) -> bytes:
    """Write other values into a baseline header."""
    for name, value in values.items():
        at = data.index(b"\xff\xc0") + {"kind": 1, "bits": 4, "height": 5, "width": 7}[name]
        data = data[:at] + value + data[at + len(value) :]
    return data


PLAIN = {
    "4:4:4": encoded(noisy(), "JPEG", subsampling=0, quality=95),
    "4:2:2": encoded(noisy(), "JPEG", subsampling=1, quality=95),
    "4:2:0": encoded(noisy(), "JPEG", subsampling=2, quality=95),
    "RGB": encoded(noisy(), "JPEG", keep_rgb=True),
    "grey": encoded(noisy(mode="L"), "JPEG"),
    "restarts by row": encoded(noisy(), "JPEG", subsampling=2, restart_marker_rows=1),
    "restarts by block": encoded(noisy(), "JPEG", subsampling=0, restart_marker_blocks=3),
    "own tables": encoded(noisy(), "JPEG", optimize=True),
    "thumbnail": encoded(noisy(), "JPEG", exif=b"Exif\0\0" + photo(), comment="\xff\xd9 " * 99),
    "a pixel": encoded(noisy(1, 1), "JPEG", subsampling=2),
    "a row": encoded(noisy(99, 1), "JPEG", subsampling=2),
    "a column": encoded(noisy(1, 99), "JPEG", subsampling=2),
    "garbage behind": encoded(noisy(), "JPEG") + b"\xff\xd8garbage" * 99,
    "filled markers": b"\xff\xd8" + b"\xff" * 9 + encoded(noisy(), "JPEG")[2:],
}
ODD = {
    "progressive": encoded(noisy(), "JPEG", progressive=True),
    "CMYK": encoded(noisy(mode="CMYK"), "JPEG"),
    "PNG": encoded(noisy(), "PNG"),
    "PNG with alpha": encoded(noisy(mode="RGBA"), "PNG"),
    "PNG of 16 bits": encoded(Image.new("I;16", (30, 20), 40000), "PNG"),
    "WebP": encoded(noisy(), "WEBP"),
}
BROKEN = {
    "empty": b"",
    "its start": b"\xff\xd8\xff",
    "header alone": PLAIN["4:4:4"][: PLAIN["4:4:4"].index(b"\xff\xda") + 20],
    "half": PLAIN["4:2:0"][: len(PLAIN["4:2:0"]) // 2],
    "half, with a thumbnail": PLAIN["thumbnail"][:-2000],
    "12 bits": patched(PLAIN["4:4:4"], bits=b"\x0c"),
    "lossless": patched(PLAIN["4:4:4"], kind=b"\xc3"),
    "no height": patched(PLAIN["4:4:4"], height=b"\0\0"),
    "text": b"hello",
}

BOMB = patched(PLAIN["4:4:4"], height=b"\xff\x00", width=b"\xff\x00")


# Pixels


@pytest.mark.parametrize("data", PLAIN.values(), ids=PLAIN.keys())
def test_plain_files_have_pillows_pixels(no_pillow: None, data: bytes) -> None:
    assert np.array_equal(jpeg.decode(data), pillow(data))


@pytest.mark.parametrize("data", ODD.values(), ids=ODD.keys())
def test_odd_files_have_pillows_pixels(decoder: str, data: bytes) -> None:
    assert np.array_equal(jpeg.decode(data), pillow(data))


@pytest.mark.parametrize("data", (PLAIN | ODD).values(), ids=(PLAIN | ODD).keys())
def test_a_crop_is_cut_out_of_the_whole_image(decoder: str, data: bytes) -> None:
    """Bit for bit, though rows below the box are not decoded: chroma that is interpolated has what it needs."""
    whole = pillow(data)
    for top, left, rows, columns in boxes(*whole.shape[:2]):
        found = jpeg.resized_crop(data, always((top, left, rows, columns)), side_px=SIDE_PX)
        cut = np.ascontiguousarray(whole[top : top + rows, left : left + columns])
        assert np.array_equal(found, jpeg._resized(cut, SIDE_PX, SIDE_PX))


@pytest.mark.parametrize("subsampling", ["4:4:0", "4:1:1"])
def test_samplings_that_pillow_cannot_write(subsampling: str) -> None:
    simplejpeg = pytest.importorskip("simplejpeg", reason="simplejpeg is not installed (pip install simplejpeg)")
    data = simplejpeg.encode_jpeg(np.array(noisy()), colorsubsampling=subsampling.replace(":", ""))
    test_a_crop_is_cut_out_of_the_whole_image("simplejpeg", data)


@pytest.mark.parametrize("name", ["4:4:4", "4:2:2", "4:2:0", "RGB", "grey", "thumbnail"])
def test_rows_below_the_box_are_not_decoded(no_pillow: None, name: str) -> None:
    frame = jpeg._frame(PLAIN[name])
    assert frame is not None
    assert 10 <= len(jpeg._rows(PLAIN[name], frame, 10)) <= 12
    assert len(jpeg._rows(PLAIN[name], frame, frame.height)) == frame.height


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (90, 60), (40, 50)])
def test_resizing_is_torchvisions_and_pillows(decoder: str, torchvision: ModuleType, size: tuple[int, int]) -> None:
    """Within 1 of 255: where a CPU has no AVX2, torchvision rounds other intermediate values; Pillow always does."""
    functional = torchvision.transforms.v2.functional
    data = photo(1, size=size)
    whole = pillow(data)
    planes = torch.from_numpy(whole).permute(2, 0, 1)
    for top, left, rows, columns in boxes(*whole.shape[:2]):
        found = jpeg.resized_crop(data, always((top, left, rows, columns)), side_px=SIDE_PX)
        expected = functional.resized_crop(planes, top, left, rows, columns, [SIDE_PX, SIDE_PX], antialias=True)
        assert found.shape == (SIDE_PX, SIDE_PX, 3)
        assert np.abs(found - expected.permute(1, 2, 0).numpy().astype(int)).max() <= 1
        image = Image.fromarray(whole[top : top + rows, left : left + columns])
        shrunk = image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
        assert np.abs(found - np.array(shrunk).astype(int)).max() <= 1


@pytest.mark.parametrize("size", [(300, 200), (201, 333), (40, 50), (64, 64), (1, 9)])
def test_a_short_side_is_torchvisions(decoder: str, torchvision: ModuleType, size: tuple[int, int]) -> None:
    data = photo(2, size=size)
    found = jpeg.resized(data, least_px=64, most_px=64)
    planes = torch.from_numpy(pillow(data)).permute(2, 0, 1)
    expected = torchvision.transforms.v2.functional.resize(planes, [64], antialias=True).permute(1, 2, 0).numpy()
    assert found.shape == expected.shape
    assert min(found.shape[:2]) == 64
    assert np.abs(found - expected.astype(int)).max() <= 1


def test_a_sliver_is_not_blown_up(decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 256 * 256 * 99 - 1)
    with pytest.raises(ValueError, match=r"^1 x 99 pixels would be 256 x 25344 with that shorter side$"):
        jpeg.resized(PLAIN["a row"], least_px=256, most_px=256)


# Sizes and boxes


@pytest.mark.parametrize("data", (PLAIN | ODD).values(), ids=(PLAIN | ODD).keys())
def test_the_size_is_that_of_the_pixels(data: bytes) -> None:
    assert jpeg.size(data) == pillow(data).shape[:2]


@pytest.mark.parametrize("data", [*PLAIN.values(), ODD["progressive"], ODD["CMYK"], BROKEN["half"], BOMB])
def test_the_size_of_a_jpeg_is_read_without_decoding(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(jpeg, "_decoded", None)
    monkeypatch.setattr(jpeg, "_simplejpeg", None)
    assert min(jpeg.size(data)) >= 1


@pytest.mark.parametrize("name", ["4:2:0", "progressive", "PNG"])
def test_a_box_is_asked_for_once(decoder: str, name: str) -> None:
    asked: list[tuple[int, int]] = []

    def box_of(height: int, width: int) -> jpeg.Box:
        asked.append((height, width))
        return 0, 0, height, width

    jpeg.resized_crop((PLAIN | ODD)[name], box_of, side_px=8)
    assert asked == [(75, 61)]


@pytest.mark.parametrize("name", ["4:2:0", "progressive", "PNG"])
@pytest.mark.parametrize(
    "box", [(-1, 0, 9, 9), (0, -1, 9, 9), (0, 0, 0, 9), (0, 0, 9, 0), (70, 0, 6, 9), (0, 60, 9, 2)]
)
def test_a_box_lies_inside(name: str, box: jpeg.Box) -> None:
    with pytest.raises(ValueError, match=r"^box \(.*\) is not inside an image of 75 x 61 pixels$"):
        jpeg.resized_crop((PLAIN | ODD)[name], always(box), side_px=8)


def test_a_crop_goes_where_it_is_told(decoder: str) -> None:
    batch = np.zeros((2, 8, 8, 3), np.uint8)
    found = jpeg.resized_crop(PLAIN["4:2:0"], always((3, 4, 50, 50)), side_px=8, out=batch[1])
    assert np.shares_memory(found, batch)
    assert np.array_equal(batch[1], jpeg.resized_crop(PLAIN["4:2:0"], always((3, 4, 50, 50)), side_px=8))
    assert not batch[0].any()


def test_a_result_can_be_written_to(decoder: str) -> None:
    for found in (jpeg.decode(PLAIN["grey"]), jpeg.resized(PLAIN["grey"], least_px=8, most_px=8)):
        assert found.flags.writeable
        assert found.flags.c_contiguous


def test_threads_do_not_meet(decoder: str) -> None:
    work = [(data, box) for data in PLAIN.values() for box in boxes(*pillow(data).shape[:2])] * 3

    def crop(task: tuple[bytes, jpeg.Box]) -> bytes:
        return jpeg.resized_crop(task[0], always(task[1]), side_px=8).tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(crop, work)) == [crop(task) for task in work]


# Files that are broken


@pytest.mark.parametrize("data", [*BROKEN.values(), BOMB], ids=[*BROKEN.keys(), "bomb"])
def test_broken_files_are_errors(decoder: str, data: bytes) -> None:
    """Half a file is one too, even where the box is in the half that is there."""
    for attempt in (
        lambda: jpeg.decode(data),
        lambda: jpeg.resized_crop(data, always((0, 0, 1, 1)), side_px=8),
        lambda: jpeg.resized(data, least_px=8, most_px=8),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (Pillow's own words)
            attempt()
        assert "\n" not in str(caught.value)


def test_a_bomb_is_not_given_to_simplejpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "_simplejpeg", None)
    with pytest.raises(ValueError, match="decompression bomb"):
        jpeg.resized_crop(BOMB, always((0, 0, 1, 1)), side_px=8)


@pytest.mark.parametrize("name", ["4:4:4", "4:2:0", "grey", "restarts by block"])
def test_damage_has_pillows_verdict(decoder: str, name: str) -> None:
    """An error, or the same pixels: never memory that no decoder wrote, which strict=False of simplejpeg would give."""
    random = np.random.RandomState(5)
    errors = 0
    for _ in range(150):
        data = bytearray(PLAIN[name])
        at, length = random.randint(2, len(data)), random.choice([1, 2, 99])
        data[at : at + length] = random.bytes(length)
        expected = found = None
        try:
            expected = pillow(bytes(data))
        except ValueError:
            errors += 1
        try:
            found = jpeg.decode(bytes(data))
        except ValueError:
            found = None
        assert (found is None) == (expected is None)
        assert found is None or expected is None or np.array_equal(found, expected)
    assert 0 < errors < 150


# simplejpeg


def test_simplejpeg_can_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    assert jpeg._simplejpeg.__wrapped__() is None


def test_simplejpeg_is_left_out_where_it_raises_before_it_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody promises is tried once per process."""
    simplejpeg = pytest.importorskip("simplejpeg", reason="simplejpeg is not installed (pip install simplejpeg)")
    decode_jpeg = simplejpeg.decode_jpeg

    def cautious(data: bytes, buffer: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = decode_jpeg(data)
        if buffer is not None:
            buffer[...] = pixels
        return pixels

    assert jpeg._simplejpeg.__wrapped__() is not None
    monkeypatch.setattr(simplejpeg, "decode_jpeg", cautious)
    assert jpeg._simplejpeg.__wrapped__() is None


# Real photographs


@pytest.fixture(scope="module")
def photographs() -> dict[str, bytes]:
    """All of them, the greater part 500 x 375."""
    if not PHOTOGRAPHS.is_dir():
        pytest.skip(f"real photographs are not here ({PHOTOGRAPHS}); set LTDATA_SHARED to the folder that has them")
    return {path.name: path.read_bytes() for path in sorted(PHOTOGRAPHS.iterdir())}


def test_real_photographs(no_pillow: None, photographs: dict[str, bytes]) -> None:
    """The whole and two boxes of each, bit for bit."""
    for name, data in photographs.items():
        whole = pillow(data)
        height, width = whole.shape[:2]
        assert jpeg.size(data) == (height, width), name
        assert np.array_equal(jpeg.decode(data), whole), name
        for box in boxes(height, width, 5)[3:]:
            top, left, rows, columns = box
            cut = np.ascontiguousarray(whole[top : top + rows, left : left + columns])
            found = jpeg.resized_crop(data, always(box), side_px=224)
            assert np.array_equal(found, jpeg._resized(cut, 224, 224)), name
