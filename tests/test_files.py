"""Files on disk: the old file or the whole new one, a folder whole or not at all, one writer at a time."""

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

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
