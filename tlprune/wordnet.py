"""Readable names of classes that are called by WordNet ids, as in ImageNet: ``n01440764`` is a tench."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec

__all__ = ["are_wordnet_ids", "imagenet_ids", "readable_names", "unique_names", "wordnet_id"]

wordnet_id = re.compile(r"n\d{8}")
"""Pattern of a WordNet id."""

_THOUSAND = {0: "n01440764", 217: "n02102040", 491: "n03000684", 569: "n03417042", 701: "n03888257", 999: "n15075141"}
"""Some of the thousand ids of ImageNet by position; they identify its list of classes."""


def are_wordnet_ids(classes: Sequence[str]) -> bool:
    """Returns whether there are classes and all of them are WordNet ids."""
    return len(classes) > 0 and all(map(wordnet_id.fullmatch, classes))


def imagenet_ids() -> tuple[str, ...]:
    """Returns the WordNet ids of the thousand classes of ImageNet, in the order of published weights; timm has them."""
    return tuple(import_module("timm.data").ImageNetInfo().label_names())


def readable_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Returns a readable and unique name for each class.

    The thousand ids of ImageNet have the names in torchvision, all others the first synonym in timm. Without timm only
    the whole list of a thousand is known, by its order.

    Returns:
        A name for each class; an id that is not known stays, and so do all classes if one of them is no WordNet id.

    Example:
        >>> readable_names(["apple", "pear"])
        ('apple', 'pear')
    """
    return _readable(tuple(classes)) if are_wordnet_ids(classes) else tuple(classes)


def unique_names(classes: Sequence[str], named: Mapping[str, str]) -> tuple[str, ...]:
    """Returns a name for each class, with the class appended where two have the same name.

    Args:
        classes: Names of the class folders.
        named: Readable names by class; a class without one keeps its own.
    """
    names = [named.get(one) or one for one in classes]
    counts = Counter(names)
    return tuple(name if counts[name] == 1 else f"{name} ({one})" for name, one in zip(names, classes, strict=True))


@lru_cache(maxsize=8)
def _readable(classes: tuple[str, ...]) -> tuple[str, ...]:
    if len(classes) == 1000 and all(classes[place] == one for place, one in _THOUSAND.items()):
        return unique_names(classes, _torchvision_names(classes))
    return unique_names(classes, _timm_names())


def _torchvision_names(thousand: Sequence[str]) -> dict[str, str]:
    """Returns torchvision's names by the thousand ids of ImageNet, which are in the order of published weights."""
    from torchvision.models import ResNet18_Weights  # takes seconds

    return dict(zip(thousand, ResNet18_Weights.IMAGENET1K_V1.meta["categories"], strict=True))


@lru_cache(maxsize=1)
def _timm_names() -> dict[str, str]:
    """Returns the names of all ids of ImageNet-21k by id; empty without timm."""
    if find_spec("timm") is None:
        return {}
    info = import_module("timm.data").ImageNetInfo
    synonyms: dict[str, str] = info("imagenet-21k-goog").label_descriptions(as_dict=True)
    first = {one: names.split(",")[0].strip() for one, names in synonyms.items()}
    return first | _torchvision_names(imagenet_ids())
