"""The benchmarks of the data path run, and their checks hold for ours; no peer is needed for that."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from photos import photo, put

from ltdata.build import Built

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(script: str, *options: object) -> str:
    command = [sys.executable, BENCHMARKS / script, *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_cuda_benchmark_goes_through_every_line_on_a_cpu(digits_lt: Built, tmp_path: Path) -> None:
    out = run("cuda.py", digits_lt.folder, "--dry-run", "--json", tmp_path / "cuda.json")
    assert out.splitlines()[-1].startswith("dry run: every line was passed")
    found = json.loads((tmp_path / "cuda.json").read_text())
    assert found["crop"]["equal_to_plain_torch"]
    assert {"floors", "crop", "resized", "resnet50", "run", "seeds"} <= set(found)


@pytest.mark.parametrize("script", ["cifar_batches.py", "read_shards.py", "sampled_epochs.py"])
def test_tables_of_cifar_check_ours(cifar100_lt: Built, tmp_path: Path, script: str) -> None:
    only = "class-balanced" if script == "sampled_epochs.py" else "ltdata"
    options = ("--only", only, "--rounds", 1, "--seconds", 0.1, "--work", tmp_path, "--json", tmp_path / "table.json")
    out = run(script, cifar100_lt.folder, *options)
    assert "10,752 images exact" in out or "10,847 images exact" in out
    assert json.loads((tmp_path / "table.json").read_text())


def test_the_table_of_indices_checks_ours(tmp_path: Path) -> None:
    options = ("--only", "ltdata", "--rounds", 1, "--seconds", 0.1, "--work", tmp_path)
    assert "437,513 indices, p 0." in run("drawn_indices.py", "inat18", *options)


def test_the_table_of_photographs_checks_ours(tmp_path: Path) -> None:
    files = {f"{number}.jpg": photo(number, size=(320 + number, 330), form="JPEG") for number in range(8)}
    put(tmp_path / "jpegs", files)
    options = ("--images", 8, "--batch", 4, "--only", "ltdata", "--rounds", 1, "--seconds", 0.1)
    out = run("photo_batches.py", tmp_path / "jpegs", *options, "--work", tmp_path / "work")
    assert "8 photographs" in out
