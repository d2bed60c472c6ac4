"""A bit that flipped is found by verify, and before a training starts on it: in a shard, the rows, the header.

Of the index it is found, or its columns are the same; nobody reads a wrong image by it. Of a cache it is found, or the
arrays are the same. Of the header some texts are covered by nothing: `DESCRIPTIVE`.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from faults.breaks import Break
from faults.damage import (
    ONE_SIZE,
    READERS,
    Record,
    copied,
    drawn,
    edit,
    fails,
    flipped,
    opened,
    photographs,
    readers_of,
    refused,
    reseal,
    restored,
    rows_of,
    run,
    tiny,
    training,
)
from faults.effort import WHOLE, thin, tried
from ltdata import index
from ltdata.build import Built
from ltdata.catalog import find
from ltdata.errors import MismatchError, SourceMissingError
from ltdata.files import sha256_bytes
from ltdata.manifest import Manifest
from ltdata.reader import read_manifest, read_samples, read_shard, shard_plans, walk
from ltdata.samples import Samples
from ltdata.subset import Part, make_subset, write_subset
from ltdata.verify import verify

BREAKS = (
    Break("ltdata/reader.py", "    if found != shard.sha256:", "    if False:", only="bits_of_a_whole_shard"),
    Break("ltdata/reader.py", "        if data[at:offset] != start or", "        if", only="bits_of_a_whole_shard"),
    Break(
        "ltdata/reader.py",
        "        if samples.sha256 is not None and sha256_bytes(image) != samples.sha256[row]:",
        "        if False:",
        only="images",
    ),
    Break(
        "ace_ref/loading.py",
        "            reader.check_shards(place, manifest, split, progress=progress)\n            return StreamedSplit(",
        "            return StreamedSplit(",
        only="before_a_training",
    ),
    Break(
        "ace_ref/loading.py",
        "            reader.check_shards(place, manifest, split, progress=progress)\n            return {",
        "            return {",
        only="before_a_training",
    ),
    Break("ltdata/manifest.py", "        if found != split.samples_sha256:", "        if False:", only="rows"),
    Break("ltdata/manifest.py", "            if other:  # such as", "            if False:  #", only="header"),
    Break("ltdata/manifest.py", "            check_imbalance(", "            (lambda *_: None)(", only="header"),
    Break("ltdata/manifest.py", "        if listed != split.list_sha256:", "        if False:", only="header"),
    Break("ace_ref/loading.py", "        if said == about:", "        if True:", only="believed"),
    Break("ace_ref/loading.py", "if alike and _shapes(arrays) == shapes:", "if alike:", only="no_pixel"),
)  # fmt: skip
BLOCK = 512
# Nothing here computes with them but the words of a page or an export; no digest covers them.
DESCRIPTIVE = ("name", "class_names", "superclass_names", "citation", "created_by", "storage")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the small set; a test restores what it flips."""
    return tiny(tmp_path_factory.mktemp("flipped")).folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build photographs of many sizes; a test restores what it flips."""
    return photographs(tmp_path_factory.mktemp("flipped")).folder


def bits_of(*parts: range) -> list[int]:
    return [8 * byte + bit for part in parts for byte in part for bit in range(8)]


def check_flips(folder: Path, path: str, bits: Sequence[int]) -> None:
    """Flip bits of a shard, one at a time: refused by its digest, and by its format where the digest was mended."""
    manifest, split = read_manifest(folder), path.partition("/")[0]
    samples = read_samples(folder, manifest)[split]
    shard = next(each for each in manifest.splits[split].shards if each.path == path)
    place = folder / path
    data = place.read_bytes()
    with restored(folder), place.open("r+b", buffering=0) as file:
        for bit in bits:
            changed = flipped(data, bit)
            file.seek(bit // 8)
            file.write(changed[bit // 8 : bit // 8 + 1])
            refused(partial(read_shard, folder, shard), place, "SHA-256")
            refused(partial(list, walk(changed, folder, shard, samples)), place)
            file.seek(bit // 8)
            file.write(data[bit // 8 : bit // 8 + 1])
            tried()


def images_in(folder: Path, path: str) -> list[range]:
    """Return where the images of a shard lie."""
    split = path.partition("/")[0]
    manifest = read_manifest(folder)
    shard = next(each for each in manifest.splits[split].shards if each.path == path)
    members = walk(read_shard(folder, shard), folder, shard, read_samples(folder, manifest)[split])
    return [range(member.offset, member.offset + len(member.image)) for member in members]


def around(images: Sequence[range], end: int) -> list[int]:
    """Return the bits of a shard that are not of images: headers, labels, padding, the end mark."""
    starts = [0, *(image.stop for image in images)]
    stops = [*(image.start for image in images), end]
    return bits_of(*map(range, starts, stops))


def random_bits(images: Sequence[range], count: int, *, seed: int) -> list[int]:
    """Draw different bits of images."""
    return sorted(np.random.RandomState(seed).permutation(bits_of(*images))[:count].tolist())


# --- shards


def test_bits_of_a_whole_shard(small: Path) -> None:
    """Every third of 81,920: headers, labels, images, padding, the end mark."""
    path = "train/few-000000.tar"
    size = (small / path).stat().st_size
    check_flips(small, path, thin(range(0, 8 * size, 3), to=400))


def test_bits_around_the_first_images_of_a_shard_of_photographs(photos: Path) -> None:
    """Every third bit of headers of both members, label, padding of both; and of the end mark."""
    path = "train/few-000000.tar"
    images = images_in(photos, path)
    assert len({(image.stop - image.start) % BLOCK for image in images}) > 5
    size = (photos / path).stat().st_size
    first = [bit for bit in around(images, size) if bit < 8 * images[1].start or bit >= 8 * images[-1].stop]
    check_flips(photos, path, thin(first[::3], to=300))


@pytest.mark.parametrize("path", ["train/few-000000.tar", "train/many-000000.tar", "test/test-000000.tar"])
def test_bits_of_images_of_digits(path: str, digits_lt: Built, tmp_path: Path) -> None:
    folder = copied(digits_lt.folder, tmp_path / "digits")
    check_flips(folder, path, thin(random_bits(images_in(folder, path), 600, seed=0), to=6))


@pytest.mark.parametrize("path", ["train/few-000000.tar", "train/medium-000000.tar"])
def test_bits_of_images_of_photographs(path: str, photos: Path) -> None:
    check_flips(photos, path, thin(random_bits(images_in(photos, path), 600, seed=1), to=12))


@pytest.mark.skipif(not WHOLE, reason="make faults alone builds a set of real photographs for this")
def test_bits_of_images_of_cifar(cifar100_lt: Built, tmp_path: Path) -> None:
    folder, path = copied(cifar100_lt.folder, tmp_path / "cifar"), "train/few-000000.tar"
    check_flips(folder, path, random_bits(images_in(folder, path), 500, seed=2))


def test_every_reader_finds_flipped_bits_of_images(small: Path, tmp_path: Path) -> None:
    """Also where the shard's digest was mended; a mosaic shows some images, and checks those."""
    for path in ("train/medium-000000.tar", "test/test-000000.tar"):
        split = path.partition("/")[0]
        readers = {name: read for name, read in readers_of(split).items() if name != "mosaic"}
        for bit in thin(random_bits(images_in(small, path), 50, seed=3), to=6):
            with restored(small) as before:
                (small / path).write_bytes(flipped(before[path], bit))
                for read in readers.values():
                    refused(partial(read, small, split, tmp_path), path)
                reseal(small, path, flipped(before[path], bit))
                for name, read in readers.items():
                    # Some describe the files, whose digests fit; what is streamed is compared when it is read.
                    if name not in {"wids", "croissant", "trained on, streamed"}:
                        refused(partial(read, small, split, tmp_path), path)
            assert not list(tmp_path.iterdir())
            tried()


