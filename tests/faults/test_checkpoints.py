"""Checkpoints that are damaged, forged or of another run: refused, and the one before goes on to the same bytes."""

import errno
import json
import os
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from photos import contents
from safetensors.torch import load_file, save

from ace_ref import checkpoint as checkpoints
from ace_ref import loading, run_folder, state
from ace_ref.loading import Memory
from ace_ref.state import Training
from faults.breaks import Break
from faults.effort import WHOLE, thin, tried
from faults.trainings import copied, fails, options, record, run, same, small
from ltdata.build import Built

_CHECKPOINT, _FOLDER = "ace_ref/checkpoint.py", "ace_ref/run_folder.py"
BREAKS = (
    Break(_CHECKPOINT, 'if header.pop("sha256") != _digest(header, tensors):', 'if not header.pop("sha256"):', "bit"),
    Break(_CHECKPOINT, "if type(seed) is not int or not recipe.mean or not all", "if not all", "forged"),
    Break(
        _CHECKPOINT,
        "if not (type(self.epoch) is int and",
        "if False and not (type(self.epoch) is int and",
        "same_bytes",
    ),
    Break(_CHECKPOINT, "if not bool(found[name].isfinite().all()):", "if False:", "forged"),
    Break(_CHECKPOINT, "        if there != here:\n", "        if False:\n", "same_bytes"),
    Break(_FOLDER, "    if differing:\n", "    if False:\n", "own_goes_on"),
    Break(_FOLDER, "        if damage and not (resume and unfinished):\n", "        if False:\n", "gone"),
    Break(_FOLDER, "        if damage:\n", "        if False:\n", "gone"),
    Break(_FOLDER, "if not path.is_file():", "if False:", "without_a_wait"),
    Break(_FOLDER, "            commit(path, aside)\n", "            pass\n", "newer"),
    Break("ace_ref/summary.py", "        for use in (_check, *uses):\n            use(result)\n", "", "result"),
)

