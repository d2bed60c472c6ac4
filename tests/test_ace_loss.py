"""The losses are the formulas of paper and code: compared with a plain float64 transcription."""

import numpy as np
import pytest
import torch

from ace_ref.loss import COMPLEMENTARY_FORMS, expert_losses

TARGETS = np.array([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]], dtype=bool)


def transcription(logits: np.ndarray, labels: np.ndarray, complementary: str) -> list[float]:
    """Compute L_k sample by sample, as written in the module's docstring."""
    losses = []
    for k, own in enumerate(TARGETS):
        samples = [i for i, y in enumerate(labels) if own[y]]
        interfering = np.flatnonzero(~own)
        cross_entropy, squares = 0.0, 0.0
        for i in samples:
            z = logits[i, k]
            cross_entropy += np.log(np.exp(z - z.max()).sum()) + z.max() - z[labels[i]]
            squares += (z[interfering] ** 2).sum()
        loss = cross_entropy / len(samples) if samples else 0.0
        if samples and len(interfering):
            loss += {"none": 0.0, "paper": squares / len(samples), "code": np.sqrt(squares) / len(interfering)}[
                complementary
            ]
        losses.append(loss)
    return losses


@pytest.mark.parametrize("complementary", COMPLEMENTARY_FORMS)
@pytest.mark.parametrize("seed", range(4))
def test_losses_equal_the_formulas(complementary, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (16, 3, 5)), rng.integers(0, 5, 16)
    found = expert_losses(
        torch.tensor(logits), torch.tensor(labels), torch.tensor(TARGETS), complementary=complementary
    )
    assert found.tolist() == pytest.approx(transcription(logits, labels, complementary), rel=1e-5)


@pytest.mark.parametrize("complementary", COMPLEMENTARY_FORMS)
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_an_expert_without_samples_contributes_exactly_zero_and_finite_gradients(complementary, scale):
    logits = (torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(0)) * scale).requires_grad_()
    losses = expert_losses(logits, torch.tensor([0, 1, 0, 1, 2, 3]), torch.tensor(TARGETS), complementary=complementary)
    losses.sum().backward()
    assert losses[2].item() == 0.0
    assert torch.isfinite(logits.grad).all()
    assert torch.count_nonzero(logits.grad[:, 2]) == 0


def test_samples_outside_the_target_categories_do_not_move_an_expert():
    logits = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    losses = expert_losses(logits, torch.tensor([0, 4, 1, 2]), torch.tensor(TARGETS), complementary="code")
    losses.sum().backward()
    assert torch.count_nonzero(logits.grad[[0, 2], 1]) == 0
    assert torch.count_nonzero(logits.grad[[0, 2, 3], 2]) == 0
    assert torch.count_nonzero(logits.grad[1, 2]) == 5