def test_readers_of_whole_shards_find_bits_that_flipped_around_images(small: Path, tmp_path: Path) -> None:
    """Also where the digest was mended; random access then looks at images alone, and gives the right ones."""
    names = ("verify digests", "read_images", "webdataset", "stream", "trained on, of one size")
    for path in ("train/many-000000.tar", "test/test-000000.tar"):
        split = path.partition("/")[0]
        expected = rows_of(small, split)
        bits = around(images_in(small, path), (small / path).stat().st_size)
        for bit in thin(bits[:: len(bits) // 250], to=12):
            with restored(small) as before:
                reseal(small, path, flipped(before[path], bit))
                for name in names:
                    refused(partial(READERS[name], small, split, tmp_path), path)
                assert tuple(map(sha256_bytes, opened(small, split))) == expected
            tried()


# --- before a training starts

LOADED = [name for name in READERS if name.startswith("trained on")]


@pytest.mark.parametrize("which", ["small", "photos"])
def test_every_flipped_bit_is_found_before_a_training_starts(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """In any byte of any shard, and of the rows, however the images are held."""
    folder: Path = request.getfixturevalue(which)
    files = {
        shard.path: name for name, split in read_manifest(folder).splits.items() for shard in split.shards
    } | {"samples.jsonl": "train"}  # fmt: skip
    sizes = {path: 8 * (folder / path).stat().st_size for path in files}
    cases = [(path, bit) for path, size in sizes.items() for bit in range(3, size, sum(sizes.values()) // 250)]
    for path, bit in thin(cases, to=14):
        with restored(folder) as before:
            (folder / path).write_bytes(flipped(before[path], bit))
            for name in LOADED:
                if which == "small" or name not in ONE_SIZE:
                    refused(partial(READERS[name], folder, files[path], tmp_path), path)
        tried()


@pytest.mark.parametrize(
    "options", [(), ("--set", "crop=resized", "--set", "crop_px=8", "--resident-gb", "0")], ids=["resident", "streamed"]
)
def test_the_command_stops_before_the_first_step(options: tuple[str, ...], small: Path, tmp_path: Path) -> None:
    from ace_ref import train

    for path in thin(["train/few-000000.tar", "test/test-000000.tar", "samples.jsonl", "manifest.json"], to=2):
        with restored(small) as before, mock.patch.object(train, "side_by_side") as steps:
            (small / path).write_bytes(flipped(before[path], 8 * 300))
            fails(run(*training(small, tmp_path / "out", *options)), 3, path)
            steps.assert_not_called()
        assert not list(tmp_path.iterdir())
        tried()


def test_no_step_is_made_on_a_wrong_image_that_came_from_a_server(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the images are not here before a training starts, each shard is checked before one of it is used."""
    import torch

    from ace_ref.draws import draw_epoch
    from ace_ref.loading import Memory, load_split, open_shards
    from ace_ref.recipe import load_recipe
    from faults.trainings import served

    monkeypatch.setenv("no_proxy", "*")
    recipe = load_recipe("tiny", "ce", source="folder", imbalance_factor=4)
    recipe = recipe.with_values({"crop": "resized", "crop_px": 24, "batch_size": 4})
    paths = [shard.path for shard in read_manifest(photos).splits["train"].shards]
    cases = [(path, bit) for path in paths for bit in range(40, 8 * (photos / path).stat().st_size, 40_111)]
    with served(photos) as url:
        for path, bit in thin(cases, to=2):
            with restored(photos) as before:
                (photos / path).write_bytes(flipped(before[path], bit))
                manifest, place = open_shards(url)
                split = load_split(place, manifest, "train", recipe, Memory(torch.device("cpu")))
                batches = split.augmented(draw_epoch(split, recipe, seed=0, epoch=0), recipe, start=0, seen=slice(None))
                refused(partial(list, batches), url, path)
            tried()


# --- rows, index


@pytest.mark.parametrize("which", ["small", "photos"])
def test_bits_of_the_rows(which: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(which)
    path = folder / "samples.jsonl"
    manifest = read_manifest(folder)
    with restored(folder) as before:
        data = before["samples.jsonl"]
        for bit in thin(range(0, 8 * len(data), 11 if which == "small" else 97), to=100):
            path.write_bytes(flipped(data, bit))
            refused(partial(read_samples, folder, manifest), path)
            if bit % 997 == 0:
                refused(partial(verify, folder, images=False), path)
            tried()


def test_a_bit_of_the_index_is_found_or_changes_no_column(small: Path) -> None:
    """By `verify`; and nobody gets another image by it."""
    path = small / "index.npz"
    expected = {split: rows_of(small, split) for split in ("train", "test")}
    with restored(small) as before:
        data = before["index.npz"]
        columns = index.from_bytes(data)
        assert columns is not None
        for number, bit in enumerate(thin(range(0, 8 * len(data), 7), to=120)):
            changed = flipped(data, bit)
            same = index.matches(changed, columns)
            if number % (11 if WHOLE else 25) == 0:
                path.write_bytes(changed)
                if not same:
                    refused(partial(verify, small, images=False), path)
                else:
                    verify(small, images=False)
                for split, digests in expected.items():
                    try:
                        assert tuple(map(sha256_bytes, opened(small, split))) == digests
                    except MismatchError as error:
                        assert "verify" in str(error)  # noqa: PT017 - allowed, not demanded
            elif same:
                again = index.from_bytes(changed)
                assert again is not None
                assert all(np.array_equal(again[name], columns[name]) for name in columns)
            tried()


# --- the header


def lessened(manifest: Manifest) -> Record:
    """Return what the header says, without what is only descriptive."""
    record: Record = json.loads(manifest.to_json())
    for key in DESCRIPTIVE:
        record.pop(key, None)
    protocol = record.pop("protocol")
    params = protocol["params"]
    return record | {
        "source": record["source"]["id"],
        "factor": [params.get(name) for name in ("profile", "imbalance_factor", "alpha")],
        "seed": params.get("seed", 0),
    }


def headers(small: Path, place: Path) -> dict[str, Path]:
    """Make builds of several kinds, and a view."""
    found = {"folder": copied(small, place / "folder"), "drawn": drawn(place).folder}
    whole = find(str(found["drawn"]), rows=True)
    for form in ("shards", "view"):
        part = make_subset(whole.manifest, Part(per_class=2))
        write_subset(whole, part, place / form, form=form)
        found[form] = place / form
    return found


@pytest.mark.parametrize(("kind", "step"), [("folder", 3), ("drawn", 3), ("shards", 7), ("view", 7)])
def test_a_bit_of_the_header_is_found_or_only_described(kind: str, step: int, small: Path, tmp_path: Path) -> None:
    """A header that is read with another value that anything computes with is a fault that `verify` finds.

    A view says of each class to which group it belongs, and no digest covers that: the only such value. It has no
    shards of its own in which a seed could have placed its rows.
    """
    folder = headers(small, tmp_path)[kind]
    before = read_manifest(folder)
    unprotected = {"class_groups", "seed"} if kind == "view" else set()
    rows = read_samples(folder, before)["train"]
    found: set[str] = set()
    with restored(folder) as files:
        data = files["manifest.json"]
        for bit in thin(range(0, 8 * len(data), step), to=200):
            changed = flipped(data, bit)
            try:
                manifest = Manifest.from_json(changed.decode("utf-8"), origin="here")
            except (MismatchError, UnicodeDecodeError):
                tried()
                continue  # no reader takes it
            one, other = lessened(before), lessened(manifest)
            different = {key for key in one | other if one.get(key) != other.get(key)} - unprotected
            if different == {"factor"}:
                assert harmless_factor(before, manifest), manifest.protocol
            elif different == {"seed"} and placed(before, rows) == placed(manifest, rows):
                pass  # another seed that puts every row where it was
            elif different:
                (folder / "manifest.json").write_bytes(changed)
                with pytest.raises((MismatchError, SourceMissingError)) as caught:
                    verify(folder, images=False)
                assert str(folder) in str(caught.value)
                found |= different
            tried()
    assert found or not WHOLE


def placed(manifest: Manifest, rows: Samples) -> list[list[int]]:
    """Return which rows a header puts into each shard."""
    plans = shard_plans(manifest, "train", rows)
    return [plan.rows.tolist() for plan in plans or []]


def harmless_factor(before: Manifest, after: Manifest) -> bool:
    """Tell whether an imbalance factor was read that gives the very same counts, and is not one that recipes know."""
    factor = after.protocol["params"]["imbalance_factor"]
    return after.splits["train"].class_counts == before.splits["train"].class_counts and factor != 50


def test_the_descriptive_texts_change_nothing_that_is_read(small: Path, tmp_path: Path) -> None:
    """What no digest covers: names of classes and of the whole, what to cite, what the source says of itself."""
    changes: dict[str, Callable[[Record], object]] = {
        "name": lambda record: record.update(name="another"),
        "class_names": lambda record: record["class_names"].__setitem__(0, "another"),
        "citation": lambda record: record.update(citation=["another"]),
        "created_by": lambda record: record["created_by"].update(ltdata="9.9"),
        "version": lambda record: record["source"].update(version="another"),
        "params": lambda record: record["protocol"]["params"].update(max_per_class=7),
    }
    for change in changes.values():
        with restored(small):
            edit(small, change)
            verify(small)
            for split in ("train", "test"):
                assert tuple(map(sha256_bytes, opened(small, split))) == rows_of(small, split)
        tried()


# --- caches of a training


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a cache folder of this test alone."""
    monkeypatch.setenv("LTDATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "decoded"


def caches(small: Path, photos: Path, place: Path, cached: Path) -> Iterator[tuple[Path, Path, Callable[[], object]]]:
    """Yield a set, its cache file, and what loads the set by it."""
    import torch

    from ace_ref.loading import Memory, load_split, open_shards
    from ace_ref.recipe import load_recipe

    recipe = load_recipe("tiny", "ce", source="folder", imbalance_factor=4)
    resized = recipe.with_values({"crop": "resized", "crop_px": 24, "short_side_px": 32})
    for source, chosen in ((small, recipe), (photos, resized)):
        folder = copied(source, place / source.name)

        def load(folder: Path = folder, chosen: object = chosen) -> object:
            manifest, found = open_shards(str(folder))
            return load_split(found, manifest, "train", chosen, Memory(torch.device("cpu"), cache=True))  # type: ignore[arg-type]

        load()
        (path,) = cached.iterdir()
        yield folder, path, load
        shutil.rmtree(cached)


def same(found: object, expected: object) -> None:
    """Check that two sets hold the same pixels."""
    import torch

    assert vars(found).keys() == vars(expected).keys()
    for name, value in vars(expected).items():
        assert torch.equal(*map(torch.as_tensor, (getattr(found, name), value))), name


def test_a_flipped_bit_of_a_cache_is_found_or_changes_no_pixel(
    small: Path, photos: Path, tmp_path: Path, cached: Path
) -> None:
    """Every bit around the arrays, and some of the arrays: what is wrong with it has the shards read again."""
    for folder, path, load in caches(small, photos, tmp_path, cached):
        expected = load()
        data = path.read_bytes()
        heads = [at for at in range(len(data) - 4) if data[at : at + 4] in (b"PK\3\4", b"PK\1\2", b"PK\5\6")]
        bits = bits_of(*(range(at, min(at + 300, len(data))) for at in heads))
        bits = sorted({*bits, *random_bits([range(len(data))], 500, seed=4)})
        shapes = [data.index(b"'shape': (", at) + 10 for at in heads if data[at : at + 4] == b"PK\3\4"]
        for bit in thin(
            bits_of(*(range(at, at + 7) for at in shapes)), to=28
        ):  # an array that is said to be shorter, or longer
            path.write_bytes(flipped(data, bit))
            same(load(), expected)
            tried()
        for bit in thin(bits[:: 5 if folder.name == "tiny" else 23], to=8):
            path.write_bytes(flipped(data, bit))
            same(load(), expected)
            tried()
        shutil.rmtree(folder)


def test_a_cache_is_not_believed_where_the_header_or_a_size_changed(
    small: Path, photos: Path, tmp_path: Path, cached: Path
) -> None:
    """Rows are not read beside a cache, so it must be that of this very header; sizes are read out of the files."""
    for folder, _, load in caches(small, photos, tmp_path, cached):
        with restored(folder):
            edit(folder, stale)
            refused(load, "class_counts")
        tried()
        if folder.name == "photographs":
            path = "train/few-000000.tar"
            with restored(folder) as before:
                start = images_in(folder, path)[0].start
                frame = before[path].index(b"\xff\xc0\0\x11\x08", start) + 5  # of a baseline JPEG: height and width
                (folder / path).write_bytes(flipped(before[path], 8 * (frame + 1) + 1))
                refused(load, path)
            tried()


def stale(record: Record) -> None:
    counts = record["splits"]["train"]["class_counts"]
    counts[0], counts[1] = counts[0] + 1, counts[1] - 1
