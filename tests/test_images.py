"""Images on their way into shards: bytes copied as they are, known by content, scaled down only where asked to."""

import io
import os
import pickle
import stat
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL
import pytest
from conftest import READS_EVERYTHING, SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import encoded, photo, put
from PIL import Image

from ltdata import images
from ltdata.errors import LtdataError, MismatchError, SourceMissingError
from ltdata.files import sha256_bytes
from ltdata.images import Files, Pixels, Stored, decode, kind, shrink


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def shrunk(data: bytes, max_side_px: int = 16) -> Image.Image:
    out, suffix = shrink(data, "x", max_side_px)
    assert suffix == "jpg"
    assert opened(out).format == "JPEG"
    return opened(out)


def refused(data: bytes, message: str) -> None:
    with pytest.raises(MismatchError, match=rf"^dir/x\.jpg: is not a readable image \(.*{message}") as caught:
        shrink(data, "dir/x.jpg", 16)
    assert "\n" not in str(caught.value)


# Kinds


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_is_known_by_its_content(mode: str) -> None:
    assert kind(photo(mode=mode), "a.png") == "jpg"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "I;16"])
def test_a_png_is_known_by_its_content(mode: str) -> None:
    data = encoded(Image.new(mode, (4, 4)), "PNG")
    assert kind(data, "a.JPEG") == "png"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "is empty"),
        (b"\xff\xd8", "begins with ff d8,"),
        (b"hello", "begins with 68 65 6c 6c,"),
        (photo(form="GIF"), "begins with 47 49 46 38,"),
        (photo(form="WEBP"), "begins with 52 49 46 46,"),
    ],
)
def test_anything_else_is_refused_by_name(data: bytes, found: str) -> None:
    with pytest.raises(MismatchError, match=rf"^a b/x\.jpg: {found} so it is neither JPEG nor PNG;|is empty, so"):
        kind(data, "a b/x.jpg")


# Files


def test_files_are_stored_as_they_are(tmp_path: Path) -> None:
    """By content, whatever they are called; in the order that is asked for."""
    files = {"a b/1.jpg": photo(1), "ü.JPEG": photo(form="PNG"), "c.png": photo(2, mode="L")}
    found = Files(put(tmp_path, files), tuple(files))
    assert len(found) == 3
    assert list(found.encoded()) == [(photo(1), "jpg"), (photo(form="PNG"), "png"), (photo(2, mode="L"), "jpg")]
    part = pickle.loads(pickle.dumps(found.take(np.array([2, 0, 2]))))
    assert [data for data, _ in part.encoded()] == [photo(2, mode="L"), photo(1), photo(2, mode="L")]


def test_a_truncated_file_is_copied_too(tmp_path: Path) -> None:
    """Copying does not decode: `ltdata verify` does, and names it."""
    put(tmp_path, {"a.jpg": photo()[:-40]})
    assert list(Files(tmp_path, ("a.jpg",)).encoded()) == [(photo()[:-40], "jpg")]


def test_scaling_down_keeps_with_the_part_that_is_taken(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg": photo(size=(40, 30))})
    ((data, _),) = Files(tmp_path, ("a.jpg",), 16).take(np.array([0])).encoded()
    assert opened(data).size == (16, 12)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg": photo()})
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    for path in ("none.jpg", "folder.jpg", "loop.jpg", "gone.jpg", "a.jpg/b.jpg", "n" * 300 + ".jpg"):
        with pytest.raises(SourceMissingError, match=r"^/.*\.jpg: cannot be read \(") as caught:
            list(Files(tmp_path, ("a.jpg", path)).encoded())
        assert path in str(caught.value)


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """Opened like a file, one without a writer waits for ever."""
    os.mkfifo(tmp_path / "a.jpg")
    assert stat.S_ISFIFO((tmp_path / "a.jpg").stat().st_mode)
    with pytest.raises(SourceMissingError, match=r"a\.jpg: cannot be read \(is no regular file\)"):
        list(Files(tmp_path, ("a.jpg",)).encoded())


@pytest.mark.skipif(READS_EVERYTHING, reason="this user reads everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg": photo()})
    (tmp_path / "a.jpg").chmod(0)
    with pytest.raises(SourceMissingError, match=r"a\.jpg: cannot be read \(Permission denied\)"):
        list(Files(tmp_path, ("a.jpg",)).encoded())


