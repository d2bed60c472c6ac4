"""The `ltdata` command: build, stats, verify, list."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ltdata import __version__, console, groups, histogram, pinned, profiles
from ltdata import build as builder
from ltdata.errors import SourceMissingError, UsageError
from ltdata.manifest import MANIFEST_NAME, Manifest
from ltdata.reader import read_manifest
from ltdata.sources import SOURCES
from ltdata.stats import FrequencyStats, frequency_stats
from ltdata.verify import verify as verify_folder


def main() -> None:
    """Run the `ltdata` command."""
    console.run(cli, name="ltdata")


def parse_imbalance_factor(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    """Parse an imbalance factor: n_max / n_min, finite, at least 1."""
    try:
        if "_" in value:  # float() takes 1_0 for 10
            raise ValueError
        return profiles.check_imbalance_factor(float(value))
    except UsageError as error:
        raise click.BadParameter(str(error)) from None
    except ValueError:
        raise click.BadParameter(f"imbalance factor {value!r}: it is a number, n_max / n_min, such as 100") from None


UNVERIFIED = "UNVERIFIED: its files do not have the published digest"
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
quiet_option = click.option("--quiet", is_flag=True, help="No progress, no messages; errors and data only.")


def groups_option(default: str | None) -> Callable[[Any], Any]:
    """Make the --groups option; its help names the rules."""
    return click.option(
        "--groups",
        "group_rule",
        type=click.Choice(list(groups.RULES)),
        default=default,
        show_default=default is not None,
        help="Rule that says which classes are many-, medium- and few-shot.",
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ltdata")
def cli() -> None:
    """Build reproducible long-tailed image data sets, look at them, and check them."""


@cli.command()
@click.argument("name", type=click.Choice(list(SOURCES)), metavar="NAME")
@click.option(
    "--imbalance",
    metavar="IF",
    callback=parse_imbalance_factor,
    required=True,
    help="Imbalance factor n_max / n_min, >= 1.",
)
@click.option("--profile", type=click.Choice(profiles.PROFILES), default="exp", show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@groups_option("strict")
@click.option("--max-per-class", type=click.IntRange(1), help="Upper bound for the largest class, for subsets.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder or archive with the source images.")
@click.option("--out", type=click.Path(path_type=Path), help="The folder to write  [default: the split's name]")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that write shards.")
@click.option("--unverified", is_flag=True, help="Accept source files without the published digest.")
@click.option("--force", is_flag=True, help="Build anew over an existing build.")
@json_option
@quiet_option
def build(
    name: str,
    imbalance: float,
    profile: str,
    seed: int,
    group_rule: str,
    max_per_class: int | None,
    data_dir: Path | None,
    out: Path | None,
    workers: int,
    unverified: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Build a long-tailed data set NAME: cifar10, cifar100 or digits.

    Example: ltdata build cifar100 --imbalance 100
    """
    spec = builder.Spec(
        source=name,
        imbalance_factor=imbalance,
        profile=profile,
        seed=seed,
        group_rule=group_rule,
        max_per_class=max_per_class,
    )
    built = builder.build(
        spec,
        out=out,
        data_dir=data_dir,
        workers=workers,
        unverified=unverified,
        force=force,
        progress=not quiet,
    )
    report = builder.summary(built)
    if as_json:
        click.echo(json.dumps(report))
        return
    counted = " | ".join(f"{name} {report['groups'][name]}" for name in groups.GROUP_NAMES)
    images = ", ".join(f"{count:,} {split}" for split, count in report["images"].items())
    done = "found whole, every digest verified" if built.reused else "built"
    click.echo(f"{report['name']}: {done}")
    click.echo(f"  images   {images}")
    click.echo(f"  classes  {built.manifest.num_classes}: {counted} (rule {report['groups']['rule']})")
    click.echo(f"  shards   {report['shards']}, {report['bytes'] / 1e6:.1f} MB")
    click.echo(f"  content  sha256 {report['content_sha256']}")
    if built.manifest.verified is False:
        click.echo(f"  source   {UNVERIFIED}")
    click.echo(f"  folder   {shown(built.folder)}")


@cli.command()
@click.argument("what", metavar="SPLIT")
@groups_option(None)
@json_option
def stats(what: str, group_rule: str | None, as_json: bool) -> None:
    """Describe the class frequencies of SPLIT: a built folder, a manifest file, or a pinned split's name.

    Example: ltdata stats cifar100-lt-exp-if100
    """
    manifest = find_manifest(what)
    if group_rule is not None:
        manifest = manifest.with_groups(group_rule)
    found = frequency_stats(manifest.class_counts, rule=manifest.group_rule["name"])
    if as_json:
        record = {
            "name": manifest.name,
            "content_sha256": manifest.content_sha256,
            "verified_source": manifest.verified,
        }
        click.echo(json.dumps(record | asdict(found)))
        return
    click.echo(format_stats(manifest, found))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
@quiet_option
def verify(folder: Path, as_json: bool, quiet: bool) -> None:
    """Check every shard, row, count and digest of a built FOLDER."""
    manifest = verify_folder(folder, progress=not quiet)
    if as_json:
        record = {"name": manifest.name, "verified_source": manifest.verified}
        click.echo(json.dumps(record | {"content_sha256": manifest.content_sha256}))
        return
    click.echo(f"{manifest.name}: every digest verified, content sha256 {manifest.content_sha256}")
    if manifest.verified is False:
        click.echo(f"source {UNVERIFIED}")


@cli.command(name="list")
@json_option
def list_splits(as_json: bool) -> None:
    """List the pinned splits: name, images, classes, content digest."""
    for name in pinned.names():
        manifest = pinned.load(name)
        images = manifest.splits["train"].num_samples
        if as_json:  # one line each
            record = {"name": name, "images": images, "classes": manifest.num_classes}
            click.echo(json.dumps(record | {"content_sha256": manifest.content_sha256}))
            continue
        click.echo(f"{name:24} {images:7,} images {manifest.num_classes:4} classes  {manifest.content_sha256}")


def shown(path: Path) -> Path:
    """Return the path as people would type it: relative where it lies below the current folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def find_manifest(what: str) -> Manifest:
    """Find the manifest that a word means: a built folder, a manifest file, a pinned name; in that order.

    Raises:
        SourceMissingError: it means none of them.
    """
    path = Path(what)
    if os.path.isdir(path):  # noqa: PTH112 - unlike Path's, it takes a name that no file can have
        return read_manifest(path)
    if path.name == MANIFEST_NAME:
        return read_manifest(path.parent)
    if os.path.isfile(path):  # noqa: PTH113 - as above
        return Manifest.from_json(path.read_text(encoding="utf-8", errors="replace"), origin=what)
    if what in pinned.names():
        return pinned.load(what)
    raise SourceMissingError(
        f"{what}: no such folder, manifest file or pinned split; ltdata list shows the pinned ones"
    )


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
