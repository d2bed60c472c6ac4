"""What a training writes while it runs: a JSON line per epoch, and the same numbers as TensorBoard events."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ltdata.files import write_atomic

LOG_NAME = "log.jsonl"
EVENTS_NAME = "events"


class _Writer(Protocol):
    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> object: ...

    def flush(self) -> object: ...

    def close(self) -> object: ...


class Log:
    """Write the history of a training into its folder; nothing before the first epoch is over.

    A resumed training writes its whole history again, so the log never holds an epoch twice. There are events where
    tensorboardX is installed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._events: _Writer | None = None
        self._written = 0

    def write(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the records of all epochs so far."""
        if not history:
            return
        write_atomic(self._folder / LOG_NAME, "".join(json.dumps(record) + "\n" for record in history).encode())
        if self._written == 0:
            self._events = _make_writer(self._folder / EVENTS_NAME)
        if self._events is not None:
            for record in history[self._written :]:
                for tag, value in scalars(record):
                    self._events.add_scalar(tag, value, record["epoch"])
            self._events.flush()
        self._written = len(history)

    def close(self) -> None:
        """End the events."""
        if self._events is not None:
            self._events.close()


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


def _make_writer(folder: Path) -> _Writer | None:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    for old in folder.glob("events.out.tfevents.*"):  # written anew from the history
        old.unlink()
    writer: _Writer = SummaryWriter(str(folder), write_to_disk=True)
    return writer
