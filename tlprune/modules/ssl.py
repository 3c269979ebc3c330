"""Self-supervised pretraining with SimCLR, MoCo v2 and VICReg."""

from typing import Any, Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import SGD

from tlprune.errors import InputError, OfLightning, require_within
from tlprune.models.backbones import create_backbone
from tlprune.models.start import start_backbone
from tlprune.modules.layer_decay import require_layer_decay
from tlprune.modules.optim import LRScaling, build_optimizers, sendable, unfreeze_again
from tlprune.modules.ssl_methods import SSLMethod
from tlprune.preprocessing import Preprocessing

__all__ = ["LitSSL", "info_nce"]

Views = tuple[list[Tensor], Tensor]
"""Two views, ``[B, 3, H, W]`` each, and labels, which are ignored."""


class LitSSL(OfLightning, LightningModule):
    """Trains a backbone without labels to give two views of an image like features, and other images other features.

    ``simclr`` uses NT-Xent between all views of the batch on all ranks (Chen et al., "A Simple Framework for
    Contrastive Learning of Visual Representations", 2020). ``moco`` uses InfoNCE against a queue of keys from a
    momentum encoder (He et al., "Momentum Contrast", 2020), with the head, temperature and augmentation of Chen et al.,
    "Improved Baselines with Momentum Contrastive Learning" (2020). ``vicreg`` compares no images with each other: it
    keeps the two projections of an image near, the deviation of every dimension over the images of all ranks above 1,
    and dimensions uncorrelated (Bardes et al., "VICReg", 2022), with the weights 25, 25 and 1 of its paper. All losses
    are computed in float32 under AMP.

    BatchNorm must not reveal to MoCo which images are in the same batch. On several ranks, MoCo therefore computes keys
    on shuffled ranks, as in its paper (section 3.3). With ``trainer.sync_batchnorm``, which is recommended for SimCLR
    and VICReg, statistics are shared by all ranks and nothing is shuffled.

    Args:
        backbone: Name of the network for :func:`tlprune.models.backbones.create_backbone`; None for the name in the
            weights, or ``resnet50`` without weights.
        method: ``simclr``, ``moco`` or ``vicreg``.
        temperature: Temperature of the loss, above 0; None for 0.5 with SimCLR and 0.2 with MoCo. VICReg has none.
        hidden_dim: Size of the hidden layers of the projection head: one layer, two with VICReg. None for 2048; with
            VICReg for four times the width of the features, which is 8192 for ``resnet50``.
        output_dim: Size of the projection that the loss compares; None for 128, with VICReg as ``hidden_dim``.
        queue_size: Number of keys in the queue of MoCo, at least 1.
        momentum: Momentum of the key encoder of MoCo, in [0, 1]: the share of its weights kept at each step.
        optimizer: Factory of the optimiser, called with parameters.
        lr_scaling: Scaling of the learning rate with the number of images per step, over all ranks and accumulated
            batches. With ``linear`` or ``sqrt``, the learning rate of the optimiser refers to 256 images per step;
            ``none`` uses it unchanged.
        decay_all: Whether weight decay also applies to biases and normalisation layers; None for False with SimCLR
            and VICReg, whose LARS excludes them, and True with MoCo.
        lr_scheduler: Factory of the learning-rate schedule, called with the optimiser. Schedules of
            :mod:`tlprune.modules.optim` step after each batch.
        weights: Weights of the backbone to start from, as a safetensors file, a checkpoint, or the name of published
            weights such as ``torchvision:resnet50``; None for random weights. The projection head is always new.
        preprocessing: Preprocessing that the weights expect (``mean``, ``std``, ...), which fills in or overrides the
            values in their file. DataModules of tlprune apply it; other DataModules must do so themselves.
        layer_decay: Factor of the learning rate from each block of the backbone to the block before it, in (0, 1]; the
            projection head has the rate of the optimiser.

    Raises:
        InputError: An argument is out of range, there is no such network, or the weights are missing, damaged or
            belong to another network.
    """

    queue: Tensor
    queue_place: Tensor

    preprocessing: Preprocessing
    """Preprocessing that the weights expect; that of ImageNet for random weights."""

    def __init__(
        self,
        backbone: str | None = None,
        method: Literal["simclr", "moco", "vicreg"] = "simclr",
        temperature: float | None = None,
        hidden_dim: int | None = None,
        output_dim: int | None = None,
        queue_size: int = 65536,
        momentum: float = 0.999,
        optimizer: OptimizerCallable = lambda parameters: SGD(parameters, lr=0.03, momentum=0.9, weight_decay=1e-4),
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scaling: LRScaling = "none",
        decay_all: bool | None = None,
        weights: str | None = None,
        preprocessing: Preprocessing | None = None,
        layer_decay: float = 1.0,
    ) -> None:
        super().__init__()
        named = SSLMethod.named(method)
        require_within("queue_size", queue_size, 1)
        if not 0 <= momentum <= 1:
            raise InputError(f"`momentum` must be in [0, 1], got {momentum}")
        self.method = method
        self.momentum = momentum
        self.temperature = named.temperature_or(temperature)
        self.optimizer = sendable(optimizer, self)
        self.lr_scheduler = lr_scheduler
        self.lr_scaling = lr_scaling
        self.decay_all = named.decay_all if decay_all is None else decay_all
        require_layer_decay(layer_decay)
        self.layer_decay = layer_decay
        self.weights = weights
        start = start_backbone(type(self).__name__, backbone, weights, "resnet50", preprocessing)
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler", "weights", "preprocessing"])
        self.hparams["backbone"] = start.name  # a checkpoint contains all weights and does not need the file
        self.backbone, self.preprocessing, self._start = start.backbone, start.preprocessing, start.beside
        # imported here because it takes two seconds, and resolving class names in yaml imports every module
        from lightly.loss import NTXentLoss, VICRegLoss
        from lightly.models.modules import heads

        features, head = self.backbone.num_features, getattr(heads, named.head)
        hidden_dim, output_dim = named.sizes(features, hidden_dim, output_dim)
        self.projection = head(features, hidden_dim, output_dim)
        if method == "simclr":
            self.nt_xent = NTXentLoss(self.temperature, gather_distributed=True)
        if method == "vicreg":
            self.vicreg = VICRegLoss(gather_distributed=True)
        if method != "moco":
            return
        self.key_backbone = create_backbone(start.name).requires_grad_(False)
        self.key_projection = head(features, hidden_dim, output_dim).requires_grad_(False)
        for query, key in self._pairs():
            key.load_state_dict(query.state_dict())
        self.register_buffer("queue", F.normalize(torch.randn(queue_size, output_dim), dim=1))
        self.register_buffer("queue_place", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        """Computes features ``[B, D]`` of images ``[B, 3, H, W]``."""
        features: Tensor = self.backbone(images)
        return features

    def training_step(self, batch: Views, batch_idx: int) -> Tensor:
        """Computes the loss of a batch of two views."""
        step = {"simclr": self._simclr, "moco": self._moco, "vicreg": self._vicreg}[self.method]
        loss = step(*_two_views(batch))
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Does nothing, but makes Lightning run validation and with it callbacks such as KNNProbe."""

    def _simclr(self, first: Tensor, second: Tensor) -> Tensor:
        projected = self.projection(self(torch.cat([first, second])))  # [2 B, output_dim]
        with torch.autocast(projected.device.type, enabled=False):
            loss: Tensor = self.nt_xent(*projected.float().chunk(2))
            return loss

    def _vicreg(self, first: Tensor, second: Tensor) -> Tensor:
        if len(first) < 2:
            raise InputError(
                f"VICReg needs at least 2 images in each batch of a process, got {len(first)}: "
                "give the DataLoader a larger `batch_size`, or `drop_last`"
            )
        # each view has statistics of its own in BatchNorm, as in the authors' code
        projected = [self.projection(self(view)) for view in (first, second)]  # [B, output_dim] each
        with torch.autocast(first.device.type, enabled=False):
            loss: Tensor = self.vicreg(*(one.float() for one in projected))
            return loss

    def _moco(self, first: Tensor, second: Tensor) -> Tensor:
        # the key encoder is updated before it is used, so it follows the previous step (He et al., algorithm 1)
        self._follow()
        queries = F.normalize(self.projection(self(first)).float(), dim=1)  # [B, output_dim]
        with torch.no_grad():
            keys = F.normalize(self._keys(second).float(), dim=1)
        with torch.autocast(queries.device.type, enabled=False):
            # clone, because the queue changes before the backward pass needs it
            loss = info_nce(queries, keys, self.queue.clone(), cast(float, self.temperature))
        self._enqueue(keys)
        return loss

    def _pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.backbone, self.key_backbone), (self.projection, self.key_projection)]

    @torch.no_grad()
    def _follow(self) -> None:
        """Updates each weight of the key encoder with momentum: m k + (1 - m) q."""
        for query, key in self._pairs():
            for trained, following in zip(query.parameters(), key.parameters(), strict=True):
                following.lerp_(trained, 1 - self.momentum)

    def _keys(self, images: Tensor) -> Tensor:
        """Computes keys ``[B, output_dim]`` of this rank's images in batches shuffled over ranks."""
        world = self.trainer.world_size if self._trainer is not None else 1
        synchronised = any(isinstance(layer, nn.SyncBatchNorm) for layer in self.key_backbone.modules())
        if world == 1 or synchronised:
            keys: Tensor = self.key_projection(self.key_backbone(images))
            return keys
        # every rank draws the same order, and so does a resumed run
        generator = torch.Generator().manual_seed(self.global_step)
        order = torch.randperm(world * len(images), generator=generator).to(images.device)
        rank = self.global_rank
        everybodys = cast(Tensor, self.all_gather(images)).flatten(0, 1)  # [world * B, 3, H, W]
        keys = self.key_projection(self.key_backbone(everybodys[order.view(world, -1)[rank]]))
        gathered = cast(Tensor, self.all_gather(keys)).flatten(0, 1)
        return gathered[order.argsort().view(world, -1)[rank]]

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        """Replaces the oldest keys of the queue by the keys of all ranks."""
        everybodys = cast(Tensor, self.all_gather(keys)).reshape(-1, keys.shape[1])[-len(self.queue) :]
        places = (self.queue_place + torch.arange(len(everybodys), device=keys.device)) % len(self.queue)
        self.queue[places] = everybodys.to(self.queue.dtype)
        self.queue_place.add_(len(everybodys)).remainder_(len(self.queue))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves the preprocessing with the weights."""
        checkpoint["preprocessing"] = self.preprocessing.as_trained(getattr(self.trainer, "datamodule", None)).as_json()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the preprocessing."""
        self.preprocessing = Preprocessing.from_json(checkpoint.get("preprocessing", {}))
        self._start = None

    def on_fit_start(self) -> None:
        """Says which tensors of the weights training starts from, unless it goes on from a checkpoint."""
        unfreeze_again(self.trainer)
        if self._start is not None:
            rank_zero_info(self._start.described(head_is_loaded=False))
        self._start = None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Builds the optimiser and schedule over backbone and projection head; the key encoder is frozen."""
        return build_optimizers(
            self,
            nn.ModuleList([self.backbone, self.projection]),
            self.optimizer,
            self.lr_scheduler,
            self.decay_all,
            self.lr_scaling,
            self.layer_decay,
        )


def _two_views(batch: Any) -> tuple[Tensor, Tensor]:
    views = batch[0] if isinstance(batch, list | tuple) else None
    if isinstance(views, list | tuple) and len(views) == 2:
        return views[0], views[1]
    got = f"{len(views)} views" if isinstance(views, list | tuple) else "one view"
    more = "set an `augment` of two views, such as simclr; other DataModules give ((view, other view), ...)"
    raise InputError(f"LitSSL compares two views of each image, got {got}: {more}")


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Computes InfoNCE (van den Oord et al., 2018): cross entropy of each query's own key against the whole queue.

    Args:
        queries: Queries of length 1, ``[B, D]``.
        keys: Keys of length 1, one per query, ``[B, D]``.
        queue: Negative keys of length 1, ``[K, D]``.
        temperature: Temperature, above 0.

    Returns:
        The mean loss over the batch.

    Example:
        >>> one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> round(float(info_nce(one, one, other, 1.0)), 4)  # -log(e / (e + 1))
        0.3133
    """
    own = (queries * keys).sum(1, keepdim=True)
    logits = torch.cat([own, queries @ queue.T], 1) / temperature
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))
