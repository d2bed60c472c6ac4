"""Pinned splits: they are whole, they are what the real labels give, and they travel inside the wheel."""

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED

import ltdata
from ltdata import pinned
from ltdata.build import make_manifest
from ltdata.errors import UsageError
from ltdata.samples import content_digest
from ltdata.sources import Source, Where, load_source
from ltdata.spec import Spec

REPO = Path(__file__).parent.parent
FOLDER = REPO / "manifests"
FACTORS = (10, 20, 50, 100, 200)
DIGESTS = {
    "cifar100-lt-exp-if10": "5906ba7310b91b5e",
    "cifar100-lt-exp-if100": "f123ec136d44ab1b",
    "cifar10-lt-exp-if10": "2b3a8656bec514c6",
    "cifar10-lt-exp-if100": "8a54f5b6fa972295",
}
OFFICIAL = ["imagenet-lt", "inat18"]  # headers: their rows come from the user's copy of the lists
NAMES = [f"{s}-lt-{p}-if{f}" for s in ("cifar10", "cifar100") for p in ("exp", "step") for f in FACTORS]


@pytest.fixture(scope="module")
def sources(cifar100_dir: Path, cifar10_dir: Path) -> dict[str, Source]:
    return {
        "cifar100": load_source("cifar100", Where(data_dir=cifar100_dir / "cifar-100-binary")),
        "cifar10": load_source("cifar10", Where(data_dir=cifar10_dir / "cifar-10-batches-bin", unverified=True)),
    }


def test_twenty_splits_are_pinned_and_listed_by_rising_factor_and_two_headers() -> None:
    assert pinned.names() == NAMES + OFFICIAL
    assert len(NAMES) == 20


def test_sha256sums_covers_every_file_and_agrees() -> None:
    lines = (FOLDER / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert listed == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in FOLDER.iterdir()
        if path.name not in {"README.md", "SHA256SUMS"}
    }
    files = [name + suffix for name in NAMES for suffix in (".json", ".jsonl.gz")]
    assert sorted(listed) == sorted(files + [f"{name}.json" for name in OFFICIAL])


