"""The manifest: which images, with which labels, in which order, and every file that holds them.

`Manifest` is the header (`manifest.json`, small, readable in a diff); `Samples` are the rows of one split
(`samples.jsonl`, one line per image). `content_sha256` covers the logical rows only - which images, which
labels, in which order - so every form of one split, with images or without, has the same digest.

>>> from ltdata import load
>>> manifest = load("cifar100-lt", imbalance_factor=100)
>>> manifest.splits["train"].num_samples
10847
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata import groups
from ltdata.errors import MismatchError, UsageError

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
SAMPLES_NAME = "samples.jsonl"
_CONTENT_DOMAIN = "ltdata-content-1"


@dataclass(frozen=True)
class Samples:
    """Hold the rows of one split, in the protocol's order.

    Attributes:
        labels: int64 (n,).
        source_index: position in the source's split, original order, int64 (n,).
        sha256: of each stored image's bytes; None where no image is stored.
    """

    labels: NDArray[np.int64]
    source_index: NDArray[np.int64]
    sha256: tuple[str, ...] | None = None

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.labels)


@dataclass(frozen=True)
class Shard:
    """Describe one tar file: its path inside the folder (POSIX), samples, bytes and digest."""

    path: str
    num_samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """Describe one split: its size, images per class, the digest of its rows, and its shards."""

    num_samples: int
    class_counts: tuple[int, ...]
    samples_sha256: str
    shards: tuple[Shard, ...] = ()

    def __post_init__(self) -> None:
        if sum(self.class_counts) != self.num_samples or min(self.class_counts, default=0) < 0:
            raise ValueError(f"class_counts add up to {sum(self.class_counts)}, num_samples is {self.num_samples}")


@dataclass(frozen=True)
class Manifest:
    """Describe a long-tailed data set: its origin, its protocol, its splits, and its digest.

    Attributes:
        name: such as ``cifar100-lt-exp-if100``.
        source: id, version, urls, checksums, terms, and whether the published digest was met.
        protocol: name, version, params (profile, imbalance_factor, seed, max_per_class), rng, rounding.
        group_rule: name, and the conditions for many and few.
        class_names: one per class label.
        splits: by name, ``train`` first.
        content_sha256: `content_digest` of the rows.
        created_by: the version of ltdata.
        citation: what to cite for the images and the protocol.
    """

    name: str
    source: Mapping[str, Any]
    protocol: Mapping[str, Any]
    group_rule: Mapping[str, str]
    class_names: tuple[str, ...]
    splits: Mapping[str, Split]
    content_sha256: str
    created_by: Mapping[str, str]
    citation: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if "train" not in self.splits:
            raise ValueError("there is no train split")
        for name, split in self.splits.items():
            if len(split.class_counts) != self.num_classes:
                raise ValueError(f"{name} counts {len(split.class_counts)} classes, {self.num_classes} are named")

    @property
    def num_classes(self) -> int:
        """Count the classes."""
        return len(self.class_names)

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """Return the training images per class, int64 (C,)."""
        return np.array(self.splits["train"].class_counts, dtype=np.int64)

    @property
    def verified(self) -> bool | None:
        """Tell whether the source's files had the published digest; None for a pinned split, which has no files."""
        found = self.source.get("verified")
        return None if found is None else bool(found)

    @property
    def groups(self) -> NDArray[np.int8]:
        """Return the shot group of each class under the named rule, int8 (C,), index into `GROUP_NAMES`."""
        return groups.assign(self.class_counts, rule=self.group_rule["name"])

    def to_json(self) -> str:
        """Write the header as JSON text: indented, lists of numbers on one line."""
        record = {
            "schema_version": self.schema_version,
            "name": self.name,
            "num_classes": self.num_classes,
            "content_sha256": self.content_sha256,
            "source": dict(self.source),
            "protocol": dict(self.protocol),
            "group_rule": dict(self.group_rule),
            "splits": {name: asdict(split) for name, split in self.splits.items()},
            "class_names": list(self.class_names),
            "citation": list(self.citation),
            "created_by": dict(self.created_by),
        }
        text = json.dumps(record, indent=2, ensure_ascii=False)
        return re.sub(r"\[\n[\s\d,]+\]", lambda numbers: " ".join(numbers[0].split()), text) + "\n"

    @classmethod
    def from_json(cls, text: str, *, origin: str) -> "Manifest":
        """Read a header; `origin` names it in errors.

        Raises:
            MismatchError: the text is not a manifest this version can read.
        """
        try:
            record = json.loads(text)
            if record["schema_version"] != SCHEMA_VERSION:
                raise ValueError(f"schema_version {record['schema_version']!r}, this ltdata reads {SCHEMA_VERSION}")
            splits = {
                name: Split(
                    num_samples=int(split["num_samples"]),
                    class_counts=tuple(int(n) for n in split["class_counts"]),
                    samples_sha256=str(split["samples_sha256"]),
                    shards=tuple(_shard(shard) for shard in split["shards"]),
                )
                for name, split in record["splits"].items()
            }
            manifest = cls(
                name=str(record["name"]),
                source=dict(record["source"]),
                protocol=dict(record["protocol"]),
                group_rule=dict(record["group_rule"]),
                class_names=tuple(str(name) for name in record["class_names"]),
                splits=splits,
                content_sha256=str(record["content_sha256"]),
                created_by=dict(record["created_by"]),
                citation=tuple(record["citation"]),
            )
            if record["num_classes"] != manifest.num_classes:
                raise ValueError(f"num_classes {record['num_classes']!r}, {manifest.num_classes} are named")
            _ = manifest.groups, dict(manifest.protocol["params"])
            "".join([str(manifest.source["id"]), *splits]).encode()  # a lone surrogate has no digest
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise MismatchError(f"{origin}: not a readable ltdata manifest ({reason}); build it again") from error
        return manifest

    def with_groups(self, rule: str) -> "Manifest":
        """Return the same split under another group rule."""
        return replace(self, group_rule=describe_rule(rule))


