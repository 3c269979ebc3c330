"""What is said of one unit of a Selection."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Explanation"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Rank of a unit and the images that voted for it.

    Args:
        rank: Rank of the unit, starting at 1 for the best.
        votes: Number of votes for the unit.
        score: Score that breaks ties between equal votes.
        samples: Int64 tensor ``[n]`` of the unit's source samples.
        voters: Int64 tensor ``[m]`` of the target images that voted for the unit.
    """

    rank: int
    votes: float
    score: float
    samples: Tensor
    voters: Tensor
