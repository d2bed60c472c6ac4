"""The folder of a training: what is in it, who may write it, which checkpoints are kept.

`result.json` is written last: where it stands, the model beside it is its own.
"""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from ace_ref import recipe as recipes
from ace_ref import results, state
from ace_ref.checkpoint import Checkpoint, load_progress, save_checkpoint
from ace_ref.recipe import Recipe
from ace_ref.state import Training
from ltdata.errors import MismatchError, UsageError
from ltdata.files import output_errors, sha256_file, write_atomic

RESULT_NAME = "result.json"
MODEL_NAME = "model.safetensors"
CHECKPOINTS_NAME = "checkpoints"
_KEPT_CHECKPOINTS = 2


def claim(folder: Path, recipe: Recipe, split: dict[str, Any], seed: int, *, resume: bool, force: bool) -> None:
    """Make the output folder before any work is done.

    Raises:
        UsageError: the folder holds another training, or an unfinished one that is not to be resumed.
    """
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / ".probe", b"")
        (folder / ".probe").unlink()
    if force:
        return
    unfinished = bool(checkpoints(folder))
    if (folder / RESULT_NAME).exists():
        if _result_of(folder, recipe, split, seed) is None:
            raise UsageError(f"{folder}: holds another training; choose another --out, or --force to replace it")
        if finished(folder, recipe, split, seed) is None and not resume:
            raise MismatchError(
                f"{folder / MODEL_NAME}: is not the model of the result beside it; --resume writes it again from "
                "the last checkpoint, --force trains anew"
            )
    elif unfinished and not resume:
        raise UsageError(f"{folder}: holds an unfinished training; --resume goes on with it, --force trains anew")
    elif (folder / MODEL_NAME).exists() and not unfinished:
        raise UsageError(f"{folder}: holds the model of another training; choose another --out, or --force")


def finished(folder: Path, recipe: Recipe, split: dict[str, Any], seed: int) -> dict[str, Any] | None:
    """Return the result of this very training, if it lies in the folder and its model beside it, bit for bit."""
    result, model = _result_of(folder, recipe, split, seed), folder / MODEL_NAME
    whole = result is not None and model.is_file() and sha256_file(model) == result.get("model_sha256")
    return result if whole else None


def _result_of(folder: Path, recipe: Recipe, split: dict[str, Any], seed: int) -> dict[str, Any] | None:
    try:
        before: dict[str, Any] = json.loads((folder / RESULT_NAME).read_text(encoding="utf-8"))
        trained = recipes.from_json(before["recipe"])  # which gives values that came later their defaults
        asked = recipe if recipe.mean else dataclasses.replace(recipe, mean=trained.mean, std=trained.std)
        same = trained == asked and before["seed"] == seed
        return before if same and before["split"] == split else None
    except (OSError, ValueError, KeyError, TypeError):  # a UsageError is a ValueError
        return None


@contextmanager
def no_empty_folder(folder: Path) -> Iterator[None]:
    """Remove the output folder at the end if no epoch and no checkpoint was written into it."""
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()


def clear(folder: Path) -> None:
    """Remove what an earlier training of this folder left."""
    for path in (folder / RESULT_NAME, folder / MODEL_NAME, *checkpoints(folder)):
        path.unlink(missing_ok=True)


def keep_checkpoint(folder: Path, training: Training) -> None:
    """Write a checkpoint, and keep the last two."""
    place = folder / CHECKPOINTS_NAME
    with output_errors(place):
        place.mkdir(exist_ok=True)
    save_checkpoint(
        place / f"{training.epoch:05}-{training.step:06}.safetensors", training.evaluated(), training.progress()
    )
    for old in checkpoints(folder)[_KEPT_CHECKPOINTS:]:
        old.unlink()


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a training, the newest first."""
    return sorted((folder / CHECKPOINTS_NAME).glob("*.safetensors"), reverse=True)


def go_on(training: Training, folder: Path) -> None:
    """Put a training where its newest whole checkpoint is, if there is one."""
    paths = checkpoints(folder)
    for path in paths:
        try:
            checkpoint, progress = load_progress(path)
        except MismatchError as error:
            reason = str(error).removesuffix("; train again")
            if path == paths[-1]:
                raise MismatchError(f"{reason}; there is no other to go on from, --force trains anew") from error
            click.echo(f"ace_ref.train: {reason}; going on from the one before", err=True)
            continue
        if progress is None:
            raise MismatchError(f"{path}: holds weights only, nothing to go on from")
        _refuse_another(path, checkpoint, training)
        state.resume(training, checkpoint, progress)
        return


def _refuse_another(path: Path, checkpoint: Checkpoint, training: Training) -> None:
    """Refuse to go on with another training than the one asked for, and say what differs."""
    there, here = ({**dataclasses.asdict(c.recipe), **c.split, "seed": c.seed} for c in (checkpoint, training))
    differing = [f"{name} {there.get(name)!r}, not {here[name]!r}" for name in here if there.get(name) != here[name]]
    if differing:
        raise MismatchError(
            f"{path}: is of another training ({'; '.join(differing)}); choose another --out, or --force trains anew"
        )


def write_result(folder: Path, training: Training, result: dict[str, Any]) -> None:
    """Write the trained network and the record; its `model_sha256` is added."""
    (folder / RESULT_NAME).unlink(missing_ok=True)
    save_checkpoint(folder / MODEL_NAME, training.evaluated())
    result["model_sha256"] = sha256_file(folder / MODEL_NAME)
    write_atomic(folder / RESULT_NAME, results.to_json(result).encode())
