"""`ltdata stats`, `ltdata verify`, `ltdata list`."""

import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import click

from ltdata import catalog, histogram, pinned
from ltdata.cli.options import UNVERIFIED, groups_option, json_option, quiet_option
from ltdata.manifest import MANIFEST_NAME, Manifest
from ltdata.stats import FrequencyStats, frequency_stats
from ltdata.verify import verify as verify_folder


@click.command()
@click.argument("what", metavar="SPLIT")
@groups_option(None)
@json_option
def stats(what: str, group_rule: str | None, as_json: bool) -> None:
    """Describe the class frequencies of SPLIT: a built folder, a manifest file, or a pinned split's name.

    Example: ltdata stats cifar100-lt-exp-if100
    """
    manifest = catalog.find(what).manifest
    if group_rule is not None:
        manifest = manifest.with_groups(group_rule)
    found = frequency_stats(manifest.class_counts, rule=manifest.group_rule["name"], class_groups=manifest.groups)
    if as_json:
        record = {
            "name": manifest.name,
            "content_sha256": manifest.content_sha256,
            "verified_source": manifest.verified,
        }
        click.echo(json.dumps(record | asdict(found)))
        return
    click.echo(format_stats(manifest, found))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--digests-only", is_flag=True, help="Do not decode the images.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Threads that read and decode.")
@json_option
@quiet_option
def verify(folder: Path, digests_only: bool, workers: int, as_json: bool, quiet: bool) -> None:
    """Check every shard, row, count, digest and image of a built FOLDER, a manifest or a view."""
    if folder.name == MANIFEST_NAME and not folder.is_dir():
        folder = folder.parent
    manifest = verify_folder(folder, images=not digests_only, workers=workers, progress=not quiet)
    if as_json:
        record = {"name": manifest.name, "verified_source": manifest.verified}
        click.echo(json.dumps(record | {"content_sha256": manifest.content_sha256}))
        return
    pictured = manifest.has_images or manifest.view_of is not None
    done = "every digest verified" if pictured else "rows verified, no images here"
    done += ", every image decoded" if pictured and not digests_only else ""
    click.echo(f"{manifest.name}: {done}, content sha256 {manifest.content_sha256}")
    if manifest.verified is False:
        click.echo(f"source {UNVERIFIED}")


@click.command(name="list")
@json_option
def list_splits(as_json: bool) -> None:
    """List the pinned splits: name, images, classes, content digest."""
    for name in pinned.names():
        manifest = pinned.header(name)
        images = manifest.splits["train"].num_samples
        if as_json:  # one line each
            record = {"name": name, "images": images, "classes": manifest.num_classes}
            click.echo(json.dumps(record | {"content_sha256": manifest.content_sha256}))
            continue
        content = manifest.content_sha256 or "(build it to get the digest)"
        click.echo(f"{name:24} {images:7,} images {manifest.num_classes:5,} classes  {content}")


def format_stats(manifest: Manifest, found: FrequencyStats) -> str:
    """Lay the statistics out for people: figures, groups, histogram."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    terminal = sys.stdout.isatty()
    columns = shutil.get_terminal_size().columns if terminal else histogram.MAX_COLUMNS
    factor = f"{found.imbalance_factor:.4g}" if found.imbalance_factor is not None else "n/a (a class is empty)"
    fit = found.fit
    lines = [
        f"{manifest.name}  (train split)",
        f"  images               {found.images:,}",
        f"  classes              {found.classes:,}" + (f", {found.empty_classes} empty" if found.empty_classes else ""),
        f"  imbalance factor     {factor}",
        f"  largest class        {found.largest:,}",
        f"  median class         {found.median:,.6g}",
        f"  smallest class       {found.smallest:,}",
        f"  Gini                 {found.gini:.3f}",
        f"  entropy              {found.entropy_bits:.3f} bits, effective classes {found.effective_classes:.1f}",
        f"  head share           {found.head_share:.1%} of the images in the largest 20 % of the classes",
        "  exponential fit      "
        + (
            f"imbalance factor {fit.imbalance_factor:.4g} (95 % interval {fit.low:.4g} .. {fit.high:.4g}), "
            f"R2 {fit.r_squared:.4f}"
            if fit
            else "n/a"
        ),
        f"  content              sha256 {manifest.content_sha256}",
        *([] if manifest.verified is not False else [f"  source               {UNVERIFIED}"]),
        "",
        (
            f"  group   classes   images   share   (rule {found.rule}: many {manifest.group_rule['many']}, "
            f"few {manifest.group_rule['few']})"
        ),
    ]
    for name, group in found.groups.items():
        lines.append(f"  {name:6}  {group.classes:7,}  {group.images:7,}  {group.share:6.1%}")
    chart = histogram.draw(
        manifest.class_counts,
        manifest.groups,
        columns=columns,
        colour=terminal and "NO_COLOR" not in os.environ,
        ascii_only=encoding != "utf8",
    )
    return "\n".join([*lines, "", "  images per class, sorted, log scale", chart])