NEWEST, OLDER = "00002-000000.safetensors", "00001-000000.safetensors"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def whole(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training: two epochs, a checkpoint of each. Read only."""
    out = tmp_path_factory.mktemp("whole") / "r"
    assert run(options(built, out)).code == 0
    return out


@pytest.fixture
def begun(whole: Path, tmp_path: Path) -> Path:
    """The same, stopped before its result was written."""
    out = copied(whole, tmp_path / "r")
    (out / "result.json").unlink()
    (out / "model.safetensors").unlink()
    return out


# --- damage of every place: the loop that goes on from a folder


@pytest.fixture(scope="module")
def training(built: Built, whole: Path) -> Training:
    recipe = checkpoints.load_checkpoint(whole / "checkpoints" / OLDER).recipe
    images = loading.load_split(built.folder, built.manifest, "train", recipe, Memory(torch.device("cpu")))
    return state.begin(recipe, built.manifest, images)


class Folder:
    """The checkpoints of a training, of which the newest is written anew for each case."""

    def __init__(self, training: Training, whole: Path, place: Path) -> None:
        self.training, self.place = training, copied(whole, place)
        self.path = self.place / "checkpoints" / NEWEST
        self.data = self.path.read_bytes()
        self.older, self.newest = (load_file(whole / "checkpoints" / name) for name in (OLDER, NEWEST))

    def falls_back(self, damaged: bytes) -> bool:
        """Write a damaged checkpoint, go on, and say whether that was from the one before."""
        self.path.write_bytes(damaged)
        self.training.epoch = -1
        refused = run_folder.go_on(self.training, self.place)
        here = self.training.progress()
        assert here.step == 0
        tensors = self.training.model.state_dict() | here.tensors
        expected = self.older if refused else self.newest
        assert self.training.epoch == (1 if refused else 2)
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(values, expected[name]) for name, values in tensors.items())
        assert all(str(path) in reason and "\n" not in reason for path, reason in refused.items())
        return bool(refused)


@pytest.fixture(scope="module")
def folder(training: Training, whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(training, whole, tmp_path_factory.mktemp("folder") / "r")


def test_a_checkpoint_cut_anywhere_is_refused_for_the_one_before(folder):
    size = len(folder.data)
    lengths = sorted(
        {*range(0, 40, 3), *np.linspace(0, 8192, 60, dtype=int), *np.linspace(0, size - 1, 120, dtype=int)}
    )
    for length in thin([int(length) for length in lengths], to=12):
        assert folder.falls_back(folder.data[:length]), length
        tried()
    assert not folder.falls_back(folder.data)
    for more in (b"\0", b"more"):
        assert folder.falls_back(folder.data + more)
        tried()


def test_a_bit_flipped_anywhere_is_refused_for_the_one_before(folder):
    """But for bits of the spaces that pad the header: there JSON may take another blank, and nothing has changed."""
    (header,) = struct.unpack_from("<Q", folder.data)
    rng = np.random.default_rng(0)
    places = [*range(8), *np.linspace(8, 8 + header - 1, 200, dtype=int)]
    places += rng.integers(8 + header, len(folder.data), 120).tolist()
    for place in thin([int(place) for place in places], to=24):
        flipped = bytearray(folder.data)
        flipped[place] ^= 1 << int(rng.integers(8))
        if folder.falls_back(bytes(flipped)):
            tried()
        else:
            assert folder.data[place] == ord(" "), place


# --- every kind of damage: the command, to its end


def resealed(data: bytes, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object]) -> bytes:
    """Change header and tensors of a checkpoint, and give it the digest that it then has: a forgery."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["ace_ref"])
    tensors = {name: values.clone() for name, values in _load(data).items()}
    change(header, tensors)
    header.pop("sha256", None)
    header["sha256"] = checkpoints._digest(header, tensors)
    return save(tensors, metadata={"ace_ref": json.dumps(header)})


def _load(data: bytes) -> dict[str, torch.Tensor]:
    from safetensors.torch import load

    return load(data)


def progress(**values: object) -> Callable[[bytes], bytes]:
    """Change fields of the progress."""
    return lambda data: resealed(data, lambda header, _: header["progress"].update(values))


def header(**values: object) -> Callable[[bytes], bytes]:
    """Change fields of the header."""
    return lambda data: resealed(data, lambda fields, _: fields.update(values))


def tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor] | None) -> Callable[[bytes], bytes]:
    """Change a tensor, or leave it out."""

    def changed(_header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        found = tensors.pop(name, torch.zeros(3))
        if change is not None:
            tensors[name] = change(found)

    return lambda data: resealed(data, changed)


def without(name: str, inside: str | None = None) -> Callable[[bytes], bytes]:
    """Leave a field of the header out."""

    def changed(fields: dict[str, Any], _tensors: dict[str, torch.Tensor]) -> None:
        del (fields[inside] if inside else fields)[name]

    return lambda data: resealed(data, changed)


def recipe(**values: object) -> Callable[[bytes], bytes]:
    """Change values of the recipe."""
    return lambda data: resealed(data, lambda fields, _: fields["recipe"].update(values))


def nan(values: torch.Tensor) -> torch.Tensor:
    values.view(-1)[0] = float("nan")
    return values


def raw(metadata: Mapping[str, str] | None) -> Callable[[bytes], bytes]:
    """Give the tensors other metadata."""
    return lambda data: save(_load(data), metadata=metadata)


WEIGHT, MOMENTUM = "experts.1.classifier.linear.weight", "momentum:experts.1.classifier.linear.weight"
HISTORY = [{"epoch": 1, "loss": [1.0] * 3, "lr": [1.0] * 3, "seconds": 1}]
DAMAGED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {  # a word of the reason, and what becomes of the bytes
    "emptied": ("not a whole", lambda _: b""),
    "cut": ("not a whole", lambda data: data[:-1]),
    "text": ("not a whole", lambda _: b"weights of somebody"),
    "zeros": ("not a whole", lambda data: bytes(len(data))),
    "a header of 2^62 bytes": ("not a whole", lambda data: struct.pack("<Q", 1 << 62) + data[8:]),
    "a header of 2^64 - 1 bytes": ("not a whole", lambda data: b"\xff" * 8 + data[8:]),
    "a header of 90 MB": ("not a whole", lambda data: struct.pack("<Q", 90_000_000) + data[8:]),
    "a flipped weight": ("digest", lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]),
    "no metadata": ("no 'ace_ref'", raw(None)),
    "other metadata": ("not a whole", raw({"ace_ref": "[]"})),
    "deep metadata": ("not a whole", raw({"ace_ref": "[" * 100_000})),
    "metadata that is null": ("not a whole", raw({"ace_ref": "null"})),
    "another format": ("format 'ace_ref-1'", header(format="ace_ref-1")),
    "a format that comes": ("format 'ace_ref-3'", header(format="ace_ref-3")),
    "no digest": ("no 'sha256'", lambda data: data.replace(b'sha256\\": \\"', b'sha255\\": \\"')),
    "no progress": ("weights only", without("progress")),
    "no recipe": ("no 'recipe'", without("recipe")),
    "no split": ("no 'split'", without("split")),
    "no targets": ("no 'targets'", without("targets")),
    "no epoch": ("history", without("epoch", "progress")),
    "a progress that is a list": ("not a whole", header(progress=[1, 2])),
    "a field too many": ("lucky", progress(lucky=7)),
    "a seed of text": ("seed", header(seed="0")),
    "a seed beyond all": ("seed", header(seed=1e308)),
    "a split of one word": ("not a whole", header(split="small")),
    "a split without a digest": ("no 'samples_sha256'", without("samples_sha256", "split")),
    "targets of one expert": ("tensor experts.1", header(targets=[[1, 1, 1]])),
    "targets of 9 experts": ("experts 9", header(targets=[[1, 1, 1]] * 9)),
    "flat targets": ("not a whole", header(targets=[1, 0, 1])),
    "targets of text": ("not a whole", header(targets="all")),
    "epoch -1": ("epoch -1", progress(epoch=-1)),
    "epoch 1e308": ("epoch 1e+308", progress(epoch=1e308)),
    "epoch of text": ("epoch '2'", progress(epoch="2")),
    "epoch true": ("epoch True", progress(epoch=True)),
    "epoch null": ("epoch None", progress(epoch=None)),
    "an epoch too far": ("epoch 3", progress(epoch=3, history=[HISTORY[0] | {"epoch": n} for n in (1, 2, 3)])),
    "step -1": ("step -1", progress(step=-1)),
    "step 2 after the end": ("step 2", progress(step=2)),
    "a step too far": ("step 4", progress(epoch=1, step=4, history=HISTORY)),
    "step 0.5": ("step 0.5", progress(step=0.5)),
    "seconds NaN": ("seconds nan", progress(seconds=float("nan"))),
    "seconds of text": ("seconds 'long'", progress(seconds="long")),
    "seconds below 0": ("seconds -1", progress(seconds=-1)),
    "a loss sum of text": ("loss_sum", progress(loss_sum=["a", "b", "c"])),
    "a loss sum that is infinite": ("loss_sum", progress(loss_sum=[1.0, float("inf"), 1.0])),
    "a loss sum of two": ("loss_sum", progress(loss_sum=[1.0, 1.0])),
    "a computer that paints": ("computed_on", progress(computed_on=["\x1b[31mcpu"])),
    "a computer without a name": ("computed_on", progress(computed_on=[""])),
    "a computer of text": ("computed_on", progress(computed_on="cpu")),
    "a computer of a number": ("computed_on", progress(computed_on=[2])),
    "no history": ("history", progress(history=[])),
    "a history of numbers": ("history", progress(history=[1, 2])),
    "a history out of order": ("history", progress(history=[{"epoch": 2, "loss": [1.0]}, {"epoch": 1, "loss": [1.0]}])),
    "a history without losses": ("history", progress(history=[{"epoch": 1}, {"epoch": 2}])),
    "a weight missing": (f"tensor {WEIGHT}: none", tensor(WEIGHT, None)),
    "a tensor too many": ("tensor extra", tensor("extra", lambda values: values)),
    "a weight of another shape": (f"tensor {WEIGHT}", tensor(WEIGHT, lambda values: values[:1].clone())),
    "a weight of another type": (f"tensor {WEIGHT}", tensor(WEIGHT, lambda values: values.double())),
    "a weight of whole numbers": (f"tensor {WEIGHT}", tensor(WEIGHT, lambda values: values.long())),
    "a weight of bfloat16": (f"tensor {WEIGHT}", tensor(WEIGHT, lambda values: values.bfloat16())),
    "a weight that is NaN": (f"tensor {WEIGHT}: a number is not finite", tensor(WEIGHT, nan)),
    "no momentum of one weight": (f"tensor {MOMENTUM}: none", tensor(MOMENTUM, None)),
    "momentum of another shape": (f"tensor {MOMENTUM}", tensor(MOMENTUM, lambda values: values[:1].clone())),
    "momentum of another type": (f"tensor {MOMENTUM}", tensor(MOMENTUM, lambda values: values.double())),
    "momentum that is NaN": (f"tensor {MOMENTUM}: a number is not finite", tensor(MOMENTUM, nan)),
    "momentum of none": ("tensor momentum:nobody", tensor("momentum:nobody", lambda values: values)),
    "an average that is not asked for": ("tensor trained:x", tensor("trained:x", lambda values: values)),
    "a recipe with a word too many": ("no value is called", recipe(lucky=7)),
    "a recipe of another type": ("epochs", recipe(epochs="two")),
    "a recipe that cannot be": ("lr", recipe(lr=1e308)),
    "another seed": ("seed 5, not 0", header(seed=5)),
    "another learning rate": ("lr 0.25, not 0.05", recipe(lr=0.25)),
    "another method": ("method 'ride', not 'ace'", recipe(method="ride")),
    "another length": ("epochs 9, not 2", recipe(epochs=9)),
    "another average": ("ema_decay 0.5, not 0.0", recipe(ema_decay=0.5)),
    "means that are another's": ("mean", recipe(mean=[0.1, 0.2, 0.3])),
    "no means": ("mean", recipe(mean=[], std=[])),
    "another split": (
        "content_sha256 '0', not",
        header(split={"name": "small-natural-test3", "content_sha256": "0", "samples_sha256": "0"}),
    ),
}  # fmt: skip


