"""CIFAR folders and archives that are others, or made to harm: refused before they are unpickled, whatever is waived.

With the published digest out of reach for a hostile file, the only way in is `--unverified`: behind it stand the
unpickler that looks nothing up, and limits on what a file may ask for.
"""

import builtins
import copyreg
import gzip
import io
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photos import contents
from test_cli import run
from test_sources import BINARY, PYTHON, Call, member, members, python_files, record, write_archive, write_folder

from faults.breaks import Break
from faults.effort import WHOLE, thin, tried
from ltdata.errors import MismatchError
from ltdata.sources import Where, cifar, load_source, pickles

_PICKLES, _CIFAR = "ltdata/sources/pickles.py", "ltdata/sources/cifar.py"
BREAKS = (
    Break(_CIFAR, "                if not accept:\n", "                if False:\n", "harm and not gigabytes"),
    Break(_CIFAR, "if found[name] != digest", "if False", "wrong_digest"),
    Break(_PICKLES, "return _ALLOWED[module, name]", "return super().find_class(module, name)", "looked_up"),
    Break(_PICKLES, " > _MAX_OPCODES):", " > 2**32):", "memory"),
    Break(_PICKLES, "all(type(side) is int for side in shape)", "True", "memory"),
    Break(_PICKLES, "object(),  # only", 'type("_", (), {}),  # only', "left_behind"),
    Break(_CIFAR, "if self._left_bytes < 0:", "if False:", "harm and link"),
    Break(_CIFAR, "<= _MAX_ARCHIVE_BYTES:", "<= 2**100:", "harm and bytes"),
    Break(_CIFAR, "                if name in files:\n", "                if False:\n", "harm and twice"),
    Break(_CIFAR, "stat().st_size > _MAX_MEMBER_BYTES", "stat().st_size > 1 << 50", "far_too_many"),
)
_LIMIT_BYTES = 3 << 30  # of addresses, for a process that reads a hostile file; torch is not in it


