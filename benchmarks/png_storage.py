"""What stored PNG costs and saves against Pillow's compressed PNG, on real CIFAR images: ratios measured in one run.

    python benchmarks/png_storage.py FOLDER

FOLDER is a built CIFAR split. Both forms hold the same pixels; times are medians of five alternating rounds.
"""

import argparse
import gzip
import io
import platform
import statistics
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL
from PIL import Image

from ltdata import png, reader

_IMAGES = 2000


def pillow_encode(pixels: Any) -> bytes:
    """Encode with Pillow's defaults."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def tar_of(images: list[bytes]) -> bytes:
    """Pack images as a shard packs them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row, image in enumerate(images):
            for suffix, data in ((".cls", b"12"), (".png", image)):
                member = tarfile.TarInfo(f"{row:08d}{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    pixels = reader.read_images(folder, reader.read_manifest(folder), "train")[0][:_IMAGES]
    forms: dict[str, Callable[[Any], bytes]] = {"stored": png.encode, "Pillow": pillow_encode}
    seconds: dict[tuple[str, str], list[float]] = {}
    encoded: dict[str, list[bytes]] = {}
    for turn in range(5):
        for name in sorted(forms, reverse=bool(turn % 2)):
            started = time.perf_counter()
            encoded[name] = [forms[name](image) for image in pixels]
            middle = time.perf_counter()
            for image in encoded[name]:
                reader.decode(image)
            seconds.setdefault((name, "write"), []).append(middle - started)
            seconds.setdefault((name, "read"), []).append(time.perf_counter() - middle)
    for verb in ("write", "read"):
        ours, theirs = (statistics.median(seconds[name, verb]) for name in ("stored", "Pillow"))
        print(f"{verb}: stored is {theirs / ours:.1f} times as fast ({len(pixels) / ours:,.0f} images/s)")
    tars = {name: tar_of(images) for name, images in encoded.items()}
    packed = {name: len(gzip.compress(tar)) for name, tar in tars.items()}
    print(f"tar: stored is {len(tars['stored']) / len(tars['Pillow']):.2f} times as large")
    print(f"tar under gzip: {packed['stored'] / len(tars['stored']):.2f} of the stored tar's size,", end=" ")
    print(f"{packed['stored'] / packed['Pillow']:.2f} times the compressed one's under gzip")
    print(f"{platform.machine()}, Python {platform.python_version()}, Pillow {PIL.__version__}")


if __name__ == "__main__":
    main()
