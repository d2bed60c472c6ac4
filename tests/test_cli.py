"""The command line: exit codes, one line per error, data on stdout alone, and output for every kind of terminal."""

import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltdata import __version__, cli, pinned
from ltdata.build import Built

REPO = Path(__file__).parent.parent
CONTEXT = click.Context(cli.cli)
COMMANDS = {name: cli.cli.get_command(CONTEXT, name) for name in cli.cli.list_commands(CONTEXT)}
LTDATA = (sys.executable, "-m", "ltdata")


@dataclass(frozen=True)
class Ended:
    """The end of a command: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    def refused(self, code: int) -> bool:
        """Tell whether it ended with that code, one line on stderr and nothing on stdout."""
        one_line = self.err.startswith("ltdata: error: ") and self.err.count("\n") == 1 and self.err.endswith("\n")
        return self.code == code and one_line and self.out == "" and "Traceback" not in self.err


class Stream(io.TextIOWrapper):
    """A stream that says whether it is a terminal."""

    def __init__(self, *, terminal: bool, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def text(self) -> str:
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(*args: object, terminal: bool = False, encoding: str = "utf-8") -> Ended:
    """Run a command line in this process, as `ltdata.cli.main` does it in its own."""
    out, err = (Stream(terminal=terminal, encoding=encoding) for _ in range(2))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with (
            mock.patch.object(sys, "argv", ["ltdata", *map(str, args)]),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, handler)
    return Ended(ended.value.code, out.text(), err.text())  # type: ignore[arg-type]


def start(*args: object, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command line in a process of its own, with other environment variables."""
    environment = {**os.environ, **variables}
    return subprocess.run([*LTDATA, *map(str, args)], capture_output=True, env=environment, check=False)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, without what the user's environment says about colour and width."""
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHONIOENCODING"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


DIGITS = ("build", "digits", "--imbalance")


