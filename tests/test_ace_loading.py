"""Where images are while a training runs changes when they are decoded, not what is trained on."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from photos import photo, put
from test_ace_step import with_stepper
from test_ace_trainer import weights

from ace_ref import devices, jpeg, loading, run_folder, state, train, trainer
from ace_ref.dataset import batches
from ace_ref.draws import Split, draw_epoch
from ace_ref.loading import Memory, load_split, open_shards
from ace_ref.recipe import Recipe, load_recipe
from ace_ref.resident import RaggedSplit, ResidentSplit
from ace_ref.streamed import RemoteSplit, StreamedSplit
from ltdata.build import Built, build
from ltdata.errors import MismatchError, UsageError
from ltdata.reader import read_images, read_manifest
from ltdata.spec import Spec

CPU = torch.device("cpu")
RECIPE = load_recipe("tiny", "ce", source="folder", imbalance_factor=4).with_values(
    {"crop": "resized", "crop_px": 24, "short_side_px": 32, "jitter": 0.4, "batch_size": 8}
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a set of photographs of many sizes, a progressive and a grey one and a PNG among them."""
    rng = np.random.default_rng(0)
    files = {}
    for number in range(60):
        size = (int(rng.integers(30, 90)), int(rng.integers(30, 90)))
        mode, form = ("L", "JPEG") if number % 11 == 0 else ("RGB", "PNG" if number % 13 == 0 else "JPEG")
        files[f"class{min(number % 7, 3)}/{number:03}.{form.lower()}"] = photo(number, size=size, mode=mode, form=form)
    root = tmp_path_factory.mktemp("photographs")
    put(root / "source", files)
    return build(Spec("folder", test_per_class=3), data_dir=root / "source", out=root / "built").folder


@pytest.fixture
def served(photographs: Path) -> Iterator[str]:
    """Serve the set's folder; give its URL."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *values: object) -> None:  # noqa: A002 - its name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=photographs.parent)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{photographs.name}"
        server.shutdown()
        thread.join()


def load(place: Path | str, recipe: Recipe = RECIPE, split: str = "train", **memory: float | bool) -> Split:
    manifest, found = open_shards(str(place))
    return load_split(found, manifest, split, recipe, Memory(CPU, **memory))


def evaluated(split: Split) -> dict[bytes, int]:
    """Map each image that is evaluated to its label."""
    shown = {}
    for labels, pixels in split.central(RECIPE, 7):
        shown |= {image.numpy().tobytes(): int(label) for label, image in zip(labels, pixels, strict=True)}
    return shown


def test_the_memory_given_decides_between_resident_and_streamed(photographs):
    assert isinstance(load(photographs), RaggedSplit)
    assert isinstance(load(photographs, resident_gb=1), RaggedSplit)
    assert isinstance(load(photographs, resident_gb=0), StreamedSplit)


def test_resident_photographs_are_each_decoded_at_the_short_side(photographs):
    split = load(photographs)
    assert isinstance(split, RaggedSplit)
    manifest = read_manifest(photographs)
    from ltdata.access import open_images

    with open_images(photographs, manifest, "train") as images:
        for row in range(len(images)):
            expected = jpeg.resized(images.read(row), least_px=24, most_px=32)
            assert np.array_equal(split.image(row).numpy(), expected)
            assert 24 <= min(expected.shape[:2]) <= 32
        assert np.array_equal(split.host_labels, images.labels)


def test_evaluation_sees_the_same_pixels_resident_streamed_and_remote(photographs, served):
    resident = evaluated(load(photographs))
    assert len(resident) > 45
    assert evaluated(load(photographs, resident_gb=0)) == resident
    assert evaluated(load(served)) == resident


def test_streamed_crops_are_cut_out_of_the_photographs_themselves(photographs):
    """The oracle: each image decoded whole, then torchvision's resized crop, flip and colours."""
    from ace_ref import augment
    from ltdata.access import open_images

    split = load(photographs, resident_gb=0)
    drawn = draw_epoch(split, RECIPE, seed=0, epoch=0)
    assert drawn.place is not None
    assert drawn.factors is not None
    with open_images(photographs, read_manifest(photographs), "train") as images:
        for step, pixels in enumerate(split.augmented(drawn, RECIPE, start=0, seen=slice(None))):
            for at, found in enumerate(pixels):
                whole = torch.from_numpy(jpeg.decode(images.read(int(drawn.index[step, at]))))
                box = augment.resized_boxes(drawn.place[step, at], *whole.shape[:2]).tolist()
                factors = drawn.factors[step, at].tolist()
                expected = augment.resized_crop(whole, box, bool(drawn.flip[step, at]), factors, side_px=24)
                # jpeg resizes a view of rows of pixels, torchvision rows of planes: the same within a level before
                # the colours change, which stretch it
                assert (found.int() - expected.int()).abs().max() <= 3


