"""Shows in TensorBoard which classes are taken for which."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from tlprune.callbacks.confusion_figure import confused_pairs, confusion_figure
from tlprune.errors import InputError, OfLightning, require_within

__all__ = ["ConfusionMonitor"]


class ConfusionMonitor(OfLightning, Callback):
    """Writes the confusion matrix of validation and of test to TensorBoard, and the pairs that are confused most.

    Figures ``val/confusion`` and ``test/confusion``, with a row for each true class that adds up to 100 %; above 40
    classes without numbers. The most confused pairs are in the tab Text under the same names. Counts are those of all
    ranks.

    For any classifier whose batches begin with images and labels ``[B]``. Logits are what the step returns, or what it
    returns as ``logits``, as those of tlprune do; so they are what the module judges by, and cost nothing. Where a step
    returns neither, the module itself is called on the images once more, which draws no random numbers from training
    but doubles the time of validation. Class names are ``classes`` of the module or of the DataModule.

    Args:
        every_n_epochs: Epochs of training between two figures, at least 1: drawing takes tenths of a second. The last
            validation of a fit is always drawn.

    Raises:
        InputError: The argument is out of range; or batches do not hold labels.
    """

    def __init__(self, every_n_epochs: int = 10) -> None:
        require_within("every_n_epochs", every_n_epochs, 1)
        self.every_n_epochs = every_n_epochs
        self._matrices: dict[int, MulticlassConfusionMatrix] = {}
        self._left: dict[str, Tensor] = {}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Counts."""
        if not trainer.sanity_checking:
            self._count(trainer, pl_module, outputs, batch, dataloader_idx)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Counts."""
        self._count(trainer, pl_module, outputs, batch, dataloader_idx)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws every so many epochs, and where nothing is trained."""
        if trainer.sanity_checking:
            return
        self._left = self._summed("val")
        if trainer.state.fn != TrainerFn.FITTING or (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._draw(trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws."""
        self._left = self._summed("test")
        self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the last validation, unless it is drawn."""
        self._draw(trainer, pl_module)

    def _count(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, dataloader_idx: int
    ) -> None:
        images, labels = _images_and_labels(batch)
        logits = _logits_in(outputs)
        if logits is None:
            with isolate_rng(), trainer.precision_plugin.forward_context():
                logits = pl_module(images)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(labels):
            name = type(pl_module).__name__
            raise InputError(f"ConfusionMonitor needs logits [B, C]: return them from the steps of {name}")
        if dataloader_idx not in self._matrices:
            self._matrices[dataloader_idx] = MulticlassConfusionMatrix(logits.shape[1]).to(logits.device)
        self._matrices[dataloader_idx].update(logits.argmax(1), labels)

    def _summed(self, stage: str) -> dict[str, Tensor]:
        """Counts ``[C, C]`` of all ranks, by the name that they are shown under."""
        several = len(self._matrices) > 1
        found = {}
        for place, matrix in sorted(self._matrices.items()):
            name = f"{stage}/confusion" + (f"/dataloader_idx_{place}" if several else "")
            found[name] = matrix.compute().cpu()
        self._matrices = {}
        return found

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        for name, counts in self._left.items() if boards and trainer.is_global_zero else ():
            classes = _names(trainer, pl_module, len(counts))
            for board in boards:
                figure = confusion_figure(counts, classes, f"{name}, step {trainer.global_step}")
                board.experiment.add_figure(name, figure, global_step=trainer.global_step)
                board.experiment.add_text(name, confused_pairs(counts, classes), global_step=trainer.global_step)
        self._left = {}


def _images_and_labels(batch: object) -> tuple[Tensor, Tensor]:
    if isinstance(batch, Sequence) and len(batch) >= 2:
        images, labels = batch[:2]
        if isinstance(images, Tensor) and isinstance(labels, Tensor) and labels.ndim == 1:
            return images, labels
    raise InputError("ConfusionMonitor needs batches that begin with images and labels [B]")


def _logits_in(outputs: object) -> Tensor | None:
    found = outputs.get("logits") if isinstance(outputs, Mapping) else outputs
    return found if isinstance(found, Tensor) and found.ndim == 2 else None


def _names(trainer: Trainer, pl_module: LightningModule, classes: int) -> list[str]:
    for one in (pl_module, getattr(trainer, "datamodule", None)):
        names = getattr(one, "classes", None)
        if isinstance(names, Sequence) and len(names) == classes:
            return [str(name) for name in names]
    return [str(number) for number in range(classes)]
