"""The network has the published size, and gradients go where the method sends them."""

import pytest
import torch

from ace_ref.loss import expert_losses
from ace_ref.resnet import AceResNet, BasicBlock
from ace_ref.results import flops_per_image, parameters
from ltdata.errors import UsageError


def test_resnet32_with_one_expert_is_the_published_resnet32():
    model = AceResNet("resnet32", experts=1, num_classes=10)
    assert parameters(model) == 464_154 + 10  # He et al.: 0.46 M; plus one scale per class


def test_three_experts_on_resnet32_take_114_million_multiply_accumulates():
    assert flops_per_image(AceResNet("resnet32", experts=3, num_classes=100)) / 2e6 == pytest.approx(114, abs=1)


@pytest.mark.parametrize("source", [0, 1, 2])
def test_a_loss_reaches_its_own_expert_and_only_the_first_reaches_the_trunk(source):
    model = AceResNet("resnet8", experts=3, num_classes=5)
    targets = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 0, 1, 1]], dtype=torch.bool)
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    losses = expert_losses(model(images), torch.tensor([0, 1, 2, 3, 4, 3, 4, 1]), targets, complementary="code")
    losses[source].backward()
    moved = {
        name: any(p.grad is not None and torch.count_nonzero(p.grad) > 0 for p in part.parameters())
        for name, part in [("trunk", model.trunk), *((k, expert) for k, expert in enumerate(model.experts))]
    }
    assert moved == {"trunk": source == 0, 0: source == 0, 1: source == 1, 2: source == 2}


def test_the_sum_of_the_losses_gives_the_trunk_the_gradient_of_the_first_alone():
    targets = torch.tensor([[1, 1], [0, 1]], dtype=torch.bool)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    gradients = []
    for chosen in (slice(0, 1), slice(0, 2)):
        model = AceResNet("resnet8", experts=2, num_classes=2)
        expert_losses(model(images), torch.tensor([0, 1, 1, 0]), targets, complementary="code")[chosen].sum().backward()
        gradients.append([p.grad for p in model.trunk.parameters()])
    assert all(torch.equal(alone, together) for alone, together in zip(*gradients, strict=True))


def test_the_shortcut_subsamples_and_pads_with_zero_channels():
    block = BasicBlock(2, 4, stride=2)
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.rand(1, 2, 4, 4)
    out = block(x)
    assert torch.equal(out[:, 1:3], x[:, :, ::2, ::2])
    assert torch.count_nonzero(out[:, [0, 3]]) == 0


def test_weights_come_from_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (AceResNet("resnet8", experts=2, num_classes=3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_an_unknown_backbone_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="resnet32"):
        AceResNet("resnet31", experts=1, num_classes=2)
