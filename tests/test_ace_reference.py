"""The trainer is its method: three whole epochs against a plain transcription, weight for weight.

The transcription is slow and obvious: samples are picked with Python lists, crops are cut one by one, SGD is written
out. It shares with the trainer only the network and the draws (which have tests of their own). Mixup is on in the
first epoch and off in the second, warm-up and a milestone both act, the last batch is dropped.
"""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ace_ref.draws import Draws, draw_epoch
from ace_ref.evaluate import count_correct
from ace_ref.network import AceNetwork
from ace_ref.recipe import load_recipe
from ace_ref.resident import ResidentSplit
from ace_ref.state import begin
from ace_ref.trainer import run
from ltdata.manifest import Manifest, Split, describe_rule
from ltdata.planner import target_categories

COUNTS = (30, 12, 6, 2)  # 50 images: three batches of 16, two images left over
RECIPE = dataclasses.replace(
    load_recipe("tiny", "ace", source="elsewhere", imbalance_factor=15),
    thresholds=(0.3, 0.05), epochs=3, batch_size=16, lr=0.05, warmup_epochs=2, milestones=(2,), mixup_alpha=0.5,
    plain_epochs=2, crop_padding_px=2,
)  # fmt: skip


@pytest.fixture
def split() -> ResidentSplit:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(4), COUNTS))
    return ResidentSplit(
        torch.from_numpy(rng.integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)), torch.from_numpy(labels)
    )


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        name="four",
        source={"id": "four"},
        protocol={"params": {}},
        group_rule=describe_rule("strict"),
        class_names=("a", "b", "c", "d"),
        splits={"train": Split(50, COUNTS, "")},
        content_sha256="",
        created_by={},
    )


def images_of(split: ResidentSplit, draws: Draws, step: int) -> torch.Tensor:
    """Cut every crop by hand."""
    images = []
    for index, top, left, flip in zip(
        *(d[step].tolist() for d in (draws.index, draws.top, draws.left, draws.flip)), strict=True
    ):
        padded = np.zeros((36, 36, 3))
        padded[2:34, 2:34] = split.pixels[index].numpy() / 255
        crop = padded[top : top + 32, left : left + 32]
        crop = crop[:, ::-1] if flip else crop
        images.append(((crop - np.array(RECIPE.mean)) / np.array(RECIPE.std)).transpose(2, 0, 1))
    return torch.tensor(np.stack(images), dtype=torch.float32)


def loss_of(logits: torch.Tensor, labels: list[int], targets: np.ndarray, expert: int) -> torch.Tensor:
    """L_k by picking its samples: cross-entropy, and the Frobenius norm of the interfering block over its width."""
    own = [i for i, label in enumerate(labels) if targets[expert, label]]
    interfering = np.flatnonzero(~targets[expert]).tolist()
    if not own:
        return logits.sum() * 0
    z = logits[own, expert]
    loss = F.cross_entropy(z, torch.tensor([labels[i] for i in own]))
    return loss + (z[:, interfering].square().sum().sqrt() / len(interfering) if interfering else 0)


def test_training_equals_its_transcription_weight_for_weight(split, manifest):
    training = begin(RECIPE, manifest, split, seed=3)
    run(training, split)
    trained = training.evaluated()
    targets = target_categories(np.array(COUNTS), planner="mass", thresholds=(0.3, 0.05))
    assert targets.sum(axis=1).tolist() == [4, 3, 2]
    shares = [50 / 50, 20 / 50, 8 / 50]
    model = AceNetwork("resnet8", experts=3, num_classes=4, seed=3).to(memory_format=torch.channels_last)
    owner = {name: int(name.split(".")[1]) if name.startswith("experts") else 0 for name, _ in model.named_parameters()}
    velocity = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    mixed_steps = 0
    for epoch, (factor, mixing) in enumerate([(0.5, True), (1.0, False), (0.1, False)]):
        draws = draw_epoch(split, RECIPE, seed=3, epoch=epoch)
        assert len(draws.index) == 3
        for step in range(3):
            images, labels = images_of(split, draws, step), split.labels[draws.index[step]].tolist()
            mix = float(draws.mix[step]) if mixing else 1.0
            partner = draws.partner[step].tolist() if draws.partner is not None else list(range(16))
            mixed_steps += mix < 1
            logits = model(mix * images + (1 - mix) * images[partner])
            other = [labels[p] for p in partner]
            model.zero_grad()
            sum(
                mix * loss_of(logits, labels, targets, k) + (1 - mix) * loss_of(logits, other, targets, k)
                for k in range(3)
            ).backward()
            with torch.no_grad():
                for name, p in model.named_parameters():
                    velocity[name] = 0.9 * velocity[name] + p.grad + 5e-4 * p
                    p -= 0.05 * factor * shares[owner[name]] * velocity[name]
    assert mixed_steps == 3
    for (name, found), expected in zip(trained.model.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.allclose(found.float(), expected.float(), rtol=1e-3, atol=1e-4), name


def test_evaluation_equals_its_transcription_image_for_image(split, manifest):
    training = begin(RECIPE, manifest, split, seed=3)
    run(training, split)
    trained = training.evaluated()
    with torch.no_grad():  # experts of very different size, so that the scales decide
        for size, expert in zip((1.0, 5.0, 0.2), trained.model.experts, strict=True):
            expert.classifier.linear.weight.mul_(size)
    correct, total = count_correct(trained, split)
    scaled = (split.pixels.numpy() / 255 - np.array(RECIPE.mean)) / np.array(RECIPE.std)
    logits = trained.model(torch.tensor(scaled.transpose(0, 3, 1, 2), dtype=torch.float32)).detach().numpy()
    rows = [
        np.linalg.norm(expert.classifier.linear.weight.detach().numpy(), axis=1) for expert in trained.model.experts
    ]
    scales = [rows[0].mean() / rows[k][trained.targets[k]].mean() for k in range(3)]
    expected = np.zeros((4, 4), dtype=int)
    for z, label in zip(logits, split.labels.tolist(), strict=True):
        together = [np.mean([scales[k] * z[k, c] for k in range(3) if trained.targets[k, c]]) for c in range(4)]
        for row, answer in enumerate([np.argmax(together), *z.argmax(axis=1)]):
            expected[row, label] += answer == label
    assert total.tolist() == list(COUNTS)
    assert correct.tolist() == expected.tolist()
    assert len({tuple(row) for row in expected.tolist()}) > 1
