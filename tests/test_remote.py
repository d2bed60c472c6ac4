"""Remote builds: the same images in the same order as from the folder, and every fault of a server named."""

import json
import re
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltdata import remote as module
from ltdata.build import Built
from ltdata.errors import LtdataError, MismatchError, SourceMissingError, UsageError
from ltdata.files import sha256_bytes
from ltdata.mixing import Mix, ShardSampler, mix
from ltdata.remote import Remote, open_remote, schedule, stream
from ltdata.sampling import class_shares

FEW = "train/few-000000.tar"
MANY = "train/many-000000.tar"
Answer = Callable[[BaseHTTPRequestHandler, bytes], object]


@dataclass
class Server:
    """Serve a folder; answers to a path can be replaced, one after the other, the last for good."""

    folder: Path
    url: str = ""
    requests: list[str] = field(default_factory=list)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    gave_up_after_mb: list[int] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.removeprefix("/sets/digits/").partition("?")[0]
        self.requests.append(path)
        file = self.folder / path
        replaced = self.answers.get(path, [])
        if replaced:
            (replaced.pop(0) if len(replaced) > 1 else replaced[0])(request, file.read_bytes())
        elif file.is_file():
            send(request, file.read_bytes())
        else:
            request.send_error(404)


def send(request: BaseHTTPRequestHandler, body: bytes, *, status: int = 200, **headers: str | None) -> None:
    """Send an answer; `Content_Length` and other headers can be given, None leaves one out."""
    request.send_response(status)
    for name, value in ({"Content_Length": str(len(body))} | headers).items():
        if value is not None:
            request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def plain(request: BaseHTTPRequestHandler, body: bytes) -> None:
    send(request, body)


def status(code: int) -> Answer:
    return lambda request, _: request.send_error(code)


def moved(target: str, code: int = 302) -> Answer:
    return lambda request, _: send(request, b"", status=code, Location=target)


def cut(request: BaseHTTPRequestHandler, body: bytes) -> None:
    send(request, body[:-1000], Content_Length=str(len(body)))


def reset(request: BaseHTTPRequestHandler, body: bytes) -> None:
    """Send a part, then RST in place of FIN."""
    send(request, body[:1000], Content_Length=str(len(body)))
    request.wfile.flush()
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    request.connection.shutdown(socket.SHUT_RD)


def changed(request: BaseHTTPRequestHandler, body: bytes) -> None:
    send(request, body[:3000] + bytes([body[3000] ^ 1]) + body[3001:])


def larger(request: BaseHTTPRequestHandler, body: bytes) -> None:
    send(request, body + bytes(10240))


def endless(**headers: Any) -> Answer:
    """Send no length, and 50 MB or until the reader goes away."""

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        send(request, body, Content_Length=None, **headers)
        for sent in range(50):
            try:
                request.wfile.write(bytes(1_000_000))
            except OSError:
                request.server.gave_up_after_mb.append(sent)
                return

    return answer


def smaller(request: BaseHTTPRequestHandler, body: bytes) -> None:
    send(request, body[:-1024])


def compressed(request: BaseHTTPRequestHandler, body: bytes) -> None:
    send(request, body, Content_Encoding="gzip")


@pytest.fixture
def server(digits_lt: Built) -> Iterator[Server]:
    served = Server(digits_lt.folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = False  # so that closing waits for them, and none is left behind

        def handle_error(self, *_: object) -> None:
            """Say nothing of readers that have gone: that is what they are meant to do."""

    with Quiet(("127.0.0.1", 0), Handler) as http:
        http.gave_up_after_mb = served.gave_up_after_mb
        served.url = f"http://127.0.0.1:{http.server_address[1]}/sets/digits"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield served
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "_WAIT_S", 0.001)


@pytest.fixture(scope="module")
def local(digits_lt: Built) -> Remote:
    return open_remote(digits_lt.folder)


def balanced(remote: Remote, length: int = 1500, groups: tuple[int, ...] = (0, 1, 2), seed: int = 0) -> Mix:
    """Make the class-balanced order over some shot groups."""
    manifest = remote.manifest
    target = class_shares("class-balanced", manifest.class_counts, classes=np.isin(manifest.groups, groups))
    return mix(remote.plans["train"], remote.samples["train"].labels, target, length=length, seed=seed)


