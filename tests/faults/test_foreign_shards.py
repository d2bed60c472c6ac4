"""Shards of other tools, cut, flipped, duplicated, made to harm: refused by name, or all of their samples come in."""

import io
import os
import pickle
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photos import contents, names, photo, put
from test_cli import run
from test_tars import as_webdataset_reads, blocks, checksummed, packed, rows, sample

from faults.breaks import Break
from faults.effort import examples, thin, tried
from ltdata.errors import LtdataError, MismatchError
from ltdata.sources.tar_samples import read

_TAR, _SAMPLES, _TARS = "ltdata/tar.py", "ltdata/sources/tar_samples.py", "ltdata/sources/tars.py"
BREAKS = (
    Break(_TAR, '!= sum(block) - sum(block[148:156]) + 8 * ord(" ")', "< 0", "flipped"),
    Break(_TAR, "        if len(data) < size:", "        if False:", "cut"),
    Break(_TAR, 'if data.strip(b"\\0"):', "if False:", "after_the_end or end_of_archive"),
    Break(_TAR, "if header.kind in _REFUSED or", "if", "no_file"),
    Break(_TAR, "header.size > _MOST_EXTENDED_BYTES", "False", "extended"),
    Break(_SAMPLES, "                if key in seen:", "                if False:", "duplicate"),
    Break(_SAMPLES, "            if fault:", "            if False:", "outside"),
    Break(_SAMPLES, 're.fullmatch(rb"[0-9]{1,9}(?:\\r?\\n)?", data)', 're.match(rb"", data)', "label"),
    Break(_TARS, "        if other is not tar:", "        if False:", "duplicate"),
    Break(_TARS, "        if count:\n", "        if False:\n", "lost_a_part"),
)
PAX = tarfile.PAX_FORMAT
SAMPLES = [part for n, label in enumerate((1, 0)) for part in sample(f"{n:03d}", label, photo(n))]