FEW = ["a header of 2^62 bytes", "epoch -1", "a weight of another type", "another seed"]


@pytest.mark.parametrize("name", list(DAMAGED) if WHOLE else FEW)
def test_whatever_became_of_a_checkpoint_the_one_before_goes_on_to_the_same_bytes(built, whole, begun, name):
    word, change = DAMAGED[name]
    path = begun / "checkpoints" / NEWEST
    damaged = change(path.read_bytes())
    path.write_bytes(damaged)
    goes_on(run(options(built, begun, "--resume")), begun, whole, word)
    assert path.with_name(f"{NEWEST}.refused").read_bytes() == damaged
    tried()


def goes_on(done: Any, out: Path, whole: Path, word: str) -> None:
    """Check that a training said in one line what it refused, went on from the checkpoint before, and ended alike."""
    assert done.code == 0, done
    assert done.stderr.count("\n") == 1, done
    assert done.stderr.startswith(f"ace_ref.train: {out / 'checkpoints' / NEWEST}: "), done
    assert word in done.stderr, done
    assert f"; set aside as {NEWEST}.refused, going on from the one before" in done.stderr, done
    same(out, whole)


@pytest.mark.parametrize("name", list(DAMAGED) if WHOLE else ["cut", "a seed of text", "a weight that is NaN"])
def test_a_damaged_or_forged_model_is_not_evaluated(built, whole, tmp_path, name):
    """One that is whole, and merely of another training, is: that it says so is what it is for."""
    word, change = DAMAGED[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(change((whole / "checkpoints" / NEWEST).read_bytes()))
    done = run(["--checkpoint", path, "--shards", built.folder], module="evaluate")
    if done.code == 0:
        assert name.startswith(("another ", "no momentum", "momentum", "means", "no progress")) or name in (
            "step 2 after the end", "a step too far", "an epoch too far", "a loss sum of two",
            "an average that is not asked for",
        )  # fmt: skip
        return
    fails(done, 3, str(path), *([] if name == "another split" else [word]))
    tried()


class Hostile:
    """A pickle that leaves a trace when it is read."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.canary),))


@pytest.mark.parametrize("old", thin([False, True], to=1))
def test_a_pickle_in_a_checkpoints_place_is_refused_and_never_read(built, whole, begun, tmp_path, old):
    path, canary = begun / "checkpoints" / NEWEST, tmp_path / "canary"
    torch.save({"model": Hostile(canary)}, path, _use_new_zipfile_serialization=not old)
    fails(run(["--checkpoint", path, "--shards", built.folder], module="evaluate"), 3, NEWEST, "not a whole")
    goes_on(run(options(built, begun, "--resume")), begun, whole, "not a whole")
    assert not canary.exists()
    torch.load(path.with_name(f"{NEWEST}.refused"), weights_only=False)
    assert canary.exists()  # it could have been hit
    tried()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing.safetensors")


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def _link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _full_folder(path: Path) -> None:
    path.mkdir()
    (path / "file").write_text("")


PLACED = [Path.mkdir, _full_folder, _link_to_nothing, _link_to_itself]
PLACED += [_fifo, _link_to_a_device] if os.name == "posix" else []


@pytest.mark.parametrize("make", thin(PLACED, to=1))
def test_what_is_no_file_is_refused_as_a_checkpoint_without_a_wait(built, whole, begun, make):
    path = begun / "checkpoints" / NEWEST
    path.unlink()
    make(path)
    done = run(["--checkpoint", path, "--shards", built.folder], module="evaluate")
    fails(done, 4, NEWEST, "give the file model.safetensors")
    goes_on(run(options(built, begun, "--resume")), begun, whole, "is no file")
    assert path.with_name(f"{NEWEST}.refused").is_symlink() or path.with_name(f"{NEWEST}.refused").exists()
    tried()


def test_a_checkpoint_that_cannot_be_read_is_refused_for_the_one_before(built, whole, begun):
    """An I/O error of the disk under it."""
    read = checkpoints.safe_open

    def spoiled(path: Path, **named: Any) -> Any:
        if Path(path).name == NEWEST:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path, **named)

    with mock.patch.object(checkpoints, "safe_open", spoiled):
        done = run(options(built, begun, "--resume"))
    goes_on(done, begun, whole, os.strerror(errno.EIO))
    tried()


def test_a_link_to_a_good_checkpoint_is_one(built, whole, begun):
    path = begun / "checkpoints" / NEWEST
    path.rename(begun.parent / "elsewhere")
    path.symlink_to(begun.parent / "elsewhere")
    done = run(options(built, begun, "--resume"))
    assert (done.code, done.stderr) == (0, "")
    same(begun, whole)
    tried()


# --- of another run, by a run of its own

OTHERS = {
    "seed 3, not 0": ["--seed", "3"],
    "method 'ce', not 'ace'": ["--method", "ce"],
    "backbone 'resnet20', not 'resnet8'": ["--set", "backbone=resnet20"],
    "precision 'bfloat16', not 'float32'": ["--set", "precision=bfloat16"],
    "ema_decay 0.9, not 0.0": ["--set", "ema_decay=0.9"],
    "val_per_class 1, not 0": ["--val-per-class", "1"],
    "name 'small-natural-test1', not 'small-natural-test3'": [],
}


@pytest.mark.parametrize("words", thin(list(OTHERS), to=1))
def test_a_newer_checkpoint_of_another_run_is_set_aside_and_its_own_goes_on(built, whole, begun, tmp_path, words):
    other = small(tmp_path / "other", test_per_class=1) if "name" in words else built
    assert run(options(other, tmp_path / "o", *OTHERS[words])).code == 0
    path = begun / "checkpoints" / NEWEST
    path.write_bytes((tmp_path / "o" / "checkpoints" / NEWEST).read_bytes())
    goes_on(run(options(built, begun, "--resume")), begun, whole, words)
    tried()


@pytest.mark.parametrize("words", thin(list(OTHERS), to=1))
def test_a_folder_of_another_run_is_left_as_it_is(built, tmp_path, words):
    other = small(tmp_path / "other", test_per_class=1) if "name" in words else built
    out = tmp_path / "o"
    assert run(options(other, out, *OTHERS[words])).code == 0
    (out / "result.json").unlink()
    (out / "model.safetensors").unlink()
    before = contents(out)
    done = run(options(built, out, "--resume"))
    fails(
        done, 3, NEWEST, words, OLDER, "there is no other to go on from; choose another --out, or --force trains anew"
    )
    assert contents(out) == before
    tried()


@pytest.mark.parametrize(
    ("first", "second"), thin([("cut", "cut"), ("emptied", "text"), ("epoch -1", "another seed")], to=1)
)
def test_where_no_checkpoint_is_good_the_way_out_is_named_and_nothing_changes(built, whole, begun, first, second):
    for name, damage in ((NEWEST, first), (OLDER, second)):
        path = begun / "checkpoints" / name
        path.write_bytes(DAMAGED[damage][1](path.read_bytes()))
    before = contents(begun)
    done = run(options(built, begun, "--resume"))
    fails(done, 3, NEWEST, DAMAGED[first][0], OLDER, DAMAGED[second][0], "--force trains anew")
    assert contents(begun) == before
    (begun / "checkpoints" / OLDER).unlink()
    fails(run(options(built, begun, "--resume")), 3, NEWEST, "there is no other to go on from", "--force trains anew")
    fails(run(options(built, begun)), 2, "unfinished training", "--resume")
    assert run(options(built, begun, "--force")).code == 0
    same(begun, whole)
    tried()


@pytest.mark.parametrize(
    "newer", thin([["00009-000000"], ["00008-000003", "00009-000000"], [f"0000{n}-000001" for n in (5, 6, 7, 8)]], to=1)
)
def test_newer_ones_that_are_refused_cost_no_good_one_its_place(built, whole, begun, newer):
    for name in newer:
        (begun / "checkpoints" / f"{name}.safetensors").write_bytes(b"somebody's")
    (begun / "checkpoints" / NEWEST).unlink()
    keep, good = run_folder.keep_checkpoint, []

    def watched(folder: Path, training: Training) -> None:
        keep(folder, training)
        for path in run_folder.checkpoints(folder):
            checkpoints.load_checkpoint(path)
            good.append(path.name)

    with mock.patch.object(run_folder, "keep_checkpoint", watched):
        done = run(options(built, begun, "--resume"))
    assert done.code == 0, done
    assert [line.partition(": not")[0].rpartition("/")[2] for line in done.stderr.splitlines()] == [
        f"{name}.safetensors" for name in sorted(newer, reverse=True)
    ]
    assert good == [NEWEST, OLDER]
    same(begun, whole)
    tried()


# --- the model and the result beside it

NOT_ITS, AGAIN = "is not the model of the result beside it", "writing it again from the last checkpoint"


@pytest.mark.parametrize(
    "name", thin(["emptied", "cut", "a flipped weight", "text", "a weight that is NaN", "another seed"], to=1)
)
def test_a_model_that_is_not_the_results_own_is_made_again_from_the_checkpoint(built, whole, tmp_path, name):
    out = copied(whole, tmp_path / "r")
    data = (whole / "checkpoints" / NEWEST).read_bytes()
    (out / "model.safetensors").write_bytes(DAMAGED[name][1](data))
    before = contents(out)
    fails(run(options(built, out)), 3, "model.safetensors", "--resume", "--force")
    assert contents(out) == before
    done = run(options(built, out, "--resume"))
    assert (done.code, done.stderr) == (0, f"ace_ref.train: {out / 'model.safetensors'}: {NOT_ITS}; {AGAIN}\n"), done
    same(out, whole)
    # Without a checkpoint there is nothing to make it from, and it may be somebody's: it stays.
    (out / "model.safetensors").write_bytes(before["model.safetensors"])
    for checkpoint in (out / "checkpoints").iterdir():
        checkpoint.unlink()
    before = contents(out)
    fails(run(options(built, out, "--resume")), 3, "model.safetensors", NOT_ITS, "--force")
    assert contents(out) == before
    tried()


def test_a_model_that_is_gone_is_named_and_made_again(built, whole, tmp_path):
    out = copied(whole, tmp_path / "r")
    (out / "model.safetensors").unlink()
    fails(run(options(built, out)), 3, "model.safetensors: is gone; --resume")
    done = run(options(built, out, "--resume"))
    assert (done.code, done.stderr) == (0, f"ace_ref.train: {out / 'model.safetensors'}: is gone; {AGAIN}\n"), done
    same(out, whole)
    tried()


def fields(**values: object) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps(json.loads(data) | values).encode()


def lacking(name: str) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps({key: value for key, value in json.loads(data).items() if key != name}).encode()


GARBLED: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda _: b"",
    "cut": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "no UTF-8": lambda data: b"\xff" + data,
    "a brace that is none": lambda data: data.replace(b"{", b"[", 1),
    "a list": lambda _: b"[]",
    "null": lambda _: b"null",
    "deep": lambda _: b"[" * 100_000,
    "a number of 5,000 digits": lambda data: data.replace(b'"seed": 0', b'"seed": ' + b"9" * 5000),
    **{f"without {name}": lacking(name) for name in (
        "schema_version", "method", "recipe_name", "recipe", "seed", "split", "accuracy", "history", "parameters",
        "flops_per_image", "seconds", "images_per_second", "device",
    )},
    "another version": fields(schema_version=99),
    "accuracies of text": fields(accuracy={"last": {"overall": "high"}}),
    "seconds of text": fields(seconds="long"),
    "parameters that are none": fields(parameters=None),
    "a recipe of another world": fields(recipe={"lr": 1}),
    "a computer that paints": fields(computed_on=["\x1b[31mcpu", "cpu"]),
    "a computer of text": fields(computed_on="cpu"),
    "a history of numbers": fields(history=[1, 2]),
}  # fmt: skip


@pytest.mark.parametrize("name", thin(list(GARBLED), to=2))
def test_a_garbled_result_is_written_again_from_the_last_checkpoint_and_never_taken_for_one(
    built, whole, tmp_path, name
):
    out = copied(whole, tmp_path / "r")
    path = out / "result.json"
    path.write_bytes(GARBLED[name](path.read_bytes()))
    before = contents(out)
    fails(run(options(built, out)), 3, "result.json", "not a result of ace_ref.train", "--resume", "--force")
    assert contents(out) == before
    done = run(options(built, out, "--resume"))
    assert (done.code, done.stderr.count("\n")) == (0, 1), done
    assert done.stderr.startswith(f"ace_ref.train: {path}: not a result of ace_ref.train ("), done
    assert done.stderr.endswith(f"; {AGAIN}\n"), done
    same(out, whole)
    # Without a checkpoint there is nothing to write it from, and the model may be somebody's: it stays.
    path.write_bytes(before["result.json"])
    for checkpoint in (out / "checkpoints").iterdir():
        checkpoint.unlink()
    before = contents(out)
    fails(run(options(built, out, "--resume")), 3, "result.json", "--force")
    assert contents(out) == before
    tried()


NO_FILES = [(name, make) for name in ("result.json", "model.safetensors", "log.jsonl") for make in (Path.mkdir, _fifo)]


@pytest.mark.skipif(sys.platform == "win32", reason="has no named pipes in folders")
@pytest.mark.parametrize(("name", "make"), thin(NO_FILES, to=1))
def test_a_folder_or_a_pipe_in_a_files_place_is_refused_before_any_work(built, whole, tmp_path, name, make):
    out = copied(whole, tmp_path / "r")
    (out / name).unlink()
    make(out / name)
    for more in ([], ["--resume"], ["--force"]):
        fails(run(options(built, out, *more)), 5, str(out), f"{name} is no regular file")
    assert {path.name for path in (out / "checkpoints").iterdir()} == {OLDER, NEWEST}
    tried()


def test_a_file_in_the_place_of_the_checkpoints_is_refused_before_any_work(built, tmp_path):
    out = tmp_path / "r"
    out.mkdir()
    (out / "checkpoints").write_text("mine")
    for more in ([], ["--resume"], ["--force"]):
        fails(run(options(built, out, *more)), 5, str(out), "checkpoints is no folder")
    assert (out / "checkpoints").read_text() == "mine"
    tried()


@pytest.mark.skipif(not WHOLE, reason="takes long; in make faults")
def test_a_training_with_an_average_falls_back_as_others_do(built, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "r"
    line = options(built, whole, "--set", "ema_decay=0.5", "--set", "mixup_alpha=0.5")
    assert run(line).code == 0
    for name in (f"trained:{WEIGHT}", WEIGHT):
        copied(whole, out)
        (out / "result.json").unlink()
        path = out / "checkpoints" / NEWEST
        path.write_bytes(tensor(name, None)(path.read_bytes()))
        goes_on(run([*line, "--out", str(out), "--resume"]), out, whole, f"tensor {name}: none")
        assert record(out) == record(whole)
        tried()