def refused(error: type[LtdataError], *parts: str, doing: Callable[[], object]) -> str:
    """Do something, which must fail with one line that has some parts; no thread may be left."""
    with pytest.raises(error) as caught:
        doing()
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    assert "\n" not in message
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ltdata-fetch")]
    return message


def read_all(url: str, **options: int) -> list[tuple[int, bytes]]:
    remote = open_remote(url)
    return list(stream(remote, "train", balanced(remote).row, **options))


# --- what comes


def test_a_url_gives_what_the_folder_gives(server: Server, local: Remote) -> None:
    far = open_remote(f"{server.url}/")
    assert far.manifest == local.manifest
    order = balanced(local)
    assert np.array_equal(order.row, balanced(far).row)
    from_url, from_folder = (list(stream(place, "train", order.row)) for place in (far, local))
    assert from_url == from_folder
    assert [row for row, _ in from_url] == order.row.tolist()
    digests = local.samples["train"].sha256
    assert digests is not None
    assert all(sha256_bytes(image) == digests[row] for row, image in from_url)


def test_the_order_needs_no_shard_and_each_is_fetched_once(server: Server) -> None:
    remote = open_remote(server.url)
    order = balanced(remote)
    reading = stream(remote, "train", order.row)
    assert server.requests == ["manifest.json", "samples.jsonl"]
    list(reading)
    assert sorted(server.requests[2:]) == sorted(plan.path for plan in remote.plans["train"])


def test_a_test_split_can_be_streamed_as_well(server: Server) -> None:
    remote = open_remote(server.url)
    labels = remote.samples["test"].labels
    order = mix(remote.plans["test"], labels, class_shares("class-balanced", np.bincount(labels)), length=100, seed=0)
    assert [row for row, _ in stream(remote, "test", order.row, shards_in_memory=2)] == order.row.tolist()


@pytest.mark.parametrize("start", [0, 1, 700, 1499, 1500, 2000])
def test_going_on_at_a_position_gives_the_rest(server: Server, local: Remote, start: int) -> None:
    order = balanced(local)
    whole = list(stream(local, "train", order.row))
    assert list(stream(open_remote(server.url), "train", order.row[start:])) == whole[start:]


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_ranks_share_one_order(server: Server, local: Remote, world: int) -> None:
    order = balanced(local, length=700)
    remote = open_remote(server.url)
    parts = [[row for row, _ in stream(remote, "train", order.row[rank::world])] for rank in range(world)]
    together = np.full(700, -1)
    for rank, part in enumerate(parts):
        together[rank::world] = part
    assert np.array_equal(together, order.row)


def test_shards_of_groups_without_target_are_never_asked_for(server: Server) -> None:
    remote = open_remote(server.url)
    rows = [row for row, _ in stream(remote, "train", balanced(remote, groups=(1, 2)).row)]
    assert set(remote.manifest.groups[remote.samples["train"].labels[rows]]) == {1, 2}
    fetched = server.requests[2:]
    assert fetched
    assert not [path for path in fetched if "many" in path or "test" in path]


def test_a_resumed_order_fetches_only_what_is_left(server: Server) -> None:
    remote = open_remote(server.url)
    order = balanced(remote)
    last = int(order.shard[-1])
    list(stream(remote, "train", order.row[-1:]))
    assert server.requests[2:] == [remote.plans["train"][last].path]


def test_an_iterator_that_is_closed_early_leaves_no_thread(server: Server) -> None:
    remote = open_remote(server.url)
    reading = stream(remote, "train", balanced(remote).row)
    assert len(list(islice(reading, 3))) == 3
    reading.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ltdata-fetch")]


def test_the_next_shard_is_fetched_while_the_first_is_used(server: Server, local: Remote) -> None:
    order = balanced(local, length=40)
    reading = stream(open_remote(server.url), "train", order.row)
    server.requests.clear()
    next(reading)
    until = time.monotonic() + 10
    while len(server.requests) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(server.requests) == 3  # the one in use, two ahead
    reading.close()