@pytest.mark.parametrize("resident_gb", [None, 0.0])
@pytest.mark.parametrize("values", [{}, {"mixup_alpha": 0.5, "plain_epochs": 0}, {"randaugment": 2, "cutout_px": 8}])
def test_any_number_of_ranks_and_any_start_give_the_same_batches(photographs, resident_gb, values):
    recipe = RECIPE.with_values(values)
    split = load(photographs, recipe, resident_gb=resident_gb)
    drawn = draw_epoch(split, recipe, seed=0, epoch=1)
    recipe = recipe.with_values({"mean": [0.5] * 3, "std": [0.2] * 3})
    whole = list(batches(split, drawn, recipe))
    assert len(whole) == len(split) // 8
    for rank in range(2):
        for batch, part in zip(whole, batches(split, drawn, recipe, rank=rank, world=2), strict=True):
            assert torch.equal(part.images, batch.images[rank::2])
    for batch, late in zip(whole[2:], batches(split, drawn, recipe, start=2), strict=True):
        assert torch.equal(late.images, batch.images)


@pytest.mark.parametrize("resident_gb", [None, 0.0])
@pytest.mark.parametrize("values", [{}, {"randaugment": 2}, {"cutout_px": 8}])
def test_photographs_train_on_static_tensors_as_in_batches(photographs, resident_gb, values):
    recipe = RECIPE.with_values({"epochs": 2, "milestones": [1], "mean": [0.5] * 3, "std": [0.2] * 3, **values})
    split, manifest = load(photographs, recipe, resident_gb=resident_gb), read_manifest(photographs)
    batched, static = (state.begin(recipe, manifest, split, seed=1) for _ in range(2))
    trainer.run(batched, split)
    with_stepper(static, split)
    expected = weights(batched)
    assert all(torch.equal(found, expected[name]) for name, found in weights(static).items())


def test_remote_batches_go_on_anywhere_and_have_the_samplers_classes(served):
    recipe = RECIPE.with_values({"sampler": "class-balanced", "mean": [0.5] * 3, "std": [0.2] * 3})
    split = load(served, recipe)
    assert isinstance(split, RemoteSplit)
    drawn = draw_epoch(split, recipe, seed=0, epoch=1)
    whole = list(batches(split, drawn, recipe))
    for batch, late in zip(whole[2:], batches(split, drawn, recipe, start=2), strict=True):
        assert torch.equal(late.images, batch.images)
    shown = np.bincount(np.concatenate([split.order("class-balanced", seed=0, epoch=e) for e in range(40)]))
    per_class = np.bincount(split.host_labels, weights=shown)
    assert abs(per_class / per_class.sum() - 0.25).max() < 0.03


