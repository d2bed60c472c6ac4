"""Identifying files: published protocols are known by their images, official lists in any form; nothing is guessed.

The oracles draw as the published programs do, on numpy's global stream.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_cli import run

from ltdata import identify, pinned
from ltdata.build import Built
from ltdata.formats import ForeignSplit
from ltdata.identify import Identified, Search
from ltdata.identify.counts import fit
from ltdata.identify.published import by_labels
from ltdata.profiles import class_counts
from ltdata.protocols import ldam
from ltdata.sources.official import OFFICIAL

Ints = NDArray[np.int64]
LISTS = SHARED / "data" / "lists"
LABELS = np.random.RandomState(5).permutation(np.repeat(np.arange(100), 500))  # as CIFAR-100 has them, other order
COUNTS = class_counts("exp", num_classes=100, n_max=500.0, imbalance_factor=100)
SEEDS = (*range(10), 42, 3407)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No labels are found in a cache folder that the machine happens to have."""
    monkeypatch.setenv("LTDATA_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def global_stream() -> Iterator[Callable[[int], None]]:
    """Seed numpy's global stream, as the published programs do, and put it back afterwards."""
    state = np.random.get_state()
    yield np.random.seed
    np.random.set_state(state)


def glmc(labels: Ints, counts: Ints, *, replace: bool) -> Ints:
    """Draw as GLMC does: a mask per class, and choice on the global stream."""
    kept = []
    for label, count in enumerate(counts):
        of_class = np.arange(len(labels))[labels == label]
        kept.append(of_class[np.random.choice(len(of_class), count, replace=replace)])
    return np.concatenate(kept)


def imbalance_cifar(labels: Ints, counts: Ints) -> Ints:
    """Draw as LDAM-DRW's imbalance_cifar.py does, on the global stream."""
    kept = []
    for label, count in zip(np.unique(labels), counts, strict=True):
        idx = np.where(labels == label)[0]
        np.random.shuffle(idx)
        kept.append(idx[:count])
    return np.concatenate(kept)


def answer(positions: Ints, *, labels: Ints = LABELS, own: Ints | None = None) -> identify.Answer:
    rows = ForeignSplit(positions=np.asarray(positions, np.int64), labels=own)
    return by_labels("train", rows, source="cifar100", labels=labels, seeds=SEEDS)


@for_all(seed=st.sampled_from(SEEDS), factor=st.sampled_from([10, 37, 50, 100, 200]))
@settings(max_examples=8, deadline=None)
def test_the_split_of_ldam_drw_is_known_with_its_seed_and_factor(seed: int, factor: int) -> None:
    state = np.random.get_state()
    np.random.seed(seed)
    counts = class_counts("exp", num_classes=100, n_max=500.0, imbalance_factor=factor)
    drawn = imbalance_cifar(LABELS, counts)
    np.random.set_state(state)
    found = answer(drawn)
    assert found.certainty == "exact"
    assert found.facts | {"protocol": "ldam", "seed": seed, "imbalance_factor": factor, "profile": "exp"} == found.facts


@pytest.mark.parametrize("seed", [3407, 4])
def test_glmc_after_2023_05_23_is_ldam_with_its_seed(seed: int, global_stream: Callable[[int], None]) -> None:
    global_stream(seed)
    found = answer(glmc(LABELS, COUNTS, replace=False))
    assert (found.certainty, found.facts["protocol"], found.facts["seed"]) == ("exact", "ldam", seed)
    assert ("GLMC" in found.headline) == (seed == 3407)


@pytest.mark.parametrize("seed", [3407, 4])
def test_glmc_before_2023_05_23_drew_with_replacement(seed: int, global_stream: Callable[[int], None]) -> None:
    global_stream(seed)
    drawn = glmc(LABELS, COUNTS, replace=True)
    found = answer(drawn)
    assert (found.certainty, found.facts["seed"]) == ("exact", seed)
    assert found.facts["protocol"] == "glmc-with-replacement"
    assert answer(np.sort(drawn)).certainty == "same-images"
    assert not answer(np.unique(drawn)).recognised, "the same images, once each, are no draw of it"


def test_first_images_in_file_order_are_known() -> None:
    first = np.concatenate([np.flatnonzero(label == LABELS)[:count] for label, count in enumerate(COUNTS)])
    found = answer(first)
    assert (found.certainty, found.facts["protocol"], found.facts["seed"]) == ("exact", "file-order", None)
    assert (answer(np.sort(first)).certainty, answer(np.sort(first)).facts["order"]) == (
        "same-images",
        "sorted by position",
    )


def test_orders_are_told_apart() -> None:
    drawn = ldam(LABELS, COUNTS, seed=3)
    orders = {"the same": drawn, "sorted by position": np.sort(drawn), "other": drawn[::-1]}
    for order, positions in orders.items():
        found = answer(positions)
        assert (found.facts["seed"], found.facts["order"]) == (3, order)
        assert found.certainty == ("exact" if order == "the same" else "same-images")


def test_one_other_image_is_a_near_miss_and_not_known() -> None:
    """Never guess: 10,846 of 10,847 images are not the split."""
    drawn = ldam(LABELS, COUNTS, seed=3)
    others = np.setdiff1d(np.flatnonzero(LABELS == 99), drawn)
    drawn[-1] = others[0]
    found = answer(drawn)
    assert (found.certainty, found.recognised) == ("class-counts", False)
    assert "all but 1 of its images are those of ldam (LDAM-DRW), seed 3" in found.headline
    assert found.facts["nearest"]["images"] == len(drawn) - 1
    drawn[-1] = np.setdiff1d(np.flatnonzero(LABELS == 60), drawn)[0]
    found = answer(drawn)
    assert (found.certainty, found.facts["profile"]) == ("unknown", None)
    assert found.facts["nearest"] | {"seed": 3, "images": len(drawn) - 1} == found.facts["nearest"]


def test_an_image_twice_in_place_of_another_is_no_other_order() -> None:
    drawn = ldam(LABELS, COUNTS, seed=3)
    drawn[0] = drawn[1]
    found = answer(drawn)
    assert not found.recognised
    assert found.evidence[0] == "1 rows name an image that an earlier row names already"


def test_an_unseeded_draw_has_the_class_counts_and_no_more() -> None:
    found = answer(ldam(LABELS, COUNTS, seed=987_654))
    assert (found.certainty, found.facts["imbalance_factor"]) == ("class-counts", 100)
    assert "cannot be computed again" in " ".join(found.evidence)
    nearest = found.facts["nearest"]
    assert abs(nearest["images"] - nearest["images_by_chance"]) < 200


def test_a_few_images_prove_nothing() -> None:
    """Three images are those of some seed by chance."""
    for size in (1, 2, 3):
        drawn = ldam(LABELS, np.array([size] + [0] * 99), seed=6)
        assert not answer(drawn).recognised


def test_labels_of_the_file_count_too() -> None:
    drawn = ldam(LABELS, COUNTS, seed=3)
    own = LABELS[drawn].astype(np.int64)
    assert answer(drawn, own=own).certainty == "exact"
    noisy = own.copy()
    noisy[:7] = 99
    found = answer(drawn, own=noisy)
    assert (found.certainty, found.facts["labels_differ"]) == ("same-images", 7)
    turned = answer(drawn, own=(own + 1) % 100)
    assert turned.certainty == "same-images"
    assert "renumbered" in turned.headline
    assert not answer(drawn, own=np.random.RandomState(0).permutation(own)).recognised
    assert not answer(np.array([50_000])).recognised, "the source has no such position"


def test_the_whole_set_and_whole_classes_are_no_draw() -> None:
    own = LABELS.astype(np.int64)
    whole = answer(np.arange(50_000), own=own)
    assert (whole.certainty, whole.facts["protocol"]) == ("exact", "whole")
    some = np.flatnonzero(np.isin(LABELS, [3, 70]))
    assert answer(some, own=own[some]).facts["protocol"] == "whole"
    assert answer(some[::-1], own=own[some][::-1]).certainty == "same-images"
    assert answer(ldam(LABELS, np.full(100, 500), seed=2)).facts["seed"] == 2


@for_all(
    profile=st.sampled_from(["exp", "step"]),
    factor=st.one_of(st.just(1.0), st.floats(1.01, 300)),
    shape=st.sampled_from([(10, 5000), (100, 500), (20, 300)]),
)
@settings(max_examples=150, deadline=None)
def test_a_fit_gives_the_same_class_counts(profile: str, factor: float, shape: tuple[int, int]) -> None:
    """Whatever factor is named, it gives these counts, and the true one lies in the interval."""
    num_classes, n_max = shape
    counts = class_counts(profile, num_classes=num_classes, n_max=n_max, imbalance_factor=factor)
    found = fit(counts, n_max)
    assert found is not None
    again = class_counts(found.profile, num_classes=num_classes, n_max=n_max, imbalance_factor=found.factor)
    assert again.tolist() == counts.tolist()
    if found.profile == profile:
        assert found.low * (1 - 1e-9) <= factor <= found.high * (1 + 1e-9)


@pytest.mark.parametrize("factor", [1, 2, 5, 10, 20, 50, 100, 150, 200, 256, 500])
@pytest.mark.parametrize("shape", [(10, 5000), (100, 500)])
def test_usual_factors_are_named_as_people_write_them(factor: int, shape: tuple[int, int]) -> None:
    for profile in ("exp", "step") if factor <= 200 else ("exp",):  # 251 .. 500 are one step profile of CIFAR-100
        found = fit(class_counts(profile, num_classes=shape[0], n_max=shape[1], imbalance_factor=factor), shape[1])
        assert found is not None
        assert found.factor == factor


# Files, without any data


def save(path: Path, positions: Ints) -> Path:
    np.save(path, positions)
    return path


def certainty(found: Identified) -> str:
    (only,) = found.answers
    return only.certainty


def test_every_pinned_split_is_known_without_data(tmp_path: Path) -> None:
    """In the protocol's order, sorted, and shuffled; as an array, and by name."""
    for name in pinned.names():
        assert identify.identify(name).recognised
        manifest = pinned.load(name)
        if manifest.samples is None:
            continue
        found = identify.identify(str(save(tmp_path / "a.npy", manifest.indices)))
        assert (certainty(found), found.answers[0].facts["pinned"]) == ("exact", name)
    manifest = pinned.load("cifar100-lt-step-if20")
    found = identify.identify(str(save(tmp_path / "a.npy", np.sort(manifest.indices))))
    assert (certainty(found), found.answers[0].facts["order"]) == ("same-images", "sorted by position")
    found = identify.identify(str(save(tmp_path / "a.npy", np.random.RandomState(0).permutation(manifest.indices))))
    assert (certainty(found), found.answers[0].facts["order"]) == ("same-images", "other")


def test_factors_between_the_pinned_ones_are_known_without_data(tmp_path: Path) -> None:
    """The splits of one seed are nested, so the first images of a pinned split are another split."""
    wider = pinned.load("cifar10-lt-exp-if10")
    counts = class_counts("exp", num_classes=10, n_max=5000.0, imbalance_factor=77)
    rows = [np.flatnonzero(wider.labels == label)[:count] for label, count in enumerate(counts)]
    found = identify.identify(str(save(tmp_path / "a.npy", wider.indices[np.concatenate(rows)])))
    assert certainty(found) == "exact"
    facts = found.answers[0].facts
    assert (facts["source"], facts["imbalance_factor"], facts["seed"]) == ("cifar10", 77, 0)
    last = np.concatenate([np.flatnonzero(wider.labels == label)[-count:] for label, count in enumerate(counts)])
    assert not identify.identify(str(save(tmp_path / "b.npy", wider.indices[last]))).recognised


def test_without_labels_the_nearest_pinned_split_is_named(tmp_path: Path) -> None:
    positions = pinned.load("cifar100-lt-exp-if50").indices.copy()
    positions[7] = np.setdiff1d(np.arange(50_000), positions)[0]
    ended = run("identify", save(tmp_path / "a.npy", positions))
    assert ended.code == 3
    assert "12,607 of its 12,608 images (99.9 %) are among the 12,608 of cifar100-lt-exp-if50" in ended.out
    assert "--data-dir" in ended.out


def test_a_built_folder_a_subset_and_a_header_are_known(digits_lt: Built, tmp_path: Path) -> None:
    found = identify.identify(str(digits_lt.folder))
    assert [answer.certainty for answer in found.answers] == ["exact", "exact"]
    assert found.answers[0].facts["imbalance_factor"] == 20
    header = tmp_path / "imagenet.json"
    header.write_text(pinned.header("imagenet-lt").to_json(), encoding="utf-8")
    assert "is exactly imagenet-lt" in run("identify", header).out
    out = tmp_path / "few"
    assert run("subset", "cifar100-lt-exp-if100", "--group", "few", "--out", out).code == 0
    ended = run("identify", out)
    assert ended.code == 0
    assert "70 classes left out, ldam (LDAM-DRW), seed 0" in ended.out


def test_a_claim_proves_nothing(tmp_path: Path) -> None:
    """A file that calls itself a split and holds other images is not that split."""
    positions = pinned.load("cifar10-lt-exp-if100").indices.copy()
    positions[0] = np.setdiff1d(np.arange(50_000), positions)[0]
    about = {"name": "cifar10-lt-exp-if100", "source": {"id": "cifar10"}, "protocol": {"name": "ldam", "params": {}}}
    path = tmp_path / "claim.json"
    path.write_text(json.dumps({"train": positions.tolist(), "about": about}))
    ended = run("identify", path)
    assert ended.code == 3
    assert "it says of itself: cifar10-lt-exp-if100, ldam" in ended.out


# Class counts


def test_class_counts_name_their_data_set(tmp_path: Path) -> None:
    for name in ("imagenet-lt", "inat18", "cifar100-lt-exp-if50"):
        counts = pinned.header(name).class_counts
        as_list, as_object = tmp_path / "counts.json", tmp_path / "train_class_number.json"
        as_list.write_text(json.dumps(counts.tolist()))
        as_object.write_text(json.dumps({str(label): n for label, n in enumerate(counts.tolist())}))
        for path in (as_list, as_object, save(tmp_path / "counts.npy", counts)):
            ended = run("identify", path)
            assert ended.code == 0
            assert f"is exactly the class counts of {name} train\n" in ended.out
        assert "in another order" in run("identify", save(tmp_path / "counts.npy", counts[::-1])).out


def test_class_counts_name_their_profile(tmp_path: Path) -> None:
    counts = class_counts("exp", num_classes=10, n_max=5000, imbalance_factor=35)
    assert "cifar10: exp, imbalance factor 35" in run("identify", save(tmp_path / "a.npy", counts)).out
    mine = class_counts("step", num_classes=12, n_max=700, imbalance_factor=35)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(dict(enumerate(mine.tolist()))))
    assert "step, imbalance factor 35" in run("identify", path).out
    path.write_text(json.dumps({"0": 5, "1": 7, "2": 3}))
    assert run("identify", path).code == 3


