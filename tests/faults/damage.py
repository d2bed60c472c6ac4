"""Built folders, what can happen to them, and everything that reads one, so that a test can ask all of it.

    for name, read in READERS.items():
        refused(partial(read, folder, "train", scratch), "train/few-000000.tar")

Small sets, so that all of this takes milliseconds.
"""

import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from photos import contents, photo, put

from ltdata import adapters, catalog, console, formats, png
from ltdata.access import open_images
from ltdata.build import Built, build
from ltdata.cli import cli
from ltdata.errors import MismatchError
from ltdata.files import sha256_bytes
from ltdata.page.mosaic import make_mosaic
from ltdata.reader import read_images, read_manifest, read_samples
from ltdata.remote import open_remote, stream
from ltdata.spec import Spec
from ltdata.subset import Part, make_subset, write_subset
from ltdata.verify import verify

SIZES = (4, 4, 4, 3, 3, 3, 3, 2, 2, 2)  # images of each class, one of them for the test
Record = dict[str, Any]
Read = Callable[[Path, str, Path], object]  # folder, split, an empty folder to write into


def tiny(folder: Path, *, seed: int = 0, name: str = "tiny") -> Built:
    """Build ten classes of images of 8 x 8 pixels, 20 to train on and 10 to test: a shard of each shot group."""
    spec = Spec("folder", title=name, test_per_class=1, group_rule="mislas")
    return build(spec, data_dir=_dots(folder / f"{name}-images", SIZES, seed=seed), out=folder / name)


def drawn(folder: Path) -> Built:
    """Build four classes with an imbalance factor: 8, 5, 3 and 2 images of 8 x 8 pixels, and a test."""
    spec = Spec("folder", 4, title="drawn", test_per_class=1)
    return build(spec, data_dir=_dots(folder / "drawn-images", (9,) * 4, seed=0), out=folder / "drawn")


def _dots(folder: Path, sizes: Sequence[int], *, seed: int) -> Path:
    pixels = np.random.RandomState(seed).randint(0, 256, (sum(sizes), 8, 8, 3), dtype=np.uint8)
    labels = np.repeat(np.arange(len(sizes)), sizes).tolist()
    return put(folder, {f"class{labels[n]}/{n:03}.png": png.encode(image) for n, image in enumerate(pixels)})


def photographs(folder: Path) -> Built:
    """Build four classes of photographs of many sizes, progressive, grey and PNG ones among them."""
    rng = np.random.RandomState(0)
    files = {}
    for number in range(60):
        width, height = rng.randint(30, 90, 2).tolist()
        mode, form = ("L", "JPEG") if number % 11 == 0 else ("RGB", "PNG" if number % 13 == 0 else "JPEG")
        data = photo(number, size=(width, height), mode=mode, form=form)
        files[f"class{min(number % 7, 3)}/{number:03}.{form.lower()}"] = data
    spec = Spec("folder", title="photographs", test_per_class=3)
    return build(spec, data_dir=put(folder / "source", files), out=folder / "photographs")


def copied(folder: Path, place: Path) -> Path:
    """Copy a folder, in place of what is there."""
    shutil.rmtree(place, ignore_errors=True)
    return Path(shutil.copytree(folder, place, symlinks=True))


@contextmanager
def restored(folder: Path) -> Iterator[dict[str, bytes]]:
    """Give the files of a folder, and put them back after the block."""
    before = contents(folder)
    try:
        yield before
    finally:
        for path, data in before.items():
            if not (folder / path).is_file() or (folder / path).read_bytes() != data:
                (folder / path).write_bytes(data)


# --- changes


def edit(folder: Path, change: Callable[[Record], object]) -> None:
    """Change the header."""
    path = folder / "manifest.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")


def shard_of(record: Record, path: str) -> Record:
    """Return the entry of a shard."""
    found: Record = next(
        shard for split in record["splits"].values() for shard in split["shards"] if shard["path"] == path
    )
    return found


def reseal(folder: Path, path: str, data: bytes) -> None:
    """Put other bytes in place of a shard, and make size and digest of the header fit, as somebody with bad intent."""
    (folder / path).write_bytes(data)
    sealed = {"bytes": len(data), "sha256": sha256_bytes(data)}
    edit(folder, lambda record: shard_of(record, path).update(sealed))


