"""Compare building shards of photographs with copying them, and with other people's tools.

    python benchmarks/photo_shards.py JPEGS [--images 20000] [--rounds 3] [--work FOLDER]

JPEGS is a folder of JPEG files, repeated under new names, in a folder per class, as real copies. All read the same
files from the page cache and write to the same disk; the order alternates, medians and extremes are printed:

* ltdata build folder, 1 and 2 workers (digest of every image and shard, flushed to the disk)
* cp -r, then sha256sum of every copy: what moving and hashing the bytes costs
* webdataset's ShardWriter in a loop
* Hugging Face datasets: load_dataset("imagefolder"), then map over batches of 2,000 that writes tar files, 2 processes
* Hugging Face datasets: Dataset.from_generator, 2 processes: no tar files, bytes into Arrow files
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

CLASSES = 250
SHARDWRITER = """
import sys, webdataset, tqdm
from pathlib import Path
source, out = map(Path, sys.argv[1:])
out.mkdir()
names = sorted(path.name for path in source.iterdir())
with webdataset.ShardWriter(f"{out}/%06d.tar", maxcount=2000, maxsize=1 << 40, verbose=0) as sink:
    number = 0
    for label, name in enumerate(names):
        for path in sorted((source / name).iterdir()):
            sink.write({"__key__": f"{number:08d}", "jpg": path.read_bytes(), "cls": str(label)})
            number += 1
"""
IMAGEFOLDER = """
import io, sys, tarfile, datasets
from pathlib import Path
source, out = map(Path, sys.argv[1:])
datasets.disable_progress_bars()
def write(batch, rows):
    with tarfile.open(out / f"{rows[0] // 2000:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for row, image, label in zip(rows, batch["image"], batch["label"]):
            data = image["bytes"] or Path(image["path"]).read_bytes()
            for suffix, content in (("cls", str(label).encode()), ("jpg", data)):
                member = tarfile.TarInfo(f"{row:08d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return {"done": rows}
if __name__ == "__main__":
    out.mkdir()
    images = datasets.load_dataset("imagefolder", data_dir=str(source), split="train", cache_dir=str(out / "cache"))
    images = images.cast_column("image", datasets.Image(decode=False))
    images.map(write, with_indices=True, batched=True, batch_size=2000, num_proc=2, remove_columns=["image", "label"])
"""
DATASETS = """
import sys, datasets
from pathlib import Path
source, out = map(Path, sys.argv[1:])
datasets.disable_progress_bars()
names = sorted(path.name for path in source.iterdir())
rows = [(str(path), label) for label, name in enumerate(names) for path in sorted((source / name).iterdir())]
def read(rows):
    for path, label in rows:
        yield {"image": {"bytes": open(path, "rb").read(), "path": None}, "label": label}
if __name__ == "__main__":
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    datasets.Dataset.from_generator(read, gen_kwargs={"rows": rows}, features=features, num_proc=2, cache_dir=str(out))
"""


def main() -> None:
    """Make the files, run every way in turn, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jpegs", type=Path)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.work) as place:
        work = Path(place)
        small, large = (repeat(args.jpegs, work / f"photos{n}", n) for n in (min(1000, args.images), args.images))
        size = sum(path.stat().st_size for path in large.rglob("*.JPEG"))
        print(f"{args.images:,} JPEG files, {size / 1e6:,.0f} MB")
        ways = {
            "cp -r + sha256sum": copy_and_hash(large),
            "ltdata, 1 worker": ltdata(large, 1),
            "ltdata, 2 workers": ltdata(large, 2),
            "webdataset ShardWriter": [sys.executable, "-c", SHARDWRITER, str(large)],
            "datasets, imagefolder + map, 2 processes": script(work / "a.py", IMAGEFOLDER, large),
            "datasets, Arrow files, 2 processes": script(work / "b.py", DATASETS, large),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        peaks: dict[str, float] = {}
        for turn in range(args.rounds):
            for name in list(ways)[:: 1 if turn % 2 == 0 else -1]:
                seconds, peaks[name] = run(ways[name], work / "out")
                times[name].append(seconds)
        base = statistics.median(times["cp -r + sha256sum"])
        best = statistics.median(times["ltdata, 2 workers"])
        for name, found in times.items():
            middle = statistics.median(found)
            print(
                f"{name:40} {middle:6.2f} s ({min(found):.2f}..{max(found):.2f}) {args.images / middle:7,.0f} images/s "
                f"{peaks[name]:6,.0f} MB  {middle / base:.2f} x copy and hash  {middle / best:.2f} x ltdata, 2 workers"
            )
        for workers in (1, 2):
            _, little = run(ltdata(small, workers), work / "out")
            _, much = run(ltdata(large, workers), work / "out")
            print(f"memory, {workers} workers: {little:.0f} MB for 1,000 images, {much:.0f} MB for {args.images:,}")
    versions = ", ".join(f"{name} {version(name)}" for name in ("ltdata", "webdataset", "datasets"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")


def repeat(jpegs: Path, folder: Path, images: int) -> Path:
    """Copy the files under new names, in a folder per class."""
    files = sorted(path for path in jpegs.iterdir() if path.suffix.lower() in {".jpg", ".jpeg"})
    for number in range(images):
        place = folder / f"class{number % CLASSES:03d}"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files[number % len(files)], place / f"image{number:06d}.JPEG")
    return folder


def ltdata(folder: Path, workers: int) -> list[str]:
    """Return the command that builds the folder, but for its output."""
    command = [sys.executable, "-m", "ltdata", "build", "folder", "--data-dir", str(folder), "--quiet"]
    return [*command, "--workers", str(workers), "--out"]


def copy_and_hash(folder: Path) -> list[str]:
    """Return the command that copies and hashes, but for its output."""
    return ["sh", "-c", f'cp -r "{folder}" "$0" && find "$0" -type f -print0 | xargs -0 sha256sum > /dev/null']


def script(path: Path, text: str, source: Path) -> list[str]:
    """Write a script, for a library that starts processes of its own; return its command, but for the output."""
    path.write_text(text, encoding="utf-8")
    return [sys.executable, str(path), str(source)]


def run(command: list[str], out: Path) -> tuple[float, float]:
    """Run a command that writes `out`; return seconds and the largest resident set of it and its children in MB."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    start = time.perf_counter()
    child = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0.0
    while child.poll() is None:
        peak = max(peak, resident_mb(child.pid))
        time.sleep(0.02)
    seconds = time.perf_counter() - start
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}: failed")
    shutil.rmtree(out)
    return seconds, peak


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and its children (Linux), without pages shared with files, in MB."""
    total = 0.0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                total += int(line.split()[1]) / 1024
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            total += resident_mb(int(child))
    except (OSError, ValueError):
        pass
    return total


if __name__ == "__main__":
    main()
