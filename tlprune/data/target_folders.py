"""Targets that are folders of the user: with class folders in parts, or images without labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tlprune.data.datasets import ImageSet
from tlprune.data.decoding import EXTENSIONS
from tlprune.data.parts import PartFolders, find_parts, like_parts, warn_of_parts_taken_for_classes
from tlprune.data.scanning import folder_names, holds_images, scan_all_images, scan_class_folder
from tlprune.data.splits import stratified_holdout
from tlprune.errors import InputError
from tlprune.storage.paths import user_path

__all__ = ["TargetSplits", "hold_out_fifth", "open_folder", "open_unlabelled", "unlabelled_folder"]

_PREFIX = "unlabelled:"
_IMAGE_SIZE = 224


@dataclass(frozen=True)
class TargetSplits:
    """A set in three parts. Only ``train`` votes; ``val`` is for choices, ``test`` for the final score.

    Args:
        name: Name of the target in reports.
        train: Training images; of a set without labels, all images that vote.
        val: Validation images; none of a set without labels.
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
        """Class names; empty for a set without labels."""
        return self.train.classes

    def require_labels(self, who: str) -> None:
        """Rejects a set without labels.

        Args:
            who: What needs labels, for the message.

        Raises:
            InputError: The set has no labels.
        """
        if not self.classes:
            what = f"{who} needs labels, and its {len(self.train):,} images have none ({self.split})"
            raise InputError(f"target {self.name}: {what}; it can vote for a source only")


def unlabelled_folder(target: str) -> str | None:
    """Returns the folder of ``unlabelled:FOLDER``; None for any other target."""
    return target.removeprefix(_PREFIX) if target.startswith(_PREFIX) and not user_path(target).exists() else None


def open_unlabelled(folder: str) -> TargetSplits:
    """Lists every image in a folder and its subfolders, whatever their names. All of them vote.

    Raises:
        InputError: The folder contains no image.
    """
    root = user_path(folder)
    return _without_labels(root, scan_all_images(root), "every image votes")


def open_folder(root: Path, seed: int) -> TargetSplits:
    """Opens a folder with class folders in ``train``, or a folder of images without class folders.

    Args:
        root: The folder.
        seed: Seed of the fifth of ``train`` that becomes ``val`` if there are class folders, and no ``val``.

    Raises:
        InputError: The folder has another layout, two folders stand for the same part, or the parts have different
            classes.
    """
    parts = find_parts(root, may_be_classes=False)
    if parts is not None:
        flat = not folder_names(parts.train) and holds_images(parts.train)
        return _unlabelled_parts(root, parts) if flat else _labelled_parts(root, parts, seed)
    names = folder_names(root)
    parts_but_train, classes = like_parts(names), any(holds_images(root / name) for name in names)
    if parts_but_train or classes or not (names or holds_images(root)):
        expected = "expected train/CLASS/*.jpg, and val and test likewise, or images without folders"
        got = ", ".join(names) or f"none, and no image ({', '.join(sorted(EXTENSIONS))})"
        what = f"no folder 'train' in it ({expected}); got {got}"
        hint = "" if parts_but_train or not classes else f"; if its images have no labels, give {_PREFIX}{root}"
        raise InputError(f"{root}: {what}{hint}")
    return _without_labels(root, scan_all_images(root), "no class folders, every image votes")


def _labelled_parts(root: Path, parts: PartFolders, seed: int) -> TargetSplits:
    train = scan_class_folder(parts.train)
    warn_of_parts_taken_for_classes(parts.train, train.classes)
    val, test = (None if folder is None else scan_class_folder(folder) for folder in (parts.val, parts.test))
    for images in (val, test):
        if images is not None and images.classes != train.classes:
            odd = sorted(set(images.classes) ^ set(train.classes))
            pair = f"{parts.train.name!r} and {images.root.name!r}"
            raise InputError(f"{root}: {pair} have different classes, such as {odd[0]!r}")
    split = _folders(parts)
    if val is None:
        train, val = hold_out_fifth(train, seed)
        split = f"a fifth of {parts.train.name!r} held out, seed {seed}"
    return TargetSplits(root.name, train, val, test, _IMAGE_SIZE, split)


def _unlabelled_parts(root: Path, parts: PartFolders) -> TargetSplits:
    train = scan_all_images(parts.train)
    val, test = (None if folder is None else scan_all_images(folder) for folder in (parts.val, parts.test))
    split = f"{_folders(parts)}, no class folders"
    return TargetSplits(root.name, train, _none_of(train) if val is None else val, test, _IMAGE_SIZE, split)


def _without_labels(root: Path, images: ImageSet, split: str) -> TargetSplits:
    return TargetSplits(root.name, images, _none_of(images), None, _IMAGE_SIZE, split)


def _none_of(images: ImageSet) -> ImageSet:
    return images.subset(images.labels[:0])


def _folders(parts: PartFolders) -> str:
    return "folders " + ", ".join(folder.name for folder in parts if folder is not None)


_Images = TypeVar("_Images", bound=ImageSet)


def hold_out_fifth(images: _Images, seed: int) -> tuple[_Images, _Images]:
    """Holds out a fifth of the images, of each class in proportion: returns those that stay, and the others."""
    stay, out = stratified_holdout(images.labels, round(len(images) / 5), seed)
    return images.subset(stay), images.subset(out)