def text(value: str) -> bytes:
    """Push text, as protocol 2 has it."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def whole(payload: bytes) -> bytes:
    """Pickle a split whose labels are a payload, which pushes one value."""
    images = pickle.dumps(np.zeros((20, 3072), np.uint8), protocol=3)[2:-1]
    return b"\x80\x04}(C\x04data" + images + b"C\x0bfine_labels" + payload + b"u."


def called(function: Callable[..., object], *arguments: object, protocol: int = 2) -> bytes:
    return pickle.dumps(Call(function, *arguments), protocol=protocol)


ARRAY = name("numpy.core.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
UINT8 = name("numpy", "dtype") + b"U\x02u1K\x00K\x01\x87R"


def array(shape: bytes, dtype: bytes = UINT8, data: bytes = b"C\x01x") -> bytes:
    """Push an array as numpy rebuilds it."""
    return ARRAY + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


def looked_up(canary: Path) -> dict[str, bytes]:
    """Pickles that ask for a name: to call it, or to have it."""
    code = f"open({str(canary)!r}, 'w').close()"
    touch = f"touch '{canary}'"
    asked: dict[str, bytes] = {
        "os.mkdir": called(os.mkdir, str(canary)),
        "subprocess.call": called(subprocess.call, [sys.executable, "-c", code]),
        "copyreg._reconstructor": called(copyreg._reconstructor, dict, object, None),  # type: ignore[attr-defined]
        "functools.partial": called(__import__("functools").partial, os.mkdir, str(canary)),
        "getattr chain": name("builtins", "getattr") + name("os", "mkdir") + text("__self__") + b"\x86R.",
        "getattr of a name with dots": b"\x80\x04" + text("numpy") + text("dtype.__base__.__subclasses__") + b"\x93)R.",
        "an allowed module": b"\x80\x04" + text("numpy") + text("load") + b"\x93" + text(str(canary)) + b"\x85R.",
        "python 2's builtins": name("__builtin__", "eval") + text(code) + b"\x85R.",
        "INST": b"(" + text(touch) + b"ios\nsystem\n.",
        "OBJ": b"(" + name("os", "system") + text(touch) + b"o.",
        "NEWOBJ": b"\x80\x02" + name("collections", "OrderedDict") + b")\x81.",
        "NEWOBJ_EX": b"\x80\x04" + name("subprocess", "Popen") + text(touch) + b"\x85}\x92.",
        "an instance with a state": name("types", "SimpleNamespace") + b")R}" + text("a") + b"K\x01sb.",
        "numpy's own reconstruct of objects": array(b"K\x01\x85", name("numpy", "dtype") + b"U\x01OK\x00K\x01\x87R")
        + b".",
        "numpy's scalar": name("numpy.core.multiarray", "scalar") + UINT8 + b"C\x01x\x86R.",
        "numpy's ufunc": name("numpy", "ufunc") + b"U\x03addU\x03add\x86R.",
        "pandas": name("pandas.io.pickle", "read_pickle") + text(str(canary)) + b"\x85R.",
        "torch": name("torch.storage", "_load_from_bytes") + text(str(canary)) + b"\x85R.",
        "pickle itself": called(pickle.loads, pickle.dumps(Call(os.mkdir, str(canary)))),
        "a persistent id": b"\x80\x02" + text("os") + b"Q.",
        "a persistent id as text": b"Pos.system\n.",
        "a buffer that is not there": b"\x80\x05\x97.",
        "a read-only buffer": b"\x80\x05\x97\x98.",
    }
    for protocol in range(6):
        asked |= {
            f"os.system, protocol {protocol}": called(os.system, touch, protocol=protocol),
            f"exec, protocol {protocol}": called(exec, code, protocol=protocol),
            f"eval, protocol {protocol}": called(eval, code, protocol=protocol),
            f"__import__, protocol {protocol}": called(builtins.__import__, "antigravity", protocol=protocol),
        }
    return asked


LOOKED_UP = list(looked_up(Path("canary")))


def collisions(count: int) -> bytes:
    """Push a dictionary of integers with one hash."""
    keys = [pickle.encode_long(number * (2**61 - 1)) for number in range(1, count)]
    return b"}(" + b"".join(b"\x8a" + bytes([len(key)]) + key + b"N" for key in keys) + b"u"


def laughs(levels: int) -> bytes:
    """Push a list of ten lists of ten lists of ...: little to hold, and endless to print."""
    pushed = b"](" + text("lol") * 10 + b"eq\x00"
    for level in range(levels):
        pushed += b"0](" + (b"h" + bytes([level])) * 10 + b"eq" + bytes([level + 1])
    return pushed


MEMORY: dict[str, bytes] = {
    "a number of the memo": b"Nr" + struct.pack("<I", 1 << 27),
    "the largest number of the memo": b"Nr\xff\xff\xff\xff",
    "a number of the memo as text": b"Np2147483647\n",
    "a text times a number as the shape": array(b"C\x01xJ\xff\xff\xff\x7f\x86"),
    "a list times a number as the shape": array(b"]K\x00aJ\xff\xff\xff\x3f\x86"),
    "an array larger than its bytes": array(b"J\xff\xff\xff\x7f\x85"),
    "an array of negative sides": array(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86"),
    "an array of endless sides": array(b"\x8b" + struct.pack("<i", 8000) + b"\x7f" * 8000 + b"\x85"),
    "bytes that are not there": b"\x8e" + struct.pack("<Q", 2**62),
    "a bytearray that is not there": b"\x96" + struct.pack("<Q", 2**40),
    "a frame that is not there": b"\x95" + struct.pack("<Q", 2**62),
    "a long integer that is not there": b"\x8b" + struct.pack("<i", 2**31 - 1),
    "digits without end": b"I" + b"9" * 1_000_000 + b"\n",
    "a billion laughs as a dtype": name("numpy", "dtype") + laughs(12) + b"\x85R",
    "a billion laughs as labels": laughs(12),
    "a billion laughs as a name": laughs(12) + text("x") + b"\x93",
    "a long dtype": name("numpy", "dtype") + text("u" * 3_000_000) + b"\x85R",
    "a long name": name("os" * 1_000_000, "system"),
    "keys of one hash": collisions(60_000),
    "a set of keys of one hash": b"\x8f(" + collisions(60_000)[2:-1] + b"\x90",
    "tuples in tuples": b"K\x00" + b"\x85" * 1_000_000 + b"}",
    "lists in lists": b"]" * 900_000 + b"a" * 899_999,
    "dictionaries in dictionaries": b"}" + b"N}" * 400_000 + b"s" * 400_000,
    "frozen sets in frozen sets": b"K\x00" + b"(\x85" * 100_000,
    "marks": b"(" * 900_000 + b"1" * 900_000 + b"N",
    "opcodes without end": b"N0" * 3_000_000 + b"N",
}


# A child with little memory reads a file, so that a limit that fails shows as an error of its own.
_CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
from pathlib import Path
from ltdata.errors import MismatchError
from ltdata.sources import Where, load_source
import ltdata.sources.cifar
for place in map(Path, sys.argv[1:]):
    before = resource.getrusage(resource.RUSAGE_SELF)
    try:
        load_source("cifar100", Where(data_dir=place, unverified=True))
        print("read")
    except MismatchError as error:
        after = resource.getrusage(resource.RUSAGE_SELF)
        known = Path("/proc/self/status")  # its own; ru_maxrss begins with what the tests' process had
        lines = [line.split() for line in known.read_text().splitlines()] if known.exists() else []
        most = next((int(line[1]) for line in lines if line[0] == "VmHWM:"), after.ru_maxrss)
        print("refused", most >> 10, round(after.ru_utime - before.ru_utime), len(str(error)), str(error))
""".replace("{limit}", str(_LIMIT_BYTES))


