"""Compiles the backbone during training."""

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from tlprune.errors import InputError, OfLightning, did_you_mean

__all__ = ["CompileBackbone"]

_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


class CompileBackbone(OfLightning, Callback):
    """Compiles ``backbone`` of the module in place when training begins, without a change to checkpoints.

    Compilation takes seconds to minutes for each image size, so it is worthwhile for long runs.

    Args:
        mode: Mode of ``torch.compile``: ``default``, ``reduce-overhead``, ``max-autotune``.
        dynamic: Whether to compile once for all sizes; None lets torch decide.

    Raises:
        InputError: ``mode`` does not exist.
    """

    def __init__(self, mode: str = "default", dynamic: bool | None = None) -> None:
        if mode not in _MODES:
            raise InputError(f"unknown `mode` {mode!r}: {did_you_mean(mode, _MODES)}")
        self.mode = mode
        self.dynamic = dynamic

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compiles the backbone.

        Raises:
            InputError: The module has no backbone.
        """
        backbone = getattr(pl_module, "backbone", None)
        if not isinstance(backbone, nn.Module):
            raise InputError(f"CompileBackbone needs a module with a `backbone`, got {type(pl_module).__name__}")
        backbone.compile(mode=self.mode, dynamic=self.dynamic)
