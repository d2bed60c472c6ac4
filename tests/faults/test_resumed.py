"""Trainings that are stopped, killed, and resumed, anywhere and again and again: the bytes of one that was not."""

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from unittest import mock

import pytest
import torch

from ace_ref import train, trainer
from faults.breaks import Break
from faults.effort import WHOLE, thin, tried
from faults.trainings import (
    EPOCHS,
    STEPS,
    Ended,
    alone,
    begin,
    end,
    fails,
    options,
    ranks,
    record,
    run,
    same,
    served,
    small,
)
from ltdata.build import Built

_STATE, _TRAINER = "ace_ref/state.py", "ace_ref/trainer.py"
_NO_STEP = "training.step, training.seconds = progress.epoch, 0,"
_NO_START = "enumerate(split.augmented(draws, recipe, start=0"
BREAKS = (
    Break(_STATE, "torch.empty_like(parameter).copy_(momentum)", "torch.zeros_like(parameter)", "by_a_signal"),
    Break(_STATE, "training.step, training.seconds = progress.epoch, progress.step,", _NO_STEP, "by_a_signal"),
    Break(_STATE, "training.loss_sum = torch.tensor(progress", "_ = torch.tensor(progress", "bitten"),
    Break(_STATE, "    training.history = list(progress.history)\n", "", "killed_anywhere"),
    Break("ace_ref/dataset.py", "enumerate(split.augmented(draws, recipe, start=start", _NO_START, "by_a_signal"),
    Break(
        _STATE,
        "training.computed_on = list(progress.computed_on) or",
        "training.computed_on = [] and",
        "another_number",
    ),
    Break("ace_ref/run_folder.py", ', *place.glob(".*.tmp")', "", "began_to_write"),
    Break("ace_ref/train.py", "            log.write(training.history)  #", "            pass  #", "killed_anywhere"),
)

PHOTOS = ["--set", "crop=resized", "--set", "crop_px=8", "--set", "short_side_px=10", "--set", "jitter=0.4"]
METHODS = ("ace", "ce", "balanced-softmax", "ldam-drw", "ride", "ace-plus")


def values(**given: object) -> list[str]:
    return [part for name, value in given.items() for part in ("--set", f"{name}={str(value).lower()}")]


