"""Sources: where the images come from, each as plain data in its original order.

>>> sorted(SOURCES)
['cifar10', 'cifar100', 'digits', 'folder', 'imagenet-lt', 'inat18', 'places-lt']
"""

from collections.abc import Callable

from ltdata.errors import UsageError
from ltdata.sources import cifar, digits, folder, listed
from ltdata.sources.source import Source, SourceSplit, Where

__all__ = ["LISTED", "SOURCES", "Source", "SourceSplit", "Where", "load_source"]

SOURCES: dict[str, Callable[[Where], Source]] = {
    "cifar10": cifar.load_cifar10,
    "cifar100": cifar.load_cifar100,
    "digits": digits.load_digits,
    "imagenet-lt": listed.load_imagenet_lt,
    "inat18": listed.load_inat18,
    "places-lt": listed.load_places_lt,
    "folder": folder.load_folder,
}
LISTED = ("imagenet-lt", "inat18", "places-lt")  # nothing is drawn: the lists are the split


def load_source(name: str, where: Where | None = None) -> Source:
    """Read a source's images and labels.

    Args:
        name: one of `SOURCES`.
        where: its files are, and how to read them; None looks into the cache folder, then downloads.

    Raises:
        UsageError: there is no such source, or it needs another `where`.
        SourceMissingError: lists or images are not there and cannot be fetched.
        MismatchError: the files are not what they should be.
    """
    if name not in SOURCES:
        raise UsageError(f"data set {name!r}: choose one of {', '.join(SOURCES)}")
    return SOURCES[name](where if where is not None else Where())
