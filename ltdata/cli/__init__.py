"""The `ltdata` command: one module per kind of work, each command a thin layer over a function."""

import click

from ltdata import __version__, console
from ltdata.cli import building, comparing, exchange, looking, subsetting


def main() -> None:
    """Run the `ltdata` command."""
    console.run(cli, name="ltdata")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ltdata")
def cli() -> None:
    """Build reproducible long-tailed image data sets, look at them, compare, pass on, and check them."""


for command in (
    building.build,
    looking.stats,
    looking.verify,
    looking.list_splits,
    comparing.diff,
    comparing.identify,
    subsetting.subset,
    exchange.export,
    exchange.import_,
):
    cli.add_command(command)
