"""How much to prune, read off the coverage curve, and a forecast of what that saves."""

from dataclasses import dataclass

import torch

from tlprune.errors import InputError
from tlprune.selection.selection import Selection

__all__ = ["SUGGESTED_COVERAGE", "Advice", "Forecast", "advise"]

SUGGESTED_COVERAGE = 0.99
"""The share of votes that a suggested ratio keeps: what is left out beyond it are single stray votes."""


@dataclass(frozen=True)
class Advice:
    """Two places on the coverage curve.

    Args:
        elbow: Units up to the elbow: the last that holds more than an average unit's share of the votes, so that each
            further one holds less than chance would give it.
        suggested: The fewest of the best units that hold :data:`SUGGESTED_COVERAGE` of the votes.
    """

    elbow: int
    suggested: int


def advise(selection: Selection) -> Advice:
    """Reads the coverage curve of a selection.

    The elbow is where the curve is farthest above the straight line of units that all hold the same share. It is the
    bold choice; the suggested number is the cautious one.

    Args:
        selection: Made with votes.

    Raises:
        InputError: Nobody voted.
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


@dataclass(frozen=True)
class Forecast:
    """What a pruned pretraining costs, held against the whole: saving = p - (S + L) / T, p counted in images.

    Args:
        surrogate_seconds: ``S``, training the surrogate.
        selection_seconds: ``L``, features, clustering and votes.
        full_seconds: ``T``, pretraining on the whole source.

    Raises:
        InputError: A time is negative, or ``T`` is not positive.

    Example:
        >>> forecast = Forecast(surrogate_seconds=40, selection_seconds=10, full_seconds=1000)
        >>> round(forecast.saving(0.3), 3), round(forecast.saving(0.3, reused=True), 3)
        (0.65, 0.69)
    """

    surrogate_seconds: float
    selection_seconds: float
    full_seconds: float

    def __post_init__(self) -> None:
        """Refuses what is no time."""
        if not self.full_seconds > 0 or self.surrogate_seconds < 0 or self.selection_seconds < 0:
            raise InputError(
                f"seconds must not be negative, and those of the whole pretraining must be above 0: got "
                f"{self.surrogate_seconds}, {self.selection_seconds} and {self.full_seconds}"
            )

    def seconds(self, share_kept: float, reused: bool = False) -> float:
        """What pruned pretraining costs, surrogate and selection paid.

        Args:
            share_kept: Of the source's images, in (0, 1].
            reused: Whether the surrogate is there already, as for a second target.
        """
        surrogate = 0.0 if reused else self.surrogate_seconds
        return surrogate + self.selection_seconds + share_kept * self.full_seconds

    def saving(self, share_kept: float, reused: bool = False) -> float:
        """The share of ``T`` that is saved; below 0 it costs more. Arguments as :meth:`seconds`."""
        return 1 - self.seconds(share_kept, reused) / self.full_seconds
