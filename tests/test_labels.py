"""Labels and counts as people give them become int64 arrays, or are named."""

import numpy as np
import pytest

from ltdata.labels import check_counts, check_integer, check_labels


def test_labels_and_counts_come_in_many_forms():
    for labels in ([0, 2, 1], (0, 2, 1), np.array([0, 2, 1], dtype=np.uint8)):
        assert check_labels(labels).tolist() == [0, 2, 1]
        assert check_labels(labels).dtype == check_counts(labels).dtype == np.int64


@pytest.mark.parametrize(
    ("labels", "classes", "says"),
    [
        ([0.0, 1.0], None, r"labels\[0\] is 0.0 \(float64\)"),
        ([True, False], None, r"labels\[0\] is True"),
        (["cat"], None, r"labels\[0\] is cat"),
        ([[0], [1]], None, r"shape \(2, 1\)"),
        ([[0], [1, 2]], None, r"labels: \[\[0\], \[1, 2\]\] is no array"),
        ([], None, r"shape \(0,\)"),
        (np.zeros(0, dtype=int), None, r"shape \(0,\)"),
        ([0, 3, -7], None, r"labels\[2\] is -7"),
        ([0, 10**9], None, r"labels\[1\] is 1000000000"),
        ([0, 10, 3], 10, r"labels\[1\] is 10; 10 classes have 0 \.\. 9"),
    ],
)
def test_labels_that_cannot_be_are_named(labels, classes, says):
    with pytest.raises(ValueError, match=says):
        check_labels(labels, num_classes=classes)


def test_numbers_of_other_kinds_are_named():
    assert check_integer("rank", np.int16(3)) == 3
    for value, says in ((True, "rank True"), (1.0, "rank 1.0"), ("1", "rank '1'"), (None, "rank None")):
        with pytest.raises(ValueError, match=says):
            check_integer("rank", value)
