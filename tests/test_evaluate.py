"""`ltdata evaluate`: anyone's predictions against a manifest, every format, several seeds, and hostile files."""

import io
import json
import os
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_ace_loading import RECIPE, load, photographs, served
from test_ace_train import ace
from test_cli import Ended, here, run

from ace_ref.evaluate import Answered, rows_evaluated, write_predictions
from ace_ref.loading import open_shards
from ltdata import reader
from ltdata.build import Built
from ltdata.metrics import FIGURES, evaluate
from ltdata.predictions import read_predictions

__all__ = ["here", "photographs", "served"]  # fixtures; `here` is an empty folder for every test

Answers = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def labels(digits_lt: Built) -> NDArray[np.int64]:
    """Labels of the 300 test rows."""
    return reader.read_samples(digits_lt.folder, digits_lt.manifest)["test"].labels


@pytest.fixture
def answers(labels: NDArray[np.int64]) -> Callable[[int], Answers]:
    """Make logits that are right in about half of the cases."""

    def make(seed: int = 0) -> Answers:
        logits = np.random.default_rng(seed).normal(size=(300, 10)).astype(np.float32)
        logits[np.arange(300), labels] += 1.6
        return {"logits": logits, "labels": labels}

    return make


def figures_of(ended: Ended) -> dict[str, float | None]:
    assert (ended.code, ended.err) == (0, ""), ended
    return {name: value["mean"] for name, value in json.loads(ended.out)["figures"].items()}


def expected(digits_lt: Built, found: Answers, **options: Any) -> dict[str, Any]:
    manifest = digits_lt.manifest
    return dict(evaluate(found["labels"], logits=found["logits"], class_counts=manifest.class_counts).figures)


def test_the_table_has_every_figure_its_rule_and_what_it_is_of(digits_lt: Built, answers: Any) -> None:
    np.savez("mine.npz", **answers())
    ended = run("evaluate", "mine.npz", "--manifest", digits_lt.folder)
    assert (ended.code, ended.err) == (0, "")
    figures = expected(digits_lt, answers())
    title, heading, row, groups, ece = ended.out.splitlines()
    assert title == "digits-lt-exp-if20, test split, 300 images, top-1 %"
    columns = "overall many medium few balanced macro F1 gap ECE"
    assert " ".join(heading.split()) == f"{columns} (groups: rule strict)"
    assert row.split() == ["mine", *(f"{figures[name]:.1f}" for name in FIGURES)]
    assert groups == "groups: many 2 classes, 60 images | medium 4 classes, 120 images | few 4 classes, 120 images"
    assert ece == "ECE: 15 bins of equal width, confidence of the answer"


def test_the_golden_table() -> None:
    """Of a pinned split, without any build: class 0 for all but the few-shot images of CIFAR-10-LT, all right there."""
    truth = np.repeat(np.arange(10), 1000)
    np.savez("mine.npz", predictions=np.where(truth > 7, truth, 0), labels=truth)
    ended = run("evaluate", "mine.npz", "--manifest", "cifar10-lt-exp-if100", "--any-order", "--name", "zero")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "cifar10-lt-exp-if100, test split, 10,000 images, top-1 %\n"
        "                           overall      many    medium       few  balanced  macro F1       gap       ECE"
        "   (groups: rule strict)\n"
        "zero                          30.0      12.5     100.0       n/a      30.0      22.2       n/a       n/a\n"
        "groups: many 8 classes, 8,000 images | medium 2 classes, 2,000 images | few 0 classes, 0 images\n"
    )


@pytest.mark.parametrize("kind", ["logits", "probabilities", "predictions"])
def test_every_kind_of_answer_gives_the_same_accuracies(digits_lt: Built, answers: Any, kind: str) -> None:
    found = answers()
    powers = np.exp(found["logits"])
    other = {
        "logits": found["logits"],
        "probabilities": powers / powers.sum(axis=1, keepdims=True),
        "predictions": found["logits"].argmax(axis=1),
    }
    np.savez("mine.npz", **{kind: other[kind], "labels": found["labels"], "features": np.zeros((3, 3))})
    figures = figures_of(run("evaluate", "mine.npz", "--manifest", digits_lt.folder, "--json"))
    same = expected(digits_lt, found)
    if kind == "predictions":
        same["ece"] = None
    assert figures == pytest.approx(same)


