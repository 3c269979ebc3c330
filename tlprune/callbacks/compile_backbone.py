"""Compiles the network that is trained."""

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from tlprune.errors import InputError, OfLightning, did_you_mean

__all__ = ["CompileBackbone"]

_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


class CompileBackbone(OfLightning, Callback):
    """Compiles ``backbone`` of the module in place when training begins, so that checkpoints stay as they are.

    Compiling takes seconds to minutes, for each size of images anew; it pays in long runs.

    Args:
        mode: As ``torch.compile`` takes it: ``default``, ``reduce-overhead``, ``max-autotune``.
        dynamic: Whether one compilation shall serve all sizes; None lets torch decide.

    Raises:
        InputError: There is no such mode.
    """

    def __init__(self, mode: str = "default", dynamic: bool | None = None) -> None:
        if mode not in _MODES:
            raise InputError(f"unknown `mode` {mode!r}: {did_you_mean(mode, _MODES)}")
        self.mode = mode
        self.dynamic = dynamic

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compiles.

        Raises:
            InputError: The module has no backbone.
        """
        backbone = getattr(pl_module, "backbone", None)
        if not isinstance(backbone, nn.Module):
            raise InputError(f"CompileBackbone needs a module with a `backbone`, got {type(pl_module).__name__}")
        backbone.compile(mode=self.mode, dynamic=self.dynamic)
