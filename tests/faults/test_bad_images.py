"""Images that are bad, or only look so: a named error without `--skip-bad`; with it left out, listed and counted."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import contents, encoded, photo, put, put_photos
from test_cli import run
from test_listed import ALL, IMAGENET
from test_listed import cache as small_lists

from faults.breaks import Break
from faults.effort import examples, thin, tried
from faults.odd_images import (
    BOMBS,
    BROKEN,
    CUT,
    EVERY,
    JPEG,
    OTHERS,
    PNG,
    PROGRESSIVE,
    UNREAD,
    Bad,
    flipped,
    good_images,
    rgb,
)
from ltdata import build as building
from ltdata import images, skipped
from ltdata.build import Built, build
from ltdata.errors import LtdataError, MismatchError, SourceMissingError, UsageError
from ltdata.reader import read_images, read_samples
from ltdata.spec import Spec
from ltdata.verify import verify

__all__ = ["small_lists"]  # an autouse fixture: official lists of three classes

BREAKS = (
    Break("ltdata/images.py", "return Checked(digest, _neither(data))", "pass", "never_been"),
    Break("ltdata/images.py", 'return Checked(digest, f"is not a readable image ({error})")', "pass", "one_line"),
    Break("ltdata/images.py", '"error", Image.DecompressionBombWarning', '"ignore"', "memory"),
    Break("ltdata/images.py", 'image.mode.startswith("I;16")', 'image.mode.startswith("I;17")', "read_alike"),
    Break("ltdata/images.py", '.partition(" <_io.")[0]', "", "or_the_run"),
    Break("ltdata/images.py", "!= self.sha256[number]", "!= sha256_bytes(data)", "changes"),
    Break("ltdata/skipped.py", "{**source.provenance, KEY: record}", "source.provenance", "one_line"),
    Break("ltdata/skipped.py", "replace(split, images=files).take(good)", "split", "never_been"),
    Break("ltdata/skipped.py", "_refuse_emptied(source, name, split.labels[good], skipped)", "pass", "emptied"),
    Break("ltdata/build.py", "skipped.listed(manifest) and not where.skip_bad", "False", "official"),
    Break("ltdata/build.py", "skipped.places(now) != skipped.places(manifest)", "False", "found_whole_only"),
    Break("ltdata/sources/folder.py", "part.labels()  #", "pass  #", "labels"),
    Break("ltdata/reader.py", "return decode(member.image)", "return np.zeros(0, np.uint8)", "named_by_the_build"),
)  # fmt: skip

PETS = [f"{pet}/{n}.jpg" for pet, count in (("cat", 6), ("dog", 4), ("eel", 3)) for n in range(count)]
BAD = "dog/1.jpg"
LIST = "path,label\n" + "".join(f"{path},{path[:3]}\n" for path in PETS)


named = pytest.mark.parametrize("bad", thin(EVERY, to=12), ids=lambda bad: bad.name)


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of 6, 4 and 3 good images."""
    monkeypatch.chdir(tmp_path)
    return put_photos(tmp_path / "pets", PETS)


def natural(folder: Path, out: str, **options: Any) -> Built:
    spec = Spec("folder", title="zoo", max_side_px=options.pop("max_side_px", None))
    return build(spec, data_dir=folder, out=folder.parent / out, **options)


def put_bad(folder: Path, bad: Bad, path: str = BAD) -> None:
    (folder / path).unlink()
    bad.make(folder / path)


