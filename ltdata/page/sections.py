"""The parts of the page that need no JavaScript: figures, groups, fits, Lorenz curve, comparison, images, digests."""

from collections.abc import Mapping, Sequence

import numpy as np

from ltdata.fits import FAMILIES, QUALITY, TITLES, closest, figure_words, interval_words, verdict
from ltdata.groups import GROUP_NAMES
from ltdata.manifest import Manifest
from ltdata.overlap import Overlap, source_words
from ltdata.page.loading import Lines
from ltdata.page.markup import code, described, name, table, text, value
from ltdata.page.mosaic import Mosaic
from ltdata.stats import FrequencyStats, gini, lorenz

_LORENZ_POINTS = 200
_MOST_SHARDS = 400
_NO_DIGEST = "n/a (build it to get the digest)"
_EXPLAINED = {
    "exponential": "falls by the same factor from class to class",
    "pareto": "few large classes, then a long even tail",
    "zipf": "falls as a power of the rank, a straight line where both scales are log",
}


def lead(found: FrequencyStats) -> str:
    """Say in two sentences what this split is."""
    there = found.classes - found.empty_classes
    sizes = (
        f"The largest class has {found.largest:,}, the smallest {found.smallest:,}: "
        f"an imbalance factor of {found.imbalance_factor:.4g}."
        if found.imbalance_factor is not None
        else f"The largest class has {found.largest:,}; {found.empty_classes:,} classes have none, "
        "so there is no imbalance factor."
    )
    return (
        f"{found.images:,} training images in {there:,} classes. {sizes} "
        f"The largest 20 % of the classes hold {found.head_share:.1%} of the images."
    )


def figures(manifest: Manifest, found: FrequencyStats) -> str:
    """Show the figures as tiles, each with what it means."""
    others = ", ".join(f"{split.num_samples:,} {text(key)}" for key, split in manifest.splits.items() if key != "train")
    factor = f"{found.imbalance_factor:.4g}" if found.imbalance_factor is not None else "n/a"
    tiles = [
        ("training images", f"{found.images:,}", f"and {others}" if others else "no other split"),
        ("classes", f"{found.classes:,}", f"{found.empty_classes:,} of them empty" if found.empty_classes else ""),
        ("imbalance factor", factor, "largest class / smallest class"),
        ("largest class", f"{found.largest:,}", "images"),
        ("median class", f"{found.median:,.6g}", "images"),
        ("smallest class", f"{found.smallest:,}", "images"),
        ("Gini", f"{found.gini:.3f}", "0 all equal, towards 1 one has all"),
        ("effective classes", f"{found.effective_classes:,.1f}", f"2 ^ entropy, {found.entropy_bits:.3f} bits"),
        ("head share", f"{found.head_share:.1%}", "of the images in the largest 20 % of the classes"),
    ]
    return "\n".join(
        f'<div class="tile"><dt>{label}</dt><dd>{figure}</dd><dd class="note">{note}</dd></div>'
        for label, figure, note in tiles
    )


def conditions(manifest: Manifest) -> dict[str, str]:
    """Return what the named rule asks of each group."""
    return {"many": manifest.group_rule["many"], "medium": "between", "few": manifest.group_rule["few"]}


def group_table(manifest: Manifest, found: FrequencyStats) -> str:
    """Show the groups and the conditions of the named rule."""
    rule = manifest.group_rule
    rows = [
        [
            f'<span class="swatch {group}"></span>{group}-shot',
            text(conditions(manifest)[group]),
            f"{each.classes:,}",
            f"{each.images:,}" if each.classes else "n/a",
            f"{each.share:.1%}" if each.share is not None else "n/a",
        ]
        for group, each in found.groups.items()
    ]
    note = "" if manifest.class_groups is None else ". A part of a split keeps the groups of the whole"
    caption = f"Rule {name(rule['name'])}, n: training images of a class{note}."
    return table(
        ["group", "condition", "classes", "images", "share"], rows, caption=caption, classes="stack", numbers=2
    )


