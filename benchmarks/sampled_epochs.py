"""Class-balanced epochs over CIFAR-100-LT shards against sequential ones, and how soon an epoch begins.

    python benchmarks/sampled_epochs.py SHARDS [--batch 512] [--rounds 5] [--json FILE]

SHARDS is a folder built with `ltdata build cifar100 --imbalance 100`. One reader makes uint8 batches (512, 32, 32, 3)
out of the tar files on the disk, once in the order in which they lie there, once drawn with replacement so that classes
are equally frequent; as many images in both. In the cold cases the shards' pages are given back before every epoch
(what the machine beneath keeps in memory is beyond this program). The ratio of the two is to be 1.1 at most.

The start of an epoch is the time from the last batch of one to the first batch of the next, decoding included: to be
below 5 ms. A PyTorch DataLoader over the same images is measured for comparison.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import contest
import numpy as np

from ltdata import access, orders, reader

Epoch = Iterator[tuple[Any, Any]]
_EPOCHS = 20


def ours(args: argparse.Namespace, order: str, *, cold: bool = False) -> Iterator[Epoch]:
    """Yield epochs of ltdata, endlessly; `order` is ``sequential`` or a sampler; cold, each like a process's first."""
    images = access.open_images(args.shards, reader.read_manifest(args.shards), "train")
    stored = as_stored(images)

    def epoch(number: int) -> Epoch:
        if cold:
            images.close()
            forget(args)
        rows = stored
        if order != "sequential":
            rows = orders.epoch_order(order, images.labels, seed=0, epoch=number)
        for number, pixels in enumerate(images.batches(rows, args.batch)):
            yield pixels, images.labels[rows[number * args.batch : (number + 1) * args.batch]]

    yield from map(epoch, range(10**9))


def as_stored(images: access.OpenImages) -> Any:
    """List the rows in the order in which they lie in the shards."""
    places = list(zip(images.located.shards, images.located.offsets, strict=True))
    return np.array(sorted(range(len(images)), key=places.__getitem__))


def resident(args: argparse.Namespace) -> Iterator[Epoch]:
    """Yield epochs of ace_ref's resident set, class-balanced, augmented and normalised, as its trainer gets them."""
    import torch

    from ace_ref import dataset, draws, recipe
    from ace_ref.resident import ResidentSplit

    setting = recipe.load_recipe("cifar", "ce", source="cifar100", imbalance_factor=100)
    setting = setting.with_values({"batch_size": args.batch, "sampler": "class-balanced"})
    manifest = reader.read_manifest(args.shards)
    split = ResidentSplit(*map(torch.from_numpy, reader.read_images(args.shards, manifest, "train")))
    for number in range(10**9):
        yield (
            (batch.images, batch.labels)
            for batch in dataset.batches(split, draws.draw_epoch(split, setting, seed=0, epoch=number), setting)
        )


