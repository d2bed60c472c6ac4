"""torchvision's CIFAR-100, a pinned long-tailed split of it and a sampler: nothing is built or converted.

    python examples/torchvision_split.py ROOT --download

ROOT is the folder that torchvision keeps cifar-100-python in. The logits of the test set go to predictions.npz.
"""

import argparse

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import CIFAR100
from torchvision.transforms import v2

import ltdata
from ltdata.samplers import Sampler

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("root")
parser.add_argument("--download", action="store_true", help="let torchvision fetch CIFAR-100")
parser.add_argument("--imbalance", type=float, default=100)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--out", default="predictions.npz")
args = parser.parse_args()

to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.25] * 3)]
augmented = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), *to_tensor])
train = CIFAR100(args.root, train=True, download=args.download, transform=augmented)
test = CIFAR100(args.root, train=False, download=args.download, transform=v2.Compose(to_tensor))

manifest = ltdata.load("cifar100-lt", imbalance_factor=args.imbalance)  # which images exactly: manifest.content_sha256
subset = Subset(train, manifest.indices.tolist())
sampler = Sampler(manifest.labels, "square-root", seed=0)  # positions in the subset, which is in the split's order

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
    nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, 100),
)  # fmt: skip
optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
loader = DataLoader(subset, 128, sampler=sampler, drop_last=True)
for epoch in range(args.epochs):
    sampler.set_epoch(epoch)
    for images, labels in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1} of {args.epochs}: loss of the last batch {loss.item():.3f}")

with torch.no_grad():
    logits = torch.cat([model.eval()(images) for images, _ in DataLoader(test, 500)])
np.savez(args.out, logits=logits.numpy(), labels=np.array(test.targets))
print(f"{args.out}: ltdata evaluate {args.out} --manifest {manifest.name}")