@pytest.mark.parametrize(
    "names", [("logits", "labels"), ("logit", "targets"), ("Logits", "y_true"), ("logits", "label")]
)
def test_labels_may_be_left_out_or_have_another_name(digits_lt: Built, answers: Any, names: tuple[str, str]) -> None:
    found = answers()
    np.savez("theirs.npz", **dict(zip(names, (found["logits"], found["labels"]), strict=True)))
    np.savez("bare.npz", logits=found["logits"])
    np.save("logits.npy", found["logits"])
    both = [
        run("evaluate", name, "--manifest", digits_lt.folder, "--json")
        for name in ("theirs.npz", "bare.npz", "logits.npy")
    ]
    assert figures_of(both[0]) == figures_of(both[1]) == figures_of(both[2]) == expected(digits_lt, found)


def test_npy_with_one_number_per_image_are_predictions(digits_lt: Built, answers: Any) -> None:
    np.save("answers.npy", answers()["logits"].argmax(axis=1).astype(np.uint8))
    figures = figures_of(run("evaluate", "answers.npy", "--manifest", digits_lt.folder, "--json"))
    assert figures == expected(digits_lt, answers()) | {"ece": None}


def test_another_rule_gives_other_groups_and_is_named(digits_lt: Built, answers: Any) -> None:
    np.savez("mine.npz", **answers())
    options = ("evaluate", "mine.npz", "--manifest", digits_lt.folder, "--groups", "mislas")
    assert "rule mislas" in run(*options).out
    record = json.loads(run(*options, "--json").out)
    assert record["group_rule"] == "mislas"
    assert record["groups"]["many"] == {"classes": 3, "images": 90}
    for form in ("markdown", "latex"):
        assert "groups: rule mislas" in run(*options, "--format", form).out


def test_several_files_are_seeds_of_one_method(digits_lt: Built, answers: Any) -> None:
    for seed in range(3):
        np.savez(f"seed{seed}.npz", **answers(seed))
    files = [f"seed{seed}.npz" for seed in range(3)]
    options = ("evaluate", *files, "--manifest", digits_lt.folder, "--name", "mine")
    each = [expected(digits_lt, answers(seed)) for seed in range(3)]
    record = json.loads(run(*options, "--json").out)
    assert [one["file"] for one in record["files"]] == files
    assert [one["figures"] for one in record["files"]] == each
    for name in FIGURES:
        values = [one[name] for one in each]
        assert record["figures"][name] == pytest.approx({"mean": np.mean(values), "deviation": np.std(values, ddof=1)})
    cell = f"{record['figures']['few']['mean']:.1f} ± {record['figures']['few']['deviation']:.1f}"
    lines = run(*options).out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["seed0", "seed1", "seed2"]
    assert lines[5].startswith("mine, 3 seeds ")
    assert cell in lines[5]
    assert "mean ± standard deviation" in lines[0]
    assert f"| mine | 3 | {record['figures']['overall']['mean']:.1f} ± " in run(*options, "--format", "markdown").out
    assert cell.replace("±", r"$\pm$") in run(*options, "--format", "latex").out


def test_markdown_is_a_table_with_its_header(digits_lt: Built, answers: Any) -> None:
    np.savez("a_b.npz", predictions=answers()["logits"].argmax(axis=1))
    ended = run("evaluate", "a_b.npz", "--manifest", digits_lt.folder, "--format", "markdown")
    figures = expected(digits_lt, answers()) | {"ece": None}
    shown = " | ".join("n/a" if figures[name] is None else f"{figures[name]:.1f}" for name in FIGURES)
    assert ended.out == (
        "| digits-lt-exp-if20, test split, 300 images, top-1 %, groups: rule strict | seeds | overall | many | medium "
        f"| few | balanced | macro F1 | gap | ECE |\n|---|---|{'---|' * 8}\n| a\\_b | 1 | {shown} |\n"
    )


