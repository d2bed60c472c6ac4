"""Every command in the README is run, and prints what the README shows."""

import doctest
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ace_ref import summary
from ace_ref.report import load_results, markdown
from ltdata import access, reader

REPO = Path(__file__).parent.parent
README = (REPO / "README.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SHELL = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent
MEASURED = re.compile(r"\d[\d,]*\.\d+|\d[\d,]* (?=s at|images/s)|cpu \(.*\)")  # accuracies and speeds
SETTINGS = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
CHANCE = 1.0  # percent, of 100 classes


def commands(block: str) -> list[tuple[str, str]]:
    """List (command, output shown) of a console block."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


SHOWN = [pair for block in CONSOLE for pair in commands(block)]


@pytest.fixture(scope="module")
def session(cifar100_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Run every console command of the README, in order, in one folder; return it and what each printed."""
    folder = tmp_path_factory.mktemp("readme")
    settings = SETTINGS | {"LTDATA_HOME": str(cifar100_dir), "CUDA_VISIBLE_DEVICES": ""}
    printed: dict[str, list[str]] = {}
    for command, _ in SHOWN:
        done = subprocess.run(
            shlex.split(command), cwd=folder, env=settings, capture_output=True, text=True, check=False
        )
        expected = 3 if command.startswith("ltdata diff") else 0  # the two that it compares differ
        assert (done.returncode, done.stderr) == (expected, ""), f"{command}: {done.stderr}"
        printed.setdefault(command, []).append(done.stdout)
    return folder, {f"{command} #{turn}": text for command, texts in printed.items() for turn, text in enumerate(texts)}


def numbered(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Tell the first and second time of one command apart."""
    seen: dict[str, int] = {}
    out = []
    for command, text in pairs:
        out.append((f"{command} #{seen.get(command, 0)}", text))
        seen[command] = seen.get(command, 0) + 1
    return out


@pytest.mark.parametrize(("command", "shown"), numbered(SHOWN), ids=[command for command, _ in numbered(SHOWN)])
def test_commands_print_what_the_readme_shows(session, command, shown):
    printed = session[1][command]
    if "ace_ref" in command or "ltdata evaluate" in command:  # a training's numbers differ between machines
        printed, shown = (MEASURED.sub("#", text) for text in (printed, shown))
        printed, shown = (re.sub(r" +", " ", text) for text in (printed, shown))
    assert printed == shown


def test_evaluating_the_checkpoint_gives_the_table_of_the_training(session):
    trained, evaluated = (
        next(text for command, text in session[1].items() if module in command).splitlines()[1:6]
        for module in ("ace_ref.train", "ace_ref.evaluate")
    )
    assert evaluated == trained


def test_ten_epochs_of_the_tiny_recipe_on_cifar100_lt_are_clearly_above_chance_in_every_group(session):
    result = json.loads((session[0] / "runs" / "cifar100-lt-exp-if100-tiny-ace-seed0" / "result.json").read_text())
    last = result["accuracy"]["last"]
    assert result["experts"] == [100, 75, 32]
    assert last["overall"] > 12 * CHANCE, last
    assert last["many"] > 20 * CHANCE, last
    assert last["medium"] > 10 * CHANCE, last
    assert last["few"] > 3 * CHANCE, last


def test_the_published_recipe_is_what_trains_without_naming_one(session, tmp_path):
    command = "python -m ace_ref.train --shards cifar100-lt-exp-if100"
    assert any(command in block.splitlines() for block in SHELL)
    process = subprocess.Popen(shlex.split(command), cwd=session[0], env=SETTINGS, stderr=subprocess.PIPE, text=True)
    run = session[0] / "runs" / "cifar100-lt-exp-if100-cifar-ace-seed0"
    deadline = time.monotonic() + 60
    while not run.is_dir() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert run.is_dir()
    time.sleep(8)
    assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)  # hours on a CPU: seen to start, then stopped
    process.communicate(timeout=60)
    assert process.returncode == 130
    shutil.rmtree(run, ignore_errors=True)  # a checkpoint, if a step was over


@pytest.mark.parametrize("folder", ["results/cpu", "results/cpu/ablation"])
def test_the_tables_of_results_are_made_from_the_records(folder):
    (shown,) = re.findall(rf"<!-- table: {folder} -->\n(.*?)\n<!-- end -->", README, re.DOTALL)
    rows = summary.summarise(load_results(tuple(sorted((REPO / folder).glob("*.json")))))
    assert shown == markdown(rows)


def test_python_examples_are_true():
    examples = "\n".join(re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
    assert ">>>" in examples
    test = doctest.DocTestParser().get_doctest(examples, {}, "README", "README.md", 0)
    runner = doctest.DocTestRunner()
    runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("script", ["png_storage.py", "build_stages.py"])
def test_benchmarks_named_in_the_readme_run(session, cifar100_dir, script):
    assert f"benchmarks/{script}" in README
    place = {"png_storage.py": session[0] / "cifar100-lt-exp-if100", "build_stages.py": cifar100_dir}[script]
    done = subprocess.run(
        [sys.executable, REPO / "benchmarks" / script, place], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Python" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("script", "options"),
    [("photo_shards.py", (".", "--images", "20", "--rounds", "1")), ("inat18_scale.py", ())],
)
def test_benchmarks_of_scale_run(script, options, tmp_path):
    assert f"benchmarks/{script}" in README
    Image.new("RGB", (8, 8)).save(tmp_path / "a.JPEG")
    done = subprocess.run(
        [sys.executable, REPO / "benchmarks" / script, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=SETTINGS | {"HF_DATASETS_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "ltdata" in done.stdout
    assert "Python" in done.stdout.splitlines()[-1]


def test_a_built_folder_becomes_arrays_as_shown(session, monkeypatch):
    blocks = re.findall(r"^```py\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(session[0])
    names = {"Path": Path, "reader": reader, "access": access, "np": np}
    exec("\n".join(blocks), names)  # noqa: S102 - the README's own lines
    assert (names["inputs"].shape, names["targets"].shape) == ((95, 32, 32, 3), (95,))
    assert names["state"]["epoch"] == 2
    assert (names["pixels"].shape, names["labels"].shape) == ((10_847, 32, 32, 3), (10_847,))
    assert (names["batch"].shape, names["few"].shape) == ((512, 32, 32, 3), (305, 32, 32, 3))


def test_make_demo_goes_from_images_to_a_table_of_results(tmp_path):
    stamp = Path(sys.prefix) / ".installed"
    command = ["make", "-C", REPO, "demo", f"VENV={sys.prefix}", f"OUT={tmp_path}", "-o", stamp]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for words in ("489 train, 300 test", "exponential fit", "all experts together", "expert 3 (4 targets)"):
        assert words in done.stdout
    accuracy = json.loads((tmp_path / "ace" / "result.json").read_text())["accuracy"]["last"]
    assert min(accuracy[name] for name in ("many", "medium", "few")) > 80, accuracy  # chance is 10


def test_ci_runs_the_readmes_test_command_and_that_runs_every_check():
    assert "make test " in SHELL[0]
    ci = [line for line in (REPO / ".ci" / "run").read_text().splitlines() if not line.startswith("#")]
    assert ci[-1] == "make test"
    plan = subprocess.run(["make", "-n", "-C", REPO, "test"], capture_output=True, text=True, check=True).stdout
    for tool in ("ruff check", "ruff format --check", "mypy", "pytest"):
        assert tool in plan


def test_pip_install_gives_the_ltdata_command_without_torch(tmp_path):
    assert "pip install . " in SHELL[2]
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "-c", REPO / "constraints.txt", REPO]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if "Failed to establish" in done.stderr or "name resolution" in done.stderr:
        pytest.skip("pip reaches no package index here")
    assert done.returncode == 0, done.stderr
    check = "import importlib.util as u; assert u.find_spec('torch') is None; import ltdata; print(ltdata.__file__)"
    done = subprocess.run([python, "-c", check], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert str(tmp_path) in done.stdout  # the installed package, not the checkout
    stats = [tmp_path / "env" / "bin" / "ltdata", "stats", "cifar100-lt-exp-if100", "--json"]
    done = subprocess.run(stats, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["images"] == 10_847


def test_the_tree_in_the_readme_is_the_tree():
    drawn = README.split("## The tree")[1]
    for package in ("ltdata", "ace_ref"):
        for module in (REPO / package).glob("*.py"):
            assert module.name.startswith("__") or f" {module.name}" in drawn, module
