"""Measure ltdata at the size of iNaturalist 2018: 437,513 rows from a COCO-style JSON file, no images.

    python benchmarks/inat18_scale.py

Makes train2018.json and val2018.json of the real size (made-up file names, the class counts of the pinned header, the
fields of the real files) in a temporary folder, then runs each step as a process of its own: seconds on the clock and
the largest resident set.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from multiprocessing import Process
from pathlib import Path

import numpy as np

from ltdata import pinned

KINGDOMS = ("Plantae", "Insecta", "Aves", "Reptilia", "Mammalia")


def main() -> None:
    """Make the input, run the steps, print a table."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        maker = Process(target=make_input, args=(folder,))  # apart: a child's resident set begins with its parent's
        maker.start()
        maker.join()
        print(f"train2018.json: {(folder / 'train2018.json').stat().st_size / 1e6:.0f} MB")
        ltdata = [sys.executable, "-m", "ltdata"]
        build = [*ltdata, "build", "inat18", "--lists", ".", "--manifest-only", "--unverified", "--quiet"]
        load = "from ltdata.catalog import find; assert len(find('inat18', rows=True).manifest.labels) == 437513"
        steps = {
            "ltdata build inat18 --manifest-only": build,
            "load header and rows": [sys.executable, "-c", load],
            "ltdata stats inat18": [*ltdata, "stats", "inat18"],
            "ltdata verify inat18": [*ltdata, "verify", "inat18", "--quiet"],
            "import ltdata": [sys.executable, "-c", "import ltdata"],
            "python alone": [sys.executable, "-c", "pass"],
        }
        for name, command in steps.items():
            seconds, peak_mb = run(command, folder)
            print(f"{name:36} {seconds:6.2f} s {peak_mb:7,.0f} MB")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}")


def make_input(folder: Path) -> None:
    """Write both JSON files."""
    for split, described in pinned.header("inat18").splits.items():
        text = json.dumps(coco(split, described.class_counts))
        (folder / f"{split}2018.json").write_text(text, encoding="utf-8")


def run(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command three times, the build once; return the median seconds and the largest resident set in MB."""
    times, peak = [], 0.0
    for _ in range(1 if "build" in command else 3):
        start = time.perf_counter()
        child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        times.append(time.perf_counter() - start)
        peak = max(peak, usage.ru_maxrss / 1024)
        if os.waitstatus_to_exitcode(status):
            raise SystemExit(f"{' '.join(command)}: failed")
    return sorted(times)[len(times) // 2], peak


def coco(split: str, per_class: tuple[int, ...]) -> dict[str, object]:
    """Make a file with the fields of the competition's, its images in shuffled order."""
    labels = np.random.RandomState(0).permutation(np.repeat(np.arange(len(per_class)), per_class)).tolist()
    images, annotations = [], []
    for number, label in enumerate(labels):
        name = hashlib.md5(f"{split}{number}".encode(), usedforsecurity=False).hexdigest()
        path = f"train_val2018/{KINGDOMS[label % len(KINGDOMS)]}/{label}/{name}.jpg"
        images.append(
            {
                "id": number,
                "width": 800,
                "height": 600,
                "file_name": path,
                "license": 3,
                "rights_holder": "a user",
            }
        )
        annotations.append({"id": number, "image_id": number, "category_id": label})
    categories = [{"id": n, "name": str(n), "supercategory": KINGDOMS[n % 5]} for n in range(len(per_class))]
    return {"images": images, "annotations": annotations, "categories": categories, "info": {"year": 2018}}


if __name__ == "__main__":
    main()
