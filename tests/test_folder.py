"""Any folder of images: what is taken, what is left out, what is refused; the same bytes every time."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import webdataset
from conftest import READS_EVERYTHING
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import contents, names, photo, put, put_photos

from ltdata.build import Built, build, summary
from ltdata.errors import LtdataError, MismatchError, SourceMissingError, UsageError
from ltdata.images import encoder
from ltdata.lists import text_fault
from ltdata.manifest import Manifest
from ltdata.profiles import class_counts
from ltdata.protocols import hold_out, ldam
from ltdata.reader import read_samples
from ltdata.samples import Samples, content_digest
from ltdata.sources import Where, load_source
from ltdata.spec import Spec
from ltdata.verify import verify

PETS = [f"{pet}/{n}.jpg" for pet, count in (("cat", 6), ("dog", 4), ("eel", 3)) for n in range(count)]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Three classes of 6, 4 and 3 images."""
    return put_photos(tmp_path / "pets", PETS)


def natural(folder: Path, **options: object) -> Built:
    """Build as it is, into a sibling folder."""
    return build(Spec("folder"), data_dir=folder, out=folder.parent / "out", **options)  # type: ignore[arg-type]


def rows(built: Built, split: str = "train") -> list[tuple[str, int]]:
    samples = read_samples(built.folder, built.manifest)[split]
    return list(zip(samples.source_path or (), samples.labels.tolist(), strict=True))


