"""Downloads: resumed, checked, and under the final name only when whole; against a server on this machine."""

import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from ltdata.errors import LtdataError, MismatchError, SourceMissingError
from ltdata.sources.download import cache_folder, fetch

CONTENT = np.random.RandomState(0).bytes(4000)
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """Say how the server behaves, and keep the Range header of every request."""

    url: str = ""
    content: bytes = CONTENT
    cut_after: int | None = None  # bytes of each answer's body before the connection breaks
    ignores_ranges: bool = False
    status: int | None = None
    length: str | None = ""  # sent instead of the true one; None sends none
    wrong_range: bool = False
    raw: bytes | None = None  # the whole answer
    meanwhile: Callable[[], object] = lambda: None  # called before each answer
    ranges: list[str | None] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.ranges.append(wanted)
        self.meanwhile()
        if self.raw is not None:
            request.wfile.write(self.raw)
            return
        if self.status is not None:
            request.send_error(self.status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and not self.ignores_ranges else 0
        if start and start >= len(self.content):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(self.content)}")
            request.end_headers()
            return
        body = self.content[start:]
        request.send_response(206 if start else 200)
        if start:
            first = start + 1 if self.wrong_range else start
            request.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        if self.length is not None:
            request.send_header("Content-Length", self.length or str(len(body)))
        request.end_headers()
        request.wfile.write(body[: self.cut_after])


@pytest.fixture
def server() -> Iterator[Server]:
    behaviour = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        behaviour.url = f"http://127.0.0.1:{http.server_address[1]}/images.tar.gz"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield behaviour
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "images.tar.gz"


def part_of(target: Path, data: bytes | None = None) -> Path:
    part = target.with_name(target.name + ".part")
    if data is not None:
        part.parent.mkdir(parents=True)
        part.write_bytes(data)
    return part


