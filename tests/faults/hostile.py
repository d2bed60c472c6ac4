"""Hostile shards: members of every kind that a tar can have, in shards whose digests were made to fit; and canaries.

Headers are made by hand, checksum and all, so that they can say what no library writes.
"""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from photos import contents

from ltdata.shards import header

BLOCK = 512
SECRET = "a secret that nobody may read\n"  # noqa: S105 - not one
Change = Callable[[bytes], bytes]


def raw(name: bytes, data: bytes = b"", **fields: bytes) -> bytes:
    """Make a tar member, with any field as other bytes, and the right checksum; padded."""
    where = {
        "name": (0, 100),
        "mode": (100, 8),
        "uid": (108, 8),
        "gid": (116, 8),
        "size": (124, 12),
        "mtime": (136, 12),
        "typeflag": (156, 1),
        "linkname": (157, 100),
        "magic": (257, 8),
        "uname": (265, 32),
        "gname": (297, 32),
        "devmajor": (329, 8),
        "devminor": (337, 8),
        "prefix": (345, 155),
    }
    made = bytearray(header("x", len(data)))
    for field, value in ({"name": name} | fields).items():
        start, length = where[field]
        made[start : start + length] = value[:length].ljust(length, b"\0")
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made) + data + bytes(-len(data) % BLOCK)


def pax(**values: str) -> bytes:
    """Make an extended header, `GNU_` for `GNU.`."""
    records = b""
    for key, value in values.items():
        text = f" {key.replace('_', '.')}={value}\n".encode()
        length = len(text) + 1
        while len(str(length)) + len(text) != length:
            length = len(str(length)) + len(text)
        records += str(length).encode() + text
    return raw(b"././@PaxHeader", records, typeflag=b"x")


