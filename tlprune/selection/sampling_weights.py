"""Weights of a Selection: how often each source image is drawn where none is left out."""

import math

from torch import Tensor

from tlprune.errors import InputError
from tlprune.selection import registry
from tlprune.selection.selection import Selection

__all__ = ["log_odds", "require_weights"]


def require_weights(method: str, label: str) -> None:
    """Rejects a method whose scores are no weights.

    Args:
        method: Name of the method in Selections.
        label: What messages call it.

    Raises:
        InputError: The method has no weights.
    """
    known = {name: getattr(registry, name) for name in registry.selector_names()}
    drawing = {name: selector for name, selector in known.items() if selector.scores_are_log_weights}
    if method not in {selector.method for selector in drawing.values()}:
        raise InputError(
            f"`sampling: weighted` needs weights, and {label} has none; {' and '.join(drawing)} has, "
            "and makes them of another selector's votes"
        )


def log_odds(selection: Selection) -> Tensor:
    """Log of the odds of each source image in a weighted draw: the log weight of its unit, times the strength.

    Args:
        selection: A Selection by a method whose scores are log weights.

    Returns:
        Float64 tensor ``[N]`` in data set order, finite.

    Raises:
        InputError: The method has no weights, or they cannot be read from this Selection.
    """
    require_weights(selection.method, f"a selection by {selection.method}")
    strength = (selection.config.get("options") or {}).get("strength")
    if isinstance(strength, bool) or not isinstance(strength, (int, float)) or not 0 <= strength < math.inf:
        raise InputError(f"`sampling: weighted`: this selection has no `strength` of at least 0, got {strength!r}")
    if selection.unit_kind != "sample" and len(selection.target_votes):
        targets = len(selection.target_votes)
        raise InputError(
            f"`sampling: weighted`: {targets} targets have no common weights of a {selection.unit_kind}; "
            "select single images (`unit: sample`)"
        )
    odds: Tensor = (float(strength) * selection.scores)[selection.unit_of_sample.long()]
    if not odds.isfinite().all():
        raise InputError(f"`sampling: weighted`: a `strength` of {strength:g} makes weights that are not finite")
    return odds
