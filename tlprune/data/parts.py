"""Recognises the training, validation and test parts of a set by folder or split name, for sources and targets."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from warnings import warn

from tlprune.errors import InputError

__all__ = [
    "PART_NAMES",
    "PartFolders",
    "find_parts",
    "has_training_folder",
    "like_parts",
    "match_parts",
    "warn_of_parts_taken_for_classes",
]

PART_NAMES = {"train": ("train",), "val": ("val", "valid", "validation", "dev"), "test": ("test",)}
"""Accepted names of each part, in any capitalisation."""

_WORDS = {"train": "training", "val": "validation", "test": "test"}
_LIKE_A_PART = re.compile(
    r"(train(ing)?|val(id(ation)?)?|dev(el(opment)?)?|test(ing)?|eval(uation)?|hold-?out|held-?out|extra|unlabell?ed)"
    r"(-?(set|data|images?|split|part|\d+))*",
    re.IGNORECASE,
)


class PartFolders(NamedTuple):
    """The parts of a folder that has a training part.

    Args:
        train: Folder of the training part.
        val: Folder of the validation part, or None.
        test: Folder of the test part, or None.
    """

    train: Path
    val: Path | None
    test: Path | None


def match_parts(names: Iterable[str], where: str) -> dict[str, str]:
    """Finds the parts among the names of folders or splits.

    Args:
        names: Names of folders or splits.
        where: Prefix of error messages, such as the path of the folder.

    Returns:
        The name of each existing part, by ``train``, ``val`` and ``test``.

    Raises:
        InputError: Two names stand for the same part.
    """
    matches: dict[str, list[str]] = {}
    for name in names:
        for part, allowed in PART_NAMES.items():
            if name.lower() in allowed:
                matches.setdefault(part, []).append(name)
    for part, same in matches.items():
        if len(same) > 1:
            both = " and ".join(map(repr, sorted(same)))
            raise InputError(f"{where}: {both} both stand for its {_WORDS[part]} part; expected one of them")
    return {part: same[0] for part, same in matches.items()}


def find_parts(root: Path, may_be_classes: bool = True) -> PartFolders | None:
    """Finds the parts of a folder, and warns of images and folders with images beside them, which are not used.

    Args:
        root: The folder.
        may_be_classes: Whether the folders may be classes, of which one is named ``train``. A folder ``train`` without
            subfolders is then a part only if all other folders have names of parts too.

    Returns:
        The parts; None if the folder has no training part.

    Raises:
        InputError: The folder is missing or unreadable, or two folders stand for the same part.
    """
    from tlprune.data.scanning import folder_names, holds_images  # imports torch, which takes seconds

    names = folder_names(root)
    train = [name for name in names if name.lower() in PART_NAMES["train"]]
    if not train:
        return None
    if may_be_classes and not _all_like_parts(names) and not any(folder_names(root / name) for name in train):
        return None
    parts = match_parts(names, str(root))
    others = [name for name in names if name not in parts.values() and _has_images(root / name)]
    others += ["images"] if holds_images(root) else []
    if others:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        warn(f"{root}: {parts['train']!r} is used as its training part; {shown} beside it not used", stacklevel=1)
    val, test = (root / parts[part] if part in parts else None for part in ("val", "test"))
    return PartFolders(root / parts["train"], val, test)


def has_training_folder(root: Path) -> bool:
    """Returns whether a folder contains a folder with a name of a training part.

    Raises:
        InputError: The folder is unreadable.
    """
    try:
        return any(entry.is_dir() and entry.name.lower() in PART_NAMES["train"] for entry in root.iterdir())
    except OSError as error:
        raise InputError(f"{root}: {error.strerror or error}") from error


def warn_of_parts_taken_for_classes(root: Path, classes: Sequence[str]) -> None:
    """Warns if class folders have names of parts, such as ``val`` or ``train2017``."""
    if classes and _all_like_parts(classes):
        names = ", ".join(map(repr, classes[:3]))
        expected = "training images are expected in 'train', validation images in 'val'"
        warn(f"{root}: its folders {names} are taken for classes; {expected}", stacklevel=1)


def like_parts(names: Iterable[str]) -> list[str]:
    """Returns the names of folders that are like those of parts, such as ``val`` or ``train2017``."""
    return [name for name in names if _LIKE_A_PART.fullmatch(name.replace("_", "-").replace(" ", "-"))]


def _all_like_parts(names: Sequence[str]) -> bool:
    return len(like_parts(names)) == len(names)


def _has_images(folder: Path) -> bool:
    """Returns whether a folder or one of its direct subfolders contains images."""
    from tlprune.data.scanning import folder_names, holds_images

    return holds_images(folder) or any(holds_images(folder / name) for name in folder_names(folder))
