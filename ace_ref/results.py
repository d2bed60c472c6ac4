"""What a training or an evaluation found: the record, `result.json`, and the table people read."""

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from ace_ref.network import AceNetwork
from ltdata import __version__
from ltdata.groups import GROUP_NAMES
from ltdata.metrics import group_accuracy
from ltdata.seeds import in_percent

SCHEMA_VERSION = 1
_COLUMNS = ("overall", *GROUP_NAMES)


def accuracies(
    correct: NDArray[np.int64], total: NDArray[np.int64], class_groups: NDArray[np.int8], targets: NDArray[np.bool_]
) -> dict[str, Any]:
    """Compute the accuracies of a result, in percent, None where a group is empty.

    Args:
        correct: rightly classified images per class, of the experts together first, then each alone,
            (1 + K, C).
        total: test images per class, (C,).
        class_groups: (C,).
        targets: bool (K, C).

    Returns:
        overall, many, medium, few, class_balanced, and ``experts``, a list of the same for each expert.
    """
    together, *alone = (group_accuracy(row, total, class_groups) for row in correct)
    experts = [{"targets": int(own.sum()), **accuracy} for own, accuracy in zip(targets, alone, strict=True)]
    return {**together, "experts": experts}


def parameters(model: AceNetwork) -> int:
    """Count the learnable numbers."""
    return sum(parameter.numel() for parameter in model.parameters())


def flops_per_image(model: AceNetwork, side_px: int = 32) -> int:
    """Count the operations of one image's forward pass: convolutions and matrix products, 2 per multiply-accumulate."""
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, side_px, side_px, device=device))
    model.train(training)
    return int(counter.get_total_flops())


def versions() -> dict[str, str]:
    """Return the versions of what computed a result."""
    cuda = {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())} if torch.version.cuda else {}
    return cuda | {
        "python": platform.python_version(),
        "ltdata": __version__,
        "torch": torch.__version__,
        "torchvision": metadata.version("torchvision"),
        "numpy": np.__version__,
        "safetensors": safetensors.__version__,
    }


def to_json(result: Mapping[str, Any]) -> str:
    """Write a result as JSON text, indented."""
    return json.dumps(result, indent=2) + "\n"


def table(split: Mapping[str, str], accuracy: Mapping[str, Any], *, title: str, evaluated_on: str) -> str:
    """Lay accuracies out for people: one row for all experts together, one for each alone."""
    lines = [
        f"{title} on {split['name']}, {evaluated_on} split, top-1 %",
        f"{'':24}" + "".join(f"{name:>9}" for name in _COLUMNS) + f"   (groups: rule {split['group_rule']})",
    ]
    rows: list[tuple[str, Mapping[str, float | None]]] = [("all experts together", accuracy)]
    for number, expert in enumerate(accuracy["experts"], start=1):
        rows.append((f"expert {number} ({expert['targets']} targets)", expert))
    for name, row in rows:
        cells = (row[column] for column in _COLUMNS)
        lines.append(f"{name:24}" + "".join(f"{in_percent(cell):>9}" for cell in cells))
    return "\n".join(lines)


def described(result: Mapping[str, Any]) -> str:
    """Lay a result out for people: its table, then what its training took."""
    recipe, accuracy, shown = result["recipe"], result["accuracy"], result.get("evaluated_on", "test")
    title = (
        f"{result['method']}, recipe {result['recipe_name']}, seed {result['seed']}, last of {recipe['epochs']} epochs,"
    )
    lines = [table(result["split"], accuracy["last"], title=title, evaluated_on=shown)]
    best = accuracy["best_on_test"]
    if best is not None and best["epoch"] != recipe["epochs"]:
        overall = f"{best['overall']:.1f}, epoch {best['epoch']}"
        lines.append(f"(best of the evaluated epochs ON THE {shown.upper()} SET: {overall})")
    if "val" in accuracy:
        lines.append(f"validation, {recipe['val_per_class']} images per class: {accuracy['val']['overall']:.1f}")
    lines.append(
        f"{result['parameters']:,} parameters, {result['flops_per_image'] / 1e6:.1f} MFLOP per image, "
        f"{result['seconds']:.0f} s at {result['images_per_second']:,.0f} images/s on {result['device']}"
    )
    if len(computers := result.get("computed_on", [])) > 1:
        lines.append(f"trained on {'; then on '.join(computers)}")
    return "\n".join(lines)
