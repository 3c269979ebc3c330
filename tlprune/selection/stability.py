"""How much of what is kept hangs on which target images there are: a bootstrap of the votes."""

from dataclasses import dataclass

import numpy as np
import torch

from tlprune.selection.ranking import rank_units
from tlprune.selection.selection import Selection

__all__ = ["Stability", "stability"]

_DRAWS = 200
_MOST_UNITS = 20_000
"""More units have a few votes each at most, and a draw says little of them."""


@dataclass(frozen=True)
class Stability:
    """What is kept if other target images of the same kind vote.

    Args:
        kept_again: Mean share of the kept units that are kept again, in [0, 1].
        certain: Number of kept units that are kept again in at least 95 % of the draws.
        draws: Number of draws.
    """

    kept_again: float
    certain: int
    draws: int = _DRAWS


def stability(selection: Selection, kept: int) -> Stability | None:
    """Draws the voters with replacement, ranks all units by each draw, and compares the best units.

    This covers the choice of the target's images alone, and not the training of the surrogate. Scores, which break
    ties, stay as they are. The same Selection gives the same numbers.

    Args:
        selection: Selection by one vote of each target image.
        kept: Number of kept units, in [1, U].

    Returns:
        None where votes are not such counts: weighted, of several targets, shared among units, or none at all.
    """
    units = selection.num_units
    counts = torch.bincount(selection.assignments, minlength=units).double()
    by_count = torch.equal(selection.votes, counts) and torch.equal(
        rank_units(counts, selection.scores), selection.ranking
    )
    if not len(selection.assignments) or not by_count or units > _MOST_UNITS or not 0 < kept < units:
        return None
    voters = len(selection.assignments)
    drawn = np.random.default_rng(0).multinomial(voters, (counts / voters).numpy(), size=_DRAWS)
    best = selection.ranking[:kept]
    times = torch.zeros(units)
    for votes in torch.from_numpy(drawn).double():
        times[rank_units(votes, selection.scores)[:kept]] += 1
    again = times[best] / _DRAWS
    return Stability(float(again.mean()), int((again >= 0.95).sum()))
