"""ltdata: reproducible long-tailed image splits, data first.

`import ltdata` imports no torch and nothing heavy; what a name needs is imported when it is used.

>>> import ltdata
>>> ltdata.load("cifar100-lt", imbalance_factor=100).class_counts[:5].tolist()
[500, 477, 455, 434, 415]
"""

__version__ = "0.1.0"

from ltdata.errors import LtdataError, MismatchError, OutputError, SourceMissingError, UsageError
from ltdata.pinned import load

__all__ = [
    "LtdataError",
    "MismatchError",
    "OutputError",
    "SourceMissingError",
    "UsageError",
    "__version__",
    "load",
]
