"""Whether sweeps have ended: what is partial supports no conclusion yet."""

from collections.abc import Mapping
from typing import Any

__all__ = ["CELLS_PLANNED", "cells_planned", "is_partial"]

CELLS_PLANNED = "cells_planned"
"""Name in the provenance of results of the number of cells of the whole sweep, at most."""


def cells_planned(provenance: Mapping[str, Any]) -> int | None:
    """Returns the number of cells of a whole sweep, or of all that were united; None if one does not say it."""
    numbers = [one.get(CELLS_PLANNED) for one in _sweeps(provenance)]
    return sum(numbers) if all(isinstance(number, int) for number in numbers) else None  # type: ignore[arg-type]


def is_partial(provenance: Mapping[str, Any]) -> bool:
    """Returns whether a sweep has planned cells and has not ended."""
    return any(CELLS_PLANNED in one and "ended" not in one for one in _sweeps(provenance))


def _sweeps(provenance: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the provenance of each of the sweeps that were united: of the first, the others are a part."""
    return [provenance, *(one for one in provenance.values() if isinstance(one, dict) and "begun" in one)]
