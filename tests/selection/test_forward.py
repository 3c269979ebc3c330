"""One way to run a surrogate: the same as the network itself, and the network is left as it was."""

import copy
import types

import pytest
import torch
import torchvision
from torch import Tensor, nn

from tlprune.errors import InputError
from tlprune.models.backbones import Classifier, create_backbone
from tlprune.selection.forward import running


def trained_looking(network: nn.Module) -> nn.Module:
    """With batch norms that do something."""
    generator = torch.Generator().manual_seed(0)
    for one in network.modules():
        if isinstance(one, nn.BatchNorm2d):
            one.running_mean.copy_(torch.randn(one.num_features, generator=generator))
            one.running_var.copy_(torch.rand(one.num_features, generator=generator) + 0.5)
            one.weight.data.copy_(torch.rand(one.num_features, generator=generator) + 0.5)
            one.bias.data.copy_(torch.randn(one.num_features, generator=generator))
    return network


def slow(network: nn.Module, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return copy.deepcopy(network).eval()(pixels).float()


NETWORKS = {
    "resnet8": lambda: Classifier(create_backbone("resnet8_w8"), 5),
    "resnet18": lambda: torchvision.models.resnet18(num_classes=5),
    "a sequence": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(5)
    ),
    "no norms": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(5)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_result_is_the_networks_own(name):
    torch.manual_seed(0)
    pixels = torch.randn(4, 3, 32, 32)
    network = NETWORKS[name]()
    network(pixels)
    network = trained_looking(network).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with running(network) as run:
        found = run(pixels)
        assert not network.training
    expected = slow(network, pixels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert network.training
    assert not found.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_batch_norms_are_folded():
    network = trained_looking(torchvision.models.resnet18())
    with running(network) as run:
        run(torch.zeros(1, 3, 32, 32))
        kinds = {type(one) for one in run.folded.modules()}
    assert nn.Conv2d in kinds
    assert nn.BatchNorm2d not in kinds


def test_for_a_batch_or_two_nothing_is_folded():
    network = trained_looking(torchvision.models.resnet18(num_classes=5))
    pixels = torch.randn(2, 3, 32, 32)
    with running(network, fold=False) as run:
        torch.testing.assert_close(run(pixels), slow(network, pixels), atol=1e-4, rtol=1e-4)
        assert run.folded is network


class Chooses(nn.Module):
    """Cannot be traced: what it does depends on the values that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.conv(images)).mean((2, 3))
        return maps if maps.sum() > 0 else -maps


class Remembers(nn.Module):
    """Traced, it would say what it said then for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.shift = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), 0.0

    def forward(self, images: Tensor) -> Tensor:
        self.shift += 1.0
        return self.norm(self.conv(images)).mean((2, 3)) + self.shift


@pytest.mark.parametrize("network", [Chooses(), Remembers()])
def test_what_cannot_be_traced_runs_as_it_is(network):
    with running(trained_looking(network)) as run:
        run(torch.zeros(2, 3, 8, 8))
        assert run.folded is network


def test_hooks_are_called():
    network, seen = trained_looking(torchvision.models.resnet18()), []
    network.layer1.register_forward_hook(lambda *_: seen.append(1))
    with running(network) as run:
        run(torch.zeros(1, 3, 32, 32))
    assert seen == [1]


def test_another_precision_is_close_and_gives_floats():
    torch.manual_seed(0)
    network = trained_looking(torchvision.models.resnet18(num_classes=5))
    pixels = torch.randn(4, 3, 32, 32)
    with running(network, "bfloat16") as run:
        found = run(pixels)
    expected = slow(network, pixels)
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_weights_of_another_dtype_get_images_of_theirs():
    network = trained_looking(torchvision.models.resnet18(num_classes=5)).double()
    with running(network) as run:
        assert run(torch.zeros(1, 3, 32, 32)).dtype == torch.float32


def test_a_network_for_other_images_is_refused_in_one_line():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(InputError, match=r"cannot be run on images of 3 x 8 x 8: "), running(network) as run:
        run(torch.zeros(2, 3, 8, 8))


def test_weights_on_a_gpu_are_told_to_keep_float32(monkeypatch):
    asked = {}
    monkeypatch.setattr(torch.backends.cudnn, "flags", lambda **given: asked.update(given) or torch.no_grad())
    from tlprune.selection.forward import _strict

    _strict(types.SimpleNamespace(type="cuda"))
    assert asked["allow_tf32"] is False
    asked.clear()
    _strict(torch.device("cpu"))
    assert asked == {}
