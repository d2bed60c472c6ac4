"""What was found out about one split of a file."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

EXACT = "exact"  # the images, the order, and the labels where there are some
SAME_IMAGES = "same-images"  # in another order, or with other labels
FORM = "form"  # of files that themselves are the definition of a protocol; anyone can write that form
FIGURES = "figures"  # every published figure, where no digest is published
CLASS_COUNTS = "class-counts"  # and no more
UNKNOWN = "unknown"
RECOGNISED = (EXACT, SAME_IMAGES, FIGURES)  # best first
CERTAINTIES = (*RECOGNISED, FORM, CLASS_COUNTS, UNKNOWN)


@dataclass(frozen=True)
class Answer:
    """Say what a split of a file is, how sure that is, and why.

    Attributes:
        split: its name in the file.
        certainty: one of `CERTAINTIES`.
        headline: the answer, to be read after the file's name: "is exactly ...".
        evidence: what else was found, a sentence each.
        facts: the same for machines: source, protocol, seed, profile, imbalance_factor, order, ...
    """

    split: str
    certainty: str
    headline: str
    evidence: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def recognised(self) -> bool:
        """Tell whether it is known which split this is."""
        return self.certainty in RECOGNISED

    def adding(self, *evidence: str) -> "Answer":
        """Return the answer with more evidence."""
        return replace(self, evidence=(*self.evidence, *evidence))


def best(answers: list[Answer]) -> Answer:
    """Return the surest answer, of equals the first."""
    return min(answers, key=lambda answer: CERTAINTIES.index(answer.certainty))
