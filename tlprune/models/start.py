"""Backbones to start training from, with random or trained weights, and an account of every tensor of the latter."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from tlprune.errors import InputError
from tlprune.models.backbones import Backbone, create_backbone
from tlprune.models.weights import SavedWeights, load_backbone, read_weights
from tlprune.preprocessing import Preprocessing

__all__ = ["Start", "StartingHead", "start_backbone"]


@dataclass(frozen=True)
class StartingHead:
    """What a weights file holds beside its backbone.

    Args:
        where: Path or name of the weights.
        loaded: Number of tensors that the backbone took.
        saved: Content of the weights without the backbone.
    """

    where: str
    loaded: int
    saved: SavedWeights

    def load_into(self, head: nn.Linear, classes: Sequence[str]) -> bool:
        """Loads the classification layer where it tells the same classes apart, by name and in order.

        Args:
            head: Layer to load into, from features ``[B, D]`` to logits ``[B, C]``.
            classes: Class names of its outputs; empty if unknown.

        Returns:
            Whether it was loaded. A file without class names never is.
        """
        weight, bias = (self.saved.state.get(f"head.{name}") for name in ("weight", "bias"))
        same = len(classes) > 0 and tuple(classes) == self.saved.classes
        if not same or weight is None or bias is None or weight.shape != head.weight.shape:
            return False
        head.load_state_dict({"weight": weight, "bias": bias})
        return True

    def described(self, head_is_loaded: bool) -> str:
        """Says in one line how many tensors were loaded, and names those that were not.

        Args:
            head_is_loaded: Whether :meth:`load_into` loaded the head.
        """
        head = sorted(self.saved.state)
        loaded = self.loaded + (len(head) if head_is_loaded else 0)
        left = [*([] if head_is_loaded else head), *self.saved.left_out]
        named = f" ({', '.join(left[:4])}{', ...' if len(left) > 4 else ''})" if left else ""
        classes = self.saved.num_classes
        reason = "" if head_is_loaded or classes is None else f"; its head of {classes} classes is not used"
        return f"starting from {self.where}: {loaded} tensors loaded, {len(left)} left out{named}{reason}"


@dataclass(frozen=True)
class Start:
    """Backbone to start training from.

    Args:
        name: Name of the network.
        backbone: The network, on the CPU.
        preprocessing: Preprocessing that its weights expect.
        beside: What its weights hold beside the backbone; None for random weights.
    """

    name: str
    backbone: Backbone
    preprocessing: Preprocessing
    beside: StartingHead | None = None


def start_backbone(
    module: str, backbone: str | None, weights: str | None, default: str | None, preprocessing: Preprocessing | None
) -> Start:
    """Builds the network that a module trains, with its first weights.

    Args:
        module: Name of the module in messages.
        backbone: Name of the network; None for the name in the weights, or ``default`` without weights.
        weights: Path or name of the weights as in :func:`tlprune.models.weights.read_weights`; None for random weights.
        default: Name of the network without ``backbone`` and ``weights``; None if one of them is required.
        preprocessing: Preprocessing that beats what the weights say, value by value.

    Raises:
        InputError: The weights are missing, damaged or of another network, or nothing names the network.
    """
    said = preprocessing or Preprocessing()
    if weights is None:
        if (name := backbone or default) is None:
            raise InputError(f"{module} needs `backbone`: no weights are given, or their file does not name it")
        return Start(name, create_backbone(name), said)
    saved = read_weights(weights)
    if (name := backbone or saved.backbone) is None:
        raise InputError(f"{module} needs `backbone`: no weights are given, or their file does not name it")
    if saved.backbone is not None and saved.is_named and _contradict(name, saved.backbone):
        raise InputError(f"`backbone` is {name!r}, but {weights} holds {saved.backbone!r}: leave `backbone` out")
    network = load_backbone(saved, name)
    head = {key: value for key, value in saved.state.items() if key.startswith("head.")}
    beside = StartingHead(weights, len(saved.state) - len(head), replace(saved, state=head))
    return Start(name, network, said.over(saved.preprocessing), beside)


def _contradict(one: str, other: str) -> bool:
    """Returns whether two names are those of different networks; a library, and a tag of timm, make no difference."""
    first, second = (name.removeprefix("timm:").partition(".")[0] for name in (one, other))
    return ":" not in first + second and first != second