def small_shards(place: Path, source: Path, per_shard: int) -> Path:
    """Write a build again with fewer images a shard."""
    from ltdata import shards as written
    from ltdata.catalog import find
    from ltdata.stored import stored

    found = find(str(source), rows=True).manifest
    images = stored(source, found, found.rows)
    record = json.loads(found.to_json())
    for split, samples in found.rows.items():
        plans = written.plan(
            split,
            samples.labels,
            class_groups=found.groups if split == "train" else None,
            seed=0,
            samples_per_shard=per_shard,
        )
        (place / split).mkdir(parents=True)
        reports = [
            written.write(
                written.ShardJob(each.path, each.rows, samples.labels[each.rows], images[split].take(each.rows)), place
            )
            for each in plans
        ]
        record["splits"][split]["shards"] = [
            {"path": report.shard.path, "num_samples": report.shard.num_samples, "bytes": report.shard.bytes}
            | {"sha256": report.shard.sha256}
            for report in reports
        ]
    (place / "manifest.json").write_text(json.dumps(record))
    shutil.copy(source / "samples.jsonl", place)
    return place


@pytest.mark.parametrize("shards_in_memory", [4, 6, 8, 40])
def test_memory_is_bounded_and_few_shot_shards_stay(
    digits_lt: Built, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards_in_memory: int
) -> None:
    server.folder = small_shards(tmp_path / "small", digits_lt.folder, 25)
    remote = open_remote(server.url)
    assert len(remote.plans["train"]) > 12
    hold = module._hold
    fetching: list[int] = []
    held: list[weakref.ref[object]] = []

    def counted(*arguments: object) -> object:
        fetching.append(1)
        found = hold(*arguments)
        fetching.pop()  # before it is counted as held, so that none counts twice
        held.append(weakref.ref(found))
        return found

    monkeypatch.setattr(module, "_hold", counted)
    order = balanced(remote, length=4000)
    rows = []
    for row, _ in stream(remote, "train", order.row, shards_in_memory=shards_in_memory):
        rows.append(row)
        assert len(fetching) + sum(each() is not None for each in held) <= shards_in_memory
    assert rows == order.row.tolist()
    fetches = schedule(order.shard, shards_in_memory - max(1, min(4, shards_in_memory // 4)))
    asked = server.requests[2:]
    assert len(asked) == len(fetches)
    if shards_in_memory >= 6:
        assert asked.count(FEW) == 1
    if shards_in_memory == 40:
        assert len(asked) == len(set(asked))


@settings(deadline=None, max_examples=200)
@given(shards=st.lists(st.integers(0, 4), max_size=14), room=st.integers(1, 4))
def test_the_schedule_holds_what_is_needed_with_the_fewest_fetches(shards: list[int], room: int) -> None:
    fetches = schedule(np.array(shards, dtype=np.int64), room)
    at = {fetch.position: fetch for fetch in fetches}
    held: set[int] = set()
    for position, shard in enumerate(shards):
        if position in at:
            assert shard not in held
            held = held - {at[position].drop} | {at[position].shard}
        assert shard in held
        assert len(held) <= room
    # By trying every choice: the fewest fetches that lead to each set of held shards.
    fewest: dict[frozenset[int], int] = {frozenset(): 0}
    for shard in shards:
        step: dict[frozenset[int], int] = {}
        for before, count in fewest.items():
            options = [before] if shard in before else [before - {drop} | {shard} for drop in before]
            if shard not in before and len(before) < room:
                options.append(before | {shard})
            for after in options:
                step[after] = min(step.get(after, 99), count + (shard not in before))
        fewest = step
    assert len(fetches) == min(fewest.values())


# --- faults of the server


FAULTS: list[tuple[list[Answer], type[LtdataError], str]] = [
    ([status(404)], SourceMissingError, "404"),
    ([status(403)], SourceMissingError, "403"),
    ([status(204)], SourceMissingError, "204"),
    ([status(500)], SourceMissingError, "5 attempts (the server answers 500"),
    ([cut], SourceMissingError, "broke off at"),
    ([reset], SourceMissingError, "cannot be fetched"),
    ([changed], MismatchError, "SHA-256"),
    ([larger], MismatchError, "the manifest says"),
    ([endless()], MismatchError, "goes on after"),
    ([smaller], MismatchError, "the manifest says"),
    ([compressed], MismatchError, "Content-Encoding gzip"),
    ([moved("file:///etc/hostname")], SourceMissingError, "file:///etc/hostname"),
    ([moved("ftp://127.0.0.1/few.tar")], SourceMissingError, "ftp://127.0.0.1/few.tar, which is not allowed"),
    ([moved("data:,few")], SourceMissingError, "data:"),
    ([moved("http://[::1/few.tar")], SourceMissingError, "cannot be fetched"),
    ([moved("few-000000.tar")], SourceMissingError, "redirect"),  # to itself
]


@pytest.mark.parametrize(("answers", "error", "reason"), FAULTS)
def test_a_shard_that_cannot_be_had_is_named(
    server: Server, answers: list[Answer], error: type[LtdataError], reason: str
) -> None:
    server.answers[FEW] = answers
    refused(error, f"{server.url}/{FEW}", reason, doing=partial(read_all, server.url))
    assert error.exit_code in (3, 4)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_what_no_other_attempt_can_change_is_tried_once(server: Server, code: int) -> None:
    server.answers["manifest.json"] = [status(code)]
    refused(SourceMissingError, str(code), doing=partial(open_remote, server.url))
    assert server.requests == ["manifest.json"]


@pytest.mark.parametrize("name", ["manifest.json", "samples.jsonl"])
@pytest.mark.parametrize("fault", [status(404), status(503), cut, reset, moved("file:///etc/hostname")])
def test_a_header_or_rows_that_cannot_be_had_are_named(server: Server, name: str, fault: Answer) -> None:
    server.answers[name] = [fault]
    refused(SourceMissingError, f"{server.url}/{name}", doing=partial(open_remote, server.url))


@pytest.mark.parametrize(
    "passing", [[status(500)], [status(503), status(429)], [cut], [reset, cut, status(502), reset]]
)
@pytest.mark.parametrize("name", ["manifest.json", "samples.jsonl", FEW, MANY])
def test_faults_that_pass_are_not_seen(server: Server, local: Remote, name: str, passing: list[Answer]) -> None:
    server.answers[name] = [*passing, plain]
    assert read_all(server.url) == list(stream(local, "train", balanced(local).row))
    assert server.requests.count(name) == len(passing) + 1


def test_attempts_wait_longer_each_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(module, "_WAIT_S", 0.5)
    monkeypatch.setattr(threading.Event, "wait", lambda _, timeout=None: bool(waits.append(timeout)))
    server.answers["manifest.json"] = [status(500)]
    with pytest.raises(SourceMissingError):
        module._get(f"{server.url}/manifest.json", most_bytes=10**6)
    assert [wait for wait in waits if wait in (0.5, 1, 2, 4)] == [0.5, 1, 2, 4]


def test_nothing_listens(local: Remote) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/digits"
        refused(SourceMissingError, url, "refused", doing=partial(open_remote, url))


def test_a_server_that_stays_silent_ends_in_an_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.05)
    server.answers["manifest.json"] = [lambda *_: time.sleep(0.2)]
    refused(SourceMissingError, "manifest.json", "timed out", doing=partial(open_remote, server.url))


def test_a_redirect_to_http_is_followed(server: Server, local: Remote) -> None:
    for code, name in zip((301, 302, 303, 307, 308), ("manifest.json", "samples.jsonl", FEW, MANY), strict=False):
        server.answers[name] = [moved(f"{server.url}/{name}?moved", code), plain]
    assert read_all(server.url) == list(stream(local, "train", balanced(local).row))
    assert server.requests.count(FEW) == 2


def test_no_redirect_leads_from_https_to_http() -> None:
    request = urllib.request.Request("https://example.org/manifest.json")
    redirects = module._Redirects()
    arguments = (302, "Found", None)
    with pytest.raises(urllib.error.HTTPError, match="not allowed") as caught:
        redirects.redirect_request(request, None, *arguments, "http://example.org/manifest.json")
    caught.value.close()


def assert_gave_up(server: Server) -> None:
    """The reader has gone long before 50 MB: only what lies in the buffers of both sockets was sent."""
    until = time.monotonic() + 10
    while not server.gave_up_after_mb and time.monotonic() < until:
        time.sleep(0.01)
    assert server.gave_up_after_mb[0] < 40


def test_a_body_without_an_end_is_not_read_to_it(server: Server) -> None:
    server.answers[FEW] = [endless()]
    refused(MismatchError, "goes on after", doing=partial(read_all, server.url))
    assert_gave_up(server)


def test_the_body_of_a_redirect_is_not_read(server: Server) -> None:
    server.answers["manifest.json"] = [endless(status=302, Location="manifest.json"), plain]
    open_remote(server.url)
    assert_gave_up(server)


def test_a_header_without_an_end_is_not_read_to_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MANIFEST_BYTES", 100_000)
    server.answers["manifest.json"] = [endless()]
    refused(MismatchError, "goes on after 100000 bytes", doing=partial(open_remote, server.url))
    server.answers["manifest.json"] = [lambda request, body: send(request, body + bytes(200_000))]
    refused(MismatchError, "allowed are 100000", doing=partial(open_remote, server.url))


def test_rows_without_a_stated_length_are_read(server: Server, local: Remote) -> None:
    for name in ("manifest.json", "samples.jsonl", FEW):
        server.answers[name] = [lambda request, body: send(request, body, Content_Length=None)]
    assert read_all(server.url) == list(stream(local, "train", balanced(local).row))


# --- faults of the build


@pytest.fixture
def broken(digits_lt: Built, server: Server, tmp_path: Path) -> Server:
    """Serve a copy that a test may break."""
    server.folder = Path(shutil.copytree(digits_lt.folder, tmp_path / "broken"))
    return server


def rewrite(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "manifest.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")


def test_another_schema_is_refused(broken: Server) -> None:
    rewrite(broken.folder, lambda record: record.update(schema_version=2))
    for place in (broken.url, broken.folder):
        refused(MismatchError, str(place), "schema_version 2", doing=partial(open_remote, place))


@pytest.mark.parametrize("content", [b"", b"<html>Not here, but 200</html>", b"\xff\xfe", b"[1]", b"[" * 100_000])
def test_a_page_in_place_of_a_manifest_is_refused(broken: Server, content: bytes) -> None:
    (broken.folder / "manifest.json").write_bytes(content)
    refused(MismatchError, f"{broken.url}/manifest.json", doing=partial(open_remote, broken.url))


@pytest.mark.parametrize("change", [lambda rows: rows[:-1], lambda rows: rows.replace(b'"label": 0', b'"label": 1', 1)])
def test_other_rows_are_refused(broken: Server, change: Callable[[bytes], bytes]) -> None:
    path = broken.folder / "samples.jsonl"
    path.write_bytes(change(path.read_bytes()))
    refused(MismatchError, f"{broken.url}/samples.jsonl", "SHA-256", doing=partial(open_remote, broken.url))


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "train/../../x.tar", "http://other/few-000000.tar", "train/few-000000.tar?x"]
)
def test_paths_that_are_none_of_ours_are_never_asked_for(broken: Server, path: str) -> None:
    rewrite(broken.folder, lambda record: record["splits"]["train"]["shards"][-1].update(path=path))
    for place in (broken.url, broken.folder):
        refused(MismatchError, repr(path), doing=partial(open_remote, place))
    assert set(broken.requests) == {"manifest.json", "samples.jsonl"}


