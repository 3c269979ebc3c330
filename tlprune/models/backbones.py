"""Networks by name, each ending in features instead of class scores.

A backbone maps images ``[B, 3, H, W]`` to features ``[B, D]`` and says ``D`` as ``num_features``.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
import torchvision.models
from torch import Tensor, nn

from tlprune.errors import InputError, did_you_mean

__all__ = [
    "TORCHVISION",
    "Backbone",
    "Classifier",
    "ResNet8",
    "create_backbone",
    "list_backbones",
    "recognise_backbone",
    "sized_backbone",
    "timm_library",
]


class Backbone(nn.Module):
    """A network without its classification layer.

    Args:
        network: Maps ``[B, 3, H, W]`` to ``[B, num_features]``.
        num_features: ``D``.
    """

    def __init__(self, network: nn.Module, num_features: int) -> None:
        super().__init__()
        # this layout in memory makes convolutions faster on CPU and GPU alike; images follow their weights' layout
        self.network = network.to(memory_format=torch.channels_last)
        self.num_features = num_features

    def forward(self, images: Tensor) -> Tensor:
        """Features ``[B, D]`` of images ``[B, 3, H, W]``."""
        features: Tensor = self.network(images)
        return features


class Classifier(nn.Module):
    """A backbone with a linear head.

    Args:
        backbone: Gives features ``[B, D]``.
        num_classes: Width of the head, at least 1.
    """

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.num_features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B, C]`` of images ``[B, 3, H, W]``."""
        logits: Tensor = self.head(self.backbone(images))
        return logits


class _Block(nn.Module):
    """Two 3 x 3 convolutions with a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        same = stride == 1 and inputs == outputs
        # strides are taken by a slice, which gives the same bits: on processors with AVX-512, oneDNN's backward pass of
        # a 1 x 1 convolution with a stride writes beyond its memory where images are large and channels few
        projection = (nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity() if same else nn.Sequential(*projection)

    def forward(self, images: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(images)), inplace=True)
        shortcut = self.shortcut(images[:, :, :: self.stride, :: self.stride])
        return F.relu(self.bn2(self.conv2(inner)) + shortcut, inplace=True)


class ResNet8(nn.Module):
    """A small residual network for 32-pixel images: eight layers in three stages, fed with patches of 4 x 4 pixels.

    After He et al., "Deep Residual Learning for Image Recognition" (2015), section 4.2, with a first layer that reduces
    the image to 8 x 8, so that a hundred classes can be learned in seconds without a GPU.

    Args:
        width: Channels of the first stage; the last has four times as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.stages = nn.Sequential(
            _Block(width, width, 1), _Block(width, 2 * width, 2), _Block(2 * width, 4 * width, 2)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features ``[B, 4 * width]`` of images ``[B, 3, H, W]``."""
        maps = self.stages(F.relu(self.bn(self.stem(images)), inplace=True))
        pooled: Tensor = maps.mean((2, 3))
        return pooled


def _resnet8(width: int) -> Backbone:
    return Backbone(ResNet8(width), 4 * width)


def _torchvision(name: str, **options: int) -> Backbone:
    network = torchvision.models.get_model(name, weights=None, **options)
    final = "heads" if name.startswith("vit") else "fc"
    head = getattr(network, final)
    linear = head if isinstance(head, nn.Linear) else head.head
    setattr(network, final, nn.Identity())
    return Backbone(network, linear.in_features)


def timm_library(name: str) -> Any:
    """The module ``timm``.

    Args:
        name: What it is needed for.

    Raises:
        InputError: It is not installed.
    """
    try:
        return import_module("timm")
    except ModuleNotFoundError as error:
        raise InputError(f"{name} needs timm: pip install 'tlprune[timm]'") from error


def _timm(name: str) -> Backbone:
    timm = timm_library(name)
    network = name.removeprefix("timm:")
    if ":" not in network and network.partition(".")[0] not in (known := timm.list_models()):
        raise InputError(f"timm has no network {network!r}: {did_you_mean(network, known)}")
    built: Any = timm.create_model(network, pretrained=False, num_classes=0)
    return Backbone(built, int(getattr(built, "head_hidden_size", None) or built.num_features))


_OURS: dict[str, Callable[[], Backbone]] = {f"resnet8_w{width}": partial(_resnet8, width) for width in (8, 16, 32)}
TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "vit_b_16", "vit_b_32", "vit_l_16")
"""Names of torchvision's networks that :func:`create_backbone` takes."""

_SIZED = {"vit_b_16_384": ("vit_b_16", 384), "vit_l_16_512": ("vit_l_16", 512)}
"""Vision transformers that torchvision publishes for larger images too: they take images of one size."""


def list_backbones() -> list[str]:
    """Names that :func:`create_backbone` takes."""
    return sorted([*_OURS, *TORCHVISION, *_SIZED])


def sized_backbone(name: str, image_size: int | None) -> str:
    """What a network of torchvision is called here whose weights are for images of ``image_size`` pixels.

    Example:
        >>> sized_backbone("vit_b_16", 384), sized_backbone("vit_b_16", 224)
        ('vit_b_16_384', 'vit_b_16')
    """
    return next((sized for sized, of in _SIZED.items() if of == (name, image_size)), name)


def create_backbone(name: str) -> Backbone:
    """Builds a network with random weights.

    Args:
        name: ``resnet8_w8``, ``resnet8_w16``, ``resnet8_w32`` for 32-pixel images; torchvision's ``resnet18`` to
            ``resnet152`` and ``vit_b_16``, ``vit_b_32``, ``vit_l_16`` (224-pixel images) under torchvision's names;
            ``vit_b_16_384`` and ``vit_l_16_512`` for images of 384 and 512 pixels;
            ``timm:NAME`` for any network of timm, which the extra ``timm`` installs.

    Returns:
        A network that ends in features.

    Raises:
        InputError: There is no such network, or timm is not installed.

    Example:
        >>> create_backbone("resnet8_w8").num_features
        32
    """
    if name in _OURS:
        return _OURS[name]()
    if name in TORCHVISION:
        return _torchvision(name)
    if name in _SIZED:
        network, size = _SIZED[name]
        return _torchvision(network, image_size=size)
    if name.startswith("timm:"):
        return _timm(name)
    raise InputError(f"unknown backbone {name!r}: {did_you_mean(name, list_backbones())}")


def recognise_backbone(shapes: Mapping[str, torch.Size]) -> str | None:
    """The network whose weights have these names and shapes, timm's left aside; None if there is none.

    Args:
        shapes: Of all tensors of a :class:`Backbone`, by their keys.

    Example:
        >>> weights = create_backbone("resnet8_w16").state_dict()
        >>> recognise_backbone({key: value.shape for key, value in weights.items()})
        'resnet8_w16'
    """
    asked = {key: shape for key, shape in shapes.items() if not key.endswith("num_batches_tracked")}
    for name in list_backbones():
        if asked == _shapes(name):
            return name
    return None


@cache
def _shapes(name: str) -> dict[str, torch.Size]:
    """Of a network's weights and statistics; old files do not count batches."""
    with torch.device("meta"):
        state = create_backbone(name).state_dict()
    return {key: value.shape for key, value in state.items() if not key.endswith("num_batches_tracked")}