def refused(error: type[LtdataError], message: str, make: Callable[[], object]) -> None:
    with pytest.raises(error, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def command(*args: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "ltdata", *map(str, args)]
    return subprocess.run(line, capture_output=True, text=True, encoding="utf-8", check=False)


def number_of(per_class: dict[str, int]) -> list[str]:
    return [f"{name}/{n:03d}.jpg" for name, count in per_class.items() for n in range(count)]


# A class per folder


def test_every_image_of_every_class_is_taken(pets: Path) -> None:
    built = natural(pets)
    assert built.manifest.name == "pets-natural"
    assert built.manifest.class_names == ("cat", "dog", "eel")
    assert rows(built) == [(path, ("cat", "dog", "eel").index(path[:3])) for path in PETS]
    assert built.manifest.source == {
        "id": "folder",
        "version": "pets",
        "terms": "your own",
        "form": "a folder per class",
    }
    digests = read_samples(built.folder, built.manifest)["train"].sha256
    assert digests == tuple(hashlib.sha256((pets / path).read_bytes()).hexdigest() for path in PETS)
    verify(built.folder)


def test_order_does_not_follow_the_disk(pets: Path, tmp_path: Path) -> None:
    first = natural(pets)
    shuffled = [PETS[n] for n in np.random.RandomState(0).permutation(len(PETS))]
    (tmp_path / "b").mkdir()
    again = put(tmp_path / "b" / "pets", {path: (pets / path).read_bytes() for path in shuffled})
    assert contents(natural(again, workers=2).folder) == contents(first.folder)


def test_classes_are_numbered_as_torchvision_numbers_them(tmp_path: Path) -> None:
    per_class = {"b": 1, "a b": 1, "Z": 1, "ä": 1, "10": 1, "9": 1, "a": 1}
    folder = put_photos(tmp_path / "d", number_of(per_class))
    expected = sorted(entry.name for entry in os.scandir(folder))  # torchvision.datasets.folder.find_classes
    assert natural(folder).manifest.class_names == tuple(expected)


def test_images_in_inner_folders_are_taken(tmp_path: Path) -> None:
    folder = put_photos(tmp_path / "d", ["a/1.jpg", "a/x/2.jpg", "a/x/y/3.jpg", "b/x.y/4.jpg"])
    built = natural(folder)
    assert rows(built) == [("a/1.jpg", 0), ("a/x/2.jpg", 0), ("a/x/y/3.jpg", 0), ("b/x.y/4.jpg", 1)]


def test_linked_folders_and_files_are_followed(tmp_path: Path) -> None:
    put_photos(tmp_path / "elsewhere", ["1.jpg", "inner/2.jpg"])
    folder = put_photos(tmp_path / "d", ["b/3.jpg"])
    (folder / "a").symlink_to(tmp_path / "elsewhere")
    (folder / "b" / "4.jpg").symlink_to("3.jpg")
    (tmp_path / "link").symlink_to(folder)
    built = natural(tmp_path / "link")
    assert rows(built) == [("a/1.jpg", 0), ("a/inner/2.jpg", 0), ("b/3.jpg", 1), ("b/4.jpg", 1)]
    assert built.manifest.name == "d-natural"


@pytest.mark.parametrize(("link", "target"), [("a/again", "."), ("a/again", ".."), ("a/x/again", "..")])
def test_a_link_into_itself_is_refused(link: str, target: str, tmp_path: Path) -> None:
    """Followed, it would list every image forty times."""
    folder = put_photos(tmp_path / "d", ["a/1.jpg", "a/x/2.jpg", "b/3.jpg"])
    (folder / link).symlink_to(target)
    refused(MismatchError, f"d/{link}.*: is the same folder as .*; take one out", lambda: natural(folder))


ODD = [
    "a b",
    "it's",
    'quo"te',
    "ümläut",
    "日本",
    "-dash",
    "semi;colon",
    "per%cent",
    "back\\slash",
    "x" * 200,
    "a.b",
    "<b>&amp;",
    "*?[",
    "$HOME",
    "~",
    "'",
]


def test_odd_names_round_trip(tmp_path: Path) -> None:
    paths = [f"{name}/{name}.jpg" for name in ODD]
    folder = put_photos(tmp_path / "d", paths)
    built = natural(folder)
    assert built.manifest.class_names == tuple(sorted(ODD))
    assert [path for path, _ in rows(built)] == sorted(paths)
    assert verify(built.folder) == built.manifest
    assert natural(folder).reused


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x1bb", "a\x7fb", "a\x85b", "a\u2028b", "a\udcffb"])
@pytest.mark.parametrize("place", ["{}.jpg", "inner {}/1.jpg"])
def test_names_that_break_lines_or_are_no_text_are_refused(name: str, place: str, tmp_path: Path) -> None:
    folder = put_photos(tmp_path / "d", ["cat/1.jpg", "dog/1.jpg", f"cat/{place.format(name)}"])
    refused(
        MismatchError,
        r"d/cat: the path 'cat/.*' (holds a control character|is not UTF-8); rename",
        lambda: natural(folder),
    )
    shutil.rmtree(folder)
    put_photos(folder, ["cat/1.jpg", f"{name}/1.jpg"])
    refused(MismatchError, r"(holds a control character|is not UTF-8); rename the file", lambda: natural(folder))


# What is left out


def test_what_is_no_image_of_a_class_is_left_out_and_told(pets: Path) -> None:
    extra = [
        "cat/Thumbs.db",
        "cat/README.txt",
        "dog/.DS_Store",
        "dog/inner/notes.md",
        "LICENSE",
        "stray.jpg",
        ".hidden.jpg",
        "eel/1.jpg~",
        "cat/nosuffix",
    ]
    put(pets, dict.fromkeys([*extra, ".git/config", "eel/.cache/1.jpg"], photo()))
    built = natural(pets)
    assert built.manifest.source["left_out"] == {
        "files": 11,
        "first": [".git/", ".hidden.jpg", "LICENSE", "stray.jpg", "cat/README.txt"],
    }
    assert [path for path, _ in rows(built)] == PETS
    shutil.rmtree(built.folder)
    done = command("build", "folder", "--data-dir", pets, "--out", built.folder)
    assert done.returncode == 0
    assert "left out 11 that are no images of a class: " in done.stdout
    assert ".git/, .hidden.jpg, LICENSE, stray.jpg, cat/README.txt" in done.stdout


def test_left_out_names_that_are_no_text_are_escaped(pets: Path) -> None:
    put(pets, {"cat/a\nb.txt": b"", "cat/\udcff.txt": b"", "dog/ü.txt": b""})
    built = natural(pets)
    assert built.manifest.source["left_out"]["first"] == ["cat/a\\nb.txt", "cat/\\udcff.txt", "dog/ü.txt"]
    assert verify(built.folder) == built.manifest


def test_a_folder_whose_own_name_is_no_text_is_built(tmp_path: Path) -> None:
    built = natural(put_photos(tmp_path / "\udcff\n", PETS))
    assert (built.manifest.name, built.manifest.source["version"]) == ("folder-natural", "\\udcff\\n")


def test_nothing_is_left_out_without_a_word(pets: Path) -> None:
    """Every file below the folder is a row, or counted as left out."""
    put(pets, {"cat/x.txt": b"", "y.txt": b"", "eel/inner/z": b""})
    built = natural(pets)
    assert built.manifest.splits["train"].num_samples + built.manifest.source["left_out"]["files"] == len(
        contents(pets)
    )


# Splits of its own


@pytest.mark.parametrize(("train", "val"), [("train", "val"), ("Training", "valid"), ("TRAIN", "Validation")])
def test_split_folders_are_splits(train: str, val: str, tmp_path: Path) -> None:
    paths = [*(f"{train}/{path}" for path in PETS), f"{val}/cat/1.jpg", f"{val}/eel/1.jpg", "test/dog/1.jpg"]
    folder = put_photos(tmp_path / "d", [*paths, "labels.csv", f"{val}/x.txt"])
    built = natural(folder)
    assert list(built.manifest.splits) == ["train", "val", "test"]
    assert [path for path, _ in rows(built)] == paths[: len(PETS)]
    assert rows(built, "val") == [(f"{val}/cat/1.jpg", 0), (f"{val}/eel/1.jpg", 2)]
    assert rows(built, "test") == [("test/dog/1.jpg", 1)]
    assert built.manifest.source["left_out"] == {"files": 2, "first": ["labels.csv", f"{val}/x.txt"]}
    verify(built.folder)


def test_a_train_folder_alone_is_a_split(tmp_path: Path) -> None:
    built = natural(put_photos(tmp_path / "d", [f"train/{path}" for path in PETS]))
    assert built.manifest.class_names == ("cat", "dog", "eel")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    built = natural(put_photos(tmp_path / "d", ["bus/1.jpg", "train/1.jpg", "test/1.jpg"]))
    assert built.manifest.class_names == ("bus", "test", "train")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["annotations/x.json"], "d: train holds classes, like a split, and annotations does not, like a class; move"),
        (["test/1.jpg"], "d: train holds classes, like a split, and test does not, like a class; move"),
        (["extra/cat/1.jpg"], "d: train holds classes, like a split, and extra does not"),
        (["val/cat/1.jpg", "valid/cat/1.jpg"], "d: train, val, valid mean one split twice; rename one"),
        (["val/cat/1.jpg", "val/fox/1.jpg"], "d: class 'fox' of val has no training image"),
        (["val/cat/1.jpg", "val/dog/x.txt"], "d/val/dog: a class without images"),
    ],
)
def test_split_folders_that_are_in_doubt_are_refused(extra: list[str], message: str, tmp_path: Path) -> None:
    """Taken for classes, `train` and `test` would be a silent nonsense."""
    folder = put_photos(tmp_path / "d", [*(f"train/{path}" for path in PETS), *extra])
    refused(LtdataError, message, lambda: natural(folder))


