import sys

import pytest
import torch

import forked
from tlprune.errors import InputError
from tlprune.models.backbones import Classifier, _Block, create_backbone, list_backbones

SMALL = [name for name in list_backbones() if not name.startswith("vit_l") and name not in ("resnet101", "resnet152")]


@pytest.mark.parametrize("name", SMALL)
def test_every_backbone_ends_in_its_features(name):
    backbone = create_backbone(name).eval()
    size = {"vit_b_16": 224, "vit_b_32": 224, "vit_b_16_384": 384}.get(name, 32)
    with torch.inference_mode():
        assert backbone(torch.zeros(1, 3, size, size)).shape == (1, backbone.num_features)


@pytest.mark.parametrize("name", sorted(set(list_backbones()) - set(SMALL)))
def test_large_backbones_are_built(name):
    with torch.device("meta"):
        assert create_backbone(name).num_features in (1024, 2048)


def test_layout_in_memory_does_not_change_results():
    torch.manual_seed(0)
    backbone = create_backbone("resnet8_w8").eval()
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(backbone(images), backbone.network.to(memory_format=torch.contiguous_format)(images))


def test_weights_train(coloured):
    torch.manual_seed(0)
    model = Classifier(create_backbone("resnet8_w8"), 4)
    images = coloured(4, 8)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(10):
        loss = torch.nn.functional.cross_entropy(model(images.pixels.float() / 255), images.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_near_miss_is_offered():
    with pytest.raises(InputError, match="unknown backbone 'resnet51': did you mean 'resnet50'?"):
        create_backbone("resnet51")


SMALL_AT_224 = """
import sys, torch
from tlprune.models.backbones import create_backbone
create_backbone(sys.argv[1])(torch.rand(2, 3, 224, 224)).sum().backward()
"""


@pytest.mark.parametrize("name", ["resnet8_w8", "resnet8_w16", "resnet8_w32"])
def test_small_backbones_train_on_large_images(name, tmp_path):
    """In a process of its own: a kernel that writes beyond its memory ends it."""
    script = tmp_path / "script.py"
    script.write_text(SMALL_AT_224)
    assert forked.run([sys.executable, script, name]).returncode == 0


def test_a_shortcut_is_a_convolution_with_a_stride():
    block = _Block(8, 16, 2)
    images = torch.randn(2, 8, 7, 7)
    block.eval()
    strided = block.shortcut[1](torch.nn.functional.conv2d(images, block.shortcut[0].weight, stride=2))
    inner = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(images)))))
    torch.testing.assert_close(block(images), torch.relu(inner + strided))