def refused(error: type[LtdataError], message: str, make: Callable[[], object]) -> LtdataError:
    with pytest.raises(error, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
    return caught.value


def unskipped(built: Built) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files of a build, and its header without what was skipped."""
    files = contents(built.folder)
    header = json.loads(files.pop("manifest.json"))
    header["source"].pop("skipped", None)
    return files, header


# Bad images


@named
def test_a_bad_image_is_named_by_the_build_or_by_verify(bad: Bad, pets: Path) -> None:
    """One line, the exit code of its kind, and nothing is left of a build that is refused."""
    put_bad(pets, bad)
    if bad.found == "build":
        error = refused(LtdataError, rf"^\S+/pets/{BAD}: {bad.why}", lambda: natural(pets, "out"))
        assert sorted(path.name for path in pets.parent.iterdir()) == ["pets"]
    else:
        built = natural(pets, "out")
        verify(built.folder, images=False)
        error = refused(
            MismatchError, rf"\.tar: 0000\d+\.\w+ \({BAD}\) is not readable \(", lambda: verify(built.folder)
        )
    assert error.exit_code == bad.code
    tried()


@named
def test_with_skip_bad_it_is_as_though_it_had_never_been_there(bad: Bad, pets: Path) -> None:
    """Listed with its reason, counted, and but for that the build of the folder without it, byte for byte."""
    put_bad(pets, bad)
    built = natural(pets, "out", skip_bad=True)
    (listed,) = skipped.listed(built.manifest)
    assert {key: listed[key] for key in ("split", "path", "label")} == {"split": "train", "path": BAD, "label": 1}
    assert len(listed["why"]) < 200
    assert re.match(bad.why, listed["why"])
    assert built.manifest.source["skipped"]["images"] == 1
    assert building.summary(built)["skipped"] == 1
    assert built.manifest.class_counts.tolist() == [6, 3, 3]
    assert verify(built.folder) == built.manifest
    (pets / BAD).unlink()
    assert unskipped(natural(pets, "without")) == unskipped(built)
    tried()


@pytest.mark.parametrize("bad", thin(OTHERS + BOMBS, to=6), ids=lambda bad: bad.name)
def test_scaled_down_every_kind_of_image_is_good_and_the_others_are_bad(bad: Bad, pets: Path) -> None:
    put_bad(pets, bad)
    built = natural(pets, "out", skip_bad=True, max_side_px=16)
    assert [each["path"] for each in skipped.listed(built.manifest)] == ([] if bad.scaled else [BAD])
    assert verify(built.folder) == built.manifest
    if bad.scaled:
        assert contents(natural(pets, "plain", max_side_px=16).folder) == contents(built.folder)
    else:
        refused(MismatchError, rf"pets/{BAD}: is not a readable image", lambda: natural(pets, "p", max_side_px=16))
    tried()


def one_of_each() -> list[Bad]:
    firsts = (UNREAD[0], UNREAD[5], OTHERS[0], OTHERS[6], CUT[6], CUT[10], BROKEN[0], BOMBS[0], BOMBS[1])
    return thin(firsts, to=4)


@pytest.mark.parametrize("bad", one_of_each(), ids=lambda bad: bad.name)
def test_the_command_line_says_so_in_one_line(bad: Bad, pets: Path) -> None:
    put_bad(pets, bad)
    command = ("build", "folder", "--data-dir", pets, "--out", "out", "--quiet")
    ended = run(*command)
    if bad.found == "verify":
        assert ended.code == 0
        ended = run("verify", "out", "--quiet")
        shutil.rmtree("out")
    assert ended.refused(bad.code)
    assert BAD in ended.err
    for _ in ("built", "found whole"):
        ended = run(*command, "--skip-bad")
        assert (ended.code, ended.err) == (0, "")
        (line,) = (line for line in ended.out.splitlines() if line.startswith("  skipped"))
        assert line.startswith(f"  skipped  1 bad images, listed in manifest.json, the first {BAD} ")
    assert "found whole" in ended.out
    assert run(*command).refused(2)
    assert run("verify", "out", "--quiet").code == 0
    assert json.loads(run(*command, "--skip-bad", "--json").out)["skipped"] == 1
    tried()


def test_a_decompression_bomb_takes_no_memory(pets: Path) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, bad in enumerate(BOMBS):
        put_bad(pets, bad)
        (listed,) = skipped.listed(natural(pets, f"out{number}", skip_bad=True).manifest)
        assert re.match(bad.why, listed["why"])
        tried()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


@settings(deadline=None, max_examples=examples(15, 400))
@given(
    data=st.sampled_from([JPEG, PROGRESSIVE, PNG, encoded(rgb().quantize(7), "PNG")]),
    edits=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), min_size=1, max_size=6),
    end=st.none() | st.integers(0, 1 << 16),
)
def test_what_is_skipped_is_what_readers_could_not_have_read(
    data: bytes, edits: list[tuple[int, int]], end: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of any damage: either the image is in the build and every reader decodes it, or it is listed."""
    for at, bits in edits:
        data = flipped(data, at % len(data), bits)
    root = tmp_path_factory.mktemp("any")
    put(
        root,
        {"d/a/1.jpg": data[: None if end is None else end % len(data)], "d/a/2.jpg": photo(), "d/b/1.jpg": photo()},
    )
    built = natural(root / "d", "out", skip_bad=True)
    assert verify(built.folder) == built.manifest
    if skipped.listed(built.manifest):
        with pytest.raises(LtdataError, match=r"a/1\.jpg"):
            verify(natural(root / "d", "plain").folder)
    else:
        assert contents(natural(root / "d", "plain").folder) == contents(built.folder)
    shutil.rmtree(root)
    tried()


# Many at once


def spoil(folder: Path, paths: Mapping[str, int]) -> None:
    """Put a bad image at each path, of the kind with a number."""
    for path, number in paths.items():
        put_bad(folder, EVERY[number % len(EVERY)], path)


MANY = {"cat/1.jpg": 3, "cat/2.jpg": 20, "dog/0.jpg": 9, "eel/2.jpg": 33}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"imbalance_factor": 2.0},
        {"val_per_class": 1, "seed": 3, "max_per_class": 2},
        {"test_per_class": 1},
        {"max_per_class": 2, "seed": 5},
        {"min_per_class": 1, "profile": "step"},
    ],
    ids=lambda options: " ".join(map(str, options)) or "natural",
)
def test_a_split_is_drawn_from_good_images_alone(options: dict[str, Any], pets: Path) -> None:
    """So class sizes follow the profile, whatever was bad."""
    spoil(pets, MANY)
    spec = Spec("folder", title="zoo", **options)
    built = build(spec, data_dir=pets, out=pets.parent / "out", skip_bad=True)
    assert skipped.places(built.manifest) == [("train", path) for path in MANY]
    verify(built.folder)
    for path in MANY:
        (pets / path).unlink()
    assert unskipped(build(spec, data_dir=pets, out=pets.parent / "without")) == unskipped(built)
    tried()


