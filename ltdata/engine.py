"""The engine: the processes of this machine, or of a Dask cluster, that write shards.

A shard is a function of what its job carries, so who writes it changes no byte.
"""

import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

from ltdata.errors import LtdataError, UsageError

_ANSWER_S = 10


@dataclass(frozen=True)
class Engine:
    """Hold an executor, None for this process alone, and how many jobs keep it busy."""

    executor: Executor | None
    ahead: int


@contextmanager
def start(count: int = 1, *, scheduler: str | None = None) -> Iterator[Engine]:
    """Start `count` processes here, or go to the Dask cluster whose scheduler listens at an address.

    The workers of a cluster must have ltdata installed and see the output folder, and files that the images come
    from, under the same names.

    Args:
        count: at least 1; 1 works in this process.
        scheduler: such as ``tcp://10.0.0.5:8786``; then `count` has no meaning.

    Raises:
        UsageError: the count is below 1, or Dask is not installed.
        LtdataError: no scheduler with workers answers there.
    """
    if count < 1:
        raise UsageError(f"{count} workers: at least 1 is needed")
    if scheduler is not None:
        with _dask(scheduler) as engine:
            yield engine
    elif count == 1:
        yield Engine(None, 1)
    else:
        with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_leave_interrupts) as pool:
            yield Engine(pool, 2 * count)


@contextmanager
def _dask(address: str) -> Iterator[Engine]:
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise UsageError("Dask is not installed; install it with: pip install 'ltdata[distributed]'") from None
    try:
        client = Client(address, timeout=_ANSWER_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise LtdataError(
            f"{address}: no Dask scheduler answers ({error}); start one, or leave out --engine"
        ) from error
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise LtdataError(f"{address}: the Dask scheduler has no workers; start one with: dask worker {address}")
        try:
            yield Engine(client.get_executor(), 2 * threads)
        except KilledWorker as error:
            raise LtdataError(f"{address}: a Dask worker died ({error}); look at its log, then run again") from error


def _leave_interrupts() -> None:
    """Let the main process alone answer Ctrl-C, which a terminal sends to every process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
