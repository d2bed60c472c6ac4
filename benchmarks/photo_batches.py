"""Batches of photographs for training: random resized crops of JPEG files, ours against other people's loaders.

    python benchmarks/photo_batches.py JPEGS [--images 1000] [--batch 100] [--rounds 5] [--json FILE]

JPEGS is a folder of JPEG files; those with both sides of at least --min-side pixels are repeated under new names up
to --images. From them, in the page cache, every contender makes uint8 batches of 224 x 224: random box of 8 % to
100 % of the area and sides 3:4 to 4:3, resized with antialiasing, flipped at random. The files lie where each
contender wants them: ltdata shards, tar files, a folder per class, ffcv's own format with the same JPEG bytes.

The check compares a fixed box (the central square, no flip), photograph by photograph, with Pillow's decoder and
antialiased bilinear filter; and a pass of random boxes with such a pass of Pillow's: mean level, contrast, sharpness
(the mean step between neighbouring pixels, which grows where a filter does not antialias), share of mirrored images.
"""

import argparse
import io
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import contest
import numpy as np
from PIL import Image

SIDE_PX = 224
_TARS = 8
Box = tuple[int, int, int, int]


def ours(args: argparse.Namespace) -> contest.Stream:
    """Stream crops of ace_ref out of the shards, as its trainer gets them, digests checked in the first pass."""
    import torch

    from ace_ref import jpeg
    from ace_ref.draws import draw_epoch
    from ace_ref.recipe import load_recipe
    from ace_ref.streamed import StreamedSplit
    from ltdata import access, reader

    torch.set_num_threads(1)
    images = access.open_images(args.work / "shards", reader.read_manifest(args.work / "shards"), "train")
    if args.central:  # for the check of decoder and filter; a training draws no such boxes
        while True:
            for begin in range(0, len(images), args.batch):
                rows = range(begin, begin + args.batch)
                crops = [jpeg.resized_crop(images.read(row), central, side_px=SIDE_PX) for row in rows]
                yield np.stack(crops), images.labels[rows]
    recipe = load_recipe("imagenet-lt-resnet50", "ce", source="imagenet-lt", imbalance_factor=256).with_values(
        {"batch_size": args.batch, "jitter": 0.0, "crop_px": SIDE_PX}
    )
    split = StreamedSplit(images, np.arange(len(images)), torch.from_numpy(images.labels))
    for epoch in range(10**9):
        draws = draw_epoch(split, recipe, seed=0, epoch=epoch)
        for step, pixels in enumerate(split.augmented(draws, recipe, start=0, seen=slice(None))):
            yield pixels.numpy(), images.labels[draws.index[step].numpy()]


def central(height: int, width: int) -> Box:
    """Return the box (top, left, height, width) of the central square."""
    side = min(width, height)
    return (height - side) // 2, (width - side) // 2, side, side