class Touching:
    """Create a file on being unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@dataclass(frozen=True)
class Canary:
    """Know what lies outside of a folder.

    Attributes:
        folder: outside.
        secret: a file in it, that nobody may read or change.
        ran: a file that is not there, and is made by whoever unpickles or runs something.
    """

    folder: Path

    @property
    def secret(self) -> Path:
        return self.folder / "secret"

    @property
    def ran(self) -> Path:
        return self.folder / "ran"

    @property
    def pickled(self) -> bytes:
        return pickle.dumps(Touching(self.ran))


@contextmanager
def canary(place: Path) -> Iterator[Canary]:
    """Give a canary; after the block, nothing may have come near it, and nothing else may have appeared beside it."""
    folder = place / "outside"
    folder.mkdir(exist_ok=True)
    found = Canary(folder)
    found.secret.write_text(SECRET)
    before = {path.name for path in place.iterdir()}
    yield found
    assert contents(folder) == {"secret": SECRET.encode()}, "a canary was hit"
    assert {path.name for path in place.iterdir()} == before, "something appeared outside the folder"


@dataclass(frozen=True)
class Sample:
    """Hold the parts of a shard of one sample and more."""

    label: bytes
    image_header: bytes
    image: bytes
    rest: bytes
    key: bytes

    @property
    def all(self) -> bytes:
        return self.label + self.image_header + self.image

    def with_image(self, member: bytes) -> bytes:
        """Return the shard with another header in the place of that of the first image."""
        return self.label + member[:BLOCK] + self.image + self.rest

    def after_label(self, member: bytes) -> bytes:
        return self.label + member + self.image_header + self.image + self.rest

    def after(self, member: bytes) -> bytes:
        return self.all + member + self.rest

    def before(self, member: bytes) -> bytes:
        return member + self.all + self.rest

    def last(self, member: bytes) -> bytes:
        """Return the shard with a member before its end mark."""
        return unended(self.all + self.rest) + member


def unended(data: bytes) -> bytes:
    """Return the members of a shard without its end mark."""
    members = data.rstrip(b"\0")
    return members.ljust(len(members) + -len(members) % BLOCK, b"\0")


def ended(data: bytes) -> bytes:
    """End a shard as the format does, so that this is not what is wrong with it."""
    members = unended(data)
    return members + bytes(1024 + -(len(members) + 1024) % 10240)


def first(data: bytes) -> Sample:
    """Take the first sample of a shard apart."""
    size = int(data[1024 + 124 : 1024 + 135], 8)
    end = 1536 + size + -size % BLOCK
    return Sample(data[:1024], data[1024:1536], data[1536:end], data[end:], data[:8])


def members(canary: Canary) -> dict[str, Change]:
    """Name the ways in which one member of a shard can be hostile."""
    ways: dict[str, Change] = {}

    def way(name: str, change: Callable[[Sample], bytes]) -> None:
        assert name not in ways
        ways[name] = lambda data: ended(change(first(data)))

    # Content that other readers decode by running it, or by a library
    array = pickle.dumps(np.array([Touching(canary.ran)], dtype=object))
    bodies = {
        **dict.fromkeys(("pickle", "pkl", "pyd", "pth", "pt", "ten", "tb"), canary.pickled),
        **dict.fromkeys(("npy", "npz"), b"\x93NUMPY\x01\0v\0" + array),
        **dict.fromkeys(("py", "sh", "mp", "cbor"), f"#!/bin/sh\ntouch {canary.ran}\n".encode()),
        **dict.fromkeys(("json", "txt", "index", "inx", "id"), b"[1]"),
    }
    for suffix, body in bodies.items():
        way(f"a {suffix} too", lambda s, x=suffix, b=body: s.after_label(raw(s.key + b"." + x.encode(), b)))
    for suffix in ("pickle", "pyd", "pth", "npy"):
        body = bodies[suffix]
        way(f"a {suffix} alone", lambda s, x=suffix, b=body: s.last(raw(b"00000999." + x.encode(), b)))
        way(
            f"a {suffix} for the image",
            lambda s, x=suffix, b=body: s.label + raw(s.key + b"." + x.encode(), b) + s.rest,
        )
        way(f"a {suffix} as an image", lambda s, b=body: s.label + raw(s.key + b".png", b) + s.rest)
    way("a pickle for the label", lambda s: raw(s.key + b".cls", canary.pickled) + s.image_header + s.image + s.rest)

    # Kinds of members
    kinds = {
        "hard link": b"1",
        "symbolic link": b"2",
        "character device": b"3",
        "block device": b"4",
        "folder": b"5",
        "pipe": b"6",
        "contiguous file": b"7",
        "sparse file": b"S",
        "PAX header": b"x",
        "global PAX header": b"g",
        "Solaris PAX header": b"X",
        "long name": b"L",
        "long link": b"K",
        "dump folder": b"D",
        "volume name": b"V",
        "continued file": b"M",
        "long names of old": b"N",
        "unknown kind": b"Z",
        "old file": b"\0",
    }
    target = str(canary.secret).encode()
    for name, flag in kinds.items():
        fields = {"typeflag": flag, "linkname": target if flag in b"12" else b"", "devmajor": b"0000001\0"}
        way(f"{name} for the image", lambda s, f=fields: s.with_image(raw(s.key + b".png", s.image, **f)))
        way(f"{name} before all", lambda s, f=fields: s.before(raw(s.key + b".png", **f)))
    for name in ("symbolic link", "hard link"):
        flag = kinds[name]
        for to in (b"../../outside/secret", b"/etc/passwd", b"/dev/zero", b".", b"00000000.cls"):
            way(
                f"{name} to {to.decode()}",
                lambda s, f=flag, t=to: s.after(raw(b"00000998.png", typeflag=f, linkname=t)),
            )
    way(
        "symbolic link for the label",
        lambda s: raw(s.key + b".cls", typeflag=b"2", linkname=target) + s.image_header + s.image + s.rest,
    )
    way(
        "a link, then a file through it",
        lambda s: s.last(raw(b"link", typeflag=b"2", linkname=str(canary.folder).encode()) + raw(b"link/ran", b"x")),
    )

    # Names
    names = {
        "parent": b"../00000000.png",
        "parents": b"../../../../outside/ran",
        "absolute": str(canary.ran).encode(),
        "two slashes": b"//00000000.png",
        "backslashes": b"..\\..\\outside\\ran",
        "drive": b"C:\\ran",
        "folder": b"a/00000000.png",
        "here": b"./00000000.png",
        "NUL and more": b"00000000.png\0.pickle",
        "NUL in the key": b"0000\0000.png",
        "slash": b"00000000.png/",
        "full-width digits": "\uff1000000.png".encode(),
        "Arabic digits": "\u0660\u0660.png".encode(),
        "blank": b" 0000000.png",
        "plus": b"+0000000.png",
        "minus": b"-0000001.png",
        "hexadecimal": b"0x000000.png",
        "underscore": b"0000_000.png",
        "upper case": b"00000000.PNG",
        "two suffixes": b"00000000.seg.png",
        "no suffix": b"00000000",
        "dot": b".png",
        "other split's": b"00099999.png",
        "largest": b"99999999.png",
        "long": b"0" * 96 + b".png",
        "of 100 bytes": b"1" * 100,
        "line feed": b"0000000\n.png",
        "pipe": b"pipe:touch ran",
        "shell": b"|touch ran",
        "URL": b"file:///etc/passwd",
        "empty": b"",
        "bell": b"0000000\a.png",
        "no UTF-8": b"\xff\xfe.png",
        "format": b"%s%n.png",
        "jpg": b"00000000.jpg",
    }
    for name, value in names.items():
        way(f"name: {name}", lambda s, n=value: s.with_image(raw(n, s.image)))
    for name in ("parent", "absolute", "pipe", "NUL and more", "no UTF-8"):
        way(f"a member too, name: {name}", lambda s, n=names[name]: s.last(raw(n, canary.pickled)))
    prefixes = {
        "parent": b"..",
        "outside": b"../../outside",
        "absolute": str(canary.folder).encode(),
        "folder": b"train",
    }
    for name, value in prefixes.items():
        way(f"prefix: {name}", lambda s, p=value: s.with_image(raw(s.key + b".png", s.image, prefix=p)))
    extended = {
        "path": pax(path="../../outside/ran"),
        "absolute path": pax(path=str(canary.ran)),
        "link": pax(linkpath=str(canary.secret)),
        "size": pax(size="99999999999999"),
        "negative size": pax(size="-1"),
        "own size": pax(size="0"),
        "charset": pax(hdrcharset="BINARY"),
        "sparse": pax(
            GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_name="../ran", GNU_sparse_realsize="999999999"
        ),
        "time": pax(mtime="1e308"),
        "nothing": pax(),
        "comment": pax(comment="harmless"),
        "broken": raw(b"././@PaxHeader", b"999999 path=x\n", typeflag=b"x"),
        "global": raw(b"g", b"18 path=../../ran\n", typeflag=b"g"),
        "long name": raw(b"././@LongLink", b"../../outside/ran\0", typeflag=b"L"),
        "long link": raw(b"././@LongLink", str(canary.secret).encode() + b"\0", typeflag=b"K"),
        "3,000 long names": raw(b"././@LongLink", b"x\0", typeflag=b"L") * 3000,
    }
    for name, value in extended.items():
        way(f"extended: {name}", lambda s, v=value: s.after_label(v))

    # Sizes
    sizes = {
        "largest octal": b"77777777777\0",
        "binary, huge": b"\x80" + b"\x7f" * 11,
        "binary, negative": b"\xff" * 12,
        "binary, right": b"\x80" + b"\0" * 10 + b"\x01",
        "minus": b"-0000000512\0",
        "blanks": b"        512 ",
        "zero": b"00000000000\0",
        "one block more": b"00000001512\0",
        "not octal": b"00000000999\0",
        "hexadecimal": b"0x000000200\0",
        "empty": b"\0" * 12,
        "no NUL": b"000000001117",
        "text": b"touch ran\0\0\0",
        "no octal digit": b"0000000111\xb2\0",
    }
    for name, value in sizes.items():
        way(f"size: {name}", lambda s, v=value: s.with_image(raw(s.key + b".png", s.image, size=v)))
    way("size of the label: huge", lambda s: raw(s.key + b".cls", b"", size=b"77777777777\0") + s.all[BLOCK:] + s.rest)
    way(
        "size of the label: binary",
        lambda s: raw(s.key + b".cls", b"", size=b"\x80" + b"\xff" * 11) + s.all[BLOCK:] + s.rest,
    )

    # Other fields, each with a checksum that fits
    others = {
        "set-user-ID": {"mode": b"0004755\0"},
        "root": {"uname": b"root"},
        "owner": {"uid": b"0001750\0"},
        "group": {"gid": b"\xff" * 8},
        "time": {"mtime": b"77777777777\0"},
        "negative time": {"mtime": b"\xff" * 12},
        "GNU": {"magic": b"ustar  \0"},
        "old": {"magic": b"\0" * 8},
        "no magic": {"magic": b"xxxxxxxx"},
        "device": {"devmajor": b"0000001\0"},
        "link": {"linkname": target},
    }
    for name, fields in others.items():
        way(f"field: {name}", lambda s, f=fields: s.with_image(raw(s.key + b".png", s.image, **f)))
    way("checksum", lambda s: s.label + s.image_header[:148] + b"0000000\0" + s.image_header[156:] + s.image + s.rest)
    way("checksum with signs", lambda s: s.with_image(raw(s.key + b".png", s.image, gname=b"\xff" * 32)))

    # Labels
    for label in (
        b"-3",
        b"1_0",
        b"+1",
        b" 1",
        b"1\n",
        b"01",
        b"1.0",
        b"1e0",
        b"0x1",
        b"99999999",
        "\uff11".encode(),
        b"",
        b"1" * 512,
        b"cat",
    ):
        way(
            f"label {label[:12]!r}",
            lambda s, b=label: raw(s.key + b".cls", b) + s.image_header + s.image + s.rest,
        )
    return ways


def structures() -> dict[str, Change]:
    """Name the ways in which the members of a shard can stand wrongly."""
    order: dict[str, Change] = {
        "key twice": lambda d: first(d).all + d,
        "key twice, at the end": lambda d: first(d).last(first(d).all),
        "label twice": lambda d: first(d).label + d,
        "image twice": lambda d: first(d).after(first(d).image_header + first(d).image),
        "two labels of one key": lambda d: first(d).after(raw(first(d).key + b".cls", b"9")),
        "image before label": lambda d: first(d).image_header + first(d).image + first(d).label + first(d).rest,
        "interleaved": lambda d: (
            first(d).label + first(first(d).rest).label + d[1024 : len(first(d).all)] + d[len(first(d).all) + 1024 :]
        ),
        "labels first, images after": lambda d: b"".join(
            (
                first(d).label,
                first(first(d).rest).label,
                first(d).image_header,
                first(d).image,
                first(first(d).rest).image_header,
                first(first(d).rest).image,
                first(first(d).rest).rest,
            )
        ),
        "no label": lambda d: d[1024:],
        "no image": lambda d: first(d).label + first(d).rest,
        "no sample": lambda _: bytes(10240),
        "one sample less": lambda d: first(d).rest,
        "a tar in the tar": lambda d: first(d).last(raw(b"00000997.tar", d)),
        "padding of a label": lambda d: d[:1000] + b"x" + d[1001:],
        "padding of an image": lambda d: (
            first(d).label + first(d).image_header + first(d).image[:-1] + b"x" + first(d).rest
        ),
        "one empty block in the middle": lambda d: first(d).all + bytes(512) + first(d).rest,
        "end mark in the middle": lambda d: first(d).all + bytes(1024) + first(d).rest,
    }
    ends: dict[str, Change] = {
        "one sample less, length kept": lambda d: first(d).rest + bytes(len(first(d).all)),
        "end mark first": lambda d: bytes(1024) + d,
        "more after the end": lambda d: d + d,
        "text after the end": lambda d: d[:-4] + b"#!sh",
        "a longer end": lambda d: d + bytes(10240),
        "a shorter end": lambda d: d[: len(d.rstrip(b"\0")) + -len(d.rstrip(b"\0")) % 512],
        "half an end": lambda d: d[: len(d.rstrip(b"\0")) + -len(d.rstrip(b"\0")) % 512 + 512],
        "nothing": lambda _: b"",
        "one byte": lambda _: b"0",
        "zip": lambda _: b"PK\x05\x06" + bytes(18),
        "gzip": lambda d: b"\x1f\x8b\x08\0" + d,
        "script": lambda _: b"#!/bin/sh\ntouch ran\n",
        "no tar": lambda _: b"\xff" * 10240,
    }
    return {name: partial(_ended, change) for name, change in order.items()} | ends


def _ended(change: Change, data: bytes) -> bytes:
    return ended(change(data))
