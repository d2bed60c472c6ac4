"""Ranks: fewer shards and images than ranks, ranks that differ, ranks that end: it works or it ends, never a hang."""

import errno
import json
import os
import signal
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from photos import contents

from faults.breaks import Break
from faults.effort import WHOLE, thin, tried
from faults.trainings import Ended, Spoil, complaint, copied, options, ranks, run, served, small
from ltdata import adapters, reader
from ltdata.build import Built
from ltdata.errors import LtdataError
from ltdata.files import exclusive
from ltdata.mixing import ShardSampler
from ltdata.reader import read_images
from ltdata.remote import open_remote, stream
from ltdata.samplers import Sampler

_RANKS, _TRAIN = "ace_ref/ranks.py", "ace_ref/train.py"
BREAKS = (
    Break(_RANKS, "if other.get(name) != first.get(name)", "if False", "differ"),
    Break(_RANKS, "if isinstance(error, LtdataError) or not _of_another(error):", "if True:", "killed"),
    Break(_TRAIN, "if recipe.batch_size % here.world:", "if False:", "divide"),
    Break("ace_ref/evaluate.py", " if len(test) else ()", "", "no_image"),
)

PHOTOS = ["--set", "crop=resized", "--set", "crop_px=8", "--set", "short_side_px=10"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """33 images in 3 shards, and 9 in one."""
    return small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """As `built`, with 3 images to test."""
    return small(tmp_path_factory.mktemp("bare"), test_per_class=1)


def batches(size: int) -> list[str]:
    return ["--set", f"batch_size={size}"]


# --- fewer of something than ranks

WORKS = {
    "4 ranks, more than shards": (4, []),
    "4 ranks, an image each": (4, batches(4)),
    "3 ranks, which cut no power of two": (3, batches(9)),
    "4 ranks, a batch that is the set": (4, batches(32)),
    "4 ranks, 3 images held out": (4, ["--val-per-class", "1"]),
    "4 ranks, synchronised, drawn by class": (4, ["--set", "sync_batchnorm=true", "--set", "sampler=class-balanced"]),
    "2 ranks, mixed up, averaged": (2, ["--set", "mixup_alpha=0.5", "--set", "ema_decay=0.5"]),
    "4 ranks, photographs": (4, PHOTOS),
    "2 ranks, two seeds": (2, ["--seeds", "0,1"]),
}


@pytest.mark.skipif(not WHOLE, reason="takes long; in make faults")
@pytest.mark.parametrize("name", list(WORKS))
def test_ranks_that_outnumber_shards_or_images_train_as_they_should(built, bare, tmp_path, name):
    world, more = WORKS[name]
    done = ranks(world, lambda _: options(bare if name.startswith("4") else built, tmp_path / "r", *more))
    works(done, tmp_path / "r" / ("seed1" if "seeds" in name else ""), bare if name.startswith("4") else built)
    tried()


def test_streams_of_which_a_rank_has_no_image_are_evaluated_too(bare, tmp_path):
    """Streamed from this machine and, in `make faults`, from a server: 4 ranks, 3 images."""
    done = ranks(4, lambda _: options(bare, tmp_path / "r", *PHOTOS, "--resident-gb", "0"))
    works(done, tmp_path / "r", bare)
    tried()
    if WHOLE:
        with served(bare.folder) as url:
            done = ranks(4, lambda _: options(bare, tmp_path / "s", *PHOTOS, "--shards", url))
        works(done, tmp_path / "s", bare)
        tried()


def works(done: Sequence[Ended], out: Path, built: Built) -> None:
    """Check that all ranks ended well, that one said so, and that the result is that of the model."""
    assert not any(each.code for each in done), "\n".join(f"{each.code} {each.stderr}" for each in done)
    assert "all experts together" in done[0].stdout
    assert not any(each.stdout for each in done[1:])
    result = json.loads((out / "result.json").read_text())
    assert result["processes"] == len(done)
    line = ["--checkpoint", out / "model.safetensors", "--shards", built.folder, "--json"]
    assert json.loads(run(line, module="evaluate").stdout)["accuracy"] == result["accuracy"]["last"]


@pytest.mark.parametrize(("world", "size"), thin([(2, 9), (3, 8), (4, 6), (4, 2), (3, 32)], to=1))
def test_batches_that_ranks_do_not_divide_are_refused_by_all_before_training(built, tmp_path, world, size):
    done = ranks(world, lambda _: options(built, tmp_path / "r", *batches(size)))
    for each in done:
        assert each.code == 2
        assert f"batch_size {size}: cannot be split evenly over {world} processes" in complaint(each)
    assert not (tmp_path / "r").exists()
    tried()


@pytest.mark.skipif(not WHOLE, reason="takes long; in make faults")
@pytest.mark.parametrize("world", [2, 4])
def test_a_set_smaller_than_a_batch_is_refused_by_all_before_training(built, tmp_path, world):
    done = ranks(world, lambda _: options(built, tmp_path / "r", *batches(36)))
    for each in done:
        assert each.code in (1, 2)
        assert "36: small-natural-test3 has 33" in complaint(each) or "another rank has ended" in complaint(each)
    assert 2 in [each.code for each in done]
    assert not (tmp_path / "r").exists()
    tried()


# --- ranks that differ

DIFFERENT: dict[str, tuple[list[str], list[str]]] = {
    "seeds": ([], ["--seed", "1"]),
    "lr": (["--set", "lr=0.05"], ["--set", "lr=0.06"]),
    "method": (["--method", "ce"], ["--method", "balanced-softmax"]),
    "epochs": (["--set", "epochs=1"], ["--set", "epochs=2"]),
    "val_per_class": (["--val-per-class", "0"], ["--val-per-class", "1"]),
    "--eval-every": (["--eval-every", "1"], ["--eval-every", "2"]),
    "--resume": ([], ["--resume"]),
    "--force": ([], ["--force"]),
    "--together": (["--seeds", "0,1", "--together", "1"], ["--seeds", "0,1", "--together", "2"]),
    "pixels": ([*PHOTOS, "--resident-gb", "1"], [*PHOTOS, "--resident-gb", "0"]),
}


@pytest.mark.parametrize("name", thin(list(DIFFERENT), to=1))
def test_ranks_with_values_that_differ_are_refused_by_all_before_training(built, tmp_path, name):
    world = 2 + len(name) % 2
    first, other = DIFFERENT[name]
    more = ["--set", "batch_size=6"]
    done = ranks(world, lambda rank: options(built, tmp_path / "r", *more, *(first if rank < world - 1 else other)))
    for each in done:
        assert each.code == 2
        assert f"rank {world - 1} has " in complaint(each)
        assert f"{name} " in complaint(each)
    assert not (tmp_path / "r").exists()
    tried()


@pytest.mark.skipif(not WHOLE, reason="takes long; in make faults")
def test_ranks_with_other_shards_or_another_checkpoint_are_refused_by_all_before_training(built, bare, tmp_path):
    done = ranks(2, lambda rank: options(bare if rank else built, tmp_path / "r"))
    assert [each.code for each in done] == [2, 2]
    assert all("rank 1 has name 'small-natural-test1'" in complaint(each) for each in done)
    tried()
    # A folder each, which only the first writes: then the others have no checkpoint to go on from.
    done = ranks(2, lambda rank: options(built, tmp_path / str(rank)))
    assert [each.code for each in done] == [0, 0]
    (tmp_path / "0" / "result.json").unlink()
    done = ranks(2, lambda rank: options(built, tmp_path / str(rank), "--resume"))
    assert [each.code for each in done] == [2, 2]
    assert all("rank 1 has epoch 0, not 2, weights " in complaint(each) for each in done)
    assert not (tmp_path / "0" / "result.json").exists()
    tried()


# --- ranks that end


def at(step: int, act: Callable[[], object], rank: int) -> None:
    """Let a rank do something before a step, counted from 1."""
    from ace_ref import trainer

    take, taken = trainer.take_step, []

    def spoiled(*values: object) -> object:
        taken.append(1)
        if os.environ["RANK"] == str(rank) and len(taken) == step:
            act()
        return take(*values)  # type: ignore[arg-type]

    trainer.take_step = spoiled  # type: ignore[assignment]


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def refuse() -> None:
    raise LtdataError("the device is gone")


def fill_disk(after: int) -> None:
    """Let a rank's disk be full after some files."""
    from ace_ref import checkpoint
    from ltdata import files

    write, written = checkpoint.write_atomic, []

    def spoiled(path: Path, data: bytes) -> None:
        written.append(1)
        if len(written) > after:
            with files.output_errors(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data)

    checkpoint.write_atomic = spoiled


def kill_in_evaluation(rank: int) -> None:
    from ace_ref import evaluate

    if os.environ["RANK"] == str(rank):
        evaluate.count_correct = lambda *_, **__: send(signal.SIGKILL)  # type: ignore[assignment]


KILL, TERMINATE = partial(send, signal.SIGKILL), partial(send, signal.SIGTERM)
ENDS: dict[str, tuple[int, int, int, Spoil]] = {  # ranks, which one ends, how, and what makes it end
    "killed in the first step": (2, 1, -9, partial(at, 1, KILL, 1)),
    "the first is killed midway": (3, 0, -9, partial(at, 3, KILL, 0)),
    "killed in the last step": (4, 3, -9, partial(at, 8, KILL, 3)),
    "killed in the second epoch": (2, 1, -9, partial(at, 5, KILL, 1)),
    "terminated": (2, 1, 143, partial(at, 2, TERMINATE, 1)),
    "the first is terminated": (2, 0, 143, partial(at, 2, TERMINATE, 0)),
    "an error of one": (3, 1, 1, partial(at, 3, refuse, 1)),
    "killed in an evaluation": (2, 1, -9, partial(kill_in_evaluation, 1)),
    "the first is killed in an evaluation": (2, 0, -9, partial(kill_in_evaluation, 0)),
    "the disk of the first is full": (2, 0, 5, partial(fill_disk, 0)),
    "the disk of the first is full later": (3, 0, 5, partial(fill_disk, 1)),
}


@pytest.mark.parametrize("name", thin(list(ENDS), to=1))
def test_when_a_rank_ends_killed_or_by_itself_so_do_the_others(built, tmp_path, name):
    world, ending, code, spoil = ENDS[name]
    done = ranks(world, lambda _: options(built, tmp_path / "r", *batches(world * 2)), spoil=spoil)
    ended(done, ending, code)
    assert not (tmp_path / "r" / "result.json").exists()
    assert not (tmp_path / "r" / "model.safetensors").exists()
    tried()


def ended(done: Sequence[Ended], ending: int, code: int) -> None:
    """Check that a rank ended so, and that the others say in one line that it did."""
    for rank, each in enumerate(done):
        if rank == ending:
            assert each.code == code, each
            assert code < 0 or complaint(each)
        else:
            assert each.code == 1, each
            assert f"rank {rank} of {len(done)}: another rank has ended, or takes too long" in complaint(each)


def flipped(built: Built, place: Path) -> Path:
    """Copy a build, and flip a bit of a shard."""
    shard = copied(built.folder, place) / "train" / "few-000000.tar"
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    return place


ALONE = ["no shards", "a flipped shard", "no place", "another result there", "somebody writes there"]


@pytest.mark.parametrize("name", thin(ALONE, to=1))
def test_what_one_rank_alone_cannot_read_or_write_ends_all(built, tmp_path, name):
    out, shards, ending = tmp_path / "r", [built.folder, built.folder], 0
    if name == "no shards":
        shards[1], ending, code = tmp_path / "none", 1, 4
    elif name == "a flipped shard":
        shards[1], ending, code = flipped(built, tmp_path / "flipped"), 1, 3
    elif name == "no place":
        (tmp_path / "file").write_text("")
        out, code = tmp_path / "file" / "r", 5
    elif name == "another result there":
        assert run(options(built, out, "--seed", 5)).code == 0
        code = 2
    else:
        code = 1
    before = contents(out) if out.is_dir() else {}

    def launched() -> list[Ended]:
        return ranks(2, lambda rank: [*options(built, out), "--shards", str(shards[rank])])

    if name == "somebody writes there":
        with exclusive(out):
            done = launched()
    else:
        done = launched()
    ended(done, ending, code)
    assert (contents(out) if out.is_dir() else {}) == before
    tried()


def wait_less() -> None:
    """Give up on another rank after three seconds, not ten minutes."""
    from ace_ref import ranks as module

    module._TIMEOUT = timedelta(seconds=3)


def stall() -> None:
    wait_less()
    at(3, partial(send, signal.SIGSTOP), 1)


@pytest.mark.skipif(not WHOLE, reason="waits for a limit; in make faults")
def test_a_rank_that_stands_still_is_given_up(built, tmp_path):
    from faults.trainings import end, started

    with started(3, lambda _: options(built, tmp_path / "r", *batches(9)), stall) as processes:
        done = [end(process, process.place) for process in (processes[0], processes[2])]
    for each in done:
        assert each.code == 1
        assert "another rank has ended, or takes too long" in complaint(each)
    tried()
    # One that never comes up.
    with started(2, lambda _: options(built, tmp_path / "s"), wait_less) as processes:
        processes[1].kill()
        done = [end(processes[0], processes[0].place)]
    assert done[0].code == 1
    assert "another rank has ended, or takes too long" in complaint(done[0])
    tried()


# --- in a loop of one's own: every image once, whatever reads


@pytest.mark.parametrize(("images", "world"), thin([(1, 2), (2, 3), (3, 2), (5, 16), (7, 4), (33, 40)], to=2))
def test_samplers_give_every_image_once_to_ranks_that_outnumber_them(images, world):
    labels = np.arange(images) % 2
    per_rank = [
        list(Sampler(labels, "instance-balanced", seed=3, rank=rank, world_size=world)) for rank in range(world)
    ]
    assert len({len(items) for items in per_rank}) == 1
    order = [item for items in zip(*per_rank, strict=True) for item in items]
    assert sorted(order[:images]) == list(range(images))
    assert len(order) - images < world
    dropped = [
        list(Sampler(labels, "instance-balanced", seed=3, rank=rank, world_size=world, drop_last=True))
        for rank in range(world)
    ]
    assert [item for items in zip(*dropped, strict=True) for item in items] == order[: images - images % world]
    tried()


@pytest.mark.parametrize("world", thin([2, 4, 12], to=1))
def test_ranks_that_outnumber_shards_read_their_part_of_one_order(built, world):
    remote = open_remote(built.folder)
    plans, labels = remote.plans["train"], remote.samples["train"].labels
    assert len(plans) == 2 <= world
    whole = list(ShardSampler(plans, labels, seed=0))
    pixels, _ = read_images(built.folder, built.manifest, "train")
    parts = []
    for rank in range(world):
        sampler = ShardSampler(plans, labels, seed=0, rank=rank, world_size=world)
        read = list(stream(remote, "train", sampler, shards_in_memory=3))
        assert all(np.array_equal(reader.decode(image), pixels[row]) for row, image in read)
        parts.append([row for row, _ in read])
    assert [row for rows in zip(*parts, strict=True) for row in rows][: len(whole)] == whole
    once = [row for r in range(world) for row, _ in stream(remote, "train", np.arange(33)[r::world])]
    assert sorted(once) == list(range(33))
    tried()


@pytest.mark.parametrize("workers", thin([2, 8, 33], to=1))
def test_threads_that_outnumber_shards_read_every_image(built, workers):
    pixels, labels = read_images(built.folder, built.manifest, "train", workers=workers)
    expected = read_images(built.folder, built.manifest, "train", workers=1)
    assert np.array_equal(pixels, expected[0])
    assert np.array_equal(labels, expected[1])
    tried()


@pytest.mark.parametrize(("world", "workers"), thin([(1, 4), (3, 1), (2, 3), (4, 4)], to=1))
def test_webdatasets_workers_that_outnumber_shards_read_every_image_once(built, monkeypatch, world, workers):
    import webdataset

    found = []
    for rank in range(world):
        for worker in range(workers):
            for name, value in (("RANK", rank), ("WORLD_SIZE", world), ("WORKER", worker), ("NUM_WORKERS", workers)):
                monkeypatch.setenv(name, str(value))
            found += [
                sample["__key__"] for sample in adapters.webdataset(built.folder, nodesplitter=webdataset.split_by_node)
            ]
    assert sorted(map(int, found)) == list(range(33))
    tried()
