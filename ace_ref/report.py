"""Report several results: the table of methods, splits and groups, and its pictures.

    python -m ace_ref.report results/cpu/*.json --out report

Results that differ in their seed only become one row, mean and standard deviation. PUBLISHED figures stand apart and
are marked. With `--out` it writes, per split and setting, the training curves and the many/medium/few bars as PNG.
"""

import json
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from ace_ref import figures, summary
from ace_ref.summary import COLUMNS, Row
from ltdata import console
from ltdata.errors import MismatchError, SourceMissingError
from ltdata.files import check_writable, make_folder, write_atomic
from ltdata.output import followed


def load_results(paths: tuple[Path, ...]) -> list[dict[str, Any]]:
    """Read records of `result.json`; of a folder, every `*.json` below it that is one.

    Raises:
        SourceMissingError: there is no such file, or no result in a folder.
        MismatchError: a file is not a result.
    """
    found = []
    for path in paths:
        inside = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        if not inside or not path.exists():
            raise SourceMissingError(f"{path}: no result there; python -m ace_ref.train writes result.json")
        for one in inside:
            if path.is_dir() and not one.is_file():  # a pipe would be waited for
                raise MismatchError(f"{one}: is no regular file; take it out")
            found.append(summary.read_result(one))
    return found


def published(split: str) -> list[tuple[str, float]]:
    """Return the published figures for a split: name of the method, overall top-1 in percent."""
    table = tomllib.loads((files("ace_ref") / "published.toml").read_text(encoding="utf-8"))
    return [(row["name"], row["overall"]) for row in table["figure"] if row["split"] == split]


def published_line(split: str) -> str:
    """Return the published figures for a split as one line, empty if there are none.

    >>> published_line("cifar10-lt-exp-if100")
    'published (papers, their own settings, CIFAR with ResNet-32; not run here), overall: ACE 81.4'
    """
    shown = " | ".join(f"{name} {value}" for name, value in published(split))
    return (
        f"published (papers, their own settings, CIFAR with ResNet-32; not run here), overall: {shown}" if shown else ""
    )


def markdown(rows: list[Row]) -> str:
    """Lay rows out as a Markdown table, for a README, the published figures under it."""
    lines = [
        "| split, setting | method | seeds | " + " | ".join(COLUMNS) + " | parameters | MFLOP per image |",
        "|---|---|---|" + "---|" * (len(COLUMNS) + 2),
    ]
    for row in rows:
        first = row.results[0]
        cells = " | ".join(row.cell(column) for column in COLUMNS)
        size = f"{first['parameters']:,} | {first['flops_per_image'] / 1e6:.1f}"
        lines.append(f"| {row.split}, {row.setting} | {row.label} | {len(row.results)} | {cells} | {size} |")
    figures_of = filter(None, map(published_line, dict.fromkeys(row.split for row in rows)))
    return "\n".join([*lines, *(f"\n{line[0].upper()}{line[1:]}." for line in figures_of)])


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the pictures; none without it.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a Markdown table.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def command(results: tuple[Path, ...], out: Path | None, as_markdown: bool, as_json: bool) -> None:
    """Print the table of RESULTS (result.json files, or folders of them), published figures beside it."""
    if out is not None:
        followed(out / "picture")
        check_writable(out / "picture")
    rows = summary.summarise(load_results(results))
    if as_json:
        click.echo(json.dumps([_plain(row) for row in rows]))
    elif as_markdown:
        click.echo(markdown(rows))
    else:
        click.echo(summary.table(rows))
        for line in filter(None, map(published_line, dict.fromkeys(row.split for row in rows))):
            click.echo(line)
    if out is not None:
        make_folder(out)
        for name, picture in figures.draw(rows).items():
            write_atomic(out / name, picture)
            click.echo(f"picture: {out / name}", err=as_json or as_markdown)


def _plain(row: Row) -> dict[str, Any]:
    values = {name: {"mean": row.mean(name), "deviation": row.deviation(name)} for name in COLUMNS}
    named = {"split": row.split, "group_rule": row.group_rule, "setting": row.setting, "method": row.label}
    return named | {"seeds": [result["seed"] for result in row.results], "accuracy": values}


if __name__ == "__main__":
    console.run(command, name="ace_ref.report")