def timed(form: int) -> bytes:
    """Make a shard as webdataset does: times that are no whole seconds, which PAX writes in headers of their own."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in SAMPLES:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1_700_000_000.25  # type: ignore[assignment]
            member.uname = member.gname = "bigdata"
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


LONG = "k" * 120
FOREIGN = {
    "ustar": packed(SAMPLES),
    "pax": timed(PAX),
    "gnu": packed([("./", b""), *((f"./{LONG}/{name}", data) for name, data in SAMPLES)], form=tarfile.GNU_FORMAT),
    "pax-names": packed([(f"{LONG}é/{name}", data) for name, data in SAMPLES], form=PAX),
}


def outcome(place: Path, data: bytes) -> list[tuple[str, int | str, str]] | str:
    """Read a shard: key, label and digest of its samples, or why it is refused."""
    place.write_bytes(data)
    try:
        found = read(place)
    except MismatchError as error:
        return str(error)
    if found.unlabelled or found.imageless:  # counted, and refused when all shards are read
        return str((found.unlabelled, found.imageless))
    return [
        (name.rpartition(".")[0], target, sha256)
        for name, target, sha256 in zip(found.names, found.targets, found.image_sha256, strict=True)
    ]


def refuse(folder: Path, pattern: str, files: dict[str, bytes]) -> None:
    """Check that the command refuses shards in one line that names one, and that nothing else than they is there."""
    shards = put(folder / "in", files)
    before = contents(folder)
    ended = run("import", shards, "--out", folder / "out", "--workers", 1)
    assert ended.refused(3), (ended, pattern)
    assert pattern in ended.err, ended.err
    assert any(name.rpartition("/")[2] in ended.err for name in files)
    assert contents(folder) == before
    assert names(folder) == ["in"]


# --- cut, flipped


@pytest.mark.parametrize("form", FOREIGN)
def test_a_cut_shard_is_refused_or_has_lost_nothing_but_zeros_at_its_end(form: str, tmp_path: Path) -> None:
    whole = FOREIGN[form]
    used = len(whole.rstrip(b"\0"))
    for length in thin(range(0, len(whole), 128), 40):
        files = {"train-0.tar": whole[:length]}
        if length % 512 == 0 and length >= used + -used % 512 + 1024:  # two blocks of zeros are left
            assert outcome(tmp_path / "x.tar", whole[:length]) == outcome(tmp_path / "x.tar", whole)
            (tmp_path / "x.tar").unlink()
        else:
            refuse(tmp_path, "it was cut off", files)
        tried()


def test_cuts_that_lose_samples_in_silence_elsewhere_are_refused(tmp_path: Path) -> None:
    """Where a cut falls on the end of a member, webdataset takes it for the end of the shard."""
    whole = FOREIGN["ustar"]
    silent = 0
    for length in range(512, len(whole.rstrip(b"\0")), 512):
        place = put(tmp_path, {"x.tar": whole[:length]}) / "x.tar"
        try:
            theirs = as_webdataset_reads(place)
        except (tarfile.TarError, EOFError, OSError, ValueError):
            continue
        silent += 1
        assert "it was cut off" in outcome(place, whole[:length]), theirs
        tried()
    assert silent >= 2


@pytest.mark.parametrize("form", FOREIGN)
def test_every_flipped_bit_of_a_header_is_found_or_changes_no_sample(form: str, tmp_path: Path) -> None:
    """Also those of extended headers and of what they say, which have no checksum: a sample then lacks a part."""
    whole = FOREIGN[form]
    place = tmp_path / "x.tar"
    original = outcome(place, whole)
    heads = headers(whole)[:4]  # what follows is of the same kinds
    bits = [at * 8 + bit for start, end in heads for at in range(start, end) for bit in range(8)]
    unchanged = 0
    for bit in thin(bits, 250):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        found = outcome(place, bytes(flipped))
        unchanged += found == original
        assert found == original or isinstance(found, str), f"bit {bit}: {found}"
        tried()
    assert unchanged < len(thin(bits, 250)) / 3


def headers(whole: bytes) -> list[tuple[int, int]]:
    """Find what of an archive says where things are: headers, and the content of extended ones."""
    found, at = [], 0
    while any(whole[at : at + 512]):
        size = int(whole[at + 124 : at + 135], 8)
        found.append((at, at + 512 + (size if whole[at + 156 : at + 157] in {b"x", b"L"} else 0)))
        at += 512 + size + -size % 512
    return found


def test_a_flipped_bit_after_the_end_of_archive_mark_is_found(tmp_path: Path) -> None:
    whole = FOREIGN["ustar"]
    used = len(whole.rstrip(b"\0"))
    used += -used % 512
    for at in thin(range(used, len(whole), 61), 12):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        refuse(tmp_path, "write or fetch it again", {"train-0.tar": bytes(flipped)})
        tried()


def test_samples_after_the_end_of_archive_mark_are_not_lost_in_silence(tmp_path: Path) -> None:
    """Two archives in one file: tarfile, and so webdataset, reads the first."""
    one, two = packed(SAMPLES), packed(sample("z", 0))
    refuse(tmp_path, "more than zeros after it", {"train-0.tar": one + two})
    tried()
    inside = len(one.rstrip(b"\0"))
    inside += -inside % 512
    refuse(tmp_path, "a block of zeros between members", {"train-0.tar": one[:inside] + bytes(512) + two})
    tried()


def test_a_member_that_is_gone_or_blanked_is_found_unless_its_sample_is_whole(tmp_path: Path) -> None:
    """What a lost_a_part of a shard leaves: an image without its label, a label without its image."""
    whole = packed(SAMPLES)
    heads = [start for start, _ in headers(whole)]
    for number, start in enumerate(heads):
        end = [*heads, len(whole)][number + 1]
        if number < len(heads) - 1:
            files = {"train-0.tar": whole[:start] + whole[end:], "train-1.tar": packed(sample("more", 0))}
            refuse(tmp_path, "label", files)
            tried()
        blanked = whole[:start] + bytes(512) + whole[start + 512 :]
        refuse(tmp_path, "train-0.tar", {"train-0.tar": blanked})
        tried()
        (tmp_path / "in" / "train-1.tar").unlink(missing_ok=True)


# --- duplicated, interleaved


PARTS = {"a.cls": b"0", "a.jpg": photo(0), "b.cls": b"1", "b.jpg": photo(1)}
ORDERS = {
    "a.cls b.cls a.jpg b.jpg": "'a' comes a second time",
    "a.cls b.jpg a.jpg b.cls": "'a' comes a second time",
    "a.jpg b.cls b.jpg a.cls": "'a' comes a second time",
    "b.cls b.jpg a.cls a.jpg b.cls b.jpg": "'b' comes a second time",
    "a.cls a.jpg b.cls b.jpg a.cls": "'a' comes a second time",
    "a.cls a.cls a.jpg": "'a' has two members 'cls'",
    "a.cls a.jpg a.jpg": "'a' has two members 'jpg'",
    "a.jpg a.cls a.cls": "'a' has two members 'cls'",
}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, PAX])
@pytest.mark.parametrize("order", ORDERS)
def test_duplicate_and_interleaved_keys_are_refused(order: str, form: int, tmp_path: Path) -> None:
    members = [(name, PARTS[name]) for name in order.split()]
    refuse(tmp_path, ORDERS[order], {"train-0.tar": packed(members, form=form)})
    tried()


@pytest.mark.parametrize("other", ["train-1.tar", "val-0.tar", "test-0.tar"])
def test_a_duplicate_shard_is_refused_wherever_it_lies(other: str, tmp_path: Path) -> None:
    """Byte by byte, or packed again with other times."""
    refuse(tmp_path, "is the same as", {"train-0.tar": FOREIGN["ustar"], other: FOREIGN["ustar"]})
    tried()
    refuse(tmp_path, "the same image, is in", {"train-0.tar": FOREIGN["ustar"], other: FOREIGN["pax"]})
    tried()


def test_a_sample_that_lost_a_part_between_two_shards_is_refused(tmp_path: Path) -> None:
    """A writer that splits by bytes leaves a label at the end of one shard, its image at the beginning of the next."""
    for cut in range(1, len(SAMPLES), 2):
        refuse(tmp_path, "label", {"train-0.tar": packed(SAMPLES[:cut]), "train-1.tar": packed(SAMPLES[cut:])})
        tried()


# --- members that are no files, and names that lead elsewhere


KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
    tarfile.CONTTYPE: "an unknown type",
    b"V": "an unknown type",
    b"M": "an unknown type",
    b"\xff": "an unknown type",
}
PLACES = ("a.jpg", "a.cls", "a.txt", "/etc/passwd.jpg", "../../x.jpg")


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_that_is_no_file_is_refused(kind: bytes, tmp_path: Path) -> None:
    """Whatever it is called; the target of a link is the canary, which nobody reads or writes."""
    canary = put(tmp_path / "kept", {"canary": b"alive"}) / "canary"
    for name in PLACES:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.devmajor, member.devminor = kind, str(canary), 1, 3
        files = {"train-0.tar": packed(SAMPLES)[: headers(packed(SAMPLES))[-1][0]] + member.tobuf() + bytes(1024)}
        shards = put(tmp_path / "in", files)
        before = canary.stat()
        ended = run("import", shards, "--out", tmp_path / "out")
        assert ended.refused(3)
        assert KINDS[kind].removeprefix("an ") in ended.err
        assert "train-0.tar" in ended.err
        assert (names(tmp_path), canary.read_bytes()) == (["in", "kept"], b"alive")
        assert canary.stat().st_mtime_ns == before.st_mtime_ns
        tried()


OUTSIDE = (
    "/etc/passwd.jpg",
    "/home/canary.jpg",
    "../canary.jpg",
    "a/../../canary.jpg",
    "./../canary.jpg",
    "a/..",
    "..",
    "C:/canary.jpg",
    "C:\\canary.jpg",
    "a//b.jpg",
    "a/./b.jpg",
    "a\nb.jpg",
    "a\rb.jpg",
    "\x1b[2Ja.jpg",
    "a\x7f.jpg",
    "a\u2028b.jpg",
    "a\x85b.jpg",
)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, PAX])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_outside_or_cannot_be_printed_is_refused(name: str, form: int, tmp_path: Path) -> None:
    refuse(tmp_path, "pack it again with plain names", {"train-0.tar": packed([*SAMPLES, (name, photo(3))], form=form)})
    tried()


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    for name in (b"\xff.jpg", b"a\xc3.jpg", b"\xed\xa0\x80.jpg", b"", b"\0a.jpg"):
        broken = bytearray(packed(SAMPLES))
        broken[:100] = name.ljust(100, b"\0")
        refuse(tmp_path, "train-0.tar", {"train-0.tar": checksummed(broken)})
        tried()


# --- what would be run, if it were opened by others


def hostile(canary: Path) -> dict[str, bytes]:
    """Members that harm who decodes them: pickles in every form that webdataset's decoders, numpy and torch open."""

    class Harm:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
            return (Path.write_text, (canary, "hit"))  # type: ignore[return-value]

    pickled = pickle.dumps(Harm())
    array = io.BytesIO()
    np.save(array, np.array([1, Harm()], dtype=object), allow_pickle=True)
    arrays = io.BytesIO()
    np.savez(arrays, x=np.array([Harm()], dtype=object))
    page = f"<script>fetch('{canary}')</script>".encode()
    return {
        **dict.fromkeys(("pyd", "pickle", "pkl", "pth", "pt", "ckpt", "bin", "mp", "cls.pkl", "jpg.pyd"), pickled),
        "npy": array.getvalue(),
        "npz": arrays.getvalue(),
        "py": b"open('canary', 'w')",
        "sh": b"#!/bin/sh\ntouch canary",
        "html": page,
        "json.gz": b"\x1f\x8b" + bytes(20),
    }


