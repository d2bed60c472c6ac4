"""Builds: right, repeatable, and whole or not there, whatever happens on the way."""

import errno
import getpass
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tqdm import tqdm

from ltdata import output, pinned, shards
from ltdata.build import Built, build, summary
from ltdata.errors import LtdataError, MismatchError, OutputError, UsageError
from ltdata.spec import Spec
from ltdata.verify import verify

DIGITS = Spec("digits", 20)
DIGITS_SHA256 = "24bc133a98ab441d97c2b26fa294fb1098ee80525700181c9354f1f876c82ae9"
COMMAND = ("build", "digits", "--imbalance", "20", "--out")
# A build that says at its second shard that it is there, and then waits for its end.
SLOW = """
import sys, time
from pathlib import Path
from ltdata import shards
from ltdata.cli import main
write, reached, go = shards.write, Path(sys.argv.pop(1)), Path(sys.argv.pop(1))
def slow(job, folder):
    if (folder / "train" / "many-000000.tar").exists():
        reached.touch()
        while not go.exists():
            time.sleep(0.01)
    return write(job, folder)
shards.write = slow
main()
"""


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def times(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in [folder, *folder.rglob("*")]}


def no_space(*_args: object, **_options: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def third_time(failure: Callable[..., object], real: Callable[..., object]) -> Callable[..., object]:
    calls = itertools.count(1)
    return lambda *args: failure() if next(calls) == 3 else real(*args)


@pytest.fixture
def finished(digits_lt: Built, tmp_path: Path) -> Path:
    """Give a copy of a finished build, to break, beside nothing else."""
    return Path(shutil.copytree(digits_lt.folder, tmp_path / "digits"))


@pytest.fixture(scope="module")
def cifar10_lt(cifar10_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    out = tmp_path_factory.mktemp("built") / "cifar10"
    yield build(Spec("cifar10", 100), data_dir=cifar10_dir / "cifar-10-batches-bin", out=out, unverified=True)
    shutil.rmtree(out)


def check_against_pinned(built: Built, name: str, images: int, groups: list[int]) -> None:
    stored = pinned.load(name)
    report = summary(built)
    assert report["name"] == name
    assert report["images"] == {"train": images, "test": 10_000}
    assert [report["groups"][group] for group in ("many", "medium", "few")] == groups
    assert report["content_sha256"] == stored.content_sha256
    assert np.array_equal(built.manifest.class_counts, stored.class_counts)
    assert sum(shard.num_samples for shard in built.manifest.splits["train"].shards) == images


# --- what is built


def test_cifar100_100_is_the_pinned_split(cifar100_lt: Built) -> None:
    check_against_pinned(cifar100_lt, "cifar100-lt-exp-if100", 10_847, [35, 35, 30])
    assert verify(cifar100_lt.folder) == cifar100_lt.manifest
    assert cifar100_lt.manifest.source["verified"] is True


def test_cifar100_10_is_the_pinned_split(cifar100_dir: Path, tmp_path: Path) -> None:
    built = build(Spec("cifar100", 10), data_dir=cifar100_dir / "cifar-100-binary", out=tmp_path / "out")
    check_against_pinned(built, "cifar100-lt-exp-if10", 19_573, [69, 31, 0])
    assert not list((built.folder / "train").glob("few*"))
    shutil.rmtree(built.folder)


def test_cifar10_100_is_the_pinned_split_and_says_that_its_source_is_unverified(cifar10_lt: Built) -> None:
    check_against_pinned(cifar10_lt, "cifar10-lt-exp-if100", 12_406, [8, 2, 0])
    assert cifar10_lt.manifest.source["verified"] is False


def test_cifar10_10_is_the_pinned_split(cifar10_dir: Path, tmp_path: Path) -> None:
    built = build(
        Spec("cifar10", 10), data_dir=cifar10_dir / "cifar-10-batches-bin", out=tmp_path / "out", unverified=True
    )
    check_against_pinned(built, "cifar10-lt-exp-if10", 20_431, [10, 0, 0])
    shutil.rmtree(built.folder)


def test_the_unverified_cifar10_build_is_found_whole_again(cifar10_lt: Built) -> None:
    with pytest.raises(UsageError, match="--unverified not given"):
        build(Spec("cifar10", 100), out=cifar10_lt.folder)
    assert build(Spec("cifar10", 100), out=cifar10_lt.folder, unverified=True).reused


def test_an_unverified_finished_build_needs_unverified_again(finished: Path) -> None:
    text = (finished / "manifest.json").read_text(encoding="utf-8")
    (finished / "manifest.json").write_text(text.replace('"verified": true', '"verified": false'), encoding="utf-8")
    with pytest.raises(UsageError, match="--unverified not given"):
        build(DIGITS, out=finished)
    assert build(DIGITS, out=finished, unverified=True).reused


def test_digits_have_the_golden_digest(digits_lt: Built) -> None:
    assert digits_lt.manifest.content_sha256 == DIGITS_SHA256
    assert digits_lt.manifest.class_counts.tolist() == [144, 103, 74, 53, 38, 27, 19, 14, 10, 7]
    assert not digits_lt.reused


def test_a_summary_says_all_that_a_build_holds(digits_lt: Built) -> None:
    assert summary(digits_lt) == {
        "folder": str(digits_lt.folder),
        "name": "digits-lt-exp-if20",
        "reused": False,
        "images": {"train": 489, "test": 300},
        "groups": {"rule": "strict", "many": 2, "medium": 4, "few": 4},
        "shards": 4,
        "longer_side_px": None,
        "left_out": None,
        "skipped": 0,
        "bytes": 4_075_520,
        "verified_source": True,
        "content_sha256": DIGITS_SHA256,
    }


def test_the_same_build_has_the_same_bytes(digits_lt: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the folder, the working folder, the user, the clock, the number of workers."""
    for name, value in (("HOME", str(tmp_path)), ("USER", "nobody"), ("TZ", "Asia/Tokyo"), ("LC_ALL", "C")):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    built = build(DIGITS, workers=2)
    assert built.folder == tmp_path / "digits-lt-exp-if20"
    assert content(built.folder) == content(digits_lt.folder)
    assert names(tmp_path) == ["digits-lt-exp-if20"]


def test_headers_and_rows_hold_no_time_no_place_and_no_user(digits_lt: Built) -> None:
    for name in ("manifest.json", "samples.jsonl"):
        text = (digits_lt.folder / name).read_text(encoding="utf-8")
        strings = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
        assert not [value for value in strings if value.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:\\", value)]
        assert not re.search(r"\d\d:\d\d|\b20\d\d-\d\d-\d\d|\b1[5-9]\d{8}\b", re.sub(r"[0-9a-f]{64}", "", text))
        assert getpass.getuser() not in re.split(r"\W+", text)


def test_a_build_moves_no_global_random_generator(tmp_path: Path) -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    build(DIGITS, out=tmp_path / "out")
    assert np.array_equal(before, np.random.get_state()[1])


def test_values_that_cannot_be_meant_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    for bad in ({"source": "mnist"}, {"imbalance_factor": 0.01}, {"profile": "x"}, {"group_rule": "x"}, {"seed": -1}):
        with pytest.raises(UsageError):
            Spec(**{"source": "digits", "imbalance_factor": 20, **bad})
    for spec, workers in ((Spec("digits", 1e308), 1), (Spec("digits", 145), 1), (DIGITS, 0)):
        with pytest.raises(UsageError):
            build(spec, out=tmp_path / "out", workers=workers)
    assert names(tmp_path) == []


# --- a second time


def test_a_finished_build_is_verified_and_left_alone(finished: Path) -> None:
    before = times(finished), content(finished)
    start = time.perf_counter()
    again = build(DIGITS, out=finished)
    assert time.perf_counter() - start < 2
    assert again.reused
    assert (times(finished), content(finished)) == before
    assert names(finished.parent) == ["digits"]


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (Spec("digits", 20, seed=1), "seed 0, asked for 1"),
        (Spec("digits", 20, group_rule="oltr"), "groups strict, asked for oltr"),
        (Spec("digits", 20, profile="step"), "profile exp, asked for step"),
        (Spec("digits", 20, max_per_class=100), "max per class None, asked for 100"),
        (Spec("digits", 10), "imbalance factor 20.0, asked for 10.0"),
        (Spec("cifar10", 20), "source digits, asked for cifar10"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_another_build_is_refused_and_what_differs_is_named(finished: Path, other: Spec, difference: str) -> None:
    before = times(finished)
    with pytest.raises(UsageError, match=rf"{difference}.*--force") as refused:
        build(other, out=finished)
    assert refused.value.exit_code == 2
    assert times(finished) == before
    assert names(finished.parent) == ["digits"]


@pytest.mark.parametrize(
    ("edit", "difference"),
    [
        (lambda head: head["protocol"].update(name="own"), "protocol own, asked for ldam"),
        (lambda head: head["protocol"].update(version=7), "version 7, asked for 1"),
        (lambda head: head["source"].pop("verified"), "it does not say whether its source had the published digest"),
        (lambda head: head["source"].update(verified=False), "without the published digest, --unverified not given"),
    ],
)
def test_a_build_whose_header_says_otherwise_is_another_one(
    edit: Callable[[dict[str, Any]], object], difference: str, finished: Path
) -> None:
    head = json.loads((finished / "manifest.json").read_text())
    edit(head)
    (finished / "manifest.json").write_text(json.dumps(head, indent=2, sort_keys=True) + "\n")
    with pytest.raises(UsageError, match=rf"holds another build \((made from files )?{difference}\); choose"):
        build(DIGITS, out=finished)


def test_a_build_with_images_and_one_without_are_two(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"images stored, asked for left out\)"):
        build(DIGITS, out=finished, manifest_only=True)
    build(DIGITS, out=tmp_path / "rows", manifest_only=True)
    assert build(DIGITS, out=tmp_path / "rows", manifest_only=True).reused
    with pytest.raises(UsageError, match=r"images left out, asked for stored\)"):
        build(DIGITS, out=tmp_path / "rows")


@pytest.mark.parametrize("progress", [True, False])
def test_the_bar_counts_every_image_once(progress: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Any] = []

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, **options: Any) -> None:
            assert options.pop("disable") is (None if progress else True)  # None: on a terminal alone
            super().__init__(file=io.StringIO(), **options)
            bars.append(self)

    monkeypatch.setattr("ltdata.build.tqdm", Bar)
    built = build(DIGITS, out=tmp_path / "out", progress=progress)
    images = sum(split.num_samples for split in built.manifest.splits.values())
    assert [(bar.n, bar.total, bar.unit, bar.desc) for bar in bars] == [
        (images, images, " images", "digits-lt-exp-if20")
    ]


def test_force_replaces_another_build(finished: Path, digits_lt: Built) -> None:
    assert not build(Spec("digits", 10, seed=3), out=finished, force=True).reused
    assert content(finished) != content(digits_lt.folder)
    build(DIGITS, out=finished, force=True)
    assert content(finished) == content(digits_lt.folder)
    assert names(finished.parent) == ["digits"]


@pytest.mark.parametrize(
    "name", ["train/few-000000.tar", "test/test-000000.tar", "samples.jsonl", "train/many-000000.tar"]
)
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_build_is_refused_by_name_and_force_mends_it(
    name: str, damage: str, finished: Path, digits_lt: Built
) -> None:
    path = finished / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    with pytest.raises(MismatchError, match=re.escape(path.name)) as refused:
        build(DIGITS, out=finished)
    assert refused.value.exit_code == 3
    build(DIGITS, out=finished, force=True)
    assert content(finished) == content(digits_lt.folder)
    assert names(finished.parent) == ["digits"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1}', '{"schema_version": 99}'])
def test_an_unreadable_manifest_is_a_mismatch_that_force_mends(text: str, finished: Path, digits_lt: Built) -> None:
    (finished / "manifest.json").write_text(text)
    with pytest.raises(MismatchError, match=r"manifest\.json"):
        build(DIGITS, out=finished)
    build(DIGITS, out=finished, force=True)
    assert content(finished) == content(digits_lt.folder)


@pytest.mark.parametrize("missing", [("source", "verified"), ("source", "id"), ("protocol", "params")])
def test_a_manifest_without_what_a_build_records_is_refused(missing: tuple[str, str], finished: Path) -> None:
    """A pinned header copied there, for one, has no `verified`."""
    fields = json.loads((finished / "manifest.json").read_text(encoding="utf-8"))
    del fields[missing[0]][missing[1]]
    (finished / "manifest.json").write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(LtdataError):
        build(DIGITS, out=finished)


# --- where it goes


def test_a_file_in_the_way_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    for force in (False, True):
        with pytest.raises(OutputError, match="out: is a file"):
            build(DIGITS, out=tmp_path / "out", force=force)
    assert (tmp_path / "out").read_text() == "precious"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("files", [["thesis.txt"], ["manifest.json", "thesis.txt"]], ids=" ".join)
def test_a_folder_with_foreign_files_is_refused_and_kept(files: list[str], force: bool, tmp_path: Path) -> None:
    """Also one with a manifest.json of its own, as every web application has."""
    (tmp_path / "out").mkdir()
    for name in files:
        (tmp_path / "out" / name).write_text('{"name": "my web application"}')
    with pytest.raises(LtdataError, match="out"):
        build(DIGITS, out=tmp_path / "out", force=force)
    assert names(tmp_path / "out") == sorted(files)
    assert names(tmp_path) == ["out"]


def test_force_does_not_delete_what_was_put_beside_a_build(finished: Path) -> None:
    (finished / "notes.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        build(Spec("digits", 10), out=finished, force=True)
    assert (finished / "notes.txt").read_text() == "precious"


def test_an_empty_folder_a_missing_parent_and_links_are_fine(tmp_path: Path, digits_lt: Built) -> None:
    for name in ("empty", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("not/yet")
    for out in ("empty", "link", "dangling", "a/b/new"):
        built = build(DIGITS, out=tmp_path / out)
        assert built.folder == (tmp_path / out).resolve()
        assert content(tmp_path / out) == content(digits_lt.folder)
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path) == ["a", "dangling", "empty", "link", "not", "target"]
    assert names(tmp_path / "a" / "b") == ["new"]


def test_an_endless_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError, match="loop"):
        build(DIGITS, out=tmp_path / "loop")
    assert names(tmp_path) == ["loop"]


def test_a_place_under_a_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for out in ("file/out", "file/a/b/out"):
        with pytest.raises(OutputError, match="cannot be written") as refused:
            build(DIGITS, out=tmp_path / out)
        assert refused.value.exit_code == 5
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here")
def test_a_place_that_nobody_can_write_is_an_output_error() -> None:
    with pytest.raises(OutputError, match="/proc/nope"):
        build(DIGITS, out=Path("/proc/nope"))


def test_a_refused_build_leaves_no_file_even_where_it_made_the_parents(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        build(Spec("digits", 1e6), out=tmp_path / "a" / "b" / "out")
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir() or path.name not in "ab"]


# --- when it fails on the way


@pytest.mark.parametrize("force", [False, True])
def test_no_space_in_the_middle_leaves_nothing_or_the_old_build(
    force: bool, tmp_path: Path, digits_lt: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    if force:
        shutil.copytree(digits_lt.folder, tmp_path / "out")
    monkeypatch.setattr(shards, "write", third_time(no_space, shards.write))
    with pytest.raises(OutputError, match=r"out: cannot be written \(No space left on device\)"):
        build(Spec("digits", 10), out=tmp_path / "out", force=force)
    assert names(tmp_path) == (["out"] if force else [])
    if force:
        assert content(tmp_path / "out") == content(digits_lt.folder)


@pytest.mark.parametrize("failure", [MemoryError, KeyboardInterrupt, SystemExit, ValueError])
def test_any_exception_in_the_middle_leaves_nothing(
    failure: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise failure

    monkeypatch.setattr(shards, "write", third_time(fail, shards.write))
    with pytest.raises(failure):
        build(DIGITS, out=tmp_path / "out")
    assert names(tmp_path) == []


class Failing:
    """Count system calls of several kinds together; the one at `point` fails with no space."""

    def __init__(self, point: int) -> None:
        self.point, self.calls = point, 0

    def wrap(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            self.calls += 1
            if self.calls == self.point:
                no_space()
            return real(*args, **options)

        return call


def test_a_failing_disk_call_at_any_point_leaves_the_old_build_or_the_new(
    finished: Path, digits_lt: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every flush, rename and mkdir of a --force build fails once, until a build has no more of them."""
    new = Spec("digits", 2, max_per_class=4)
    for point in itertools.count(1):
        failing = Failing(point)
        with monkeypatch.context() as patch, suppress(OutputError):
            for name in ("fsync", "rename", "replace", "mkdir"):
                patch.setattr(os, name, failing.wrap(getattr(os, name)))
            build(new, out=finished, force=True)
        output.resolve(
            finished
        )  # what the next command does first: a failure of tidying up itself leaves it that to do
        assert names(finished.parent) == ["digits"], f"after a failure of call {point}"
        if verify(finished).name == new.name:
            shutil.rmtree(finished)
            shutil.copytree(digits_lt.folder, finished)
        if failing.calls < point:
            break
    assert point > 15


def test_an_old_build_moved_away_by_a_killed_force_is_not_lost(
    finished: Path, digits_lt: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between its two renames, and then the rerun fails: the old build must still be somewhere."""
    finished.rename(finished.parent / ".digits.ltdata-old")
    monkeypatch.setattr(shards, "write", no_space)
    with pytest.raises(OutputError):
        build(Spec("digits", 10), out=finished, force=True)
    assert content(digits_lt.folder) in [content(path) for path in finished.parent.iterdir()]


def test_what_a_killed_force_left_beside_a_finished_build_is_cleaned(finished: Path) -> None:
    """Killed after its second rename, or in the middle: the next build tidies, also when it finds the build whole."""
    for left in (".digits.ltdata-old", ".digits.ltdata-partial"):
        (finished.parent / left).mkdir()
        (finished.parent / left / "manifest.json").write_text("{}")
    assert build(DIGITS, out=finished).reused
    assert names(finished.parent) == ["digits"]


def die(_job: shards.ShardJob, _folder: Path) -> shards.WrittenShard:
    os._exit(9)


def test_a_worker_that_is_killed_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel does it when memory runs out."""
    monkeypatch.setattr(shards, "write", die)
    with pytest.raises(LtdataError):
        build(DIGITS, out=tmp_path / "out", workers=2)
    assert names(tmp_path) == []


# --- signals and rivals


class Slow:
    """A build in a process of its own that waits at its second shard."""

    def __init__(self, out: Path, *options: str) -> None:
        self.go = out.parent.with_name(out.parent.name + "-go")
        reached = out.parent.with_name(out.parent.name + "-reached")
        self.process = subprocess.Popen(
            [sys.executable, "-c", SLOW, reached, self.go, *COMMAND, out, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3000):
            if reached.exists() or self.process.poll() is not None:
                break
            time.sleep(0.01)
        assert reached.exists(), self.process.communicate()
        reached.unlink()

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Callable[..., Slow]]:
    started: list[Slow] = []

    def start(*options: str) -> Slow:
        started.append(Slow(tmp_path / "out", *options))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(
    ("sent", "code", "lines"),
    [(signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 0), (signal.SIGKILL, -signal.SIGKILL, 0)],
)
def test_a_stopped_build_leaves_nothing_final_and_its_rerun_is_byte_equal(
    sent: signal.Signals, code: int, lines: int, slow: Callable[..., Slow], tmp_path: Path, digits_lt: Built
) -> None:
    stopped = slow()
    assert not (tmp_path / "out").exists()
    stopped.process.send_signal(sent)
    returned, out, err = stopped.end()
    assert (returned, out) == (code, "")
    assert len(err.split("\n")) <= lines + 2, err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
    if sent != signal.SIGKILL:
        assert names(tmp_path) == []
    assert not build(DIGITS, out=tmp_path / "out").reused
    assert content(tmp_path / "out") == content(digits_lt.folder)
    assert names(tmp_path) == ["out"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_killed_force_keeps_the_old_build(slow: Callable[..., Slow], tmp_path: Path, digits_lt: Built) -> None:
    build(Spec("digits", 10), out=tmp_path / "out")
    old = content(tmp_path / "out")
    killed = slow("--force")
    killed.process.kill()
    killed.end()
    assert content(tmp_path / "out") == old
    build(DIGITS, out=tmp_path / "out", force=True)
    assert content(tmp_path / "out") == content(digits_lt.folder)
    assert names(tmp_path) == ["out"]


def test_a_second_builder_is_refused_while_the_first_one_writes(
    slow: Callable[..., Slow], tmp_path: Path, digits_lt: Built
) -> None:
    first = slow()
    with pytest.raises(LtdataError, match="another process is writing it") as refused:
        build(DIGITS, out=tmp_path / "out")
    assert refused.value.exit_code == 1
    first.go.touch()
    code, out, err = first.end()
    first.go.unlink()
    assert (code, err) == (0, "")
    assert DIGITS_SHA256 in out
    assert content(tmp_path / "out") == content(digits_lt.folder)
    assert names(tmp_path) == ["out"]


def test_builders_that_start_together_end_with_one_right_build(tmp_path: Path, digits_lt: Built) -> None:
    """Each builds it, finds it finished, or is told in one line that another is writing it."""
    command = [sys.executable, "-m", "ltdata", *COMMAND, tmp_path / "out"]
    rivals = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        for _ in range(3)
    ]
    ends = [(*rival.communicate(timeout=60), rival.returncode) for rival in rivals]
    codes = sorted(code for _, _, code in ends)
    assert codes[0] == 0
    assert set(codes) <= {0, 1}
    assert sum("built" in out for out, _, _ in ends) == 1
    for out, err, code in ends:
        assert (DIGITS_SHA256 in out, err.count("\n")) == ((True, 0) if code == 0 else (False, 1))
    assert content(tmp_path / "out") == content(digits_lt.folder)
    assert names(tmp_path) == ["out"]


def test_all_shards_are_listed_with_their_digest(digits_lt: Built) -> None:
    listed = {shard.path: shard for split in digits_lt.manifest.splits.values() for shard in split.shards}
    for path in digits_lt.folder.rglob("*.tar"):
        shard = listed.pop(path.relative_to(digits_lt.folder).as_posix())
        assert (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) == (shard.bytes, shard.sha256)
    assert listed == {}


@pytest.mark.parametrize("name", [".data.old", ".data.partial", ".data.tmp", ".data"])
def test_neighbours_with_similar_names_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("years of work")
    for _ in range(2):
        build(DIGITS, out=tmp_path / "data")
        assert (tmp_path / name / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("path", ["backup/photos.tar", "train/photos.tar", "photos.tar", "test/test-000000.tar.bak"])
def test_force_does_not_delete_tars_of_others(finished: Path, path: str) -> None:
    (finished / path).parent.mkdir(exist_ok=True)
    (finished / path).write_bytes(b"photos")
    with pytest.raises(UsageError, match="--force would delete"):
        build(DIGITS, out=finished, force=True)
    assert (finished / path).read_bytes() == b"photos"


def test_force_does_not_replace_a_folder_with_a_manifest_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text('{"name": "a web app"}')
    with pytest.raises(UsageError, match="--force would delete"):
        build(DIGITS, out=tmp_path / "app", force=True)
    assert (tmp_path / "app" / "manifest.json").exists()


def test_a_build_inside_a_build_is_refused(finished: Path) -> None:
    with pytest.raises(UsageError, match="inside the build"):
        build(DIGITS, out=finished / "inside")
    assert not (finished / "inside").exists()
