"""Forward passes of a surrogate: eval mode, no gradients, one fixed precision, as fast as possible.

Batch norms are folded into the preceding convolutions. This saves a third of the time on a CPU and changes only the
last bits of a result. Votes, features, difficulty scores and probes all use this module.
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
"""Precision of forward passes. ``float32`` gives the same result on every machine; ``bfloat16`` is up to twice as fast
if the processor supports it, but changes the vote of one or two images in a hundred."""

FORWARD = "batch norms folded"
"""Version of the forward pass, since results depend on it."""

Run = Callable[[Tensor], Tensor]
"""Function that maps images ``[B, 3, H, W]`` to the network's float32 output, on the device of its weights."""

_TRIED = 2
"""Number of images on which a folded network must agree with the original."""


def require_precision(precision: str) -> None:
    """Validates the name of a precision.

    Raises:
        InputError: If it is neither ``float32`` nor ``bfloat16``.
    """
    if precision not in ("float32", "bfloat16"):
        raise InputError(f"`precision` must be 'float32' or 'bfloat16', got {precision!r}")


@contextmanager
def running(network: nn.Module, precision: Precision = "float32", fold: bool = True) -> Iterator[Run]:
    """Prepares a network for many forward passes and restores its state afterwards.

    Args:
        network: Network that maps ``[B, 3, H, W]`` to float tensors. Networks that cannot be traced run unchanged.
        precision: Precision of convolutions and matrix products; weights and results are float32.
        fold: Whether to fold batch norms. Folding takes tenths of a second, too long for only one or two batches.

    Yields:
        Function that runs the network. It raises :class:`~tlprune.errors.InputError` if the network cannot process
        images of the given size.
    """
    with evaluating(network) as device:
        yield _Running(network, device, precision, fold)


class _Running:
    """Network whose norms are folded on the first call, when the image size is known."""

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
    """Stops a GPU's convolutions from rounding float32 to 10 bits, or being selected differently on each run."""
    if device.type != "cuda":
        return nullcontext()
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


def _folded(network: nn.Module, pixels: Tensor) -> nn.Module:
    """Folds batch norms; returns the network itself if folding fails or would change its output."""
    hooked = any(one._forward_hooks or one._forward_pre_hooks for one in network.modules())
    if hooked or not any(isinstance(one, nn.modules.batchnorm._BatchNorm) for one in network.modules()):
        return network
    try:
        # In place: tracing has already copied the network, and only its convolutions are new
        folded = fuse(network, inplace=True)
    except Exception:  # untraceable code can raise any exception
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
    """Puts a network into eval mode, yields its device, and restores the previous mode."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield device_of(network)
    finally:
        for module, training in modes:
            module.training = training


def device_of(network: nn.Module) -> torch.device:
    """Returns the device of a network's weights; the CPU if it has none."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
