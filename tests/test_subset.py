"""Subsets: the rows that were asked for, the same images by every way of storing them, nothing copied for a view."""

import json
import os
import shutil
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import photo, put
from test_cli import run

import ltdata
from ltdata import adapters, catalog, reader, shards
from ltdata.build import Built, build
from ltdata.errors import LtdataError, MismatchError, SourceMissingError, UsageError
from ltdata.files import sha256_bytes
from ltdata.groups import GROUP_NAMES
from ltdata.manifest import Manifest
from ltdata.planner import target_categories
from ltdata.samples import Samples
from ltdata.spec import Spec
from ltdata.stored import stored
from ltdata.subset import Part, make_subset, write_subset
from ltdata.verify import verify

PINNED = ltdata.load("cifar100-lt", imbalance_factor=100)


def take(whole: Path, out: Path, part: Part, *, form: str | None = None, relabel: bool = False) -> Manifest:
    found = catalog.find(str(whole), rows=True)
    return write_subset(found, make_subset(found.manifest, part, relabel=relabel), out, form=form)


def images(folder: Path, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    return reader.read_images(folder, reader.read_manifest(folder), split)


# --- which rows


@pytest.mark.parametrize("names", [("few",), ("medium", "few"), ("many",), GROUP_NAMES])
def test_a_group_subset_holds_every_image_of_its_classes_in_the_protocols_order(names: tuple[str, ...]) -> None:
    made = make_subset(PINNED, Part(groups=names))
    kept = np.isin(PINNED.groups, [GROUP_NAMES.index(name) for name in names])
    for split, whole in PINNED.rows.items():
        assert np.array_equal(made.rows[split].positions, whole.positions[kept[whole.labels]])
        assert np.array_equal(made.rows[split].labels, whole.labels[kept[whole.labels]])


def test_groups_stay_those_of_the_whole_however_small_the_subset() -> None:
    made = make_subset(PINNED, Part(per_class=3))
    assert np.array_equal(made.groups, PINNED.groups)
    assert made.class_counts.max() == 3


def test_another_group_rule_is_applied_before_the_groups_are_taken() -> None:
    by_rule = {
        rule: int((make_subset(PINNED.with_groups(rule), Part(groups=("few",))).class_counts > 0).sum())
        for rule in ("strict", "oltr", "mislas")
    }
    assert by_rule == {"strict": 30, "oltr": 31, "mislas": 29}


@pytest.mark.parametrize("expert", [1, 2, 3])
def test_an_expert_subset_is_what_the_planner_gives_that_expert(expert: int) -> None:
    thresholds = (0.3, 0.05)
    targets = target_categories(PINNED.class_counts, planner="mass", thresholds=thresholds)
    made = make_subset(PINNED, Part(expert=expert, thresholds=thresholds))
    assert np.array_equal(made.class_counts, np.where(targets[expert - 1], PINNED.class_counts, 0))
    by_groups = make_subset(PINNED, Part(expert=expert))
    assert np.array_equal(by_groups.class_counts > 0, PINNED.groups >= expert - 1)


def test_an_expert_of_a_small_subset_still_goes_by_the_groups_of_the_whole() -> None:
    small = make_subset(PINNED, Part(per_class=10))
    assert np.array_equal(make_subset(small, Part(expert=3)).class_counts > 0, PINNED.groups == 2)


@pytest.mark.parametrize("name", ["a\nb", "../x", "\udcff", "", "a/b", "x" * 101])
def test_a_name_that_no_folder_could_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="letters, digits"):
        make_subset(PINNED, Part(groups=("few",)), name=name)


def test_classes_are_named_or_numbered() -> None:
    made = make_subset(PINNED, Part(classes=("apple", "99", "bear")))
    assert np.flatnonzero(made.class_counts).tolist() == [0, 3, 99]
    assert make_subset(PINNED, Part(class_size=(20, 100))).class_counts.sum() == 1718


def test_relabelling_numbers_the_kept_classes_anew_and_names_follow() -> None:
    made = make_subset(PINNED, Part(groups=("few",)), relabel=True)
    assert made.class_names == PINNED.class_names[70:]
    assert np.array_equal(made.labels + 70, make_subset(PINNED, Part(groups=("few",))).labels)
    assert made.groups.tolist() == [2] * 30


