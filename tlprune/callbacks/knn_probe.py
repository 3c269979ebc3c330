"""Monitors pretraining with a nearest-neighbour classifier on the target."""

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from numpy.typing import NDArray
from torch import Tensor, nn

from tlprune.data.target_splits import TargetSplits, check_target, open_target
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import MAX_SIZE, EvalTransform
from tlprune.errors import InputError, OfLightning, require_extra, require_within
from tlprune.preprocessing import Preprocessing
from tlprune.selection.features import extract_features

__all__ = ["KNNProbe", "knn_accuracy"]


class KNNProbe(OfLightning, Callback):
    """Logs the accuracy of nearest-neighbour classification of a target's validation images by its training images.

    The probe runs after each validation, or after each training epoch without validation; a ``ModelCheckpoint`` may
    monitor its metric. The network is the ``backbone`` of the module, or the module itself without one, in eval mode.
    Images have the preprocessing of the weights if the module is one of tlprune. Test images are not used. All ranks
    share the work and log the same value.

    Args:
        target: Name or path of the target, as in :func:`tlprune.data.target_splits.open_target`.
        num_neighbours: Number of nearest training images that vote for the class of an image, at least 1.
        temperature: Temperature of the votes, above 0.
        every_n_epochs: Number of training epochs between probes, at least 1; the last epoch is always probed.
        image_size: Height and width in pixels; None for the size of the weights if known, else that of the target.
        target_seed: Seed of the split of a target that has no split of its own.
        num_workers: Number of loading processes.
        metric: Name of the logged metric, whose values are in [0, 1].

    Raises:
        InputError: There is no such target, or an argument is out of range.
    """

    def __init__(
        self,
        target: str | TargetSplits = "digits",
        num_neighbours: int = 20,
        temperature: float = 0.1,
        every_n_epochs: int = 1,
        image_size: int | None = None,
        target_seed: int = 0,
        num_workers: int = 0,
        metric: str = "val/knn_accuracy",
    ) -> None:
        if isinstance(target, str):
            check_target(target)
        require_within("num_neighbours", num_neighbours, 1)
        require_within("every_n_epochs", every_n_epochs, 1)
        require_within("num_workers", num_workers, 0)
        if image_size is not None:
            require_within("image_size", image_size, 1, MAX_SIZE)
        if not temperature > 0:
            raise InputError(f"`temperature` must be above 0, got {temperature}")
        self.target = target
        self.num_neighbours = num_neighbours
        self.temperature = temperature
        self.every_n_epochs = every_n_epochs
        self.image_size = image_size
        self.target_seed = target_seed
        self.num_workers = num_workers
        self.metric = metric
        self._opened: TargetSplits | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Opens the target before training starts.

        Raises:
            InputError: The target is invalid, or scikit-learn is not installed.
        """
        require_extra(type(self).__name__, "scikit-learn", "sklearn", "sweep")
        if isinstance(self.target, str):
            self._opened = open_target(self.target, self.target_seed)
        else:
            self._opened = self.target
        self._opened.require_labels(type(self).__name__)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs the probe after a validation."""
        if not trainer.sanity_checking:
            self._probe(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs the probe after an epoch without validation."""
        if not trainer.num_val_batches or not sum(trainer.num_val_batches):
            self._probe(trainer, pl_module)

    def _probe(self, trainer: Trainer, pl_module: LightningModule) -> None:
        done = trainer.current_epoch + 1
        if trainer.state.fn == TrainerFn.FITTING and done % self.every_n_epochs and done != trainer.max_epochs:
            return
        if self._opened is None:
            raise RuntimeError("setup() has not run")
        network: nn.Module = getattr(pl_module, "backbone", pl_module)
        declared = getattr(pl_module, "preprocessing", None)
        expected = declared if isinstance(declared, Preprocessing) else Preprocessing()
        view = EvalTransform(self.image_size or expected.image_size or self._opened.image_size, expected)
        parts = self._opened.train, self._opened.val
        bank, queries = (extract_features(network, TransformedDataset(part, view), self.num_workers) for part in parts)
        labels = self._opened.train.labels, self._opened.val.labels
        accuracy = knn_accuracy(bank, labels[0], queries, labels[1], self.num_neighbours, self.temperature)
        pl_module.log(self.metric, torch.tensor(accuracy), prog_bar=True, sync_dist=True)


def knn_accuracy(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor, num_neighbours: int, temperature: float
) -> float:
    """Computes the share of queries that their nearest features in a bank classify correctly.

    A neighbour with cosine similarity ``s`` has ``exp(s / temperature)`` votes (Wu et al., "Unsupervised Feature
    Learning via Non-Parametric Instance Discrimination", 2018, section 3.4).

    Args:
        bank: Features of the bank, ``[N, D]``.
        bank_labels: Labels of the bank, ``[N]`` int64.
        queries: Features of the queries, ``[M, D]``, with ``M`` at least 1.
        query_labels: Labels of the queries, ``[M]`` int64.
        num_neighbours: Number of neighbours, at least 1; limited to ``N``.
        temperature: Temperature, above 0.

    Returns:
        The accuracy, in [0, 1].

    Example:
        >>> bank = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> knn_accuracy(bank, torch.tensor([0, 0, 1]), bank, torch.tensor([0, 1, 1]), 1, 0.1)
        0.6666666666666666
    """
    from sklearn.neighbors import KNeighborsClassifier

    def votes(distances: NDArray[np.float32]) -> NDArray[np.float32]:
        # similarity is 1 - distance; a common factor for all neighbours of an image has no effect
        closer: NDArray[np.float32] = np.exp((distances.min(axis=1, keepdims=True) - distances) / temperature)
        return closer

    count = min(num_neighbours, len(bank))
    classifier = KNeighborsClassifier(count, weights=votes, metric="cosine", algorithm="brute")
    classifier.fit(bank.numpy(), bank_labels.numpy())
    return float(classifier.score(queries.numpy(), query_labels.numpy()))
