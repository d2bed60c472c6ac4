"""Train ACE on the shards of a long-tailed split.

    python -m ace_ref.train --shards cifar100-lt-exp-if100

Reads the frequencies from the manifest and the images from the shards, every digest checked. The same command
gives the same numbers on the same machine. `--out` gets `result.json` and `model.safetensors`.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor
from tqdm import tqdm

from ace_ref import dataset, devices, optimizer, planner, results
from ace_ref import recipe as recipes
from ace_ref.checkpoint import Checkpoint, describe_split, save_checkpoint
from ace_ref.dataset import Draws, ResidentSplit
from ace_ref.evaluate import evaluate
from ace_ref.loss import expert_losses
from ace_ref.recipe import Recipe
from ace_ref.resnet import AceResNet
from ltdata import console, reader
from ltdata.errors import LtdataError, MismatchError, UsageError
from ltdata.files import exclusive, output_errors, sha256_file, write_atomic
from ltdata.manifest import Manifest

RESULT_NAME = "result.json"
MODEL_NAME = "model.safetensors"


@dataclass(frozen=True)
class Trained:
    """Hold a trained network, the mean loss of its last epoch, (expert,), and how long training took."""

    checkpoint: Checkpoint
    losses: list[float]
    seconds: float


def train(
    recipe: Recipe, manifest: Manifest, training: ResidentSplit, *, seed: int = 0, progress: bool = False
) -> Trained:
    """Train a network.

    Args:
        recipe: every value; empty mean and std are filled in from `training`.
        manifest: of the split; its frequencies plan the experts and their learning rates.
        training: the training images, on the device to train on.
        seed: of the initial weights and of every draw.
        progress: show a bar per epoch on a terminal.

    Raises:
        UsageError: the recipe does not fit the split.
        LtdataError: a loss is not finite.
    """
    if len(training) < recipe.batch_size:
        raise UsageError(
            f"batch_size {recipe.batch_size}: {manifest.name} has {len(training)} training images; set a smaller one"
        )
    if not recipe.mean:
        mean, std = dataset.channel_statistics(training)
        recipe = dataclasses.replace(recipe, mean=mean, std=std)
    device = training.labels.device
    chosen = planner.target_categories(
        manifest.class_counts,
        planner=recipe.planner,
        thresholds=recipe.thresholds,
        cuts=recipe.cuts,
        group_rule=manifest.group_rule["name"],
    )
    shares = planner.expert_shares(manifest.class_counts, chosen)
    model = AceResNet(recipe.backbone, experts=len(chosen), num_classes=manifest.num_classes, seed=seed)
    model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sgd = optimizer.make_optimizer(model, recipe, shares.tolist())
    step = make_step(model, sgd, recipe, training, torch.from_numpy(chosen).to(device))
    started = time.perf_counter()
    losses: list[float] = []
    for epoch in range(recipe.epochs):
        rates = optimizer.set_learning_rates(sgd, recipe, epoch)
        draws = dataset.draw_epoch(len(training), recipe, seed=seed, epoch=epoch, device=device)
        losses = _train_epoch(step, draws, model, recipe, epoch, rates, progress=progress)
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):  # waits for the device, too
        raise LtdataError("the last step left weights that are not finite: try a lower lr")
    seconds = time.perf_counter() - started
    return Trained(Checkpoint(model, recipe, chosen, describe_split(manifest), seed), losses, seconds)


def make_step(
    model: AceResNet, sgd: torch.optim.SGD, recipe: Recipe, training: ResidentSplit, targets: Tensor
) -> Callable[[Draws, int], Tensor]:
    """Make the training step: (draws of the epoch, number of the step) to the experts' losses, (expert,)."""
    device = training.labels.device
    padded = dataset.pad(training.pixels, recipe.crop_padding_px)
    side_px = training.pixels.shape[1]
    mean, std = (torch.tensor(values, device=device) for values in (recipe.mean, recipe.std))

    def step(draws: Draws, number: int) -> Tensor:
        index = draws.index[number]
        crops = dataset.gather(
            padded, index, draws.top[number], draws.left[number], draws.flip[number], side_px=side_px
        )
        images, labels = dataset.normalise(crops, mean, std), training.labels[index]
        mix = float(draws.mix[number])
        if mix == 1.0:
            losses = expert_losses(model(images), labels, targets, complementary=recipe.complementary)
        else:
            partner = draws.partner[number]
            logits = model(mix * images + (1 - mix) * images[partner])
            first, second = (
                expert_losses(logits, own, targets, complementary=recipe.complementary)
                for own in (labels, labels[partner])
            )
            losses = mix * first + (1 - mix) * second
        sgd.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        sgd.step()
        return losses.detach()

    return step


def _train_epoch(
    step: Callable[[Draws, int], Tensor],
    draws: Draws,
    model: AceResNet,
    recipe: Recipe,
    epoch: int,
    rates: list[float],
    *,
    progress: bool,
) -> list[float]:
    """Run the steps of an epoch; return the mean loss of every expert."""
    model.train()
    steps = len(draws.index)
    total = torch.zeros(len(rates), device=draws.index.device)
    shown = "/".join(f"{rate:.3g}" for rate in rates)
    description = f"epoch {epoch + 1}/{recipe.epochs}"
    with tqdm(
        total=steps * recipe.batch_size,
        unit=" images",
        desc=description,
        leave=False,
        disable=None if progress else True,
    ) as bar:
        for number in range(steps):
            losses = step(draws, number)
            if not bool(losses.isfinite().all()):
                expert = int((~losses.isfinite()).nonzero()[0]) + 1
                raise LtdataError(
                    f"the loss of expert {expert} is {losses[expert - 1].item()} at epoch {epoch + 1}, "
                    f"step {number + 1}, learning rate {rates[expert - 1]:.3g}: try a lower lr"
                )
            total += losses
            if not bar.disable:
                mean = "/".join(f"{value:.3f}" for value in (total / (number + 1)).tolist())
                bar.set_postfix_str(f"loss {mean} lr {shown}", refresh=False)
                bar.update(recipe.batch_size)
    return [float(value) for value in (total / steps).tolist()]


