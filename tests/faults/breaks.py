"""Breaks: each promise is taken away in a copy of the packages, and its row must then fail.

    python -m faults.breaks [ROW ...]      from tests/; prints a line per break, and exits with 1 if one is not caught

A row's module holds its breaks, `BREAKS`. A break that does not fit the code any more is an error, so that none
grows stale.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from faults.rows import ROWS

REPO = Path(__file__).parent.parent.parent
_LIMIT_S = 600


@dataclass(frozen=True)
class Break:
    """Take a check away: in a file of the packages, a text that is there once becomes another.

    Attributes:
        file: from the repository.
        old: in it, once.
        new: in its place.
        only: of the row's tests, those that pytest's -k picks: a break is caught by some, and the others take time.
    """

    file: str
    old: str
    new: str
    only: str = ""


def breaks_of(row: str) -> tuple[Break, ...]:
    """Return the breaks that a row names."""
    return tuple(import_module(f"faults.test_{row}").BREAKS)


def fails(row: str, broken: Break | None = None) -> bool:
    """Run the tests of a row that catch a break, or all of its breaks, against a copy of the packages.

    Args:
        row: of the table.
        broken: what is taken away in the copy; None takes nothing away.

    Returns:
        Whether a test failed. One that hangs has not.

    Raises:
        ValueError: the break does not fit the code, the tests could not run, or fail without a break.
    """
    with tempfile.TemporaryDirectory() as made:
        copy = Path(made)
        for package in ("ltdata", "ace_ref", "manifests"):
            shutil.copytree(REPO / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
        if broken is not None:
            _take_away(copy / broken.file, row, broken)
        # The copy is imported, not the checkout in the current folder, here and in every process that a test starts.
        settings = {"PYTHONPATH": str(copy), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1", "LTDATA_FAULTS": ""}
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
        only = {one.only for one in ([broken] if broken else breaks_of(row))}
        chosen = ["-k", " or ".join(f"({words})" for words in sorted(only))] if all(only) else []
        try:
            ended = subprocess.run(
                [*command, *chosen, str(REPO / "tests" / "faults" / f"test_{row}.py")],
                cwd=REPO,
                env=os.environ | settings,
                capture_output=True,
                text=True,
                timeout=_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
    if ended.returncode not in (0, 1) or (ended.returncode and broken is None):
        what = "fail without a break" if ended.returncode == 1 else "did not run"
        raise ValueError(f"{row}: the tests {what}: {ended.stdout[-4000:]}{ended.stderr[-2000:]}")
    return ended.returncode == 1


def _take_away(place: Path, row: str, broken: Break) -> None:
    text = place.read_text(encoding="utf-8")
    if text.count(broken.old) != 1:
        raise ValueError(f"{row}: {broken.file} holds {broken.old!r} {text.count(broken.old)} times, not once")
    place.write_text(text.replace(broken.old, broken.new), encoding="utf-8")


def each(rows: list[str]) -> Iterator[tuple[str, Break, bool, float]]:
    """Try the breaks of rows, two at a time; yield row, break, whether it was caught, and seconds.

    A break is caught by a test that fails with it, and only where none does without.
    """

    def one(job: tuple[str, Break]) -> tuple[str, Break, bool, float]:
        started = time.monotonic()
        return *job, fails(*job), time.monotonic() - started

    with ThreadPoolExecutor(2) as pool:
        sound = {row: pool.submit(fails, row) for row in rows}
        jobs = [(row, broken) for row in rows for broken in breaks_of(row)]
        for name, broken, noticed, seconds in pool.map(one, jobs):
            sound[name].result()  # raises where the tests fail without a break
            yield name, broken, noticed, seconds


def main() -> int:
    """Print what each break did; return 1 if one was not caught."""
    missed = 0
    for row, broken, noticed, seconds in each(sys.argv[1:] or list(ROWS)):
        missed += not noticed
        print(line(row, broken, noticed, seconds))
    return min(missed, 1)


def line(row: str, broken: Break, noticed: bool, seconds: float) -> str:
    """Say in one line what became of a break."""
    return f"{row:<17} {'caught' if noticed else 'NOT CAUGHT':<10} {seconds:4.0f} s  {broken.file}: {broken.old!r:.70}"


if __name__ == "__main__":
    sys.exit(main())
