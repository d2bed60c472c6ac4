"""`ltdata stats`: figures for people and machines, the HTML report, the figure for papers."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ltdata import catalog, histogram, output
from ltdata.cli.options import UNVERIFIED, force_option, groups_option, json_option, laid_out, quiet_option, shown
from ltdata.errors import UsageError
from ltdata.files import make_folder, write_atomic
from ltdata.fits import FAMILIES, INTERVAL, QUALITY, RESAMPLES, SEED, TITLES, figure_words, interval_words, verdict
from ltdata.groups import GROUP_NAMES
from ltdata.manifest import Manifest
from ltdata.overlap import Overlap, overlap, source_words
from ltdata.plot import draw, form_of
from ltdata.stats import FrequencyStats, frequency_stats, gini

_SHOWN_CLASSES = 10


@click.command()
@click.argument("what", metavar="SPLIT")
@click.argument("other", metavar="[OTHER]", required=False)
@groups_option(None)
@click.option("--html", type=click.Path(path_type=Path), help="Write a report: one page that needs no network.")
@click.option("--mosaic", is_flag=True, help="Show images of head, middle and tail classes in it (mind their terms).")
@click.option("--plot", type=click.Path(path_type=Path), help="Write a figure for papers: .png, .svg or .pdf.")
@force_option
@json_option
@quiet_option
def stats(
    what: str,
    other: str | None,
    group_rule: str | None,
    html: Path | None,
    mosaic: bool,
    plot: Path | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Describe the class frequencies of SPLIT: a built folder, a manifest file, or a pinned split's name.

    With OTHER, say also what the class distributions of both have in common.

    Example: ltdata stats cifar100-lt-exp-if100 --html report.html
    """
    if mosaic and html is None:
        raise UsageError("--mosaic: shows images in a report; name its file with --html")
    if html is not None and plot is not None and html.resolve() == plot.resolve():
        raise UsageError(f"--plot {plot}: is the file of --html too; name another")
    outputs = [path for path in (html, plot) if path is not None]
    form = form_of(plot) if plot is not None else ""  # what cannot be is refused before anything is read
    for out in outputs:
        output.check_new_file(out, force=force)
    found = catalog.find(what)
    manifest, figures = _described(found.manifest, group_rule)
    second = _described(catalog.find(other).manifest, group_rule) if other is not None else None
    both = overlap(manifest, second[0]) if second is not None else None
    makers: list[tuple[Path | None, Callable[[], bytes]]] = [
        (html, lambda: _page(manifest, figures, what, found.folder, second and second[0], both, mosaic=mosaic)),
        (plot, lambda: draw(manifest, figures, form=form, other=second and second[0])),
    ]
    made = [(path, make()) for path, make in makers if path is not None]  # all of them before the first is written
    for path, data in made:
        make_folder(path.parent)
        write_atomic(path, data)
        if not quiet:
            click.echo(laid_out([f"{shown(path)}: written"]), err=True)
    if as_json:
        record = _record(manifest, figures)
        if second is not None and both is not None:
            record |= {"other": _record(*second), "overlap": asdict(both)}
        click.echo(json.dumps(record | ({"files": [str(path) for path in outputs]} if outputs else {})))
        return
    click.echo(format_stats(manifest, figures))
    if second is not None and both is not None:
        click.echo("\n" + format_overlap(manifest, second[0], both))


def _described(manifest: Manifest, group_rule: str | None) -> tuple[Manifest, FrequencyStats]:
    if group_rule is not None:
        manifest = manifest.with_groups(group_rule)
    rule = manifest.group_rule["name"]
    return manifest, frequency_stats(manifest.class_counts, rule=rule, class_groups=manifest.groups)


def _page(
    manifest: Manifest,
    figures: FrequencyStats,
    what: str,
    folder: Path | None,
    other: Manifest | None,
    both: Overlap | None,
    *,
    mosaic: bool,
) -> bytes:
    from ltdata import page
    from ltdata.page.loading import loading_lines
    from ltdata.page.mosaic import make_mosaic

    return page.compose(
        manifest,
        figures,
        loading_lines(manifest, what, folder),
        warning=UNVERIFIED if manifest.verified is False else None,
        other=(other, both) if other is not None and both is not None else None,
        mosaic=make_mosaic(manifest, folder, what=what) if mosaic else None,
    )


def _record(manifest: Manifest, figures: FrequencyStats) -> dict[str, Any]:
    record = {
        "name": manifest.name,
        "content_sha256": manifest.content_sha256,
        "verified_source": manifest.verified,
        "fit_interval": {"level": 0.95, "meaning": INTERVAL, "resamples": RESAMPLES, "seed": SEED},
    }
    return record | asdict(figures)


