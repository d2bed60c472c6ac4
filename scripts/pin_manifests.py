"""Write manifests/: the pinned CIFAR splits, from the published labels, and the headers of the official lists.

    python scripts/pin_manifests.py DATA_DIR LISTS_DIR

DATA_DIR holds CIFAR-10 and CIFAR-100 in any form that `ltdata build` reads. Only the labels and the class names
matter: a pinned split holds no image, so files without the published digest are accepted for it. LISTS_DIR holds
imagenet_lt/ and inat18/ with the lists and class counts that can be had: ImageNet-LT's header follows from its val and
test lists, the class counts of its training list, and that list's published SHA-256.
"""

import argparse
import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ltdata import __version__
from ltdata.build import make_manifest
from ltdata.lists import read_text_list
from ltdata.manifest import Manifest, Split, describe_rule
from ltdata.samples import content_digest_of_lists, list_bytes, rows_to_bytes
from ltdata.sources import Where, load_source
from ltdata.sources.listed import provenance, recognise
from ltdata.sources.official import IMAGENET_LT, INAT18, Official
from ltdata.spec import Spec

IMBALANCE_FACTORS = (10, 20, 50, 100, 200)


def main() -> None:
    """Write every header, every gzipped row file, the table, and SHA256SUMS."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("lists_dir", type=Path)
    arguments = parser.parse_args()
    out = Path(__file__).parent.parent / "manifests"
    out.mkdir(exist_ok=True)
    made = [*pin_cifar(arguments.data_dir, out), *pin_official(arguments.lists_dir, out)]
    write_table(made, out)
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(out.iterdir())
        if path.suffix in {".json", ".gz"}
    ]
    (out / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


def pin_cifar(data_dir: Path, out: Path) -> list[Manifest]:
    """Write headers and rows of the CIFAR splits."""
    pinned = []
    for source_id in ("cifar10", "cifar100"):
        source = load_source(source_id, Where(data_dir=data_dir, unverified=True))
        dropped = ("verified", "found", "pixels_sha256")  # of the images, and no image is here
        kept = {name: value for name, value in source.provenance.items() if name not in dropped}
        source = replace(source, provenance=kept)
        for profile in ("exp", "step"):
            for imbalance_factor in IMBALANCE_FACTORS:
                manifest, rows = make_manifest(Spec(source_id, imbalance_factor, profile=profile), source)
                lines = b"".join(rows_to_bytes(name, samples) for name, samples in rows.items())
                (out / f"{manifest.name}.json").write_text(manifest.to_json(), encoding="utf-8")
                (out / f"{manifest.name}.jsonl.gz").write_bytes(gzip.compress(lines, 9, mtime=0))
                pinned.append(manifest)
    return pinned


def pin_official(lists_dir: Path, out: Path) -> list[Manifest]:
    """Write the headers of ImageNet-LT and iNaturalist 2018; their rows come from the user's copy of the lists."""
    pinned = []
    for dataset, folder, counts_file in (
        (IMAGENET_LT, "imagenet_lt", "imagenet_lt_train_class_counts.json"),
        (INAT18, "inat18", "inat18_train_class_counts.json"),
    ):
        counts = json.loads((lists_dir / folder / counts_file).read_text(encoding="utf-8"))
        manifest = header(dataset, {"train": np.array(counts)}, lists_dir / folder)
        (out / f"{manifest.name}.json").write_text(manifest.to_json(), encoding="utf-8")
        pinned.append(manifest)
    return pinned


def header(dataset: Official, counts: Mapping[str, np.ndarray], folder: Path) -> Manifest:
    """Make a header from class counts, published digests, and the lists that are in the folder."""
    splits, class_names = {}, {}
    for name, official in dataset.lists.items():
        path = folder / official.file
        if path.exists():
            listed = recognise(dataset, name, read_text_list(path.read_bytes(), origin=str(path)))
            if not listed.official:
                raise SystemExit(f"{path}: not the official list")
            class_names |= {
                label: dataset.class_of(image)
                for image, label in zip(listed.paths, listed.labels.tolist(), strict=True)
            }
            found = np.bincount(listed.labels, minlength=dataset.num_classes)
            sha256 = hashlib.sha256(list_bytes(listed.samples)).hexdigest()
        else:
            found, sha256 = counts[name], official.sha256
        if found.sum() != official.rows or (
            name == "train" and (found.max(), found.min()) != (dataset.largest, dataset.smallest)
        ):
            raise SystemExit(f"{folder}: {name} counts are not those of {dataset.title}")
        splits[name] = Split(int(found.sum()), tuple(found.tolist()), samples_sha256=None, list_sha256=sha256)
    known = {name: (split.num_samples, str(split.list_sha256)) for name, split in splits.items()}
    whole = all(split.list_sha256 for split in splits.values())
    return Manifest(
        name=dataset.id,
        source=provenance(dataset),
        protocol=Spec(dataset.id).protocol,
        group_rule=describe_rule("strict"),
        class_names=tuple(str(class_names[label]) for label in range(dataset.num_classes)),
        splits=splits,
        content_sha256=content_digest_of_lists(dataset.id, known) if whole else None,
        created_by={"ltdata": __version__},
        citation=dataset.citation,
    )


def write_table(made: list[Manifest], out: Path) -> None:
    """Write the table of manifests/README.md under its text."""
    table = [
        f"| `{manifest.name}` | {manifest.splits['train'].num_samples:,} | {manifest.num_classes:,} "
        f"| {manifest.class_counts.max()} .. {manifest.class_counts.min()} "
        f"| {f'`{manifest.content_sha256}`' if manifest.content_sha256 else 'from your copy of the lists'} |"
        for manifest in made
    ]
    text = (out / "README.md").read_text(encoding="utf-8") if (out / "README.md").exists() else "# Pinned splits\n"
    head = text.partition("| name |")[0].rstrip()
    rule = "| name | train images | classes | largest .. smallest | content_sha256 |\n|---|---|---|---|---|\n"
    (out / "README.md").write_text(head + "\n\n" + rule + "\n".join(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