def test_images_of_one_size_come_from_a_server_as_from_the_folder(digits_lt: Built):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *values: object) -> None:  # noqa: A002 - its name
            pass

    recipe = load_recipe("tiny", "ce", source="digits", imbalance_factor=20)
    expected, labels = read_images(digits_lt.folder, digits_lt.manifest, "train")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=digits_lt.folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        found = load(f"http://127.0.0.1:{server.server_port}", recipe)
        server.shutdown()
        thread.join()
    assert isinstance(found, ResidentSplit)
    assert np.array_equal(found.pixels.numpy(), expected)
    assert np.array_equal(found.host_labels, labels)


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Give a cache folder of this test alone."""
    monkeypatch.setenv("LTDATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / loading.CACHE_NAME


@pytest.mark.parametrize("recipe", [RECIPE, RECIPE.with_values({"crop": "pad"})], ids=["photographs", "one size"])
def test_a_cache_is_read_instead_of_the_shards_and_made_anew_when_it_is_not_theirs(
    photographs, digits_lt, tmp_path, recipe, cached
):
    import shutil

    source = photographs if recipe.crop == "resized" else digits_lt.folder
    folder = Path(shutil.copytree(source, tmp_path / "set"))
    expected = load(folder, recipe)

    def same(found: Split) -> bool:
        names = ("flat", "labels") if isinstance(found, RaggedSplit) else ("pixels", "labels")
        return all(torch.equal(getattr(found, name), getattr(expected, name)) for name in names)

    assert not cached.exists()
    before = sorted(folder.rglob("*"))
    assert same(load(folder, recipe, cache=True))
    assert sorted(folder.rglob("*")) == before  # which may be read-only, and what came in it is not believed
    (path,) = cached.iterdir()
    unread = AssertionError("the shards were decoded again")
    with (
        mock.patch.object(loading.reader, "read_images", side_effect=unread),
        mock.patch.object(loading, "_decoded", side_effect=unread),
    ):
        assert same(load(folder, recipe, cache=True))
        for damage in (
            lambda data: data[: len(data) // 2],
            lambda data: data[:0],
            lambda data: data[:5000] + b"x" + data[5001:],
        ):
            whole = path.read_bytes()
            path.write_bytes(damage(whole))
            with pytest.raises(AssertionError, match="decoded again"):
                load(folder, recipe, cache=True)
            path.write_bytes(whole)
        with (
            mock.patch.object(loading, "_decoders", return_value={"pillow": "another"}),
            pytest.raises(AssertionError, match="decoded again"),
        ):
            load(folder, recipe, cache=True)


def test_an_image_that_cannot_be_decoded_is_named(photographs):
    with (
        mock.patch.object(jpeg, "resized", side_effect=ValueError("broken")),
        pytest.raises(MismatchError, match=r"tar: the image at byte \d+ is not readable \(broken\)"),
    ):
        load(photographs)
    split = load(photographs, resident_gb=0)
    drawn = draw_epoch(split, RECIPE, seed=0, epoch=0)
    with (
        mock.patch.object(jpeg, "resized_crop", side_effect=ValueError("broken")),
        pytest.raises(MismatchError, match=r"tar: the image at byte \d+ is not readable"),
    ):
        list(split.augmented(drawn, RECIPE, start=0, seen=slice(None)))


def test_a_part_of_remote_shards_is_trained_and_evaluated_on_alone(served, photographs):
    part = np.array([31, 2, 5, 17, 40, 8, 9, 11, 3, 22])
    remote, local = load(served).take(part), load(photographs).take(part)
    assert evaluated(remote) == evaluated(local)
    assert np.array_equal(remote.host_labels, local.host_labels)
    order = remote.order("instance-balanced", seed=0, epoch=0)
    assert len(order) == 10
    assert set(order.tolist()) <= set(range(10))


def test_memory_options_make_no_sense_for_a_server(served):
    for options in ({"cache": True}, {"resident_gb": 1.0}):
        with pytest.raises(UsageError, match="not for shards on a server"):
            load(served, **options)


def test_a_run_does_not_go_on_with_other_pixels(photographs, tmp_path):
    """Crops of resident photographs are not those of the originals; which it is, free memory decides."""
    from ace_ref.trainer import StopError

    manifest, recipe = read_manifest(photographs), RECIPE.with_values({"mean": [0.5] * 3, "std": [0.2] * 3})
    resident, streamed = load(photographs, recipe), load(photographs, recipe, resident_gb=0)
    training = state.begin(recipe, manifest, resident)
    with pytest.raises(StopError):
        trainer.run(training, resident, stopping=lambda: 130)
    run_folder.keep_checkpoint(tmp_path, training)
    run_folder.go_on(state.begin(recipe, manifest, resident), tmp_path)
    assert load(photographs, recipe, resident_gb=0).described(recipe) == {"pixels": "originals"}
    with pytest.raises(MismatchError, match=r"pixels 'resident, short side 24 to 32 px', not 'originals'"):
        run_folder.go_on(state.begin(recipe, manifest, streamed), tmp_path)


def test_threads_of_a_pool_compute_alone():
    torch.set_num_threads(2)
    try:
        with devices.single_threads(3) as pool:
            assert {pool.submit(torch.get_num_threads).result() for _ in range(9)} == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


SETTINGS = [
    "--recipe", "tiny", "--method", "ce", "--epochs", "2", "--quiet", "--json", "--set", "batch_size=8",
    "--set", "crop=resized", "--set", "crop_px=24", "--set", "short_side_px=32", "--set", "jitter=0.2",
]  # fmt: skip


def trained(place: Path | str, out: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(train.command, ["--shards", str(place), "--out", str(out), *SETTINGS, *options])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    "options", [(), ("--resident-gb", "0"), ("--cache",), ("--resident-gb", "0", "--val-per-class", "1")]
)
@pytest.mark.usefixtures("cached")
def test_the_command_trains_on_photographs(photographs, tmp_path, options):
    import json
    import shutil

    folder = shutil.copytree(photographs, tmp_path / "set")
    code, output = trained(folder, tmp_path / "out", *options)
    assert code == 0, output
    result = json.loads(output)
    assert result["recipe"]["crop"] == "resized"
    assert 0 <= result["accuracy"]["last"]["overall"] <= 100
    assert len(result["history"]) == 2


def test_a_finished_training_on_other_pixels_is_not_handed_back(photographs, tmp_path):
    assert trained(photographs, tmp_path / "out", "--resident-gb", "0")[0] == 0
    assert trained(photographs, tmp_path / "out", "--resident-gb", "0")[0] == 0  # found, not repeated
    done = CliRunner().invoke(train.command, ["--shards", str(photographs), "--out", str(tmp_path / "out"), *SETTINGS])
    assert isinstance(done.exception, UsageError)
    assert "holds another training" in str(done.exception)


def test_the_command_trains_from_a_server(served, tmp_path):
    code, output = trained(served, tmp_path / "out")
    assert code == 0, output
