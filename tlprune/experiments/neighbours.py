"""The k nearest neighbours as a transfer: a backbone is scored without training anything."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tlprune.callbacks.knn_probe import knn_accuracy
from tlprune.data.image_size import ImageSize
from tlprune.data.target_splits import TargetSplits
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.errors import InputError, did_you_mean, require_within
from tlprune.experiments.results import Score
from tlprune.models.weights import load_backbone, read_weights
from tlprune.selection.features import extract_features

__all__ = ["Neighbours"]


@dataclass(frozen=True)
class Neighbours:
    """A mode of transfer: the classes of the nearest training images vote for the class of an image.

    A neighbour of cosine similarity ``s`` has ``exp(s / temperature)`` votes (Wu et al., 2018, section 3.4).

    Args:
        num_neighbours: Neighbours that vote, at least 1.
        temperature: Of their votes, above 0.

    Raises:
        InputError: An argument is out of range.
    """

    num_neighbours: int = 20
    temperature: float = 0.1

    def __post_init__(self) -> None:
        """Refuses what is out of range."""
        require_within("num_neighbours", self.num_neighbours, 1)
        if not self.temperature > 0:
            raise InputError(f"`temperature` must be above 0, got {self.temperature}")

    @classmethod
    def read(cls, mode: str, options: Mapping[str, Any]) -> "Neighbours":
        """Reads the options that a sweep's config gives in place of a training config.

        Args:
            mode: The mode of transfer, for messages.
            options: Any of the class's arguments by name.

        Raises:
            InputError: An option is unknown, no number, or out of range.
        """
        known = asdict(cls())
        for name, value in options.items():
            if name not in known:
                raise InputError(f"transfer {mode!r} has no option {name!r}: {did_you_mean(name, known)}")
            if isinstance(value, bool) or not isinstance(value, int if name == "num_neighbours" else int | float):
                raise InputError(f"transfer {mode!r}: `{name}` must be a number, got {value!r}")
        return cls(**options)

    @property
    def as_json(self) -> dict[str, Any]:
        """The options as JSON values: what decides the outcome, and what reports show."""
        return asdict(self)

    def score(self, weights: Path, target: TargetSplits) -> Score:
        """Classifies validation and test images by their nearest training images.

        Args:
            weights: Of the backbone, with how they expect images.
            target: The downstream set.

        Raises:
            InputError: The target has no test part.
        """
        begin = time.perf_counter()
        if target.test is None:
            raise InputError(f"target {target.name}: no test images to score")
        saved = read_weights(weights)
        backbone = load_backbone(saved).to("cuda" if torch.cuda.is_available() else "cpu")
        size = ImageSize(None, target.image_size).expected(saved.preprocessing)
        view = EvalTransform(size, saved.preprocessing)
        parts = (target.train, target.val, target.test)
        bank, val, test = (extract_features(backbone, TransformedDataset(part, view)) for part in parts)
        vote = (self.num_neighbours, self.temperature)
        return Score(
            val=100 * knn_accuracy(bank, target.train.labels, val, target.val.labels, *vote),
            test=100 * knn_accuracy(bank, target.train.labels, test, target.test.labels, *vote),
            seconds=time.perf_counter() - begin,
        )
