"""Loading: the images of a split from its shards to where a training reads them, every digest checked.

| images | where they are while a training runs |
|---|---|
| of one size (CIFAR) | resident: one array on the device |
| photographs that fit the memory given, at a common short side | resident: one flat array on the device |
| photographs that do not | streamed from the shards on this machine |
| photographs on a web server | streamed from there |

Every byte of the shards on this machine is compared with its digest before a split is handed out; those of a server
as they come. Resident images are decoded once, by threads; a file in the user's cache folder saves both at the next
start.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ace_ref import devices, jpeg
from ace_ref.draws import Split
from ace_ref.recipe import Recipe
from ace_ref.resident import RaggedSplit, ResidentSplit
from ace_ref.streamed import RemoteSplit, StreamedSplit
from ltdata import reader
from ltdata.access import OpenImages, open_images
from ltdata.errors import LtdataError, MismatchError, OutputError, UsageError
from ltdata.files import atomic_file, output_errors, sha256_bytes
from ltdata.manifest import Manifest
from ltdata.reader import default_workers
from ltdata.remote import Remote, open_remote, stream
from ltdata.sources.download import cache_folder

CACHE_NAME = "decoded"  # in the user's cache folder: what came with the shards is not believed
_RESIDENT_SHARE = 0.6  # of the memory that is free; the rest is for the network, and other sets
_HEAD_BYTES = 1 << 14  # of a file, in which its size in pixels stands, but for large EXIF blocks
_FORMAT = 2


@dataclass(frozen=True)
class Memory:
    """Say where resident images may lie.

    Attributes:
        device: of the training.
        resident_gb: at most, in 10^9 bytes, for each split of photographs; None: 0.6 of what is free, here and there.
        cache: write and read files of decoded images in `ltdata.sources.download.cache_folder`.
    """

    device: torch.device
    resident_gb: float | None = None
    cache: bool = False

    @property
    def limit_bytes(self) -> float:
        """Return how many bytes a split may take."""
        if self.resident_gb is not None:
            return self.resident_gb * 1e9
        host = devices.free_bytes(torch.device("cpu")) / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # decoded there
        return _RESIDENT_SHARE * min(host, devices.free_bytes(self.device))


def open_shards(place: str) -> tuple[Manifest, Path | Remote]:
    """Read the header of shards in a folder, or on a web server.

    Raises:
        SourceMissingError: nothing is there.
        MismatchError: it is not readable.
    """
    if "://" in place:
        remote = open_remote(place)
        return remote.manifest, remote
    return reader.read_manifest(Path(place)), Path(place)


def evaluation_split(manifest: Manifest) -> str:
    """Return the split that accuracies are of: ``test``, or ``val`` where the data set keeps its test labels to itself.

    Raises:
        MismatchError: it has neither.
    """
    for name in ("test", "val"):
        if name in manifest.splits:
            return name
    raise MismatchError(f"{manifest.name}: has no test split and no val split to evaluate on; build one that has")


def load_split(
    place: Path | Remote, manifest: Manifest, split: str, recipe: Recipe, memory: Memory, *, progress: bool = False
) -> Split:
    """Make a split's images ready for training, in the protocol's order.

    Args:
        place: see `open_shards`.
        manifest: of it.
        split: such as ``train``.
        recipe: its crop says whether images are of one size.
        memory: where they may lie.
        progress: show a bar on a terminal.

    Raises:
        MismatchError: a shard, a row or an image is not what the manifest says; the message names it.
    """
    device = memory.device
    if isinstance(place, Remote):
        if memory.cache or memory.resident_gb is not None:
            raise UsageError(f"--cache, --resident-gb: not for shards on a server; copy {place.place} to this machine")
        rows = np.arange(len(place.samples[split]))
        labels = torch.from_numpy(place.samples[split].labels).to(device)
        if recipe.crop == "resized":
            return RemoteSplit(place, split, rows, labels)
        return ResidentSplit(torch.from_numpy(_fetched(place, split, progress=progress)).to(device), labels)
    if recipe.crop == "pad":
        return _one_size(place, manifest, split, memory, progress=progress)
    images = open_images(place, manifest, split)
    with images:
        size = _sizes(images, split, progress=progress)
        shown = held_size(size, recipe)
        if int(shown.prod(axis=1).sum()) * 3 > memory.limit_bytes:
            reader.check_shards(place, manifest, split, progress=progress)
            return StreamedSplit(images, np.arange(len(images)), torch.from_numpy(images.labels).to(device))
        if (size == size[:1]).all() and size[0].min() <= recipe.short_side_px:
            return _one_size(place, manifest, split, memory, progress=progress)

        def read() -> dict[str, NDArray[Any]]:
            reader.check_shards(place, manifest, split, progress=progress)
            return {"flat": _decoded(images, shown, recipe, split, progress=progress), "shown": shown}

        name = f"{split}-{recipe.crop_px}-{recipe.short_side_px}"
        arrays = _cached(memory, name, manifest, {"flat": None, "shown": shown}, read)
    ends = np.cumsum(shown.prod(axis=1) * 3)
    flat, labels = (torch.from_numpy(values).to(device) for values in (arrays["flat"], images.labels))
    return RaggedSplit(flat, ends - shown.prod(axis=1) * 3, shown, labels)


def held_size(size: NDArray[np.int64], recipe: Recipe) -> NDArray[np.int64]:
    """Compute heights and widths in which photographs are held, as `jpeg.resized` does: int64 (n, 2)."""
    short = size.min(axis=1, keepdims=True)
    return np.asarray(np.clip(short, recipe.crop_px, recipe.short_side_px) * size / short, dtype=np.int64)


def _one_size(place: Path, manifest: Manifest, split: str, memory: Memory, *, progress: bool) -> ResidentSplit:
    def read() -> dict[str, NDArray[Any]]:
        pixels, labels = reader.read_images(place, manifest, split, progress=progress)
        return {"pixels": pixels, "labels": labels}

    names = ("pixels", "labels")
    arrays = _cached(memory, split, manifest, dict.fromkeys(names), read)
    return ResidentSplit(*(torch.from_numpy(arrays[name]).to(memory.device) for name in names))


def _fetched(remote: Remote, split: str, *, progress: bool) -> NDArray[np.uint8]:
    """Fetch and decode images of one size from a web server: uint8 (n, height, width, 3)."""
    rows = np.concatenate([plan.rows for plan in remote.plans[split]])
    pixels: NDArray[np.uint8] | None = None
    for row, data in _bar(stream(remote, split, rows), len(rows), f"fetch {split}", progress=progress):
        try:
            image = reader.decode(data)
        except ValueError as error:
            raise MismatchError(f"{remote.place}: {split} image {row} is not readable ({error})") from error
        if pixels is None:
            pixels = np.empty((len(rows), *image.shape), dtype=np.uint8)
        if image.shape != pixels.shape[1:]:
            raise MismatchError(f"{remote.place}: {split} image {row} has another size; --set crop=resized takes any")
        pixels[row] = image
    if pixels is None:
        raise MismatchError(f"{remote.place}: no image in {split}")
    return pixels


def _sizes(images: OpenImages, split: str, *, progress: bool) -> NDArray[np.int64]:
    """Read the heights and widths of all images from their first bytes: int64 (n, 2)."""

    def size(row: int) -> tuple[int, int]:
        try:
            return jpeg.size(images.head(row, _HEAD_BYTES))
        except ValueError:  # the header is longer, or the image of another kind
            return jpeg.size(images.read(row))

    return np.array(_mapped(images, size, f"sizes of {split}", progress=progress), dtype=np.int64).reshape(-1, 2)


def _decoded(
    images: OpenImages, size: NDArray[np.int64], recipe: Recipe, split: str, *, progress: bool
) -> NDArray[np.uint8]:
    """Decode photographs at a common short side, one after the other: uint8 (bytes,)."""
    ends = np.cumsum(size.prod(axis=1) * 3)
    flat = np.empty(int(ends[-1]), dtype=np.uint8)

    def place(row: int) -> None:
        pixels = jpeg.resized(images.read(row), least_px=recipe.crop_px, most_px=recipe.short_side_px)
        if pixels.shape[:2] != tuple(size[row].tolist()):
            raise ValueError(f"{pixels.shape[:2]} pixels, its header says another size")
        flat[ends[row] - pixels.size : ends[row]] = pixels.ravel()

    _mapped(images, place, f"decode {split}", progress=progress)
    return flat


def _mapped(images: OpenImages, work: Callable[[int], Any], title: str, *, progress: bool) -> list[Any]:
    """Do something for every row, by threads; errors name the image."""

    def named(row: int) -> Any:
        try:
            return work(row)
        except ValueError as error:
            if isinstance(error, LtdataError):
                raise
            reason = f"is not readable ({error}); ltdata verify names its source"
            raise MismatchError(f"{images.place(row)} {reason}") from error

    pool = devices.single_threads(default_workers())
    with reader.closing_pool(pool):
        return list(_bar(pool.map(named, range(len(images))), len(images), title, progress=progress))


def _bar(items: Iterable[Any], total: int, title: str, *, progress: bool) -> Iterator[Any]:
    yield from tqdm(items, total=total, unit=" images", desc=title, disable=None if progress else True)


def _cached(
    memory: Memory,
    name: str,
    manifest: Manifest,
    known: Mapping[str, NDArray[Any] | None],
    read: Callable[[], dict[str, NDArray[Any]]],
) -> dict[str, NDArray[Any]]:
    """Return arrays from their cache file, which is made where it is missing, of another header or damaged.

    A zip of arrays, each with its CRC, and of which build they are and by which decoders. `known` names the arrays,
    and has those that were read elsewhere: where the file has others, one of the two is damaged.
    """
    if not memory.cache:
        return read()
    header = sha256_bytes(manifest.to_json().encode())  # the rows are not read: all that they were compared with
    build = sha256_bytes(f"{manifest.name} {manifest.content_sha256}".encode())  # words of whoever made the shards
    path = cache_folder() / CACHE_NAME / f"{build[:16]}-{name}.npz"
    about = {"format": _FORMAT, "manifest_sha256": header, "decoders": _decoders()}
    # Of a garbled file zipfile and numpy raise nearly anything.
    with (
        suppress(Exception),
        reader.open_inside(path.parent, path.name) as stored,
        np.load(stored, allow_pickle=False) as found,
    ):
        said = json.loads(str(found["about"]))
        shapes = said.pop("arrays")  # a CRC is compared at the end of an array: of one that is made shorter, never
        if said == about:
            arrays = {key: found[key] for key in known}
            alike = all(value is None or np.array_equal(arrays[key], value) for key, value in known.items())
            if alike and _shapes(arrays) == shapes:
                return arrays
    arrays = read()
    try:
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                said = about | {"arrays": _shapes(arrays)}
                np.savez(file, about=np.array(json.dumps(said)), **arrays)  # type: ignore[arg-type]
    except OutputError as error:
        click.echo(f"ace_ref.train: --cache: {str(error).partition(';')[0]}; going on without it", err=True)
    return arrays


def _shapes(arrays: Mapping[str, NDArray[Any]]) -> dict[str, list[Any]]:
    return {name: [str(array.dtype), *array.shape] for name, array in arrays.items()}


def _decoders() -> dict[str, str | None]:
    """Name what pixels depend on."""
    found: dict[str, str | None] = {}
    for name in ("pillow", "simplejpeg", "torch"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