def refusals(places: list[Path]) -> list[tuple[int, int, str]]:
    """Read folders or archives in a process of their own; return most memory so far in MB, seconds, and the error."""
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, *map(str, places)], capture_output=True, text=True, check=False
    )
    assert (child.returncode, child.stderr) == (0, ""), (child.returncode, child.stderr[-400:], child.stdout[-400:])
    lines = child.stdout.splitlines()
    assert len(lines) == len(places), lines
    found = []
    for line in lines:
        assert line.startswith("refused "), line
        _, memory, seconds, length, error = line.split(" ", 4)
        assert len(error) == int(length) < 800, line
        found.append((int(memory), int(seconds), error))
    return found


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def never_unpickled() -> Iterator[None]:
    """Fail where anything is unpickled, or looked at as a pickle."""
    reached: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for module, attribute in ((pickles, "loads"), (pickle, "loads"), (pickle, "load"), (pickle, "Unpickler")):
            patch.setattr(module, attribute, lambda *_a, _at=attribute, **_k: reached.append(_at))
        patch.setattr(pickles.pickletools, "genops", lambda *_: reached.append("genops"))
        yield
    assert reached == []


def build(place: Path, *options: str) -> Any:
    return run("build", "cifar100", "--imbalance", "10", "--data-dir", place, "--out", "out", "--quiet", *options)


def place_of(form: str, files: dict[str, bytes], here: Path) -> Path:
    if form == "folder":
        return write_folder(here / PYTHON.folder, files)
    return write_archive(here / PYTHON.archive, members(PYTHON.folder, files))


@pytest.mark.parametrize("form", ["folder", "archive"])
@pytest.mark.parametrize("victim", ["train", "test", "meta"])
def test_a_wrong_digest_is_refused_before_anything_is_unpickled(form: str, victim: str, here: Path) -> None:
    for asked in thin(LOOKED_UP, to=2):
        place = place_of(form, python_files(**{victim: looked_up(here / "canary")[asked]}), here)
        before = contents(here)
        with never_unpickled():
            ended = build(place)
        assert ended.refused(3), ended
        for part in ("digest", "published", "--unverified"):
            assert part in ended.err
        assert contents(here) == before
        assert not (here / "canary").exists()
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        tried()