def fit_table(found: FrequencyStats) -> str:
    """Say which family describes the counts, and show the fits, the closest one first."""
    near = closest(found.fits)
    distances = {family: fit.ks for family, fit in found.fits.items() if fit is not None}
    rows = []
    for family in sorted(FAMILIES, key=lambda family: distances.get(family, np.inf)):
        fit = found.fits[family]
        mark = ' <strong class="best">describes it</strong>' if family in near else ""
        title = f'{TITLES[family].capitalize()}{mark}<span class="note">{_EXPLAINED[family]}</span>'
        if fit is None:
            rows.append([title, FAMILIES[family], *["n/a"] * 5])
            continue
        figure, interval = text(figure_words(family, fit)), interval_words(fit) or "n/a"
        p = "n/a" if fit.ks_p is None else f"{fit.ks_p:.3f}"
        rows.append([title, FAMILIES[family], figure, interval, f"{fit.r_squared:.4f}", f"{fit.ks:.4f}", p])
    head = ["family", "figure", "value", "95 % interval", "R²", "KS", "p of KS"]
    caption = f"Described by <strong>{verdict(found.fits)}</strong> (needs {text(QUALITY)})."
    return table(head, rows, caption=caption, classes="stack", numbers=2)


def lorenz_chart(manifest: Manifest, found: FrequencyStats) -> str:
    """Draw the Lorenz curve as SVG, 0 .. 300 both ways."""
    shares = lorenz(manifest.class_counts)
    places = np.unique(np.linspace(0, len(shares) - 1, min(len(shares), _LORENZ_POINTS + 1)).round().astype(int))
    at = [(300 * place / (len(shares) - 1), 300 - 300 * shares[place]) for place in places.tolist()]
    curve = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    grid = "".join(f'<path class="grid" d="M{p} 0V300M0 {p}H300"/>' for p in (75, 150, 225))
    ticks = "".join(
        f'<text x="{3 * p}" y="318" text-anchor="middle">{p}</text>'
        f'<text x="-8" y="{304 - 3 * p}" text-anchor="end">{p}</text>'
        for p in (0, 50, 100)
    )
    return (
        '<svg class="lorenz" viewBox="-48 -8 362 366" role="img" aria-labelledby="lorenz-title">'
        f'<title id="lorenz-title">Lorenz curve, Gini {found.gini:.3f}</title>'
        f'{grid}<path class="frame" d="M0 0H300V300H0Z"/>'
        f'<polygon class="inequality" points="{curve}"/><path class="equality" d="M0 300L300 0"/>'
        f'<polyline class="curve" points="{curve}"/>{ticks}'
        '<text class="axis" x="150" y="344" text-anchor="middle">% of the classes, smallest first</text>'
        '<text class="axis" transform="translate(-36 150) rotate(-90)" text-anchor="middle">% of the images</text>'
        f'<text class="gini" x="18" y="40">Gini {found.gini:.3f}</text></svg>'
    )