def flipped(data: bytes, bit: int) -> bytes:
    """Flip one bit, the first is 0."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# --- everything that reads shards


def _images(folder: Path, split: str, _: Path) -> None:
    read_images(folder, read_manifest(folder), split)


def opened(folder: Path, split: str) -> list[bytes]:
    """Read every image by random access."""
    with open_images(folder, read_manifest(folder), split) as images:
        return [images.read(row) for row in range(len(images))]


def _streamed(folder: Path, split: str, _: Path) -> None:
    remote = open_remote(folder)
    for _each in stream(remote, split, np.arange(len(remote.samples[split]))):
        pass


def _subset(folder: Path, _: str, out: Path) -> None:
    whole = catalog.find(str(folder), rows=True)
    part = make_subset(whole.manifest, Part(per_class=1000))
    write_subset(whole, part, out / "subset", form="shards")


def _export(form: str, folder: Path, split: str, out: Path) -> None:
    found = catalog.find(str(folder), rows=True)
    formats.export(found.manifest, out / "export", form=form, split=split, folder=found.folder)


def _mosaic(folder: Path, _: str, __: Path) -> None:
    make_mosaic(read_manifest(folder), folder, what="this")


def _loaded(crop: str, resident_gb: float | None, folder: Path, split: str, _: Path) -> None:
    import torch

    from ace_ref.loading import Memory, load_split, open_shards
    from ace_ref.recipe import load_recipe

    recipe = load_recipe("tiny", "ce", source="folder", imbalance_factor=4)
    recipe = recipe.with_values({"crop": crop, "crop_px": 24, "short_side_px": 32} if crop == "resized" else {})
    manifest, place = open_shards(str(folder))
    load_split(place, manifest, split, recipe, Memory(torch.device("cpu"), resident_gb))


def _huggingface(folder: Path, split: str, out: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    with mock.patch.object(datasets.config, "HF_DATASETS_CACHE", str(out / "cache")):
        adapters.huggingface(folder, split)


READERS: Mapping[str, Read] = {
    "verify": lambda folder, _, __: verify(folder),
    "verify digests": lambda folder, _, __: verify(folder, images=False, workers=2),
    "read_images": _images,
    "open_images": lambda folder, split, _: opened(folder, split),
    "webdataset": lambda folder, split, _: list(adapters.webdataset(folder, split)),
    "stream": _streamed,
    "subset": _subset,
    "wids": partial(_export, "wids"),
    "croissant": partial(_export, "croissant"),
    "mosaic": _mosaic,
    "trained on, of one size": partial(_loaded, "pad", None),
    "trained on, resident": partial(_loaded, "resized", None),
    "trained on, streamed": partial(_loaded, "resized", 0.0),
}
SLOW_READERS: Mapping[str, Read] = {
    "huggingface": _huggingface,
    "huggingface export": lambda folder, split, out: _export("huggingface", folder, split, out),
}
BY_SPLIT = frozenset(READERS) - {"verify", "verify digests", "subset", "mosaic"}  # the others read all, or train
ONE_SIZE = frozenset({"read_images", "trained on, of one size"})  # need images of one size


def readers_of(split: str, *, one_size: bool = True) -> dict[str, Read]:
    """Return the readers that come to the images of a split."""
    return {
        name: read
        for name, read in READERS.items()
        if not (name == "mosaic" and split != "train") and (one_size or name not in ONE_SIZE)
    }


def refused(read: Callable[[], object], *named: str | Path) -> str:
    """Call something, which must fail as a mismatch, in one line that names what is at fault; return the line."""
    with pytest.raises(MismatchError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    for name in named:
        assert str(name) in message, message
    return message


# --- commands


@dataclass(frozen=True)
class Ended:
    """What a command did."""

    code: int
    stdout: str
    stderr: str


def run(*words: object) -> Ended:
    """Run `ltdata ...`, or `ace_ref.train ...`, in this process."""
    name, *arguments = map(str, words)
    if name == "ltdata":
        command = cli
    else:
        from ace_ref import train

        command = train.command
    out, err = io.StringIO(), io.StringIO()
    line = mock.patch.object(sys, "argv", [name, *arguments])
    with redirect_stdout(out), redirect_stderr(err), line, pytest.raises(SystemExit) as end:
        console.run(command, name=name)
    return Ended(int(end.value.code or 0), out.getvalue(), err.getvalue())


def fails(ended: Ended, code: int, *named: str | Path) -> None:
    """Check that a command ended with its exit code and one line that names what is at fault, and no traceback."""
    assert (ended.code, ended.stdout) == (code, ""), ended
    assert re.fullmatch(r"(ltdata|ace_ref\.train): error: .*\n", ended.stderr), ended
    assert all(str(name) in ended.stderr for name in named), ended


def training(folder: Path, out: Path, *more: str) -> tuple[str, ...]:
    """Return the words of a short training."""
    settings = ("--set", "batch_size=4", "--set", "crop_padding_px=1", "--set", "milestones=[]")
    known = ("--recipe", "tiny", "--method", "ce", "--epochs", "1", "--quiet", *settings)
    return ("ace_ref.train", "--shards", str(folder), "--out", str(out), *known, *more)


def rows_of(folder: Path, split: str) -> tuple[str, ...]:
    """Return the digests of a split's images."""
    digests = read_samples(folder, read_manifest(folder))[split].sha256
    assert digests is not None
    return digests
