"""Sources: every form of CIFAR gives the same images; nothing unverified or hostile comes in unnoticed."""

import ast
import hashlib
import importlib.util
import io
import os
import pickle
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltdata.errors import MismatchError, SourceMissingError, UsageError
from ltdata.sources import Source, Where, load_source, pickles
from ltdata.sources.cifar_forms import CIFAR10, CIFAR100, Cifar

TRAIN_SHA256 = "de64658905c6b161606e3649ddafce7cf86c7634a0cf9116d518e64ef46a33c5"  # uint8 (50000, 3, 32, 32)
TEST_SHA256 = "83c56492b2c11211ad1bb2dbd4f2eef4170a0441e41a41f3039c3144b1f5a511"
NAMES = [f"class_{label}" for label in range(100)]
PYTHON, BINARY = CIFAR100.python, CIFAR100.binary
FORMS = [PYTHON.folder, BINARY.folder, PYTHON.archive, BINARY.archive]
both = pytest.mark.parametrize("unverified", [False, True], ids=["verified", "unverified"])


def assert_same_images(found: Source, expected: Source) -> None:
    assert found.class_names == expected.class_names
    assert found.splits.keys() == expected.splits.keys()
    for name, split in expected.splits.items():
        assert np.array_equal(found.splits[name].labels, split.labels)
        assert np.array_equal(found.splits[name].pixels, split.pixels)
    assert found.provenance["pixels_sha256"] == expected.provenance["pixels_sha256"]


# The real images


@pytest.fixture(scope="module")
def cifar100(cifar100_dir: Path) -> Source:
    return load_source("cifar100", Where(data_dir=cifar100_dir / BINARY.folder))