def lorenz_words(manifest: Manifest, found: FrequencyStats) -> str:
    """Say what the Lorenz curve shows."""
    shares = lorenz(manifest.class_counts)
    half = shares[(len(shares) - 1) // 2]
    return (
        f"The smaller half of the classes holds {half:.1%} of the images, the largest 20 % hold "
        f"{found.head_share:.1%}. Were all classes of one size, the curve would be the diagonal; the Gini coefficient "
        f"is twice the area between the two: {found.gini:.3f}."
    )


def comparison(a: Manifest, b: Manifest, both: Overlap) -> str:
    """Show what a split A has in common with another, B."""
    rho = f"{both.rank_correlation:.4f}" if both.rank_correlation is not None else "n/a"
    sizes = f"{b.class_counts.max():,} .. {b.class_counts.min():,} images, Gini {gini(b.class_counts):.3f}"
    facts = [
        ("compared with", name(b.name)),
        ("its content", code(f"sha256 {b.content_sha256}") if b.content_sha256 else _NO_DIGEST),
        ("its images", f"{b.splits['train'].num_samples:,} train"),
        ("its classes", f"{b.num_classes:,}, {sizes}"),
    ]
    if both.total_variation is None or both.jensen_shannon_bits is None:
        sources = f"{name(source_words(a))} and {name(source_words(b))}"
        reason = f"not matched: {sources} are different sources without a class name in common"
        return described([*facts, ("classes", reason)])
    facts += [
        (
            "classes",
            (
                f"{len(both.shared):,} in both, {len(both.only_a):,} here alone, {len(both.only_b):,} there alone, "
                f"matched by {both.matched_by}"
            ),
        ),
        ("total variation", f"{both.total_variation:.4f} (0 the same shares, 1 no class in common)"),
        ("Jensen-Shannon", f"divergence {both.jensen_shannon_bits:.4f} bits (0 .. 1)"),
        ("rank correlation", f"{rho} (Spearman, of the classes in both)"),
    ]
    rows = [
        [f'<span class="swatch {before}"></span>{before}', *(f"{both.moves[before][after]:,}" for after in GROUP_NAMES)]
        for before in GROUP_NAMES
    ]
    moves = table(
        ["here / there", *GROUP_NAMES], rows, caption="Classes in both, by group: here in rows, there in columns."
    )
    return f'{described(facts)}<div class="scroll">{moves}</div>'


def mosaic(manifest: Manifest, shown: Mosaic, names: Mapping[int, str]) -> str:
    """Show thumbnails of head, middle and tail classes, by names that are cut, and whose they are."""
    groups, counts = manifest.groups, manifest.class_counts
    blocks = []
    for part in ("head", "middle", "tail"):
        rows = [
            f'<figure class="{GROUP_NAMES[groups[row.label]]}"><figcaption>{name(names[row.label])} '
            f'<span class="note">{counts[row.label]:,}</span></figcaption>'
            + "".join(f'<img src="{uri}" alt="{text(names[row.label])}">' for uri in row.images)
            + "</figure>"
            for row in shown.rows
            if row.part == part
        ]
        blocks.append(f"<h3>{part}</h3>" + "\n".join(rows) if rows else "")
    terms = [str(manifest.source[key]) for key in ("terms", "notice") if manifest.source.get(key)]
    known = name(". ".join(terms) or "not known")
    note = f"The images keep their own terms: {known}. Pass this page on only as these allow."
    kind = "pixelled" if shown.pixelled else "photographs"
    return f'<p class="notice">{note}</p><div class="mosaic {kind}">' + "\n".join(blocks) + "</div>"


def loading(lines: Sequence[Lines]) -> str:
    """Show the lines that load the split, each with a button that copies it."""
    return "\n".join(
        f'<div class="lines"><h3>{text(each.title)}</h3>{_copy(f"lines-{number}")}'
        f'<pre id="lines-{number}" tabindex="0"><code>{text(each.code)}</code></pre>'
        + (f'<p class="note">{text(each.note)}</p>' if each.note else "")
        + "</div>"
        for number, each in enumerate(lines)
    )


def digests(manifest: Manifest) -> str:
    """Show the digests that tell this split from every other."""
    entries = [("content", manifest.content_sha256, "which images, with which labels, in which order")]
    for key, split in manifest.splits.items():
        entries.append((f"rows of {key}", split.samples_sha256, f"{split.num_samples:,} rows"))
        if split.list_sha256 is not None:
            entries.append((f"list of {key}", split.list_sha256, "its rows as a text list"))
    written = []
    for number, (title, digest, note) in enumerate(entries):
        shown = f'<code id="digest-{number}">{text(digest)}</code>{_copy(f"digest-{number}")}' if digest else _NO_DIGEST
        written.append((title, f'{shown}<span class="note">{text(note)}</span>'))
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    rows = [[name(each.path), f"{each.num_samples:,}", f"{each.bytes:,}", code(each.sha256)] for each in shards]
    if not rows:
        return described(written)
    more = f"<p>and {len(rows) - _MOST_SHARDS:,} more</p>" if len(rows) > _MOST_SHARDS else ""
    return (
        described(written)
        + f'<details><summary>{len(rows):,} shards</summary><div class="scroll">'
        + table(["shard", "images", "bytes", "sha256"], rows[:_MOST_SHARDS])
        + f"</div>{more}</details>"
    )


def provenance(manifest: Manifest) -> str:
    """Show where the images are from, how they were chosen, and what to cite."""
    entries = [
        ("source", value(dict(manifest.source))),
        ("protocol", value(dict(manifest.protocol))),
        ("group rule", value(dict(manifest.group_rule))),
        *([("storage", value(dict(manifest.storage)))] if manifest.storage else []),
        *([("view of", value(dict(manifest.view_of)))] if manifest.view_of else []),
        ("cite", value(list(manifest.citation))),
        ("made by", value(dict(manifest.created_by))),
    ]
    return described(entries)


def _copy(target: str) -> str:
    return f'<button type="button" class="copy" data-copy="{target}" hidden>Copy</button>'
