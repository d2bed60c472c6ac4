"""Adapters: other people's libraries read our shards, and see the images and labels that we see."""

import io
import json
import pickle
import shutil
import sys
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import SHARED
from numpy.typing import NDArray
from PIL import Image

import ltdata
from ltdata import adapters
from ltdata.build import Built, build
from ltdata.catalog import find
from ltdata.errors import MismatchError, SourceMissingError, UsageError
from ltdata.files import sha256_bytes
from ltdata.images import Stored
from ltdata.reader import read_images
from ltdata.samples import Samples
from ltdata.shards import key
from ltdata.spec import Spec
from ltdata.subset import Part, make_subset, write_subset

# webdataset 1.0.2 leaves shards open until they are collected
leaves_open = pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def hf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Give the datasets package, quiet, with an empty cache."""
    datasets: ModuleType = pytest.importorskip("datasets", reason="the extra huggingface is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf cache"))
    datasets.disable_progress_bars()
    yield datasets
    datasets.enable_progress_bars()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a folder of real photographs, JPEG, in three classes."""
    photos = sorted((SHARED / "data" / "jpegs").glob("*.JPEG"), key=lambda path: path.stat().st_size)[:24]
    if not photos:
        pytest.skip(f"the photographs are not here ({SHARED}); set LTDATA_SHARED to the folder that has them")
    folder = tmp_path_factory.mktemp("photographs") / "birds {odd} [name]"
    for number, photo in enumerate(photos):
        place = folder / "images" / ("wren", "owl", "swift")[0 if number < 14 else 1 if number < 20 else 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / photo.name).write_bytes(photo.read_bytes())
    spec = Spec("folder", test_per_class=1, title="birds")
    return build(spec, data_dir=folder / "images", out=folder / "built").folder