@pytest.mark.parametrize("change", [{"num_samples": 3}, {"path": "train/few-000001.tar"}, {"bytes": -1}])
def test_shards_that_are_not_those_of_the_rows_are_refused(broken: Server, change: dict[str, object]) -> None:
    rewrite(broken.folder, lambda record: record["splits"]["train"]["shards"][-1].update(change))
    refused(MismatchError, broken.url, doing=partial(open_remote, broken.url))


def test_a_seed_that_cannot_be_is_refused(broken: Server) -> None:
    for seed in (-1, "x", 2**40, None):
        rewrite(broken.folder, lambda record, seed=seed: record["protocol"]["params"].update(seed=seed))
        refused(MismatchError, "not those of its rows", doing=partial(open_remote, broken.url))


def sealed(folder: Path, shard: str, data: bytes) -> None:
    """Put other bytes in place of a shard, with a digest and size that fit: a hostile server's."""
    (folder / shard).write_bytes(data)

    def change(record: dict) -> None:
        for each in record["splits"]["train"]["shards"]:
            if each["path"] == shard:
                each.update(bytes=len(data), sha256=sha256_bytes(data))

    rewrite(folder, change)


@pytest.mark.parametrize("at", [0, 124, 512, 1024, 1148, 1600])
def test_every_header_label_and_image_is_checked_before_any_is_used(broken: Server, at: int) -> None:
    data = bytearray((broken.folder / FEW).read_bytes())
    data[at] ^= 1
    sealed(broken.folder, FEW, bytes(data))
    for place in (broken.url, broken.folder):
        remote = open_remote(place)
        refused(MismatchError, f"{place}/{FEW}", doing=lambda r=remote: list(stream(r, "train", balanced(r).row)))
        only_few = balanced(remote, groups=(2,))
        refused(MismatchError, f"{place}/{FEW}", doing=lambda r=remote, o=only_few: next(stream(r, "train", o.row)))