@pytest.mark.parametrize("asked", thin(LOOKED_UP, to=24))
def test_a_name_that_is_looked_up_is_refused_though_the_digest_is_waived(asked: str, here: Path) -> None:
    for victim, wrap in (("train", whole), ("meta", lambda payload: payload)):
        payload = looked_up(here / "canary")[asked]
        if wrap is whole:  # the pickle's own first opcode and its STOP are the record's
            payload = payload[2 if payload[:1] == b"\x80" else 0 : -1]
            payload = payload[9:] if payload[:1] == b"\x95" else payload  # its frame
        place = place_of("folder", python_files(**{victim: wrap(payload)}), here)
        before = contents(here)
        ended = build(place, "--unverified")
        assert ended.refused(3), ended
        assert "not readable" in ended.err
        assert contents(here) == before
        assert not (here / "canary").exists()
        shutil.rmtree(place)
        tried()


def test_an_extension_code_that_this_process_knows_is_refused(here: Path) -> None:
    """`copyreg` numbers names, and the unpickler keeps what it has looked up: it would not ask again."""
    copyreg.add_extension("os", "mkdir", 0x7E)  # type: ignore[arg-type]
    try:
        assert pickle.loads(b"\x80\x02\x82\x7e.") is os.mkdir
        for code in (b"\x82\x7e", b"\x83\x7e\x00", b"\x84\x7e\x00\x00\x00"):
            payload = code + text(str(here / "canary")) + b"\x85R"
            place = place_of("folder", python_files(train=whole(payload)), here)
            with pytest.raises(MismatchError, match="EXT"):
                load_source("cifar100", Where(data_dir=place, unverified=True))
            assert not (here / "canary").exists()
            shutil.rmtree(place)
            tried()
    finally:
        copyreg.remove_extension("os", "mkdir", 0x7E)  # type: ignore[arg-type]


def test_nothing_is_left_behind_for_the_next_pickle(here: Path) -> None:
    """A state given to a name, not to what it makes, would change it for the whole process."""
    allowed = [(key, name(*key)) for key in pickles._ALLOWED]
    for state in (b"}" + text("evil") + b"K\x01s", b"N}" + text("evil") + b"K\x01s\x86"):
        for (module, attribute), pushed in allowed:
            place = place_of("folder", python_files(train=whole(pushed + state + b"b")), here)
            with pytest.raises(MismatchError):
                load_source("cifar100", Where(data_dir=place, unverified=True))
            assert not hasattr(pickles._ALLOWED[module, attribute], "evil")
            shutil.rmtree(place)
            tried()
    assert load_source("cifar100", Where(data_dir=place_of("folder", python_files(), here), unverified=True))


def test_memory_and_time_of_a_pickle_are_bounded(here: Path) -> None:
    chosen = list(MEMORY)
    places = [
        write_folder(here / str(number) / PYTHON.folder, python_files(train=whole(MEMORY[case])))
        for number, case in enumerate(chosen)
    ]
    for case, (memory, seconds, error) in zip(chosen, refusals(places), strict=True):
        assert "train is not readable" in error, case
        assert memory < 600, (case, memory)
        assert seconds < 20, (case, seconds)
        tried()


# Archives


def declared(size_bytes: int, kind: bytes = tarfile.REGTYPE, title: str = f"{PYTHON.folder}/train") -> bytes:
    """Make a header that says how many bytes follow, in base 256 where digits do not hold them."""
    info = tarfile.TarInfo(title)
    info.type = kind
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    if 0 <= size_bytes < 8**11:
        header[124:136] = b"%011o\0" % size_bytes
    else:
        header[124:136] = (size_bytes % 2**96 | 1 << 95).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def packed(path: Path, *parts: bytes, zeros: int = 0) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for part in parts:
            file.write(part)
        block = bytes(1 << 20)
        for _ in range(zeros >> 20):
            file.write(block)
    return path


def bomb(path: Path, *parts: bytes, gigabytes: int = 10) -> Path:
    """Write a stream that goes on with gigabytes of zeros: one member of the gzip file, again and again."""
    start, block = gzip.compress(b"".join(parts), 1), gzip.compress(bytes(1 << 26), 9)
    with path.open("wb") as file:
        file.write(start)
        for _ in range(gigabytes << 4):
            file.write(block)
    return path


