"""`ltdata subset`."""

import json
import re
from pathlib import Path

import click

from ltdata import catalog, groups, output
from ltdata.cli.options import (
    Whole,
    force_option,
    groups_option,
    json_option,
    laid_out,
    out_option,
    quiet_option,
    shown,
    to_float,
)
from ltdata.errors import SourceMissingError
from ltdata.files import read_bytes
from ltdata.subset import FORMS, Part, make_subset, write_subset


def parse_list(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Split values at commas; ``@FILE`` stands for the lines of a file."""
    words: list[str] = []
    for value in values:
        if value.startswith("@"):
            try:
                words += read_bytes(Path(value[1:])).decode().split("\n")
            except ValueError as error:
                raise SourceMissingError(f"{value[1:]}: cannot be read ({error}); check the file") from error
        else:
            words += value.split(",")
    return tuple(word.strip() for word in words if word.strip())


def parse_thresholds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[float, ...]:
    """Parse falling shares, separated by commas."""
    try:
        return tuple(to_float(word) for word in value.split(",")) if value is not None else ()
    except ValueError:
        raise click.BadParameter(f"{str(value)[:40]!r}: shares of the images, such as 0.3,0.05") from None


def parse_range(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Parse LOW-HIGH."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", value)
    if not found:
        raise click.BadParameter(f"{value[:40]!r}: LOW-HIGH images of a class, such as 20-100")
    return int(found[1]), int(found[2])


@click.command()
@click.argument("what", metavar="SPLIT")
@click.option(
    "--group", "group_names", multiple=True, callback=parse_list, help="many, medium, few; several by commas."
)
@click.option("--expert", type=Whole(1), help="Target categories of an expert: 1 all, 2 medium and few, 3 few.")
@click.option("--thresholds", callback=parse_thresholds, help="Cut experts by shares of the images instead: 0.3,0.05.")
@click.option("--class", "classes", multiple=True, callback=parse_list, help="Names or labels; @FILE has one per line.")
@click.option("--class-size", metavar="LOW-HIGH", callback=parse_range, help="Classes with so many training images.")
@click.option("--per-class", type=Whole(1), help="At most so many training images of a class.")
@click.option("--images", type=Whole(1), help="So many training images in all, each class in its share.")
@click.option("--seed", type=Whole(0, 2**32 - 1), default=0, show_default=True)
@click.option("--relabel", is_flag=True, help="Number the classes that are left anew.")
@groups_option(None)
@click.option("--as", "form", type=click.Choice(FORMS), help="What to write  [default: view of a build, else manifest]")
@click.option("--name", help="Of the subset  [default: derived]")
@out_option
@click.option("--workers", type=Whole(1), default=1, show_default=True, help="Processes that write shards.")
@force_option
@json_option
@quiet_option
def subset(
    what: str,
    group_names: tuple[str, ...],
    expert: int | None,
    thresholds: tuple[float, ...],
    classes: tuple[str, ...],
    class_size: tuple[int, int] | None,
    per_class: int | None,
    images: int | None,
    seed: int,
    relabel: bool,
    group_rule: str | None,
    form: str | None,
    name: str | None,
    out: Path,
    workers: int,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Take part of SPLIT, a built folder, manifest, view or pinned name: by group, expert, class or size.

    As a view (no byte of an image is copied), as shards, or as a manifest without images.

    Example: ltdata subset cifar100-lt-exp-if100 --group medium,few --out tail
    """
    part = Part(group_names, expert, thresholds, classes, class_size, per_class, images, seed)
    output.check_new(out, force=force)
    whole = catalog.find(what, rows=True)
    manifest = whole.manifest if group_rule is None else whole.manifest.with_groups(group_rule)
    made = make_subset(manifest, part, relabel=relabel, name=name)
    made = write_subset(whole, made, out, form=form, workers=workers, force=force, progress=not quiet)
    counts = {split: described.num_samples for split, described in made.splits.items()}
    kept = int((made.class_counts > 0).sum())
    if as_json:
        record = {"folder": str(out.resolve()), "name": made.name, "images": counts, "classes": kept}
        click.echo(json.dumps(record | {"content_sha256": made.content_sha256}))
        return
    form = "shards" if made.has_images else "view" if made.view_of is not None else "manifest"
    in_group = {
        name: int(((made.groups == number) & (made.class_counts > 0)).sum())
        for number, name in enumerate(groups.GROUP_NAMES)
    }
    lines = [
        f"{made.name}: {form} written",
        f"  images   {', '.join(f'{count:,} {split}' for split, count in counts.items())}",
        f"  classes  {kept:,} of {manifest.num_classes:,}: " + " | ".join(f"{n} {c}" for n, c in in_group.items()),
        *([f"  view of  {made.view_of['path']}"] if made.view_of is not None else []),
        f"  content  sha256 {made.content_sha256}",
        f"  folder   {shown(out.resolve())}",
    ]
    click.echo(laid_out(lines))
