"""Shards: plain tar files that other people's readers read, and a function of the split alone."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ltdata import engine, shards
from ltdata.build import Built, build
from ltdata.errors import LtdataError
from ltdata.groups import GROUP_NAMES
from ltdata.images import Files
from ltdata.reader import read_samples
from ltdata.sources import Source, Where, load_source
from ltdata.spec import Spec

# The digits at IF 20, seed 0. A pin may change with the format version (SCHEMA_VERSION in ltdata.manifest) and for
# no other reason: people compare these digests, and a rebuilt data set must be the one that was published.
GOLDEN = {
    "train/many-000000.tar": "772cb80e2ba53fd8f2ac0d4d9620b9cb4748089ff6106cf358661c5067e09c97",
    "train/medium-000000.tar": "76184d7dcdc3732e12f4ac4514995e30e2f37ce10987f032dfa2a07456b66f54",
    "train/few-000000.tar": "cc71fd70eb4a5d349dbc8e845a2ba082d07612930e42a6f9bb5305929881ef20",
    "test/test-000000.tar": "8b8e4b9e9392b477d8805c267af611e0552c55ba5c6c2cff95bc322468122df5",
}
class_counts = st.lists(st.integers(1, 60), min_size=1, max_size=12)
seeds = st.integers(0, 2**32 - 1)


def paths(built: Built, split: str) -> list[Path]:
    return [built.folder / shard.path for shard in built.manifest.splits[split].shards]


def rows_in(path: Path) -> list[int]:
    with tarfile.open(path) as tar:
        return [int(name.removesuffix(".png")) for name in tar.getnames() if name.endswith(".png")]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What other readers see


@pytest.fixture(scope="module")
def cifar100(cifar100_dir: Path) -> Source:
    return load_source("cifar100", Where(data_dir=cifar100_dir / "cifar-100-binary"))


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset 1.0.2 leaves closing to the collector
@pytest.mark.parametrize(("split", "num_shards"), [("train", None), ("test", 1)])
def test_webdataset_reads_every_image_and_label(
    split: str, num_shards: int | None, cifar100_lt: Built, cifar100: Source
) -> None:
    """The key is the row in the protocol's order; pixels and label are the source's at that row's index."""
    chosen = paths(cifar100_lt, split)[:num_shards]
    samples = read_samples(cifar100_lt.folder, cifar100_lt.manifest)[split]
    source = cifar100.splits[split]
    stream = webdataset.WebDataset([str(path) for path in chosen], shardshuffle=False)
    seen = []
    for key, pixels, label in stream.decode("rgb8").to_tuple("__key__", "png", "cls"):
        row = int(key)
        index = samples.source_index[row]
        assert label == samples.labels[row] == source.labels[index]
        assert np.array_equal(pixels, source.pixels[index])
        seen.append(row)
    assert seen == [row for path in chosen for row in rows_in(path)]
    assert len(set(seen)) == (len(samples) if num_shards is None else shards.SAMPLES_PER_SHARD)


def test_shards_are_plain_tar_files(cifar100_lt: Built, digits_lt: Built) -> None:
    """No PAX headers, no owner, no time, mode 0644; a sample is its .cls and its .png, in that order."""
    for path in [*paths(digits_lt, "train"), *paths(digits_lt, "test"), *paths(cifar100_lt, "train")[-2:]]:
        with tarfile.open(path, "r:") as tar:
            found = tar.getmembers()
            assert tar.pax_headers == {}
        for member in found:
            assert (member.type, member.mode, member.pax_headers) == (tarfile.REGTYPE, 0o644, {})
            assert (member.uid, member.gid, member.mtime, member.uname, member.gname) == (0, 0, 0, "", "")
        keys = [f"{row:08d}" for row in rows_in(path)]
        assert [member.name for member in found] == [f"{key}.{suffix}" for key in keys for suffix in ("cls", "png")]


def test_a_shard_is_what_tarfile_itself_writes(digits_lt: Built) -> None:
    """An independent writer of the same members, as USTAR, gives the same bytes."""
    path = paths(digits_lt, "train")[-1]
    buffer = io.BytesIO()
    with tarfile.open(path) as found, tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as written:
        for member in found:
            plain = tarfile.TarInfo(member.name)
            plain.size = member.size
            written.addfile(plain, found.extractfile(member))
    assert buffer.getvalue() == path.read_bytes()


