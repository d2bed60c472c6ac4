"""Where a training runs: CUDA where there is a device, else the CPU; the same numbers at every run on one machine."""

import os
import platform
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier

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


def single_threads(workers: int) -> ThreadPoolExecutor:
    """Start threads that each compute alone: torch's own threads below them would wait for each other.

    The number that a thread sets becomes that of threads to come, so all start at once, and then it is set back. A
    thread takes the common number at its first look, so each looks before it sets its own.
    """
    before, ready = torch.get_num_threads(), Barrier(workers)

    def alone() -> None:
        torch.get_num_threads()
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(workers)
    for started in [pool.submit(alone) for _ in range(workers)]:
        started.result()
    torch.set_num_threads(before)
    return pool


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free on a device, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    with suppress(OSError, ValueError):  # only Linux has it
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 4 << 30


def device_name(device: torch.device) -> str:
    """Name a device: the GPU's model, or the processor with its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = ""
    with suppress(OSError):  # only Linux has it
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() + ", " for line in lines if line.startswith("model name")), "")
    threads = torch.get_num_threads()
    model = "".join(letter for letter in model if letter.isprintable())  # a hypervisor may say anything
    return f"cpu ({model}{platform.machine()}, {threads} thread{'s' if threads > 1 else ''})"


def computer(device: torch.device) -> str:
    """Name what is known to change a training's bytes beside its recipe, split and seed.

    A virtual machine's processor may be named like another; its vector instructions tell most of them apart.
    """
    vectors = f", {torch.backends.cpu.get_cpu_capability()}" if device.type == "cpu" else ""
    return f"{device_name(device)}{vectors}, torch {torch.__version__}"


def computers(names: Sequence[str]) -> str:
    """Name the computers of all ranks in one line, given that of each.

    >>> computers(["cpu A"]), computers(["cpu A", "cpu A", "cpu B"])
    ('cpu A', '2 x cpu A + 1 x cpu B')
    """
    if len(names) == 1:
        return names[0]
    return " + ".join(f"{count} x {name}" for name, count in Counter(names).items())


def check_computers(named: object) -> None:
    """Raise `ValueError` if what a file names as computers, one after the other, cannot be such lines."""
    lines = named if isinstance(named, list | tuple) else [None]
    if not all(type(line) is str and line and line.isprintable() for line in lines):
        raise ValueError("computed_on: a list of lines that can be shown is needed")
