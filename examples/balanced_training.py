"""A plain PyTorch loop: a class-balanced sampler, balanced softmax, both, and neither; what each does for the tail.

    ltdata build digits --imbalance 100
    python examples/balanced_training.py digits-lt-exp-if100

Both balance: together they correct for the same thing twice.
"""

import argparse

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ltdata import access, metrics, reader, tables
from ltdata.samplers import Sampler
from ltdata.weights import log_priors


def network(classes: int) -> nn.Module:
    """Make a small convolutional network for colour images of any size."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64),
        nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, classes),
    )  # fmt: skip


def to_input(pixels: torch.Tensor) -> torch.Tensor:
    """Turn bytes (batch, height, width, 3) into floats (batch, 3, height, width), about -2 .. 2."""
    return pixels.permute(0, 3, 1, 2).float() / 64 - 2


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("shards", help="a folder of ltdata build, with images of one size")
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

manifest = reader.read_manifest(args.shards)
test_pixels, test_labels = reader.read_images(args.shards, manifest, "test")
prior = torch.from_numpy(log_priors(manifest.class_counts)).float()
rows = []
with access.open_images(args.shards, manifest, "train") as images:
    for kind in ("instance-balanced", "class-balanced"):
        for balanced_softmax in (False, True):
            torch.manual_seed(args.seed)
            model = network(manifest.num_classes)
            optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9, weight_decay=5e-4)
            sampler = Sampler(images.labels, kind, seed=args.seed)
            loader = DataLoader(images, 64, sampler=sampler, drop_last=True)
            for epoch in range(args.epochs):
                sampler.set_epoch(epoch)
                for pixels, labels in loader:
                    logits = model(to_input(pixels)) + (prior if balanced_softmax else 0)
                    optimizer.zero_grad()
                    F.cross_entropy(logits, labels).backward()
                    optimizer.step()
            with torch.no_grad():
                parts = torch.from_numpy(test_pixels).split(500)
                found = np.concatenate([model.eval()(to_input(part)).numpy() for part in parts])
            groups = {"class_counts": manifest.class_counts, "class_groups": manifest.groups}
            evaluation = metrics.evaluate(test_labels, logits=found, rule=manifest.group_rule["name"], **groups)
            name = f"{kind}{', balanced softmax' if balanced_softmax else ''}"
            rows.append(tables.row_of(name, evaluation))
print(tables.text(f"{manifest.name}, test, {args.epochs} epochs, %", rows, rule=manifest.group_rule["name"]))
