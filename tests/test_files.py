"""Files on disk: the old file or the whole new one, a folder whole or not at all, one writer at a time."""

import errno
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import READS_EVERYTHING

from ltdata.errors import LtdataError, OutputError
from ltdata.files import exclusive, sha256_bytes, sha256_file, staged_folder, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def no_space(*_args: object, **_options: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupted(*_args: object, **_options: object) -> None:
    raise KeyboardInterrupt


def test_write_atomic_writes_and_overwrites(tmp_path: Path) -> None:
    target = tmp_path / "file"
    for data in (b"", b"new", b"x" * 3_000_000):
        write_atomic(target, data)
        assert target.read_bytes() == data
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    write_atomic(target, b"old")
    monkeypatch.setattr(os, call, no_space)
    with pytest.raises(OutputError, match=r"file: cannot be written \(No space left on device\)"):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_interrupted_write_keeps_the_old_file_and_leaves_nothing(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    write_atomic(target, b"old")
    monkeypatch.setattr(os, call, interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "file", b"")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_target_that_cannot_be_a_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "missing" / "file", tmp_path / "folder"):
        with pytest.raises(OutputError, match=target.name):
            write_atomic(target, b"")
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 2_500_000])
def test_sha256_is_that_of_the_whole_file(size: int, tmp_path: Path) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    (tmp_path / "file").write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()
    assert sha256_file(tmp_path / "file") == sha256_bytes(data) == expected


def test_a_staged_folder_appears_whole(tmp_path: Path) -> None:
    final = tmp_path / "final"
    with staged_folder(final) as staging:
        (staging / "a").write_text("1")
        assert not final.exists()
        assert staging.parent == tmp_path
    assert (final / "a").read_text() == "1"
    assert names(tmp_path) == ["final"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_staged_folder_vanishes_when_its_block_fails(error: type[BaseException], tmp_path: Path) -> None:
    def write_half() -> None:
        with staged_folder(tmp_path / "final") as staging:
            (staging / "half").write_text("1")
            raise error

    with pytest.raises(error):
        write_half()
    assert names(tmp_path) == []


def test_a_replaced_folder_is_the_old_one_until_the_new_one_is_whole(tmp_path: Path) -> None:
    final = tmp_path / "final"
    final.mkdir()
    (final / "old").write_text("1")
    with staged_folder(final, replace=True) as staging:
        (staging / "new").write_text("2")
        assert names(final) == ["old"]
    assert names(final) == ["new"]
    assert names(tmp_path) == ["final"]


def test_a_folder_is_not_replaced_by_one_that_fails(tmp_path: Path) -> None:
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "old").write_text("1")
    with pytest.raises(ValueError, match="broken"), staged_folder(tmp_path / "final", replace=True):
        raise ValueError("broken")
    assert names(tmp_path / "final") == ["old"]
    assert names(tmp_path) == ["final"]


def test_a_full_folder_is_not_replaced_unless_told_to(tmp_path: Path) -> None:
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "old").write_text("1")
    with pytest.raises(OutputError, match="final"), staged_folder(tmp_path / "final"):
        pass
    assert names(tmp_path / "final") == ["old"]
    assert names(tmp_path) == ["final"]


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "other") as staging:
        pass
    left = tmp_path / staging.name.replace("other", "final")
    left.mkdir()
    (left / "half").write_text("killed before it could tidy")
    with staged_folder(tmp_path / "final") as staging:
        assert names(tmp_path) == [staging.name, "other"]
        assert names(staging) == []
    assert names(tmp_path) == ["final", "other"]


def test_one_writer_at_a_time_and_no_lock_left(tmp_path: Path) -> None:
    with exclusive(tmp_path / "target"):
        with pytest.raises(LtdataError, match="another process is writing it"), exclusive(tmp_path / "target"):
            pass
        with exclusive(tmp_path / "other"):
            pass
    assert names(tmp_path) == []
    with exclusive(tmp_path / "target"):
        pass
    assert names(tmp_path) == []


def test_a_dead_process_holds_no_lock(tmp_path: Path) -> None:
    (tmp_path / ".target.lock").write_text("left by kill -9")
    with exclusive(tmp_path / "target"):
        pass
    assert names(tmp_path) == []


