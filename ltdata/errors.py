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

import re

# What ends a line, what a terminal obeys (ESC, and C1 in place of it), and what UTF-8 cannot hold
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


# Of torch and CUDA; of Python, which says no more of a thread; of the linker. "illegal memory access" is another matter
_SHORT = (
    "out of memory", "allocate memory", "not enough memory", "bad_alloc", "can't start new thread",
    "failed to map segment",
)  # fmt: skip


def escaped(text: str) -> str:
    r"""Return text of anyone's as one line can show it: what would do something else is written as Python writes it.

    >>> escaped("a  b\n\x1b[2J")
    'a  b\\n\\x1b[2J'
    """
    return _UNSHOWN.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(message: str) -> str:
    """Return a message in one line, whatever a library's own message, or the name of a file, brought along."""
    return escaped(" ".join(line.strip() for line in message.strip().split("\n")))


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, in whichever words.

    >>> out_of_memory(ImportError("libgomp.so.1: failed to map segment from shared object"))
    True
    """
    if isinstance(error, LtdataError) or "static TLS" in str(error):  # the linker's, of the order of imports
        return False
    return isinstance(error, MemoryError) or any(words in str(error) for words in _SHORT)


class LtdataError(Exception):
    """Say in one line what is wrong and what to do; the base of all errors of this project."""

    exit_code = 1

    def __str__(self) -> str:
        """Return the message in one line, see `one_line`."""
        return one_line(super().__str__())


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
