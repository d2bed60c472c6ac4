"""The engine: one process, several, or a Dask cluster write the same bytes; a cluster that fails ends in one line."""

import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photos import Photos, contents, names, photo, put, put_photos

from ltdata import engine, images, shards
from ltdata.build import build
from ltdata.errors import LtdataError, MismatchError, OutputError, SourceMissingError, UsageError
from ltdata.images import Files, Images
from ltdata.spec import Spec
from ltdata.verify import verify

distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'ltdata[distributed]'")
pytestmark = pytest.mark.filterwarnings("default")  # Dask and what it starts have warnings of their own

PER_SHARD = 4
How = Mapping[str, Any]
ALONE: How = {}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A scheduler, and two worker processes of one thread each, on this machine; a job may end one worker, not two."""
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1, "distributed.admin.low-level-log-length": 0}),
        distributed.LocalCluster(
            processes=True, n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs="CRITICAL"
        ) as started,
    ):
        yield started


@pytest.fixture
def scheduler(cluster: Any) -> str:
    with distributed.Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=30)
    return str(cluster.scheduler_address)


def jobs(count: int, made: Callable[[int], Images]) -> list[Callable[[], shards.ShardJob]]:
    """Describe shards of `PER_SHARD` samples."""

    def job(number: int) -> shards.ShardJob:
        rows = np.arange(PER_SHARD) + PER_SHARD * number
        return shards.ShardJob(f"train/many-{number:06d}.tar", rows, rows % 3, made(number))

    return [partial(job, number) for number in range(count)]


def written(folder: Path, made: Callable[[int], Images], *, by: How = ALONE, count: int = 5) -> dict[str, bytes]:
    """Write shards into a new folder, by an engine that is started as `by` says."""
    folder.mkdir()
    with engine.start(**by) as crew:
        reports = shards.write_all(jobs(count, made), folder, executor=crew.executor, ahead=crew.ahead)
    assert [report.shard.path for report in reports] == [f"train/many-{n:06d}.tar" for n in range(count)]
    return contents(folder)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return put_photos(tmp_path / "pets", [f"{pet}/{n}.jpg" for pet in ("cat", "dog") for n in range(30)])


# The same bytes


def test_who_writes_the_shards_changes_no_byte(scheduler: str, tmp_path: Path) -> None:
    files = put(tmp_path / "files", {f"{n}.jpg": photo(n % 3, size=(30 + n, 20)) for n in range(20)})

    def made(number: int) -> Files:
        return Files(files, tuple(f"{PER_SHARD * number + n}.jpg" for n in range(PER_SHARD)), max_side_px=32)

    alone = written(tmp_path / "a", made)
    assert len(alone) == 5
    assert written(tmp_path / "b", made, by={"count": 2}) == alone
    assert written(tmp_path / "c", made, by={"scheduler": scheduler}) == alone


def test_the_command_builds_the_same_folder_with_dask(scheduler: str, pets: Path, tmp_path: Path) -> None:
    build(Spec("folder", 3, val_per_class=2), data_dir=pets, out=tmp_path / "one")
    command = [sys.executable, "-m", "ltdata", "build", "folder", "--imbalance", "3", "--val-per-class", "2"]
    command += ["--data-dir", "pets", "--out", "two", "--engine", "dask", "--scheduler", scheduler]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    verify(tmp_path / "two")


def test_a_source_of_pixels_goes_through_dask_too(scheduler: str, tmp_path: Path) -> None:
    one, two = (
        build(Spec("digits", 20), out=tmp_path / name, scheduler=address)
        for name, address in (("a", None), ("b", scheduler))
    )
    assert contents(one.folder) == contents(two.folder)


def test_dask_leaves_out_the_same_bad_images(scheduler: str, pets: Path, tmp_path: Path) -> None:
    put(pets, {"cat/0.jpg": photo()[:-9], "dog/1.jpg": b""})
    alone, other = (
        build(Spec("folder"), data_dir=pets, out=tmp_path / name, skip_bad=True, **how)
        for name, how in (("a", ALONE), ("b", {"scheduler": scheduler}))
    )
    assert alone.manifest.source["skipped"]["images"] == 2
    assert contents(other.folder) == contents(alone.folder)


def test_a_worker_that_dies_while_it_checks_images_is_reported() -> None:
    with pytest.raises(LtdataError, match="a worker process ended abruptly"), engine.start(2) as crew:
        list(crew.map(os._exit, [9]))


def test_ctrl_c_while_workers_start_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook, where this process lives on: the executor's thread, which would end them, has not begun."""

    def press(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("concurrent.futures.process._ExecutorManagerThread", press)
    before = set(multiprocessing.active_children())
    with pytest.raises(KeyboardInterrupt), engine.start(2):
        pass
    assert set(multiprocessing.active_children()) == before


def test_a_thread_that_no_memory_is_left_for_is_told_and_no_worker_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("concurrent.futures.process._ExecutorManagerThread.start", start)
    before = set(multiprocessing.active_children())
    with pytest.raises(RuntimeError, match="can't start new thread"), engine.start(2):
        pass
    assert set(multiprocessing.active_children()) == before


def test_ctrl_c_in_a_notebook_waits_until_a_process_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is half begun would be nobody's."""
    begun: list[object] = []
    start_process = SpawnProcess.start

    def press(process: SpawnProcess) -> None:
        if not begun:
            signal.raise_signal(signal.SIGINT)
        start_process(process)
        begun.append(process)

    monkeypatch.setattr(SpawnProcess, "start", press)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), engine.start(2):
        pass
    assert begun
    assert not set(multiprocessing.active_children()) & set(begun)
    assert signal.getsignal(signal.SIGINT) is before


