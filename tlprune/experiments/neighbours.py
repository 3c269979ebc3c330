"""The k nearest neighbours as a transfer: a backbone is scored without training anything."""

from dataclasses import dataclass
from typing import ClassVar

from tlprune.callbacks.knn_probe import knn_accuracy
from tlprune.errors import InputError, require_within
from tlprune.experiments.frozen_transfers import FrozenTransfer, Labelled

__all__ = ["Neighbours"]


@dataclass(frozen=True)
class Neighbours(FrozenTransfer):
    """A mode of transfer: the classes of the nearest training images vote for the class of an image.

    A neighbour of cosine similarity ``s`` has ``exp(s / temperature)`` votes (Wu et al., 2018, section 3.4).

    Args:
        num_neighbours: Number of neighbours that vote, at least 1.
        temperature: Temperature of their votes, above 0.
        shots: Labelled training images per class, at least 1; None uses all.

    Raises:
        InputError: If an argument is out of range.
    """

    key: ClassVar[str] = "neighbours"

    num_neighbours: int = 20
    temperature: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within("num_neighbours", self.num_neighbours, 1)
        if not self.temperature > 0:
            raise InputError(f"`temperature` must be above 0, got {self.temperature}")

    def classify(self, train: Labelled, val: Labelled, test: Labelled) -> tuple[float, float]:
        """Returns the accuracy of the neighbours' vote on validation and test images, in [0, 1]."""
        vote = (self.num_neighbours, self.temperature)
        on_val = knn_accuracy(train.features, train.labels, val.features, val.labels, *vote)
        return on_val, knn_accuracy(train.features, train.labels, test.features, test.labels, *vote)