def test_the_bytes_do_not_depend_on_the_workers_or_the_run(pets: Path) -> None:
    """Though some errors of the decoder name an address in memory."""
    spoil(pets, MANY | {"cat/0.jpg": EVERY.index(BROKEN[0]), "dog/2.jpg": EVERY.index(CUT[0])})
    built = natural(pets, "out", skip_bad=True)
    assert "0x" not in (built.folder / "manifest.json").read_text(encoding="utf-8")
    for workers in (1, 2):
        again = natural(pets, f"out{workers}", skip_bad=True, workers=workers)
        assert contents(again.folder) == contents(built.folder)
        tried()


def test_splits_and_lists_of_a_folder_lose_their_bad_images_too(pets: Path) -> None:
    folder = pets.parent / "d"
    for split in ("train", "val", "test"):
        shutil.copytree(pets, folder / split)
    spoil(folder, {"train/dog/1.jpg": 10, "val/cat/1.jpg": 11, "val/cat/0.jpg": 25, "test/eel/0.jpg": 40})
    built = natural(folder, "out", skip_bad=True)
    assert skipped.places(built.manifest) == [
        ("train", "train/dog/1.jpg"),
        ("val", "val/cat/0.jpg"),
        ("val", "val/cat/1.jpg"),
        ("test", "test/eel/0.jpg"),
    ]
    assert {name: split.class_counts for name, split in built.manifest.splits.items()} == {
        "train": (6, 3, 3),
        "val": (4, 4, 3),
        "test": (6, 4, 2),
    }
    verify(built.folder)
    put(pets.parent, {"list.csv": LIST.encode()})
    (pets / "cat" / "3.jpg").unlink()
    (pets / "eel" / "1.jpg").unlink()
    (pets / "eel" / "1.jpg").mkdir()
    lists = {"lists": pets.parent / "list.csv"}
    refused(SourceMissingError, r"1 of 13 images are missing: cat/3\.jpg;", lambda: natural(pets, "listed", **lists))
    built = natural(pets, "listed", skip_bad=True, **lists)
    assert [each["why"].partition(" (")[0] for each in skipped.listed(built.manifest)] == ["cannot be read"] * 2
    assert skipped.places(built.manifest) == [("train", "cat/3.jpg"), ("train", "eel/1.jpg")]
    left = [path for path in PETS if path not in {"cat/3.jpg", "eel/1.jpg"}]
    assert read_samples(built.folder, built.manifest)["train"].source_path == tuple(left)
    verify(built.folder)
    tried(2)


