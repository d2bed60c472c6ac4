"""Shards of CIFAR-100-LT into memory, decoded: ours against other people's readers of WebDataset tar files.

    python benchmarks/read_shards.py SHARDS [--rounds 5] [--json FILE]

SHARDS is a folder built with `ltdata build cifar100 --imbalance 100`. Every contender turns the tar files of the train
split, which lie in the page cache, into uint8 (n, 32, 32, 3) and labels in memory, over and over. Ours also compares
the digest of every shard, row and image, which none of the others does. The check compares every image and label with
what tarfile and Pillow read; the order is each reader's own.
"""

import argparse
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import contest
import numpy as np

from ltdata import reader


def ours(args: argparse.Namespace) -> contest.Stream:
    """Read the split with ltdata, every digest checked."""
    while True:
        yield reader.read_images(args.shards, reader.read_manifest(args.shards), "train")


def shards(args: argparse.Namespace) -> list[str]:
    """List the tar files."""
    return [str(path) for path in sorted((args.shards / "train").glob("*.tar"))]


def collect(samples: Any) -> tuple[Any, Any]:
    """Make two arrays of pairs."""
    pixels, labels = zip(*samples, strict=True)
    return np.stack(pixels), np.array(labels)


def tarfile_pillow(args: argparse.Namespace) -> contest.Stream:
    """Read with a loop over tarfile's members, as data sets for torchvision do."""
    from PIL import Image

    while True:
        pixels, labels = [], []
        for path in shards(args):
            with tarfile.open(path) as tar:
                for member in tar:
                    data = tar.extractfile(member).read()  # type: ignore[union-attr]
                    if member.name.endswith(".cls"):
                        labels.append(int(data))
                    else:
                        pixels.append(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
        yield np.stack(pixels), np.array(labels)


def webdataset(workers: int, *, decoder: str) -> contest.Contender:
    """Make webdataset's reader: `decoder` is one of its own, or ``map`` for a function of two lines."""

    def stream(args: argparse.Namespace) -> contest.Stream:
        import webdataset as wds
        from PIL import Image

        def decoded(data: bytes) -> Any:
            return np.asarray(Image.open(io.BytesIO(data)))

        samples = wds.WebDataset(shards(args), shardshuffle=False)
        samples = samples.map_dict(png=decoded, cls=int) if decoder == "map" else samples.decode(decoder)
        pairs = samples.to_tuple("png", "cls")
        if workers == 0:
            while True:
                yield collect(pairs)
        # Batches are put together in the workers: a message per image would cost more than the image.
        loader = wds.WebLoader(
            pairs.batched(512, collation_fn=collect), batch_size=None, num_workers=workers, persistent_workers=True
        )
        while True:
            yield tuple(map(np.concatenate, zip(*((np.asarray(a), b) for a, b in loader), strict=True)))  # type: ignore[misc]

    return stream


def hugging_face(*, streaming: bool) -> contest.Contender:
    """Make Hugging Face's reader: of the tar files, or of the Arrow files it has made of them, which is not timed."""

    def stream(args: argparse.Namespace) -> contest.Stream:
        import datasets

        datasets.disable_progress_bars()
        cache = str(args.work / "hugging-face")
        samples = datasets.load_dataset(
            "webdataset", data_files={"train": shards(args)}, split="train", streaming=streaming, cache_dir=cache
        )
        if not streaming:
            samples = samples.with_format("numpy")
            while True:
                yield tuple(
                    np.concatenate([b[key] for b in batches])
                    for batches in [list(samples.iter(512))]
                    for key in ("png", "cls")
                )
        while True:
            yield collect((np.asarray(sample["png"]), sample["cls"]) for sample in samples)

    return stream


def dali(args: argparse.Namespace) -> contest.Stream:
    """Read with DALI's webdataset reader and PNG decoder on the CPU."""
    from nvidia.dali import fn, pipeline_def, types

    paths = shards(args)
    count = len(reference(args))

    @pipeline_def(batch_size=512, num_threads=args.workers, device_id=None, prefetch_queue_depth=2)
    def pipeline() -> Any:
        png, cls = fn.readers.webdataset(paths=paths, ext=["png", "cls"])
        return fn.decoders.image(png, output_type=types.RGB), fn.pad(cls, shape=[4], fill_value=32)

    ready = pipeline()
    ready.build()
    parts: list[tuple[Any, Any]] = []
    missing = count
    while True:
        images, digits = ready.run()
        parts.append((images.as_array().copy(), digits.as_array().view("S4").ravel().astype(np.int64)))
        missing -= len(parts[-1][1])
        if missing <= 0:  # batches run on over the end of a pass
            pixels, labels = map(np.concatenate, zip(*parts, strict=True))
            yield pixels[:count], labels[:count]
            parts, missing = [(pixels[count:], labels[count:])], count + missing


def check(args: argparse.Namespace, contender: contest.Contender) -> str:
    """Compare a whole split, image by image.

    Raises:
        ValueError: it differs.
    """
    pixels, labels = map(np.asarray, next(contender(args)))
    wanted = reference(args)
    if pixels.shape != (len(wanted), 32, 32, 3) or pixels.dtype != np.uint8 or labels.shape != (len(wanted),):
        raise ValueError(f"{pixels.dtype} {pixels.shape}, labels {labels.shape}")
    if digests(pixels, labels) != wanted:
        raise ValueError("other images or labels")
    return f"{len(wanted):,} images exact"


def digests(pixels: Any, labels: Any) -> list[str]:
    """Digest every image with its label, in an order that says nothing."""
    return sorted(
        hashlib.sha256(image.tobytes() + bytes([label])).hexdigest()
        for image, label in zip(np.ascontiguousarray(pixels), labels.tolist(), strict=True)
    )


def reference(args: argparse.Namespace) -> list[str]:
    """Read what `prepare` wrote."""
    found: list[str] = json.loads((args.work / "digests.json").read_text())
    return found


def prepare(args: argparse.Namespace) -> None:
    """Read the reference, which also brings the shards into the page cache."""
    (args.work / "digests.json").write_text(json.dumps(digests(*next(tarfile_pillow(args)))))


CONTENDERS: dict[str, contest.Contender] = {
    "ltdata": ours,
    "tarfile + Pillow": tarfile_pillow,
    'webdataset, decode("rgb8")': webdataset(0, decoder="rgb8"),
    'webdataset, decode("rgb8"), 2 workers': webdataset(2, decoder="rgb8"),
    "webdataset, own decoder": webdataset(0, decoder="map"),
    "webdataset, own decoder, 2 workers": webdataset(2, decoder="map"),
    "datasets, streamed": hugging_face(streaming=True),
    "datasets, from its Arrow files": hugging_face(streaming=False),
    "DALI, CPU": dali,
}


def main() -> None:
    """Run the contest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, metavar="SHARDS")
    table = contest.Table(
        title="CIFAR-100-LT tar shards in the page cache -> uint8 (n, 32, 32, 3) and labels in memory",
        contenders=CONTENDERS, check=check, prepare=prepare, items=lambda _: 1, lead=1,
        packages=("pillow", "webdataset", "datasets", "nvidia-dali-cuda130"),
    )  # fmt: skip
    contest.main(table, parser)


if __name__ == "__main__":
    main()
