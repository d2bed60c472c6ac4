"""`ltdata evaluate`."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from ltdata import bootstrap, calibration, catalog, seeds, tables
from ltdata.cli.options import UNVERIFIED, Whole, groups_option, json_option, laid_out, quiet_option
from ltdata.errors import MismatchError, SourceMissingError, UsageError
from ltdata.manifest import Manifest
from ltdata.metrics import Evaluation, evaluate
from ltdata.predictions import match_labels, read_predictions
from ltdata.seeds import in_percent
from ltdata.tables import Row

_FORMS = ("table", "markdown", "latex", "json")
_SPLITS = ("test", "val")  # the first that the manifest has; iNaturalist 2018 keeps its test labels to itself


@click.command(name="evaluate")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--manifest", "what", metavar="SPLIT", required=True, help="Built folder, manifest, or pinned name.")
@click.option("--split", metavar="NAME", help="Which part of it was predicted  [default: test, else val]")
@groups_option(None)
@click.option("--name", metavar="TEXT", help="Of the method  [default: the first file's]")
@click.option("--format", "form", type=click.Choice(_FORMS), help="[default: table]")
@click.option("--per-class", is_flag=True, help="Figures of every class too, in table and JSON.")
@click.option("--bootstrap", "resamples", type=Whole(100, 100_000), metavar="N", help="95 % intervals, of N resamples.")
@click.option("--seed", type=Whole(0, 2**32 - 1), default=0, show_default=True, help="Of the bootstrap.")
@click.option("--any-order", is_flag=True, help="A file's labels may stand in another order than the rows.")
@json_option
@quiet_option
def evaluate_files(
    files: tuple[Path, ...],
    what: str,
    split: str | None,
    group_rule: str | None,
    name: str | None,
    form: str | None,
    per_class: bool,
    resamples: int | None,
    seed: int,
    any_order: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compute accuracies by shot group from anyone's predictions; several FILEs are seeds of one method.

    FILE: .npz with predictions (n,), logits or probabilities (n, classes), and labels (n,); without labels the answers
    stand in the order of the manifest's rows. Or .npy with predictions or logits. All figures are in percent.

    Example: ltdata evaluate predictions.npz --manifest cifar100-lt-exp-if100 --bootstrap 1000
    """
    if as_json and form not in (None, "json"):
        raise UsageError(f"--json, --format {form}: give one of them")
    form = "json" if as_json else form or "table"
    _check_meant(files, form, per_class=per_class, resamples=resamples)
    manifest = _with_rows(what)
    manifest = manifest if group_rule is None else manifest.with_groups(group_rule)
    chosen = _choose_split(manifest, split, quiet=quiet)
    evaluations = [  # one file in memory at a time
        _evaluated(path, manifest, chosen, resamples=resamples or 0, seed=seed, any_order=any_order) for path in files
    ]
    name = name if name is not None else files[0].stem
    over = Row(name, seeds.over_seeds(evaluations), seeds=len(files))
    if form == "json":
        click.echo(json.dumps(record(manifest, chosen, files, evaluations, over, per_class=per_class)))
    elif form == "table":
        click.echo(format_evaluations(manifest, chosen, files, evaluations, over, per_class=per_class))
    else:
        rows = [tables.row_of(name, evaluations[0])] if len(files) == 1 else [over]
        unverified = ", UNVERIFIED source" if manifest.verified is False else ""
        title = f"{_title(manifest, chosen, evaluations)}, groups: rule {evaluations[0].rule}{unverified}"
        click.echo(tables.markdown(title, rows) if form == "markdown" else tables.latex(title, rows))


def format_evaluations(
    manifest: Manifest,
    split: str | None,
    files: tuple[Path, ...],
    evaluations: list[Evaluation],
    over: Row,
    *,
    per_class: bool,
) -> str:
    """Lay evaluations out for people: the figures, what they are of, and every class where asked for."""
    first = evaluations[0]
    rows = [
        tables.row_of(over.name if len(files) == 1 else path.stem, one)
        for path, one in zip(files, evaluations, strict=True)
    ]
    if len(files) > 1:
        rows.append(replace(over, name=f"{over.name}, {over.seeds} seeds"))
    lines = [
        tables.text(_title(manifest, split, evaluations), rows, rule=first.rule),
        "groups: "
        + " | ".join(f"{name} {size.classes:,} classes, {size.images:,} images" for name, size in first.groups.items()),
    ]
    if any(one.figures["ece"] is not None for one in evaluations):
        lines.append(f"ECE: {calibration.BINS} bins of equal width, confidence of the answer")
    if first.resamples:
        alone = sum(one.images == 1 for one in first.classes)
        narrow = f"; too narrow, since classes with one image ({alone:,} here) cannot vary" if alone else ""
        lines.append(f"intervals: {first.resamples:,} bootstrap resamples within each class, seed {first.seed}{narrow}")
    if manifest.verified is False:
        lines.append(f"source {UNVERIFIED}")
    return "\n".join([*lines, *(_class_lines(manifest, evaluations) if per_class else [])])