def test_few_jobs_are_made_before_their_turn(tmp_path: Path) -> None:
    """So the content of a few shards is in memory, not of all."""
    made: list[int] = []
    done: list[int] = []
    most = 0

    def images_of(number: int) -> Images:
        nonlocal most
        made.append(number)
        most = max(most, len(made) - len(done))
        return Photos(PER_SHARD)

    with engine.start(2) as crew:
        shards.write_all(
            jobs(12, images_of), tmp_path, executor=crew.executor, ahead=crew.ahead, on_shard=lambda _: done.append(1)
        )
    assert (made, len(done)) == (list(range(12)), 12)
    assert most <= crew.ahead == 4


# What fails


@pytest.mark.parametrize("how", ["alone", "processes", "dask"])
@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"hello", MismatchError, r"files/7\.jpg: begins with 68 65 6c 6c"),
        (None, SourceMissingError, r"files/7\.jpg: cannot be read \(No such file"),
    ],
)
def test_a_fault_in_a_worker_is_the_same_error(
    data: bytes | None, error: type[LtdataError], message: str, how: str, scheduler: str, tmp_path: Path
) -> None:
    files = put(tmp_path / "files", {f"{n}.jpg": photo() for n in range(20)})
    (files / "7.jpg").unlink()
    put(files, {"7.jpg": data} if data is not None else {})
    by: dict[str, How] = {"alone": ALONE, "processes": {"count": 2}, "dask": {"scheduler": scheduler}}
    with (
        pytest.raises(error, match=message) as caught,
        engine.start(**by[how]) as crew,
    ):
        shards.write_all(
            jobs(5, lambda n: Files(files, tuple(f"{PER_SHARD * n + k}.jpg" for k in range(PER_SHARD)))),
            tmp_path,
            executor=crew.executor,
            ahead=crew.ahead,
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "train" / "many-000001.tar").exists()


def test_a_failed_build_with_dask_leaves_nothing(scheduler: str, pets: Path, tmp_path: Path) -> None:
    put(pets, {"dog/3.jpg": b""})
    with pytest.raises(MismatchError, match=r"dog/3\.jpg: is empty"):
        build(Spec("folder"), data_dir=pets, out=tmp_path / "out", scheduler=scheduler)
    assert names(tmp_path) == ["pets"]


@pytest.mark.parametrize("how", ["processes", "dask"])
def test_a_folder_that_workers_do_not_see_is_told(how: str, scheduler: str, tmp_path: Path) -> None:
    by: dict[str, How] = {"processes": {"count": 2}, "dask": {"scheduler": scheduler}}
    with (
        pytest.raises(OutputError, match=r"gone: is not there for the worker on .*; give --out a folder that all"),
        engine.start(**by[how]) as crew,
    ):
        shards.write_all(jobs(2, lambda _: Photos(4)), tmp_path / "gone", executor=crew.executor, ahead=crew.ahead)
    assert names(tmp_path) == []


def test_a_shard_whose_worker_was_killed_is_written_by_another(scheduler: str, tmp_path: Path) -> None:
    """And what the killed one had begun is not left behind."""
    expected = written(tmp_path / "a", lambda _: Photos(PER_SHARD))
    flag = tmp_path / "was here"
    found = written(
        tmp_path / "b", lambda n: Photos(PER_SHARD, deadly=flag if n == 2 else False), by={"scheduler": scheduler}
    )
    assert flag.exists()
    assert found == expected


def test_a_job_that_kills_its_workers_is_reported(scheduler: str, tmp_path: Path) -> None:
    with pytest.raises(LtdataError, match=rf"^{scheduler}: a Dask worker died \(.*\); look at its log") as caught:
        written(tmp_path / "a", lambda _: Photos(PER_SHARD, deadly=True), count=1, by={"scheduler": scheduler})
    assert "\n" not in str(caught.value)


# Clusters that are none


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nonsense",
        "127.0.0.1",
        "foo://127.0.0.1:1",
        "tcp://:8786",
        "tcp://a b:1",
        "http://x:80",
        "x:y",
        "tcp://x:123456",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=rf"^scheduler {re.escape(repr(address))}: its address is such as tcp://"):
        engine.start(scheduler=address).__enter__()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "127.0.0.1:9", "tcp://[::1]:9", "tcp://127.0.0.1:99999"])