def test_places_lt_is_known_by_its_published_figures(tmp_path: Path) -> None:
    """No vector is published: total, classes and extremes have to do, and the answer says so."""
    rest = np.full(363, (62_500 - 4980 - 5) // 363)
    counts = np.concatenate([[4980, 5], rest])
    counts[2] += 62_500 - counts.sum()
    found = identify.identify(str(save(tmp_path / "a.npy", counts)))
    assert (certainty(found), found.recognised) == ("figures", True)
    counts[:2] = 4979, 6
    assert not identify.identify(str(save(tmp_path / "a.npy", counts))).recognised


# Other repositories' forms


def test_classes_renumbered_by_falling_size_are_named() -> None:
    labels = np.random.RandomState(5).permutation(np.repeat(np.arange(5), [300, 500, 200, 400, 250])).astype(np.int64)
    drawn = ldam(labels, np.array([100, 200, 30, 150, 60]), seed=1)
    ranks = np.array([2, 0, 4, 1, 3])
    assert "renumbered by falling number of images" in answer(drawn, labels=labels, own=ranks[labels[drawn]]).headline
    assert "renumbered;" not in answer(drawn, labels=labels, own=labels[drawn]).headline


def test_the_form_of_cui_s_tfrecords_is_named_and_not_compared(tmp_path: Path) -> None:
    counts = class_counts("exp", num_classes=100, n_max=500.0, imbalance_factor=50)
    labels = np.repeat(np.arange(100), counts).tolist()
    annotations = [
        {"image_id": step, "fpath": f"/home/x/cifar/images/{label}/train_{step}.jpg", "category_id": label}
        for step, label in enumerate(labels)
    ]
    path = tmp_path / "cifar100_imbalance50_train.json"
    path.write_text(json.dumps({"annotations": annotations, "num_classes": 100}))
    found = identify.identify(str(path))
    assert certainty(found) == "form"
    assert found.answers[0].facts["imbalance_factor"] == 50
    assert "no positions in CIFAR" in " ".join(found.answers[0].evidence)
    annotations[0]["fpath"] = "/home/x/cifar/images/apple.jpg"
    path.write_text(json.dumps({"annotations": annotations, "num_classes": 100}))
    assert not identify.identify(str(path)).recognised


def official(path: str) -> bytes:
    file = LISTS / path
    if not file.is_file():
        pytest.skip(f"the official lists are not here ({file}); set LTDATA_SHARED to the folder that has them")
    return file.read_bytes()


VARIANTS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda data: data,
    "no last newline, as GLMC has it": lambda data: data[:-1],
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "byte-order mark": lambda data: b"\xef\xbb\xbf" + data,
    "other prefix": lambda data: re.sub(rb"(?m)^(?=.)", b"/data/sets/", data),
    "without labels": lambda data: re.sub(rb"(?m) \d+$", b"", data),
}


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize(
    ("source", "split", "file"),
    [
        ("imagenet-lt", "val", "imagenet_lt/ImageNet_LT_val.txt"),
        ("imagenet-lt", "test", "imagenet_lt/ImageNet_LT_test.txt"),
        ("inat18", "val", "inat18/iNaturalist18_val.txt"),
    ],
)
def test_official_lists_are_known_in_any_form(source: str, split: str, file: str, variant: str, tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    path.write_bytes(VARIANTS[variant](official(file)))
    found = identify.identify(str(path))
    assert certainty(found) == "exact"
    facts = found.answers[0].facts
    assert (facts["source"], facts["list"]) == (source, split)
    assert facts["git_blob_sha1"] == OFFICIAL[source].lists[split].blob_sha1


def test_flat_paths_of_the_test_list_are_known(tmp_path: Path) -> None:
    """KaihuaTang's copy names no class; the pinned header does."""
    path = tmp_path / "test.txt"
    path.write_bytes(re.sub(rb"val/n\d+/", b"val/", official("imagenet_lt/ImageNet_LT_test.txt")))
    assert certainty(identify.identify(str(path))) == "exact"


def test_one_other_row_of_an_official_list_is_not_known(tmp_path: Path) -> None:
    lines = official("imagenet_lt/ImageNet_LT_val.txt").splitlines(keepends=True)
    path = tmp_path / "val.txt"
    path.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    found = identify.identify(str(path))
    assert (certainty(found), found.recognised) == ("class-counts", False)
    path.write_bytes(b"".join(lines[1:]))
    found = identify.identify(str(path))
    assert certainty(found) == "unknown"
    assert "near those of imagenet-lt val: 1 classes differ, by 1 images" in " ".join(found.answers[0].evidence)


def test_renumbered_classes_are_named(tmp_path: Path) -> None:
    """BBN's JSON form, as ACE has it: ids in another order than the official list's."""
    rows = [line.rsplit(" ", 1) for line in official("imagenet_lt/ImageNet_LT_val.txt").decode().splitlines()]
    turned = np.random.RandomState(0).permutation(1000).tolist()

    def bbn(number: Callable[[int], int]) -> Path:
        annotations = [
            {"image_id": n, "fpath": f"/media/ssd1/{path}", "im_height": 1, "category_id": number(int(label))}
            for n, (path, label) in enumerate(rows)
        ]
        path = tmp_path / "ImageNet_LT_val.json"
        path.write_text(json.dumps({"annotations": annotations, "num_classes": 1000}))
        return path

    assert certainty(identify.identify(str(bbn(lambda label: label)))) == "exact"
    found = identify.identify(str(bbn(lambda label: turned[label])))
    assert certainty(found) == "same-images"
    assert "renumbered" in found.answers[0].headline
    found = identify.identify(str(bbn(lambda label: label // 2)))
    assert certainty(found) == "same-images"
    assert "with 19,980 of 20,000 labels others" in found.answers[0].headline


# The command, with real labels


def test_real_cifar_100(cifar100_dir: Path, tmp_path: Path, global_stream: Callable[[int], None]) -> None:
    """The labels come from the files; the answer is one line, then why."""
    raw = (cifar100_dir / "cifar-100-binary" / "train.bin").read_bytes()
    labels = np.frombuffer(raw, np.uint8).reshape(50_000, -1)[:, 1].astype(np.int64)
    global_stream(3407)
    path = save(tmp_path / "glmc.npy", glmc(labels, COUNTS, replace=True))
    ended = run("identify", path, "--data-dir", cifar100_dir / "cifar-100-binary", "--source", "cifar100", "--json")
    assert ended.code == 0
    found = json.loads(ended.out)["splits"]["train"]
    assert found["facts"] | {"protocol": "glmc-with-replacement", "seed": 3407} == found["facts"]
    assert identify.identify(str(path)).recognised is False, "without labels"
    assert run("identify", path, "--data-dir", tmp_path, "--source", "cifar100").refused(4)


def test_numbers_that_nobody_has_are_unknown(tmp_path: Path) -> None:
    """No memory is taken for a class 999,999,999, and no number is too large."""
    path = tmp_path / "a.txt"
    for text in ("a.jpg 999999999\nb.jpg 0\n", f"{2**62} 999999999\n7 0\n", f"{2**62}\n0\n"):
        path.write_text(text)
        assert run("identify", path).code == 3
        assert run("diff", path, path).code == 0
    path = tmp_path / "a.json"
    for record in ({str(n): 10**30 for n in range(9)}, {str(n): 2**31 - 1 for n in range(9)}, {"0": 0}, {"1": 5}):
        path.write_text(json.dumps(record))
        ended = run("identify", path)
        assert ended.code in {0, 3}
        assert "Traceback" not in ended.err


def test_files_that_are_no_split_are_refused(tmp_path: Path) -> None:
    assert run("identify", tmp_path / "none.npy").refused(4)
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY rubbish")
    assert run("identify", tmp_path / "a.npy").refused(3)
    (tmp_path / "a.py").write_text("print()")
    assert run("identify", tmp_path / "a.py").refused(2)
    assert Search(seeds=3).all_seeds[:4] == (0, 1, 2, 3407)
