"""An output that cannot be written is named before any work is done; one that can, is, wherever its links lead.

That no work was done is seen from what would go wrong in it: the source that a command is given is not there, or is
broken, and yet the error is that of the output.
"""

import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import READS_EVERYTHING
from photos import put_photos

from faults import trainings
from faults.breaks import Break
from faults.effort import tried
from faults.lines import Ended, run
from ltdata import build as builder
from ltdata import formats, reader
from ltdata.errors import OutputError
from ltdata.spec import Spec

BREAKS = (
    Break(
        "ltdata/output.py", "(OSError, RuntimeError, ValueError) as error:", "ZeroDivisionError as error:", only="first"
    ),
    Break("ltdata/output.py", "    if folder == Path.cwd():\n", "    if False:\n", only="current"),
    Break("ltdata/output.py", "    for parent in place.parents:\n", "    for parent in ():\n", only="inside"),
    Break("ltdata/files.py", "        with TemporaryFile(dir=above):\n            pass\n", "", only="every_command"),
)
PHOTOS = [f"class{c}/{n}.jpg" for c in range(3) for n in range(4)]
Command = Callable[[Path, Path], Ended]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder with photographs and a build of them, and what can stand in an output's way; be inside it."""
    put_photos(tmp_path / "photos", PHOTOS)
    monkeypatch.chdir(tmp_path)
    ended = run("ltdata build", "folder", "--data-dir", "photos", "--test-per-class", 1, "--out", "whole", "--quiet")
    assert ended.code == 0, ended
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "to_file").symlink_to("file")
    (tmp_path / "into_build").symlink_to("whole")
    yield tmp_path
    assert (tmp_path / "file").read_text() == "mine"
    assert run("ltdata verify", "whole", "--quiet").code == 0


# Each is given a source that it would stumble over, had it begun.
COMMANDS: dict[str, tuple[str, ...]] = {
    "build": ("ltdata build", "folder", "--data-dir", "no-such-source"),
    "build digits": ("ltdata build", "digits", "--imbalance", "20", "--data-dir", "no-such-source"),
    "train": ("ace_ref.train", "--shards", "whole", "--recipe", "tiny", "--epochs", "1", "--set", "batch_size=4"),
}
NOWHERE = {
    "a file": "file",
    "below a file": "file/out",
    "a link to itself": "loop",
    "below a link to itself": "loop/out",
    "a link to a file": "to_file",
    "a device": "/dev/null",
    "a folder of the system's": "/proc/out",
    "too long a name": "x" * 300,
}


@pytest.mark.parametrize("command", ["build", "train"])
@pytest.mark.parametrize("where", NOWHERE)
def test_a_place_where_nothing_can_be_written_is_named_first(where: str, command: str, place: Path) -> None:
    before = sorted(path.name for path in place.iterdir())
    ended = run(*COMMANDS[command], "--out", NOWHERE[where], "--quiet")
    assert ended.refused(ended.code), ended
    assert ended.code in (2, 5), ended
    assert "no-such-source" not in ended.err, ended  # the source was not looked for
    named = NOWHERE[where].partition("/out")[0].removeprefix("to_")  # a link by what it leads to
    assert named in ended.err, ended
    assert sorted(path.name for path in place.iterdir()) == before
    tried()


def test_a_name_that_leaves_no_room_for_those_beside_it_says_so(place: Path) -> None:
    """What is written under another name first, beside the output, is no word of the user's."""
    ended = run(*COMMANDS["build"], "--out", "x" * 245, "--quiet")
    assert ended.refused(5), ended
    assert f"/{'x' * 245}: " in ended.err, ended
    assert "choose a shorter name" in ended.err, ended
    tried()