@pytest.fixture(scope="module")
def view(digits_lt: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a view of the smaller classes of the digits, numbered anew."""
    whole = find(str(digits_lt.folder), rows=True)
    subset = make_subset(whole.manifest, Part(groups=("medium", "few")), relabel=True)
    out = tmp_path_factory.mktemp("views") / "tail"
    write_subset(whole, subset, out, form="view")
    return out


@pytest.fixture(params=["digits", "photographs", "view"])
def folder(request: pytest.FixtureRequest, digits_lt: Built) -> Path:
    """Give a build of PNG images, one of JPEG files, and a view."""
    return digits_lt.folder if request.param == "digits" else request.getfixturevalue(request.param)


def splits(folder: Path) -> dict[str, Samples]:
    return dict(find(str(folder), rows=True).manifest.rows)


def pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


# --- webdataset


def test_webdataset_yields_every_image_with_its_label(folder: Path) -> None:
    for split, samples in splits(folder).items():
        found = {sample["__key__"]: sample for sample in adapters.webdataset(folder, split)}
        assert sorted(found) == [key(row) for row in range(len(samples))]
        assert samples.sha256 is not None
        for row, digest in enumerate(samples.sha256):
            sample = found[key(row)]
            image = sample["png"] if "png" in sample else sample["jpg"]
            assert (sha256_bytes(image), int(sample["cls"])) == (digest, samples.labels[row])


def test_webdataset_decodes_what_the_reader_decodes(digits_lt: Built) -> None:
    expected, labels = read_images(digits_lt.folder, digits_lt.manifest, "train")
    for name, image, label in adapters.webdataset(digits_lt.folder).decode("rgb8").to_tuple("__key__", "png", "cls"):
        assert np.array_equal(image, expected[int(name)])
        assert label == labels[int(name)]


def test_webdataset_shares_samples_among_the_workers_of_a_data_loader(digits_lt: Built) -> None:
    """Three shards, or one, for two workers: each sample comes once, and a worker without a shard is no error."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for split, samples in splits(digits_lt.folder).items():
        pipeline = adapters.webdataset(digits_lt.folder, split).to_tuple("__key__")
        keys = [name for (name,) in torch.utils.data.DataLoader(pipeline, batch_size=None, num_workers=2)]
        assert sorted(keys) == [key(row) for row in range(len(samples))]


def test_webdataset_gives_the_same_order_every_time_and_can_be_sent_to_a_worker(folder: Path) -> None:
    pipeline = adapters.webdataset(folder)
    first, second, sent = (list(each) for each in (pipeline, pipeline, pickle.loads(pickle.dumps(pipeline))))
    assert first == second == sent
    assert all(set(sample) in ({"__key__", "png", "cls"}, {"__key__", "jpg", "cls"}) for sample in first)


def test_webdataset_samples_can_be_shuffled_and_decoded(digits_lt: Built) -> None:
    labels = splits(digits_lt.folder)["train"].labels
    pipeline = adapters.webdataset(digits_lt.folder).shuffle(100)
    assert [sample["__key__"] for sample in pipeline] != [
        sample["__key__"] for sample in adapters.webdataset(digits_lt.folder)
    ]
    found = list(pipeline.decode("pil").to_tuple("png", "cls"))
    assert {image.size for image, _ in found} == {(32, 32)}
    assert sorted(label for _, label in found) == sorted(labels.tolist())


def test_webdataset_deals_shards_to_several_processes_only_where_it_is_told_to(
    digits_lt: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    import webdataset as wds

    keys = []
    for rank in range(2):
        for name, value in {"RANK": rank, "WORLD_SIZE": 2}.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(ValueError, match="nodesplitter"):
            list(adapters.webdataset(digits_lt.folder))
        keys += [each["__key__"] for each in adapters.webdataset(digits_lt.folder, nodesplitter=wds.split_by_node)]
    assert sorted(keys) == [key(row) for row in range(489)]


def test_webdataset_runs_no_command_that_a_folder_is_named_after(
    digits_lt: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of names that begin with ``pipe:``, the library runs the rest in a shell."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(digits_lt.folder, tmp_path / "pipe:touch ran;")
    assert len(list(adapters.webdataset("pipe:touch ran;"))) == 489
    assert not list(tmp_path.rglob("ran"))


class Touching:
    """Create a file on being unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", ["pickle", "pyd", "pth"])
def test_webdataset_unpickles_nothing(suffix: str, digits_lt: Built, tmp_path: Path) -> None:
    """A member more in a shard whose digest was made to fit."""
    copy = Path(shutil.copytree(digits_lt.folder, tmp_path / "copy"))
    shard = copy / "train" / "few-000000.tar"
    data, hostile = shard.read_bytes(), pickle.dumps(Touching(tmp_path / "ran"))
    info = tarfile.TarInfo(f"{data[:8].decode()}.{suffix}")
    info.size = len(hostile)
    end = data.index(b"\x89PNG") - 512
    shard.write_bytes(data[:end] + info.tobuf(tarfile.USTAR_FORMAT) + hostile.ljust(512, b"\0") + data[end:])
    record = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    entry = next(each for each in record["splits"]["train"]["shards"] if each["path"] == "train/few-000000.tar")
    entry.update(bytes=shard.stat().st_size, sha256=sha256_bytes(shard.read_bytes()))
    (copy / "manifest.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(MismatchError, match="few-000000"):
        list(adapters.webdataset(copy).decode("pil"))
    assert not (tmp_path / "ran").exists()


@leaves_open
def test_webdataset_itself_reads_the_shards_by_their_names(photographs: Path) -> None:
    import webdataset as wds

    shards = sorted(str(path) for path in (photographs / "train").glob("*.tar"))
    samples = list(wds.WebDataset(shards, shardshuffle=False))
    rows = splits(photographs)["train"]
    assert {int(sample["__key__"]): int(sample["cls"]) for sample in samples} == dict(enumerate(rows.labels.tolist()))


# --- Hugging Face


def test_hugging_face_has_the_images_in_the_order_of_the_rows(folder: Path, hf: ModuleType) -> None:
    for split, samples in splits(folder).items():
        found = adapters.huggingface(folder, split)
        raw = found.cast_column("image", hf.Image(decode=False))
        assert tuple(sha256_bytes(image["bytes"]) for image in raw["image"]) == samples.sha256
        assert list(found["label"]) == samples.labels.tolist()
        assert list(found["source_path" if samples.source_path else "source_index"]) == list(samples.places)
        assert found.features["label"].names == list(find(str(folder)).manifest.class_names)
        assert str(found.split) == split


def test_hugging_face_decodes_what_the_reader_decodes(digits_lt: Built, hf: ModuleType) -> None:
    expected, labels = read_images(digits_lt.folder, digits_lt.manifest, "train")
    found = adapters.huggingface(digits_lt.folder)
    assert all(np.array_equal(image, one) for image, one in zip(found["image"], expected, strict=True))
    assert found[5]["label"] == labels[5]
    assert [row["label"] for row in found.select([9, 3])] == labels[[9, 3]].tolist()


def test_hugging_face_copies_the_images_once(
    digits_lt: Built, hf: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until what is copied would be another: other rows, or classes of other names."""
    first = adapters.huggingface(digits_lt.folder)
    with monkeypatch.context() as patch:
        patch.setattr(Stored, "encoded", None)
        again = adapters.huggingface(digits_lt.folder)
    assert again.cache_files == first.cache_files
    assert again._fingerprint == first._fingerprint
    copy = Path(shutil.copytree(digits_lt.folder, tmp_path / "copy"))
    header = (copy / "manifest.json").read_text(encoding="utf-8")
    (copy / "manifest.json").write_text(header.replace('"0"', '"zero"'), encoding="utf-8")
    assert adapters.huggingface(copy).features["label"].names[0] == "zero"
    assert adapters.huggingface(digits_lt.folder, "test")._fingerprint != first._fingerprint


def test_hugging_face_checks_every_image(digits_lt: Built, tmp_path: Path, hf: ModuleType) -> None:
    """A changed pixel is ltdata's error, not one of the library, and no copy is left that would be opened later."""
    copy = Path(shutil.copytree(digits_lt.folder, tmp_path / "copy"))
    shard = copy / "train" / "few-000000.tar"
    data = bytearray(shard.read_bytes())
    data[2000] ^= 1
    shard.write_bytes(data)
    for _ in range(2):
        with pytest.raises(MismatchError, match="few-000000"):
            adapters.huggingface(copy)


def test_what_is_made_of_a_hugging_face_data_set_has_its_rows(digits_lt: Built, hf: ModuleType, tmp_path: Path) -> None:
    """Filter, map, save, and send."""
    labels = splits(digits_lt.folder)["train"].labels
    found = adapters.huggingface(digits_lt.folder)
    few = found.filter(lambda label: label == 9, input_columns="label")
    assert len(few) == int((labels == 9).sum())
    mapped = found.map(lambda row: {"size": row["image"].size[0]}, remove_columns="image")
    assert set(mapped["size"]) == {32}
    found.save_to_disk(str(tmp_path / "saved"))
    assert list(hf.load_from_disk(str(tmp_path / "saved"))["label"]) == labels.tolist()
    assert list(pickle.loads(pickle.dumps(found))["label"]) == labels.tolist()


def test_load_dataset_webdataset_reads_our_shards(
    folder: Path, hf: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hugging Face's own reader of WebDataset files, without a network."""
    monkeypatch.setattr(hf.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(hf.config, "HF_HUB_OFFLINE", True)
    if not list(folder.glob("*/*.tar")):
        pytest.skip("a view has no shards of its own")
    plain = Path(shutil.copytree(folder, tmp_path / "plain"))  # its data_files are patterns: no brackets in names
    files = {name: [str(path) for path in sorted(plain.glob(f"{name}/*.tar"))] for name in ("train", "test")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = hf.load_dataset("webdataset", data_files=files, cache_dir=str(tmp_path / "cache"))
    for name, samples in splits(folder).items():
        suffix = "png" if "png" in loaded[name].column_names else "jpg"
        raw = loaded[name].cast_column(suffix, hf.Image(decode=False))
        seen = {row["__key__"].rpartition("/")[2]: (sha256_bytes(row[suffix]["bytes"]), row["cls"]) for row in raw}
        assert samples.sha256 is not None
        rows = zip(samples.sha256, samples.labels.tolist(), strict=True)
        assert seen == {key(row): each for row, each in enumerate(rows)}


# --- plain tar, torchvision


def test_plain_tarfile_reads_every_sample(folder: Path) -> None:
    manifest = find(str(folder)).manifest
    for name, samples in splits(folder).items():
        members: dict[str, bytes] = {}
        for shard in manifest.splits[name].shards:
            with tarfile.open(folder / shard.path) as tar:
                for member in tar:
                    stream = tar.extractfile(member)
                    assert stream is not None
                    assert member.name not in members
                    members[member.name] = stream.read()
        if not members:
            assert manifest.view_of is not None
            continue
        assert len(members) == 2 * len(samples)
        assert samples.sha256 is not None
        for row, digest in enumerate(samples.sha256):
            assert int(members[f"{key(row)}.cls"]) == samples.labels[row]
            assert digest in {sha256_bytes(members.get(f"{key(row)}.{suffix}", b"")) for suffix in ("png", "jpg")}


def test_torchvision_needs_no_adapter(
    cifar100_dir: Path, torchvision: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line: a `Subset` of its CIFAR-100 by our positions has our labels."""
    from torch.utils.data import Subset

    cifar = torchvision.datasets.cifar
    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)  # these pickles have the web's content, not its md5
    manifest = ltdata.load("cifar100-lt", imbalance_factor=100)
    subset: Subset[Any] = Subset(cifar.CIFAR100(cifar100_dir), manifest.indices)  # type: ignore[arg-type]
    assert len(subset) == 10_847
    labels = [subset[n][1] for n in range(0, len(subset), 31)]
    assert labels == manifest.labels[::31].tolist()


def test_a_hugging_face_copy_of_the_source_needs_no_adapter(hf: ModuleType) -> None:
    """One line: `select` by our positions."""
    manifest = ltdata.load("cifar100-lt", imbalance_factor=100)
    whole = hf.Dataset.from_dict({"position": np.arange(50_000)})
    assert list(whole.select(manifest.indices)["position"]) == manifest.indices.tolist()


# --- what cannot be opened


def test_folders_without_images_are_refused(digits_lt: Built, tmp_path: Path, hf: ModuleType) -> None:
    bare = build(Spec("digits", 20), out=tmp_path / "bare", manifest_only=True).folder
    for adapter in (adapters.huggingface, adapters.webdataset):
        with pytest.raises(SourceMissingError, match="without images"):
            adapter(bare)
        with pytest.raises(SourceMissingError, match="no folder with images"):
            adapter("cifar100-lt-exp-if100")
        with pytest.raises(UsageError, match="has train, test"):
            adapter(digits_lt.folder, "dev")


@pytest.mark.parametrize("index", ["there", "gone", "garbled", "of another build"])
def test_without_its_index_a_build_is_read_all_the_same(
    index: str, digits_lt: Built, tmp_path: Path, hf: ModuleType
) -> None:
    copy = Path(shutil.copytree(digits_lt.folder, tmp_path / "copy"))
    if index == "gone":
        (copy / "index.npz").unlink()
    elif index == "garbled":
        (copy / "index.npz").write_bytes(b"garbled")
    elif index == "of another build":
        other = build(Spec("digits", 10), out=tmp_path / "other")
        shutil.copy(other.folder / "index.npz", copy)
    found = adapters.huggingface(copy).cast_column("image", hf.Image(decode=False))
    assert tuple(sha256_bytes(image["bytes"]) for image in found["image"]) == splits(copy)["train"].sha256
    shard = copy / "train" / "few-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    for adapter in (adapters.webdataset, adapters.huggingface):
        with pytest.raises(MismatchError, match="few-000000"):
            adapter(copy)


def test_without_datasets_the_extra_is_named(digits_lt: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'ltdata\[huggingface\]'"):
        adapters.huggingface(digits_lt.folder)
