"""A plain mutator of bytes: a number gives a mutant of some inputs, always the same one.

A mutant is changed as bytes, or as parts of its format: blocks of a tar, chunks of a PNG, members of a zip, words of a
JSON text. Parts are put together with lengths and checksums that are right again, so that what lies behind those checks
is reached too. Coverage-guided search (atheris) goes deeper for the same number of mutants, but no two runs of it try
the same ones, and it instruments what it runs; it was run beside this once, on the same targets.
"""

import io
import pickletools
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

BLOCK = 512  # of a tar
_NUMBERS = (0, 1, 2, 7, 8, 16, 63, 64, 127, 128, 255, 256, 511, 512, 513, 1024, 32767, 32768, 65535, 65536)
_NUMBERS += (2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_DIGITS = (b"0", b"-1", b"1", b"2", b"9", b"10", b"007", b"1e3", b"1e308", b"1e999", b"-0", b"0.5", b"4294967296")
_DIGITS += (b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"9" * 40, b"9" * 5000, b"7777")
_JSON = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+.0-9eE]+|[a-z]+|\s+|.', re.DOTALL)
_WORDS = re.compile(rb"\w+|\s|.", re.DOTALL)
_RUN_OF_DIGITS = re.compile(rb"[0-9]+")
_PNG = b"\x89PNG\r\n\x1a\n"
_SEGMENTS = frozenset(range(0xC0, 0xFF)) - frozenset(range(0xD0, 0xDA))  # markers of a JPEG that a length follows


class Form(Protocol):
    """Take a format apart, and put it together again."""

    def split(self, data: bytes) -> list[bytes]:
        """Return the parts of a whole input."""

    def join(self, parts: Sequence[bytes]) -> bytes:
        """Make a file of any parts, with lengths and checksums that fit them."""


class Words:
    """Texts: words, numbers, blanks and signs."""

    def __init__(self, pattern: re.Pattern[bytes] = _WORDS) -> None:
        self.pattern = pattern

    def split(self, data: bytes) -> list[bytes]:
        return self.pattern.findall(data)

    def join(self, parts: Sequence[bytes]) -> bytes:
        return b"".join(parts)


class Lines(Words):
    """Texts: lines."""

    def split(self, data: bytes) -> list[bytes]:
        return data.splitlines(keepends=True)


class Opcodes(Words):
    """Pickles: an opcode with its argument each."""

    def split(self, data: bytes) -> list[bytes]:
        starts = [at for _, _, at in pickletools.genops(data) if at is not None]
        return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


class Tar(Words):
    """Tars: blocks; those that are headers get the checksum of what they hold."""

    def split(self, data: bytes) -> list[bytes]:
        return [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]

    def join(self, parts: Sequence[bytes]) -> bytes:
        return b"".join([_mended(part.ljust(BLOCK, b"\0")[:BLOCK]) for part in parts])


def _mended(block: bytes) -> bytes:
    if block[257:262] != b"ustar":
        return block
    return b"%b%06o\0 %b" % (block[:148], sum(block[:148]) + sum(block[156:]) + 8 * 32, block[156:])


class Png:
    """PNG: chunks, with length and CRC."""

    def split(self, data: bytes) -> list[bytes]:
        parts, at = [data[: len(_PNG)]], len(_PNG)
        while at < len(data):
            (length,) = struct.unpack_from(">I", data, at)
            parts.append(data[at + 4 : at + 8 + length])
            at += 12 + length
        return parts

    def join(self, parts: Sequence[bytes]) -> bytes:
        chunks = [
            struct.pack(">I", max(0, len(part) - 4)) + part + struct.pack(">I", zlib.crc32(part)) for part in parts
        ]
        return b"".join([parts[0] if parts else b"", *chunks[1:]])


class Jpeg:
    """JPEG: segments, with length; what follows the head of a scan is a part of its own."""

    def split(self, data: bytes) -> list[bytes]:
        parts, at = [data[:2]], 2
        while at < len(data) and data[at] == 0xFF and data[at + 1] in _SEGMENTS:
            (length,) = struct.unpack_from(">H", data, at + 2)
            parts.append(data[at : at + 2] + data[at + 4 : at + 2 + length])
            at += 2 + length
            if parts[-1][1] == 0xDA:
                end = data.find(b"\xff", at)
                while end >= 0 and data[end + 1] in (0, *range(0xD0, 0xD8)):
                    end = data.find(b"\xff", end + 2)
                parts.append(data[at:end])
                at = end
        return [*parts, data[at:]]

    def join(self, parts: Sequence[bytes]) -> bytes:
        return b"".join(
            [
                part[:2] + struct.pack(">H", min(len(part), 0xFFFF)) + part[2:]
                if part[:1] == b"\xff" and part[1:2] and part[1] in _SEGMENTS
                else part
                for part in parts
            ]
        )