def drawn(width: int, height: int, draw: random.Random, args: argparse.Namespace) -> tuple[Box, bool]:
    """Draw the box (left, top, width, height) and the flip of an image, as torchvision's RandomResizedCrop does."""
    if args.central:
        side = min(width, height)
        return ((width - side) // 2, (height - side) // 2, side, side), False
    flip = draw.random() < 0.5
    for _ in range(10):
        area = width * height * draw.uniform(0.08, 1)
        ratio = np.exp(draw.uniform(np.log(3 / 4), np.log(4 / 3)))
        columns, rows = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < columns <= width and 0 < rows <= height:
            return (draw.randint(0, width - columns), draw.randint(0, height - rows), columns, rows), flip
    columns, rows = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    return ((width - columns) // 2, (height - rows) // 2, columns, rows), flip


def files(args: argparse.Namespace) -> list[tuple[Path, int]]:
    """List the files and their labels, which are numbers of photographs."""
    return [(path, int(path.parent.name[5:])) for path in sorted((args.work / "photos").rglob("*.JPEG"))]


def tars(args: argparse.Namespace) -> list[str]:
    """List the tar files."""
    return [str(path) for path in sorted((args.work / "tars").iterdir())]


def threaded(args: argparse.Namespace, make: Callable[[bytes, random.Random], Any]) -> contest.Stream:
    """Stream batches that a function makes image by image on threads, one batch ahead."""
    data = files(args)
    pool = ThreadPoolExecutor(args.workers)

    def one(out: Any, place: int, row: int, seed: int) -> None:
        out[place] = make(data[row][0].read_bytes(), random.Random(seed))  # noqa: S311 - crops

    def started() -> Iterator[tuple[Any, Any, list[Future[None]]]]:
        chance = np.random.default_rng(0)
        while True:
            order = chance.permutation(len(data))
            for begin in range(0, len(data) - args.batch + 1, args.batch):
                rows = order[begin : begin + args.batch].tolist()
                out = np.empty((args.batch, SIDE_PX, SIDE_PX, 3), np.uint8)
                seeds = chance.integers(0, 2**60, args.batch).tolist()
                work = [pool.submit(one, out, *each) for each in zip(range(args.batch), rows, seeds, strict=True)]
                yield out, np.array([data[row][1] for row in rows]), work

    source = started()
    ahead = next(source)
    while True:
        (pixels, labels, work), ahead = ahead, next(source)
        for each in work:
            each.result()
        yield pixels, labels


def opencv(decoder: str) -> contest.Contender:
    """Make a loop on threads around simplejpeg or OpenCV and OpenCV's area filter."""

    def stream(args: argparse.Namespace) -> contest.Stream:
        yield from threaded(args, opencv_crop(decoder, args))

    return stream


def opencv_crop(decoder: str, args: argparse.Namespace) -> Callable[[bytes, random.Random], Any]:
    """Return the function that makes an image with simplejpeg or OpenCV."""
    import cv2
    import simplejpeg

    cv2.setNumThreads(1)

    def make(data: bytes, draw: random.Random) -> Any:
        if decoder == "simplejpeg":
            image = simplejpeg.decode_jpeg(data)
        elif decoder == "simplejpeg, fast DCT":
            image = simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=True)
        else:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        (left, top, width, height), flip = drawn(image.shape[1], image.shape[0], draw, args)
        box = image[top : top + height, left : left + width]
        out = cv2.resize(box, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
        return cv2.flip(out, 1) if flip else out

    return make


def transform(args: argparse.Namespace) -> Any:
    """Return torchvision's transform of a PIL image."""
    import torch

    from ace_ref.vision import load_torchvision

    torch.set_num_threads(1)
    kit = load_torchvision().transforms.v2
    if args.central:

        def square(image: Any) -> Any:
            (left, top, width, height), _ = drawn(*image.size, random.Random(), args)  # noqa: S311 - crops
            return kit.functional.resized_crop(image, top, left, height, width, [SIDE_PX, SIDE_PX])

        return kit.Compose([square, kit.PILToTensor()])
    return kit.Compose([kit.RandomResizedCrop(SIDE_PX), kit.RandomHorizontalFlip(), kit.PILToTensor()])


def image_folder(args: argparse.Namespace) -> contest.Stream:
    """Stream from torchvision's ImageFolder and a DataLoader with workers."""
    from torch.utils.data import DataLoader

    from ace_ref.vision import load_torchvision

    images = load_torchvision().datasets.ImageFolder(args.work / "photos", transform(args))
    loader = DataLoader(
        images, args.batch, shuffle=True, drop_last=True, num_workers=args.workers, persistent_workers=True
    )
    while True:
        yield from loader


def torchvision_decoder(args: argparse.Namespace) -> contest.Stream:
    """Stream from torchvision's compiled decoder and its tensor transforms, on threads."""
    import torch

    from ace_ref.vision import load_torchvision

    torch.set_num_threads(1)
    kit = load_torchvision()

    def make(data: bytes, draw: random.Random) -> Any:
        image = kit.io.decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), kit.io.ImageReadMode.RGB)
        (left, top, width, height), flip = drawn(image.shape[2], image.shape[1], draw, args)
        out = kit.transforms.v2.functional.resized_crop(image, top, left, height, width, [SIDE_PX, SIDE_PX])
        return (out.flip(2) if flip else out).permute(1, 2, 0).numpy()

    yield from threaded(args, make)


