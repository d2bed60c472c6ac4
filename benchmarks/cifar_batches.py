"""Batches of CIFAR-100-LT for training, from memory: ours against other people's loaders.

    python benchmarks/cifar_batches.py SHARDS [--batch 512] [--rounds 5] [--json FILE]

SHARDS is a folder built with `ltdata build cifar100 --imbalance 100`. Every contender holds the train split in memory
as it likes best and gives float32 (batch, 3, 32, 32): random crop after 4 px of zero padding, random flip, normalised;
a pass over the images in a new random order, whole batches only. The check finds for every image of a pass the source
image, crop and flip that it is, to 1e-4, and looks at how often each crop and flip was drawn.
"""

import argparse
import math
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import contest
import numpy as np

from ltdata import reader

MEAN = (0.5071, 0.4865, 0.4409)
STD = (0.2673, 0.2564, 0.2762)
PADDING_PX = 4
SIDE_PX = 32


def ours(args: argparse.Namespace) -> contest.Stream:
    """Stream the batches of ace_ref."""
    import dataclasses

    import torch

    from ace_ref import dataset, draws, recipe, resident

    torch.set_num_threads(args.workers)
    setting = recipe.load_recipe("cifar", "ce", source="cifar100", imbalance_factor=100)
    setting = dataclasses.replace(setting, batch_size=args.batch, mixup_alpha=0.0, mean=MEAN, std=STD)
    split = resident.ResidentSplit(*map(torch.from_numpy, held(args)))
    for epoch in range(10**9):
        for batch in dataset.batches(split, draws.draw_epoch(split, setting, seed=0, epoch=epoch), setting):
            yield batch.images, batch.labels


def held(args: argparse.Namespace) -> tuple[Any, Any]:
    """Return the split in memory, uint8 (n, 32, 32, 3) and int64 (n,)."""
    return np.load(args.work / "pixels.npy"), np.load(args.work / "labels.npy")


def torchvision(workers: int, *, tensors: bool) -> contest.Contender:
    """Make the loader of torchvision's users: v1 transforms of PIL images, or v2 transforms of tensors."""

    def stream(args: argparse.Namespace) -> contest.Stream:
        import torch
        from PIL import Image

        from ace_ref.vision import load_torchvision

        torch.set_num_threads(args.workers)
        kit = load_torchvision().transforms.v2 if tensors else load_torchvision().transforms
        pixels, labels = held(args)
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous() if tensors else pixels
        scale = [kit.ToDtype(torch.float32, scale=True)] if tensors else [kit.ToTensor()]
        crop = [kit.RandomCrop(SIDE_PX, padding=PADDING_PX), kit.RandomHorizontalFlip()]
        transform = kit.Compose([*crop, *scale, kit.Normalize(MEAN, STD)])
        classes = labels.tolist()

        class Split(torch.utils.data.Dataset):
            def __len__(self) -> int:
                return len(classes)

            def __getitem__(self, row: int) -> tuple[Any, int]:
                return transform(images[row] if tensors else Image.fromarray(images[row])), classes[row]

        loader = torch.utils.data.DataLoader(
            Split(), args.batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
        )
        while True:
            yield from loader

    return stream


