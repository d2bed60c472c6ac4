"""Read a built folder that lies on a web server, shard by shard, in an order that is known beforehand.

Header and rows are fetched first and checked as those of a local folder are. Shards are fetched when an order (see
`ltdata.mixing`) needs them, whole, and never more bytes than the manifest says; SHA-256, headers, labels and the
digest of every image are checked before the first image of a shard is used. The next shards are fetched by threads
while the current ones are used. Since the order is known, the shard that goes is the one that is needed again last
(Belady's rule), so few-shot shards, which are small and needed often, stay.

    remote = open_remote("https://example.org/cifar100-lt-exp-if100")
    labels = remote.samples["train"].labels
    sampler = ShardSampler(remote.plans["train"], labels, "class-balanced", seed=0)
    for row, image in stream(remote, "train", sampler):
        label, pixels = labels[row], reader.decode(image)

A local folder works the same, from `open_remote` on. Trust comes from `manifest.json`: use https, or compare
`remote.manifest.content_sha256` and the digests of images with what you know. Proxies are those of the environment.
"""

import http.client
import json
import re
import threading
import urllib.error
import urllib.request
from bisect import bisect_right
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import MismatchError, SourceMissingError, UsageError
from ltdata.files import sha256_bytes
from ltdata.manifest import MANIFEST_NAME, SAMPLES_NAME, Manifest, Shard, rows_from_bytes
from ltdata.reader import read_manifest, read_samples, read_shard, shard_plans, walk
from ltdata.samples import Samples
from ltdata.shards import PATH_PATTERN, ShardPlan

_TIMEOUT_S = 30  # for each answer of a socket, not for the whole file
_ATTEMPTS = 5
_WAIT_S = 0.5  # before the second attempt, twice as long before each further one
_CHUNK_BYTES = 1 << 18
_MANIFEST_BYTES = 1 << 26  # at most; iNaturalist 2018 with its 8,142 classes has a few hundred KB
_ROW_BYTES = 1 << 11  # at most, on average; one with a path has about 200
_THREADS = 4
_PASSING = {408, 425, 429, 500, 502, 503, 504}  # answers that another attempt may change


@dataclass(frozen=True)
class Remote:
    """Hold what is known of a build before any image is read.

    Attributes:
        place: URL without a slash at the end, or a local folder.
        manifest: its header.
        samples: its rows by split.
        plans: by split, which rows lie in which shard; in the order of the manifest's shards.
    """

    place: str | Path
    manifest: Manifest
    samples: Mapping[str, Samples]
    plans: Mapping[str, Sequence[ShardPlan]]


@dataclass(frozen=True)
class Fetch:
    """Say that a shard must be there at a position of the order, and which one makes room for it then, if any."""

    position: int
    shard: int
    drop: int | None


@dataclass(frozen=True)
class _Held:
    """Hold a checked shard: its bytes, and which of them are the image of each row."""

    data: bytes
    images: Mapping[int, slice]


def open_remote(place: str | Path) -> Remote:
    """Read header and rows of a built folder, and work out what lies in which shard.

    Args:
        place: http or https URL of the folder, or its path on this machine.

    Raises:
        UsageError: the URL is of another kind.
        SourceMissingError: nothing is there, no images belong to it, or it is a view.
        MismatchError: header, rows and shards do not fit each other.
    """
    if "://" in str(place):
        url = _checked_url(str(place))
        origin = f"{url}/{MANIFEST_NAME}"
        manifest = Manifest.from_json(_text(_get(origin, most_bytes=_MANIFEST_BYTES), origin), origin=origin)
        _refuse_without_shards(manifest, url)
        origin = f"{url}/{SAMPLES_NAME}"
        rows = sum(split.num_samples for split in manifest.splits.values())
        try:
            samples = rows_from_bytes(_get(origin, most_bytes=rows * _ROW_BYTES), manifest, origin=origin)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise MismatchError(f"{origin}: not the rows of an ltdata build ({error}); build it again") from error
        return Remote(url, manifest, samples, _plans(manifest, samples, url))
    folder = Path(place)
    manifest = read_manifest(folder)
    _refuse_without_shards(manifest, folder)
    samples = read_samples(folder, manifest)
    return Remote(folder, manifest, samples, _plans(manifest, samples, folder))