def test_published_binary_folder_is_verified_without_a_flag(cifar100: Source) -> None:
    assert cifar100.provenance["verified"] is True
    assert "found" not in cifar100.provenance
    assert cifar100.provenance["pixels_sha256"] == {"train": TRAIN_SHA256, "test": TEST_SHA256}
    for name, images, digest in (("train", 50_000, TRAIN_SHA256), ("test", 10_000, TEST_SHA256)):
        pixels = cifar100.splits[name].pixels
        assert pixels.shape == (images, 32, 32, 3)
        assert hashlib.sha256(pixels.transpose(0, 3, 1, 2).tobytes()).hexdigest() == digest
        assert np.bincount(cifar100.splits[name].labels).tolist() == [images // 100] * 100
    assert cifar100.class_names[:2] == ("apple", "aquarium_fish")


@pytest.mark.parametrize("form", [PYTHON.folder, PYTHON.archive, BINARY.archive])
def test_every_form_of_cifar100_gives_the_same_images(form: str, cifar100_dir: Path, cifar100: Source) -> None:
    found = load_source("cifar100", Where(data_dir=cifar100_dir / form, unverified=True))
    assert_same_images(found, cifar100)
    assert found.provenance["verified"] is False


def test_a_parent_folder_prefers_the_form_with_the_published_digest(cifar100_dir: Path, cifar100: Source) -> None:
    found = load_source("cifar100", Where(data_dir=cifar100_dir))
    assert_same_images(found, cifar100)
    assert found.provenance["verified"] is True


def test_both_folders_of_cifar10_give_the_same_images(cifar10_dir: Path) -> None:
    python = load_source("cifar10", Where(data_dir=cifar10_dir / "cifar-10-batches-py", unverified=True))
    binary = load_source("cifar10", Where(data_dir=cifar10_dir / "cifar-10-batches-bin", unverified=True))
    assert_same_images(python, binary)
    assert [python.splits[name].pixels.shape[0] for name in ("train", "test")] == [50_000, 10_000]
    assert python.class_names[::9] == ("airplane", "truck")
    assert [np.bincount(split.labels).tolist() for split in python.splits.values()] == [[5000] * 10, [1000] * 10]
    assert (python.provenance["verified"], binary.provenance["verified"]) == (False, False)


@pytest.mark.parametrize(("dataset", "torchvision_class"), [(CIFAR10, "CIFAR10"), (CIFAR100, "CIFAR100")])
def test_published_digests_are_those_of_torchvision(dataset: Cifar, torchvision_class: str) -> None:
    """Read in torchvision's source text, which is not imported."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        pytest.skip("torchvision is not installed; its digests cannot be compared")
    text = (Path(spec.origin).parent / "datasets" / "cifar.py").read_text(encoding="utf-8")
    classes = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
    values = {
        target.id: ast.literal_eval(node.value)
        for node in classes[torchvision_class].body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    expected = dict(values["train_list"] + values["test_list"]) | {values["meta"]["filename"]: values["meta"]["md5"]}
    assert dataset.python.digests == {name: f"md5:{digest}" for name, digest in expected.items()}
    assert dataset.python.folder == values["base_folder"]
    assert dataset.python.archive == values["filename"]
    assert dataset.names_key.decode() == values["meta"]["key"]


# A small CIFAR-100 of noise, in every form, to break


def record(images: int, **other: object) -> bytes:
    """Pickle a split as the published files are: `images` of noise, labels 0, 1, 2, ..."""
    noise = np.random.RandomState(images).randint(0, 256, (images, 3072), dtype=np.uint8)
    content = {b"data": noise, b"fine_labels": [label % 100 for label in range(images)]}
    return pickle.dumps(content | {key.encode(): value for key, value in other.items()}, protocol=3)


def python_files(**other: bytes) -> dict[str, bytes]:
    names = pickle.dumps({b"fine_label_names": [name.encode() for name in NAMES]}, protocol=3)
    return {"train": record(20), "test": record(10), "meta": names} | other


def binary_files(**other: bytes) -> dict[str, bytes]:
    files = {"fine_label_names.txt": "\n".join(NAMES).encode() + b"\n"}
    for split, images in (("train", 20), ("test", 10)):
        content = pickle.loads(record(images))
        labels = np.array(content[b"fine_labels"], np.uint8)[:, None]
        files[f"{split}.bin"] = np.hstack([labels // 5, labels, content[b"data"]]).tobytes()
    return files | {name.replace("_bin", ".bin"): data for name, data in other.items()}


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def write_archive(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


def members(folder: str, files: dict[str, bytes]) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member(f"{folder}/{name}", data) for name, data in files.items()]


def write_form(place: Path, form: str) -> Path:
    layout, files = (PYTHON, python_files()) if "python" in form else (BINARY, binary_files())
    if form == layout.archive:
        return write_archive(place / form, members(layout.folder, files))
    return write_folder(place / form, files)


@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_digest_is_refused_and_the_way_out_named(form: str, tmp_path: Path) -> None:
    place = write_form(tmp_path, form)
    with pytest.raises(MismatchError) as caught:
        load_source("cifar100", Where(data_dir=place))
    layout = PYTHON if "python" in form else BINARY
    name, published = (form, layout.archive_digest) if place.is_file() else next(iter(layout.digests.items()))
    data = place.read_bytes() if place.is_file() else (place / name).read_bytes()
    found = f"{published.partition(':')[0]}:{hashlib.new(published.partition(':')[0], data).hexdigest()}"
    for part in (name, found, published, "--unverified"):
        assert part in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("form", FORMS)
def test_unverified_files_are_read_and_their_digests_recorded(form: str, tmp_path: Path) -> None:
    place = write_form(tmp_path, form)
    source = load_source("cifar100", Where(data_dir=place, unverified=True))
    content = pickle.loads(record(20))
    assert source.splits["train"].labels.tolist() == content[b"fine_labels"]
    assert np.array_equal(source.splits["train"].pixels.transpose(0, 3, 1, 2).reshape(20, -1), content[b"data"])
    assert source.class_names == tuple(NAMES)
    assert source.provenance["verified"] is False
    digests = source.provenance["found"]["digests"]
    layout = PYTHON if "python" in form else BINARY
    assert set(digests) == ({form} if place.is_file() else set(layout.digests))
    for name, digest in digests.items():
        data = place.read_bytes() if place.is_file() else (place / name).read_bytes()
        kind, _, value = digest.partition(":")
        assert hashlib.new(kind, data).hexdigest() == value


def run_build(place: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ltdata", "build", "cifar100", "--imbalance", "10", "--data-dir", place]
    return subprocess.run([*command, "--out", out, *options], capture_output=True, text=True, check=False)


def test_the_command_exits_3_with_one_line_for_a_wrong_digest(tmp_path: Path) -> None:
    done = run_build(write_form(tmp_path, PYTHON.folder), tmp_path / "out")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert "--unverified" in done.stderr
    assert not (tmp_path / "out").exists()


# Hostile pickles


class Call:
    """Pickles to a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def hostile(canary: Path) -> dict[str, bytes]:
    code = f"open({str(canary)!r}, 'w').close()"
    shell = [sys.executable, "-c", code]
    calls = [Call(exec, code), Call(eval, code), Call(os.mkdir, str(canary)), Call(subprocess.call, shell)]
    return {f"{call.call[0].__module__}.{call.call[0].__name__}": pickle.dumps(call, protocol=2) for call in calls}


HOSTILE = list(hostile(Path()))


@pytest.mark.parametrize("name", HOSTILE)
def test_the_hostile_pickles_of_these_tests_are_hostile(name: str, tmp_path: Path) -> None:
    pickle.loads(hostile(tmp_path / "canary")[name])
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("form", [PYTHON.folder, PYTHON.archive])
@pytest.mark.parametrize("victim", ["train", "test", "meta"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused_and_never_run(name: str, victim: str, form: str, tmp_path: Path) -> None:
    """Also where the digest is waived, and inside a record that is well-formed otherwise."""
    payload = hostile(tmp_path / "canary")[name]
    files = python_files(**{victim: payload})
    if form == PYTHON.folder:
        place = write_folder(tmp_path / form, files)
    else:
        place = write_archive(tmp_path / form, members(PYTHON.folder, files))
    with pytest.raises(MismatchError, match="not allowed in a CIFAR file"):
        load_source("cifar100", Where(data_dir=place, unverified=True))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("form", [PYTHON.folder, PYTHON.archive])
def test_files_of_a_wrong_digest_never_reach_the_unpickler(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loads(_data: bytes) -> object:
        raise AssertionError("unpickled before its digest was accepted")

    place = write_form(tmp_path, form)
    monkeypatch.setattr(pickles, "loads", loads)
    with pytest.raises(MismatchError, match="published"):
        load_source("cifar100", Where(data_dir=place))


def test_the_unpickler_makes_plain_values_and_byte_arrays() -> None:
    value = {b"a": [1, -2, 70_000, 2**80, None, True], b"b": (b"x", "y", 0.5)}
    assert pickles.loads(pickle.dumps(value, protocol=3)) == value
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(pickles.loads(pickle.dumps(array, protocol=3)), array)


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


# numpy lets a pickle clear the flags of dtype("O"): the eight bytes "AAAAAAAA" then become a pointer to an object.
_OBJECT_DTYPE = _global("numpy", "dtype") + b"X\x02\0\0\0O8\x89\x88\x87R(K\x03X\x01\0\0\0|NNNJ" + b"\xff" * 4
_OBJECT_DTYPE += b"J" + b"\xff" * 4 + b"K\x00tb"
_FAKE_POINTERS = (
    _global("numpy._core.multiarray", "_reconstruct") + _global("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
)
_FAKE_POINTERS += b"(K\x01K\x14\x85" + _OBJECT_DTYPE + b"\x89C\xa0" + b"A" * 160 + b"tb"
_DEEP_KEY = b"})" + b"\x85" * 1_000_000 + b"K\x01s"  # hash() of a tuple recurses in C


@pytest.mark.parametrize("labels", [_FAKE_POINTERS, _DEEP_KEY], ids=["fake pointers", "deep key"])
def test_a_pickle_cannot_crash_the_interpreter(labels: bytes, tmp_path: Path) -> None:
    """In another process, which must end with exit code 3 and not by a signal."""
    data = pickle.dumps(np.zeros((20, 3072), np.uint8), protocol=3)[2:-1]
    train = b"\x80\x03}(C\x04data" + data + b"C\x0bfine_labels" + labels + b"u."
    done = run_build(write_folder(tmp_path / PYTHON.folder, python_files(train=train)), tmp_path / "o", "--unverified")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr[-300:]


# Broken files: one line, one of two errors, never another


def cut(data: bytes, keep: float) -> bytes:
    return data[: int(len(data) * keep)]


def _archive_cut(place: Path, keep: float) -> Path:
    path = write_form(place, PYTHON.archive)
    path.write_bytes(cut(path.read_bytes(), keep))
    return path


def _archive(place: Path, **changed: tuple[tarfile.TarInfo, bytes] | None) -> Path:
    """Write the python archive with other members in place of some, or without them."""
    kept = {name: member(f"{PYTHON.folder}/{name}", data) for name, data in python_files().items()} | changed
    return write_archive(place / PYTHON.archive, [item for item in kept.values() if item is not None])


def _archive_with_link(place: Path, kind: bytes) -> Path:
    outside = place / "outside"
    outside.write_bytes(record(20))
    return _archive(place, train=member(f"{PYTHON.folder}/train", type=kind, linkname=str(outside)))


def _many_long_names(place: Path) -> Path:
    """Write an archive of 3,000 GNU long-name headers in a row: tarfile recurses for each."""
    info, name = member("././@LongLink", b"abcd\0", type=tarfile.GNUTYPE_LONGNAME)
    path = place / PYTHON.archive
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for _ in range(3000):
            tar.addfile(info, io.BytesIO(name))
    return path


def _random_archive(place: Path, data: bytes) -> Path:
    (place / PYTHON.archive).write_bytes(data)
    return place / PYTHON.archive


def _python(place: Path, **other: bytes) -> Path:
    return write_folder(place / PYTHON.folder, python_files(**other))


def _binary(place: Path, **other: bytes) -> Path:
    return write_folder(place / BINARY.folder, binary_files(**other))


def _without(place: Path, name: str) -> Path:
    (place / name).unlink()
    return place


def _data(value: object) -> bytes:
    return record(20, data=value)


def _labels(value: object) -> bytes:
    return record(20, fine_labels=value)


LABELS = list(range(20))
MISSING: dict[str, Callable[[Path], Path]] = {
    "no folder": lambda place: place / "nowhere",
    "empty folder": lambda place: write_folder(place / "empty", {}),
    "file of another name": lambda place: write_folder(place / "other", {"a.zip": b"x"}) / "a.zip",
    "no train": lambda place: _without(_python(place), "train"),
    "no meta": lambda place: _without(_python(place), "meta"),
    "no test.bin": lambda place: _without(_binary(place), "test.bin"),
    "no class names": lambda place: _without(_binary(place), "fine_label_names.txt"),
}
BROKEN: dict[str, Callable[[Path], Path]] = {
    "random bytes": lambda place: _random_archive(place, np.random.RandomState(0).bytes(5000)),
    "empty archive": lambda place: _random_archive(place, b""),
    "gzip magic only": lambda place: _random_archive(place, b"\x1f\x8b\x08\x00"),
    **{f"archive cut to {keep:.0%}": lambda place, keep=keep: _archive_cut(place, keep) for keep in (0.01, 0.5, 0.99)},
    "archive without train": lambda place: _archive(place, train=None),
    "symlink in the archive": lambda place: _archive_with_link(place, tarfile.SYMTYPE),
    "hard link in the archive": lambda place: _archive_with_link(place, tarfile.LNKTYPE),
    "folder in the archive": lambda place: _archive(
        place, train=member("cifar-100-python/train", type=tarfile.DIRTYPE)
    ),
    "pipe in the archive": lambda place: _archive(place, train=member("cifar-100-python/train", type=tarfile.FIFOTYPE)),
    "member outside": lambda place: _archive(place, train=member("../cifar-100-python/train", record(20))),
    "absolute member": lambda place: _archive(place, train=member("/cifar-100-python/train", record(20))),
    "member elsewhere": lambda place: _archive(place, train=member("train", record(20))),
    "long names in the archive": _many_long_names,
    **{
        f"pickle cut to {keep:.0%}": lambda place, keep=keep: _python(place, train=cut(record(20), keep))
        for keep in (0, 0.001, 0.5, 0.999)
    },
    "no pickle": lambda place: _python(place, train=b"GIF89a"),
    "pickle of a list": lambda place: _python(place, train=pickle.dumps([1], protocol=3)),
    "pickle of text keys": lambda place: _python(
        place, train=pickle.dumps({"data": [], "fine_labels": []}, protocol=3)
    ),
    "pickle with a persistent id": lambda place: _python(place, train=b"\x80\x03K\x01Q."),
    "binary cut": lambda place: _binary(place, train_bin=cut(binary_files()["train.bin"], 0.51)),
    "binary cut by a byte": lambda place: _binary(place, test_bin=binary_files()["test.bin"][:-1]),
    "binary empty": lambda place: _binary(place, train_bin=b""),
    "binary label 100": lambda place: _binary(place, train_bin=b"\x00\x64" + bytes(3072)),
    "label 100": lambda place: _python(place, train=_labels([100, *LABELS[1:]])),
    "label -1": lambda place: _python(place, train=_labels([-1, *LABELS[1:]])),
    "label 2**80": lambda place: _python(place, train=_labels([2**80, *LABELS[1:]])),
    "label 1.5": lambda place: _python(place, train=_labels([1.5, *LABELS[1:]])),
    "label text": lambda place: _python(place, train=_labels([b"1", *LABELS[1:]])),
    "a label too few": lambda place: _python(place, train=_labels(LABELS[1:])),
    "labels a number": lambda place: _python(place, train=_labels(20)),
    "data too narrow": lambda place: _python(place, train=_data(np.zeros((20, 3071), np.uint8))),
    "data of three axes": lambda place: _python(place, train=_data(np.zeros((20, 3072, 1), np.uint8))),
    "data of floats": lambda place: _python(place, train=_data(np.zeros((20, 3072), np.float32))),
    "data a list": lambda place: _python(place, train=_data([[0] * 3072] * 20)),
    "99 class names": lambda place: _python(place, meta=pickle.dumps({b"fine_label_names": [b"a"] * 99}, protocol=3)),
    "class names a number": lambda place: _python(place, meta=pickle.dumps({b"fine_label_names": 5}, protocol=3)),
    "class names no text": lambda place: _python(
        place, meta=pickle.dumps({b"fine_label_names": [b"\xff"] * 100}, protocol=3)
    ),
}


@both
@pytest.mark.parametrize("fault", MISSING)
def test_missing_files_are_named_with_exit_code_4(fault: str, unverified: bool, tmp_path: Path) -> None:
    place = MISSING[fault](tmp_path)
    with pytest.raises(SourceMissingError) as caught:
        load_source("cifar100", Where(data_dir=place, unverified=unverified))
    assert str(place) in str(caught.value)
    assert "cifar-100" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4


@both
@pytest.mark.parametrize("fault", BROKEN)
def test_broken_files_are_refused_in_one_line(fault: str, unverified: bool, tmp_path: Path) -> None:
    """By their digest alone, unless that is waived."""
    place = BROKEN[fault](tmp_path)
    with pytest.raises(MismatchError) as caught:
        load_source("cifar100", Where(data_dir=place, unverified=unverified))
    assert str(place) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ("--unverified" in str(caught.value)) is not unverified


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_form(tmp_path_factory.mktemp("scratch"), PYTHON.folder)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(changes=st.lists(st.tuples(st.integers(-150, 250), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_garbled_pickle_is_read_or_refused(changes: list[tuple[int, int]], scratch: Path) -> None:
    """The bytes changed are those around the images, which are the pickle's own."""
    data = bytearray(record(20))
    for position, value in changes:
        data[position] = value
    (scratch / "train").write_bytes(data)
    try:
        source = load_source("cifar100", Where(data_dir=scratch, unverified=True))
    except MismatchError:
        return
    assert source.splits["train"].pixels.shape[1:] == (32, 32, 3)


def test_an_incomplete_folder_does_not_hide_a_whole_archive(tmp_path: Path) -> None:
    _without(_python(tmp_path), "train")
    write_form(tmp_path, BINARY.archive)
    source = load_source("cifar100", Where(data_dir=tmp_path, unverified=True))
    assert len(source.splits["train"].labels) == 20


def test_other_class_names_beside_published_images_are_refused(cifar100_dir: Path, tmp_path: Path) -> None:
    for name in BINARY.digests:
        (tmp_path / name).symlink_to(cifar100_dir / BINARY.folder / name)
    (tmp_path / BINARY.names_file).write_text("\n".join(NAMES))
    with pytest.raises(MismatchError, match="not the class names of cifar100"):
        load_source("cifar100", Where(data_dir=tmp_path))


# Digits


@pytest.fixture(scope="module")
def digits() -> Source:
    return load_source("digits")


def test_digits_are_the_same_everywhere(digits: Source) -> None:
    train, test = digits.splits["train"], digits.splits["test"]
    assert (train.pixels.shape, test.pixels.shape) == ((1497, 32, 32, 3), (300, 32, 32, 3))
    assert (train.pixels.dtype, train.labels.dtype) == (np.uint8, np.int64)
    assert np.bincount(test.labels).tolist() == [30] * 10
    found = [hashlib.sha256(split.pixels.tobytes() + split.labels.tobytes()).hexdigest() for split in (train, test)]
    assert found == [
        "79cc8ab000d54f5c6b271fa823c1b569afb0a1f96909b36b1615ba50b3b79a7d",
        "685e23f7ba58af185da19f2f246185fcb7370859a687c2b4ee416fff65942e02",
    ]


def test_digits_hold_every_image_of_scikit_learn_once(digits: Source) -> None:
    """So no image that is trained on is tested on."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    levels = [(image * 255 / 16 + 0.5).astype(np.uint8) for image in bunch.images]
    expected = Counter(zip((image.tobytes() for image in levels), bunch.target.tolist(), strict=True))
    found: Counter[tuple[bytes, int]] = Counter()
    for split in digits.splits.values():
        assert np.array_equal(split.pixels, split.pixels[:, ::4, ::4, :1].repeat(4, 1).repeat(4, 2).repeat(3, 3))
        small = (image.tobytes() for image in split.pixels[:, ::4, ::4, 0])
        found.update(zip(small, split.labels.tolist(), strict=True))
    assert found == expected


def test_digits_take_no_folder_and_no_waiver(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data-dir"):
        load_source("digits", Where(data_dir=tmp_path))
    with pytest.raises(UsageError, match="--unverified"):
        load_source("digits", Where(unverified=True))


def test_an_unknown_source_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="cifar10, cifar100, digits"):
        load_source("mnist")
