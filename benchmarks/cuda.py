"""Measure the data path and the training step on one CUDA device, beside floors measured in the same run.

    python benchmarks/cuda.py SHARDS [--json results/cuda/benchmark.json] [--only NAME,NAME] [--dry-run]

SHARDS is a built cifar100-lt-exp-if100. Needs no network. `--dry-run` goes through every line on the CPU with tiny
sizes and the plain torch kernels; its numbers mean nothing. Jobs, each on a line with its floor or its baseline:

* floors: bytes per second of a large device copy, operations per second of a large bf16 matrix product
* run: the published CIFAR-100-LT IF 100 run, 280 epochs, batch 128, 3 experts, from start to table, after a first short
  one (so that kernels are compiled and files in the page cache); and the same recipe as a plain eager loop with a
  DataLoader of 16 workers, of which some epochs are measured and 280 calculated
* seeds: five seeds of that run side by side
* crop: the CIFAR kernel at batch 8192, bf16, in bytes per second against the copy
* resized: the random resized crop kernel from a resident set at a short side of 256 px, with and without colours
* resnet50: steps of ResNet-50 with three experts on a resident set of 224 px, synthetic pixels
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from click.testing import CliRunner
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ace_ref import augment, devices, kernels, state, train, trainer
from ace_ref.loss import expert_losses
from ace_ref.recipe import load_recipe
from ace_ref.resident import ResidentSplit
from ace_ref.results import versions
from ace_ref.vision import load_torchvision
from ltdata import reader
from ltdata.manifest import Manifest, Split, describe_rule

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
JOBS = ("floors", "crop", "resized", "resnet50", "run", "seeds")


def main() -> None:
    """Run the jobs, print a line for each figure, and write them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default=",".join(JOBS))
    parser.add_argument("--epochs", type=int, default=280)
    parser.add_argument("--baseline-epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--dry-run", action="store_true")
    args = parser.parse_args()
    if not (args.dry_run or torch.cuda.is_available()):
        raise SystemExit("no CUDA device here; --dry-run goes through the script on the CPU")
    device = torch.device("cpu" if args.dry_run else "cuda")
    if args.dry_run:
        args.epochs, args.baseline_epochs, args.workers = 1, 1, 2
    devices.make_deterministic()
    found: dict[str, Any] = {
        "device": devices.device_name(device),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "dry_run": args.dry_run,
        "versions": versions(),
    }
    jobs: dict[str, Callable[[], dict[str, Any]]] = {
        "floors": lambda: floors(device),
        "crop": lambda: crop_kernel(device, found.get("floors", {})),
        "resized": lambda: resized_kernel(device),
        "resnet50": lambda: resnet50(device),
        "run": lambda: published_run(args, device),
        "seeds": lambda: five_seeds(args, device),
    }
    for name in args.only.split(","):
        found[name] = jobs[name]()
        for figure, value in found[name].items():
            print(f"{name:9} {figure:46} {value}", flush=True)
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(found, indent=2) + "\n")
    print("dry run: every line was passed; the numbers mean nothing" if args.dry_run else "done")


def median_s(work: Callable[[], object], device: torch.device, *, calls: int = 50, rounds: int = 7) -> float:
    """Return the median over rounds of the time of one call, device included, in seconds."""
    if device.type == "cpu":
        calls, rounds = 1, 1
    work()
    wait(device)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            work()
        wait(device)
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times)