def test_without_a_scheduler_the_error_comes_at_once(address: str) -> None:
    with pytest.raises(
        LtdataError, match=rf"^{re.escape(address)}: no Dask scheduler answers \(.*\); start one, or leave out"
    ):
        engine.start(scheduler=address).__enter__()


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.0\r\n", b"HTTP/1.0 400 Bad Request\r\n\r\n", bytes(64)])
def test_a_server_that_is_no_scheduler_is_told(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_ANSWER_S", 0.5)
    kept = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                    kept.append(connection)
                    connection.sendall(answer)
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(LtdataError, match="no Dask scheduler answers") as caught:
            engine.start(scheduler=f"tcp://127.0.0.1:{server.getsockname()[1]}").__enter__()
        server.shutdown(socket.SHUT_RDWR)
    thread.join()
    for connection in kept:
        connection.close()
    assert "\n" not in str(caught.value)


def test_a_scheduler_without_workers_is_told() -> None:
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", silence_logs="CRITICAL") as empty,
        pytest.raises(LtdataError, match=r"the Dask scheduler has no workers; start one with: dask worker tcp://"),
    ):
        engine.start(scheduler=empty.scheduler_address).__enter__()


def test_workers_with_another_jpeg_encoder_are_refused(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their bytes would be others. Here it is this process whose encoder is another."""
    monkeypatch.setattr(images, "JPEG_QUALITY", 90)
    with pytest.raises(LtdataError, match=r"^tcp://\S+: has .*, quality 95; here is .*, quality 90; install the same"):
        engine.start(scheduler=scheduler).__enter__()


def test_workers_without_ltdata_are_refused(scheduler: str) -> None:
    with distributed.Client(scheduler, set_as_default=False) as client:
        client.run(_hide)
        try:
            with pytest.raises(
                LtdataError, match=r"a Dask worker cannot run ltdata \(ModuleNotFoundError.*\); install the same there"
            ):
                engine.start(scheduler=scheduler).__enter__()
        finally:
            client.run(_show)


def _hide() -> None:
    sys.modules["ltdata.engine"] = None  # type: ignore[assignment]


def _show() -> None:
    sys.modules.pop("ltdata.engine", None)


def test_without_dask_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        UsageError, match=r"^Dask is not installed; install it with: pip install 'ltdata\[distributed\]'$"
    ):
        engine.start(scheduler="tcp://127.0.0.1:8786").__enter__()


@pytest.mark.parametrize("options", [("--engine", "dask"), ("--scheduler", "tcp://127.0.0.1:9")])
def test_engine_and_scheduler_go_together(options: tuple[str, str], tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "ltdata",
        "build",
        "digits",
        "--imbalance",
        "10",
        "--out",
        tmp_path / "o",
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--engine dask and --scheduler ADDRESS go together" in done.stderr
    assert names(tmp_path) == []


@pytest.mark.parametrize("count", [0, -1])
def test_too_few_workers_are_refused(count: int) -> None:
    with pytest.raises(UsageError, match=f"workers {count}: 1 .. [0-9]+ is needed"):
        engine.start(count).__enter__()


# Clusters that go away


def environment() -> dict[str, str]:
    """Let a process import what lies beside this file."""
    path = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def process(module: str, *args: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{module}", *map(str, args)],
        env=environment(),
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[str, dict[str, subprocess.Popen[bytes]]]]:
    """A scheduler and a worker as processes of their own, which nothing starts again: address, processes."""
    file = tmp_path / "scheduler.json"
    children = {
        "scheduler": process(
            "dask_scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", file
        )
    }
    try:
        while not file.exists():
            assert children["scheduler"].poll() is None
            time.sleep(0.05)
        children["worker"] = process(
            "dask_worker", "--scheduler-file", file, "--nthreads", 1, "--no-nanny", "--no-dashboard"
        )
        address = json.loads(file.read_text())["address"]
        with distributed.Client(address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=30)
        yield address, children
    finally:
        for child in children.values():
            child.kill()
            child.wait()


SLOW = """
import sys
from pathlib import Path
from photos import Photos
from test_engine import written
from ltdata import LtdataError, engine
engine._LOST_S = 1
try:
    written(Path(sys.argv[1]), lambda _: Photos(4, pause_s=1), by={"scheduler": sys.argv[2]})
except LtdataError as error:
    print(error)
"""


@pytest.mark.parametrize("killed", ["worker", "scheduler"])
def test_a_cluster_that_is_lost_ends_the_build_in_one_line(
    killed: str, started: tuple[str, dict[str, subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    """Dask itself would wait for another worker without end, and log what it lost at length."""
    address, children = started
    folder = tmp_path / "out"
    command = [sys.executable, "-c", SLOW, str(folder), address]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as building:
        while not (folder / "train").exists():
            assert building.poll() is None
            time.sleep(0.02)
        children[killed].kill()
        out, err = building.communicate()
    assert out == f"{address}: the Dask scheduler, or every worker, was lost; start it, then run again\n"
    assert err == ""
