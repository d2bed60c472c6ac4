"""Files on disk: the old file or the whole new one, a folder whole or not at all, one writer at a time."""

import ast
import errno
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import READS_EVERYTHING

from ltdata.errors import LtdataError, OutputError
from ltdata.files import (
    atomic_file,
    exclusive,
    flush_tree,
    growing_file,
    make_folder,
    published_digest,
    sha256_bytes,
    sha256_file,
    staged_folder,
    tidy,
    write_atomic,
)


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


# What a killed run left


def test_what_a_killed_writer_left_is_removed_by_the_next_one_of_the_same_file(tmp_path: Path) -> None:
    others = [".file.notes.tmp", ".file.0123abcd.tmp.bak", ".files.0123abcd.tmp", ".fil.0123abcd.tmp", "[file].txt"]
    for name in [*others, ".file.0123abcd.tmp", ".file.89efabcd.tmp"]:
        (tmp_path / name).write_text("half")
    write_atomic(tmp_path / "file", b"whole")
    assert names(tmp_path) == sorted([*others, "file"])
    (tmp_path / ".[file].txt.0123abcd.tmp").write_text("half")
    write_atomic(tmp_path / "[file].txt", b"whole")
    assert names(tmp_path) == sorted([*others, "file"])


def test_the_file_of_a_writer_that_lives_is_not_removed(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "file") as slow:
        slow.write(b"last")
        write_atomic(tmp_path / "file", b"first")
        assert (tmp_path / "file").read_bytes() == b"first"
        assert len(names(tmp_path)) == 2
    assert (tmp_path / "file").read_bytes() == b"last"
    assert names(tmp_path) == ["file"]


def test_a_file_that_is_taken_for_a_killed_writers_is_made_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process looked at it in the moment before it had its lock."""
    fcntl = pytest.importorskip("fcntl", reason="Windows unlinks no open file")
    real, locked = fcntl.flock, []

    def flock(file: object, operation: int) -> None:
        if not locked:
            (lost,) = tmp_path.glob(".file.*.tmp")
            lost.unlink()
        locked.append(operation)
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    write_atomic(tmp_path / "file", b"data")
    assert (tmp_path / "file").read_bytes() == b"data"
    assert len(locked) == 2
    assert names(tmp_path) == ["file"]


def test_a_worker_that_outlives_its_command_cannot_write_into_the_next_ones_folder(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "final") as staging:
        (staging / "shard").write_text("new")
        tidied_away = staging.with_name(staging.name[:-8] + "0" * 8)
        with pytest.raises(OutputError):
            write_atomic(tidied_away / "shard", b"old")
    staging.mkdir()
    (staging / "late").write_text("of a killed run")
    tidy(tmp_path / "final")
    assert names(tmp_path) == ["final"]
    assert (tmp_path / "final" / "shard").read_text() == "new"


def test_a_retired_folder_is_put_back_only_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is deleted it bears the name of what may be deleted, so that nobody puts a half of it back."""
    seen = []

    def killed(folder: Path) -> None:
        seen.append(folder.name)
        raise KeyboardInterrupt

    for name in ("final", ".final.ltdata-old"):
        (tmp_path / name).mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            tidy(tmp_path / "final")
    assert ".final.ltdata-old" not in names(tmp_path)
    (tmp_path / "final").rmdir()
    tidy(tmp_path / "final")
    assert names(tmp_path) == []