def wait(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def floors(device: torch.device) -> dict[str, Any]:
    """Measure what the device can do at most: copy, and multiply."""
    count, side = (1 << 30, 8192) if device.type == "cuda" else (1 << 20, 64)
    source = torch.zeros(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = median_s(lambda: target.copy_(source), device, calls=20)
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    product_s = median_s(lambda: left @ right, device, calls=20)
    return {
        "copy_gb_per_s": round(2 * count / copy_s / 1e9, 1),  # read and written
        "matrix_tflop_per_s": round(2 * side**3 / product_s / 1e12, 1),
    }


def crop_kernel(device: torch.device, floor: dict[str, Any]) -> dict[str, Any]:
    """Time the CIFAR kernel at batch 8192, and compare its bytes per second with the copy's."""
    batch, images = (8192, 50_000) if device.type == "cuda" else (64, 100)
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)).to(device)
    columns = [rng.integers(0, limit, (1, batch)) for limit in (images, 9, 9, 2, 32, 32)]
    plan = torch.from_numpy(np.stack(columns, axis=-1)).int().to(device)
    step, mean, std = torch.zeros(1, dtype=torch.int64, device=device), *constants(device)
    out = torch.empty(batch, 3, 32, 32, dtype=torch.bfloat16, device=device)
    out = out.to(memory_format=torch.channels_last)
    run = kernels.crop if kernels.available(device) else kernels.crop_reference
    expected = torch.empty_like(out)
    kernels.crop_reference(pixels, plan, step, mean, std, expected, padding_px=4, cutout_px=0)
    run(pixels, plan, step, mean, std, out, padding_px=4, cutout_px=0)
    equal = bool(torch.equal(out, expected))
    seconds = median_s(lambda: run(pixels, plan, step, mean, std, out, padding_px=4, cutout_px=0), device)
    gb_per_s = batch * 32 * 32 * 3 * (1 + 2) / seconds / 1e9
    share = {"share_of_copy": round(gb_per_s / floor["copy_gb_per_s"], 3)} if "copy_gb_per_s" in floor else {}
    return {
        "equal_to_plain_torch": equal,
        "images_per_s": round(batch / seconds),
        "gb_per_s": round(gb_per_s, 1),
        **share,
    }


def resized_kernel(device: torch.device) -> dict[str, Any]:
    """Time the random resized crop kernel: a resident set with a short side of 256 px, batches of 256, side 224."""
    batch, images = (256, 4096) if device.type == "cuda" else (4, 6)
    rng = np.random.default_rng(0)
    size = np.stack([np.full(images, 256), rng.choice([256, 341, 384], images)], axis=1)
    ends = np.cumsum(size.prod(axis=1) * 3)
    flat = torch.randint(0, 256, (int(ends[-1]),), dtype=torch.uint8, device=device)
    offset = torch.from_numpy(ends - size.prod(axis=1) * 3).to(device)
    index = rng.integers(0, images, batch)
    boxes = augment.resized_boxes(rng.random((batch, 4)), size[index, 0], size[index, 1])
    columns = np.concatenate([index[:, None], boxes, rng.integers(0, 2, (batch, 1))], axis=1)
    plan = torch.from_numpy(columns[None]).int().to(device)
    step, mean, std = torch.zeros(1, dtype=torch.int64, device=device), *constants(device)
    out = torch.empty(batch, 3, 224, 224, dtype=torch.bfloat16, device=device)
    out = out.to(memory_format=torch.channels_last)
    run = kernels.resized_crop if kernels.available(device) else kernels.resized_crop_reference
    found: dict[str, Any] = {}
    for name, spread in (("plain", 0.0), ("with_colours", 0.4)):
        factors = torch.from_numpy(rng.uniform(1 - spread, 1 + spread, (1, batch, 3))).float().to(device)
        arguments = (flat, offset, torch.from_numpy(size).int().to(device), plan, factors, step, mean, std)
        seconds = median_s(lambda arguments=arguments: run(*arguments, out), device)  # type: ignore[misc]
        expected = torch.empty_like(out)
        kernels.resized_crop_reference(*arguments, expected)
        run(*arguments, out)
        found[f"images_per_s_{name}"] = round(batch / seconds)
        # In levels of 255: a byte rounded the other way, stretched by the colours
        found[f"mean_difference_{name}"] = round(float((out.float() - expected.float()).abs().mean()) * 255 * STD[0], 3)
    return found


def resnet50(device: torch.device) -> dict[str, Any]:
    """Time training steps of ResNet-50 with three experts on resident synthetic pixels of 224 px, batch 256."""
    batch, largest, classes, steps = (256, 64, 1000, 20) if device.type == "cuda" else (4, 8, 10, 2)
    side = 224 if device.type == "cuda" else 64
    recipe = load_recipe("imagenet-lt-resnet50", "ace", source="imagenet-lt", imbalance_factor=256).with_values(
        {"batch_size": batch, "precision": "bfloat16", "mixup_alpha": 0.0, "crop_px": side, "short_side_px": side}
    )
    counts = np.maximum(largest * 64 ** (-np.arange(classes) / (classes - 1)), 1).astype(np.int64)
    labels = torch.from_numpy(np.repeat(np.arange(classes), counts))
    pixels = torch.randint(0, 256, (len(labels), side, side, 3), dtype=torch.uint8, device=device)
    split = ResidentSplit(pixels, labels.to(device))
    manifest = Manifest(
        name="synthetic",
        source={"id": "synthetic"},
        protocol={"params": {}},
        group_rule=describe_rule("strict"),
        class_names=tuple(map(str, range(classes))),
        splits={"train": Split(len(labels), tuple(counts.tolist()), "")},
        content_sha256="",
        created_by={},
    )
    training = state.begin(recipe, manifest, split)
    running = trainer.steps(training, split)
    for _ in range(steps):  # warm up, and capture
        next(running)
    wait(device)
    start = time.perf_counter()
    for _ in range(steps):
        next(running)
    wait(device)
    seconds = (time.perf_counter() - start) / steps
    running.close()
    return {
        "images_per_s": round(batch / seconds),
        "ms_per_step": round(1000 * seconds, 2),
        "experts": len(training.targets),
    }


