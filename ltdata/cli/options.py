"""Options that several commands have, and how paths are shown."""

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from ltdata import groups, profiles
from ltdata.errors import UsageError, escaped

UNVERIFIED = "UNVERIFIED: its files do not have the published digest"

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
quiet_option = click.option("--quiet", is_flag=True, help="No progress, no messages; errors and data only.")
out_option = click.option("--out", type=click.Path(path_type=Path), required=True, help="Where the result goes.")
force_option = click.option("--force", is_flag=True, help="Replace what stands there.")


class Whole(click.IntRange):
    """Take a whole number in digits alone, of a range; `int` takes 1_0 for 10, too, and digits of every script."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        if isinstance(value, str) and not re.fullmatch("[+-]?[0-9]{1,20}", value):
            self.fail(f"{value[:40]!r} is not a whole number.", param, ctx)
        number: int = super().convert(value, param, ctx)
        return number


class Real(click.FloatRange):
    """Take a number as `to_float` reads it, of a range; `click.FloatRange` lets nan through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            number: float = super().convert(to_float(str(value)), param, ctx)
        except ValueError:
            self.fail(f"{str(value)[:40]!r} is not a number.", param, ctx)
        if math.isnan(number):
            self.fail("nan is not a number.", param, ctx)
        return number


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


def to_float(text: str) -> float:
    """Return the number that a text is; `float` takes 1_0 for 10, too, and digits of every script.

    Raises:
        ValueError: it is none.
    """
    if not text.isascii() or "_" in text:
        raise ValueError(text)
    return float(text)


def parse_number(
    check: Callable[[float], float], what: str
) -> Callable[[click.Context, click.Parameter, str | None], float | None]:
    """Make a callback that reads a number strictly and checks it."""

    def parse(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
        if value is None:
            return None
        try:
            return check(to_float(value))
        except UsageError as error:
            raise click.BadParameter(str(error)) from None
        except ValueError:
            raise click.BadParameter(
                f"{what.partition(',')[0]} {value[:40]!r}: it is a number, {what.partition(', ')[2]}"
            ) from None

    return parse


parse_imbalance_factor = parse_number(profiles.check_imbalance_factor, "imbalance factor, n_max / n_min, such as 100")
parse_alpha = parse_number(profiles.check_alpha, "alpha, such as 6")


def laid_out(lines: Iterable[str]) -> str:
    """Lay lines out for people; a name in one of them can neither end it nor do anything to a terminal."""
    return "\n".join(map(escaped, lines))


def shown(path: Path) -> Path:
    """Return the path as people would type it: relative where it lies below the current folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