def test_split_folders_without_train_are_refused(tmp_path: Path) -> None:
    folder = put_photos(tmp_path / "d", ["val/cat/1.jpg", "test/cat/1.jpg"])
    refused(
        UsageError, "d: holds test, val, and no train; add it, or name the images with --lists", lambda: natural(folder)
    )


# What cannot be meant


def test_too_few_classes_are_refused(tmp_path: Path) -> None:
    for paths, message in (
        ([], "d: 0 classes; a long tail needs at least 2: a folder per class, or --lists"),
        (["1.jpg", "2.jpg"], "d: 0 classes"),
        (["cat/1.jpg"], "d: 1 classes"),
    ):
        (tmp_path / "d").mkdir(exist_ok=True)
        put_photos(tmp_path / "d", paths)
        refused(UsageError, message, lambda: natural(tmp_path / "d"))


@pytest.mark.parametrize("extra", ["", "fox/readme.txt", "fox/.1.jpg"])
def test_a_class_without_images_is_refused(extra: str, pets: Path) -> None:
    (pets / "fox").mkdir()
    put(pets, {extra: b""} if extra else {})
    refused(MismatchError, "pets/fox: a class without images; fill the folder or take it out", lambda: natural(pets))


def test_a_folder_that_is_not_there_is_told(pets: Path) -> None:
    refused(UsageError, "folder: name the folder of the images with --data-dir", lambda: build(Spec("folder")))
    for bad in (pets / "none", pets / "cat" / "1.jpg"):
        refused(SourceMissingError, "no such folder; name the folder of the images", partial(natural, bad))
    refused(UsageError, "nothing about it is published", lambda: natural(pets, unverified=True))


@pytest.mark.skipif(READS_EVERYTHING, reason="this user reads everything")
def test_a_folder_without_permission_is_named(pets: Path) -> None:
    (pets / "dog").chmod(0)
    try:
        refused(SourceMissingError, "pets/dog: cannot be read .*; mend its permissions", lambda: natural(pets))
    finally:
        (pets / "dog").chmod(0o755)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b"hello", "dog/3.jpg: begins with 68 65 6c 6c, so it is neither JPEG nor PNG"),
        (b"", "dog/3.jpg: is empty, so it is neither JPEG nor PNG"),
        (photo(form="GIF"), "dog/3.jpg: begins with 47 49 46 38, so it is neither.*convert it.*--max-side"),
    ],
)
def test_a_file_that_is_no_image_inside_is_refused_by_name(
    broken: bytes, message: str, workers: int, pets: Path
) -> None:
    put(pets, {"dog/3.jpg": broken})
    refused(MismatchError, message, lambda: natural(pets, workers=workers))
    assert names(pets.parent) == ["pets"]


def test_images_are_stored_under_the_suffix_of_their_content(pets: Path) -> None:
    put(pets, {"cat/0.JPEG": photo(5, form="PNG"), "dog/0.png": photo(6)})
    built = natural(pets)
    digests = read_samples(built.folder, built.manifest)["train"]
    row_of = {path: row for row, path in enumerate(digests.source_path or ())}
    members: dict[str, bytes] = {}
    for shard in built.manifest.splits["train"].shards:
        with tarfile.open(built.folder / shard.path) as tar:
            members |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert members[f"{row_of['cat/0.JPEG']:08d}.png"] == photo(5, form="PNG")
    assert members[f"{row_of['dog/0.png']:08d}.jpg"] == photo(6)
    assert Counter(name[-4:] for name in members) == {".cls": len(PETS) + 2, ".jpg": len(PETS) + 1, ".png": 1}
    verify(built.folder)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset 1.0.2 leaves closing to the collector
def test_webdataset_reads_shards_of_both_kinds(pets: Path) -> None:
    put(pets, {f"dog/{n}.jpg": photo(n, size=(30 + n, 20), form="PNG") for n in range(4)})
    built = natural(pets)
    listed = rows(built)
    paths = [str(built.folder / shard.path) for shard in built.manifest.splits["train"].shards]
    seen = {}
    for sample in webdataset.WebDataset(paths, shardshuffle=False):
        (suffix,) = {"jpg", "png"} & set(sample)
        path, label = listed[int(sample["__key__"])]
        assert int(sample["cls"]) == label
        assert sample[suffix] == (pets / path).read_bytes()
        seen[path] = suffix
    assert seen == {path: "png" if path.startswith("dog") else "jpg" for path in PETS}


