r"""The samples of one WebDataset shard of any tool: where each image lies, and what its label is.

A sample is what has one key: a member's name up to the first dot of its file name. Its image is the member ``jpg``,
``jpeg`` or ``png``; its label the digits in ``cls``, or what ``json`` has under one of `LABEL_KEYS`. All other members
(captions, arrays, pickles) are left out, unread, and counted. A member's name is only a key, never a path on a disk.

>>> key_of("train/n01440764_10026.JPEG"), key_of("img.v1.jpg"), key_of("README")
(('train/n01440764_10026', 'jpeg'), ('img', 'v1.jpg'), None)
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ltdata import images
from ltdata.errors import MismatchError, SourceMissingError
from ltdata.files import sha256
from ltdata.lists import is_number, path_fault, printable, text_fault
from ltdata.sources.folder import IMAGE_SUFFIXES
from ltdata.tar import Archive, Member

LABEL_KEYS = ("label", "class", "cls", "target")
SHOWN = 5
_IMAGES = frozenset(suffix[1:] for suffix in IMAGE_SUFFIXES)
_ABOUT_THE_SHARD = re.compile(r"__[^/]*__(?:/|$)")  # webdataset's own rule for what is no sample
_MOST_IMAGE_BYTES = 1 << 28
_MOST_TEXT_BYTES = 1 << 20  # of a member that may hold a label


@dataclass(frozen=True)
class TarSamples:
    """Hold what was found in an archive: a row for every sample with an image and a label.

    Attributes:
        names: of the images' members.
        targets: labels, or names of classes.
        offsets: where the images' bytes begin.
        sizes: how many they are.
        image_sha256: of them.
        left_out: members of each suffix.
        first_left_out: the first of them.
        unlabelled: keys of samples that have an image and no label.
        imageless: keys of samples that have a label and no image.
        sha256: of the archive.
        bytes: of it.
    """

    names: list[str] = field(default_factory=list)
    targets: list[int | str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    image_sha256: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    first_left_out: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    imageless: list[str] = field(default_factory=list)
    sha256: str = ""
    bytes: int = 0


def key_of(name: str) -> tuple[str, str] | None:
    """Cut a member's name into key and suffix as webdataset does; None where it has none."""
    folder, slash, file = name.rpartition("/")
    stem, dot, suffix = file.partition(".")
    return (f"{folder}{slash}{stem}", suffix.lower()) if stem and dot else None


def read(place: Path, *, label_key: str | None = None) -> TarSamples:
    """Read an archive once, front to back, with a chunk of it in memory.

    Args:
        place: of the archive.
        label_key: of the label in ``json``; None: ``cls``, else one of `LABEL_KEYS` in ``json``.

    Raises:
        SourceMissingError: it cannot be read.
        MismatchError: it is cut or broken, holds something else than files, a sample comes in pieces or twice, or a
            label or an image is none; names archive and key.
    """
    try:
        with place.open("rb") as file:
            archive = Archive(file, str(place))
            reading = _Reading(archive, place, label_key)
            for sample in reading.samples():
                reading.add(sample)
    except OSError as error:
        raise SourceMissingError(f"{place}: cannot be read ({error.strerror or error}); check the file") from error
    return replace(reading.found, sha256=archive.sha256, bytes=archive.size)


@dataclass
class _Sample:
    """Hold what has been seen of a sample: its image, one whose key has a dot, and what may hold its label."""

    key: str
    suffixes: set[str] = field(default_factory=set)
    image: Member | None = None
    sha256: str = ""
    dotted: str | None = None
    texts: dict[str, bytes] = field(default_factory=dict)


