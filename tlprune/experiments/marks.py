"""How methods are drawn: always alike, in every picture of every page."""

from collections.abc import Iterable
from dataclasses import dataclass

from tlprune.experiments.results import NONE

__all__ = ["Mark", "marks_of"]


@dataclass(frozen=True)
class Mark:
    """How a method is drawn.

    Args:
        colour: Of Okabe and Ito's palette, which colour-blind readers can tell apart.
        shape: Matplotlib's marker, so that colour is never all that tells two methods apart.
    """

    colour: str
    shape: str


_KNOWN = {
    NONE: Mark("#000000", ""),
    "label_mapping": Mark("#0072b2", "o"),
    "feature_mapping": Mark("#009e73", "D"),
    "random": Mark("#e69f00", "s"),
    "reverse": Mark("#d55e00", "v"),
}
_OTHERS = (Mark("#cc79a7", "P"), Mark("#56b4e9", "^"), Mark("#777777", "X"), Mark("#b8a800", "*"), Mark("#8c510a", "<"))


def marks_of(methods: Iterable[str]) -> dict[str, Mark]:
    """How methods are drawn: those that are known always alike, others in the order in which they come.

    Example:
        >>> marks_of(["random", "mine"])["mine"]
        Mark(colour='#cc79a7', shape='P')
    """
    found: dict[str, Mark] = {}
    for method in methods:
        others = sum(one not in _KNOWN for one in found)
        found[method] = _KNOWN.get(method) or _OTHERS[others % len(_OTHERS)]
    return found
