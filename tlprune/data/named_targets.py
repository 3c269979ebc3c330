"""Named sets on the user's disk: where one is looked for, and how it is opened."""

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
"""Environment variable that names the folder in which sets are looked for by name."""


def data_root() -> Path | None:
    """The folder in which sets are looked for by name: ``$TLPRUNE_DATA``; None where that is not set.

    Raises:
        InputError: It is no folder.
    """
    given = os.environ.get(DATA_VARIABLE)
    if not given:
        return None
    root = user_path(given)
    if not root.is_dir():
        raise InputError(f"{DATA_VARIABLE}={given}: no such folder")
    return root


def find_set(entry: TargetSet) -> Path | None:
    """The folder of a set in ``$TLPRUNE_DATA``, called by the set's name or what others call it.

    Args:
        entry: The set.

    Returns:
        The first folder that is there, whatever is in it; None where there is none.

    Raises:
        InputError: ``$TLPRUNE_DATA`` is no folder.
    """
    root = data_root()
    names = (entry.name, *entry.folders)
    return None if root is None else next((root / name for name in names if (root / name).is_dir()), None)


def named_target(target: str) -> tuple[TargetSet, Path] | None:
    """The named set that a target asks for, and its folder.

    Args:
        target: ``NAME:FOLDER``, or ``NAME`` for a set in ``$TLPRUNE_DATA``. A folder that is called so and holds
            ``train`` is a target of its own.

    Returns:
        None where something else is asked for.

    Raises:
        InputError: The set is not to be found, or its folder lacks what must be in it.
    """
    name, colon, given = target.partition(":")
    if name not in TARGET_SETS or _is_plain_folder(target):
        return None
    entry = TARGET_SETS[name]
    ways = f"give it as {name}:FOLDER"
    if colon and not given:
        raise InputError(f"target {target}: no folder after the colon; {ways}")
    if colon:
        return entry, entry.home(user_path(given))
    found = find_set(entry)
    if found is None:
        root = data_root()
        where = f"no {name!r} in {root} (${DATA_VARIABLE})" if root else f"${DATA_VARIABLE} is not set"
        other = "put it there" if root else f"set {DATA_VARIABLE} to the folder that holds {name!r}"
        raise InputError(f"target {name}: {where}; {ways}, or {other}")
    return entry, entry.home(found)


def open_set(entry: TargetSet, folder: Path) -> "OfficialSplits":
    """Opens a set by CoOp's split where its file is there, else by the official one.

    Args:
        entry: The set.
        folder: Its folder, or one around it.

    Returns:
        Its parts as the split has them; no file of an image is opened.

    Raises:
        InputError: Something is missing, damaged, or there are more or fewer images or classes than the set has.
    """
    home = entry.home(folder)
    parts, sizes = _listed(entry, home)
    if len(parts.train.classes) != entry.num_classes:
        what = f"{len(parts.train.classes)} classes in {home}, expected {entry.num_classes}"
        raise InputError(f"target {entry.name}: {what} ({parts.split})")
    for part, images, expected in zip(Sizes._fields, (parts.train, parts.val, parts.test), sizes, strict=True):
        found = None if images is None else len(images)
        if found != expected:
            what = f"{found or 0:,} images in {part!r}, expected {expected or 0:,}"
            raise InputError(f"target {entry.name}: {what} ({parts.split}; {home})")
    return parts


def _listed(entry: TargetSet, home: Path) -> "tuple[OfficialSplits, Sizes]":
    """The parts as a split has them, and what sizes they must have."""
    # they bring torch, which takes seconds
    from tlprune.data.coop_splits import read_coop_split
    from tlprune.data.official_splits import read_official

    if entry.coop_file is not None and entry.coop_sizes is not None and (home / entry.coop_file).is_file():
        return read_coop_split(home / entry.coop_file, home / entry.images, entry.num_classes), entry.coop_sizes
    return read_official(entry.name, home), entry.official_sizes


def _is_plain_folder(target: str) -> bool:
    """Whether it is a folder of its own: one may be called as a set is, or have a colon in its name."""
    folder = user_path(target)
    return folder.is_dir() and (":" in target or has_training_folder(folder))
