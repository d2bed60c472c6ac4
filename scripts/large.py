"""A set of the size of ImageNet-LT, from nothing: built, verified, trained on, stopped and resumed, and measured.

    python scripts/large.py --json results/large.json

Makes 1,000 class folders with ImageNet-LT's own numbers of images (115,846, and one of each class to test on), each a
JPEG of 16 to 32 pixels that no other is like. Every stage is a command of its own; seconds on the clock, and the most
memory that it and its workers held at once (without pages of files, shared pages counted once).
"""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

REPO = Path(__file__).parent.parent
sys.path[:0] = [str(REPO), str(REPO / "benchmarks")]

from contest import machine, memory_mb, versions  # noqa: E402 - a folder beside this one

from ltdata import pinned  # noqa: E402
from ltdata.files import sha256_file  # noqa: E402

STEPS = 50
BATCH = 115_846 // STEPS
SETTINGS = {
    "backbone": "resnet8",
    "epochs": "1",
    "batch_size": str(BATCH),
    "crop_px": "16",
    "short_side_px": "16",
    "milestones": "[]",
    "warmup_epochs": "0",
    "precision": "float32",
    "sync_batchnorm": "false",
    "compile": "false",
}
PAUSE_S = 0.1  # between two looks at the memory


def main() -> None:
    """Parse the arguments, run every stage, report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2, help="processes that make and write images")
    parser.add_argument("--json", type=Path, help="write what was found here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        report = stages(Path(made), args.workers)
    print(as_text(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if report["resumed_equal"] else 1)


def stages(work: Path, workers: int) -> dict[str, Any]:
    """Run every stage; return what was found."""
    counts = list(pinned.header("imagenet-lt").splits["train"].class_counts)
    started = time.monotonic()
    with Pool(workers) as pool:
        made_bytes = sum(pool.starmap(make_class, [(work / "images", each, n + 1) for each, n in enumerate(counts)]))
    made_s = time.monotonic() - started
    built, ltdata = work / "built", [sys.executable, "-m", "ltdata"]
    found = [{"stage": "make the images", "seconds": round(made_s, 1)}]
    options = [
        "--data-dir",
        str(work / "images"),
        "--test-per-class",
        "1",
        "--workers",
        str(workers),
        "--out",
        str(built),
    ]
    found.append(measured("ltdata build folder", [*ltdata, "build", "folder", *options, "--quiet"]))
    found.append(measured("ltdata verify", [*ltdata, "verify", str(built), "--quiet"]))
    manifest = json.loads((built / "manifest.json").read_text(encoding="utf-8"))
    same = manifest["splits"]["train"]["class_counts"] == counts
    for name, more in (("resident", []), ("streamed", ["--resident-gb", "0"])):
        found.append(measured(f"train {STEPS} steps, {name}", train(built, work / name, more)))
    cut = train(built, work / "cut", ["--resident-gb", "0"])
    stopped = measured("train, streamed, stopped", cut, stop_after_s=found[-1]["seconds"] / 2)
    left = sorted(path.stem for path in (work / "cut" / "checkpoints").glob("*.safetensors"))
    if not left:
        raise SystemExit("stopped before the first step: --resume would prove nothing")
    found += [stopped, measured("resume, streamed", [*cut, "--resume"])]
    models = [sha256_file(work / name / "model.safetensors") for name in ("streamed", "cut")]
    return {
        "title": "a set of the size of ImageNet-LT, of tiny images",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine() | {"load": round(os.getloadavg()[2], 1)},  # of 15 minutes: others take their part
        "versions": versions(("ltdata", "numpy", "torch", "pillow", "simplejpeg")),
        "classes": manifest["num_classes"],
        "train_images": manifest["splits"]["train"]["num_samples"],
        "test_images": manifest["splits"]["test"]["num_samples"],
        "counts_are_imagenet_lt": same,
        "image_bytes": made_bytes,
        "batch_size": BATCH,
        "stages": found,
        "stopped_with": stopped["exit_code"],
        "stopped_at": left[-1],
        "resumed_equal": models[0] == models[1] and same,
    }


def make_class(root: Path, label: int, count: int) -> int:
    """Make the images of a class: soft noise, each of its own seed; return their bytes."""
    folder = root / f"n{label:08d}"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(label)
    total = 0
    for number in range(count):
        coarse = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        width, height = draw.integers(16, 33, 2).tolist()
        out = io.BytesIO()
        Image.fromarray(coarse).resize((width, height)).save(out, "JPEG", quality=80)
        (folder / f"{label:03d}_{number}.jpg").write_bytes(out.getvalue())
        total += out.tell()
    return total


def train(built: Path, out: Path, more: list[str]) -> list[str]:
    """Return the command of a training."""
    sets = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "ace_ref.train", "--shards", str(built), "--recipe", "imagenet-lt-resnet10"]
    return [*command, "--method", "ce", *sets, "--device", "cpu", "--quiet", "--json", "--out", str(out), *more]


def measured(stage: str, command: list[str], *, stop_after_s: float | None = None) -> dict[str, Any]:
    """Run a command, and stop it with SIGTERM if so asked; return its seconds and the memory of its whole tree."""
    started, peak_mb, stopped = time.monotonic(), 0.0, False
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603 - our own
        while process.poll() is None:
            peak_mb = max(peak_mb, memory_mb(process.pid))
            if stop_after_s is not None and not stopped and time.monotonic() - started > stop_after_s:
                process.send_signal(signal.SIGTERM)
                stopped = True
            time.sleep(PAUSE_S)
    if process.returncode != (143 if stopped else 0):
        raise SystemExit(f"{stage}: exit code {process.returncode}")
    seconds = round(time.monotonic() - started, 1)
    return {"stage": stage, "seconds": seconds, "peak_mb": round(peak_mb), "exit_code": process.returncode}


def as_text(report: dict[str, Any]) -> str:
    """Lay the record out for people."""
    lines = [f"{report['title']}: {report['classes']:,} classes, {report['train_images']:,} images to train on"]
    lines += [
        f"{each['stage']:28} {each['seconds']:8.1f} s {each.get('peak_mb', 0):8,} MB" for each in report["stages"]
    ]
    equal = "the same weights" if report["resumed_equal"] else "OTHER weights"
    return "\n".join([*lines, f"stopped with {report['stopped_with']} at {report['stopped_at']} and resumed: {equal}"])


if __name__ == "__main__":
    main()
