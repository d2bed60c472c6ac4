"""The examples run, and show what they say."""

import re
import runpy
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ltdata import catalog
from ltdata.build import build
from ltdata.errors import MismatchError
from ltdata.spec import Spec

EXAMPLES = Path(__file__).parent.parent / "examples"
NUMBER = r"-?\d+\.\d"


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: str, *options: object) -> str:
    """Run an example in this process, which can import torchvision, and return what it prints."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, options)])
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    return capsys.readouterr().out


def test_every_example_is_tested_and_in_the_readme():
    tests, readme = Path(__file__).read_text(), (EXAMPLES.parent / "README.md").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.name}"' in tests
        assert f"examples/{path.name}" in readme


def test_a_plain_loop_balances_by_sampler_and_by_loss(tmp_path, monkeypatch, capsys):
    folder = build(Spec("digits", 100), out=tmp_path / "digits").folder
    out = run(monkeypatch, capsys, "balanced_training.py", folder, "--epochs", 8)
    few = {
        re.sub(rf"( +({NUMBER}|n/a))+$", "", line): [float(cell) for cell in re.findall(NUMBER, line)][3]
        for line in out.splitlines()[2:]
    }
    assert set(few) == {
        f"{sampler}{loss}" for sampler in ("instance-balanced", "class-balanced") for loss in ("", ", balanced softmax")
    }
    assert few["class-balanced"] > few["instance-balanced"] + 5
    assert few["instance-balanced, balanced softmax"] > few["instance-balanced"] + 5


def test_torchvisions_data_set_is_trained_on_and_evaluated(
    cifar100_dir: Path, torchvision: ModuleType, tmp_path: Path, monkeypatch, capsys
) -> None:
    cifar = torchvision.datasets.cifar
    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)  # these pickles have the web's content, not its md5
    file = tmp_path / "predictions.npz"
    out = run(monkeypatch, capsys, "torchvision_split.py", cifar100_dir, "--epochs", 1, "--out", file)
    assert out.splitlines()[-1].startswith(f"{file}: ltdata evaluate")
    with np.load(file) as found:
        assert found["logits"].shape == (10_000, 100)
        assert np.bincount(found["labels"]).tolist() == [100] * 100
        overall = 100 * (found["logits"].argmax(axis=1) == found["labels"]).mean()
    assert overall > 4  # an epoch of a small network; chance is 1
    out = run(monkeypatch, capsys, "evaluate_predictions.py", file)
    assert f"{overall:.1f}" in out
    assert "few      30 classes,  3,000 images" in out


def test_predictions_without_logits_are_evaluated_too(tmp_path, monkeypatch, capsys):
    labels = catalog.find("cifar100-lt-exp-if100", rows=True).manifest.samples["test"].labels
    np.savez(tmp_path / "theirs.npz", predictions=np.where(labels < 35, labels, 0), epoch=5)
    out = run(monkeypatch, capsys, "evaluate_predictions.py", tmp_path / "theirs.npz", "--rule", "mislas")
    figures = out.splitlines()[2]
    assert re.findall(rf"{NUMBER}|n/a", figures)[:4] == ["35.0", "97.2", "0.0", "0.0"]
    assert "rule mislas" in out
    np.savez(tmp_path / "other.npz", predictions=labels, labels=labels[::-1])
    with pytest.raises(MismatchError, match=r"labels\[0\] is"):
        run(monkeypatch, capsys, "evaluate_predictions.py", tmp_path / "other.npz")
