"""Lists folders of images, as class folders or without labels, without opening an image."""

import os
from collections.abc import Sequence
from pathlib import Path
from warnings import warn

import torch

from tlprune.data.datasets import FileStat, FolderImages
from tlprune.data.decoding import EXTENSIONS
from tlprune.data.path_list import PathList
from tlprune.errors import InputError

__all__ = ["folder_names", "holds_images", "scan_all_images", "scan_class_folder", "scan_folder"]

_ENDINGS = tuple(sorted(EXTENSIONS))
_OTHER_ENDINGS = (
    *(".apng", ".avif", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jxl", ".tga"),
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),  # of cameras
)
"""Endings of images that are not listed, as torchvision's ImageFolder does not list them."""

_Found = tuple[str, FileStat]


def scan_folder(root: Path, follow_links: bool = False) -> FolderImages:
    """Lists a folder of class folders, or a folder that holds only images as a set without labels.

    Args:
        root: The folder.
        follow_links: As in :func:`scan_class_folder`.

    Returns:
        The images, ordered by class, then by path.

    Raises:
        InputError: The folder is unreadable or has no images, or a class has no images.
    """
    return (
        scan_class_folder(root, follow_links)
        if folder_names(root)
        else _unlabelled(root, "neither class folders nor images in it")
    )


def scan_class_folder(root: Path, follow_links: bool = False) -> FolderImages:
    """Lists a folder of class folders like torchvision's ImageFolder: sorted by name, with images in nested folders.

    A class folder may be a link. Skipped with a warning are links to folders inside a class folder,
    images beside the class folders, broken links beside them, and images of other endings (``.gif``, ``.heic``).
    Hidden class folders are skipped silently.

    Args:
        root: Folder with one folder for each class.
        follow_links: Whether to follow links to folders inside a class folder as well, unless they form a cycle.

    Returns:
        The images, ordered by class, then by folder, then by name.

    Raises:
        InputError: The folder is missing or unreadable, has no class folders, or a class has no images.
    """
    classes = folder_names(root)
    if not classes:
        raise InputError(f"{root}: no class folders in it (expected one folder of images for each class)")
    with os.scandir(root) as entries:
        beside = [entry for entry in entries if not entry.is_dir()]
    if stray := sum(_is_image(entry.name) for entry in beside if entry.is_file()):
        warn(f"{root}: {stray} images beside the class folders are skipped", stacklevel=2)
    if dead := sorted(entry.name for entry in beside if entry.is_symlink() and not Path(entry).exists()):
        warn(f"{root}: {_first_of(dead)}: broken links are skipped", stacklevel=2)
    by_class, links, others = zip(*(_listed_below(root, name, follow_links) for name in classes), strict=True)
    _warn_of_links(root, [link for some in links for link in some], follow_links)
    _warn_of_others(root, [other for some in others for other in some])
    if empty := next((name for name, (paths, _) in zip(classes, by_class, strict=True) if not paths), None):
        raise InputError(f"{root / empty}: a class without images ({', '.join(_ENDINGS)})")
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(paths) for paths, _ in by_class]))
    return _folder_images(root, by_class, labels, classes)


def scan_all_images(root: Path) -> FolderImages:
    """Lists every image in a folder and its subfolders, without labels.

    Args:
        root: The folder. Links to folders are skipped with a warning.

    Returns:
        The images, ordered by folder, then by name.

    Raises:
        InputError: The folder is missing or unreadable, or contains no image.
    """
    return _unlabelled(root, "no images in it, nor in folders in it")


def _unlabelled(root: Path, otherwise: str) -> FolderImages:
    (paths, stats), links, others = _listed_below(root, "")
    _warn_of_links(root, links)
    _warn_of_others(root, others)
    if not paths:
        raise InputError(f"{root}: {otherwise} ({', '.join(_ENDINGS)})")
    return _folder_images(root, [(paths, stats)], torch.zeros(len(paths), dtype=torch.int64), ())


