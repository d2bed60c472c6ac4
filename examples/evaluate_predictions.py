"""Evaluate someone else's predictions on a long-tailed split: many, medium, few under a named rule, with intervals.

    python examples/evaluate_predictions.py predictions.npz --split cifar100-lt-exp-if100

The file holds `logits` (n, C), `probabilities` (n, C) or `predictions` (n,), and `labels` (n,), in the test set's
order. No image is needed. (`ltdata evaluate predictions.npz --manifest cifar100-lt-exp-if100` does the same, and more.)
"""

import argparse
from pathlib import Path

from ltdata import catalog, groups, metrics, predictions, tables

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("predictions")
parser.add_argument("--split", default="cifar100-lt-exp-if100", help="a folder, or a pinned split: see ltdata list")
parser.add_argument("--rule", default="strict", choices=groups.RULES, help="which classes are many-, medium-, few-shot")
args = parser.parse_args()

manifest = catalog.find(args.split, rows=True).manifest  # a pinned split, or a folder of ltdata build
theirs = predictions.read_predictions(Path(args.predictions))  # nothing is unpickled
labels = predictions.match_labels(theirs, manifest, "test")  # compared with the split's, row by row
found = metrics.evaluate(
    labels, theirs.predictions, logits=theirs.logits, probabilities=theirs.probabilities,
    class_counts=manifest.class_counts, rule=args.rule, resamples=1000, seed=0,
)  # fmt: skip
print(tables.text(f"{args.split}, {found.images:,} images, %", [tables.row_of("theirs", found)], rule=args.rule))
print()
for name, group in found.groups.items():
    print(f"{name:6} {group.classes:4} classes, {group.images:6,} images")
worst = sorted((one.accuracy, label) for label, one in enumerate(found.classes) if one.accuracy is not None)[:5]
print("worst classes:", ", ".join(f"{label} ({accuracy:.0f} %)" for accuracy, label in worst))
