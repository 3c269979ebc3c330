"""Readable names of classes whose folders are WordNet ids, as in ImageNet: ``n01440764`` is a tench."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from warnings import warn

from tlprune.data.listed import read_lines
from tlprune.errors import InputError
from tlprune.storage.checkpoints import load_torch

__all__ = ["are_wordnet_ids", "class_titles", "imagenet_ids", "imagenet_titles", "unique_titles"]

_WORDNET_ID = re.compile(r"n\d{8}")
_LISTS = ("LOC_synset_mapping.txt", "classnames.txt", "words.txt")
_FOLDERS_ABOVE = 4
_IMAGENET = {0: "n01440764", 217: "n02102040", 491: "n03000684", 569: "n03417042", 701: "n03888257", 999: "n15075141"}
"""Some of the thousand ids of ImageNet by position; they identify its list of classes."""


def class_titles(root: Path, classes: Sequence[str]) -> tuple[str, ...]:
    """Returns a readable and unique name for each class.

    The name of a WordNet id is its first synonym. Synonyms are read from a file in ``root`` or in a folder above it:
    torchvision's ``meta.bin``, Kaggle's ``LOC_synset_mapping.txt``, CoOp's ``classnames.txt`` or WordNet's
    ``words.txt``. Without such a file, ids of ImageNet get the names in torchvision: all thousand, and any part
    of them if timm is installed.

    Args:
        root: Folder with the class folders.
        classes: Names of the class folders.

    Returns:
        A title for each class; ``classes`` themselves if they are not WordNet ids or no names are found.

    Example:
        >>> class_titles(Path("/data/fruit"), ["apple", "pear"])
        ('apple', 'pear')
    """
    if not are_wordnet_ids(classes):
        return tuple(classes)
    for folder in (root, *list(root.absolute().parents)[:_FOLDERS_ABOVE]):
        for name in ("meta.bin", *_LISTS):
            if (folder / name).is_file() and (named := _read(folder / name)):
                return unique_titles(classes, named)
    if len(classes) == 1000 and all(classes[place] == name for place, name in _IMAGENET.items()):
        return imagenet_titles(classes)
    known = imagenet_ids() if find_spec("timm") is not None else ()
    if set(classes) <= set(known):
        return unique_titles(classes, dict(zip(known, imagenet_titles(known), strict=True)))
    return tuple(classes)


def are_wordnet_ids(classes: Sequence[str]) -> bool:
    """Returns whether there are classes and all of them are WordNet ids."""
    return len(classes) > 0 and all(map(_WORDNET_ID.fullmatch, classes))


def imagenet_ids() -> tuple[str, ...]:
    """Returns the WordNet ids of the thousand classes of ImageNet, in the order of published weights; timm has them."""
    return tuple(import_module("timm.data").ImageNetInfo().label_names())


def imagenet_titles(ids: Sequence[str]) -> tuple[str, ...]:
    """Returns the names in torchvision of the thousand ids of ImageNet, which are in the order of published weights."""
    from torchvision.models import ResNet18_Weights

    return unique_titles(ids, dict(zip(ids, ResNet18_Weights.IMAGENET1K_V1.meta["categories"], strict=True)))


def _read(file: Path) -> Mapping[str, str]:
    """Reads titles by WordNet id; warns and returns no titles if the file cannot be read."""
    try:
        if file.name == "meta.bin":
            synonyms, _ = load_torch(file)
            return {str(key): str(names[0]) for key, names in synonyms.items()}
        pairs = [line.replace("\t", " ").partition(" ") for line in read_lines(file)]
        return {key: names.split(",")[0].strip() for key, _, names in pairs if _WORDNET_ID.fullmatch(key)}
    except InputError as error:
        warn(f"{error}; its names are not used", stacklevel=2)
    except (TypeError, ValueError, AttributeError, IndexError):
        warn(f"{file}: not a file of torchvision's ImageNet; its names are not used", stacklevel=2)
    return {}


def unique_titles(classes: Sequence[str], named: Mapping[str, str]) -> tuple[str, ...]:
    """Returns a name for each class, with the class appended where two have the same name.

    Args:
        classes: Names of the class folders.
        named: Readable names by class; a class without one keeps its own.
    """
    titles = [named.get(name) or name for name in classes]
    counts = Counter(titles)
    return tuple(
        title if counts[title] == 1 else f"{title} ({name})" for title, name in zip(titles, classes, strict=True)
    )
