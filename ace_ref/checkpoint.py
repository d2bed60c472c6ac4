"""Checkpoints: tensors as safetensors (no pickle), and in the header all that evaluating or going on needs.

One format for both. The network's own tensor names hold the weights to evaluate; a checkpoint to go on from has
more: `momentum:NAME` of the optimizer and, where an average is evaluated, the weights in training as `trained:NAME`.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ace_ref import devices
from ace_ref import recipe as recipes
from ace_ref.network import AceNetwork
from ace_ref.recipe import Recipe
from ltdata.errors import LtdataError, MismatchError, SourceMissingError
from ltdata.files import sha256, write_atomic
from ltdata.manifest import Manifest

FORMAT = "ace_ref-2"
_SPLIT = ("name", "content_sha256", "samples_sha256")  # what is looked at when it is read
# What a file that anybody may have written makes of safetensors, JSON, the recipe and the network
_UNREADABLE = (
    SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError,
    LtdataError,
)  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """Hold how far a training is; what cannot be is a `ValueError`.

    Attributes:
        epoch: epochs that are over.
        step: steps of the next one that are over.
        seconds: of training so far.
        loss_sum: over those steps, per expert.
        history: a record per epoch.
        computed_on: the computers that have trained it, in order, as `devices.computers` names them.
        tensors: of the training, see above.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    loss_sum: tuple[float, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    computed_on: tuple[str, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        records = all(
            isinstance(record, dict)
            and type(record.get("epoch")) is int
            and isinstance(record.get("loss"), list)
            and all(type(value) in (int, float) for value in record["loss"])
            for record in self.history
        )
        numbers = all(type(value) in (int, float) and math.isfinite(value) for value in (*self.loss_sum, self.seconds))
        if not (type(self.epoch) is int and type(self.step) is int and self.epoch >= 0 and self.step >= 0):
            raise ValueError(f"epoch {self.epoch!r}, step {self.step!r}: whole numbers of 0 or more are needed")
        if not numbers or self.seconds < 0:
            raise ValueError(f"loss_sum {self.loss_sum!r:.80}, seconds {self.seconds!r}: finite numbers are needed")
        if not records or [record["epoch"] for record in self.history] != list(range(1, self.epoch + 1)):
            raise ValueError(f"history: a record of each of its {self.epoch} epochs is needed")
        devices.check_computers(self.computed_on)


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

    model: AceNetwork
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
        "source": manifest.source["id"],
        "imbalance_factor": manifest.protocol.get("params", {}).get("imbalance_factor"),
        "group_rule": manifest.group_rule["name"],
    }


def make_network(recipe: Recipe, *, experts: int, num_classes: int, seed: int = 0) -> AceNetwork:
    """Make the network of a recipe."""
    return AceNetwork(
        recipe.backbone,
        experts=experts,
        num_classes=num_classes,
        head=recipe.head,
        head_scale=recipe.head_scale,
        routing=recipe.routing,
        seed=seed,
    )


def save_checkpoint(path: Path, checkpoint: Checkpoint, progress: Progress | None = None) -> None:
    """Write a checkpoint, atomically; the same weights give the same bytes."""
    header, tensors = _content(checkpoint, progress)
    # One entry: safetensors writes several in an order that changes from run to run. Not sorted, so that the records of
    # the history come back as they were.
    write_atomic(path, save(tensors, metadata={"ace_ref": json.dumps(header)}))


def fingerprint(checkpoint: Checkpoint, progress: Progress) -> str:
    """Compute the SHA-256 that a checkpoint of a training would hold: of all that going on follows from."""
    return str(_content(checkpoint, progress)[0]["sha256"])


def _content(checkpoint: Checkpoint, progress: Progress | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    tensors = dict(checkpoint.model.state_dict())
    header: dict[str, Any] = {
        "format": FORMAT,
        "recipe": dataclasses.asdict(checkpoint.recipe),
        "targets": checkpoint.targets.astype(int).tolist(),
        "split": checkpoint.split,
        "seed": checkpoint.seed,
    }
    if progress is not None:
        tensors |= progress.tensors
        named = {entry.name: getattr(progress, entry.name) for entry in dataclasses.fields(progress)}
        header["progress"] = {name: value for name, value in named.items() if name != "tensors"}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header["sha256"] = _digest(header, tensors)
    return header, tensors


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        SourceMissingError: there is no such file.
        MismatchError: it is not a whole checkpoint of this format, bit for bit.
    """
    return load_progress(path)[0]


def load_progress(path: Path) -> tuple[Checkpoint, Progress | None]:
    """Read a checkpoint, and how far its training was if it is one to go on from; errors as `load_checkpoint`."""
    if not path.is_file():
        what = "is a folder, not a checkpoint; give the file" if path.is_dir() else "no such checkpoint; give the file"
        raise SourceMissingError(f"{path}: {what} model.safetensors that python -m ace_ref.train wrote")
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})["ace_ref"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']!r}, this ace_ref reads {FORMAT!r}")
        if header.pop("sha256") != _digest(header, tensors):
            raise ValueError("its digest does not match")
        recipe, split, seed = recipes.from_json(header["recipe"]), dict(header["split"]), header["seed"]
        if type(seed) is not int or not recipe.mean or not all(type(split[name]) is str for name in _SPLIT):
            raise ValueError("its seed, its recipe's mean or its split cannot be")
        targets = np.array(header["targets"], dtype=bool)
        model = make_network(recipe, experts=targets.shape[0], num_classes=targets.shape[1])
        weights = {name: tensor for name, tensor in tensors.items() if ":" not in name}
        check_tensors(weights, model.state_dict())
        model.load_state_dict(weights)
        checkpoint = Checkpoint(model, recipe, targets, split, seed)
        if "progress" not in header:
            return checkpoint, None
        kept: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in header["progress"].items()}
        return checkpoint, Progress(**kept, tensors={name: t for name, t in tensors.items() if ":" in name})
    except _UNREADABLE as error:
        reason = (
            f"no {error}" if isinstance(error, KeyError) else (str(error).splitlines() or [type(error).__name__])[0]
        )
        raise MismatchError(f"{path}: not a whole ace_ref checkpoint ({reason}); train again") from error


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise `ValueError` if tensors have other names, types or shapes than expected, or numbers that are not finite."""
    for name in sorted({*found, *expected}):
        there, here = (f"{t[name].dtype} {list(t[name].shape)}" if name in t else "none" for t in (found, expected))
        if there != here:
            raise ValueError(f"tensor {name}: {there}, expected is {here}")
        if not bool(found[name].isfinite().all()):
            raise ValueError(f"tensor {name}: a number is not finite")


def _digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 over the header and every tensor's name, type, shape and bytes: safetensors has none."""
    digest = sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())  # numpy has no bfloat16
    return digest.hexdigest()
