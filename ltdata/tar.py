"""Tar archives of anyone, read strictly, front to back, once: nothing is extracted, and no link is followed.

Python's `tarfile`, and so webdataset, takes some broken headers and cut files for the end of an archive and loses the
rest in silence (python/cpython #120740). Here every header has its checksum, and an archive ends as the format says:
with two blocks of zeros, and zeros alone after them. USTAR, GNU (long names, large sizes), PAX and the old form
without a magic are read; of extended headers only names and sizes.

    with path.open("rb") as file:
        archive = Archive(file, str(path))
        for member in archive.members():
            content = archive.content()     # chunks; what is not read is passed over
    archive.sha256                          # of the whole file
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from ltdata.errors import MismatchError
from ltdata.files import sha256

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_CHUNK_BYTES = 1 << 20
_MOST_EXTENDED_BYTES = 1 << 16
_MOST_NAME_BYTES = 1 << 10
_FILES, _FOLDER = (b"0", b"\0"), b"5"
_EXTENDED = {b"x": "PAX", b"g": "global PAX", b"L": "long name", b"K": "long link"}
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a pipe",
    b"S": "a sparse file",
}
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd", b"PK": "zip"}
_MAGICS = {b"ustar\x0000": True, b"ustar  \0": False, bytes(8): False}  # whether a name may have a first part
_OCTAL = re.compile(rb"[ \0]*([0-7]+)[ \0]*")
_DECIMAL = re.compile(rb"[0-9]{1,19}")
_RECORD = re.compile(rb"([1-9][0-9]{0,5}) ([^=\n]+)=")


@dataclass(frozen=True)
class Member:
    """Locate a regular file in an archive: its name, where its bytes begin, and how many they are."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class _Header:
    name: bytes
    kind: bytes
    size: int


