"""Where a training runs: CUDA where there is a device, else the CPU; the same numbers at every run on one machine."""

import os
import platform
from contextlib import suppress
from pathlib import Path

import torch

from ltdata.errors import LtdataError


def choose_device(name: str, local: int = 0) -> torch.device:
    """Return the device called `name`; ``auto`` is CUDA where there is one, else the CPU.

    Args:
        name: ``auto``, ``cpu`` or ``cuda``.
        local: which of this machine's CUDA devices.

    Raises:
        LtdataError: the device is not there.
    """
    cuda = torch.cuda.is_available()
    if name == "cuda" and not cuda:
        raise LtdataError("--device cuda: this torch sees no CUDA device; leave --device out to train on the CPU")
    if not cuda or name == "cpu":
        return torch.device("cpu")
    if local >= torch.cuda.device_count():
        raise LtdataError(f"process {local} of this machine has no CUDA device of its own; start fewer processes")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def make_deterministic() -> None:
    """Ask torch for the same numbers at every run on one machine."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # float32 as on the CPU


def device_name(device: torch.device) -> str:
    """Name a device: the GPU's model, or the processor with its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = ""
    with suppress(OSError):  # only Linux has it
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() + ", " for line in lines if line.startswith("model name")), "")
    return f"cpu ({model}{platform.machine()}, {torch.get_num_threads()} threads)"