# Drawn


def pareto(n_max: int, imbalance_factor: float, **alpha: float) -> list[int]:
    found = class_counts("pareto", num_classes=4, n_max=n_max, imbalance_factor=imbalance_factor, **alpha)
    return [int(count) for count in found]


def test_profiles_draw_from_a_folder(tmp_path: Path) -> None:
    per_class = {"a": 40, "b": 44, "c": 41, "d": 50}
    folder = put_photos(tmp_path / "d", number_of(per_class))
    for spec, expected in (
        (Spec("folder", 10), [40, 18, 8, 4]),
        (Spec("folder", 10, profile="step"), [40, 40, 4, 4]),
        (Spec("folder", 10, profile="pareto"), pareto(40, 10)),
        (Spec("folder", 8, profile="pareto", alpha=1.5, max_per_class=16), pareto(16, 8, alpha=1.5)),
        (Spec("folder", min_per_class=5, profile="pareto"), pareto(40, 8)),
        (Spec("folder", min_per_class=3), [40, 16, 7, 3]),
        (Spec("folder", min_per_class=7, max_per_class=21, profile="step"), [21, 21, 7, 7]),
        (Spec("folder", max_per_class=42), [40, 42, 41, 42]),
        (Spec("folder"), [40, 44, 41, 50]),
    ):
        manifest = build(spec, data_dir=folder, manifest_only=True, out=tmp_path / spec.name).manifest
        assert manifest.class_counts.tolist() == list(expected), spec


def test_a_large_class_may_be_larger_than_the_others_are(tmp_path: Path) -> None:
    """Of a folder, --max-per-class is n_max, as long as every class has what the profile asks of it."""
    folder = put_photos(tmp_path / "d", number_of({"a": 30, "b": 12, "c": 3}))
    spec = Spec("folder", 10, max_per_class=30)
    assert build(spec, data_dir=folder, manifest_only=True, out=tmp_path / "o").manifest.class_counts.tolist() == [
        30,
        9,
        3,
    ]
    for bad, message in (
        (Spec("folder", 10, max_per_class=31), "class 0, a, has 30 images, 31 are asked for"),
        (Spec("folder", 5, max_per_class=30), "class 1, b, has 12 images, 13 are asked for"),
        (Spec("folder", min_per_class=4), "min per class 4: the largest class would have 3 images"),
    ):
        refused(UsageError, message, partial(build, bad, data_dir=folder, manifest_only=True, out=tmp_path / "p"))


def test_the_seed_decides_which_and_only_the_seed(tmp_path: Path) -> None:
    folder = put_photos(tmp_path / "d", number_of({"a": 20, "b": 20}))
    found = {}
    for seed in (0, 1):
        spec = Spec("folder", 4, seed=seed)
        found[seed] = build(spec, data_dir=folder, manifest_only=True, out=tmp_path / f"s{seed}")
        again = build(spec, data_dir=folder, out=tmp_path / f"t{seed}")
        assert rows(found[seed]) == rows(again)
        verify(again.folder)
    assert rows(found[0]) != rows(found[1])
    labels = np.repeat([0, 1], 20)
    expected = ldam(labels, np.array([20, 5]), seed=1).tolist()
    assert rows(found[1]) == [(number_of({"a": 20, "b": 20})[n], int(labels[n])) for n in expected]


# Held out


def test_images_are_held_out_of_every_class(tmp_path: Path) -> None:
    paths = number_of({"a": 20, "b": 9, "c": 6})
    folder = put_photos(tmp_path / "d", paths)
    built = build(Spec("folder", val_per_class=2, test_per_class=3), data_dir=folder, out=tmp_path / "o")
    assert built.manifest.name == "d-natural-val2-test3"
    assert {name: split.class_counts for name, split in built.manifest.splits.items()} == {
        "train": (15, 4, 1),
        "val": (2, 2, 2),
        "test": (3, 3, 3),
    }
    taken = [path for split in ("train", "val", "test") for path, _ in rows(built, split)]
    assert sorted(taken) == paths
    labels = np.repeat([0, 1, 2], [20, 9, 6])
    (test, val), rest = hold_out(labels, [3, 2], seed=0)
    assert [path for path, _ in rows(built, "test")] == [paths[n] for n in test]
    assert [path for path, _ in rows(built, "val")] == [paths[n] for n in val]
    assert [path for path, _ in rows(built)] == [paths[n] for n in rest]
    verify(built.folder)


def test_the_test_set_stays_when_a_validation_set_is_added_or_the_tail_changes(tmp_path: Path) -> None:
    folder = put_photos(tmp_path / "d", number_of({"a": 20, "b": 20}))
    found = [
        rows(build(spec, data_dir=folder, manifest_only=True, out=tmp_path / spec.name), "test")
        for spec in (
            Spec("folder", test_per_class=3),
            Spec("folder", test_per_class=3, val_per_class=4),
            Spec("folder", 5, test_per_class=3),
        )
    ]
    assert found[0] == found[1] == found[2]


