"""The lines that load a split: for Python, torchvision, Hugging Face, webdataset, the trainer.

Only lines that work for this split: one with images here, rows without images, a pinned name, or a header alone.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from ltdata import pinned
from ltdata.manifest import Manifest

_TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}  # sources whose positions are torchvision's
_PNG = {*_TORCHVISION, "digits"}  # sources whose images are stored as PNG, all of them


@dataclass(frozen=True)
class Lines:
    """Hold lines to copy, and what they are for."""

    title: str
    code: str
    note: str = ""


def loading_lines(manifest: Manifest, what: str, folder: Path | None) -> list[Lines]:
    """Write the lines that load a split.

    Args:
        manifest: of it.
        what: how it was named: a folder, a manifest file, or a pinned split's name.
        folder: where it lies; None for a pinned name or a manifest file alone.
    """
    if folder is None:
        return _without_folder(manifest, what)
    place = repr(str(folder))
    images = "paths" if manifest.splits["train"].list_sha256 is not None else "indices"
    if not manifest.has_images and manifest.view_of is None:
        return [
            Lines(
                "Python: rows",
                f"from ltdata import catalog\n\nmanifest = catalog.find({place}, rows=True).manifest\n"
                f"labels, {images} = manifest.labels, manifest.{images}",
                "This folder holds no images: rows name them in the source.",
            ),
            *_torchvision(
                manifest, f"catalog.find({place}, rows=True).manifest", imports="from ltdata import catalog\n"
            ),
            _check(folder),
        ]
    suffix = "png" if manifest.source.get("id") in _PNG else "jpg;png"
    found = [
        Lines(
            "Python: arrays",
            f"from pathlib import Path\nfrom ltdata import reader\n\nfolder = Path({place})\n"
            "manifest = reader.read_manifest(folder)\n"
            'pixels, labels = reader.read_images(folder, manifest, "train")',
            "Images of one size; every digest is checked.",
        ),
        Lines(
            "Python: any image, in any order",
            f"from ltdata import access, reader\n\nmanifest = reader.read_manifest({place})\n"
            f'with access.open_images({place}, manifest, "train") as images:\n    first = images.decode([0])',
        ),
        Lines("PyTorch: train ACE on it", f"python -m ace_ref.train --shards {shlex.quote(str(folder))}"),
        Lines(
            "Hugging Face",
            f"from ltdata import adapters\n\ndataset = adapters.huggingface({place})",
            "Needs the extra huggingface.",
        ),
        Lines(
            "webdataset",
            "from ltdata import adapters\n\n"
            f'samples = adapters.webdataset({place}).decode("pil").to_tuple("{suffix}", "cls")',
        ),
    ]
    pin = _pinned_name(manifest)
    if pin is not None:
        found += _torchvision(manifest, f"ltdata.load({pin!r})", imports="import ltdata\n")
    return [*found, _check(folder)]


def _without_folder(manifest: Manifest, what: str) -> list[Lines]:
    pin = _pinned_name(manifest)
    if pin is None:
        return [
            Lines(
                "Python: header",
                "from pathlib import Path\nfrom ltdata.manifest import Manifest\n\n"
                f'text = Path({what!r}).read_text(encoding="utf-8")\n'
                f"manifest = Manifest.from_json(text, origin={what!r})",
                "A header alone: class counts, names and digests. The rows lie beside it in its folder.",
            )
        ]
    source = str(manifest.source["id"])
    if manifest.samples is None:
        return [
            Lines(
                "Python: header",
                f"import ltdata\n\nmanifest = ltdata.load({pin!r})\ncounts = manifest.class_counts",
                "Its rows are those of the official lists, which you have or fetch.",
            ),
            Lines("Shell: rows", f"ltdata build {shlex.quote(source)} --manifest-only", "Reads and checks the lists."),
        ]
    load = f"ltdata.load({pin!r})"
    found = [
        Lines(
            "Python: rows",
            f"import ltdata\n\nmanifest = {load}  # pinned, needs no image\nindices, labels = manifest.indices, "
            "manifest.labels",
        ),
        *_torchvision(manifest, load, imports="import ltdata\n"),
    ]
    params = manifest.protocol.get("params", {})
    if source in _TORCHVISION and params.get("imbalance_factor"):
        factor = f"{float(params['imbalance_factor']):g}"
        profile = "" if params.get("profile") == "exp" else f" --profile {params.get('profile')}"
        found += [
            Lines(
                "Hugging Face: its own copy",
                "import datasets\nimport ltdata\n\n"
                f'dataset = datasets.load_dataset({source!r}, split="train").select({load}.indices)',
                "Downloads the data set from the hub.",
            ),
            Lines(
                "Shell: shards with the images",
                f"ltdata build {source} --imbalance {factor}{profile}",
                "Then readers, webdataset and the trainer take the folder.",
            ),
        ]
    return found


def _torchvision(manifest: Manifest, split: str, *, imports: str = "") -> list[Lines]:
    """Write torchvision's lines, where the split names the positions of its data set."""
    name = _TORCHVISION.get(str(manifest.source.get("id")))
    if name is None or manifest.protocol.get("params", {}).get("relabel"):
        return []
    return [
        Lines(
            "torchvision",
            f"{imports}from torch.utils.data import Subset\nfrom torchvision.datasets import {name}\n\n"
            f"dataset = Subset({name}(root, train=True), {split}.indices)",
            "root is the folder that holds torchvision's copy; its labels are those of this split.",
        )
    ]


def _pinned_name(manifest: Manifest) -> str | None:
    """Return the name under which exactly these rows are pinned; None where they are not."""
    if manifest.name not in pinned.names():
        return None
    return manifest.name if pinned.header(manifest.name).content_sha256 == manifest.content_sha256 else None


def _check(folder: Path) -> Lines:
    return Lines("Shell: check every digest", f"ltdata verify {shlex.quote(str(folder))}")
