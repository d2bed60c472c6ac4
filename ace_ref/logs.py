"""What a training writes while it runs: a JSON line per epoch, and the same numbers as TensorBoard events."""

import json
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ltdata.files import growing_file, make_folder, output_errors, write_atomic

LOG_NAME = "log.jsonl"
EVENTS_NAME = "events"


class Log:
    """Write the history of a training into its folder; nothing before the first epoch is over.

    A resumed training writes its whole history again, so the log never holds an epoch twice. There are events where
    tensorboardX is installed. Their file grows, since TensorBoard goes on reading the one that it has opened; ltdata
    writes it, since on a full disk tensorboardX's own writer, a thread, dies, and waits for itself without end.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._events = folder / EVENTS_NAME / f"events.out.tfevents.{int(time.time())}"
        self._written = 0

    def write(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the records of all epochs so far.

        Raises:
            OutputError: a file cannot be written.
        """
        if not history:
            return
        write_atomic(self._folder / LOG_NAME, "".join(json.dumps(record) + "\n" for record in history).encode())
        events = b"".join(_events(history[self._written :], first=self._written == 0))
        if events:
            make_folder(self._events.parent)
            with output_errors(self._events):
                if self._written == 0:
                    for old in self._events.parent.glob("events.out.tfevents.*"):  # written anew from the history
                        old.unlink()
                with growing_file(self._events, anew=self._written == 0) as file:
                    file.write(events)
        self._written = len(history)


def scalars(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the numbers of an epoch's record, named: `loss/expert1`, `lr/expert1`, `test/overall`.

    >>> list(scalars({"epoch": 1, "lr": [0.1], "loss": [2.5], "test": {"overall": 9.0, "few": None}}))
    [('lr/expert1', 0.1), ('loss/expert1', 2.5), ('test/overall', 9.0)]
    """
    for name, value in record.items():
        if isinstance(value, list):
            yield from ((f"{name}/expert{k}", number) for k, number in enumerate(value, start=1))
        elif isinstance(value, Mapping):
            yield from ((f"{name}/{part}", n) for part, n in value.items() if isinstance(n, int | float))


def _events(history: Sequence[Mapping[str, Any]], *, first: bool) -> Iterator[bytes]:
    """Yield the events of some records, each framed as TensorBoard reads it; none without tensorboardX."""
    try:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar
    except ImportError:
        return
    now = time.time()
    if first:
        yield _framed(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
    for record in history:
        for tag, value in scalars(record):
            event = Event(wall_time=now, step=record["epoch"], summary=scalar(tag, value))
            yield _framed(event.SerializeToString())


def _framed(event: bytes) -> bytes:
    """Frame a record: length, its checksum, the bytes, their checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(event))
    return b"".join((length, struct.pack("<I", masked_crc32c(length)), event, struct.pack("<I", masked_crc32c(event))))
