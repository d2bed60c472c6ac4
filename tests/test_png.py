"""PNG: any small RGB image comes back from another decoder, and its bytes are fixed by the standard alone."""

import hashlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from PIL import Image

from ltdata import png

# Of `fixed()`: another digest would mean other bytes in every shard ever built.
GOLDEN = "067ea616a86876527d63e5247ca61a903f35eb6c8b39499640303e7458fa8555"
images = npst.arrays(
    np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)), elements=st.integers(0, 255)
)


def fixed() -> NDArray[np.uint8]:
    return (np.arange(32 * 32 * 3) * 37 % 251).astype(np.uint8).reshape(32, 32, 3)


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Split a PNG file into (kind, content), checking signature, lengths and CRCs."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = [], 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + content)
        found.append((kind, content))
        at += 12 + size
    return found


def filtered_rows(image: NDArray[np.uint8]) -> bytes:
    """Apply the Up filter, byte by byte, as PNG section 9.2 words it."""
    above = bytes(image.shape[1] * 3)
    out = b""
    for row in image:
        here = row.tobytes()
        out += b"\x02" + bytes((x - up) % 256 for x, up in zip(here, above, strict=True))
        above = here
    return out


@settings(deadline=None)
@given(image=images)
def test_pillow_decodes_any_image_to_itself(image: NDArray[np.uint8]) -> None:
    with Image.open(io.BytesIO(png.encode(image)), formats=["PNG"]) as opened:
        assert opened.mode == "RGB"
        assert np.array_equal(np.asarray(opened), image)


def test_the_bytes_of_an_image_never_change() -> None:
    assert hashlib.sha256(png.encode(fixed())).hexdigest() == GOLDEN


def test_the_bytes_do_not_depend_on_the_layout_in_memory() -> None:
    image = fixed()
    strided = np.repeat(image, 2, axis=0)[::2]
    for other in (np.asfortranarray(image), strided, image[::-1][::-1]):
        assert png.encode(other) == png.encode(image)


@pytest.mark.parametrize("shape", [(1, 1, 3), (32, 32, 3), (5, 9, 3)])
def test_the_rows_are_one_stored_deflate_block(shape: tuple[int, int, int]) -> None:
    """RFC 1951, 3.2.4: no compressor has a say in the bytes."""
    image = fixed()[: shape[0], : shape[1]]
    (ihdr, header), (idat, stream), (iend, nothing) = chunks(png.encode(image))
    assert (ihdr, idat, iend, nothing) == (b"IHDR", b"IDAT", b"IEND", b"")
    assert struct.unpack(">IIBBBBB", header) == (shape[1], shape[0], 8, 2, 0, 0, 0)
    rows = filtered_rows(image)
    assert stream[:7] == b"\x78\x01\x01" + struct.pack("<HH", len(rows), len(rows) ^ 0xFFFF)
    assert stream[7:-4] == rows
    assert zlib.decompress(stream) == rows


def test_the_largest_image_is_one_of_65535_bytes() -> None:
    """771 rows of 28 pixels, each with its filter byte, are exactly as many."""
    largest = np.zeros((771, 28, 3), np.uint8)
    with Image.open(io.BytesIO(png.encode(largest))) as opened:
        assert opened.size == (28, 771)
    with pytest.raises(ValueError, match="do not fit"):
        png.encode(np.zeros((772, 28, 3), np.uint8))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), np.int64),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.int8),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 0, 3), np.uint8),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_what_is_no_small_rgb_image_is_refused(array: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        png.encode(array)


@settings(deadline=None, max_examples=50)
@given(
    batch=npst.arrays(
        np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40), st.just(3)),
        elements=st.integers(0, 255),
    )
)  # fmt: skip
def test_many_at_once_are_what_each_is(batch: NDArray[np.uint8]) -> None:
    decoded = png.decode_many([png.encode(image) for image in batch])
    assert decoded is not None
    assert np.array_equal(decoded, batch)


def compressed(image: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        png.encode(fixed())[:-1],
        png.encode(fixed())[:60],
        png.encode(fixed()[:31]),
        compressed(fixed()),
        png.encode(fixed()).replace(b"IEND", b"IEMD"),
        png.encode(fixed())[:16] + bytes(8) + png.encode(fixed())[24:],  # of 0 x 0 pixels
        png.encode(fixed())[:48] + b"\x01" + png.encode(fixed())[49:],  # another filter in the first row
    ],
)
def test_many_at_once_refuses_what_encode_would_not_write(other: bytes) -> None:
    assert png.decode_many([png.encode(fixed())]) is not None
    assert png.decode_many([png.encode(fixed()), other]) is None
    assert png.decode_many([other, png.encode(fixed())]) is None
    assert png.decode_many([]) is None