@pytest.mark.parametrize("name", ALL)
def test_official_lists_lose_the_images_that_are_bad_or_missing(name: str, tmp_path: Path) -> None:
    data = ALL[name]
    folder = put_photos(tmp_path / "data", data.paths)
    lists = data.put_lists(tmp_path / "lists")
    gone, cut = data.paths[1], data.paths[-1]
    (folder / gone).unlink()
    put(folder, {cut: JPEG[:-9]})
    spec = Spec(name)
    options = {"data_dir": folder, "lists": lists}
    refused(
        SourceMissingError, f"1 of .* images are missing: {gone}", lambda: build(spec, out=tmp_path / "o", **options)
    )
    built = build(spec, out=tmp_path / "o", skip_bad=True, **options)
    last = list(data.files)[-1]
    assert skipped.places(built.manifest) == [("train", gone), (last, cut)]
    assert built.manifest.content_sha256 != data.content
    assert built.manifest.splits["train"].num_samples == len(data.rows("train")) - 1
    verify(built.folder)
    assert build(spec, out=tmp_path / "o", skip_bad=True, **options).reused
    refused(
        UsageError, "2 bad images left out, --skip-bad not given", lambda: build(spec, out=tmp_path / "o", **options)
    )
    tried()


def test_where_nothing_is_bad_nothing_differs(pets: Path) -> None:
    built = natural(pets, "plain")
    assert contents(natural(pets, "out", skip_bad=True).folder) == contents(built.folder)
    assert natural(pets, "plain", skip_bad=True).reused
    assert natural(pets, "out").reused
    tried()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda pets: put(pets, {BAD: photo(1)}), "content .* now give"),
        (lambda pets: put(pets, {"dog/2.jpg": JPEG[:-9]}), "content .* now give"),
        (lambda pets: put(pets, {"dog/9.jpg": b""}), "1 bad images left out, now 2, or others"),
        (lambda pets: (pets / BAD).rename(pets / "dog" / "7.jpg"), "1 bad images left out, now 1, or others"),
        (lambda pets: put(pets, {"dog/2.jpg": photo(9)}), "dog/2.jpg has changed in the source since"),
    ],
    ids=["mended", "one more is bad", "another bad one came", "it has another name", "a good one is another"],
)
def test_a_build_is_found_whole_only_where_the_same_would_be_skipped(
    edit: Callable[[Path], object], message: str, pets: Path
) -> None:
    put_bad(pets, OTHERS[0])
    built = natural(pets, "out", skip_bad=True)
    assert natural(pets, "out", skip_bad=True, workers=2 if "now 2" in message else 1).reused
    before = contents(built.folder)
    edit(pets)
    refused(UsageError, rf"holds another build \({message}", lambda: natural(pets, "out", skip_bad=True))
    assert contents(built.folder) == before
    tried()


def test_a_finished_build_with_a_broken_image_is_not_what_skip_bad_asks_for(pets: Path) -> None:
    put_bad(pets, CUT[6])
    natural(pets, "out")
    refused(UsageError, r"holds another build \(content", lambda: natural(pets, "out", skip_bad=True))
    assert not natural(pets, "out", skip_bad=True, force=True).reused
    tried()


# What cannot be left out


@pytest.mark.parametrize(
    ("emptied", "message"),
    [
        (
            ["eel/0.jpg", "eel/1.jpg", "eel/2.jpg"],
            r"none of the 3 training images of class 2, eel, can be stored, .* eel/0\.jpg is",
        ),
        (PETS, r"none of the 13 train images can be stored, the first cat/0\.jpg is empty.*; mend them, or take"),
    ],
    ids=["class", "split"],
)
def test_an_emptied_class_or_split_is_refused(emptied: list[str], message: str, pets: Path) -> None:
    put(pets, dict.fromkeys(emptied, b""))
    error = refused(MismatchError, f"^folder: {message}", lambda: natural(pets, "out", skip_bad=True))
    assert error.exit_code == 3
    assert [path.name for path in pets.parent.iterdir()] == ["pets"]
    ended = run("build", "folder", "--data-dir", pets, "--out", "out", "--skip-bad", "--quiet")
    assert ended.refused(3)
    tried()