def test_pixels_are_stored_as_png() -> None:
    array = np.random.RandomState(0).randint(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    found = list(Pixels(array).take(np.array([2, 1])).encoded())
    assert [suffix for _, suffix in found] == ["png", "png"]
    assert [np.asarray(opened(data)).tolist() for data, _ in found] == array[[2, 1]].tolist()


# Members of shards


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    (tmp_path / "a.tar").write_bytes(bytes(7) + photo(1) + photo(2, form="PNG"))
    sizes = [len(photo(1)), len(photo(2, form="PNG"))]
    digests = [sha256_bytes(photo(1)), sha256_bytes(photo(2, form="PNG"))]
    return Stored([tmp_path / "a.tar"] * 2, [7, 7 + sizes[0]], sizes, digests)


def test_members_are_read_by_their_place(stored: Stored) -> None:
    assert list(stored.encoded()) == [(photo(1), "jpg"), (photo(2, form="PNG"), "png")]
    part = pickle.loads(pickle.dumps(stored.take(np.array([1]))))
    assert len(part) == 1
    assert list(part.encoded()) == [(photo(2, form="PNG"), "png")]


def test_a_member_with_other_bytes_is_refused(stored: Stored) -> None:
    shard = stored.shards[0]
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(MismatchError, match=r"a\.tar: the image at byte 7 has another digest than its row"):
        list(stored.encoded())
    shard.write_bytes(bytes(data[:50]))
    with pytest.raises(MismatchError, match="another digest"):
        list(stored.encoded())
    shard.unlink()
    with pytest.raises(MismatchError, match=r"a\.tar: cannot be read \(No such file"):
        list(stored.encoded())


# Scaling down


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(16, 120), st.sampled_from(["JPEG", "PNG"]))
def test_only_larger_images_are_encoded_anew(width: int, height: int, max_side_px: int, form: str) -> None:
    data = encoded(Image.new("RGB", (width, height), (200, 30, 90)), form)
    out, suffix = shrink(data, "x", max_side_px)
    if max(width, height) <= max_side_px:
        assert out == data
        assert suffix == kind(data, "x")
        return
    small = opened(out)
    assert suffix == "jpg"
    assert max(small.size) == max_side_px
    assert min(small.size) == max(1, round(min(width, height) * max_side_px / max(width, height)))
    assert np.abs(np.asarray(small, dtype=int) - (200, 30, 90)).max() <= 3
    assert shrink(data, "x", max_side_px) == (out, suffix)


def test_a_small_image_of_another_kind_becomes_jpeg_of_its_own_size() -> None:
    for form in ("GIF", "WEBP", "BMP", "TIFF", "PPM"):
        same = encoded(opened(photo(form=form)).convert("RGB"), "JPEG", quality=images.JPEG_QUALITY)
        assert shrink(photo(form=form), "x", 64) == (same, "jpg")


def test_a_photograph_is_scaled_as_pillow_scales_it() -> None:
    data = photo(size=(61, 47))
    image = opened(data).resize((32, 25), Image.Resampling.LANCZOS)
    assert shrink(data, "x", 32) == (encoded(image, "JPEG", quality=images.JPEG_QUALITY), "jpg")


@pytest.mark.parametrize("mode", ["L", "CMYK", "YCbCr"])
def test_other_jpegs_become_rgb(mode: str) -> None:
    data = photo(size=(40, 40), mode=mode)
    small = shrunk(data)
    assert (small.mode, small.size) == ("RGB", (16, 16))
    expected = np.asarray(opened(data).convert("RGB").resize((16, 16)), int)
    assert np.abs(np.asarray(small, int) - expected).mean() < 12


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1"])
def test_other_pngs_become_rgb(mode: str) -> None:
    data = photo(size=(40, 40), mode=mode, form="PNG")
    assert shrunk(data).mode == "RGB"


def test_a_palette_with_alpha_is_no_warning() -> None:
    """Pillow warns of it, and warnings are errors here."""
    image = opened(photo(size=(40, 40))).quantize(8)
    data = encoded(image, "PNG", transparency=bytes(range(0, 256, 32)))
    assert np.array_equal(np.asarray(decode(data)), np.asarray(image.convert("RGB")))
    assert shrunk(data).size == (16, 16)


def test_sixteen_bits_of_grey_are_not_clipped_to_white() -> None:
    ramp = np.linspace(0, 65535, 40 * 40).reshape(40, 40).astype(np.uint16)
    for form in ("PNG", "TIFF"):
        grey = np.asarray(decode(encoded(Image.fromarray(ramp), form)))
        assert np.array_equal(grey, np.repeat((ramp >> 8).astype(np.uint8)[..., None], 3, axis=2))
    assert 100 < np.asarray(shrunk(encoded(Image.fromarray(ramp), "PNG"))).mean() < 155