# What flock answers on NFS without its lock daemon, Lustre without -o flock, FUSE and others.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS, errno.EIO, errno.EBADF)
# A process that holds a lock, says so, and waits for its end; the file system has no locks.
HOLDER = """
import fcntl, sys, time
from pathlib import Path
def no_locks(*_): raise OSError(37, "No locks available")
fcntl.flock = no_locks
from ltdata.files import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def without_locks(monkeypatch: pytest.MonkeyPatch, code: int = errno.ENOLCK) -> None:
    fcntl = pytest.importorskip("fcntl", reason="Windows always has locks")

    def flock(*_args: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("code", NO_LOCKS, ids=errno.errorcode.get)
def test_where_the_file_system_has_no_locks_a_file_is_the_lock(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    without_locks(monkeypatch, code)
    with exclusive(tmp_path / "target"):
        assert names(tmp_path) == [".target.lock"]
        refusal = (
            rf"target: another process is writing it.* delete {tmp_path}/\.target\.lock if .*process {os.getpid()}"
        )
        with pytest.raises(LtdataError, match=refusal), exclusive(tmp_path / "target"):
            pass
        with exclusive(tmp_path / "other"):
            pass
    assert names(tmp_path) == []
    with exclusive(tmp_path / "target"):
        pass
    assert names(tmp_path) == []
    assert capfd.readouterr() == ("", "")  # the rules are the same, so there is nothing to say


def test_without_locks_the_next_run_takes_over_from_one_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch)
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / "target"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LtdataError, match=f"process {holder.pid} on "), exclusive(tmp_path / "target"):
            pass
        holder.kill()
        holder.wait()
    assert names(tmp_path) == [".target.lock"]
    with exclusive(tmp_path / "target"):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "who"),
    [
        ("4711\nnode7\n", "process 4711 on node7"),
        ("", "does not say"),
        ("x\ny\n", "does not say"),
        ("\0", "does not say"),
    ],
)
def test_without_locks_a_lock_of_another_machine_is_refused_and_named(
    text: str, who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody here can tell whether its process is alive."""
    without_locks(monkeypatch)
    (tmp_path / ".target.lock").write_text(text)
    with pytest.raises(LtdataError) as refused, exclusive(tmp_path / "target"):
        pass
    assert refused.value.exit_code == 1
    assert f"delete {tmp_path / '.target.lock'} if it is gone" in str(refused.value)
    assert who in str(refused.value)
    assert (tmp_path / ".target.lock").read_text() == text


IN_THE_WAY: dict[str, Callable[[Path], object]] = {
    "a folder": lambda lock: lock.mkdir(),
    "a link to nowhere": lambda lock: lock.symlink_to("nowhere"),
    "a link to itself": lambda lock: lock.symlink_to(lock.name),
    "a link to a file": lambda lock: lock.symlink_to("precious"),
}


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
@pytest.mark.parametrize("make", IN_THE_WAY.values(), ids=IN_THE_WAY)
def test_what_stands_where_the_lock_should_be_is_named_and_kept(
    make: Callable[[Path], object], locks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not locks:
        without_locks(monkeypatch)
    (tmp_path / "precious").write_text("precious")
    make(tmp_path / ".target.lock")
    before = names(tmp_path)
    with pytest.raises(LtdataError, match=r"target\.lock") as refused, exclusive(tmp_path / "target"):
        pass
    assert "\n" not in str(refused.value)
    assert names(tmp_path) == before
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.skipif(READS_EVERYTHING, reason="this user reads every file")
def test_a_lock_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / ".target.lock").touch(mode=0)
    with pytest.raises(OutputError, match=r"target\.lock: cannot be locked"), exclusive(tmp_path / "target"):
        pass


def test_a_lock_makes_the_parent_and_refuses_a_parent_that_is_a_file(tmp_path: Path) -> None:
    with exclusive(tmp_path / "a" / "b" / "target"):
        assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), exclusive(tmp_path / "file" / "target"):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="no regular file"):
        write_atomic(tmp_path / "pipe", b"data")
    assert (tmp_path / "pipe").is_fifo()
