"""Label Mapping: each target image votes for the source class that the surrogate takes it for.

Zhang et al., "Selectivity Drives Productivity", NeurIPS 2023 (arXiv 2310.08782), section 4.
"""

import time
from typing import Any

from torch import nn

from tlprune.errors import InputError
from tlprune.selection.ballots import BATCH_SIZE, cast_ballots, count_votes
from tlprune.selection.manifest import Selection
from tlprune.selection.ranking import rank_units
from tlprune.selection.selector import Selector, SourceImages, TargetImages

__all__ = ["LabelMapping"]


class LabelMapping(Selector):
    """Keeps the source classes that a small source classifier most often sees in the target.

    The surrogate needs one output for each source class, in the order of the classes. Classes are ordered by votes,
    then by the surrogate's probability summed over the target's training images, then by class id.

    Args:
        num_workers: Processes that load target images.
    """

    method = "label_mapping"

    def __init__(self, num_workers: int = 0) -> None:
        self.num_workers = num_workers

    @property
    def options(self) -> dict[str, Any]:
        """The shape and precision that votes are computed in."""
        return {"batch_size": BATCH_SIZE, "precision": "float32"}

    def order(self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None) -> Selection:
        """One forward pass over the target's training images, then a sort."""
        if target is None or surrogate is None:
            raise InputError("LabelMapping needs a target and a surrogate")
        begin = time.perf_counter()
        classes = len(source.classes)
        ballots = cast_ballots(surrogate, target, classes, self.num_workers)
        votes = count_votes(ballots.units, classes)
        ranking = rank_units(votes, ballots.scores)
        return self._by_class(
            source,
            self.settings(source, target, surrogate),
            ranking,
            votes,
            ballots.scores,
            ballots=ballots.units,
            seconds={"vote": time.perf_counter() - begin},
        )
