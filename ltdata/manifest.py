"""The manifest: which images, with which labels, in which order, and every file that holds them.

`Manifest` is the header (`manifest.json`, small, readable in a diff); its rows are `ltdata.samples`.

>>> from ltdata import load
>>> manifest = load("cifar100-lt", imbalance_factor=100)
>>> manifest.splits["train"].num_samples
10847
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata import groups, profiles
from ltdata.errors import MismatchError, SourceMissingError, UsageError
from ltdata.files import sha256_bytes
from ltdata.labels import MOST_IMAGES
from ltdata.samples import Samples, content_digest, list_bytes, parse_rows, rows_to_bytes

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
SAMPLES_NAME = "samples.jsonl"


@dataclass(frozen=True)
class Shard:
    """Describe one tar file: its path inside the folder (POSIX), samples, bytes and digest."""

    path: str
    num_samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """Describe one split.

    Attributes:
        num_samples: rows.
        class_counts: images per class.
        samples_sha256: of its rows in `samples.jsonl`; None in a header that comes without rows.
        list_sha256: of its rows as a text list, see `list_bytes`; None where rows name positions.
        shards: the files that hold its images; empty where no image is stored.
    """

    num_samples: int
    class_counts: tuple[int, ...]
    samples_sha256: str | None
    list_sha256: str | None = None
    shards: tuple[Shard, ...] = ()

    def __post_init__(self) -> None:
        if sum(self.class_counts) != self.num_samples or min(self.class_counts, default=0) < 0:
            raise ValueError(f"class_counts add up to {sum(self.class_counts)}, num_samples is {self.num_samples}")
        if self.num_samples > MOST_IMAGES:
            raise ValueError(f"num_samples is {self.num_samples}, {MOST_IMAGES} at most are possible")


@dataclass(frozen=True)
class Manifest:
    """Describe a long-tailed data set: its origin, its protocol, its splits, and its digest.

    Attributes:
        name: such as ``cifar100-lt-exp-if100``.
        source: id, version, urls, checksums, terms, and whether the published digest was met.
        protocol: name, version, params, rng, rounding.
        group_rule: name, and the conditions for many and few.
        class_names: one per class label.
        splits: by name, ``train`` first.
        content_sha256: `content_digest` of the rows; None in a header whose rows nobody here has seen.
        created_by: the version of ltdata.
        citation: what to cite for the images and the protocol.
        superclass_names: one per class label, where the source has them.
        storage: how stored images differ from the source's; None where their bytes are copied or lossless.
        class_groups: shot group per class where it does not follow from `class_counts` (a subset keeps those of the
            whole); index into `GROUP_NAMES`.
        view_of: path and content_sha256 of the build that holds the images of a view.
        samples: the rows by split, where they were read along; no part of the header.
    """

    name: str
    source: Mapping[str, Any]
    protocol: Mapping[str, Any]
    group_rule: Mapping[str, str]
    class_names: tuple[str, ...]
    splits: Mapping[str, Split]
    content_sha256: str | None
    created_by: Mapping[str, str]
    citation: tuple[str, ...] = ()
    superclass_names: tuple[str, ...] = ()
    storage: Mapping[str, Any] | None = None
    class_groups: tuple[int, ...] | None = None
    view_of: Mapping[str, str] | None = None
    schema_version: int = SCHEMA_VERSION
    samples: Mapping[str, Samples] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if "train" not in self.splits:
            raise ValueError("there is no train split")
        for name, split in self.splits.items():
            if len(split.class_counts) != self.num_classes:
                raise ValueError(f"{name} counts {len(split.class_counts)} classes, {self.num_classes} are named")
        for what, values in (("superclasses", self.superclass_names or None), ("class groups", self.class_groups)):
            if values is not None and len(values) != self.num_classes:
                raise ValueError(f"{len(values)} {what}, {self.num_classes} classes are named")
        if self.class_groups is not None and not set(self.class_groups) <= set(range(len(groups.GROUP_NAMES))):
            raise ValueError("a class group is none of many, medium, few")

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
        if self.class_groups is not None:
            return np.array(self.class_groups, dtype=np.int8)
        return groups.assign(self.class_counts, rule=self.group_rule["name"])

    @property
    def rows(self) -> Mapping[str, Samples]:
        """Return the rows by split.

        Raises:
            SourceMissingError: only the header is here.
        """
        if self.samples is None:
            if self.splits["train"].samples_sha256 is not None:
                raise SourceMissingError(
                    f"{self.name}: only the header was read; ltdata.reader.read_samples(folder, manifest) has the rows"
                )
            raise SourceMissingError(
                f"{self.name}: only the header is here, its rows come from your copy of the lists; "
                f"ltdata build {self.source['id']} --manifest-only reads and checks them"
            )
        return self.samples

    @property
    def indices(self) -> NDArray[np.int64]:
        """Return the positions of the training images in the source's training set, int64 (n,).

        Raises:
            SourceMissingError: only the header is here.
        UsageError: the source has paths: see `paths`.
        """
        return self.rows["train"].positions

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the paths of the training images inside the source.

        Raises:
            SourceMissingError: only the header is here.
        UsageError: the source has positions: see `indices`.
        """
        found = self.rows["train"].source_path
        if found is None:
            raise UsageError(f"{self.name}: names its images by position, not by path: use indices")
        return found

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return the labels of the training images, int64 (n,).

        Raises:
            SourceMissingError: only the header is here.
        """
        return self.rows["train"].labels

    @property
    def digest(self) -> str | None:
        """Return `content_sha256`: which images, with which labels, in which order."""
        return self.content_sha256

    @property
    def has_images(self) -> bool:
        """Tell whether shards belong to this header."""
        return any(split.shards for split in self.splits.values())

    def to_json(self) -> str:
        """Write the header as JSON text: indented, lists of numbers on one line; what is not set is left out."""
        optional = {
            "storage": self.storage and dict(self.storage),
            "view_of": self.view_of and dict(self.view_of),
            "class_groups": list(self.class_groups) if self.class_groups is not None else None,
        }
        record = {
            "schema_version": self.schema_version,
            "name": self.name,
            "num_classes": self.num_classes,
            "content_sha256": self.content_sha256,
            "source": dict(self.source),
            "protocol": dict(self.protocol),
            "group_rule": dict(self.group_rule),
            **{name: value for name, value in optional.items() if value is not None},
            "splits": {name: _split_record(split) for name, split in self.splits.items()},
            "class_names": list(self.class_names),
            **({"superclass_names": list(self.superclass_names)} if self.superclass_names else {}),
            "citation": list(self.citation),
            "created_by": dict(self.created_by),
        }
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)  # which Python reads and JSON has not
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
            storage, view_of, class_groups = (record.get(name) for name in ("storage", "view_of", "class_groups"))
            manifest = cls(
                name=str(record["name"]),
                source=dict(record["source"]),
                protocol=dict(record["protocol"]),
                group_rule=dict(record["group_rule"]),
                class_names=tuple(str(name) for name in record["class_names"]),
                splits={name: _split(split) for name, split in record["splits"].items()},
                content_sha256=_text_or_none(record["content_sha256"]),
                created_by=dict(record["created_by"]),
                citation=tuple(record["citation"]),
                superclass_names=tuple(str(name) for name in record.get("superclass_names", ())),
                storage=dict(storage) if storage is not None else None,
                class_groups=tuple(int(group) for group in class_groups) if class_groups is not None else None,
                view_of={name: str(view_of[name]) for name in ("path", "content_sha256")} if view_of else None,
            )
            if record["num_classes"] != manifest.num_classes:
                raise ValueError(f"num_classes {record['num_classes']!r}, {manifest.num_classes} are named")
            rule = str(manifest.group_rule["name"])
            if dict(manifest.group_rule) != describe_rule(rule):
                raise ValueError(f"group rule {rule} with other borders than its own")
            params, protocol, source = manifest.protocol["params"], manifest.protocol["name"], manifest.source["id"]
            if not (isinstance(params, dict) and isinstance(protocol, str) and isinstance(source, str)):
                raise ValueError(f"protocol {protocol!r} with {params!r}, source {source!r}: of another type")
            check_imbalance(manifest.protocol, manifest.splits["train"].class_counts)
            # Names of splits and of the whole become parts of paths: of exports, of caches, of a training's folder.
            names = [name for name in (manifest.name, *manifest.splits) if not is_name(name)]
            if names:
                raise ValueError(f"{names[0]!r} is none of ltdata's names")
            again = json.loads(manifest.to_json().encode())  # a lone surrogate has no digest, and cannot be written
            other = [key for key in record if key not in again or not _same(again[key], record[key])]
            if other:  # such as an optional key with a letter changed, which would be passed over, or a count of 10.0
                raise ValueError(f"{other[0]!r} is not as ltdata writes it")
            if manifest.view_of is not None and "\0" in manifest.view_of["path"].encode().decode():
                raise ValueError("view_of names a path that no file can have")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise MismatchError(
                f"{origin}: not a readable ltdata manifest ({reason!s:.200}); build it again"
            ) from error
        return manifest

    def with_groups(self, rule: str) -> "Manifest":
        """Return the same split under another group rule."""
        return replace(self, group_rule=describe_rule(rule), class_groups=None)


def check_imbalance(protocol: Mapping[str, Any], class_counts: tuple[int, ...]) -> None:
    """Refuse an imbalance factor that does not give these counts: trainers choose settings by it.

    Raises:
        ValueError: it does not.
    """
    if protocol.get("name") != "ldam":
        return
    try:
        params = protocol["params"]
        factor = params["imbalance_factor"]
        if factor is None:  # the sizes follow from a smallest class
            return
        made = profiles.class_counts(
            str(params["profile"]),
            num_classes=len(class_counts),
            n_max=class_counts[0],
            imbalance_factor=factor,
            alpha=params.get("alpha") or 6.0,
        )
        same = made.tolist() == list(class_counts)
    except (UsageError, LookupError, TypeError, ArithmeticError, AttributeError) as error:
        raise ValueError(f"protocol ldam with parameters that cannot be: {error}") from error
    if not same:
        raise ValueError(f"imbalance factor {factor!r} does not give these class_counts")


def _split(record: Mapping[str, Any]) -> Split:
    return Split(
        num_samples=int(record["num_samples"]),
        class_counts=tuple(int(n) for n in record["class_counts"]),
        samples_sha256=_text_or_none(record["samples_sha256"]),
        list_sha256=_text_or_none(record.get("list_sha256")),
        shards=tuple(_shard(shard) for shard in record["shards"]),
    )


def _split_record(split: Split) -> dict[str, Any]:
    record = asdict(split)
    if split.list_sha256 is None:
        del record["list_sha256"]
    return record


def _same(one: object, other: object) -> bool:
    """Compare JSON values, to which `true`, 1 and 1.0 are three."""
    return one == other and json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)


def _shard(record: Mapping[str, Any]) -> Shard:
    return Shard(
        path=str(record["path"]),
        num_samples=int(record["num_samples"]),
        bytes=int(record["bytes"]),
        sha256=str(record["sha256"]),
    )


def is_name(text: str) -> bool:
    """Tell whether a text can be a file's and a data set's name everywhere, but for its length."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text) is not None