def data_loader(args: argparse.Namespace, *, persistent: bool) -> Iterator[Epoch]:
    """Yield epochs of a PyTorch DataLoader over the same images."""
    import torch

    images = access.open_images(args.shards, reader.read_manifest(args.shards), "train")

    class Split(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(images)

        def __getitems__(self, rows: list[int]) -> tuple[Any, Any]:
            return images.decode(rows), images.labels[rows]

    frequency = 1 / np.bincount(images.labels)[images.labels]
    loader = torch.utils.data.DataLoader(
        Split(), args.batch, drop_last=True, num_workers=args.workers, persistent_workers=persistent,
        sampler=torch.utils.data.WeightedRandomSampler(frequency, len(images)),
        collate_fn=lambda pair: tuple(map(torch.from_numpy, pair)),
    )  # fmt: skip
    while True:
        yield iter(loader)


def stream(order: str, *, cold: bool = False) -> contest.Contender:
    """Make a contender of our epochs, one after the other."""

    def batches_of(args: argparse.Namespace) -> contest.Stream:
        for epoch in ours(args, order, cold=cold):
            yield from epoch

    return batches_of


def forget(args: argparse.Namespace) -> None:
    """Give the pages of the shards back to the system."""
    for path in (args.shards / "train").glob("*.tar"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def check(args: argparse.Namespace, contender: contest.Contender) -> str:
    """Compare every image of an epoch with the images of its class, and the classes' frequencies with the order's.

    Raises:
        ValueError: they differ.
    """
    pixels, labels = (np.load(args.work / f"{name}.npy") for name in ("pixels", "labels"))
    known = {image.tobytes() + bytes([label]) for image, label in zip(pixels, labels.tolist(), strict=True)}
    source = contender(args)
    found = []
    for _ in range(batches(args)):
        images, classes = next(source)
        if images.shape != (args.batch, 32, 32, 3) or images.dtype != np.uint8:
            raise ValueError(f"{images.dtype} {images.shape}")
        if any(a.tobytes() + bytes([b]) not in known for a, b in zip(images, classes.tolist(), strict=True)):
            raise ValueError("an image is none of its class")
        found.append(classes)
    times = np.bincount(np.concatenate(found), minlength=100)
    if contender in (CONTENDERS[name] for name in CONTENDERS if "balanced" in name):
        mean = times.sum() / 100
        if np.abs(times - mean).max() > 5 * mean**0.5:
            raise ValueError(f"classes are drawn {times.min()} to {times.max()} times")
    elif np.abs(times - np.bincount(labels, minlength=100)).sum() >= args.batch:
        raise ValueError("a sequential epoch is not the split")
    return f"{times.sum():,} images exact, {times.min()} to {times.max()} per class"


def prepare(args: argparse.Namespace) -> None:
    """Write the reference."""
    pixels, labels = reader.read_images(args.shards, reader.read_manifest(args.shards), "train")
    np.save(args.work / "pixels.npy", pixels)
    np.save(args.work / "labels.npy", labels)


def batches(args: argparse.Namespace) -> int:
    """Count the batches of an epoch."""
    return len(np.load(args.work / "labels.npy", mmap_mode="r")) // args.batch


def starts(args: argparse.Namespace) -> dict[str, float]:
    """Measure, in ms, the median time to the first batch of an epoch."""
    ways: dict[str, Callable[[], Iterator[Epoch]]] = {
        "ace_ref, resident, class-balanced": lambda: resident(args),
        "ltdata, sequential": lambda: ours(args, "sequential"),
        "ltdata, class-balanced": lambda: ours(args, "class-balanced"),
        "DataLoader, class-balanced, persistent workers": lambda: data_loader(args, persistent=True),
        "DataLoader, class-balanced, new workers": lambda: data_loader(args, persistent=False),
    }
    return {f"epoch start, ms, median: {name}": start_ms(way()) for name, way in ways.items()}


def start_ms(epochs: Iterator[Epoch]) -> float:
    """Run some epochs; return the median time from the end of one to the first batch of the next, in ms."""
    found = []
    for number in range(_EPOCHS + 1):
        begin = time.perf_counter()
        epoch = next(epochs)
        next(epoch)
        if number:
            found.append(1000 * (time.perf_counter() - begin))
        for _ in epoch:
            pass
    return statistics.median(found)


CONTENDERS: dict[str, contest.Contender] = {
    "class-balanced": stream("class-balanced"),
    "sequential": stream("sequential"),
    "class-balanced, cold": stream("class-balanced", cold=True),
    "sequential, cold": stream("sequential", cold=True),
}


def main() -> None:
    """Run the contest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, metavar="SHARDS")
    parser.add_argument("--batch", type=int, default=512)
    table = contest.Table(
        title="CIFAR-100-LT shards on the disk -> uint8 (batch, 32, 32, 3): class-balanced against sequential epochs",
        contenders=CONTENDERS, check=check, prepare=prepare, items=batches, lead=2, also=starts, packages=("torch",),
    )  # fmt: skip
    contest.main(table, parser)


if __name__ == "__main__":
    main()
