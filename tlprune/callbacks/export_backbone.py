"""Writes the trained backbone and its head to a file for TransferModule and Label Mapping."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from warnings import warn

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tlprune.errors import InputError, OfLightning
from tlprune.models.backbones import Backbone
from tlprune.models.weights import name_of, save_classifier
from tlprune.preprocessing import Preprocessing
from tlprune.storage.atomic import atomic_path
from tlprune.storage.paths import expanded

__all__ = ["ExportBackbone"]


class ExportBackbone(OfLightning, Callback):
    """Writes ``backbone`` and ``head`` of the module to one safetensors file after training.

    ``backbone`` may be any network with features ``[B, D]`` as output. The file contains the name of the network if it
    is recognised by its weights or by timm, and the size of the images it was trained with, so that a transfer or a
    selection shows it images of that size: that of validation images of our DataModules, else of training batches.

    Args:
        path: Path of the file, with the extension ``.safetensors``.

    Raises:
        InputError: ``path`` has another extension.
    """

    def __init__(self, path: str) -> None:
        if Path(path).suffix != ".safetensors":
            raise InputError(f"`path` of ExportBackbone must end in .safetensors, got {path}")
        self.path = expanded(path)
        self._begin = 0.0
        self._side: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks before training that the module has a backbone."""
        if not is_overridden("configure_model", pl_module, LightningModule):
            _require_backbone(pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock; forecasts of the savings of pruning need the training time of the surrogate."""
        _require_backbone(pl_module)  # configure_model() may have built it
        self._begin = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Notes the size of square images."""
        images = next((leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim == 4), None)
        self._side = images.shape[-1] if images is not None and images.shape[-1] == images.shape[-2] else None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file on rank 0; warns if the weights were not trained."""
        if not trainer.is_global_zero:
            return
        if trainer.global_step == 0:
            warn(f"{self.path}: no training step was taken; it has the weights from before training", stacklevel=2)
        head = getattr(pl_module, "head", None)
        backbone = cast(nn.Module, pl_module.backbone)  # checked in on_fit_start()
        recorded = pl_module.hparams.get("backbone")
        named = str(recorded) if isinstance(backbone, Backbone) and recorded is not None else name_of(backbone)
        classes = getattr(pl_module, "classes", [])
        with atomic_path(self.path) as temporary:
            kept_head = head if isinstance(head, nn.Linear) else None
            expected = getattr(pl_module, "preprocessing", None) or Preprocessing()
            expected = replace(expected, image_size=self._side or expected.image_size)
            expected = expected.as_trained(getattr(trainer, "datamodule", None))
            seconds = time.perf_counter() - self._begin
            save_classifier(temporary, named, backbone, kept_head, classes, seconds, expected)


def _require_backbone(module: LightningModule) -> None:
    if not isinstance(getattr(module, "backbone", None), nn.Module):
        raise InputError(f"ExportBackbone needs a module with a network called `backbone`, got {type(module).__name__}")
