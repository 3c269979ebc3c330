"""Supervised pretraining on adversarial images."""

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
    """Trains a classifier on adversarial images; adversarially trained backbones often transfer better.

    Follows Salman et al., "Do Adversarially Robust ImageNet Models Transfer Better?" (2020). Logs the metrics of
    LitClassifier, on adversarial images in training and on clean images in validation and test. Validation and test
    also log ``robust_accuracy``, the accuracy on adversarial images.

    Args:
        backbone: Name of the network for :func:`tlprune.models.backbones.create_backbone`; None for the name in the
            weights, or ``resnet18`` without weights.
        num_classes: Number of outputs of the head; None for ``num_classes`` of the DataModule.
        epsilon: Largest change of a pixel in one channel, in 1/255, above 0.
        steps: Number of steps of the attack, at least 1.
        step_size: Size of a step in 1/255; None for ``2 * epsilon / steps``.
        mean: Mean of each channel that images are normalised with, in [0, 1]; None for that of the weights, or of
            ImageNet. DataModules of tlprune use it automatically; other DataModules must normalise with the same
            values.
        std: Standard deviation of each channel, in (0, 1]; as for ``mean``.
        label_smoothing: Share of the target probability spread over all classes, in [0, 1]; the attack uses none.
        optimizer: Factory of the optimiser, called with parameters.
        lr_scheduler: Factory of the learning-rate schedule, called with the optimiser.
        flip_average: Whether evaluation averages the logits of an image and of its mirror image; the attack uses only
            the logits of the image.
        weights: Weights to start from, as for :class:`tlprune.LitClassifier`.
        layer_decay: Factor of the learning rate from each block to the block before it, likewise.

    Raises:
        InputError: An argument is out of range, there is no such network, or the weights are missing, damaged or
            belong to another network.
    """

    usual_backbone = "resnet18"
    keeps_head = True

    def __init__(
        self,
        backbone: str | None = None,
        num_classes: int | None = None,
        epsilon: float = 3.0,
        steps: int = 3,
        step_size: float | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        optimizer: OptimizerCallable = lambda parameters: SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4),
        lr_scheduler: LRSchedulerCallable | None = None,
        flip_average: bool = False,
        weights: str | None = None,
        layer_decay: float = 1.0,
    ) -> None:
        said = {name: [*value] for name, value in (("mean", mean), ("std", std)) if value is not None}
        super().__init__(
            *(backbone, num_classes, label_smoothing, optimizer, lr_scheduler, flip_average),
            *(weights, Preprocessing.from_json(said), layer_decay),
        )
        self._attack_seed: int | None = None
        self._attack_options = (epsilon, steps, step_size)
        self._build_attack()
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler", "weights"])
        self.hparams.update(mean=[*self.attack.mean], std=[*self.attack.std])
        self.hparams["backbone"] = self.backbone_name  # a checkpoint contains all weights and does not need the file

    def _build_attack(self) -> None:
        """Builds the attack for images that are normalised as the weights expect."""
        epsilon, steps, step_size = self._attack_options
        known = self.preprocessing.filled()
        self.attack = PGD(epsilon, steps, step_size, known.mean or PGD.mean, known.std or PGD.std)

    def _build_head(self, num_classes: int) -> None:
        super()._build_head(num_classes)
        self.val_robust_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_robust_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Attacks a batch and computes its cross entropy: images ``[B, 3, H, W]`` float, labels as LitClassifier."""
        return self._step((self._attacked(batch, batch_idx), batch[1]), "train")[0]

    def _attacked(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Attacks the images of a batch, with a start that depends only on seed, step and rank for exact resumption."""
        images, labels = self._one_view(batch)
        if self._attack_seed is None:
            self._attack_seed = torch.initial_seed()
        seed = hash((self._attack_seed, self.global_step, batch_idx, self.global_rank))
        generator = torch.Generator(images.device).manual_seed(seed & 0x7FFF_FFFF_FFFF_FFFF)
        return self.attack(self, images, labels, generator)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves the seed of the attack."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["attack_seed"] = self._attack_seed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the seed of the attack, so that a resumed run continues identically."""
        super().on_load_checkpoint(checkpoint)
        self._attack_seed = checkpoint.get("attack_seed")
        self._build_attack()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Logs the metrics of a classifier and the accuracy on adversarial images; returns logits of clean images."""
        logits = super().validation_step(batch, batch_idx)
        self._robust_accuracy(batch, batch_idx, "val", self.val_robust_accuracy)
        return logits

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Logs the metrics of a classifier and the accuracy on adversarial images; returns logits of clean images."""
        logits = super().test_step(batch, batch_idx)
        self._robust_accuracy(batch, batch_idx, "test", self.test_robust_accuracy)
        return logits

    def _robust_accuracy(
        self, batch: tuple[Tensor, Tensor], batch_idx: int, stage: str, accuracy: MulticlassAccuracy
    ) -> None:
        accuracy.update(self._evaluated(self._attacked(batch, batch_idx)), batch[1])
        self.log(f"{stage}/robust_accuracy", accuracy, on_step=False, on_epoch=True, prog_bar=True)