# Every command that writes, with a source that is not there: the place where `OUT` stands is named all the same.
WRITING = {
    "subset": ("ltdata subset", "no-such-source", "--group", "few", "--out", "OUT"),
    "import": ("ltdata import", "no-such-source", "--out", "OUT"),
    "export": ("ltdata export", "no-such-source", "--format", "csv", "--out", "OUT"),
    "export lists": ("ltdata export", "no-such-source", "--format", "list", "--out", "OUT"),
    "stats --html": ("ltdata stats", "no-such-source", "--html", "OUT"),
    "stats --plot": ("ltdata stats", "no-such-source", "--plot", "OUT.pdf"),
    "evaluate": ("ace_ref.evaluate", "--checkpoint", "no-such-source", "--shards", "whole", "--predictions", "OUT"),
    "report": ("ace_ref.report", "no-such-source", "--out", "OUT"),
}


@pytest.mark.parametrize("where", ["file/out", "loop", "loop/out", "/proc/out", "/dev/null/out", "x" * 300])
@pytest.mark.parametrize("command", WRITING)
def test_every_command_names_its_output_before_it_looks_for_its_source(command: str, where: str, place: Path) -> None:
    before = sorted(path.name for path in place.iterdir())
    if "OUT.pdf" in WRITING[command] and where == "loop":
        Path("loop.pdf").symlink_to("loop.pdf")
        before = sorted([*before, "loop.pdf"])
    ended = run(*(word.replace("OUT", where) for word in WRITING[command]))
    assert ended.refused(5), ended
    assert "no-such-source" not in ended.err, ended
    assert where.partition("/out")[0] in ended.err, ended
    assert sorted(path.name for path in place.iterdir()) == before
    tried()


@pytest.mark.parametrize("command", ["subset", "import", "stats --html", "evaluate"])
def test_what_stands_there_is_refused_before_the_source_is_looked_for(command: str, place: Path) -> None:
    folder = command in ("subset", "import")
    ended = run(*(word.replace("OUT", "whole" if folder else "file") for word in WRITING[command]))
    assert ended.refused(2), ended
    assert ("holds a build already" if folder else "exists") in ended.err
    assert "no-such-source" not in ended.err
    tried()


def test_a_name_with_a_nul_is_refused_where_no_command_line_can_hold_it(place: Path) -> None:
    manifest = reader.read_manifest(place / "whole")
    for write in (
        lambda out: builder.build(Spec("folder"), data_dir=place / "no-such-source", out=out),
        lambda out: formats.export(manifest, out, form="csv"),
        lambda out: formats.write_import(manifest, out),
    ):
        with pytest.raises(OutputError, match="cannot be followed"):
            write(Path("a\0b"))
        tried()


@pytest.mark.parametrize("where", ["", "."])
@pytest.mark.parametrize(
    "words",
    [
        ("ltdata build", "folder", "--data-dir", "no-such-source"),
        ("ltdata subset", "whole", "--group", "few"),
        ("ltdata import", "whole"),
    ],
    ids=lambda words: words[0],
)
def test_the_current_folder_is_nowhere(words: tuple[str, ...], where: str, place: Path) -> None:
    ended = run(*words, "--out", where, "--quiet", "--force")
    assert ended.refused(2), ended
    assert "current folder" in ended.err
    tried()


@pytest.mark.parametrize(
    "words",
    [*(WRITING[name] for name in WRITING if name != "report"), *COMMANDS.values()],
    ids=lambda words: " ".join(words[:2]),
)
def test_the_root_is_nowhere(words: tuple[str, ...], place: Path) -> None:
    ended = run(*(word.replace("OUT", "/") for word in words), *(() if "OUT" in words else ("--out", "/")))
    assert ended.refused(2) or ended.refused(5), ended
    assert "no-such-source" not in ended.err, ended
    tried()


@pytest.mark.parametrize("where", ["whole/new", "whole/train/new", "into_build/new"])
@pytest.mark.parametrize(
    "words",
    [
        ("ltdata build", "folder", "--data-dir", "no-such-source"),
        ("ltdata subset", "whole", "--group", "few"),
        ("ltdata import", "whole"),
        COMMANDS["train"],
    ],
    ids=lambda words: words[0],
)
def test_a_place_inside_a_build_is_refused(words: tuple[str, ...], where: str, place: Path) -> None:
    ended = run(*words, "--out", where, "--quiet")
    assert ended.refused(2), ended
    assert "lies inside the build" in ended.err
    tried()


