"""Train a method on the shards of a long-tailed split.

    python -m ace_ref.train --shards cifar100-lt-exp-if100 --method ace

Reads the frequencies from the manifest and the images from the shards, every digest checked. The same command gives
the same numbers on the same machine, stopped and resumed or not. The output folder gets `result.json`,
`model.safetensors`, `log.jsonl`, TensorBoard events, and the last two checkpoints.
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import torch

from ace_ref import devices, loading, ranks, resident, results, run_folder, state, summary, trainer
from ace_ref import recipe as recipes
from ace_ref.checkpoint import describe_split
from ace_ref.draws import Split
from ace_ref.evaluate import evaluate
from ace_ref.loading import Memory
from ace_ref.logs import Log
from ace_ref.ranks import Ranks
from ace_ref.recipe import Recipe
from ace_ref.state import Training
from ace_ref.trainer import StopError
from ltdata import console, output, signals
from ltdata.cli.options import Real, Whole
from ltdata.errors import LtdataError, UsageError, out_of_memory
from ltdata.files import check_writable, exclusive
from ltdata.manifest import Manifest

_CUDA_CHECKPOINT_S = 5  # an epoch may take a tenth of a second there, and a checkpoint a good part of that


@dataclasses.dataclass(frozen=True)
class Job:
    """Hold what all seeds of a command share."""

    recipe_name: str
    recipe: Recipe
    manifest: Manifest
    images: dict[str, Split]
    evaluated_on: str
    eval_every: int
    ranks: Ranks
    computer: str
    resume: bool
    force: bool
    progress: bool
    graph: bool
    together: int
    stopping: Callable[[], int]

    @property
    def device(self) -> torch.device:
        """Return the device that the images are on."""
        return self.images["train"].labels.device


def train(job: Job, folder: Path, seed: int) -> Generator[None, None, dict[str, Any]]:
    """Train one seed, or go on with it, and yield after every step; write its folder, and return its result."""
    first = job.ranks.rank == 0
    split = describe_split(job.manifest) | job.images["train"].described(job.recipe)
    with ExitStack() as stack:
        if first:
            stack.enter_context(exclusive(folder))
            stack.enter_context(run_folder.no_empty_folder(folder))
            run_folder.claim(folder, job.recipe, split, seed, resume=job.resume, force=job.force)
        before = None if job.force else run_folder.finished(folder, job.recipe, split, seed)
        ranks.agree({"a finished training": before is not None, **split}, job.ranks)
        if before is not None:
            if first and job.progress:
                click.echo(f"{folder}: this training is finished; --force trains it again", err=True)
            return before
        training = state.begin(job.recipe, job.manifest, job.images["train"], seed=seed)
        refused = run_folder.go_on(training, folder) if job.resume else {}
        if job.ranks.world > 1:
            ranks.agree(training.place(), job.ranks)  # after which none reads a checkpoint any more
        if first and job.resume:
            run_folder.set_aside(refused)
        elif first:
            run_folder.clear(folder)
        if training.epoch < job.recipe.epochs:
            _compute_here(training, job, folder)
        log = Log(folder) if first else None
        if log is not None:
            log.write(training.history)  # a run may have been killed between its last checkpoint and this

        kept_s = -math.inf

        def after(training: Training) -> None:
            nonlocal kept_s
            if log is None:
                return
            here_s, ending = time.monotonic(), training.step > 0 or training.epoch == training.recipe.epochs
            if ending or job.device.type == "cpu" or here_s - kept_s >= _CUDA_CHECKPOINT_S:
                run_folder.keep_checkpoint(folder, training)
                kept_s = here_s
            log.write(training.history)

        yield from trainer.steps(
            training,
            job.images["train"],
            ranks_=job.ranks,
            measure=lambda training: _measure(training, job),
            after_epoch=after,
            stopping=job.stopping,
            progress=job.progress and first,
            graph=job.graph,
        )
        if code := job.stopping():  # to evaluate may take minutes
            raise StopError("stopped after the last step; the same command with --resume goes on", code)
        result = make_result(training, job)
        if first:
            run_folder.write_result(folder, training, result)
        return result


def _compute_here(training: Training, job: Job, folder: Path) -> None:
    """Note which computer trains from here on, and say so where another did before: it may round otherwise."""
    if training.computed_on[-1:] == [job.computer]:
        return
    if training.computed_on and job.ranks.rank == 0:
        click.echo(
            f"ace_ref.train: {folder}: last trained on {training.computed_on[-1]:.300}; going on with {job.computer}: "
            "perhaps not to the same bytes as without the stop; the result names each",
            err=True,
        )
    training.computed_on.append(job.computer)


def side_by_side(
    trainings: Mapping[int, Generator[None, None, dict[str, Any]]], device: torch.device
) -> tuple[dict[int, dict[str, Any]], StopError | None]:
    """Run trainings to their ends, a step of each in turn, on CUDA each on a stream of its own.

    The steps of one fill the gaps of the others: a batch of 128 small images does not fill a GPU.

    Args:
        trainings: by seed.
        device: of all of them.

    Returns:
        The results of those that ended, by seed; and why the others did not: they were asked to stop, and every one has
        written its checkpoint.

    Raises:
        LtdataError: one of several has failed, which the message names.
    """
    results: dict[int, dict[str, Any]] = {}
    running = dict(trainings)
    streams = {seed: torch.cuda.Stream(device) if device.type == "cuda" else None for seed in running}
    for stream in streams.values():
        if stream is not None:
            stream.wait_stream(torch.cuda.current_stream(device))
    stopped: StopError | None = None
    with ExitStack() as stack:
        for training in trainings.values():
            stack.callback(training.close)
        while running:
            for seed, training in list(running.items()):
                try:
                    with torch.cuda.stream(streams[seed]):
                        next(training)
                except StopIteration as end:
                    results[seed] = end.value
                    del running[seed]
                except StopError as error:
                    stopped = error.with_traceback(None)  # which would keep threads that work ahead
                    del running[seed]
                except LtdataError as error:
                    if len(trainings) > 1:
                        error.args = (f"seed {seed}: {error}", *error.args[1:])
                    raise
    return {seed: results[seed] for seed in trainings if seed in results}, stopped


def make_result(training: Training, job: Job) -> dict[str, Any]:
    """Make the record that goes into `result.json`: the LAST epoch; the best on the test set only beside it."""
    recipe, checkpoint = training.recipe, training.evaluated()
    accuracy = {"last": evaluate(checkpoint, job.images["test"], job.manifest, ranks=job.ranks)}
    if "val" in job.images:
        accuracy["val"] = evaluate(checkpoint, job.images["val"], job.manifest, ranks=job.ranks)
    tested = [{"epoch": record["epoch"], **record["test"]} for record in training.history if "test" in record]
    best = max(tested, key=lambda record: float(record["overall"]), default=None)
    seen = recipe.epochs * (len(job.images["train"]) // recipe.batch_size) * recipe.batch_size
    return {
        "schema_version": results.SCHEMA_VERSION,
        "method": recipe.method,
        "recipe_name": job.recipe_name,
        "recipe": dataclasses.asdict(recipe),
        "seed": training.seed,
        "split": training.split,
        "evaluated_on": job.evaluated_on,
        "experts": [int(own.sum()) for own in training.targets],
        "accuracy": accuracy | {"best_on_test": best},
        "train_loss": {"last": training.history[-1]["loss"]},
        "history": [{k: v for k, v in record.items() if k != "seconds"} for record in training.history],
        "parameters": results.parameters(training.model),
        "flops_per_image": results.flops_per_image(training.model, side_px=job.images["train"].crop_px(recipe)[0]),
        "seconds": round(training.seconds, 2),
        "images_per_second": round(seen / training.seconds, 1),
        "device": devices.device_name(job.device),
        "computed_on": training.computed_on,
        "processes": job.ranks.world,
        "together": job.together,
        "versions": results.versions(),
    }


def _measure(training: Training, job: Job) -> dict[str, Any]:
    """Evaluate every so many epochs, and after the last."""
    if training.epoch % job.eval_every and training.epoch != training.recipe.epochs:
        return {}
    measured: dict[str, Any] = {}
    for name in ("test", "val"):
        if name in job.images:
            found = evaluate(training.evaluated(), job.images[name], job.manifest, ranks=job.ranks)
            measured[name] = {key: value for key, value in found.items() if key != "experts"}
    return measured


def _seeds(_context: click.Context, _parameter: click.Parameter, text: str | None) -> list[int] | None:
    """Parse `0,1,2`."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    right = all(part.isascii() and part.isdecimal() and len(part) <= 10 and int(part) < 2**32 for part in parts)
    if not right or len({int(part) for part in parts}) < len(parts):
        raise click.BadParameter(f"{text!r:.80}: different whole numbers of at least 0 are needed, such as 0,1,2")
    return [int(part) for part in parts]


