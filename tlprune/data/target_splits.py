"""Opens targets by name. A target's training images vote for the source, and models are transferred to it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from tlprune.data.built_in_targets import digits, photos
from tlprune.data.datasets import ImageSet, TensorImages
from tlprune.data.feature_names import is_features
from tlprune.data.named_targets import named_target, open_set
from tlprune.data.parts import find_parts, warn_of_parts_taken_for_classes
from tlprune.data.scanning import folder_names, scan_class_folder
from tlprune.data.splits import stratified_holdout
from tlprune.data.target_catalogue import TARGET_SETS, TargetSet
from tlprune.errors import InputError, did_you_mean
from tlprune.storage.paths import user_path

__all__ = ["TargetSplits", "absolute_target", "check_target", "list_targets", "open_named", "open_target"]

_BUILT_IN: dict[str, Callable[[int], tuple[TensorImages, ...]]] = {"digits": digits, "photos": photos}


@dataclass(frozen=True)
class TargetSplits:
    """A labelled set in three parts. Only ``train`` votes; ``val`` is for choices, ``test`` for the final score.

    Args:
        name: Name of the target in reports.
        train: Training images.
        val: Validation images.
        test: Test images; None if a folder of the user has none.
        image_size: Default height and width in pixels of images for a model.
        split: Origin of the split, as text.
    """

    name: str
    train: ImageSet
    val: ImageSet
    test: ImageSet | None
    image_size: int
    split: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.train.classes


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
            (or ``valid``, ``validation``, ``dev``) and ``test``, in any capitalisation, or a set of
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
        train, val, test = _BUILT_IN[target](seed)
        return TargetSplits(target, train, val, test, train.pixels.shape[-1], f"embedded, seed {seed}")
    if (named := named_target(target)) is not None:
        return open_named(*named, seed)
    return _of_folder(user_path(target), seed)


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
    train, val = _fifth_held_out(parts.train, seed)
    split = f"{parts.split}, a fifth of train held out, seed {seed}"
    return TargetSplits(entry.name, train, val, parts.test, entry.image_size, split)


def absolute_target(target: str) -> str:
    """Returns the name of a target with an absolute path, so that it is valid from any working directory.

    Args:
        target: Name or path of the target, as in :func:`open_target`.

    Returns:
        ``NAME:/FOLDER`` for a named set, the absolute path for a folder, and ``target`` otherwise.
    """
    if target in _BUILT_IN:
        return target
    if (named := named_target(target)) is not None:
        return f"{named[0].name}:{named[1].absolute()}"
    path = user_path(target)
    return str(path.absolute()) if path.exists() else target


def _of_folder(root: Path, seed: int) -> TargetSplits:
    parts = find_parts(root, may_be_classes=False)
    if parts is None:
        expected = "expected train/CLASS/*.jpg, and val and test likewise"
        raise InputError(f"{root}: no folder 'train' in it ({expected}); got {', '.join(folder_names(root)) or 'none'}")
    train = scan_class_folder(parts.train)
    warn_of_parts_taken_for_classes(parts.train, train.classes)
    val, test = (None if folder is None else scan_class_folder(folder) for folder in (parts.val, parts.test))
    for images in (val, test):
        if images is not None and images.classes != train.classes:
            odd = sorted(set(images.classes) ^ set(train.classes))
            pair = f"{parts.train.name!r} and {images.root.name!r}"
            raise InputError(f"{root}: {pair} have different classes, such as {odd[0]!r}")
    split = "folders " + ", ".join(folder.name for folder in parts if folder is not None)
    if val is None:
        train, val = _fifth_held_out(train, seed)
        split = f"a fifth of {parts.train.name!r} held out, seed {seed}"
    return TargetSplits(root.name, train, val, test, 224, split)


_Images = TypeVar("_Images", bound=ImageSet)


def _fifth_held_out(images: _Images, seed: int) -> tuple[_Images, _Images]:
    stay, out = stratified_holdout(images.labels, round(len(images) / 5), seed)
    return images.subset(stay), images.subset(out)