def test_pixels_without_an_eight_bit_form_are_refused() -> None:
    refused(encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "F pixels have no 8-bit form")
    refused(encoded(Image.fromarray(np.ones((4, 4), np.int32)), "TIFF"), "I pixels have no 8-bit form")


def test_a_jpeg_of_several_pictures_is_a_jpeg() -> None:
    """As phones write them; Pillow calls the format MPO."""
    data = encoded(opened(photo()), "MPO", save_all=True, append_images=[opened(photo(1))])
    assert opened(data).format == "MPO"
    assert shrink(data, "x", 64) == (data, "jpg")
    assert shrunk(data, 16).size == (16, 13)


def test_orientation_is_not_applied_and_exif_is_not_kept() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    data = encoded(opened(photo(size=(40, 20))), "JPEG", exif=exif)
    small = shrunk(data)
    assert small.size == (16, 8)
    assert not small.getexif()


@pytest.mark.parametrize(
    "broken", [b"Exif\0\0MM\0*", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(300), b"Exif"]
)
def test_a_broken_exif_does_no_harm(broken: bytes) -> None:
    plain = photo(size=(40, 20))
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(broken) + 2) + broken + plain[2:]
    assert shrink(data, "x", 16) == shrink(plain, "x", 16)
    assert np.array_equal(np.asarray(decode(data)), np.asarray(decode(plain)))


def test_what_cannot_be_decoded_is_refused_by_name() -> None:
    refused(b"", "cannot identify")
    refused(b"hello", "cannot identify")
    refused(photo(size=(40, 40))[:-100], "truncated")
    refused(photo()[:-100], "truncated")  # a small one is decoded too
    refused(photo(form="PNG")[:-40], "")
    refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", "cannot identify")


def bomb(width: int, height: int) -> bytes:
    """Make a PNG file that says to hold far more pixels than it has bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 20_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_before_it_unfolds(side: int) -> None:
    refused(bomb(side, side), "decompression bomb")


def test_decoding_in_threads_leaves_the_filters_of_warnings_alone() -> None:
    """`warnings.catch_warnings` is the process's: threads that mix its ends up leave a filter behind."""
    before = list(warnings.filters)
    found: list[str] = []

    def work() -> None:
        for _ in range(100):
            decode(photo())
            try:
                decode(bomb(10_000, 10_000))
            except ValueError as error:
                found.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert list(warnings.filters) == before
    assert len(found) == 400
    assert all("decompression bomb" in message for message in found)


def seeds() -> Iterator[bytes]:
    for form in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM"):
        yield photo(form=form)
    yield photo(mode="CMYK")
    yield photo(mode="P", form="PNG")


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(list(seeds())),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    st.none() | st.integers(0, 500),
)
def test_broken_images_give_an_image_or_one_line_of_error(
    data: bytes, flips: list[tuple[int, int]], length: int | None
) -> None:
    changed = bytearray(data)
    for at, value in flips:
        changed[at % len(changed)] = value
    try:
        out, suffix = shrink(bytes(changed[:length]), "dir/x.jpg", 16)
    except MismatchError as error:
        out, suffix = b"", str(error)
    assert kind(out, "") == suffix if out else suffix.startswith("dir/x.jpg: ")
    assert "\n" not in suffix


def test_the_encoder_names_what_the_bytes_depend_on() -> None:
    assert images.encoder().startswith(f"Pillow {PIL.__version__}, libjpeg")
    assert images.encoder().endswith(", quality 95")


def test_real_photographs_are_scaled_down() -> None:
    folder = SHARED / "data" / "jpegs"
    if not folder.is_dir():
        pytest.skip(f"the real photographs are not here ({folder}); set LTDATA_SHARED to the folder that has them")
    for path in sorted(folder.glob("*.JPEG"))[::25]:
        data = path.read_bytes()
        width, height = opened(data).size
        out, suffix = shrink(data, path.name, 256)
        small = opened(out)
        assert suffix == "jpg"
        assert small.mode in {"RGB", "L"}
        assert max(small.size) == min(256, max(width, height))
        assert abs(small.width / small.height / (width / height) - 1) < 0.01
        if max(width, height) <= 256:
            assert out == data


def test_errors_have_exit_codes(tmp_path: Path) -> None:
    with pytest.raises(LtdataError) as missing:
        list(Files(tmp_path, ("a.jpg",)).encoded())
    with pytest.raises(LtdataError) as mismatch:
        kind(b"hello", "x")
    assert (missing.value.exit_code, mismatch.value.exit_code) == (4, 3)
