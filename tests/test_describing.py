"""`ltdata stats` with its files: what is written, what is said, what is refused."""

import json
from pathlib import Path

import pytest
from test_cli import here, run

from ltdata.build import Built

__all__ = ["here"]  # an autouse fixture
NAME = "cifar100-lt-exp-if100"


def test_the_report_is_written_beside_the_figures(here: Path) -> None:
    plain = run("stats", NAME)
    ended = run("stats", NAME, "--html", "new/report.html")
    assert (ended.code, ended.out, ended.err) == (0, plain.out, "new/report.html: written\n")
    assert (here / "new" / "report.html").read_bytes().startswith(b"<!doctype html>")
    assert sorted(path.name for path in (here / "new").iterdir()) == ["report.html"]


def test_json_names_the_files_and_stays_one_line(here: Path) -> None:
    ended = run("stats", NAME, "--json", "--quiet", "--html", "r.html", "--plot", "p.svg")
    assert (ended.code, ended.err, ended.out.count("\n")) == (0, "", 1)
    found = json.loads(ended.out)
    assert found["files"] == ["r.html", "p.svg"]
    assert found["best_fit"] == "exponential"
    assert found["fits"]["exponential"]["value"] == pytest.approx(106.973, abs=1e-3)
    assert "files" not in json.loads(run("stats", NAME, "--json").out)


def test_the_same_command_writes_the_same_bytes(here: Path) -> None:
    for name in ("a", "b"):
        assert run("stats", NAME, "--quiet", "--html", f"{name}.html", "--plot", f"{name}.pdf").code == 0
    assert (here / "a.html").read_bytes() == (here / "b.html").read_bytes()
    assert (here / "a.pdf").read_bytes() == (here / "b.pdf").read_bytes()


def test_a_file_that_stands_there_is_replaced_by_force_alone(here: Path) -> None:
    (here / "r.html").write_text("precious")
    ended = run("stats", NAME, "--html", "r.html", "--plot", "p.png")
    assert ended.refused(2)
    assert "--force" in ended.err
    assert sorted(path.name for path in here.iterdir()) == ["r.html"]
    assert (here / "r.html").read_text() == "precious"
    assert run("stats", NAME, "--html", "r.html", "--force").code == 0
    assert (here / "r.html").read_bytes() != b"precious"


def test_outputs_that_cannot_be_meant_are_refused(here: Path, digits_lt: Built) -> None:
    (here / "folder").mkdir()
    (here / "file").write_text("")
    before = sorted(here.rglob("*"))
    for args, code in (
        (("--html", "folder"), 5),
        (("--html", "file/r.html"), 5),
        (("--html", "one.png", "--plot", "one.png"), 2),
        (("--html", digits_lt.folder / "r.html"), 2),
        (("--mosaic",), 2),
        (("--html", "r.html", "--mosaic"), 2),  # a pinned name has no images
        (("--html", "r.html", "--groups", "foo"), 2),
        (("--plot", "p"), 2),
        (("nothing", "--html", "r.html"), 4),
    ):
        ended = run("stats", NAME, *args)
        assert ended.refused(code), (args, ended)
    assert sorted(here.rglob("*")) == before
    assert not (digits_lt.folder / "r.html").exists()


def test_a_mosaic_of_a_build_and_of_its_view(here: Path, digits_lt: Built) -> None:
    assert run("subset", digits_lt.folder, "--group", "few", "--out", "tail").code == 0
    for what, classes in ((digits_lt.folder, 9), ("tail", 3)):
        assert run("stats", what, "--html", "r.html", "--mosaic", "--force", "--quiet").code == 0
        page = (here / "r.html").read_text(encoding="utf-8")
        assert page.count("<figure ") == classes
        assert page.count('<img src="data:image/png;base64,') == classes * 6
    assert "keeps the groups of the whole" in page


def test_another_group_rule_holds_for_both_splits() -> None:
    ended = run("stats", NAME, "cifar100-lt-exp-if50", "--groups", "oltr", "--json")
    found = json.loads(ended.out)
    assert (found["rule"], found["other"]["rule"]) == ("oltr", "oltr")
    assert sum(sum(row.values()) for row in found["overlap"]["moves"].values()) == 100


def test_fits_are_told_in_words() -> None:
    shown = run("stats", "imagenet-lt").out
    assert "Pareto fit           alpha 5.765" in shown
    assert (
        "  described by         Pareto (needs R2 >= 0.95, KS <= 0.1)\n  95 % interval        for images dealt" in shown
    )
    shown = run("stats", "cifar100-lt-step-if100").out
    assert "described by         none of the three" in shown
    assert "interval" not in shown
    assert "alpha >= 1000, R2" in run("stats", "cifar100-lt-exp-if10").out


def test_json_says_what_describes_the_counts_and_what_an_interval_means() -> None:
    found = json.loads(run("stats", "cifar100-lt-step-if100", "--json").out)
    assert found["best_fit"] is None
    assert {fit["describes"] for fit in found["fits"].values()} == {False}
    found = json.loads(run("stats", NAME, "--json").out)
    fit = found["fits"]["exponential"]
    assert (fit["describes"], fit["low"] < fit["value"] < fit["high"]) == (True, True)
    assert (found["fit_interval"]["level"], found["fit_interval"]["resamples"]) == (0.95, 400)
    assert "not for classes drawn at random" in found["fit_interval"]["meaning"]


def test_where_there_is_no_digest_the_way_to_one_is_named() -> None:
    shown = run("stats", "inat18").out
    assert "content              n/a (build it to get the digest)\n" in shown
    assert "None" not in shown
