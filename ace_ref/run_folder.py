"""The folder of a training: what is in it, who may write it, which checkpoints are kept.

`result.json` is written last: where it stands, the model beside it is its own.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from ace_ref import recipe as recipes
from ace_ref import results, state, summary
from ace_ref.checkpoint import Checkpoint, load_progress, save_checkpoint
from ace_ref.logs import LOG_NAME
from ace_ref.recipe import Recipe
from ace_ref.state import Training
from ltdata.errors import LtdataError, MismatchError, UsageError
from ltdata.files import commit, make_folder, output_errors, sha256_file, write_atomic

RESULT_NAME = "result.json"
MODEL_NAME = "model.safetensors"
CHECKPOINTS_NAME = "checkpoints"
_KEPT_CHECKPOINTS = 2


def claim(folder: Path, recipe: Recipe, split: dict[str, Any], seed: int, *, resume: bool, force: bool) -> None:
    """Make the output folder before any work is done.

    Raises:
        UsageError: the folder holds another training, or an unfinished one that is not to be resumed.
        MismatchError: what it holds is damaged.
        OutputError: it cannot be written.
    """
    make_folder(folder)
    with output_errors(folder):
        write_atomic(folder / ".probe", b"")
        (folder / ".probe").unlink()
        for name in (RESULT_NAME, MODEL_NAME, LOG_NAME, CHECKPOINTS_NAME):
            path = folder / name
            if path.exists() and not (path.is_dir() if name == CHECKPOINTS_NAME else path.is_file()):
                raise OSError(f"{name} is no {'folder' if name == CHECKPOINTS_NAME else 'regular file'}")
    if force:
        return
    unfinished = bool(checkpoints(folder))
    if (folder / RESULT_NAME).exists():
        damage = _damage(folder, recipe, split, seed)
        if damage and not (resume and unfinished):
            raise MismatchError(
                f"{damage}; --resume writes it again from the last checkpoint, if there is one; --force trains anew"
            )
        if damage:
            click.echo(f"ace_ref.train: {damage}; writing it again from the last checkpoint", err=True)
    elif unfinished and not resume:
        raise UsageError(f"{folder}: holds an unfinished training; --resume goes on with it, --force trains anew")
    elif (folder / MODEL_NAME).exists() and not unfinished:
        raise UsageError(f"{folder}: holds the model of another training; choose another --out, or --force")


def _damage(folder: Path, recipe: Recipe, split: dict[str, Any], seed: int) -> str:
    """Say what is wrong with the result in a folder, or with the model beside it; nothing if they are whole.

    Raises:
        UsageError: the result is of another training.
    """
    try:
        before = summary.read_result(folder / RESULT_NAME, results.described)
    except MismatchError as error:
        return str(error)
    others = _differences(before, recipe, split, seed)
    if others:
        raise UsageError(
            f"{folder}: holds another training ({'; '.join(others)}); choose another --out, or --force to replace it"
        )
    model = folder / MODEL_NAME
    if not model.is_file():
        return f"{model}: is gone"
    return "" if _is_model_of(before, model) else f"{model}: is not the model of the result beside it"


def _is_model_of(result: Mapping[str, Any], model: Path) -> bool:
    return sha256_file(model) == result.get("model_sha256")


def finished(folder: Path, recipe: Recipe, split: dict[str, Any], seed: int) -> dict[str, Any] | None:
    """Return the result of this very training, if it lies in the folder and its model beside it, bit for bit."""
    model = folder / MODEL_NAME
    if not ((folder / RESULT_NAME).is_file() and model.is_file()):
        return None
    try:
        result = summary.read_result(folder / RESULT_NAME, results.described)
    except MismatchError:
        return None
    return result if not _differences(result, recipe, split, seed) and _is_model_of(result, model) else None


def _differences(result: Mapping[str, Any], recipe: Recipe, split: dict[str, Any], seed: int) -> list[str]:
    """List what a result was trained with that is not asked for."""
    trained = recipes.from_json(result["recipe"])  # which gives values that came later their defaults
    asked = recipe if recipe.mean else dataclasses.replace(recipe, mean=trained.mean, std=trained.std)
    there = {**dataclasses.asdict(trained), **result["split"], "seed": result["seed"]}
    return _differing(there, {**dataclasses.asdict(asked), **split, "seed": seed})


def _differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {there.get(name)!r}, not {here.get(name)!r}"
        for name in {**here, **there}
        if there.get(name) != here.get(name)
    ]


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
    make_folder(place)
    save_checkpoint(
        place / f"{training.epoch:05}-{training.step:06}.safetensors", training.evaluated(), training.progress()
    )
    for old in (*checkpoints(folder)[_KEPT_CHECKPOINTS:], *place.glob(".*.tmp")):  # what a killed run began to write
        old.unlink()


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a training, the newest first."""
    return sorted((folder / CHECKPOINTS_NAME).glob("*.safetensors"), reverse=True)


def go_on(training: Training, folder: Path) -> dict[Path, str]:
    """Put a training where its newest good checkpoint is, if it has any checkpoint.

    Returns:
        The newer ones, and why each is refused; see `set_aside`.

    Raises:
        MismatchError: it has some, and none is good.
    """
    refused: dict[Path, str] = {}
    for path in checkpoints(folder):
        try:
            if not path.is_file():
                raise MismatchError(f"{path}: is no file")
            checkpoint, progress = load_progress(path)
            _refuse_another(path, checkpoint, training)
            if progress is None:
                raise MismatchError(f"{path}: holds weights only, nothing to go on from")
            state.resume(training, checkpoint, progress)
        except LtdataError as error:
            refused[path] = str(error).removesuffix("; train again")
        except ValueError as error:
            refused[path] = f"{path}: not a checkpoint of this training ({error})"
        else:
            return refused
    if refused:
        reasons = "; ".join(refused.values())  # of one that is damaged, and of the one before that is of another recipe
        raise MismatchError(f"{reasons}; there is no other to go on from; choose another --out, or --force trains anew")
    return refused


def set_aside(refused: Mapping[Path, str]) -> None:
    """Rename refused checkpoints to ``NAME.refused``, and say so: no later one is counted or dropped for their sake."""
    for path, reason in refused.items():
        aside = path.with_name(f"{path.name}.refused")
        with output_errors(aside):
            commit(path, aside)
        click.echo(f"ace_ref.train: {reason}; set aside as {aside.name}, going on from the one before", err=True)


def _refuse_another(path: Path, checkpoint: Checkpoint, training: Training) -> None:
    """Refuse to go on with another training than the one asked for, and say what differs."""
    there, here = ({**dataclasses.asdict(c.recipe), **c.split, "seed": c.seed} for c in (checkpoint, training))
    differing = _differing(there, here)
    if differing:
        raise MismatchError(f"{path}: is of another training ({'; '.join(differing)})")


def write_result(folder: Path, training: Training, result: dict[str, Any]) -> None:
    """Write the trained network and the record; its `model_sha256` is added."""
    (folder / RESULT_NAME).unlink(missing_ok=True)
    save_checkpoint(folder / MODEL_NAME, training.evaluated())
    result["model_sha256"] = sha256_file(folder / MODEL_NAME)
    write_atomic(folder / RESULT_NAME, results.to_json(result).encode())