def stream(
    remote: Remote, split: str, rows: Iterable[int] | NDArray[np.integer], *, shards_in_memory: int = 8
) -> Generator[tuple[int, bytes], None, None]:
    """Yield (row, bytes of its PNG or JPEG file) in an order; close the iterator when you stop before its end.

    Args:
        remote: see `open_remote`.
        split: of it.
        rows: of the split, whole numbers (n,), in any order. A `ltdata.mixing.ShardSampler` takes shards one after the
            other, and gives those of a rank, or what is left of an epoch. A rank fetches the shards of its
            own rows, which are nearly all.
        shards_in_memory: at most, those on their way too; at least one more than the order uses series, or nearly
            every row would fetch a shard. Photographs have 200 MB a shard.

    Raises:
        UsageError: a value cannot be meant; at once. The others while reading:
        SourceMissingError: a shard cannot be fetched.
        MismatchError: it is not what the manifest says.
    """
    if split not in remote.plans:
        raise UsageError(f"split {split!r}: {remote.place} has {', '.join(remote.plans)}")
    shard_of = np.full(len(remote.samples[split]), -1)
    for number, each in enumerate(remote.plans[split]):
        shard_of[each.rows] = number
    found = rows if isinstance(rows, np.ndarray) else np.array(list(rows))
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
        raise UsageError(f"rows: {found.dtype} of shape {found.shape}; whole numbers (n,) are needed")
    if found.min(initial=0) < 0 or found.max(initial=-1) >= len(shard_of):
        raise UsageError(
            f"rows: {found.min()} .. {found.max()}; {split} of {remote.place} has 0 .. {len(shard_of) - 1}"
        )
    order = found.astype(np.int64, copy=False)
    shards = shard_of[order]
    series = {remote.plans[split][number].path.rpartition("-")[0] for number in np.unique(shards).tolist()}
    if shards_in_memory <= max(1, len(series)):
        raise UsageError(
            f"{shards_in_memory} shards in memory: one of each of {len(series)} series and one on its way are needed, "
            f"at least {max(1, len(series)) + 1}"
        )
    return _stream(remote, split, order, shards, shards_in_memory)


def schedule(shards: NDArray[np.int64], room: int) -> list[Fetch]:
    """Choose what to fetch when, with as few fetches as any choice could have (Belady's rule).

    >>> [(fetch.shard, fetch.drop) for fetch in schedule(np.array([0, 2, 0, 1, 2, 0, 2]), 2)]
    [(0, None), (2, None), (1, 0), (0, 1)]

    Args:
        shards: number of the shard that each position needs, (length,).
        room: shards that are held at once, at least 1.
    """
    order = np.argsort(shards, kind="stable")
    numbers, starts = np.unique(shards[order], return_index=True)
    uses = dict(zip(numbers.tolist(), (part.tolist() for part in np.split(order, starts[1:])), strict=False))
    held: set[int] = set()
    fetches = []

    def next_use(shard: int, position: int) -> tuple[int, int]:
        later = bisect_right(uses[shard], position)
        return (uses[shard][later] if later < len(uses[shard]) else len(shards)), shard

    for position, shard in enumerate(shards.tolist()):
        if shard in held:
            continue
        drop = max(next_use(each, position) for each in held)[1] if len(held) >= room else None
        held = held - {drop} | {shard}
        fetches.append(Fetch(position, shard, drop))
    return fetches


def _stream(
    remote: Remote, split: str, rows: NDArray[np.int64], shards: NDArray[np.int64], shards_in_memory: int
) -> Generator[tuple[int, bytes], None, None]:
    ahead = min(_THREADS, max(1, shards_in_memory // 4))
    fetches = schedule(shards, shards_in_memory - ahead)
    held: dict[int, _Held] = {}
    coming: deque[Future[_Held]] = deque()
    stopped = threading.Event()
    pool = ThreadPoolExecutor(ahead, thread_name_prefix="ltdata-fetch")
    upcoming = iter(fetches)

    def fetch_next() -> None:
        for fetch in upcoming:
            coming.append(pool.submit(_hold, remote, split, fetch.shard, stopped))
            return

    try:
        for _ in range(ahead):
            fetch_next()
        for fetch, end in zip(fetches, [*(fetch.position for fetch in fetches), len(rows)][1:], strict=True):
            if fetch.drop is not None:
                del held[fetch.drop]
            held[fetch.shard] = coming.popleft().result()
            fetch_next()
            part = slice(fetch.position, end)
            for row, shard in zip(rows[part].tolist(), shards[part].tolist(), strict=True):
                yield row, held[shard].data[held[shard].images[row]]
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _hold(remote: Remote, split: str, number: int, stopped: threading.Event) -> _Held:
    """Fetch a shard and check all of it."""
    shard, rows = remote.manifest.splits[split].shards[number], remote.plans[split][number].rows
    if isinstance(remote.place, Path):
        data, base, prefix = read_shard(remote.place, shard), remote.place, ""
    else:
        data, base, prefix = _get_shard(remote.place, shard, stopped), Path(), f"{remote.place}/"
    try:
        found = {
            member.row: slice(member.offset, member.offset + len(member.image))
            for member in walk(data, base, shard, remote.samples[split])
        }
    except MismatchError as error:
        raise MismatchError(f"{prefix}{error}") from error
    if list(found) != rows.tolist():
        raise MismatchError(f"{prefix}{base / shard.path}: holds other rows than belong there; build it again")
    return _Held(data, found)


def _get_shard(url: str, shard: Shard, stopped: threading.Event) -> bytes:
    address = f"{url}/{shard.path}"
    data = _get(address, most_bytes=shard.bytes, exactly=True, stopped=stopped)
    found = sha256_bytes(data)
    if found != shard.sha256:
        raise MismatchError(f"{address}: SHA-256 {found}, the manifest says {shard.sha256}; put the build there again")
    return data


# --- what is known of a build


def _refuse_without_shards(manifest: Manifest, place: str | Path) -> None:
    if manifest.view_of is not None:
        raise SourceMissingError(
            f"{place}: a view of {manifest.view_of['path']!r}; open that, and give the classes that the view leaves "
            "out a target of 0"
        )
    if not manifest.has_images:
        raise SourceMissingError(f"{place}: a manifest without images; build it without --manifest-only")


def _plans(manifest: Manifest, samples: Mapping[str, Samples], place: str | Path) -> dict[str, list[ShardPlan]]:
    """Work out which rows lie in which shard.

    Raises:
        MismatchError: the manifest lists other shards, or one that leads outside.
    """
    found = {}
    for name, split in manifest.splits.items():
        for shard in split.shards:
            if not PATH_PATTERN.fullmatch(shard.path) or shard.bytes < 0:
                raise MismatchError(
                    f"{place}: shard path {shard.path!r} leads outside, or is none of ltdata's; build it again"
                )
        plans = shard_plans(manifest, name, samples[name])
        if plans is None:
            raise MismatchError(f"{place}: the {name} shards are not those of its rows; build the data set again")
        found[name] = plans
    return found


# --- the web


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to http and https alone, and none from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme != "https"):
            raise urllib.error.HTTPError(newurl, code, f"{msg} to {newurl}, which is not allowed", headers, fp)
        fp.close()  # its body would be read to the end, however long
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener that knows http and https and nothing else: no files, no ftp, no data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
        _Redirects,
    ):
        opener.add_handler(handler())
    return opener