def put(here: Path, *changed: tuple[tarfile.TarInfo, bytes], last: bool = True) -> Path:
    """Write an archive of whole files and some members more."""
    rest = members(PYTHON.folder, python_files())
    return write_archive(here / PYTHON.archive, [*rest, *changed] if last else [*changed, *rest])


TRAIN = f"{PYTHON.folder}/train"


def _without_train(here: Path, *changed: tuple[tarfile.TarInfo, bytes]) -> Path:
    rest = [item for item in members(PYTHON.folder, python_files()) if item[0].name != TRAIN]
    return write_archive(here / PYTHON.archive, [*rest, *changed])


def _kind(kind: bytes, **fields: object) -> Callable[[Path], Path]:
    return lambda here: _without_train(here, member(TRAIN, type=kind, **fields))


def _named(title: str) -> Callable[[Path], Path]:
    return lambda here: _without_train(here, member(title, record(20)))


def _nested(here: Path) -> Path:
    inner = put(here).read_bytes()
    return write_archive(here / PYTHON.archive, [member(PYTHON.archive, inner)])


def _cut(share: float) -> Callable[[Path], Path]:
    def cut(here: Path) -> Path:
        path = put(here)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        return path

    return cut


def _raw(content: Callable[[Path], bytes]) -> Callable[[Path], Path]:
    def written(here: Path) -> Path:
        path = here / PYTHON.archive
        path.write_bytes(content(here))
        return path

    return written


def _sparse(here: Path) -> Path:
    """Say that a sparse member of no bytes is two gigabytes of holes."""
    header = bytearray(declared(0, tarfile.GNUTYPE_SPARSE))
    header[386:410] = b"%011o\0%011o\0" % (0, 0)
    header[483:495] = b"%011o\0" % (2 << 30)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return packed(here / PYTHON.archive, bytes(header), bytes(1024))


