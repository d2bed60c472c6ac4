"""Any text as any option and argument of any command: an exit code of the contract, one line, no traceback."""

import dataclasses
import json
import os
import re
import shutil
import threading
from pathlib import Path
from typing import Any, NoReturn

import click
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from ace_ref.recipe import Recipe
from faults.breaks import Break
from faults.effort import WHOLE, examples, tried
from faults.lines import CODES, COMMANDS, Ended, kept_inside, laid_out, run
from ltdata import files, predictions
from ltdata.build import Built

BREAKS = (
    Break("ltdata/console.py", "    except LtdataError as error:\n", "    except ZeroDivisionError as error:\n"),
    Break(
        "ltdata/console.py", "    except click.ClickException as error:\n", "    except ZeroDivisionError as error:\n"
    ),
    Break("ltdata/errors.py", "return _UNSHOWN.sub(lambda found: ascii(found[0])[1:-1], text)", "return text"),
    Break("ltdata/files.py", '            raise OSError("no regular', "            break  #", only="no_end"),
    Break(
        "ltdata/console.py",
        "    except (MemoryError, RuntimeError, ImportError)",
        "    except ZeroDivisionError",
        only="memory",
    ),
)
PLACES = (
    "whole", "view", "rows", "whole/manifest.json", "header.json", "rows.csv", "rows.json", "rows.npz", "rows.npy",
    "list.txt", "counts.json", "answers.npz", "answers.npy", "photos", "folder", "file", "missing", "missing/deep",
    "", ".", "..", "/", "whole/train/many-000000.tar", "new", "new.txt", "new.csv", "new.html", "new.png", "digits-lt",
    "cifar10-lt-exp-if100", "cifar100-lt-exp-if100", "imagenet-lt", "http://localhost:9/x", "https://host.invalid/a",
    "file:///etc/passwd", "pipe:touch canary", "s3://bucket/x", "x" * 300, "/dev/null", "/dev/zero", "/proc/self/mem",
)  # fmt: skip
NUMBERS = (
    "0",
    "1",
    "2",
    "10",
    "100",
    "-1",
    "0.5",
    "1e3",
    "nan",
    "inf",
    "1e308",
    str(2**63),
    "9" * 5000,
    "1_0",
    "\uff11",
    "",
)
PIECES = (
    "--",
    "-",
    "-h",
    "--help",
    "--version",
    "-x",
    "--no",
    "=",
    "--=",
    "@list.txt",
    "@missing",
    "a=b",
    "lr=0",
    "\n",
)
letters = st.characters(min_codepoint=1, exclude_categories=["Cs"])  # what a system can hand over
words = st.text(letters, max_size=12) | st.sampled_from(PLACES) | st.sampled_from(NUMBERS) | st.sampled_from(PIECES)
# What the system hands over where a name is no UTF-8
raw = st.binary(max_size=6).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))


def values(parameter: click.Parameter) -> st.SearchStrategy[str]:
    """Words that may be meant by a parameter, and others."""
    kind = parameter.type
    if isinstance(kind, click.Choice):
        return st.sampled_from([str(choice) for choice in kind.choices]) | words
    if isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
        return st.sampled_from(NUMBERS) | st.integers(-3, 40).map(str) | words
    return st.sampled_from(PLACES) | words | raw


WHOLE_LINES: dict[str, list[list[str]]] = {  # that work in the template, part by part
    "ltdata build": [["digits"], ["--imbalance", "10"], ["--out", "new"], ["--manifest-only"], ["--quiet"]],
    "ltdata stats": [["whole"], ["rows"], ["--html", "new.html"]],
    "ltdata evaluate": [["answers.npz"], ["--manifest", "whole"], ["--any-order"]],
    "ltdata verify": [["whole"]],
    "ltdata list": [],
    "ltdata diff": [["whole"], ["rows.csv"]],
    "ltdata identify": [["rows.npy"], ["--seeds", "2"]],
    "ltdata subset": [["whole"], ["--group", "medium,few"], ["--out", "new"]],
    "ltdata export": [["rows"], ["--out", "new.csv"]],
    "ltdata import": [["rows.csv"], ["--source", "mine"], ["--out", "new"]],
    "ace_ref.train": [["--shards", "whole"], ["--recipe", "tiny"], ["--out", "new"], ["--device", "cpu"]],
    "ace_ref.evaluate": [["--shards", "whole"], ["--checkpoint", "file"], ["--device", "cpu"]],
    "ace_ref.report": [["results"], ["--out", "new"]],
}
FOLDER = [["folder"], ["--data-dir", "photos"], ["--out", "new"], ["--quiet"], ["--test-per-class", "1"]]
SHARDS = [["theirs"], ["--out", "new"], ["--quiet"]]
RECIPE = [field.name for field in dataclasses.fields(Recipe)]


