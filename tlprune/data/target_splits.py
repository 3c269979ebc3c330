"""Opens targets by name. A target's training images vote for the source, and models are transferred to it."""

import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from tlprune.data.built_in_targets import digits, photos
from tlprune.data.datasets import TensorImages
from tlprune.data.feature_names import is_features
from tlprune.data.named_targets import named_target, open_set
from tlprune.data.target_catalogue import TARGET_SETS, TargetSet
from tlprune.data.target_folders import (
    TargetSplits,
    hold_out_fifth,
    open_folder,
    open_unlabelled,
    unlabelled_folder,
)
from tlprune.errors import InputError, did_you_mean
from tlprune.storage.paths import user_path, warn_of_hidden_folder

__all__ = ["TargetSplits", "absolute_target", "check_target", "list_targets", "open_named", "open_target"]

_BUILT_IN: dict[str, Callable[[int], tuple[TensorImages, ...]]] = {"digits": digits, "photos": photos}


def list_targets() -> list[str]:
    """Returns the names of the built-in targets."""
    return sorted(_BUILT_IN)


def check_target(target: str) -> None:
    """Checks that a target is a known name or a folder, without opening it.

    Args:
        target: Name or path of the target, as in :func:`open_target`.

    Raises:
        InputError: There is no such name or folder, or required files are missing from the folder of a named set.
    """
    if target in _BUILT_IN or named_target(target) is not None or user_path(target).is_dir():
        return
    if is_features(target):
        raise InputError(f"target {target}: features can vote for a source and no more; give the target's images")
    if (folder := unlabelled_folder(target)) is not None:
        if not folder or not user_path(folder).is_dir():
            raise InputError(f"target {target}: {'no such folder' if folder else 'which folder? unlabelled:FOLDER'}")
        return
    name, colon, _ = target.partition(":")
    if colon and name in _BUILT_IN:
        raise InputError(f"target {target}: {name!r} comes with tlprune and takes no folder")
    if os.sep in name or (os.sep in target and not colon):
        raise InputError(f"target {target}: no such folder")
    close = get_close_matches(name, [*_BUILT_IN, *TARGET_SETS], n=1)
    more = "" if close else "; 'tlprune datasets' lists the others"
    raise InputError(f"unknown target {name!r}: {did_you_mean(name, close or list_targets())} (or give a folder){more}")


def open_target(target: str, seed: int = 0) -> TargetSplits:
    """Opens a target.

    Args:
        target: Name or path: ``digits``, ``photos``, a folder with class folders in ``train`` and optionally ``val``
            (or ``valid``, ``validation``, ``dev``) and ``test``, in any capitalisation, a folder of images without
            class folders, ``unlabelled:FOLDER``, every image in a folder and its subfolders, or a set of
            :data:`tlprune.data.target_catalogue.TARGET_SETS`, as ``NAME:FOLDER``, or as ``NAME`` if it is in the folder
            in the environment variable ``TLPRUNE_DATA``.
        seed: Seed of the split if the set has no split of its own; one fifth of a folder's ``train`` becomes ``val``.

    Returns:
        The three parts.

    Raises:
        InputError: There is no such target, the folder has another layout, two folders stand for the same part, or the
            parts have different classes.
    """
    check_target(target)
    if target in _BUILT_IN:
        warn_of_hidden_folder("target", target, "the built-in target")
        train, val, test = _BUILT_IN[target](seed)
        return TargetSplits(target, train, val, test, train.pixels.shape[-1], f"embedded, seed {seed}")
    if (named := named_target(target)) is not None:
        if ":" not in target and not (Path(target).is_dir() and Path(target).samefile(named[1])):
            warn_of_hidden_folder("target", target, f"the set in {named[1]}")
        return open_named(*named, seed)
    if (folder := unlabelled_folder(target)) is not None:
        return open_unlabelled(folder)
    return open_folder(user_path(target), seed)


def open_named(entry: TargetSet, folder: Path, seed: int = 0) -> TargetSplits:
    """Opens a named set without opening an image file.

    Args:
        entry: The set.
        folder: Folder of the set, or its parent.
        seed: Seed of the fifth of ``train`` that becomes ``val`` if the split has no validation images.

    Returns:
        The three parts.

    Raises:
        InputError: A file is missing or damaged, or the number of images or classes is not that of the set.
    """
    parts = open_set(entry, folder)
    if parts.val is not None:
        return TargetSplits(entry.name, parts.train, parts.val, parts.test, entry.image_size, parts.split)
    train, val = hold_out_fifth(parts.train, seed)
    split = f"{parts.split}, a fifth of train held out, seed {seed}"
    return TargetSplits(entry.name, train, val, parts.test, entry.image_size, split)


def absolute_target(target: str) -> str:
    """Returns the name of a target with an absolute path, so that it is valid from any working directory.

    Args:
        target: Name or path of the target, as in :func:`open_target`.

    Returns:
        ``NAME:/FOLDER`` for a named set, ``unlabelled:/FOLDER`` for images whose folders do not count, the absolute
        path for a folder, and ``target`` otherwise.
    """
    if target in _BUILT_IN:
        return target
    if (named := named_target(target)) is not None:
        return f"{named[0].name}:{named[1].absolute()}"
    if (folder := unlabelled_folder(target)) is not None:
        return f"unlabelled:{user_path(folder).absolute()}"
    path = user_path(target)
    return str(path.absolute()) if path.exists() else target
