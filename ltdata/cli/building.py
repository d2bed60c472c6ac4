"""`ltdata build`."""

import json
from pathlib import Path

import click

from ltdata import build as builder
from ltdata import groups, profiles, skipped
from ltdata.build import Built
from ltdata.cli.options import (
    UNVERIFIED,
    Whole,
    groups_option,
    json_option,
    laid_out,
    parse_alpha,
    parse_imbalance_factor,
    quiet_option,
    shown,
)
from ltdata.errors import UsageError
from ltdata.sources import SOURCES
from ltdata.spec import NATURAL, Spec


@click.command()
@click.argument("name", type=click.Choice(list(SOURCES)), metavar="NAME")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder or archive with the source images.")
@click.option(
    "--lists",
    type=click.Path(path_type=Path),
    help="Folder with the official lists; for NAME folder a text list, CSV, or a folder of them.",
)
@click.option(
    "--imbalance",
    metavar="IF",
    callback=parse_imbalance_factor,
    help="Imbalance factor n_max / n_min, >= 1; cifar10, cifar100 and digits need one.",
)
@click.option(
    "--profile",
    type=click.Choice([*profiles.PROFILES, NATURAL]),
    help="How class sizes fall  [default: exp; natural, nothing drawn, for NAME folder without --imbalance]",
)
@click.option("--seed", type=Whole(0, 2**32 - 1), default=0, show_default=True)
@groups_option("strict")
@click.option("--max-per-class", type=Whole(1), help="Upper bound for the largest class.")
@click.option("--min-per-class", type=Whole(1), help="Images of the smallest class, in place of --imbalance.")
@click.option(
    "--alpha", metavar="A", callback=parse_alpha, help="Of profile pareto; smaller: longer tail  [default: 6]"
)
@click.option("--val-per-class", type=Whole(0), default=0, help="Hold so many of every class out (NAME folder).")
@click.option("--test-per-class", type=Whole(0), default=0, help="As many for a test (NAME folder).")
@click.option("--name", "title", help="Name of a folder's data set  [default: the folder's]")
@click.option("--max-side", type=Whole(16, 10_000), metavar="PX", help="Scale larger images down, as JPEG.")
@click.option("--manifest-only", is_flag=True, help="Write header and rows, and do not look for images.")
@click.option("--out", type=click.Path(path_type=Path), help="The folder to write  [default: the split's name]")
@click.option("--workers", type=Whole(1), default=1, show_default=True, help="Processes that write shards.")
@click.option("--engine", type=click.Choice(["local", "dask"]), default="local", show_default=True)
@click.option("--scheduler", metavar="ADDRESS", help="Of a Dask cluster that sees the same files, for --engine dask.")
@click.option("--unverified", is_flag=True, help="Accept source files without the published digest.")
@click.option(
    "--skip-bad", is_flag=True, help="Decode every image; leave out, and list, those that are missing or broken."
)
@click.option("--force", is_flag=True, help="Build anew over an existing build.")
@json_option
@quiet_option
def build(
    name: str,
    data_dir: Path | None,
    lists: Path | None,
    imbalance: float | None,
    profile: str | None,
    seed: int,
    group_rule: str,
    max_per_class: int | None,
    min_per_class: int | None,
    alpha: float | None,
    val_per_class: int,
    test_per_class: int,
    title: str | None,
    max_side: int | None,
    manifest_only: bool,
    out: Path | None,
    workers: int,
    engine: str,
    scheduler: str | None,
    unverified: bool,
    skip_bad: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Build a long-tailed data set NAME.

    cifar10, cifar100, digits: drawn with --imbalance. imagenet-lt, inat18, places-lt: as their lists have them.
    folder: any folder of images, a class per subfolder or --lists, as it is or drawn.

    Example: ltdata build cifar100 --imbalance 100
    """
    if (engine == "dask") != (scheduler is not None):
        raise UsageError("--engine dask and --scheduler ADDRESS go together; give both, or neither")
    spec = Spec(
        source=name,
        imbalance_factor=imbalance,
        profile=profile,
        seed=seed,
        group_rule=group_rule,
        max_per_class=max_per_class,
        min_per_class=min_per_class,
        alpha=alpha,
        val_per_class=val_per_class,
        test_per_class=test_per_class,
        title=title,
        max_side_px=max_side,
    )
    built = builder.build(
        spec,
        out=out,
        data_dir=data_dir,
        lists=lists,
        manifest_only=manifest_only,
        workers=workers,
        scheduler=scheduler,
        unverified=unverified,
        skip_bad=skip_bad,
        force=force,
        progress=not quiet,
    )
    click.echo(json.dumps(builder.summary(built)) if as_json else format_built(built))
    notice = built.manifest.source.get("notice")
    if notice and built.manifest.has_images and not quiet:
        click.echo(f"ltdata: note: {notice}", err=True)


def format_built(built: Built) -> str:
    """Lay a build out for people."""
    manifest, report = built.manifest, builder.summary(built)
    counted = " | ".join(f"{name} {report['groups'][name]}" for name in groups.GROUP_NAMES)
    images = ", ".join(f"{count:,} {split}" for split, count in report["images"].items())
    done = "found whole, every digest verified" if built.reused else "built"
    left_out, bad = manifest.source.get("left_out"), skipped.listed(manifest)
    lines = [
        f"{report['name']}: {done}",
        f"  images   {images}",
        f"  classes  {manifest.num_classes:,}: {counted} (rule {report['groups']['rule']})",
        f"  shards   {report['shards']:,}, {report['bytes'] / 1e6:,.1f} MB"
        if manifest.has_images
        else "  shards   none",
        *(
            [f"  stored   longer side at most {manifest.storage['max_side_px']} px, as JPEG"]
            if manifest.storage
            else []
        ),
        f"  content  sha256 {report['content_sha256']}",
        *([f"  source   {UNVERIFIED}"] if manifest.verified is False else []),
        *(
            [f"  left out {left_out['files']:,} that are no images of a class: {', '.join(left_out['first'])}"]
            if left_out
            else []
        ),
        *(
            [f"  skipped  {len(bad):,} bad images, listed in manifest.json, the first {bad[0]['path']} {bad[0]['why']}"]
            if bad
            else []
        ),
        f"  folder   {shown(built.folder)}",
    ]
    return laid_out(lines)
