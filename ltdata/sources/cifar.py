"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), from every form people have.

Read without extracting and without trusting: the `cifar-100-python` and `cifar-10-batches-py` folders that
torchvision makes, the `cifar-100-binary` and `cifar-10-batches-bin` folders, and the four published archives.
Every form gives the same arrays in the same order. A digest is checked before anything is unpickled.
"""

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import LtdataError, MismatchError, SourceMissingError
from ltdata.files import published_digest, sha256_bytes, sha256_open
from ltdata.images import Pixels
from ltdata.sources import download, pickles
from ltdata.sources.cifar_forms import CIFAR10, CIFAR100, HOME, Cifar, Layout
from ltdata.sources.source import Source, SourceSplit, Where, refuse_lists

_SIDE_PX = 32
_IMAGE_BYTES = 3 * _SIDE_PX * _SIDE_PX
_MAX_MEMBER_BYTES = 1 << 28  # the largest published member has 155,000,000 bytes
_MAX_ARCHIVE_BYTES = 1 << 29  # unpacked; the largest published archive has 187,000,000

Parse = Callable[[bytes], tuple[NDArray[np.uint8], list[int]]]


@dataclass(frozen=True)
class _Found:
    """The files of one form, read, with what their digests showed."""

    layout: Layout
    path: Path
    files: Mapping[str, bytes]
    mismatches: Mapping[str, tuple[str, str]]  # file name: (digest found, digest published)

    @property
    def complaint(self) -> str:
        name, (found, published) = next(iter(self.mismatches.items()))
        more = f" ({len(self.mismatches)} files differ)" if len(self.mismatches) > 1 else ""
        return (
            f"{self.path / name if self.path.is_dir() else self.path}: digest {found}, published {published}{more}: "
            "truncated, or other images; replace it, or accept it with --unverified"
        )


def _load(dataset: Cifar, where: Where) -> Source:
    """Read the first form under `where.data_dir` that has the published digest; see `load_source`."""
    refuse_lists(where, dataset.id)
    unverified = where.unverified
    place = where.data_dir if where.data_dir is not None else download.cache_folder()
    candidates = _candidates(dataset, place)
    if not candidates and where.data_dir is None:
        layout = dataset.python
        download.fetch(HOME + layout.archive, place / layout.archive, layout.archive_digest, progress=where.progress)
        candidates = _candidates(dataset, place)
    if not candidates:
        wanted = ", ".join(
            name for layout in (dataset.python, dataset.binary) for name in (layout.folder + "/", layout.archive)
        )
        reason = "holds none of" if place.exists() else "does not exist; put there one of"
        raise SourceMissingError(f"{place}: {reason} {wanted}")
    first: _Found | None = None
    broken: LtdataError | None = None
    for layout, path in candidates:
        try:
            found = _read(layout, path, accept=unverified and first is None)
        except (SourceMissingError, MismatchError) as error:
            broken = broken or error
            continue
        if not found.mismatches:
            return _source(dataset, found)
        first = first or found
    if first is None:
        assert broken is not None  # noqa: S101 - for the type checker: candidates is not empty
        raise broken
    if not unverified:
        raise MismatchError(first.complaint)
    return _source(dataset, first)


load_cifar10 = partial(_load, CIFAR10)
load_cifar100 = partial(_load, CIFAR100)


def _candidates(dataset: Cifar, place: Path) -> list[tuple[Layout, Path]]:
    """List the forms at `place`: itself, or inside it; folders before archives (no gzip to undo)."""
    layouts = (dataset.python, dataset.binary)
    if place.is_file():
        by_name = [layout for layout in layouts if layout.archive == place.name]
        if not by_name:
            names = " or ".join(layout.archive for layout in layouts)
            raise SourceMissingError(f"{place}: not an archive of {dataset.id}; expected {names}")
        return [(by_name[0], place)]
    found = [
        (layout, folder)
        for layout in layouts
        for folder in (place, place / layout.folder)
        if folder.is_dir() and any((folder / name).is_file() for name in layout.digests)
    ]
    return found + [(layout, place / layout.archive) for layout in layouts if (place / layout.archive).is_file()]


def _read(layout: Layout, path: Path, *, accept: bool) -> _Found:
    """Read the files of one form and compare their digests; an archive with another digest only if `accept`."""
    wanted = [*layout.digests, *({layout.names_file} - set(layout.digests))]
    try:
        if path.is_dir():
            missing = [name for name in wanted if not (path / name).is_file()]
            if missing:
                raise SourceMissingError(f"{path}: {', '.join(missing)} missing; unpack {layout.archive} again")
            large = next((name for name in wanted if (path / name).stat().st_size > _MAX_MEMBER_BYTES), None)
            if large is not None:
                size_bytes = (path / large).stat().st_size
                raise MismatchError(f"{path}: {large} has {size_bytes:,} bytes; unpack {layout.archive} again")
            files = {name: (path / name).read_bytes() for name in wanted}
            found = {name: _digest_like(files[name], published) for name, published in layout.digests.items()}
            mismatches = {
                name: (found[name], digest) for name, digest in layout.digests.items() if found[name] != digest
            }
            return _Found(layout, path, files, mismatches)
        with path.open("rb") as archive:
            digest = "sha256:" + sha256_open(archive)
            mismatches = {}
            if digest != layout.archive_digest:
                mismatches = {layout.archive: (digest, layout.archive_digest)}
                if not accept:
                    return _Found(layout, path, {}, mismatches)
            archive.seek(0)
            return _Found(layout, path, _members(archive, layout.folder, wanted, path), mismatches)
    except OSError as error:
        raise SourceMissingError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error


def _digest_like(data: bytes, published: str) -> str:
    kind = published.partition(":")[0]
    return f"{kind}:{published_digest(kind, data)}"


def _members(archive: IO[bytes], folder: str, wanted: list[str], path: Path) -> dict[str, bytes]:
    """Stream the wanted regular files out of an archive; nothing is extracted, links are not followed."""
    paths = {f"{folder}/{name}": name for name in wanted}
    files: dict[str, bytes] = {}
    try:
        with _Unpacked(fileobj=archive, mode="rb") as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as tar:
            for member in tar:
                if not 0 <= member.offset_data + member.size <= _MAX_ARCHIVE_BYTES:  # tarfile would read on without end
                    raise tarfile.ReadError(f"{member.name[:80]} says that it has {member.size:,} bytes")
                name = paths.get(member.name.removeprefix("./"))
                if name is None or not member.isreg() or member.size > _MAX_MEMBER_BYTES:
                    continue
                if name in files:
                    raise tarfile.ReadError(f"{name} is there twice")
                stream = tar.extractfile(member)
                files[name] = stream.read() if stream is not None else b""
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, RecursionError) as error:
        raise MismatchError(f"{path}: not a readable archive ({error}); delete it and fetch it again") from error
    missing = [name for name in wanted if name not in files]
    if missing:
        raise MismatchError(f"{path}: holds no {folder}/{missing[0]}; fetch the published archive again")
    return files


class _Unpacked(gzip.GzipFile):
    """Unpack a gzip stream up to a number of bytes; ten megabytes may be ten gigabytes packed."""

    _left_bytes = _MAX_ARCHIVE_BYTES

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes, at most `size`."""
        data = super().read(size)
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise tarfile.ReadError(f"it unpacks to more than {_MAX_ARCHIVE_BYTES:,} bytes")
        return data


