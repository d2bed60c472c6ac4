"""Draw a class-balanced epoch of indices: a sampler made anew from labels, and its draw.

Indices are taken one by one, as a DataLoader takes them from every sampler; Python's numbers and their list alone are a
third of our time, and in one row they come as the array that numpy has, as a loop of one's own would take them.

    FOLDER/bin/python benchmarks/drawn_indices.py imagenet-lt
    FOLDER/bin/python benchmarks/drawn_indices.py inat18

The labels are those of the pinned split's class counts, shuffled. The check draws an epoch and compares its class
distribution with the uniform one (chi-square).
"""

import argparse
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import contest
import numpy as np
from numpy.typing import NDArray
from scipy.stats import chisquare

from ltdata import pinned
from ltdata.orders import epoch_order
from ltdata.samplers import Sampler

Made = Callable[[NDArray[np.int64]], Iterable[Any]]  # of indices, or of arrays of them


def ours(labels: NDArray[np.int64]) -> Iterable[int]:
    """Make ltdata's sampler."""
    return Sampler(labels, "class-balanced", seed=0)


def array(labels: NDArray[np.int64]) -> Iterable[Any]:
    """Draw ltdata's epoch as one array."""
    return [epoch_order("class-balanced", labels, seed=0, epoch=0)]


def torch_weighted(labels: NDArray[np.int64]) -> Iterable[int]:
    """Make PyTorch's, in the fastest of the usual ways."""
    from torch.utils.data import WeightedRandomSampler

    return WeightedRandomSampler(1 / np.bincount(labels)[labels], len(labels))


def imbalanced(labels: NDArray[np.int64]) -> Iterable[int]:
    """Make that of imbalanced-dataset-sampler (torchsampler), given the labels."""
    from ace_ref.vision import load_torchvision

    load_torchvision()  # which torchsampler imports
    from torchsampler import ImbalancedDatasetSampler

    return ImbalancedDatasetSampler(labels, labels=labels)


def catalyst(labels: NDArray[np.int64]) -> Iterable[int]:
    """Make catalyst's: the same number of images of each class, about as many as there are."""
    from catalyst.data import BalanceClassSampler

    return BalanceClassSampler(labels.tolist(), mode=round(len(labels) / (labels.max() + 1)))


SAMPLERS: dict[str, Made] = {
    "ltdata": ours,
    "ltdata, as an array": array,
    "torch WeightedRandomSampler": torch_weighted,
    "imbalanced-dataset-sampler": imbalanced,
    "catalyst BalanceClassSampler": catalyst,
}


def stream(made: Made) -> contest.Contender:
    """Make a contender of a sampler: epoch after epoch, each of a new sampler."""

    def epochs(args: argparse.Namespace) -> Iterator[tuple[Any, Any]]:
        labels = np.load(args.work / "labels.npy")
        while True:
            sampler = made(labels)
            deque(sampler, maxlen=0)
            yield made, labels

    return epochs


def check(args: argparse.Namespace, contender: contest.Contender) -> str:
    """Compare the class distribution of an epoch with the uniform one.

    Raises:
        ValueError: it is another one.
    """
    made, labels = next(contender(args))
    drawn = labels[np.concatenate([np.atleast_1d(part) for part in made(labels)])]
    found = np.bincount(drawn, minlength=labels.max() + 1)
    p = float(chisquare(found).pvalue)
    if p < 1e-4 or abs(len(drawn) / len(labels) - 1) > 0.01:
        raise ValueError(f"{len(drawn)} indices, chi-square p {p:.1g}")
    return f"{len(drawn):,} indices, p {p:.2g}"


def prepare(args: argparse.Namespace) -> None:
    """Write the labels."""
    counts = pinned.header(args.split).class_counts
    np.save(args.work / "labels.npy", np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts)))


def main() -> None:
    """Run the contest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", choices=("imagenet-lt", "inat18"))
    table = contest.Table(
        title="labels -> a class-balanced epoch of indices: the sampler made, every index drawn; images: indices",
        contenders={name: stream(made) for name, made in SAMPLERS.items()}, check=check, prepare=prepare,
        items=lambda _args: 1, lead=1, packages=("torch", "torchsampler", "pandas", "catalyst"),
    )  # fmt: skip
    contest.main(table, parser)


if __name__ == "__main__":
    main()
