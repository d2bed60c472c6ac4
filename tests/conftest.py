"""Fixtures: real CIFAR where it lies beside the checkout, small built sets everywhere, torchvision on a CPU."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ltdata.build import Built, build
from ltdata.spec import Spec

REPO = Path(__file__).parent.parent
# Of root, and of Windows, where chmod takes no right to read away
READS_EVERYTHING = not hasattr(os, "geteuid") or os.geteuid() == 0
# For torch, in processes that tests start too: these networks are small, and threads that wait for each other cost more
os.environ["OMP_NUM_THREADS"] = "1"
SHARED = Path(os.environ.get("LTDATA_SHARED", REPO.parent / "shared"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the README, whose commands take longest: at the end the other worker would have nothing to do."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


def _unpack(out: Path, *options: str) -> Path:
    script = SHARED / "data" / "unpack_cifar.py"
    if not script.exists():
        pytest.skip(f"the real CIFAR images are not here ({script}); set LTDATA_SHARED to the folder that has them")
    subprocess.run([sys.executable, script, out, *options], check=True, capture_output=True)
    return out


@pytest.fixture(scope="session")
def cifar100_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of CIFAR-100: python and binary folders, and the archives of both (not the published digests)."""
    return _unpack(tmp_path_factory.mktemp("cifar100"), "--layout", "both", "--tar")


@pytest.fixture(scope="session")
def cifar10_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-10: every label; of the training images those of the exponential split IF 10, the others black."""
    return _unpack(tmp_path_factory.mktemp("cifar10"), "--dataset", "cifar10", "--layout", "both")


@pytest.fixture(scope="session")
def cifar100_lt(cifar100_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """CIFAR-100-LT IF 100, seed 0, built from the binary folder, which has the published digests. Read only."""
    return build(
        Spec("cifar100", 100),
        data_dir=cifar100_dir / "cifar-100-binary",
        out=tmp_path_factory.mktemp("built") / "cifar100-lt-exp-if100",
    )


@pytest.fixture(scope="session")
def digits_lt(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Digits, IF 20, seed 0: small, real, everywhere. Read only; copy it before you break it."""
    return build(Spec("digits", 20), out=tmp_path_factory.mktemp("built") / "digits-lt-exp-if20")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Let processes that tests start be interrupted: the background job of a shell ignores that, and so would they."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    """Give the torchvision package, as an oracle."""
    from ace_ref.vision import load_torchvision

    return load_torchvision()
