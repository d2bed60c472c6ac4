"""Identify a file: which known protocol, seed, imbalance factor, data set or official list it is.

Nothing is guessed. A split *is exactly* a known one (images, order and labels compared one by one, or digests), *has
the images* of one in another order or with other labels, *has the class counts* of one and no more, or is unknown.
What a file says of itself is told, and proves nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata import given, pinned
from ltdata.errors import LtdataError, UsageError
from ltdata.files import read_bytes
from ltdata.formats.foreign import ForeignSplit
from ltdata.formats.known import POSITIONED
from ltdata.given import Given
from ltdata.identify import counts, lists, pins
from ltdata.identify.answer import EXACT, UNKNOWN, Answer, best
from ltdata.identify.published import POPULAR_SEEDS, by_labels
from ltdata.labels import check_integer
from ltdata.lists import read_text_list
from ltdata.manifest import Manifest
from ltdata.sources import Where, download, load_source

_EITHER = ("cifar100", "cifar10")  # tried where a file does not say what its positions count
_MOST_COUNTS_BYTES = 1 << 20


@dataclass(frozen=True)
class Identified:
    """Hold the answers about a file.

    Attributes:
        name: as it was typed.
        form: what kind of file it is.
        answers: one for every split in it.
        notes: what else to know: what it says of itself, what would tell more.
    """

    name: str
    form: str
    answers: tuple[Answer, ...]
    notes: tuple[str, ...] = ()

    @property
    def recognised(self) -> bool:
        """Tell whether it is known which split every part is."""
        return all(answer.recognised for answer in self.answers)


@dataclass(frozen=True)
class Search:
    """Say where to look.

    Attributes:
        data_dir: folder or archive of CIFAR; None looks into the cache folder, and downloads nothing.
        source: one of `POSITIONED`, where it is known; None tries CIFAR-100 and CIFAR-10.
        seeds: to try, 0 .. seeds - 1, and those that people like.
        unverified: take labels from files without the published digest.
    """

    data_dir: Path | None = None
    source: str | None = None
    seeds: int = 100
    unverified: bool = False

    def __post_init__(self) -> None:
        check_integer("seeds", self.seeds, 0, 100_000)
        if self.source not in (None, *POSITIONED):
            raise UsageError(f"source {self.source!r:.40}: choose one of {', '.join(POSITIONED)}")

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """Return every seed to try, once."""
        return tuple(dict.fromkeys([*range(self.seeds), *POPULAR_SEEDS]))


def identify(what: str, search: Search | None = None) -> Identified:
    """Say which known split a file, a folder or a manifest is.

    Args:
        what: as it was typed.
        search: where to look.

    Raises:
        SourceMissingError: it is not there, or a source that was named is not.
        MismatchError: it is not readable.
        UsageError: it is of no known form.
    """
    search = search or Search()
    path = Path(what)
    if given.is_file(path):
        found = lists.by_bytes(path) or _by_counts(path)
        if found is not None:
            return Identified(what, "file", (found,))
    side = given.read(what, header_alone=True)
    notes = _claims(side)
    if side.manifest is not None and side.manifest.verified is False:
        notes = (*notes, "UNVERIFIED: its source does not have the published digest")
    if side.manifest is not None and (whole := _by_digest(side.manifest)):
        return Identified(what, side.form, (whole,), notes)
    if not side.splits and side.manifest is not None:
        return Identified(what, side.form, tuple(_by_header(side.manifest)), notes)
    labels = _Labels(search)
    answers = tuple(_answer(side, split, rows, labels) for split, rows in side.splits.items())
    return Identified(what, side.form, answers, (*notes, *labels.notes))


class _Labels:
    """Read the labels of sources when they are first asked for, and note why they are not there."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.missing: dict[str, LtdataError] = {}
        self._read: dict[str, Mapping[str, NDArray[np.int64]]] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what was not tried for want of labels."""
        if self.search.data_dir is not None:
            return tuple(f"{source} was not tried: {error}" for source, error in self.missing.items())
        names = " and ".join(self.missing)
        advice = f"the labels of {names} are not here: --data-dir DIR, with its images, would tell of more protocols"
        return (advice,) if names else ()

    def of(self, source: str, split: str) -> NDArray[np.int64] | None:
        """Return the labels of a source's split; None where they are not here."""
        pinned_labels = pins.labels_of_whole(source, split)
        if pinned_labels is not None:
            return pinned_labels
        if source not in self._read:
            place = self.search.data_dir if self.search.data_dir is not None else download.cache_folder()
            where = Where(data_dir=place if source != "digits" else None, unverified=self.search.unverified)
            try:
                splits = load_source(source, where).splits
            except LtdataError as error:
                self.missing[source] = error
                splits = {}
            self._read[source] = {name: part.labels for name, part in splits.items()}
        return self._read[source].get(split)