class Zip:
    """Zip: members, as name, NUL, content; stored, with sizes, CRCs and a directory."""

    def split(self, data: bytes) -> list[bytes]:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            return [name.encode() + b"\0" + packed.read(name) for name in packed.namelist()]

    def join(self, parts: Sequence[bytes]) -> bytes:
        out, directory = bytearray(), bytearray()
        for part in parts:
            name, _, content = part.partition(b"\0")
            name = name[:0xFFFF]
            head = struct.pack(
                "<5H3L2H", 20, 0, 0, 0, 33, zlib.crc32(content), len(content), len(content), len(name), 0
            )
            directory += b"PK\1\2\x14\0" + head + struct.pack("<3H2L", 0, 0, 0, 0, len(out)) + name
            out += b"PK\3\4" + head + name + content
        end = struct.pack("<4H2LH", 0, 0, len(parts), len(parts), len(directory), len(out), 0)
        return bytes(out + directory + b"PK\5\6" + end)


class Npy:
    """NumPy's own: magic, text of the header, numbers; with the length of the text."""

    def split(self, data: bytes) -> list[bytes]:
        end = 10 + int.from_bytes(data[8:10], "little")
        return [data[:8], data[10:end], data[end:]]

    def join(self, parts: Sequence[bytes]) -> bytes:
        magic, text, *rest = (*parts, b"", b"")[: max(2, len(parts))]
        return magic + struct.pack("<H", min(len(text), 0xFFFF)) + text + b"".join(rest)


class Safetensors:
    """Safetensors: text of the header, numbers; with the length of the text."""

    def split(self, data: bytes) -> list[bytes]:
        (length,) = struct.unpack_from("<Q", data)
        return [*_JSON.findall(data[8 : 8 + length]), b"\0" + data[8 + length :]]

    def join(self, parts: Sequence[bytes]) -> bytes:
        text = b"".join([part for part in parts if part[:1] != b"\0"])
        return struct.pack("<Q", len(text)) + text + b"".join([part[1:] for part in parts if part[:1] == b"\0"])


class Parquet:
    """Parquet: pages, and the footer, with its length."""

    def split(self, data: bytes) -> list[bytes]:
        (length,) = struct.unpack_from("<I", data, len(data) - 8)
        return [data[: -8 - length], data[-8 - length : -8]]

    def join(self, parts: Sequence[bytes]) -> bytes:
        footer = parts[-1] if parts else b""
        return b"".join(parts) + struct.pack("<I", len(footer)) + b"PAR1"


JSON, WORDS, LINES = Words(_JSON), Words(), Lines()


@dataclass(frozen=True)
class Mutator:
    """Make mutants.

    Attributes:
        inputs: whole files.
        form: of them.
        tokens: what their format has words for.
        parts: of the inputs, see `make_mutator`.
    """

    inputs: tuple[bytes, ...]
    form: Form
    tokens: tuple[bytes, ...]
    parts: tuple[tuple[bytes, ...], ...]

    def mutant(self, number: int) -> bytes:
        """Return the mutant of a number."""
        draw = Random(number)  # noqa: S311 - nothing is kept secret by it
        which = _below(draw, len(self.inputs))
        if draw.random() < 0.5:
            data = bytearray(self.inputs[which])
            if len(self.inputs) > 1 and draw.random() < 0.05:
                other = self.inputs[_below(draw, len(self.inputs))]
                data[_below(draw, len(data) + 1) :] = other[_below(draw, len(other) + 1) :]
            for _ in range(_few(draw)):
                _choice(draw, _OF_BYTES)(data, draw, self.tokens)
            return bytes(data)
        parts = list(self.parts[which])
        for _ in range(_few(draw)):
            if parts:
                _choice(draw, _OF_PARTS)(parts, draw, self)
        return self.form.join(parts)


def make_mutator(inputs: Sequence[bytes], form: Form, tokens: Sequence[bytes] = ()) -> Mutator:
    """Make a mutator; what a form does not put together again as it was is an error."""
    for data in inputs:
        if form.join(form.split(data)) != data and not isinstance(form, Zip):
            raise ValueError(f"{type(form).__name__}: {data[:40]!r} is taken apart wrongly")
    return Mutator(tuple(inputs), form, tuple(tokens), tuple(tuple(form.split(data)) for data in inputs))


def _below(draw: Random, end: int) -> int:
    return int(draw.random() * end)


def _few(draw: Random) -> int:
    return (1, 1, 2, 2, 3, 3, 4, 6)[_below(draw, 8)]


