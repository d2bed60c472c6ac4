"""Several processes compute what one does; one that fails ends the job with its error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ace_ref.checkpoint import load_checkpoint
from ltdata.build import Built

LIMIT_S = 240  # a hang is a failure


def torchrun(processes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a module or script in several processes on this machine, gloo between them."""
    command = [
        sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes,
        *arguments,
    ]  # fmt: skip
    settings = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        list(map(str, command)), env=settings, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )


@pytest.fixture(scope="module")
def options(digits_lt: Built) -> list[object]:
    """One short epoch with everything that ranks could do differently: mixup, empty experts, the code form's norm."""
    settings = ("batch_size=64", "mixup_alpha=0.5", "plain_epochs=0", "sync_batchnorm=true", "lr=0.01")
    overrides = [option for setting in settings for option in ("--set", setting)]
    return ["--shards", digits_lt.folder, "--recipe", "tiny", "--epochs", "1", "--quiet", *overrides]


def test_two_ranks_with_half_the_batch_each_give_the_result_of_one(options, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    done = torchrun(1, "-m", "ace_ref.train", *options, "--out", one)
    assert done.returncode == 0, done.stderr
    done = torchrun(2, "-m", "ace_ref.train", *options, "--out", two)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((out / "result.json").read_text()) for out in (one, two))
    assert (first["processes"], second["processes"]) == (1, 2)
    assert second["train_loss"]["last"] == pytest.approx(first["train_loss"]["last"], rel=1e-3)
    states = [load_checkpoint(out / "model.safetensors").model.state_dict() for out in (one, two)]
    for name, expected in states[0].items():
        assert torch.allclose(states[1][name].float(), expected.float(), rtol=1e-2, atol=1e-3), name
    assert second["accuracy"]["last"]["overall"] == pytest.approx(first["accuracy"]["last"]["overall"], abs=1.0)


def test_the_result_of_several_ranks_is_that_of_the_model_they_wrote(options, digits_lt, tmp_path):
    """Batch norm sees other images on each rank; what is evaluated and what is saved must be one network."""
    own = [*options, "--set", "sync_batchnorm=false", "--set", "ema_decay=0.5", "--set", "lr=0.1"]
    done = torchrun(2, "-m", "ace_ref.train", *own, "--out", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "ace_ref.evaluate", "--shards", digits_lt.folder, "--json", "--checkpoint"]
    alone = subprocess.run([*command, tmp_path / "r" / "model.safetensors"], capture_output=True, text=True, check=True)
    result = json.loads((tmp_path / "r" / "result.json").read_text())
    assert json.loads(alone.stdout)["accuracy"] == result["accuracy"]["last"]


def test_a_rank_that_fails_ends_the_job_with_its_error_and_no_hang(options, tmp_path):
    script = tmp_path / "fails.py"
    script.write_text(
        "import os\n"
        "from unittest import mock\n"
        "from ace_ref import train, trainer\n"
        "from ltdata import console\n"
        "from ltdata.errors import LtdataError\n"
        "step, seen = trainer.take_step, []\n"
        "def take_step(*values):\n"
        "    seen.append(1)\n"
        "    if os.environ['RANK'] == '1' and len(seen) == 3:\n"
        "        raise LtdataError('the device of rank 1 is gone')\n"
        "    return step(*values)\n"
        "trainer.take_step = take_step\n"
        "console.run(train.command, name='ace_ref.train')\n"
    )
    done = torchrun(2, script, *options, "--out", tmp_path / "out")
    assert done.returncode != 0
    assert "ace_ref.train: error: the device of rank 1 is gone" in done.stderr
    assert not (tmp_path / "out" / "result.json").exists()


def test_a_batch_that_cannot_be_split_is_refused(options, tmp_path):
    done = torchrun(2, "-m", "ace_ref.train", *options, "--set", "batch_size=33", "--out", tmp_path / "out")
    assert done.returncode != 0
    assert "batch_size 33: cannot be split evenly over 2 processes" in done.stderr


def test_a_process_number_that_makes_no_sense_is_one_line(options, tmp_path):
    settings = os.environ | {"RANK": "3", "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "ace_ref.train", *map(str, options), "--out", str(Path(tmp_path) / "out")]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "torchrun" in done.stderr
