"""The network has the published size, and gradients go where the method sends them."""

import numpy as np
import pytest
import torch

from ace_ref.backbone import BACKBONES, BasicBlock
from ace_ref.head import make_head
from ace_ref.loss import LossTerms, expert_losses, make_terms
from ace_ref.network import AceNetwork
from ace_ref.results import flops_per_image, parameters
from ltdata.errors import UsageError


def test_resnet32_with_one_expert_is_the_published_resnet32():
    model = AceNetwork("resnet32", experts=1, num_classes=10)
    assert parameters(model) == 464_154 + 10  # He et al.: 0.46 M; plus one scale per class


def test_three_experts_on_resnet32_take_114_million_multiply_accumulates():
    assert flops_per_image(AceNetwork("resnet32", experts=3, num_classes=100)) / 2e6 == pytest.approx(114, abs=1)


def terms_of(targets: list[list[int]]) -> LossTerms:
    """Make ACE's terms, code form."""
    own = np.array(targets, dtype=bool)
    return make_terms(own, np.ones(own.shape[1], dtype=int), device=torch.device("cpu"), complementary="code")


@pytest.mark.parametrize("setting", ["plain", "bfloat16", "compiled"])
@pytest.mark.parametrize("source", [0, 1, 2])
def test_a_loss_reaches_its_own_expert_and_only_the_first_reaches_the_trunk(source, setting):
    model = AceNetwork("resnet8", experts=3, num_classes=5)
    network = torch.compile(model, backend="aot_eager") if setting == "compiled" else model
    terms = terms_of([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 0, 1, 1]])
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16, enabled=setting == "bfloat16"):
        logits = network(images)
        head = make_head("cosine", 8, 3, scale=16.0)
        assert head(torch.ones(2, 8, dtype=torch.bfloat16)).dtype == torch.float32
    losses = expert_losses(logits, torch.tensor([0, 1, 2, 3, 4, 3, 4, 1]), terms)
    losses[source].backward()
    moved = {
        name: any(p.grad is not None and torch.count_nonzero(p.grad) > 0 for p in part.parameters())
        for name, part in [("trunk", model.trunk), *((k, expert) for k, expert in enumerate(model.experts))]
    }
    assert moved == {"trunk": source == 0, 0: source == 0, 1: source == 1, 2: source == 2}


def test_the_sum_of_the_losses_gives_the_trunk_the_gradient_of_the_first_alone():
    terms = terms_of([[1, 1], [0, 1]])
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    gradients = []
    for chosen in (slice(0, 1), slice(0, 2)):
        model = AceNetwork("resnet8", experts=2, num_classes=2)
        expert_losses(model(images), torch.tensor([0, 1, 1, 0]), terms)[chosen].sum().backward()
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
    first, again, other = (AceNetwork("resnet8", experts=2, num_classes=3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_an_unknown_backbone_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="resnet32"):
        AceNetwork("resnet31", experts=1, num_classes=2)


def test_with_routing_all_every_loss_reaches_the_trunk():
    model = AceNetwork("resnet8", experts=2, num_classes=2, routing="all")
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expert_losses(model(images), torch.tensor([0, 1, 1, 0]), terms_of([[1, 1], [1, 1]]))[1].backward()
    assert all(torch.count_nonzero(p.grad) for p in model.trunk.parameters())


def test_the_imagenet_backbones_with_one_expert_are_torchvisions(torchvision):
    """Same weights, same answers, but for the classifier, which is ours."""
    for name, reference in (("resnet50", "resnet50"), ("resnext50", "resnext50_32x4d")):
        model, theirs = AceNetwork(name, experts=1, num_classes=10).eval(), getattr(torchvision.models, reference)()
        stages = {
            f"trunk.{n}": part
            for n, part in enumerate(("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"))
        }
        stages["experts.0.stage"] = "layer4"
        for ours, part in stages.items():
            theirs.get_submodule(part).load_state_dict(model.get_submodule(ours).state_dict())
        theirs.fc = torch.nn.Identity()
        theirs.eval()
        image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.allclose(model(image)[:, 0], model.experts[0].classifier(theirs(image)), atol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_takes_up_to_six_experts_and_a_cosine_head(name):
    if name in ("resnet50", "resnext50"):
        experts, side = 2, 32
    else:
        experts, side = 6, 32
    model = AceNetwork(name, experts=experts, num_classes=7, head="cosine", head_scale=16.0).eval()
    with torch.no_grad():
        logits = model(torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (2, experts, 7)
    assert logits.abs().max() <= 16.001
    with pytest.raises(UsageError, match="1 to 6"):
        AceNetwork("resnet8", experts=7, num_classes=2)