def _choice(draw: Random, items: Sequence[Callable[..., None]]) -> Callable[..., None]:
    return items[_below(draw, len(items))]


def _span(draw: Random, length: int) -> tuple[int, int]:
    """Return start and end of a range, most of them short."""
    start = _below(draw, length + 1)
    return start, min(length, start + (1, 2, 4, 8, 16, 64, BLOCK, length)[_below(draw, 8)])


# Of bytes


def _flip(data: bytearray, draw: Random, _: Sequence[bytes]) -> None:
    if data:
        data[_below(draw, len(data))] ^= 1 << _below(draw, 8)


def _set(data: bytearray, draw: Random, _: Sequence[bytes]) -> None:
    if data:
        data[_below(draw, len(data))] = (0, 255, 127, 128, 10, 32, 48, _below(draw, 256))[_below(draw, 8)]


def _cut(data: bytearray, draw: Random, _: Sequence[bytes]) -> None:
    del data[_below(draw, len(data) + 1) :]


def _delete(data: bytearray, draw: Random, _: Sequence[bytes]) -> None:
    start, end = _span(draw, len(data))
    del data[start:end]


def _copy(data: bytearray, draw: Random, _: Sequence[bytes]) -> None:
    start, end = _span(draw, len(data))
    at = _below(draw, len(data) + 1)
    data[at : at + _below(draw, 2) * (end - start)] = data[start:end]


def _insert(data: bytearray, draw: Random, tokens: Sequence[bytes]) -> None:
    token = tokens[_below(draw, len(tokens))] if tokens else b"\0"
    at = _below(draw, len(data) + 1)
    data[at : at + _below(draw, 2) * len(token)] = token


def _number(data: bytearray, draw: Random, _: Sequence[bytes]) -> None:
    """Change a binary number: 1 to 8 bytes, either order."""
    width = (1, 2, 4, 4, 8)[_below(draw, 5)]
    at = _below(draw, max(0, len(data) - width) + 1)
    order = ("little", "big")[_below(draw, 2)]
    old = int.from_bytes(data[at : at + width], order)
    new = (old + 1, old - 1, old * 2, old // 2, len(data), _NUMBERS[_below(draw, len(_NUMBERS))])[_below(draw, 6)]
    data[at : at + width] = (new % (1 << 8 * width)).to_bytes(width, order)


def _digits(data: bytearray, draw: Random, _: Sequence[bytes]) -> None:
    """Change a number that is written in digits; in place, half of the time."""
    found = _RUN_OF_DIGITS.search(data, _below(draw, len(data) + 1))
    if found is None:
        return
    start, end = found.span()
    new = _DIGITS[_below(draw, len(_DIGITS))]
    data[start:end] = new.rjust(end - start, b"0")[-(end - start) :] if draw.random() < 0.5 else new


_OF_BYTES = (_flip, _set, _cut, _delete, _copy, _insert, _number, _digits, _flip, _set, _insert, _number)


# Of parts


def _change(parts: list[bytes], draw: Random, mutator: Mutator) -> None:
    """Change the bytes of a part."""
    at = _below(draw, len(parts))
    data = bytearray(parts[at])
    for _ in range(_few(draw)):
        _choice(draw, _OF_BYTES)(data, draw, mutator.tokens)
    parts[at] = bytes(data)


def _swap(parts: list[bytes], draw: Random, _: Mutator) -> None:
    one, other = _below(draw, len(parts)), _below(draw, len(parts))
    parts[one], parts[other] = parts[other], parts[one]


def _drop(parts: list[bytes], draw: Random, _: Mutator) -> None:
    start, end = _span(draw, len(parts))
    del parts[start:end]


def _repeat(parts: list[bytes], draw: Random, _: Mutator) -> None:
    start, end = _span(draw, len(parts))
    at = _below(draw, len(parts) + 1)
    parts[at:at] = parts[start:end]


def _graft(parts: list[bytes], draw: Random, mutator: Mutator) -> None:
    """Put parts of an input in the place of others."""
    other = mutator.parts[_below(draw, len(mutator.parts))]
    start, end = _span(draw, len(other))
    at = _below(draw, len(parts) + 1)
    parts[at : at + _below(draw, 2) * (end - start)] = other[start:end]


def _word(parts: list[bytes], draw: Random, mutator: Mutator) -> None:
    """Put a word of the format in the place of a part, or beside it."""
    if mutator.tokens:
        at = _below(draw, len(parts) + 1)
        parts[at : at + _below(draw, 4)] = [mutator.tokens[_below(draw, len(mutator.tokens))]]


_OF_PARTS = (_change, _change, _change, _swap, _drop, _repeat, _graft, _word)