def test_rows_of_another_shard_are_refused(digits_lt: Built, broken: Server, tmp_path: Path) -> None:
    """Two shards of a series swapped: each is well formed, and neither is where its rows belong."""
    folder = broken.folder = small_shards(tmp_path / "small", digits_lt.folder, 25)
    first, second = folder / "train/many-000000.tar", folder / "train/many-000001.tar"
    one, other = first.read_bytes(), second.read_bytes()
    sealed(folder, "train/many-000000.tar", other)
    sealed(folder, "train/many-000001.tar", one)
    for place in (broken.url, folder):
        refused(MismatchError, "holds other rows", doing=lambda p=place: read_all(p))


def test_a_shard_that_is_missing_in_the_folder_is_named(broken: Server) -> None:
    (broken.folder / FEW).unlink()
    refused(MismatchError, str(broken.folder / FEW), doing=partial(read_all, broken.folder))
    refused(SourceMissingError, f"{broken.url}/{FEW}", "404", doing=partial(read_all, broken.url))


def test_views_and_manifests_alone_are_refused(broken: Server) -> None:
    view = {"path": "../whole", "content_sha256": "0" * 64}
    rewrite(broken.folder, lambda record: record.update(view_of=view))
    refused(SourceMissingError, "a view of '../whole'", doing=partial(open_remote, broken.url))
    rewrite(broken.folder, lambda record: record.pop("view_of"))
    rewrite(broken.folder, lambda record: [split.update(shards=[]) for split in record["splits"].values()])
    refused(SourceMissingError, "without images", doing=partial(open_remote, broken.url))