def test_what_is_held_out_is_not_drawn_for_training(tmp_path: Path) -> None:
    folder = put_photos(tmp_path / "d", number_of({"a": 20, "b": 20}))
    built = build(Spec("folder", 3, val_per_class=5), data_dir=folder, manifest_only=True, out=tmp_path / "o")
    assert built.manifest.class_counts.tolist() == [15, 5]
    assert not {path for path, _ in rows(built)} & {path for path, _ in rows(built, "val")}


def test_holding_out_too_much_or_twice_is_refused(tmp_path: Path) -> None:
    folder = put_photos(tmp_path / "d", [*(f"train/{path}" for path in PETS), "val/cat/1.jpg"])
    for spec, message in (
        (Spec("folder", test_per_class=3), "class 2, eel, has 3 images; holding 3 out would leave none for training"),
        (Spec("folder", val_per_class=1), "folder: has a val split of its own; leave out --val-per-class"),
    ):
        refused(UsageError, message, partial(build, spec, data_dir=folder, out=tmp_path / "o"))
    built = build(Spec("folder", test_per_class=2), data_dir=folder, out=tmp_path / "o")
    assert list(built.manifest.splits) == ["train", "val", "test"]


# Lists


def listed(pets: Path, text: str | bytes, name: str = "list.csv", **options: object) -> Built:
    path = put(pets.parent, {name: text if isinstance(text, bytes) else text.encode()}) / name
    return natural(pets, lists=path, **options)


LISTED = [("dog/1.jpg", 1), ("cat/0.jpg", 0), ("dog/0.jpg", 1)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "dog/1.jpg dog\ncat/0.jpg cat\ndog/0.jpg dog\n"),
        ("list.txt", "dog/1.jpg 1\ncat/0.jpg 0\ndog/0.jpg 1"),
        ("LIST", "dog/1.jpg\tdog\r\ncat/0.jpg\tcat\r\ndog/0.jpg\tdog\r\n"),
        ("list.csv", "path,label\ndog/1.jpg,dog\ncat/0.jpg,cat\ndog/0.jpg,dog\n"),
        ("list.CSV", "\ufefffile_name;x;category\r\ndog/1.jpg;;1\r\ncat/0.jpg;;00\r\ndog/0.jpg;;1\r\n"),
        ("list.tsv", "image\tclass\n./dog/1.jpg\tdog\ncat//0.jpg\tcat\n./dog/./0.jpg\tdog\n"),
        ("list.csv", "filename,species\ndog\\1.jpg,dog\ncat\\0.jpg,cat\ndog\\0.jpg,dog\n"),
    ],
)
def test_every_form_of_a_list_is_the_same_split(name: str, text: str, pets: Path) -> None:
    """In the order of the list; classes by name, or by number."""
    built = listed(pets, text, name)
    assert rows(built) == LISTED
    same = Samples(np.array([1, 0, 1]), source_path=tuple(path for path, _ in LISTED))
    assert built.manifest.content_sha256 == content_digest("folder", {"train": same})
    assert built.manifest.class_names in {("cat", "dog"), ("0", "1")}
    assert built.manifest.source["lists"][0]["rows"] == 3
    digest = hashlib.sha256((pets.parent / name).read_bytes()).hexdigest()
    assert built.manifest.source["checksums"] == {name: f"sha256:{digest}"}
    verify(built.folder)


def test_absolute_paths_inside_the_folder_are_taken(pets: Path) -> None:
    (pets.parent / "link").symlink_to(pets)
    text = f'path,label\n"{pets}/dog/1.jpg",dog\n{pets.parent}/link/cat/0.jpg,cat\ndog/0.jpg,dog\n'
    put(pets.parent, {"list.csv": text.encode()})
    built = natural(pets.parent / "link", lists=pets.parent / "list.csv")
    assert rows(built) == LISTED


def test_names_with_commas_quotes_and_blanks(pets: Path) -> None:
    put(pets, {'a, "b"/c d.jpg': photo(), " lead/1.jpg": photo()})
    built = listed(pets, 'path,label\n"a, ""b""/c d.jpg","big, cat"\n" lead/1.jpg",dog\n')
    assert rows(built) == [('a, "b"/c d.jpg', 0), (" lead/1.jpg", 1)]
    assert built.manifest.class_names == ("big, cat", "dog")


def test_a_split_column_or_a_folder_of_lists_makes_splits(pets: Path) -> None:
    built = listed(
        pets, "path,label,split\ncat/0.jpg,cat,train\ndog/0.jpg,dog,Train\ncat/1.jpg,cat,TEST\ndog/1.jpg,dog,valid\n"
    )
    assert {split: [path for path, _ in rows(built, split)] for split in built.manifest.splits} == {
        "train": ["cat/0.jpg", "dog/0.jpg"],
        "val": ["dog/1.jpg"],
        "test": ["cat/1.jpg"],
    }
    texts = {
        "train.txt": "cat/0.jpg cat\ndog/0.jpg dog\n",
        "val.csv": "path,label\ndog/1.jpg,dog\n",
        "Test.tsv": "path\tlabel\ncat/1.jpg\tcat\n",
    }
    folder = put(pets.parent / "lists", {name: text.encode() for name, text in texts.items()})
    put(folder, {"train.log": b"nothing", "other.txt": b"nothing", "readme.md": b"nothing"})
    again = build(Spec("folder"), data_dir=pets, lists=folder, out=pets.parent / "again")
    assert again.manifest.content_sha256 == built.manifest.content_sha256
    assert [record["file"] for record in again.manifest.source["lists"]] == ["Test.tsv", "train.txt", "val.csv"]


