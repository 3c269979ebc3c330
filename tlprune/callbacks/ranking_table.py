"""The ranking of a Selection as a table."""

import torch

from tlprune.callbacks.tables import Row, plain_text
from tlprune.selection.selection import Selection

__all__ = ["RANKING_COLUMNS", "ranking_rows", "shown_places"]

RANKING_COLUMNS = ["unit", "kept or dropped", "votes", "rank", "images"]


def shown_places(selection: Selection, most: int) -> list[int]:
    """Returns places of the ranking, best first, evenly spaced if there are more than ``most``.

    Args:
        selection: Selection to show.
        most: Largest number of places, at least 1.
    """
    count = min(most, selection.num_units)
    return torch.linspace(0, selection.num_units - 1, count).round().long().tolist()


def ranking_rows(selection: Selection, kept: int, places: list[int]) -> list[Row]:
    """Describes the units at some places of a ranking by ``RANKING_COLUMNS``.

    Args:
        selection: Selection to show.
        kept: Number of kept units.
        places: Places of the ranking, in [0, ``U``).
    """
    sizes = selection.unit_sizes
    rows: list[Row] = []
    for place in places:
        unit = int(selection.ranking[place])
        fate = "kept" if place < kept else "dropped"
        rows.append([plain_text(selection.name(unit)), fate, float(selection.votes[unit]), place + 1, int(sizes[unit])])
    return rows
