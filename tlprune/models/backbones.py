"""Creates networks by name, with features instead of class scores as output.

A backbone maps images ``[B, 3, H, W]`` to features ``[B, D]``, with ``D`` in its attribute ``num_features``.
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
        network: Network from ``[B, 3, H, W]`` to ``[B, num_features]``.
        num_features: Number of features ``D``.
    """

    def __init__(self, network: nn.Module, num_features: int) -> None:
        super().__init__()
        # channels-last weights make convolutions faster on CPU and GPU; images adopt the layout of the weights
        self.network = network.to(memory_format=torch.channels_last)
        self.num_features = num_features

    def forward(self, images: Tensor) -> Tensor:
        """Computes features ``[B, D]`` of images ``[B, 3, H, W]``."""
        features: Tensor = self.network(images)
        return features


class Classifier(nn.Module):
    """A backbone with a linear head.

    Args:
        backbone: Network with features ``[B, D]``.
        num_classes: Number of outputs of the head, at least 1.
    """

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.num_features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Computes logits ``[B, C]`` of images ``[B, 3, H, W]``."""
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
        # slicing replaces the stride, with bitwise equal results: on CPUs with AVX-512, the backward pass of a strided
        # 1 x 1 convolution in oneDNN writes out of bounds for large images with few channels
        projection = (nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity() if same else nn.Sequential(*projection)

    def forward(self, images: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(images)), inplace=True)
        shortcut = self.shortcut(images[:, :, :: self.stride, :: self.stride])
        return F.relu(self.bn2(self.conv2(inner)) + shortcut, inplace=True)


class ResNet8(nn.Module):
    """A small residual network for 32-pixel images: eight layers in three stages on patches of 4 x 4 pixels.

    Follows He et al., "Deep Residual Learning for Image Recognition" (2015), section 4.2, but the first layer reduces
    the image to 8 x 8, so that it learns a hundred classes in seconds without a GPU.

    Args:
        width: Number of channels of the first stage; the last stage has four times as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.stages = nn.Sequential(
            _Block(width, width, 1), _Block(width, 2 * width, 2), _Block(2 * width, 4 * width, 2)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Computes features ``[B, 4 * width]`` of images ``[B, 3, H, W]``."""
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
    """Imports the library timm.

    Args:
        name: Name of the network or weights that need it, for the message.

    Raises:
        InputError: timm is not installed.
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


_OURS: dict[str, Callable[[], Backbone]] = {f"resnet8_w{width}": partial(_resnet8, width) for width in (4, 8, 16, 32)}
TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "vit_b_16", "vit_b_32", "vit_l_16")
"""Names of torchvision networks that :func:`create_backbone` accepts."""

_SIZED = {"vit_b_16_384": ("vit_b_16", 384), "vit_l_16_512": ("vit_l_16", 512)}
"""Vision transformers that torchvision also publishes for larger images; each accepts only one image size."""


def list_backbones() -> list[str]:
    """Returns the names that :func:`create_backbone` accepts."""
    return sorted([*_OURS, *TORCHVISION, *_SIZED])


def sized_backbone(name: str, image_size: int | None) -> str:
    """Returns the backbone name of a torchvision network with weights for images of ``image_size`` pixels.

    Args:
        name: Name of the network in torchvision.
        image_size: Height and width in pixels; None if the weights do not define a size.

    Example:
        >>> sized_backbone("vit_b_16", 384), sized_backbone("vit_b_16", 224)
        ('vit_b_16_384', 'vit_b_16')
    """
    return next((sized for sized, of in _SIZED.items() if of == (name, image_size)), name)


def create_backbone(name: str) -> Backbone:
    """Builds a network with random weights.

    Args:
        name: Name of the network: ``resnet8_w4``, ``resnet8_w8``, ``resnet8_w16``, ``resnet8_w32`` for 32-pixel images;
            ``resnet18`` to ``resnet152``, ``vit_b_16``, ``vit_b_32``, ``vit_l_16`` (224-pixel images) of torchvision;
            ``vit_b_16_384`` and ``vit_l_16_512`` for images of 384 and 512 pixels; ``timm:NAME`` for any network of
            timm, which the extra ``timm`` installs.

    Returns:
        A network with features as output.

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
    """Returns the name of the network with tensors of these keys and shapes, without timm; None if there is none.

    Args:
        shapes: Shapes of all tensors of a :class:`Backbone`, by key.

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
    """Returns the shapes of weights and statistics, without batch counters, which old files do not have."""
    with torch.device("meta"):
        state = create_backbone(name).state_dict()
    return {key: value.shape for key, value in state.items() if not key.endswith("num_batches_tracked")}
