"""What a file of someone's says about a split, before it is known to which source it belongs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ForeignSplit:
    """Hold the rows of one split as a file has them.

    Attributes:
        paths: of the images; None where it has positions.
        positions: in the source's split, int64 (n,); None where it has paths.
        labels: int64 (n,), or None where the file has none.
    """

    paths: tuple[str, ...] | None = None
    positions: NDArray[np.int64] | None = None
    labels: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if (self.paths is None) == (self.positions is None):
            raise ValueError("rows have paths or positions: give one of the two")

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.paths) if self.paths is not None else len(self.positions)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Foreign:
    """Hold a file's rows by split, and what else it says of itself.

    Attributes:
        format: such as ``csv``.
        splits: by name.
        about: what the file says of itself, under the manifest's own names: name, source, class_names, protocol, ...
    """

    format: str
    splits: Mapping[str, ForeignSplit]
    about: Mapping[str, Any] = field(default_factory=dict)
