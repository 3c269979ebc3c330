"""Listing folders of images: class folders, or images without labels. No image is opened."""

import os
from collections.abc import Sequence
from pathlib import Path
from warnings import warn

import torch

from tlprune.data.decoding import EXTENSIONS
from tlprune.data.images import FolderImages
from tlprune.errors import InputError

__all__ = ["folder_names", "holds_images", "scan_all_images", "scan_class_folder", "scan_folder"]

_ENDINGS = tuple(sorted(EXTENSIONS))
_Found = tuple[str, int]


def scan_folder(root: Path) -> FolderImages:
    """Lists a folder of class folders, or one that holds images and no folders: a set without labels.

    Args:
        root: The folder.

    Returns:
        Its images, ordered by class, then by path.

    Raises:
        InputError: The folder is unreadable or has no images, or a class has none.
    """
    return (
        scan_class_folder(root) if folder_names(root) else _unlabelled(root, "neither class folders nor images in it")
    )


def scan_class_folder(root: Path) -> FolderImages:
    """Lists a folder of class folders, as torchvision's ImageFolder does: names in order, images in nested folders too.

    Links to folders are not followed, and hidden class folders are left out. Images beside the class folders are left
    out with a warning.

    Args:
        root: One folder for each class.

    Returns:
        Its images, ordered by class, then by folder, then by name.

    Raises:
        InputError: The folder is missing or unreadable, has no class folders, or a class has no images.
    """
    classes = folder_names(root)
    if not classes:
        raise InputError(f"{root}: no class folders in it (expected one folder of images for each class)")
    if stray := sum(_is_image(entry.name) for entry in os.scandir(root) if entry.is_file()):
        warn(f"{root}: {stray} images beside the class folders are left out", stacklevel=2)
    found = [_images_below(root, name) for name in classes]
    if empty := next((name for name, images in zip(classes, found, strict=True) if not images), None):
        raise InputError(f"{root / empty}: a class without images ({', '.join(_ENDINGS)})")
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(images) for images in found]))
    return _folder_images(root, [one for images in found for one in images], labels, classes)


def scan_all_images(root: Path) -> FolderImages:
    """Lists every image of a folder and of the folders in it, without labels.

    Args:
        root: The folder. Links to folders are not followed.

    Returns:
        Its images, ordered by folder, then by name.

    Raises:
        InputError: The folder is missing or unreadable, or there is no image in it.
    """
    return _unlabelled(root, "no images in it, nor in folders in it")


def _unlabelled(root: Path, otherwise: str) -> FolderImages:
    found = _images_below(root, "")
    if not found:
        raise InputError(f"{root}: {otherwise} ({', '.join(_ENDINGS)})")
    return _folder_images(root, found, torch.zeros(len(found), dtype=torch.int64), ())


def folder_names(root: Path) -> tuple[str, ...]:
    """Names of the folders in a folder, in order, hidden ones left out.

    Args:
        root: The folder.

    Raises:
        InputError: The folder is missing or unreadable.
    """
    try:
        return tuple(sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != "."))
    except OSError as error:
        raise InputError(f"{root}: {error.strerror or error}") from error


def holds_images(folder: Path) -> bool:
    """Whether there are images in a folder, those in folders in it not counted.

    Args:
        folder: The folder.

    Raises:
        InputError: It is missing or unreadable.
    """
    try:
        with os.scandir(folder) as entries:
            return any(_is_image(entry.name) for entry in entries)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}") from error


def _folder_images(root: Path, found: Sequence[_Found], labels: torch.Tensor, classes: Sequence[str]) -> FolderImages:
    return FolderImages(root, [path for path, _ in found], labels, classes, sizes=[size for _, size in found])


def _images_below(root: Path, folder: str) -> list[_Found]:
    """Images of a folder and of those in it, folder by folder, so that an index means the same image to ImageFolder."""
    return [image for _, images in sorted(_folders_below(root, folder)) for image in sorted(images)]


def _folders_below(root: Path, folder: str) -> list[tuple[str, list[_Found]]]:
    """A folder and all in it, each with its own images; paths are relative to ``root``."""
    below: list[tuple[str, list[_Found]]] = []
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        prefix = f"{here}/" if here else ""
        images: list[_Found] = []
        below.append((here, images))
        try:
            with os.scandir(f"{root}/{here}") as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{prefix}{entry.name}")
                    elif _is_image(entry.name) and not entry.is_dir():
                        images.append((prefix + entry.name, entry.stat().st_size))
        except OSError as error:  # a folder that cannot be read, a link to nowhere, or a file that has just gone
            raise InputError(f"{error.filename}: {error.strerror or error}") from error
    return below


def _is_image(name: str) -> bool:
    return name.lower().endswith(_ENDINGS)
