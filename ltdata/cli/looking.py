"""`ltdata verify`, `ltdata list`."""

import json
from pathlib import Path

import click

from ltdata import pinned
from ltdata.cli.options import UNVERIFIED, Whole, json_option, laid_out, quiet_option
from ltdata.manifest import MANIFEST_NAME
from ltdata.verify import verify as verify_folder


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--digests-only", is_flag=True, help="Do not decode the images.")
@click.option("--workers", type=Whole(1), default=1, show_default=True, help="Threads that read and decode.")
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
    click.echo(laid_out([f"{manifest.name}: {done}, content sha256 {manifest.content_sha256}"]))
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