class _Reading:
    """Read one archive."""

    def __init__(self, archive: Archive, place: Path, label_key: str | None) -> None:
        self.found = TarSamples()
        self._archive, self._place, self._label_key = archive, place, label_key

    def samples(self) -> Iterator[_Sample]:
        """Yield the samples of the archive; members that belong to none are counted."""
        seen: set[str] = set()
        sample: _Sample | None = None
        for member in self._archive.members():
            name = re.sub(r"^(?:\./)+", "", member.name)
            fault = path_fault(name)
            if fault:
                raise MismatchError(f"{self._place}: the name {name!r} {fault}; pack it again with plain names")
            cut = key_of(name)
            if cut is None or _ABOUT_THE_SHARD.match(name):
                self._leave_out(name)
                continue
            key, suffix = cut
            if sample is None or key != sample.key:
                if sample is not None:
                    yield sample
                if key in seen:
                    raise MismatchError(
                        f"{self._place}: {key!r} comes a second time, apart from its first; pack it again, each sample "
                        "once, sorted by name (tar --sort=name)"
                    )
                seen.add(key)
                sample = _Sample(key)
            if suffix in sample.suffixes:
                raise MismatchError(f"{self._place}: {key!r} has two members {suffix!r}; take one out")
            sample.suffixes.add(suffix)
            self._look_at(replace(member, name=name), suffix, sample)
        if sample is not None:
            yield sample

    def _look_at(self, member: Member, suffix: str, sample: _Sample) -> None:
        """Take in a member that is an image, or may hold the label; count others."""
        if suffix in _IMAGES:
            if sample.image is not None:
                raise MismatchError(
                    f"{self._place}: {sample.key!r} has two images, {sample.image.name!r} and {member.name!r}; take "
                    "one out"
                )
            sample.image, sample.sha256 = member, self._digest(member)
        elif suffix == "json" or (suffix == "cls" and self._label_key is None):
            sample.texts[suffix] = b"".join(self._archive.content()) if member.size <= _MOST_TEXT_BYTES else b""
        else:
            if suffix.rpartition(".")[2] in _IMAGES:
                sample.dotted = member.name
            self._leave_out(member.name)

    def _digest(self, member: Member) -> str:
        """Compute the SHA-256 of an image, after looking at its first bytes."""
        if member.size > _MOST_IMAGE_BYTES:
            raise MismatchError(
                f"{self._place}: {member.name!r} has {member.size:,} bytes, at most {_MOST_IMAGE_BYTES:,} are read; "
                "take the sample out"
            )
        digest, start = sha256(), b""
        for chunk in self._archive.content():
            start = start or chunk[:16]
            digest.update(chunk)
        try:
            images.kind(start, member.name)
        except MismatchError:
            found = f"begins with {start[:4].hex(' ')}" if start else "is empty"
            raise MismatchError(
                f"{self._place}: {member.name!r} {found}: only JPEG and PNG are stored; convert it, or take the sample "
                "out"
            ) from None
        return digest.hexdigest()

    def _leave_out(self, name: str) -> None:
        cut = key_of(name)
        self.found.left_out[cut[1] if cut is not None else ""] += 1
        if len(self.found.first_left_out) < SHOWN:
            self.found.first_left_out.append(printable(name))

    def add(self, sample: _Sample) -> None:
        """Add a whole sample to what was found: as a row, as one that lacks a part, or as members left out."""
        found, where = self.found, f"{self._place}: {sample.key!r}"
        if sample.image is None and sample.dotted is not None:
            raise MismatchError(
                f"{self._place}: {sample.dotted!r} has a dot before its suffix, so that its key is {sample.key!r}; "
                "pack it again with keys without dots"
            )
        target: int | str | None = None
        if "cls" in sample.texts:
            target = _digits(sample.texts["cls"], where)
        elif "json" in sample.texts:
            target = _in_json(sample.texts["json"], where, self._label_key, strict=sample.image is not None)
        if sample.image is not None and target is not None:
            found.names.append(sample.image.name)
            found.targets.append(target)
            found.offsets.append(sample.image.offset)
            found.sizes.append(sample.image.size)
            found.image_sha256.append(sample.sha256)
        elif sample.image is not None:
            found.unlabelled.append(sample.key)
        elif target is not None:
            found.imageless.append(sample.key)
        if "json" in sample.texts and ("cls" in sample.texts or target is None):
            self._leave_out(f"{sample.key}.json")


def _digits(data: bytes, where: str) -> int:
    """Read a label in ``cls``: webdataset's `int` takes -3, 1_0 and digits of other scripts as well."""
    if not re.fullmatch(rb"[0-9]{1,9}(?:\r?\n)?", data):
        raise MismatchError(f"{where} has label {data[:40]!r}, which is no whole number of 0 or more; mend the shard")
    return int(data)


def _in_json(data: bytes, where: str, label_key: str | None, *, strict: bool) -> int | str | None:
    """Find the label, or the name of a class, in JSON; None where it has none.

    Args:
        data: of the member; nothing where it was too large to be read.
        where: names archive and key in errors.
        label_key: of the label; None: one of `LABEL_KEYS`.
        strict: refuse what is no JSON object; else there is no label.

    Raises:
        MismatchError: it is not readable, several keys say several things, or the label is none.
    """
    keys = LABEL_KEYS if label_key is None else (label_key,)
    try:
        record = json.loads(data.decode(), object_pairs_hook=partial(_object, keys))
        if not isinstance(record, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        if not strict:
            return None
        raise MismatchError(
            f"{where} has no cls, and its JSON is not readable, or has more than {_MOST_TEXT_BYTES:,} bytes "
            f"({str(error)[:80]}); mend the shard"
        ) from error
    values = {key: record[key] for key in keys if key in record}
    if not values:
        return None
    if len({repr(value) for value in values.values()}) > 1:
        raise MismatchError(f"{where} has {' and '.join(values)} in its JSON, which differ; name one with --label-key")
    value = next(iter(values.values()))
    if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9:
        return value
    if isinstance(value, str) and not text_fault(value) and not is_number(value):
        return value
    raise MismatchError(
        f"{where} has {next(iter(values))} {str(value)[:40]!r}, which is neither a whole number of 0 or more nor the "
        "name of a class; mend it, or name another key with --label-key"
    )


def _object(keys: tuple[str, ...], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of JSON; readers differ in which label they take where it is there twice."""
    counts = Counter(key for key, _ in pairs if key in keys)
    if counts and max(counts.values()) > 1:
        raise ValueError(f"{counts.most_common(1)[0][0]} is there twice")
    return dict(pairs)
