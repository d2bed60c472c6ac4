"""Sources: where the images come from, each as plain arrays in its original order.

>>> sorted(SOURCES)
['cifar10', 'cifar100', 'digits']
"""

from collections.abc import Callable
from pathlib import Path

from ltdata.errors import UsageError
from ltdata.sources import cifar, digits
from ltdata.sources.source import Source, SourceSplit

__all__ = ["SOURCES", "Source", "SourceSplit", "load_source"]

Loader = Callable[..., Source]

SOURCES: dict[str, Loader] = {
    "cifar10": cifar.load_cifar10,
    "cifar100": cifar.load_cifar100,
    "digits": digits.load_digits,
}


def load_source(name: str, *, data_dir: Path | None = None, unverified: bool = False, progress: bool = False) -> Source:
    """Read a source's images and labels.

    Args:
        name: one of `SOURCES`.
        data_dir: folder or archive to read; None looks into the cache folder, then downloads.
        unverified: accept files whose digest is not the published one.
        progress: show a bar while downloading.

    Raises:
        UsageError: there is no such source.
        SourceMissingError: the images are not there and cannot be fetched.
        MismatchError: the files are not what they should be.
    """
    if name not in SOURCES:
        raise UsageError(f"data set {name!r}: choose one of {', '.join(SOURCES)}")
    return SOURCES[name](data_dir=data_dir, unverified=unverified, progress=progress)
