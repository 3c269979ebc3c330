"""Several sets of images one after the other."""

import os
from collections.abc import Sequence

import torch

from tlprune.data.datasets import FolderImages, ImageSet, TensorImages
from tlprune.errors import InputError

__all__ = ["concatenated", "same_classes"]


def same_classes(parts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Returns the class names of parts whose labels are put one after the other.

    Args:
        parts: Class names of each part; some parts may know fewer classes, or none.

    Raises:
        InputError: A label stands for different classes in two parts.
    """
    longest = max(parts, key=len, default=())
    for number, names in enumerate(parts):
        for label, (name, other) in enumerate(zip(names, longest, strict=False)):
            if name != other:
                first = next(place for place, each in enumerate(parts) if each is longest)
                pair = f"label {label} is {name!r} in part {number} and {other!r} in part {first}"
                raise InputError(f"ConcatDataset: {pair}; number the classes of all parts alike")
    return tuple(longest)


def concatenated(parts: Sequence[ImageSet | None], classes: Sequence[str]) -> ImageSet | None:
    """Returns one set of files, or of images of one size in memory; None if the parts are neither.

    Args:
        parts: The sets, whose labels are positions in ``classes``.
        classes: Class names of all.
    """
    folders = [part for part in parts if isinstance(part, FolderImages)]
    if parts and len(folders) == len(parts):
        paths = [os.path.join(part.root, path) for part in folders for path in part.paths]
        return FolderImages.of_files(paths, torch.cat([part.labels for part in folders]), classes)
    arrays = [part for part in parts if isinstance(part, TensorImages)]
    if parts and len(arrays) == len(parts) and len({part.pixels.shape[1:] for part in arrays}) == 1:
        labels = torch.cat([part.labels for part in arrays])
        return TensorImages(torch.cat([part.pixels for part in arrays]), labels, classes)
    return None
