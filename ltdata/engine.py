"""The engine: the processes of this machine, or of a Dask cluster, that write shards.

A shard is a function of what its job carries, so who writes it changes no byte.
"""

import logging
import os
import re
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process, resource_tracker
from typing import Any, TypeVar

from ltdata import images, signals
from ltdata.errors import LtdataError, UsageError
from ltdata.labels import check_integer
from ltdata.manifest import SCHEMA_VERSION

Job = TypeVar("Job")
Done = TypeVar("Done")
MOST_WORKERS = 61 if os.name == "nt" else 1024  # all are started at once; Windows waits for 61 at most
_ANSWER_S = 10  # that a scheduler has to answer
_LOST_S = 60  # that a cluster may be without workers, which a restart takes


class _Workers(ProcessPoolExecutor):
    """Worker processes that leave Ctrl-C to this one from their first moment, when they still import modules.

    Jobs are taken back by the executor's own thread, as a whole: Python 3.11.7 fails in that thread, with a traceback,
    on a job that is taken back by itself while a worker dies.
    """

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        """Wait for the workers; after an exception, only for what they are at."""
        begun = list((self._processes or {}).values())
        with suppress(RuntimeError):  # of that thread, which no memory was left to start: waited for, it has not begun
            self.shutdown(cancel_futures=kind is not None)
        for process in begun:  # those that an exception overtook before the thread that ends them had begun
            process.kill()
            process.join()

    def submit(self, fn: Callable[..., Done], /, *args: Any, **kwargs: Any) -> Future[Done]:
        """Hand a job out, for which a process may be started."""
        with signals.kept_from_children():  # nor is a process left behind that is half begun
            return super().submit(fn, *args, **kwargs)


@dataclass(frozen=True)
class Engine:
    """Hold an executor, None for this process alone, and how many jobs keep it busy."""

    executor: Executor | None
    ahead: int

    def map(self, work: Callable[[Job], Done], jobs: Iterable[Job]) -> Generator[Done, None, None]:
        """Do small jobs, here or by the workers, and yield what comes of each in their order.

        All are handed out at once; those that have not begun are taken back at the end of the engine.

        Args:
            work: a function of a module, which workers import.
            jobs: what it is called with.
        """
        if self.executor is None:
            yield from map(work, jobs)
            return
        waiting = deque([self.executor.submit(work, job) for job in jobs])
        while waiting:
            yield waiting.popleft().result()


def check_workers(value: object) -> int:
    """Return a number of processes or threads.

    Raises:
        UsageError: it is none, or more than any machine has.
    """
    return check_integer("workers", value, 1, MOST_WORKERS)


@contextmanager
def start(count: int = 1, *, scheduler: str | None = None) -> Iterator[Engine]:
    """Start `count` processes here, or go to the Dask cluster whose scheduler listens at an address.

    The workers of a cluster must have the same ltdata and JPEG encoder installed, and see the output folder, and
    files that the images come from, under the same names.

    Args:
        count: at least 1; 1 works in this process.
        scheduler: such as ``tcp://10.0.0.5:8786``; then `count` has no meaning.

    Raises:
        UsageError: the count is below 1, the address is none, or Dask is not installed.
        LtdataError: a process ended abruptly; no scheduler with such workers answers there, or they are lost.
    """
    check_workers(count)
    if scheduler is not None:
        with _dask(scheduler) as engine:
            yield engine
    elif count == 1:
        yield Engine(None, 1)
    else:
        try:
            if os.name != "nt":
                resource_tracker.ensure_running()  # who removes the semaphores after a kill: it is there before them
            with signals.kept_from_children():  # in whose midst semaphores would have no owner yet
                workers = _Workers(count, mp_context=get_context("spawn"), initializer=_begin)
            with workers as pool:
                for _ in range(count):
                    pool.submit(_come_up)
                yield Engine(pool, 2 * count)
        except BrokenProcessPool as error:
            raise LtdataError(
                "a worker process ended abruptly (out of memory?); run again, with fewer --workers"
            ) from error


