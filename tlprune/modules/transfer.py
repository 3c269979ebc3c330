"""Transfer of a pretrained backbone to the target by linear probe or full finetuning, with a new head."""

from typing import Any, Literal, Protocol, Self, TypeGuard, runtime_checkable

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Adam

from tlprune.errors import InputError
from tlprune.models.backbones import create_backbone
from tlprune.modules.classifier import ClassificationModule
from tlprune.modules.optim import build_optimizers
from tlprune.preprocessing import Preprocessing

__all__ = ["CachesFeatures", "TransferModule"]


@runtime_checkable
class CachesFeatures(Protocol):
    """A DataModule that can provide features instead of images."""

    def cache_features(self, backbone: nn.Module) -> bool:
        """Replaces images by their features, unless images are augmented.

        Args:
            backbone: Network from images ``[B, 3, H, W]`` to features ``[B, D]``, run in eval mode on the device of its
                weights.

        Returns:
            Whether batches contain features from now on.
        """
        ...


class TransferModule(ClassificationModule):
    """Transfers a pretrained backbone to a downstream set.

    A linear probe trains only the new head; the backbone is frozen in eval mode. Its features never change, so a
    DataModule that supports it (:class:`CachesFeatures`) computes them once.

    Args:
        backbone: Name of the network; None for the name in the weights file.
        weights: Weights of the backbone, as a safetensors file, a checkpoint, or the name of published weights. None
            trains from scratch.
        num_classes: Number of outputs of the head; None for ``num_classes`` of the DataModule.
        mode: Kind of transfer, ``probe`` or ``finetune``.
        label_smoothing: Share of the target probability spread over all classes, in [0, 1].
        optimizer: Factory of the optimiser, called with parameters.
        lr_scheduler: Factory of the learning-rate schedule, called with the optimiser. Schedules of
            :mod:`tlprune.modules.optim` step after each batch.
        flip_average: Whether evaluation averages the logits of an image and of its mirror image.
        preprocessing: Preprocessing that the weights expect (``mean``, ``std``, ...), which fills in or overrides the
            values in their file. DataModules of tlprune apply it; other DataModules must do so themselves.
        layer_decay: Factor of the learning rate from each block of the backbone to the block before it, in (0, 1]; the
            head has the rate of the optimiser.

    Attributes:
        weights: The argument ``weights``.
        preprocessing: Preprocessing from the weights and the argument. Published weights define it, and so do files
            trained from them.

    Raises:
        InputError: An argument is out of range, or the weights are missing, damaged or belong to another network.
    """

    def __init__(
        self,
        backbone: str | None = None,
        weights: str | None = None,
        num_classes: int | None = None,
        mode: Literal["probe", "finetune"] = "finetune",
        label_smoothing: float = 0.0,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=1e-3),
        lr_scheduler: LRSchedulerCallable | None = None,
        flip_average: bool = False,
        preprocessing: Preprocessing | None = None,
        layer_decay: float = 1.0,
    ) -> None:
        if mode not in ("probe", "finetune"):
            raise InputError(f"`mode` must be 'probe' or 'finetune', got {mode!r}")
        super().__init__(
            *(backbone, num_classes, label_smoothing, optimizer, lr_scheduler, flip_average),
            *(weights, preprocessing, layer_decay),
        )
        self.mode = mode
        self.pretrained = weights is not None
        if self.pretrained:
            # the first head draws after a second network has drawn, as it did when the published figures were measured
            create_backbone(self.backbone_name)
        if mode == "probe":
            self.backbone.requires_grad_(False)
            self.backbone.eval()  # Lightning does not call train() at the start of a fit
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler", "weights", "preprocessing"])
        self.hparams["backbone"] = self.backbone_name  # a checkpoint contains all weights and does not need the file

    def train(self, mode: bool = True) -> Self:
        """Sets the training mode; the backbone of a probe stays in eval mode."""
        super().train(mode)
        if self.mode == "probe":
            self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Computes logits ``[B, C]`` of images ``[B, 3, H, W]`` or of cached features ``[B, D]``."""
        if images.ndim == 2:
            logits: Tensor = self.head(images)
            return logits
        return super().forward(images)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Builds the optimiser and schedule, for a probe over the head only, and caches the features of a probe.

        Features are cached here because a schedule asks the Trainer for the length of the run, which creates the
        training loader.

        Raises:
            InputError: The backbone of a probe has no pretrained weights.
        """
        if self.mode == "probe":
            self._cache_features()
        trained = self.head if self.mode == "probe" else self
        return build_optimizers(self, trained, self.optimizer, self.lr_scheduler, layer_decay=self.layer_decay)

    def caches_features_of(self, data: object) -> bool:
        """Returns whether a fit is known to train on features that a DataModule computes once.

        Args:
            data: DataModule of the fit; one without ``can_cache_features`` decides when it is asked for features.
        """
        return self._may_cache(data) and bool(getattr(data, "can_cache_features", False))

    def _may_cache(self, data: object) -> TypeGuard[CachesFeatures]:
        return self.mode == "probe" and not self.flip_average and isinstance(data, CachesFeatures)

    def _cache_features(self) -> None:
        if not self.pretrained:
            raise InputError("a linear probe needs pretrained weights, got none: set `weights`, or `mode: finetune`")
        data = getattr(self.trainer, "datamodule", None)
        if self._may_cache(data):
            data.cache_features(self.backbone)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Loads a checkpoint, after which the backbone counts as pretrained."""
        super().on_load_checkpoint(checkpoint)
        self.pretrained = True