CAT = "path,label\ncat/0.jpg,cat\n"
SPLIT = "path,label,split\ncat/0.jpg,cat,train\n"
UNTRAINED = "path,label,split\ncat/0.jpg,cat,test\ndog/0.jpg,dog,test\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CAT + "dog/0.jpg,dog\ncat/0.jpg,cat\n", r":4: cat/0\.jpg is listed twice, first in .*list\.csv:2"),
        (CAT + "dog/0.jpg,dog\n./cat/0.jpg,cat\n", r":4: cat/0\.jpg is listed twice, first in .*list\.csv:2"),
        (CAT + "/etc/passwd,dog\n", r":3: path '/etc/passwd' is absolute"),
        (CAT + "../x.jpg,dog\n", r":3: path '\.\./x\.jpg' leads outside"),
        (CAT + "dog\\..\\..\\x.jpg,dog\n", r":3: path 'dog/\.\./\.\./x\.jpg' leads outside"),
        (CAT + ",dog\n", r":3: path '' is empty"),
        (CAT + "dog/0.jpg,\n", r":3: class '' is empty"),
        (CAT + 'dog/0.jpg,"d\nog"\n', r":4: class 'd\\nog' holds a control character"),
        (SPLIT + "dog/0.jpg,dog,dev\n", r":3: split 'dev' is none of train, val, test"),
        (SPLIT + "dog/0.jpg,dog,\n", r":3: split '' is none of train, val, test"),
        (SPLIT + "dog/0.jpg,dog,train\neel/0.jpg,eel,val\n", r":4: class 'eel' of a val image has no training image"),
        (UNTRAINED, r": lists no training image"),
        ("path,label\n", r": lists no image"),
        ("", r": is empty"),
    ],
)
def test_a_list_that_is_not_right_is_refused_by_line(text: str, message: str, pets: Path) -> None:
    refused(MismatchError, rf"list\.csv{message}", lambda: listed(pets, text))
    assert names(pets.parent) == ["list.csv", "pets"]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            CAT + "dog/9.jpg,dog\neel/9.jpg,dog\n",
            SourceMissingError,
            "2 of 3 images are missing: dog/9.jpg, eel/9.jpg;",
        ),
        (
            CAT.replace("cat\n", "0\n") + "dog/0.jpg,2\n",
            MismatchError,
            "the list numbers classes up to 2, and class 1 has",
        ),
        (
            CAT.replace("cat\n", "1\n") + "dog/0.jpg,2\n",
            MismatchError,
            "the list numbers classes up to 2, and class 0 has",
        ),
        (CAT + "cat/1.jpg,cat\n", UsageError, "1 classes; a long tail needs at least 2"),
    ],
)
def test_a_list_that_does_not_fit_the_folder_is_refused(
    text: str, error: type[LtdataError], message: str, pets: Path
) -> None:
    refused(error, f"pets: {message}", lambda: listed(pets, text))
    assert names(pets.parent) == ["list.csv", "pets"]


def test_an_image_in_two_lists_is_refused_by_both_lines(pets: Path) -> None:
    folder = put(
        pets.parent / "lists", {"train.txt": b"cat/0.jpg cat\ndog/0.jpg dog\n", "val.txt": b"\ndog/0.jpg dog\n"}
    )
    message = r"lists/val\.txt:2: dog/0\.jpg is listed twice, first in .*lists/train\.txt:2; take one out"
    refused(MismatchError, message, lambda: natural(pets, lists=folder))


def test_lists_that_are_not_there_are_told(pets: Path) -> None:
    refused(
        SourceMissingError,
        r"none\.txt: cannot be read \(No such file.*check the file",
        lambda: natural(pets, lists=pets / "none.txt"),
    )
    empty = put(pets.parent / "lists", {"val.txt": b"cat/0.jpg cat\n"})
    refused(SourceMissingError, r"lists: holds no train\.txt or train\.csv", lambda: natural(pets, lists=empty))


def test_without_images_a_list_needs_none(pets: Path) -> None:
    text = "path,label\nnowhere/1.jpg,a\nnowhere/2.jpg,b\n"
    assert rows(listed(pets, text, manifest_only=True)) == [("nowhere/1.jpg", 0), ("nowhere/2.jpg", 1)]


# Once built


def test_an_unchanged_folder_is_found_whole(pets: Path) -> None:
    built = natural(pets)
    before = {path: path.stat().st_mtime_ns for path in built.folder.rglob("*")}
    again = natural(pets)
    assert again.reused
    assert {path: path.stat().st_mtime_ns for path in built.folder.rglob("*")} == before
    put(pets, {"cat/readme.txt": b"new, and no image"})
    assert natural(pets).reused


def test_an_unchanged_folder_without_images_is_found_whole(pets: Path) -> None:
    natural(pets, manifest_only=True)
    assert natural(pets, manifest_only=True).reused


