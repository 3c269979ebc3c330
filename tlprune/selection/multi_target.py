"""Several targets at once: their orders of the same units become one, so that one pruned source serves them all."""

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
"""``worst_case``: the next unit is always the best of the target that is covered least so far; ``union``: a unit ranks
where the target that wants it most ranks it, so that the best k of any target are in the first T k; ``weighted_sum``:
by the weighted sum of each target's vote shares. A target without votes has its ranks counted in their place."""


@dataclass(frozen=True)
class MultiTarget:
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
            selections: Of the same units, one for each target.

        Returns:
            A selection with all assignments, target by target, and ``target_votes``. Its votes are the targets'
            weighted vote shares times the number of all voters; its scores are the weighted means of the targets'
            scores for one voter. A target without votes counts by its ranks: in place of vote shares, its units have
            shares that fall evenly from its best to its last.

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
        rankings = torch.stack([one.ranking for one in selections])
        target_votes = torch.stack([one.votes for one in selections])
        voted = target_votes.sum(1) > 0
        # a selector may count votes and say nothing of who cast them
        voters = [len(one.assignments) or float(one.votes.sum()) for one in selections]
        shares = target_votes / target_votes.sum(1, keepdim=True).where(voted[:, None], torch.tensor(1.0).double())
        votes = (weights * shares).sum(0) * sum(voters)
        # of units that many voters share, a score is a sum over all voters; of single images it is not
        divisors = [1.0] * len(voters) if first.unit_kind == "sample" else [max(count, 1) for count in voters]
        scores = torch.stack([one.scores / divisor for one, divisor in zip(selections, divisors, strict=True)])
        scores = (weights * scores).sum(0)
        points = _points(rankings)
        by_votes = voted & (first.unit_kind != "sample")  # votes for single images are too few to rank all of them
        wanted = torch.where(by_votes[:, None], shares, points / points[0].sum())
        if bool(by_votes.all()):
            merit = votes
        else:  # whole numbers where nobody voted and all targets count the same, so that equal sums are equal
            merit = (weights * wanted if bool(by_votes.any()) else given[:, None] / given.max() * points).sum(0)
        if self.how == "union":
            ranking = _union(rankings, merit)
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
    """What ranks are worth, ``[T, U]`` float64: ``U`` for a target's best unit, 1 for its last (Borda's count)."""
    return rankings.shape[1] - rankings.argsort(1).double()


def _asked_by(selections: Sequence[Selection], rankings: Tensor) -> Tensor:
    """The target image that each unit is kept for: that of the target which ranks the unit best, ``[U]`` or empty."""
    if any(len(one.asked_by) == 0 for one in selections):
        return torch.empty(0)
    before = torch.tensor([0, *(len(one.assignments) for one in selections)])[:-1].cumsum(0)
    asked_by = torch.stack([one.asked_by + start for one, start in zip(selections, before, strict=True)])
    return asked_by.gather(0, rankings.argsort(1).argmin(0, keepdim=True))[0]


def _union(rankings: Tensor, merit: Tensor) -> Tensor:
    """By the best rank that any target gives a unit, then by votes, then by id; ``rankings`` is ``[T, U]``."""
    ranks = rankings.argsort(1)
    return rank_units(-ranks.amin(0), merit)


def _worst_case(rankings: Tensor, shares: Tensor, merit: Tensor, scores: Tensor) -> Tensor:
    """Always the next unit of the target that is covered least; ``rankings`` and ``shares`` are ``[T, U]``."""
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
