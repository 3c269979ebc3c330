"""What a page says of itself while its sweep runs."""

import time
from dataclasses import dataclass, field

from tlprune.experiments.partial import cells_planned
from tlprune.experiments.results import Results

__all__ = ["RELOAD", "Followed", "count_text"]

RELOAD = 10
"""Seconds after which a page that is followed reloads itself."""


@dataclass(frozen=True)
class Followed:
    """State of a page that is written again whenever results change.

    Args:
        cells: How many cells are finished, in words.
        written: Time of day when it was written.
        reload: Seconds after which the page reloads itself.
    """

    cells: str
    written: str = field(default_factory=lambda: time.strftime("%H:%M:%S"))
    reload: int = RELOAD


def count_text(results: Results) -> str:
    """Says how many cells of how many are finished: ``5 of 12 cells``."""
    planned = cells_planned(results.provenance)
    most = "at most " if results.provenance.get("search") == "bisection" else ""
    return f"{len(results.cells)} cells" if planned is None else f"{len(results.cells)} of {most}{planned} cells"
