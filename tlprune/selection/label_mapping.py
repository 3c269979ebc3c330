"""Label Mapping: each target image votes for the source class that the surrogate predicts.

Zhang et al., "Selectivity Drives Productivity", NeurIPS 2023 (arXiv 2310.08782), section 4.
"""

import time
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from tlprune.errors import InputError, require_within
from tlprune.selection.fixed_batches import BATCH_SIZE
from tlprune.selection.forward import FORWARD, Precision, require_precision
from tlprune.selection.ranking import rank_units
from tlprune.selection.selection import Selection
from tlprune.selection.selector import Selector, SourceImages, TargetImages
from tlprune.selection.votes import cast_votes, class_weights, count_votes

__all__ = ["LabelMapping"]


class LabelMapping(Selector):
    """Keeps the source classes that a small source classifier predicts most often on the target.

    The surrogate needs one output per source class, in the order of the classes. Classes are ranked by votes,
    then by the surrogate's probability summed over the target's training images, then by class id.

    Args:
        votes: ``hard`` counts one vote per image, as in the paper; ``soft`` splits an image's vote according to the
            surrogate's probabilities.
        balance: Whether every target class has the same total weight, regardless of its number of images.
        num_workers: Number of processes that load target images.
        precision: Precision of the surrogate: ``float32`` gives the same votes on every machine; ``bfloat16`` is faster
            on processors that support it, but changes the vote of one or two images in a hundred.

    Raises:
        InputError: If an argument is out of range.
    """

    method = "label_mapping"
    label = "Label Mapping"
    score_label = "soft votes"

    def __init__(
        self,
        votes: Literal["hard", "soft"] = "hard",
        balance: bool = False,
        num_workers: int = 0,
        precision: Precision = "float32",
    ) -> None:
        if votes not in ("hard", "soft"):
            raise InputError(f"`votes` must be 'hard' or 'soft', got {votes!r}")
        require_within("num_workers", num_workers, 0)
        require_precision(precision)
        self.votes = votes
        self.balance = balance
        if balance:
            self.needs = (*self.needs, "target_labels")
        self.num_workers = num_workers
        self.precision: Precision = precision

    @property
    def needs_images(self) -> bool:
        """False: classes are ranked by the surrogate's outputs on the target alone."""
        return False

    @property
    def options(self) -> dict[str, Any]:
        """Settings of the vote count, and the batch shape and precision of the forward pass."""
        return {
            "votes": self.votes,
            "balance": self.balance,
            "batch_size": BATCH_SIZE,
            "precision": self.precision,
            "forward": FORWARD,
        }

    def order(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None, cache: Path
    ) -> Selection:
        """Runs one forward pass over the target's training images and sorts the classes."""
        if target is None or surrogate is None:
            raise InputError("LabelMapping needs a target and a surrogate")
        begin = time.perf_counter()
        classes = len(source.classes)
        weights = class_weights(target.labels) if self.balance else None
        assignments = cast_votes(surrogate, target, classes, self.num_workers, weights, self.precision)
        votes = assignments.scores if self.votes == "soft" else count_votes(assignments.units, classes, weights)
        ranking = rank_units(votes, assignments.scores)
        return Selection(
            method=self.method,
            unit_names=tuple(source.classes),
            ranking=ranking,
            votes=votes,
            scores=assignments.scores,
            unit_of_sample=source.labels,
            assignments=assignments.units,
            metadata={"seconds": {"vote": time.perf_counter() - begin}},
        )

    def unit_features(self, source: SourceImages, surrogate: nn.Module | None, cache: Path) -> Tensor | None:
        """Returns each class's row of the surrogate's head, the direction in feature space that scores the class."""
        head = getattr(surrogate, "head", None)
        return head.weight.detach().float().cpu() if isinstance(head, nn.Linear) else None