def test_latex_is_a_row_with_escaped_names(digits_lt: Built, answers: Any) -> None:
    np.savez("mine.npz", predictions=answers()["logits"].argmax(axis=1))
    name = r"50% of #1 & a_b^{2}~$\x"
    ended = run("evaluate", "mine.npz", "--manifest", digits_lt.folder, "--format", "latex", "--name", name)
    comment, row = ended.out.splitlines()
    assert comment.startswith("% digits-lt-exp-if20, test split")
    escaped = r"50\% of \#1 \& a\_b\textasciicircum{}\{2\}\textasciitilde{}\$\textbackslash{}x & "
    assert row.startswith(escaped)
    assert row.endswith(r" & n/a \\")
    assert row.removeprefix(escaped).count(" & ") == len(FIGURES) - 1


@pytest.mark.parametrize("form", ["table", "markdown", "latex"])
def test_a_name_stays_in_its_row(digits_lt: Built, answers: Any, form: str) -> None:
    """What would break the line, or do things to a terminal, becomes a space."""
    np.savez("mine.npz", **answers())
    options = ("evaluate", "mine.npz", "--manifest", digits_lt.folder, "--format", form, "--name")
    plain = run(*options, "our method, new")
    assert (plain.code, plain.err) == (0, "")
    assert run(*options, "our\r\nmethod,\x1b\u2028\x85new\x00\n") == plain
    assert "our method, new" in plain.out


def test_a_manifests_names_stay_in_their_rows(digits_lt: Built, answers: Any) -> None:
    np.savez("mine.npz", **answers())
    record = json.loads((digits_lt.folder / "manifest.json").read_text(encoding="utf-8"))
    outputs = []
    for gap in (" ", "\n"):
        names = [f"class{gap}{name}" for name in record["class_names"]]
        Path("other.json").write_text(json.dumps(record | {"class_names": names}), encoding="utf-8")
        options = ("evaluate", "mine.npz", "--manifest", "other.json")
        ended = [run(*options, *more) for more in (("--per-class",), ("--format", "latex"), ("--format", "markdown"))]
        assert [one.code for one in ended] == [0, 0, 0], ended
        outputs.append([one.out for one in ended])
    assert outputs[0] == outputs[1]
    assert f"class {record['class_names'][0]}" in outputs[0][0]


def test_files_with_and_without_logits_have_no_mean_calibration_error(digits_lt: Built, answers: Any) -> None:
    np.savez("with.npz", **answers())
    np.savez("bare.npz", predictions=answers(1)["logits"].argmax(axis=1))
    ece = f"{expected(digits_lt, answers())['ece']:.1f}"
    for files in (("with.npz", "bare.npz"), ("bare.npz", "with.npz")):
        options = ("evaluate", *files, "--manifest", digits_lt.folder)
        assert json.loads(run(*options, "--json").out)["figures"]["ece"] == {"mean": None, "deviation": None}
        lines = run(*options).out.splitlines()
        assert {line.split()[0]: line.split()[-1] for line in lines[2:4]} == {"with": ece, "bare": "n/a"}
        assert lines[4].split()[-1] == "n/a"
        assert lines[-1].startswith("ECE: 15 bins")


def test_json_and_another_format_are_not_both_meant(digits_lt: Built, answers: Any) -> None:
    np.savez("mine.npz", **answers())
    options = ("evaluate", "mine.npz", "--manifest", digits_lt.folder, "--json")
    for form in ("latex", "markdown", "table"):
        ended = run(*options, "--format", form)
        assert ended.refused(2), ended
        assert f"--json, --format {form}" in ended.err
    assert run(*options, "--format", "json") == run(*options)
    assert run(*options).code == 0


