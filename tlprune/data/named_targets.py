"""Finds and opens named target sets on disk."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tlprune.data.parts import has_training_folder
from tlprune.data.target_catalogue import TARGET_SETS, Sizes, TargetSet
from tlprune.errors import InputError
from tlprune.storage.paths import user_path

if TYPE_CHECKING:
    from tlprune.data.listed import OfficialSplits

__all__ = ["DATA_VARIABLE", "data_root", "find_set", "named_target", "open_set"]

DATA_VARIABLE = "TLPRUNE_DATA"
"""Environment variable with the folder that is searched for named sets."""


def data_root() -> Path | None:
    """Returns the folder that is searched for named sets, ``$TLPRUNE_DATA``; None if the variable is not set.

    Raises:
        InputError: ``$TLPRUNE_DATA`` is not a folder.
    """
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        return None
    root = user_path(value)
    if not root.is_dir():
        raise InputError(f"{DATA_VARIABLE}={value}: no such folder")
    return root


def find_set(entry: TargetSet) -> Path | None:
    """Finds the folder of a set in ``$TLPRUNE_DATA`` by the name of the set or one of its other folder names.

    Returns:
        The first folder that exists, whatever it contains; None if no folder exists.

    Raises:
        InputError: ``$TLPRUNE_DATA`` is not a folder.
    """
    root = data_root()
    names = (entry.name, *entry.folders)
    return None if root is None else next((root / name for name in names if (root / name).is_dir()), None)


def named_target(target: str) -> tuple[TargetSet, Path] | None:
    """Resolves a target to a named set and its folder.

    Args:
        target: ``NAME:FOLDER``, or ``NAME`` for a set in ``$TLPRUNE_DATA``. An existing folder of this name with a
            folder ``train`` is a target itself and takes precedence.

    Returns:
        The set and its folder; None if ``target`` does not name a set.

    Raises:
        InputError: The set is not found, or required files are missing from its folder.
    """
    name, colon, folder = target.partition(":")
    if name not in TARGET_SETS or _is_plain_folder(target):
        return None
    entry = TARGET_SETS[name]
    ways = f"give it as {name}:FOLDER"
    if colon and not folder:
        raise InputError(f"target {target}: no folder after the colon; {ways}")
    if colon:
        return entry, entry.home(user_path(folder))
    home = find_set(entry)
    if home is None:
        root = data_root()
        where = f"no {name!r} in {root} (${DATA_VARIABLE})" if root else f"${DATA_VARIABLE} is not set"
        other = "put it there" if root else f"set {DATA_VARIABLE} to the folder that holds {name!r}"
        raise InputError(f"target {name}: {where}; {ways}, or {other}")
    return entry, entry.home(home)


def open_set(entry: TargetSet, folder: Path) -> "OfficialSplits":
    """Opens a set by the split of CoOp if its file exists, else by the official split.

    No image file is opened.

    Args:
        entry: The set.
        folder: Folder of the set, or its parent.

    Returns:
        The parts of the split.

    Raises:
        InputError: A file is missing or damaged, or the number of images or classes is not that of the set.
    """
    home = entry.home(folder)
    parts, sizes = _listed(entry, home)
    if len(parts.train.classes) != entry.num_classes:
        what = f"{len(parts.train.classes)} classes in {home}, expected {entry.num_classes}"
        raise InputError(f"{entry.name}: {what} ({parts.split})")
    for part, images, expected in zip(Sizes._fields, (parts.train, parts.val, parts.test), sizes, strict=True):
        count = None if images is None else len(images)
        if count != expected:
            what = f"{count or 0:,} images in {part!r}, expected {expected or 0:,}"
            raise InputError(f"{entry.name}: {what} ({parts.split}; {home})")
    return parts


def _listed(entry: TargetSet, home: Path) -> "tuple[OfficialSplits, Sizes]":
    """Reads the parts of the split and the sizes that they must have."""
    # imported here because they import torch, which takes seconds
    from tlprune.data.coop_splits import read_coop_split
    from tlprune.data.official_splits import read_official

    if entry.coop_file is not None and entry.coop_sizes is not None and (home / entry.coop_file).is_file():
        return read_coop_split(home / entry.coop_file, home / entry.images, entry.num_classes), entry.coop_sizes
    return read_official(entry.name, home), entry.official_sizes


def _is_plain_folder(target: str) -> bool:
    """Returns whether a target is a folder; its name may be that of a set or contain a colon."""
    folder = user_path(target)
    return folder.is_dir() and (":" in target or has_training_folder(folder))