def test_an_emptied_test_split_is_refused_and_an_emptied_class_of_it_is_not(tmp_path: Path) -> None:
    folder = put_photos(tmp_path / "d", [f"{split}/{path}" for split in ("train", "test") for path in PETS])
    put(folder, {f"test/{path}": b"" for path in PETS if path.startswith("cat")})
    built = natural(folder, "out", skip_bad=True)
    assert built.manifest.splits["test"].class_counts == (0, 4, 3)
    verify(built.folder)
    put(folder, {f"test/{path}": b"" for path in PETS})
    refused(MismatchError, "none of the 13 test images can be stored", lambda: natural(folder, "o", skip_bad=True))
    tried(2)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("build", "digits", "--imbalance", "10", "--skip-bad"), "digits: its images are not files"),
        (("build", "cifar100", "--imbalance", "10", "--skip-bad"), "cifar100: its images are not files"),
        (
            ("build", "folder", "--data-dir", "pets", "--skip-bad", "--manifest-only"),
            "--manifest-only looks at no image",
        ),
    ],
)
def test_where_no_image_could_be_bad_the_option_is_refused(args: tuple[str, ...], message: str, pets: Path) -> None:
    ended = run(*args)
    assert ended.refused(2)
    assert message in ended.err
    tried()


@pytest.mark.parametrize(
    ("then", "error", "message"),
    [
        (lambda place: place.write_bytes(photo(7)), MismatchError, "has changed since it was checked; run again"),
        (lambda place: place.write_bytes(JPEG[:-9]), MismatchError, "has changed since it was checked; run again"),
        (lambda place: place.write_bytes(b""), MismatchError, "has changed since it was checked; run again"),
        (Path.unlink, SourceMissingError, r"cannot be read \(No such file"),
    ],
    ids=["another", "cut", "emptied", "gone"],
)
def test_an_image_that_changes_between_the_check_and_the_write_is_named(
    then: Callable[[Path], object], error: type[LtdataError], message: str, pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = skipped.without_bad

    def check_then_change(*args: Any, **options: Any) -> Any:
        found = check(*args, **options)
        then(pets / BAD)
        return found

    monkeypatch.setattr(skipped, "without_bad", check_then_change)
    put(pets, {"cat/0.jpg": b""})
    refused(error, rf"pets/{BAD}: {message}", lambda: natural(pets, "out", skip_bad=True))
    assert [path.name for path in pets.parent.iterdir()] == ["pets"]
    tried()


# Wrong labels


def rows_with(label: str, row: int = 8, **numbers: str) -> str:
    """Write a list of the pets with numbered classes, and one other label."""
    of = {"cat": "0", "dog": "1", "eel": "2"} | numbers
    return "path,label\n" + "".join(f"{p},{label if n == row else of[p[:3]]}\n" for n, p in enumerate(PETS))


LABELS = [
    *(
        (rows_with(label), rf"list\.csv:10: label '{re.escape(label)}' is not a whole number; mend the list")
        for label in ("-1", "1.0", "1e0", "nan", "inf", "-0", "+1", "1_0", "٣", "12345678901")
    ),
    (rows_with("3" * 9), "the list numbers classes up to 333333333, and class 3 has no training image"),
    (rows_with("4"), "the list numbers classes up to 4, and class 3 has no training image"),
    (rows_with("0", cat="1", dog="2", eel="3").replace(",0\n", ",1\n"), "numbers classes up to 3, and class 0 has"),
    (rows_with(""), r"list\.csv:10: class '' is empty"),
    (rows_with(" "), r"list\.csv:10: class '' is empty"),
    (rows_with("1,"), r"list\.csv:10: 3 fields, the header has 2"),
    (rows_with("1").replace("label", "weight"), r"list\.csv:1: the header .* names no column for the label"),
    (rows_with("1") + "dog/0.jpg,0\n", r"list\.csv:15: dog/0\.jpg is listed twice, first in .*:8; take one out"),
    ("path,label,split\ncat/0.jpg,0,train\ndog/0.jpg,1,train\neel/0.jpg,2,val\n", "class '2' of a val image has no"),
    ("path,label\ncat/0.jpg,0\ncat/1.jpg,0\n", "1 classes; a long tail needs at least 2"),
]


@pytest.mark.parametrize(("text", "message"), thin(LABELS, to=6))
@pytest.mark.parametrize("skip_bad", [False, True])
def test_wrong_labels_are_named_by_line_and_never_skipped(text: str, message: str, skip_bad: bool, pets: Path) -> None:
    """A wrong label is no matter of one image: the list is wrong."""
    lists = put(pets.parent, {"list.csv": text.encode()}) / "list.csv"
    refused(LtdataError, message, lambda: natural(pets, "out", lists=lists, skip_bad=skip_bad))
    assert not (pets.parent / "out").exists()
    tried()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"_0.JPEG 0\n", b"_0.JPEG 3\n", r"_train\.txt:1: label 3 is not in 0 \.\. 2"),
        (b"_0.JPEG 0\n", b"_0.JPEG -1\n", r"_train\.txt:1: label '-1' is not a whole number"),
        (b"_0.JPEG 0\n", b"_0.JPEG 0.0\n", r"_train\.txt:1: label '0\.0' is not a whole number"),
        (b"_1.JPEG 0\n", b"_1.JPEG 1\n", r"class n00000001 has label 1, and 0 in|label 1 is of class"),
        (b" 2\n", b" 1\n", "label 1 is of class|class .* has label|class 2 has no image"),
    ],
)
def test_labels_that_contradict_the_paths_of_an_official_list_are_named(
    old: bytes, new: bytes, message: str, tmp_path: Path
) -> None:
    folder = put_photos(tmp_path / "data", IMAGENET.paths)
    lists = IMAGENET.put_lists(tmp_path / "lists", train=IMAGENET.files["train"].replace(old, new))
    options = {"data_dir": folder, "lists": lists, "unverified": True, "out": tmp_path / "out"}
    for skip_bad in (False, True):
        refused(MismatchError, message, partial(build, Spec("imagenet-lt"), skip_bad=skip_bad, **options))  # type: ignore[arg-type]
        tried()


