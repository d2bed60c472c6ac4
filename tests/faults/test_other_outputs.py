"""What stands at --out and is another build or training is refused, with what differs, and kept byte for byte."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from photos import put_photos

from faults import trainings
from faults.breaks import Break
from faults.effort import thin, tried
from faults.lines import run

BREAKS = (
    Break("ltdata/build.py", "    if differences:\n", "    if False:\n", only="options"),
    Break("ltdata/output.py", "        if foreign:\n", "        if False:\n", only="foreign"),
    Break("ace_ref/run_folder.py", "    if differing:\n", "    if False:\n", only="resumed"),
    Break("ace_ref/run_folder.py", "({'; '.join(others)}); choose", "; choose", only="resumed"),
    Break(
        "ltdata/build.py",
        "            if sha256_bytes(image) != digests[row]:\n",
        "            if False:\n",
        only="changed",
    ),
)
PHOTOS = [f"class{c}/{n}.jpg" for c in range(6) for n in range(12 - c)]
BASE = ("--val-per-class", "1", "--test-per-class", "1", "--imbalance", "3", "--seed", "0", "--name", "set")
# Other options, and the words that say what differs.
OPTIONS: dict[tuple[str, ...], str] = {
    ("--imbalance", "2"): "imbalance factor 3.0, asked for 2.0",
    ("--seed", "1"): "seed 0, asked for 1",
    ("--profile", "step"): "profile exp, asked for step",
    ("--profile", "pareto"): "profile exp, asked for pareto",
    ("--groups", "oltr"): "groups strict, asked for oltr",
    ("--max-per-class", "4"): "max per class None, asked for 4",
    ("--val-per-class", "2"): "val per class 1, asked for 2",
    ("--val-per-class", "0"): "val per class 1, asked for 0",
    ("--test-per-class", "2"): "test per class 1, asked for 2",
    ("--name", "other"): "set",
    ("--max-side", "16"): "longest side None, asked for 16",
    ("--manifest-only",): "images stored, asked for left out",
}


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, and a build of them, which stands in everyone's way. Read only."""
    folder = tmp_path_factory.mktemp("other")
    put_photos(folder / "photos", PHOTOS)
    ended = build(folder, folder / "out")
    assert ended.code == 0, ended.err
    return folder


def build(place: Path, out: Path, *more: str) -> Any:
    """Build the photographs; a later option wins over an earlier one."""
    return run("ltdata build", "folder", "--data-dir", place / "photos", *BASE, *more, "--out", out, "--quiet")


@pytest.mark.parametrize("options", thin(list(OPTIONS), 4), ids=" ".join)
def test_a_build_with_other_options_is_refused_with_what_differs(
    options: tuple[str, ...], place: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(place / "out", tmp_path / "out"))
    before = content(out)
    ended = build(place, out, *options)
    assert ended.refused(2), ended
    assert "holds another build" in ended.err
    assert OPTIONS[options] in ended.err
    assert "--force to replace it" in ended.err
    assert content(out) == before
    tried()
    assert build(place, out, *options, "--force").code == 0
    assert build(place, tmp_path / "fresh" / "out", *options).code == 0
    assert content(out) == content(tmp_path / "fresh" / "out")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["fresh", "out"]
    tried()


def test_the_same_options_find_it_whole(place: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(place / "out", tmp_path / "out"))
    before = content(out)
    ended = build(place, out)
    assert (ended.code, content(out)) == (0, before)
    assert "found whole" in ended.out
    tried()


def _photo_added(place: Path) -> None:
    put_photos(place / "photos", ["class0/99.jpg"])


def _photo_removed(place: Path) -> None:
    (place / "photos" / "class5" / "0.jpg").unlink()


def _photo_changed(place: Path) -> None:
    (place / "photos" / "class5" / "0.jpg").write_bytes((place / "photos" / "class0" / "1.jpg").read_bytes())


def _class_renamed(place: Path) -> None:
    (place / "photos" / "class5").rename(place / "photos" / "class9")


@pytest.mark.parametrize("change", [_photo_added, _photo_removed, _photo_changed, _class_renamed])
def test_a_source_that_has_changed_since_is_refused(
    change: Callable[[Path], None], place: Path, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(place, tmp_path / "mine"))

    def build_all(out: Path, *more: str) -> Any:
        return run("ltdata build", "folder", "--data-dir", mine / "photos", "--out", out, "--quiet", *more)

    assert build_all(mine / "all").code == 0
    before = content(mine / "all")
    change(mine)
    ended = build_all(mine / "all")
    assert ended.refused(2), ended
    assert content(mine / "all") == before
    assert build_all(mine / "all", "--force").code == 0
    assert build_all(mine / "fresh" / "all").code == 0
    assert content(mine / "all") == content(mine / "fresh" / "all")
    tried()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("schema_version", 0, "schema_version"),
        ("schema_version", 2, "schema_version"),
        ("schema_version", "1", "schema_version"),
        ("protocol", {"name": "ldam", "version": 99}, ""),
        ("source", {"id": "cifar100"}, ""),
    ],
)
def test_an_output_with_another_schema_version_or_origin_is_refused(
    key: str, value: Any, words: str, place: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(place / "out", tmp_path / "out"))
    header = json.loads((out / "manifest.json").read_text())
    header[key] = header[key] | value if isinstance(value, dict) else value
    (out / "manifest.json").write_text(json.dumps(header, indent=2) + "\n")
    before = content(out)
    ended = build(place, out)
    assert ended.code in (2, 3), ended
    assert ended.refused(ended.code), ended
    assert words in ended.err
    assert content(out) == before
    assert build(place, out, "--force").code == 0
    assert content(out) == content(place / "out")
    tried()