def folder_names(root: Path) -> tuple[str, ...]:
    """Returns the sorted names of the folders in a folder, without hidden folders.

    Raises:
        InputError: The folder is missing or unreadable.
    """
    try:
        with os.scandir(root) as entries:
            return tuple(sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."))
    except OSError as error:
        raise InputError(f"{error.filename or root}: {error.strerror or error}") from error


def holds_images(folder: Path) -> bool:
    """Returns whether a folder directly contains images; subfolders do not count.

    Raises:
        InputError: The folder is missing or unreadable.
    """
    try:
        with os.scandir(folder) as entries:
            return any(_is_image(entry.name) for entry in entries)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}") from error


def _folder_images(
    root: Path, listed: Sequence[tuple[PathList, torch.Tensor]], labels: torch.Tensor, classes: Sequence[str]
) -> FolderImages:
    paths = PathList(path for some, _ in listed for path in some)
    return FolderImages(root, paths, labels, classes, stats=torch.cat([stats for _, stats in listed]))


def _listed_below(
    root: Path, folder: str, follow_links: bool = False
) -> tuple[tuple[PathList, torch.Tensor], list[str], list[str]]:
    """Lists the images of a folder and its subfolders in the order of ImageFolder, so that indices agree.

    Also returns the links to folders, which are not followed, and the images whose endings are not read.
    """
    folders, links, others = _folders_below(root, folder, follow_links)
    images = [image for _, images in sorted(folders) for image in sorted(images)]
    stats = torch.tensor([stat for _, stat in images], dtype=torch.int64).reshape(-1, 2)
    return (PathList(path for path, _ in images), stats), sorted(links), sorted(others)


def _folders_below(
    root: Path, folder: str, follow_links: bool
) -> tuple[list[tuple[str, list[_Found]]], list[str], list[str]]:
    """Lists a folder and all its subfolders, each with its own images.

    Also lists the links to folders that are not followed, and the images whose endings are not read. Paths are relative
    to ``root``. A link to a folder on its own path is not followed, since it forms a cycle.
    """
    below: list[tuple[str, list[_Found]]] = []
    links: list[str] = []
    others: list[str] = []
    waiting: list[tuple[str, tuple[str, ...]]] = [(folder, (os.path.realpath(root / folder),))]
    while waiting:
        here, way = waiting.pop()
        prefix = f"{here}/" if here else ""
        images: list[_Found] = []
        below.append((here, images))
        try:
            with os.scandir(f"{root}/{here}") as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((prefix + entry.name, (*way, f"{way[-1]}/{entry.name}")))
                    elif entry.is_dir():
                        leads_to = os.path.realpath(entry.path) if follow_links else ""
                        if follow_links and not any(f"{ancestor}/".startswith(f"{leads_to}/") for ancestor in way):
                            waiting.append((prefix + entry.name, (*way, leads_to)))
                        else:
                            links.append(prefix + entry.name)
                    elif _is_image(entry.name):
                        status = entry.stat()
                        images.append((prefix + entry.name, (status.st_size, status.st_mtime_ns)))
                    elif entry.name.lower().endswith(_OTHER_ENDINGS) and entry.name[0] != ".":
                        others.append(prefix + entry.name)
        except OSError as error:  # an unreadable folder, a broken link, or a file that was just removed
            raise InputError(f"{error.filename}: {error.strerror or error}") from error
    return below, links, others


def _warn_of_others(root: Path, others: Sequence[str]) -> None:
    if others:
        warn(f"{root}: {_first_of(others)}: skipped; endings that are read: {', '.join(_ENDINGS)}", stacklevel=3)


def _warn_of_links(root: Path, links: Sequence[str], follow_links: bool = False) -> None:
    if links:
        why = ", since they lead round in a circle" if follow_links else " (the source linked:FOLDER follows them)"
        warn(f"{root}: {_first_of(links)}: links to folders are not followed{why}", stacklevel=3)


def _first_of(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", ... ({len(names)} in all)" if len(names) > 3 else "")


def _is_image(name: str) -> bool:
    return name.lower().endswith(_ENDINGS)
