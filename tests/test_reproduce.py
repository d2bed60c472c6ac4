"""scripts/reproduce.sh: ends its pieces, goes on, and makes the table."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ltdata.build import Built

SCRIPT = Path(__file__).parent.parent / "scripts" / "reproduce.sh"
SETTINGS = os.environ | {
    "PYTHON": sys.executable, "DEVICE": "cpu", "RECIPE": "tiny", "EPOCHS": "1", "SPLITS": "digits-lt-exp-if20",
    "METHODS": "ce ace", "SEEDS": "0", "WORK": "work",
}  # fmt: skip


def reproduce(folder: Path, *arguments: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a folder."""
    if shutil.which("timeout") is None:
        pytest.skip("there is no timeout(1), of the GNU coreutils")
    return subprocess.run(
        [SCRIPT, *arguments], cwd=folder, env=SETTINGS | settings, capture_output=True, text=True, check=False
    )


def test_it_ends_its_piece_goes_on_and_makes_the_table(digits_lt: Built, tmp_path: Path) -> None:
    shards, results = digits_lt.folder.parent, tmp_path / "results"
    done = reproduce(tmp_path, shards, results, PIECE_S="0")
    assert (done.returncode, "comes next" in done.stderr) == (75, True)
    done = reproduce(tmp_path, shards, results)
    assert done.returncode == 0, done.stderr
    found = sorted(path.name for path in results.glob("*.json"))
    assert found == ["digits-lt-exp-if20-ace-seed0.json", "digits-lt-exp-if20-ce-seed0.json"]
    assert json.loads((results / found[0]).read_text())["device"].startswith("cpu")
    table = (results / "table.md").read_text()
    assert "| ace | 1 |" in table
    assert "| ce | 1 |" in table
    assert done.stdout == table


def test_it_says_what_is_missing(tmp_path: Path) -> None:
    done = reproduce(tmp_path, tmp_path)
    assert (done.returncode, "ltdata build digits --imbalance 20" in done.stderr) == (4, True)
    done = reproduce(tmp_path)
    assert done.returncode != 0
    assert "usage" in done.stderr