@contextmanager
def _dask(address: str) -> Iterator[Engine]:
    place = re.fullmatch(r"(?:(?:tcp|tls|wss?|ucx)://)?\[?([^/\[\]\s]+?)\]?:([0-9]{1,5})", address)
    if not place:
        raise UsageError(f"scheduler {address!r}: its address is such as tcp://10.0.0.5:8786")
    try:
        from distributed import Client, KilledWorker
        from distributed.utils import silence_logging_cmgr
    except ImportError:
        raise UsageError("Dask is not installed; install it with: pip install 'ltdata[distributed]'") from None
    try:
        _greet(address, place[1], int(place[2]))
        client = Client(address, timeout=_ANSWER_S, set_as_default=False)
    except Exception as error:  # a server that is none of Dask's brings forth anything
        reason = str(error) or type(error).__name__
        raise LtdataError(
            f"{address}: no Dask scheduler answers ({reason}); start one, or leave out --engine"
        ) from error
    with silence_logging_cmgr(logging.CRITICAL), client:  # what goes wrong is told in one line
        threads = sum(client.nthreads().values())
        if not threads:
            raise LtdataError(f"{address}: the Dask scheduler has no workers; start one with: dask worker {address}")
        _compare_workers(client, address)
        executor = client.get_executor()
        try:
            with _watched(client, executor):
                yield Engine(executor, 2 * threads)
        except KilledWorker as error:
            raise LtdataError(f"{address}: a Dask worker died ({error}); look at its log, then run again") from error
        except CancelledError as error:
            raise LtdataError(
                f"{address}: the Dask scheduler, or every worker, was lost; start it, then run again"
            ) from error


@contextmanager
def _watched(client: Any, executor: Executor) -> Iterator[None]:
    """Cancel what waits for a cluster that has had no worker for a while: Dask itself waits without end."""
    done = threading.Event()

    def watch() -> None:
        seen = time.monotonic()
        while not done.wait(_LOST_S / 10):
            with suppress(Exception):  # of a lost connection, which Dask mends or ends by itself
                seen = time.monotonic() if client.nthreads() else seen
            if time.monotonic() - seen > _LOST_S:
                executor.shutdown(wait=False)  # Dask's cancels
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join(1)


def _greet(address: str, host: str, port: int) -> None:
    """Fail soon where no scheduler listens: `Client` tries again a refusal, and waits without end for an answer."""
    import asyncio

    from distributed import Security
    from distributed.comm.core import connect

    async def greet() -> None:
        comm = await connect(address, timeout=_ANSWER_S, **Security().get_connection_args("client"))
        await comm.close()

    socket.create_connection((host, port), timeout=_ANSWER_S).close()
    with ThreadPoolExecutor(1) as thread:  # this one may have a running loop, as in a notebook
        thread.submit(asyncio.run, asyncio.wait_for(greet(), _ANSWER_S)).result()


def installed() -> str:
    """Say what the bytes of shards depend on where this is run."""
    return f"ltdata with manifests of version {SCHEMA_VERSION}, {images.encoder()}"


def _compare_workers(client: Any, address: str) -> None:
    """Refuse a cluster whose workers would write other bytes.

    Raises:
        LtdataError: names the first such worker.
    """
    try:
        found = client.run(installed)
    except Exception as error:  # Dask passes on the text of a worker's error, not its class
        raise LtdataError(f"{address}: a Dask worker cannot run ltdata ({error}); install the same there") from error
    for worker, there in found.items():
        if there != installed():
            raise LtdataError(f"{worker}: has {there}; here is {installed()}; install the same there")


def _come_up() -> None:
    """Import what writing a shard takes, while the caller still reads its source."""
    import ltdata.shards  # noqa: F401 - that is all


def _begin() -> None:
    """Let the main process alone answer Ctrl-C, which a terminal sends to every process, and end when it ends.

    Without that, a worker whose main process was killed waits for another job without end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
