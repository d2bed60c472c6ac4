"""A shard that was cut is always found: by verify, by everything that reads it, also where size and digest were mended.

Cut anywhere: in a header, a label, an image, its padding, or the end mark, where no image is lost.
"""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from faults.breaks import Break
from faults.damage import (
    READERS,
    SLOW_READERS,
    Read,
    copied,
    fails,
    photographs,
    readers_of,
    refused,
    reseal,
    restored,
    run,
    tiny,
    training,
)
from faults.effort import WHOLE, thin, tried
from faults.trainings import served
from ltdata.access import open_images
from ltdata.build import Built
from ltdata.errors import MismatchError
from ltdata.manifest import Shard
from ltdata.mixing import ShardSampler
from ltdata.reader import check_shards, read_manifest, read_samples, read_shard, walk
from ltdata.remote import open_remote, stream

BREAKS = (
    Break("ltdata/reader.py", "    if size != shard.bytes:", "    if False:", only="every_reader"),
    Break("ltdata/reader.py", "    if data[at:] != end_mark(at):", "    if False:", only="mended"),
    Break(
        "ltdata/stored.py",
        "    return all(end + len(end_mark(end)) == shard.bytes",
        "    return all(True",
        only="mended",
    ),
    Break(
        "ltdata/formats/described.py", "    read_shard(folder, shard)  # nobody", "    # nobody", only="every_reader"
    ),
)
STEP = 128
CHECKED = ("verify digests", "read_images", "open_images", "webdataset", "stream", "trained on, of one size")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the small set; a test restores what it cuts."""
    return tiny(tmp_path_factory.mktemp("truncated")).folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build photographs of many sizes; a test restores what it cuts."""
    return photographs(tmp_path_factory.mktemp("truncated")).folder


def shards(folder: Path) -> list[tuple[str, Shard]]:
    return [(name, shard) for name, split in read_manifest(folder).splits.items() for shard in split.shards]


def cuts(shard: Shard, step: int = STEP) -> range:
    return range(0, shard.bytes, step)


def every_cut(folder: Path, path: str, step: int, to: int) -> None:
    """Cut a shard, longest part first; each is refused by its size, and by its format where size and digest fit."""
    manifest = read_manifest(folder)
    split = path.partition("/")[0]
    samples = read_samples(folder, manifest)[split]
    shard = next(each for each in manifest.splits[split].shards if each.path == path)
    place = folder / path
    data = place.read_bytes()
    try:
        for cut in reversed(thin(cuts(shard, step), to=to)):
            os.truncate(place, cut)
            refused(partial(read_shard, folder, shard), place, f"{cut} bytes")
            whole: Iterator[object] = walk(data[:cut], folder, replace(shard, bytes=cut), samples)
            refused(partial(list, whole), place)
            tried()
    finally:
        place.write_bytes(data)


@pytest.mark.parametrize("group", ["few", "medium"])
def test_a_shard_cut_at_every_128th_byte_is_named(group: str, digits_lt: Built, tmp_path: Path) -> None:
    folder = copied(digits_lt.folder, tmp_path / "digits")
    every_cut(folder, f"train/{group}-000000.tar", STEP, to=60)


@pytest.mark.parametrize("path", ["train/few-000000.tar", "test/test-000000.tar"])
def test_a_shard_of_photographs_cut_at_every_128th_byte_is_named(path: str, photos: Path) -> None:
    every_cut(photos, path, STEP, to=40)


@pytest.mark.skipif(not WHOLE, reason="make faults alone builds a set of real photographs for this")
def test_a_shard_of_real_images_is_named_wherever_it_is_cut(cifar100_lt: Built, tmp_path: Path) -> None:
    """At every 2,048th byte."""
    folder = copied(cifar100_lt.folder, tmp_path / "cifar")
    every_cut(folder, "train/few-000000.tar", 16 * STEP, to=10)


def test_every_reader_finds_every_cut(small: Path, tmp_path: Path) -> None:
    """Each of all cuts of all shards, by what reads that split; what was to be made of them is not there."""
    cases = [(split, shard, cut) for split, shard in shards(small) for cut in cuts(shard)]
    for split, shard, cut in thin(cases, to=16):
        with restored(small):
            os.truncate(small / shard.path, cut)
            for name, read in readers_of(split).items():
                refused(partial(read, small, split, tmp_path), shard.path)
                assert not list(tmp_path.iterdir()), name
        tried()


