"""`ltdata diff`, `ltdata identify`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from ltdata import compare, given
from ltdata import identify as identifying
from ltdata.cli.options import Whole, json_option, laid_out
from ltdata.compare import ClassDiff, Diff, SplitDiff
from ltdata.errors import escaped
from ltdata.files import sha256_bytes
from ltdata.formats.known import POSITIONED
from ltdata.given import Given
from ltdata.identify import Identified, Search
from ltdata.samples import Samples, list_bytes

DIFFERENT = UNRECOGNISED = 3  # exit codes
_SHOWN_CLASSES = 10


@click.command()
@click.argument("what_a", metavar="A")
@click.argument("what_b", metavar="B")
@click.option("--split", metavar="NAME", help="Compare this split alone, such as train.")
@click.option("--names", is_flag=True, help="Print every image that differs, too.")
@json_option
@click.pass_context
def diff(ctx: click.Context, what_a: str, what_b: str, split: str | None, names: bool, as_json: bool) -> None:
    """Say how two splits differ: images, labels, order, by class and shot group.

    A and B: a built folder, a manifest, a pinned split's name, or a file that ltdata import reads (lists, index arrays,
    CSV, JSON). Ends with 0 if they are the same, with 3 if they differ.

    Example: ltdata diff cifar100-lt-exp-if100 indices.npy
    """
    found = compare.compare(given.read(what_a), given.read(what_b), split=split)
    if as_json:
        click.echo(json.dumps(diff_record(found, names=names)))
    else:
        click.echo(format_diff(found))
        if names:
            for line in format_names(found):
                click.echo(line)
    if not found.same:
        ctx.exit(DIFFERENT)


@click.command()
@click.argument("what", metavar="FILE")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder or archive of CIFAR, for its labels.")
@click.option("--source", type=click.Choice(POSITIONED), help="What its positions count  [default: either CIFAR]")
@click.option("--seeds", type=Whole(1, 100_000), default=100, show_default=True, help="Try 0 .. SEEDS - 1.")
@click.option("--unverified", is_flag=True, help="Accept source files without the published digest.")
@json_option
@click.pass_context
def identify(
    ctx: click.Context,
    what: str,
    data_dir: Path | None,
    source: str | None,
    seeds: int,
    unverified: bool,
    as_json: bool,
) -> None:
    """Say which known protocol, seed, imbalance factor, data set or official list FILE is.

    FILE: a list, an index array, CSV, JSON, class counts; a built folder, a manifest. Positions in CIFAR are compared
    with the pinned splits, and, with CIFAR's labels at hand, with what published protocols keep. Ends with 0 if it is
    known which split it is, with 3 if not, even where its class counts are known ones.

    Example: ltdata identify indices.npy --data-dir ~/data
    """
    search = Search(data_dir=data_dir, source=source, seeds=seeds, unverified=unverified)
    found = identifying.identify(what, search)
    click.echo(json.dumps(identified_record(found)) if as_json else format_identified(found))
    if not found.recognised:
        ctx.exit(UNRECOGNISED)


def format_identified(found: Identified) -> str:
    """Lay an answer out for people: what it is, then why."""
    lines = []
    for answer in found.answers:
        part = f" {answer.split}" if len(found.answers) > 1 else ""
        lines += [f"{found.name}{part}: {answer.headline}", *[f"  {line}" for line in answer.evidence]]
    return laid_out([*lines, *[f"  {note}" for note in found.notes]])


def format_diff(found: Diff) -> str:
    """Lay a comparison out for people: one line where nothing differs, else what differs, split by split."""
    lines = [_same(found)]
    if not found.same:
        lines = [
            f"{found.a.name} and {found.b.name} differ",
            f"  A  {_side(found.a)}",
            f"  B  {_side(found.b)}",
            *[line for name in found.splits for line in ("", *_split(found, name))],
        ]
        for names, has, side in ((found.missing_b, "A", found.a), (found.missing_a, "B", found.b)):
            lines += ["", *[f"{name}: only in {has}, {len(side.splits[name]):,} images" for name in names]] * bool(
                names
            )
    for number, ((split_a, split_b), paths) in enumerate(found.shared.items()):
        lines += [""] * (number == 0 and not found.same)
        lines.append(f"{len(paths):,} images of A's {split_a} are in B's {split_b}, the first {paths[0]}")
    return laid_out(lines)


def _same(found: Diff) -> str:
    unlabelled = [
        side.name for side in (found.a, found.b) if any(side.splits[name].labels is None for name in found.splits)
    ]
    line = f"same images{'' if unlabelled else ', labels'} and order: {', '.join(found.splits)}{_digest(found)}"
    unverified = [s.name for s in (found.a, found.b) if s.manifest is not None and s.manifest.verified is False]
    line += f"; UNVERIFIED source: {' and '.join(unverified)}" if unverified else ""
    return line + (f"; no labels to compare in {' and '.join(unlabelled)}" if unlabelled else "")


def _digest(found: Diff) -> str:
    """Write the digest of what is the same: of the manifest, or, between two files of one split, of their list."""
    for side in (found.a, found.b):
        if side.manifest is not None and side.manifest.content_sha256:
            part = "" if list(found.splits) == list(side.manifest.splits) else " of the split with"
            return f"{part or ','} content sha256 {side.manifest.content_sha256}"
    rows = next(iter(found.a.splits.values()))
    if len(found.splits) > 1 or rows.labels is None:
        return ""
    samples = Samples(rows.labels, source_index=rows.positions, source_path=rows.paths)
    return f", list sha256 {sha256_bytes(list_bytes(samples))}"


def _side(side: Given) -> str:
    content = side.manifest.content_sha256 if side.manifest is not None else None
    return ", ".join(
        [
            f"{side.name} ({side.form})",
            *([side.source] if side.source else []),
            *([f"sha256 {content}"] if content else []),
            *(["UNVERIFIED"] if side.manifest is not None and side.manifest.verified is False else []),
        ]
    )


def _split(found: Diff, name: str) -> list[str]:
    split = found.splits[name]
    if split.same:
        compared = (
            "images, labels and order" if split.relabelled is not None else "images and order, labels not compared"
        )
        return [f"{name}: the same {compared}, {split.rows[0]:,} rows"]
    relabelled = f"{len(split.relabelled):,}" if split.relabelled is not None else "not compared, one has no labels"
    if split.renumbered:
        relabelled += "; one renumbering of the classes explains all of them"
    lines = [
        f"{name}: {split.rows[0]:,} rows in A, {split.rows[1]:,} in B",
        f"  in both      {split.common:,}",
        f"  only in A    {len(split.only_a):,}",
        f"  only in B    {len(split.only_b):,}",
        f"  relabelled   {relabelled}",
        f"  order        {_order(split)}",
    ]
    if split.other_bytes:
        lines.append(f"  other bytes  {len(split.other_bytes):,} images of one name, the first {split.other_bytes[0]}")
    if any(split.repeated):
        lines.append(
            f"  repeated     {split.repeated[0]:,} images in A, {split.repeated[1]:,} in B, more than once each"
        )
    if split.same_names:
        lines.append(f"  paths        none in common, and {split.same_names:,} file names: they lie in other folders")
    if split.recounted:
        lines.append(f"  recounted    {len(split.recounted):,} images are listed more often in one than in the other")
    if split.classes:
        lines += ["", f"  {'group':24}  only in A  only in B  relabelled   (rule {found.rule})"]
        lines += [_row(group, _cells(found, name, counts)) for group, counts in found.by_group(name).items()]
        lines += [f"  {'class':24}  only in A  only in B  relabelled", *_classes(found, name)]
    return lines


def _cells(found: Diff, name: str, counts: ClassDiff) -> dict[str, int | None]:
    """Return the numbers of a class or group; None where a side has no labels that would tell."""
    labelled = [side.splits[name].labels is not None for side in (found.a, found.b)]
    return {
        "only_in_a": counts.only_a if labelled[0] else None,
        "only_in_b": counts.only_b if labelled[1] else None,
        "relabelled": counts.relabelled if all(labelled) else None,
    }


def _row(name: str, cells: Mapping[str, int | None]) -> str:
    only_a, only_b, relabelled = ("?" if n is None else f"{n:,}" for n in cells.values())
    return f"  {name[:24]:24}  {only_a:>9}  {only_b:>9}  {relabelled:>10}"


def _order(split: SplitDiff) -> str:
    if not split.common:
        return "no image in common"
    if split.first_elsewhere is None:
        return "the same" if not (split.only_a or split.only_b) else "the same, of the images that both have"
    row_a, row_b = split.first_elsewhere
    return f"{split.elsewhere:,} rows stand elsewhere, the first row {row_a + 1:,} of A ({row_b + 1:,} of B)"


def _classes(found: Diff, name: str) -> list[str]:
    names, classes = found.a.class_names or found.b.class_names, found.splits[name].classes
    top = sorted(classes, key=lambda label: (-classes[label].total, label))
    lines = [
        _row(f"{label} {names[label]}" if label < len(names) else str(label), _cells(found, name, classes[label]))
        for label in top[:_SHOWN_CLASSES]
    ]
    return lines + [f"  and {len(top) - _SHOWN_CLASSES:,} classes more; --json has all"] * (len(top) > _SHOWN_CLASSES)


def format_names(found: Diff) -> Iterator[str]:
    """Name the images that differ, one a line: split, what, place, and labels where they are told."""
    for fields in _names(found):
        yield "\t".join(escaped(str(each)) for each in fields)


def _names(found: Diff) -> Iterator[tuple[object, ...]]:
    for name, split in found.splits.items():
        yield from ((name, "only in A", place) for place in split.only_a)
        yield from ((name, "only in B", place) for place in split.only_b)
        for place, (a, b) in (split.relabelled or {}).items():
            yield name, "relabelled", place, ",".join(map(str, a)), ",".join(map(str, b))
        yield from ((name, "other bytes", place) for place in split.other_bytes)
        for place, times in split.recounted.items():
            yield name, "recounted", place, *times
    for (split_a, split_b), paths in found.shared.items():
        yield from ((split_a, f"in B's {split_b}", path) for path in paths)


def diff_record(diff: Diff, *, names: bool) -> dict[str, Any]:
    """Return what differs as a record for machines; with `names`, the images too."""
    return {
        "same": diff.same,
        **{key: _side_record(side) for key, side in (("a", diff.a), ("b", diff.b))},
        "group_rule": diff.rule,
        "splits": {name: _split_record(diff, name, names=names) for name in diff.splits},
        "splits_only_in_a": list(diff.missing_b),
        "splits_only_in_b": list(diff.missing_a),
        "shared_across_splits": [
            {"a": split_a, "b": split_b, "images": len(paths), **({"names": list(paths)} if names else {})}
            for (split_a, split_b), paths in diff.shared.items()
        ],
    }


def _side_record(side: Given) -> dict[str, Any]:
    return {
        "name": side.name,
        "form": side.form,
        "source": side.source,
        "content_sha256": side.manifest.content_sha256 if side.manifest is not None else None,
    }


def _split_record(diff: Diff, name: str, *, names: bool) -> dict[str, Any]:
    found = diff.splits[name]
    images: dict[str, list[Any]] = {
        "only_in_a": list(found.only_a),
        "only_in_b": list(found.only_b),
        "relabelled": [[place, list(a), list(b)] for place, (a, b) in (found.relabelled or {}).items()],
        "other_bytes": list(found.other_bytes),
        "listed_other_times": [[place, *times] for place, times in found.recounted.items()],
    }
    return {
        "same": found.same,
        "rows_a": found.rows[0],
        "rows_b": found.rows[1],
        "in_both": found.common,
        **{what: len(listed) for what, listed in images.items()},
        **({"relabelled": None} if found.relabelled is None else {}),
        "renumbered": found.renumbered,
        "repeated_a": found.repeated[0],
        "repeated_b": found.repeated[1],
        "elsewhere": found.elsewhere,
        "first_elsewhere": list(found.first_elsewhere) if found.first_elsewhere else None,
        "groups": {group: _cells(diff, name, counts) for group, counts in diff.by_group(name).items()},
        "classes": {str(label): _cells(diff, name, counts) for label, counts in found.classes.items()},
        **({"names": images} if names else {}),
    }


def identified_record(found: Identified) -> dict[str, Any]:
    """Return what was found as a record for machines."""
    return {
        "name": found.name,
        "form": found.form,
        "recognised": found.recognised,
        "splits": {
            answer.split: {
                "certainty": answer.certainty,
                "headline": answer.headline,
                "evidence": list(answer.evidence),
                "facts": dict(answer.facts),
            }
            for answer in found.answers
        },
        "notes": list(found.notes),
    }
