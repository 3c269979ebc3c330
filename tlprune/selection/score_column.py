"""How the scores of a Selection are shown: by the name and the sign that its selector gives them."""

from tlprune.selection import registry
from tlprune.selection.selection import Selection
from tlprune.selection.selector import Selector

__all__ = ["score_column"]


def score_column(selection: Selection) -> tuple[str, float]:
    """Returns the heading of a column of scores, and the factor that the scores are shown by."""
    selectors: list[type[Selector]] = [getattr(registry, name) for name in registry.selector_names()]
    selector = next((one for one in selectors if one.method == selection.method), Selector)
    scale = -1.0 if selector.scores_are_negative else 1.0
    voted = len(selection.assignments) > 0
    if voted and selector.scores_are_negative and not len(selection.target_votes):  # a sum over all voters
        scale /= len(selection.assignments)
    return selector.score_label, scale