# What only looks bad

GOOD = good_images()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_good_images_are_stored_as_they_are_and_read_alike(suffix: str, tmp_path: Path) -> None:
    """By content, whatever their names: nothing is skipped, bytes are copied, and trainings see what Pillow sees."""
    from ace_ref import jpeg

    files = {f"a/{number:02d}{suffix}": good.data for number, good in enumerate(GOOD)}
    folder = put(tmp_path / "d", {**files, "b/1.png": photo(form="PNG")})
    built = natural(folder, "out", skip_bad=True)
    assert skipped.listed(built.manifest) == []
    assert contents(built.folder) == contents(natural(folder, "plain").folder)
    verify(built.folder)
    samples = read_samples(built.folder, built.manifest)["train"]
    assert samples.source_path == (*sorted(files), "b/1.png")
    assert samples.sha256 == tuple(images.sha256_bytes((folder / path).read_bytes()) for path in samples.source_path)
    for good in GOOD:
        np.testing.assert_array_equal(np.asarray(images.decode(good.data)), good.pixels, err_msg=good.name)
        np.testing.assert_array_equal(jpeg.decode(good.data), good.pixels, err_msg=good.name)
        assert jpeg.size(good.data) == good.pixels.shape[:2], good.name
        tried()


def test_a_reader_sees_the_pixels_of_odd_images(tmp_path: Path) -> None:
    sized = [good for good in GOOD if good.pixels.shape == (30, 40, 3)]
    folder = put(tmp_path / "d", {f"a/{n:02d}.jpg": good.data for n, good in enumerate(sized)} | {"b/1.jpg": JPEG})
    built = natural(folder, "out", skip_bad=True)
    pixels, _ = read_images(built.folder, built.manifest, "train")
    for good, found in zip(sized, pixels, strict=False):
        np.testing.assert_array_equal(found, good.pixels, err_msg=good.name)
    tried()
