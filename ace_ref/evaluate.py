"""Evaluate a checkpoint on the test shards of its split.

python -m ace_ref.evaluate --checkpoint RUN/model.safetensors --shards cifar100-lt-exp-if100
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from ace_ref import aggregation, augment, devices, loading, results
from ace_ref.checkpoint import Checkpoint, describe_split, load_checkpoint
from ace_ref.draws import Split
from ace_ref.loading import Memory
from ace_ref.ranks import Ranks, add
from ltdata import console
from ltdata.errors import MismatchError
from ltdata.groups import RULES
from ltdata.manifest import Manifest

_BATCH_SIZE = 500


def evaluate(
    checkpoint: Checkpoint,
    test: Split,
    manifest: Manifest,
    *,
    ranks: Ranks = Ranks(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Compute the accuracies of a trained network; see `ace_ref.results.accuracies`.

    The network must be on the device of `test`. It is left in evaluation mode. Every rank computes its part of the
    images, and gets the accuracies of all.
    """
    part = test if ranks.world == 1 else test.take(np.arange(ranks.rank, len(test), ranks.world))
    correct, total = (
        add(torch.from_numpy(counts).to(test.labels.device), ranks).cpu().numpy()
        for counts in count_correct(checkpoint, part)
    )
    return results.accuracies(correct, total, manifest.groups, checkpoint.targets)


@torch.no_grad()
def count_correct(checkpoint: Checkpoint, test: Split) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count right answers per class: experts together, then each alone, int64 (1 + K, C); and images, (C,)."""
    model, recipe = checkpoint.model.eval(), checkpoint.recipe
    device = test.labels.device
    targets = torch.from_numpy(checkpoint.targets).to(device)
    scales = aggregation.expert_scales(model.classifier_weights(), targets, kind=recipe.scale)
    experts, classes = targets.shape
    correct = torch.zeros((1 + experts, classes), dtype=torch.int64, device=device)
    for labels, pixels in test.central(recipe, _BATCH_SIZE):
        constants = augment.constants(recipe.mean, recipe.std, (pixels.shape[1], pixels.shape[2]), device)
        logits = model(augment.normalise(pixels.to(device), constants))
        together = aggregation.aggregate(logits, targets, scales)
        answers = torch.cat([together[:, None], logits], dim=1).argmax(dim=2)  # (batch, 1 + expert)
        for row in range(1 + experts):
            correct[row] += torch.bincount(labels[answers[:, row] == labels], minlength=classes)
    total = np.bincount(test.host_labels, minlength=classes)
    return correct.cpu().numpy(), total.astype(np.int64)


def check_split(split: dict[str, Any], manifest: Manifest, *, origin: str) -> None:
    """Refuse shards of another split than the checkpoint's.

    Raises:
        MismatchError: the rows, or the bytes of the images, are others.
    """
    if split["content_sha256"] == manifest.content_sha256 and (
        split["samples_sha256"] != manifest.splits["train"].samples_sha256
    ):
        raise MismatchError(f"{origin}: trained on other images under the same rows; train again on these")
    if split["content_sha256"] != manifest.content_sha256:
        raise MismatchError(
            f"{origin}: trained on {split['name']} (content {split['content_sha256'][:16]}), these shards are "
            f"{manifest.name} (content {str(manifest.content_sha256)[:16]}); give it the shards of its own split"
        )


@click.command()
@click.option("--checkpoint", "path", type=click.Path(path_type=Path), required=True, help="A model.safetensors.")
@click.option("--shards", metavar="FOLDER|URL", required=True, help="Folder of ltdata build, or its http(s) URL.")
@click.option("--groups", type=click.Choice(list(RULES)), help="Another rule for many, medium, few.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def command(path: Path, shards: str, groups: str | None, device: str, as_json: bool) -> None:
    """Evaluate a checkpoint on the test shards of its split, and print its table."""
    chosen = devices.choose_device(device)
    devices.make_deterministic()
    manifest, place = loading.open_shards(shards)
    manifest = manifest.with_groups(groups) if groups is not None else manifest
    checkpoint = load_checkpoint(path)
    check_split(checkpoint.split, manifest, origin=str(path))
    checkpoint.model.to(chosen)
    evaluated_on = loading.evaluation_split(manifest)
    test = loading.load_split(place, manifest, evaluated_on, checkpoint.recipe, Memory(chosen))
    accuracy = evaluate(checkpoint, test, manifest)
    split = describe_split(manifest)
    if as_json:
        recipe = dataclasses.asdict(checkpoint.recipe)
        click.echo(json.dumps({"split": split, "seed": checkpoint.seed, "recipe": recipe, "accuracy": accuracy}))
    else:
        click.echo(results.table(split, accuracy, title=checkpoint.recipe.method, evaluated_on=evaluated_on))


if __name__ == "__main__":
    console.run(command, name="ace_ref.evaluate")
