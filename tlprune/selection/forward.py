"""One way to run a surrogate: in eval mode, without gradients, in one fixed precision, as fast as it goes.

Batch norms are folded into the convolutions before them, which saves a third of the time on a CPU and changes a result
in its last bits only. Votes, features, difficulty scores and probes all go through here.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from tlprune.errors import InputError

__all__ = ["FORWARD", "Precision", "Run", "device_of", "evaluating", "require_precision", "running"]

Precision = Literal["float32", "bfloat16"]
"""``float32`` gives the same on every machine; ``bfloat16`` is up to twice as fast where the processor has it, and lets
an image or two in a hundred vote otherwise."""

FORWARD = "batch norms folded"
"""How networks are run: part of what their results depend on."""

Run = Callable[[Tensor], Tensor]
"""Gives what a network makes of images ``[B, 3, H, W]``, in float32, where its weights are."""

_TRIED = 2
"""Images that a network with folded norms has to treat as the network itself does."""


def require_precision(precision: str) -> None:
    """Refuses what is no precision.

    Raises:
        InputError: It is neither of the two.
    """
    if precision not in ("float32", "bfloat16"):
        raise InputError(f"`precision` must be 'float32' or 'bfloat16', got {precision!r}")


@contextmanager
def running(network: nn.Module, precision: Precision = "float32", fold: bool = True) -> Iterator[Run]:
    """Makes a network ready to be run on many batches; afterwards it is as it was.

    Args:
        network: Maps ``[B, 3, H, W]`` to anything of floats. Networks that cannot be traced are run as they are.
        precision: Of convolutions and matrix products; weights and results are float32.
        fold: Whether to fold batch norms, which takes tenths of a second: not worth it for a batch or two.

    Yields:
        What runs it. It raises :class:`~tlprune.errors.InputError` where the network cannot be run on images of their
        size.
    """
    with evaluating(network) as device:
        yield _Running(network, device, precision, fold)


class _Running:
    """Folds norms when the first images tell their size."""

    def __init__(self, network: nn.Module, device: torch.device, precision: Precision, fold: bool) -> None:
        self.network = network
        self.device = device
        self.dtype = next((one.dtype for one in network.parameters() if one.is_floating_point()), torch.float32)
        self.precision = precision
        self.folded: nn.Module | None = None if fold else network

    def __call__(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode(), _strict(self.device):
            given = pixels.to(self.device, self.dtype, non_blocking=True)
            if given.ndim == 4:
                given = given.contiguous(memory_format=torch.channels_last)
            try:
                if self.folded is None:
                    self.folded = _folded(self.network, given)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                    found: Tensor = self.folded(given)
            except (RuntimeError, AssertionError, ValueError) as error:
                shape = " x ".join(str(side) for side in pixels.shape[1:])
                reason = " ".join(str(error).split())[:200]
                raise InputError(f"the surrogate cannot be run on images of {shape}: {reason}") from error
            return found.float()


def _strict(device: torch.device) -> AbstractContextManager[None]:
    """On a GPU, convolutions would else round float32 to 10 bits, or be chosen anew each time."""
    if device.type != "cuda":
        return nullcontext()
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


def _folded(network: nn.Module, pixels: Tensor) -> nn.Module:
    """The network with batch norms folded; itself if that cannot be done, or would change what it says."""
    hooked = any(one._forward_hooks or one._forward_pre_hooks for one in network.modules())
    if hooked or not any(isinstance(one, nn.modules.batchnorm._BatchNorm) for one in network.modules()):
        return network
    try:
        # in place: in the copy that tracing makes, whose convolutions alone are new
        folded = fuse(network, inplace=True)
    except Exception:  # code that cannot be traced raises anything
        return network
    for one in set(folded.modules()) - set(network.modules()):
        if isinstance(one, nn.Conv2d):
            one.to(memory_format=torch.channels_last)
    tried = torch.randn(_TRIED, *pixels.shape[1:], generator=torch.Generator().manual_seed(0)).to(pixels)
    with torch.autocast(pixels.device.type, enabled=False):
        theirs, ours = network(tried).float(), folded(tried).float()
    if theirs.shape != ours.shape or not theirs.isfinite().all():
        return network
    near = (theirs - ours).abs() <= 1e-3 * theirs.abs().max() + 1e-2 * theirs.abs()
    return folded if bool(near.all()) else network


@contextmanager
def evaluating(network: nn.Module) -> Iterator[torch.device]:
    """Puts a network into eval mode and afterwards back as it was; gives the device that it is on."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield device_of(network)
    finally:
        for module, training in modes:
            module.training = training


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are; the CPU if it has none."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
