"""Monitors the features of two views in self-supervised training, and warns of collapse."""

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
    """Logs alignment, uniformity and standard deviation of features, and warns if all images have the same features.

    The callback works with any module whose training batches begin with two views of each image. The network is the
    ``backbone`` of the module, or the module itself without one. It runs on the last batch again, in eval mode and
    without gradients. Means over ranks are logged as ``train/alignment``, ``train/uniformity`` and
    ``train/feature_std``.

    Args:
        every_n_steps: Number of training batches between measurements, at least 1.
        max_images: Number of images of a batch that are used, at least 2.
        collapse_below: Standard deviation below which features count as collapsed, from the second epoch on. SimCLR has
            values near 0.6; a network trained only to align views, without negatives, falls below 0.1 within a hundred
            steps.

    Raises:
        InputError: An argument is out of range, or the first batch does not contain two views.
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
        """Measures every ``every_n_steps`` batches, and on the last batch of each epoch."""
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
    """Computes the mean squared distance between two views of the same images; 0 is perfect.

    Follows Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere" (2020), equation 3 with an exponent of 2.

    Args:
        first: Features of the first views, of length 1, ``[B, D]``.
        second: Features of the second views, of length 1, ``[B, D]``.

    Example:
        >>> float(alignment(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])))
        2.0
    """
    return (first - second).square().sum(1).mean()


def uniformity(features: Tensor) -> Tensor:
    """Computes the logarithm of the mean Gaussian potential over pairs; 0 if all images are equal, lower is more even.

    Follows Wang and Isola (2020), equation 4 with t = 2.

    Args:
        features: Features of length 1, ``[B, D]``, with ``B`` at least 2.

    Example:
        >>> float(uniformity(torch.ones(3, 1)))
        0.0
    """
    return torch.pdist(features).square().mul(-2).exp().mean().log()


def feature_std(features: Tensor) -> Tensor:
    """Computes the mean over features of their standard deviation over images, times the square root of ``D``.

    The value is 0 if all images are equal and near 1 if features are spread evenly in all directions (Chen and He,
    "Exploring Simple Siamese Representation Learning", 2021, section 4.1).

    Args:
        features: Features of length 1, ``[B, D]``, with ``B`` at least 2.

    Example:
        >>> float(feature_std(torch.ones(3, 1)))
        0.0
    """
    spread: Tensor = features.std(0, correction=0).mean()
    return spread * math.sqrt(features.shape[1])
