"""Write manifests/: the pinned CIFAR splits, from the published labels.

    python scripts/pin_manifests.py DATA_DIR

DATA_DIR holds CIFAR-10 and CIFAR-100 in any form that `ltdata build` reads. Only the labels and the class names
matter: a pinned split holds no image, so files without the published digest are accepted for it.
"""

import argparse
import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

from ltdata.build import make_manifest
from ltdata.spec import Spec
from ltdata.manifest import rows_to_bytes
from ltdata.sources import Where, load_source

IMBALANCE_FACTORS = (10, 20, 50, 100, 200)


def main() -> None:
    """Write every header, every gzipped row file, and SHA256SUMS."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    data_dir = parser.parse_args().data_dir
    out = Path(__file__).parent.parent / "manifests"
    out.mkdir(exist_ok=True)
    table = []
    for source_id in ("cifar10", "cifar100"):
        source = load_source(source_id, Where(data_dir=data_dir, unverified=True))
        dropped = ("verified", "found", "pixels_sha256")  # of the images, and no image is here
        kept = {name: value for name, value in source.provenance.items() if name not in dropped}
        source = replace(source, provenance=kept)
        for profile in ("exp", "step"):
            for imbalance_factor in IMBALANCE_FACTORS:
                spec = Spec(source_id, imbalance_factor, profile=profile)
                manifest, rows = make_manifest(spec, source)
                lines = b"".join(rows_to_bytes(name, samples) for name, samples in rows.items())
                (out / f"{spec.name}.json").write_text(manifest.to_json(), encoding="utf-8")
                (out / f"{spec.name}.jsonl.gz").write_bytes(gzip.compress(lines, 9, mtime=0))
                table.append(
                    f"| `{spec.name}` | {manifest.splits['train'].num_samples:,} | {manifest.num_classes} "
                    f"| {manifest.class_counts.max()} .. {manifest.class_counts.min()} | `{manifest.content_sha256}` |"
                )
    text = (out / "README.md").read_text(encoding="utf-8") if (out / "README.md").exists() else "# Pinned splits\n"
    head = text.partition("| name |")[0].rstrip()
    rule = "| name | train images | classes | largest .. smallest | content_sha256 |\n|---|---|---|---|---|\n"
    (out / "README.md").write_text(head + "\n\n" + rule + "\n".join(table) + "\n", encoding="utf-8")
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(out.iterdir())
        if path.suffix in {".json", ".gz"}
    ]
    (out / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


if __name__ == "__main__":
    main()
