"""Whose keys are whose: how libraries name the weights of a network in their checkpoints, brought to one naming.

Recognised: tlprune's own modules; torchvision's and timm's networks, bare or as ``backbone``, ``model`` or ``network``
of a module; lightly's ResNets cut into a sequence; SimCLR and MoCo of lightning-bolts; MoCo's own checkpoints.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor

__all__ = ["recognise"]

_PREFIXES = ("backbone.network.", "backbone.", "encoder_q.", "encoder.", "model.", "network.", "")
"""Where a network may lie in a module, in the order in which they are tried."""

_ROOTS = (
    "conv1.weight",  # ResNets of torchvision and timm
    "conv_proj.weight",  # vision transformers of torchvision
    "patch_embed.proj.weight",  # vision transformers of timm
    "stem.weight",
    "stem.0.weight",
    "conv_stem.weight",
    "0.weight",  # a network cut into a sequence
)
"""A key near the image, by which a network is known."""

_CONTRASTIVE = ("encoder_q.", "encoder.")
"""Where a contrastive method keeps its network; the last layer there is a projection, which names no class."""

_SEQUENCE = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""A ResNet's children by number: 2 and 3 have no weights, and 8 is the pooling at which the sequence ends."""

_HEADS = ("fc", "heads.head", "head.fc", "head", "classifier")
"""What classification layers are called."""

_BESIDE = {
    *("head", "projection", "key_backbone", "key_projection", "queue", "queue_place"),  # of tlprune
    *("projection_head", "prediction_head", "key_projection_head", "query_backbone", "query_projection_head"),
    *("backbone_momentum", "projection_head_momentum", "online_classifier", "criterion"),  # of lightly
    *("encoder_k", "queue_ptr", "val_queue", "val_queue_ptr", "non_linear_evaluator"),  # of MoCo and lightning-bolts
}
"""Parts beside a network that pretraining needs and nobody afterwards."""


def recognise(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Brings keys to ``backbone.network.*`` for the network and ``head.*`` for its classification layer.

    Args:
        state: Tensors by the keys of their file.

    Returns:
        The renamed tensors, and the keys of parts that are neither network, nor head, nor known to be of use in
        pretraining alone. The tensors are empty where no network is recognised.
    """
    plain = {key.replace("_orig_mod.", "").removeprefix("module."): value for key, value in state.items()}
    prefix = _prefix(plain)
    if prefix is None:
        return {}, sorted(plain)
    inner = {key.removeprefix(prefix): value for key, value in plain.items() if key.startswith(prefix)}
    beside = {key: value for key, value in plain.items() if not key.startswith(prefix)}
    inner = _unsequenced(inner)
    head = _head(inner)
    found = {}
    for key, value in inner.items():
        if head is not None and key.startswith(f"{head}."):
            if prefix not in _CONTRASTIVE:
                found[f"head.{key.removeprefix(f'{head}.')}"] = value
        else:
            found[f"backbone.network.{key}"] = value
    found |= {key: value for key, value in beside.items() if key in ("head.weight", "head.bias")}
    return found, sorted(key for key in beside if key.split(".")[0] not in _BESIDE)


def _prefix(keys: Iterable[str]) -> str | None:
    """Where the network lies; None if nothing looks like one."""
    found = set(keys)
    if any(key.startswith(_PREFIXES[0]) for key in found):
        return _PREFIXES[0]
    for prefix in _PREFIXES:
        if any(prefix + root in found for root in _ROOTS):
            return prefix
    if any(key.startswith("backbone.") for key in found):
        return "backbone."
    return "" if any(key.endswith(".weight") for key in found) else None


def _unsequenced(inner: dict[str, Tensor]) -> dict[str, Tensor]:
    if "0.weight" not in inner or not any(key.startswith("4.0.") for key in inner):
        return inner
    parts = ((key.partition("."), value) for key, value in inner.items())
    return {f"{_SEQUENCE.get(first, first)}.{rest}": value for (first, _, rest), value in parts}


def _head(inner: Iterable[str]) -> str | None:
    """The name of the last layer: one linear layer, or a projection of several."""
    keys = set(inner)
    for name in _HEADS:
        if f"{name}.weight" in keys or (name == "fc" and "fc.0.weight" in keys):
            return name
    return None
