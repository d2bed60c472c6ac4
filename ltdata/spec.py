"""The spec: which split of which source to make, checked before anything is read."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltdata import groups, profiles, protocols
from ltdata.errors import UsageError
from ltdata.labels import MOST_IMAGES, check_integer, check_seed
from ltdata.manifest import check_name
from ltdata.sources import LISTED, SOURCES

NATURAL = "natural"


@dataclass(frozen=True)
class Spec:
    """Say which split to make.

    Attributes:
        source: one of `ltdata.sources.SOURCES`.
        imbalance_factor: n_max / n_min, at least 1; None where nothing is drawn, or `min_per_class` is given.
        profile: one of `ltdata.profiles.PROFILES`, or ``natural``, which draws nothing; None: ``natural`` without an
            imbalance factor, else ``exp``.
        seed: of the selection, 0 .. 2**32 - 1.
        group_rule: one of `ltdata.groups.RULES`.
        max_per_class: upper bound of n_max; None for all there are.
        min_per_class: n_min, in place of an imbalance factor.
        alpha: of profile ``pareto``.
        val_per_class: images of every class held out for validation; a folder's.
        test_per_class: as many for a test; a folder's.
        title: names a folder's data set.
        max_side_px: store images scaled down to this longer side; None stores the files' own bytes.
    """

    source: str
    imbalance_factor: float | None = None
    profile: str | None = None
    seed: int = 0
    group_rule: str = "strict"
    max_per_class: int | None = None
    min_per_class: int | None = None
    alpha: float | None = None
    val_per_class: int = 0
    test_per_class: int = 0
    title: str | None = None
    max_side_px: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if isinstance(getattr(self, field.name), np.generic):  # numpy's numbers cannot go into a manifest
                object.__setattr__(self, field.name, getattr(self, field.name).item())
        if self.source not in SOURCES:
            raise UsageError(f"data set {self.source!r}: choose one of {', '.join(SOURCES)}")
        if self.profile is None:
            drawn = self.imbalance_factor is not None or self.min_per_class is not None or not self.has_files
            object.__setattr__(self, "profile", "exp" if drawn else NATURAL)
        if self.profile not in (*profiles.PROFILES, NATURAL):
            raise UsageError(f"profile {self.profile!r}: choose one of {', '.join((*profiles.PROFILES, NATURAL))}")
        if self.profile == "pareto" and self.alpha is None:
            object.__setattr__(self, "alpha", 6.0)
        self._check_numbers()
        self._check_what_goes_together()
        if self.group_rule not in groups.RULES:
            raise UsageError(f"group rule {self.group_rule!r}: choose one of {', '.join(groups.RULES)}")

    def _check_numbers(self) -> None:
        if self.imbalance_factor is not None:
            profiles.check_imbalance_factor(self.imbalance_factor)
        if self.alpha is not None:
            profiles.check_alpha(self.alpha)
        check_seed(self.seed)
        for name, least in (("max_per_class", 1), ("min_per_class", 1), ("val_per_class", 0), ("test_per_class", 0)):
            if getattr(self, name) is not None or least == 0:
                check_integer(name.replace("_", " "), getattr(self, name), least, MOST_IMAGES)
        if self.max_side_px is not None:
            check_integer("max side", self.max_side_px, 16, 10_000)

    def _check_what_goes_together(self) -> None:
        """Refuse values that this source, or this profile, has no use for."""
        given = {
            "--imbalance": self.imbalance_factor is not None,
            "--min-per-class": self.min_per_class is not None,
            "--max-per-class": self.max_per_class is not None,
            "--alpha": self.alpha is not None,
            "--profile": self.profile != NATURAL,
            "--seed": self.seed != 0,
            "--val-per-class": self.val_per_class > 0,
            "--test-per-class": self.test_per_class > 0,
            "--name": self.title is not None,
            "--max-side": self.max_side_px is not None,
        }

        def refuse(options: set[str], reason: str) -> None:
            for option in given:
                if given[option] and option in options:
                    raise UsageError(f"{self.source}: {reason}; leave out {option}")

        if self.source in LISTED:
            refuse(set(given) - {"--max-side"}, "its lists are the split, nothing is drawn")
            return
        if self.source != "folder":
            refuse(
                {"--val-per-class", "--test-per-class", "--name", "--max-side"}, "it has splits and sizes of its own"
            )
            if self.profile == NATURAL:
                raise UsageError(f"{self.source}: is balanced, so profile natural would have no tail; choose another")
        if self.profile == NATURAL:
            refuse({"--imbalance", "--min-per-class"}, "profile natural draws no sizes")
            if self.max_per_class is None and not self.val_per_class and not self.test_per_class:
                refuse({"--seed"}, "nothing is drawn")
        elif (self.imbalance_factor is None) == (self.min_per_class is None):
            advice = "give --imbalance, the factor n_max / n_min, such as 100"
            if self.imbalance_factor is not None:
                advice = "--imbalance and --min-per-class say the same; give one"
            raise UsageError(f"{self.source}: {advice}")
        if self.profile != "pareto":
            refuse({"--alpha"}, f"profile {self.profile} has no alpha")
        if self.title is not None:
            check_name(self.title)

    @property
    def has_files(self) -> bool:
        """Tell whether the source's images are files, with paths."""
        return self.source in LISTED or self.source == "folder"

    @property
    def name(self) -> str:
        """Name the split: ``cifar100-lt-exp-if100``, with what is not the default.

        >>> Spec("cifar100", 100).name, Spec("cifar10", 12.5, seed=1, max_per_class=500).name
        ('cifar100-lt-exp-if100', 'cifar10-lt-exp-if12.5-seed1-max500')
        >>> Spec("imagenet-lt").name, Spec("folder", title="birds", test_per_class=20).name
        ('imagenet-lt', 'birds-natural-test20')
        """
        if self.source in LISTED:
            return self.source
        parts = [self.title or self.source]
        if self.profile == NATURAL:
            parts.append(NATURAL)
        else:
            parts += ["lt", str(self.profile)]
            if self.imbalance_factor is not None:
                parts.append(f"if{profiles.factor_text(self.imbalance_factor)}")
        for word, value, default in (
            ("min", self.min_per_class, None),
            ("alpha", profiles.factor_text(self.alpha) if self.alpha is not None else None, None),
            ("seed", self.seed, 0),
            ("max", self.max_per_class, None),
            ("val", self.val_per_class, 0),
            ("test", self.test_per_class, 0),
        ):
            if value != default:
                parts.append(f"{word}{value}")
        return "-".join(parts)

    @property
    def protocol(self) -> dict[str, Any]:
        """Return the protocol as the manifest records it."""
        if self.source in LISTED:
            return {"name": "official-lists", "version": 1, "params": {"profile": NATURAL}}
        optional = {"min_per_class": self.min_per_class, "alpha": self.alpha}
        held_out = {"val_per_class": self.val_per_class, "test_per_class": self.test_per_class}
        return {
            "name": NATURAL if self.profile == NATURAL else "ldam",
            "version": 1,
            "params": {
                "profile": self.profile,
                "imbalance_factor": float(self.imbalance_factor) if self.imbalance_factor is not None else None,
                "seed": self.seed,
                "max_per_class": self.max_per_class,
                **{name: value for name, value in optional.items() if value is not None},
                **(held_out if self.source == "folder" else {}),
            },
            "rng": "numpy.RandomState/MT19937",
            "rounding": "trunc",
        }