def _answer(side: Given, split: str, rows: ForeignSplit, labels: _Labels) -> Answer:
    """Say what one split is."""
    if rows.positions is None:
        return lists.by_paths(split, rows, _notes(side, labelled=rows.labels is not None))
    source = labels.search.source or side.source
    found = _as_counts(split, rows) or pins.by_pinned(split, rows, source)
    if found is not None:
        return found
    names = _EITHER if source is None else (source,) if source in POSITIONED else ()
    tried: list[Answer] = []
    for name in names:
        of_split = labels.of(name, split)
        if of_split is not None:
            seeds = labels.search.all_seeds
            tried.append(by_labels(split, rows, source=name, labels=of_split, seeds=seeds))
            if tried[-1].recognised:
                return tried[-1]
    if not tried:
        if labels.missing and labels.search.data_dir is not None:
            raise next(iter(labels.missing.values()))
        return pins.nearest(split, rows, source)
    surest = best(tried)
    return surest if surest.certainty != UNKNOWN else _unknown(split, tried)


def _notes(side: Given, *, labelled: bool) -> tuple[str, ...]:
    """Say how a text list differs from a plain one: CRLF, no last newline, ..."""
    path = Path(side.name)
    if side.form != "list" or not given.is_file(path):
        return ()
    return read_text_list(read_bytes(path), origin=side.name, labelled=labelled).notes


def _unknown(split: str, tried: Sequence[Answer]) -> Answer:
    """Put together why a split is of none of the sources."""
    if len(tried) == 1:
        return tried[0]
    evidence = [f"{answer.headline}: {answer.evidence[0]}" for answer in tried]
    return Answer(split, UNKNOWN, "is unknown", tuple(evidence), {"tried": [dict(answer.facts) for answer in tried]})


def _by_digest(manifest: Manifest) -> Answer | None:
    """Compare a manifest's digest with the pinned ones: all splits at once."""
    for name in pinned.names():
        header = pinned.header(name)
        digest = header.content_sha256
        if manifest == header or (digest is not None and digest == manifest.content_sha256):
            facts = {"pinned": name, "source": header.source["id"], "content_sha256": digest}
            params = {"protocol": header.protocol["name"], **header.protocol["params"]}
            evidence = f"content sha256 {digest}: images, labels and order of every split"
            if digest is None:
                evidence = "the same header"
            if manifest.samples is None:
                evidence += ", as its header says; its rows are not here"
            return Answer(
                " and ".join(manifest.splits), EXACT, f"is exactly {name} (pinned)", (evidence,), facts | params
            )
    return None


def _by_header(manifest: Manifest) -> list[Answer]:
    """Compare a header without rows with the pinned ones, split by split: digest of the list, then class counts."""
    answers = []
    for split, described in manifest.splits.items():
        named = [
            (name, part)
            for name in pinned.names()
            for part, other in pinned.header(name).splits.items()
            if other.list_sha256 is not None and other.list_sha256 == described.list_sha256
        ]
        if named:
            name, part = named[0]
            evidence = (f"list sha256 {described.list_sha256}, as the header says; its rows are not here",)
            answers.append(Answer(split, EXACT, f"is exactly the {part} split of {name}", evidence, {"pinned": name}))
            continue
        vector = np.array(described.class_counts)
        found = counts.answer_by_vector(vector, split, what="has the class counts of")
        answers.append(found or Answer(split, UNKNOWN, "is unknown: a header without rows"))
    return answers


def _by_counts(path: Path) -> Answer | None:
    """Recognise a JSON object that gives the number of images of every class."""
    if path.suffix.lower() != ".json" or path.stat().st_size > _MOST_COUNTS_BYTES:
        return None
    try:
        record = json.loads(read_bytes(path))
        if (
            not isinstance(record, dict)
            or not record
            or not all(type(n) is int and 0 <= n < 2**31 for n in record.values())
        ):
            return None
        by_class = {int(label): n for label, n in record.items()}
    except (ValueError, RecursionError):
        return None
    if sorted(by_class) != list(range(len(by_class))):
        return None
    vector = np.array([by_class[label] for label in range(len(by_class))])
    return counts.answer(vector, "class counts") or Answer(
        "class counts", UNKNOWN, f"is unknown: the numbers of images of {len(vector):,} classes, of no known split"
    )


def _as_counts(split: str, rows: ForeignSplit) -> Answer | None:
    """Read positions as class counts, where a whole known vector shows that they are: alone, or beside 0, 1, 2, ..."""
    assert rows.positions is not None  # noqa: S101 - for the type checker: the caller saw to it
    numbered = np.array_equal(rows.positions, np.arange(len(rows)))
    vector = rows.labels if numbered and rows.labels is not None else rows.positions
    if len(rows) > counts.MOST_CLASSES or (rows.labels is not None and not numbered) or not vector.any():
        return None
    found = counts.answer(vector, split)
    return found if found is not None and found.recognised and found.facts.get("source") else None


def _claims(side: Given) -> tuple[str, ...]:
    """Tell what a file says of itself."""
    protocol: Any = side.manifest.protocol if side.manifest is not None else side.about.get("protocol")
    if not isinstance(protocol, Mapping) or side.form == "pinned split":
        return ()
    params = protocol.get("params")
    said = [
        str(protocol.get("name")),
        *([f"{k} {v}" for k, v in params.items()] if isinstance(params, Mapping) else []),
    ]
    name = side.manifest.name if side.manifest is not None else side.about.get("name")
    return (f"it says of itself: {name}, {', '.join(said)}",)
