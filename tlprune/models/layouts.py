"""Maps the weight keys in checkpoints of different libraries to one naming.

Supported are the modules of tlprune; networks of torchvision and timm, bare or as ``backbone``, ``model`` or
``network`` of a module; ResNets of lightly, which are a sequence of layers; SimCLR and MoCo of lightning-bolts; and the
original checkpoints of MoCo.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor

__all__ = ["recognise"]

_PREFIXES = ("backbone.network.", "backbone.", "encoder_q.", "encoder.", "model.", "network.", "")
"""Key prefixes of a network in a module, in the order in which they are tried."""

_ROOTS = (
    "conv1.weight",  # ResNets of torchvision and timm
    "conv_proj.weight",  # vision transformers of torchvision
    "patch_embed.proj.weight",  # vision transformers of timm
    "stem.weight",
    "stem.0.weight",
    "conv_stem.weight",
    "0.weight",  # a network cut into a sequence
)
"""Keys of the first layer, by which a network is recognised."""

_CONTRASTIVE = ("encoder_q.", "encoder.")
"""Key prefixes of the network of a contrastive method; its last layer is a projection, not a classifier."""

_SEQUENCE = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""Children of a ResNet by number: 2 and 3 have no weights, and the sequence ends with the pooling, 8."""

_HEADS = ("fc", "heads.head", "head.fc", "head", "classifier")
"""Names of classification layers."""

_BESIDE = {
    *("head", "projection", "key_backbone", "key_projection", "queue", "queue_place"),  # of tlprune
    *("projection_head", "prediction_head", "key_projection_head", "query_backbone", "query_projection_head"),
    *("backbone_momentum", "projection_head_momentum", "online_classifier", "criterion"),  # of lightly
    *("encoder_k", "queue_ptr", "val_queue", "val_queue_ptr", "non_linear_evaluator"),  # of MoCo and lightning-bolts
}
"""Parts that are needed only during pretraining."""


def recognise(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Renames keys to ``backbone.network.*`` for the network and ``head.*`` for its classification layer.

    Returns:
        The renamed tensors, and the keys of all other parts except those needed only in pretraining. The tensors are
        empty if no network is recognised.
    """
    plain = {key.replace("_orig_mod.", "").removeprefix("module."): value for key, value in state.items()}
    prefix = _prefix(plain)
    if prefix is None:
        return {}, sorted(plain)
    inner = {key.removeprefix(prefix): value for key, value in plain.items() if key.startswith(prefix)}
    beside = {key: value for key, value in plain.items() if not key.startswith(prefix)}
    inner = _unsequenced(inner)
    head = _head(inner)
    renamed = {}
    for key, value in inner.items():
        if head is not None and key.startswith(f"{head}."):
            if prefix not in _CONTRASTIVE:
                renamed[f"head.{key.removeprefix(f'{head}.')}"] = value
        else:
            renamed[f"backbone.network.{key}"] = value
    renamed |= {key: value for key, value in beside.items() if key in ("head.weight", "head.bias")}
    return renamed, sorted(key for key in beside if key.split(".")[0] not in _BESIDE)


def _prefix(keys: Iterable[str]) -> str | None:
    """Returns the key prefix of the network; None if no network is recognised."""
    names = set(keys)
    if any(key.startswith(_PREFIXES[0]) for key in names):
        return _PREFIXES[0]
    for prefix in _PREFIXES:
        if any(prefix + root in names for root in _ROOTS):
            return prefix
    if any(key.startswith("backbone.") for key in names):
        return "backbone."
    return "" if any(key.endswith(".weight") for key in names) else None


def _unsequenced(inner: dict[str, Tensor]) -> dict[str, Tensor]:
    if "0.weight" not in inner or not any(key.startswith("4.0.") for key in inner):
        return inner
    parts = ((key.partition("."), value) for key, value in inner.items())
    return {f"{_SEQUENCE.get(first, first)}.{rest}": value for (first, _, rest), value in parts}


def _head(inner: Iterable[str]) -> str | None:
    """Returns the name of the last part: one linear layer, or a projection of several layers."""
    keys = set(inner)
    for name in _HEADS:
        if f"{name}.weight" in keys or (name == "fc" and "fc.0.weight" in keys):
            return name
    return None