def test_a_file_is_in_memory_once_beside_its_arrays(here: Path) -> None:
    """Read once: at the most it is there packed and unpacked, or unpacked and as an array."""
    np.savez("mine.npz", logits=np.zeros((1000, 1000)), labels=np.zeros(1000, dtype=int))
    tracemalloc.start()
    found = read_predictions(here / "mine.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.logits is not None
    assert peak < 2.3 * found.logits.nbytes


def test_predictions_may_come_through_a_pipe(digits_lt: Built, answers: Any) -> None:
    numbers = npy(answers()["logits"])
    reading, writing = os.pipe()
    with ThreadPoolExecutor(1) as pool, os.fdopen(writing, "wb") as pipe:
        pool.submit(lambda: (pipe.write(numbers), pipe.close()))
        found = read_predictions(Path(f"/dev/fd/{reading}"))
    os.close(reading)
    assert np.array_equal(found.logits, answers()["logits"])


def test_classes_of_one_image_are_said_to_narrow_the_interval(digits_lt: Built) -> None:
    """Such a class cannot vary."""
    text = (digits_lt.folder / "manifest.json").read_text(encoding="utf-8")
    Path("other.json").write_text(text.replace('"test": {', '"extra": {'), encoding="utf-8")
    for images, words in (
        ([1, 1, 3], "; too narrow, since classes with one image (2 here) cannot vary"),
        ([2, 2, 3], ""),
    ):
        truth = np.repeat(np.arange(3), images)
        np.savez("mine.npz", predictions=truth, labels=truth)
        ended = run("evaluate", "mine.npz", "--manifest", "other.json", "--bootstrap", "100", "--quiet")
        assert ended.out.splitlines()[-1] == f"intervals: 100 bootstrap resamples within each class, seed 0{words}"


def test_intervals_are_shown_under_their_figure_and_in_every_format(digits_lt: Built, answers: Any) -> None:
    np.savez("mine.npz", **answers())
    options = ("evaluate", "mine.npz", "--manifest", digits_lt.folder, "--bootstrap", "200", "--seed", "3")
    record = json.loads(run(*options, "--json").out)
    assert record["bootstrap"] == {"level": 0.95, "resamples": 200, "seed": 3}
    intervals = record["files"][0]["intervals"]
    assert set(intervals) == set(FIGURES) - {"macro_f1", "ece"}
    low, high = intervals["few"]["low"], intervals["few"]["high"]
    assert low < record["figures"]["few"]["mean"] < high
    table = run(*options).out
    assert f"{low:.1f} .. {high:.1f}" in table.splitlines()[3]
    assert table.splitlines()[3].startswith("  95 % interval")
    assert "200 bootstrap resamples within each class, seed 3" in table
    assert f"{record['figures']['few']['mean']:.1f} [{low:.1f}, {high:.1f}]" in run(*options, "--format", "latex").out
    assert run(*options).out == table
    assert run(*options[:-1], "4").out != table


def test_per_class_lists_every_class(digits_lt: Built, answers: Any) -> None:
    np.savez("mine.npz", **answers())
    options = ("evaluate", "mine.npz", "--manifest", digits_lt.folder, "--per-class")
    per_class = json.loads(run(*options, "--json").out)["files"][0]["per_class"]
    rows = [line.split() for line in run(*options).out.splitlines()[-10:]]
    assert [row[:5] for row in rows] == [
        [str(c), str(c), one["group"], str(count), "30"]
        for c, (one, count) in enumerate(zip(per_class, digits_lt.manifest.class_counts, strict=True))
    ]
    assert [row[5:] for row in rows] == [
        [f"{one[name]:.1f}" for name in ("accuracy", "precision", "f1")] for one in per_class
    ]


def test_a_split_is_named_or_test_or_else_val(digits_lt: Built, answers: Any) -> None:
    manifest = digits_lt.manifest
    train = reader.read_samples(digits_lt.folder, manifest)["train"].labels
    np.savez("train.npz", predictions=train)
    ended = run("evaluate", "train.npz", "--manifest", digits_lt.folder, "--split", "train")
    assert "train split, 489 images" in ended.out
    text = (digits_lt.folder / "manifest.json").read_text(encoding="utf-8")
    for name, shown in (("val", "val split"), ("extra", "labels of the files")):
        Path("other.json").write_text(text.replace('"test": {', f'"{name}": {{'), encoding="utf-8")
        np.savez("mine.npz", **answers())
        ended = run("evaluate", "mine.npz", "--manifest", "other.json")
        assert ended.code == 0
        assert "has no test split" in ended.err
        assert ended.err.count("\n") == 1
        assert shown in ended.out
        assert run("evaluate", "mine.npz", "--manifest", "other.json", "--quiet").err == ""


def test_a_header_alone_is_enough_where_the_file_has_labels(digits_lt: Built, answers: Any, here: Path) -> None:
    """Then the classes are counted; the labels of another split do not pass."""
    (here / "header.json").write_bytes((digits_lt.folder / "manifest.json").read_bytes())
    found = answers()
    np.savez("mine.npz", **found)
    ended = run("evaluate", "mine.npz", "--manifest", "header.json", "--json")
    assert figures_of(ended) == expected(digits_lt, found)
    np.savez("other.npz", **found | {"labels": np.where(found["labels"] == 3, 4, found["labels"])})
    ended = run("evaluate", "other.npz", "--manifest", "header.json")
    assert ended.refused(3)
    assert "0 images of label 3" in ended.err
    np.savez("bare.npz", logits=found["logits"])
    ended = run("evaluate", "bare.npz", "--manifest", "header.json")
    assert ended.refused(4)
    assert "only the header" in ended.err


def test_labels_in_another_order_are_refused_unless_that_is_meant(digits_lt: Built, answers: Any) -> None:
    found, order = answers(), np.random.default_rng(0).permutation(300)
    np.savez("mine.npz", **{name: values[order] for name, values in found.items()})
    ended = run("evaluate", "mine.npz", "--manifest", digits_lt.folder)
    row = int(np.argmax(found["labels"][order] != found["labels"]))
    assert ended.refused(3)
    assert f"labels[{row}] is {found['labels'][order][row]}" in ended.err
    assert "--any-order" in ended.err
    ended = run("evaluate", "mine.npz", "--manifest", digits_lt.folder, "--any-order", "--json")
    assert figures_of(ended) == pytest.approx(expected(digits_lt, found))
    np.savez("mine.npz", **found | {"labels": np.zeros(300, dtype=int)})
    ended = run("evaluate", "mine.npz", "--manifest", digits_lt.folder, "--any-order")
    assert ended.refused(3)
    assert "300 images of label 0" in ended.err


def test_an_unverified_source_is_said_in_every_format(digits_lt: Built, answers: Any, here: Path) -> None:
    text = (digits_lt.folder / "manifest.json").read_text(encoding="utf-8")
    (here / "header.json").write_text(text.replace('"verified": true', '"verified": false'), encoding="utf-8")
    np.savez("mine.npz", **answers())
    for form in ("table", "markdown", "latex"):
        assert "UNVERIFIED" in run("evaluate", "mine.npz", "--manifest", "header.json", "--format", form).out
    assert (
        json.loads(run("evaluate", "mine.npz", "--manifest", "header.json", "--json").out)["verified_source"] is False
    )


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=True)
    return buffer.getvalue()