def record(
    manifest: Manifest,
    split: str | None,
    files: tuple[Path, ...],
    evaluations: list[Evaluation],
    over: Row,
    *,
    per_class: bool,
) -> dict[str, Any]:
    """Return evaluations as JSON has them, every figure in percent."""
    first = evaluations[0]
    of_files: list[dict[str, Any]] = []
    for path, one in zip(files, evaluations, strict=True):
        entry: dict[str, Any] = {"file": str(path), "figures": dict(one.figures)}
        if one.resamples:
            entry["intervals"] = {name: asdict(ends) for name, ends in one.intervals.items()}
        if per_class:
            entry["per_class"] = [asdict(figures) for figures in one.classes]
        of_files.append(entry)
    interval = {"level": bootstrap.LEVEL, "resamples": first.resamples, "seed": first.seed}
    return {
        "name": manifest.name,
        "content_sha256": manifest.content_sha256,
        "verified_source": manifest.verified,
        "split": split,
        "group_rule": first.rule,
        "images": first.images,
        "groups": {name: asdict(size) for name, size in first.groups.items()},
        "method": over.name,
        "unit": "percent",
        "figures": {name: asdict(value) for name, value in over.figures.items()},
        "ece_bins": calibration.BINS,
        **({"bootstrap": interval} if first.resamples else {}),
        "files": of_files,
    }


def _check_meant(files: tuple[Path, ...], form: str, *, per_class: bool, resamples: int | None) -> None:
    if per_class and form in ("markdown", "latex"):
        raise UsageError(f"--per-class: not in --format {form}; table and json have it")
    if resamples and len(files) > 1 and form in ("markdown", "latex"):
        raise UsageError(f"--bootstrap: not of several FILEs in --format {form}; table and json have each file's")
    resolved = [path.resolve() for path in files]
    twice = next((path for path in files if resolved.count(path.resolve()) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice}: given twice; every seed has a file of its own")


def _with_rows(what: str) -> Manifest:
    """Find the manifest with its rows; without them where only the header is here."""
    try:
        return catalog.find(what, rows=True).manifest
    except (SourceMissingError, MismatchError):
        found = catalog.find(what)
        if found.folder is not None:  # its rows are damaged
            raise
        return found.manifest


def _choose_split(manifest: Manifest, split: str | None, *, quiet: bool) -> str | None:
    if split is not None:
        if split not in manifest.splits:
            raise UsageError(f"--split {split!r}: {manifest.name} has {', '.join(manifest.splits)}")
        return split
    chosen = next((name for name in _SPLITS if name in manifest.splits), None)
    if chosen != _SPLITS[0] and not quiet:
        instead = f"its {chosen} split is evaluated" if chosen else "the files' own labels are taken, nothing compared"
        click.echo(laid_out([f"ltdata: note: {manifest.name} has no test split; {instead}"]), err=True)
    return chosen


def _evaluated(
    path: Path, manifest: Manifest, split: str | None, *, resamples: int, seed: int, any_order: bool
) -> Evaluation:
    given = read_predictions(path)
    labels = match_labels(given, manifest, split, any_order=any_order)
    try:
        return evaluate(
            labels,
            given.predictions,
            logits=given.logits,
            probabilities=given.probabilities,
            class_counts=manifest.class_counts,
            rule=manifest.group_rule["name"],
            class_groups=manifest.groups,
            resamples=resamples,
            seed=seed,
        )
    except UsageError as error:  # a value of the file
        raise MismatchError(f"{path}: {error}") from error


def _title(manifest: Manifest, split: str | None, evaluations: list[Evaluation]) -> str:
    part = f"{split} split" if split is not None else "labels of the files"
    seeded = ", mean ± standard deviation over seeds" if len(evaluations) > 1 else ""
    return f"{manifest.name}, {part}, {evaluations[0].images:,} images, top-1 %{seeded}"


def _class_lines(manifest: Manifest, evaluations: list[Evaluation]) -> list[str]:
    """List every class: its training images, evaluated images, and figures, the mean over seeds."""
    names = [tables.one_line(name) for name in manifest.class_names]
    width = max(map(len, names))
    lines = ["", f"label  {'class':{width}}  group    train  images  accuracy  precision     F1"]
    trained = np.asarray(manifest.class_counts).tolist()
    for label, (name, of_class) in enumerate(
        zip(names, zip(*(one.classes for one in evaluations), strict=True), strict=True)
    ):
        accuracy, precision, f1 = (
            in_percent(seeds.spread([getattr(one, figure) for one in of_class]).mean)
            for figure in ("accuracy", "precision", "f1")
        )
        lines.append(
            f"{label:5}  {name:{width}}  {of_class[0].group:6} {trained[label]:6,}  {of_class[0].images:6,}"
            f"  {accuracy:>8}  {precision:>9}  {f1:>5}"
        )
    return lines
