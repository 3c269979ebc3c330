"""Opens sources by name: the built-in source, folders, list files, shards, sets of libraries, and features.

Listing a source decodes no image.
"""

import os
from pathlib import Path

from tlprune.data.class_names import LISTS, check_class_names, open_class_names
from tlprune.data.datasets import FolderImages, ImageSet
from tlprune.data.display_names import class_titles
from tlprune.data.feature_files import open_features
from tlprune.data.feature_names import absolute_features, check_features, is_features
from tlprune.data.huggingface import open_huggingface
from tlprune.data.list_files import ENDINGS, is_list_file, open_list
from tlprune.data.parts import PartFolders, find_parts, warn_of_parts_taken_for_classes
from tlprune.data.scanning import folder_names, scan_all_images, scan_folder
from tlprune.data.shard_names import SHARD_KINDS, ShardNames, absolute_shards
from tlprune.data.synthetic import synthetic_classes, synthetic_source
from tlprune.errors import InputError
from tlprune.storage.cache import cache_root
from tlprune.storage.paths import user_path, warn_of_hidden_folder

__all__ = ["BUILT_IN_SOURCE", "absolute_source", "check_source", "open_source", "sharded_source", "source_classes"]

BUILT_IN_SOURCE = "drawn"
"""Name of the built-in synthetic source."""

_KINDS = ("linked", "unlabelled", "torchvision", "huggingface", "classes", *SHARD_KINDS)


def check_source(source: str) -> None:
    """Checks that a source exists, without opening it.

    Args:
        source: Name or path of the source, as in :func:`open_source`.

    Raises:
        InputError: There is no such file or folder, or torchvision has no such set.
    """
    if is_features(source):
        check_features(source)
        return
    kind, rest = _kind_of(source)
    if kind == "torchvision":
        from tlprune.data.torchvision_sets import check_torchvision

        check_torchvision(*_name_and_folder(rest))
    elif kind == "huggingface":
        if not rest:
            raise InputError("source huggingface: say which: huggingface:FOLDER, or the set's name on the hub")
    elif kind == "classes":
        check_class_names(rest)
    elif kind in SHARD_KINDS:
        ShardNames.find(kind, rest)
    elif source != BUILT_IN_SOURCE:
        _path_of(source, rest)