@pytest.mark.parametrize(
    ("args", "code"),
    [
        *(
            ((*DIGITS, bad), 2)
            for bad in ("0", "nan", "abc", "0.5", "inf", "-inf", "-3", "1e308", "1e999", "", " ", "1,5")
        ),
        ((*DIGITS[:2],), 2),
        (("build", "mnist", "--imbalance", "10"), 2),
        (("build", "--imbalance", "10"), 2),
        ((*DIGITS, "10", "--seed", "-1"), 2),
        ((*DIGITS, "10", "--seed", "abc"), 2),
        ((*DIGITS, "10", "--seed", "4294967296"), 2),
        ((*DIGITS, "10", "--max-per-class", "0"), 2),
        ((*DIGITS, "10", "--workers", "0"), 2),
        ((*DIGITS, "10", "--workers", "-1"), 2),
        ((*DIGITS, "10", "--groups", "foo"), 2),
        ((*DIGITS, "10", "--profile", "foo"), 2),
        ((*DIGITS, "10", "--colour", "red"), 2),
        ((*DIGITS, "10", "surplus"), 2),
        ((*DIGITS, "145"), 2),
        ((*DIGITS, "10", "--data-dir", "."), 2),
        (("build", "cifar100", "--imbalance", "100", "--data-dir", "missing"), 4),
        (("build", "cifar100", "--imbalance", "100", "--data-dir", "."), 4),
        ((*DIGITS, "10", "--out", "file/under"), 5),
        ((*DIGITS, "10", "--out", "file"), 5),
        ((*DIGITS, "10", "--out", "folder"), 2),
        (("stats",), 2),
        (("stats", "nothing"), 4),
        (("stats", "nothing/manifest.json"), 4),
        (("stats", "folder"), 4),
        (("stats", ""), 4),
        (("stats", "garbage"), 3),
        (("stats", "file"), 3),
        (("stats", "cifar100-lt-exp-if100", "--groups", "foo"), 2),
        (("stats", "twelve.json", "--groups", "mislas"), 2),
        (("verify",), 2),
        (("verify", "nothing"), 4),
        (("verify", "folder"), 4),
        (("verify", "file"), 4),
        (("frobnicate",), 2),
        (("--frobnicate",), 2),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else None,
)
def test_wrong_input_ends_with_its_exit_code_and_one_line(args: Sequence[str], code: int, here: Path) -> None:
    """Nothing on stdout, no traceback, nothing written, and what was there stays."""
    (here / "file").write_text("{}")
    (here / "garbage").write_bytes(bytes(range(256)))
    (here / "folder").mkdir()
    (here / "folder" / "notes.txt").write_text("precious")
    (here / "twelve.json").write_text(twelve_classes())
    before = sorted(here.rglob("*"))
    ended = run(*args)
    assert ended.refused(code), ended
    assert sorted(here.rglob("*")) == before


def twelve_classes() -> str:
    fields = json.loads((REPO / "manifests" / "cifar10-lt-exp-if10.json").read_text(encoding="utf-8"))
    for split in fields["splits"].values():
        split["class_counts"] += [0, 0]
    other = {
        "num_classes": 12,
        "class_names": [*fields["class_names"], "k", "l"],
        "protocol": {"name": "import", "params": {}},
    }
    return json.dumps({**fields, **other})


@given(st.text(max_size=12) | st.floats().map(str) | st.integers().map(str))
@settings(deadline=None, max_examples=60)
def test_any_text_as_imbalance_is_a_number_or_exit_2(text: str) -> None:
    """A number gets as far as the missing images (exit 4)."""
    ended = run("build", "cifar100", f"--imbalance={text}", "--data-dir", "missing", "--quiet")
    if ended.refused(4):
        assert float(text) >= 1
        assert math.isfinite(float(text))
    else:
        assert ended.refused(2), ended


def test_an_error_with_line_ends_in_a_value_is_still_one_line() -> None:
    for args in (("stats", "a\nb\r\nc"), ("build", "a\nb", "--imbalance", "1"), (*DIGITS, "1\n2")):
        ended = run(*args)
        assert ended.refused(ended.code), ended
        assert ended.code in {2, 4}


def test_an_inverse_factor_is_told_what_it_probably_means() -> None:
    assert "did you mean 100?" in run(*DIGITS, "0.01").err


def test_without_a_command_the_help_is_shown_and_the_exit_code_is_2() -> None:
    ended = run()
    assert (ended.code, ended.out) == (2, "")
    assert "build" in ended.err


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_every_command_has_help_with_an_example_or_its_arguments(name: str | None) -> None:
    ended = run(*[name] * (name is not None), "--help")
    assert (ended.code, ended.err) == (0, "")
    if name is None:
        assert all(f"\n  {command} " in ended.out for command in COMMANDS)
        return
    command = COMMANDS[name]
    arguments = [param.make_metavar(None) for param in command.params if param.param_type_name == "argument"]  # type: ignore[arg-type]
    assert "Example: ltdata" in ended.out or all(argument in ended.out for argument in arguments)
    assert len(command.help or "") > 20


def test_python_m_ltdata_is_the_command() -> None:
    ended = start("--version")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.decode().split() == ["ltdata,", "version", __version__]


def test_a_normal_build_says_what_it_built_on_stdout_and_nothing_on_stderr(here: Path) -> None:
    """In a pipe: no progress bar, no message."""
    ended = start(*DIGITS, "20", "--out", "out", "--groups", "oltr", "--seed", "3", "--max-per-class", "110")
    assert (ended.returncode, ended.stderr) == (0, b"")
    text = ended.stdout.decode()
    fields = json.loads((here / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert "digits-lt-exp-if20-seed3-max110: built" in text
    assert "rule oltr" in text
    assert fields["content_sha256"] in text
    assert f"{fields['splits']['train']['num_samples']} train, 300 test" in text
    assert "\x1b" not in text
    assert names(here) == ["out"]


def test_json_of_a_build_is_one_document_with_the_manifests_figures(digits_lt: Built) -> None:
    ended = run(*DIGITS, "20", "--out", digits_lt.folder, "--json")
    assert (ended.code, ended.err) == (0, "")
    report = json.loads(ended.out)
    assert report["reused"] is True
    assert report["images"] == {"train": 489, "test": 300}
    assert report["groups"] == {"rule": "strict", "many": 2, "medium": 4, "few": 4}
    assert report["content_sha256"] == digits_lt.manifest.content_sha256
    assert Path(report["folder"]).samefile(digits_lt.folder)


def test_quiet_keeps_the_data_and_drops_messages_and_bars(digits_lt: Built, here: Path) -> None:
    shutil.copytree(digits_lt.folder, here / "out")
    text = (here / "out" / "manifest.json").read_text(encoding="utf-8")
    (here / "out" / "manifest.json").write_text(text.replace('"verified": true', '"verified": false'))
    command = (*DIGITS, "20", "--out", "out", "--unverified")
    loud, quiet = run(*command), run(*command, "--quiet", terminal=True)
    assert (loud.code, quiet.code) == (0, 0)
    assert loud.err == ""
    assert quiet.err == ""
    assert loud.out == quiet.out != ""
    for shown in (loud.out, run("stats", "out").out, run("verify", "out", "--quiet").out):
        assert "UNVERIFIED" in shown  # a line of the result, so --quiet keeps it


def test_progress_bars_are_drawn_on_a_terminal_only(digits_lt: Built) -> None:
    for command in (("verify", digits_lt.folder), (*DIGITS, "20", "--force", "--out", "out")):
        piped, shown = run(*command), run(*command, terminal=True)
        assert (piped.code, piped.err) == (0, "")
        assert shown.code == 0
        assert "100%" in shown.err
        assert "%" not in shown.out


def test_verify_says_what_it_verified(digits_lt: Built) -> None:
    ended = run("verify", digits_lt.folder)
    assert (ended.code, ended.err) == (0, "")
    assert "digits-lt-exp-if20" in ended.out
    assert digits_lt.manifest.content_sha256 in ended.out


def test_list_shows_every_pinned_split_with_its_digest() -> None:
    ended = run("list")
    assert (ended.code, ended.err) == (0, "")
    assert [line.split()[0] for line in ended.out.splitlines()] == pinned.names()
    for line in ended.out.splitlines():
        content = pinned.load(line.split()[0]).content_sha256
        assert (content if content is not None else "build it to get the digest") in line


def test_stats_of_a_folder_and_of_its_manifest_are_the_same(digits_lt: Built, here: Path) -> None:
    shutil.copy(digits_lt.folder / "manifest.json", here / "other-name.json")
    found = [
        run("stats", what, "--json")
        for what in (digits_lt.folder, digits_lt.folder / "manifest.json", "other-name.json")
    ]
    assert {(ended.code, ended.err) for ended in found} == {(0, "")}
    assert len({ended.out for ended in found}) == 1
    assert json.loads(found[0].out)["images"] == 489


def test_stats_of_a_pinned_split_are_those_of_the_built_one(cifar100_lt: Built) -> None:
    pinned_file = REPO / "manifests" / "cifar100-lt-exp-if100.json"
    found = [run("stats", what) for what in (cifar100_lt.folder, pinned_file, "cifar100-lt-exp-if100")]
    assert {(ended.code, ended.err) for ended in found} == {(0, "")}
    assert len({ended.out for ended in found}) == 1


def test_stats_show_every_figure_and_name_the_rule() -> None:
    ended = run("stats", "cifar100-lt-exp-if100", "--groups", "oltr")
    assert (ended.code, ended.err) == (0, "")
    for shown in ("10,847", "0.592", "5.782 bits", "rule oltr", "n >= 100", "█", "n/a"):
        assert (shown in ended.out) == (shown != "n/a")
    rows = [line.split() for line in ended.out.splitlines() if line.split()[:1] in (["many"], ["medium"], ["few"])]
    assert [row[:2] for row in rows[:3]] == [["many", "35"], ["medium", "34"], ["few", "31"]]


def test_json_of_stats_is_one_document() -> None:
    ended = run("stats", "cifar10-lt-exp-if10", "--json")
    found = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert (found["name"], found["images"], found["imbalance_factor"]) == ("cifar10-lt-exp-if10", 20_431, 10)
    assert found["groups"]["few"] == {"classes": 0, "images": 0, "share": None}


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("stats", "cifar10-lt-exp-if100")
    assert "\x1b" not in run(*command).out
    assert "\x1b[34m" in run(*command, terminal=True).out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run(*command, terminal=True).out


@pytest.mark.parametrize("columns", ["40", "80", "100", "300"])
def test_the_histogram_fits_the_terminal(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("NO_COLOR", "1")
    chart = run("stats", "cifar100-lt-exp-if100", terminal=True).out.partition("log scale\n")[2]
    assert 30 < max(map(len, chart.splitlines())) <= min(int(columns), 100)


def test_an_ascii_terminal_gets_an_ascii_histogram() -> None:
    ended = start("stats", "cifar100-lt-exp-if100", PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.isascii()
    assert b"####" in ended.stdout


def test_a_path_that_the_terminal_cannot_show_is_no_error() -> None:
    ended = start(*DIGITS, "20", "--out", "ünï", PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert start("stats", "ö", PYTHONIOENCODING="ascii").returncode == 4


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_a_reader_that_goes_away_is_no_error() -> None:
    """As in `ltdata list | head -1`: what it wanted it has."""
    with subprocess.Popen([*LTDATA, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_under_stdout_is_exit_5() -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([*LTDATA, "list"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert ended.returncode == 5
    assert ended.stderr == b"ltdata: error: standard output: No space left on device\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_stream_is_no_failure(closed: str) -> None:
    command = f"{sys.executable} -m ltdata list {closed}"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_verify_takes_the_manifest_file_for_its_folder(digits_lt: Built) -> None:
    assert "every digest verified" in run("verify", digits_lt.folder / "manifest.json").out


def test_a_group_rule_with_other_borders_is_no_manifest(digits_lt: Built, tmp_path: Path) -> None:
    shutil.copytree(digits_lt.folder, tmp_path / "d")
    text = (tmp_path / "d" / "manifest.json").read_text(encoding="utf-8")
    (tmp_path / "d" / "manifest.json").write_text(text.replace('"name": "strict"', '"name": "oltr"'), encoding="utf-8")
    for command in ("verify", "stats"):
        ended = run(command, tmp_path / "d")
        assert ended.refused(3)
        assert "other borders" in ended.err


@pytest.mark.parametrize("options", [("--lists", "x"), ("--val-per-class", "2"), ("--alpha", "3"), ("--name", "x")])
def test_options_that_a_source_has_no_use_for_are_refused(options: Sequence[str], tmp_path: Path) -> None:
    ended = run("build", "digits", "--imbalance", "20", *options, "--out", tmp_path / "d")
    assert ended.refused(2)
    assert options[0] in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_seed_without_anything_to_draw_is_refused(tmp_path: Path) -> None:
    ended = run("build", "folder", "--data-dir", tmp_path, "--seed", "3", "--out", tmp_path / "d")
    assert ended.refused(2)
    assert "--seed" in ended.err
