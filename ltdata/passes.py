"""Passes: an endless order cut into epochs and ranks, which knows where it stands.

What always holds, for every sampler of this project:

* One global order for any number of ranks: position i of it is item i // world_size of rank i % world_size, and all
  ranks have equally many items. Where they do not divide the epoch, the order goes on a few positions
  (``drop_last=False``), or ends a few earlier.
* A pass is one epoch. After a whole one comes the next by itself, so that a forgotten `set_epoch` repeats nothing, and
  after one that was broken off, the rest of it; `set_epoch` of the same epoch goes back to where it began.
* `state_dict` says where a pass stands in the global order, and `load_state_dict` goes on exactly there, on any number
  of ranks. Positions are addressed, nothing is drawn again to get there (but for a permutation, 1 ms per 100,000).
"""

import zlib
from collections.abc import Iterator, Mapping
from itertools import chain
from operator import length_hint
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import UsageError
from ltdata.labels import check_integer, cut
from ltdata.orders import VERSION, Order
from ltdata.sampling import MOST

Item = TypeVar("Item")
_MOST_RANKS = 1 << 20
_CHUNK = 1 << 13  # positions drawn at once: fast, and the first item comes within a millisecond


class Passes(Generic[Item]):
    """Cut an endless order into epochs and ranks, and know where a pass stands.

    Args:
        order: of the items.
        settings: what the order follows from, plain values by name, with ``labels``, int64 (n,), and ``classes``, a
            mask or None: a state goes on with the same ones only.
        length: items of an epoch, of all ranks together; None: the order's own.
        rank: of this process, 0 .. world_size - 1.
        world_size: number of processes.
        drop_last: leave out the last items that do not go round all ranks, in place of going on a few.
    """

    _epoch: int  # of the current or next pass
    _origin: int  # where the epoch began, a position in the global order: 0, or that of a loaded state
    _start: int  # where the pass began: later than that, after one that was broken off
    _end: int  # where those of its items end that have been drawn so far
    _waiting: Iterator[Item]  # those of them that have not been handed out
    _over: bool  # whether it was taken to its end
    _pass: object  # the one that these are of

    def __init__(
        self,
        order: Order,
        settings: Mapping[str, Any],
        *,
        length: int | None,
        rank: int,
        world_size: int,
        drop_last: bool,
    ) -> None:
        self.world_size = check_integer("world_size", world_size, 1, _MOST_RANKS)
        self.rank = check_integer("rank", rank, 0, self.world_size - 1)
        self.length = order.length if length is None else check_integer("length", length, 1, MOST)
        self.drop_last = drop_last
        self._order = order
        self._settings = {**settings, "length": self.length}
        self._go_to(0, 0, 0)

    def __repr__(self) -> str:
        plain = {name: value for name, value in self._settings.items() if name not in ("labels", "classes")}
        known = {**plain, "rank": f"{self.rank} of {self.world_size}", "epoch": self._epoch, "position": self._at()}
        return f"{type(self).__name__}({', '.join(f'{name} {value}' for name, value in known.items())})"

    @property
    def epoch(self) -> int:
        """Return the epoch of the current or last pass, counted from 0."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is of, counted from 0; a loaded state of that epoch goes on.

        Raises:
            UsageError: there is no such epoch.
        """
        self._check_epoch(epoch)
        if epoch != self._epoch or self._is_over():
            self._go_to(epoch, 0, 0)
        elif self._at() > self._origin:
            self._go_to(epoch, self._origin, self._origin)

    def __len__(self) -> int:
        """Count this rank's items in the pass that has begun, or in the next one: fewer where it goes on midway."""
        return self._left(0 if self._is_over() else self._start)

    def __iter__(self) -> Iterator[Item]:
        """Begin a pass: this rank's items of an epoch, or of the rest of one.

        Raises:
            UsageError: the last epoch is over.
        """
        if self._is_over():
            self._check_epoch(self._epoch + 1)
            self._go_to(self._epoch + 1, 0, 0)
        else:
            self._check_epoch(self._epoch)
            self._go_to(self._epoch, self._origin, self._at())
        return chain.from_iterable(self._parts(self._epoch, self._start, self._pass))

    def _parts(self, epoch: int, start: int, this: object) -> Iterator[Iterator[Item]]:
        """Draw the items of a pass part by part, to be handed out without a line of Python for each."""
        end = start + self._left(start) * self.world_size
        step = max(1, _CHUNK // self.world_size) * self.world_size
        for at in range(start, end, step):
            stop = min(at + step, end)
            waiting = iter(self._items(self._order.take(epoch, at, stop)[self.rank :: self.world_size]))
            if self._pass is this:  # no other pass has begun since
                self._end, self._waiting = stop, waiting
            yield waiting
        if self._pass is this:
            self._over = True

    def _go_to(self, epoch: int, origin: int, start: int) -> None:
        self._epoch, self._origin, self._start, self._end = epoch, origin, start, start
        self._waiting, self._over, self._pass = iter(()), False, object()

    def _check_epoch(self, epoch: int) -> None:
        if check_integer("epoch", epoch) >= self._order.epochs:
            raise UsageError(
                f"epoch {cut(epoch)}: this sampler has {self._order.epochs:,}, from 0 on; make it for more"
            )

    def _at(self) -> int:
        """Return where the current or last pass stands, a position in the global order."""
        return self._end - length_hint(self._waiting) * self.world_size

    def _is_over(self) -> bool:
        return self._over or (self._at() > self._start and not self._left(self._at()))

    def _left(self, position: int) -> int:
        """Count the items that each rank gets from a position of the global order on."""
        left = max(self.length - position, 0)
        return left // self.world_size if self.drop_last else -(-left // self.world_size)

    def _items(self, part: NDArray[np.integer]) -> list[Item]:
        """Give the items of some positions as plain Python values."""
        items: list[Item] = part.tolist()
        return items

    def state_dict(self, *, batches: int | None = None, batch_size: int = 1) -> dict[str, Any]:
        """Say where the current pass stands, in values that JSON can hold.

        Args:
            batches: how many batches of the pass, counted from its begin, this rank has used, where something between
                asks ahead, as a DataLoader with workers does. None: all that was handed out, as at an epoch's end.
            batch_size: of that DataLoader, the last one may be smaller; 1 where the items are batches themselves.

        Raises:
            UsageError: the pass has handed out fewer.
        """
        at = self._at()
        if batches is not None:
            handed = (at - self._start) // self.world_size
            most = -(-handed // check_integer("batch_size", batch_size, 1, MOST))
            if check_integer("batches", batches) > most:
                known = f"this pass has handed out {most} of size {batch_size} to this rank"
                raise UsageError(f"batches {cut(batches)}: {known}; count from where it began")
            at = self._start + min(batches * batch_size, handed) * self.world_size
        epoch, at = (self._epoch, at) if self._left(at) else (self._epoch + 1, 0)
        return {**_described(self._settings), "epoch": epoch, "position": at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state stands: the next pass gives the rest of its epoch.

        Raises:
            UsageError: the state is of a sampler with other settings or labels, or says nothing that can be meant.
        """
        if not isinstance(state, Mapping):
            raise UsageError(f"state: {state!r:.40}; what state_dict gave is needed")
        own = {**_described(self._settings), "epoch": 0, "position": 0}
        for name in {**own, **state}:
            if name not in state or name not in own:
                raise UsageError(f"state: {name} {'is missing' if name in own else 'means nothing'} to this sampler")
            if name not in ("epoch", "position") and state[name] != own[name]:
                known = own[name]
                raise UsageError(
                    f"state: {name} {state[name]}, of this sampler {known}; make it with the same settings"
                )
        # The epoch after the last one: a training that is over.
        epoch = check_integer("state: epoch", state["epoch"], 0, self._order.epochs)
        position = check_integer("state: position", state["position"], 0, self.length - 1)
        self._go_to(epoch, position, position)


def _described(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Say in plain values what an order follows from, labels and classes by a checksum."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}
    labels, classes = plain.pop("labels"), plain.pop("classes")
    chosen = b"" if classes is None else np.packbits(np.asarray(classes)).tobytes()
    digest = zlib.crc32(labels.tobytes(), zlib.crc32(chosen))
    return {"order": VERSION, "images": len(labels), "labels_crc32": digest, **plain}
