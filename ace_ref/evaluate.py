"""Evaluate a checkpoint on the test shards of its split.

python -m ace_ref.evaluate --checkpoint RUN/model.safetensors --shards cifar100-lt-exp-if100

With `--predictions FILE.npz` the answers of all experts together go into a file, which `ltdata evaluate` reads.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
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
from ace_ref.streamed import RemoteSplit
from ltdata import console
from ltdata.errors import MismatchError
from ltdata.files import atomic_file, make_folder
from ltdata.groups import RULES
from ltdata.manifest import Manifest
from ltdata.output import check_new_file
from ltdata.remote import Remote

_BATCH_SIZE = 500


@dataclass(frozen=True)
class Answered:
    """Hold what all experts together answer to some images.

    Attributes:
        labels: int64 (n,).
        logits: float32 (n, C).
        predictions: the class with the largest logit, int64 (n,).
    """

    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    predictions: NDArray[np.int64]


def write_predictions(path: Path, answered: Sequence[Answered], rows: NDArray[np.int64] | None) -> None:
    """Write answers as ``labels``, ``logits``, ``predictions`` of an .npz file, in the order of the manifest's rows.

    Args:
        path: of the file, which appears whole or not at all.
        answered: of a whole split, batch by batch.
        rows: which row each image is, int64 (n,); None where they stand in that order.
    """
    names = [field.name for field in dataclasses.fields(Answered)]
    arrays = {name: np.concatenate([getattr(batch, name) for batch in answered]) for name in names}
    if rows is not None:
        order = np.argsort(rows)
        arrays = {name: values[order] for name, values in arrays.items()}
    make_folder(path.parent)
    with atomic_file(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def rows_evaluated(place: Path | Remote, split: str, test: Split) -> NDArray[np.int64] | None:
    """Say which row each image of `test.central` is, int64 (n,); None where they come in the order of the rows."""
    if isinstance(place, Remote) and isinstance(test, RemoteSplit):  # as they lie in the shards
        return np.concatenate([plan.rows for plan in place.plans[split]])
    return None


def evaluate(
    checkpoint: Checkpoint,
    test: Split,
    manifest: Manifest,
    *,
    ranks: Ranks = Ranks(),  # noqa: B008 - frozen
    keep: list[Answered] | None = None,
) -> dict[str, Any]:
    """Compute the accuracies of a trained network; see `ace_ref.results.accuracies`.

    The network must be on the device of `test`. It is left in evaluation mode. Every rank computes its part of the
    images, and gets the accuracies of all. `keep` gets the answers of this rank, batch by batch.
    """
    part = test if ranks.world == 1 else test.take(np.arange(ranks.rank, len(test), ranks.world))
    correct, total = (
        add(torch.from_numpy(counts).to(test.labels.device), ranks).cpu().numpy()
        for counts in count_correct(checkpoint, part, keep=keep)
    )
    return results.accuracies(correct, total, manifest.groups, checkpoint.targets)


@torch.no_grad()
def count_correct(
    checkpoint: Checkpoint, test: Split, *, keep: list[Answered] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count right answers per class: experts together, then each alone, int64 (1 + K, C); and images, (C,).

    `keep` gets the answers of all experts together, in the order of `test.central`.
    """
    model, recipe = checkpoint.model.eval(), checkpoint.recipe
    device = test.labels.device
    targets = torch.from_numpy(checkpoint.targets).to(device)
    scales = aggregation.expert_scales(model.classifier_weights(), targets, kind=recipe.scale)
    experts, classes = targets.shape
    correct = torch.zeros((1 + experts, classes), dtype=torch.int64, device=device)
    for labels, pixels in test.central(recipe, _BATCH_SIZE) if len(test) else ():  # a rank may have no image
        constants = augment.constants(recipe.mean, recipe.std, (pixels.shape[1], pixels.shape[2]), device)
        logits = model(augment.normalise(pixels.to(device), constants))
        together = aggregation.aggregate(logits, targets, scales)
        answers = torch.cat([together[:, None], logits], dim=1).argmax(dim=2)  # (batch, 1 + expert)
        for row in range(1 + experts):
            correct[row] += torch.bincount(labels[answers[:, row] == labels], minlength=classes)
        if keep is not None:
            kept = (labels, together.to(torch.float32), answers[:, 0])
            keep.append(Answered(*(values.cpu().numpy() for values in kept)))
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
@click.option("--predictions", "out", type=click.Path(path_type=Path), help="Write answers here, for ltdata evaluate.")
@click.option("--force", is_flag=True, help="Replace such a file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def command(
    path: Path, shards: str, groups: str | None, device: str, out: Path | None, force: bool, as_json: bool
) -> None:
    """Evaluate a checkpoint on the test shards of its split, and print its table."""
    if out is not None:
        check_new_file(out, force=force)
    chosen = devices.choose_device(device)
    devices.make_deterministic()
    manifest, place = loading.open_shards(shards)
    manifest = manifest.with_groups(groups) if groups is not None else manifest
    checkpoint = load_checkpoint(path)
    check_split(checkpoint.split, manifest, origin=str(path))
    checkpoint.model.to(chosen)
    evaluated_on = loading.evaluation_split(manifest)
    test = loading.load_split(place, manifest, evaluated_on, checkpoint.recipe, Memory(chosen))
    answered: list[Answered] | None = [] if out is not None else None
    accuracy = evaluate(checkpoint, test, manifest, keep=answered)
    split = describe_split(manifest)
    if as_json:
        recipe = dataclasses.asdict(checkpoint.recipe)
        click.echo(json.dumps({"split": split, "seed": checkpoint.seed, "recipe": recipe, "accuracy": accuracy}))
    else:
        click.echo(results.table(split, accuracy, title=checkpoint.recipe.method, evaluated_on=evaluated_on))
    if out is not None and answered is not None:
        write_predictions(out, answered, rows_evaluated(place, evaluated_on, test))
        click.echo(f"predictions: {out}", err=as_json)


if __name__ == "__main__":
    console.run(command, name="ace_ref.evaluate")