def test_every_reader_of_photographs_finds_cuts(photos: Path, tmp_path: Path) -> None:
    cases = [(split, shard, cut) for split, shard in shards(photos) for cut in cuts(shard)]
    for split, shard, cut in thin(cases[:: len(cases) // 60], to=8):
        with restored(photos):
            os.truncate(photos / shard.path, cut)
            for read in readers_of(split, one_size=False).values():
                refused(partial(read, photos, split, tmp_path), shard.path)
            refused(partial(check_shards, photos, read_manifest(photos), split), shard.path)
        tried()


def test_every_cut_is_found_where_size_and_digest_were_mended(small: Path, tmp_path: Path) -> None:
    cases = [(split, shard, cut) for split, shard in shards(small) for cut in cuts(shard)]
    for split, shard, cut in thin(cases, to=24):
        with restored(small) as before:
            reseal(small, shard.path, before[shard.path][:cut])
            for name in CHECKED:
                refused(partial(READERS[name], small, split, tmp_path), shard.path)
        tried()


@pytest.mark.parametrize("name", SLOW_READERS)
def test_hugging_face_finds_cuts(name: str, small: Path, tmp_path: Path) -> None:
    read: Read = SLOW_READERS[name]
    cases = [(split, shard, shard.bytes * part // 16) for split, shard in shards(small) for part in range(1, 16, 3)]
    for number, (split, shard, cut) in enumerate(thin(cases, to=2)):
        out = tmp_path / str(number)
        out.mkdir()
        with restored(small):
            os.truncate(small / shard.path, cut)
            refused(partial(read, small, split, out), shard.path)
        assert not (out / "export").exists()
        tried()


def test_every_command_stops_with_exit_code_3_and_leaves_nothing(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    commands = {
        "verify": ("ltdata", "verify", small),
        "again": (
            "ltdata", "build", "folder", "--data-dir", small.parent / "tiny-images", "--name", "tiny",
            "--test-per-class", "1", "--groups", "mislas", "--out", small,
        ),
        "subset": ("ltdata", "subset", small, "--per-class", "9", "--as", "shards", "--quiet", "--out", out),
        "wids": ("ltdata", "export", small, "--format", "wids", "--out", out),
        "croissant": ("ltdata", "export", small, "--format", "croissant", "--out", out),
        "page": ("ltdata", "stats", small, "--mosaic", "--quiet", "--html", out),
        "training": training(small, out),
    }  # fmt: skip
    path = "train/medium-000000.tar"
    size = (small / path).stat().st_size
    for name, words in commands.items():
        for cut in thin([0, 512, 5_000, size // 2, size - 512, size - 1], to=1):
            with restored(small):
                os.truncate(small / path, cut)
                fails(run(*words), 3, path)
            assert not list(tmp_path.iterdir()), name
            tried()


def test_a_cut_shard_on_a_server_is_named(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server sends what it has, and says how much that is."""
    monkeypatch.setenv("no_proxy", "*")
    cases = [(split, shard, cut) for split, shard in shards(small) for cut in cuts(shard, 1024)]
    with served(small) as url:
        remote = open_remote(url)
        for split, shard, cut in thin(cases, to=4):
            with restored(small):
                os.truncate(small / shard.path, cut)
                rows = ShardSampler(remote.plans[split], remote.samples[split].labels, "instance-balanced", seed=0)
                every = np.concatenate([np.arange(len(remote.samples[split])), list(rows)])
                refused(lambda split=split, every=every: list(stream(remote, split, every)), url, shard.path)
            tried()


def test_a_shard_that_is_cut_while_it_is_read_is_named(small: Path, tmp_path: Path) -> None:
    """After it was opened, and its size was right."""
    folder = copied(small, tmp_path / "small")
    for group in ("many", "medium", "few"):
        shard = folder / "train" / f"{group}-000000.tar"
        for cut in thin(range(0, 2048, STEP), to=2):
            with restored(folder), open_images(folder, read_manifest(folder), "train") as images:
                images.read(images.located.shards.index(shard))
                os.truncate(shard, cut)
                for each, place in enumerate(images.located.shards):
                    end = images.located.offsets[each] + images.located.sizes[each]
                    cut_off = pytest.raises(MismatchError, match=shard.name) if place == shard and end > cut else None
                    with cut_off or nullcontext():
                        images.read(each)
            tried()
