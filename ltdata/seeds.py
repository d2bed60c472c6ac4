"""Several seeds of one method: mean and standard deviation of every figure.

>>> str(spread([40.0, 42.0])), str(spread([40.0])), str(spread([None]))
('41.0 ± 1.4', '40.0', 'n/a')
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ltdata.errors import UsageError
from ltdata.metrics import FIGURES, Evaluation


@dataclass(frozen=True)
class Spread:
    """Hold a figure over several seeds.

    Attributes:
        mean: None where a seed does not define it.
        deviation: sample standard deviation (n - 1); None for less than two seeds.
    """

    mean: float | None
    deviation: float | None

    def __str__(self) -> str:
        """Return `mean ± deviation` as text, n/a without a mean."""
        return in_percent(self.mean) + (f" ± {self.deviation:.1f}" if self.deviation is not None else "")


def in_percent(value: float | None) -> str:
    """Write a figure as every table here does: one decimal, n/a where it is not defined.

    >>> in_percent(38.26), in_percent(-0.01), in_percent(None)
    ('38.3', '0.0', 'n/a')
    """
    return "n/a" if value is None else f"{value:z.1f}"


def spread(values: Sequence[float | None]) -> Spread:
    """Compute mean and standard deviation of one figure over seeds.

    With None among the values there is neither: a mean of some of the seeds is not what stands beside it.
    """
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return Spread(None, None)
    return Spread(
        mean=float(np.mean(known)) if known else None,
        deviation=float(np.std(known, ddof=1)) if len(known) > 1 else None,
    )


def over_seeds(evaluations: Sequence[Evaluation]) -> dict[str, Spread]:
    """Compute mean and standard deviation of every figure over several seeds of one method.

    Raises:
        UsageError: there is none, or they are not of the same images under the same rule.
    """
    if not evaluations:
        raise UsageError("mean over seeds: there is no evaluation")
    first = evaluations[0]
    for number, other in enumerate(evaluations):
        for what, one, another in (
            ("group rule", first.rule, other.rule),
            ("images per class", [c.images for c in first.classes], [c.images for c in other.classes]),
            ("groups", [c.group for c in first.classes], [c.group for c in other.classes]),
        ):
            if one != another:
                raise UsageError(
                    f"mean over seeds: evaluations 0 and {number} have other {what}; give those of one set"
                )
    return {name: spread([one.figures[name] for one in evaluations]) for name in FIGURES}