@pytest.mark.parametrize("fixture", ["digits_lt", "cifar100_lt"])
def test_the_manifest_lists_every_shard_and_its_bytes(fixture: str, request: pytest.FixtureRequest) -> None:
    built: Built = request.getfixturevalue(fixture)
    listed = [shard for split in built.manifest.splits.values() for shard in split.shards]
    assert {shard.path for shard in listed} == {
        path.relative_to(built.folder).as_posix() for path in built.folder.rglob("*.tar")
    }
    for shard in listed:
        data = (built.folder / shard.path).read_bytes()
        assert (shard.bytes, shard.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert shard.num_samples == len(rows_in(built.folder / shard.path)) <= shards.SAMPLES_PER_SHARD


@pytest.mark.parametrize("fixture", ["digits_lt", "cifar100_lt"])
def test_each_shot_group_is_a_series_of_its_own(fixture: str, request: pytest.FixtureRequest) -> None:
    """So the images of any groups together are a union of files, with none stored twice."""
    built: Built = request.getfixturevalue(fixture)
    labels = read_samples(built.folder, built.manifest)["train"].labels
    seen: list[int] = []
    numbers: dict[str, list[int]] = {name: [] for name in GROUP_NAMES}
    for path in paths(built, "train"):
        series, _, number = path.stem.partition("-")
        assert path.name == f"{series}-{int(number):06d}.tar"
        numbers[series].append(int(number))
        rows = rows_in(path)
        assert {GROUP_NAMES[group] for group in built.manifest.groups[labels[rows]]} == {series}
        seen += rows
    assert sorted(seen) == list(range(len(labels)))
    assert all(found == list(range(len(found))) for found in numbers.values())
    assert [path.name for path in paths(built, "test")] == [
        f"test-{n:06d}.tar" for n in range(len(paths(built, "test")))
    ]


@given(
    name=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=100),
    size=st.integers(0, 8**11 - 1),
)
def test_a_header_filled_in_by_hand_is_tarfiles(name: str, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    assert shards.header(name, size) == member.tobuf(format=tarfile.USTAR_FORMAT)


@given(
    rows=st.lists(st.integers(0, 10**8 - 1), max_size=5),
    suffix=st.sampled_from(("cls", "png")),
    size=st.integers(0, 8**11 - 1),
)
def test_headers_made_together_are_those_made_one_by_one(rows: list[int], suffix: str, size: int) -> None:
    made = shards.headers(np.array(rows, dtype=np.int64), suffix, size)
    assert [row.tobytes() for row in made] == [shards.header(f"{shards.key(row)}.{suffix}", size) for row in rows]


@pytest.mark.parametrize(("name", "size"), [("x" * 101, 0), ("x", 8**11)])
def test_what_fits_no_header_is_refused(name: str, size: int) -> None:
    with pytest.raises(ValueError, match="does not fit a USTAR header"):
        shards.header(name, size)


@settings(deadline=None, max_examples=30)
@given(images=st.lists(st.tuples(st.booleans(), st.integers(0, 2000)), min_size=1, max_size=12), seed=seeds)
def test_a_shard_of_both_kinds_is_what_tarfile_writes(
    images: list[tuple[bool, int]], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also where a member fills its blocks to the last byte."""
    draw = np.random.RandomState(seed)
    kinds = [("png", b"\x89PNG\r\n\x1a\n") if is_png else ("jpg", b"\xff\xd8\xff") for is_png, _ in images]
    data = [start + draw.bytes(size) for (_, start), (_, size) in zip(kinds, images, strict=True)]
    folder = tmp_path_factory.mktemp("mixed")
    for n, content in enumerate(data):
        (folder / str(n)).write_bytes(content)
    rows = draw.randint(0, 10**8, len(data))
    labels = draw.randint(0, 10**6, len(data))
    files = Files(folder, tuple(map(str, range(len(data)))))
    written = shards.write(shards.ShardJob("test/test-000000.tar", rows, labels, files), folder)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row, label, (suffix, _), content in zip(rows.tolist(), labels.tolist(), kinds, data, strict=True):
            for name, part in ((f"{row:08d}.cls", str(label).encode()), (f"{row:08d}.{suffix}", content)):
                member = tarfile.TarInfo(name)
                member.size = len(part)
                tar.addfile(member, io.BytesIO(part))
    shard = (folder / "test" / "test-000000.tar").read_bytes()
    assert shard == buffer.getvalue()
    assert (written.shard.bytes, written.shard.sha256) == (len(shard), hashlib.sha256(shard).hexdigest())
    for offset, size, content in zip(written.offsets.tolist(), written.sizes.tolist(), data, strict=True):
        assert shard[offset : offset + size] == content
    assert written.image_sha256 == tuple(hashlib.sha256(content).hexdigest() for content in data)


# The order of the samples


@settings(deadline=None)
@given(counts=class_counts, seed=seeds, shuffle=seeds)
def test_every_prefix_holds_each_class_in_its_share(counts: list[int], seed: int, shuffle: int) -> None:
    """Of k samples, class c has k p_c, give or take 1/2 + p_c (C - 2) / 2.

    Class c stands at (j + 1/2) / n_c, so the samples up to a point t count n_c t + e_c with |e_c| <= 1/2, and
    k = n t + sum e. So n_c t + e_c - p_c k = (1 - p_c) e_c - p_c (the sum of the other e), at most
    (1 - p_c) / 2 + p_c (C - 1) / 2. One large class among singletons attains it.
    """
    labels = np.random.RandomState(shuffle).permutation(np.repeat(np.arange(len(counts)), counts))
    order = shards.spread(labels, seed=seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    n, total = np.array(counts), len(labels)
    k = np.arange(1, total + 1)[:, None]
    held = np.cumsum(labels[order][:, None] == np.arange(len(n)), axis=0)
    # |held - k n / total| <= 1/2 + n / total * (C - 2) / 2, times 2 total: integers, so no rounding
    assert (2 * np.abs(held * total - k * n) <= total + n * (len(n) - 2)).all()


@given(counts=class_counts, seed=seeds)
def test_the_samples_of_a_class_keep_their_order(counts: list[int], seed: int) -> None:
    labels = np.resize(np.arange(len(counts)), sum(counts))
    order = shards.spread(labels, seed=seed)
    for label in set(labels.tolist()):
        assert np.array_equal(order[labels[order] == label], np.flatnonzero(labels == label))


@given(classes=st.integers(1, 12), each=st.integers(1, 10), seed=seeds)
def test_equal_counts_are_dealt_in_rounds(classes: int, each: int, seed: int) -> None:
    """Every round goes through one permutation of the classes, which the seed decides."""
    labels = np.repeat(np.arange(classes), each)
    rounds = labels[shards.spread(labels, seed=seed)].reshape(each, classes)
    assert (rounds == np.random.RandomState(seed).permutation(classes).argsort()).all()


def test_the_order_is_the_same_at_every_call_and_leaves_the_global_generator_alone() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    state = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    orders = {tuple(shards.spread(labels, seed=7).tolist()) for _ in range(3)}
    assert len(orders) == 1
    assert np.array_equal(np.random.get_state()[1], state)  # type: ignore[index]
    assert len({tuple(shards.spread(labels, seed=seed).tolist()) for seed in range(20)}) > 1


def test_no_samples_have_an_empty_order() -> None:
    assert shards.spread(np.zeros(0, np.int64), seed=0).tolist() == []


# The layout


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 5), min_size=0, max_size=80),
    class_groups=st.lists(st.integers(0, 2), min_size=6, max_size=6),
    grouped=st.booleans(),
    samples_per_shard=st.integers(1, 30),
    seed=seeds,
)
def test_every_row_lies_in_exactly_one_shard(
    labels: list[int], class_groups: list[int], grouped: bool, samples_per_shard: int, seed: int
) -> None:
    of_class: NDArray[np.int8] = np.array(class_groups, np.int8)
    found = shards.plan(
        "train",
        np.array(labels, np.int64),
        class_groups=of_class if grouped else None,
        seed=seed,
        samples_per_shard=samples_per_shard,
    )
    assert sorted(row for plan in found for row in plan.rows.tolist()) == list(range(len(labels)))
    assert len({plan.path for plan in found}) == len(found)
    for plan in found:
        assert 1 <= len(plan.rows) <= samples_per_shard
        series = plan.path.removeprefix("train/").partition("-")[0]
        in_groups = {GROUP_NAMES[of_class[labels[row]]] for row in plan.rows} if grouped else {"train"}
        assert in_groups == {series}
    by_series = {plan.path.rpartition("-")[0] for plan in found}
    full = [plan for plan in found if len(plan.rows) == samples_per_shard]
    assert len(found) - len(full) <= len(by_series)  # only the last shard of a series is not full


# The same bytes everywhere


def test_the_shards_of_digits_are_the_pinned_ones(digits_lt: Built) -> None:
    found = {shard.path: shard.sha256 for split in digits_lt.manifest.splits.values() for shard in split.shards}
    assert found == GOLDEN


@pytest.mark.parametrize("workers", [1, 2])
def test_the_bytes_do_not_depend_on_the_workers(workers: int, digits_lt: Built, tmp_path: Path) -> None:
    again = build(Spec("digits", 20), out=tmp_path / "again", workers=workers)
    assert contents(again.folder) == contents(digits_lt.folder)


@pytest.mark.parametrize(("hash_seed", "workers"), [("1", "2"), ("2", "1")])
def test_the_bytes_do_not_depend_on_the_hash_seed(
    hash_seed: str, workers: str, digits_lt: Built, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "ltdata", "build", "digits", "--imbalance", "20", "--workers", workers]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    subprocess.run([*command, "--out", tmp_path / "again"], env=environment, check=True, capture_output=True)
    assert contents(tmp_path / "again") == contents(digits_lt.folder)


@pytest.fixture
def jobs() -> list[shards.ShardJob]:
    """Make five shards of digits, of 20 images each."""
    split = load_source("digits", Where()).splits["train"]
    assert split.images is not None
    rows = np.arange(20)
    return [
        shards.ShardJob(f"train/a-{number:06}.tar", rows, split.labels[taken], split.images.take(taken))
        for number, taken in enumerate(np.arange(100).reshape(5, 20))
    ]


@pytest.mark.parametrize("ahead", [1, 2, 4, 9])
def test_an_executor_writes_what_this_process_writes_a_few_ahead(
    ahead: int, jobs: list[shards.ShardJob], tmp_path: Path
) -> None:
    told: list[str] = []
    given = most = 0

    def hand(job: shards.ShardJob) -> shards.ShardJob:
        nonlocal given, most
        given += 1
        most = max(most, given - len(told))
        return job

    (tmp_path / "theirs" / "train").mkdir(parents=True)
    (tmp_path / "theirs" / "train" / ".a-000001.tar.4711.tmp").write_bytes(b"of a killed worker")
    (tmp_path / "ours").mkdir()
    here = shards.write_all([partial(hand, job) for job in jobs], tmp_path / "ours", on_shard=lambda _: told.append(""))
    told, given, most = [], 0, 0
    with ThreadPoolExecutor(1) as executor:
        there = shards.write_all(
            [partial(hand, job) for job in jobs],
            tmp_path / "theirs",
            executor=executor,
            ahead=ahead,
            on_shard=lambda report: told.append(report.shard.path),
        )
    assert most == min(ahead, len(jobs))
    assert told == [job.path for job in jobs] == [report.shard.path for report in there]
    assert [report.shard for report in there] == [report.shard for report in here]
    assert contents(tmp_path / "theirs") == contents(tmp_path / "ours")
    assert {report.offsets.dtype for report in there} == {report.sizes.dtype for report in there} == {np.dtype("int64")}


def test_the_disk_begins_with_a_shard_before_it_is_whole(
    jobs: list[shards.ShardJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of somewhat more than a given size, one after the other."""
    parts: list[tuple[int, int]] = []

    def flush(file: BinaryIO, start: int, end: int) -> None:
        file.flush()
        assert os.fstat(file.fileno()).st_size == end
        parts.append((start, end))

    monkeypatch.setattr(shards, "_FLUSH_BYTES", 2 * 5_120)  # of two images with labels and headers
    monkeypatch.setattr(shards, "start_flush", flush)
    report = shards.write(jobs[0], tmp_path)
    assert {end - start for start, end in parts} == {3 * 5_120}
    assert [start for start, _ in parts] == [0, *[end for _, end in parts[:-1]]]
    assert [end for _, end in parts] == (report.offsets[3::3] - 3 * 512).tolist()


class _Fatal:
    """Ends the process that unpickles it, as the kernel does when memory runs out."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (9,)


def test_a_worker_that_dies_is_reported(tmp_path: Path) -> None:
    job = shards.ShardJob("train/many-000000.tar", np.arange(1), np.zeros(1, np.int64), _Fatal())  # type: ignore[arg-type]
    with (
        pytest.raises(LtdataError, match=r"a worker process ended abruptly.*--workers"),
        engine.start(2) as crew,
    ):
        shards.write_all([lambda: job], tmp_path, executor=crew.executor, ahead=crew.ahead)
    assert list(tmp_path.rglob("*.tar")) == []
