"""Targets by name: what a model is finetuned on, and what votes."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from tlprune.data.built_in_targets import digits, photos
from tlprune.data.datasets import ImageSet, TensorImages
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
    """A labelled set in three parts. Only ``train`` votes; ``val`` is what is chosen on; ``test`` is looked at once.

    Args:
        name: What reports call it.
        train: Training images.
        val: Validation images.
        test: Test images; None where a user's folder has none.
        image_size: Height and width in pixels that its images are seen at, unless the user says otherwise.
        split: Where the split comes from, in words.
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
    """Names of the targets that come with tlprune."""
    return sorted(_BUILT_IN)


def check_target(target: str) -> None:
    """Refuses a target that is neither a known name nor a folder, without opening it.

    Args:
        target: As :func:`open_target`.

    Raises:
        InputError: There is no such name, no such folder, or the folder of a named set lacks what must be in it.
    """
    if target in _BUILT_IN or named_target(target) is not None or user_path(target).is_dir():
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
        target: ``digits``, ``photos``, a folder with class folders in ``train`` and perhaps ``val`` (or ``valid``,
            ``validation``, ``dev``) and ``test``, in any capitalisation, or a set of

            :data:`tlprune.data.target_catalogue.TARGET_SETS`: ``NAME:FOLDER``, or ``NAME`` where it lies in the folder
            that the
            environment variable ``TLPRUNE_DATA`` names.
        seed: Decides the split where the set has none of its own; one fifth of a folder's ``train`` becomes ``val``.

    Returns:
        Its three parts.

    Raises:
        InputError: There is no such target, the folder is laid out otherwise, two folders in it stand for the same
            part, or its parts have other classes.
    """
    check_target(target)
    if target in _BUILT_IN:
        train, val, test = _BUILT_IN[target](seed)
        return TargetSplits(target, train, val, test, train.pixels.shape[-1], f"embedded, seed {seed}")
    if (named := named_target(target)) is not None:
        return open_named(*named, seed)
    return _of_folder(user_path(target), seed)


def open_named(entry: TargetSet, folder: Path, seed: int = 0) -> TargetSplits:
    """Opens a named set; no file of an image is opened.

    Args:
        entry: The set.
        folder: Its folder, or one around it.
        seed: Decides which fifth of ``train`` becomes ``val`` where its split has none.

    Returns:
        Its three parts.

    Raises:
        InputError: Something is missing, damaged, or there are more or fewer images or classes than the set has.
    """
    parts = open_set(entry, folder)
    if parts.val is not None:
        return TargetSplits(entry.name, parts.train, parts.val, parts.test, entry.image_size, parts.split)
    train, val = _fifth_held_out(parts.train, seed)
    split = f"{parts.split}, a fifth of train held out, seed {seed}"
    return TargetSplits(entry.name, train, val, parts.test, entry.image_size, split)


def absolute_target(target: str) -> str:
    """A target by a name that means the same from any folder.

    Args:
        target: As :func:`open_target`.

    Returns:
        ``NAME:/FOLDER`` for a named set, the whole path for a folder, and anything else as it is.
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
    val, test = (None if one is None else scan_class_folder(one) for one in (parts.val, parts.test))
    for images in (val, test):
        if images is not None and images.classes != train.classes:
            odd = sorted(set(images.classes) ^ set(train.classes))
            pair = f"{parts.train.name!r} and {images.root.name!r}"
            raise InputError(f"{root}: {pair} have other classes, such as {odd[0]!r}")
    split = "folders " + ", ".join(one.name for one in parts if one is not None)
    if val is None:
        train, val = _fifth_held_out(train, seed)
        split = f"a fifth of {parts.train.name!r} held out, seed {seed}"
    return TargetSplits(root.name, train, val, test, 224, split)


_Images = TypeVar("_Images", bound=ImageSet)


def _fifth_held_out(images: _Images, seed: int) -> tuple[_Images, _Images]:
    stay, out = stratified_holdout(images.labels, round(len(images) / 5), seed)
    return images.subset(stay), images.subset(out)