def test_an_output_among_the_images_is_refused(place: Path) -> None:
    for where in ("photos/out", "photos/class0/out"):
        ended = run("ltdata build", "folder", "--data-dir", "photos", "--out", where, "--quiet")
        assert ended.refused(2), ended
        assert "lies among the images" in ended.err
        tried()


def _build(place: Path, out: Path) -> Any:
    return run("ltdata build", "folder", "--data-dir", place / "photos", "--test-per-class", 1, "--out", out, "--quiet")


def test_missing_parents_are_made_and_links_are_followed(place: Path) -> None:
    (place / "else").mkdir()
    (place / "to_folder").symlink_to("else")
    (place / "to_nothing").symlink_to("made/by/link")
    whole = sorted(path.relative_to("whole") for path in Path("whole").rglob("*"))
    for out, real in {
        "a/b/c/out": "a/b/c/out",
        "to_folder": "else",
        "to_folder/out": "else/out",
        "to_nothing": "made/by/link",
        "a/../d": "d",
    }.items():
        if out == "to_folder/out":
            shutil.rmtree("else")
            Path("else").mkdir()
        ended = _build(place, Path(out))
        assert ended.code == 0, ended
        assert sorted(path.relative_to(real) for path in Path(real).rglob("*")) == whole
        assert run("ltdata verify", real, "--quiet").code == 0
        tried()
    assert (place / "to_folder").is_symlink()
    assert (place / "to_nothing").is_symlink()


# --- folders that may be read only


def _as_somebody(words: tuple[Any, ...], folder: Path, sent: Any) -> None:
    """Run a command as a user who owns nothing here."""
    if READS_EVERYTHING:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    os.chdir(folder)
    sent.send(run(*words))


READ_ONLY = [
    ("ltdata build", "folder", "--data-dir", "no-such-source", "--out", "locked/out"),
    ("ltdata build", "folder", "--data-dir", "no-such-source", "--out", "locked/a/b/out"),
    ("ltdata subset", "whole", "--group", "few", "--out", "locked/out"),
    ("ltdata import", "whole", "--out", "locked/out"),
    ("ltdata export", "whole", "--format", "csv", "--out", "locked/rows.csv"),
    ("ltdata export", "whole", "--format", "list", "--out", "locked/lists"),
    ("ltdata stats", "whole", "--html", "locked/page.html"),
    (*COMMANDS["train"], "--out", "locked/run"),
]


@pytest.mark.skipif(os.name == "nt", reason="chmod takes no right to write away there")
@pytest.mark.parametrize("words", READ_ONLY, ids=lambda words: f"{words[0]} {words[-1]}")
def test_a_folder_that_may_only_be_read_is_named(words: tuple[str, ...], place: Path) -> None:
    for folder in (place, *place.parents):  # so that somebody else can come here
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o555)
    (place / "locked").mkdir()
    (place / "locked").chmod(0o555)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_as_somebody, args=(words, place, sender))
    process.start()
    sender.close()
    try:
        ended = receiver.recv()
    finally:
        process.join(trainings.LIMIT_S)
    assert ended.refused(5), ended
    assert "locked" in ended.err
    assert "ermission denied" in ended.err
    assert "no-such-source" not in ended.err
    assert list((place / "locked").iterdir()) == []
    tried()


@pytest.fixture
def read_only(place: Path) -> Iterator[Path]:
    """Mount a file system that can only be read."""
    folder = place / "mounted"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or sys.platform != "linux":
        pytest.skip("there is no mount(8) of Linux here")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", folder], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("mounting needs root, and is not allowed here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("words", READ_ONLY, ids=lambda words: f"{words[0]} {words[-1]}")
def test_a_file_system_that_can_only_be_read_is_named(words: tuple[str, ...], read_only: Path) -> None:
    ended = run(*(word.replace("locked", "mounted") for word in words))
    assert ended.refused(5), ended
    assert "mounted" in ended.err
    assert "Read-only file system" in ended.err
    tried()
