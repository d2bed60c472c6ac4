"""The folder that a command writes: free, its own to replace, or refused."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ltdata import index, shards
from ltdata.errors import MismatchError, OutputError, UsageError
from ltdata.files import check_writable, exclusive, leftovers, staged_folder, tidy
from ltdata.manifest import MANIFEST_NAME, SAMPLES_NAME
from ltdata.reader import read_manifest


def resolve(out: Path) -> Path:
    """Return the absolute path of an output folder, links followed, after clearing what a killed run left.

    Raises:
        UsageError: it is the current folder, or as `followed`.
        OutputError: as `followed`.
    """
    folder = followed(out)
    if folder == Path.cwd():
        raise UsageError(f"--out {str(out)!r}: is the current folder; name one inside it")
    if leftovers(folder):
        with exclusive(folder):
            tidy(folder)
    return folder


def followed(out: Path) -> Path:
    """Return the absolute path of a file or folder to write, links followed.

    Raises:
        UsageError: it lies inside a build, where it would be taken for a damage, or is the root of a file system.
        OutputError: it cannot be followed.
    """
    try:
        place = out.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, before Python 3.13; a NUL
        raise OutputError(f"{out}: cannot be followed ({error}); choose another place") from error
    if not place.name:
        raise UsageError(f"{place}: is the root of a file system; name a place inside it")
    for parent in place.parents:
        if (parent / MANIFEST_NAME).is_file() and (parent / SAMPLES_NAME).is_file():
            raise UsageError(f"{place}: lies inside the build {parent}; choose another place")
    return place


def holds_build(folder: Path, *, force: bool) -> bool:
    """Tell whether a finished build stands at the place, which `force` may replace; False where the place is free.

    Raises:
        UsageError: other files are there, or `force` would delete some.
        OutputError: a file is there.
    """
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise OutputError(f"{folder}: is a file; choose another --out")
    if not (folder / MANIFEST_NAME).exists():
        if any(folder.iterdir()):
            raise UsageError(f"{folder}: holds other files and no ltdata build; choose another --out")
        return False
    if force:
        foreign = _foreign(folder)
        if foreign:
            raise UsageError(f"{folder}: --force would delete {foreign}, which is no part of a build; move it away")
    return True


def check_new(out: Path, *, force: bool = False) -> None:
    """Refuse what `new_folder` would refuse, before any work is done for it.

    Raises:
        UsageError: a build stands there already and `force` is not given, or other files are there.
        OutputError: it cannot be written.
    """
    folder = resolve(out)
    check_writable(folder)
    _refuse_build(folder, force=force)


def check_new_file(out: Path, *, force: bool = False) -> None:
    """Refuse a file that cannot be written, before any work is done for it.

    Raises:
        UsageError: it stands there already and `force` is not given, or as `followed`.
        OutputError: it cannot be written.
    """
    followed(out)
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; name a file")
    if out.exists() and not force:
        raise UsageError(f"{out}: exists; choose another name, or --force to replace it")
    check_writable(out)


@contextmanager
def new_folder(out: Path, *, force: bool = False, keep: Iterable[Path | None] = ()) -> Iterator[Path]:
    """Give a staging folder that becomes `out` when the block ends well, and vanishes when it does not.

    Args:
        out: the folder.
        force: replace a build that stands there.
        keep: what is read, and must not be replaced by what is made of it.

    Raises:
        UsageError: a build stands there already and `force` is not given, or other files are there, or it is to be
            kept.
        OutputError: it cannot be written.
    """
    folder = resolve(out)
    for read in keep:
        if read is not None and read.resolve().is_relative_to(folder):
            raise UsageError(f"--out {str(out)!r}: would replace {read}, which is read here; choose another --out")
    with exclusive(folder):
        _refuse_build(folder, force=force)
        with staged_folder(folder, replace=force) as staging:
            yield staging


def _refuse_build(folder: Path, *, force: bool) -> None:
    if holds_build(folder, force=force) and not force:
        raise UsageError(f"{folder}: holds a build already; choose another --out, or --force to replace it")


def is_own(relative: str) -> bool:
    """Tell whether a path inside a build, with forward slashes, is one that builds write."""
    return relative in {MANIFEST_NAME, SAMPLES_NAME, index.INDEX_NAME} or bool(shards.PATH_PATTERN.fullmatch(relative))


def _foreign(folder: Path) -> Path | None:
    """Return a file of the folder that no build writes; None if there is none."""
    own_header = (folder / SAMPLES_NAME).exists()  # a damaged one is ours if our rows lie beside it
    if not own_header:
        with suppress(MismatchError):
            read_manifest(folder)
            own_header = True
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        if not is_own(relative) or (relative == MANIFEST_NAME and not own_header):
            return path
    return None