def _source(dataset: Cifar, found: _Found) -> Source:
    """Parse the files of one form into a source, and record what they were."""
    pickled = found.layout is dataset.python
    suffix, parse = ("", partial(_parse_pickle, dataset)) if pickled else (".bin", partial(_parse_binary, dataset))
    splits, pixels_sha256 = {}, {}
    for split, stems in (("train", dataset.train_files), ("test", dataset.test_files)):
        parts = [_parsed(found, stem + suffix, parse) for stem in stems]
        pixels = np.concatenate([part[0] for part in parts]).reshape(-1, 3, _SIDE_PX, _SIDE_PX)
        pixels_sha256[split] = sha256_bytes(pixels.tobytes())
        splits[split] = SourceSplit(
            labels=np.array([label for part in parts for label in part[1]], dtype=np.int64),
            images=Pixels(np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))),
        )
    names = _class_names(dataset, found, pickled=pickled)
    verified = not found.mismatches and _names_digest(names) == dataset.names_sha256
    if not found.mismatches and not verified:
        raise MismatchError(
            f"{found.path / found.layout.names_file}: not the class names of {dataset.id}; delete it and fetch it again"
        )
    provenance = {
        "id": dataset.id,
        "version": "2009",
        "urls": [HOME + "cifar.html", HOME + dataset.python.archive, HOME + dataset.binary.archive],
        "checksums": {layout.archive: layout.archive_digest for layout in (dataset.python, dataset.binary)},
        "terms": "no licence published; free for research, cite the technical report",
        "verified": verified,
        "pixels_sha256": pixels_sha256,  # uint8 (n, 3, 32, 32), the published order
    }
    if not verified:
        digests = {name: digest for name, (digest, _) in found.mismatches.items()}
        provenance["found"] = {"form": found.layout.folder, "digests": digests}
    return Source(
        id=dataset.id,
        class_names=names,
        splits=splits,
        provenance=provenance,
        citation=("Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",),
    )