class Hostile:
    """Make a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("pwned", "w")


def bomb() -> bytes:
    """A zip that unpacks to more than the reader takes: its directory says 3 GB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("logits.npy", npy(np.zeros(3)))
        packed.filelist[0].file_size = 3 << 30
    return buffer.getvalue()


HALF = np.full((300, 10), 0.1)
ZEROS = np.zeros(300, dtype=int)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "neither .npz nor .npy"),
        (b"prediction\n1\n", "neither .npz nor .npy"),
        (pickle.dumps(Hostile()), "neither .npz nor .npy"),
        (npz(predictions=np.array([Hostile()], dtype=object)), "predictions"),
        (npy(np.array([Hostile()], dtype=object)), "not a readable file of arrays"),
        (npz(predictions=ZEROS)[:200], "neither .npz nor .npy"),
        (npz(predictions=ZEROS).replace(b"NUMPY", b"NUMPI"), "not a readable file"),
        (npy(ZEROS)[:100], "not a readable file"),
        (bomb(), "unpacks to 3,221,225,472 bytes"),
        (npz(), "holds nothing"),
        (npz(arr_0=ZEROS), "holds arr_0"),
        (npz(labels=ZEROS), "holds labels"),
        (npz(logits=HALF, probabilities=HALF), "logits and probabilities"),
        (npz(predictions=ZEROS, preds=ZEROS), "two arrays mean predictions"),
        (npz(predictions=HALF), "predictions are float64 of shape (300, 10)"),
        (npz(logits=HALF[0]), "logits are float64 of shape (10,)"),
        (npz(predictions=np.array(["a"] * 300)), "predictions are <U1"),
        (npz(predictions=HALF[:, 0]), "predictions[0] is 0.1"),
        (npz(logits=HALF, labels=ZEROS[:5]), "300 logits, 5 labels"),
        (npz(logits=HALF[:, :9]), "shape (300, 9), (300, 10) is needed"),
        (npz(logits=HALF[:299]), "299 images"),
        (npz(logits=np.where(np.arange(300)[:, None] == 7, np.nan, HALF)), "logits[7] is nan"),
        (npz(probabilities=HALF * 2), "add up to 2"),
        (npz(predictions=ZEROS - 1), "predictions[0] is -1"),
        (npz(predictions=ZEROS + 10), "predictions[0] is 10"),
        (npz(predictions=ZEROS, labels=HALF[:, 0]), "labels[0] is 0.1"),
        (npz(predictions=ZEROS, labels=ZEROS - 1), "labels[0] is -1"),
        (npz(predictions=ZEROS + 3, logits=np.eye(10)[ZEROS]), "predictions[0] is 3"),
        (npy(np.zeros((3, 3, 3))), "shape (3, 3, 3)"),
        (npy(np.float64(3)), "shape ()"),
    ],
)
def test_files_that_are_not_predictions_are_refused_in_one_line(
    digits_lt: Built, data: bytes, words: str, here: Path
) -> None:
    (here / "file.npz").write_bytes(data)
    ended = run("evaluate", "file.npz", "--manifest", digits_lt.folder)
    assert ended.refused(3), ended
    assert "file.npz" in ended.err
    assert words in ended.err
    assert [path.name for path in here.iterdir()] == ["file.npz"]  # nothing was unpickled


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ((), 2, "FILE"),
        (("mine.npz",), 2, "--manifest"),
        (("nothing.npz", "--manifest", "D"), 4, "nothing.npz"),
        (("mine.npz", "--manifest", "nothing"), 4, "nothing"),
        (("mine.npz", "--manifest", "mine.npz"), 3, "mine.npz"),
        (("mine.npz", "--manifest", "cifar10-lt-exp-if100"), 3, "10,000"),
        (("mine.npz", "--manifest", "D", "--split", "val"), 2, "'val'"),
        (("mine.npz", "--manifest", "D", "--groups", "foo"), 2, "foo"),
        (("mine.npz", "--manifest", "D", "--format", "foo"), 2, "foo"),
        (("mine.npz", "--manifest", "D", "--bootstrap", "99"), 2, "99"),
        (("mine.npz", "--manifest", "D", "--bootstrap", "100", "--seed", "-1"), 2, "-1"),
        (("mine.npz", "./mine.npz", "--manifest", "D"), 2, "given twice"),
        (("mine.npz", "--manifest", "D", "--format", "latex", "--per-class"), 2, "--per-class"),
        (("mine.npz", "b.npz", "--manifest", "D", "--format", "latex", "--bootstrap", "100"), 2, "--bootstrap"),
    ],
)
def test_wrong_arguments_end_with_their_exit_code(
    digits_lt: Built, answers: Any, args: tuple[str, ...], code: int, words: str
) -> None:
    np.savez("mine.npz", **answers())
    ended = run("evaluate", *(digits_lt.folder if arg == "D" else arg for arg in args))
    assert ended.refused(code), ended
    assert words in ended.err