def make_result(trained: Trained, accuracy: dict[str, Any], images: int, device: torch.device) -> dict[str, Any]:
    """Make the record that goes into `result.json`."""
    checkpoint = trained.checkpoint
    recipe = checkpoint.recipe
    seen = recipe.epochs * (images // recipe.batch_size) * recipe.batch_size
    return {
        "schema_version": results.SCHEMA_VERSION,
        "method": "ace",
        "recipe": dataclasses.asdict(recipe),
        "seed": checkpoint.seed,
        "split": checkpoint.split,
        "experts": [int(own.sum()) for own in checkpoint.targets],
        "accuracy": {"last": accuracy, "best_on_test": None},
        "train_loss": {"last": trained.losses},
        "parameters": results.parameters(checkpoint.model),
        "flops_per_image": results.flops_per_image(checkpoint.model),
        "seconds": round(trained.seconds, 2),
        "images_per_second": round(seen / trained.seconds, 1),
        "device": devices.device_name(device),
        "versions": results.versions(),
    }


@click.command()
@click.option("--shards", type=click.Path(path_type=Path), required=True, help="Folder that ltdata build wrote.")
@click.option(
    "--recipe", "recipe_name", type=click.Choice(recipes.names()), default="cifar", show_default=True, help="Settings."
)
@click.option("--epochs", type=click.IntRange(1), help="Another length; milestones keep their proportion.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override any value of the recipe.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the result  [default: runs/SPLIT-RECIPE-seedN]"
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--force", is_flag=True, help="Write over the result of another training.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--quiet", is_flag=True, help="No progress, no messages; errors and data only.")
def command(
    shards: Path,
    recipe_name: str,
    epochs: int | None,
    overrides: tuple[str, ...],
    seed: int,
    out: Path | None,
    device: str,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train ACE on the shards of a long-tailed split, and print the accuracies of the LAST epoch."""
    chosen = devices.choose_device(device)
    devices.make_deterministic()
    manifest = reader.read_manifest(shards)
    if "test" not in manifest.splits:
        raise MismatchError(f"{shards}: has no test split to evaluate on; build one that has")
    params = manifest.protocol.get("params", {})
    recipe = recipes.load_recipe(
        recipe_name, source=str(manifest.source["id"]), imbalance_factor=float(params.get("imbalance_factor", 0))
    )
    recipe = recipe.with_epochs(epochs) if epochs is not None else recipe
    recipe = recipe.with_values(dict(map(recipes.parse_override, overrides)))
    folder = out if out is not None else Path("runs") / f"{manifest.name}-{recipe_name}-seed{seed}"
    with exclusive(folder), _no_empty_folder(folder), _enough_memory():
        _check_output(folder, recipe, manifest, seed, force=force)
        training, test = (dataset.load_split(shards, manifest, split, chosen) for split in ("train", "test"))
        trained = train(recipe, manifest, training, seed=seed, progress=not quiet)
        accuracy = evaluate(trained.checkpoint, test, manifest)
        result = make_result(trained, accuracy, len(training), chosen)
        # The result is removed first and written last: where it stands, the model beside it is its own.
        (folder / RESULT_NAME).unlink(missing_ok=True)
        save_checkpoint(folder / MODEL_NAME, trained.checkpoint)
        result["model_sha256"] = sha256_file(folder / MODEL_NAME)
        write_atomic(folder / RESULT_NAME, results.to_json(result).encode())
    if as_json:
        click.echo(json.dumps(result))
        return
    last = f"ace, recipe {recipe_name}, seed {seed}, last of {trained.checkpoint.recipe.epochs} epochs,"
    click.echo(results.table(trained.checkpoint.split, accuracy, title=last))
    click.echo(
        f"{result['parameters']:,} parameters, {result['flops_per_image'] / 1e6:.1f} MFLOP per image, "
        f"{result['seconds']:.0f} s at {result['images_per_second']:,.0f} images/s on {result['device']}"
    )
    click.echo(f"result: {folder / RESULT_NAME}")


@contextmanager
def _enough_memory() -> Iterator[None]:
    """Turn the ways in which Python and torch say that memory ran out into one line."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, LtdataError) or not ("memory" in str(error) or isinstance(error, MemoryError)):
            raise
        raise LtdataError("there is not enough memory; set a smaller batch_size, or use another device") from error


@contextmanager
def _no_empty_folder(folder: Path) -> Iterator[None]:
    """Remove the output folder at the end if nothing was written into it."""
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()


def _check_output(folder: Path, recipe: Recipe, manifest: Manifest, seed: int, *, force: bool) -> None:
    """Make the output folder before any work is done, unless it lies inside a build or holds another training."""
    reader.refuse_inside_build(folder.resolve())
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / ".probe", b"")
        (folder / ".probe").unlink()
    path = folder / RESULT_NAME
    if force or not (path.exists() or (folder / MODEL_NAME).exists()):
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        asked = json.loads(json.dumps(dataclasses.asdict(recipe)))
        if not recipe.mean:
            asked |= {name: before["recipe"][name] for name in ("mean", "std")}
        same = before["recipe"] == asked and before["seed"] == seed
        same = same and before["split"] == describe_split(manifest)
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise UsageError(f"{folder}: holds another training; choose another --out, or --force to replace it")


if __name__ == "__main__":
    console.run(command, name="ace_ref.train")
