"""`ltdata export`, `ltdata import`."""

import json
from collections.abc import Mapping
from pathlib import Path

import click

from ltdata import build as builder
from ltdata import catalog, formats, output
from ltdata.build import Built
from ltdata.cli.options import (
    Whole,
    force_option,
    groups_option,
    json_option,
    laid_out,
    out_option,
    quiet_option,
    shown,
)
from ltdata.errors import UsageError
from ltdata.files import check_writable
from ltdata.groups import GROUP_NAMES
from ltdata.manifest import Manifest


@click.command()
@click.argument("what", metavar="SPLIT")
@click.option("--format", "form", type=click.Choice(list(formats.FORMATS)), help="[default: by the suffix of --out]")
@click.option("--split", help="Write only this one: train, val or test.")
@out_option
@force_option
@json_option
def export(what: str, form: str | None, split: str | None, out: Path, force: bool, as_json: bool) -> None:
    """Write SPLIT, a built folder, manifest, view or pinned name, in another form.

    One file with all splits: csv, json, npz, parquet, croissant. A file per split, in the folder --out, or with
    --split the file --out: list (.txt), npy, wids. A folder: huggingface. Class counts of one split: counts.

    Example: ltdata export cifar100-lt-exp-if100 --split train --out train.txt
    """
    output.followed(out)
    check_writable(out)
    found = catalog.find(what, rows=form != "counts")
    files = formats.export(found.manifest, out, form=form, split=split, folder=found.folder, force=force)
    if as_json:
        record = {"name": found.manifest.name, "files": [str(path) for path in files]}
        click.echo(json.dumps(record | {"content_sha256": found.manifest.content_sha256}))
        return
    for path in files:
        click.echo(laid_out([str(shown(path))]))


@click.command(name="import")
@click.argument("what", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--source", metavar="ID", help="cifar10, cifar100, imagenet-lt, ..., folder, or a name of your own.")
@click.option("--name", help="Of the split  [default: the file's, or that of the pinned split that it is]")
@groups_option(None)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the source, to compare with.")
@click.option("--classes", type=click.Path(path_type=Path), help="File with a class name per line, label 0 first.")
@click.option(
    "--label-key", metavar="KEY", help="Of the label in the .json of SHARDS  [default: .cls, else label, ...]"
)
@click.option("--workers", type=Whole(1), help="Processes that rewrite SHARDS  [default: 1]")
@click.option("--unverified", is_flag=True, help="Accept source files without the published digest.")
@out_option
@force_option
@json_option
@quiet_option
def import_(
    what: Path,
    source: str | None,
    name: str | None,
    group_rule: str | None,
    data_dir: Path | None,
    classes: Path | None,
    label_key: str | None,
    workers: int | None,
    unverified: bool,
    out: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make a manifest of FILE: a list, CSV, array, JSON or Parquet file, a Hugging Face folder, or a folder of these.

    Every row is checked. A CIFAR list without a test split gets the source's.

    Or make a build of SHARDS: a .tar file of WebDataset, or a folder of such files, train-*.tar or train/*.tar.
    Images are .jpg or .png, labels the digits in .cls or what .json has under label, class, cls or target.

    Example: ltdata import ImageNet_LT_train.txt --source imagenet-lt --out theirs
    """
    if formats.are_shards(what):
        needless = {"--source": source, "--data-dir": data_dir, "--unverified": unverified or None}
        _refuse(needless, f"{what}: shards say themselves what they hold")
        output.check_new(out, force=force)
        built = formats.import_tars(
            what,
            out=out,
            name=name,
            group_rule=group_rule,
            classes=classes,
            label_key=label_key,
            workers=workers or 1,
            force=force,
            progress=not quiet,
        )
        click.echo(json.dumps(builder.summary(built)) if as_json else format_rewritten(built))
        return
    _refuse({"--label-key": label_key, "--workers": workers}, f"{what}: is no .tar file, and no folder of some")
    output.check_new(out, force=force)
    manifest = formats.import_(
        what,
        source=source,
        name=name,
        group_rule=group_rule,
        data_dir=data_dir,
        classes=classes,
        unverified=unverified,
    )
    manifest = formats.write_import(manifest, out, force=force)
    compared = manifest.protocol["params"].get("labels")
    if not quiet and manifest.protocol["name"] == "import" and compared:
        click.echo(laid_out([f"ltdata: note: labels are {compared}"]), err=True)
    if not quiet and "claims" in manifest.protocol["params"]:
        click.echo(
            "ltdata: note: without a digest of its rows, what the file says of itself is kept as claims", err=True
        )
    if as_json:
        images = {split: described.num_samples for split, described in manifest.splits.items()}
        record = {"folder": str(out.resolve()), "name": manifest.name, "images": images}
        click.echo(json.dumps(record | {"protocol": manifest.protocol, "content_sha256": manifest.content_sha256}))
        return
    click.echo(format_imported(manifest, out))


def _refuse(options: Mapping[str, object], reason: str) -> None:
    given = next((option for option, value in options.items() if value is not None), None)
    if given is not None:
        raise UsageError(f"{reason}; leave out {given}")


def format_rewritten(built: Built) -> str:
    """Lay a build that was made of another tool's shards out for people."""
    report, left_out = builder.summary(built), built.manifest.source.get("left_out")
    rewritten = len(built.manifest.source["shards"])
    counted = " | ".join(f"{name} {report['groups'][name]}" for name in GROUP_NAMES)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in left_out["kinds"].items()) if left_out else ""
    return laid_out(
        [
            f"{report['name']}: imported, {rewritten:,} shard{'s' * (rewritten > 1)} rewritten",
            "  images   " + ", ".join(f"{count:,} {split}" for split, count in report["images"].items()),
            f"  classes  {built.manifest.num_classes:,}: {counted} (rule {report['groups']['rule']})",
            f"  shards   {report['shards']:,}, {report['bytes'] / 1e6:,.1f} MB",
            *([f"  left out {left_out['files']:,} members: {kinds}"] if left_out else []),
            f"  content  sha256 {report['content_sha256']}",
            f"  folder   {shown(built.folder)}",
        ]
    )


def format_imported(manifest: Manifest, out: Path) -> str:
    """Lay an imported manifest out for people."""
    images = ", ".join(f"{described.num_samples:,} {split}" for split, described in manifest.splits.items())
    added = manifest.protocol["params"].get("test")
    return laid_out(
        [
            f"{manifest.name}: imported, protocol {manifest.protocol['name']}",
            f"  images   {images}" + (f" (test: {added})" if added and manifest.protocol["name"] == "import" else ""),
            f"  classes  {manifest.num_classes:,}",
            f"  content  sha256 {manifest.content_sha256}",
            f"  folder   {shown(out.resolve())}",
        ]
    )
