"""ltdata: reproducible long-tailed image splits, data first.

`import ltdata` imports no torch and nothing heavy, not even numpy; what a name needs is imported when it is used.

>>> import ltdata
>>> ltdata.load("cifar100-lt", imbalance_factor=100).class_counts[:5].tolist()
[500, 477, 455, 434, 415]
"""

from typing import TYPE_CHECKING, Any

from ltdata.errors import LtdataError, MismatchError, OutputError, SourceMissingError, UsageError

if TYPE_CHECKING:
    from ltdata.pinned import load

__version__ = "0.1.0"

__all__ = [
    "LtdataError",
    "MismatchError",
    "OutputError",
    "SourceMissingError",
    "UsageError",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    """Import `load` when it is used: commands answer signals before they import numpy."""
    if name == "load":
        from ltdata.pinned import load

        return load
    raise AttributeError(f"module 'ltdata' has no attribute {name!r}")