def published_run(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Time the published run from start to table, warm, and estimate the plain loop from some of its epochs."""
    command(args, device, "--epochs", "2")  # compiles, fills the page cache
    seconds, results = command(args, device, "--epochs", str(args.epochs))
    epoch_s = baseline_epoch_s(args, device)
    last = results[0]["accuracy"]["last"]
    return {
        "seconds_start_to_table": round(seconds, 1),
        "training_seconds": results[0]["seconds"],
        "accuracy": {name: last[name] for name in ("overall", "many", "medium", "few")},
        "plain_loop_seconds_per_epoch": round(epoch_s, 3),
        "plain_loop_seconds_calculated": round(epoch_s * args.epochs, 1),
        "times_as_fast": round(epoch_s * args.epochs / seconds, 2),
    }


def five_seeds(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Time five seeds side by side."""
    seconds, results = command(args, device, "--epochs", str(args.epochs), "--seeds", "0,1,2,3,4", "--together", "5")
    overall = [result["accuracy"]["last"]["overall"] for result in results]
    return {
        "seconds_start_to_table": round(seconds, 1),
        "overall_mean": round(statistics.mean(overall), 2),
        "overall_deviation": round(statistics.stdev(overall), 2),
    }


def command(args: argparse.Namespace, device: torch.device, *options: str) -> tuple[float, list[dict[str, Any]]]:
    """Run the trainer's command in this process; return its seconds, and its results."""
    recipe = ["--recipe", "tiny"] if args.dry_run else ["--recipe", "cifar", "--set", "precision=bfloat16"]
    with tempfile.TemporaryDirectory() as out:
        line = ["--shards", str(args.shards), "--out", out, "--device", device.type, "--quiet", "--json"]
        start = time.perf_counter()
        done = CliRunner().invoke(train.command, [*line, *recipe, *options], catch_exceptions=False)
        seconds = time.perf_counter() - start
    if done.exit_code:
        raise SystemExit(done.output)
    results = json.loads(done.stdout)
    return seconds, results if isinstance(results, list) else [results]


class Pictures(Dataset[tuple[Tensor, int]]):
    """Give images one by one through torchvision's transforms of PIL images, as the field's loops do."""

    def __init__(self, pixels: Any, labels: Any) -> None:
        from PIL import Image

        transforms = load_torchvision().transforms
        self.images = [Image.fromarray(image) for image in pixels]
        self.labels = labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def baseline_epoch_s(args: argparse.Namespace, device: torch.device) -> float:
    """Time an epoch of the same recipe as a plain eager loop: DataLoader, loss, SGD, one call at a time, float32."""
    manifest = reader.read_manifest(args.shards)
    pixels, labels = reader.read_images(args.shards, manifest, "train")
    recipe = load_recipe("tiny" if args.dry_run else "cifar", "ace", source="cifar100", imbalance_factor=100)
    split = ResidentSplit(torch.from_numpy(pixels).to(device), torch.from_numpy(labels).to(device))
    training = state.begin(recipe, manifest, split)
    sgd = torch.optim.SGD(training.model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    terms = state.terms_of(training, device)
    pictures = Pictures(pixels, labels)
    loader = DataLoader(
        pictures,
        batch_size=recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=args.workers,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )
    times = []
    for epoch in range(1 + args.baseline_epochs):
        start = time.perf_counter()
        for images, target in batches(loader, 2 if args.dry_run else None):
            logits = training.model(images.to(device, non_blocking=True))
            loss = expert_losses(logits, target.to(device, non_blocking=True), terms).sum()
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            loss.item()
        wait(device)
        if epoch:  # the first starts workers and chooses algorithms
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def batches(loader: Any, most: int | None) -> Iterator[Any]:
    """Yield at most so many batches."""
    for number, batch in enumerate(loader):
        if number == most:
            return
        yield batch


def constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation on a device."""
    return torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
    sys.exit(0)
