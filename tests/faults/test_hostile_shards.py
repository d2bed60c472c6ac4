"""Hostile shards are refused by everything that reads them; nothing in them runs, nothing outside is touched.

Size, digest and header are made to fit in every case, so that the strict format alone stands between.
"""

import ast
import gzip
import io
import os
import pickle
import socket
import stat
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faults.breaks import REPO, Break
from faults.damage import (
    READERS,
    Record,
    copied,
    edit,
    fails,
    opened,
    photographs,
    refused,
    reseal,
    restored,
    rows_of,
    run,
    shard_of,
    tiny,
    training,
)
from faults.effort import thin, tried
from faults.hostile import Canary, Touching, canary, members, structures
from ltdata import index, remote
from ltdata.catalog import find
from ltdata.errors import LtdataError, MismatchError, SourceMissingError, UsageError
from ltdata.files import sha256_bytes
from ltdata.reader import read_manifest
from ltdata.remote import open_remote, stream
from ltdata.subset import Part, make_subset, write_subset
from ltdata.verify import verify

BREAKS = (
    Break("ltdata/reader.py", "        if data[at:offset] != start or", "        if", only="members"),
    Break("ltdata/reader.py", "            or row in found\n", "", only="structures"),
    Break("ltdata/reader.py", "    if not inside:", "    if False:", only="leads_elsewhere"),
    Break("ltdata/reader.py", "    if not stat.S_ISREG(path.stat().st_mode):", "    if False:", only="leads_elsewhere"),
    Break("ltdata/index.py", "BytesIO(data), allow_pickle=False", "BytesIO(data), allow_pickle=True", only="index"),
    Break(
        "ltdata/index.py",
        "            if sum(member.file_size",
        "            if 0 * sum(member.file_size",
        only="index",
    ),
    Break("ace_ref/loading.py", "allow_pickle=False", "allow_pickle=True", only="cache"),
    Break("ltdata/manifest.py", "            if names:", "            if False:", only="names"),
    Break("ltdata/remote.py", '    if encoding != "identity":', "    if False:", only="server"),
    Break("ltdata/remote.py", 'if parts.scheme in ("http", "https") and', "if", only="urls"),
)
FEW = "train/few-000000.tar"
WHOLE_READERS = ("verify", "verify digests", "read_images", "webdataset", "stream", "trained on, of one size")
WAYS = tuple(members(Canary(Path("nowhere"))))
STRUCTURES = tuple(structures())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the small set; a test restores what it changes."""
    return tiny(tmp_path_factory.mktemp("hostile")).folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build photographs; a test restores what it changes."""
    return photographs(tmp_path_factory.mktemp("hostile")).folder


def refused_by_all(folder: Path, path: str, data: bytes, out: Path, *, whole: tuple[str, ...] = WHOLE_READERS) -> None:
    """Put hostile bytes in place of a shard; everything refuses it, or has looked at the right images alone."""
    split = path.partition("/")[0]
    expected = rows_of(folder, split)
    with restored(folder) as before:
        assert data != before[path]
        reseal(folder, path, data)
        for name in whole:
            refused(partial(READERS[name], folder, split, out), path)
        with suppress(MismatchError):  # by the index, which says where images lie, whatever stands around them
            assert tuple(map(sha256_bytes, opened(folder, split))) == expected
        (folder / "index.npz").unlink()
        for name in ("open_images", "trained on, streamed", "subset"):
            refused(partial(READERS[name], folder, split, out), path)


@pytest.mark.parametrize("way", thin(WAYS, to=24))
def test_hostile_members_are_refused(way: str, small: Path, tmp_path: Path) -> None:
    with canary(tmp_path) as outside:
        data = members(outside)[way]((small / FEW).read_bytes())
        refused_by_all(small, FEW, data, tmp_path)
        assert outside.ran.name not in {path.name for path in small.parent.rglob("*")}
    tried()


@pytest.mark.parametrize("way", thin(WAYS[::4], to=4))
def test_hostile_members_among_photographs_are_refused(way: str, photos: Path, tmp_path: Path) -> None:
    """Of many sizes, so that no fast way over equal members is taken."""
    with canary(tmp_path) as outside:
        data = members(outside)[way]((photos / FEW).read_bytes())
        names = ("verify digests", "webdataset", "stream")
        refused_by_all(photos, FEW, data, tmp_path, whole=names)
    tried()