def _shard(record: Mapping[str, Any]) -> Shard:
    return Shard(
        path=str(record["path"]),
        num_samples=int(record["num_samples"]),
        bytes=int(record["bytes"]),
        sha256=str(record["sha256"]),
    )


def describe_rule(rule: str) -> dict[str, str]:
    """Return a group rule as the manifest records it.

    Raises:
        UsageError: there is no such rule.
    """
    if rule not in groups.RULES:
        raise UsageError(f"group rule {rule!r}: choose one of {', '.join(groups.RULES)}")
    described = groups.RULES[rule]
    return {"name": rule, "many": described.many, "few": described.few}


def content_digest(source_id: str, splits: Mapping[str, Samples]) -> str:
    """Compute the digest of the logical rows, as 64 hex digits.

    SHA-256 over UTF-8 lines, each ended by LF: ``ltdata-content-1 <source id>``, then for every split in the
    manifest's order ``<split> <number of rows>`` and for every row ``<source_index> <label>``.

    >>> rows = Samples(labels=np.array([0, 1]), source_index=np.array([7, 3]))
    >>> content_digest("cifar100", {"train": rows})[:16]
    'b70d8626740f57bf'
    """
    digest = hashlib.sha256(f"{_CONTENT_DOMAIN} {source_id}\n".encode())
    for name, samples in splits.items():
        digest.update(f"{name} {len(samples)}\n".encode())
        rows = zip(samples.source_index.tolist(), samples.labels.tolist(), strict=True)
        digest.update("".join(f"{index} {label}\n" for index, label in rows).encode())
    return digest.hexdigest()


def rows_to_bytes(split: str, samples: Samples) -> bytes:
    """Write the rows of a split as JSON lines: sorted keys, UTF-8, LF."""
    lines = []
    for row, (index, label) in enumerate(zip(samples.source_index.tolist(), samples.labels.tolist(), strict=True)):
        digest = f', "sha256": "{samples.sha256[row]}"' if samples.sha256 is not None else ""
        name = f"{split}/{index}"
        lines.append(f'{{"id": "{name}", "label": {label}{digest}, "source_index": {index}, "split": "{split}"}}\n')
    return "".join(lines).encode()


def rows_from_bytes(data: bytes, manifest: Manifest, *, origin: str) -> dict[str, Samples]:
    """Read the rows of every split and check them against the header.

    Args:
        data: the content of `samples.jsonl`.
        manifest: the header they belong to.
        origin: names the rows in errors.

    Raises:
        MismatchError: a digest, a count or a label is not the header's.
    """
    lines = data.splitlines(keepends=True)
    splits: dict[str, Samples] = {}
    start = 0
    for name, split in manifest.splits.items():
        part = lines[start : start + split.num_samples]
        start += split.num_samples
        found = hashlib.sha256(b"".join(part)).hexdigest()
        if found != split.samples_sha256:
            raise MismatchError(
                f"{origin}: the {name} rows have SHA-256 {found}, the manifest says {split.samples_sha256}; "
                "build the data set again"
            )
        try:
            rows = [json.loads(line) for line in part]
            labels, indices = (
                np.array([row[field] for row in rows], dtype=np.int64) for field in ("label", "source_index")
            )
            digests = tuple(str(row["sha256"]) for row in rows) if rows and "sha256" in rows[0] else None
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise MismatchError(f"{origin}: not the rows of an ltdata build ({error!r}); build it again") from error
        splits[name] = Samples(labels=labels, source_index=indices, sha256=digests)
        if labels.shape != (len(rows),) or labels.min(initial=0) < 0 or labels.max(initial=0) >= manifest.num_classes:
            raise MismatchError(f"{origin}: a label of the {name} rows is not in 0 .. {manifest.num_classes - 1}")
        if rows_to_bytes(name, splits[name]) != b"".join(part):
            raise MismatchError(f"{origin}: the {name} rows are not written as ltdata writes them; build it again")
        counts = np.bincount(labels, minlength=manifest.num_classes)
        if not np.array_equal(counts, split.class_counts):
            raise MismatchError(f"{origin}: the {name} rows do not have the manifest's class_counts")
    if start != len(lines):
        raise MismatchError(f"{origin}: {len(lines)} rows, the manifest says {start}; build the data set again")
    content = content_digest(str(manifest.source["id"]), splits)
    if content != manifest.content_sha256:
        raise MismatchError(
            f"{origin}: the rows have content digest {content}, the manifest says {manifest.content_sha256}"
        )
    return splits
