"""Watches what two views of an image look like to a network that learns without labels, and warns of collapse."""

import math
from collections.abc import Sequence
from typing import Any
from warnings import warn

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from tlprune.errors import InputError, OfLightning, require_within
from tlprune.selection.forward import running

__all__ = ["RepresentationMonitor", "alignment", "feature_std", "uniformity"]


class RepresentationMonitor(OfLightning, Callback):
    """Logs alignment, uniformity and standard deviation of features, and warns when all images look the same.

    For any module whose training batches begin with two views of each image. The network is the module's
    ``backbone``, or the module itself where it has none; it looks at the last batch again, in eval mode, without
    gradients. Means over ranks are logged as ``train/alignment``, ``train/uniformity`` and ``train/feature_std``.

    Args:
        every_n_steps: Training batches between two looks, at least 1.
        max_images: Images of a batch that are looked at, at least 2.
        collapse_below: Standard deviation below which features have collapsed; looked at from the second epoch on.
            Those of SimCLR are near 0.6 here; those of a network that is trained to bring views together, without
            anything to hold others apart, fall below 0.1 within a hundred steps.

    Raises:
        InputError: An argument is out of range; or the first batch does not hold two views.
    """

    def __init__(self, every_n_steps: int = 50, max_images: int = 256, collapse_below: float = 0.1) -> None:
        require_within("every_n_steps", every_n_steps, 1)
        require_within("max_images", max_images, 2)
        if not collapse_below >= 0:
            raise InputError(f"`collapse_below` must be at least 0, got {collapse_below}")
        self.every_n_steps = every_n_steps
        self.max_images = max_images
        self.collapse_below = collapse_below
        self._collapsed = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Any, batch_idx: int
    ) -> None:
        """Looks at every so many batches, and at the last of each epoch."""
        views = _views(batch)
        if (batch_idx + 1) % self.every_n_steps and batch_idx + 1 != trainer.num_training_batches:
            return
        network: nn.Module = getattr(pl_module, "backbone", pl_module)
        with running(network, fold=False) as run:
            first, second = (F.normalize(run(view[: self.max_images]), dim=1) for view in views)
        if len(first) < 2:
            return
        spread = feature_std(first)
        pl_module.log_dict(
            {
                "train/alignment": alignment(first, second),
                "train/uniformity": uniformity(first),
                "train/feature_std": spread,
            },
            sync_dist=True,
            batch_size=len(first),
        )
        collapsed = float(spread) < self.collapse_below and trainer.current_epoch > 0
        if collapsed and not self._collapsed and trainer.is_global_zero:
            warn(
                f"features collapse: their standard deviation is {float(spread):.2g} in epoch {trainer.current_epoch} "
                f"(below {self.collapse_below}), so all images look the same to the network; a lower learning rate, a "
                f"longer warm-up or a higher temperature may help",
                stacklevel=2,
            )
        self._collapsed = collapsed


def _views(batch: object) -> tuple[Tensor, Tensor]:
    views = batch[0] if isinstance(batch, Sequence) and len(batch) else None
    if isinstance(views, Sequence) and len(views) >= 2 and all(isinstance(view, Tensor) for view in views[:2]):
        return views[0], views[1]
    raise InputError(
        "RepresentationMonitor needs batches that begin with two views; set `augment` of the DataModule to 'simclr' or "
        "'moco'"
    )


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance of two views of the same images; 0 is perfect.

    Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere" (2020), equation 3 with an exponent of 2.

    Args:
        first: ``[B, D]``, of length 1.
        second: ``[B, D]``, of length 1.

    Example:
        >>> float(alignment(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])))
        2.0
    """
    return (first - second).square().sum(1).mean()


def uniformity(features: Tensor) -> Tensor:
    """Logarithm of the mean Gaussian potential of all pairs of images; 0 where all are alike, lower is more even.

    Wang and Isola (2020), equation 4 with t = 2.

    Args:
        features: ``[B, D]``, of length 1, ``B`` at least 2.

    Example:
        >>> float(uniformity(torch.ones(3, 1)))
        0.0
    """
    return torch.pdist(features).square().mul(-2).exp().mean().log()


def feature_std(features: Tensor) -> Tensor:
    """Standard deviation of a feature over images, times the square root of their number, averaged over features.

    0 where all images are alike, near 1 where features spread evenly in all directions (Chen and He, "Exploring Simple
    Siamese Representation Learning", 2021, section 4.1).

    Args:
        features: ``[B, D]``, of length 1, ``B`` at least 2.

    Example:
        >>> float(feature_std(torch.ones(3, 1)))
        0.0
    """
    spread: Tensor = features.std(0, correction=0).mean()
    return spread * math.sqrt(features.shape[1])