@pytest.mark.parametrize("path", [FEW, "test/test-000000.tar"])
@pytest.mark.parametrize("way", thin(STRUCTURES, to=6))
def test_hostile_structures_are_refused(way: str, path: str, small: Path, tmp_path: Path) -> None:
    with canary(tmp_path):
        refused_by_all(small, path, structures()[way]((small / path).read_bytes()), tmp_path)
    tried()


def test_the_command_refuses_hostile_shards_in_one_line(small: Path, tmp_path: Path) -> None:
    for way in thin(WAYS[::8], to=1):
        with canary(tmp_path) as outside, restored(small) as before:
            reseal(small, FEW, members(outside)[way](before[FEW]))
            fails(run("ltdata", "verify", small), 3, FEW)
            fails(run(*training(small, tmp_path / "out")), 3, FEW)
            (small / "index.npz").unlink()
            fails(run("ltdata", "subset", small, "--per-class", "1", "--as", "shards", "--out", tmp_path / "out"), 3)
        assert not (tmp_path / "out").exists()
        tried()


# --- what lies in the place of a shard

Place = Callable[[Path, Canary], object]


def _link(path: Path, to: str | Path) -> None:
    path.unlink()
    path.symlink_to(to)


def _outside(path: Path, outside: Canary) -> None:
    """Move a right file out of the folder, and link to it."""
    place = outside.folder.parent / "moved"
    path.replace(place)
    path.symlink_to(place)


def _fifo(path: Path, _: Canary) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path, _: Canary) -> None:
    path.unlink()
    path.mkdir()


def _socket(path: Path, outside: Canary) -> None:
    path.unlink()
    before = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with closing(socket.socket(socket.AF_UNIX)) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def _device(path: Path, _: Canary) -> None:
    path.unlink()
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        path.symlink_to("/dev/zero")


PLACES: dict[str, Place] = {
    "a link to itself outside": _outside,
    "a link to a secret": lambda path, outside: _link(path, outside.secret),
    "a link to a secret, relative": lambda path, outside: _link(path, os.path.relpath(outside.secret, path.parent)),
    "a link to endless zeros": lambda path, _: _link(path, "/dev/zero"),
    "a link to nothing": lambda path, _: _link(path, "/dev/null"),
    "a link to the terminal": lambda path, _: _link(path, "/dev/stdin"),
    "a link to the process": lambda path, _: _link(path, "/proc/self/environ"),
    "a link to what is not there": lambda path, outside: _link(path, outside.ran),
    "a link to itself": lambda path, _: _link(path, path.name),
    "a pipe": _fifo,
    "a folder": _folder,
    "a socket": _socket,
    "a device": _device,
}


@pytest.mark.skipif(os.name == "nt", reason="links, pipes and devices of Unix")
@pytest.mark.parametrize("place", thin(list(PLACES), to=7))
def test_what_is_no_shard_of_the_folder_is_refused(place: str, small: Path, tmp_path: Path) -> None:
    """At once, also where its bytes would be the right ones."""
    folder = copied(small, tmp_path / "set")
    (tmp_path / "moved").touch()
    with canary(tmp_path) as outside:
        PLACES[place](folder / FEW, outside)
        for name in ("verify", "read_images", "open_images", "webdataset", "stream", "wids", "croissant", "mosaic",
                     "trained on, of one size", "trained on, streamed"):  # fmt: skip
            refused(partial(READERS[name], folder, "train", tmp_path), "train/")
    tried()


