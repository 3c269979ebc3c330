"""From a pretrained backbone to the target: linear probe, or full finetuning, always with a new head."""

from typing import Any, Literal, Protocol, Self, runtime_checkable

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Adam

from tlprune.errors import InputError
from tlprune.models.weights import load_backbone, read_weights
from tlprune.modules.classifier import ClassificationModule
from tlprune.modules.optim import build_optimizers
from tlprune.preprocessing import Preprocessing

__all__ = ["CachesFeatures", "TransferModule"]


@runtime_checkable
class CachesFeatures(Protocol):
    """A DataModule that can give features in place of images."""

    def cache_features(self, backbone: nn.Module) -> bool:
        """Replaces images by what ``backbone`` makes of them, if each image always looks the same.

        Args:
            backbone: Maps images ``[B, 3, H, W]`` to features ``[B, D]``; run in eval mode, where its weights are.

        Returns:
            Whether batches hold features from now on.
        """
        ...


class TransferModule(ClassificationModule):
    """Fits a pretrained backbone to a downstream set.

    A linear probe trains the new head alone: the backbone stays as it is, in eval mode. Its features never change, so
    a DataModule that can (:class:`CachesFeatures`) computes them once.

    Args:
        backbone: Name of the network; None takes the one that the weights file names.
        weights: Weights of the backbone: a safetensors file or a Lightning checkpoint. None trains from scratch.
        num_classes: Width of the head; None takes it from the DataModule's ``num_classes``.
        mode: ``probe`` or ``finetune``.
        label_smoothing: Share of the target probability spread over all classes, in [0, 1].
        optimizer: Makes the optimiser of parameters.
        lr_scheduler: Makes the schedule of the optimiser. Those of :mod:`tlprune.modules.optim` step after each batch.
        flip_average: Whether evaluation takes the mean of an image's logits and of its mirror image's.
        preprocessing: How the weights expect images (``mean``, ``std``, ...), where their file does not say, or says
            otherwise. DataModules of tlprune give batches so; those of others must.

    Attributes:
        weights: As given.
        preprocessing: Of the weights and as given: published weights say it, and files that such were trained into.

    Raises:
        InputError: An argument is out of range, or the weights are missing, damaged or those of another network.
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
    ) -> None:
        if mode not in ("probe", "finetune"):
            raise InputError(f"`mode` must be 'probe' or 'finetune', got {mode!r}")
        saved = None if weights is None else read_weights(weights)
        name = backbone if backbone is not None or saved is None else saved.backbone
        if name is None:
            raise InputError("TransferModule needs `backbone`: no weights are given, or their file does not name it")
        super().__init__(name, num_classes, label_smoothing, optimizer, lr_scheduler, flip_average)
        self.mode = mode
        self.weights = weights
        self.pretrained = saved is not None
        self.preprocessing = preprocessing or Preprocessing()
        if saved is not None:
            self.preprocessing = self.preprocessing.over(saved.preprocessing)
            self.backbone = load_backbone(saved, name)
        if mode == "probe":
            self.backbone.requires_grad_(False)
            self.backbone.eval()  # Lightning does not call train() at the start of a fit
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler", "weights", "preprocessing"])
        self.hparams["backbone"] = name  # a checkpoint holds all weights, so it need not find the file again

    def train(self, mode: bool = True) -> Self:
        """As in any module, but a probe's backbone stays in eval mode."""
        super().train(mode)
        if self.mode == "probe":
            self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B, C]`` of images ``[B, 3, H, W]``, or of cached features ``[B, D]``."""
        if images.ndim == 2:
            logits: Tensor = self.head(images)
            return logits
        return super().forward(images)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser and schedule given, over the head alone for a probe, whose features are computed here, once.

        A schedule asks the Trainer how long the run is, which makes the training loader: by then, features must be in
        place of images.

        Raises:
            InputError: A probe's backbone has no weights from anywhere.
        """
        if self.mode == "probe":
            self._cache_features()
        trained = self.head if self.mode == "probe" else self
        return build_optimizers(self, trained, self.optimizer, self.lr_scheduler)

    def _cache_features(self) -> None:
        if not self.pretrained:
            raise InputError("a linear probe of random weights says nothing: give `weights`, or set `mode: finetune`")
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, CachesFeatures) and not self.flip_average:
            data.cache_features(self.backbone)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As in every module here; a loaded backbone is a pretrained one."""
        super().on_load_checkpoint(checkpoint)
        self.pretrained = True
