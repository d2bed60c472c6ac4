"""Data sets that lists define: every form and place of a list, every layout of the images, and never another list."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED
from photos import contents, names, photo, put, put_photos

from ltdata import pinned
from ltdata.build import Built, build
from ltdata.errors import LtdataError, MismatchError, SourceMissingError, UsageError
from ltdata.lists import blob_sha1
from ltdata.reader import read_samples
from ltdata.samples import content_digest_of_lists
from ltdata.sources import SOURCES
from ltdata.sources.listed import load_listed
from ltdata.sources.official import IMAGENET_LT, INAT18, PLACES_LT, Official
from ltdata.spec import Spec
from ltdata.stats import frequency_stats
from ltdata.verify import verify

LISTS = SHARED / "data" / "lists"


# Three data sets as the official ones are, cut down to three classes


@dataclass(frozen=True)
class Small:
    """A data set whose lists are official by construction; `files` are its lists by split."""

    official: Official
    files: Mapping[str, bytes]

    def rows(self, split: str) -> list[tuple[str, int]]:
        found = (line.rpartition(" ") for line in self.files[split].decode().splitlines())
        return [(path, int(label)) for path, _, label in found]

    @property
    def paths(self) -> list[str]:
        return [path for split in self.files for path, _ in self.rows(split)]

    @property
    def content(self) -> str:
        lists = {split: (data.count(b"\n"), hashlib.sha256(data).hexdigest()) for split, data in self.files.items()}
        return content_digest_of_lists(self.official.id, lists)

    def put_lists(self, folder: Path, **changed: bytes) -> Path:
        files = {**self.files, **changed}
        return put(folder, {self.official.lists[split].file: data for split, data in files.items()})


def small(official: Official, rows: Mapping[str, list[tuple[str, int]]]) -> Small:
    files = {split: "".join(f"{path} {label}\n" for path, label in part).encode() for split, part in rows.items()}
    counts = np.bincount([label for _, label in rows["train"]])
    lists = {
        split: replace(
            official.lists[split],
            rows=len(rows[split]),
            bytes=len(data),
            blob_sha1=blob_sha1(data) if official.lists[split].blob_sha1 is not None else None,
            sha256=None,
        )
        for split, data in files.items()
    }
    return Small(
        replace(
            official,
            num_classes=len(counts),
            largest=int(counts.max()),
            smallest=int(counts.min()),
            lists=lists,
            homes=(),
            known_counts={label: int(counts[label]) for label in official.known_counts if label < len(counts)},
        ),
        files,
    )


COUNTS = (5, 3, 2)
WNIDS = ("n00000001", "n01000000", "n02000000")
ROOMS = ("airfield", "apartment_building-outdoor", "bazaar-indoor")
IMAGENET = small(
    IMAGENET_LT,
    {
        "train": [(f"train/{w}/{w}_{n}.JPEG", k) for k, w in enumerate(WNIDS) for n in range(COUNTS[k])],
        "val": [(f"train/{w}/{w}_{n}.JPEG", k) for k, w in enumerate(WNIDS) for n in (90, 91)],
        "test": [(f"val/{w}/ILSVRC2012_val_0000000{3 * n + k}.JPEG", k) for k, w in enumerate(WNIDS) for n in (0, 1)],
    },
)
PLACES = small(
    PLACES_LT,
    {
        "train": [(f"train/{r}/0000000{n}.jpg", k) for k, r in enumerate(ROOMS) for n in range(COUNTS[k])],
        "val": [(f"train/{r}/0000009{n}.jpg", k) for k, r in enumerate(ROOMS) for n in range(2)],
        "test": [(f"val/{r}/Places365_val_0000000{3 * n + k}.jpg", k) for k, r in enumerate(ROOMS) for n in range(2)],
    },
)
INAT = small(
    INAT18,
    {
        "train": [
            (f"train_val2018/{s}/{k}/{n}a{k}.jpg", k)
            for n in range(5)
            for k, s in enumerate(("Aves", "Insecta", "Aves"))
            if n < COUNTS[k]
        ],
        "val": [
            (f"train_val2018/{s}/{k}/f{n}{k}.jpg", k)
            for n in range(2)
            for k, s in enumerate(("Aves", "Insecta", "Aves"))
        ],
    },
)
CATEGORIES = [
    {"id": 1, "name": "Apis mellifera", "supercategory": "Insecta", "kingdom": "Animalia"},
    {"id": 0, "name": "Parus major", "supercategory": "Aves", "kingdom": "Animalia"},
    {"id": 2, "name": "Pica pica", "supercategory": "Aves", "kingdom": "Animalia"},
]
ALL = {"imagenet-lt": IMAGENET, "places-lt": PLACES, "inat18": INAT}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cut the data sets down, and look into a cache folder of this test alone."""
    for name, data in ALL.items():
        monkeypatch.setitem(SOURCES, name, partial(load_listed, data.official))
    monkeypatch.setenv("LTDATA_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache"


def rows_of(data: Small, tmp_path: Path, **options: object) -> Built:
    """Build without images."""
    return build(Spec(data.official.id), manifest_only=True, out=tmp_path / "out", **options)  # type: ignore[arg-type]


def refused(error: type[LtdataError], message: str, make: Callable[[], object]) -> str:
    with pytest.raises(error, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Where the images lie


def imagenet(prefix: str, *, flat: bool) -> Callable[[str], str]:
    return lambda path: prefix + (re.sub("^val/n[0-9]+/", "val/", path) if flat else path)


def by_letter(train: str, val: str) -> Callable[[str], str]:
    def place(path: str) -> str:
        part, room, file = path.split("/")
        if part == "val":
            return f"{val}/{file}"
        inner = {
            "airfield": "a/airfield",
            "apartment_building-outdoor": "a/apartment_building/outdoor",
            "bazaar-indoor": "b/bazaar/indoor",
        }
        return f"{train}/{inner[room]}/{file}"

    return place


LAYOUTS = [
    *(
        ("imagenet-lt", imagenet(prefix, flat=flat))
        for prefix in ("", "ILSVRC/Data/CLS-LOC/", "Data/CLS-LOC/", "CLS-LOC/")
        for flat in (False, True)
    ),
    ("inat18", lambda path: path),
    ("inat18", lambda path: path.removeprefix("train_val2018/")),
    ("inat18", lambda path: path.replace("train_val2018/", "2018/")),
    ("places-lt", lambda path: path),
    ("places-lt", lambda path: "places365_standard/" + path),
    ("places-lt", lambda path: re.sub("^val/[^/]*/", "val/", path)),
    ("places-lt", by_letter("data_256_standard", "val_256")),
    ("places-lt", by_letter("data_large_standard", "val_large")),
    ("places-lt", by_letter("data_256", "val_256")),
]


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_every_usual_layout_gives_the_same_split(name: str, layout: Callable[[str], str], tmp_path: Path) -> None:
    """The same rows, the same digest, and in the shards the very bytes of the files."""
    data = ALL[name]
    files = {path: photo(n) for n, path in enumerate(data.paths)}
    folder = put(tmp_path / "data", {layout(path): image for path, image in files.items()})
    data.put_lists(folder)
    built = build(Spec(name), data_dir=folder, out=tmp_path / "out")
    assert built.manifest.content_sha256 == data.content
    assert built.manifest.verified is (None if name == "places-lt" else True)
    assert list(built.manifest.splits) == list(data.files)
    for split, samples in read_samples(built.folder, built.manifest).items():
        assert list(zip(samples.source_path or (), samples.labels.tolist(), strict=True)) == data.rows(split)
        expected = [hashlib.sha256(files[path]).hexdigest() for path, _ in data.rows(split)]
        assert list(samples.sha256 or ()) == expected
    verify(built.folder)
    assert verify(built.folder, workers=2) == built.manifest


def test_the_layouts_of_this_test_are_all_that_are_known() -> None:
    for name, data in ALL.items():
        assert sum(known == name for known, _ in LAYOUTS) == len(data.official.places)


def test_missing_images_of_all_splits_are_counted_together(tmp_path: Path) -> None:
    """And the first few named, before anything is written."""
    folder = put_photos(tmp_path / "data", IMAGENET.paths)
    IMAGENET.put_lists(folder)
    gone = [IMAGENET.rows("train")[4][0], *(path for path, _ in IMAGENET.rows("val")), IMAGENET.rows("test")[1][0]]
    for path in gone:
        (folder / path).unlink()
    message = refused(
        SourceMissingError,
        r"data: 8 of 22 images are missing: (\S+, ){4}\S+, \.\.\.; complete the folder.* --data-dir.* --manifest-only",
        lambda: build(Spec("imagenet-lt"), data_dir=folder, out=tmp_path / "out"),
    )
    assert all(path in message for path in gone[:5])
    assert gone[5] not in message
    assert names(tmp_path) == ["data"]


def test_a_few_missing_images_are_all_named(tmp_path: Path) -> None:
    folder = put_photos(tmp_path / "data", PLACES.paths[1:])
    PLACES.put_lists(folder)
    refused(
        SourceMissingError,
        rf"data: 1 of 22 images are missing: {PLACES.paths[0]}; complete",
        lambda: build(Spec("places-lt"), data_dir=folder, out=tmp_path / "out"),
    )


def test_an_empty_folder_lacks_every_image(tmp_path: Path) -> None:
    INAT.put_lists(tmp_path / "lists")
    (tmp_path / "data").mkdir()
    refused(
        SourceMissingError,
        "data: 16 of 16 images are missing: train_val2018/Aves/0/0a0.jpg",
        lambda: build(Spec("inat18"), data_dir=tmp_path / "data", lists=tmp_path / "lists", out=tmp_path / "out"),
    )


def test_the_command_ends_with_four_and_one_line(tmp_path: Path) -> None:
    """From a process of its own."""
    command = [sys.executable, "-m", "ltdata", "build", "places-lt", "--data-dir", ".", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert re.fullmatch(r"ltdata: error: .*: holds no Places_LT_train\.txt; put it there, .* --lists\n", done.stderr)
    assert names(tmp_path) == []


# How the lists are written

FORMS: dict[str, Callable[[bytes], bytes]] = {
    "official": lambda data: data,
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "byte-order mark": lambda data: b"\xef\xbb\xbf" + data,
    "no last newline": lambda data: data[:-1],
    "blank lines": lambda data: data.replace(b"\n", b"\n\n", 1),
    "byte-order mark; CRLF; no last newline": lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")[:-2],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ALL)
def test_a_list_in_another_form_is_the_same_list(name: str, form: str, tmp_path: Path) -> None:
    data = ALL[name]
    changed = {split: FORMS[form](text) for split, text in data.files.items()}
    built = rows_of(data, tmp_path, lists=data.put_lists(tmp_path / "lists", **changed))
    digested = None if name == "places-lt" else True
    assert (built.manifest.content_sha256, built.manifest.verified) == (data.content, digested)
    for split, record in built.manifest.source["lists"].items():
        assert (record["official"], record["rows"]) == (True, data.official.lists[split].rows)
        assert record["git_blob_sha1"] == blob_sha1(data.files[split])
        plain = "published figures, no digest is published" if name == "places-lt" else ""
        form = "no last newline, GLMC's copy" if form == "no last newline" and not plain else form
        assert record["form"] == "; ".join(part for part in (plain, form) if part and (part != "official" or not plain))


OTHER_PATHS: dict[str, tuple[str, Callable[[str], str]]] = {
    "KaihuaTang's flat val": ("imagenet-lt", lambda path: re.sub("^val/n[0-9]+/", "val/", path)),
    "Kaggle's folders": ("imagenet-lt", lambda path: "ILSVRC/Data/CLS-LOC/" + path),
    "absolute": ("imagenet-lt", lambda path: "/data/imagenet/" + path),
    "class and file alone": ("imagenet-lt", lambda path: re.sub("^(train|val)/", "", path)),
    "no folder of all": ("inat18", lambda path: path.removeprefix("train_val2018/")),
    "absolute too": ("inat18", lambda path: "/data/" + path),
    "by letter": ("places-lt", by_letter("data_256_standard", "val_256")),
    "by letter alone": ("places-lt", lambda path: by_letter("x", "val_256")(path).removeprefix("x/")),
    "flat val": ("places-lt", lambda path: re.sub("^val/[^/]*/", "val/", path)),
    "a prefix": ("places-lt", lambda path: "places365_standard/" + path),
}


@pytest.mark.parametrize("form", OTHER_PATHS)
def test_a_list_with_other_paths_is_the_same_list(form: str, tmp_path: Path) -> None:
    """It is known by its rows, and the manifest names the images as the official list does."""
    name, change = OTHER_PATHS[form]
    data = ALL[name]
    changed = {
        split: "".join(f"{change(path)} {label}\n" for path, label in data.rows(split)).encode() for split in data.files
    }
    assert changed != data.files
    built = rows_of(data, tmp_path, lists=data.put_lists(tmp_path / "lists", **changed))
    digested = None if name == "places-lt" else True
    assert (built.manifest.content_sha256, built.manifest.verified) == (data.content, digested)
    for split, record in built.manifest.source["lists"].items():
        assert ("other paths" in record["form"]) == (changed[split] != data.files[split])
        assert record["git_blob_sha1"] == blob_sha1(data.files[split])


# Where the lists lie


@pytest.mark.parametrize("place", ["data", "data/ImageNet_LT", "data/annotations", "cache", "cache/ImageNet_LT"])
def test_lists_are_found_in_the_data_folder_and_in_the_cache(place: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    IMAGENET.put_lists(tmp_path / place)
    built = rows_of(IMAGENET, tmp_path, data_dir=tmp_path / "data")
    assert built.manifest.content_sha256 == IMAGENET.content


@pytest.mark.parametrize("place", ["lists", "lists/ImageNet_LT"])
def test_named_lists_are_read_and_no_others(place: str, cache: Path, tmp_path: Path) -> None:
    for other in (cache, tmp_path / "data"):
        IMAGENET.put_lists(other, train=b"nonsense")
    IMAGENET.put_lists(tmp_path / place)
    built = rows_of(IMAGENET, tmp_path, data_dir=tmp_path / "data", lists=tmp_path / "lists")
    assert built.manifest.content_sha256 == IMAGENET.content
    (tmp_path / place / "ImageNet_LT_val.txt").unlink()
    refused(
        SourceMissingError,
        "lists: holds no ImageNet_LT_val.txt; put it there",
        lambda: build(Spec("imagenet-lt"), manifest_only=True, lists=tmp_path / "lists", out=tmp_path / "other"),
    )


def test_lists_that_are_nowhere_are_asked_for(tmp_path: Path) -> None:
    """No home is known for those of Places-LT, and none is made up."""
    refused(SourceMissingError, r"cache: holds no Places_LT_train\.txt; put it", lambda: rows_of(PLACES, tmp_path))
    refused(
        SourceMissingError,
        r"none: does not exist; name a folder with (ImageNet_LT_(train|val|test)\.txt(, )?){3}$",
        lambda: rows_of(IMAGENET, tmp_path, lists=tmp_path / "none"),
    )
    refused(
        SourceMissingError,
        r"none: does not exist; name .*, or train2018\.json and val2018\.json$",
        lambda: rows_of(INAT, tmp_path, lists=tmp_path / "none"),
    )
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    IMAGENET.put_lists(tmp_path)
    train = tmp_path / "ImageNet_LT_train.txt"
    refused(
        UsageError,
        r"--lists .*_train\.txt: is a file; name the folder",
        lambda: rows_of(IMAGENET, tmp_path, lists=train),
    )
    refused(UsageError, "imagenet-lt: its images are not downloaded; .* --data-dir", lambda: build(Spec("imagenet-lt")))
    for bad in (train, tmp_path / "none"):
        refused(
            SourceMissingError,
            "no such folder; name the folder with the images of ImageNet-LT",
            partial(build, Spec("imagenet-lt"), data_dir=bad, out=tmp_path / "out"),
        )
    for options in ({"imbalance_factor": 10}, {"seed": 1}, {"max_per_class": 3}, {"test_per_class": 2}, {"title": "x"}):
        refused(
            UsageError,
            "imagenet-lt: its lists are the split, nothing is drawn",
            partial(Spec, "imagenet-lt", **options),
        )


# Lists that are not right


def change(data: Small, split: str, edit: Callable[[list[str]], object]) -> bytes:
    lines = data.files[split].decode().splitlines()
    edit(lines)
    return "".join(f"{line}\n" for line in lines).encode()


def relabel(row: int, label: str) -> Callable[[list[str]], object]:
    return lambda lines: lines.__setitem__(row, f"{lines[row].rpartition(' ')[0]} {label}")


def insert(row: int, line: str) -> Callable[[list[str]], object]:
    return lambda lines: lines.insert(row, line)


TRAINED = "train/n00000001/n00000001_1.JPEG"


@pytest.mark.parametrize("unverified", [False, True])
@pytest.mark.parametrize(
    ("split", "edit", "message"),
    [
        ("train", relabel(3, "3"), r"train\.txt:4: label 3 is not in 0 \.\. 2"),
        ("train", relabel(3, "-1"), r"train\.txt:4: label '-1' is not a whole"),
        ("train", relabel(3, "1"), r"train\.txt:4: class n00000001 has label 1, and 0 in .*train\.txt:1;"),
        ("test", relabel(1, "2"), r"test\.txt:2: class n00000001 has label 2, and 0 in .*train\.txt:1;"),
        (
            "train",
            insert(2, "train/n09999999/n09999999_1.JPEG 0"),
            r"train\.txt:3: label 0 is of class n09999999, and of n00000001 in .*train\.txt:1;",
        ),
        ("train", insert(3, f"{TRAINED} 0"), rf"train\.txt:4: {TRAINED} is listed twice, first in .*train\.txt:2;"),
        ("val", insert(2, f"{TRAINED} 0"), rf"val\.txt:3: {TRAINED} is in train too"),
        ("train", lambda lines: lines.__delitem__(slice(8, None)), r"train\.txt: class 2 has no image; .* fetch it"),
        ("train", insert(0, "../x.JPEG 0"), r"train\.txt:1: path '\.\./x\.JPEG' leads outside"),
        ("val", insert(0, "nonsense"), r"val\.txt:1: 'nonsense' is not a path and a label"),
        ("val", lambda lines: lines.clear(), r"val\.txt: is empty"),
    ],
)
def test_a_list_that_is_not_right_is_refused_by_line(
    split: str, edit: Callable[[list[str]], object], message: str, unverified: bool, tmp_path: Path
) -> None:
    lists = IMAGENET.put_lists(tmp_path / "lists", **{split: change(IMAGENET, split, edit)})
    refused(MismatchError, message, lambda: rows_of(IMAGENET, tmp_path, lists=lists, unverified=unverified))
    assert names(tmp_path) == ["lists"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: lines.pop(),
        lambda lines: lines.reverse(),
        lambda lines: lines.append(lines[0].replace("_val_0000000", "_val_0000099")),
        lambda lines: lines.__setitem__(0, lines[0].replace("_val_", "_VAL_")),
    ],
    ids=["a row less", "another order", "a row more", "another image"],
)
@pytest.mark.parametrize("name", ["imagenet-lt", "places-lt"])
def test_another_list_is_refused_unless_told_to_take_it(
    name: str, edit: Callable[[list[str]], object], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = ALL[name]
    lists = data.put_lists(tmp_path / "lists", test=change(data, "test", edit))
    if name == "places-lt" and "a row" not in request.node.name:
        return  # nothing published about Places-LT tells these
    refused(
        MismatchError,
        r"_test\.txt: \d rows, git blob SHA-1 \w{40}: not the test list of .* \(6 rows, .*--unverified",
        lambda: rows_of(data, tmp_path, lists=lists),
    )
    built = rows_of(data, tmp_path, lists=lists, unverified=True)
    assert built.manifest.verified is False
    assert {split: record["official"] for split, record in built.manifest.source["lists"].items()} == {
        "train": True,
        "val": True,
        "test": False,
    }
    assert built.manifest.content_sha256 != data.content
    refused(UsageError, "--unverified not given", lambda: rows_of(data, tmp_path, lists=lists))
    assert rows_of(data, tmp_path, lists=lists, unverified=True).reused


def test_lines_are_counted_with_the_blank_ones(tmp_path: Path) -> None:
    lines = IMAGENET.files["val"].decode().splitlines()
    lines[1:1] = ["", ""]
    lines[3] = lines[3][:-1] + "1"
    lists = IMAGENET.put_lists(tmp_path / "lists", val="\r\n".join(lines).encode())
    refused(MismatchError, r"_val\.txt:4: class n00000001", lambda: rows_of(IMAGENET, tmp_path, lists=lists))


def test_an_unofficial_list_with_odd_paths_finds_its_images(tmp_path: Path) -> None:
    """The layouts of the archives say nothing about such paths, and are no reason to fail."""
    rows = {
        split: [(f"my photos/{ROOMS[label]}/{split} {n}.jpg", label) for n, (_, label) in enumerate(PLACES.rows(split))]
        for split in PLACES.files
    }
    folder = put_photos(tmp_path / "data", [path for part in rows.values() for path, _ in part])
    changed = {split: "".join(f"{path} {label}\n" for path, label in part).encode() for split, part in rows.items()}
    PLACES.put_lists(folder, **changed)
    built = build(Spec("places-lt"), data_dir=folder, out=tmp_path / "out", unverified=True)
    assert built.manifest.paths == tuple(path for path, _ in rows["train"])
    verify(built.folder)


# iNaturalist's own files


def coco(data: Small, split: str, *, seed: int = 0) -> dict[str, list[dict[str, object]]]:
    """Write a list as the competition's JSON: annotations in another order, ids that are no positions."""
    rows = data.rows(split)
    draw = np.random.RandomState(seed)
    ids = draw.permutation(1000)[: len(rows)].tolist()
    shuffled = draw.permutation(len(rows)).tolist()
    return {
        "images": [{"id": ids[n], "file_name": path, "width": 1} for n, (path, _) in enumerate(rows)],
        "annotations": [{"id": k, "image_id": ids[n], "category_id": rows[n][1]} for k, n in enumerate(shuffled)],
    }


def put_json(folder: Path, **changed: object) -> Path:
    records = {split: changed.get(split, coco(INAT, split)) for split in INAT.files}
    return put(folder, {f"{split}2018.json": json.dumps(record).encode() for split, record in records.items()})


@pytest.mark.parametrize("place", ["data", "data/annotations", "cache", "lists"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_competitions_json_is_the_same_list(place: str, seed: int, tmp_path: Path) -> None:
    """Joined by image id, in the order of its images."""
    (tmp_path / "data").mkdir()
    put_json(tmp_path / place, train=coco(INAT, "train", seed=seed))
    lists = tmp_path / "lists" if place == "lists" else None
    built = rows_of(INAT, tmp_path, data_dir=tmp_path / "data", lists=lists)
    assert (built.manifest.content_sha256, built.manifest.verified) == (INAT.content, True)
    assert built.manifest.source["lists"]["train"]["file"] == "train2018.json"


def test_list_and_json_may_be_mixed(tmp_path: Path) -> None:
    put_json(tmp_path / "lists")
    put(tmp_path / "lists", {"iNaturalist18_val.txt": INAT.files["val"]})
    assert rows_of(INAT, tmp_path, lists=tmp_path / "lists").manifest.content_sha256 == INAT.content


Edit = Callable[[dict[str, list[dict[str, object]]]], object]


def image(number: int = 0, **values: object) -> Edit:
    return lambda record: record["images"][number].update(values)


def annotation(**values: object) -> Edit:
    return lambda record: record["annotations"][0].update(values)


def again(part: str) -> Edit:
    return lambda record: record[part].append(dict(record[part][0]))


SAME = INAT.rows("train")[0][0]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda record: record["annotations"].pop(2), r": image id \d+ \(train_val2018/\S+\.jpg\) has no annotation"),
        (lambda record: record["images"].pop(2), r": 1 annotations name no image of this file, the first image id \d+"),
        (again("annotations"), r": image id \d+ is annotated twice"),
        (again("images"), r": image id \d+ is there twice"),
        (image(1, file_name=SAME), r": image id \d+: \S+ is listed twice, first in \S+: image id \d+;"),
        (annotation(category_id=3), r": image id \d+: label 3 is not in 0 \.\. 2"),
        (annotation(category_id=-1), r": image id \d+: label '-1' is not a whole number"),
        (annotation(category_id=1.0), r": image id \d+: label '1\.0' is not a whole number"),
        (annotation(category_id=None), r": image id \d+: label 'None' is not a whole number"),
        (annotation(category_id=True), r": image id \d+: label 'True' is not a whole number"),
        (image(file_name=None), r": not a COCO-style file .*file_name None of image id"),
        (image(file_name="/etc/passwd"), r": image id \d+: path '/etc/passwd' is absolute"),
        (image(file_name="a\ud800.jpg"), r": image id \d+: path 'a\\ud800\.jpg' is not UTF-8"),
        (image(file_name="a\nb.jpg"), r": image id \d+: path 'a\\nb\.jpg' holds a control character"),
        (image(id=[1]), r": not a COCO-style file"),
        (lambda record: record["images"][0].pop("id"), r": not a COCO-style file .*KeyError\('id'\)"),
        (lambda record: record.pop("annotations"), r": not a COCO-style file .*'annotations'"),
        (lambda record: record.update(images=7), r": not a COCO-style file"),
        (lambda record: record.update(images=[], annotations=[]), r": lists no image"),
    ],
)
def test_json_out_of_step_is_refused_by_image_id(edit: Edit, message: str, tmp_path: Path) -> None:
    record = coco(INAT, "train")
    edit(record)
    lists = put_json(tmp_path / "lists", train=record)
    refused(MismatchError, "train2018.json" + message, lambda: rows_of(INAT, tmp_path, lists=lists, unverified=True))
    assert names(tmp_path) == ["lists"]


@pytest.mark.parametrize("text", [b"", b"[1, 2]", b"7", b"null", b'{"images": [', b"[" * 100_000, b"\xff\xfe", b"{}"])
def test_json_that_is_none_is_refused(text: bytes, tmp_path: Path) -> None:
    put_json(tmp_path / "lists")
    put(tmp_path / "lists", {"val2018.json": text})
    refused(MismatchError, r"val2018\.json: not ", lambda: rows_of(INAT, tmp_path, lists=tmp_path / "lists"))


def test_json_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    whole = json.dumps(coco(INAT, "train")).encode()
    put_json(tmp_path / "lists")
    for length in range(1, len(whole), 97):
        put(tmp_path / "lists", {"train2018.json": whole[:length]})
        message = r"train2018\.json: not readable as JSON \(.*\): cut off\? fetch it again"
        refused(MismatchError, message, lambda: rows_of(INAT, tmp_path, lists=tmp_path / "lists"))


@pytest.mark.parametrize("place", ["lists", "lists/iNaturalist18", "data", "cache"])
def test_names_come_from_categories_json(place: str, tmp_path: Path) -> None:
    INAT.put_lists(tmp_path / "lists")
    put(tmp_path / place, {"categories.json": json.dumps(CATEGORIES).encode()})
    data = tmp_path / "data" if place == "data" else None
    manifest = rows_of(INAT, tmp_path, lists=tmp_path / "lists", data_dir=data).manifest
    assert manifest.class_names == ("Parus major", "Apis mellifera", "Pica pica")
    assert manifest.superclass_names == ("Aves", "Insecta", "Aves")
    assert manifest.content_sha256 == INAT.content


def test_without_categories_json_the_paths_name_what_they_can(tmp_path: Path) -> None:
    manifest = rows_of(INAT, tmp_path, lists=INAT.put_lists(tmp_path / "lists")).manifest
    assert manifest.class_names == ("0", "1", "2")
    assert manifest.superclass_names == ("Aves", "Insecta", "Aves")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"7",
        b'{"a": {"id": 0}}',
        json.dumps(CATEGORIES[:2]).encode(),
        json.dumps([*CATEGORIES, CATEGORIES[0]]).encode(),
        json.dumps([{"id": record["id"], "name": record["name"]} for record in CATEGORIES]).encode(),
        json.dumps(CATEGORIES)[:-20].encode(),
    ],
)
def test_wrong_categories_are_refused_by_file(text: bytes, tmp_path: Path) -> None:
    lists = put(INAT.put_lists(tmp_path / "lists"), {"categories.json": text})
    refused(MismatchError, r"categories\.json: not ", lambda: rows_of(INAT, tmp_path, lists=lists))


def test_classes_of_imagenet_and_places_are_named_by_their_folders(tmp_path: Path) -> None:
    for data, expected in ((IMAGENET, WNIDS), (PLACES, ROOMS)):
        lists = data.put_lists(tmp_path / "lists")
        manifest = build(
            Spec(data.official.id), lists=lists, manifest_only=True, out=tmp_path / data.official.id
        ).manifest
        assert manifest.class_names == expected
        assert manifest.superclass_names == ()


# Downloads


@dataclass
class Home:
    """A server of lists: what each address answers, and what was asked for."""

    url: str
    files: dict[str, bytes]
    asked: list[str]


@pytest.fixture
def home() -> Iterator[Home]:
    found = Home("", {}, [])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            if self.path not in found.files:
                self.send_error(404)
                return
            body = found.files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        found.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield found
        http.shutdown()
        thread.join()


def at_home(monkeypatch: pytest.MonkeyPatch, *homes: str) -> None:
    moved = replace(IMAGENET.official, homes=homes)
    monkeypatch.setitem(SOURCES, "imagenet-lt", partial(load_listed, moved))


def served(folder: str, **changed: bytes) -> dict[str, bytes]:
    files = {**IMAGENET.files, **changed}
    return {f"/{folder}/{IMAGENET.official.lists[split].file}": data for split, data in files.items()}


def test_lists_are_downloaded_into_the_cache_once(
    home: Home, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.files = served("a")
    at_home(monkeypatch, f"{home.url}/a/", f"{home.url}/b/")
    assert rows_of(IMAGENET, tmp_path).manifest.content_sha256 == IMAGENET.content
    assert home.asked == list(served("a"))
    assert names(cache) == sorted(official.file for official in IMAGENET.official.lists.values())
    shutil.rmtree(tmp_path / "out")
    rows_of(IMAGENET, tmp_path)
    assert len(home.asked) == 3


@pytest.mark.parametrize("first", ["missing", "other bytes", "gone"])
def test_the_second_home_is_asked_where_the_first_fails(
    first: str, home: Home, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.files = served("b") | (served("a", train=b"nonsense\n", val=b"", test=b"x") if first == "other bytes" else {})
    at_home(monkeypatch, "http://127.0.0.1:9/" if first == "gone" else f"{home.url}/a/", f"{home.url}/b/")
    assert rows_of(IMAGENET, tmp_path).manifest.content_sha256 == IMAGENET.content
    assert names(cache) == sorted(official.file for official in IMAGENET.official.lists.values())


def test_a_list_with_another_digest_is_not_kept(
    home: Home, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even with --unverified: the user's own file may differ, a download must not."""
    for folder in "ab":
        home.files |= served(folder, train=IMAGENET.files["train"][:-1])
    at_home(monkeypatch, f"{home.url}/a/", f"{home.url}/b/")
    for unverified in (False, True):
        message = (
            rf"{home.url}/a/ImageNet_LT_train\.txt: digest git-blob-sha1:\w{{40}}, published git-blob-sha1:\w{{40}}"
        )
        refused(MismatchError, message, partial(rows_of, IMAGENET, tmp_path, unverified=unverified))
        assert names(cache) == []
        assert not (tmp_path / "out").exists()


def test_offline_the_advice_is_where_to_put_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_home(monkeypatch, "http://127.0.0.1:9/x/", "http://127.0.0.1:9/y/")
    message = refused(
        SourceMissingError,
        r"^http://127\.0\.0\.1:9/x/ImageNet_LT_train\.txt: cannot be fetched .*or put \S+_train\.txt .* into .*cache",
        lambda: rows_of(IMAGENET, tmp_path),
    )
    assert "--data-dir" in message
    assert not (tmp_path / "out").exists()


def test_both_homes_are_pinned_addresses() -> None:
    """Two, on their own hosts' https; the first one at a commit."""
    for official in (IMAGENET_LT, INAT18):
        assert len(official.homes) == 2
        assert all(home.startswith("https://") and home.endswith("/") for home in official.homes)
        assert re.search("/[0-9a-f]{40}/", official.homes[0])
        assert all(known.blob_sha1 for known in official.lists.values())


# Builds of them


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = put_photos(tmp_path / "data", IMAGENET.paths)
    return IMAGENET.put_lists(folder)


def test_the_shards_do_not_depend_on_workers_or_layout(data: Path, tmp_path: Path) -> None:
    built = build(Spec("imagenet-lt"), data_dir=data, out=tmp_path / "a")
    moved = tmp_path / "moved" / "ILSVRC" / "Data" / "CLS-LOC"
    moved.parent.mkdir(parents=True)
    shutil.copytree(data, moved)
    again = build(Spec("imagenet-lt"), data_dir=tmp_path / "moved", lists=data, workers=2, out=tmp_path / "b")
    assert contents(built.folder) == contents(again.folder)


def test_what_was_scaled_down_is_in_the_manifest(data: Path, tmp_path: Path) -> None:
    put(data, {IMAGENET.paths[0]: photo(7, size=(64, 32))})
    built = build(Spec("imagenet-lt", max_side_px=32), data_dir=data, out=tmp_path / "out")
    storage = built.manifest.storage
    assert storage is not None
    assert storage["max_side_px"] == 32
    assert re.fullmatch(r"Pillow \S+, libjpeg\S* \S+, quality 95", storage["encoder"])
    digests = read_samples(built.folder, built.manifest)["train"].sha256
    assert digests is not None
    assert digests[0] != hashlib.sha256(photo(7, size=(64, 32))).hexdigest()
    assert digests[1] == hashlib.sha256(photo(1)).hexdigest()
    assert built.manifest.content_sha256 == IMAGENET.content
    verify(built.folder)
    refused(
        UsageError,
        "longest side 32, asked for None",
        lambda: build(Spec("imagenet-lt"), data_dir=data, out=tmp_path / "out"),
    )


def test_a_finished_build_is_found_even_without_its_source(data: Path, tmp_path: Path) -> None:
    build(Spec("imagenet-lt"), data_dir=data, out=tmp_path / "out")
    shutil.rmtree(data)
    assert build(Spec("imagenet-lt"), data_dir=data, out=tmp_path / "out").reused


@pytest.mark.parametrize("name", ALL)
def test_the_second_command_finds_the_first_ones_build(name: str, tmp_path: Path) -> None:
    options = {"lists": ALL[name].put_lists(tmp_path / "lists"), "manifest_only": True, "out": tmp_path / "out"}
    build(Spec(name), **options)  # type: ignore[arg-type]
    assert build(Spec(name), **options).reused  # type: ignore[arg-type]


def test_an_unverified_build_is_found_where_its_lists_are(data: Path, tmp_path: Path) -> None:
    lists = IMAGENET.put_lists(tmp_path / "lists", val=change(IMAGENET, "val", lambda lines: lines.pop()))
    options = {"data_dir": data, "lists": lists, "unverified": True, "out": tmp_path / "out"}
    build(Spec("imagenet-lt"), **options)  # type: ignore[arg-type]
    shutil.rmtree(data / "train")
    assert build(Spec("imagenet-lt"), **options).reused  # type: ignore[arg-type]


def test_other_lists_are_no_reason_to_find_a_build(data: Path, tmp_path: Path) -> None:
    """Neither after an unverified build nor asked for over a verified one."""
    other = IMAGENET.put_lists(tmp_path / "other", val=IMAGENET.files["val"][::-1][1:][::-1].replace(b"_90", b"_92"))
    build(Spec("imagenet-lt"), lists=data, manifest_only=True, out=tmp_path / "a")
    build(Spec("imagenet-lt"), lists=other, manifest_only=True, unverified=True, out=tmp_path / "b")
    for out, lists in (("a", other), ("b", data)):
        refused(
            UsageError,
            r"holds another build \(content \w+, the source's images and labels now give \w+\)",
            partial(build, Spec("imagenet-lt"), lists=lists, manifest_only=True, unverified=True, out=tmp_path / out),
        )
        assert build(
            Spec("imagenet-lt"),
            lists={"a": data, "b": other}[out],
            manifest_only=True,
            unverified=True,
            out=tmp_path / out,
        ).reused


def test_an_image_that_breaks_the_build_leaves_nothing(data: Path, tmp_path: Path) -> None:
    for broken in (b"", b"<html>Not found</html>"):
        put(data, {IMAGENET.paths[-1]: broken})
        for workers in (1, 2):
            refused(
                MismatchError,
                rf"data/{IMAGENET.paths[-1]}: .* so it is neither JPEG nor PNG",
                partial(build, Spec("imagenet-lt"), data_dir=data, out=tmp_path / "out", workers=workers),
            )
            assert names(tmp_path) == ["data"]


# At full size


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> Path:
    if not LISTS.is_dir():
        pytest.skip(f"the official lists are not here ({LISTS}); set LTDATA_SHARED to the folder that has them")
    monkeypatch.setitem(SOURCES, "imagenet-lt", partial(load_listed, IMAGENET_LT))
    monkeypatch.setitem(SOURCES, "inat18", partial(load_listed, INAT18))
    return LISTS


def test_imagenet_lt_at_full_size(lists: Path, tmp_path: Path) -> None:
    """The official val and test lists, the latter flat; a list with the official counts of training images."""
    counts = json.loads((lists / "imagenet_lt" / "imagenet_lt_train_class_counts.json").read_text())
    val = (lists / "imagenet_lt" / "ImageNet_LT_val.txt").read_text()
    test = (lists / "imagenet_lt" / "ImageNet_LT_test.txt").read_text()
    wnids = [line.split("/")[1] for line in val.splitlines()[::20]]
    train = "".join(f"train/{w}/{w}_{10**6 + n}.JPEG {k}\n" for k, w in enumerate(wnids) for n in range(counts[k]))
    flat = re.sub("^val/n[0-9]{8}/", "val/", test, flags=re.MULTILINE)
    files = {"train": train, "val": val.replace("\n", "\r\n"), "test": flat}
    folder = put(tmp_path / "data", {f"ImageNet_LT_{split}.txt": text.encode() for split, text in files.items()})
    spec = Spec("imagenet-lt")
    refused(
        MismatchError,
        r"_train\.txt: 115,846 rows, git blob SHA-1 \w{40}: not the train list of ImageNet-LT \(115,846 rows",
        lambda: build(spec, data_dir=folder, manifest_only=True, out=tmp_path / "out"),
    )
    manifest = build(spec, data_dir=folder, manifest_only=True, unverified=True, out=tmp_path / "out").manifest
    assert {split: part.num_samples for split, part in manifest.splits.items()} == {
        "train": 115_846,
        "val": 20_000,
        "test": 50_000,
    }
    found = {split: (record["official"], record["form"]) for split, record in manifest.source["lists"].items()}
    assert found == {"train": (False, "unknown"), "val": (True, "CRLF"), "test": (True, "flat val/, KaihuaTang's copy")}
    known = pinned.load("imagenet-lt")
    assert manifest.class_names == known.class_names
    for split in ("val", "test"):
        assert manifest.splits[split].list_sha256 == known.splits[split].list_sha256
    assert manifest.class_counts.tolist() == known.class_counts.tolist()
    stats = frequency_stats(manifest.class_counts, rule="strict")
    assert (stats.largest, stats.smallest, stats.imbalance_factor) == (1280, 5, 256)
    assert [stats.groups[name].classes for name in ("many", "medium", "few")] == [385, 479, 136]
    verify(tmp_path / "out")


def test_inaturalist_2018_at_full_size(lists: Path, tmp_path: Path) -> None:
    """The official val list, categories.json, and JSON with the official counts of training images."""
    counts = json.loads((lists / "inat18" / "inat18_train_class_counts.json").read_text())
    val = (lists / "inat18" / "iNaturalist18_val.txt").read_text()
    categories = (lists / "inat18" / "categories.json").read_bytes()
    supers = {int(line.rpartition(" ")[2]): line.split("/")[1] for line in val.splitlines()}
    paths = [(f"train_val2018/{supers[k]}/{k}/{n:032x}.jpg", k) for k, count in enumerate(counts) for n in range(count)]
    order = np.random.RandomState(0).permutation(len(paths)).tolist()
    rows = [paths[n] for n in order]
    train = "".join(f"{path} {label}\n" for path, label in rows)
    record = {
        "images": [{"file_name": path, "id": at} for at, (path, _) in zip(order, rows, strict=True)],
        "annotations": [{"image_id": n, "category_id": label} for n, (_, label) in enumerate(paths)],
    }
    folder = put(tmp_path / "lists", {"train2018.json": json.dumps(record).encode(), "categories.json": categories})
    put(folder, {"iNaturalist18_val.txt": val.encode()})
    built = build(Spec("inat18"), lists=folder, manifest_only=True, unverified=True, out=tmp_path / "out")
    manifest = built.manifest
    texts = {"train": train.encode(), "val": val.encode()}
    digests = {split: (text.count(b"\n"), hashlib.sha256(text).hexdigest()) for split, text in texts.items()}
    assert {split: rows for split, (rows, _) in digests.items()} == {"train": 437_513, "val": 24_426}
    assert manifest.content_sha256 == content_digest_of_lists("inat18", digests)
    assert {split: record["official"] for split, record in manifest.source["lists"].items()} == {
        "train": False,
        "val": True,
    }
    assert manifest.class_names[0] == "Hermodice carunculata"
    assert len(set(manifest.class_names)) == 8142
    assert manifest.superclass_names == tuple(supers[k] for k in range(8142))
    known = pinned.load("inat18")
    assert manifest.class_counts.tolist() == known.class_counts.tolist()
    assert manifest.splits["val"].list_sha256 == known.splits["val"].list_sha256
    verify(built.folder)
