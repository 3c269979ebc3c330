"""Sources: the embedded one, a folder of class folders, or a folder of images. No image is decoded to list them."""

import os
from pathlib import Path
from warnings import warn

import torch

from tlprune.data.decoding import EXTENSIONS
from tlprune.data.drawn import drawn_source
from tlprune.data.images import FolderImages
from tlprune.errors import InputError
from tlprune.storage.cache import cache_root

__all__ = ["EMBEDDED_SOURCE", "find_source", "open_source", "scan_class_folder", "scan_folder", "source_classes"]

EMBEDDED_SOURCE = "drawn"
"""Name of the source that tlprune draws itself."""

_PARTS = {"train", "val", "test"}


def find_source(source: str, cache: str | os.PathLike[str] | None = None) -> Path:
    """The folder of a source; the embedded one is drawn if it is not there yet.

    Args:
        source: ``drawn``, or a folder.
        cache: The cache folder; None for the user's.

    Returns:
        The folder that holds class folders, or ``train`` and perhaps ``val`` with class folders.

    Raises:
        InputError: There is no such folder.
    """
    if source == EMBEDDED_SOURCE:
        return drawn_source(cache_root(cache))
    if not source:
        raise InputError(f"the source has no name: give a folder, or {EMBEDDED_SOURCE!r}")
    root = Path(source).expanduser()
    if not root.is_dir():
        what = "a file, not a folder" if root.exists() else "no such folder"
        raise InputError(f"source {source}: {what} (the embedded source is called {EMBEDDED_SOURCE!r})")
    return root


def source_classes(source: str, cache: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Class names of a source, without listing its images.

    Args:
        source: ``drawn``, or a folder.
        cache: The cache folder; None for the user's.

    Returns:
        None at all for a folder of images without class folders.

    Raises:
        InputError: There is no such folder, or it has neither classes nor images.
    """
    root = find_source(source, cache)
    root = _part(root, "train") or root
    return _class_names(root) or scan_folder(root).classes


def open_source(source: str, cache: str | os.PathLike[str] | None = None) -> tuple[FolderImages, FolderImages | None]:
    """Lists a source's images.

    Args:
        source: ``drawn``; a folder of class folders, or of images without labels; or a folder with either in ``train``
            and perhaps ``val``.
        cache: The cache folder; None for the user's.

    Returns:
        Training images, and validation images where the source has its own.

    Raises:
        InputError: There is no such folder, it has no images, a class has no images, or ``val`` has other classes.
    """
    root = find_source(source, cache)
    train_root = _part(root, "train")
    if train_root is None:
        return scan_folder(root), None
    train = scan_folder(train_root)
    val_root = _part(root, "val")
    if val_root is None:
        return train, None
    val = scan_folder(val_root)
    if val.classes != train.classes:
        odd = sorted(set(val.classes) ^ set(train.classes))
        raise InputError(f"{root}: 'train' and 'val' have other classes, such as {odd[0]!r}")
    return train, val


def scan_folder(root: Path) -> FolderImages:
    """Lists a folder of class folders, or one that holds images and no folders: a set without labels.

    Args:
        root: The folder.

    Returns:
        Its images, ordered by class, then by path.

    Raises:
        InputError: The folder is unreadable or has no images, or a class has none.
    """
    if _class_names(root):
        return scan_class_folder(root)
    paths = sorted(entry.name for entry in os.scandir(root) if _is_image(entry.name) and entry.is_file())
    if not paths:
        raise InputError(f"{root}: neither class folders nor images in it ({', '.join(sorted(EXTENSIONS))})")
    return FolderImages(root, paths, torch.zeros(len(paths), dtype=torch.int64), ())


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
    classes = _class_names(root)
    if not classes:
        raise InputError(f"{root}: no class folders in it (expected one folder of images for each class)")
    if stray := sum(_is_image(entry.name) for entry in os.scandir(root) if entry.is_file()):
        warn(f"{root}: {stray} images beside the class folders are left out", stacklevel=2)
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        # folder by folder, as ImageFolder does, so that an index means the same image to both
        found = [
            os.path.relpath(os.path.join(folder, file), root)
            for folder, _, files in sorted(os.walk(root / name))
            for file in sorted(files)
            if _is_image(file)
        ]
        if not found:
            raise InputError(f"{root / name}: a class without images ({', '.join(sorted(EXTENSIONS))})")
        paths += found
        labels += [label] * len(found)
    return FolderImages(root, paths, torch.tensor(labels), classes)


def _class_names(root: Path) -> tuple[str, ...]:
    try:
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{root}: {error.strerror or error}") from error
    return tuple(names)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _part(root: Path, name: str) -> Path | None:
    """The folder of a part, if ``root`` holds parts: a class may be called 'train' too."""
    found = set(_class_names(root))
    if not {name, "train"} <= found or not (found <= _PARTS or _class_names(root / "train")):
        return None
    return root / name
