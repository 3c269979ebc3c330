"""Supervised pretraining on images changed to mislead the network."""

from collections.abc import Sequence

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.optim import SGD
from torchmetrics.classification import MulticlassAccuracy

from tlprune.models.adversarial import PGD
from tlprune.modules.classifier import ClassificationModule

__all__ = ["LitAdversarialClassifier"]


class LitAdversarialClassifier(ClassificationModule):
    """Trains a classifier on the worst neighbours of its images; what it learns often transfers better.

    Salman et al., "Do Adversarially Robust ImageNet Models Transfer Better?" (2020). Logs what LitClassifier does, of
    changed images in training and of clean ones in validation and test, and there ``robust_accuracy`` beside it: that
    of changed images.

    Args:
        backbone: Name that :func:`tlprune.models.backbones.create_backbone` takes.
        num_classes: Width of the head; None takes it from the DataModule's ``num_classes``.
        epsilon: The most that a pixel of a channel changes, in 1/255, above 0.
        steps: Steps of the attack, at least 1.
        step_size: Length of a step in 1/255; None is twice ``epsilon`` over ``steps``.
        mean: That the DataModule normalises images by, for each channel, in [0, 1]; tlprune's uses ImageNet's.
        std: Likewise.
        label_smoothing: Share of the target probability spread over all classes, in [0, 1]; the attack has none.
        optimizer: Makes the optimiser of parameters.
        lr_scheduler: Makes the schedule of the optimiser.

    Raises:
        InputError: An argument is out of range, or there is no such network.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        num_classes: int | None = None,
        epsilon: float = 3.0,
        steps: int = 3,
        step_size: float | None = None,
        mean: Sequence[float] = PGD.mean,
        std: Sequence[float] = PGD.std,
        label_smoothing: float = 0.0,
        optimizer: OptimizerCallable = lambda parameters: SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(backbone, num_classes, label_smoothing, optimizer, lr_scheduler)
        self.attack = PGD(epsilon, steps, step_size, tuple(mean), tuple(std))
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])

    def _build_head(self, num_classes: int) -> None:
        super()._build_head(num_classes)
        self.val_robust_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_robust_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross entropy of the changed images of one batch: images ``[B, 3, H, W]`` float, labels ``[B]`` int64."""
        images, labels = batch
        return self._step((self.attack(self, images, labels), labels), "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss and accuracy of one batch, and accuracy once its images are changed."""
        self._step(batch, "val")
        self._robust_accuracy(batch, "val", self.val_robust_accuracy)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss and accuracy of one batch, and accuracy once its images are changed."""
        self._step(batch, "test")
        self._robust_accuracy(batch, "test", self.test_robust_accuracy)

    def _robust_accuracy(self, batch: tuple[Tensor, Tensor], stage: str, accuracy: MulticlassAccuracy) -> None:
        images, labels = batch
        accuracy.update(self(self.attack(self, images, labels)), labels)
        self.log(f"{stage}/robust_accuracy", accuracy, on_step=False, on_epoch=True, prog_bar=True)
