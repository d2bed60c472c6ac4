"""Positions beside the pinned splits, which need no data: equal to one, nested in one, or near one."""

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ltdata import pinned, profiles
from ltdata.compare import count_labels
from ltdata.formats.foreign import ForeignSplit
from ltdata.identify.answer import CLASS_COUNTS, UNKNOWN, Answer
from ltdata.identify.counts import LARGEST, describe, facts_of, fit
from ltdata.identify.published import Candidate, enough
from ltdata.identify.rows import SAME, find, label_fault, match, matched, positions_of, repeats, share
from ltdata.manifest import Manifest
from ltdata.samples import Samples


def by_pinned(split: str, rows: ForeignSplit, source: str | None) -> Answer | None:
    """Find the pinned split that has these images, or whose first images of each class they are.

    Args:
        split: its name.
        rows: with positions.
        source: compare with splits of this one alone; None for all.

    Returns:
        None where there is none.
    """
    if split != "train":
        return None  # theirs is the whole of the source's
    for header in _headers(source, split):
        if header.splits[split].num_samples != len(rows):
            continue
        known = _rows(header.name, split)
        found = match(positions_of(rows), known.positions)
        if found.order is not None:
            params = header.protocol["params"]
            facts = {
                "source": header.source["id"],
                "pinned": header.name,
                "content_sha256": header.content_sha256,
                "protocol": header.protocol["name"],
                **{name: params[name] for name in ("seed", "profile", "imbalance_factor")},
            }
            title = (
                f"{header.name} (pinned: {header.protocol['name']}, seed {params['seed']}, {params['profile']}, "
                f"imbalance factor {profiles.factor_text(params['imbalance_factor'])})"
            )
            fault = label_fault(rows, known.labels[find(positions_of(rows), known.positions)])
            evidence = (f"content sha256 {header.content_sha256}",) if found.order == SAME and fault is None else ()
            return matched(split, title, found.order, facts, fault, evidence=evidence)
    return next(filter(None, (_nested(split, rows, header) for header in _headers(source, split))), None)


def nearest(split: str, rows: ForeignSplit, source: str | None) -> Answer:
    """Say which pinned split is nearest, how many of these images it has, and what the rows' own labels count."""
    positions = positions_of(rows)
    best: tuple[float, int, int, str] = (0.0, 0, 0, "")
    for header in _headers(source, split):
        known = _rows(header.name, split)
        common = match(positions, known.positions).common
        best = max(best, (common / (len(positions) + len(known) - common), common, len(known), header.name))
    _, common, size, name = best
    evidence = f"none of its {len(positions):,} images is in any of them"
    if common:
        evidence = f"{share(common, len(positions))} are among the {size:,} of {name}, the nearest pinned split"
    told = (*repeats(positions), evidence)
    facts = {"nearest": {"pinned": name, "images": common}} if common else {}
    counts = count_labels(rows.labels) if rows.labels is not None else np.zeros(0, np.int64)
    for of, (num_classes, largest) in LARGEST.items():
        if (
            split == "train"
            and source in {None, of}
            and num_classes == len(counts)
            and (fitted := fit(counts, largest))
        ):
            headline = f"has the class counts of {of}, {describe(fitted, counts, largest)}; it is no pinned split"
            return Answer(split, CLASS_COUNTS, headline, (*fitted.notes, *told), facts_of(of, counts, fitted) | facts)
    return Answer(split, UNKNOWN, "is no pinned split", told, facts)


def labels_of_whole(source: str, split: str) -> NDArray[np.int64] | None:
    """Return the labels of a source's whole split, where pinned splits have it whole: the test sets."""
    for header in _headers(source, split):
        known = _rows(header.name, split)
        whole = np.array_equal(known.positions, np.arange(len(known)))
        return known.labels if split == "test" and whole else None
    return None


def _headers(source: str | None, split: str) -> Iterator[Manifest]:
    """Yield the headers of the pinned splits that have rows of positions."""
    for name in pinned.names():
        header = pinned.header(name)
        if split in header.splits and header.splits[split].samples_sha256 and source in {None, header.source["id"]}:
            yield header


@cache
def _rows(name: str, split: str) -> Samples:
    return pinned.load(name).rows[split]


def _nested(split: str, rows: ForeignSplit, header: Manifest) -> Answer | None:
    """Tell whether rows are the first images of each class of a pinned split: the splits of one seed are nested."""
    positions, known = positions_of(rows), _rows(header.name, split)
    if len(rows) >= len(known) or not np.isin(positions, known.positions).all():
        return None
    labels = known.labels[find(positions, known.positions)]
    source = str(header.source["id"])
    num_classes, size = LARGEST[source]
    counts = np.bincount(labels, minlength=num_classes)
    by_class = [np.flatnonzero(known.labels == label)[:count] for label, count in enumerate(counts.tolist())]
    found = match(positions, known.positions[np.sort(np.concatenate(by_class))])
    if found.order is None or not enough(counts, np.full(num_classes, size), found.order, tried=len(LARGEST)):
        return None
    params = header.protocol["params"]
    fitted = fit(counts, size)
    title = f"{source}, {describe(fitted, counts, size)}, {Candidate('ldam', params['seed'], positions).title}"
    facts = facts_of(source, counts, fitted) | {"protocol": header.protocol["name"], "seed": params["seed"]}
    evidence = f"the first images of each class of {header.name}: splits of one seed are nested"
    return matched(
        split,
        title,
        found.order,
        facts,
        label_fault(rows, labels),
        evidence=(evidence, *(fitted.notes if fitted else ())),
    )
