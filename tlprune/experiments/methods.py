"""What methods and modes are called, how they are drawn, and what they do, in every table and picture."""

from collections.abc import Iterable
from dataclasses import dataclass

from tlprune.experiments.results import NONE

__all__ = ["METHOD_LABELS", "MODE_LABELS", "WHAT_METHODS_DO", "Mark", "marks_of", "target_labels"]

METHOD_LABELS: dict[str, str] = {
    NONE: "no pruning",
    "label_mapping": "LM",
    "feature_mapping": "FM",
    "random": "random",
    "reverse": "reverse",
}
"""What people read."""

MODE_LABELS = {"probe": "linear probe", "finetune": "full finetuning", "knn": "nearest neighbours"}
"""What people read of a mode of transfer."""

WHAT_METHODS_DO = {
    NONE: "keeps the whole source: what all else is held against.",
    "label_mapping": (
        "Label Mapping. A small classifier trained on the source, the surrogate, looks at the target's training "
        "images. Each of them votes for the source class that the surrogate takes it for, and the classes with the "
        "most votes are kept (Zhang et al., NeurIPS 2023)."
    ),
    "feature_mapping": (
        "Feature Mapping. The source is divided into clusters by the features of a small encoder, the surrogate. Each "
        "of the target's training images votes for the cluster that it is nearest to, and the clusters with the most "
        "votes are kept; no label of the source is needed (Zhang et al., NeurIPS 2023)."
    ),
    "random": "keeps as much by chance: a method that does not beat it is not worth its cost.",
    "reverse": "keeps first what the votes would keep last: if votes mean anything, it does harm.",
    "moderate": "keeps images that are neither typical nor odd of their class (Xia et al., ICLR 2023); asks no target.",
    "el2n": "keeps the images on which the surrogate errs most (Paul et al., NeurIPS 2021); asks no target.",
    "grand": "keeps the images with the longest gradients (Paul et al., NeurIPS 2021); asks no target.",
    "forgetting": "keeps what was learned and lost again most often (Toneva et al., ICLR 2019); asks no target.",
}
"""A sentence or two for those who have not read the paper."""


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

    Args:
        methods: Their names.

    Example:
        >>> marks_of(["random", "mine"])["mine"]
        Mark(colour='#cc79a7', shape='P')
    """
    found: dict[str, Mark] = {}
    for method in methods:
        others = sum(one not in _KNOWN for one in found)
        found[method] = _KNOWN.get(method) or _OTHERS[others % len(_OTHERS)]
    return found


def target_labels(targets: Iterable[str]) -> dict[str, str]:
    """What targets are called in lines and tables: a folder by its last part, or as many as tell it from others.

    Args:
        targets: Names, folders, and ``NAME:FOLDER``.

    Example:
        >>> target_labels(["digits", "data/targets/flowers", "oxford_pets:/data/pets"])
        {'digits': 'digits', 'data/targets/flowers': 'flowers', 'oxford_pets:/data/pets': 'oxford_pets'}
        >>> target_labels(["a/flowers", "b/flowers/"])
        {'a/flowers': 'a/flowers', 'b/flowers/': 'b/flowers'}
    """
    parts = {name: _parts(name) for name in targets}
    for count in range(1, max(map(len, parts.values()), default=0) + 1):
        labels = {name: "/".join(some[-count:]) for name, some in parts.items()}
        if len(set(labels.values())) == len(labels):
            return labels
    return {name: name for name in parts}


def _parts(target: str) -> list[str]:
    named, colon, _ = target.partition(":")
    known = named if colon and "/" not in named and len(named) > 1 else target  # one letter is a drive
    return [part for part in known.replace("\\", "/").split("/") if part] or [target]