def format_stats(manifest: Manifest, found: FrequencyStats) -> str:
    """Lay the statistics out for people: figures, groups, histogram."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    terminal = sys.stdout.isatty()
    columns = shutil.get_terminal_size().columns if terminal else histogram.MAX_COLUMNS
    factor = f"{found.imbalance_factor:.4g}" if found.imbalance_factor is not None else "n/a (a class is empty)"
    content = f"sha256 {manifest.content_sha256}" if manifest.content_sha256 else "n/a (build it to get the digest)"
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
        *(f"  {f'{TITLES[family]} fit':19}  {_fit(found, family)}" for family in FAMILIES),
        f"  described by         {verdict(found.fits)} (needs {QUALITY})",
        *(
            [f"  95 % interval        {INTERVAL}"]
            if any(map(interval_words, filter(None, found.fits.values())))
            else []
        ),
        f"  content              {content}",
        *([] if manifest.verified is not False else [f"  source               {UNVERIFIED}"]),
        "",
        (
            f"  group   classes   images   share   (rule {found.rule}: many {manifest.group_rule['many']}, "
            f"few {manifest.group_rule['few']})"
        ),
    ]
    for name, group in found.groups.items():
        share = f"{group.share:.1%}" if group.share is not None else "n/a"
        lines.append(f"  {name:6}  {group.classes:7,}  {group.images:7,}  {share:>6}")
    chart = histogram.draw(
        manifest.class_counts,
        manifest.groups,
        columns=columns,
        colour=terminal and "NO_COLOR" not in os.environ,
        ascii_only=encoding != "utf8",
    )
    return "\n".join([laid_out(lines), "", "  images per class, sorted, log scale", chart])


def _fit(found: FrequencyStats, family: str) -> str:
    """Lay one fit out in a line."""
    fit = found.fits[family]
    if fit is None:
        return "n/a"
    interval = interval_words(fit)
    bounds = f" (95 % interval {interval})" if interval is not None else ""
    return f"{FAMILIES[family]} {figure_words(family, fit)}{bounds}, R2 {fit.r_squared:.4f}, KS {fit.ks:.4f}"


def format_overlap(a: Manifest, b: Manifest, found: Overlap) -> str:
    """Lay out for people what two splits have in common."""
    rho = f"{found.rank_correlation:.4f}" if found.rank_correlation is not None else "n/a"
    lines = [
        f"compared with {b.name}, {b.splits['train'].num_samples:,} images",
        (
            f"  its classes          {b.num_classes:,}, {b.class_counts.max():,} .. {b.class_counts.min():,} images, "
            f"Gini {gini(b.class_counts):.3f}"
        ),
        *([] if b.verified is not False else [f"  its source           {UNVERIFIED}"]),
    ]
    if found.total_variation is None or found.jensen_shannon_bits is None:
        reason = f"{source_words(a)} and {source_words(b)} are different sources without a class name in common"
        return laid_out([*lines, f"  classes              not matched: {reason}"])
    lines += [
        (
            f"  classes              {len(found.shared):,} in both, {len(found.only_a):,} only in {a.name}, "
            f"{len(found.only_b):,} only in {b.name} (by {found.matched_by})"
        ),
        f"  total variation      {found.total_variation:.4f}",
        f"  Jensen-Shannon       divergence {found.jensen_shannon_bits:.4f} bits",
        f"  rank correlation     {rho} (Spearman, of the classes in both)",
        "",
        f"  {'group here':12}" + "".join(f"{f'{after} there':>14}" for after in GROUP_NAMES),
    ]
    lines += [
        f"  {before:12}" + "".join(f"{found.moves[before][after]:14,}" for after in GROUP_NAMES)
        for before in GROUP_NAMES
    ]
    changed = sorted(found.shared, key=lambda each: -abs(each.images_b - each.images_a))
    changed = [each for each in changed if each.images_a != each.images_b]
    if changed:
        lines += ["", f"  {'class, largest change first':30}{'here':>8}{'there':>8}"]
        lines += [
            f"  {' '.join(each.name.split())[:28]:30}{each.images_a:8,}{each.images_b:8,}"
            for each in changed[:_SHOWN_CLASSES]
        ]
    more = len(changed) - _SHOWN_CLASSES
    return laid_out([*lines, *([f"  and {more:,} classes more; --json has all"] if more > 0 else [])])