def test_damaged_rows_are_not_passed_over(digits_lt: Built, answers: Any, here: Path) -> None:
    build = here / "build"
    build.mkdir()
    for name in ("manifest.json", "samples.jsonl"):
        (build / name).write_bytes((digits_lt.folder / name).read_bytes())
    np.savez("mine.npz", **answers())
    assert run("evaluate", "mine.npz", "--manifest", build).code == 0
    rows = (build / "samples.jsonl").read_bytes()
    (build / "samples.jsonl").write_bytes(rows.replace(b'"label": 1', b'"label": 2', 1))
    assert run("evaluate", "mine.npz", "--manifest", build).refused(3)


@pytest.fixture(scope="module")
def model(digits_lt: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs on digits."""
    out = tmp_path_factory.mktemp("runs") / "run"
    done = ace("train", "--shards", digits_lt.folder, "--recipe", "tiny", "--epochs", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    return out / "model.safetensors"


def test_predictions_of_the_trainer_give_its_own_table(digits_lt: Built, model: Path) -> None:
    options = ("evaluate", "--shards", digits_lt.folder, "--checkpoint", model)
    done = ace(*options, "--predictions", "mine.npz")
    assert (done.returncode, done.stderr) == (0, "")
    plain = ace(*options).stdout
    assert done.stdout == f"{plain}predictions: mine.npz\n"
    row = run("evaluate", "mine.npz", "--manifest", digits_lt.folder, "--name", "all").out.splitlines()[2]
    assert row.split()[1:5] == plain.splitlines()[2].split()[3:]
    accuracy = json.loads(ace(*options, "--json").stdout)["accuracy"]
    figures = figures_of(run("evaluate", "mine.npz", "--manifest", digits_lt.folder, "--json"))
    assert {name: figures[name] for name in figures if name in accuracy} == {
        name: accuracy[name] for name in accuracy if name != "experts"
    }
    with np.load("mine.npz") as found:
        arrays = dict(found)
    assert {name: (values.dtype, values.shape) for name, values in arrays.items()} == {
        "labels": (np.int64, (300,)),
        "logits": (np.float32, (300, 10)),
        "predictions": (np.int64, (300,)),
    }
    assert arrays["predictions"].tolist() == arrays["logits"].argmax(axis=1).tolist()
    rows = reader.read_samples(digits_lt.folder, digits_lt.manifest)["test"].labels
    assert arrays["labels"].tolist() == rows.tolist()


def test_the_trainer_writes_predictions_neither_over_a_file_nor_into_a_build(
    digits_lt: Built, model: Path, here: Path
) -> None:
    options = ("evaluate", "--shards", digits_lt.folder, "--checkpoint", model, "--predictions")
    (here / "mine.npz").write_text("precious")
    for out, code in (("mine.npz", 2), (digits_lt.folder / "mine.npz", 2), ("mine.npz/x.npz", 5)):
        done = ace(*options, out)
        assert done.returncode == code, done.stderr
        assert done.stderr.count("\n") == 1
    assert (here / "mine.npz").read_text() == "precious"
    done = ace(*options, "mine.npz", "--force", "--json")
    assert done.stderr == "predictions: mine.npz\n"
    assert "accuracy" in json.loads(done.stdout)
    assert run("evaluate", "mine.npz", "--manifest", digits_lt.folder).code == 0
    assert ace(*options, "a/new/folder/mine.npz").returncode == 0
    assert (here / "a/new/folder/mine.npz").read_bytes() == (here / "mine.npz").read_bytes()


def test_predictions_stand_in_the_order_of_the_rows_from_a_server_too(
    photographs: Path, served: str, here: Path
) -> None:
    """There images are evaluated as they lie in the shards."""
    manifest, place = open_shards(served)
    remote = load(served)
    rows = rows_evaluated(place, "train", remote)
    assert rows is not None
    assert rows.tolist() != sorted(rows.tolist())
    assert rows_evaluated(photographs, "train", load(photographs)) is None
    labels, pixels = (torch.cat(parts).numpy() for parts in zip(*remote.central(RECIPE, 7), strict=True))
    ours = torch.cat([part for _, part in load(photographs).central(RECIPE, 7)]).numpy()
    numbers = pixels.reshape(len(pixels), -1).astype(np.float32)
    write_predictions(here / "mine.npz", [Answered(labels, numbers, labels)], rows)
    with np.load(here / "mine.npz") as found:
        assert found["labels"].tolist() == reader.read_samples(photographs, manifest)["train"].labels.tolist()
        assert np.array_equal(found["logits"], ours.reshape(len(ours), -1))