@pytest.mark.skipif(os.name == "nt", reason="links, pipes and devices of Unix")
@pytest.mark.parametrize("place", thin(list(PLACES), to=5))
@pytest.mark.parametrize("name", ["manifest.json", "samples.jsonl", "index.npz"])
def test_no_other_file_of_a_folder_leads_elsewhere(name: str, place: str, small: Path, tmp_path: Path) -> None:
    """Header and rows are refused; an index is passed over, and named by verify."""
    folder = copied(small, tmp_path / "set")
    (tmp_path / "moved").touch()
    expected = rows_of(folder, "train")
    missing = place in ("a link to what is not there", "a link to itself")
    with canary(tmp_path) as outside:
        PLACES[place](folder / name, outside)
        if name == "index.npz":
            assert tuple(map(sha256_bytes, opened(folder, "train"))) == expected
            refused(partial(verify, folder), name)
        else:
            for reader in ("verify", "read_images", "open_images", "webdataset", "stream"):
                with pytest.raises((MismatchError, SourceMissingError) if missing else MismatchError) as caught:
                    READERS[reader](folder, "train", tmp_path)
                said = str(caught.value)
                assert str(folder) in said
                assert missing or "by a link" in said or "no regular file" in said
    tried()


@pytest.mark.skipif(os.name == "nt", reason="links of Unix")
def test_no_folder_of_shards_leads_elsewhere(small: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        folder = copied(small, tmp_path / part)
        (folder / part).rename(tmp_path / f"{part}-outside")
        (folder / part).symlink_to(tmp_path / f"{part}-outside")
        for name in ("verify", "read_images", "open_images", "webdataset", "stream", "trained on, of one size"):
            refused(partial(READERS[name], folder, part, tmp_path), part)
        tried()


# --- what a header says

PATHS = (
    "../x.tar", "../../etc/passwd", "/etc/passwd", "{outside}/secret", "train/../../outside/secret",
    "train/../train/few-000000.tar", "./train/few-000000.tar", "train//few-000000.tar", "train\\few-000000.tar",
    "..\\x.tar", "C:\\x.tar", "\\\\host\\share\\x.tar", "pipe:touch ran", "pipe:cat {outside}/secret", "|touch ran",
    "file:///etc/passwd", "http://127.0.0.1/x.tar", "gs://x/y.tar", "-", "train/few-000000.tar\n",
    "train/few-000000.tar\0", "train/few-00000\uff10.tar", "train/few-{000000..000001}.tar", "train/few-*.tar",
    "~/x.tar", "$HOME/x.tar", "", ".", "train", "manifest.json", "TRAIN/few-000000.tar", "train/few-000000.tar/",
    "CON", "a" * 5000,
)  # fmt: skip


@pytest.mark.parametrize("path", thin(PATHS, to=10), ids=lambda path: ascii(path)[:40])
def test_paths_of_a_header_lead_nowhere(
    path: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with canary(tmp_path) as outside, restored(small):
        path = path.format(outside=outside.folder) if "{outside}" in path else path
        edit(small, lambda record: shard_of(record, FEW).update(path=path))
        for name in ("verify", "read_images", "open_images", "webdataset", "stream", "trained on, of one size"):
            refused(partial(READERS[name], small, "train", tmp_path), small)
        refused(partial(READERS["subset"], small, "train", tmp_path))
    tried()


NAMES = (
    "../../outside/ran", "/ran", "..", ".", "", ".hidden", "a/b", "a\\b", "a b", "pipe:x", "x\n", "\x1b[31m", "<b>",
    "\uff11", "x\0",
)  # fmt: skip


@pytest.mark.parametrize("name", thin(NAMES, to=4), ids=ascii)
def test_names_of_a_header_lead_nowhere(
    name: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the whole, after which a training's folder is named by default; of a split, after which exports name files."""
    monkeypatch.chdir(tmp_path)
    changes: tuple[Callable[[Record], object], ...] = (
        lambda record: record.update(name=name),
        lambda record: record["splits"].update({name: record["splits"]["test"]}),
    )
    for change in changes:
        with canary(tmp_path), restored(small):
            edit(small, change)
            refused(partial(read_manifest, small), "manifest.json")
            words = [each for each in training(small, Path("out")) if each not in ("--out", "out")]
            fails(run(*words), 3, "manifest.json")
        tried()


BASES = (
    "pipe:touch ran",
    "|touch ran",
    "http://127.0.0.1:9/x",
    "file:///etc",
    "/dev/zero",
    "/dev/stdin",
    "-",
    "",
    ".",
    "~",
    "fifo",
)


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices of Unix")
@pytest.mark.parametrize("base", thin(BASES, to=5))
def test_a_view_of_what_is_no_build_is_refused(
    base: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    view = tmp_path / "view"
    whole = find(str(small), rows=True)
    write_subset(whole, make_subset(whole.manifest, Part(groups=("few",))), view, form="view")
    (tmp_path / "pit").mkdir()
    os.mkfifo(tmp_path / "pit" / "manifest.json")
    with canary(tmp_path):
        path = "../pit" if base == "fifo" else base
        edit(view, lambda record: record["view_of"].update(path=path))
        for name in ("verify", "read_images", "open_images", "webdataset", "trained on, of one size"):
            with pytest.raises((MismatchError, SourceMissingError)) as caught:
                READERS[name](view, "train", tmp_path)
            assert str(view) in str(caught.value) or "pit" in str(caught.value)
            assert "\n" not in str(caught.value)
    tried()


# --- index and cache


def _zipped(columns: dict[str, bytes], how: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, data in columns.items():
            archive.writestr(f"{name}.npy", data)
    return out.getvalue()


def _npy(values: Any, *, pickles: bool = False) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asanyarray(values), allow_pickle=pickles)
    return out.getvalue()


def _claims(shape: str, kind: str = "<i8") -> bytes:
    """Make an array that says that it is larger than its file."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\0" + (len(text) + 1).to_bytes(2, "little") + text + b"\n"


def indexes(outside: Canary, good: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        columns = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
    evil = np.array([Touching(outside.ran)], dtype=object)
    content = _npy(evil, pickles=True)
    return {
        "objects": _zipped(columns | {"offset": content}, zipfile.ZIP_STORED),
        "objects for all": _zipped(dict.fromkeys(columns, content), zipfile.ZIP_STORED),
        "objects too": _zipped(columns | {"more": content}, zipfile.ZIP_STORED),
        "a pickle in a zip": _zipped(columns | {"offset": outside.pickled}, zipfile.ZIP_STORED),
        "a pickle": outside.pickled,
        "an array of objects": content,
        "20 MB of zeros": _zipped(columns | {"split": _npy(np.zeros(20_000_000, "i1"))}, zipfile.ZIP_DEFLATED),
        "20 MB in a column of no use": _zipped(columns | {"more": bytes(20_000_000)}, zipfile.ZIP_DEFLATED),
        "packed anew": _zipped(columns, zipfile.ZIP_DEFLATED),
        "a shape beyond memory": _zipped(columns | {"split": _claims(f"({10**15},)")}, zipfile.ZIP_STORED),
        "a shape of nothing": _zipped(columns | {"split": _claims(f"({10**10},)", "|V0")}, zipfile.ZIP_STORED),
        "a negative shape": _zipped(columns | {"split": _claims("(-1,)")}, zipfile.ZIP_STORED),
        "a header that is run": _zipped(columns | {"split": _claims("__import__('os').getcwd()")}, zipfile.ZIP_STORED),
        "names that lead outside": _zipped(columns | {"../../outside/ran": columns["size"]}, zipfile.ZIP_STORED),
    }  # fmt: skip


@contextmanager
def little_memory() -> Iterator[None]:
    """Check that what is unpacked would not fit the memory that was taken."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 15_000_000
    finally:
        tracemalloc.stop()


INDEXES = tuple(indexes(Canary(Path("nowhere")), index.to_bytes({"size": np.zeros(1)})))


@pytest.mark.parametrize("what", thin(INDEXES, to=6))
def test_a_hostile_index_is_passed_over(what: str, small: Path, tmp_path: Path) -> None:
    expected = rows_of(small, "train")
    with canary(tmp_path) as outside, restored(small) as before:
        (small / "index.npz").write_bytes(indexes(outside, before["index.npz"])[what])
        with little_memory() if "MB" in what else nullcontext():
            assert tuple(map(sha256_bytes, opened(small, "train"))) == expected
            refused(partial(verify, small), "index.npz")
    tried()


def load_with_cache(folder: Path) -> Any:
    import torch

    from ace_ref.loading import Memory, load_split, open_shards
    from ace_ref.recipe import load_recipe

    recipe = load_recipe("tiny", "ce", source="folder", imbalance_factor=4)
    manifest, place = open_shards(str(folder))
    return load_split(place, manifest, "train", recipe, Memory(torch.device("cpu"), cache=True))


def test_a_hostile_cache_is_passed_over(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("LTDATA_HOME", str(tmp_path / "home"))
    folder = copied(small, tmp_path / "set")
    expected = load_with_cache(folder)
    (path,) = (tmp_path / "home" / "decoded").iterdir()
    good = path.read_bytes()
    with np.load(path) as found:
        others = {name: 255 - found[name] if name == "pixels" else found[name] for name in found.files}
    path.unlink()
    for name in (path.name, "train.npz"):  # whole, with other pixels, and come with the shards
        (folder / "decoded").mkdir(exist_ok=True)
        np.savez(folder / "decoded" / name, **others)
    assert torch.equal(load_with_cache(folder).pixels, expected.pixels)
    assert path.read_bytes() == good
    tried()
    with canary(tmp_path) as outside:
        for data in (
            outside.pickled,
            _npy(np.array([Touching(outside.ran)], dtype=object), pickles=True),
            _zipped({"about": _npy(np.array([Touching(outside.ran)], dtype=object), pickles=True)}, zipfile.ZIP_STORED),
            _zipped({"about": outside.pickled}, zipfile.ZIP_STORED),
            b"",
        ):
            path.write_bytes(data)
            assert torch.equal(load_with_cache(folder).pixels, expected.pixels)
            assert path.read_bytes() == good
            tried()


@pytest.mark.skipif(os.name == "nt", reason="links, pipes and devices of Unix")
def test_a_cache_that_leads_elsewhere_is_neither_read_nor_written(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder may be a link of the user's own; what lies in it is a file, and no pipe is waited for."""
    import torch

    monkeypatch.setenv("LTDATA_HOME", str(tmp_path / "first"))
    expected = load_with_cache(small)
    (made,) = (tmp_path / "first" / "decoded").iterdir()
    ways: dict[str, Callable[[Path, Canary], object]] = {
        "a folder that is not there": lambda path, outside: path.parent.symlink_to(outside.ran),
        "a file outside": lambda path, outside: (path.parent.mkdir(), path.symlink_to(outside.secret)),
        "a pipe": lambda path, _: (path.parent.mkdir(), os.mkfifo(path)),
        "endless zeros": lambda path, _: (path.parent.mkdir(), path.symlink_to("/dev/zero")),
        "a folder": lambda path, _: path.mkdir(parents=True),
        "a file for the folder": lambda path, _: path.parent.write_bytes(b""),
    }
    for number, (name, change) in enumerate(ways.items()):
        home = tmp_path / f"home{number}"
        home.mkdir()
        monkeypatch.setenv("LTDATA_HOME", str(home))
        written = home / "decoded" / made.name
        with canary(tmp_path) as outside:
            change(written, outside)
            assert torch.equal(load_with_cache(small).pixels, expected.pixels), name
        said = capsys.readouterr().err
        assert "--cache" in said or (written.read_bytes() == made.read_bytes() and not written.is_symlink()), name
        tried()


# --- addresses and servers

URLS = (
    "pipe:touch ran", "pipe:cat /etc/passwd", "-", "|touch ran", "file:///etc", "file:/etc", "gs://bucket/set",
    "s3://bucket/set", "ftp://127.0.0.1/set", "sftp://127.0.0.1/set", "hf://datasets/x", "az://x/y", "hdfs://x/y",
    "ssh://x/y", "data:text/plain,x", "http+unix://%2Ftmp/x", "HTTPS+x://x", "http:/127.0.0.1/set", "//127.0.0.1/set",
    "http://", "http://user:secret@127.0.0.1/set", "http://127.0.0.1/a?b", "http://127.0.0.1/a b",
    "https://127.0.0.1:x/set", "htTp ://127.0.0.1/set", "javascript:x", "tar:x.tar", "train-{000000..000001}.tar",
    "$(touch ran)", "`touch ran`", "; touch ran", "\0", "x\n::y",
)  # fmt: skip


@pytest.mark.parametrize("url", thin(URLS, to=10), ids=ascii)
def test_other_urls_than_http_are_refused_in_one_line(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with canary(tmp_path):
        ended = run(*training(Path("x"), Path("out"))[:1], "--shards", url, *training(Path("x"), Path("out"))[3:])
        fails(ended, 2 if "://" in url else 4)
        assert "secret" not in ended.stderr
        if "://" in url:
            with pytest.raises(UsageError, match="http or https"):
                open_remote(url)
        else:
            with pytest.raises(LtdataError):
                open_remote(url)
            with pytest.raises(LtdataError):
                verify(Path(url))
    assert not (tmp_path / "ran").exists()
    tried()


@dataclass
class Liar:
    """Answer every request for one file with bytes as they are, head and all; other files as they should be."""

    url: str
    path: str = ""
    answer: bytes = b""
    requests: int = 0


@contextmanager
def liar(folder: Path) -> Iterator[Liar]:
    """Serve a folder over bare sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.02)
        found = Liar(f"http://127.0.0.1:{listening.getsockname()[1]}")
        ended = threading.Event()

        def answer(taken: socket.socket) -> None:
            with taken, suppress(OSError):
                taken.settimeout(5)
                asked = b""
                while b"\r\n\r\n" not in asked:
                    part = taken.recv(65536)
                    if not part:
                        return
                    asked += part
                path = asked.split()[1].decode().lstrip("/")
                found.requests += 1
                if path == found.path:
                    taken.sendall(found.answer)
                else:
                    data = (folder / path).read_bytes()
                    taken.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(data) + data
                    )

        def serve() -> None:
            while not ended.is_set():
                with suppress(TimeoutError):
                    answer(listening.accept()[0])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield found
        finally:
            ended.set()
            thread.join()


def lies(data: bytes, url: str) -> dict[str, bytes]:
    ok, end = b"HTTP/1.1 200 OK\r\n", b"\r\n\r\n"
    length = b"Content-Length: %d" % len(data)
    bomb = gzip.compress(bytes(20_000_000))
    chunked = ok + b"Transfer-Encoding: chunked\r\n\r\n"
    return {
        "deflate": ok + b"Content-Encoding: deflate\r\n" + length + end + data,
        "a bomb that says so": ok + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb,
        "a bomb that does not": ok + b"Content-Length: %d\r\n\r\n" % len(bomb) + bomb,
        "br": ok + b"Content-Encoding: br\r\n" + length + end + data,
        "two encodings": ok + b"Content-Encoding: identity, gzip\r\n" + length + end + data,
        "less than it says": ok + length + end + data[:-1],
        "nothing": ok + length + end,
        "an endless length": ok + b"Content-Length: 99999999999999999999" + end + data,
        "a length that is none": ok + b"Content-Length: many" + end + data[:-9],
        "a chunk without end": chunked + b"ffffffffffffffff\r\n" + data,
        "a negative chunk": chunked + b"-5\r\n" + data,
        "a chunk that is none": chunked + b"xyz\r\n" + data,
        "a chunk of another size": chunked + b"%x\r\n" % (len(data) + 5) + data + b"\r\n0\r\n\r\n",
        "too many heads": ok + b"X: y\r\n" * 300 + end[2:] + data,
        "an endless head": ok + b"X: " + b"y" * 100_000 + end + data,
        "an endless first line": b"HTTP/1.1 200 " + b"y" * 100_000 + end + data,
        "no HTTP": data,
        "HTTP of old": b"ICY 200 OK\r\n\r\n" + data,
        "a part": b"HTTP/1.1 206 Partial Content\r\n" + length + end + data,
        "not modified": b"HTTP/1.1 304 Not Modified\r\n\r\n",
        "choices": b"HTTP/1.1 300 Multiple Choices\r\n" + length + end + data,
        "teapot": b"HTTP/1.1 418 x\r\n" + length + end + data,
        "moved to a file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname" + end,
        "moved to a pipe": b"HTTP/1.1 302 Found\r\nLocation: pipe:touch ran" + end,
        "moved to data": b"HTTP/1.1 307 x\r\nLocation: data:text/plain,x" + end,
        "moved to ftp": b"HTTP/1.1 308 x\r\nLocation: ftp://127.0.0.1/x" + end,
        "moved nowhere": b"HTTP/1.1 302 Found\r\n\r\n",
        "moved to itself": b"HTTP/1.1 302 Found\r\nLocation: " + url.encode() + end,
        "moved to two lines": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\tx\x01" + end,
        "hung up": b"",
    }


@pytest.mark.parametrize("path", ["manifest.json", "samples.jsonl", FEW])
def test_a_server_that_lies_is_refused(path: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few MB of memory, few requests, nothing read or run that it names."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(remote, "_WAIT_S", 0.001)
    monkeypatch.setattr(remote, "_MANIFEST_BYTES", 1_000_000)
    data = (small / path).read_bytes()

    def read(url: str) -> None:
        found = open_remote(url)
        list(stream(found, "train", np.arange(20)))

    with canary(tmp_path), liar(small) as server:
        read(server.url)
        every = lies(data, f"{server.url}/{path}")
        for name in thin(list(every), to=6):
            server.path, server.answer, server.requests = path, every[name], 0
            with (
                little_memory() if "bomb" in name else nullcontext(),
                pytest.raises((MismatchError, SourceMissingError)) as caught,
            ):
                read(server.url)
            said = str(caught.value)
            assert f"{server.url}/{path}" in said, name
            assert "\n" not in said, name
            assert server.requests < 70, name
            tried()


# --- how it is written


def dotted(node: ast.AST) -> str:
    """Write a name as it stands in the code: `np.load`; of what is none, its last part."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}".lstrip(".")
    return node.id if isinstance(node, ast.Name) else ""


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def calls(path: Path) -> set[str]:
    """Name what a module calls."""
    return {dotted(node.func) for node in nodes(path) if isinstance(node, ast.Call)}


def imports(path: Path) -> set[str]:
    """Name the packages that a module imports."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def modules() -> dict[str, Path]:
    return {
        path.relative_to(REPO).as_posix(): path
        for package in ("ltdata", "ace_ref")
        for path in sorted((REPO / package).rglob("*.py"))
    }


def test_there_is_one_reader_of_shards() -> None:
    """Which modules open archives, arrays of others, and shards; whoever adds one says here why it is safe."""
    found = {name: calls(path) for name, path in modules().items()}

    def who(*names: str) -> set[str]:
        return {module for module, called in found.items() if called & set(names)}

    assert who("tarfile.open", "tarfile.TarFile") == {
        "ltdata/sources/cifar.py"
    }  # members of a checked archive, streamed
    assert who("np.load", "numpy.load") == {"ltdata/index.py", "ace_ref/loading.py"}  # both without pickles
    assert who("shard_path") == {"ltdata/reader.py", "ltdata/stored.py", "ltdata/adapters.py"}
    assert who("read_shard", "reader.read_shard") == {
        "ltdata/reader.py", "ltdata/verify.py", "ltdata/remote.py", "ltdata/formats/described.py",
    }  # fmt: skip
    assert who("wds.WebDataset", "wds.TarIterator", "webdataset.WebDataset", "wds.WebLoader") == set()


def test_nothing_runs_what_it_reads() -> None:
    found = {name: calls(path) for name, path in modules().items()}
    running = {
        "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "torch.load",
        "marshal.loads", "shelve.open", "np.memmap",
    }  # fmt: skip
    assert {name: called & running for name, called in found.items() if called & running} == {}
    imported = {name: imports(path) for name, path in modules().items()}
    assert {name for name, each in imported.items() if "pickle" in each} == {"ltdata/sources/pickles.py"}  # restricted
    assert {name for name, each in imported.items() if each & {"subprocess", "shelve", "marshal", "dill"}} == set()


def test_a_canary_can_be_hit(tmp_path: Path) -> None:
    """What these tests look for would be seen."""
    with pytest.raises(AssertionError, match="canary"), canary(tmp_path) as outside:
        pickle.loads(outside.pickled)
    outside.ran.unlink()
    with pytest.raises(AssertionError, match="outside the folder"), canary(tmp_path):
        (tmp_path / "more").touch()
