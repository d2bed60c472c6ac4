"""Where the time of `ltdata build` goes, in seconds: one build, then the second command that finds and verifies it.

    python benchmarks/build_stages.py DATA_DIR [--dataset cifar100] [--imbalance 100]

DATA_DIR holds the source in any form that `ltdata build` reads. Each stage is timed by itself, in one process.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ltdata import build, files, png, shards
from ltdata.spec import Spec


def main() -> None:
    """Print one line per stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--dataset", default="cifar100")
    parser.add_argument("--imbalance", type=float, default=100)
    args = parser.parse_args()
    spent: dict[str, float] = {}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*values: Any, **named: Any) -> Any:
            started = time.perf_counter()
            result = function(*values, **named)
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - started
            return result

        return wrapper

    build.load_source = timed("read, check and parse the source", build.load_source)
    build.make_manifest = timed("select the images", build.make_manifest)
    png.encode = timed("  encode PNG", png.encode)
    files.flush_to_disk = timed("  flush to the disk", files.flush_to_disk)
    shards.write_all = timed("make the shards", shards.write_all)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "split"
        whole = timed("the whole build", build.build)
        whole(Spec(args.dataset, args.imbalance), data_dir=args.data_dir, unverified=True, out=out)
        again = timed("the second command: find it, verify every byte", build.build)
        again(Spec(args.dataset, args.imbalance), unverified=True, out=out)
    for name, seconds in spent.items():
        print(f"{name:48} {seconds:6.2f} s")
    print(f"{platform.machine()}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
