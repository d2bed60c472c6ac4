"""The table: which fault, what is promised, how many cases at least. A row's name is its file: `test_NAME.py`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """Say what goes wrong, what is promised then, and how many cases `make faults` tries at least."""

    fault: str
    promise: str
    least: int


ROWS = {
    "killed": Row(
        "kill -9 at any write, rename or fsync of a build",
        "the rerun ends byte-equal to a clean build; nothing partial under a final name",
        300,
    ),
    "no_space": Row("no space, I/O error, quota", "exit 5, one line, nothing partial", 200),
    "signals": Row("Ctrl-C, SIGTERM", "exit 130 or 143, resumable", 100),
    "two_builders": Row("several builders on one output", "one writes, the others stop with a clear error", 50),
    "outputs": Row("read-only, missing, symlinked output", "a clear error before any work", 15),
    "truncated": Row("truncated shard", "always found", 900),
    "flipped": Row("bit flip in a shard or row file", "found by verify, and before a training starts on it", 1_000),
    "wrong_shards": Row("missing, extra, swapped shard; stale statistics", "verify names the file", 40),
    "hostile_shards": Row(
        "duplicate or interleaved keys, pickles, links, devices, names that lead outside",
        "refused, never executed, nothing outside the folder",
        90,
    ),
    "foreign_shards": Row(
        "shards of other tools: cut, flipped, duplicated, hostile members",
        "checked and rewritten, or refused by name; nothing executed, nothing outside the folder",
        300,
    ),
    "hostile_archives": Row(
        "CIFAR archive with a wrong digest or a hostile pickle", "refused before it is unpickled", 20
    ),
    "odd_names": Row(
        "odd file and class names: Unicode, line ends, quotes, dots, 255 bytes, HTML",
        "round trip or refused; the report escapes them",
        2_000,
    ),
    "bad_images": Row(
        "wrong label; missing, cut, bomb, CMYK, 16-bit, grey image; broken EXIF",
        "a named error, or `--skip-bad`, which lists and counts them in the manifest",
        60,
    ),
    "small_classes": Row("empty class, class of one, empty group", "finite weights; n/a, never 0 % or NaN", 500),
    "parameters": Row("parameters: below 1, 0, NaN, inf, negative, 1e308, text", "exit 2, one line, no traceback", 200),
    "other_outputs": Row(
        "an output of another version or other options",
        "refused with what differs, or rebuilt when told to",
        20,
    ),
    "ranks": Row("shards fewer than workers x ranks; uneven ranks", "works, or an error before training; no hang", 20),
    "not_finite": Row(
        "NaN loss, non-finite gradient", "stops at once with step and learning rate; last good checkpoint kept", 20
    ),
    "checkpoints": Row(
        "checkpoint cut, flipped, or of another run", "refused; falls back to the one before and says so", 300
    ),
    "resumed": Row(
        "stop and resume of a training", "bit-equal to one that was not stopped (same CPU); elsewhere it says so", 20
    ),
    "command_lines": Row("any text as any option", "an exit code of the contract, no traceback", 2_000),
    "garbled_files": Row(
        "any manifest, rows, list, CSV, JSON, array, predictions file",
        "read or refused by name, no other exception",
        5_000,
    ),
    "fuzzed": Row("any bytes, any text", "no exception but the project's own", 1_000_000),
}