class Archive:
    """Read a tar archive once; `place` names it in errors, all of which are `MismatchError`."""

    def __init__(self, file: BinaryIO, place: str) -> None:
        self._file, self._place = file, place
        self._sha256 = sha256()
        self._at = 0
        self._left = 0  # of the member's content

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of what was read: of the whole file, once `members` has come to its end."""
        return self._sha256.hexdigest()

    @property
    def size(self) -> int:
        """Return how many bytes were read."""
        return self._at

    def members(self) -> Iterator[Member]:
        """Yield the regular files; folders are passed over.

        Raises:
            MismatchError: the archive is cut or broken, or holds a link, a device or anything else that is no file.
        """
        extended: dict[bytes, bytes] = {}
        start = 0
        while (block := self._read(_BLOCK, "a header")) != _ZEROS:
            start = self._at - _BLOCK
            header = self._header(block, start)
            if header.kind in _EXTENDED:
                if header.kind in extended or header.size > _MOST_EXTENDED_BYTES:
                    what = "twice" if header.kind in extended else f"of {header.size:,} bytes"
                    raise self._broken(start, f"a {_EXTENDED[header.kind]} header {what}, as no tool writes it")
                extended[header.kind] = self._read(header.size, "an extended header")
                self._read(-header.size % _BLOCK, "padding")
                if header.kind == b"g":
                    self._refuse_global(extended.pop(b"g"), start)
                continue
            member = self._member(header, extended, start)
            extended = {}
            if member is not None:
                yield member
                for _ in self.content():
                    pass
                self._read(-member.size % _BLOCK, "padding")
        if extended:
            raise self._broken(start, "an extended header with no member after it")
        self._end()

    def content(self) -> Iterator[bytes]:
        """Yield what is left of the current member's content, in chunks."""
        while self._left:
            size = min(self._left, _CHUNK_BYTES)
            self._left -= size
            yield self._read(size, "a member")

    def _read(self, size: int, what: str) -> bytes:
        data = self._file.read(size)
        self._sha256.update(data)
        self._at += len(data)
        if len(data) < size:
            raise MismatchError(
                f"{self._place}: {'is empty' if not self._at else f'ends at byte {self._at:,}, inside {what}'}: it was "
                "cut off, or never closed; write or fetch it again"
            )
        return data

    def _end(self) -> None:
        """Check what follows the first block of zeros: another one, and then zeros only, in whole blocks."""
        start = self._at - _BLOCK
        if self._read(_BLOCK, "the end-of-archive mark") != _ZEROS:
            raise self._broken(start, "a block of zeros between members")
        while data := self._file.read(_CHUNK_BYTES):
            self._sha256.update(data)
            self._at += len(data)
            if data.strip(b"\0"):
                raise self._broken(start, "an end-of-archive mark with more than zeros after it")
        if self._at % _BLOCK:
            raise MismatchError(
                f"{self._place}: {self._at:,} bytes are no whole number of {_BLOCK}-byte blocks: it was cut off; write "
                "or fetch it again"
            )

    def _broken(self, at: int, what: str) -> MismatchError:
        return MismatchError(f"{self._place}: byte {at:,}: {what}; write or fetch it again")

    def _header(self, block: bytes, at: int) -> _Header:
        """Take a header apart, after comparing its checksum."""
        stored = _OCTAL.fullmatch(block[148:156])
        if stored is None or int(stored[1], 8) != sum(block) - sum(block[148:156]) + 8 * ord(" "):
            packed = next((name for start, name in _COMPRESSED.items() if at == 0 and block.startswith(start)), None)
            if packed is not None:
                raise MismatchError(f"{self._place}: is {packed}-compressed; unpack it to a plain .tar first")
            if at == 0:
                raise MismatchError(f"{self._place}: is no tar archive, or its first header is broken; fetch it again")
            raise self._broken(at, "no header with a right checksum")
        magic, name = block[257:265], block[:100].partition(b"\0")[0]
        if magic not in _MAGICS:
            raise self._broken(at, f"a header of an unknown kind of tar, {magic!r}")
        prefix = block[345:500].partition(b"\0")[0] if _MAGICS[magic] else b""
        size = self._number(block[124:136], at)
        return _Header(prefix + b"/" + name if prefix else name, block[156:157], size)

    def _number(self, field: bytes, at: int) -> int:
        if field[0] == 0x80:  # GNU's form for 8 GiB and more
            return int.from_bytes(field[1:])
        octal = _OCTAL.fullmatch(field)
        if octal is None:
            raise self._broken(at, f"size {field!r}, which is no number")
        return int(octal[1], 8)

    def _member(self, header: _Header, extended: Mapping[bytes, bytes], at: int) -> Member | None:
        """Make a member of its headers; None for a folder."""
        name, size = header.name, header.size
        records = self._records(extended.get(b"x", b""), at)
        if b"L" in extended and b"path" in records:
            raise self._broken(at, "a member with two long names")
        name = extended[b"L"].rstrip(b"\0") if b"L" in extended else records.get(b"path", name)
        if len(name) > _MOST_NAME_BYTES:
            raise self._broken(at, f"a name of {len(name):,} bytes, where at most {_MOST_NAME_BYTES:,} are read")
        try:
            text = name.decode()
        except UnicodeDecodeError:
            raise self._broken(at, f"the name {name[:80]!r}, which is not UTF-8") from None
        if header.kind in _REFUSED or any(key.startswith(b"GNU.sparse.") for key in records):
            raise MismatchError(
                f"{self._place}: {text!r} is {_REFUSED.get(header.kind, 'a sparse file')}; only regular files are "
                "read: pack the files themselves, tar --dereference --hard-dereference"
            )
        if b"size" in records:
            if not _DECIMAL.fullmatch(records[b"size"]):
                raise self._broken(at, f"size {records[b'size'][:40]!r}, which is no number")
            size = int(records[b"size"])
        if header.kind == _FOLDER or (header.kind == b"\0" and text.endswith("/")):
            if size:
                raise self._broken(at, f"the folder {text!r} with {size:,} bytes of content")
            return None
        if header.kind not in _FILES:
            raise self._broken(at, f"{text!r} of an unknown type, {header.kind!r}")
        self._left = size
        return Member(text, self._at, size)

    def _records(self, data: bytes, at: int) -> dict[bytes, bytes]:
        r"""Take a PAX header apart: records such as ``30 mtime=1700000000.123\n``, led by their own length."""
        records: dict[bytes, bytes] = {}
        while data:
            start = _RECORD.match(data)
            length = int(start[1]) if start else 0
            if start is None or not start.end() < length <= len(data) or data[length - 1 : length] != b"\n":
                raise self._broken(at, f"a PAX record {data[:40]!r} that cannot be")
            records[start[2]] = data[start.end() : length - 1]
            data = data[length:]
        return records

    def _refuse_global(self, data: bytes, at: int) -> None:
        """Refuse a header for all members that gives them a name or size."""
        records = self._records(data, at)
        fault = next((key for key in records if key in {b"path", b"size"} or key.startswith(b"GNU.sparse.")), None)
        if fault is not None:
            raise self._broken(at, f"a global PAX header that sets {fault!r} for every member")
