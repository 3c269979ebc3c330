"""Self-supervised pretraining: SimCLR and MoCo v2."""

from typing import Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import SGD

from tlprune.errors import InputError, OfLightning
from tlprune.models.backbones import create_backbone
from tlprune.modules.optim import LRScaling, build_optimizers, sendable
from tlprune.preprocessing import Preprocessing

__all__ = ["LitSSL", "info_nce"]

Views = tuple[list[Tensor], Tensor]
"""Two views ``[B, 3, H, W]`` each, and labels, which are not looked at."""


class LitSSL(OfLightning, LightningModule):
    """Trains a backbone without labels, so that two views of an image are alike and views of others are not.

    ``simclr``: NT-Xent between all views of the batch, those of other ranks included (Chen et al., "A Simple Framework
    for Contrastive Learning of Visual Representations", 2020). ``moco``: InfoNCE against a queue of keys from an
    encoder that follows this one slowly (He et al., "Momentum Contrast", 2020; head, temperature and augmentation of
    Chen et al., "Improved Baselines with Momentum Contrastive Learning", 2020). Both losses are computed in float32
    under AMP.

    BatchNorm must not tell which images came together. On several ranks MoCo's keys are computed on shuffled ranks, as
    its paper has it (section 3.3); with ``trainer.sync_batchnorm``, which SimCLR wants, statistics are those of all
    ranks and nothing needs to be shuffled.

    Args:
        backbone: Name that :func:`tlprune.models.backbones.create_backbone` takes.
        method: ``simclr`` or ``moco``.
        temperature: Of the loss, above 0; None is 0.5 for SimCLR and 0.2 for MoCo.
        hidden_dim: Width of the projection head's hidden layer.
        output_dim: Width of what the loss compares.
        queue_size: Keys that MoCo compares with, at least 1.
        momentum: Share of itself that MoCo's key encoder keeps at each step, in [0, 1].
        optimizer: Makes the optimiser of parameters.
        lr_scaling: ``linear`` or ``sqrt``: the optimiser's learning rate is meant for 256 images a step and follows
            the images of a step, those of all ranks and of accumulated batches. ``none`` takes it as it is.
        decay_all: Whether weight decay applies to biases and normalisation too; None is no for SimCLR, whose LARS
            leaves them alone, and yes for MoCo.
        lr_scheduler: Makes the schedule of the optimiser. Those of :mod:`tlprune.modules.optim` step after each batch.

    Raises:
        InputError: An argument is out of range, or there is no such network.
    """

    queue: Tensor
    queue_place: Tensor

    preprocessing = Preprocessing()
    """Weights are random at first, and see images as ImageNet's are seen."""

    def __init__(
        self,
        backbone: str = "resnet50",
        method: Literal["simclr", "moco"] = "simclr",
        temperature: float | None = None,
        hidden_dim: int = 2048,
        output_dim: int = 128,
        queue_size: int = 65536,
        momentum: float = 0.999,
        optimizer: OptimizerCallable = lambda parameters: SGD(parameters, lr=0.03, momentum=0.9, weight_decay=1e-4),
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scaling: LRScaling = "none",
        decay_all: bool | None = None,
    ) -> None:
        super().__init__()
        if method not in ("simclr", "moco"):
            raise InputError(f"`method` must be 'simclr' or 'moco', got {method!r}")
        if temperature is not None and not temperature > 0:
            raise InputError(f"`temperature` must be above 0, got {temperature}")
        if queue_size < 1:
            raise InputError(f"`queue_size` must be at least 1, got {queue_size}")
        if not 0 <= momentum <= 1:
            raise InputError(f"`momentum` must be in [0, 1], got {momentum}")
        self.method = method
        self.momentum = momentum
        self.temperature = temperature or (0.5 if method == "simclr" else 0.2)
        self.optimizer = sendable(optimizer, self)
        self.lr_scheduler = lr_scheduler
        self.lr_scaling = lr_scaling
        self.decay_all = method == "moco" if decay_all is None else decay_all
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        self.backbone = create_backbone(backbone)
        # imported here: it takes two seconds, and yaml's class names are looked up with every module loaded
        from lightly.loss import NTXentLoss
        from lightly.models.modules import MoCoProjectionHead, SimCLRProjectionHead

        head = SimCLRProjectionHead if method == "simclr" else MoCoProjectionHead
        self.projection = head(self.backbone.num_features, hidden_dim, output_dim)
        if method == "simclr":
            self.nt_xent = NTXentLoss(self.temperature, gather_distributed=True)
            return
        self.key_backbone = create_backbone(backbone).requires_grad_(False)
        self.key_projection = head(self.backbone.num_features, hidden_dim, output_dim).requires_grad_(False)
        for query, key in self._pairs():
            key.load_state_dict(query.state_dict())
        self.register_buffer("queue", F.normalize(torch.randn(queue_size, output_dim), dim=1))
        self.register_buffer("queue_place", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        """Features ``[B, D]`` of images ``[B, 3, H, W]``."""
        features: Tensor = self.backbone(images)
        return features

    def training_step(self, batch: Views, batch_idx: int) -> Tensor:
        """The loss of a batch of two views."""
        first, second = batch[0]
        loss = self._simclr(first, second) if self.method == "simclr" else self._moco(first, second)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Does nothing: it is there so that callbacks that act after validation, such as KNNProbe, have their turn."""

    def _simclr(self, first: Tensor, second: Tensor) -> Tensor:
        projected = self.projection(self(torch.cat([first, second])))  # [2 B, output_dim]
        with torch.autocast(projected.device.type, enabled=False):
            loss: Tensor = self.nt_xent(*projected.float().chunk(2))
            return loss

    def _moco(self, first: Tensor, second: Tensor) -> Tensor:
        # the key encoder moves before it is used, so it follows the last step (He et al., algorithm 1)
        self._follow()
        queries = F.normalize(self.projection(self(first)).float(), dim=1)  # [B, output_dim]
        with torch.no_grad():
            keys = F.normalize(self._keys(second).float(), dim=1)
        with torch.autocast(queries.device.type, enabled=False):
            # the queue changes before the backward pass needs it
            loss = info_nce(queries, keys, self.queue.clone(), self.temperature)
        self._enqueue(keys)
        return loss

    def _pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.backbone, self.key_backbone), (self.projection, self.key_projection)]

    @torch.no_grad()
    def _follow(self) -> None:
        """Moves each weight of the key encoder towards the trained one: m k + (1 - m) q."""
        for query, key in self._pairs():
            for trained, following in zip(query.parameters(), key.parameters(), strict=True):
                following.lerp_(trained, 1 - self.momentum)

    def _keys(self, images: Tensor) -> Tensor:
        """Keys ``[B, output_dim]`` of this rank's images, computed beside images of other ranks."""
        world = self.trainer.world_size if self._trainer is not None else 1
        synchronised = any(isinstance(layer, nn.SyncBatchNorm) for layer in self.key_backbone.modules())
        if world == 1 or synchronised:
            keys: Tensor = self.key_projection(self.key_backbone(images))
            return keys
        # every rank draws the same order, and a resumed run the one that it would have drawn
        generator = torch.Generator().manual_seed(self.global_step)
        order = torch.randperm(world * len(images), generator=generator).to(images.device)
        rank = self.global_rank
        everybodys = cast(Tensor, self.all_gather(images)).flatten(0, 1)  # [world * B, 3, H, W]
        keys = self.key_projection(self.key_backbone(everybodys[order.view(world, -1)[rank]]))
        gathered = cast(Tensor, self.all_gather(keys)).flatten(0, 1)
        return gathered[order.argsort().view(world, -1)[rank]]

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        """Puts the keys of all ranks in place of the oldest."""
        everybodys = cast(Tensor, self.all_gather(keys)).reshape(-1, keys.shape[1])[-len(self.queue) :]
        places = (self.queue_place + torch.arange(len(everybodys), device=keys.device)) % len(self.queue)
        self.queue[places] = everybodys.to(self.queue.dtype)
        self.queue_place.add_(len(everybodys)).remainder_(len(self.queue))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser and schedule given, over backbone and projection head; the key encoder is frozen."""
        return build_optimizers(
            self,
            nn.ModuleList([self.backbone, self.projection]),
            self.optimizer,
            self.lr_scheduler,
            self.decay_all,
            self.lr_scaling,
        )


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Cross entropy of picking each query's own key among that and all of the queue (van den Oord et al., 2018).

    Args:
        queries: ``[B, D]``, of length 1.
        keys: ``[B, D]``, of length 1.
        queue: ``[K, D]``, of length 1.
        temperature: Above 0.

    Returns:
        The mean over the batch.

    Example:
        >>> one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> round(float(info_nce(one, one, other, 1.0)), 4)  # -log(e / (e + 1))
        0.3133
    """
    own = (queries * keys).sum(1, keepdim=True)
    logits = torch.cat([own, queries @ queue.T], 1) / temperature
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))