@click.command()
@click.option("--shards", metavar="FOLDER|URL", required=True, help="Folder of ltdata build, or its http(s) URL.")
@click.option(
    "--method", type=click.Choice(recipes.methods()), default="ace", show_default=True, help="Loss and planner."
)
@click.option(
    "--recipe", "recipe_name", type=click.Choice(recipes.names()), help="Settings  [default: those of the data set]"
)
@click.option("--epochs", type=Whole(1), help="Another length; milestones keep their proportion.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override any value of the recipe.")
@click.option("--val-per-class", type=Whole(0), help="Training images of every class to hold out.")
@click.option("--seed", type=Whole(0, 2**32 - 1), default=0, show_default=True)
@click.option("--seeds", callback=_seeds, metavar="A,B,C", help="Several seeds, one after the other; --out/seedA ...")
@click.option("--eval-every", type=Whole(1), default=10, show_default=True, help="Epochs between evaluations.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the result  [default: runs/SPLIT-RECIPE-METHOD-seedN]"
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--together", type=Whole(1, 10), help="Seeds trained side by side  [default: on one GPU all, else 1]")
@click.option("--graph/--no-graph", default=True, help="On one GPU, replay each step as a CUDA graph  [default: yes]")
@click.option(
    "--resident-gb",
    type=Real(0, 1e6),
    help="Photographs of a split in memory  [default: 60 % of what is free]",
)
@click.option("--cache", is_flag=True, help="Keep decoded images in the cache folder (LTDATA_HOME) for the next start.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint; begin if there is none.")
@click.option("--force", is_flag=True, help="Write over another training, or over an unfinished one.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--quiet", is_flag=True, help="No progress, no messages; warnings, errors and data only.")
def command(
    shards: str,
    method: str,
    recipe_name: str | None,
    epochs: int | None,
    overrides: tuple[str, ...],
    val_per_class: int | None,
    seed: int,
    seeds: list[int] | None,
    eval_every: int,
    out: Path | None,
    device: str,
    together: int | None,
    graph: bool,
    resident_gb: float | None,
    cache: bool,
    resume: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a method on the shards of a long-tailed split, and print the accuracies of the LAST epoch.

    Several devices: torchrun --nproc-per-node N -m ace_ref.train ...
    """
    if seeds is not None and seed:
        raise UsageError(f"--seed {seed} --seeds: give one of them")
    if resume and force:
        raise UsageError("--resume --force: one goes on with what is there, the other trains anew; give one of them")
    here = ranks.from_environment()
    chosen = devices.choose_device(device, here.local)
    devices.make_deterministic()
    with ExitStack() as stack:
        stack.enter_context(_enough_memory())
        stack.enter_context(ranks.joined(here, chosen))  # before all else, so that the others see one that ends
        manifest, place = loading.open_shards(shards)
        evaluated_on = loading.evaluation_split(manifest)
        source = str(manifest.source["id"])
        name = recipe_name or recipes.default_name(source)
        params = manifest.protocol.get("params", {})
        recipe = recipes.load_recipe(
            name, method, source=source, imbalance_factor=float(params.get("imbalance_factor") or 0)
        )
        recipe = recipe.with_epochs(epochs) if epochs is not None else recipe
        recipe = recipe.with_values({} if val_per_class is None else {"val_per_class": val_per_class})
        recipe = recipe.with_values(dict(map(recipes.parse_override, overrides)))
        folders = _folders(out, f"{manifest.name}-{name}-{method}", seed, seeds)
        for folder in folders.values():
            output.followed(output.followed(folder) / run_folder.RESULT_NAME)
            if here.rank == 0:
                check_writable(folder / run_folder.RESULT_NAME)
        if recipe.batch_size % here.world:
            raise UsageError(f"batch_size {recipe.batch_size}: cannot be split evenly over {here.world} processes")
        alone = here.world == 1
        if together is None:
            together = len(folders) if alone and chosen.type == "cuda" else 1
        asked = {"--resume": resume, "--force": force, "--eval-every": eval_every, "--together": together}
        ranks.agree({**describe_split(manifest), **dataclasses.asdict(recipe), "seeds": list(folders), **asked}, here)
        memory = Memory(chosen, resident_gb, cache)
        images = {
            use: loading.load_split(place, manifest, split, recipe, memory, progress=not quiet)
            for use, split in (("train", "train"), ("test", evaluated_on))
        }
        if recipe.val_per_class:
            kept, held = resident.hold_out(images["train"].host_labels, recipe.val_per_class)
            images["val"], images["train"] = images["train"].take(held), images["train"].take(kept)
        came = stack.enter_context(signals.noted()) if alone else []
        computer = devices.computers(ranks.every(devices.computer(chosen), here))
        job = Job(
            name, recipe, manifest, images, evaluated_on, eval_every, here, computer, resume, force, not quiet, graph,
            together, stopping=lambda: signals.CODES[came[0]] if came else 0,
        )  # fmt: skip
        done: list[dict[str, Any]] = []
        pending = list(folders.items())
        while pending and not job.stopping():
            part, pending = pending[:together], pending[together:]
            found, stopped = side_by_side({number: train(job, folder, number) for number, folder in part}, chosen)
            done += found.values()
            for number in found if here.rank == 0 and not as_json else ():
                click.echo(results.described(found[number]))
                click.echo(f"result: {folders[number] / run_folder.RESULT_NAME}")
            if stopped is not None:
                raise stopped
        if pending:
            raise StopError("stopped; what has ended is whole, the same command with --resume goes on", job.stopping())
    if here.rank == 0:
        if as_json:
            click.echo(json.dumps(done if seeds is not None else done[0]))
        elif len(done) > 1:
            click.echo(summary.table(summary.summarise(done)))
        if code := job.stopping():
            raise StopError("stopped after the end; the result is whole", code)


def _folders(out: Path | None, name: str, seed: int, seeds: list[int] | None) -> dict[int, Path]:
    """Return the output folder of every seed."""
    if out is not None and seeds is None:
        return {seed: out}
    return {n: out / f"seed{n}" if out is not None else Path("runs") / f"{name}-seed{n}" for n in seeds or [seed]}


@contextmanager
def _enough_memory() -> Iterator[None]:
    """Turn the ways in which Python and torch say that memory ran out into one line."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise LtdataError("there is not enough memory; set a smaller batch_size, or use another device") from error


if __name__ == "__main__":
    console.run(command, name="ace_ref.train")
