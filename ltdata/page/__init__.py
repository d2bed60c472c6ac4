"""One self-contained HTML page about a split: no network, no library, one file to open or to send.

The page works without JavaScript for all but the interactive chart and the class table. Its content-security policy
allows nothing but the one script and the one style sheet inside it, by their SHA-256, and data: images.
"""

from base64 import b64encode
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from ltdata import __version__, fits, histogram
from ltdata.files import sha256
from ltdata.groups import GROUP_NAMES
from ltdata.manifest import Manifest
from ltdata.overlap import Overlap
from ltdata.page import sections
from ltdata.page.loading import Lines
from ltdata.page.markup import clean, name, script_json, text
from ltdata.page.mosaic import Mosaic
from ltdata.stats import FrequencyStats

MOST_BYTES = 2_000_000
_NAMES_BYTES = 800_000  # of all class names together, as JSON; beyond it long ones are cut
_CAPTION = 80  # characters of a name beside and behind a thumbnail: it is there up to seven times
_CURVE_POINTS = 60


def compose(
    manifest: Manifest,
    found: FrequencyStats,
    lines: Sequence[Lines],
    *,
    warning: str | None = None,
    other: tuple[Manifest, Overlap] | None = None,
    mosaic: Mosaic | None = None,
) -> bytes:
    """Write the page; the same arguments give the same bytes.

    Args:
        manifest: of the split.
        found: its statistics.
        lines: that load it.
        warning: shown under the title, such as that the source is unverified.
        other: a second split, and what the two have in common.
        mosaic: thumbnails.

    Returns:
        UTF-8, at most `MOST_BYTES` at 8,142 classes.
    """
    style, script, body = (_part(f"report.{suffix}") for suffix in ("css", "js", "html"))
    names, longest = _names(manifest)
    chart = histogram.draw(manifest.class_counts, manifest.groups)
    links = [("frequency", "Frequency"), ("groups", "Groups"), ("fits", "Fits"), ("lorenz", "Lorenz")]
    optional = ""
    if other is not None:
        links.append(("comparison", "Comparison"))
        optional += _section("comparison", "Comparison", sections.comparison(manifest, *other))
    if mosaic is not None:
        links.append(("mosaic", "Images"))
        most = min(longest or _CAPTION, _CAPTION)
        captions = {row.label: _cut(clean(manifest.class_names[row.label]), most) for row in mosaic.rows}
        optional += _section("mosaic", "Head, middle and tail", sections.mosaic(manifest, mosaic, captions))
    links += [("classes", "Classes"), ("loading", "Loading"), ("provenance", "Provenance")]
    return (
        Template(body)
        .substitute(
            policy=f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
            "base-uri 'none'; form-action 'none'",
            style=style,
            script=script,
            title=text(f"{manifest.name}: class frequencies"),
            name=name(manifest.name),
            lead=text(sections.lead(found)),
            warning=f'<p class="warning" role="note">Source {text(warning)}</p>' if warning else "",
            links="\n".join(f'<a href="#{target}">{label}</a>' for target, label in links),
            figures=sections.figures(manifest, found),
            histogram=text(chart),
            fit_toggles=_fit_toggles(found),
            groups=sections.group_table(manifest, found),
            fits=sections.fit_table(found),
            interval=text(fits.INTERVAL),
            resamples=fits.RESAMPLES,
            lorenz=sections.lorenz_chart(manifest, found),
            lorenz_words=text(sections.lorenz_words(manifest, found)),
            optional=optional,
            cut=f"Names longer than {longest} characters are cut in the middle." if longest else "",
            loading=sections.loading(lines),
            digests=sections.digests(manifest),
            provenance=sections.provenance(manifest),
            version=text(__version__),
            data=script_json(_data(manifest, found, names, other)),
        )
        .encode()
    )


def _part(file: str) -> str:
    return (files("ltdata.page") / file).read_text(encoding="utf-8")


def _hash(block: str) -> str:
    return f"'sha256-{b64encode(sha256(block.encode()).digest()).decode()}'"


def _section(key: str, title: str, content: str) -> str:
    return (
        f'<section id="{key}" aria-labelledby="{key}-title">\n<h2 id="{key}-title">{title}</h2>\n{content}\n</section>'
    )


def _names(manifest: Manifest) -> tuple[list[str], int | None]:
    """Return the class names, and the length to which they had to be cut; None where all are whole."""
    names = [clean(each) for each in manifest.class_names]
    for longest in (None, 200, 120, 80, 50, 30, 16):
        shown = [_cut(each, longest) for each in names]
        if len(script_json(shown).encode()) <= _NAMES_BYTES:
            return shown, longest
    return [_cut(each, 16) for each in names], 16


def _cut(whole: str, longest: int | None) -> str:
    if longest is None or len(whole) <= longest:
        return whole
    return f"{whole[: longest // 2]}...{whole[-(longest // 2 - 3) :]}"


def _fit_toggles(found: FrequencyStats) -> str:
    return "\n".join(
        f'<label class="fit-{family}"><input type="checkbox" data-fit="{family}"'
        f"{' checked' if family == found.best_fit else ''}> {fits.TITLES[family]} fit</label>"
        for family, fit in found.fits.items()
        if fit is not None
    )


def _data(
    manifest: Manifest, found: FrequencyStats, names: list[str], other: tuple[Manifest, Overlap] | None
) -> dict[str, Any]:
    """Return what the script draws."""
    there = found.classes - found.empty_classes
    ranks = np.unique(
        np.concatenate([np.linspace(0, there - 1, _CURVE_POINTS), np.geomspace(1, there, _CURVE_POINTS) - 1]).round(2)
    )
    curves = {
        family: [
            [round(rank + 1, 2), float(f"{height:.4g}")]
            for rank, height in zip(
                ranks.tolist(), fits.curve(family, fit, classes=there, ranks=ranks).tolist(), strict=True
            )
        ]
        for family, fit in found.fits.items()
        if fit is not None
    }
    data: dict[str, Any] = {
        "names": names,
        "counts": manifest.class_counts.tolist(),
        "groups": "".join(map(str, manifest.groups.tolist())),
        "groupNames": list(GROUP_NAMES),
        "rule": manifest.group_rule["name"],
        "conditions": sections.conditions(manifest),
        "curves": curves,
    }
    if other is not None:
        counts = np.sort(other[0].class_counts)[::-1]
        data["other"] = {"name": clean(other[0].name), "counts": counts[counts > 0].tolist()}
    return data
