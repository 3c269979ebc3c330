"""Trains on small images first and on larger images towards the end."""

from lightning.pytorch import Callback, LightningModule, Trainer

from tlprune.data.size_schedule import SizeSchedule
from tlprune.errors import InputError, OfLightning

__all__ = ["ProgressiveResize"]


class ProgressiveResize(OfLightning, Callback):
    """Sets the size of training images by epoch, and logs it as ``train/image_size``.

    Sizes depend only on the epoch, so a resumed run uses the same sizes. Evaluation keeps the size of the DataModule.

    Args:
        low: Height and width in pixels up to epoch ``begin``.
        high: Height and width in pixels from epoch ``end`` on.
        begin: Epoch, from 0, after which images grow.
        end: Epoch, from 0, from which images have full size.
        multiple: Number of pixels that sizes in between are rounded to a multiple of.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(self, low: int = 160, high: int = 192, begin: int = 11, end: int = 13, multiple: int = 32) -> None:
        self.sizes = SizeSchedule(low, high, begin, end, multiple)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Passes the schedule to the DataModule before it creates its training loader.

        Raises:
            InputError: The DataModule does not support image sizes by epoch.
        """
        if stage != "fit":
            return
        data = getattr(trainer, "datamodule", None)
        if data is None or not hasattr(data, "train_sizes"):
            name = "no DataModule" if data is None else type(data).__name__
            raise InputError(f"ProgressiveResize needs PrunedSourceDataModule or DownstreamDataModule, got {name}")
        data.train_sizes = self.sizes

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restores the DataModule."""
        data = getattr(trainer, "datamodule", None)
        if data is not None and getattr(data, "train_sizes", None) is self.sizes:
            data.train_sizes = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the image size of this epoch."""
        pl_module.log("train/image_size", float(self.sizes.at(trainer.current_epoch)), rank_zero_only=True)
