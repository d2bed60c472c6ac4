"""Training and evaluating, through the commands: repeatable, complete, and clear about what is wrong."""

import io
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import torch

from ace_ref import evaluate, report, train
from ace_ref.checkpoint import load_checkpoint
from ltdata import console
from ltdata.build import Built
from ltdata.groups import GROUP_NAMES


@dataclass(frozen=True)
class Ended:
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


def ace(module: str, *options: object) -> Ended:
    """Run `python -m ace_ref.<module>` in this process: importing torch for each would take most of the time."""
    command = {"train": train.command, "evaluate": evaluate.command, "report": report.command}[module]
    out, err = io.StringIO(), io.StringIO()
    arguments = [f"ace_ref.{module}", *map(str, options)]
    quietly = mock.patch.object(sys, "argv", arguments)
    with redirect_stdout(out), redirect_stderr(err), quietly, pytest.raises(SystemExit) as end:
        console.run(command, name=arguments[0])
    return Ended(end.value.code, out.getvalue(), err.getvalue())


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a running command has made its output folder."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def fails(done: Ended, code: int, *words: str) -> None:
    """Check that a command ended with one line that says why, and no traceback."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


@pytest.fixture(scope="module")
def run(digits_lt: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs on digits; read only."""
    out = tmp_path_factory.mktemp("runs") / "first"
    done = ace("train", "--shards", digits_lt.folder, "--recipe", "tiny", "--epochs", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no bar in a pipe
    (out / "stdout.txt").write_text(done.stdout)
    return out


def test_result_holds_what_a_paper_needs(run, digits_lt):
    result = json.loads((run / "result.json").read_text())
    manifest = digits_lt.manifest
    assert result["method"] == "ace"
    assert result["split"] == {
        "name": "digits-lt-exp-if20",
        "content_sha256": manifest.content_sha256,
        "samples_sha256": manifest.splits["train"].samples_sha256,
        "verified_source": True,
        "source": "digits",
        "imbalance_factor": 20.0,
        "group_rule": "strict",
    }
    assert result["recipe"]["epochs"] == 2
    assert len(result["recipe"]["mean"]) == 3
    assert result["recipe_name"] == "tiny"
    last, best = result["accuracy"]["last"], result["accuracy"]["best_on_test"]
    assert best == {"epoch": 2} | {name: last[name] for name in ("overall", *GROUP_NAMES, "class_balanced")}
    assert [record["epoch"] for record in result["history"]] == [1, 2]
    assert result["history"][-1]["loss"] == result["train_loss"]["last"]
    assert [expert["targets"] for expert in result["accuracy"]["last"]["experts"]] == result["experts"]
    assert result["seed"] == 0
    assert result["parameters"] == 187_724
    assert result["flops_per_image"] > 0
    assert result["seconds"] > 0
    assert {"python", "torch", "numpy", "ltdata"} <= set(result["versions"])


def test_the_same_command_gives_the_same_numbers_and_the_same_weights(run, digits_lt, tmp_path):
    out = tmp_path / "again"
    options = ("--shards", digits_lt.folder, "--recipe", "tiny", "--epochs", "2", "--out", out)
    command = [sys.executable, "-m", "ace_ref.train", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, again = (json.loads((folder / "result.json").read_text()) for folder in (run, out))
    for timing in ("seconds", "images_per_second"):
        del first[timing], again[timing]
    assert again == first
    assert (out / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_another_seed_gives_other_weights(run, digits_lt, tmp_path):
    done = ace(
        "train",
        "--shards",
        digits_lt.folder,
        "--recipe",
        "tiny",
        "--epochs",
        1,
        "--seed",
        1,
        "--out",
        tmp_path,
        "--json",
    )
    assert json.loads(done.stdout)["seed"] == 1
    weights = [load_checkpoint(folder / "model.safetensors").model.state_dict() for folder in (run, tmp_path)]
    assert not torch.equal(weights[0]["trunk.0.weight"], weights[1]["trunk.0.weight"])


def test_evaluate_gives_the_table_of_the_training_again(run, digits_lt):
    done = ace("evaluate", "--shards", digits_lt.folder, "--checkpoint", run / "model.safetensors")
    assert done.returncode == 0, done.stderr
    trained = (run / "stdout.txt").read_text().splitlines()
    assert done.stdout.splitlines()[1:] == trained[1:6]


def test_the_accuracies_of_the_groups_add_up_to_the_overall_one(run, digits_lt):
    done = ace("evaluate", "--shards", digits_lt.folder, "--checkpoint", run / "model.safetensors", "--json")
    accuracy = json.loads(done.stdout)["accuracy"]
    groups = digits_lt.manifest.groups
    weighted = sum(accuracy[name] * (groups == g).sum() for g, name in enumerate(GROUP_NAMES)) / 10
    assert weighted == pytest.approx(accuracy["overall"])  # 30 test images in every class
    assert accuracy["class_balanced"] == pytest.approx(accuracy["overall"])


def test_it_learns_digits_in_every_group(digits_lt, tmp_path):
    options = ("--shards", digits_lt.folder, "--recipe", "tiny", "--epochs", 12, "--out", tmp_path / "run")
    done = ace("train", *options, "--json")
    last = json.loads(done.stdout)["accuracy"]["last"]
    assert all(last[name] > 50 for name in ("overall", *GROUP_NAMES)), last  # chance is 10


def test_the_other_readings_train_too(digits_lt, tmp_path):
    readings = (
        "complementary=paper", "planner=groups", "scale=squared-norm", "mixup_alpha=0.3", "lr=0.01", "ema_decay=0.9",
        "label_smoothing=0.1", "schedule=cosine", "precision=bfloat16",
    )  # fmt: skip
    overrides = [option for reading in readings for option in ("--set", reading)]
    options = ("--shards", digits_lt.folder, "--recipe", "tiny", "--epochs", 1, "--out", tmp_path / "r", *overrides)
    done = ace("train", *options, "--json")
    result = json.loads(done.stdout)
    assert result["experts"] == [10, 8, 4]
    assert (result["recipe"]["complementary"], result["recipe"]["mixup_alpha"]) == ("paper", 0.3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recipe", "large"], ["large", "tiny"]),
        (["--set", "lr=fast"], ["lr"]),
        (["--set", "batch_size=500"], ["batch_size 500", "489"]),
        (["--set", "planner=cuts", "--set", "cuts=[10]"], ["cuts"]),
        (["--epochs", "0"], ["epochs"]),
        (["--seed", "-1"], ["seed"]),
        (["--seeds", "1,one"], ["1,one", "0,1,2"]),
        (["--seeds", "1,01"], ["1,01"]),
        (["--seeds", "0,1", "--seed", "2"], ["--seed 2"]),
        (["--resume", "--force"], ["--resume --force"]),
        (["--method", "paco"], ["paco", "ace-plus"]),
        (["--val-per-class", "7"], ["val_per_class 7", "class 9", "7 images"]),
        (["--set", "planner=groups", "--set", "experts=4"], ["experts 4", "3 groups"]),
        (["--method", "ride", "--set", "experts=7"], ["experts 7", "1 to 6"]),
        (["--method", "ace-plus", "--set", "experts=2"], ["adjustment", "2 numbers"]),
    ],
)
def test_values_that_cannot_be_meant_are_refused(digits_lt, tmp_path, options, words):
    fails(ace("train", "--shards", digits_lt.folder, "--recipe", "tiny", "--out", tmp_path / "r", *options), 2, *words)
    assert not list((tmp_path / "r").glob("*.json"))


def test_a_training_on_nothing_or_on_broken_shards_is_refused_before_it_starts(digits_lt, tmp_path):
    fails(ace("train", "--shards", tmp_path / "none", "--recipe", "tiny", "--out", tmp_path / "r"), 4, "none")
    broken = shutil.copytree(digits_lt.folder, tmp_path / "broken")
    shard = broken / "train" / "few-000000.tar"
    data = bytearray(shard.read_bytes())
    data[1500] ^= 1
    shard.write_bytes(data)
    fails(ace("train", "--shards", broken, "--recipe", "tiny", "--out", tmp_path / "r"), 3, "few-000000.tar")
    shard.write_bytes(data[:-1024])
    fails(ace("train", "--shards", broken, "--recipe", "tiny", "--out", tmp_path / "r"), 3, "few-000000.tar")
    shard.unlink()
    fails(ace("train", "--shards", broken, "--recipe", "tiny", "--out", tmp_path / "r"), 3, "few-000000.tar")


def test_another_trainings_result_is_not_written_over(run, digits_lt, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    before = (copy / "result.json").read_bytes()
    done = ace("train", "--shards", digits_lt.folder, "--recipe", "tiny", "--epochs", 3, "--out", copy)
    fails(done, 2, "another training", "--force")
    assert (copy / "result.json").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_step(digits_lt, tmp_path):
    done = ace("train", "--shards", digits_lt.folder, "--recipe", "tiny", "--set", "lr=1e30", "--out", tmp_path / "r")
    fails(done, 1, "expert", "epoch 1", "step", "learning rate 1e+30")
    assert not (tmp_path / "r" / "result.json").exists()


def test_an_output_that_cannot_be_written_is_refused_before_any_work(digits_lt, tmp_path):
    (tmp_path / "file").write_text("")
    done = ace("train", "--shards", digits_lt.folder, "--recipe", "tiny", "--out", tmp_path / "file" / "r")
    fails(done, 5, "file")


def test_evaluate_refuses_what_is_not_its_checkpoint_or_its_split(run, digits_lt, cifar100_lt, tmp_path):
    model = run / "model.safetensors"
    fails(ace("evaluate", "--shards", digits_lt.folder, "--checkpoint", tmp_path / "none"), 4, "none")
    fails(ace("evaluate", "--shards", cifar100_lt.folder, "--checkpoint", model), 3, "digits-lt-exp-if20")
    for name, data in (("cut", model.read_bytes()[:-100]), ("empty", b""), ("text", b"weights")):
        (tmp_path / name).write_bytes(data)
        fails(ace("evaluate", "--shards", digits_lt.folder, "--checkpoint", tmp_path / name), 3, name)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_ends_after_its_step_with_a_checkpoint(digits_lt, tmp_path, number, code):
    out = tmp_path / "r"
    command = [sys.executable, "-m", "ace_ref.train", "--shards", digits_lt.folder, "--recipe", "tiny", "--out", out]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(out / "log.jsonl", process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert re.fullmatch(r"ace_ref.train: error: stopped after step \d+ of epoch \d+; .*--resume goes on\n", errors)
    assert [path.suffix for path in (out / "checkpoints").iterdir()] in (
        [".safetensors"],
        [".safetensors", ".safetensors"],
    )
    assert not list(tmp_path.glob(".*"))
    fails(ace("train", "--shards", digits_lt.folder, "--recipe", "tiny", "--out", out), 2, "unfinished", "--resume")


def test_a_terminal_sees_a_bar_with_loss_learning_rates_and_time_left(digits_lt, tmp_path):
    script = shutil.which("script")
    if script is None:
        pytest.skip("there is no script(1) to give the command a terminal")
    command = (
        f"{sys.executable} -m ace_ref.train --shards {digits_lt.folder} --recipe tiny --epochs 2 --out {tmp_path}/r"
    )
    done = subprocess.run(
        [script, "-qec", f"stty cols 160 rows 40; {command}", "/dev/null"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"epoch 2/2: +\d+%.*\d+/960 \[.*<.*images/s, loss [\d.]+/[\d.]+/[\d.]+ lr 0.01/", done.stdout)


def test_a_set_too_large_for_the_memory_is_one_line(digits_lt, tmp_path):
    done = ace(
        "train", "--shards", digits_lt.folder, "--recipe", "tiny", "--out", tmp_path / "r",
        "--set", "crop_padding_px=200000",
    )  # fmt: skip
    fails(done, 1, "memory", "batch_size")
    assert not (tmp_path / "r").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_it_trains_on_cuda(digits_lt, tmp_path):
    done = ace(
        "train", "--shards", digits_lt.folder, "--recipe", "tiny", "--epochs", 2, "--out", tmp_path / "r", "--json",
        "--device", "cuda",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_model_that_is_not_of_this_training_is_not_written_over(digits_lt, tmp_path):
    (tmp_path / "model.safetensors").write_text("weights of somebody")
    fails(ace("train", "--shards", digits_lt.folder, "--recipe", "tiny", "--out", tmp_path), 2, "another training")
    assert (tmp_path / "model.safetensors").read_text() == "weights of somebody"


def test_results_are_not_written_into_a_build(digits_lt):
    for place in (digits_lt.folder / "runs", digits_lt.folder):
        before = sorted(digits_lt.folder.iterdir())
        fails(ace("train", "--shards", digits_lt.folder, "--recipe", "tiny", "--out", place), 2, "inside the build")
        assert sorted(digits_lt.folder.iterdir()) == before


def test_a_finished_training_whose_model_is_damaged_is_mended_from_its_checkpoint(run, digits_lt, tmp_path):
    out = shutil.copytree(run, tmp_path / "r")
    whole = (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").write_bytes(whole[:100])
    options = ("--shards", digits_lt.folder, "--recipe", "tiny", "--epochs", 2, "--out", out)
    fails(ace("train", *options), 3, "model.safetensors", "--resume")
    assert ace("train", *options, "--resume").returncode == 0
    assert (out / "model.safetensors").read_bytes() == whole
    done = ace("train", *options)
    assert (done.returncode, "finished" in done.stderr) == (0, True)


def test_a_checkpoint_is_not_evaluated_on_other_images_under_the_same_rows(run, digits_lt, tmp_path):
    """content_sha256 says which images, not what they look like; the rows' digests do."""
    changed = shutil.copytree(digits_lt.folder, tmp_path / "changed")
    text = (changed / "manifest.json").read_text()
    rows = digits_lt.manifest.splits["train"].samples_sha256
    (changed / "manifest.json").write_text(text.replace(rows, "0" * 64))
    done = ace("evaluate", "--shards", changed, "--checkpoint", run / "model.safetensors")
    fails(done, 3, "other images")


def test_evaluate_takes_another_group_rule(run, digits_lt):
    options = ("--shards", digits_lt.folder, "--checkpoint", run / "model.safetensors", "--groups", "oltr", "--json")
    result = json.loads(ace("evaluate", *options).stdout)
    assert (result["split"]["group_rule"], result["seed"], result["recipe"]["epochs"]) == ("oltr", 0, 2)


def test_without_torch_the_commands_say_how_to_get_it(tmp_path):
    """`pip install .` installs ace_ref too, which needs the train extra."""
    code = "import importlib.util, runpy, sys; importlib.util.find_spec = lambda *_: None; sys.argv = ['-m']; "
    command = [sys.executable, "-c", code + "runpy.run_module('ace_ref.train')"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ace_ref: error: torch is not installed; install it with: pip install 'ltdata[train]'\n"


@pytest.mark.parametrize("method", ["ce", "balanced-softmax", "ldam-drw", "ride", "ace-plus"])
def test_every_method_learns_digits(digits_lt, tmp_path, method):
    options = ("--shards", digits_lt.folder, "--recipe", "tiny", "--epochs", 10, "--out", tmp_path / "r", "--json")
    result = json.loads(ace("train", "--method", method, *options).stdout)
    assert (result["method"], result["experts"]) == (method, [10] * (3 if method in ("ride", "ace-plus") else 1))
    assert result["accuracy"]["last"]["overall"] > 60  # chance is 10


def test_several_seeds_give_a_folder_each_and_their_mean(digits_lt, run, tmp_path):
    options = ("--shards", digits_lt.folder, "--recipe", "tiny", "--epochs", 2, "--out", tmp_path)
    done = ace("train", *options, "--seeds", "0,3")
    assert done.returncode == 0, done.stderr
    results = [json.loads((tmp_path / f"seed{seed}" / "result.json").read_text()) for seed in (0, 3)]
    overall = [result["accuracy"]["last"]["overall"] for result in results]
    assert overall[0] == json.loads((run / "result.json").read_text())["accuracy"]["last"]["overall"]
    mean, deviation = statistics.mean(overall), statistics.stdev(overall)
    assert re.search(rf"^ace +2 +{mean:.1f} ± {deviation:.1f} ", done.stdout, re.MULTILINE)


def test_held_out_images_are_neither_trained_on_nor_counted(digits_lt, tmp_path):
    options = ("--shards", digits_lt.folder, "--recipe", "tiny", "--epochs", 1, "--out", tmp_path, "--json")
    result = json.loads(ace("train", *options, "--val-per-class", 2).stdout)
    assert result["accuracy"]["val"]["overall"] * 20 % 100 == 0  # 2 images in each of 10 classes
    assert result["recipe"]["val_per_class"] == 2
    assert "val" in result["history"][-1]


def test_the_log_has_a_line_and_events_per_epoch(run):
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    assert records[1]["test"]["overall"] == json.loads((run / "result.json").read_text())["accuracy"]["last"]["overall"]
    (events,) = (run / "events").iterdir()
    data = events.read_bytes()
    assert all(tag in data for tag in (b"loss/expert3", b"lr/expert1", b"test/overall"))


def test_the_last_two_checkpoints_are_kept_and_can_be_evaluated(run, digits_lt):
    paths = sorted((run / "checkpoints").iterdir())
    assert [path.name for path in paths] == ["00001-000000.safetensors", "00002-000000.safetensors"]
    last, final = (
        ace("evaluate", "--shards", digits_lt.folder, "--checkpoint", path)
        for path in (paths[1], run / "model.safetensors")
    )
    assert last.stdout == final.stdout
    assert last.returncode == 0


def test_a_stopped_command_goes_on_to_the_same_bytes(digits_lt, run, tmp_path):
    out = tmp_path / "r"
    options = ["--shards", digits_lt.folder, "--recipe", "tiny", "--epochs", "2", "--out", out]
    command = [sys.executable, "-m", "ace_ref.train", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(out / "log.jsonl", process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert ace("train", *options, "--resume").returncode == 0
    assert (out / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    again = ace("train", *options, "--resume", "--json")  # finished: nothing is trained
    assert json.loads(again.stdout) == json.loads((out / "result.json").read_text())


def test_resume_refuses_another_training_and_says_what_differs(digits_lt, cifar100_lt, tmp_path):
    out = tmp_path / "r"
    options = ["--recipe", "tiny", "--epochs", "2", "--out", out]
    here = ["--shards", digits_lt.folder]
    assert ace("train", *here, *options).returncode == 0
    (out / "result.json").unlink()
    (out / "model.safetensors").unlink()
    fails(ace("train", *here, *options, "--resume", "--set", "lr=0.05"), 3, "lr 0.1, not 0.05")
    fails(ace("train", *here, *options, "--resume", "--seed", "1"), 3, "seed 0, not 1")
    fails(ace("train", *here, *options, "--resume", "--method", "ce"), 3, "method 'ace', not 'ce'")
    other = ["--shards", cifar100_lt.folder, *options, "--resume", "--set", "batch_size=32"]
    fails(ace("train", *other), 3, "digits-lt-exp-if20", "cifar100-lt-exp-if100")
    newest = out / "checkpoints" / "00002-000000.safetensors"
    data = newest.read_bytes()
    newest.write_bytes(data.replace(b"ace_ref-2", b"ace_ref-1"))
    (out / "checkpoints" / "00001-000000.safetensors").unlink()
    fails_all = ace("train", *here, *options, "--resume")
    assert fails_all.returncode == 3
    assert "format 'ace_ref-1'" in fails_all.stderr


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(digits_lt, run, tmp_path, damage):
    out = shutil.copytree(run, tmp_path / "r")
    (out / "result.json").unlink()
    newest = out / "checkpoints" / "00002-000000.safetensors"
    data = newest.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    newest.write_bytes({"cut": data[:-7], "flipped": flipped, "emptied": b""}[damage])
    done = ace("train", "--shards", digits_lt.folder, "--recipe", "tiny", "--epochs", 2, "--out", out, "--resume")
    assert done.returncode == 0
    assert "00002-000000.safetensors" in done.stderr
    assert "the one before" in done.stderr
    assert (out / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(digits_lt, tmp_path):
    options = ("--shards", digits_lt.folder, "--recipe", "tiny", "--epochs", 4, "--out", tmp_path / "r")
    broken = mock.patch("ace_ref.optimizer.schedule", side_effect=lambda _, epoch: 1.0 if epoch < 2 else 1e30)
    with broken:
        fails(ace("train", *options), 1, "expert", "epoch 3", "step", "learning rate 1e+29")
    assert [path.name for path in sorted((tmp_path / "r" / "checkpoints").iterdir())] == [
        "00001-000000.safetensors",
        "00002-000000.safetensors",
    ]
    assert ace("train", *options, "--resume").returncode == 0


def test_the_report_shows_methods_beside_each_other_and_draws_them(run, tmp_path):
    other = json.loads((run / "result.json").read_text())
    other["seed"] = 1
    other["accuracy"]["last"] |= {"overall": 50.0, "few": None}
    changed = json.loads(json.dumps(other))
    changed["recipe"]["thresholds"] = [0.4]
    for name, result in (("other", other), ("changed", changed)):
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    done = ace(
        "report", run / "result.json", tmp_path / "other.json", tmp_path / "changed.json", "--out", tmp_path / "p"
    )
    assert done.returncode == 0, done.stderr
    first = json.loads((run / "result.json").read_text())["accuracy"]["last"]["overall"]
    mean, deviation = (first + 50) / 2, abs(first - 50) / 2**0.5
    assert re.search(rf"^ace +2 +{mean:.1f} ± {deviation:.1f} ", done.stdout, re.MULTILINE)
    assert re.search(r"^ace, thresholds=\(0.4,\) +1 +50.0 .* n/a$", done.stdout, re.MULTILINE)
    pictures = sorted((tmp_path / "p").iterdir())
    assert [path.name.split("-")[-1] for path in pictures] == ["curves.png", "groups.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    fails(ace("report", tmp_path / "none.json"), 4, "none.json")
    (tmp_path / "text.json").write_text("[]")
    fails(ace("report", tmp_path / "text.json"), 3, "text.json", "not a result")
    for place, value in (("seed", "0"), ("schema_version", 9), ("history", [])):
        (tmp_path / "odd.json").write_text(json.dumps(other | {place: value}))
        fails(ace("report", tmp_path / "odd.json"), 3, "odd.json", "not a result")
    for value in (500.0, float("nan"), "x"):
        odd = other | {"accuracy": {"last": other["accuracy"]["last"] | {"many": value}}}
        (tmp_path / "odd.json").write_text(json.dumps(odd))
        fails(ace("report", tmp_path / "odd.json"), 3, "odd.json", "not a result")
    (tmp_path / "odd.json").write_text(json.dumps(other | {"seed": 0}))
    fails(ace("report", run / "result.json", tmp_path / "odd.json"), 3, "two results for seed 0")
    rows = json.loads(ace("report", run / "result.json", "--json").stdout)
    assert rows[0]["accuracy"]["overall"] == {"mean": pytest.approx(first), "deviation": None}
    assert "| ace | 1 |" in ace("report", run / "result.json", "--markdown").stdout