def airbench(args: argparse.Namespace) -> contest.Stream:
    """Stream the scheme of KellerJordan/cifar10-airbench, written afresh: an epoch is cropped and flipped at once.

    Images are held padded and normalised; the crop copies, for every shift, the images that drew it: rows, then
    columns; batches are gathered out of the result.
    """
    import torch

    torch.set_num_threads(args.workers)
    pixels, labels = map(torch.from_numpy, held(args))
    around = (0, 0, PADDING_PX, PADDING_PX, PADDING_PX, PADDING_PX)
    padded = torch.nn.functional.pad(pixels, around).permute(0, 3, 1, 2).float().div(255)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    padded = padded.sub(mean).div(std).contiguous()
    count = len(labels)
    rows = torch.empty(count, 3, SIDE_PX, SIDE_PX + 2 * PADDING_PX)
    images = torch.empty(count, 3, SIDE_PX, SIDE_PX)
    while True:
        shift = torch.randint(0, 2 * PADDING_PX + 1, (2, count))
        for begin in range(2 * PADDING_PX + 1):
            drew = shift[0] == begin
            rows[drew] = padded[drew, :, begin : begin + SIDE_PX]
        for begin in range(2 * PADDING_PX + 1):
            drew = shift[1] == begin
            images[drew] = rows[drew, :, :, begin : begin + SIDE_PX]
        mirrored = torch.where((torch.rand(count) < 0.5).view(-1, 1, 1, 1), images.flip(-1), images)
        for index in torch.randperm(count).split(args.batch)[: count // args.batch]:
            yield mirrored[index], labels[index]


def kornia(args: argparse.Namespace) -> contest.Stream:
    """Stream batches that kornia augments, out of resident floats."""
    import torch

    warnings.simplefilter("ignore")
    from kornia import augmentation

    torch.set_num_threads(args.workers)
    pixels, labels = map(torch.from_numpy, held(args))
    images = pixels.permute(0, 3, 1, 2).float().div(255).contiguous()
    augment = augmentation.AugmentationSequential(
        augmentation.RandomCrop((SIDE_PX, SIDE_PX), padding=PADDING_PX, cropping_mode="slice"),
        augmentation.RandomHorizontalFlip(p=0.5),
        augmentation.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        data_keys=["input"],
    )
    while True:
        for index in torch.randperm(len(labels)).split(args.batch)[: len(labels) // args.batch]:
            yield augment(images[index]), labels[index]


def dali(args: argparse.Namespace) -> contest.Stream:
    """Stream from a DALI pipeline on the CPU that is fed gathered batches of padded bytes."""
    import torch
    from nvidia.dali import fn, pipeline_def, types

    pixels, labels = held(args)
    padded = np.pad(pixels, ((0, 0), (PADDING_PX, PADDING_PX), (PADDING_PX, PADDING_PX), (0, 0)))
    classes = labels.astype(np.int32)[:, None]
    random = np.random.default_rng(0)

    def feed() -> Any:
        while True:
            order = random.permutation(len(labels))
            for begin in range(0, len(labels) - args.batch + 1, args.batch):
                index = order[begin : begin + args.batch]
                yield padded[index], classes[index]

    @pipeline_def(batch_size=args.batch, num_threads=args.workers, device_id=None, prefetch_queue_depth=2, seed=1)
    def pipeline() -> Any:
        images, classes = fn.external_source(source=feed(), num_outputs=2, batch=True, layout=["HWC", None])
        # In eighths: between 0 and 1 the first and last of the nine places would be drawn half as often.
        places = [place / (2 * PADDING_PX) for place in range(2 * PADDING_PX + 1)]
        images = fn.crop_mirror_normalize(
            images, crop=(SIDE_PX, SIDE_PX), crop_pos_x=fn.random.uniform(values=places),
            crop_pos_y=fn.random.uniform(values=places), mirror=fn.random.coin_flip(), dtype=types.FLOAT,
            mean=[255 * value for value in MEAN], std=[255 * value for value in STD], output_layout="CHW",
        )  # fmt: skip
        return images, classes

    ready = pipeline()
    ready.build()
    while True:
        images, found = ready.run()
        yield torch.from_dlpack(images.as_tensor()), torch.from_dlpack(found.as_tensor()).view(-1)


def grain(args: argparse.Namespace) -> contest.Stream:
    """Stream from a grain pipeline of numpy operations, on threads."""
    import grain
    import torch

    pixels, labels = held(args)
    padded = np.pad(pixels, ((0, 0), (PADDING_PX, PADDING_PX), (PADDING_PX, PADDING_PX), (0, 0)))
    classes = labels.tolist()
    factor = np.float32(1 / 255) / np.array(STD, dtype=np.float32).reshape(3, 1, 1)
    offset = (np.array(MEAN, dtype=np.float32) / np.array(STD, dtype=np.float32)).reshape(3, 1, 1)

    class Augment(grain.transforms.RandomMap):
        def random_map(self, row: int, rng: np.random.Generator) -> tuple[Any, int]:
            top, left, flip = rng.integers(0, (2 * PADDING_PX + 1, 2 * PADDING_PX + 1, 2)).tolist()
            image = padded[row, top : top + SIDE_PX, left : left + SIDE_PX]
            image = (image[:, ::-1] if flip else image).transpose(2, 0, 1)
            return image * factor - offset, classes[row]

    source = grain.MapDataset.range(len(labels)).seed(0).shuffle().repeat(reseed_each_epoch=True)
    threads = grain.ReadOptions(num_threads=args.workers, prefetch_buffer_size=args.batch)
    passes = source.random_map(Augment()).to_iter_dataset(threads).batch(args.batch, drop_remainder=True)
    for images, found in passes:
        yield torch.from_numpy(images), torch.from_numpy(found)


def ffcv(args: argparse.Namespace) -> contest.Stream:
    """Stream from ffcv's loader over raw pixels in the page cache, as its own CIFAR example does."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, RandomTranslate, Squeeze, ToTensor, ToTorchImage
    from ffcv.writer import DatasetWriter

    pixels, labels = held(args)

    class Split:
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, row: int) -> tuple[Any, int]:
            return pixels[row], int(labels[row])

    path = str(args.work / "cifar.beton")
    DatasetWriter(path, {"image": RGBImageField(), "label": IntField()}, num_workers=1).from_indexed_dataset(Split())
    mean, std = (np.array(values) * 255 for values in (MEAN, STD))
    image = [
        SimpleRGBImageDecoder(), RandomHorizontalFlip(), RandomTranslate(padding=PADDING_PX, fill=(0, 0, 0)),
        NormalizeImage(mean, std, np.float32), ToTensor(), ToTorchImage(convert_back_int16=False),
    ]  # fmt: skip
    loader = Loader(
        path, batch_size=args.batch, num_workers=args.workers, order=OrderOption.RANDOM, os_cache=True, drop_last=True,
        pipelines={"image": image, "label": [IntDecoder(), ToTensor(), Squeeze()]},
    )  # fmt: skip
    while True:
        for images, found in loader:
            yield images, found.view(-1)


def check(args: argparse.Namespace, contender: contest.Contender) -> str:
    """Find every image of a pass among the crops and flips of the split.

    Raises:
        ValueError: an image is none of them, or draws are not spread as they should be.
    """
    pixels, labels = held(args)
    padded = np.pad(pixels, ((0, 0), (PADDING_PX, PADDING_PX), (PADDING_PX, PADDING_PX), (0, 0)))
    mean, std = (np.array(values, dtype=np.float32).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    # Pixels 12 to 19 of a source image are seen by every crop: its key.
    middle = slice(12, 20)
    rows_of: dict[bytes, list[int]] = defaultdict(list)
    for row, patch in enumerate(pixels[:, middle, middle]):
        rows_of[patch.tobytes()].append(row)
    draws: list[tuple[int, int, int, int]] = []
    stream = contender(args)
    for _ in range(batches(args)):
        images, found = (np.array(each) for each in next(stream))
        if images.shape != (args.batch, 3, SIDE_PX, SIDE_PX) or images.dtype != np.float32:
            raise ValueError(f"{images.dtype} {images.shape}")
        levels = (images * std + mean) * 255
        rounded = np.rint(levels)
        if not np.abs(levels - rounded).max() < 0.01:
            raise ValueError(f"levels are off by {np.abs(levels - rounded).max():.3g}")
        seen = rounded.clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        draws += [locate(each, int(label), padded, labels, rows_of) for each, label in zip(seen, found, strict=True)]
    return spread(draws, len(labels))


def locate(
    image: Any, label: int, padded: Any, labels: Any, rows_of: dict[bytes, list[int]]
) -> tuple[int, int, int, int]:
    """Return row, top, left, flip of the source that an image is, (32, 32, 3)."""
    for flip in (0, 1):
        straight = image[:, ::-1] if flip else image
        for top in range(2 * PADDING_PX + 1):
            for left in range(2 * PADDING_PX + 1):
                down, right = 12 + PADDING_PX - top, 12 + PADDING_PX - left
                key = straight[down : down + 8, right : right + 8].tobytes()
                for row in rows_of.get(key, ()):
                    crop = padded[row, top : top + SIDE_PX, left : left + SIDE_PX]
                    if labels[row] == label and np.array_equal(crop, straight):
                        return row, top, left, flip
    raise ValueError("an image is no crop of any source image with its label")


def spread(draws: list[tuple[int, int, int, int]], images: int) -> str:
    """Compare how often each draw was seen with how often it should be (five standard deviations)."""
    rows, tops, lefts, flips = np.array(draws).T
    count = len(draws)
    for name, values, choices in (("row", tops, 9), ("column", lefts, 9), ("flip", flips, 2)):
        times, share = np.bincount(values, minlength=choices), 1 / choices
        if np.abs(times - count * share).max() > 5 * math.sqrt(count * share * (1 - share)):
            raise ValueError(f"{name}: drawn {times.tolist()} times")
    # A pass shows an image once; a stream may have begun another pass.
    if len(np.unique(rows)) < 0.99 * min(count, images):
        raise ValueError(f"{len(np.unique(rows))} of {count} images are different ones")
    return f"{count:,} images exact"


def prepare(args: argparse.Namespace) -> None:
    """Decode the split once for the peers."""
    pixels, labels = reader.read_images(args.shards, reader.read_manifest(args.shards), "train")
    np.save(args.work / "pixels.npy", pixels)
    np.save(args.work / "labels.npy", labels)


def batches(args: argparse.Namespace) -> int:
    """Count the batches of a pass."""
    return len(np.load(args.work / "labels.npy", mmap_mode="r")) // args.batch


CONTENDERS: dict[str, Callable[[argparse.Namespace], contest.Stream]] = {
    "ltdata + ace_ref": ours,
    "torchvision v1, PIL, 0 workers": torchvision(0, tensors=False),
    "torchvision v1, PIL, 2 workers": torchvision(2, tensors=False),
    "torchvision v2, tensors, 2 workers": torchvision(2, tensors=True),
    "DALI, CPU": dali,
    "ffcv": ffcv,
    "airbench's scheme": airbench,
    "kornia": kornia,
    "grain": grain,
}


def main() -> None:
    """Run the contest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, metavar="SHARDS")
    parser.add_argument("--batch", type=int, default=512)
    table = contest.Table(
        title="CIFAR-100-LT from memory -> float32 (batch, 3, 32, 32), crop + flip + normalise",
        contenders=CONTENDERS, check=check, prepare=prepare, items=batches, lead=6,
        packages=("torch", "torchvision", "nvidia-dali-cuda130", "ffcv", "kornia", "grain"),
    )  # fmt: skip
    contest.main(table, parser)


if __name__ == "__main__":
    main()
