"""The `ltdata` command: one module per kind of work, imported when it is asked for."""

from importlib import import_module

import click

from ltdata import __version__, console, signals

_COMMANDS = {  # where each is; worker processes, and every other command, need not import them all
    "build": "building.build",
    "stats": "describing.stats",
    "evaluate": "evaluating.evaluate_files",
    "verify": "looking.verify",
    "list": "looking.list_splits",
    "diff": "comparing.diff",
    "identify": "comparing.identify",
    "subset": "subsetting.subset",
    "export": "exchange.export",
    "import": "exchange.import_",
}


class _Commands(click.Group):
    """Import a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order of the help."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None where there is no such one."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(".")
        with signals.importing():
            command: click.Command = getattr(import_module(f"ltdata.cli.{module}"), name)
        return command


def main() -> None:
    """Run the `ltdata` command."""
    console.run(cli, name="ltdata")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ltdata")
def cli() -> None:
    """Build reproducible long-tailed image data sets, look at them, compare, pass on, and check them."""
