"""Trains on small images first and on larger ones towards the end."""

from lightning.pytorch import Callback, LightningModule, Trainer

from tlprune.data.size_schedule import SizeSchedule
from tlprune.errors import InputError, OfLightning

__all__ = ["ProgressiveResize"]


class ProgressiveResize(OfLightning, Callback):
    """Has the DataModule make training images of a size that follows the epoch; logs it as ``train/image_size``.

    Sizes follow the epoch alone, so that a run that goes on sees the sizes that it would have seen. Evaluation keeps
    the DataModule's own size.

    Args:
        low: Height and width in pixels up to epoch ``begin``.
        high: Height and width in pixels from epoch ``end`` on.
        begin: Epoch, from 0, after which images grow.
        end: Epoch, from 0, from which they are full.
        multiple: Sizes between are rounded to a multiple of so many pixels.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(self, low: int = 160, high: int = 192, begin: int = 11, end: int = 13, multiple: int = 32) -> None:
        self.sizes = SizeSchedule(low, high, begin, end, multiple)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tells the DataModule, before it gives its training batches.

        Raises:
            InputError: It cannot be told.
        """
        if stage != "fit":
            return
        data = getattr(trainer, "datamodule", None)
        if data is None or not hasattr(data, "train_sizes"):
            name = "no DataModule" if data is None else type(data).__name__
            raise InputError(f"ProgressiveResize needs PrunedSourceDataModule or DownstreamDataModule, got {name}")
        data.train_sizes = self.sizes

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leaves the DataModule as it was."""
        data = getattr(trainer, "datamodule", None)
        if data is not None and getattr(data, "train_sizes", None) is self.sizes:
            data.train_sizes = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the size of this epoch's images."""
        pl_module.log("train/image_size", float(self.sizes.at(trainer.current_epoch)), rank_zero_only=True)