# What is flushed


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect the inodes of what is flushed."""
    real, seen = os.fsync, []

    def fsync(descriptor: int) -> None:
        seen.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return seen


def inodes(*paths: Path) -> list[int]:
    return [path.stat().st_ino for path in paths]


@pytest.mark.skipif(os.name == "nt", reason="Windows opens no folders")
def test_new_folders_are_flushed_where_they_have_their_names(tmp_path: Path, flushed: list[int]) -> None:
    make_folder(tmp_path / "a" / "b")
    assert sorted(flushed) == sorted(inodes(tmp_path, tmp_path / "a"))
    flushed.clear()
    make_folder(tmp_path / "a" / "b")
    assert flushed == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/c: cannot be written"):
        make_folder(tmp_path / "file" / "c")


@pytest.mark.skipif(os.name == "nt", reason="Windows opens no folders")
def test_every_file_and_folder_of_a_tree_is_flushed(tmp_path: Path, flushed: list[int]) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("1")
    flush_tree(tmp_path)
    assert sorted(flushed) == sorted(inodes(tmp_path, *tmp_path.rglob("*")))


def test_a_growing_file_is_begun_or_gone_on_with_and_flushed(tmp_path: Path, flushed: list[int]) -> None:
    for anew, data, whole in ((False, b"a", b"a"), (False, b"b", b"ab"), (True, b"c", b"c")):
        with growing_file(tmp_path / "file", anew=anew) as file:
            file.write(data)
        assert (tmp_path / "file").read_bytes() == whole
    assert flushed == 3 * inodes(tmp_path / "file")


def test_digests_that_others_publish() -> None:
    assert published_digest("md5", b"abc") == "900150983cd24fb0d6963f7d28e17f72"
    assert published_digest("sha1", b"abc") == "a9993e364706816aba3e25717850c26c9cd0d89d"
    assert published_digest("sha256", b"abc") == sha256_bytes(b"abc")


# One room: nobody else writes files or computes digests

ROOM = "ltdata/files.py"
ELSEWHERE = {
    ("ltdata/console.py", "open"): "the null device, in the place of a closed stream",
    ("ltdata/formats/huggingface.py", "OSFile"): "pyarrow writes into a staging folder, which is flushed whole",
    ("ltdata/formats/huggingface.py", "save_to_disk"): "datasets does so too",
}
_REPO = Path(__file__).parent.parent
_IMPORTS = {"hashlib", "_hashlib", "tempfile", "fcntl", "msvcrt", "filelock", "mmap"}
_FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND", "O_TRUNC"}
_OF_PATHS = {"write_text", "write_bytes", "touch", "rename", "symlink_to", "hardlink_to", "tofile", "dump_to_file"}
_OF_MODULES = {"copyfile", "copy2", "copytree", "move", "link", "symlink", "mkfifo", "mknod", "fsync", "truncate"}
_OF_LIBRARIES = {"OSFile", "memory_map", "save_to_disk", "to_csv", "to_parquet", "save_file", "savetxt"}
_INTO = {"save", "savez", "savez_compressed", "savefig", "write_table"}  # a buffer, or a file of `ltdata.files`


def own_writes(source: str) -> Iterator[str]:
    """Name what in a module's source writes files or computes digests on its own."""
    tree = ast.parse(source)
    files = set()  # names of buffers, and of files that `ltdata.files` has opened
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and called(node.value) == "BytesIO":
            files |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.withitem) and called(node.context_expr) in ("atomic_file", "growing_file"):
            files |= {node.optional_vars.id} if isinstance(node.optional_vars, ast.Name) else set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from _IMPORTS & {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            yield from _IMPORTS & {(node.module or "").partition(".")[0]}
        elif isinstance(node, ast.Attribute) and node.attr in _FLAGS:
            yield node.attr
        elif isinstance(node, ast.Call) and writes(node, files):
            yield called(node)


def writes(call: ast.Call, files: set[str]) -> bool:
    """Tell whether a call writes a file that `ltdata.files` has not opened."""
    name = called(call)
    of = owner(call.func) if isinstance(call.func, ast.Attribute) else None  # what has a dot before it
    if name == "open":  # the mode comes second, but first where the path itself opens
        modes = call.args[0 if of not in (None, "io", "tarfile", "gzip") else 1 :]
        return any(map(is_writing_mode, [*modes, *[word.value for word in call.keywords]]))
    if name == "replace":  # a path's has one argument, a text's two, that of dataclasses keywords
        return of == "os" or (of is not None and len(call.args) == 1 and not call.keywords)
    if name in _INTO:
        return of is not None and not files & {each.id for each in call.args if isinstance(each, ast.Name)}
    return name in _OF_PATHS | _OF_LIBRARIES or (name in _OF_MODULES and of in ("os", "shutil"))


def called(node: ast.AST) -> str:
    """Return the last name of what is called, or nothing."""
    func = node.func if isinstance(node, ast.Call) else None
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


def owner(attribute: ast.Attribute) -> str:
    return attribute.value.id if isinstance(attribute.value, ast.Name) else ""


def is_writing_mode(value: ast.expr) -> bool:
    """Tell whether an argument is a mode that writes; what is no mode has other letters, or is long."""
    text = value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
    return 0 < len(text) <= 5 and set(text) <= set("rwxabt+:|gz") and bool(set(text) & set("wxa+"))


def test_files_are_written_and_digests_computed_in_one_room() -> None:
    found = {
        (path.relative_to(_REPO).as_posix(), what)
        for package in ("ltdata", "ace_ref")
        for path in (_REPO / package).rglob("*.py")
        for what in own_writes(path.read_text(encoding="utf-8"))
    }
    found = {(path, what) for path, what in found if path != ROOM}
    assert found - set(ELSEWHERE) == set(), "write it through ltdata.files, or say here why not"
    assert set(ELSEWHERE) - found == set(), "an exception that nothing needs any more"


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import hashlib", "hashlib"),
        ("from hashlib import sha256", "hashlib"),
        ("def f():\n    import tempfile", "tempfile"),
        ("open('x', 'w')", "open"),
        ("open('x', mode='ab')", "open"),
        ("path.open('xb')", "open"),
        ("path.open('r+b')", "open"),
        ("tarfile.open(path, 'w|gz')", "open"),
        ("os.open(path, os.O_WRONLY)", "O_WRONLY"),
        ("path.write_bytes(b'')", "write_bytes"),
        ("(folder / 'x').write_text('')", "write_text"),
        ("part.replace(target)", "replace"),
        ("os.replace(part, target)", "replace"),
        ("os.fsync(3)", "fsync"),
        ("shutil.copyfile(a, b)", "copyfile"),
        ("np.save('x.npy', values)", "save"),
        ("np.savez(path, a=values)", "savez"),
        ("figure.savefig(out)", "savefig"),
        ("values.tofile(path)", "tofile"),
    ],
)
def test_the_test_of_one_room_can_fail(source: str, what: str) -> None:
    assert list(own_writes(source)) == [what]


@pytest.mark.parametrize(
    "source",
    [
        "open('x')",
        "path.open('rb')",
        "os.open(path, os.O_RDONLY)",
        "text.replace('a', 'b')",
        "dataclasses.replace(split, labels=labels)",
        "buffer = io.BytesIO()\nnp.save(buffer, values)",
        "with atomic_file(path) as file:\n    np.savez(file, a=values)",
        "write_atomic(path, data)",
    ],
)
def test_reading_and_the_rooms_own_are_no_writing_elsewhere(source: str) -> None:
    assert list(own_writes(source)) == []
