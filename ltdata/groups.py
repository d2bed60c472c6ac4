"""Shot groups: which classes count as many-, medium- and few-shot, under a NAMED rule.

Papers disagree at the borders, so every manifest and every report names its rule.

>>> assign(np.array([101, 100, 20, 19]), rule="strict").tolist()
[0, 1, 1, 2]
>>> assign(np.array([101, 100, 20, 19]), rule="oltr").tolist()
[0, 0, 2, 2]
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltdata.errors import UsageError

GROUP_NAMES = ("many", "medium", "few")


@dataclass(frozen=True)
class GroupRule:
    """Describe a rule: n is the number of training images of a class."""

    name: str
    many: str
    few: str


RULES = {
    rule.name: rule
    for rule in (
        GroupRule("strict", "n > 100", "n < 20"),  # Decoupling, RIDE, SADE, BalPoE, PaCo
        GroupRule("gt100-le20", "n > 100", "n <= 20"),  # ACE, GLMC, KCL
        GroupRule("oltr", "n >= 100", "n <= 20"),  # OLTR, NCL
        GroupRule(
            "mislas",
            "classes 0-35 of 100, 0-2 of 10, whatever n",
            "classes 71-99 of 100, 7-9 of 10, whatever n",
        ),
    )
}
_MISLAS_STARTS = {100: (36, 71), 10: (3, 7)}  # first medium-shot and first few-shot class


def assign(class_counts: NDArray[np.integer], *, rule: str = "strict") -> NDArray[np.int8]:
    """Assign every class to a group.

    Args:
        class_counts: training images per class, (C,).
        rule: one of `RULES`.

    Returns:
        Index into `GROUP_NAMES` per class, int8 (C,).

    Raises:
        UsageError: the rule is unknown, or is not defined for this number of classes.
    """
    n = np.asarray(class_counts)
    if rule == "strict":
        many, few = n > 100, n < 20
    elif rule == "gt100-le20":
        many, few = n > 100, n <= 20
    elif rule == "oltr":
        many, few = n >= 100, n <= 20
    elif rule == "mislas":
        if len(n) not in _MISLAS_STARTS:
            raise UsageError(f"group rule mislas is defined for 10 and 100 classes, not for {len(n)}")
        first_medium, first_few = _MISLAS_STARTS[len(n)]
        label = np.arange(len(n))
        many, few = label < first_medium, label >= first_few
    else:
        raise UsageError(f"group rule {rule!r}: choose one of {', '.join(RULES)}")
    groups: NDArray[np.int8] = np.where(many, 0, np.where(few, 2, 1)).astype(np.int8)
    return groups
