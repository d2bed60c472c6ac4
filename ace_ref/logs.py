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


class Log:
    """Write the history of a training into its folder.

    Args:
        folder: of the training.
        history: what is over; of a resumed training, so that the log never holds an epoch twice.
    """

    def __init__(self, folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
        self._path = folder / LOG_NAME
        self._events = _make_writer(folder / EVENTS_NAME)
        for record in history:
            self._add(record)
        self.write(history)

    def write(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the records, the last of which is new."""
        write_atomic(self._path, "".join(json.dumps(record) + "\n" for record in history).encode())
        if history:
            self._add(history[-1])

    def _add(self, record: Mapping[str, Any]) -> None:
        if self._events is not None:
            for tag, value in scalars(record):
                self._events.add_scalar(tag, value, record["epoch"])
            self._events.flush()


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