ARCHIVES: dict[str, Callable[[Path], Path]] = {
    "ten gigabytes of zeros": lambda here: bomb(here / PYTHON.archive),
    "a wanted member of ten gigabytes": lambda here: bomb(here / PYTHON.archive, declared(10 << 30)),
    "another member of ten gigabytes": lambda here: bomb(here / PYTHON.archive, declared(10 << 30, title="other")),
    "a wanted member of 2**60 bytes": lambda here: packed(here / PYTHON.archive, declared(2**60)),
    "another member of 2**90 bytes": lambda here: packed(here / PYTHON.archive, declared(2**90, title="other")),
    "a member of less than no bytes": lambda here: packed(here / PYTHON.archive, declared(-(2**40)), bytes(1024)),
    "a long name of ten gigabytes": lambda here: bomb(
        here / PYTHON.archive, declared(10 << 30, tarfile.GNUTYPE_LONGNAME, "././@LongLink")
    ),
    "a long link of two gigabytes": lambda here: bomb(
        here / PYTHON.archive, declared(2 << 30, tarfile.GNUTYPE_LONGLINK, "././@LongLink"), gigabytes=2
    ),
    "a long link of 2**60 bytes": lambda here: packed(
        here / PYTHON.archive, declared(2**60, tarfile.GNUTYPE_LONGLINK, "././@LongLink")
    ),
    "a pax header of ten gigabytes": lambda here: bomb(here / PYTHON.archive, declared(10 << 30, tarfile.XHDTYPE, "x")),
    "a global pax header of ten gigabytes": lambda here: bomb(
        here / PYTHON.archive, declared(10 << 30, tarfile.XGLTYPE, "x")
    ),
    "a pax size of 2**70": lambda here: packed(
        here / PYTHON.archive,
        declared(31, tarfile.XHDTYPE, "x"),
        b"31 size=1180591620717411303424\n".ljust(512, b"\0"),
        declared(0),
    ),
    "a sparse member of two gigabytes of holes": _sparse,
    "a symbolic link": _kind(tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a symbolic link inside": _kind(tarfile.SYMTYPE, linkname="test"),
    "a hard link": _kind(tarfile.LNKTYPE, linkname=f"{PYTHON.folder}/test"),
    "a character device": _kind(tarfile.CHRTYPE, devmajor=1, devminor=5),
    "a block device": _kind(tarfile.BLKTYPE, devmajor=8),
    "a pipe": _kind(tarfile.FIFOTYPE),
    "a folder": _kind(tarfile.DIRTYPE),
    "a member that leads outside": _named("../" + TRAIN),
    "a member that leads outside and in again": _named(f"{PYTHON.folder}/../{TRAIN}"),
    "an absolute member": _named("/" + TRAIN),
    "a member with another case": _named(TRAIN.upper()),
    "a member without its folder": _named("train"),
    "a member twice": lambda here: put(here, member(TRAIN, record(21))),
    "a member twice by another spelling": lambda here: put(here, member("./" + TRAIN, record(21)), last=False),
    "an archive in an archive": _nested,
    "no members": lambda here: write_archive(here / PYTHON.archive, []),
    "no gzip": _raw(lambda here: gzip.decompress(put(here).read_bytes())),
    "no tar": _raw(lambda _: gzip.compress(b"hello" * 1000)),
    "nothing": _raw(lambda _: b""),
    "a gzip header alone": _raw(lambda _: gzip.compress(b"")[:10]),
    "garbled deflate": _raw(lambda here: (data := put(here).read_bytes())[:2000] + b"\xff" * 400 + data[2400:]),
    **{f"cut at {share}": _cut(share) for share in (0.001, 0.1, 0.5, 0.9, 0.99)},
}


HEAVY = [case for case in ARCHIVES if case.endswith(("header of ten gigabytes", "name of ten gigabytes"))]  # 2 s each


def count_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a stream is read on without end: tarfile would, past the end of the file."""
    read, empty = cifar._Unpacked.read, 0

    def counted(stream: Any, size: int = -1) -> bytes:
        nonlocal empty
        data = read(stream, size)
        empty += not data
        assert empty < 1000, "read on after the end"
        return data

    monkeypatch.setattr(cifar._Unpacked, "read", counted)


@pytest.mark.parametrize("case", [case for case in ARCHIVES if WHOLE or case not in HEAVY])
def test_an_archive_made_to_harm_is_refused_and_nothing_is_extracted(
    case: str, tmp_path_factory: pytest.TempPathFactory, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_reads(monkeypatch)
    place = ARCHIVES[case](tmp_path_factory.mktemp("archive"))
    beside = contents(place.parent)
    most_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ended = build(place)
    assert ended.refused(3), ended
    assert "published" in ended.err
    ended = build(place, "--unverified")
    assert ended.refused(3), ended
    assert str(place) in ended.err
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most_bytes < 1_300_000, "KB"
    assert list(here.iterdir()) == []
    assert contents(place.parent) == beside
    tried()


@pytest.mark.parametrize("layout", [PYTHON, BINARY], ids=["python", "binary"])
def test_a_file_in_a_folder_that_has_far_too_many_bytes_is_not_read(layout: Any, here: Path) -> None:
    folder = write_folder(here / layout.folder, dict.fromkeys([*layout.digests, layout.names_file], b""))
    with (folder / next(iter(layout.digests))).open("wb") as file:
        file.truncate(1 << 40)
    for options in ((), ("--unverified",)):
        ended = build(folder, *options)
        assert ended.refused(3), ended
        assert "bytes" in ended.err
        tried()


def test_a_truncated_stream_of_any_length_is_refused(here: Path) -> None:
    data = put(here).read_bytes()
    for length in thin(range(0, len(data) - 1500, max(1, len(data) // 60)), to=4):
        (here / PYTHON.archive).write_bytes(data[:length])
        with pytest.raises(MismatchError):
            load_source("cifar100", Where(data_dir=here / PYTHON.archive, unverified=True))
        tried()


def test_these_pickles_are_hostile(here: Path) -> None:
    """Those that touch a file do so where nothing stands in the way."""
    for protocol in range(6):
        pickle.load(io.BytesIO(looked_up(here / "canary")[f"exec, protocol {protocol}"]))
        (here / "canary").unlink()