def source_classes(source: str, cache: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Returns the class names of a source; for a folder, no images are listed.

    Args:
        source: Name or path of the source, as in :func:`open_source`.
        cache: Cache folder; None for the default.

    Returns:
        The class names; empty for a source without labels.

    Raises:
        InputError: As in :func:`open_source`.
    """
    if source == BUILT_IN_SOURCE:
        return tuple(drawn.name for drawn in synthetic_classes())
    kind, _ = _kind_of(source)
    if not kind and not is_features(source) and not is_list_file(source):
        root = _path_of(source, source)
        parts = find_parts(root)
        if names := folder_names(root if parts is None else parts.train):
            return names
    return open_source(source, cache)[0].classes


def open_source(source: str, cache: str | os.PathLike[str] | None = None) -> tuple[ImageSet, ImageSet | None]:
    """Lists the images of a source.

    Args:
        source: Name or path: ``drawn``; a folder of class folders, or of images without labels; a folder with either in
            ``train`` and optionally ``val`` (or ``valid``, ``validation``, ``dev``), in any capitalisation;
            ``linked:FOLDER``, which also follows links to folders inside classes; ``unlabelled:FOLDER``, all images in
            a folder and its subfolders, whatever their names; a file ``.csv``, ``.tsv`` or ``.txt`` that lists paths
            and labels; ``torchvision:NAME:FOLDER``; ``huggingface:FOLDER`` or ``huggingface:NAME``; ``features:FILE``,
            features in place of images (:mod:`tlprune.data.feature_files`); ``classes:imagenet1k`` or ``classes:FILE``,
            class names without images (:mod:`tlprune.data.class_names`); ``webdataset:TARS`` and ``parquet:FILES``,
            images in shards (:mod:`tlprune.data.shard_names`), all of which are indexed.
        cache: Cache folder; None for the default.

    Returns:
        Training images, and validation images, or None if the source has no validation images of its own.

    Raises:
        InputError: The source does not exist or has no images, a class folder has no images, two folders stand for the
            same part, or the two parts have different classes.
    """
    check_source(source)
    if is_features(source):
        return open_features(source, cache), None
    kind, rest = _kind_of(source)
    if kind == "torchvision":
        from tlprune.data.torchvision_sets import open_torchvision

        return open_torchvision(*_name_and_folder(rest)), None
    if kind == "huggingface":
        return _like_each_other(source, *open_huggingface(rest))
    if kind == "classes":
        return open_class_names(rest), None
    if kind in SHARD_KINDS:
        from tlprune.data.shards import open_shards

        return open_shards(ShardNames.find(kind, rest)), None
    if kind == "unlabelled":
        return scan_all_images(_path_of(source, rest)), None
    if source != BUILT_IN_SOURCE and (path := _path_of(source, rest)).is_file():
        return open_list(path), None
    if source == BUILT_IN_SOURCE:
        warn_of_hidden_folder("source", source, "the built-in source")
    root = synthetic_source(cache_root(cache)) if source == BUILT_IN_SOURCE else _path_of(source, rest)
    parts = find_parts(root) or PartFolders(root, None, None)
    train = _titled(scan_folder(parts.train, kind == "linked"))
    warn_of_parts_taken_for_classes(parts.train, train.classes)
    return _like_each_other(
        source, train, None if parts.val is None else _titled(scan_folder(parts.val, kind == "linked"))
    )


def absolute_source(source: str) -> str:
    """Returns the name of a source with an absolute path, so that it is valid from any working directory.

    Args:
        source: Name or path of the source, as in :func:`open_source`.
    """
    kind, rest = _kind_of(source)
    if kind in SHARD_KINDS:
        return absolute_shards(kind, rest)
    if source == BUILT_IN_SOURCE or (kind == "classes" and rest in LISTS):
        return source
    if is_features(source):
        return absolute_features(source)
    before, path = _name_and_folder(rest) if kind == "torchvision" else ("", rest)
    absolute = str(user_path(path).absolute()) if _exists(path) else path
    return ":".join(filter(None, (kind, before, absolute)))


def sharded_source(source: object) -> ShardNames | None:
    """Returns the files of a source in shards, without opening them; None for any other source.

    Args:
        source: Name or path of the source, as in :func:`open_source`, or an opened source.

    Raises:
        InputError: There are no such files.
    """
    kind, rest = _kind_of(source) if isinstance(source, str) else ("", "")
    return ShardNames.find(kind, rest) if kind in SHARD_KINDS else None


def _kind_of(source: str) -> tuple[str, str]:
    """Splits a kind of source before a colon from the rest; a folder name may contain a colon too."""
    kind, colon, rest = source.partition(":")
    return (kind, rest) if colon and kind in _KINDS and not _exists(source) else ("", source)


def _exists(path: str) -> bool:
    try:
        return user_path(path).exists()
    except OSError:  # the name is too long for a file
        return False


def _name_and_folder(rest: str) -> tuple[str, str]:
    name, _, folder = rest.partition(":")
    return name, folder


def _path_of(source: str, name: str) -> Path:
    """Returns the folder or list file of a source."""
    if not name:
        raise InputError(f"the source has no name: give a folder, or {BUILT_IN_SOURCE!r} (got {source!r})")
    path = user_path(name)
    if not _exists(name):
        what = "no such file" if is_list_file(name) else "no such folder"
        cifar, colon, folder = name.partition(":")
        if colon and cifar.lower() in ("cifar10", "cifar100"):  # so it is named as a target
            raise InputError(f"source {source}: as a source it is torchvision:{cifar.upper()}:{folder}")
        raise InputError(f"source {source}: {what} (the built-in source is called {BUILT_IN_SOURCE!r})")
    if is_list_file(name) and path.is_file():
        return path
    for cifar, inside in (("CIFAR10", "cifar-10-batches-py"), ("CIFAR100", "cifar-100-python")):
        found = (path / inside / file for file in ("meta", "batches.meta"))
        if any(map(os.path.isfile, found)):  # pathlib raises where a folder may not be read
            raise InputError(f"source {source}: the files of {cifar}; give torchvision:{cifar}:{source}")
    if not path.is_dir():
        what = f"a file, but none of {', '.join(ENDINGS)}"
        raise InputError(f"source {source}: {what} (the built-in source is called {BUILT_IN_SOURCE!r})")
    return path


def _titled(images: FolderImages) -> FolderImages:
    return images.with_display_names(class_titles(images.root, images.classes))


def _like_each_other(source: str, train: ImageSet, val: ImageSet | None) -> tuple[ImageSet, ImageSet | None]:
    """Returns both parts after checking that labels mean the same in each."""
    if val is not None and train.classes and not val.classes:
        raise InputError(
            f"source {source}: its validation part has no labels (no class folders), its training part has"
        )
    if val is not None and val.classes != train.classes:
        odd = sorted(set(val.classes) ^ set(train.classes)) or list(val.classes)
        raise InputError(f"source {source}: training and validation parts have different classes, such as {odd[0]!r}")
    return train, val
