import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import nn

from tlprune.data.transforms import MEAN, STD
from tlprune.errors import InputError
from tlprune.models.adversarial import PGD
from tlprune.models.backbones import Classifier, create_backbone


def pixels_of(images):
    return images * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)


def normalised(pixels):
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Classifier(create_backbone("resnet8_w8"), 5)
    with torch.no_grad():
        network(torch.randn(64, 3, 32, 32))  # statistics of something
    return network


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(8, 3, 32, 32, generator=generator)
    pixels[0], pixels[1] = 0, 1  # at the ends of the range
    return normalised(pixels), torch.arange(8) % 5


def test_the_view_normalises_as_the_attack_expects():
    assert PGD.mean == MEAN
    assert PGD.std == STD


@pytest.mark.parametrize(("epsilon", "steps", "step_size"), [(3, 3, None), (8, 1, 20), (0.5, 10, 0.1), (255, 2, None)])
def test_changes_stay_within_epsilon_and_range_and_raise_the_loss(network, batch, epsilon, steps, step_size):
    images, labels = batch
    torch.manual_seed(0)
    changed = PGD(epsilon, steps, step_size)(network, images, labels)
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert not changed.requires_grad
    pixels = pixels_of(changed)
    assert (pixels - pixels_of(images)).abs().max() <= epsilon / 255 + 1e-6
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    network.eval()
    clean, attacked = (F.cross_entropy(network(each), labels) for each in (images, changed))
    assert attacked > clean
    noise = torch.empty_like(images).uniform_(-epsilon / 255, epsilon / 255)
    noisy = normalised((pixels_of(images) + noise).clamp(0, 1))
    assert attacked > F.cross_entropy(network(noisy), labels)


def test_of_a_linear_classifier_it_finds_the_worst_change():
    """The loss of two classes rises fastest where each pixel goes all the way against the difference of weights."""
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))
    pixels = torch.rand(6, 3, 4, 4) * 0.5 + 0.25
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    changed = PGD(epsilon=6, steps=10, step_size=3)(linear, normalised(pixels), labels)
    difference = (linear[1].weight[1] - linear[1].weight[0]).view(3, 4, 4).sign()
    sign = torch.where(labels == 0, 1, -1)[:, None, None, None] * difference
    torch.testing.assert_close(pixels_of(changed), pixels + 6 / 255 * sign)


def test_the_network_stays_as_it_was(network, batch):
    network.train()
    network.backbone.eval()  # as a linear probe has it
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    PGD()(network, *batch)
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.grad is None for parameter in network.parameters())
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def test_an_error_within_leaves_the_modes_as_they_were(batch):
    class Broken(nn.Module):
        def forward(self, images):
            raise RuntimeError("broken")

    network = Broken().train()
    with pytest.raises(RuntimeError, match="broken"):
        PGD()(network, *batch)
    assert network.training


def test_batches_of_inference_mode_can_be_attacked(network, batch):
    with torch.inference_mode():
        images, labels = (each.clone() for each in batch)
        changed = PGD()(network, images, labels)
        assert not torch.equal(changed, images)
        assert network(changed).shape == (8, 5)


def test_half_precision(network, batch):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        changed = PGD()(network, *batch)
    assert changed.dtype == torch.float32
    assert torch.isfinite(changed).all()
    assert (pixels_of(changed) - pixels_of(batch[0])).abs().max() == pytest.approx(3 / 255, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0}, r"`epsilon` must be in \(0, 255\], in 1/255, got 0"),
        ({"epsilon": math.nan}, "`epsilon` must be in"),
        ({"steps": 0}, "`steps` must be at least 1, got 0"),
        ({"step_size": 0}, "`step_size` must be above 0"),
        ({"std": (1.0, 0.0, 1.0)}, r"`std` must be three numbers in \(0, 1\], got \[1.0, 0.0, 1.0\]"),
        ({"std": (1.0,)}, "`std` must be three numbers"),
        ({"mean": (123.7, 116.3, 103.5)}, r"`mean` must be three numbers in \[0, 1\], got"),
    ],
)
def test_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        PGD(**options)