def options_of(name: str) -> list[click.Option]:
    return [parameter for parameter in COMMANDS[name].params if isinstance(parameter, click.Option)]


@st.composite
def spelled(draw: Any, option: click.Option) -> list[str]:
    """An option, and a value where it takes one."""
    word = draw(st.sampled_from([*option.opts, *option.secondary_opts]))
    if option.is_flag:
        return [word]
    value = draw(values(option))
    if (
        option.multiple
        and "=" in (option.make_metavar(click.Context(click.Command("x"))) or "")
        and draw(st.booleans())
    ):
        value = f"{draw(st.sampled_from(RECIPE))}={draw(st.sampled_from(NUMBERS) | words)}"
    return draw(st.sampled_from([[word, value], [f"{word}={value}"]]))


@st.composite
def lines(draw: Any) -> tuple[str, list[str]]:
    """A command and its words: a line that works with a few parts changed, left out, or more, or one of any parts."""
    name = draw(st.sampled_from(list(COMMANDS)))
    parts = draw(
        st.sampled_from([WHOLE_LINES[name], *{"ltdata build": [FOLDER], "ltdata import": [SHARDS]}.get(name, [])])
    )
    parts = [list(part) for part in parts]
    by_name = {word: option for option in options_of(name) for word in [*option.opts, *option.secondary_opts]}
    arguments = [parameter for parameter in COMMANDS[name].params if isinstance(parameter, click.Argument)]
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 2, 3, 6]))):
        change = draw(st.sampled_from(["value", "value", "more", "more", "more", "less", "word"]))
        place = draw(st.integers(0, len(parts) - 1)) if parts else 0
        if change == "more" or not parts:
            parts.append(draw(spelled(draw(st.sampled_from(options_of(name))))))
        elif change == "value" and parts[place][0] in by_name:
            parts[place] = draw(spelled(by_name[parts[place][0]]))
        elif change == "value" and arguments:
            parts[place] = [draw(values(arguments[0]))]
        elif change == "less":
            del parts[place]
        else:
            parts.append([draw(words | raw)])
    return name, [word for part in draw(st.permutations(parts)) for word in part]