# --- values that cannot be meant


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc", "ftp://example.org/x", "data://x", "http://", "http:///x", "http://user:secret@example.org/x",
        "http://example.org/x?key=1", "http://example.org/x#y", "http://example.org:99999/x", "http://[::1/x",
        "http://example.org/a b", "http://example.org/\r\nX: y", "http://exämple.org/x", "gopher://example.org",
    ],
)  # fmt: skip
def test_urls_of_other_kinds_are_refused(url: str) -> None:
    message = refused(UsageError, "http or https", doing=partial(open_remote, url))
    assert "secret" not in message


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused(SourceMissingError, str(tmp_path / "nowhere"), doing=partial(open_remote, tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"shards_in_memory": 3}, "at least 4"),
    ],
)
def test_options_that_cannot_be_meant_are_refused_at_once(local: Remote, options: dict[str, int], reason: str) -> None:
    refused(UsageError, reason, doing=lambda: stream(local, "train", balanced(local).row, **options))


def test_rows_that_are_none_are_refused(local: Remote) -> None:
    refused(UsageError, "split 'val'", doing=lambda: stream(local, "val", [0]))
    for wrong, says in (
        ([0, 10**6], "rows: 0 .. 1000000; train of"),
        ([-1, 3], "rows: -1 .. 3; "),
        ([0.5], "float64 of shape (1,)"),
        ([[1, 2]], "shape (1, 2)"),
    ):
        refused(UsageError, says, doing=lambda wrong=wrong: stream(local, "train", wrong))


def test_a_sampler_gives_rows_that_are_streamed(server: Server) -> None:
    """Ranks are equally long, and a state goes on."""
    remote = open_remote(server.url)
    plans, labels = remote.plans["train"], remote.samples["train"].labels
    whole = [row for row, _ in stream(remote, "train", list(ShardSampler(plans, labels, seed=0)))]
    assert len(whole) == len(labels) == 489
    ranks = [list(ShardSampler(plans, labels, seed=0, rank=rank, world_size=2)) for rank in range(2)]
    assert [row for pair in zip(*ranks, strict=True) for row in pair][:489] == whole
    sampler = ShardSampler(plans, labels, seed=0)
    list(islice(sampler, 100))
    again = ShardSampler(plans, labels, seed=0)
    again.load_state_dict(sampler.state_dict())
    assert list(again) == whole[100:]


def test_the_example_of_the_module_runs(server: Server) -> None:
    text = (module.__doc__ or "").split("\n\n")
    example = "\n".join(line[4:] for part in text if part.startswith("    ") for line in part.splitlines())
    example = re.sub(r'"https://[^"]*"', repr(server.url), example)
    names: dict[str, object] = {}
    exec(f"from ltdata import reader\nfrom ltdata.mixing import *\nfrom ltdata.remote import *\n{example}", names)  # noqa: S102
    assert isinstance(pixels := names["pixels"], np.ndarray)
    assert pixels.shape[2] == 3
