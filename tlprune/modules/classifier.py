"""Supervised pretraining on the source."""

from typing import Any, ClassVar
from warnings import warn

import torch.nn.functional as F  # noqa: N812 - the field's name for it
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import SGD
from torchmetrics.classification import MulticlassAccuracy

from tlprune.errors import InputError, OfLightning
from tlprune.models.start import start_backbone
from tlprune.modules.layer_decay import require_layer_decay
from tlprune.modules.optim import build_optimizers, sendable, unfreeze_again
from tlprune.preprocessing import Preprocessing

__all__ = ["ClassificationModule", "LitClassifier"]


class ClassificationModule(OfLightning, LightningModule):
    """Base class of pretraining and transfer: a backbone with a linear head, cross entropy and accuracy.

    Logs ``train/loss``, and ``loss`` and ``accuracy`` under ``train/``, ``val/`` and ``test/`` for each epoch.

    Args:
        backbone: Name of the network; None for the name in the weights, or :attr:`usual_backbone` without weights.
        num_classes: Number of outputs of the head; None for ``num_classes`` of the DataModule.
        label_smoothing: Share of the target probability spread over all classes, in [0, 1].
        optimizer: Factory of the optimiser, called with parameters.
        lr_scheduler: Factory of the learning-rate schedule, called with the optimiser.
        flip_average: Whether evaluation averages the logits of an image and of its mirror image.
        weights: Path or name of the weights to start from; None for random weights.
        preprocessing: Preprocessing that beats what the weights say, value by value.
        layer_decay: Factor of the learning rate from each block to the block before it, in (0, 1].

    Raises:
        InputError: An argument is out of range, there is no such network, or the weights are not its weights.
    """

    head: nn.Linear

    usual_backbone: ClassVar[str | None] = None
    """Name of the network if neither backbone nor weights are given; None if one of them is required."""

    keeps_head: ClassVar[bool] = False
    """Whether training starts with the head of the weights, where its classes are those of the data."""

    preprocessing: Preprocessing
    """Preprocessing that the weights expect, as far as known; DataModules of tlprune apply it."""

    takes_bytes: ClassVar[bool] = True
    """Batches may stay bytes until Lightning's transfer to the device, where DataModules of tlprune normalise them."""

    def __init__(
        self,
        backbone: str | None,
        num_classes: int | None,
        label_smoothing: float,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None,
        flip_average: bool = False,
        weights: str | None = None,
        preprocessing: Preprocessing | None = None,
        layer_decay: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise InputError(f"`label_smoothing` must be in [0, 1], got {label_smoothing}")
        require_layer_decay(layer_decay)
        start = start_backbone(type(self).__name__, backbone, weights, self.usual_backbone, preprocessing)
        self.backbone_name = start.name
        self.backbone = start.backbone
        self.preprocessing = start.preprocessing
        self.weights = weights
        self.layer_decay = layer_decay
        self._start = start.beside
        self._head_is_loaded = False
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.optimizer = sendable(optimizer, self)
        self.lr_scheduler = lr_scheduler
        self.flip_average = flip_average
        self.classes: list[str] = []
        if num_classes is not None:
            self._build_head(num_classes)

    def _build_head(self, num_classes: int) -> None:
        if num_classes < 2:
            more = "; a budget that keeps one class leaves nothing to tell apart" if num_classes == 1 else ""
            raise InputError(f"`num_classes` must be at least 2, got {num_classes}{more}")
        self.num_classes = num_classes
        self.hparams["num_classes"] = num_classes
        self.head = nn.Linear(self.backbone.num_features, num_classes)
        # the loss refuses the same labels; checked here too, each step would wait for a GPU
        self.train_accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def configure_model(self) -> None:
        """Builds the head if its number of outputs is taken from the DataModule."""
        data = getattr(self._trainer, "datamodule", None)
        offered = getattr(data, "num_classes", None)
        if self.num_classes is None:
            if offered is None:
                name = type(self).__name__
                raise InputError(f"{name} needs `num_classes`: the data does not say how many classes it has")
            self._build_head(int(offered))
        elif offered is not None and int(offered) != self.num_classes:
            raise InputError(f"`num_classes` is {self.num_classes}, the data has {offered} classes")
        given = [str(name) for name in getattr(data, "classes", self.classes)]
        _warn_of_other_classes(self.classes, given)
        fits = self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING
        if fits or not self.classes:
            self.classes = given
        if self.keeps_head and self._start is not None and not self._head_is_loaded:
            self._head_is_loaded = self._start.load_into(self.head, self.classes)

    def on_fit_start(self) -> None:
        """Says which tensors of the weights training starts from, unless it goes on from a checkpoint."""
        unfreeze_again(self.trainer)
        if self.keeps_head and self._start is not None:
            rank_zero_info(self._start.described(self._head_is_loaded))
        self._start = None  # the next fit goes on with the weights that this one trains

    def forward(self, images: Tensor) -> Tensor:
        """Computes logits ``[B, C]`` of images ``[B, 3, H, W]``."""
        try:
            logits: Tensor = self.head(self.backbone(images))
        except AssertionError as error:  # raised by vision transformers, which accept one image size
            shape, reason = " x ".join(map(str, images.shape[1:])), " ".join(str(error).split())[:200]
            raise InputError(f"the backbone does not accept images of {shape}: {reason}; set `image_size`") from error
        return logits

    def _evaluated(self, images: Tensor) -> Tensor:
        """Computes the logits ``[B, C]`` used for evaluation."""
        logits: Tensor = self(images)
        return (logits + self(images.flip(3))) / 2 if self.flip_average else logits

    def _one_view(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns the batch after checking that it has one view per image and labels."""
        if not isinstance(batch[0], Tensor):
            name = type(self).__name__
            raise InputError(f"{name} takes one view of each image, got {len(batch[0])}: set another `augment`")
        return batch

    def _step(self, batch: tuple[Tensor, Tensor], stage: str) -> tuple[Tensor, Tensor]:
        """Computes the loss of a batch and its logits ``[B, C]``."""
        images, labels = self._one_view(batch)
        logits = self(images) if stage == "train" else self._evaluated(images)
        smoothing = self.label_smoothing if stage == "train" else 0.0
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        accuracy = {"train": self.train_accuracy, "val": self.val_accuracy, "test": self.test_accuracy}[stage]
        accuracy.update(logits, labels if labels.ndim == 1 else labels.argmax(1))
        if stage == "train":  # the accuracy follows once an epoch: a call of log() takes half a millisecond
            self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=False)
            return loss, logits
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        self.log(f"{stage}/accuracy", accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return loss, logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Computes the cross entropy of a batch: images ``[B, 3, H, W]`` float, labels ``[B]`` int64.

        Labels may also be probabilities ``[B, C]``, as mixup makes them. The accuracy then counts the likeliest class.
        """
        return self._step(batch, "train")[0]

    def on_train_epoch_end(self) -> None:
        """Logs the accuracy of the epoch."""
        self.log("train/accuracy", self.train_accuracy)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Logs loss and accuracy of a batch; returns its logits ``[B, C]`` for callbacks."""
        return self._step(batch, "val")[1]

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Logs loss and accuracy of a batch; returns its logits ``[B, C]`` for callbacks."""
        return self._step(batch, "test")[1]

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Computes the probabilities ``[B, C]`` of a batch."""
        probabilities: Tensor = self._evaluated(batch[0]).softmax(1)
        return probabilities

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Builds the optimiser and schedule over all parameters."""
        return build_optimizers(self, self, self.optimizer, self.lr_scheduler, layer_decay=self.layer_decay)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves class names and preprocessing with the weights."""
        checkpoint["classes"] = self.classes
        checkpoint["preprocessing"] = self.preprocessing.as_trained(getattr(self.trainer, "datamodule", None)).as_json()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Runs :meth:`check_checkpoint` and restores class names and preprocessing."""
        self.check_checkpoint(checkpoint)
        self._start = None
        self.preprocessing = Preprocessing.from_json(checkpoint.get("preprocessing", {}))
        given, self.classes = self.classes, [str(name) for name in checkpoint.get("classes", [])]
        _warn_of_other_classes(self.classes, given)
        if self.num_classes is None:
            self._build_head(int(checkpoint["state_dict"]["head.weight"].shape[0]))

    def check_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks backbone and head of a checkpoint before weights are loaded, for an error message of one line.

        Args:
            checkpoint: Checkpoint saved by Lightning.

        Raises:
            InputError: The checkpoint has no backbone and head, another backbone, or a head with another number of
                outputs.
        """
        state = checkpoint["state_dict"]
        weight = state.get("head.weight")
        if weight is None or not any(key.startswith("backbone.") for key in state):
            raise InputError(f"this checkpoint is not one of {type(self).__name__}: it has no backbone and head")
        outputs, width = weight.shape
        if width != self.backbone.num_features or self.num_classes not in (None, outputs):
            raise InputError(
                f"this checkpoint's head maps {width} features to {outputs} classes, "
                f"this model's {self.backbone.num_features} to {self.num_classes or 'any number'}"
            )
        mine = {f"backbone.{key}" for key in self.backbone.state_dict()}
        if odd := sorted(mine ^ {key for key in state if key.startswith("backbone.")}):
            raise InputError(f"this checkpoint holds another backbone: {len(odd)} keys differ, first {odd[0]}")


def _warn_of_other_classes(trained: list[str], given: list[str]) -> None:
    """Warns where the data have as many classes as a model was trained on, and others."""
    pairs = zip(trained, given, strict=False)
    other = next(((label, *names) for label, names in enumerate(pairs) if names[0] != names[1]), None)
    if other is not None and len(trained) == len(given):
        label, was, now = other
        which = f"this model was trained with label {label} for {was!r}, the data have it for {now!r}"
        warn(f"{which}: accuracy is right only where both names mean one class", stacklevel=2)


class LitClassifier(ClassificationModule):
    """Trains a backbone with a linear head on labelled images, as a surrogate or for pretraining on the source.

    Args:
        backbone: Name of the network for :func:`tlprune.models.backbones.create_backbone`; None for the name in the
            weights, or ``resnet18`` without weights.
        num_classes: Number of outputs of the head; None for ``num_classes`` of the DataModule, which is the number of
            kept classes for a pruned source.
        label_smoothing: Share of the target probability spread over all classes, in [0, 1].
        optimizer: Factory of the optimiser, called with parameters.
        lr_scheduler: Factory of the learning-rate schedule, called with the optimiser. Schedules of
            :mod:`tlprune.modules.optim` step after each batch.
        flip_average: Whether evaluation averages the logits of an image and of its mirror image.
        weights: Weights to start from, as a safetensors file, a checkpoint, or the name of published weights such as
            ``torchvision:resnet18``; None for random weights. The head is new unless the file names the classes of the
            data, in their order.
        preprocessing: Preprocessing that the weights expect (``mean``, ``std``, ...), which fills in or overrides the
            values in their file. DataModules of tlprune apply it; other DataModules must do so themselves.
        layer_decay: Factor of the learning rate from each block of the backbone to the block before it, in (0, 1]; the
            head has the rate of the optimiser.

    Raises:
        InputError: An argument is out of range, there is no such network, or the weights are missing, damaged or
            belong to another network.

    Example:
        >>> import torch
        >>> LitClassifier("resnet8_w8", num_classes=5)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 5])
    """

    usual_backbone = "resnet18"
    keeps_head = True

    def __init__(
        self,
        backbone: str | None = None,
        num_classes: int | None = None,
        label_smoothing: float = 0.0,
        optimizer: OptimizerCallable = lambda parameters: SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4),
        lr_scheduler: LRSchedulerCallable | None = None,
        flip_average: bool = False,
        weights: str | None = None,
        preprocessing: Preprocessing | None = None,
        layer_decay: float = 1.0,
    ) -> None:
        super().__init__(
            *(backbone, num_classes, label_smoothing, optimizer, lr_scheduler, flip_average),
            *(weights, preprocessing, layer_decay),
        )
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler", "weights", "preprocessing"])
        self.hparams["backbone"] = self.backbone_name  # a checkpoint contains all weights and does not need the file