def left_behind(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def assert_whole(target: Path) -> None:
    assert target.read_bytes() == CONTENT
    assert left_behind(target) == [target.name]


def assert_refused(error: type[LtdataError], url: str, target: Path) -> str:
    """Fetch, which must fail with an error that names the file and where to put it, and leave no such file."""
    with pytest.raises(error) as caught:
        fetch(url, target, DIGEST)
    message = str(caught.value)
    assert not target.exists()
    assert "\n" not in message
    for part in (url, target.name, str(target.parent), "--data-dir"):
        assert part in message
    return message


def test_a_download_appears_whole(server: Server, target: Path) -> None:
    fetch(server.url, target, DIGEST)
    assert_whole(target)
    assert server.ranges == [None]


@pytest.mark.parametrize("size", [1, 1000, 3999])
def test_a_download_goes_on_where_the_last_one_stopped(size: int, server: Server, target: Path) -> None:
    part_of(target, CONTENT[:size])
    fetch(server.url, target, DIGEST)
    assert_whole(target)
    assert server.ranges == [f"bytes={size}-"]


def test_a_server_without_ranges_starts_the_file_over(server: Server, target: Path) -> None:
    part_of(target, CONTENT[:1000])
    server.ignores_ranges = True
    fetch(server.url, target, DIGEST)
    assert_whole(target)
    assert server.ranges == ["bytes=1000-"]


def test_cuts_are_gone_on_from_within_one_call(server: Server, target: Path) -> None:
    server.cut_after = 1100
    fetch(server.url, target, DIGEST)
    assert_whole(target)
    assert server.ranges == [None, "bytes=1100-", "bytes=2200-", "bytes=3300-"]


def test_too_many_cuts_end_the_call_and_the_next_one_goes_on(server: Server, target: Path) -> None:
    server.cut_after = 500
    message = assert_refused(SourceMissingError, server.url, target)
    got = 500 * len(server.ranges)
    assert part_of(target).read_bytes() == CONTENT[:got]
    assert f"{got} bytes so far" in message
    fetch(server.url, target, DIGEST)
    assert_whole(target)
    assert f"bytes={got}-" in server.ranges


def test_a_server_that_sends_nothing_is_not_asked_for_ever(server: Server, target: Path) -> None:
    server.cut_after = 0
    assert_refused(SourceMissingError, server.url, target)
    assert len(server.ranges) <= 5


@pytest.mark.parametrize(
    "part", [None, CONTENT[:1000], bytes(1000)], ids=["from nothing", "resumed", "from a wrong part"]
)
def test_bytes_of_another_digest_are_dropped(part: bytes | None, server: Server, target: Path) -> None:
    if part is not None:
        part_of(target, part)
    if part != bytes(1000):
        server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    message = assert_refused(MismatchError, server.url, target)
    assert DIGEST in message
    assert left_behind(target) == []
    server.content = CONTENT
    fetch(server.url, target, DIGEST)
    assert_whole(target)


@pytest.mark.parametrize("status", [403, 404, 500, 503])
@pytest.mark.parametrize("part", [None, CONTENT[:1000]], ids=["from nothing", "resumed"])
def test_an_error_page_is_never_taken_for_the_file(
    part: bytes | None, status: int, server: Server, target: Path
) -> None:
    if part is not None:
        part_of(target, part)
    server.status = status
    assert str(status) in assert_refused(SourceMissingError, server.url, target)
    assert left_behind(target) == ([] if part is None else [part_of(target).name])


def test_a_refused_connection_names_the_file_to_put_there(target: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/images.tar.gz"
    message = assert_refused(SourceMissingError, url, target)
    assert f"put {target.name} (from {url}) into {target.parent}" in message
    assert left_behind(target) == []


def test_a_partial_download_that_is_complete_is_accepted(server: Server, target: Path) -> None:
    """The server answers 416: it has no byte after the last."""
    part_of(target, CONTENT)
    fetch(server.url, target, DIGEST)
    assert_whole(target)
    assert server.ranges == ["bytes=4000-"]


def test_a_partial_download_longer_than_the_file_is_started_over(server: Server, target: Path) -> None:
    part_of(target, bytes(5000))
    fetch(server.url, target, DIGEST)
    assert_whole(target)
    assert server.ranges == ["bytes=5000-", None]


def test_another_range_than_the_one_asked_for_is_not_appended(server: Server, target: Path) -> None:
    part_of(target, CONTENT[:1000])
    server.wrong_range = True
    assert_refused(SourceMissingError, server.url, target)
    assert part_of(target).read_bytes() == CONTENT[:1000]


@pytest.mark.parametrize("length", [None, "many", "-1"], ids=["none", "text", "negative"])
def test_without_a_sensible_length_the_digest_decides(length: str | None, server: Server, target: Path) -> None:
    server.length = length
    fetch(server.url, target, DIGEST)
    assert_whole(target)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200,
        b"HTTP/1.1 302 Found\r\nLocation: ftp:\r\n\r\n",
    ],
    ids=["nothing", "no HTTP", "200 headers", "odd redirect"],
)
def test_an_answer_that_is_no_http_is_a_missing_source(raw: bytes, server: Server, target: Path) -> None:
    server.raw = raw
    assert_refused(SourceMissingError, server.url, target)


def test_a_download_that_another_process_holds_is_not_touched(server: Server, target: Path) -> None:
    refusals = []

    def second() -> None:
        with pytest.raises(LtdataError) as caught:
            fetch(server.url, target, DIGEST)
        refusals.append(str(caught.value))

    server.meanwhile = second
    fetch(server.url, target, DIGEST)
    assert_whole(target)
    assert ["another process is writing it" in refusal for refusal in refusals] == [True]
    assert server.ranges == [None]


def test_the_cache_folder_is_ltdata_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LTDATA_HOME", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("LTDATA_HOME")
    assert cache_folder().name == "ltdata"


def test_the_command_without_network_says_which_file_to_put_where(tmp_path: Path) -> None:
    """Exit code 4, one line on stderr, nothing on stdout, nothing left; the proxy is a closed port."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    inherited = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    proxies = dict.fromkeys(("https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "ltdata", "build", "cifar100", "--imbalance", "100"],
        env={**inherited, **proxies, "LTDATA_HOME": str(home)},
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1)
    assert "cifar-100-python.tar.gz" in done.stderr
    assert str(home) in done.stderr
    assert list(work.iterdir()) == []
    assert list(home.iterdir()) == []