def test_a_build_by_another_version_of_ltdata_is_the_same_build(place: Path, tmp_path: Path) -> None:
    """The bytes are what counts: a patch release must not make everyone build again."""
    out = Path(shutil.copytree(place / "out", tmp_path / "out"))
    header = json.loads((out / "manifest.json").read_text())
    header["created_by"] = {"ltdata": "0.0.1"}
    (out / "manifest.json").write_text(json.dumps(header, indent=2) + "\n")
    ended = build(place, out)
    assert (ended.code, "found whole" in ended.out) == (0, True), ended
    tried()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("files", [["thesis.txt"], ["manifest.json"], ["train/photo.tar"], ["notes/a/b.txt", "x.tar"]])
def test_a_foreign_folder_is_refused_and_kept(files: list[str], force: bool, place: Path, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("mine")
    before = content(tmp_path / "out")
    ended = build(place, tmp_path / "out", *(["--force"] if force else []))
    assert ended.code in (2, 3), ended
    assert ended.refused(ended.code), ended
    assert content(tmp_path / "out") == before
    tried()


@pytest.mark.parametrize("file", ["mine.txt", "train/mine.tar", "train/many-000000.tar.bak"])
def test_a_foreign_file_in_a_build_is_not_deleted_by_force(file: str, place: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(place / "out", tmp_path / "out"))
    (out / file).write_text("mine")
    before = content(out)
    ended = build(place, out, "--seed", "1", "--force")
    assert ended.refused(2), ended
    assert file in ended.err
    assert content(out) == before
    tried()


@pytest.mark.parametrize("command", ["subset", "import"])
def test_other_commands_refuse_a_build_that_stands_there(command: str, place: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(place / "out", tmp_path / "out"))
    before = content(out)
    words = {"subset": (place / "out", "--group", "few"), "import": (place / "out",)}[command]
    ended = run(f"ltdata {command}", *words, "--out", out, "--quiet")
    assert ended.refused(2), ended
    assert content(out) == before
    assert run(f"ltdata {command}", *words, "--out", out, "--quiet", "--force").code == 0
    assert run(f"ltdata {command}", *words, "--out", tmp_path / "fresh", "--quiet").code == 0
    assert content(out) == content(tmp_path / "fresh")
    tried()


# --- trainings


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A small set, and a training on it that is over. Read only."""
    folder = tmp_path_factory.mktemp("trained")
    built = trainings.small(folder)
    ended = trainings.run(trainings.options(built, folder / "run"))
    assert ended.code == 0, ended.stderr
    return built, folder / "run"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--seed", "1"], "seed 0, not 1"),
        (["--set", "lr=0.04"], "lr 0.05, not 0.04"),
        (["--epochs", "3"], "epochs 2, not 3"),
        (["--method", "ce"], "method 'ace', not 'ce'"),
        (["--set", "weight_decay=0.1"], "weight_decay "),
        (["--val-per-class", "1"], "val_per_class 0, not 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_another_training_is_neither_written_over_nor_resumed(
    more: list[str], words: str, trained: tuple[Any, Path], tmp_path: Path
) -> None:
    built, run_folder = trained
    out = Path(shutil.copytree(run_folder, tmp_path / "run"))
    before = content(out)
    ended = trainings.run(trainings.options(built, out, *more))
    assert (ended.code, "holds another training" in ended.stderr, words in ended.stderr) == (2, True, True), ended
    assert ended.stderr.count("\n") == 1
    assert content(out) == before
    tried()
    (out / "result.json").unlink()  # as of one that was stopped
    before = content(out)
    ended = trainings.run(trainings.options(built, out, *more, "--resume"))
    assert (ended.code, words in ended.stderr, ended.stderr.count("\n")) == (3, True, 1), ended
    assert content(out) == before
    tried()


def test_a_training_on_another_split_is_refused_and_force_trains_anew(
    trained: tuple[Any, Path], tmp_path: Path
) -> None:
    built, run_folder = trained
    other = trainings.small(tmp_path, test_per_class=2)
    out = Path(shutil.copytree(run_folder, tmp_path / "run"))
    before = content(out)
    ended = trainings.run(trainings.options(other, out))
    assert (ended.code, "holds another training" in ended.stderr) == (2, True), ended
    assert f"not '{other.manifest.content_sha256}'" in ended.stderr
    (out / "result.json").unlink()
    ended = trainings.run(trainings.options(other, out, "--resume"))
    assert (ended.code, "content_sha256" in ended.stderr) == (3, True), ended
    tried()
    ended = trainings.run(trainings.options(built, out, "--force"))
    assert ended.code == 0, ended
    assert (out / "model.safetensors").read_bytes() == before["model.safetensors"]
    tried()