HOSTILE = tuple(hostile(Path("canary")))


@pytest.mark.parametrize("suffix", HOSTILE)
def test_a_hostile_member_beside_an_image_is_left_out_unread(suffix: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    data = hostile(canary)[suffix]
    put(tmp_path, {"x.tar": packed([*sample("a", 0), (f"a.{suffix}", data)])})
    ended = run("import", tmp_path / "x.tar", "--out", tmp_path / "out")
    assert f"left out 1 members: 1 {suffix}\n" in ended.out
    assert rows(tmp_path / "out") == [("x.tar/a.jpg", 0, photo(0))]
    stored = b"".join(contents(tmp_path / "out").values())
    assert data not in stored
    assert names(tmp_path) == ["out", "x.tar"]
    assert not canary.exists()
    tried()


@pytest.mark.parametrize("suffix", HOSTILE)
@pytest.mark.parametrize("place", ["cls", "json", "jpg"])
def test_a_hostile_member_in_place_of_a_label_or_an_image_is_refused_unread(
    suffix: str, place: str, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    members = dict(sample("a", 0)) if place != "json" else {"a.jpg": photo(0)}
    members[f"a.{place}"] = hostile(canary)[suffix]
    refuse(tmp_path, "'a", {"train-0.tar": packed(members.items())})
    assert not canary.exists()
    tried()


def test_a_hostile_member_alone_gives_no_label(tmp_path: Path) -> None:
    """Without cls and JSON there is no label, whatever an array or a pickle may say."""
    for suffix, data in hostile(tmp_path / "canary").items():
        members = [("a.jpg", photo(0)), (f"a.{suffix}", data)]
        refuse(tmp_path, "1 sample has an image and no label", {"0.tar": packed(members)})
        tried()


def test_the_name_of_a_shard_is_never_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Webdataset runs what follows ``pipe:``, and fetches URLs."""
    monkeypatch.chdir(tmp_path)
    for command in ("pipe:touch canary;", "$(touch canary)", "`touch canary`", "--out=canary", "|touch canary "):
        name = f"{command}.tar"
        put(tmp_path / "in", {name: packed(SAMPLES)})
        ended = run("import", "in", "--out", "out", "--force")
        assert ended.code == 0, ended.err
        assert run("import", "pipe:touch canary;cat x.tar", "--out", "no").refused(4)
        assert names(tmp_path) == ["in", "out"]
        (tmp_path / "in" / name).unlink()
        tried()


def test_a_shard_that_is_no_regular_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    """A pipe without a writer would be waited for without end."""
    os.mkfifo(tmp_path / "train-0.tar")
    for path in (tmp_path, tmp_path / "train-0.tar", Path("/dev/zero.tar"), tmp_path / "gone.tar"):
        assert run("import", path, "--out", tmp_path.parent / "out").refused(4)
        tried()
    assert stat.S_ISFIFO((tmp_path / "train-0.tar").stat().st_mode)


# --- headers made by hand


def record(key: bytes, value: bytes) -> bytes:
    """Write a PAX record, led by its own length."""
    length = len(key) + len(value) + 3
    while len(b"%d" % length) + len(key) + len(value) + 3 != length:
        length = len(b"%d" % length) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (length, key, value)


def extended(kind: bytes, data: bytes) -> bytes:
    member = tarfile.TarInfo("././@x")
    member.type, member.size = kind, len(data)
    return member.tobuf(tarfile.GNU_FORMAT) + blocks(data)


EXTENDED: dict[str, tuple[bytes, str]] = {
    "PAX bomb": (extended(b"x", record(b"comment", b"x" * (1 << 20))), "a PAX header of 1,048,"),
    "long name bomb": (extended(b"L", b"x" * (1 << 20)), "a long name header of 1,048,576 bytes"),
    "size far beyond the file": (extended(b"x", record(b"size", b"9" * 15)), "inside a member"),
    "size no number": (extended(b"x", record(b"size", b"1_0")), "which is no number"),
    "size negative": (extended(b"x", record(b"size", b"-1")), "which is no number"),
    "size zero": (extended(b"x", record(b"size", b"0")), "no header with a right checksum"),
    "name too long": (extended(b"x", record(b"path", b"x" * 5000 + b".jpg")), "a name of 5,004 bytes"),
    "name outside": (extended(b"x", record(b"path", b"../a.jpg")), "leads outside"),
    "name empty": (extended(b"x", record(b"path", b"")), "is empty"),
    "name no text": (extended(b"x", record(b"path", b"\xff.jpg")), "not UTF-8"),
    "name with an end": (extended(b"x", record(b"path", b"a\0.jpg")), "holds a control character"),
    "two PAX headers": (extended(b"x", record(b"path", b"a.jpg")) * 2, "a PAX header twice"),
    "two long names": (extended(b"L", b"a.jpg\0") * 2, "a long name header twice"),
    "both": (extended(b"L", b"a.jpg\0") + extended(b"x", record(b"path", b"b.jpg")), "a member with two long names"),
    "sparse": (extended(b"x", record(b"GNU.sparse.major", b"1")), "a sparse file"),
    "global name": (extended(b"g", record(b"path", b"a.jpg")), "a global PAX header that sets b'path'"),
    "global size": (extended(b"g", record(b"size", b"0")), "a global PAX header that sets b'size'"),
    "global sparse": (extended(b"g", record(b"GNU.sparse.map", b"0")), "a global PAX header that sets"),
    "record too long": (extended(b"x", b"99 path=a\n"), "a PAX record"),
    "record too short": (extended(b"x", b"3 path=a\n"), "a PAX record"),
    "record of nothing": (extended(b"x", b"0 path=a\n"), "a PAX record"),
    "record without a number": (extended(b"x", b"path=a\n"), "a PAX record"),
    "record without an end": (extended(b"x", b"9 path=abc"), "a PAX record"),
    "record with a huge number": (extended(b"x", b"9" * 5000 + b" path=a\n"), "a PAX record"),
    "Solaris's": (extended(b"X", record(b"path", b"a.jpg")), "an unknown type"),
}


@pytest.mark.parametrize("case", EXTENDED)
def test_an_extended_header_that_cannot_be_is_refused(case: str, tmp_path: Path) -> None:
    made, pattern = EXTENDED[case]
    refuse(tmp_path, pattern.removeprefix("an "), {"train-0.tar": made + packed(SAMPLES)})
    tried()
    refuse(tmp_path, "train-0.tar", {"train-0.tar": made + bytes(1024)})  # and nothing after it
    tried()


FIELDS: dict[str, tuple[slice, bytes, str]] = {
    "size no number": (slice(124, 136), b"0000000001x ", "which is no number"),
    "size with an underscore": (slice(124, 136), b"000000000_1\0", "which is no number"),
    "size negative": (slice(124, 136), b"-0000000001\0", "which is no number"),
    "size negative in binary": (slice(124, 136), b"\xff" * 12, "which is no number"),
    "size huge": (slice(124, 136), b"77777777777\0", "inside a member"),
    "size huge in binary": (slice(124, 136), b"\x80" + b"\xff" * 11, "inside a member"),
    "size missing": (slice(124, 136), bytes(12), "which is no number"),
    "size one more": (slice(124, 136), b"%011o\0" % 513, "no header with a right checksum"),
    "magic": (slice(257, 265), b"ustar\x0001", "unknown kind of tar"),
    "magic of nobody": (slice(257, 265), b"zip     ", "unknown kind of tar"),
    "first part outside": (slice(345, 347), b"..", "leads outside"),
    "first part absolute": (slice(345, 347), b"/x", "is absolute"),
}


@pytest.mark.parametrize("case", FIELDS)
def test_a_field_of_a_header_that_cannot_be_is_refused(case: str, tmp_path: Path) -> None:
    field, value, pattern = FIELDS[case]
    made = bytearray(packed(SAMPLES))
    made[field] = value
    refuse(tmp_path, pattern, {"train-0.tar": checksummed(made)})
    tried()


def test_a_file_that_is_no_tar_is_told_by_what_it_is(tmp_path: Path) -> None:
    for start, pattern in (
        (b"\x1f\x8b\x08", "is gzip-compressed"),
        (b"BZh9", "is bzip2-compressed"),
        (b"\xfd7zXZ\0", "is xz-compressed"),
        (b"(\xb5/\xfd", "is zstd-compressed"),
        (b"PK\x03\x04", "is zip-compressed"),
        (b"<html>", "is no tar archive"),
        (photo(0), "is no tar archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is no tar archive"),
        (b"\0" * 1024 + b"x", "more than zeros after it"),
        (b"\0" * 512 + b"x", "a block of zeros between members"),
    ):
        refuse(tmp_path, pattern, {"train-0.tar": start.ljust(2048, b"x")})
        tried()


def test_a_folder_with_content_is_refused(tmp_path: Path) -> None:
    for name, kind in (("a.jpg", tarfile.DIRTYPE), ("a.jpg/", tarfile.AREGTYPE)):
        made = bytearray(packed(SAMPLES))
        made[:100], made[156:157] = name.encode().ljust(100, b"\0"), kind
        refuse(tmp_path, "with 1 bytes of content", {"train-0.tar": checksummed(made)})
        tried()


# --- labels


TAKEN_BY_INT = (b"-1", b"1_0", b" 1", b"1 ", b"+1", b"\n1", b"\xd9\xa1")
WRONG = (*TAKEN_BY_INT, b"", b"1.0", b"1e3", b"0b1", b"NaN", b"1\0", b"1,2", b"1" * 10)


@pytest.mark.parametrize("text", WRONG)
def test_a_label_that_is_no_plain_number_is_refused(text: bytes, tmp_path: Path) -> None:
    """Webdataset calls `int`, which takes the first seven."""
    assert text not in TAKEN_BY_INT or isinstance(int(text.decode()), int)
    refuse(tmp_path, "'000' has label", {"train-0.tar": packed([("000.cls", text), ("000.jpg", photo(0))])})
    tried()


NO_LABELS = (
    *("-1", "1.0", "true", "null", "[1]", "{}", "1e400", "1000000000"),
    *('""', '"-1"', '"1.0"', '"nan"', '"inf"', '"1e3"', '"a\\nb"', '"\\ud800"'),
)


@pytest.mark.parametrize("text", NO_LABELS)
def test_a_label_in_json_that_is_neither_number_nor_name_is_refused(text: str, tmp_path: Path) -> None:
    members = [("000.json", f'{{"label": {text}}}'.encode()), ("000.jpg", photo(0))]
    refuse(tmp_path, "neither a whole number of 0 or more nor the name of a class", {"train-0.tar": packed(members)})
    tried()


# --- any bytes


@settings(max_examples=examples(60, 3000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_is_read_or_refused_by_an_error_of_ours(data: st.DataObject, tmp_path: Path) -> None:
    """Pieces of four archives, cut anywhere, with bytes changed, in any order; what is read is whole samples."""
    piece = st.builds(
        lambda whole, start, length: whole[start * 128 : (start + length) * 128],
        st.sampled_from(list(FOREIGN.values())),
        st.integers(0, 40),
        st.integers(1, 60),
    )
    made = bytearray(b"".join(data.draw(st.lists(piece, min_size=1, max_size=4))))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=3)):
        if made:
            made[at % len(made)] = value
    place = tmp_path / "x.tar"
    place.write_bytes(bytes(made) + bytes(1024))
    try:
        found = read(place)
    except LtdataError:
        pass
    else:
        assert len(found.names) == len(found.targets) == len(found.image_sha256) == len(set(found.names))
    assert names(tmp_path) == ["x.tar"]
    tried()
