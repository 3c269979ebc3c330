"""Several targets at once: their orders of the same units become one, so that one pruned source serves them all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from tlprune.errors import InputError
from tlprune.selection.manifest import Selection
from tlprune.selection.ranking import rank_units

__all__ = ["Combination", "SeveralTargets"]

Combination = Literal["worst_case", "union", "weighted_sum"]
"""``worst_case``: the next unit is always the best of the target that is covered least so far; ``union``: a unit ranks
where the target that wants it most ranks it, so that the best k of any target are in the first T k; ``weighted_sum``:
by the weighted sum of each target's vote shares."""


@dataclass(frozen=True)
class SeveralTargets:
    """How several targets share one order. Every target counts the same, however many images it has.

    Args:
        how: See :data:`Combination`.
        weights: What each target counts, at least 0 each, for ``weighted_sum`` alone; None counts all the same.

    Raises:
        InputError: A weight is negative or not finite, all are 0, or there are weights where none are used.
    """

    how: Combination = "worst_case"
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuses what is out of range, by name."""
        if self.how not in ("worst_case", "union", "weighted_sum"):
            raise InputError(f"`combine` must be 'worst_case', 'union' or 'weighted_sum', got {self.how!r}")
        if self.weights is None:
            return
        if self.how != "weighted_sum":
            raise InputError(f"`target_weights` go with `combine: weighted_sum`, not with {self.how!r}")
        finite = all(0 <= weight < float("inf") for weight in self.weights)
        if not finite or not sum(self.weights) > 0:
            raise InputError(f"`target_weights` must be at least 0 and not all 0, got {list(self.weights)}")

    @property
    def options(self) -> dict[str, Any]:
        """As JSON values."""
        return {"combine": self.how, "weights": None if self.weights is None else list(self.weights)}

    def combine(self, selections: Sequence[Selection]) -> Selection:
        """One order out of one for each target.

        Args:
            selections: Of the same units, one for each target, each with votes.

        Returns:
            A selection with all ballots, target by target, and ``target_votes``. Its votes are the targets' weighted
            vote shares times the number of all voters; its scores are the weighted means of the targets' scores for
            one voter.

        Raises:
            InputError: The number of weights differs from that of targets, or the selections rank different units.
        """
        first = selections[0]
        if self.weights is not None and len(self.weights) != len(selections):
            raise InputError(f"`target_weights` has {len(self.weights)} entries, there are {len(selections)} targets")
        if any(not torch.equal(first.unit_of_sample, other.unit_of_sample) for other in selections):
            raise InputError("these selections rank different units, so they have no common order")
        given = torch.tensor(self.weights or (1.0,) * len(selections), dtype=torch.float64)
        weights = (given / given.max() / (given / given.max()).sum())[:, None]
        target_votes = torch.stack([one.votes for one in selections])
        shares = target_votes / target_votes.sum(1, keepdim=True)
        voters = sum(len(one.ballots) for one in selections)
        votes = (weights * shares).sum(0) * voters
        scores = (weights * torch.stack([one.scores / max(len(one.ballots), 1) for one in selections])).sum(0)
        rankings = torch.stack([one.ranking for one in selections])
        if self.how == "union":
            ranking = _union(rankings, votes)
        elif self.how == "worst_case":
            ranking = _worst_case(rankings, shares, votes, scores)
        else:
            ranking = rank_units(votes, scores)
        seconds = [one.record.get("seconds", {}) for one in selections]
        return replace(
            first,
            ranking=ranking,
            votes=votes,
            scores=scores,
            ballots=torch.cat([one.ballots for one in selections]),
            target_votes=target_votes,
            covers_each_target=self.how != "weighted_sum",
            record={"seconds": {stage: sum(one.get(stage, 0.0) for one in seconds) for stage in seconds[0]}},
        )


def _union(rankings: Tensor, votes: Tensor) -> Tensor:
    """By the best rank that any target gives a unit, then by votes, then by id; ``rankings`` is ``[T, U]``."""
    ranks = rankings.argsort(1)
    return rank_units(-ranks.amin(0), votes)


def _worst_case(rankings: Tensor, shares: Tensor, votes: Tensor, scores: Tensor) -> Tensor:
    """Always the next unit of the target that is covered least; ``rankings`` and ``shares`` are ``[T, U]``."""
    queues = [iter(ranking) for ranking in rankings.tolist()]
    covered = torch.zeros(len(rankings), dtype=torch.float64)
    taken: dict[int, None] = {}
    while bool((covered < 1 - 1e-9).any()):
        least = int((covered < covered.min() + 1e-9).nonzero()[0])
        unit = next(unit for unit in queues[least] if unit not in taken)
        taken[unit] = None
        covered += shares[:, unit]
    rest = [unit for unit in rank_units(votes, scores).tolist() if unit not in taken]
    return torch.tensor([*taken, *rest])
