"""Checkpoints: the weights as safetensors (no pickle), and in their header all that evaluating them needs."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ace_ref.recipe import Recipe
from ace_ref.resnet import AceResNet
from ltdata.errors import LtdataError, MismatchError, SourceMissingError
from ltdata.files import write_atomic
from ltdata.manifest import Manifest

FORMAT = "ace_ref-1"


@dataclass(frozen=True)
class Checkpoint:
    """Hold a trained network and what it was trained on.

    Attributes:
        model: with its weights; on the CPU when loaded.
        recipe: of its training; mean and std are filled in.
        targets: target categories, bool (expert, class).
        split: `describe_split` of the training set.
        seed: of its training.
    """

    model: AceResNet
    recipe: Recipe
    targets: NDArray[np.bool_]
    split: dict[str, Any]
    seed: int


def describe_split(manifest: Manifest) -> dict[str, Any]:
    """Return what identifies a split in results and checkpoints: its rows, its images' bytes, its group rule."""
    return {
        "name": manifest.name,
        "content_sha256": manifest.content_sha256,
        "samples_sha256": manifest.splits["train"].samples_sha256,
        "verified_source": manifest.verified,
        "group_rule": manifest.group_rule["name"],
    }


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, atomically; the same weights give the same bytes."""
    weights: dict[str, Tensor] = {
        name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.model.state_dict().items()
    }
    header = {
        "format": FORMAT,
        "recipe": dataclasses.asdict(checkpoint.recipe),
        "targets": checkpoint.targets.astype(int).tolist(),
        "split": checkpoint.split,
        "seed": checkpoint.seed,
    }
    write_atomic(path, save(weights, metadata={"ace_ref": json.dumps(header, sort_keys=True)}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        SourceMissingError: there is no such file.
        MismatchError: it is not a whole checkpoint of this format.
    """
    if not path.is_file():
        raise SourceMissingError(f"{path}: no such checkpoint; python -m ace_ref.train writes model.safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})["ace_ref"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']!r}, this ace_ref reads {FORMAT!r}")
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in header["recipe"].items()}
        recipe = Recipe(**fields)
        targets = np.array(header["targets"], dtype=bool)
        model = AceResNet(recipe.backbone, experts=targets.shape[0], num_classes=targets.shape[1])
        model.load_state_dict(weights)
        return Checkpoint(model, recipe, targets, dict(header["split"]), int(header["seed"]))
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, IndexError, LtdataError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MismatchError(f"{path}: not a whole ace_ref checkpoint ({reason}); train again") from error
