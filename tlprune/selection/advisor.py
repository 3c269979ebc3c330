"""Suggested prune ratio from the coverage curve, and a forecast of the savings."""

from dataclasses import dataclass

import torch

from tlprune.errors import InputError
from tlprune.selection.selection import UNIT_WORDS, Selection

__all__ = [
    "OF_A_HANDFUL",
    "SUGGESTED_COVERAGE",
    "Advice",
    "Forecast",
    "advise",
    "effective_units",
    "suggested_images",
    "vote_spread",
    "votes_for_a_handful",
]

SUGGESTED_COVERAGE = 0.99
"""Share of votes kept by a suggested ratio; the remaining votes are isolated stray votes."""


OF_A_HANDFUL = (
    "the source has hardly a relative of this target, or the surrogate hardly tells its images apart; chance may keep "
    "as much of use, and a surrogate that has seen the target may vote better"
)
"""What a vote for a handful of units means."""

_MANY_VOTERS, _HANDFUL = 100, 5


@dataclass(frozen=True)
class Advice:
    """Two points on the coverage curve.

    Args:
        elbow: Number of units up to the elbow, the last unit with more than the average share of the votes. Each
            further unit holds less than chance would give it.
        suggested: Smallest number of best units that hold :data:`SUGGESTED_COVERAGE` of the votes.
    """

    elbow: int
    suggested: int


def vote_spread(selection: Selection) -> str:
    """Says for how many units a target's images vote, and how evenly, by :func:`effective_units`."""
    voted, one, many = int((selection.votes > 0).sum()), *UNIT_WORDS[selection.unit_kind]
    text = f"{len(selection.assignments):,} target images vote for {voted:,} of {selection.num_units:,} "
    return f"{text}{one if selection.num_units == 1 else many}, as evenly as for {effective_units(selection):.1f}"


def votes_for_a_handful(selection: Selection) -> bool:
    """Returns whether a hundred images or more vote, of many units, for as good as fewer than five."""
    many = len(selection.assignments) >= _MANY_VOTERS and selection.num_units >= _HANDFUL**2
    return many and effective_units(selection) < _HANDFUL


def effective_units(selection: Selection) -> float:
    """Returns the number of units that would have the same entropy if their votes were equal, at least 1."""
    return float(2**selection.vote_entropy)


def advise(selection: Selection) -> Advice:
    """Finds the elbow and the suggested number of units on a selection's coverage curve.

    The elbow is the point farthest above the straight line of units with equal shares. It is the aggressive choice; the
    suggested number is the cautious one.

    Raises:
        InputError: If nobody voted.
    """
    if selection.method == "reverse":
        raise InputError("a reversed order keeps first what nobody votes for; ask the order that it reverses")
    covered = selection.covered
    if not covered[-1] > 0:
        raise InputError(f"a selection by {selection.method!r} has no votes, so there is no coverage to advise from")
    line = torch.arange(1, len(covered) + 1, dtype=torch.float64) / len(covered)
    suggested = min(int((covered < SUGGESTED_COVERAGE - 1e-9).sum()) + 1, len(covered))
    above = covered - line
    elbow = int((above > above.max() - 1e-9).nonzero()[0]) + 1
    return Advice(min(elbow, suggested), suggested)


def suggested_images(selection: Selection) -> int | None:
    """Returns the number of images at which similarity falls; None where it falls at none, or none was noted."""
    noted = selection.metadata.get("suggested_images")
    known = isinstance(noted, int) and not isinstance(noted, bool) and 1 <= noted < selection.num_units
    return noted if known and selection.unit_kind == "sample" else None


@dataclass(frozen=True)
class Forecast:
    """Cost of a pruned pretraining relative to the full one: saving = p - (S + L) / T, with p counted in images.

    Args:
        surrogate_seconds: Seconds ``S`` to train the surrogate.
        selection_seconds: Seconds ``L`` for features, clustering and votes.
        full_seconds: Seconds ``T`` to pretrain on the whole source.

    Raises:
        InputError: If a time is negative, or ``T`` is not positive.

    Example:
        >>> forecast = Forecast(surrogate_seconds=40, selection_seconds=10, full_seconds=1000)
        >>> round(forecast.saving(0.3), 3), round(forecast.saving(0.3, reused=True), 3)
        (0.65, 0.69)
    """

    surrogate_seconds: float
    selection_seconds: float
    full_seconds: float

    def __post_init__(self) -> None:
        if not self.full_seconds > 0 or self.surrogate_seconds < 0 or self.selection_seconds < 0:
            raise InputError(
                f"seconds must not be negative, and those of the whole pretraining must be above 0: got "
                f"{self.surrogate_seconds}, {self.selection_seconds} and {self.full_seconds}"
            )

    def seconds(self, share_kept: float, reused: bool = False) -> float:
        """Computes the seconds of pruned pretraining, including surrogate and selection.

        Args:
            share_kept: Share of the source's images, in (0, 1].
            reused: Whether an existing surrogate is reused, as for a second target.
        """
        surrogate = 0.0 if reused else self.surrogate_seconds
        return surrogate + self.selection_seconds + share_kept * self.full_seconds

    def saving(self, share_kept: float, reused: bool = False) -> float:
        """Computes the saved share of ``T``; negative if pruning costs more. See :meth:`seconds` for the arguments."""
        return 1 - self.seconds(share_kept, reused) / self.full_seconds