def scaled(pets: Path) -> Built:
    """Build with images made smaller, whose bytes are an encoder's."""
    return build(Spec("folder", max_side_px=16), data_dir=pets, out=pets.parent / "out")


def test_an_unchanged_folder_whose_images_were_scaled_is_found_whole(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert summary(scaled(pets))["longer_side_px"] == 16
    assert scaled(pets).reused
    put(pets, {"cat/1.jpg": photo(9)})
    refused(UsageError, "cat/1.jpg has changed in the source since", lambda: scaled(pets))
    monkeypatch.setattr("ltdata.images.encoder", lambda: "another, of whose bytes nothing is known")
    assert scaled(pets).reused


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("Pets At Home", "Pets-At-Home"),
        ("X-rays_X", "X-rays_X"),
        (".hidden-", "hidden"),
        ("ä", "folder"),
        ("n" * 120, "n" * 100),
    ],
    ids=lambda value: value[:12],
)
def test_a_data_set_is_named_after_its_folder(folder: str, name: str, tmp_path: Path) -> None:
    assert natural(put_photos(tmp_path / folder, PETS), manifest_only=True).manifest.name == f"{name}-natural"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda pets: put_photos(pets, ["cat/9.jpg"]), "content .*, the source's images and labels now give"),
        (lambda pets: (pets / "cat" / "1.jpg").unlink(), "content .*, the source's images and labels now give"),
        (lambda pets: (pets / "cat").rename(pets / "cow"), "content .*, the source's images and labels now give"),
        (lambda pets: put(pets, {"cat/1.jpg": photo(9)}), "cat/1.jpg has changed in the source since"),
    ],
    ids=["one more", "one less", "another class name", "another image"],
)
def test_a_changed_folder_is_not_found_whole(edit: Callable[[Path], object], message: str, pets: Path) -> None:
    first = natural(pets)
    before = contents(first.folder)
    edit(pets)
    refused(UsageError, rf"out: holds another build \({message}.*--force to replace it", lambda: natural(pets))
    assert contents(first.folder) == before
    assert not natural(pets, force=True).reused
    assert natural(pets).reused


def test_other_options_are_not_the_same_build(pets: Path) -> None:
    natural(pets)
    out = pets.parent / "out"
    for spec, message in (
        (Spec("folder", title="zoo"), "name pets-natural, asked for zoo-natural"),
        (Spec("folder", 2), "profile natural, asked for exp"),
        (Spec("folder", val_per_class=1), "val per class 0, asked for 1"),
        (Spec("folder", seed=1, max_per_class=3), "seed 0, asked for 1"),
        (Spec("folder", max_side_px=16), "longest side None, asked for 16"),
    ):
        refused(UsageError, f"holds another build .*{message}", partial(build, spec, data_dir=pets, out=out))


def test_a_list_with_other_class_names_is_not_the_same_build(pets: Path) -> None:
    listed(pets, "path,label\ncat/0.jpg,cat\ndog/0.jpg,dog\n")
    refused(
        UsageError,
        "the source's classes now have other names",
        lambda: listed(pets, "path,label\ncat/0.jpg,Cat\ndog/0.jpg,Dog\n"),
    )


# Scaled down


def test_larger_images_are_scaled_down_and_others_copied(pets: Path) -> None:
    put(pets, {"cat/0.jpg": photo(size=(64, 30)), "cat/1.jpg": photo(size=(32, 32)), "dog/0.jpg": photo(form="GIF")})
    spec = Spec("folder", max_side_px=32)
    built = build(spec, data_dir=pets, out=pets.parent / "out")
    assert built.manifest.storage == {"max_side_px": 32, "encoder": encoder()}
    digests = dict(zip([path for path, _ in rows(built)], samples_of(built).sha256 or (), strict=True))
    same = {path for path in PETS if hashlib.sha256((pets / path).read_bytes()).hexdigest() == digests[path]}
    assert set(PETS) - same == {"cat/0.jpg", "dog/0.jpg"}
    verify(built.folder)
    assert build(spec, data_dir=pets, out=built.folder).reused
    other = build(spec, data_dir=pets, out=pets.parent / "other", workers=2)
    assert contents(other.folder) == contents(built.folder)
    put(pets, {"cat/0.jpg": photo(1, size=(64, 30))})
    refused(UsageError, "cat/0.jpg has changed", lambda: build(spec, data_dir=pets, out=built.folder))


def samples_of(built: Built, split: str = "train") -> Samples:
    return read_samples(built.folder, built.manifest)[split]


def test_the_output_says_what_was_scaled(pets: Path) -> None:
    done = command("build", "folder", "--data-dir", pets, "--out", pets.parent / "o", "--max-side", 16, "--name", "zoo")
    assert done.returncode == 0
    assert "zoo-natural: built" in done.stdout
    assert "longer side at most 16 px, as JPEG" in done.stdout


