"""Pinned splits: manifests that come with the package and work without any image.

`manifests/` holds, per split, the header (`NAME.json`) and the rows (`NAME.jsonl.gz`). `ltdata build` must
reproduce them; a test does.

>>> names()[:2]
['cifar10-lt-exp-if10', 'cifar10-lt-exp-if20']
"""

import gzip
import re
from dataclasses import replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from ltdata import profiles
from ltdata.errors import UsageError
from ltdata.manifest import Manifest, rows_from_bytes


def names() -> list[str]:
    """List the pinned splits."""
    found = [entry.name.removesuffix(".json") for entry in _folder().iterdir() if entry.name.endswith(".json")]
    return sorted(found, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])


def load(name: str, *, imbalance_factor: float | None = None, profile: str | None = None) -> Manifest:
    """Load a pinned split: its header, and its rows where they are pinned too; no image is needed.

    >>> manifest = load("cifar100-lt", imbalance_factor=100)
    >>> manifest.indices[:3].tolist(), manifest.labels[:3].tolist(), manifest.digest[:8]
    ([9470, 27272, 30172], [0, 0, 0], '7440c226')

    Args:
        name: a full name (``cifar100-lt-exp-if100``), or ``cifar100-lt`` with an imbalance factor.
        imbalance_factor: n_max / n_min.
        profile: ``exp`` (the default) or ``step``; goes with an imbalance factor.

    Raises:
        UsageError: no such split is pinned.
    """
    if imbalance_factor is not None:
        profiles.check_imbalance_factor(imbalance_factor)
        name = f"{name}-{profile or 'exp'}-if{profiles.factor_text(imbalance_factor)}"
    elif profile is not None:
        raise UsageError(f"profile {profile!r}: give an imbalance factor with it, or the full name alone")
    manifest = header(name)
    rows = _folder() / f"{name}.jsonl.gz"
    if not rows.is_file():
        return manifest
    data = gzip.decompress(rows.read_bytes())
    return replace(manifest, samples=rows_from_bytes(data, manifest, origin=f"{name}.jsonl.gz"))


def header(name: str) -> Manifest:
    """Load the header of a pinned split alone.

    Raises:
        UsageError: no such split is pinned.
    """
    if name not in names():
        raise UsageError(f"{name!r}: no such pinned split; there are {', '.join(names())}")
    return Manifest.from_json((_folder() / f"{name}.json").read_text(encoding="utf-8"), origin=name)


def _folder() -> Traversable:
    """Return the manifests inside the installed package, or of the checkout an editable install points to."""
    inside = files("ltdata") / "manifests"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "manifests"
