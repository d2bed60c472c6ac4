"""Experts vote as the paper and the published code say."""

import numpy as np
import pytest
import torch

from ace_ref.aggregation import aggregate, expert_scales

TARGETS = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]], dtype=torch.bool)


def test_each_class_averages_over_the_experts_that_have_it():
    logits = torch.tensor([[[1.0, 2, 3, 4], [9, 20, 30, 40], [9, 9, 9, 500]]])
    scales = torch.tensor([1.0, 0.5, 0.1])
    together = aggregate(logits, TARGETS, scales)[0].tolist()
    assert together == pytest.approx([1.0, (2 + 10) / 2, (3 + 15) / 2, (4 + 20 + 50) / 3])


def test_scales_equal_their_formulas():
    weights = np.random.default_rng(0).normal(size=(3, 4, 6))
    norms = np.sqrt((weights**2).sum(axis=2))
    code = [norms[0].mean() / norms[k][TARGETS[k].numpy()].mean() for k in range(3)]
    paper = [(weights[0] ** 2).sum() / (weights[k] ** 2).sum() for k in range(3)]
    assert expert_scales(torch.tensor(weights), TARGETS, kind="mean-row-norm").tolist() == pytest.approx(code)
    assert expert_scales(torch.tensor(weights), TARGETS, kind="squared-norm").tolist() == pytest.approx(paper)


def test_one_expert_votes_alone():
    logits = torch.randn(5, 1, 4, generator=torch.Generator().manual_seed(0))
    scales = expert_scales(torch.ones(1, 4, 2), TARGETS[:1], kind="mean-row-norm")
    assert torch.equal(aggregate(logits, TARGETS[:1], scales), logits[:, 0])