VARIANTS: dict[str, list[str]] = {
    "plain": [],
    "averaged": values(ema_decay=0.5),
    "mixed up": values(mixup_alpha=0.5, plain_epochs=1),
    "AutoAugment, Cutout": values(autoaugment=True, cutout_px=4),
    "held out": ["--val-per-class", "1"],
    "RandAugment, drawn by class": values(randaugment=2, sampler="class-balanced"),
    "bfloat16, cosine": values(precision="bfloat16", schedule="cosine", warmup_epochs=1),
    "no momentum, progressively balanced": values(momentum=0, sampler="progressively-balanced"),
    "photographs": PHOTOS,
    "streamed photographs": [*PHOTOS, "--resident-gb", "0"],
    "all at once": values(ema_decay=0.9, mixup_alpha=0.3, autoaugment=True, cutout_px=4, label_smoothing=0.1),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def never_stopped(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Train with some options to the end, once."""
    known: dict[tuple[str, ...], Path] = {}

    def trained(*more: str) -> Path:
        if more not in known:
            known[more] = tmp_path_factory.mktemp("whole") / "r"
            assert run(options(built, known[more], *more)).code == 0
        return known[more]

    return trained


# --- stopped by a signal, after a step


@contextmanager
def signalled(after: int, number: signal.Signals) -> Iterator[None]:
    """Send this process a signal in a step, counted from 1 over all epochs and trainings."""
    take, taken = trainer.take_step, []

    def spoiled(*args: object) -> object:
        losses = take(*args)  # type: ignore[arg-type]
        taken.append(1)
        if len(taken) == after:
            os.kill(os.getpid(), number)
        return losses

    with mock.patch.object(trainer, "take_step", spoiled):
        yield


CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
LAST = EPOCHS * STEPS
STOPS = [
    (step, number, method, variant)
    for (step, method), number, variant in zip(
        [(step, method) for step in range(1, LAST) for method in METHODS], cycle(CODES), cycle(VARIANTS), strict=False
    )
]


@pytest.mark.parametrize(("step", "number", "method", "variant"), thin(STOPS, to=3))
def test_stopped_by_a_signal_in_any_step_it_goes_on_to_the_same_bytes(
    built, never_stopped, tmp_path, step, number, method, variant
):
    more = ("--method", method, *VARIANTS[variant])
    line = options(built, tmp_path / "r", *more)
    steps = 3 if variant == "held out" else STEPS  # 30 images
    with signalled(step, number):
        done = run(line)
    if step < EPOCHS * steps:
        stopped(done, number, step if step % steps else step + 1, steps)
        fails(run(line), 2, "unfinished training", "--resume")
    done = run([*line, "--resume"])
    assert (done.code, done.stderr) == (0, "")
    same(tmp_path / "r", never_stopped(*more))
    tried()


def stopped(done: Ended, number: signal.Signals, step: int, steps: int = STEPS) -> None:
    """Check that a command ended after that step, and says so and how to go on."""
    where = f"stopped after step {(step - 1) % steps + 1} of epoch {(step - 1) // steps + 1}"
    fails(done, CODES[number], f"{where}; the same command with --resume goes on")


@pytest.mark.parametrize(("method", "variant"), thin(list(zip(cycle(METHODS), VARIANTS, strict=False)), to=1))
def test_stopped_in_every_step_it_is_bitten_through_to_the_same_bytes(built, never_stopped, tmp_path, method, variant):
    more = ("--method", method, *VARIANTS[variant])
    line = options(built, tmp_path / "r", *more)
    stops = 0
    while True:
        with signalled(1, signal.SIGINT):
            done = run([*line, "--resume"])
        if done.code == 0:
            break
        assert done.code == 130, done
        stops += 1
        assert stops < LAST
        assert 1 <= len(list((tmp_path / "r" / "checkpoints").iterdir())) <= 2
    # Asked in the last step of an epoch it stops in the next one, and in the last of all it has no more to do.
    assert stops >= EPOCHS * (3 if variant == "held out" else STEPS) // 2
    same(tmp_path / "r", never_stopped(*more))
    tried()


@pytest.mark.parametrize(("together", "step"), thin([(2, 1), (2, 6), (3, 10), (1, 3), (1, 11), (2, 17)], to=1))
def test_of_several_seeds_each_goes_on_to_the_same_bytes(built, never_stopped, tmp_path, together, step):
    line = options(built, tmp_path / "r", "--seeds", "0,1,2", "--together", together)
    with signalled(step, signal.SIGTERM):
        assert run(line).code == 143
    assert run([*line, "--resume"]).code == 0
    for seed in range(3):
        same(tmp_path / "r" / f"seed{seed}", never_stopped("--seed", str(seed)))
    tried()


# --- elsewhere


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute with so many threads: sums are taken in another order with each number, and rounded otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def moved(done: Ended) -> list[tuple[str, str, str]]:
    """List (folder, before, here) of the lines that say where a training goes on."""
    words = r"ace_ref.train: (.*): last trained on (.*); going on with (.*): perhaps not to the same bytes as without"
    return re.findall(f"^{words} the stop; the result names each$", done.stderr, re.MULTILINE)


def test_with_another_number_of_threads_it_says_so_each_time_and_the_result_names_each(built, tmp_path):
    line = options(built, tmp_path / "r")
    with signalled(2, signal.SIGTERM):
        first = run(line)
    with threads(2), signalled(1, signal.SIGTERM):
        second = run([*line, "--resume"])
    with threads(2), signalled(1, signal.SIGTERM):
        third = run([*line, "--resume"])
    last = run([*line, "--resume", "--quiet"])
    assert [done.code for done in (first, second, third, last)] == [143, 143, 143, 0]
    one, two, again = record(tmp_path / "r")["computed_on"]
    assert one == again == two.replace("2 threads", "1 thread") != two
    assert torch.__version__ in one
    assert [moved(done) for done in (first, second, third, last)] == [
        [], [(str(tmp_path / "r"), one, two)], [], [(str(tmp_path / "r"), two, one)],
    ]  # fmt: skip
    assert f"\ntrained on {one}; then on {two}; then on {one}\n" in last.stdout
    tried()


def test_of_several_seeds_each_that_has_begun_says_so(built, tmp_path):
    line = options(built, tmp_path / "r", "--seeds", "0,1,2", "--together", "2")
    with signalled(3, signal.SIGTERM):
        assert run(line).code == 143
    with threads(2):
        done = run([*line, "--resume"])
    assert done.code == 0
    assert [Path(folder).name for folder, _, _ in moved(done)] == ["seed0", "seed1"]
    assert [len(record(tmp_path / "r" / f"seed{seed}")["computed_on"]) for seed in range(3)] == [2, 2, 1]
    tried()


def test_where_only_the_evaluation_is_left_it_has_not_moved(built, never_stopped, tmp_path):
    line = options(built, tmp_path / "r")
    with signalled(LAST, signal.SIGTERM):
        assert run(line).code == 143
    with threads(2):
        done = run([*line, "--resume"])
    assert (done.code, done.stderr) == (0, "")
    assert record(tmp_path / "r")["computed_on"] == record(never_stopped())["computed_on"]
    models = [folder / "model.safetensors" for folder in (tmp_path / "r", never_stopped())]
    assert models[0].read_bytes() == models[1].read_bytes()
    tried()


def test_a_checkpoint_that_names_no_computer_may_be_of_another(built, tmp_path):
    """Written before checkpoints named one."""
    line = options(built, tmp_path / "r")
    with mock.patch.object(train, "_compute_here"), signalled(2, signal.SIGTERM):
        assert run(line).code == 143
    done = run([*line, "--resume"])
    before, here = record(tmp_path / "r")["computed_on"]
    assert (before, moved(done)) == ("an unknown computer", [(str(tmp_path / "r"), before, here)])
    tried()


@pytest.mark.parametrize("number", [1, 2])
def test_with_as_many_threads_it_goes_on_to_the_same_bytes_in_silence(built, tmp_path, number):
    with threads(number):
        assert run(options(built, tmp_path / "whole")).code == 0
        line = options(built, tmp_path / "r")
        with signalled(5, signal.SIGINT):
            assert run(line).code == 130
        done = run([*line, "--resume"])
    assert (done.code, done.stderr) == (0, "")
    assert len(record(tmp_path / "r")["computed_on"]) == 1
    same(tmp_path / "r", tmp_path / "whole")
    tried()


def second_has_two_threads() -> None:
    if os.environ["RANK"] == "1":
        torch.set_num_threads(2)


@pytest.mark.skipif(not WHOLE, reason="takes long; in make faults")
def test_in_another_number_of_processes_or_where_one_is_elsewhere_the_first_says_so(built, tmp_path):
    line = options(built, tmp_path / "r")
    with signalled(2, signal.SIGTERM):
        assert run(line).code == 143
    for spoil in (None, second_has_two_threads):
        shutil.copytree(tmp_path / "r", tmp_path / "copy")
        first, second = ranks(2, lambda _: [*options(built, tmp_path / "copy"), "--resume"], spoil=spoil)
        assert (first.code, second.code, second.stderr) == (0, 0, "")
        one, two = record(tmp_path / "copy")["computed_on"]
        other = one.replace("1 thread", "2 threads")
        assert two == (f"2 x {one}" if spoil is None else f"1 x {one} + 1 x {other}")
        assert moved(first) == [(str(tmp_path / "copy"), one, two)]
        shutil.rmtree(tmp_path / "copy")
    tried()


# --- killed


def kill_in_step(number: int) -> None:
    take, taken = trainer.take_step, []

    def spoiled(*args: object) -> object:
        taken.append(1)
        if len(taken) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return take(*args)  # type: ignore[arg-type]

    trainer.take_step = spoiled  # type: ignore[assignment]


def kill_at_commit(number: int, done: bool) -> None:
    """Kill this process when a file is whole, and has its name or has it not yet."""
    from ltdata import files

    commit, committed = files.commit, []

    def spoiled(temporary: Path, path: Path) -> None:
        committed.append(1)
        if len(committed) == number and not done:
            os.kill(os.getpid(), signal.SIGKILL)
        commit(temporary, path)
        if len(committed) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    files.commit = spoiled


COMMITS = 3 + 2 * EPOCHS  # a probe; a checkpoint and the log of each epoch; model, result
KILLS: dict[str, Callable[[], object]] = {f"in step {n}": partial(kill_in_step, n) for n in range(1, LAST + 1)}
KILLS |= {
    f"{'after' if done else 'before'} file {n} has its name": partial(kill_at_commit, n, done)
    for n in range(1, COMMITS + 1)
    for done in (False, True)
}


@pytest.mark.parametrize("name", list(KILLS) if WHOLE else ["in step 6", "before file 5 has its name"])
def test_killed_anywhere_it_goes_on_to_the_same_bytes(built, never_stopped, tmp_path, name):
    number = list(KILLS).index(name)
    more = ("--method", METHODS[number % len(METHODS)], *list(VARIANTS.values())[number % len(VARIANTS)])
    line = options(built, tmp_path / "r", *more)
    done = alone(line, spoil=KILLS[name])
    if "held" not in list(VARIANTS)[number % len(VARIANTS)] or name not in ("in step 7", "in step 8"):
        assert done.code == -signal.SIGKILL, done
    done = run([*line, "--resume"])
    assert (done.code, done.stderr) == (0, "")
    same(tmp_path / "r", never_stopped(*more))
    assert all(path.suffix == ".safetensors" for path in (tmp_path / "r" / "checkpoints").iterdir())
    tried()


@pytest.mark.skipif(not WHOLE, reason="takes long; in make faults")
def test_killed_again_and_again_it_goes_on_to_the_same_bytes(built, never_stopped, tmp_path):
    line = options(built, tmp_path / "r", *VARIANTS["all at once"])
    for spoil in [kill_at_commit] * 6:
        done = alone([*line, "--resume"], spoil=partial(spoil, 3, True))
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done
    assert run([*line, "--resume"]).code == 0
    same(tmp_path / "r", never_stopped(*VARIANTS["all at once"]))
    tried()


def test_what_a_killed_run_began_to_write_is_removed(built, never_stopped, tmp_path):
    """A checkpoint of the midst of an epoch, whose name no later one has."""
    line = options(built, tmp_path / "r")
    with signalled(2, signal.SIGINT):
        assert run(line).code == 130
    left = tmp_path / "r" / "checkpoints" / ".00000-000003.safetensors.0123abcd.tmp"
    left.write_bytes(b"half")
    assert run([*line, "--resume"]).code == 0
    assert not left.exists()
    same(tmp_path / "r", never_stopped())
    tried()


@pytest.mark.skipif(not WHOLE, reason="takes long; in make faults")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("times", [1, 3])
def test_a_signal_from_outside_at_any_time_costs_no_byte(built, never_stopped, tmp_path, number, times):
    line = options(built, tmp_path / "r")
    for time_ in range(times):
        place = tmp_path / str(time_)
        place.mkdir()
        lock, log = tmp_path / ".r.lock", tmp_path / "r" / "log.jsonl"
        lock.unlink(missing_ok=True)
        process = begin([*line, "--resume"], place)
        deadline = time.monotonic() + 60
        while process.is_alive() and not (log.exists() and lock.exists()):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        if process.is_alive():
            os.kill(process.pid or 0, number)
        assert end(process, place).code in (0, -signal.SIGKILL, 130, 143)
    assert run([*line, "--resume"]).code == 0
    same(tmp_path / "r", never_stopped())
    tried()


# --- from a server, and in ranks


@pytest.mark.skipif(not WHOLE, reason="takes long; in make faults")
@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_training_on_a_servers_shards_goes_on_to_the_same_bytes(built, tmp_path, step):
    with served(built.folder) as url:
        line = [*options(built, tmp_path / "whole", *PHOTOS), "--shards", url]
        assert run(line).code == 0
        line = [*line, "--out", str(tmp_path / "r")]
        with signalled(step, signal.SIGTERM):
            stopped(run(line), signal.SIGTERM, step)
        assert run([*line, "--resume"]).code == 0
    same(tmp_path / "r", tmp_path / "whole")
    tried()


@pytest.mark.skipif(not WHOLE, reason="takes long; in make faults")
@pytest.mark.parametrize("more", [[], values(sync_batchnorm=True), values(ema_decay=0.5, mixup_alpha=0.5)])
def test_two_ranks_that_were_killed_go_on_to_the_same_bytes(built, tmp_path, more):
    def trained(out: Path, *resume: str, spoil: Callable[[], object] | None = None) -> list[int]:
        return [each.code for each in ranks(2, lambda _: options(built, out, *more, *resume), spoil=spoil)]

    assert trained(tmp_path / "whole") == [0, 0]
    assert trained(tmp_path / "r", spoil=partial(kill_in_step, 6)) == [-signal.SIGKILL] * 2
    assert trained(tmp_path / "r", "--resume") == [0, 0]
    same(tmp_path / "r", tmp_path / "whole")
    tried()
