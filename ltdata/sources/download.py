"""Downloads into the cache folder: with a progress bar, going on where the last attempt stopped, digest checked.

The standard library does it: pooch, which checks digests too, starts every attempt from the beginning.
"""

import errno
import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

from platformdirs import user_cache_path
from tqdm import tqdm

from ltdata.errors import MismatchError, SourceMissingError
from ltdata.files import commit, exclusive, growing_file, output_errors, sha256_file
from ltdata.lists import blob_sha1

_CHUNK_BYTES = 1 << 18
_TIMEOUT_S = 30
_ATTEMPTS = 5


def cache_folder() -> Path:
    """Return the folder of what is kept for later runs: `LTDATA_HOME`, or ``ltdata`` in the user's cache folder."""
    return Path(os.environ.get("LTDATA_HOME") or user_cache_path("ltdata"))


def fetch(url: str, target: Path, digest: str, *, progress: bool = False) -> None:
    """Download `url` to `target`, which appears whole and with the right digest or not at all.

    What an interrupted attempt fetched stays beside it as ``.part`` and is gone on from.

    Args:
        url: http or https.
        target: final path; its folder is made.
        digest: ``sha256:`` and 64 hex digits, or ``git-blob-sha1:`` and 40.
        progress: show a bar on a terminal.

    Raises:
        SourceMissingError: the server cannot be reached, or broke off again and again.
        MismatchError: what came has another digest.
    """
    part = target.with_name(target.name + ".part")
    advice = f"run again, or put {target.name} (from {url}) into {target.parent}, or name its folder with --data-dir"
    with exclusive(target), output_errors(target):
        for attempt in range(1, _ATTEMPTS + 1):
            before = part.stat().st_size if part.exists() else 0
            try:
                _append(url, part, progress=progress)
                break
            except urllib.error.HTTPError as error:
                error.close()
                raise SourceMissingError(f"{url}: the server answers {error.code} {error.reason}; {advice}") from error
            except (OSError, http.client.HTTPException) as error:
                got = part.stat().st_size if part.exists() else 0
                if getattr(error, "errno", None) in _DISK_ERRORS:
                    raise
                if attempt == _ATTEMPTS or got == before:
                    reason = getattr(error, "reason", None) or error
                    raise SourceMissingError(
                        f"{url}: cannot be fetched ({reason}; {got} bytes so far); {advice}"
                    ) from error
        found = f"sha256:{sha256_file(part)}"
        if digest.startswith("git-blob-sha1:"):
            found = f"git-blob-sha1:{blob_sha1(part.read_bytes())}"
        if found != digest:
            part.unlink()
            raise MismatchError(f"{url}: digest {found}, published {digest}; the download was dropped, {advice}")
        commit(part, target)


# The disk's trouble, not the network's.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EISDIR}


def _append(url: str, part: Path, *, progress: bool) -> None:
    """Fetch what is missing of `part`; a server that ignores ranges sends the whole file, which starts it over."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})  # noqa: S310
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310 - our own https addresses
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        if error.headers.get("Content-Range") == f"bytes */{done}":
            return  # everything was there already; the digest decides
        part.unlink()
        raise ConnectionError("the partial download does not fit the server's file; it was dropped") from error
    with response:
        resumed = response.status == http.client.PARTIAL_CONTENT
        if resumed and not re.match(rf"bytes {done}-", response.headers.get("Content-Range", "")):
            raise ConnectionError("the server sent another range than the one asked for")
        done = done if resumed else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and re.fullmatch("[0-9]+", length) else None
        with (
            growing_file(part, anew=not resumed) as file,
            tqdm(
                total=total, initial=done, unit="B", unit_scale=True, desc=part.stem, disable=None if progress else True
            ) as bar,
        ):
            while chunk := response.read(_CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
                done += len(chunk)
        if total is not None and done < total:
            raise ConnectionError(f"the connection broke off at {done} of {total} bytes")
