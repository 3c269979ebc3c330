"""Layer-wise learning rates: blocks near the image, which change least when training continues, learn more slowly."""

import re
from typing import Any

from torch import nn

from tlprune.errors import InputError
from tlprune.models.backbones import Backbone

__all__ = ["layer_rates", "require_layer_decay"]

_BLOCK = re.compile(r"^(layer\d+\.\d+|stages\.\d+|encoder\.layers\.encoder_layer_\d+)\.")
"""Names of the blocks of torchvision's ResNets, of ResNet-8, and of torchvision's vision transformers."""


def require_layer_decay(layer_decay: float) -> None:
    """Checks a factor between the learning rates of neighbouring blocks.

    Raises:
        InputError: It is not in (0, 1].
    """
    if not 0 < layer_decay <= 1:
        raise InputError(f"`layer_decay` must be in (0, 1], got {layer_decay}")


def layer_rates(backbone: nn.Module, layer_decay: float) -> dict[nn.Parameter, float]:
    """Computes the share of the learning rate for each parameter of a backbone.

    Layers before the first block, which are one group, each block, and layers after the last block, which belong to it,
    are counted from the head: the group next to the head has ``layer_decay``, the one before its square. Networks of
    timm define their own groups.

    Args:
        backbone: A network of :func:`tlprune.models.backbones.create_backbone`.
        layer_decay: Factor between neighbouring groups, in (0, 1].

    Returns:
        Shares in (0, 1]. What is in no entry, such as a head, has the whole rate.

    Raises:
        InputError: The network does not define its blocks.

    Example:
        >>> from tlprune.models.backbones import create_backbone
        >>> network = create_backbone("resnet8_w8")
        >>> rates = layer_rates(network, 0.5)
        >>> rates[network.network.stem.weight], rates[network.network.stages[2].conv1.weight]
        (0.0625, 0.5)
    """
    network: Any = getattr(backbone, "network", backbone) if isinstance(backbone, Backbone) else backbone
    parameters: dict[str, nn.Parameter] = dict(network.named_parameters())
    groups = _timm_groups(network) if hasattr(network, "group_matcher") else _groups(list(parameters))
    if (count := max(groups.values()) + 1) < 2:
        raise InputError(f"`layer_decay`: {type(network).__name__} does not define its blocks; use 1")
    return {value: layer_decay ** (count - groups[name]) for name, value in parameters.items()}


def _groups(names: list[str]) -> dict[str, int]:
    """Numbers names in the order of the network from the image on, by the block that they are in or after."""
    found, blocks = {}, 0
    latest = ""
    for name in names:
        matched = _BLOCK.match(name)
        if matched is not None and matched.group(1) != latest:
            latest, blocks = matched.group(1), blocks + 1
        found[name] = blocks
    return found


def _timm_groups(network: Any) -> dict[str, int]:
    from timm.models import group_parameters  # an extra, and slow to import

    numbers: dict[str, int] = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    return numbers