def webdataset(workers: int) -> contest.Contender:
    """Make webdataset's usual pipeline, in this process or with workers."""

    def stream(args: argparse.Namespace) -> contest.Stream:
        import torch
        import webdataset as wds

        torch.set_num_threads(1)  # of operations on single images
        images = wds.WebDataset(tars(args), shardshuffle=False).decode("pil").to_tuple("jpg", "cls")
        images = images.map_tuple(transform(args), lambda label: label).batched(args.batch)
        loader = wds.WebLoader(images, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
        while True:
            yield from loader

    return stream


def hugging_face(args: argparse.Namespace) -> contest.Stream:
    """Stream from Hugging Face's imagefolder with torchvision's transform and a DataLoader with workers."""
    import datasets
    from torch.utils.data import DataLoader

    datasets.disable_progress_bars()
    change = transform(args)
    images = datasets.load_dataset(
        "imagefolder", data_dir=str(args.work / "photos"), split="train", cache_dir=str(args.work / "hugging-face")
    )
    images.set_transform(
        lambda rows: {"image": [change(each.convert("RGB")) for each in rows["image"]], "label": rows["label"]}
    )
    loader = DataLoader(
        images, args.batch, shuffle=True, drop_last=True, num_workers=args.workers, persistent_workers=True
    )
    while True:
        for batch in loader:
            yield batch["image"], batch["label"]


def dali(*, crop_in_decoder: bool, fast_idct: bool = False) -> contest.Contender:
    """Make a DALI pipeline on the CPU over tar files; either only the box is decoded, or the whole image."""

    def stream(args: argparse.Namespace) -> contest.Stream:
        from nvidia.dali import fn, math, pipeline_def, types

        @pipeline_def(batch_size=args.batch, num_threads=args.workers, device_id=None, prefetch_queue_depth=2, seed=1)
        def pipeline() -> Any:
            jpegs, digits = fn.readers.webdataset(paths=tars(args), ext=["jpg", "cls"])
            digits = fn.pad(digits, shape=[4], fill_value=ord(" "))
            how = {"output_type": types.RGB, "adjust_orientation": False, "use_fast_idct": fast_idct}
            size = {"size": (SIDE_PX, SIDE_PX), "interp_type": types.INTERP_LINEAR, "antialias": True}
            box = {"random_area": (0.08, 1.0), "random_aspect_ratio": (3 / 4, 4 / 3), "num_attempts": 10}
            if args.central:
                shape = fn.peek_image_shape(jpegs, adjust_orientation=False)
                side = math.min(shape[0], shape[1])
                start = fn.cast(fn.stack((shape[0] - side) // 2, (shape[1] - side) // 2), dtype=types.INT32)
                cut = {"start": start, "shape": fn.cast(fn.stack(side, side), dtype=types.INT32), "axes": (0, 1)}
                if crop_in_decoder:
                    images = fn.decoders.image_slice(jpegs, **cut, **how)
                else:
                    images = fn.decoders.image(jpegs, **how)
                    images = fn.slice(images, **cut)
                return fn.resize(images, **size), digits
            if crop_in_decoder:
                images = fn.decoders.image_random_crop(jpegs, **how, **box)
                images = fn.resize(images, **size)
            else:
                images = fn.decoders.image(jpegs, **how)
                images = fn.random_resized_crop(images, **size, **box)
            return fn.flip(images, horizontal=fn.random.coin_flip(), vertical=0), digits

        ready = pipeline()
        ready.build()
        while True:
            images, digits = ready.run()
            yield images.as_array(), digits.as_array().view("S4").ravel().astype(np.int64)

    return stream


def ffcv(args: argparse.Namespace) -> contest.Stream:
    """Stream from ffcv's loader, whose file holds the same JPEG bytes (its own writer would compress them again)."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.fields.decoders import CenterCropRGBImageDecoder, IntDecoder, RandomResizedCropRGBImageDecoder
    from ffcv.fields.rgb_image import IMAGE_MODES
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import RandomHorizontalFlip, Squeeze, ToTensor
    from ffcv.writer import DatasetWriter

    found = files(args)

    class Bytes(RGBImageField):
        def encode(self, destination: Any, path: str, malloc: Any) -> None:
            data = Path(path).read_bytes()
            width, height = Image.open(path).size
            destination["mode"], destination["width"], destination["height"] = IMAGE_MODES["jpg"], width, height
            destination["data_ptr"], storage = malloc(len(data))
            storage[:] = np.frombuffer(data, np.uint8)

    class Split:
        def __len__(self) -> int:
            return len(found)

        def __getitem__(self, row: int) -> tuple[str, int]:
            return str(found[row][0]), found[row][1]

    path = str(args.work / "photos.beton")
    writer = DatasetWriter(path, {"image": Bytes(), "label": IntField()}, num_workers=1)
    writer.from_indexed_dataset(Split())
    size = (SIDE_PX, SIDE_PX)
    if args.central:
        image = [CenterCropRGBImageDecoder(size, ratio=1), ToTensor()]
    else:
        image = [
            RandomResizedCropRGBImageDecoder(size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
            RandomHorizontalFlip(),
            ToTensor(),
        ]
    loader = Loader(
        path, batch_size=args.batch, num_workers=args.workers, order=OrderOption.RANDOM, os_cache=True, drop_last=True,
        pipelines={"image": image, "label": [IntDecoder(), ToTensor(), Squeeze()]}, custom_fields={"image": Bytes},
    )  # fmt: skip
    while True:
        for images, labels in loader:
            yield images, labels.view(-1)


def grain(args: argparse.Namespace) -> contest.Stream:
    """Stream from a grain pipeline of simplejpeg and OpenCV, on threads."""
    import grain

    data = files(args)
    make = opencv_crop("simplejpeg", args)

    class Augment(grain.transforms.RandomMap):
        def random_map(self, row: int, rng: np.random.Generator) -> tuple[Any, int]:
            return make(data[row][0].read_bytes(), random.Random(int(rng.integers(0, 2**60)))), data[row][1]  # noqa: S311 - crops

    rows = grain.MapDataset.range(len(data)).seed(0).shuffle().repeat(reseed_each_epoch=True)
    threads = grain.ReadOptions(num_threads=args.workers, prefetch_buffer_size=args.batch)
    yield from rows.random_map(Augment()).to_iter_dataset(threads).batch(args.batch, drop_remainder=True)


def check(args: argparse.Namespace, contender: contest.Contender) -> str:
    """Compare a pass of central boxes and a pass of random boxes with Pillow's.

    Raises:
        ValueError: shape, labels or pixels are others.
    """
    wanted = np.load(args.work / "reference.npz")
    args.central = True
    pixels, labels = a_pass(args, contender)
    if not np.array_equal(np.sort(labels), np.sort(wanted["labels"])):
        raise ValueError("a pass does not show every image once")
    off = np.array([
        np.abs(image.astype(np.int16) - wanted["central"][label]).mean()
        for image, label in zip(pixels, labels, strict=True)
    ])  # fmt: skip
    args.central = False
    pixels, labels = a_pass(args, contender)
    found = statistics(pixels, labels, wanted["central"])
    level, contrast, sharpness, mirrored = found
    text = f"off by {off.mean():.2f}, worst {off.max():.2f}; sharpness x{sharpness / wanted['statistics'][2]:.2f}"
    if (
        off.mean() > 2
        or off.max() > 8
        or abs(level - wanted["statistics"][0]) > 3
        or abs(contrast / wanted["statistics"][1] - 1) > 0.05
        or abs(sharpness / wanted["statistics"][2] - 1) > 0.15
        or abs(mirrored - wanted["statistics"][3]) > 0.08
    ):
        raise ValueError(f"{text}; level, contrast, sharpness, mirrored {found} not {wanted['statistics'].tolist()}")
    return text


def a_pass(args: argparse.Namespace, contender: contest.Contender) -> tuple[Any, Any]:
    """Take a fresh stream's first pass, uint8 (n, 224, 224, 3) and labels."""
    stream = contender(args)
    images, classes = [], []
    for _ in range(batches(args)):
        pixels, labels = map(np.array, next(stream))
        pixels = pixels.transpose(0, 2, 3, 1) if pixels.shape[1] == 3 else pixels
        if pixels.shape != (args.batch, SIDE_PX, SIDE_PX, 3) or pixels.dtype != np.uint8:
            raise ValueError(f"{pixels.dtype} {pixels.shape}")
        images.append(pixels)
        classes.append(labels)
    return np.concatenate(images), np.concatenate(classes)


def statistics(pixels: Any, labels: Any, central: Any) -> list[float]:
    """Compute mean level, contrast, sharpness; and which share is more like the mirrored photograph than like it."""
    level, contrast, sharpness, mirrored = [], [], [], []
    for image, label in zip(pixels, labels, strict=True):
        small, whole = (coarse(each) for each in (image, central[label]))
        level.append(image.mean())
        contrast.append(image.std())
        sharpness.append(np.abs(np.diff(image.astype(np.int16), axis=1)).mean())
        mirrored.append((small * whole[:, ::-1]).sum() > (small * whole).sum())
    return [float(np.mean(each)) for each in (level, contrast, sharpness, mirrored)]


def coarse(image: Any) -> Any:
    """Reduce an image to 14 x 14 levels about their mean."""
    small = image.reshape(14, SIDE_PX // 14, 14, SIDE_PX // 14, 3).mean(axis=(1, 3, 4))
    return small - small.mean()


def pillow(args: argparse.Namespace) -> Callable[[bytes, random.Random], Any]:
    """Return the function that makes an image with Pillow."""

    def make(data: bytes, draw: random.Random) -> Any:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        (left, top, width, height), flip = drawn(*image.size, draw, args)
        image = image.crop((left, top, left + width, top + height)).resize(
            (SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR
        )
        return np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image)

    return make


def prepare(args: argparse.Namespace) -> None:
    """Lay the files out as each contender wants them, and make the reference."""
    args.central = True
    chosen = [path for path in sorted(args.jpegs.iterdir()) if path.suffix.lower() in {".jpg", ".jpeg"}]
    chosen = [path for path in chosen if min(Image.open(path).size) >= args.min_side]
    for folder in ("photos", "tars", "shards"):
        shutil.rmtree(args.work / folder, ignore_errors=True)
    (args.work / "tars").mkdir()
    size = 0
    for number in range(args.images):
        label = number % len(chosen)
        path = args.work / "photos" / f"photo{label:04d}" / f"image{number:06d}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(chosen[label], path)
        size += path.stat().st_size
        with tarfile.open(args.work / "tars" / f"{number * _TARS // args.images:04d}.tar", "a") as tar:
            for suffix, content in (("jpg", path.read_bytes()), ("cls", str(label).encode())):
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    command = [sys.executable, "-m", "ltdata", "build", "folder", "--data-dir", str(args.work / "photos"), "--quiet"]
    subprocess.run([*command, "--out", str(args.work / "shards")], check=True, stdout=subprocess.DEVNULL)
    print(f"{len(chosen)} photographs of at least {args.min_side} px, {args.images:,} files, {size / 1e6:,.0f} MB")
    make, draw = pillow(args), random.Random(0)  # noqa: S311 - crops
    central = np.stack([make(path.read_bytes(), draw) for path in chosen])
    labels = np.array([label for _, label in files(args)])
    args.central = False
    crops = np.stack([make(path.read_bytes(), draw) for path, _ in files(args)])
    np.savez(args.work / "reference.npz", central=central, labels=labels, statistics=statistics(crops, labels, central))


def batches(args: argparse.Namespace) -> int:
    """Count the batches of a pass."""
    return int(args.images // args.batch)


CONTENDERS: dict[str, contest.Contender] = {
    "ltdata": ours,
    "torchvision ImageFolder": image_folder,
    "torchvision's own decoder": torchvision_decoder,
    "webdataset, 2 workers": webdataset(2),
    "webdataset, 0 workers": webdataset(0),
    "datasets": hugging_face,
    "DALI, CPU, box decoded": dali(crop_in_decoder=True),
    "DALI, CPU, box decoded, fast IDCT": dali(crop_in_decoder=True, fast_idct=True),
    "DALI, CPU, whole decoded": dali(crop_in_decoder=False),
    "ffcv": ffcv,
    "simplejpeg + OpenCV": opencv("simplejpeg"),
    "simplejpeg, fast DCT + OpenCV": opencv("simplejpeg, fast DCT"),
    "OpenCV": opencv("OpenCV"),
    "grain + simplejpeg + OpenCV": grain,
}


def main() -> None:
    """Run the contest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jpegs", type=Path, metavar="JPEGS")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=100, help="a divisor of IMAGES by WORKERS")
    parser.add_argument("--min-side", type=int, default=300)
    parser.set_defaults(central=False)
    table = contest.Table(
        title="JPEG photographs in the page cache -> random resized crop + flip, uint8 (batch, 224, 224, 3)",
        contenders=CONTENDERS, check=check, prepare=prepare, items=batches, lead=5,
        packages=(
            "pillow", "torch", "torchvision", "webdataset", "datasets", "nvidia-dali-cuda130", "ffcv", "simplejpeg",
            "opencv-python-headless", "grain",
        ),
    )  # fmt: skip
    contest.main(table, parser)


if __name__ == "__main__":
    main()
