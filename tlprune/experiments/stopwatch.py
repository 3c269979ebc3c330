"""How long the training of a sweep's stage took, and how far it is."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from tlprune.experiments.executors import count_images

__all__ = ["Stopwatch"]


class Stopwatch(Timer):
    """Adds up the seconds of training over all commands of a run, and counts images for a progress bar.

    A Trainer takes one Timer of a name, and ignores ``max_time`` beside any.
    """

    def __init__(self) -> None:
        super().__init__()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the batch's images, where batches are images and labels."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if isinstance(batch, (tuple, list)):
            count_images(len(batch[-1]))
