"""The losses are the formulas of papers and code: compared with a plain float64 transcription, all switches."""

import itertools

import numpy as np
import pytest
import torch

from ace_ref.loss import COMPLEMENTARY_FORMS, LossTerms, expert_losses, make_terms

TARGETS = np.array([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]], dtype=bool)
EVERY = np.ones((3, 5), dtype=bool)
COUNTS = np.array([100, 50, 20, 9, 4])


def terms(targets: np.ndarray = TARGETS, **switches) -> LossTerms:
    return make_terms(targets, COUNTS, device=torch.device("cpu"), **switches)


def softmax(z: np.ndarray) -> np.ndarray:
    return np.exp(z - z.max()) / np.exp(z - z.max()).sum()


def transcription(
    logits, labels, targets, *, adjustment=(), loss="cross-entropy", head_scale=30.0, reweighted=False,
    complementary="none", complementary_weight=1.0, agreement=0.0, label_smoothing=0.0,
) -> list[float]:  # fmt: skip
    """Compute L_k sample by sample, as written in the papers."""
    classes = len(COUNTS)
    prior = COUNTS / COUNTS.sum()
    weights, temperature = np.ones(classes), np.ones(classes)
    if reweighted:
        effective = np.array([(1 - 0.9999**n) / (1 - 0.9999) for n in COUNTS])
        weights = 1 / effective / np.sum(1 / effective) * classes
        temperature = classes * prior * 0.05 + 1 - 0.05
        temperature = temperature / np.max(temperature)
    margins = 1 / np.sqrt(np.sqrt(COUNTS))
    margins = margins * 0.5 / margins.max()
    losses = []
    for k, own in enumerate(targets):
        samples = [i for i, y in enumerate(labels) if own[y]]
        interfering = np.flatnonzero(~own)
        total = norm = squares = divergence = 0.0
        for i in samples:
            z, y = logits[i, k].copy(), labels[i]
            squares += (z[interfering] ** 2).sum()
            if loss == "ldam":
                z[y] -= head_scale * margins[y]
            z += adjustment[k] * np.log(prior) if adjustment else 0
            goal = np.full(classes, label_smoothing / classes)
            goal[y] += 1 - label_smoothing
            total -= weights[y] * (goal * np.log(softmax(z))).sum()
            norm += weights[y]
        value = total / norm if samples else 0.0
        if samples and len(interfering):
            value += complementary_weight * {
                "none": 0.0, "paper": squares / len(samples), "code": np.sqrt(squares) / len(interfering)
            }[complementary]  # fmt: skip
        for z in logits if agreement else ():
            adjusted = z + np.array([a * np.log(prior) for a in adjustment]) if adjustment else z
            mean, alone = softmax(adjusted.mean(axis=0) / temperature), softmax(adjusted[k] / temperature)
            divergence += (mean * np.log(mean / alone)).sum() / len(logits)
        losses.append(value + agreement * temperature.mean() ** 2 * divergence)
    return losses


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("complementary", "weight"), [("none", 1.0), ("code", 1.0), ("paper", 1.0), ("paper", 0.1)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_of_ace_equal_the_formulas(complementary, weight, smoothing, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (16, 3, 5)), rng.integers(0, 5, 16)
    switches = {"complementary": complementary, "complementary_weight": weight, "label_smoothing": smoothing}
    found = expert_losses(torch.tensor(logits), torch.tensor(labels), terms(**switches))
    assert found.tolist() == pytest.approx(transcription(logits, labels, TARGETS, **switches), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "adjustment", "reweighted", "agreement", "targets"),
    [
        *itertools.product(["cross-entropy", "ldam"], [(), (0.0, 1.0, 2.0)], [False, True], [0.0, -0.2, 0.5], [EVERY]),
        ("ldam", (1.0, 1.0, 1.0), True, 0.0, TARGETS),
    ],
)
def test_losses_of_the_other_methods_equal_the_formulas(loss, adjustment, reweighted, agreement, targets):
    rng = np.random.default_rng(7)
    logits, labels = rng.normal(0, 3, (16, 3, 5)), rng.integers(0, 5, 16)
    switches = {"loss": loss, "adjustment": adjustment, "reweighted": reweighted, "agreement": agreement}
    found = expert_losses(torch.tensor(logits), torch.tensor(labels), terms(targets, **switches))
    assert found.tolist() == pytest.approx(transcription(logits, labels, targets, **switches), rel=1e-4)


def test_agreement_moves_the_expert_and_not_the_mean():
    logits = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with_it, without = (expert_losses(logits, torch.arange(6) % 5, terms(EVERY, agreement=g)) for g in (0.5, 0.0))
    (with_it - without)[1].backward()
    assert torch.count_nonzero(logits.grad[:, [0, 2]]) == 0
    assert torch.count_nonzero(logits.grad[:, 1])


@pytest.mark.parametrize("complementary", COMPLEMENTARY_FORMS)
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_an_expert_without_samples_contributes_exactly_zero_and_finite_gradients(complementary, scale):
    logits = (torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(0)) * scale).requires_grad_()
    losses = expert_losses(logits, torch.tensor([0, 1, 0, 1, 2, 3]), terms(complementary=complementary))
    losses.sum().backward()
    assert losses[2].item() == 0.0
    assert torch.isfinite(logits.grad).all()
    assert torch.count_nonzero(logits.grad[:, 2]) == 0


def test_samples_outside_the_target_categories_do_not_move_an_expert():
    logits = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    expert_losses(logits, torch.tensor([0, 4, 1, 2]), terms(complementary="code")).sum().backward()
    assert torch.count_nonzero(logits.grad[[0, 2], 1]) == 0
    assert torch.count_nonzero(logits.grad[[0, 2, 3], 2]) == 0
    assert torch.count_nonzero(logits.grad[1, 2]) == 5
