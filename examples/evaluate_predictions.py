"""Evaluate someone else's predictions on a long-tailed split: many, medium, few under a named rule, with intervals.

    python examples/evaluate_predictions.py predictions.npz --split cifar100-lt-exp-if100

The file holds `labels` (n,) and `logits` (n, C), `probabilities` (n, C) or `predictions` (n,). No image is needed.
(`ltdata evaluate predictions.npz --manifest cifar100-lt-exp-if100` does the same, and more.)
"""

import argparse

import numpy as np

import ltdata
from ltdata import groups, metrics, tables

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("predictions")
parser.add_argument("--split", default="cifar100-lt-exp-if100", help="a pinned split, see ltdata list")
parser.add_argument("--rule", default="strict", choices=groups.RULES, help="which classes are many-, medium-, few-shot")
args = parser.parse_args()

counts = ltdata.load(args.split).class_counts
with np.load(args.predictions, allow_pickle=False) as file:  # a pickle could run code
    given = {name: file[name] for name in file.files}

found = metrics.evaluate(**given, class_counts=counts, rule=args.rule, resamples=1000, seed=0)
print(tables.text(f"{args.split}, {found.images:,} images, %", [tables.row_of("theirs", found)], rule=args.rule))
print()
for name, group in found.groups.items():
    print(f"{name:6} {group.classes:4} classes, {group.images:6,} images")
worst = sorted((one.accuracy, label) for label, one in enumerate(found.classes) if one.accuracy is not None)[:5]
print("worst classes:", ", ".join(f"{label} ({accuracy:.0f} %)" for accuracy, label in worst))