def test_the_readme_table_says_what_the_headers_say() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\S+)` \| ([\d,]+) \| ([\d,]+) \| (\d+) \.\. (\d+) \| `(\w{64})` \|$", text, re.MULTILINE)
    assert [row[0] for row in table] == [*NAMES, "imagenet-lt"]
    for name, images, classes, largest, smallest, content in table:
        manifest = pinned.load(name)
        assert int(images.replace(",", "")) == manifest.splits["train"].num_samples
        assert (int(classes.replace(",", "")), int(largest), int(smallest), content) == (
            manifest.num_classes,
            manifest.class_counts.max(),
            manifest.class_counts.min(),
            manifest.content_sha256,
        )


@pytest.mark.parametrize("name", NAMES)
def test_header_and_rows_are_whole(name: str) -> None:
    manifest = pinned.load(name)
    rows = manifest.rows
    source, profile, factor = re.fullmatch(r"(\w+)-lt-(exp|step)-if(\d+)", name).groups()  # type: ignore[union-attr]
    assert (manifest.name, manifest.source["id"]) == (name, source)
    assert manifest.protocol == Spec(source, int(factor), profile=profile).protocol
    assert manifest.group_rule["name"] == "strict"
    assert list(rows) == ["train", "test"]
    assert content_digest(source, rows) == manifest.content_sha256
    assert len(rows["test"]) == 10_000
    assert np.array_equal(rows["test"].source_index, np.arange(10_000))
    assert len(np.unique(rows["train"].source_index)) == len(rows["train"]) == manifest.class_counts.sum()
    assert rows["train"].source_index.max() < 50_000
    assert (np.diff(rows["train"].labels) >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_real_labels_give_the_pinned_split(name: str, sources: dict[str, Source]) -> None:
    stored = pinned.load(name)
    params = stored.protocol["params"]
    spec = Spec(stored.source["id"], params["imbalance_factor"], profile=params["profile"])
    made, _ = make_manifest(spec, sources[spec.source])
    assert made.content_sha256 == stored.content_sha256
    assert made.splits == stored.splits
    assert made.class_names == stored.class_names
    assert made.name == name


@pytest.mark.parametrize("name", DIGESTS)
def test_pinned_positions_within_the_real_classes_have_the_published_digest(
    name: str, sources: dict[str, Source]
) -> None:
    """SHA-256 of each image's position among the images of its class, int64 little-endian, in the order of the rows."""
    manifest = pinned.load(name)
    labels = sources[manifest.source["id"]].splits["train"].labels
    within = np.zeros(len(labels), dtype="<i8")
    for label in range(manifest.num_classes):
        within[labels == label] = np.arange((labels == label).sum())
    rows = manifest.rows["train"]
    assert np.array_equal(labels[rows.source_index], rows.labels)
    assert hashlib.sha256(within[rows.source_index].tobytes()).hexdigest()[:16] == DIGESTS[name]


def test_splits_load_by_name_and_by_factor() -> None:
    manifest = ltdata.load("cifar100-lt", imbalance_factor=100)
    assert manifest == ltdata.load("cifar100-lt-exp-if100") == ltdata.load("cifar100-lt", imbalance_factor=100.0)
    assert manifest.splits["train"].num_samples == 10_847
    assert ltdata.load("cifar10-lt", imbalance_factor=50, profile="step").name == "cifar10-lt-step-if50"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cifar100-lt", {}),
        ("cifar100", {"imbalance_factor": 100}),
        ("cifar100-lt", {"imbalance_factor": 30}),
        ("cifar100-lt", {"imbalance_factor": 100, "profile": "pareto"}),
        ("../manifests/cifar100-lt-exp-if100", {}),
        ("", {}),
    ],
)
def test_other_names_are_refused_and_the_pinned_ones_listed(name: str, options: dict[str, object]) -> None:
    with pytest.raises(UsageError) as refused:
        ltdata.load(name, **options)
    assert all(known in str(refused.value) for known in NAMES)


@pytest.mark.parametrize(
    "options",
    [{"imbalance_factor": 0.01}, {"imbalance_factor": float("nan")}, {"profile": "step"}, {"profile": "pareto"}],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ltdata.load("cifar100-lt", **options)


@pytest.mark.parametrize("near", [100.00001, 99.99999])
def test_a_factor_that_is_nearly_a_pinned_one_is_another_split(near: float) -> None:
    with pytest.raises(UsageError):
        ltdata.load("cifar100-lt", imbalance_factor=near)


@pytest.mark.parametrize(
    ("name", "images", "groups"),
    [
        ("imagenet-lt", {"train": 115_846, "val": 20_000, "test": 50_000}, [385, 479, 136]),
        ("inat18", {"train": 437_513, "val": 24_426}, [842, 4076, 3224]),
    ],
)
def test_headers_of_official_lists_have_the_published_figures(
    name: str, images: dict[str, int], groups: list[int]
) -> None:
    manifest = ltdata.load(name)
    assert {split: described.num_samples for split, described in manifest.splits.items()} == images
    assert np.bincount(manifest.groups).tolist() == groups
    with pytest.raises(ltdata.SourceMissingError, match="--manifest-only"):
        _ = manifest.indices


def test_imagenet_lts_digest_follows_from_the_digests_of_the_three_published_files() -> None:
    lists = SHARED / "data" / "lists" / "imagenet_lt"
    if not lists.is_dir():
        pytest.skip(f"the official lists are not here ({lists}); set LTDATA_SHARED to the folder that has them")
    known = {"train": (115_846, "efdbdad4f050237c310b2f354cf95a8b1d7c8d57a63c4ea4bb6bf2bcb012f37f")}
    for split, rows in (("val", 20_000), ("test", 50_000)):
        known[split] = rows, hashlib.sha256((lists / f"ImageNet_LT_{split}.txt").read_bytes()).hexdigest()
    lines = ["ltdata-content-2 imagenet-lt", *(f"{split} {rows} {sha}" for split, (rows, sha) in known.items())]
    expected = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    assert ltdata.load("imagenet-lt").digest == expected


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel of this checkout the way a user's pip does."""
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "0", "--timeout", "5"]
    try:
        made = subprocess.run(
            [*pip, "wheel", "--no-deps", "-q", "-w", out, REPO], capture_output=True, text=True, timeout=30, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("pip took more than 30 s: no package index that answers")
    if made.returncode and re.search(r"No module named pip|(?:distribution|version)[^\n]*hatchling", made.stderr):
        pytest.skip("pip cannot fetch hatchling, which builds the wheel")
    assert made.returncode == 0, made.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_manifests_licence_and_type_marker(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for path in FOLDER.iterdir():
            assert archive.read(f"ltdata/manifests/{path.name}") == path.read_bytes()
    assert any(re.fullmatch(r"ltdata-[\d.]+\.dist-info/licenses/LICENSE", name) for name in names)
    assert "ltdata/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "scripts/"))]


def test_the_installed_wheel_finds_its_manifests(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
import ltdata
from ltdata import pinned
rows = ltdata.load("cifar100-lt", imbalance_factor=100).rows
print(json.dumps([ltdata.__file__, pinned.names(), len(rows["train"])]))
"""
    found = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(found.stdout) == [str(tmp_path / "ltdata" / "__init__.py"), NAMES + OFFICIAL, 10_847]