def test_a_truncated_image_is_refused_where_it_is_decoded_and_named_by_verify(pets: Path) -> None:
    put(pets, {"dog/2.jpg": photo()[:-60]})
    out = pets.parent / "out"
    refused(
        MismatchError,
        r"pets/dog/2\.jpg: is not a readable image \(.*truncated",
        lambda: build(Spec("folder", max_side_px=16), data_dir=pets, out=out),
    )
    assert not out.exists()
    built = natural(pets)
    verify(built.folder, images=False)
    for workers in (1, 2):
        refused(
            MismatchError,
            r"^\S+few-000000\.tar: 00000008\.jpg \(dog/2\.jpg\) is not readable \(.*truncated.*\); mend the source",
            partial(verify, built.folder, workers=workers),
        )
    assert command("verify", built.folder).returncode == 3
    assert command("verify", built.folder, "--digests-only").returncode == 0


# Verified


def test_every_flipped_byte_of_a_shard_of_photographs_is_found(tmp_path: Path) -> None:
    built = natural(put_photos(tmp_path / "d", ["a/1.jpg", "b/1.jpg"]))
    (shard,) = (built.folder / shard.path for shard in built.manifest.splits["train"].shards)
    whole = shard.read_bytes()
    for at in [*range(0, 1600, 7), *range(1600, len(whole), 331)]:
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        shard.write_bytes(bytes(changed))
        with pytest.raises(MismatchError, match=r"few-000000\.tar: SHA-256"):
            verify(built.folder, images=False)
    shard.write_bytes(whole)
    verify(built.folder)


def reseal(built: Built, data: bytes) -> None:
    """Put other bytes into the only shard, and make the manifest fit them, as an attacker would."""
    (shard,) = built.manifest.splits["train"].shards
    (built.folder / shard.path).write_bytes(data)
    record = json.loads((built.folder / "manifest.json").read_text(encoding="utf-8"))
    record["splits"]["train"]["shards"][0] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (built.folder / "manifest.json").write_text(json.dumps(record), encoding="utf-8")


def test_a_suffix_that_is_not_the_contents_is_found(tmp_path: Path) -> None:
    from ltdata.shards import header

    built = natural(put_photos(tmp_path / "d", ["a/1.jpg", "b/1.jpg"]))
    whole = (built.folder / "train" / "few-000000.tar").read_bytes()
    size = int(whole[1024 + 124 : 1024 + 135], 8)
    renamed = whole[1024:1032] + b".png"
    reseal(built, whole[:1024] + header(renamed.decode(), size) + whole[1536:])
    for images in (False, True):
        refused(MismatchError, r"few-000000\.tar: 0000000\d\.png", lambda: verify(built.folder, images=images))  # noqa: B023


def test_a_swapped_image_is_found(tmp_path: Path) -> None:
    built = natural(put(tmp_path / "d", {"a/1.jpg": photo(0), "b/1.jpg": photo(1)}))
    whole = (built.folder / "train" / "few-000000.tar").read_bytes()
    size = int(whole[1024 + 124 : 1024 + 135], 8)
    reseal(built, whole[:1536] + whole[1536 : 1536 + size - 2][::-1] + whole[1536 + size - 2 :])
    refused(MismatchError, "has another digest than its row", lambda: verify(built.folder, images=False))


# Whatever is given


parts = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=10).filter(
    lambda name: name not in {".", ".."}
)


@settings(deadline=None, max_examples=60)
@given(files=st.lists(st.tuples(parts, parts), min_size=2, max_size=5))
def test_any_names_are_built_and_verified_or_refused_in_one_line(
    files: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("any")
    try:
        put_photos(root / "d", [f"{name}/{file}.jpg" for name, file in files])
    except OSError:
        return  # the disk takes no such name
    try:
        built = natural(root / "d")
    except LtdataError as error:
        message = str(error)
        assert len(message.splitlines()) == 1
        assert names(root) == ["d"]
        return
    assert verify(built.folder) == built.manifest
    assert not any(text_fault(path) for path, _ in rows(built))
    left_out = built.manifest.source.get("left_out", {"files": 0})["files"]
    assert built.manifest.splits["train"].num_samples + left_out >= len(
        {(name, file) for name, file in files if not name.startswith(".")}
    )
    text = (built.folder / "manifest.json").read_text(encoding="utf-8")
    assert Manifest.from_json(text, origin="x") == built.manifest


def test_load_source_gives_the_same_without_images(pets: Path) -> None:
    whole, bare = (load_source("folder", Where(data_dir=pets, need_images=need)) for need in (True, False))
    assert whole.class_names == bare.class_names
    assert whole.splits["train"].paths == bare.splits["train"].paths
    assert bare.splits["train"].images is None
    assert re.match("folder", whole.id)


def test_folders_that_link_to_each_other_are_refused_and_not_read_twice(tmp_path: Path) -> None:
    folder = put_photos(tmp_path / "pets", ["cat/0.jpg", "dog/0.jpg"])
    (folder / "cat" / "more").symlink_to("../dog")
    (folder / "dog" / "more").symlink_to("../cat")
    refused(MismatchError, "is the same folder as .*; take one out", lambda: natural(folder))


def test_an_output_among_the_images_is_refused(tmp_path: Path) -> None:
    folder = put_photos(tmp_path / "pets", ["cat/0.jpg", "dog/0.jpg"])
    for out in (folder / "out", folder / "cat" / "out"):
        with pytest.raises(UsageError, match="among the images"):
            build(Spec("folder"), data_dir=folder, out=out)
    assert sorted(path.name for path in folder.iterdir()) == ["cat", "dog"]