def _parsed(found: _Found, name: str, parse: Parse) -> tuple[NDArray[np.uint8], list[int]]:
    try:
        return parse(found.files[name])
    except Exception as error:  # a garbled pickle raises nearly anything
        raise MismatchError(
            f"{found.path}: {name} is not readable ({error!s:.200}); delete it and fetch it again"
        ) from error


def _parse_pickle(dataset: Cifar, data: bytes) -> tuple[NDArray[np.uint8], list[int]]:
    record = pickles.loads(data)
    pixels, labels = record[b"data"], record[dataset.labels_key]
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2:
        raise ValueError("data is not a table of bytes")
    if pixels.shape != (len(labels), _IMAGE_BYTES):
        raise ValueError(f"data is {pixels.shape}, expected ({len(labels)}, {_IMAGE_BYTES})")
    if not all(isinstance(label, int) and 0 <= label < dataset.num_classes for label in labels):
        raise ValueError(f"a label is not an integer in 0 .. {dataset.num_classes - 1}")
    return pixels, list(labels)


def _parse_binary(dataset: Cifar, data: bytes) -> tuple[NDArray[np.uint8], list[int]]:
    record_bytes = dataset.label_bytes + _IMAGE_BYTES
    if not data or len(data) % record_bytes:
        raise ValueError(f"{len(data)} bytes are not whole records of {record_bytes}")
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, record_bytes)
    labels = records[:, dataset.label_bytes - 1]
    if labels.max() >= dataset.num_classes:
        raise ValueError(f"a label is not in 0 .. {dataset.num_classes - 1}")
    return records[:, dataset.label_bytes :], labels.tolist()


def _class_names(dataset: Cifar, found: _Found, *, pickled: bool) -> tuple[str, ...]:
    data = found.files[found.layout.names_file]
    try:
        if pickled:
            names = tuple(name.decode() for name in pickles.loads(data)[dataset.names_key])
        else:
            names = tuple(io.StringIO(data.decode()).read().split())
        if len(names) != dataset.num_classes:
            raise ValueError(f"{len(names)} names, expected {dataset.num_classes}")
    except Exception as error:  # as above
        raise MismatchError(f"{found.path}: {found.layout.names_file} is not readable ({error!s:.200})") from error
    return names


def _names_digest(names: tuple[str, ...]) -> str:
    return sha256_bytes("\n".join(names).encode())