@pytest.fixture(scope="module")
def template(digits_lt: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return laid_out(tmp_path_factory.mktemp("template"), digits_lt)


@pytest.fixture(scope="module")
def room(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("room") / "here"


def fresh(template: Path, room: Path) -> Path:
    """Lay the template out anew, by links: commands replace files, they do not write into them."""
    shutil.rmtree(room, ignore_errors=True)
    shutil.copytree(template, room, copy_function=os.link)
    return room


def assert_contract(ended: Ended, line: list[str], outside: list[str]) -> None:
    assert ended.code in CODES, ended
    assert "Traceback" not in ended.err
    errors = [text for text in ended.err.split("\n") if text.startswith(f"{ended.name}: error: ")]
    assert ended.errors == errors, ended
    assert len(errors) <= 1, ended
    if ended.code in (1, 2, 4, 5):
        helped = ended.err.startswith("Usage: ")
        assert len(errors) == (not helped), ended
        assert ended.err.endswith("\n")
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", ended.err), ended
    if ended.code == 0:
        assert errors == [], ended
    assert not ended.out or not errors, ended
    if "--json" in line and ended.out and ended.code in (0, 3) and not {"--help", "-h", "--version"} & set(line):
        for text in ended.out.splitlines():
            json.loads(text, parse_constant=lambda word: pytest.fail(word))
    leads_out = any("/" in word or ".." in word or word.endswith(("=", "=.")) or word in ("", ".") for word in line)
    assert leads_out or not outside, outside


ENDLESS = [
    ("build", "folder --data-dir photos --out new --test-per-class 1 --lists /dev/zero", "more than 1 GiB"),
    ("import", "theirs --out new --classes /dev/zero", "more than 1 GiB"),
    ("subset", "whole --out new --class @/dev/zero", "more than 1 GiB"),
    ("evaluate", "/dev/zero --manifest whole", "neither .npz nor .npy"),
    ("import", "endless.csv --source mine --out new", "no such"),
    ("identify", "endless.npy", "no such"),
    ("ace_ref.report", "/dev/zero", "more than 1 GiB"),
]


@pytest.mark.skipif(os.name == "nt", reason="devices of Unix")
@pytest.mark.parametrize(("name", "line", "why"), ENDLESS, ids=str)
def test_what_has_no_end_is_refused(
    name: str, line: str, why: str, template: Path, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_ENDLESS_BYTES", 1 << 20)
    with kept_inside(fresh(template, room)):
        for suffix in ("csv", "npy"):
            Path(f"endless.{suffix}").symlink_to("/dev/zero")
        ended = run(name if name in COMMANDS else f"ltdata {name}", *line.split(" "))
    assert ended.refused(3) or ended.refused(4), ended
    assert why in ended.err, ended
    tried()


@pytest.mark.skipif(os.name == "nt", reason="pipes of Unix")
def test_a_pipe_among_results_is_not_waited_for(template: Path, room: Path) -> None:
    with kept_inside(fresh(template, room)):
        os.mkfifo("results/pipe.json")
        ended = run("ace_ref.report", "results")
    assert ended.refused(3), ended
    assert "results/pipe.json: is no regular file" in ended.err
    tried()


@pytest.mark.skipif(os.name == "nt", reason="pipes of Unix")
def test_a_list_may_come_through_a_pipe(template: Path, room: Path) -> None:
    with kept_inside(fresh(template, room)):
        os.mkfifo("list")
        writer = threading.Thread(target=lambda: Path("list").write_text("1\n2"))
        writer.start()
        ended = run("ltdata subset", "whole", "--class", "@list", "--out", "new")
        writer.join()
    assert ended.code == 0, ended
    tried()


@pytest.mark.skipif(os.name == "nt", reason="pipes of Unix")
def test_what_a_pipe_gave_is_what_is_recorded(template: Path, room: Path) -> None:
    text = b"owl/0.jpg owl\nwren/0.jpg wren\n"
    with kept_inside(fresh(template, room)):
        os.mkfifo("list")
        writer = threading.Thread(target=lambda: Path("list").write_bytes(text))
        writer.start()
        ended = run("ltdata build", "folder", "--data-dir", "photos", "--lists", "list", "--out", "new", "--quiet")
        writer.join()
        made = json.loads(Path("new/manifest.json").read_text())
    assert ended.code == 0, ended
    assert made["source"]["checksums"] == {"list": f"sha256:{files.sha256_bytes(text)}"}
    tried()


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("can't start new thread"), ImportError("x.so: failed to map segment from shared")],
    ids=lambda error: type(error).__name__,
)
def test_out_of_memory_is_one_line(
    error: Exception, template: Path, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(_path: Path) -> NoReturn:
        raise error

    monkeypatch.setattr(predictions, "_npy_bytes", exhausted)
    with kept_inside(fresh(template, room)):
        ended = run("ltdata evaluate", "answers.npz", "--manifest", "whole")
    assert ended.refused(1), ended
    tried()


@given(line=lines())
@settings(
    max_examples=examples(150, 2_400),
    deadline=None,
    derandomize=not WHOLE,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_words_end_with_an_exit_code_of_the_contract(
    line: tuple[str, list[str]], template: Path, room: Path
) -> None:
    name, said = line
    with kept_inside(fresh(template, room)) as outside:
        ended = run(name, *said)
    event(f"{name} {ended.code}")
    assert_contract(ended, said, outside)
    assert not (room / "canary").exists()
    tried()
