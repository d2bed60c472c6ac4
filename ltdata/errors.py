"""The errors of ltdata: each class is one exit code, each message says what, the value, and the way out.

| class | exit code | meaning |
|---|---|---|
| `LtdataError` | 1 | the work could not be done |
| `UsageError` | 2 | a value that cannot be meant |
| `MismatchError` | 3 | bytes, counts or digests are not what they should be |
| `SourceMissingError` | 4 | the source images are not there |
| `OutputError` | 5 | the result cannot be written |

>>> UsageError("--seed -1: a seed is 0 or more").exit_code
2
"""


class LtdataError(Exception):
    """Say in one line what is wrong and what to do; the base of all errors of this project."""

    exit_code = 1

    def __str__(self) -> str:
        """Return the message in one line, whatever a library's own message brought along."""
        return " ".join(super().__str__().split())


class UsageError(LtdataError, ValueError):
    """Refuse a value that cannot be meant."""

    exit_code = 2


class MismatchError(LtdataError):
    """Report bytes, counts or digests that are not what they should be."""

    exit_code = 3


class SourceMissingError(LtdataError):
    """Report source images that are not there, and which file to put where."""

    exit_code = 4


class OutputError(LtdataError):
    """Report a result that cannot be written."""

    exit_code = 5