def select(
    spec: Spec, labels: NDArray[np.int64], num_classes: int, class_names: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Select the training images of a split.

    n_max is the number of images that every class has (N / C for balanced sources), or `spec.max_per_class`; of a
    folder the latter may be larger, as long as every class has what the profile asks of it.

    Args:
        spec: the split.
        labels: of the source's training images, original order, (n,).
        num_classes: C.
        class_names: for errors; None names labels.

    Returns:
        Positions in `labels`, in the protocol's order, int64.

    Raises:
        UsageError: a class would be left empty, or has fewer images than it should keep.
    """
    sizes = np.bincount(labels, minlength=num_classes)
    if spec.profile == NATURAL:
        if spec.max_per_class is None:
            return np.arange(len(labels), dtype=np.int64)
        return protocols.ldam(labels, np.minimum(sizes, spec.max_per_class), seed=spec.seed, class_names=class_names)
    n_max = int(sizes.min())
    if spec.max_per_class is not None:
        n_max = spec.max_per_class if spec.source == "folder" else min(n_max, spec.max_per_class)
    factor = spec.imbalance_factor
    if factor is None:
        assert spec.min_per_class is not None  # noqa: S101 - for the type checker: Spec saw to it
        if spec.min_per_class > n_max:
            raise UsageError(f"min per class {spec.min_per_class}: the largest class would have {n_max} images")
        factor = max(1.0, n_max / spec.min_per_class * (1 - 1e-12))  # a hair less, so that truncation keeps n_min
    counts = profiles.class_counts(
        str(spec.profile), num_classes=num_classes, n_max=float(n_max), imbalance_factor=factor, alpha=spec.alpha or 6.0
    )
    return protocols.ldam(labels, counts, seed=spec.seed, class_names=class_names)
