"""Transfers without gradient descent: a backbone is scored by its features of a target, by a classifier of its own."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from tlprune.data.image_size import ImageSize
from tlprune.data.shots import few_of_each_class, read_shots
from tlprune.data.target_splits import TargetSplits
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.errors import InputError, did_you_mean, require_within
from tlprune.experiments.results import Score
from tlprune.models.weights import load_backbone, read_weights
from tlprune.selection.features import extract_features

__all__ = ["FrozenTransfer", "Labelled"]


class Labelled(NamedTuple):
    """Features of one part of a target.

    Args:
        features: Tensor ``[n, D]`` float32.
        labels: Int64 tensor ``[n]``.
    """

    features: Tensor
    labels: Tensor


@dataclass(frozen=True)
class FrozenTransfer(ABC):
    """A mode of transfer that fits a classifier to the features of a target's training images.

    Args:
        shots: Labelled training images per class, at least 1; None uses all. A class with fewer gives all of them.

    Raises:
        InputError: If an argument is out of range.
    """

    key: ClassVar[str]
    """Name of the options in the key of a sweep's stage."""

    shots: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.shots is not None:
            require_within("shots", self.shots, 1)

    @abstractmethod
    def classify(self, train: Labelled, val: Labelled, test: Labelled) -> tuple[float, float]:
        """Returns the accuracy on validation and test images, in [0, 1]."""

    @classmethod
    def read(cls, mode: str, options: Mapping[str, Any]) -> Self:
        """Builds a transfer from the options that a sweep's config gives in place of a training config.

        Args:
            mode: Name of the mode, for messages.
            options: Arguments of the class by name.

        Raises:
            InputError: If an option is unknown, of another type, or out of range.
        """
        known = asdict(cls())
        for name, value in options.items():
            if name not in known:
                raise InputError(f"transfer {mode!r} has no option {name!r}: {did_you_mean(name, known)}")
            expected = int | float if isinstance(known[name], float) else int
            if isinstance(known[name], str) or name == "shots":
                continue
            if isinstance(value, bool) or not isinstance(value, expected):
                raise InputError(f"transfer {mode!r}: `{name}` must be a number, got {value!r}")
        try:
            shots = None if options.get("shots") is None else read_shots(options["shots"])
            return cls(**{**options, "shots": shots})
        except InputError as error:
            raise InputError(f"transfer {mode!r}: {error}") from error

    @property
    def as_json(self) -> dict[str, Any]:
        """Options as JSON values, as reports show them; all training images are not mentioned."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("shots", None)}

    def score(self, weights: Path, target: TargetSplits, seed: int = 0) -> Score:
        """Scores a backbone on a target.

        Args:
            weights: Weights of the backbone, with the preprocessing that they expect.
            target: Downstream set.
            seed: Seed of the choice of ``shots`` images per class.

        Raises:
            InputError: If the target has no test images.
        """
        begin = time.perf_counter()
        if target.test is None:
            raise InputError(f"target {target.name}: no test images to score")
        saved = read_weights(weights)
        backbone = load_backbone(saved).to("cuda" if torch.cuda.is_available() else "cpu")
        size = ImageSize(None, target.image_size).expected(saved.preprocessing)
        view = EvalTransform(size, saved.preprocessing)
        labelled = target.train
        if self.shots is not None:
            labelled = labelled.subset(few_of_each_class(labelled.labels, self.shots, seed))
        train, val, test = (
            Labelled(extract_features(backbone, TransformedDataset(part, view)), part.labels)
            for part in (labelled, target.val, target.test)
        )
        on_val, on_test = self.classify(train, val, test)
        return Score(val=100 * on_val, test=100 * on_test, seconds=time.perf_counter() - begin)