@given(per_class=st.integers(1, 600), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_per_class_keeps_at_most_so_many_of_each_class(per_class: int, seed: int) -> None:
    made = make_subset(PINNED, Part(per_class=per_class, seed=seed))
    assert np.array_equal(made.class_counts, np.minimum(PINNED.class_counts, per_class))
    again = make_subset(PINNED, Part(per_class=per_class, seed=seed))
    assert again.content_sha256 == made.content_sha256
    assert set(made.indices.tolist()) <= set(PINNED.indices.tolist())


@given(count=st.integers(1, 10_847), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_images_keeps_every_class_in_its_share(count: int, seed: int) -> None:
    made = make_subset(PINNED, Part(images=count, seed=seed))
    assert made.class_counts.sum() == len(set(made.indices.tolist())) == count
    assert np.abs(made.class_counts - PINNED.class_counts * count / 10_847).max() <= 1


def test_other_splits_keep_all_images_of_the_classes_that_are_kept() -> None:
    made = make_subset(PINNED, Part(groups=("few",), per_class=2))
    assert made.splits["test"].num_samples == 3000


def test_golden_digests() -> None:
    """One line of a paper: content of the tail of CIFAR-100-LT IF 100, and of 1,000 of its images."""
    assert make_subset(PINNED, Part(groups=("medium", "few"))).content_sha256 == (
        "7aaf04b184490dbcde5235a05c82d2e31dc733a4d69e008640d48cf87786eb24"
    )
    assert make_subset(PINNED, Part(images=1000)).content_sha256 == (
        "d5b6ddde975cde9d4f2183c696d53c3c3332c01935096b06d5f951a0d78e675e"
    )


# --- how it is stored


@pytest.mark.parametrize("relabel", [False, True])
@pytest.mark.parametrize("part", [Part(groups=("few",)), Part(per_class=9), Part(classes=("2", "7"), images=11)])
def test_a_view_and_shards_hold_the_same_images_as_the_whole(
    part: Part, relabel: bool, digits_lt: Built, tmp_path: Path
) -> None:
    pixels, _ = images(digits_lt.folder)
    rows = {
        place: row for row, place in enumerate(catalog.find(str(digits_lt.folder), rows=True).manifest.indices.tolist())
    }
    made = {
        form: take(digits_lt.folder, tmp_path / form, part, form=form, relabel=relabel) for form in ("view", "shards")
    }
    expected = pixels[[rows[place] for place in made["view"].indices.tolist()]]
    for form, manifest in made.items():
        assert verify(tmp_path / form).content_sha256 == manifest.content_sha256
        found, labels = images(tmp_path / form)
        assert np.array_equal(found, expected)
        assert np.array_equal(labels, manifest.labels)
        assert images(tmp_path / form, "test")[1].tolist() == manifest.rows["test"].labels.tolist()
    assert made["view"].content_sha256 == made["shards"].content_sha256
    plain = take(digits_lt.folder, tmp_path / "manifest", part, form="manifest", relabel=relabel)
    assert plain.content_sha256 == made["view"].content_sha256
    assert verify(tmp_path / "manifest").content_sha256 == plain.content_sha256


def test_a_view_copies_no_byte_of_an_image_and_opens_only_the_shards_it_shows(digits_lt: Built, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(digits_lt.folder, whole)
    take(whole, tmp_path / "tail", Part(groups=("few",)))
    assert sorted(path.name for path in (tmp_path / "tail").iterdir()) == ["manifest.json", "samples.jsonl"]
    for path in (whole / "train").glob("m*"):  # many, medium: damaged, and not looked at
        path.write_bytes(b"")
    assert len(images(tmp_path / "tail")[1]) == sum([19, 14, 10, 7])


def test_shards_of_a_subset_are_one_series_per_group_and_the_same_for_two_workers(
    digits_lt: Built, tmp_path: Path
) -> None:
    found = catalog.find(str(digits_lt.folder), rows=True)
    subset = make_subset(found.manifest, Part(groups=("medium", "few")))
    for workers in (1, 2):
        write_subset(found, subset, tmp_path / str(workers), form="shards", workers=workers)
    one, two = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("1", "2")
    )
    assert one == two
    assert sorted(path.name for path in (tmp_path / "1" / "train").iterdir()) == ["few-000000.tar", "medium-000000.tar"]


def test_a_view_of_a_view_shows_the_build_itself(digits_lt: Built, tmp_path: Path) -> None:
    take(digits_lt.folder, tmp_path / "tail", Part(groups=("medium", "few")))
    made = take(tmp_path / "tail", tmp_path / "few", Part(groups=("few",)))
    shutil.rmtree(tmp_path / "tail")
    assert verify(tmp_path / "few").content_sha256 == made.content_sha256
    assert made.view_of is not None
    assert (tmp_path / "few" / made.view_of["path"]).resolve() == digits_lt.folder.resolve()


def test_a_view_moves_along_with_its_build(digits_lt: Built, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    shutil.copytree(digits_lt.folder, tmp_path / "a" / "whole")
    take(tmp_path / "a" / "whole", tmp_path / "a" / "few", Part(groups=("few",)))
    (tmp_path / "a").rename(tmp_path / "b")
    verify(tmp_path / "b" / "few")


def test_a_view_whose_build_is_gone_or_another_is_refused(digits_lt: Built, tmp_path: Path) -> None:
    shutil.copytree(digits_lt.folder, tmp_path / "whole")
    take(tmp_path / "whole", tmp_path / "few", Part(groups=("few",)))
    (tmp_path / "whole").rename(tmp_path / "away")
    with pytest.raises(SourceMissingError, match="gone"):
        images(tmp_path / "few")
    with pytest.raises(MismatchError, match="gone"):
        verify(tmp_path / "few")
    take(tmp_path / "away", tmp_path / "whole", Part(groups=("many",)), form="shards")
    with pytest.raises(MismatchError, match="another build"):
        images(tmp_path / "few")


def test_a_damaged_build_is_noticed_through_its_view(digits_lt: Built, tmp_path: Path) -> None:
    shutil.copytree(digits_lt.folder, tmp_path / "whole")
    take(tmp_path / "whole", tmp_path / "few", Part(groups=("few",)))
    shard = tmp_path / "whole" / "train" / "few-000000.tar"
    data = bytearray(shard.read_bytes())
    data[5000] ^= 1
    shard.write_bytes(data)
    for look in (verify, images):
        with pytest.raises(MismatchError, match=r"few-000000\.tar"):
            look(tmp_path / "few")


@pytest.fixture
def many_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Build the digits with at most 20 images in a shard."""
    with monkeypatch.context() as patch:
        patch.setattr(shards, "plan", partial(shards.plan, samples_per_shard=20))
        return build(Spec("digits", 20), out=tmp_path / "whole").folder


def needed(view: Path, whole: Path) -> set[Path]:
    """Find the shards that hold images of a view, by looking into all of them."""
    found, base = (catalog.find(str(folder), rows=True).manifest for folder in (view, whole))
    out = set()
    for path in whole.glob("*/*.tar"):
        split = path.parent.name
        shown = set(found.rows[split].positions.tolist()) if split in found.rows else set()
        with tarfile.open(path) as tar:
            if any(base.rows[split].positions[int(name[:8])] in shown for name in tar.getnames()):
                out.add(path)
    return out


@pytest.mark.parametrize("part", [Part(images=11), Part(classes=("2",)), Part(groups=("few",), per_class=1)])
def test_every_shard_that_a_view_does_not_need_may_be_damaged(part: Part, many_shards: Path, tmp_path: Path) -> None:
    view = tmp_path / "view"
    made = take(many_shards, view, part, form="view")
    before = {split: images(view, split)[0] for split in made.splits}
    others = set(many_shards.glob("*/*.tar")) - needed(view, many_shards)
    assert len(others) > 3
    for path in others:
        path.write_bytes(b"damaged")
    verify(view)
    for split, pixels in before.items():
        assert np.array_equal(images(view, split)[0], pixels)
    for index in (True, False):
        if not index:
            (many_shards / "index.npz").unlink()
        for split, located in stored(view, made, made.rows).items():
            assert tuple(sha256_bytes(image) for image, _ in located.encoded()) == made.rows[split].sha256
    assert len(list(adapters.webdataset(view))) == made.splits["train"].num_samples


def test_a_view_of_a_build_that_lists_its_shards_in_another_way_reads_them_all(
    many_shards: Path, tmp_path: Path
) -> None:
    made = take(many_shards, tmp_path / "view", Part(classes=("2",)), form="view")
    before = images(tmp_path / "view")[0]
    header = json.loads((many_shards / "manifest.json").read_text(encoding="utf-8"))
    header["splits"]["train"]["shards"].reverse()
    header["protocol"]["params"]["seed"] = "none"
    (many_shards / "manifest.json").write_text(json.dumps(header), encoding="utf-8")
    assert np.array_equal(images(tmp_path / "view")[0], before)
    assert len(before) == made.splits["train"].num_samples
    header["protocol"]["params"]["seed"] = 0
    (many_shards / "manifest.json").write_text(json.dumps(header), encoding="utf-8")
    assert np.array_equal(images(tmp_path / "view")[0], before)


def test_verify_names_every_bad_shard_that_a_view_needs(many_shards: Path, tmp_path: Path) -> None:
    take(many_shards, tmp_path / "view", Part(groups=("few",)), form="view")
    bad = sorted(needed(tmp_path / "view", many_shards))
    assert len(bad) > 3
    for path in bad:
        data = bytearray(path.read_bytes())
        data[600] ^= 1
        path.write_bytes(data)
    with pytest.raises(MismatchError) as caught:
        verify(tmp_path / "view", workers=2)
    assert [path for path in bad if f"{path.parent.name}/{path.name}: SHA-256" not in str(caught.value)] == []


def test_verify_reads_the_rows_of_a_views_build_once(
    digits_lt: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(digits_lt.folder, tmp_path / "few", Part(groups=("few",)))
    seen = []

    def read_samples(folder: Path, manifest: Manifest) -> dict[str, Samples]:
        seen.append(folder.resolve())
        return original(folder, manifest)

    original = reader.read_samples
    monkeypatch.setattr(reader, "read_samples", read_samples)
    verify(tmp_path / "few")
    assert seen.count(digits_lt.folder.resolve()) == 1


def test_a_build_of_other_photographs_under_the_same_names_is_another(tmp_path: Path) -> None:
    """Its rows, and so its content digest, are the same."""
    for number in range(2):
        photos = {f"{name}/{at}.jpg": photo(number) for name in ("owl", "wren") for at in range(3)}
        put(tmp_path / "birds", photos)
        made = build(Spec("folder"), data_dir=tmp_path / "birds", out=tmp_path / "whole", force=True).manifest
        if number == 0:
            take(tmp_path / "whole", tmp_path / "view", Part(classes=("owl",)))
            content = made.content_sha256
    assert made.content_sha256 == content
    for look in (images, verify):
        with pytest.raises(MismatchError, match="another build"):
            look(tmp_path / "view")


# --- on the command line


def test_the_command_says_what_it_wrote(digits_lt: Built, tmp_path: Path) -> None:
    ended = run("subset", digits_lt.folder, "--group", "medium,few", "--out", tmp_path / "tail")
    assert ended.code == 0
    assert "view written" in ended.out
    assert f"view of  {os.path.relpath(digits_lt.folder, tmp_path / 'tail')}" in ended.out
    stats = json.loads(run("stats", tmp_path / "tail", "--json").out)
    assert (stats["groups"]["many"]["images"], stats["groups"]["few"]["classes"]) == (0, 4)
    pinned = run("subset", "cifar100-lt-exp-if100", "--per-class", "5", "--out", tmp_path / "five", "--json")
    assert json.loads(pinned.out)["images"] == {"train": 500, "test": 10_000}


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ((), 2, "a subset of everything"),
        (("--group", "rare"), 2, "group 'rare'"),
        (("--class", "zebra"), 2, "class 'zebra'"),
        (("--class", "100"), 2, "class '100'"),
        (("--class", "@nowhere.txt"), 4, "nowhere.txt"),
        (("--expert", "4"), 2, "expert 4"),
        (("--expert", "2", "--thresholds", "0.3,x"), 2, "0.3,x"),
        (("--expert", "2", "--thresholds", "nan"), 2, "thresholds"),
        (("--thresholds", "0.3"), 2, "--expert"),
        (("--class-size", "100-20"), 2, "100-20"),
        (("--class-size", "600-700"), 2, "no class"),
        (("--class-size", "20"), 2, "LOW-HIGH"),
        (("--images", "99999"), 2, "10847"),
        (("--images", "0"), 2, "0"),
        (("--group", "few", "--as", "view"), 4, "no images"),
        (("--group", "few", "--as", "shards"), 4, "no images"),
        (("--group", "few", "--seed", "-1"), 2, "-1"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: Sequence[str], code: int, words: str, tmp_path: Path) -> None:
    ended = run("subset", "cifar100-lt-exp-if100", *options, "--out", tmp_path / "out")
    assert ended.refused(code), ended
    assert words in ended.err
    assert list(tmp_path.iterdir()) == []


def test_an_occupied_place_is_refused_and_force_replaces_a_build_only(digits_lt: Built, tmp_path: Path) -> None:
    command = ("subset", digits_lt.folder, "--group", "few", "--out", tmp_path / "few")
    assert run(*command).code == 0
    before = (tmp_path / "few" / "manifest.json").read_bytes()
    assert run(*command).refused(2)
    assert run(*command[:3], "many", *command[4:], "--force").code == 0
    assert (tmp_path / "few" / "manifest.json").read_bytes() != before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    assert run(*command[:-1], tmp_path / "other", "--force").refused(2)
    assert run(*command[:-1], digits_lt.folder / "inside").refused(2)


def test_a_header_without_rows_is_named(tmp_path: Path) -> None:
    with pytest.raises(LtdataError, match="only the header"):
        make_subset(ltdata.load("imagenet-lt"), Part(groups=("few",)))


@pytest.mark.parametrize("form", ["view", "manifest", "shards"])
def test_a_subset_never_replaces_what_it_is_taken_from(form: str, digits_lt: Built, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(digits_lt.folder, whole)
    take(whole, tmp_path / "view", Part(groups=("few",)))
    command = ("--group", "few", "--as", form, "--force", "--out")
    assert run("subset", whole, *command, whole).refused(2)
    assert run("subset", tmp_path / "view", *command, tmp_path / "view").refused(2)
    assert run("subset", tmp_path / "view", *command, whole).refused(2)
    verify(whole)
    verify(tmp_path / "view")
