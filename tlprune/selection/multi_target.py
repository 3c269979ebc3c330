"""Combination of several targets: their rankings of the same units are merged, so one pruned source serves all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from tlprune.errors import InputError
from tlprune.selection.ranking import rank_units
from tlprune.selection.selection import Selection

__all__ = ["Combination", "MultiTarget"]

Combination = Literal["worst_case", "union", "weighted_sum"]
"""Rule that combines several targets.

``worst_case``: always takes the best remaining unit of the least covered target.
``union``: gives a unit its best rank over all targets, so the best k of any target are among the first T k.
``weighted_sum``: ranks by the weighted sum of the targets' vote shares.

For a target without votes, ranks replace vote shares.
"""


@dataclass(frozen=True)
class MultiTarget:
    """Rule that combines several targets into one order. Targets count equally, regardless of their number of images.

    Args:
        how: Combination rule, see :data:`Combination`.
        weights: Weight of each target, at least 0, only for ``weighted_sum``; None gives all targets the same weight.

    Raises:
        InputError: If a weight is negative or not finite, all are 0, or weights are given to a rule that ignores them.
    """

    how: Combination = "worst_case"
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
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
        """Settings as JSON values."""
        return {"combine": self.how, "weights": None if self.weights is None else list(self.weights)}

    def combine(self, selections: Sequence[Selection]) -> Selection:
        """Merges the orders of all targets into one.

        Args:
            selections: Selections of the same units, one per target.

        Returns:
            Selection with all assignments, concatenated over targets, and ``target_votes``. Its votes are the targets'
            weighted vote shares times the total number of voters; its scores are the weighted means of the targets'
            scores per voter. For a target without votes, vote shares are replaced by shares that decrease evenly from
            its best unit to its last.

        Raises:
            InputError: If the numbers of weights and targets differ, or the selections rank different units.
        """
        first = selections[0]
        if self.weights is not None and len(self.weights) != len(selections):
            raise InputError(f"`target_weights` has {len(self.weights)} entries, there are {len(selections)} targets")
        if any(not torch.equal(first.unit_of_sample, other.unit_of_sample) for other in selections):
            raise InputError("these selections rank different units, so they have no common order")
        given = torch.tensor(self.weights or (1.0,) * len(selections), dtype=torch.float64)
        weights = (given / given.max() / (given / given.max()).sum())[:, None]
        rankings = torch.stack([one.ranking for one in selections])
        target_votes = torch.stack([one.votes for one in selections])
        voted = target_votes.sum(1) > 0
        # A selector may count votes without recording who cast them
        voters = [len(one.assignments) or float(one.votes.sum()) for one in selections]
        shares = target_votes / target_votes.sum(1, keepdim=True).where(voted[:, None], torch.tensor(1.0).double())
        votes = (weights * shares).sum(0) * sum(voters)
        # For units with many voters a score is a sum over all voters, for single images it is not
        divisors = [1.0] * len(voters) if first.unit_kind == "sample" else [max(count, 1) for count in voters]
        scores = torch.stack([one.scores / divisor for one, divisor in zip(selections, divisors, strict=True)])
        scores = (weights * scores).sum(0)
        points = _points(rankings)
        by_votes = voted & (first.unit_kind != "sample")  # single images get too few votes to rank all of them
        wanted = torch.where(by_votes[:, None], shares, points / points[0].sum())
        if bool(by_votes.all()):
            merit = votes
        else:  # whole numbers if nobody voted and all targets have the same weight, so that equal sums stay equal
            merit = (weights * wanted if bool(by_votes.any()) else given[:, None] / given.max() * points).sum(0)
        if self.how == "union":
            ranking = rank_units(-rankings.argsort(1).amin(0), merit)
        elif self.how == "worst_case":
            ranking = _worst_case(rankings, wanted, merit, scores)
        else:
            ranking = rank_units(merit, scores)
        seconds = [one.metadata.get("seconds", {}) for one in selections]
        return replace(
            first,
            ranking=ranking,
            votes=votes,
            scores=scores,
            assignments=torch.cat([one.assignments for one in selections]),
            target_votes=target_votes,
            covers_each_target=self.how != "weighted_sum",
            asked_by=_asked_by(selections, rankings),
            metadata={"seconds": {stage: sum(one.get(stage, 0.0) for one in seconds) for stage in seconds[0]}},
        )


def _points(rankings: Tensor) -> Tensor:
    """Computes Borda points of ranks, ``[T, U]`` float64: ``U`` for a target's best unit, 1 for its last."""
    return rankings.shape[1] - rankings.argsort(1).double()


def _asked_by(selections: Sequence[Selection], rankings: Tensor) -> Tensor:
    """Returns the target image each unit is kept for, from the target that ranks it best, ``[U]`` or empty."""
    if any(len(one.asked_by) == 0 for one in selections):
        return torch.empty(0)
    before = torch.tensor([0, *(len(one.assignments) for one in selections)])[:-1].cumsum(0)
    asked_by = torch.stack([one.asked_by + start for one, start in zip(selections, before, strict=True)])
    return asked_by.gather(0, rankings.argsort(1).argmin(0, keepdim=True))[0]


def _worst_case(rankings: Tensor, shares: Tensor, merit: Tensor, scores: Tensor) -> Tensor:
    """Takes the next unit of the least covered target in turn; ``rankings`` and ``shares`` are ``[T, U]``."""
    queues = [iter(ranking) for ranking in rankings.tolist()]
    of_unit = shares.T.tolist()
    covered = [0.0] * len(queues)
    taken: dict[int, None] = {}
    while (low := min(covered)) < 1 - 1e-9 and len(taken) < len(of_unit):
        least = next(target for target, share in enumerate(covered) if share < low + 1e-9)
        unit = next(unit for unit in queues[least] if unit not in taken)
        taken[unit] = None
        covered = [share + more for share, more in zip(covered, of_unit[unit], strict=True)]
    rest = [unit for unit in rank_units(merit, scores).tolist() if unit not in taken]
    return torch.tensor([*taken, *rest])
