"""Counts how often a surrogate forgets each source image during training."""

from pathlib import Path
from typing import Protocol, cast
from warnings import warn

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tlprune.distributed import rank_and_world
from tlprune.errors import InputError, OfLightning
from tlprune.selection.fixed_batches import fixed_batches, own_batches
from tlprune.selection.forgetting import ForgettingCounts
from tlprune.selection.forward import device_of, running
from tlprune.selection.selector import SourceImages
from tlprune.storage.paths import expanded

__all__ = ["CountForgetting"]


class _HasSource(Protocol):
    transformed_source: SourceImages


class CountForgetting(OfLightning, Callback):
    """Classifies the whole source after every epoch and counts images that change from correct to incorrect.

    Images pass through the usual evaluation transform. The cost is one forward pass over the source per epoch, about a
    third of the training time of an epoch. The selector ``Forgetting`` uses the counts.

    Args:
        path: Path ``*.safetensors`` of the file that is written after training.
        num_workers: Number of loading processes per rank.

    Raises:
        InputError: ``path`` has another extension.
    """

    def __init__(self, path: str, num_workers: int = 0) -> None:
        if Path(path).suffix != ".safetensors":
            raise InputError(f"`path` of CountForgetting must end in .safetensors, got {path}")
        self.path = expanded(path)
        self.num_workers = num_workers
        self.epochs = 0
        self._right = self._learned = self._events = torch.empty(0)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that module and DataModule support counting."""
        data = getattr(trainer, "datamodule", None)
        source = getattr(data, "transformed_source", None)
        if source is None:
            raise InputError("CountForgetting needs a PrunedSourceDataModule to train on")
        if getattr(data, "budget", None) is not None or not source.classes:
            raise InputError("CountForgetting needs the whole of a labelled source: set no budget")
        if getattr(data, "eval_transform", None) is not None:
            what = "CountForgetting classifies images of the usual evaluation, which selectors see"
            raise InputError(f"{what}: set no `eval_transform`")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Classifies every source image once."""
        source = cast(_HasSource, trainer.datamodule).transformed_source  # type: ignore[attr-defined]  # checked in setup()
        right = self._classified(pl_module, source)
        if self.epochs == 0:
            self._right, self._learned = right, right
            self._events = torch.zeros(len(right), dtype=torch.int64)
        self._events += (self._right & ~right).long()
        self._learned = self._learned | right
        self._right = right
        self.epochs += 1

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the counts on rank 0; warns if no epoch was counted."""
        if self.epochs == 0:
            if trainer.is_global_zero:
                warn(f"{self.path}: not written, no epoch was counted", stacklevel=2)
            return
        source = cast(_HasSource, trainer.datamodule).transformed_source  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            counts = ForgettingCounts(source.fingerprint(), self._events, self.epochs, self._learned)
            counts.save(self.path)

    def state_dict(self) -> dict[str, Tensor | int]:
        """Returns the counts for a checkpoint."""
        return {"epochs": self.epochs, "right": self._right, "learned": self._learned, "events": self._events}

    def load_state_dict(self, state_dict: dict[str, Tensor | int]) -> None:
        """Restores the counts from a checkpoint."""
        self.epochs = int(state_dict["epochs"])
        self._right, self._learned, self._events = (
            cast(Tensor, state_dict[name]) for name in ("right", "learned", "events")
        )

    def _classified(self, module: LightningModule, source: SourceImages) -> Tensor:
        """Computes whether each image is classified correctly, ``[N]`` bool; the work is shared among ranks."""
        right = torch.zeros(len(source), dtype=torch.int32)
        device = device_of(module)
        with running(module) as run:
            for indices, pixels, labels in fixed_batches(source, own_batches(len(source)), self.num_workers, device):
                logits = run(pixels)[: len(indices)].cpu()
                right[indices] = (logits.argmax(1) == labels).int()
        if rank_and_world()[1] > 1:
            right = right.to(device)
            dist.all_reduce(right, dist.ReduceOp.MAX)
        return right.cpu().bool()
