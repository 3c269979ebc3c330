"""Supervised pretraining on images changed to mislead the network."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.optim import SGD
from torchmetrics.classification import MulticlassAccuracy

from tlprune.models.adversarial import PGD
from tlprune.modules.classifier import ClassificationModule
from tlprune.preprocessing import Preprocessing

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
        mean: That images are normalised by, for each channel, in [0, 1]; tlprune's DataModules follow it, others must
            do the same.
        std: Likewise.
        label_smoothing: Share of the target probability spread over all classes, in [0, 1]; the attack has none.
        optimizer: Makes the optimiser of parameters.
        lr_scheduler: Makes the schedule of the optimiser.
        flip_average: Whether evaluation takes the mean of an image's logits and of its mirror image's; the attack
            follows those of the image.

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
        flip_average: bool = False,
    ) -> None:
        super().__init__(backbone, num_classes, label_smoothing, optimizer, lr_scheduler, flip_average)
        self._attack_seed: int | None = None
        self.attack = PGD(epsilon, steps, step_size, tuple(mean), tuple(std))
        self.preprocessing = Preprocessing.from_json({"mean": [*mean], "std": [*std]})
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])

    def _build_head(self, num_classes: int) -> None:
        super()._build_head(num_classes)
        self.val_robust_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_robust_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross entropy of the changed images of one batch: images ``[B, 3, H, W]`` float, labels ``[B]`` int64."""
        return self._step((self._attacked(batch, batch_idx), batch[1]), "train")[0]

    def _attacked(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The batch's images, changed: by the run's seed, step and rank alone, so that a run can go on as it was."""
        images, labels = self._one_view(batch)
        if self._attack_seed is None:
            self._attack_seed = torch.initial_seed()
        seed = hash((self._attack_seed, self.global_step, batch_idx, self.global_rank))
        generator = torch.Generator(images.device).manual_seed(seed & 0x7FFF_FFFF_FFFF_FFFF)
        return self.attack(self, images, labels, generator)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps what the attack is drawn from."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["attack_seed"] = self._attack_seed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the attack's seed over, so that a run goes on as it would have."""
        super().on_load_checkpoint(checkpoint)
        self._attack_seed = checkpoint.get("attack_seed")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Logs what a classifier does, and accuracy once images are changed; gives logits of the images as they are."""
        logits = super().validation_step(batch, batch_idx)
        self._robust_accuracy(batch, batch_idx, "val", self.val_robust_accuracy)
        return logits

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Logs what a classifier does, and accuracy once images are changed; gives logits of the images as they are."""
        logits = super().test_step(batch, batch_idx)
        self._robust_accuracy(batch, batch_idx, "test", self.test_robust_accuracy)
        return logits

    def _robust_accuracy(
        self, batch: tuple[Tensor, Tensor], batch_idx: int, stage: str, accuracy: MulticlassAccuracy
    ) -> None:
        accuracy.update(self._evaluated(self._attacked(batch, batch_idx)), batch[1])
        self.log(f"{stage}/robust_accuracy", accuracy, on_step=False, on_epoch=True, prog_bar=True)