def check_name(name: str, what: str = "name") -> str:
    """Return a name that can be a file's and a data set's everywhere: letters, digits, dots, dashes, underscores.

    Raises:
        UsageError: it cannot.
    """
    if not is_name(name) or len(name) > 100:
        raise UsageError(
            f"{what} {name!r}: letters, digits, dots, dashes and underscores are allowed, a letter or digit first, 100 "
            "at most"
        )
    return name


def describe_rule(rule: str) -> dict[str, str]:
    """Return a group rule as the manifest records it.

    Raises:
        UsageError: there is no such rule.
    """
    if rule not in groups.RULES:
        raise UsageError(f"group rule {rule!r}: choose one of {', '.join(groups.RULES)}")
    described = groups.RULES[rule]
    return {"name": rule, "many": described.many, "few": described.few}


def make_split(
    name: str, samples: Samples, *, num_classes: int, shards: tuple[Shard, ...] = (), rows: bytes | None = None
) -> Split:
    """Describe the rows of a split.

    Args:
        name: of the split.
        samples: its rows.
        num_classes: C.
        shards: that hold its images.
        rows: `rows_to_bytes` of the split, where the caller has them.
    """
    return Split(
        num_samples=len(samples),
        class_counts=tuple(np.bincount(samples.labels, minlength=num_classes).tolist()),
        samples_sha256=sha256_bytes(rows if rows is not None else rows_to_bytes(name, samples)),
        list_sha256=sha256_bytes(list_bytes(samples)) if samples.source_path is not None else None,
        shards=shards,
    )


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
        part = b"".join(lines[start : start + split.num_samples])
        start += split.num_samples
        found = sha256_bytes(part)
        if found != split.samples_sha256:
            raise MismatchError(
                f"{origin}: the {name} rows have SHA-256 {found}, the manifest says {split.samples_sha256}; "
                "build the data set again"
            )
        samples = splits[name] = parse_rows(part, origin=origin)
        labels = samples.labels
        if labels.min(initial=0) < 0 or labels.max(initial=0) >= manifest.num_classes:
            raise MismatchError(f"{origin}: a label of the {name} rows is not in 0 .. {manifest.num_classes - 1}")
        if rows_to_bytes(name, samples) != part:
            raise MismatchError(f"{origin}: the {name} rows are not written as ltdata writes them; build it again")
        counts = np.bincount(labels, minlength=manifest.num_classes)
        if not np.array_equal(counts, split.class_counts):
            raise MismatchError(f"{origin}: the {name} rows do not have the manifest's class_counts")
        listed = sha256_bytes(list_bytes(samples)) if samples.source_path is not None else None
        if listed != split.list_sha256:
            raise MismatchError(f"{origin}: the {name} rows do not have the manifest's list_sha256; build it again")
    if start != len(lines):
        raise MismatchError(f"{origin}: {len(lines)} rows, the manifest says {start}; build the data set again")
    try:
        content = content_digest(str(manifest.source["id"]), splits)
    except ValueError as error:
        raise MismatchError(f"{origin}: {error}; build the data set again") from error
    if content != manifest.content_sha256:
        raise MismatchError(
            f"{origin}: the rows have content digest {content}, the manifest says {manifest.content_sha256}"
        )
    return splits