def _checked_url(url: str) -> str:
    """Return the URL of a folder without its last slashes.

    Raises:
        UsageError: it is none of http or https, or has a user, a query or a fragment.
    """
    with suppress(ValueError):  # a port or an address that is none
        parts = urlsplit(url)
        plain = re.fullmatch(r"[!-~]+", url) and "@" not in parts.netloc and not parts.query and not parts.fragment
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and plain:
            return url.rstrip("/")
    shown = re.sub("//[^/]*@", "//...@", url)  # a password is nobody's business
    raise UsageError(
        f"{shown!r}: the URL of a folder is such as https://example.org/cifar100-lt-exp-if100, with http or https, "
        "without user, query or fragment, other characters than ASCII written as %XX"
    )


def _text(data: bytes, origin: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MismatchError(f"{origin}: not UTF-8 text; build it again") from error


def _get(url: str, *, most_bytes: int, exactly: bool = False, stopped: threading.Event | None = None) -> bytes:
    """Fetch a file whole into memory, trying again after faults that may pass.

    Args:
        url: http or https.
        most_bytes: that it may have.
        exactly: whether it must have so many.
        stopped: when set, the work ends.

    Raises:
        SourceMissingError: the server cannot be reached, has no such file, or broke off again and again.
        MismatchError: the file has another size, or is compressed.
    """
    stopped = stopped or threading.Event()
    reason: object = ""
    for attempt in range(_ATTEMPTS):
        if attempt and stopped.wait(_WAIT_S * 2 ** (attempt - 1)):
            break
        try:
            with _opener().open(url, timeout=_TIMEOUT_S) as response:
                return _body(response, url, most_bytes, exactly=exactly, stopped=stopped)
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"the server answers {error.code} {error.reason}"
            if error.code not in _PASSING:
                raise SourceMissingError(f"{url}: {reason}; check the address") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
    raise SourceMissingError(f"{url}: cannot be fetched, {_ATTEMPTS} attempts ({reason}); try again later")


def _body(
    response: http.client.HTTPResponse, url: str, most_bytes: int, *, exactly: bool, stopped: threading.Event
) -> bytes:
    """Read a body of the right size.

    Raises:
        MismatchError: it is too large, of another size than it must be, or compressed.
        ConnectionError: it broke off.
    """
    if response.status != http.client.OK:
        raise SourceMissingError(f"{url}: the server answers {response.status} {response.reason}; check the address")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise MismatchError(f"{url}: sent with Content-Encoding {encoding}; have the server send files as they are")
    stated = response.length  # None where the server does not say
    if stated is not None and (stated > most_bytes or (exactly and stated != most_bytes)):
        raise MismatchError(
            f"{url}: has {stated} bytes, {'the manifest says' if exactly else 'allowed are'} {most_bytes}; "
            "put the build there again"
        )
    expected = most_bytes if exactly else stated
    data = BytesIO()
    while chunk := response.read(
        min(_CHUNK_BYTES, most_bytes + 1 - data.tell())
    ):  # 1 more, to see that it is not there
        if stopped.is_set():
            raise ConnectionError("reading was stopped")
        data.write(chunk)
    if data.tell() > most_bytes:
        raise MismatchError(f"{url}: goes on after {most_bytes} bytes; put the build there again")
    if expected is not None and data.tell() < expected:
        raise ConnectionError(f"the connection broke off at {data.tell()} of {expected} bytes")
    return data.getvalue()
