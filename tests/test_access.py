"""Any image at any time, from any thread: the bytes of its row or an error, and no other shard opened."""

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ltdata.access import open_images
from ltdata.build import Built
from ltdata.errors import MismatchError, UsageError
from ltdata.index import INDEX_NAME
from ltdata.orders import epoch_order
from ltdata.planner import target_categories
from ltdata.reader import read_images, read_manifest


@pytest.fixture
def copied(digits_lt: Built, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits_lt.folder, tmp_path / "digits"))


@pytest.mark.parametrize("index", [True, False])
def test_any_order_gives_the_images_of_the_rows(copied: Path, index: bool) -> None:
    if not index:
        (copied / INDEX_NAME).unlink()
    manifest = read_manifest(copied)
    pixels, labels = read_images(copied, manifest, "train")
    rows = np.random.default_rng(0).integers(0, len(labels), 300)
    with open_images(copied, manifest, "train") as images:
        assert np.array_equal(images.labels, labels)
        assert np.array_equal(images.decode(rows), pixels[rows])
        assert np.array_equal(images.decode([5]), pixels[5:6])


def test_many_threads_read_the_same_images(digits_lt: Built) -> None:
    expected, _ = read_images(digits_lt.folder, digits_lt.manifest, "train")
    rows = np.random.default_rng(0).integers(0, len(expected), (50, 20))
    with open_images(digits_lt.folder, digits_lt.manifest, "train") as images, ThreadPoolExecutor(8) as pool:
        for row, found in zip(rows, pool.map(images.decode, rows), strict=True):
            assert np.array_equal(found, expected[row])


@pytest.mark.parametrize("size", [1, 7, 64, 489, 5000])
def test_batches_are_the_order_cut_into_whole_batches(digits_lt: Built, size: int) -> None:
    expected, labels = read_images(digits_lt.folder, digits_lt.manifest, "train")
    order = epoch_order("class-balanced", labels, seed=0, epoch=0, length=9000 if size > 1 else 300)
    with open_images(digits_lt.folder, digits_lt.manifest, "train") as images:
        found = list(images.batches(order, size))
    assert len(found) == len(order) // size
    assert all(batch.shape == (size, 32, 32, 3) for batch in found)
    assert np.array_equal(np.concatenate(found), expected[order[: len(found) * size]])


@pytest.mark.parametrize("expert", [0, 1, 2])
def test_an_experts_classes_are_read_without_opening_the_other_shards(digits_lt: Built, expert: int) -> None:
    """Expert 2 of planner "groups" takes medium and few, expert 3 few: their series alone are opened."""
    manifest = digits_lt.manifest
    targets = target_categories(manifest.class_counts, planner="groups", group_rule="strict")
    groups = ["many", "medium", "few"]
    with open_images(digits_lt.folder, manifest, "train") as images:
        images.decode(np.flatnonzero(targets[expert][images.labels]))
        opened = {path.name.partition("-")[0] for path in images.opened()}
    assert opened == {groups[g] for g in np.unique(manifest.groups[targets[expert]])}
    assert expert == 0 or "many" not in opened


def test_a_changed_byte_is_found_when_its_image_is_read(copied: Path) -> None:
    manifest = read_manifest(copied)
    with open_images(copied, manifest, "train") as images:
        place, offset = images.located.shards[7], images.located.offsets[7]
        data = bytearray(place.read_bytes())
        data[offset + 200] ^= 1
        place.write_bytes(data)
        with pytest.raises(MismatchError, match="another digest than its row"):
            images.read(7)


def test_a_shard_that_is_cut_while_it_is_open_is_an_error_not_a_crash(copied: Path) -> None:
    manifest = read_manifest(copied)
    with open_images(copied, manifest, "train") as images:
        last = max(range(len(images)), key=lambda row: images.located.offsets[row])
        images.read(last)
        with images.located.shards[last].open("r+b") as shard:
            shard.truncate(images.located.offsets[last] + 10)
        with pytest.raises(MismatchError, match="was cut while it was read"):
            images.read(last)


def test_a_shard_that_is_gone_is_named(copied: Path) -> None:
    manifest = read_manifest(copied)
    with open_images(copied, manifest, "train") as images:
        place = images.located.shards[0]
        place.unlink()
        with pytest.raises(MismatchError, match=place.name):
            images.read(0)


@pytest.mark.parametrize("rows", [[], np.array([True, False]), np.array([0.5]), [-1], [489]])
def test_what_is_no_row_is_refused(digits_lt: Built, rows: list[int]) -> None:
    with open_images(digits_lt.folder, digits_lt.manifest, "train") as images:
        with pytest.raises(UsageError, match="rows: "):
            images.decode(rows)
        with pytest.raises(UsageError, match="size 0"):
            next(images.batches(np.arange(3), 0))


def test_a_split_that_is_not_there_is_refused(digits_lt: Built) -> None:
    with pytest.raises(UsageError, match="has train, test"):
        open_images(digits_lt.folder, digits_lt.manifest, "val")


def test_images_are_a_data_set_of_their_own(digits_lt: Built) -> None:
    """Row by row, as map-style data sets are; also in another process."""
    pixels, labels = read_images(digits_lt.folder, digits_lt.manifest, "train")
    with open_images(digits_lt.folder, digits_lt.manifest, "train") as images:
        other = pickle.loads(pickle.dumps(images))
        for each in (images, other):
            image, label = each[7]
            assert np.array_equal(image, pixels[7])
            assert (label, type(label)) == (labels[7], int)
            assert np.array_equal(each[-1][0], pixels[-1])
            with pytest.raises(IndexError):
                each[len(labels)]
        assert [label for _, label in images] == labels.tolist()
        other.close()


def test_an_image_that_is_none_is_named(digits_lt: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_images(digits_lt.folder, digits_lt.manifest, "train") as images:
        monkeypatch.setattr(images, "read", lambda _row: b"no image")
        with pytest.raises(MismatchError, match=r"\.tar: the image at byte \d+: cannot be decoded"):
            images[0]
