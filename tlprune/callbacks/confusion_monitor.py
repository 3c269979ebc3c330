"""Shows which classes are confused."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from tlprune.callbacks.confusion_figure import PAIR_COLUMNS, confused_pairs, confusion_figure
from tlprune.callbacks.logger_adapters import adapt_loggers, draw
from tlprune.errors import InputError, OfLightning, require_within

__all__ = ["ConfusionMonitor"]


class ConfusionMonitor(OfLightning, Callback):
    """Logs the confusion matrices of validation and test, and the most confused pairs.

    The figures are ``val/confusion`` and ``test/confusion``. Each row is a true class and adds up to 100 %; above 40
    classes, cells have no numbers. The tables ``val/confused_pairs`` and ``test/confused_pairs`` have the most confused
    pairs. Counts include all ranks. Loggers are those of TensorBoard, W&B, MLflow and CSV; others show no figures.

    The callback works with any classifier whose batches begin with images and labels ``[B]``. It uses the logits that a
    step returns, directly or under the key ``logits``. Steps of tlprune do so, which costs nothing and gives the logits
    that the metrics use. If a step returns no logits, the callback calls the module on the images again. This does not
    affect the random numbers of training but doubles the time of validation. Class names are the ``classes`` of the
    module or the DataModule.

    Args:
        every_n_epochs: Number of training epochs between figures, at least 1. Drawing takes tenths of a second. The
            last validation of a fit is always drawn.

    Raises:
        InputError: ``every_n_epochs`` is out of range, or batches have no labels.
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
        """Counts predictions of a batch."""
        if not trainer.sanity_checking:
            self._count(trainer, pl_module, outputs, batch, dataloader_idx)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws every ``every_n_epochs`` epochs, and after a validation without training."""
        if trainer.sanity_checking:
            return
        self._left = self._summed("val")
        if trainer.state.fn != TrainerFn.FITTING or (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._draw(trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the confusion matrix of the test."""
        self._left = self._summed("test")
        self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the last validation if it is not drawn yet."""
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
        """Sums counts ``[C, C]`` over all ranks, by name of the figure."""
        several = len(self._matrices) > 1
        counts = {}
        for place, matrix in sorted(self._matrices.items()):
            name = f"{stage}/confusion" + (f"/dataloader_idx_{place}" if several else "")
            counts[name] = matrix.compute().cpu()
        self._matrices = {}
        return counts

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step = trainer.global_step
        adapters = [adapter for adapter in adapt_loggers(trainer) if adapter.shows_pictures]
        for name, counts in self._left.items() if adapters else ():
            classes = _names(trainer, pl_module, len(counts))
            picture = draw(confusion_figure(counts, classes, f"{name}, step {step}"))
            pairs = confused_pairs(counts, classes)
            for adapter in adapters:
                adapter.log_picture(name, picture, step)
                adapter.log_table(name.replace("/confusion", "/confused_pairs"), PAIR_COLUMNS, pairs, step)
        self._left = {}


def _images_and_labels(batch: object) -> tuple[Tensor, Tensor]:
    if isinstance(batch, Sequence) and len(batch) >= 2:
        images, labels = batch[:2]
        if isinstance(images, Tensor) and isinstance(labels, Tensor) and labels.ndim == 1:
            return images, labels
    raise InputError("ConfusionMonitor needs batches that begin with images and labels [B]")


def _logits_in(outputs: object) -> Tensor | None:
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else outputs
    return logits if isinstance(logits, Tensor) and logits.ndim == 2 else None


def _names(trainer: Trainer, pl_module: LightningModule, classes: int) -> list[str]:
    for owner in (pl_module, getattr(trainer, "datamodule", None)):
        names = getattr(owner, "classes", None)
        if isinstance(names, Sequence) and len(names) == classes:
            return [str(name) for name in names]
    return [str(number) for number in range(classes)]
